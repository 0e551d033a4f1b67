//! `cargo xtask crash`: SIGKILL of the core under load at random moments. Whatever was acknowledged must be
//! found in the journal exactly once, as it was acknowledged.

use anyhow::bail;
use serde_json::json;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::drill::{self, Bank, COUNTS};

/// Cycles on one data folder, so that replay stays short.
const CYCLES_A_FOLDER: u64 = 20;
/// How long the core may take to answer anything after its start.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the drill. True when nothing was lost or doubled.
pub fn run(cycles: u64, seed: u64, json: bool) -> anyhow::Result<bool> {
    let pabal = drill::build()?;
    let mut sums = [0u64; COUNTS.len()];
    let (mut done, mut passed, begun) = (0, true, Instant::now());
    let mut random = Random(seed);
    while done < cycles {
        let folder = tempfile::tempdir()?;
        let bank = Bank::within(folder.path(), &pabal);
        for _ in 0..CYCLES_A_FOLDER.min(cycles - done) {
            let before = length(&bank.acked);
            let mut child = bank.words("load").stdout(Stdio::null()).spawn()?;
            if let Err(error) = wait_for_answers(&mut child, &bank.acked, before) {
                return Err(error.context(format!("kept: {}", folder.keep().display())));
            }
            // From the middle of the first batches to deep in the load.
            std::thread::sleep(Duration::from_micros(random.below(60_000)));
            child.kill()?; // SIGKILL
            child.wait()?;
            done += 1;
            if !json && done % 50 == 0 {
                let left = begun.elapsed().as_secs_f64() * (cycles - done) as f64 / done as f64;
                eprintln!("{done} of {cycles} cycles, {} s left", left.ceil() as u64);
            }
        }
        let report = bank.check()?;
        passed &= report["passed"] == true;
        drill::add(&mut sums, &report);
        if report["passed"] != true {
            eprintln!("{report}\nkept: {}", folder.keep().display());
        }
    }
    // A drill in which nothing was acknowledged has shown nothing.
    passed &= sums[1] > 0;
    let mut report = json!({ "cycles": done, "passed": passed });
    for (sum, name) in sums.iter().zip(COUNTS) {
        report[name] = json!(sum);
    }
    if json {
        println!("{report}");
    } else {
        println!(
            "{done} SIGKILL cycles: {} acknowledged, {} found, {} missing, {} doubled",
            sums[1], sums[2], sums[3], sums[4]
        );
    }
    Ok(passed)
}

/// Bytes of a file; none when it is not there.
pub fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |m| m.len())
}

fn wait_for_answers(child: &mut Child, acked: &Path, before: u64) -> anyhow::Result<()> {
    let begun = Instant::now();
    while length(acked) <= before {
        if let Some(status) = child.try_wait()? {
            bail!("the core ended by itself: {status}");
        }
        if begun.elapsed() > PATIENCE {
            child.kill()?;
            bail!("the core answered nothing for {} s", PATIENCE.as_secs());
        }
        std::thread::yield_now();
    }
    Ok(())
}

/// Only chooses the moments of the kills, and what is killed. Never zero.
pub struct Random(pub u64);

impl Random {
    /// 0 to n - 1.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// Another one each time.
pub fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(1, |d| d.as_nanos() as u64) | 1
}
