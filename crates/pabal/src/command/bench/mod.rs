//! `pabal bench ledger`: how fast the ledger is, beside the same run's ceiling: the same bytes written and synced with no
//! ledger at all.
//!
//! The client is this process, the core another one, as banks have it ([`outside`]); `--in-process` leaves the socket
//! out ([`inside`]). Every transfer is durable before its answer, and every answer is looked at.

mod ceiling;
mod inside;
mod outside;
pub mod reads;
mod served;
pub mod start;

use crate::ids;
use crate::progress::Bar;
use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;
use pabal_bank::command;
use pabal_bank::ledger::entry::COMMAND_BYTES;
use pabal_bank::ledger::{Id, Kind};
use pabal_engine::Commands;
use pabal_journal::BLOCK;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use zerocopy::IntoBytes;

/// What to measure.
#[derive(clap::Args, Clone, Copy)]
pub struct Options {
    /// Customer accounts.
    #[arg(long, default_value_t = 10_000)]
    pub accounts: u64,
    /// Transfers in all.
    #[arg(long, default_value_t = 10_000_000)]
    pub transfers: u64,
    /// Transfers in a request, 1 to 8190.
    #[arg(long, default_value_t = 8190)]
    pub batch: usize,
    /// How often; medians are given, each beside the ceiling of the same runs.
    #[arg(long, default_value_t = 5)]
    pub runs: usize,
    /// Connections.
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
    /// Requests on their way on each connection at a time.
    #[arg(long, default_value_t = 2)]
    pub in_flight: usize,
    /// One account on one side of every transfer.
    #[arg(long)]
    pub hot: bool,
    /// Saturate the bulk lane meanwhile.
    #[arg(long)]
    pub bulk: bool,
    /// Client and core in one process, with no socket between.
    #[arg(long)]
    pub in_process: bool,
    /// Keep the data folders, for `pabal verify`.
    #[arg(long, hide = true)]
    pub keep: bool,
}

/// Of the journal, for a transfer among many.
const TRANSFER_BYTES: u64 = 200;
/// Of the journal, for an account that is opened.
const ACCOUNT_BYTES: u64 = 256;

const WON: u16 = 410;
const FIRST: u64 = 100_000_000;
/// Blocks of a segment in the benchmark: 256 MiB, as a busy bank would choose.
const SEGMENT_BLOCKS: u32 = 64 * 1024;

/// What one run gave.
struct Run {
    seconds: f64,
    /// The same bytes with no ledger.
    ceiling_seconds: f64,
    /// Of a request, microseconds.
    latency: Histogram<u64>,
    core_cpu_seconds: f64,
    rss_mib: f64,
    /// What of that the core took before it served.
    memory_ahead_mib: u64,
    bytes_an_account: Option<f64>,
    journal_bytes: f64,
    /// Of the last run: a statement as a reader makes it.
    statement: Option<Statement>,
    /// Of a statement of 50 lines asked of the core over its socket, microseconds.
    statement_round_trip: Option<Histogram<u64>>,
    /// Seconds since the beginning, and transfers answered in the tenth of a second before.
    throughput: Vec<(f64, u64)>,
    /// What bulk work did meanwhile.
    bulk: Option<BulkRun>,
    /// The data folder, where it was kept.
    kept: Option<PathBuf>,
}

/// What bulk work did that saturated its lane.
struct BulkRun {
    /// How long a batch of it takes with nothing beside it, milliseconds.
    batch_ms: f64,
    /// Beside the measured requests.
    commands_per_second: f64,
}

/// Statements of the newest 50 entries, warm, as a reader's thread makes them: its copy looked at, the journal walked, the
/// answer's bytes written.
struct Statement {
    /// Nanoseconds.
    times: Histogram<u64>,
    /// Lines of each at least: accounts may have fewer entries.
    lines: usize,
}

/// Runs the benchmark in folders of its own below `parent`, which are deleted after.
pub fn run(options: Options, parent: &Path, bar: &Bar) -> anyhow::Result<Value> {
    let Options { accounts, transfers, batch, runs, connections, in_flight, .. } = options;
    if accounts < 2 || transfers == 0 || !(1..=8190).contains(&batch) || !(1..=1000).contains(&runs) {
        bail!("at least 2 accounts and 1 transfer, batches of 1 to 8190, 1 to 1000 runs");
    }
    if !(1..=512).contains(&connections) || !(1..=1024).contains(&in_flight) {
        bail!("1 to 512 connections, 1 to 1024 requests in flight on each");
    }
    if options.in_process && (connections > 1 || options.bulk) {
        bail!("in one process there are no connections and no bulk: leave --in-process out");
    }
    if options.keep && !options.in_process {
        bail!("only what --in-process made is kept");
    }
    has_room(&options, parent)?;
    let mut all = Vec::with_capacity(runs);
    bar.begin("transferring");
    for done in 0..runs as u64 {
        let progress = |n| bar.at(done * transfers + n, runs as u64 * transfers);
        all.push(match options.in_process {
            true => inside::run(&options, parent, &progress)?,
            false => outside::run(&options, parent, done + 1 == runs as u64, &progress)?,
        });
    }
    let median = |of: &dyn Fn(&Run) -> f64| {
        let mut values: Vec<f64> = all.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[(values.len() - 1) / 2].midpoint(values[values.len() / 2])
    };
    let per_second = |seconds: f64| (transfers as f64 / seconds).round() as u64;
    let quantile = |q: f64| thousandths(median(&|r| r.latency.value_at_quantile(q) as f64 / 1000.0));
    let round_trip = |q: f64| {
        let all = all.iter().map(|r| r.statement_round_trip.as_ref().map(|s| s.value_at_quantile(q) as f64));
        let mut values: Vec<f64> = all.collect::<Option<_>>()?;
        values.sort_by(f64::total_cmp);
        Some(values[values.len() / 2])
    };
    let seconds = median(&|r| r.seconds);
    let middle = &all[middle(&all)];
    let mut report = json!({
        "mode": if options.in_process { "in-process" } else { "second process" },
        "accounts": accounts,
        "transfers": transfers,
        "batch": batch,
        "connections": connections,
        "in_flight": in_flight,
        "runs": runs,
        "transfers_per_second": per_second(seconds),
        "ceiling_per_second": per_second(median(&|r| r.ceiling_seconds)),
        "of_ceiling": thousandths(median(&|r| r.ceiling_seconds / r.seconds)),
        "batch_ms": {
            "p50": quantile(0.5),
            "p99": quantile(0.99),
            "max": thousandths(median(&|r| r.latency.max() as f64 / 1000.0)),
        },
        "core_cpu_seconds": thousandths(median(&|r| r.core_cpu_seconds)),
        "rss_mib": median(&|r| r.rss_mib).round() as u64,
        "memory_ahead_mib": middle.memory_ahead_mib,
        "journal_bytes_per_transfer": thousandths(median(&|r| r.journal_bytes) / transfers as f64),
        "last_tenth_of_first": last_tenth_of_first(middle),
        "seconds": thousandths(seconds),
        "each_run": all.iter().map(|r| json!({
            "transfers_per_second": per_second(r.seconds),
            "ceiling_per_second": per_second(r.ceiling_seconds),
            "p99_ms": r.latency.value_at_quantile(0.99) as f64 / 1000.0,
        })).collect::<Vec<_>>(),
    });
    if options.in_process {
        let bytes = median(&|r| r.bytes_an_account.unwrap_or(0.0));
        report["bytes_per_idle_account"] = json!(bytes.round() as u64);
        if options.keep {
            report["kept"] = json!(all.iter().map(|r| r.kept.clone()).collect::<Vec<_>>());
        }
    } else {
        if let Some(statement) = all.last().and_then(|run| run.statement.as_ref()) {
            let us = |q| thousandths(statement.times.value_at_quantile(q) as f64 / 1000.0);
            report["statement_read_us"] = json!({ "p50": us(0.5), "p99": us(0.99) });
            report["statement_lines"] = json!(statement.lines);
        }
        report["statement_round_trip_us"] = json!({ "p50": round_trip(0.5), "p99": round_trip(0.99) });
        let since = |at: usize| if at == 0 { 0.0 } else { middle.throughput[at - 1].0 };
        let rates = middle
            .throughput
            .iter()
            .enumerate()
            .map(|(at, (end, done))| [thousandths(*end), (*done as f64 / (end - since(at))).round()]);
        report["throughput_samples"] = json!(rates.collect::<Vec<_>>());
        // Up to the share that one request is: beyond it nothing is known.
        let known = 1.0 - 1.0 / middle.latency.len().max(1) as f64;
        let quantiles = (0..=100)
            .map(|i| 1.0 - 10f64.powf(-f64::from(i) / 25.0))
            .take_while(|quantile| *quantile <= known);
        let latency = quantiles.map(|q| (q, middle.latency.value_at_quantile(q) as f64 / 1000.0));
        report["latency_quantiles_ms"] = json!(latency.collect::<Vec<_>>());
    }
    if options.bulk {
        let of = |of: &dyn Fn(&BulkRun) -> f64| median(&|r| r.bulk.as_ref().map_or(0.0, of));
        report["bulk_commands_per_second"] = json!(of(&|bulk| bulk.commands_per_second).round() as u64);
        report["bulk_batch_ms"] = json!(thousandths(of(&|bulk| bulk.batch_ms)));
    }
    Ok(report)
}

/// Whether the disk has room for a run: said before an hour is spent, and before a disk is full that others use.
fn has_room(options: &Options, parent: &Path) -> anyhow::Result<()> {
    let system = rustix::fs::statvfs(parent).with_context(|| parent.display().to_string())?;
    let free = system.f_bavail * system.f_frsize;
    // A record has at least a block of its own, and at most what is on its way shares one.
    let together = (options.batch * options.connections * options.in_flight) as u64;
    let transfer = TRANSFER_BYTES + BLOCK as u64 / together;
    let accounts = options.accounts.saturating_mul(ACCOUNT_BYTES);
    let journal = options.transfers.saturating_mul(transfer).saturating_add(accounts);
    let segments = 4 * u64::from(SEGMENT_BLOCKS) * BLOCK as u64;
    let needed = journal.saturating_add(journal.min(ceiling::BYTES_MAX)).saturating_add(segments);
    let needed = needed.saturating_add(needed / 8);
    let gb = |bytes: u64| bytes.div_ceil(1_000_000_000);
    if free < needed {
        let (needed, free, parent) = (gb(needed), free / 1_000_000_000, parent.display());
        bail!(
            "a run needs {needed} GB free in {parent}, where there are {free}: choose another folder with --dir"
        );
    }
    Ok(())
}

fn thousandths(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// The run whose time is the middle one.
fn middle(all: &[Run]) -> usize {
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by(|a, b| all[*a].seconds.total_cmp(&all[*b].seconds));
    order[order.len() / 2]
}

/// The last tenth's transfers a second against the first's; null where a run is too short to say.
fn last_tenth_of_first(run: &Run) -> Option<f64> {
    let tenth = run.throughput.len() / 10;
    if tenth < 3 {
        return None;
    }
    let sum = |samples: &[(f64, u64)]| samples.iter().map(|(_, n)| *n).sum::<u64>() as f64;
    let first = sum(&run.throughput[..tenth]);
    // The very last sample is cut short.
    let end = run.throughput.len() - 1;
    Some(thousandths(sum(&run.throughput[end - tenth..end]) / first))
}

/// Makes transfers at random.
struct Workload {
    accounts: u64,
    hot: bool,
    random: u64,
}

impl Workload {
    fn new(options: &Options) -> Workload {
        Workload { accounts: options.accounts, hot: options.hot, random: ids::random() | 1 }
    }

    /// So many, between different accounts.
    fn transfers(&mut self, n: usize) -> Commands {
        let mut commands = Commands::with_capacity(n * COMMAND_BYTES);
        self.fill(n, &mut commands);
        commands
    }

    fn fill(&mut self, n: usize, commands: &mut Commands) {
        let now = ids::now_ms();
        for _ in 0..n {
            let (a, b) = (self.next(), self.next());
            let mut from = ((a as u128 * self.accounts as u128) >> 64) as u64;
            let mut to = ((b as u128 * (self.accounts - 1) as u128) >> 64) as u64;
            if self.hot {
                // The first account and any other, either way.
                (from, to) = if a & 1 == 0 { (0, 1 + to) } else { (1 + to, 0) };
            } else {
                to += u64::from(to >= from);
            }
            let id = Id::new(now, a as u16, a ^ b.rotate_left(32));
            let amount = 1 + (a & 0xffff) as i64;
            commands
                .push(command::post(id, Kind::Transfer, FIRST + from, FIRST + to, amount, WON).as_bytes());
        }
    }

    /// A fast generator (xorshift, then a multiplication); nothing depends on its quality.
    fn next(&mut self) -> u64 {
        let state = &mut self.random;
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        state.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}
