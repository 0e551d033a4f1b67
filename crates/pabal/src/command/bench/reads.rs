//! `pabal bench reads`: how long it takes to read an account's history out of a journal made for it, with no socket and
//! no core between: what a walker's thread does.
//!
//! *The journal.* One account with very many entries, on the other side of each one of the others in turn; so the
//! entries of each of those lie as far apart as there are accounts, and no two lines of a statement share a block. The
//! business date moves on meanwhile, [`DAYS`] times.
//!
//! *Warm*: what is asked was asked once before, and fits the cache that a core and a reader have. *Beyond the cache*:
//! all accounts in turn, more than it holds, out of the system's page cache. *Cold*: a new reader, nothing cached, the
//! page cache emptied of the journal before each; that the disk was really read is looked up, and a folder where it is
//! not (a file system in memory) is refused. Beside it stands its ceiling, in turns with it: as many blocks read one
//! after the other from the same files, with no journal.
//!
//! *Any day*: the greatest time of all also says when something else had the processor, so the slowest day's median over
//! its [`ROUNDS`] stands beside it: what that day takes every time.

use super::inside::open_accounts;
use super::{FIRST, WON, thousandths};
use crate::command::core::HISTORY_BLOCKS;
use crate::ids;
use crate::progress::Bar;
use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;
use pabal_bank::command;
use pabal_bank::ledger::entry::COMMAND_BYTES;
use pabal_bank::ledger::{Code, Command, Date, Id, Kind};
use pabal_core::BankMachine;
use pabal_core::machine::{Answer, Query};
use pabal_core::read::History;
use pabal_engine::engine::JOURNAL;
use pabal_engine::{Commands, Engine, EngineConfig, Lane, Request, RequestHeader, SystemClock, TimeSource};
use pabal_journal::{JournalConfig, Reader};
use rustix::fs::{Advice, fadvise};
use serde_json::{Value, json};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;
use zerocopy::IntoBytes;

/// Lines of a statement.
const LINES: usize = 50;
/// Days that pass while the journal is made.
const DAYS: u64 = 1000;
/// Transfers in a request.
const BATCH: u64 = 1000;
/// Statements that are timed warm.
const WARM: usize = 20_000;
/// Statements that are timed cold.
const COLD: u64 = 200;
/// Any day but the last, which the newest entry answers alone, is asked for so often.
const ROUNDS: usize = 5;

/// What to measure.
#[derive(clap::Args, Clone, Copy)]
pub struct Options {
    /// Entries of one account.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(2..=100_000_000))]
    pub entries: u64,
    /// The other accounts, which share them.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(2..=1_000_000))]
    pub accounts: u64,
}

/// Makes the journal in a folder of its own below `parent`, which is deleted after, and reads it.
pub fn run(options: Options, parent: &Path, bar: &Bar) -> anyhow::Result<Value> {
    let Options { entries, accounts } = options;
    ensure!(accounts >= 2 && entries >= accounts, "at least 2 accounts, and an entry for each");
    let dir = tempfile::Builder::new().prefix("pabal-bench-").tempdir_in(parent)?;
    let made = Made::make(&options, dir.path(), bar)?;
    bar.begin("reading");
    let warm = warm(&made, accounts)?;
    let (beyond, as_of, cold) = (beyond(&made)?, as_of(&made)?, cold(&made)?);
    let us = |times: &Histogram<u64>, q: f64| thousandths(times.value_at_quantile(q) as f64 / 1000.0);
    let two = |times: &Histogram<u64>| json!({ "p50": us(times, 0.5), "p99": us(times, 0.99) });
    Ok(json!({
        "entries_of_one_account": entries,
        "other_accounts": accounts,
        "lines": LINES.min((entries / accounts) as usize),
        "cache_mib": (HISTORY_BLOCKS * pabal_journal::BLOCK) >> 20,
        "statement_read_us": two(&warm),
        "statement_beyond_cache_us": two(&beyond),
        "statement_cold_us": two(&cold.times),
        "statement_cold_ceiling_us": two(&cold.ceiling),
        "statement_cold_kib": thousandths(cold.kib),
        "as_of_us": {
            "p50": us(&as_of.times, 0.5),
            "p99": us(&as_of.times, 0.99),
            "max": us(&as_of.times, 1.0),
            "slowest_day_median": thousandths(as_of.slowest_day_ns as f64 / 1000.0),
        },
    }))
}

/// A journal to read.
struct Made {
    dir: PathBuf,
    /// Of each account, the first being the one with all entries, its newest.
    heads: Vec<u64>,
    /// The block after the last record.
    end: u64,
    first_day: u16,
    last_day: u16,
}

impl Made {
    fn make(options: &Options, data: &Path, bar: &Bar) -> anyhow::Result<Made> {
        let config = EngineConfig {
            journal: JournalConfig::default(),
            journal_id: ids::random(),
            time: TimeSource::Clock { clock: Box::<SystemClock>::default(), confirmed_ms: None },
        };
        let (engine, _) = Engine::start(data, BankMachine::default(), config, &mut |_| {})?;
        let first_day = ids::today().0;
        open_accounts(&engine, options.accounts + 1)?;
        bar.begin("making a journal");
        let (mut done, mut day) = (0, first_day);
        while done < options.entries {
            let due = first_day + (done * DAYS / options.entries) as u16;
            let moved = (due > day).then(|| command::advance_date(ids::fresh(), Date(due)));
            day = due;
            let n = BATCH.min(options.entries - done).min(options.entries.div_ceil(DAYS));
            let transfer = |at: u64| {
                let other = FIRST + 1 + at % options.accounts;
                let (from, to) =
                    if (at / options.accounts).is_multiple_of(2) { (FIRST, other) } else { (other, FIRST) };
                command::post(
                    Id::new(ids::now_ms(), 0, at << 2),
                    Kind::Transfer,
                    from,
                    to,
                    1 + at as i64,
                    WON,
                )
            };
            send(&engine, moved.into_iter().chain((done..done + n).map(transfer)))?;
            done += n;
            bar.at(done, options.entries);
        }
        let head = |number: u64| match engine.query(Query::Account(number)).wait()? {
            Answer::Account(Some(view)) => Ok(view.head.0),
            other => bail!("account {number}: {other:?}"),
        };
        let heads = (FIRST..=FIRST + options.accounts).map(head).collect::<anyhow::Result<_>>()?;
        let end = engine.durable().next_block();
        engine.stop()?;
        Ok(Made { dir: data.join(JOURNAL), heads, end, first_day, last_day: day })
    }

    /// As a core or a reader opens it.
    fn reader(&self) -> anyhow::Result<Reader> {
        Ok(Reader::open(&self.dir)?.with_cache(HISTORY_BLOCKS))
    }

    /// The newest lines of an account's statement. Each is looked at: a balance follows from the one before.
    fn statement(&self, reader: &Reader, account: usize) -> anyhow::Result<()> {
        let history = History { reader, account: FIRST + account as u64, end: self.end };
        let (lines, _) = history.lines(self.heads[account], (0, u16::MAX), 0, LINES)?;
        let follow = lines.windows(2).all(|two| two[0].balance == two[1].balance + two[0].amount);
        ensure!(!lines.is_empty() && follow, "a statement of account {account} does not add up");
        Ok(())
    }

    fn balance(&self, reader: &Reader, day: u16) -> anyhow::Result<i64> {
        let history = History { reader, account: FIRST, end: self.end };
        Ok(history.balance_as_of(self.heads[0], day)?)
    }

    /// Reads so many blocks that were written, far apart, one after the other; others in each round.
    fn blocks(&self, count: u64, round: u64) -> anyhow::Result<()> {
        let segments: Vec<File> = self.segments()?.into_iter().map(File::open).collect::<Result<_, _>>()?;
        let of_one = u64::from(JournalConfig::default().segment_blocks);
        let mut block = [0; pabal_journal::BLOCK];
        for n in 0..count {
            let at = (round * count + n) * step(self.end) % self.end;
            let segment = segments.get((at / of_one) as usize).context("a segment")?;
            segment.read_exact_at(&mut block, at % of_one * pabal_journal::BLOCK as u64)?;
        }
        Ok(())
    }

    fn segments(&self) -> anyhow::Result<Vec<PathBuf>> {
        segments(&self.dir)
    }

    fn forget(&self) -> anyhow::Result<()> {
        forget(&self.dir)
    }
}

/// The files of the journal in this folder, in order.
fn segments(journal: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let files = std::fs::read_dir(journal)?.map(|file| file.map(|file| file.path()));
    let mut files: Vec<PathBuf> = files.collect::<Result<_, _>>()?;
    files.retain(|file| file.extension().is_some_and(|end| end == "seg"));
    files.sort();
    Ok(files)
}

/// Takes the journal in this folder out of the page cache.
pub fn forget(journal: &Path) -> anyhow::Result<()> {
    for segment in segments(journal)? {
        fadvise(File::open(segment)?, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}

fn send(engine: &Engine<BankMachine>, made: impl Iterator<Item = Command>) -> anyhow::Result<()> {
    let mut commands = Commands::with_capacity(BATCH as usize * COMMAND_BYTES);
    made.for_each(|command| commands.push(command.as_bytes()));
    let response = engine.submit(Request { header: RequestHeader::new(Lane::Online, 1), commands }).wait()?;
    match response.replies.iter().find(|reply| reply.code != Code::Done) {
        Some(reply) => bail!("the journal could not be made: {}", reply.code),
        None => Ok(()),
    }
}

/// Nanoseconds of each.
fn times() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new(3)?)
}

/// What was read, and the nanoseconds that it took.
fn timed<T>(
    times: &mut Histogram<u64>,
    read: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<(T, u64)> {
    let begun = Instant::now();
    let read = read()?;
    let ns = begun.elapsed().as_nanos() as u64;
    times.record(ns)?;
    Ok((read, ns))
}

/// Statements of as many accounts as the cache holds half-way.
fn warm(made: &Made, accounts: u64) -> anyhow::Result<Histogram<u64>> {
    let some = (HISTORY_BLOCKS / 2 / LINES).min(accounts as usize);
    let (reader, mut times) = (made.reader()?, times()?);
    for n in 0..some {
        made.statement(&reader, 1 + n)?;
    }
    for n in 0..WARM {
        timed(&mut times, || made.statement(&reader, 1 + n % some))?;
    }
    Ok(times)
}

/// Statements of all accounts, in turn, each read once before.
fn beyond(made: &Made) -> anyhow::Result<Histogram<u64>> {
    let (reader, mut times, mut unheeded) = (made.reader()?, times()?, times()?);
    for round in 0..2 {
        let times = if round == 0 { &mut unheeded } else { &mut times };
        for account in 1..made.heads.len() {
            timed(times, || made.statement(&reader, account))?;
        }
    }
    Ok(times)
}

struct AsOf {
    times: Histogram<u64>,
    /// The greatest of all days' medians.
    slowest_day_ns: u64,
}

/// The balance of the one account at the end of any day.
fn as_of(made: &Made) -> anyhow::Result<AsOf> {
    let (reader, mut times) = (made.reader()?, times()?);
    let days = u64::from(made.last_day - made.first_day).max(1);
    let balance = |day: u64| made.balance(&reader, made.first_day + day as u16);
    let before: Vec<i64> = (0..days).map(balance).collect::<anyhow::Result<_>>()?;
    let mut each = vec![Vec::with_capacity(ROUNDS); days as usize];
    for _ in 0..ROUNDS {
        for n in 0..days {
            // Days far apart follow one another: a step that has no divisor in common with their number.
            let day = n * step(days) % days;
            let (found, ns) = timed(&mut times, || balance(day))?;
            ensure!(found == before[day as usize], "two balances of one day");
            each[day as usize].push(ns);
        }
    }
    let median = |mut day: Vec<u64>| {
        day.sort_unstable();
        day[ROUNDS / 2]
    };
    Ok(AsOf { times, slowest_day_ns: each.into_iter().map(median).max().unwrap_or(0) })
}

/// A number that goes round all of so many in an order that is none.
fn step(of: u64) -> u64 {
    let divisor = |mut a: u64, mut b: u64| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    (of * 5 / 8..).find(|step| *step > 0 && divisor(*step, of) == 1).unwrap_or(1)
}

struct Cold {
    times: Histogram<u64>,
    /// As many blocks, with no journal.
    ceiling: Histogram<u64>,
    /// Read from the disk for one statement.
    kib: f64,
}

fn cold(made: &Made) -> anyhow::Result<Cold> {
    let (mut times, mut ceiling, mut bytes) = (times()?, times()?, 0);
    let others = made.heads.len() as u64 - 1;
    let statements = COLD.min(others);
    for n in 0..statements {
        made.forget()?;
        let reader = made.reader()?;
        let before = bytes_read()?;
        timed(&mut times, || made.statement(&reader, 1 + (n * step(others) % others) as usize))?;
        let read = bytes_read()? - before;
        bytes += read;
        made.forget()?;
        timed(&mut ceiling, || made.blocks(read / pabal_journal::BLOCK as u64, n))?;
    }
    let kib = bytes as f64 / statements as f64 / 1024.0;
    ensure!(
        kib >= 4.0,
        "the journal stays in memory here, so nothing can be read cold: name a disk with --dir"
    );
    Ok(Cold { times, ceiling, kib })
}

/// What this process had read from a disk so far.
fn bytes_read() -> anyhow::Result<u64> {
    let said = std::fs::read_to_string("/proc/self/io").context("/proc/self/io")?;
    let read = said.lines().find_map(|line| line.strip_prefix("read_bytes: ")?.trim().parse().ok());
    read.context("/proc/self/io has no read_bytes")
}
