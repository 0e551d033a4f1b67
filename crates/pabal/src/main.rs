//! The one binary.

mod command;
mod ids;
mod machine;

use clap::{Parser, Subcommand};
use serde_json::Value;
use std::path::PathBuf;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A retail and postal bank: the courier relay that always gets through (파발).
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Read the whole journal, decide everything again, and compare every byte.
    Verify {
        /// The data folder.
        #[arg(long, default_value = "pabal-data")]
        data: PathBuf,
        /// One JSON object on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Measure.
    #[command(subcommand)]
    Bench(Bench),
}

#[derive(Subcommand)]
enum Bench {
    /// Transfers a second, durable before each answer, in a folder of its own that is deleted after.
    Ledger {
        /// Customer accounts.
        #[arg(long, default_value_t = 10_000)]
        accounts: u64,
        /// Transfers in all.
        #[arg(long, default_value_t = 10_000_000)]
        transfers: u64,
        /// Transfers in a request, 1 to 8190.
        #[arg(long, default_value_t = 8190)]
        batch: usize,
        /// Client and core in one process; the only way so far.
        #[arg(long)]
        in_process: bool,
        /// Where the folder is made.
        #[arg(long, default_value_os_t = std::env::temp_dir())]
        dir: PathBuf,
        /// One JSON object on standard output.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("pabal: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        None => Ok(ExitCode::from(2)),
        Some(Command::Verify { data, json }) => {
            let (report, good) = command::verify::run(&data, &mut |_| {});
            show(&report, json);
            Ok(ExitCode::from(u8::from(!good)))
        }
        Some(Command::Bench(Bench::Ledger { accounts, transfers, batch, in_process: _, dir, json })) => {
            let options = command::bench::Options { accounts, transfers, batch };
            show(&command::bench::run(options, &dir)?, json);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Prints a report: as it is, or as a table.
fn show(report: &Value, json: bool) {
    if json {
        println!("{report}");
        return;
    }
    for (name, value) in report.as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_string);
        println!("{name:>28}  {value}");
    }
}
