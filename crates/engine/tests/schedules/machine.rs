//! A counter that remembers what it did for whom. Each entry names the one before it, which is read again from the
//! journal: so the core waits for the writer as a bank does.

use pabal_engine::machine::{Machine, Mode, Sink};
use pabal_engine::request::{Commands, Lane, Refusal, Request, RequestHeader};
use pabal_journal::Position;
use std::collections::BTreeMap;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const ADD: u16 = 1;
/// Stops whoever decides it.
const POISON: u16 = 2;
/// To tell again what became of this id stops the writer.
pub const UNTOLD: u64 = 13;
const UNIT: usize = 64;

/// A command, and with `code`, `total` and `before` its entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Entry {
    op: u16,
    version: u8,
    command_units: u8,
    flags: u8,
    entry_units: u8,
    code: u16,
    id: u64,
    n: u64,
    /// The counter after it.
    total: u64,
    /// The position of the entry before it; zero for the first.
    before: u64,
    spare: [u64; 3],
}

const _: () = assert!(size_of::<Entry>() == UNIT);

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was added.
    Done,
    /// The engine refused it: it was not done.
    Refused(Refusal),
}

/// The answer to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    pub outcome: Outcome,
    /// The counter after it.
    pub total: u64,
    /// Of its entry.
    pub position: u64,
    /// Whether it was decided before.
    pub again: bool,
}

/// The machine.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counter {
    pub total: u64,
    /// Position and counter of each id that was decided.
    pub decided: BTreeMap<u64, (u64, u64)>,
    last: u64,
    /// Entries that were not found again: none, unless the journal has stopped.
    missed: u64,
}

fn command(op: u16, id: u64, n: u64, lane: Lane) -> Request {
    let mut commands = Commands::new();
    commands.push(Entry { op, version: 1, command_units: 1, id, n, ..Entry::default() }.as_bytes());
    Request { header: RequestHeader::new(lane, 1), commands }
}

/// Adds `n` once, however often it is sent.
pub fn add(id: u64, n: u64, lane: Lane) -> Request {
    command(ADD, id, n, lane)
}

/// Stops the core.
pub fn poison(id: u64) -> Request {
    command(POISON, id, 0, Lane::Online)
}

/// The id and the counter that an entry of a record says; None for a request's header.
pub fn read(bytes: &[u8]) -> Option<(u64, u64)> {
    let entry = entry(bytes);
    (entry.op == ADD).then_some((entry.id, entry.total))
}

fn entry(bytes: &[u8]) -> Entry {
    Entry::read_from_prefix(bytes).expect("a unit").0
}

impl Machine for Counter {
    type Reply = Reply;
    type Query = ();
    type Answer = u64;

    fn length(bytes: &[u8]) -> Option<usize> {
        (bytes.len() >= UNIT).then_some(UNIT)
    }

    fn linked(_: &[u8]) -> bool {
        false
    }

    fn units_max(_: &[u8]) -> usize {
        1
    }

    fn begin(&mut self, _: u64) {}

    fn admit(&self, _: &RequestHeader) -> Result<(), Reply> {
        Ok(())
    }

    fn apply(
        &mut self,
        _: &RequestHeader,
        commands: &[&[u8]],
        _: Mode,
        sink: &mut Sink<'_>,
        replies: &mut Vec<Reply>,
    ) {
        for bytes in commands {
            let command = entry(bytes);
            if command.op == POISON {
                // Without the hook that reports a failing test: this panic is part of it.
                std::panic::resume_unwind(Box::new("poison"));
            }
            let mut reply = Reply { outcome: Outcome::Done, total: 0, position: 0, again: false };
            if let Some(&(position, total)) = self.decided.get(&command.id) {
                replies.push(Reply { total, position, again: true, ..reply });
                continue;
            }
            if self.last != 0 {
                match sink.find(Position(self.last)) {
                    Some(before) => assert_eq!(entry(&before).total, self.total, "another than the last"),
                    // The writer has failed before it: what is decided now will not be written.
                    None => self.missed += 1,
                }
            }
            self.total += command.n;
            let (position, place) = sink.entry(1);
            let made = Entry { entry_units: 1, code: 1, total: self.total, before: self.last, ..command };
            place.copy_from_slice(made.as_bytes());
            self.last = position.0;
            self.decided.insert(command.id, (position.0, self.total));
            (reply.total, reply.position) = (self.total, position.0);
            replies.push(reply);
        }
    }

    fn repeats(reply: &Reply) -> Option<Position> {
        reply.again.then_some(Position(reply.position))
    }

    fn again(_: &[u8], bytes: &[u8], position: Position) -> Reply {
        let Entry { id, total, .. } = entry(bytes);
        if id == UNTOLD {
            std::panic::resume_unwind(Box::new("untold"));
        }
        Reply { outcome: Outcome::Done, total, position: position.0, again: true }
    }

    fn recall(&self, _: &RequestHeader, commands: &[&[u8]]) -> Option<Vec<Reply>> {
        let known = |bytes: &&[u8]| {
            let &(position, total) = self.decided.get(&entry(bytes).id)?;
            Some(Reply { outcome: Outcome::Done, total, position, again: true })
        };
        commands.iter().map(known).collect()
    }

    fn refused(refusal: Refusal) -> Reply {
        Reply { outcome: Outcome::Refused(refusal), total: 0, position: 0, again: false }
    }

    fn query(&self, (): &()) -> u64 {
        self.total
    }

    fn save(&self, _: &mut dyn FnMut(&[u8])) {
        unreachable!("no snapshot is made here");
    }

    fn load(&self, _: &mut dyn FnMut(&mut [u8]) -> bool) -> Option<Counter> {
        None
    }

    fn is_outcome(code: u16) -> bool {
        code == 1
    }

    fn digest(&mut self) -> [u8; 16] {
        (u128::from(self.total) << 64 | u128::from(self.last)).to_le_bytes()
    }

    fn rules(&self) -> u32 {
        1
    }

    fn rules_known(&self) -> u32 {
        1
    }

    fn business_date(&self) -> i32 {
        20_000
    }
}
