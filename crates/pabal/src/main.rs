//! The one binary.

mod advice;
mod command;
mod dates;
mod ids;
mod import;
mod memory;
mod progress;
#[cfg(test)]
mod upgrade;

use clap::{Parser, Subcommand};
use command::reader::SNAPSHOT_COMMANDS;
use command::show;
use pabal_journal::SEGMENT_BLOCKS_DEFAULT;
use progress::Bar;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

// Cargo unites the features of all that is built together. Whoever builds this with those of the drills, as
// `--workspace --all-features` does, gets no bank rather than one with bugs built in or with locks that lock nothing.
const _: () =
    assert!(!pabal_fault::PLANTED && !pabal_journal::sync::TRIED, "built with features of the drills");

/// The version, and whether bugs were planted for the drills: never in what is shipped.
const VERSION: &str = if pabal_fault::PLANTED {
    concat!(env!("CARGO_PKG_VERSION"), "\nplanted: true")
} else {
    concat!(env!("CARGO_PKG_VERSION"), "\nplanted: false")
};

/// A retail and postal bank: the courier relay that always gets through (파발).
#[derive(Parser)]
// `--data` before a command would be passed over, and another bank read than was meant.
#[command(version, long_version = VERSION, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// The data folder of the bank that is started when no command is given.
    #[arg(long, default_value = "pabal-data")]
    data: PathBuf,
    /// Two people who vouch for the clock after a long stop, where there is no hardware clock.
    #[arg(long = "time-confirmed-by", value_name = "NAME")]
    time_confirmed_by: Vec<String>,
}

/// As much as any machine has.
const MEMORY_MIB_MAX: i64 = 16 << 20;

#[derive(Subcommand)]
enum Command {
    /// The process that executes: everything else reaches it through its socket. `serve` starts it.
    Core {
        /// The data folder.
        #[arg(long, default_value = "pabal-data")]
        data: PathBuf,
        /// Two people who vouch for the clock after a long stop, where there is no hardware clock.
        #[arg(long = "time-confirmed-by", value_name = "NAME")]
        time_confirmed_by: Vec<String>,
        /// Blocks of 4 KiB of a segment, when the journal is made.
        #[arg(long, default_value_t = SEGMENT_BLOCKS_DEFAULT, value_parser = clap::value_parser!(u32).range(32..=262_144))]
        segment_blocks: u32,
        /// MiB of memory to take before it serves, beyond what it has read: for a bank that is going to grow fast. A
        /// quarter of what is available is left, and said to be.
        #[arg(long, value_name = "MIB", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=MEMORY_MIB_MAX))]
        memory_ahead: u32,
        /// Where its socket is to be: in the data folder when left out.
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
        /// Listen on TCP too, for the bank's processes on other machines, as `127.0.0.1:7370`.
        #[arg(long, value_name = "ADDRESS", requires_all = ["tls_authority", "tls_certificate", "tls_key"])]
        listen_tls: Option<std::net::SocketAddr>,
        /// Certificates (PEM) of the authority that signed those of all processes of the bank.
        #[arg(long, value_name = "FILE", requires = "listen_tls")]
        tls_authority: Option<PathBuf>,
        /// The certificate (PEM) of this process, and those between it and the authority.
        #[arg(long, value_name = "FILE", requires = "listen_tls")]
        tls_certificate: Option<PathBuf>,
        /// Its key (PEM).
        #[arg(long, value_name = "FILE", requires = "listen_tls")]
        tls_key: Option<PathBuf>,
    },
    /// A folded copy that serves reads and makes snapshots, also when the core is gone. `serve` starts it.
    Reader {
        /// The data folder.
        #[arg(long, default_value = "pabal-data")]
        data: PathBuf,
        /// Commands after which it makes a new snapshot.
        #[arg(long, default_value_t = SNAPSHOT_COMMANDS, value_parser = clap::value_parser!(u64).range(1..))]
        snapshot_commands: u64,
    },
    /// Run the bank: each service in a process of its own, started anew when it dies.
    Serve {
        /// The data folder.
        #[arg(long, default_value = "pabal-data")]
        data: PathBuf,
        /// Two people who vouch for the clock after a long stop, where there is no hardware clock.
        #[arg(long = "time-confirmed-by", value_name = "NAME")]
        time_confirmed_by: Vec<String>,
        /// MiB of memory that the core takes before it serves, see `pabal core --help`.
        #[arg(long, value_name = "MIB", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=MEMORY_MIB_MAX))]
        memory_ahead: u32,
        /// Commands after which the reader makes a new snapshot.
        #[arg(long, default_value_t = SNAPSHOT_COMMANDS, value_parser = clap::value_parser!(u64).range(1..))]
        snapshot_commands: u64,
    },
    /// Keep the state as it is now in a snapshot, so that the next start is short.
    Snapshot {
        /// The data folder.
        #[arg(long, default_value = "pabal-data")]
        data: PathBuf,
        /// One JSON object on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Read the whole journal, decide everything again, and compare every byte.
    Verify {
        /// The data folder.
        #[arg(long, default_value = "pabal-data")]
        data: PathBuf,
        /// One JSON object on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Bring in the books of another bank.
    #[command(subcommand)]
    Import(Import),
    /// The entries of an account, oldest first.
    Statement {
        /// The account's number.
        account: u64,
        /// The data folder.
        #[arg(long, default_value = "pabal-data")]
        data: PathBuf,
        /// Only the newest so many.
        #[arg(long)]
        last: Option<NonZeroUsize>,
        /// The first booking date.
        #[arg(long, value_name = "YYYY-MM-DD", value_parser = dates::parse)]
        from: Option<jiff::civil::Date>,
        /// The last booking date.
        #[arg(long, value_name = "YYYY-MM-DD", value_parser = dates::parse)]
        to: Option<jiff::civil::Date>,
        /// One JSON object on standard output.
        #[arg(long)]
        json: bool,
    },
    /// The balance of an account.
    Balance {
        /// The account's number.
        account: u64,
        /// The data folder.
        #[arg(long, default_value = "pabal-data")]
        data: PathBuf,
        /// At the end of this booking date; now when left out.
        #[arg(long, value_name = "YYYY-MM-DD", value_parser = dates::parse)]
        as_of: Option<jiff::civil::Date>,
        /// One JSON object on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Measure.
    #[command(subcommand)]
    Bench(Bench),
    /// Parts of drills; `cargo xtask` runs them.
    #[command(subcommand, hide = true)]
    Drill(Drill),
}

/// Threads of a drill at most.
const THREADS_MAX: i64 = 256;

#[derive(Subcommand)]
enum Drill {
    /// Send transfers until killed.
    Load {
        #[arg(long)]
        data: PathBuf,
        #[arg(long)]
        sent: PathBuf,
        #[arg(long)]
        acked: PathBuf,
        #[arg(long, default_value_t = u64::MAX)]
        requests: u64,
        /// Blocks of a segment, when the journal is made.
        #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(32..))]
        segment_blocks: u32,
    },
    /// Customers of a bank that is served: they send transfers and ask for what stands on accounts, until killed.
    Customers {
        #[arg(long)]
        data: PathBuf,
        /// Where their books are kept, those of each in a folder of its own.
        #[arg(long)]
        books: PathBuf,
        /// Send nothing new: ask until everything is answered and every account was shown as it is now.
        #[arg(long)]
        settle: bool,
    },
    /// Fill the disk under a running bank, make room again, and say what it did; for a small file system.
    Full {
        #[arg(long)]
        data: PathBuf,
        /// The file that takes all the room there is, on the same file system.
        #[arg(long)]
        filler: PathBuf,
        #[arg(long)]
        sent: PathBuf,
        #[arg(long)]
        acked: PathBuf,
    },
    /// Banks in a world that is made up and hostile, and every way to crash of short histories.
    Simulate {
        /// How many seeds.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
        seeds: u64,
        /// The first of them.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Only this one, with its story.
        #[arg(long)]
        seed: Option<u64>,
        /// Seeds at a time.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=THREADS_MAX))]
        threads: u16,
        /// One JSON object on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Every way to crash of short histories, on a disk in memory.
    Crashes {
        /// States of the disk to see, each counted once.
        #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
        states: u64,
        /// What the histories follow from.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Histories at a time.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=THREADS_MAX))]
        threads: u16,
        /// Only this history, as a failure names it.
        #[arg(long)]
        history: Option<u64>,
        /// One JSON object on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Count what came of them.
    Check {
        #[arg(long)]
        data: PathBuf,
        #[arg(long)]
        sent: PathBuf,
        #[arg(long)]
        acked: PathBuf,
        /// Where customers kept their books.
        #[arg(long)]
        books: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum Import {
    /// The books of a Czech bank of 1993 to 1998 (PKDD'99), as CSV files packed with gzip.
    Berka {
        /// The folder with the files.
        dir: PathBuf,
        /// The data folder: empty, or holding the same files' import.
        #[arg(long, default_value = "pabal-data")]
        data: PathBuf,
        /// One JSON object on standard output.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
enum Bench {
    /// Statements and balances of the past, out of a journal made for it in a folder that is deleted after.
    Reads {
        #[command(flatten)]
        options: command::bench::reads::Options,
        #[command(flatten)]
        place: Place,
    },
    /// How long a killed bank takes until it serves again, and its memory, in a folder of its own that is deleted after.
    Start {
        #[command(flatten)]
        options: command::bench::start::Options,
        #[command(flatten)]
        place: Place,
    },
    /// Transfers a second, durable before each answer, in a folder of its own that is deleted after.
    Ledger {
        #[command(flatten)]
        options: command::bench::Options,
        #[command(flatten)]
        place: Place,
    },
}

/// Where something is measured, and how it is said.
#[derive(clap::Args)]
struct Place {
    /// Where the folder is made.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// One JSON object on standard output.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    memory::keep_what_is_freed();
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("pabal: {}", text(&error));
            if let Some(advice) = advice::of(&error) {
                eprintln!("{advice}");
            }
            // 1: checked and wrong; 2: usage or input.
            ExitCode::from(if command::verify::is_wrong(&error) { 1 } else { 2 })
        }
    }
}

/// An error with its causes, those that it does not name itself.
fn text(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| match text.as_str() {
        "" => cause,
        said if said.contains(&cause) => text,
        said => format!("{said}: {cause}"),
    })
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        None => {
            let options = command::core::Options {
                confirmed_by: &cli.time_confirmed_by,
                demonstration: true,
                segment_blocks: SEGMENT_BLOCKS_DEFAULT,
                memory_mib: 0,
                socket: None,
                tls: None,
            };
            command::core::run(&cli.data, &options)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Core {
            data,
            time_confirmed_by,
            segment_blocks,
            memory_ahead,
            socket,
            listen_tls,
            tls_authority,
            tls_certificate,
            tls_key,
        }) => {
            let files = tls_authority.zip(tls_certificate).zip(tls_key);
            let tls = listen_tls.zip(files).map(|(address, ((authority, certificate), key))| {
                let identity = pabal_wire::tls::Identity { authority, certificate, key };
                pabal_wire::server::Listen::Tls { address, identity }
            });
            let options = command::core::Options {
                confirmed_by: &time_confirmed_by,
                demonstration: false,
                segment_blocks,
                memory_mib: memory_ahead,
                socket: socket.as_deref(),
                tls,
            };
            command::core::run(&data, &options)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Reader { data, snapshot_commands }) => {
            command::reader::run(&data, snapshot_commands)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Serve { data, time_confirmed_by, memory_ahead, snapshot_commands }) => {
            command::serve::run(&data, &time_confirmed_by, memory_ahead, snapshot_commands)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Snapshot { data, json }) => {
            let report = command::reader::snapshot_now(&data, &Bar::new(!json))?;
            show::report(&report, json, show::fields)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Verify { data, json }) => {
            let (report, good) = command::verify::run(&data, &Bar::new(!json))?;
            show::report(&report, json, show::verified)?;
            Ok(ExitCode::from(u8::from(!good)))
        }
        Some(Command::Import(Import::Berka { dir, data, json })) => {
            let (report, good) = import::berka::import(&dir, &data, &Bar::new(!json))?;
            show::report(&report, json, show::fields)?;
            Ok(ExitCode::from(u8::from(!good)))
        }
        Some(Command::Statement { account, data, last, from, to, json }) => {
            let report = command::read::statement(&data, account, last, (from, to), &Bar::new(!json))?;
            show::report(&report, json, show::statement)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Balance { account, data, as_of, json }) => {
            let report = command::read::balance(&data, account, as_of, &Bar::new(!json))?;
            show::report(&report, json, show::balance)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Drill(Drill::Load { data, sent, acked, requests, segment_blocks })) => {
            let load = command::drill::Load { requests, segment_blocks };
            let report = command::drill::load(&data, &sent, &acked, load)?;
            show::report(&report, true, show::fields)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Drill(Drill::Full { data, filler, sent, acked })) => {
            let report = command::full::run(&data, &filler, &sent, &acked)?;
            show::report(&report, true, show::fields)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Drill(Drill::Simulate { seeds, from, seed, threads, json })) => {
            let report = match seed {
                Some(seed) => command::simulate::again(seed),
                None => command::simulate::run(from, seeds, threads.into(), &Bar::new(!json)),
            };
            show::report(&report, json, show::simulated)?;
            Ok(ExitCode::from(u8::from(report["passed"] != true)))
        }
        Some(Command::Drill(Drill::Crashes { states, seed, threads, history, json })) => {
            let bar = Bar::new(!json && history.is_none());
            let report = command::crashes::run(states, seed, threads.into(), history, &bar);
            show::report(&report, json, show::crashes)?;
            Ok(ExitCode::from(u8::from(report["passed"] != true)))
        }
        Some(Command::Drill(Drill::Customers { data, books, settle })) => {
            let report = command::customers::run(&data, &books, settle)?;
            show::report(&report, true, show::fields)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Drill(Drill::Check { data, sent, acked, books })) => {
            let mut kept = vec![command::judge::Kept { sent, acked, shown: None }];
            kept.extend(books.iter().flat_map(|books| command::customers::kept(books)));
            let report = command::judge::check(&data, &kept)?;
            show::report(&report, true, show::fields)?;
            Ok(ExitCode::from(u8::from(report["passed"] != true)))
        }
        Some(Command::Bench(bench)) => {
            let (Bench::Reads { place, .. } | Bench::Start { place, .. } | Bench::Ledger { place, .. }) =
                &bench;
            let bar = Bar::new(!place.json);
            let report = match &bench {
                Bench::Reads { options, .. } => command::bench::reads::run(*options, &place.dir, &bar)?,
                Bench::Start { options, .. } => command::bench::start::run(*options, &place.dir, &bar)?,
                Bench::Ledger { options, .. } => command::bench::run(*options, &place.dir, &bar)?,
            };
            show::report(&report, place.json, show::fields)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
