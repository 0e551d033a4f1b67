//! `cargo xtask simulate`: the release binary's own simulator, so that what is tried is what is shipped.

use crate::drill;

/// Seeds of the short form; `cargo xtask simulate --seeds 10000` is the full one.
pub const SEEDS: u64 = 400;

/// Runs seeds, or one again with its story. True when nothing was wrong.
pub fn run(seeds: u64, from: u64, seed: Option<u64>, json: bool) -> anyhow::Result<bool> {
    let mut simulate = std::process::Command::new(drill::build()?);
    simulate.args(["drill", "simulate", "--seeds", &seeds.to_string(), "--from", &from.to_string()]);
    if let Some(seed) = seed {
        simulate.args(["--seed", &seed.to_string()]);
    }
    if json {
        simulate.arg("--json");
    }
    Ok(simulate.status()?.success())
}
