//! The simulator: many seeds, many ways to crash and the directed attacks; or one seed again with its story.

use crate::progress::Bar;
use pabal_drill::{attacks, crashes, sim};
use pabal_fault::Point;
use serde_json::{Value, json};
use std::time::Instant;

/// Steps of one seed.
const TICKS: u64 = 400;
/// Crash states enumerated beside each seed.
const STATES_A_SEED: u64 = 100;
/// Failures after which no new seed is begun.
const FAILURES_MAX: usize = 10;
/// Lines of a story that lead to its end.
const STORY_LINES: usize = 60;

/// Runs so many seeds, from this one on, enumerates a hundred crash states for each, and makes the directed attacks:
/// together they must reach every failpoint.
pub fn run(from: u64, seeds: u64, threads: usize, bar: &Bar) -> Value {
    let began = Instant::now();
    bar.begin("attacks");
    let attacked = attacks::run(&mut |_| {});
    bar.begin("seeds");
    let all = from..from.saturating_add(seeds);
    let sums = sim::campaign(all, TICKS, threads, FAILURES_MAX, &mut |done| bar.at(done, seeds));
    let wanted = sums.seeds * STATES_A_SEED;
    bar.begin("crash states");
    let crashes = crashes::enumerate(wanted, from, threads, &mut |done| bar.at(done, wanted));
    let seeds_failed = sums.failures.iter().map(|failure| {
        json!({
            "seed": failure.seed,
            "tick": failure.tick,
            "check": failure.wrong.check,
            "what": failure.wrong.what,
            "replay": format!("cargo xtask simulate --seed {}", failure.seed),
        })
    });
    let states_failed = crashes.failures.iter().map(|what| json!({ "check": "crash state", "what": what }));
    let not_withstood = attacked.iter().filter(|attacked| !attacked.is_right()).map(|attacked| {
        let what = attacked.wrong.clone().unwrap_or_else(|| format!("missed {:?}", attacked.missed));
        json!({ "check": format!("attack: {}", attacked.attack.name), "what": what })
    });
    let never = Point::ALL.iter().filter(|point| point.count() == 0);
    let never = never.map(|point| json!({ "check": "failpoint never reached", "what": point.name() }));
    let failed: Vec<Value> = seeds_failed.chain(states_failed).chain(not_withstood).chain(never).collect();
    let points: serde_json::Map<String, Value> =
        Point::ALL.iter().map(|point| (point.name().to_string(), json!(point.count()))).collect();
    json!({
        "seeds": sums.seeds,
        "from": from,
        "ticks": sums.ticks,
        "crashes": sums.crashes,
        "refused": sums.refused,
        "decided": sums.decided,
        "states": crashes.states,
        "attacks": attacked.len(),
        "failpoints": Point::ALL.len(),
        "fewest": Point::ALL.iter().map(|point| point.count()).min(),
        "failures": failed.len(),
        "failed": failed,
        "points": points,
        "seconds": began.elapsed().as_secs(),
        "passed": failed.is_empty(),
    })
}

/// Runs one seed again and tells its story, up to what was wrong.
pub fn again(seed: u64) -> Value {
    let report = sim::tell(seed, TICKS, true);
    let from = report.story.len().saturating_sub(STORY_LINES);
    let failed: Vec<Value> = report
        .wrong
        .iter()
        .map(|(wrong, tick)| json!({ "seed": seed, "tick": tick, "check": wrong.check, "what": wrong.what }))
        .collect();
    json!({
        "seeds": 1,
        "seed": seed,
        "ticks": report.ticks,
        "crashes": report.crashes,
        "states": 0,
        "trace": report.trace.map(|byte| format!("{byte:02x}")).concat(),
        "failures": failed.len(),
        "story": if failed.is_empty() { &[] } else { &report.story[from..] },
        "passed": failed.is_empty(),
        "failed": failed,
    })
}
