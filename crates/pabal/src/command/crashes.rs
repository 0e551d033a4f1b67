//! Crash enumeration, on a disk in memory.

use crate::progress::Bar;
use pabal_drill::crashes;
use serde_json::{Value, json};
use std::time::Instant;

/// Tries every way to crash of short histories until so many states were seen; or those of one history again.
pub fn run(states: u64, seed: u64, threads: usize, history: Option<u64>, bar: &Bar) -> Value {
    bar.begin("states");
    let began = Instant::now();
    let report = match history {
        Some(number) => crashes::replay(seed, number),
        None => crashes::enumerate(states, seed, threads, &mut |done| bar.at(done, states)),
    };
    let seconds = began.elapsed().as_secs_f64();
    json!({
        "states": report.states,
        "torn": report.torn,
        "refused": report.refused,
        "crashes": report.crashes,
        "recoveries": report.recoveries,
        "read": report.read,
        "histories": report.histories,
        "seconds": (seconds * 10.0).round() / 10.0,
        "states_per_second": (report.states as f64 / seconds).round() as u64,
        "failures": report.failures,
        "passed": report.failures.is_empty(),
    })
}
