//! `pabal bench start`: how long a bank that was killed takes until it serves again, and how much memory it then has.
//!
//! A bank with so many accounts and so many ids in its window makes a snapshot, and then so many transfers more, which is
//! what a start has to replay. Then the core is killed, and core and reader are started together, as `pabal serve` does.
//! The core serves again when it has acknowledged a transfer, the reader when it has answered a statement at that
//! transfer. The journal is taken out of the page cache before each start, so what is replayed comes from the disk; the
//! snapshot may be in it still, as after the death of a process.

use super::outside::{Client, Load, PATIENCE, open_accounts, start_core};
use super::reads::forget;
use super::served::Served;
use super::{FIRST, Options as Ledger, has_room, thousandths};
use crate::command::core::SOCKET;
use crate::command::reader::{READER_SOCKET, snapshot_now};
use crate::progress::Bar;
use anyhow::{Context as _, bail, ensure};
use pabal_bank::ledger::Code;
use pabal_client::{Address, Connection, Envelope};
use pabal_core::{Channel, Credentials, Question};
use pabal_engine::engine::JOURNAL;
use pabal_engine::snapshot::SNAPSHOTS;
use pabal_wire::Kind;
use serde_json::{Value, json};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use zerocopy::IntoBytes;

/// What to measure.
#[derive(clap::Args, Clone, Copy)]
pub struct Options {
    /// Customer accounts.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(2..=100_000_000))]
    pub accounts: u64,
    /// Transfers before the snapshot that it starts from.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub ids: u64,
    /// Transfers after it, which a start replays.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=1_000_000_000))]
    pub tail: u64,
    /// How often; medians are given.
    #[arg(long, default_value_t = 5)]
    pub runs: usize,
}

/// How long the reader has to make a snapshot of what it replayed, which takes the most memory.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(300);

/// What one start gave, seconds.
struct Started {
    core: f64,
    reader: f64,
}

/// Makes the bank in a folder of its own below `parent`, which is deleted after, and starts it again and again.
pub fn run(options: Options, parent: &Path, bar: &Bar) -> anyhow::Result<Value> {
    let Options { accounts, ids, tail, runs } = options;
    ensure!(accounts >= 2 && (1..=100).contains(&runs), "at least 2 accounts, 1 to 100 runs");
    let load = |transfers| Ledger {
        accounts,
        transfers,
        batch: 8190,
        runs: 1,
        connections: 1,
        in_flight: 4,
        hot: false,
        bulk: false,
        in_process: false,
        keep: false,
    };
    has_room(&load(ids + tail), parent)?;
    let dir = tempfile::Builder::new().prefix("pabal-bench-").tempdir_in(parent)?;
    let data = dir.path().join("data");
    let core = start_core(&data, 0)?;
    bar.begin("opening accounts");
    open_accounts(&data, accounts)?;
    bar.begin("transferring");
    transfer(&data, &load(ids), bar)?;
    core.stop()?;
    let begun = Instant::now();
    let made = snapshot_now(&data, bar)?;
    let snapshot_seconds = begun.elapsed().as_secs_f64();
    ensure!(made["made"] == true, "no snapshot was made");

    let mut core = start_core(&data, 0)?;
    bar.begin("transferring more");
    transfer(&data, &load(tail), bar)?;
    let mut all = Vec::with_capacity(runs);
    let mut reader = None;
    bar.begin("killing and starting");
    for run in 0..runs {
        // A reader makes snapshots, which would shorten what the next start has to replay: the last run keeps it.
        let (next, started, its_reader) = start_again(core, &data, &load(1))?;
        core = next;
        all.push(started);
        if run + 1 < runs {
            drop(its_reader);
            remove_newer(&data, made["sequence"].as_u64().context("a number")?)?;
        } else {
            reader = Some(its_reader);
        }
        bar.at(run as u64 + 1, runs as u64);
    }
    let reader = reader.context("one run at least")?;
    if tail >= crate::command::reader::SNAPSHOT_COMMANDS {
        wait_for_snapshot(&data, made["sequence"].as_u64().context("a number")?)?;
    }
    let (core_mib, reader_mib) = (core.peak_mib(), reader.peak_mib());
    reader.stop()?;
    core.stop()?;
    let median = |of: fn(&Started) -> f64| {
        let mut values: Vec<f64> = all.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        thousandths(values[values.len() / 2])
    };
    Ok(json!({
        "accounts": accounts,
        "ids": ids,
        "tail": tail,
        "runs": runs,
        "snapshot_mib": made["bytes"].as_u64().context("a number")? >> 20,
        "snapshot_seconds": thousandths(snapshot_seconds),
        "core_serves_seconds": median(|started| started.core),
        "reader_serves_seconds": median(|started| started.reader),
        "core_peak_mib": core_mib.round() as u64,
        "reader_peak_mib": reader_mib.round() as u64,
        "each_run": all.iter().map(|s| [thousandths(s.core), thousandths(s.reader)]).collect::<Vec<_>>(),
    }))
}

/// Makes so many transfers.
fn transfer(data: &Path, load: &Ledger, bar: &Bar) -> anyhow::Result<()> {
    let mut connections = [Client::new(data, load)?];
    Load::new(load)?.drive(&mut connections, &mut |done| bar.at(done, load.transfers))
}

/// Kills the core and starts it anew, with a reader beside it.
fn start_again(core: Served, data: &Path, one: &Ledger) -> anyhow::Result<(Served, Started, Served)> {
    // As a crash does: no signal that it could hear.
    drop(core);
    forget(&data.join(JOURNAL))?;
    let begun = Instant::now();
    thread::scope(|scope| {
        let reader = scope.spawn(|| Served::start("reader", &[], data));
        let core = start_core(data, 0)?;
        transfer(data, one, &Bar::new(false))?;
        let core_seconds = begun.elapsed().as_secs_f64();
        let reader = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let at_least = ask(data, SOCKET, 0)?;
        ask(data, READER_SOCKET, at_least)?;
        let reader_seconds = begun.elapsed().as_secs_f64();
        Ok((core, Started { core: core_seconds, reader: reader_seconds }, reader))
    })
}

/// Asks for a statement until it is answered at this record or a later one; gives the record at which it was.
fn ask(data: &Path, socket: &str, at_least: u64) -> anyhow::Result<u64> {
    let credential = Credentials::of(data, Channel::Api)?;
    let mut connection = Connection::connect(&Address::Unix(data.join(socket)), credential.0, PATIENCE)?;
    let question = Question::statement(FIRST, 50);
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        connection.query(&Envelope { class: 2, ..Envelope::default() }, at_least, question.as_bytes())?;
        let answered = loop {
            connection.poll(PATIENCE)?;
            if let Some(answered) = connection.take()? {
                break answered;
            }
        };
        match answered.kind {
            Kind::Answer => return Ok(answered.sequence),
            // The reader has not come so far.
            Kind::Refused if answered.code == Code::NotFresh as u16 => {
                thread::sleep(Duration::from_millis(1))
            }
            kind => bail!("{kind:?} with code {}", answered.code),
        }
    }
    bail!("the reader did not come to record {at_least} within a minute")
}

/// The snapshots of records after this one.
fn newer(data: &Path, sequence: u64) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for file in std::fs::read_dir(data.join(SNAPSHOTS))? {
        let path = file?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let of = name.split('-').next().and_then(|of| of.parse::<u64>().ok());
        if name.ends_with(".tmp") || of.is_some_and(|of| of > sequence) {
            found.push(path);
        }
    }
    Ok(found)
}

fn remove_newer(data: &Path, sequence: u64) -> anyhow::Result<()> {
    newer(data, sequence)?.iter().try_for_each(|path| Ok(std::fs::remove_file(path)?))
}

fn wait_for_snapshot(data: &Path, sequence: u64) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !newer(data, sequence)?.iter().any(|path| path.extension().is_some_and(|e| e == "snap")) {
        ensure!(begun.elapsed() < SNAPSHOT_PATIENCE, "the reader made no snapshot");
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
