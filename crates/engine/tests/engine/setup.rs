//! What every test needs: an engine on a folder, requests, and the journal read from its files.

use crate::child::none_in_the_making;
use crate::gate::PATIENCE;
use crate::toy::{Command, Reply, Toy, value_of};
use pabal_engine::request::REQUEST_OP;
use pabal_engine::{
    Clock, Commands, Engine, EngineConfig, Error, Lane, Recovery, Request, RequestHeader, Response, Ticket,
    TimeSource, Unknown,
};
use pabal_journal::{JournalConfig, RecordKind, verify};
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use zerocopy::FromBytes;

/// The time of the hand clock unless a test moves it.
pub const NOW_MS: u64 = 1_800_000_000_000;
/// Small segments, so that records come to their borders.
pub const SEGMENT_BLOCKS: u32 = 64;

/// A clock that is moved by hand: wall milliseconds and monotonic microseconds.
#[derive(Clone)]
pub struct HandClock(Arc<Mutex<(u64, u64)>>);

impl HandClock {
    pub fn at(wall_ms: u64) -> HandClock {
        HandClock(Arc::new(Mutex::new((wall_ms, 0))))
    }

    /// Lets time pass.
    pub fn pass(&self, ms: u64) {
        self.jump(ms as i64);
        self.0.lock().expect("not poisoned").1 += ms * 1000;
    }

    /// Sets the wall clock forward or back; no time passes.
    pub fn jump(&self, ms: i64) {
        let mut clock = self.0.lock().expect("not poisoned");
        clock.0 = clock.0.checked_add_signed(ms).expect("after 1970");
    }

    pub fn source(&self, confirmed_ms: Option<u64>) -> TimeSource {
        TimeSource::Clock { clock: Box::new(self.clone()), confirmed_ms }
    }
}

impl Clock for HandClock {
    fn wall_ms(&mut self) -> u64 {
        self.0.lock().expect("not poisoned").0
    }

    fn monotonic_us(&mut self) -> u64 {
        self.0.lock().expect("not poisoned").1
    }
}

pub fn try_start(
    data: &Path,
    toy: Toy,
    time: TimeSource,
    segment_blocks: u32,
) -> Result<(Engine<Toy>, Recovery), Error> {
    none_in_the_making();
    let seen = toy.seen.clone();
    let journal = JournalConfig { segment_blocks, ..JournalConfig::default() };
    let started = Engine::start(data, toy, EngineConfig { journal, journal_id: 7, time }, &mut |_| {})?;
    let _ = seen.durable.set(started.0.durable());
    Ok(started)
}

/// An engine on small segments, whose clock stands still.
pub fn start(data: &Path, toy: Toy) -> (Engine<Toy>, Recovery) {
    try_start(data, toy, HandClock::at(NOW_MS).source(None), SEGMENT_BLOCKS).expect("started")
}

pub fn request(header: RequestHeader, commands: &[Command]) -> Request {
    let mut all = Commands::new();
    commands.iter().for_each(|command| all.push(&command.bytes()));
    Request { header, commands: all }
}

pub fn online(commands: &[Command]) -> Request {
    request(RequestHeader::new(Lane::Online, 1), commands)
}

pub fn bulk(commands: &[Command]) -> Request {
    request(RequestHeader::new(Lane::Bulk, 4), commands)
}

/// Waits for what must be heard: an answer, or that it is unknown. Silence fails the test.
pub fn heard<R: Send + 'static>(ticket: Ticket<R>) -> Result<R, Unknown> {
    let (to, answer) = sync_channel(1);
    std::thread::spawn(move || to.send(ticket.wait()));
    answer.recv_timeout(PATIENCE).expect("whoever waits must hear something")
}

/// Sends online commands and gives what they hear.
pub fn ask(engine: &Engine<Toy>, commands: &[Command]) -> Response<Reply> {
    heard(engine.submit(online(commands))).expect("answered")
}

pub fn codes(response: &Response<Reply>) -> Vec<u16> {
    response.replies.iter().map(|reply| reply.code).collect()
}

/// A record as it stands in the journal.
#[derive(Debug)]
pub struct Written {
    pub sequence: u64,
    pub kind: u16,
    pub rules: u32,
    pub time_ms: u64,
    pub requests: Vec<WrittenRequest>,
}

#[derive(Debug)]
pub struct WrittenRequest {
    pub header: RequestHeader,
    pub entries: Vec<Entry>,
}

/// A command with what was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: u64,
    pub code: u16,
    pub value: i64,
    pub position: u64,
}

impl Written {
    pub fn ids(&self) -> Vec<u64> {
        self.requests.iter().flat_map(|request| request.entries.iter().map(|entry| entry.id)).collect()
    }
}

/// All records in the files of this folder, whose engine has ended.
pub fn records(data: &Path) -> Vec<Written> {
    none_in_the_making();
    let mut all = Vec::new();
    verify(&data.join("journal"), &mut |record| {
        let h = record.header;
        let (sequence, kind, rules, time_ms) = (h.sequence, h.kind, h.rules, h.time_ms);
        let mut requests: Vec<WrittenRequest> = Vec::new();
        for (position, bytes) in record.entries() {
            if bytes[..2] == REQUEST_OP.to_le_bytes() {
                let header = RequestHeader::read_from_bytes(bytes).expect("64 bytes");
                requests.push(WrittenRequest { header, entries: Vec::new() });
                continue;
            }
            let (command, _) = Command::read_from_prefix(bytes).expect("as long as a command");
            let entry =
                Entry { id: command.id, code: command.code, value: value_of(bytes), position: position.0 };
            requests.last_mut().expect("a request's header is first").entries.push(entry);
        }
        all.push(Written { sequence, kind, rules, time_ms, requests });
        Ok(())
    })
    .expect("sound");
    all
}

/// Those that hold commands.
pub fn batches(data: &Path) -> Vec<Written> {
    let mut all = records(data);
    all.retain(|record| record.kind == RecordKind::Batch as u16);
    all
}

/// The ids of each batch.
pub fn ids(data: &Path) -> Vec<Vec<u64>> {
    batches(data).iter().map(Written::ids).collect()
}

/// All entries, in order.
pub fn entries(data: &Path) -> Vec<Entry> {
    batches(data).iter().flat_map(|r| &r.requests).flat_map(|r| &r.entries).copied().collect()
}
