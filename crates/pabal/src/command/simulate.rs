//! The simulator: many seeds and many ways to crash, or one seed again with its story.

use crate::progress::Bar;
use pabal_drill::{crashes, sim};
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

/// Runs so many seeds, from this one on, and enumerates a hundred crash states for each.
pub fn run(from: u64, seeds: u64, threads: usize, bar: &Bar) -> Value {
    let began = Instant::now();
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
    let failed: Vec<Value> = seeds_failed.chain(states_failed).collect();
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
