//! The core in a process of its own, and this one its client, on the core's socket.

use super::ceiling::ceiling;
use super::{FIRST, Options, Run, SEGMENT_BLOCKS, Statement, WON, Workload};
use crate::command::core::{HISTORY_BLOCKS, SOCKET};
use crate::ids;
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
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use zerocopy::IntoBytes;

const PATIENCE: Duration = Duration::from_secs(60);
/// Statements that are asked for, of so many different accounts, each at least once before.
const STATEMENTS: usize = 20_000;
const STATEMENT_ACCOUNTS: u64 = 100;
const STATEMENT_LINES: u16 = 50;
/// Bulk requests on their way.
const BULK_IN_FLIGHT: usize = 8;
/// How often a sample of the throughput is taken.
const SAMPLE: Duration = Duration::from_millis(100);

/// A core that was started; ended when dropped.
struct Core {
    child: Child,
}

impl Core {
    fn start(data: &Path) -> anyhow::Result<Core> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["core", "--segment-blocks", &SEGMENT_BLOCKS.to_string(), "--data"]).arg(data);
        let mut core = Core { child: command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()? };
        let mut lines = BufReader::new(core.child.stdout.take().context("piped")?).lines();
        while let Some(line) = lines.next() {
            if line?.starts_with("ready ") {
                // What it says later is of no interest, but is taken.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(core);
            }
        }
        bail!("the core ended before it was ready")
    }

    /// Of all its threads, or of one: processor time so far, seconds.
    fn cpu_seconds(&self, thread: &str) -> f64 {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{}/task", self.child.id())) else { return 0.0 };
        let spent = tasks.flatten().filter_map(|task| {
            let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
            let spent = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            let nanoseconds: u64 = spent.split(' ').next()?.parse().ok()?;
            (name.trim() == thread).then_some(nanoseconds as f64 / 1e9)
        });
        spent.sum()
    }

    fn resident_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
    }

    /// Ends it in order.
    fn stop(mut self) -> anyhow::Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        ensure!(self.child.wait()?.success(), "the core did not end in order");
        Ok(())
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One run. Statements as a reader makes them are measured when it is to be so: it folds the whole journal for that.
pub fn run(options: &Options, parent: &Path, reads: bool, progress: &dyn Fn(u64)) -> anyhow::Result<Run> {
    let dir = tempfile::Builder::new().prefix("pabal-bench-").tempdir_in(parent)?;
    let data = dir.path().join("data");
    let core = Core::start(&data)?;
    open_accounts(&data, options.accounts)?;
    let mut connections: Vec<Client> =
        (0..options.connections).map(|_| Client::new(&data, options)).collect::<anyhow::Result<_>>()?;
    let mut bulk = if options.bulk { Some(Bulk::new(&data, options)?) } else { None };
    let journal = Reader::open(&data.join(JOURNAL))?;
    let (blocks, cpu) = (journal.extent()?, core.cpu_seconds("pabal-core"));
    let mut load = Load {
        workload: Workload::new(options),
        commands: Commands::new(),
        left: options.transfers,
        done: 0,
        batch: options.batch,
        in_flight: options.in_flight,
        latency: Histogram::new(3)?,
    };
    let begun = Instant::now();
    let mut throughput = Vec::new();
    let (mut sampled, mut sampled_done) = (begun, 0);
    for connection in &mut connections {
        load.fill(connection)?;
    }
    while load.done < options.transfers {
        wait(&connections, bulk.as_ref())?;
        for connection in &mut connections {
            if connection.ready {
                load.serve(connection)?;
            }
        }
        if let Some(bulk) = &mut bulk {
            bulk.serve()?;
        }
        let now = Instant::now();
        if now - sampled >= SAMPLE {
            throughput.push(((now - begun).as_secs_f64(), load.done - sampled_done));
            (sampled, sampled_done) = (now, load.done);
            progress(load.done);
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let core_cpu_seconds = core.cpu_seconds("pabal-core") - cpu;
    let rss_mib = core.resident_mib();
    let bulk_done = bulk.map_or(0, |bulk| bulk.done);
    let statement_round_trip = Some(round_trips(&data, options.accounts)?);
    core.stop()?;
    let statement = reads.then(|| statements(&data, options.accounts)).transpose()?;
    let blocks = journal.extent()? - blocks;
    let record = (blocks * options.batch as u64).div_ceil(options.transfers).max(1);
    Ok(Run {
        seconds,
        ceiling_seconds: ceiling(&dir.path().join("ceiling"), blocks, record as usize)?,
        latency: load.latency,
        core_cpu_seconds,
        rss_mib,
        bytes_an_account: None,
        journal_bytes: (blocks * 4096) as f64,
        statement,
        statement_round_trip,
        throughput,
        bulk: bulk_done,
    })
}

fn connect(data: &Path, channel: Channel) -> anyhow::Result<Connection> {
    let credential = Credentials::of(data, channel)?;
    Ok(Connection::connect(&Address::Unix(data.join(SOCKET)), credential.0, PATIENCE)?)
}

/// A connection that sends transfers.
struct Client {
    connection: Connection,
    /// When the request of each tag's low half was sent.
    sent: Vec<(Instant, u64)>,
    on_their_way: usize,
    ready: bool,
}

impl Client {
    fn new(data: &Path, options: &Options) -> anyhow::Result<Client> {
        let connection = connect(data, Channel::Api)?;
        let most = connection.welcome().in_flight_max as usize;
        ensure!(options.in_flight <= most, "at most {most} requests can be on their way on a connection");
        Ok(Client { connection, sent: vec![(Instant::now(), 0); most], on_their_way: 0, ready: true })
    }
}

struct Load {
    workload: Workload,
    commands: Commands,
    left: u64,
    done: u64,
    batch: usize,
    in_flight: usize,
    latency: Histogram<u64>,
}

impl Load {
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
            let (sent, n) = client.sent[(answered.tag & 0xffff_ffff) as usize];
            self.latency.record(sent.elapsed().as_micros() as u64)?;
            self.done += n;
            client.on_their_way -= 1;
            taken = true;
        }
        if taken { self.fill(client) } else { Ok(()) }
    }
}

/// Waits until some connection can be read, and marks those that can.
fn wait(clients: &[Client], bulk: Option<&Bulk>) -> anyhow::Result<()> {
    let mut waited: Vec<PollFd<'_>> =
        clients.iter().map(|c| PollFd::from_borrowed_fd(c.connection.as_fd(), PollFlags::IN)).collect();
    waited.extend(bulk.map(|bulk| PollFd::from_borrowed_fd(bulk.connection.as_fd(), PollFlags::IN)));
    let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    ensure!(poll(&mut waited, Some(&patience))? > 0, "nothing was answered for a minute");
    Ok(())
}

/// A connection that saturates the bulk lane: items of one job, which are transfers too.
struct Bulk {
    connection: Connection,
    workload: Workload,
    job: Id,
    item: u64,
    on_their_way: usize,
    done: u64,
}

impl Bulk {
    fn new(data: &Path, options: &Options) -> anyhow::Result<Bulk> {
        let connection = connect(data, Channel::Collect)?;
        let workload = Workload::new(options);
        let mut bulk = Bulk { connection, workload, job: ids::fresh(), item: 0, on_their_way: 0, done: 0 };
        bulk.fill()?;
        Ok(bulk)
    }

    fn fill(&mut self) -> anyhow::Result<()> {
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
        self.connection.flush();
        Ok(())
    }

    fn serve(&mut self) -> anyhow::Result<()> {
        self.connection.pump();
        while let Some(answered) = self.connection.take()? {
            ensure!(answered.kind == Kind::Replies, "bulk: {:?}", answered.kind);
            ensure!(answered.replies().all(|r| r.is_some_and(|r| r.code == Code::Done)), "bulk was refused");
            self.done += answered.count as u64;
            self.on_their_way -= 1;
        }
        self.fill()
    }
}

/// Founds a bank and opens the accounts, as numbered items of a job, as a migration would.
fn open_accounts(data: &Path, accounts: u64) -> anyhow::Result<()> {
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
