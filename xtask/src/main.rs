//! Checks that need more than cargo: `cargo xtask test` runs them all and is what `.ci/run` calls.
//!
//! A task that can be judged says so by its exit code: 0 good, 1 checked and wrong, 2 could not be checked (a
//! usage error, or the task itself failed). A new task is a module, a variant of [`Task`] and its line in `run`.

mod bench;
mod crash;
mod deny;
mod drill;
mod faults;
mod full;
mod fuzz;
mod licence;
mod need;
mod planted;
mod plot;
mod schedules;
mod served;
mod simulate;
mod sum;
mod test;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};

/// Tests, benches and checks that need more than cargo.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is lacking, then run every check; the last line is `N passed, N failed`
    Test,
    /// Make the same transfers with the bank and with PostgreSQL, turn by turn, on one disk
    Bench(bench::Options),
    /// Hold every crate that is built in against deny.toml: licences, bans, sources
    Deny,
    /// Kill the core under load at random moments; look for all that it had acknowledged
    Crash {
        /// How many times
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
        cycles: u64,
        /// Serve the bank, and kill its core, its reader, its supervisor and its customers
        #[arg(long)]
        served: bool,
        /// What is killed when follows from it, as far as the machine keeps pace; another one each time without it
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        seed: Option<u64>,
        /// One JSON object on standard output
        #[arg(long)]
        json: bool,
    },
    /// Run banks in a world that is made up and hostile, seed by seed; look for all that must never be
    Simulate {
        /// How many seeds; a hundred crash states are enumerated for each
        #[arg(long, default_value_t = simulate::SEEDS, value_parser = clap::value_parser!(u64).range(1..))]
        seeds: u64,
        /// The first seed
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Only this seed, with its story
        #[arg(long)]
        seed: Option<u64>,
        /// One JSON object on standard output
        #[arg(long)]
        json: bool,
    },
    /// Plant bugs, one at a time, and see whether the simulator catches them
    Planted {
        /// One JSON object on standard output
        #[arg(long)]
        json: bool,
    },
    /// Try many schedules of what threads share in journal and engine
    Schedules {
        /// How many, of each test and each of the two kinds
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
        schedules: u64,
        /// Tries the same ones as before; others each time without it
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Let each system call on a bank's files fail, one at a time; look for all that it had acknowledged
    Faults {
        /// How many of the first times of each call
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
        calls: u64,
        /// One JSON object on standard output
        #[arg(long)]
        json: bool,
    },
    /// Fill the disk under a running bank, on a small file system of its own, and make room again
    Full {
        /// One JSON object on standard output
        #[arg(long)]
        json: bool,
    },
    /// Give hostile bytes to every decoder; look for panics and for memory without bound
    Fuzz {
        /// The targets; all when left out
        targets: Vec<String>,
        /// How long each runs; 3600 is the full form
        #[arg(long, default_value_t = fuzz::SECONDS, value_parser = clap::value_parser!(u64).range(1..))]
        seconds: u64,
        /// One JSON object on standard output
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    let passed = match Arguments::parse().task {
        Task::Test => test::run(root()),
        Task::Bench(options) => bench::run(root(), &options),
        Task::Deny => deny::run(root()),
        Task::Crash { cycles, served, seed, json } => {
            let run = if served { served::run } else { crash::run };
            run(cycles, seed.unwrap_or_else(crash::seed), json)
        }
        Task::Simulate { seeds, from, seed, json } => simulate::run(seeds, from, seed, json),
        Task::Planted { json } => planted::run(json),
        Task::Schedules { schedules, seed } => schedules::run(schedules, seed),
        Task::Faults { calls, json } => faults::run(calls, json).map(|passed| passed.unwrap_or(true)),
        Task::Full { json } => full::run(json).map(|passed| passed.unwrap_or(true)),
        Task::Fuzz { targets, seconds, json } => fuzz::run(root(), seconds, &targets, json),
    };
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// The repository, wherever xtask was called from.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the repository")
}

/// Where cargo puts what it builds.
fn target() -> PathBuf {
    root().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// The cargo that runs xtask, so that every step has the pinned toolchain.
fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    cargo.current_dir(root());
    cargo
}
