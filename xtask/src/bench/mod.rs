//! `cargo xtask bench`: the same transfers made by the bank and by PostgreSQL, on the same disk, turn by turn.
//!
//! Both live in one folder that is made for the run and removed after it, however the run ends: an error and Ctrl-C
//! end the children first. (Only SIGKILL of the bench itself leaves the folder; its children end even then.) Turns
//! alternate, so that a neighbour on a shared machine disturbs both; medians are given. Both answer only what is
//! durable, and what is measured of PostgreSQL is looked for afterwards.

mod cluster;
mod plots;
mod transfers;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::{drill, need};
use cluster::Cluster;
use transfers::Load;

/// How many times as fast as PostgreSQL the bank has to be.
const BAR: f64 = 25.0;
/// The bank's turns are over in seconds, so they are longer; in the short form both are a tenth.
const BANK_TRANSFERS: u64 = 10_000_000;
const POSTGRESQL_TRANSFERS: u64 = 2_000_000;
const SHORT: u64 = 10;
/// How long the machine rests between two turns.
const REST: Duration = Duration::from_secs(5);
/// File system types that only pretend to sync.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// What the two do differently; printed beside every ratio.
const SCOPE: &str = "A ratio of scope as well as of speed: PostgreSQL is a general database that many writers share and \
                     that can be asked anything; here it keeps neither statements, holds, limits, a hash chain nor \
                     digests, all of which the bank's figure includes, while the bank does nothing else.";
const IN_PROCESS: &str = "The bank's client was in its own process and PostgreSQL's was not, so this ratio is not the \
                          one that is asked for.";

/// What to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Customer accounts
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(2..))]
    accounts: u64,
    /// Turns of each; medians are given
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    runs: u64,
    /// Transfers that the bank makes in a turn
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    transfers: Option<u64>,
    /// Transfers that PostgreSQL makes in a turn
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    postgresql_transfers: Option<u64>,
    /// Transfers in a batch for PostgreSQL; the bank's has as many as fit its requests
    #[arg(long, default_value_t = 8_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    postgresql_batch: u64,
    /// Connections to PostgreSQL, each with one batch in flight
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    clients: u64,
    /// A tenth of the transfers, unless they are given: enough to see that it works
    #[arg(long)]
    short: bool,
    /// Where the folder is made that both use
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Draw what was measured into docs/plots
    #[arg(long)]
    plots: bool,
    /// Measure nothing; draw what `--json` said before, from this file
    #[arg(long, value_name = "FILE", conflicts_with = "plots")]
    plots_from: Option<PathBuf>,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
    /// More options of `pabal bench ledger`
    #[arg(last = true, value_name = "OPTIONS OF THE BANK'S")]
    bank: Vec<String>,
}

/// Runs the bench. True when the bar is reached, or cannot be judged, which is said.
pub fn run(root: &Path, options: &Options) -> anyhow::Result<bool> {
    let folder = root.join("docs/plots");
    if let Some(file) = &options.plots_from {
        let text = std::fs::read(file).with_context(|| file.display().to_string())?;
        plots::draw(&serde_json::from_slice(&text)?, &folder)?;
        return Ok(true);
    }
    need::install_postgresql()?;
    let pabal = drill::build()?;
    let report = measure(&pabal, options)?;
    if options.plots {
        plots::draw(&report, &folder)?;
    }
    if options.json {
        println!("{report}");
    } else {
        print(&report);
    }
    Ok(report["reached"] != false)
}

/// The whole run, as the object that `--json` prints.
fn measure(pabal: &Path, options: &Options) -> anyhow::Result<Value> {
    let interrupted = Interrupted::watch()?;
    ensure_disk(&options.dir)?;
    // Made first, so removed last: the children have ended by then.
    let folder = tempfile::Builder::new().prefix("pabal-against-").tempdir_in(&options.dir)?;
    let cluster = Cluster::start(folder.path())?;
    let version: String = cluster.connect()?.query_one("SHOW server_version", &[])?.get(0);

    let part = if options.short { SHORT } else { 1 };
    let load = Load {
        accounts: options.accounts,
        transfers: options.postgresql_transfers.unwrap_or(POSTGRESQL_TRANSFERS / part),
        batch: options.postgresql_batch as usize,
        clients: options.clients as usize,
    };
    let bank_transfers = options.transfers.unwrap_or(BANK_TRANSFERS / part);
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for turn in 1..=options.runs {
        rest(&interrupted)?;
        let run = cluster.attend(&interrupted, || transfers::run(&cluster, load, &interrupted))?;
        eprintln!("{turn} of {}: PostgreSQL {:.0} transfers a second", options.runs, run.per_second(load));
        theirs.push(run);
        rest(&interrupted)?;
        let run = bank(pabal, folder.path(), bank_transfers, options, &interrupted)?;
        eprintln!("{turn} of {}: pabal {} transfers a second", options.runs, run["transfers_per_second"]);
        ours.push(run);
    }
    let postgresql = transfers::report(&version, load, theirs);
    let bank = bank_report(ours)?;
    let rate = |report: &Value| report["transfers_per_second"].as_f64().context("no figure");
    let ratio = rate(&bank)? / rate(&postgresql)?;
    let judged = bank["mode"] != "in-process";
    Ok(json!({
        "accounts": options.accounts,
        "runs": options.runs,
        "postgresql": postgresql,
        "pabal": bank,
        "ratio": (ratio * 10.0).round() / 10.0,
        "bar": BAR,
        "reached": judged.then_some(ratio >= BAR),
        "scope": if judged { SCOPE.to_string() } else { format!("{IN_PROCESS} {SCOPE}") },
    }))
}

/// Lets the machine finish what the turn before left to it, so that no turn pays for another's: pages that are not
/// on the disk yet, files whose removal it still has to discard.
fn rest(interrupted: &Interrupted) -> anyhow::Result<()> {
    rustix::fs::sync();
    let until = Instant::now() + REST;
    while Instant::now() < until {
        interrupted.check()?;
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// One turn of the bank, as its own bench reports it.
fn bank(
    pabal: &Path,
    folder: &Path,
    transfers: u64,
    options: &Options,
    interrupted: &Interrupted,
) -> anyhow::Result<Value> {
    let said = folder.join("pabal.json");
    // A process group of its own, and gone with its parent: as PostgreSQL.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(pabal).args(["bench", "ledger", "--json", "--runs", "1"]);
    command.args(["--accounts", &options.accounts.to_string(), "--transfers", &transfers.to_string()]);
    command.arg("--dir").arg(folder).args(&options.bank).process_group(0);
    let mut child = command.stdin(Stdio::null()).stdout(File::create(&said)?).spawn().context("setpriv")?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if let Err(interrupted) = interrupted.check() {
            child.kill()?;
            child.wait()?;
            return Err(interrupted);
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    ensure!(status.success(), "pabal bench ledger: {status}");
    serde_json::from_slice(&std::fs::read(&said)?).context("pabal bench ledger --json")
}

/// Medians of the turns, in the words of one turn; all else, its samples too, is that of the median turn.
fn bank_report(mut runs: Vec<Value>) -> anyhow::Result<Value> {
    let rate = |run: &Value| run["transfers_per_second"].as_f64().unwrap_or(0.0);
    let each: Vec<Value> = runs
        .iter()
        .map(|run| {
            json!({
                "transfers_per_second": run["transfers_per_second"],
                "ceiling_per_second": run["ceiling_per_second"],
            })
        })
        .collect();
    runs.sort_by(|a, b| rate(a).total_cmp(&rate(b)));
    let medians = |pointer: &str| {
        let values: Option<Vec<f64>> = runs.iter().map(|run| run.pointer(pointer)?.as_f64()).collect();
        values.map(median).with_context(|| format!("pabal bench ledger gives no {pointer}"))
    };
    let [rate, ceiling] = [medians("/transfers_per_second")?, medians("/ceiling_per_second")?];
    let [p50, p99] = [medians("/batch_ms/p50")?, medians("/batch_ms/p99")?];
    let mut report = runs.swap_remove((runs.len() - 1) / 2);
    report["runs"] = json!(each.len());
    report["transfers_per_second"] = json!(rate.round() as u64);
    report["ceiling_per_second"] = json!(ceiling.round() as u64);
    (report["batch_ms"]["p50"], report["batch_ms"]["p99"]) = (json!(p50), json!(p99));
    report["each_run"] = json!(each);
    Ok(report)
}

fn print(report: &Value) {
    let (theirs, ours) = (&report["postgresql"], &report["pabal"]);
    println!("{} accounts, medians of {}\n", report["accounts"], report["runs"]);
    println!("{:<22} {:>12} {:>14} {:>10} {:>10}", "", "transfers", "a second", "p50 ms", "p99 ms");
    let name = format!("PostgreSQL {}", theirs["version"].as_str().unwrap_or_default());
    let mode = format!("pabal, {}", ours["mode"].as_str().unwrap_or_default());
    for (name, of) in [(name, theirs), (mode, ours)] {
        let short = name.split(" (").next().unwrap_or_default();
        println!(
            "{short:<22} {:>12} {:>14} {:>10.1} {:>10.1}",
            of["transfers"].to_string(),
            of["transfers_per_second"].to_string(),
            of["batch_ms"]["p50"].as_f64().unwrap_or(f64::NAN),
            of["batch_ms"]["p99"].as_f64().unwrap_or(f64::NAN),
        );
    }
    println!("{:<22} {:>12} {:>14}", "its ceiling", "", ours["ceiling_per_second"].to_string());
    let verdict = match report["reached"].as_bool() {
        Some(true) => "reached",
        Some(false) => "NOT reached",
        None => "not judged",
    };
    println!("\nratio {}, bar {}: {verdict}", report["ratio"], report["bar"]);
    println!("{}", report["scope"].as_str().unwrap_or_default());
}

/// In memory nothing is durable, and there would be nothing to compare.
fn ensure_disk(dir: &Path) -> anyhow::Result<()> {
    let kind = rustix::fs::statfs(dir).with_context(|| dir.display().to_string())?.f_type;
    if IN_MEMORY.contains(&(kind as u64)) {
        bail!(
            "{} is in memory, where a sync does nothing; choose a folder on a disk with --dir",
            dir.display()
        );
    }
    Ok(())
}

/// The middle one; of an even number the mean of the two.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) / 2].midpoint(values[values.len() / 2])
}

/// Whether somebody asked the bench to end: looked at wherever it waits, so that all is ended and removed in order.
struct Interrupted(Arc<AtomicBool>);

impl Interrupted {
    fn watch() -> anyhow::Result<Interrupted> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&asked))?;
        }
        Ok(Interrupted(asked))
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.0.load(Ordering::Relaxed), "interrupted; everything it started has ended");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(rate: u64, p99: f64) -> Value {
        json!({
            "mode": "in-process", "transfers": 10, "transfers_per_second": rate, "ceiling_per_second": 2 * rate,
            "batch_ms": { "p50": 1.0, "p99": p99, "max": 9.0 }, "latency_quantiles_ms": [[0.5, rate]],
        })
    }

    #[test]
    fn the_bank_is_told_by_its_median_turn() {
        let report = bank_report(vec![turn(30, 3.0), turn(10, 7.0), turn(20, 5.0)]).unwrap();
        assert_eq!(report["transfers_per_second"], 20);
        assert_eq!(report["ceiling_per_second"], 40);
        assert_eq!(report["batch_ms"]["p99"], 5.0);
        assert_eq!(report["latency_quantiles_ms"], json!([[0.5, 20]]), "of the turn in the middle");
        assert_eq!(report["each_run"][0]["transfers_per_second"], 30, "in their order");
        assert_eq!(bank_report(vec![turn(10, 1.0), turn(21, 1.0)]).unwrap()["transfers_per_second"], 16);
        assert!(bank_report(vec![json!({})]).is_err(), "a figure that is not there is not zero");
    }

    #[test]
    fn memory_is_no_disk() {
        let shared = Path::new("/dev/shm");
        if shared.exists() {
            assert!(ensure_disk(shared).is_err());
        } else {
            println!("skipped: there is no /dev/shm here");
        }
        assert!(ensure_disk(Path::new("/nowhere")).is_err());
        ensure_disk(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
    }
}
