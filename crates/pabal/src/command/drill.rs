//! The client side of the drills: sends transfers until it is killed, and later counts what came of them.
//!
//! It behaves as every client must: ids are kept before they are sent, an answer counts once it has come,
//! and whatever has no answer is sent again under the same id.

use super::verify;
use crate::ids;
use crate::progress::Bar;
use anyhow::{Context as _, bail, ensure};
use pabal_bank::ledger::entry::COMMAND_BYTES;
use pabal_bank::ledger::{Class, Code, Command, Id, Kind, Op};
use pabal_bank::{Reply, command};
use pabal_core::BankMachine;
use pabal_engine::{
    Commands, Engine, EngineConfig, Lane, Request, RequestHeader, Response, SystemClock, Ticket, TimeSource,
    Unknown,
};
use pabal_journal::JournalConfig;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use zerocopy::{FromBytes, IntoBytes};

const ACCOUNTS: u64 = 100;
pub(super) const FIRST: u64 = 100_000_000;
const WON: u16 = 410;
/// Commands sent again after a start: more than can have been on their way.
const AGAIN: usize = 5_000;
/// Each answered command: its id, its position, its code.
const ACK_BYTES: usize = 32;

/// How `load` sends.
pub struct Load {
    /// Ends after so many requests were answered.
    pub requests: u64,
    /// Blocks of a segment: with few, segments are made often.
    pub segment_blocks: u32,
}

/// Sends until killed, or until so many requests were answered; says how many commands were, and how many of them
/// were refused for now. An error is the one that ended the core.
pub fn load(data: &Path, sent: &Path, acked: &Path, load: Load) -> anyhow::Result<Value> {
    std::fs::create_dir_all(data).with_context(|| data.display().to_string())?;
    // Only what was kept can have been sent.
    let own = std::fs::metadata(sent).is_ok_and(|books| books.len() > 0);
    let engine = start(data, load.segment_blocks, own)?;
    let heard = talk(&engine, sent, acked, load.requests);
    // Why the core ended is known to the core alone: whoever waited for an answer heard only that it is unknown.
    match heard {
        Err(error) if error.is::<Unknown>() => {
            engine.stop()?;
            Err(error)
        }
        heard => {
            let (answered, refused) = heard?;
            engine.stop()?;
            Ok(json!({ "answered": answered, "refused": refused }))
        }
    }
}

/// Starts the bank of this folder. Unless it is the drill's `own` it must be new: a drill opens accounts and moves
/// money without being anybody, which is not to be had in a bank that has customers.
pub(super) fn start(data: &Path, segment_blocks: u32, own: bool) -> anyhow::Result<Engine<BankMachine>> {
    let config = EngineConfig {
        journal: JournalConfig { segment_blocks, ..JournalConfig::default() },
        journal_id: ids::random(),
        time: TimeSource::Clock { clock: Box::<SystemClock>::default(), confirmed_ms: None },
    };
    let (engine, recovery) = Engine::start(data, BankMachine::default(), config, &mut |_| {})?;
    ensure!(own || recovery.commands == 0, "{}: not a bank of this drill's own", data.display());
    Ok(engine)
}

/// Sends until so many requests were answered. Counts commands: answered, and refused for now.
fn talk(
    engine: &Engine<BankMachine>,
    sent: &Path,
    acked: &Path,
    requests: u64,
) -> anyhow::Result<(u64, u64)> {
    let (mut books, mut last) = Books::open(sent, acked)?;
    let again = last.split_off(last.len().saturating_sub(AGAIN));
    let mut waiting = VecDeque::new();
    // What was sent before, in small pieces: each must be answered as it was, or done now.
    for piece in again.chunks(500) {
        waiting.push_back(submit(engine, piece));
    }
    if last.is_empty() && again.is_empty() {
        waiting.push_back(books.send(engine, &founding())?);
    }
    let (mut answered, mut refused) = (0, 0);
    for _ in 0..requests {
        while waiting.len() < 4 {
            let random = ids::random();
            let n = 1 + if random & 7 == 0 { random >> 8 & 511 } else { random >> 8 & 15 };
            waiting.push_back(books.send(engine, &transfers(n))?);
        }
        let replies = books.hear(waiting.pop_front().context("four are waiting")?)?;
        answered += replies.len() as u64;
        refused += replies.iter().filter(|reply| !reply.code.uses_id()).count() as u64;
    }
    Ok((answered, refused))
}

/// The first commands of a bank: itself, and its accounts.
pub(super) fn founding() -> Vec<Command> {
    let mut first = vec![command::found(ids::fresh(), 1 << 20, ids::random(), 2, ids::today())];
    first.extend(
        (0..ACCOUNTS).map(|n| {
            command::open(ids::fresh(), FIRST + n, Class::CustomerDeposit, WON, n + 1, 1_000_000_000)
        }),
    );
    first
}

/// So many transfers between any two of the accounts.
pub(super) fn transfers(n: u64) -> Vec<Command> {
    let transfer = |_| {
        let random = ids::random();
        let from = random % ACCOUNTS;
        let to = (from + 1 + (random >> 32) % (ACCOUNTS - 1)) % ACCOUNTS;
        command::post(ids::fresh(), Kind::Transfer, FIRST + from, FIRST + to, 1 + (random >> 50) as i64, WON)
    };
    (0..n).map(transfer).collect()
}

/// Commands on their way, and where their answers will come.
pub(super) type Sent = (Vec<Command>, Ticket<Response<Reply>>);

pub(super) fn submit(engine: &Engine<BankMachine>, made: &[Command]) -> Sent {
    let mut commands = Commands::with_capacity(made.len() * COMMAND_BYTES);
    for command in made {
        commands.push(command.as_bytes());
    }
    (made.to_vec(), engine.submit(Request { header: RequestHeader::new(Lane::Online, 1), commands }))
}

/// What a client keeps: what it sent, and what it heard.
pub(super) struct Books {
    sent: File,
    acked: File,
}

impl Books {
    /// Opens them; what was sent so far.
    pub fn open(sent: &Path, acked: &Path) -> anyhow::Result<(Books, Vec<Command>)> {
        let append = |path: &Path| OpenOptions::new().create(true).append(true).read(true).open(path);
        let mut books = Books { sent: append(sent)?, acked: append(acked)? };
        let before = commands(&mut books.sent)?;
        Ok((books, before))
    }

    /// Keeps these, then sends them.
    pub fn send(&mut self, engine: &Engine<BankMachine>, made: &[Command]) -> anyhow::Result<Sent> {
        self.sent.write_all(made.as_bytes())?;
        Ok(submit(engine, made))
    }

    /// Waits for the answers and keeps them.
    pub fn hear(&mut self, sent: Sent) -> anyhow::Result<Vec<Reply>> {
        let (made, ticket) = sent;
        let replies = ticket.wait()?.replies;
        let mut heard = Vec::with_capacity(made.len() * ACK_BYTES);
        for (command, reply) in made.iter().zip(&replies) {
            heard.extend_from_slice(command.id.as_bytes());
            heard.extend_from_slice(&reply.position.to_le_bytes());
            heard.extend_from_slice(&(reply.code as u64).to_le_bytes());
        }
        self.acked.write_all(&heard)?;
        Ok(replies)
    }
}

/// The commands kept so far; a last one cut short by a kill was never sent.
fn commands(file: &mut File) -> anyhow::Result<Vec<Command>> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let whole = bytes.len() - bytes.len() % COMMAND_BYTES;
    if whole != bytes.len() {
        file.set_len(whole as u64)?;
    }
    let read = |chunk: &[u8]| Command::read_from_bytes(chunk).ok().context("a command of 96 bytes");
    bytes[..whole].chunks_exact(COMMAND_BYTES).map(read).collect()
}

/// Counts, for everything that was answered, the entries that the journal has.
pub fn check(data: &Path, sent: &Path, acked: &Path) -> anyhow::Result<Value> {
    let mut entries: BTreeMap<Id, Vec<(u64, u16)>> = BTreeMap::new();
    let replayed = verify::replay(data, &Bar::hidden(), &mut |position, entry| {
        // Requests' headers and released holds are no commands that were sent.
        let op = Op::from_u16(entry.command.header.op);
        if op.is_some_and(|op| op != Op::HoldReleased) {
            entries.entry(entry.command.id).or_default().push((position, entry.command.header.code));
        }
    })?;
    let scanned = &replayed.scanned;
    let mut bytes = Vec::new();
    File::open(acked)?.read_to_end(&mut bytes)?;
    // Each id once, however often it was answered; every later answer must be the first one again.
    let mut answers: BTreeMap<Id, (u64, u16)> = BTreeMap::new();
    let (mut found, mut missing, mut doubled, mut differing) = (0u64, 0u64, 0u64, 0u64);
    for ack in bytes.chunks_exact(ACK_BYTES) {
        let word = |i: usize| u64::from_le_bytes(ack[i * 8..i * 8 + 8].try_into().expect("eight bytes"));
        let (id, position, code) = (Id { high: word(0), low: word(1) }, word(2), word(3));
        let Some(code) = u16::try_from(code).ok().and_then(Code::from_u16) else { bail!("a broken answer") };
        if code.uses_id() {
            let answer = (position, code as u16);
            differing += u64::from(*answers.entry(id).or_insert(answer) != answer);
        }
    }
    for (id, answer) in &answers {
        match entries.get(id).map(Vec::as_slice) {
            None => missing += 1,
            Some([one]) => {
                found += 1;
                differing += u64::from(one != answer);
            }
            Some(_) => doubled += 1,
        }
    }
    let acknowledged = answers.len();
    // Also what was never answered must not be there twice.
    let twice = entries.values().filter(|e| e.len() > 1).count() as u64;
    let sent = std::fs::metadata(sent)?.len() / COMMAND_BYTES as u64;
    let good = missing == 0 && doubled == 0 && twice == 0 && differing == 0 && replayed.balanced;
    Ok(json!({
        "sent": sent,
        "acknowledged": acknowledged,
        "found": found,
        "missing": missing,
        "doubled": doubled.max(twice),
        "differing": differing,
        "records": scanned.records,
        "balanced": replayed.balanced,
        "passed": good,
    }))
}
