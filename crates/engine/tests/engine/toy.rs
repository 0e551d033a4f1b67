//! A small state machine: counters, the ids that were decided, the rules. Its commands can be held at a gate,
//! claim room, and crash, so that a test decides what meets what.

use crate::gate;
use pabal_engine::machine::{Machine, Mode, Sink};
use pabal_engine::request::{Refusal, RequestHeader};
use pabal_journal::{Durable, Position};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const ADD: u16 = 1;
const BLOCK: u16 = 2;
const RULES: u16 = 3;
const LOOK: u16 = 4;
const POISON: u16 = 5;
const UNIT: usize = 64;
const LINKED: u8 = 1;
/// In `again_gate`: telling the earlier outcome stops the writer.
const PANIC: u64 = u64::MAX;

pub const DONE: u16 = 1;
pub const REFUSED: u16 = 2;
pub const QUARANTINED: u16 = 3;
pub const CONFLICT: u16 = 4;
pub const OVERLOADED: u16 = 5;
pub const DISK_FULL: u16 = 10;
pub const DEADLINE: u16 = 6;
pub const MALFORMED: u16 = 7;
pub const BLOCKED: u16 = 8;

/// A command. In the journal its entry follows it with one unit more: the value after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Command {
    op: u16,
    version: u8,
    /// Its length.
    pub units: u8,
    flags: u8,
    entry_units: u8,
    pub code: u16,
    pub id: u64,
    pub counter: u64,
    pub n: i64,
    gate: u64,
    again_gate: u64,
    /// Units that it claims beside those that it needs.
    room: u64,
    spare: u64,
}

impl Command {
    fn new(op: u16, id: u64, counter: u64, n: i64) -> Command {
        Command { op, version: 1, units: 1, id, counter, n, ..Command::default() }
    }

    /// Waits at this gate when it is decided for the first time.
    pub fn at(self, gate: &gate::Gate) -> Command {
        Command { gate: gate.id(), ..self }
    }

    /// Whoever tells its earlier outcome waits at this gate.
    pub fn told_at(self, gate: &gate::Gate) -> Command {
        Command { again_gate: gate.id(), ..self }
    }

    /// Telling its earlier outcome stops the writer.
    pub fn untold(self) -> Command {
        Command { again_gate: PANIC, ..self }
    }

    /// Claims so many units more than it needs.
    pub fn claiming(self, room: u64) -> Command {
        Command { room, ..self }
    }

    /// Is so many units long.
    pub fn long(self, units: u8) -> Command {
        Command { units, ..self }
    }

    /// Happens together with the next one.
    pub fn linked(self) -> Command {
        Command { flags: LINKED, ..self }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.as_bytes().to_vec();
        bytes.resize(self.units as usize * UNIT, 0);
        bytes
    }
}

/// Adds to counter 1.
pub fn add(id: u64, n: i64) -> Command {
    Command::new(ADD, id, 1, n)
}

/// Lets nothing of this principal in any more.
pub fn block(id: u64, principal: u64) -> Command {
    Command::new(BLOCK, id, principal, 0)
}

/// Changes the rules in force.
pub fn rules(id: u64, rules: u32) -> Command {
    Command::new(RULES, id, 0, rules as i64)
}

/// Looks at the entry of this position: the value that it left, or -1 when none begins there.
pub fn look(id: u64, position: u64) -> Command {
    Command::new(LOOK, id, 0, position as i64)
}

/// Stops whoever decides it.
pub fn poison(id: u64) -> Command {
    Command::new(POISON, id, 0, 0)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    pub code: u16,
    pub value: i64,
    /// Of its entry; zero when it has none.
    pub position: u64,
    /// Whether it was decided before.
    pub again: bool,
}

impl Reply {
    fn refused(code: u16) -> Reply {
        Reply { code, value: 0, position: 0, again: false }
    }
}

/// What a test sees of the machine while the engine has it.
#[derive(Default)]
pub struct Seen {
    /// Ids handed to the machine by its senders, each with the record that was durable at that moment.
    pub begun: Mutex<Vec<(u64, u64)>>,
    pub modes: Mutex<Vec<Mode>>,
    pub durable: OnceLock<Arc<Durable>>,
}

/// The machine.
pub struct Toy {
    /// Of the batch: part of the state, as a bank's is.
    pub time_ms: u64,
    pub counters: BTreeMap<u64, i64>,
    pub decided: BTreeMap<u64, u64>,
    pub blocked: BTreeSet<u64>,
    pub rules: u32,
    /// The newest rules that this program knows.
    pub known: u32,
    /// What a counter may be at most.
    pub limit: i64,
    /// Makes its digest another one.
    pub salt: u64,
    /// Whether poison takes the process, not only the thread.
    pub lethal: bool,
    pub seen: Arc<Seen>,
}

impl Default for Toy {
    fn default() -> Self {
        Toy {
            time_ms: 0,
            counters: BTreeMap::new(),
            decided: BTreeMap::new(),
            blocked: BTreeSet::new(),
            rules: 1,
            known: 1,
            limit: i64::MAX,
            salt: 0,
            lethal: false,
            seen: Arc::default(),
        }
    }
}

impl Toy {
    pub fn counter(&self) -> i64 {
        self.counters.get(&1).copied().unwrap_or(0)
    }

    fn judge(&self, c: &Command, sink: &mut Sink<'_>) -> (u16, i64) {
        match c.op {
            ADD => {
                let value = self.counters.get(&c.counter).copied().unwrap_or(0) + c.n;
                if (0..=self.limit).contains(&value) { (DONE, value) } else { (REFUSED, value - c.n) }
            }
            LOOK => (DONE, sink.find(Position(c.n as u64)).map_or(-1, |entry| value_of(&entry))),
            POISON if self.lethal => std::process::abort(),
            POISON => panic!("poison"),
            _ => (DONE, c.n),
        }
    }
}

fn command_of(bytes: &[u8]) -> Command {
    Command::read_from_prefix(bytes).expect("as long as a command").0
}

/// The value that an entry says.
pub fn value_of(entry: &[u8]) -> i64 {
    let at = entry[3] as usize * UNIT;
    i64::from_le_bytes(entry[at..at + 8].try_into().expect("eight bytes"))
}

impl Machine for Toy {
    type Reply = Reply;
    /// The counter.
    type Query = u64;
    type Answer = i64;

    fn length(bytes: &[u8]) -> Option<usize> {
        let length = *bytes.get(3)? as usize * UNIT;
        (length > 0 && length <= bytes.len()).then_some(length)
    }

    fn linked(command: &[u8]) -> bool {
        command_of(command).flags & LINKED != 0
    }

    fn units_max(command: &[u8]) -> usize {
        command_of(command).units as usize + 1 + command_of(command).room as usize
    }

    fn begin(&mut self, time_ms: u64) {
        assert!(time_ms >= self.time_ms, "time never goes back");
        self.time_ms = time_ms;
    }

    fn admit(&self, request: &RequestHeader) -> Result<(), Reply> {
        if self.blocked.contains(&request.principal) { Err(Reply::refused(BLOCKED)) } else { Ok(()) }
    }

    fn apply(
        &mut self,
        _request: &RequestHeader,
        commands: &[&[u8]],
        mode: Mode,
        sink: &mut Sink<'_>,
        replies: &mut Vec<Reply>,
    ) {
        for bytes in commands {
            let c = command_of(bytes);
            self.seen.modes.lock().expect("not poisoned").push(mode);
            if mode == Mode::New {
                let durable = self.seen.durable.get().map_or(0, |durable| durable.sequence());
                self.seen.begun.lock().expect("not poisoned").push((c.id, durable));
                gate::pass(c.gate);
            }
            if let Some(&position) = self.decided.get(&c.id) {
                replies.push(Reply { position, again: true, ..Reply::refused(0) });
                continue;
            }
            let (code, value) = match mode {
                Mode::New | Mode::Again => self.judge(&c, sink),
                Mode::Quarantine => (QUARANTINED, 0),
                // A recorded effect is carried out, whatever would be decided today.
                Mode::Fold(REFUSED) => (REFUSED, self.counters.get(&c.counter).copied().unwrap_or(0)),
                Mode::Fold(code) if c.op == ADD => {
                    (code, self.counters.get(&c.counter).copied().unwrap_or(0) + c.n)
                }
                Mode::Fold(code) => (code, c.n),
            };
            match c.op {
                ADD if code == DONE => drop(self.counters.insert(c.counter, value)),
                BLOCK if code == DONE => drop(self.blocked.insert(c.counter)),
                RULES if code == DONE => self.rules = c.n as u32,
                _ => {}
            }
            let units = c.units as usize + 1;
            let (position, entry) = sink.entry(units);
            entry[..bytes.len()].copy_from_slice(bytes);
            entry[5] = units as u8;
            entry[6..8].copy_from_slice(&code.to_le_bytes());
            entry[bytes.len()..bytes.len() + 8].copy_from_slice(&value.to_le_bytes());
            self.decided.insert(c.id, position.0);
            replies.push(Reply { code, value, position: position.0, again: false });
        }
    }

    fn repeats(reply: &Reply) -> Option<Position> {
        reply.again.then_some(Position(reply.position))
    }

    fn again(command: &[u8], entry: &[u8], position: Position) -> Reply {
        let (sent, was) = (command_of(command), command_of(entry));
        assert_ne!(sent.again_gate, PANIC, "the writer was to stop here");
        gate::pass(sent.again_gate);
        let same = (sent.op, sent.counter, sent.n) == (was.op, was.counter, was.n);
        let code = if same { was.code } else { CONFLICT };
        Reply { code, value: value_of(entry), position: position.0, again: true }
    }

    fn refused(refusal: Refusal) -> Reply {
        Reply::refused(match refusal {
            Refusal::Overloaded => OVERLOADED,
            Refusal::DeadlinePassed => DEADLINE,
            Refusal::DiskFull => DISK_FULL,
            Refusal::Malformed => MALFORMED,
        })
    }

    fn query(&self, query: &u64) -> i64 {
        self.counters.get(query).copied().unwrap_or(0)
    }

    fn save(&self, save: &mut dyn FnMut(&[u8])) {
        let mut words = vec![self.time_ms, self.rules as u64, self.counters.len() as u64];
        words.extend(self.counters.iter().flat_map(|(counter, value)| [*counter, *value as u64]));
        words.push(self.decided.len() as u64);
        words.extend(self.decided.iter().flat_map(|(id, position)| [*id, *position]));
        words.push(self.blocked.len() as u64);
        words.extend(&self.blocked);
        words.iter().for_each(|word| save(&word.to_le_bytes()));
    }

    fn load(&self, load: &mut dyn FnMut(&mut [u8]) -> bool) -> Option<Toy> {
        let mut word = || {
            let mut bytes = [0; 8];
            load(&mut bytes).then(|| u64::from_le_bytes(bytes))
        };
        let mut toy = Toy { limit: self.limit, known: self.known, salt: self.salt, ..Toy::default() };
        toy.lethal = self.lethal;
        toy.seen = self.seen.clone();
        toy.time_ms = word()?;
        toy.rules = word()? as u32;
        for _ in 0..word()? {
            toy.counters.insert(word()?, word()? as i64);
        }
        for _ in 0..word()? {
            toy.decided.insert(word()?, word()?);
        }
        for _ in 0..word()? {
            toy.blocked.insert(word()?);
        }
        Some(toy)
    }

    fn is_outcome(code: u16) -> bool {
        (DONE..=BLOCKED).contains(&code)
    }

    fn digest(&mut self) -> [u8; 16] {
        let mut digest = self.salt.wrapping_add(self.rules as u64);
        let mut mix = |a: u64, b: u64| {
            digest = (digest ^ a).wrapping_mul(0x0100_0000_01b3).rotate_left(23) ^ b;
        };
        self.counters.iter().for_each(|(counter, value)| mix(*counter, *value as u64));
        self.decided.iter().for_each(|(id, position)| mix(*id, *position));
        self.blocked.iter().for_each(|principal| mix(*principal, 1));
        mix(self.time_ms, 2);
        (digest as u128).to_le_bytes()
    }

    fn rules(&self) -> u32 {
        self.rules
    }

    fn rules_known(&self) -> u32 {
        self.known
    }

    fn business_date(&self) -> i32 {
        20_000
    }
}
