//! The client side of the drills: sends transfers until it is killed. What came of them [`judge`](super::judge) counts.
//!
//! It behaves as every client must: ids are kept before they are sent, an answer counts once it has come,
//! and whatever has no answer is sent again under the same id.

use crate::ids;
use anyhow::{Context as _, ensure};
use pabal_bank::ledger::entry::COMMAND_BYTES;
use pabal_bank::ledger::{Class, Command, Kind};
use pabal_bank::{Reply, command};
use pabal_core::BankMachine;
use pabal_engine::{
    Commands, Engine, EngineConfig, Lane, Request, RequestHeader, Response, SystemClock, Ticket, TimeSource,
    Unknown,
};
use pabal_journal::JournalConfig;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use zerocopy::{FromBytes, IntoBytes};

pub(super) const ACCOUNTS: u64 = 100;
pub(super) const FIRST: u64 = 100_000_000;
const WON: u16 = 410;
/// Commands sent again after a start: more than can have been on their way.
const AGAIN: usize = 5_000;
/// Each answered command: its id, its position, its code.
pub(super) const ACK_BYTES: usize = 32;
/// In place of the code: its client said that nothing was done, and never sends it again.
pub(super) const NOT_DONE: u64 = 1 << 32;

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
        let (sent, bytes) = whole(sent, COMMAND_BYTES)?;
        let (acked, _) = whole(acked, ACK_BYTES)?;
        let read = |chunk: &[u8]| Command::read_from_bytes(chunk).ok().context("a command of 96 bytes");
        let before = bytes.chunks_exact(COMMAND_BYTES).map(read).collect::<anyhow::Result<_>>()?;
        Ok((Books { sent, acked }, before))
    }

    /// Keeps these, then sends them.
    pub fn send(&mut self, engine: &Engine<BankMachine>, made: &[Command]) -> anyhow::Result<Sent> {
        self.keep(made)?;
        Ok(submit(engine, made))
    }

    /// Keeps these, which are about to be sent.
    pub fn keep(&mut self, made: &[Command]) -> anyhow::Result<()> {
        Ok(self.sent.write_all(made.as_bytes())?)
    }

    /// Waits for the answers and keeps them.
    pub fn hear(&mut self, sent: Sent) -> anyhow::Result<Vec<Reply>> {
        let (made, ticket) = sent;
        let replies = ticket.wait()?.replies;
        self.heard(made.iter().zip(&replies).map(|(made, reply)| (made, reply.position, reply.code as u64)))?;
        Ok(replies)
    }

    /// Keeps what was heard of these: each with its position and its code, or [`NOT_DONE`].
    pub fn heard<'c>(&mut self, heard: impl Iterator<Item = (&'c Command, u64, u64)>) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        for (command, position, code) in heard {
            bytes.extend_from_slice(command.id.as_bytes());
            bytes.extend_from_slice(&position.to_le_bytes());
            bytes.extend_from_slice(&code.to_le_bytes());
        }
        Ok(self.acked.write_all(&bytes)?)
    }
}

/// Opens a file of pieces of one length, to write behind them; its bytes. A last piece that a kill cut short is none.
pub(super) fn whole(path: &Path, piece: usize) -> anyhow::Result<(File, Vec<u8>)> {
    let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let whole = bytes.len() - bytes.len() % piece;
    if whole != bytes.len() {
        file.set_len(whole as u64)?;
        bytes.truncate(whole);
    }
    Ok((file, bytes))
}
