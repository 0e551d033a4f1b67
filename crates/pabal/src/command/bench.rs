//! `pabal bench ledger`: how fast the ledger is, beside the same run's ceiling: the same bytes written and
//! synced with no ledger at all.

use crate::ids;
use crate::progress::Bar;
use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;
use pabal_bank::command;
use pabal_bank::ledger::entry::COMMAND_BYTES;
use pabal_bank::ledger::window::CAPACITY_DEFAULT;
use pabal_bank::ledger::{Class, Code, Id, Kind};
use pabal_core::BankMachine;
use pabal_engine::request::BULK_COMMANDS_MAX;
use pabal_engine::{Commands, Engine, EngineConfig, Lane, Request, RequestHeader, SystemClock, TimeSource};
use pabal_journal::{Journal, JournalConfig, RecordBuffer, RecordKind, RecordMeta};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::Path;
use std::time::Instant;
use zerocopy::IntoBytes;

/// What to measure.
#[derive(Clone, Copy)]
pub struct Options {
    /// Customer accounts.
    pub accounts: u64,
    /// Transfers in all.
    pub transfers: u64,
    /// Transfers in a request.
    pub batch: usize,
    /// How often; medians are given.
    pub runs: usize,
}

/// Requests on their way at a time.
const IN_FLIGHT: usize = 4;
const WON: u16 = 410;
const FIRST: u64 = 100_000_000;
/// Blocks of a segment in the benchmark: 256 MiB, as a busy bank would choose.
const SEGMENT_BLOCKS: u32 = 64 * 1024;

/// What one run gave.
struct Run {
    seconds: f64,
    /// The same bytes with no ledger.
    ceiling_seconds: f64,
    /// Of a batch, milliseconds: the median, the 99th percentile, the greatest.
    batch_ms: [f64; 3],
    core_cpu_seconds: f64,
    rss_mib: f64,
    bytes_an_account: f64,
    journal_bytes: f64,
}

/// Runs the benchmark in folders of its own below `parent`, which are deleted after.
pub fn run(options: Options, parent: &Path, bar: &Bar) -> anyhow::Result<Value> {
    let Options { accounts, transfers, batch, runs } = options;
    if accounts < 2 || transfers == 0 || !(1..=8190).contains(&batch) || !(1..=1000).contains(&runs) {
        bail!("at least 2 accounts and 1 transfer, batches of 1 to 8190, 1 to 1000 runs");
    }
    let mut all = Vec::with_capacity(runs);
    bar.begin("transferring");
    for done in 0..runs as u64 {
        all.push(one(options, parent, &|n| bar.at(done * transfers + n, runs as u64 * transfers))?);
    }
    let median = |of: &dyn Fn(&Run) -> f64| {
        let mut values: Vec<f64> = all.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[(values.len() - 1) / 2].midpoint(values[values.len() / 2])
    };
    let per_second = |seconds: f64| (transfers as f64 / seconds).round() as u64;
    let thousandths = |value: f64| (value * 1000.0).round() / 1000.0;
    let seconds = median(&|r| r.seconds);
    Ok(json!({
        "mode": "in-process",
        "accounts": accounts,
        "transfers": transfers,
        "batch": batch,
        "runs": runs,
        "transfers_per_second": per_second(seconds),
        "ceiling_per_second": per_second(median(&|r| r.ceiling_seconds)),
        "of_ceiling": thousandths(median(&|r| r.ceiling_seconds / r.seconds)),
        "batch_ms": {
            "p50": thousandths(median(&|r| r.batch_ms[0])),
            "p99": thousandths(median(&|r| r.batch_ms[1])),
            "max": thousandths(median(&|r| r.batch_ms[2])),
        },
        "core_cpu_seconds": thousandths(median(&|r| r.core_cpu_seconds)),
        "rss_mib": median(&|r| r.rss_mib).round() as u64,
        "bytes_per_idle_account": median(&|r| r.bytes_an_account).round() as u64,
        "journal_bytes_per_transfer": thousandths(median(&|r| r.journal_bytes) / transfers as f64),
        "seconds": thousandths(seconds),
        "each_run": all.iter().map(|r| json!({
            "transfers_per_second": per_second(r.seconds),
            "ceiling_per_second": per_second(r.ceiling_seconds),
        })).collect::<Vec<_>>(),
    }))
}

fn one(options: Options, parent: &Path, progress: &dyn Fn(u64)) -> anyhow::Result<Run> {
    let dir = tempfile::Builder::new().prefix("pabal-bench-").tempdir_in(parent)?;
    let config = EngineConfig {
        journal: JournalConfig { segment_blocks: SEGMENT_BLOCKS, ..JournalConfig::default() },
        journal_id: ids::random(),
        time: TimeSource::Clock { clock: Box::<SystemClock>::default(), confirmed_ms: None },
    };
    let (engine, _) = Engine::start(dir.path(), BankMachine::default(), config, &mut |_| {})?;
    open_accounts(&engine, options.accounts)?;

    let (mut waiting, mut latency) = (VecDeque::new(), Histogram::<u64>::new(3)?);
    let mut random = ids::random() | 1;
    let cpu = core_cpu_seconds();
    let blocks = engine.durable().next_block();
    let begun = Instant::now();
    let mut left = options.transfers;
    while left > 0 || !waiting.is_empty() {
        if left > 0 && waiting.len() < IN_FLIGHT {
            let n = left.min(options.batch as u64);
            left -= n;
            progress(options.transfers - left);
            let request = transfers(n as usize, options.accounts, &mut random);
            waiting.push_back((Instant::now(), engine.submit(request)));
            continue;
        }
        let (sent, ticket) = waiting.pop_front().context("something is on its way")?;
        let response = ticket.wait()?;
        latency.record(sent.elapsed().as_micros() as u64)?;
        if let Some(reply) = response.replies.iter().find(|r| r.code != Code::Done) {
            bail!("a transfer was refused: {}", reply.code);
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let core_cpu_seconds = core_cpu_seconds() - cpu;
    let blocks = engine.durable().next_block() - blocks;
    let rss_mib = resident_bytes() / (1 << 20) as f64;
    let bank = engine.stop()?.0;
    let opened = bank.ledger().accounts();
    let bytes_an_account = opened.bytes() as f64 / opened.len() as f64;
    drop(bank);
    let record = (blocks * options.batch as u64).div_ceil(options.transfers).max(1);
    let milliseconds = |us: u64| us as f64 / 1000.0;
    Ok(Run {
        seconds,
        ceiling_seconds: ceiling(&dir.path().join("ceiling"), blocks, record as usize)?,
        batch_ms: [latency.value_at_quantile(0.5), latency.value_at_quantile(0.99), latency.max()]
            .map(milliseconds),
        core_cpu_seconds,
        rss_mib,
        bytes_an_account,
        journal_bytes: (blocks * 4096) as f64,
    })
}

/// Founds a bank and opens the accounts.
fn open_accounts(engine: &Engine<BankMachine>, accounts: u64) -> anyhow::Result<()> {
    let found = command::found(
        ids::fresh(),
        CAPACITY_DEFAULT,
        ids::random(),
        pabal_bank::RULES_CURRENT,
        ids::today(),
    );
    let mut commands = Commands::new();
    commands.push(found.as_bytes());
    send(engine, RequestHeader::new(Lane::Online, 1), commands)?;
    // Opened as numbered items of a job, as a migration would.
    let job = ids::fresh();
    let mut item = 0;
    while item < accounts {
        let mut commands = Commands::new();
        let mut header = RequestHeader::new(Lane::Bulk, 4);
        (header.attempt, header.item) = ([job.high, job.low], item);
        for number in item..accounts.min(item + BULK_COMMANDS_MAX as u64) {
            let unlimited = i64::MAX;
            let id = Id::new(ids::now_ms(), 0, number << 2);
            let open = command::open(id, FIRST + number, Class::CustomerDeposit, WON, number + 1, unlimited);
            commands.push(open.as_bytes());
        }
        item += commands.len() as u64;
        send(engine, header, commands)?;
    }
    Ok(())
}

fn send(engine: &Engine<BankMachine>, header: RequestHeader, commands: Commands) -> anyhow::Result<()> {
    let response = engine.submit(Request { header, commands }).wait()?;
    match response.replies.iter().find(|r| r.code != Code::Done) {
        Some(reply) => bail!("the bank could not be set up: {}", reply.code),
        None => Ok(()),
    }
}

fn transfers(n: usize, accounts: u64, random: &mut u64) -> Request {
    let mut commands = Commands::with_capacity(n * COMMAND_BYTES);
    let now = ids::now_ms();
    for _ in 0..n {
        let (a, b) = (next(random), next(random));
        let from = ((a as u128 * accounts as u128) >> 64) as u64;
        let mut to = ((b as u128 * (accounts - 1) as u128) >> 64) as u64;
        to += u64::from(to >= from);
        let id = Id::new(now, a as u16, a ^ b.rotate_left(32));
        let amount = 1 + (a & 0xffff) as i64;
        let post = command::post(id, Kind::Transfer, FIRST + from, FIRST + to, amount, WON);
        commands.push(post.as_bytes());
    }
    Request { header: RequestHeader::new(Lane::Online, 1), commands }
}

/// A fast generator for the load (xorshift, then a multiplication); nothing depends on its quality.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    state.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Seconds in which as many blocks are written and synced, a record at a time, with no ledger.
fn ceiling(dir: &Path, blocks: u64, record: usize) -> anyhow::Result<f64> {
    let config = JournalConfig { segment_blocks: SEGMENT_BLOCKS, ..JournalConfig::default() };
    let (mut journal, _) = Journal::open(dir, &config, 1, &mut |_| Ok(()))?;
    let mut buffer = RecordBuffer::new();
    let mut append = |blocks: u64| {
        buffer.begin(journal.layout().place(journal.next_block(), blocks as u32));
        while (buffer.blocks() as u64) < blocks {
            let (_, entry) = buffer.entry(3);
            (entry[0], entry[5]) = (1, 3);
        }
        let kind = RecordKind::Batch;
        buffer.finish(RecordMeta { kind, rules: 0, time_ms: 0, business_date: 0, digest: [0; 16] });
        journal.append(&mut buffer)
    };
    // The first record waits for the second segment; the ledger's first did so when the bank was founded.
    append(1)?;
    let begun = Instant::now();
    let mut left = blocks;
    while left > 0 {
        let n = left.min(record as u64);
        append(n)?;
        left -= n;
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// Memory of the process that is really there.
fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or(0.0) * 1024.0
}

/// Processor time of the core's thread so far, seconds.
fn core_cpu_seconds() -> f64 {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0.0 };
    for task in tasks.flatten() {
        let path = task.path();
        if std::fs::read_to_string(path.join("comm")).is_ok_and(|c| c.trim() == "pabal-core") {
            let spent = std::fs::read_to_string(path.join("schedstat")).unwrap_or_default();
            let nanoseconds: u64 = spent.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
            return nanoseconds as f64 / 1e9;
        }
    }
    0.0
}
