//! `cargo xtask schedules`: the hand-made concurrent parts of journal and engine under many schedules.
//!
//! The tests are `tests/schedules` of both crates; they are built with shuttle in place of the machine's threads and
//! locks, so apart from every other test. `cargo xtask test` runs them in their short form, whose schedules are
//! always the same; this is the long form, with other ones each time.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

use crate::sum::Tally;
use crate::test;

/// Tries so many schedules of each test and each kind. True when none failed.
pub fn run(schedules: u64, seed: Option<u64>) -> Result<bool> {
    let seed =
        seed.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()));
    let settings = [("PABAL_SCHEDULES", schedules.to_string()), ("PABAL_SCHEDULES_SEED", seed.to_string())];
    let tally = tried(&settings)?;
    println!("{} passed, {} failed, seed {seed}", tally.passed, tally.failed);
    Ok(tally.failed == 0)
}

/// The short form.
pub fn short() -> Result<Tally> {
    tried(&[])
}

fn tried(settings: &[(&str, String)]) -> Result<Tally> {
    let mut arguments = vec!["test", "--package", "pabal-journal", "--package", "pabal-engine"];
    arguments.extend(["--features", "pabal-journal/shuttle,pabal-engine/shuttle"]);
    arguments.extend(["--test", "schedules", "--no-fail-fast"]);
    test::all(&arguments, settings)
}
