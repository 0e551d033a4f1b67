//! `cargo xtask crash`: SIGKILL of the core under load at random moments. Whatever was acknowledged must be
//! found in the journal exactly once, as it was acknowledged.

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Cycles on one data folder, so that replay stays short.
const CYCLES_A_FOLDER: u64 = 20;
/// How long the core may take to answer anything after its start.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the drill. True when nothing was lost or doubled.
pub fn run(cycles: u64, json: bool) -> anyhow::Result<bool> {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--locked", "--package", "pabal"])
        .status()?;
    if !built.success() {
        bail!("the release build failed");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    let pabal = target.join("release/pabal");
    let mut sums = [0u64; 5];
    const NAMES: [&str; 5] = ["sent", "acknowledged", "found", "missing", "doubled"];
    let (mut done, mut passed, begun) = (0, true, Instant::now());
    let mut random = Random(seed());
    while done < cycles {
        let folder = tempfile::tempdir()?;
        let (data, sent, acked) =
            (folder.path().join("data"), folder.path().join("sent"), folder.path().join("acked"));
        let arguments = |name: &str| {
            let mut command = Command::new(&pabal);
            command.args(["drill", name]);
            for (flag, path) in [("--data", &data), ("--sent", &sent), ("--acked", &acked)] {
                command.arg(flag).arg(path);
            }
            command
        };
        for _ in 0..CYCLES_A_FOLDER.min(cycles - done) {
            let before = length(&acked);
            let mut child = arguments("load").stdout(Stdio::null()).spawn()?;
            if let Err(error) = wait_for_answers(&mut child, &acked, before) {
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
        let output = arguments("check").output()?;
        let report: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        passed &= report["passed"] == true;
        for (sum, name) in sums.iter_mut().zip(NAMES) {
            *sum += report[name].as_u64().unwrap_or(0);
        }
        if report["passed"] != true {
            eprintln!("{report}\nkept: {}", folder.keep().display());
        }
    }
    // A drill in which nothing was acknowledged has shown nothing.
    passed &= sums[1] > 0;
    let mut report = json!({ "cycles": done, "passed": passed });
    for (sum, name) in sums.iter().zip(NAMES) {
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

fn length(path: &Path) -> u64 {
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

/// Only chooses the moments of the kills.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(1, |d| d.as_nanos() as u64) | 1
}
