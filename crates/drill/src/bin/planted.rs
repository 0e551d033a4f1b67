//! The bank with a bug planted in it, simulated until someone notices. Not shipped: built only to measure the judge.
//!
//! `pabal-planted list` names the bugs; `pabal-planted BUG SEEDS TICKS` runs seeds from 0 on and says, as one JSON
//! object, whether the bug was caught, by which check and after how many seeds.

use pabal_drill::sim::run;
use pabal_fault::{Bug, plant};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["list"] => {
            Bug::ALL.iter().for_each(|bug| println!("{}", bug.name()));
            ExitCode::SUCCESS
        }
        [name, seeds, ticks] => {
            let bug = Bug::ALL.iter().find(|bug| bug.name() == name);
            let (Some(bug), Ok(seeds), Ok(ticks)) = (bug, seeds.parse(), ticks.parse()) else {
                eprintln!("usage: pabal-planted list | BUG SEEDS TICKS");
                return ExitCode::from(2);
            };
            println!("{}", hunt(*bug, seeds, ticks));
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("usage: pabal-planted list | BUG SEEDS TICKS");
            ExitCode::from(2)
        }
    }
}

/// Runs seeds with this bug until one fails.
fn hunt(bug: Bug, seeds: u64, ticks: u64) -> serde_json::Value {
    plant(bug);
    for seed in 0..seeds {
        if let Some((wrong, tick)) = run(seed, ticks).wrong {
            return serde_json::json!({
                "name": bug.name(), "caught": true, "by": wrong.check, "seeds": seed + 1, "tick": tick,
                "what": wrong.what,
            });
        }
    }
    serde_json::json!({ "name": bug.name(), "caught": false, "by": null, "seeds": seeds })
}
