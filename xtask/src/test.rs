//! `cargo xtask test`: every check there is, in one go.
//!
//! A step that fails does not stop the ones after it: one run says all that is wrong. Each step's output is passed
//! on as it comes. Formatting, lints, `deny.toml`, the crash drill and each fuzz target count as one test; the rest is
//! the sum of what cargo's test programs say. Direction of the crates and purity of the deterministic ones are tests
//! of xtask (`xtask/tests`), so `cargo test` runs them too.
//!
//! Nothing here looks at `CI`: what a person runs is what CI runs.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::sum::{Sum, Tally};
use crate::{cargo, crash, deny, faults, full, fuzz, need, planted, schedules, served, simulate};

/// Cycles of the crash drill's short form; `cargo xtask crash --cycles 1000` is the full one.
const CRASH_CYCLES: u64 = 50;
/// Kills of the services of a bank that is served; `cargo xtask crash --served --cycles 1000` is the full form.
const SERVED_CYCLES: u64 = 50;
/// The first so many times of each system call that fail in the short form; `cargo xtask faults --calls 40` is the
/// full one.
const FAULTS_CALLS: u64 = 4;

/// Targets that only a feature builds.
const CLIPPY_SCHEDULES: [&str; 9] = [
    "clippy",
    "--package=pabal-journal",
    "--package=pabal-engine",
    "--features",
    "pabal-journal/shuttle,pabal-engine/shuttle",
    "--all-targets",
    "--",
    "-D",
    "warnings",
];

/// Runs everything; true if nothing failed. A tool that is lacking and cannot be installed ends it at once.
pub fn run(root: &Path) -> Result<bool> {
    if let Err(lack) = need::install() {
        eprintln!("error: {lack:#}");
        println!("0 passed, 1 failed");
        return Ok(false);
    }
    let steps = [
        step("fmt", || one(&["fmt", "--all", "--check"])),
        step("fmt fuzz", || one(&["fmt", "--manifest-path", "fuzz/Cargo.toml", "--all", "--check"])),
        step("clippy", || one(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])),
        step("clippy schedules", || one(&CLIPPY_SCHEDULES)),
        step("tests", || all(&["test", "--workspace", "--no-fail-fast"], &[])),
        step("schedules", schedules::short),
        step("deny", || deny::run(root).map(Tally::one)),
        step("crash", || crash::run(CRASH_CYCLES, crash::seed(), false).map(Tally::one)),
        step("crash served", || served::run(SERVED_CYCLES, crash::seed(), false).map(Tally::one)),
        step("simulate", || simulate::run(simulate::SEEDS, 0, None, false).map(Tally::one)),
        step("planted", || planted::run(false).map(Tally::one)),
        step("faults", || faults::run(FAULTS_CALLS, false).map(Tally::perhaps)),
        step("full", || full::run(false).map(Tally::perhaps)),
        step("fuzz", || fuzz::step(root)),
    ];

    println!();
    let mut total = Tally::default();
    for (name, tally, took) in steps {
        println!("{name:17}{tally}, {} s", took.as_secs());
        total += tally;
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(total.failed == 0)
}

/// A step that cannot be carried out has failed: it must not take the other steps, or the last line, with it.
fn step(name: &'static str, check: impl FnOnce() -> Result<Tally>) -> (&'static str, Tally, Duration) {
    let begun = Instant::now();
    let tally = check().unwrap_or_else(|error| {
        eprintln!("error: {name}: {error:#}");
        Tally::one(false)
    });
    (name, tally, begun.elapsed())
}

/// A cargo command that counts as one test.
fn one(arguments: &[&str]) -> Result<Tally> {
    announce(arguments);
    let status = cargo().args(arguments).status().context("cannot start cargo")?;
    Ok(Tally::one(status.success()))
}

/// `cargo test` with these settings in its environment, its results summed from its standard output, which is passed
/// on line by line.
pub fn all(arguments: &[&str], settings: &[(&str, String)]) -> Result<Tally> {
    announce(arguments);
    let mut child = cargo()
        .args(arguments)
        .envs(settings.iter().map(|(k, v)| (k, v)))
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let Some(output) = child.stdout.take() else { bail!("cargo has no standard output") };
    let passed_on = pass_on(BufReader::new(output), &mut io::stdout());
    // The pipe is closed by now, so that a cargo still writing to it cannot wait for ever.
    let status = child.wait().context("cannot wait for cargo")?;
    Ok(passed_on?.close(status.success()))
}

/// Copies `from` to `to` as it comes, and sums it.
fn pass_on(mut from: impl BufRead, to: &mut impl Write) -> Result<Sum> {
    let mut sum = Sum::default();
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line).context("cannot read what the tests say")? > 0 {
        to.write_all(&line).and_then(|()| to.flush()).context("cannot pass on what the tests say")?;
        // A test may print any bytes; the lines that count are ASCII.
        sum.line(&String::from_utf8_lossy(&line));
        line.clear();
    }
    Ok(sum)
}

fn announce(arguments: &[&str]) {
    println!("\n== cargo {}", arguments.join(" "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tests_say_is_passed_on_byte_for_byte_and_summed() {
        let said = b"running 1 test\n\xff\xfe\ntest result: ok. 1 passed; 0 failed; 0 ignored\nno line end";
        let mut passed_on = Vec::new();
        let sum = pass_on(&said[..], &mut passed_on).unwrap();
        assert_eq!(passed_on, said);
        assert_eq!(sum.close(true), Tally { passed: 1, failed: 0, ignored: 0 });
    }

    #[test]
    fn a_step_that_cannot_be_carried_out_has_failed() {
        assert_eq!(step("x", || bail!("no such tool")).1, Tally::one(false));
    }
}
