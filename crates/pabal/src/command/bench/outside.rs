//! The core in a process of its own, and this one its client, on the core's socket.

use super::ceiling::ceiling;
use super::served::Served;
use super::{BulkRun, FIRST, Options, Run, SEGMENT_BLOCKS, Statement, WON, Workload};
use crate::command::core::{HISTORY_BLOCKS, SOCKET};
use crate::ids;
use crate::memory;
use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;
use pabal_bank::command;
use pabal_bank::ledger::window::CAPACITY_DEFAULT;
use pabal_bank::ledger::{Class, Code, Id};
use pabal_client::{Address, Connection, Envelope, Lane};
use pabal_core::question::read_answer;
use pabal_core::{BankMachine, Channel, Copy, Credentials, Question};
use pabal_engine::engine::JOURNAL;
use pabal_engine::request::BULK_COMMANDS_MAX;
use pabal_engine::{Commands, Fold};
use pabal_journal::{Reader, SystemDisk};
use pabal_wire::Kind;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use zerocopy::IntoBytes;

pub const PATIENCE: Duration = Duration::from_secs(60);
/// Statements that are asked for, of so many different accounts, each at least once before.
const STATEMENTS: usize = 20_000;
const STATEMENT_ACCOUNTS: u64 = 100;
const STATEMENT_LINES: u16 = 50;
/// Bulk requests on their way.
const BULK_IN_FLIGHT: usize = 8;
/// The priority of what sends bulk work, for this thread alone.
const BULK_NICE: i32 = 10;
/// How long bulk work runs alone at first.
const BULK_ALONE: Duration = Duration::from_secs(1);
/// Bytes that an id of the window and an account take in the core, indexes included, roundly.
const ID_BYTES: u64 = 48;
const ACCOUNT_BYTES: u64 = 160;
/// What else a core takes, its records and requests on their way among them.
const REST_BYTES: u64 = 256 << 20;
/// Taken ahead at most: a longer run is less disturbed by its beginning.
const AHEAD_MOST_BYTES: u64 = 4 << 30;
/// How often a sample of the throughput is taken.
const SAMPLE: Duration = Duration::from_millis(100);

/// Starts a core with the segments of a busy bank, and memory for what it is going to be asked.
pub fn start_core(data: &Path, memory_mib: u64) -> anyhow::Result<Served> {
    let (blocks, memory) = (SEGMENT_BLOCKS.to_string(), memory_mib.to_string());
    Served::start("core", &["--segment-blocks", &blocks, "--memory-ahead", &memory], data)
}

/// MiB that a core takes ahead for such a run: what it is going to need, as it serves a bank that grows in seconds as
/// others do in months. At most half of what is available.
fn memory_mib(options: &Options) -> u64 {
    let bytes = options.transfers.saturating_mul(ID_BYTES);
    let bytes =
        bytes.saturating_add(options.accounts.saturating_mul(ACCOUNT_BYTES)).saturating_add(REST_BYTES);
    bytes.min(AHEAD_MOST_BYTES).min(memory::available() as u64 / 2) >> 20
}

/// One run. Statements as a reader makes them are measured when it is to be so: it folds the whole journal for that.
pub fn run(options: &Options, parent: &Path, reads: bool, progress: &dyn Fn(u64)) -> anyhow::Result<Run> {
    let dir = tempfile::Builder::new().prefix("pabal-bench-").tempdir_in(parent)?;
    let data = dir.path().join("data");
    let memory_ahead_mib = memory_mib(options);
    let core = start_core(&data, memory_ahead_mib)?;
    open_accounts(&data, options.accounts)?;
    let mut connections: Vec<Client> =
        (0..options.connections).map(|_| Client::new(&data, options)).collect::<anyhow::Result<_>>()?;
    let bulk = options.bulk.then(|| Bulk::start(&data, options)).transpose()?;
    let journal = Reader::open(&data.join(JOURNAL))?;
    let (blocks, cpu) = (journal.extent()?, core.cpu_seconds("pabal-core"));
    let mut load = Load::new(options)?;
    let begun = Instant::now();
    let mut throughput = Vec::new();
    let (mut sampled, mut sampled_done) = (begun, 0);
    load.drive(&mut connections, &mut |done| {
        let now = Instant::now();
        if now - sampled >= SAMPLE {
            throughput.push(((now - begun).as_secs_f64(), done - sampled_done));
            (sampled, sampled_done) = (now, done);
            progress(done);
        }
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let core_cpu_seconds = core.cpu_seconds("pabal-core") - cpu;
    let rss_mib = core.resident_mib();
    let bulk = bulk.map(Bulk::end).transpose()?;
    let statement_round_trip = Some(round_trips(&data, options.accounts)?);
    core.stop()?;
    let statement = reads.then(|| statements(&data, options.accounts)).transpose()?;
    let blocks = journal.extent()? - blocks;
    Ok(Run {
        seconds,
        ceiling_seconds: ceiling(&dir.path().join("ceiling"), blocks, load.records())?,
        latency: load.latency,
        core_cpu_seconds,
        rss_mib,
        memory_ahead_mib,
        bytes_an_account: None,
        journal_bytes: (blocks * 4096) as f64,
        statement,
        statement_round_trip,
        throughput,
        bulk,
        kept: None,
    })
}

pub fn connect(data: &Path, channel: Channel) -> anyhow::Result<Connection> {
    let credential = Credentials::of(data, channel)?;
    Ok(Connection::connect(&Address::Unix(data.join(SOCKET)), credential.0, PATIENCE)?)
}

/// A connection that sends transfers.
pub struct Client {
    connection: Connection,
    /// When the request of each tag's low half was sent.
    sent: Vec<(Instant, u64)>,
    on_their_way: usize,
}

impl Client {
    pub fn new(data: &Path, options: &Options) -> anyhow::Result<Client> {
        let connection = connect(data, Channel::Api)?;
        let most = connection.welcome().in_flight_max as usize;
        ensure!(options.in_flight <= most, "at most {most} requests can be on their way on a connection");
        Ok(Client { connection, sent: vec![(Instant::now(), 0); most], on_their_way: 0 })
    }
}

pub struct Load {
    workload: Workload,
    commands: Commands,
    left: u64,
    done: u64,
    batch: usize,
    in_flight: usize,
    latency: Histogram<u64>,
    /// The first and the last record that answers came from.
    sequences: Option<(u64, u64)>,
}

impl Load {
    pub fn new(options: &Options) -> anyhow::Result<Load> {
        Ok(Load {
            workload: Workload::new(options),
            commands: Commands::new(),
            left: options.transfers,
            done: 0,
            batch: options.batch,
            in_flight: options.in_flight,
            latency: Histogram::new(3)?,
            sequences: None,
        })
    }

    /// How many records hold what was done, at least one.
    fn records(&self) -> u64 {
        self.sequences.map_or(1, |(first, last)| last - first + 1)
    }

    /// Makes all the transfers; says how many are done now and then.
    pub fn drive(&mut self, connections: &mut [Client], progress: &mut dyn FnMut(u64)) -> anyhow::Result<()> {
        for connection in &mut *connections {
            self.fill(connection)?;
        }
        while self.left > 0 || connections.iter().any(|connection| connection.on_their_way > 0) {
            wait(connections)?;
            for connection in &mut *connections {
                self.serve(connection)?;
            }
            progress(self.done);
        }
        Ok(())
    }

    /// Sends as much as may be on its way.
    fn fill(&mut self, client: &mut Client) -> anyhow::Result<()> {
        let envelope = Envelope { class: 1, ..Envelope::default() };
        while self.left > 0 && client.on_their_way < self.in_flight {
            let n = self.left.min(self.batch as u64);
            self.left -= n;
            self.commands.clear();
            self.workload.fill(n as usize, &mut self.commands);
            let tag = client.connection.submit(&envelope, n as u32, self.commands.as_bytes())?;
            client.sent[(tag & 0xffff_ffff) as usize] = (Instant::now(), n);
            client.on_their_way += 1;
        }
        client.connection.flush();
        Ok(())
    }

    /// Takes answers, and sends anew.
    fn serve(&mut self, client: &mut Client) -> anyhow::Result<()> {
        client.connection.pump();
        let mut taken = false;
        while let Some(answered) = client.connection.take()? {
            ensure!(answered.kind == Kind::Replies, "{:?} with code {}", answered.kind, answered.code);
            let done = answered.replies().all(|reply| reply.is_some_and(|reply| reply.code == Code::Done));
            ensure!(done, "a transfer was refused");
            let (first, last) = self.sequences.unwrap_or((answered.sequence, answered.sequence));
            self.sequences = Some((first.min(answered.sequence), last.max(answered.sequence)));
            let (sent, n) = client.sent[(answered.tag & 0xffff_ffff) as usize];
            self.latency.record(sent.elapsed().as_micros() as u64)?;
            self.done += n;
            client.on_their_way -= 1;
            taken = true;
        }
        if taken { self.fill(client) } else { Ok(()) }
    }
}

/// Waits until some connection can be read.
fn wait(clients: &[Client]) -> anyhow::Result<()> {
    let mut waited: Vec<PollFd<'_>> =
        clients.iter().map(|c| PollFd::from_borrowed_fd(c.connection.as_fd(), PollFlags::IN)).collect();
    let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    ensure!(poll(&mut waited, Some(&patience))? > 0, "nothing was answered for a minute");
    Ok(())
}

/// Saturates the bulk lane from a thread of its own: items of one job, which are transfers too.
struct Bulk {
    thread: JoinHandle<anyhow::Result<BulkRun>>,
    ends: Arc<AtomicBool>,
}

impl Bulk {
    /// Begins, and waits until it is known how long a batch takes with nothing beside it.
    fn start(data: &Path, options: &Options) -> anyhow::Result<Bulk> {
        let sender = BulkSender {
            connection: connect(data, Channel::Collect)?,
            workload: Workload::new(options),
            job: ids::fresh(),
            item: 0,
            on_their_way: 0,
            done: 0,
        };
        let ends = Arc::new(AtomicBool::new(false));
        let (known_to, known) = std::sync::mpsc::channel();
        let ending = ends.clone();
        let thread = std::thread::spawn(move || {
            sender.run(&ending, || {
                let _ = known_to.send(());
            })
        });
        // If it failed instead, its end says why.
        let _ = known.recv();
        Ok(Bulk { thread, ends })
    }

    fn end(self) -> anyhow::Result<BulkRun> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

struct BulkSender {
    connection: Connection,
    workload: Workload,
    job: Id,
    item: u64,
    on_their_way: usize,
    done: u64,
}

impl BulkSender {
    fn run(mut self, ends: &AtomicBool, alone: impl FnOnce()) -> anyhow::Result<BulkRun> {
        // It would be on another machine: it may keep the core busy, not the processors that everybody shares here.
        rustix::process::setpriority_process(None, BULK_NICE)?;
        let begun = Instant::now();
        while begun.elapsed() < BULK_ALONE {
            self.step()?;
        }
        let batches = self.done as f64 / BULK_COMMANDS_MAX as f64;
        let batch_ms = begun.elapsed().as_secs_f64() * 1000.0 / batches.max(1.0);
        alone();
        let (begun, before) = (Instant::now(), self.done);
        while !ends.load(Ordering::Relaxed) {
            self.step()?;
        }
        let commands_per_second = (self.done - before) as f64 / begun.elapsed().as_secs_f64();
        Ok(BulkRun { batch_ms, commands_per_second })
    }

    /// Sends as much as may be on its way, and takes answers.
    fn step(&mut self) -> anyhow::Result<()> {
        while self.on_their_way < BULK_IN_FLIGHT {
            let envelope = Envelope {
                class: 4,
                lane: Lane::Bulk,
                attempt: self.job,
                item: self.item,
                ..Envelope::default()
            };
            let commands = self.workload.transfers(BULK_COMMANDS_MAX);
            self.connection.submit(&envelope, commands.len() as u32, commands.as_bytes())?;
            self.item += commands.len() as u64;
            self.on_their_way += 1;
        }
        self.connection.poll(PATIENCE)?;
        while let Some(answered) = self.connection.take()? {
            ensure!(answered.kind == Kind::Replies, "bulk: {:?}", answered.kind);
            ensure!(answered.replies().all(|r| r.is_some_and(|r| r.code == Code::Done)), "bulk was refused");
            self.done += answered.count as u64;
            self.on_their_way -= 1;
        }
        Ok(())
    }
}

/// Founds a bank and opens the accounts, as numbered items of a job, as a migration would.
pub fn open_accounts(data: &Path, accounts: u64) -> anyhow::Result<()> {
    let rules = pabal_bank::RULES_CURRENT;
    let found = command::found(ids::fresh(), CAPACITY_DEFAULT, ids::random(), rules, ids::today());
    let mut operator = connect(data, Channel::Operator)?;
    operator.submit(&Envelope { class: 1, ..Envelope::default() }, 1, found.as_bytes())?;
    all_done(&mut operator)?;
    let mut import = connect(data, Channel::Import)?;
    let (job, mut item) = (ids::fresh(), 0);
    while item < accounts || import.in_flight() > 0 {
        while item < accounts && import.in_flight() < BULK_IN_FLIGHT {
            let mut commands = Commands::with_capacity(BULK_COMMANDS_MAX * 96);
            for number in item..accounts.min(item + BULK_COMMANDS_MAX as u64) {
                let id = Id::new(ids::now_ms(), 0, number << 2);
                let class = Class::CustomerDeposit;
                commands.push(command::open(id, FIRST + number, class, WON, number + 1, i64::MAX).as_bytes());
            }
            let envelope = Envelope { class: 4, lane: Lane::Bulk, attempt: job, item, ..Envelope::default() };
            item += commands.len() as u64;
            import.submit(&envelope, commands.len() as u32, commands.as_bytes())?;
        }
        all_done(&mut import)?;
    }
    Ok(())
}

/// Waits for one answer at least, and takes what is there.
fn all_done(connection: &mut Connection) -> anyhow::Result<()> {
    connection.poll(PATIENCE)?;
    while let Some(answered) = connection.take()? {
        ensure!(answered.kind == Kind::Replies, "{:?} with code {}", answered.kind, answered.code);
        if let Some(reply) = answered.replies().flatten().find(|reply| reply.code != Code::Done) {
            bail!("the bank could not be set up: {}", reply.code);
        }
    }
    Ok(())
}

/// Makes statements of the newest 50 entries out of a copy, one after the other, as a reader's thread does.
fn statements(data: &Path, accounts: u64) -> anyhow::Result<Statement> {
    let copy = Copy::new(Fold::open(Arc::new(SystemDisk), data, BankMachine::default(), &mut |_| {})?);
    let reader = Reader::open(&data.join(JOURNAL))?.with_cache(HISTORY_BLOCKS);
    let (mut times, mut lines, mut out) = (Histogram::new(3)?, usize::MAX, Vec::new());
    let some = STATEMENT_ACCOUNTS.min(accounts);
    for n in 0..STATEMENTS as u64 + some {
        let asked = Question::statement(FIRST + n % some, STATEMENT_LINES);
        out.clear();
        let begun = Instant::now();
        let question = Question::read(asked.as_bytes()).context("a question")?;
        let answered = copy.answer(&reader, question, 0)?;
        answered.body.context("a body")?(&mut out);
        let ns = begun.elapsed().as_nanos() as u64;
        let (standing, its) = read_answer(&out).context("an answer")?;
        ensure!(answered.kind == Kind::Answer && standing.found == 1, "{:?}", answered.kind);
        lines = lines.min(its.len());
        if n >= some {
            times.record(ns)?;
        }
    }
    Ok(Statement { times, lines })
}

/// Asks the core for statements of the newest 50 entries, one after the other, over the socket.
fn round_trips(data: &Path, accounts: u64) -> anyhow::Result<Histogram<u64>> {
    let mut connection = connect(data, Channel::Api)?;
    let mut latency = Histogram::new(3)?;
    let some = STATEMENT_ACCOUNTS.min(accounts);
    for n in 0..STATEMENTS as u64 + some {
        let question = Question::statement(FIRST + n % some, STATEMENT_LINES);
        let begun = Instant::now();
        connection.query(&Envelope { class: 2, ..Envelope::default() }, 0, question.as_bytes())?;
        loop {
            connection.poll(PATIENCE)?;
            if let Some(answered) = connection.take()? {
                ensure!(answered.kind == Kind::Answer, "{:?}", answered.kind);
                break;
            }
        }
        if n >= some {
            latency.record(begun.elapsed().as_micros() as u64)?;
        }
    }
    Ok(latency)
}
