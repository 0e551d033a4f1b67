//! `cargo xtask planted`: the measure of the judge. One extra build has bugs planted in it, one of them active at a
//! time; each must be caught by the simulator within so many seeds.

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::cargo;

/// Seeds within which a bug must be caught.
const SEEDS: &str = "200";
/// Steps of each seed.
const TICKS: &str = "400";
/// Bugs that are hunted at a time.
const AT_ONCE: usize = 2;

/// Hunts every bug. True when each was caught.
pub fn run(json: bool) -> anyhow::Result<bool> {
    let pabal = build()?;
    let list = Command::new(&pabal).arg("list").output().context("cannot list the bugs")?;
    let list = String::from_utf8(list.stdout)?;
    let names: Vec<&str> = list.lines().collect();
    let (next, hunts) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let hunt = hunt(&pabal, name);
                    if !json {
                        eprintln!("{}", line(name, &hunt));
                    }
                    hunts.lock().expect("not poisoned").push((*name, hunt));
                }
            });
        }
    });
    let mut hunts = hunts.into_inner().expect("not poisoned");
    hunts.sort_by_key(|(name, _)| names.iter().position(|other| other == name));
    let mut bugs = Vec::new();
    for (name, hunt) in hunts {
        let hunt = hunt.with_context(|| format!("the hunt for {name}"))?;
        bugs.push(json!({
            "name": name, "caught": hunt["caught"], "by": hunt["by"], "seeds": hunt["seeds"],
        }));
    }
    let caught = bugs.iter().filter(|bug| bug["caught"] == true).count();
    let total = bugs.len();
    if json {
        println!("{}", json!({ "bugs": bugs, "caught": caught, "total": total }));
    } else {
        println!("{caught} of {total} planted bugs caught within {SEEDS} seeds each");
    }
    Ok(caught == total && total > 0)
}

/// Builds the binary that is never shipped.
fn build() -> anyhow::Result<PathBuf> {
    let planted = ["--package", "pabal-drill", "--features", "planted", "--bin", "pabal-planted"];
    let built = cargo().args(["build", "--quiet", "--locked"]).args(planted).status()?;
    if !built.success() {
        bail!("the build with planted bugs failed");
    }
    Ok(crate::target().join("debug/pabal-planted"))
}

fn hunt(pabal: &Path, name: &str) -> anyhow::Result<Value> {
    let output = Command::new(pabal).args([name, SEEDS, TICKS]).output()?;
    serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// What came of a hunt, for a person.
fn line(name: &str, hunt: &anyhow::Result<Value>) -> String {
    match hunt {
        Ok(hunt) if hunt["caught"] == true => {
            let by = hunt["by"].as_str().unwrap_or_default();
            format!("{name:20} caught after {:>3} seeds by: {by}", hunt["seeds"].as_u64().unwrap_or(0))
        }
        Ok(_) => format!("{name:20} NOT CAUGHT within {SEEDS} seeds"),
        Err(error) => format!("{name:20} could not be hunted: {error:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_that_nobody_caught_is_said_loudly() {
        let said = |hunt| line("sync_skipped", &Ok(hunt));
        assert!(said(json!({ "caught": false, "seeds": 200 })).contains("NOT CAUGHT"));
        let caught = said(json!({ "caught": true, "seeds": 3, "by": "acknowledged and lost" }));
        assert!(caught.ends_with("caught after   3 seeds by: acknowledged and lost"), "{caught}");
        assert!(line("x", &Err(anyhow::anyhow!("no such file"))).contains("no such file"));
    }
}
