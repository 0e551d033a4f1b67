//! Client and core in one process.

use super::ceiling::ceiling;
use super::{FIRST, Options, Run, SEGMENT_BLOCKS, WON, Workload};
use crate::ids;
use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;
use pabal_bank::command;
use pabal_bank::ledger::window::CAPACITY_DEFAULT;
use pabal_bank::ledger::{Class, Code, Id};
use pabal_core::BankMachine;
use pabal_engine::request::BULK_COMMANDS_MAX;
use pabal_engine::{Commands, Engine, EngineConfig, Lane, Request, RequestHeader, SystemClock, TimeSource};
use pabal_journal::JournalConfig;
use std::collections::VecDeque;
use std::path::Path;
use std::time::Instant;
use zerocopy::IntoBytes;

/// One run.
pub fn run(options: &Options, parent: &Path, progress: &dyn Fn(u64)) -> anyhow::Result<Run> {
    let in_flight = options.in_flight;
    let dir = tempfile::Builder::new().prefix("pabal-bench-").tempdir_in(parent)?;
    let config = EngineConfig {
        journal: JournalConfig { segment_blocks: SEGMENT_BLOCKS, ..JournalConfig::default() },
        journal_id: ids::random(),
        time: TimeSource::Clock { clock: Box::<SystemClock>::default(), confirmed_ms: None },
    };
    let (engine, _) = Engine::start(dir.path(), BankMachine::default(), config, &mut |_| {})?;
    open_accounts(&engine, options.accounts)?;

    let (mut waiting, mut latency) = (VecDeque::new(), Histogram::<u64>::new(3)?);
    let mut workload = Workload::new(options);
    let cpu = core_cpu_seconds();
    let (blocks, before) = (engine.durable().next_block(), engine.durable().sequence());
    let begun = Instant::now();
    let mut left = options.transfers;
    while left > 0 || !waiting.is_empty() {
        if left > 0 && waiting.len() < in_flight {
            let n = left.min(options.batch as u64);
            left -= n;
            progress(options.transfers - left);
            let request = request(workload.transfers(n as usize));
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
    let records = engine.durable().sequence() - before;
    let rss_mib = resident_bytes() / (1 << 20) as f64;
    let bank = engine.stop()?.0;
    let opened = bank.ledger().accounts();
    let bytes_an_account = opened.bytes() as f64 / opened.len() as f64;
    drop(bank);
    let beside = dir.path().join("ceiling");
    let ceiling_seconds = ceiling(&beside, blocks, records)?;
    // A data folder has nothing else in it.
    std::fs::remove_dir_all(&beside)?;
    Ok(Run {
        seconds,
        ceiling_seconds,
        latency,
        core_cpu_seconds,
        rss_mib,
        memory_ahead_mib: 0,
        bytes_an_account: Some(bytes_an_account),
        journal_bytes: (blocks * 4096) as f64,
        statement: None,
        statement_round_trip: None,
        throughput: Vec::new(),
        bulk: None,
        kept: options.keep.then(|| dir.keep()),
    })
}

/// Founds a bank and opens the accounts.
pub fn open_accounts(engine: &Engine<BankMachine>, accounts: u64) -> anyhow::Result<()> {
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

fn request(commands: Commands) -> Request {
    Request { header: RequestHeader::new(Lane::Online, 1), commands }
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
