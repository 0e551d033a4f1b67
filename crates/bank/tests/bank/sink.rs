//! A journal in memory for tests, and a teller who sends commands to a bank that writes to it.

use pabal_bank::ledger::{Command, Date, Id, Op, Posting, entry::flags};
use pabal_bank::{Bank, Context, Mode, RULES_CURRENT, Reply, command};
use pabal_drill::sent::Sent;
use std::collections::BTreeSet;
use zerocopy::FromBytes;

/// Bytes of a unit: positions count units, and the first is 1.
const UNIT: usize = 64;
/// Time at which every test begins.
pub const START_MS: u64 = 1_800_000_000_000;
/// Date on which every test begins.
pub const START_DATE: Date = Date(20_833);
/// South Korean won.
pub const KRW: u16 = 410;
/// United States dollars.
pub const USD: u16 = 840;

/// Entries in memory.
#[derive(Default)]
pub struct Memory {
    bytes: Vec<u8>,
    starts: BTreeSet<u64>,
}

impl Memory {
    /// The position that the next entry gets.
    pub fn next(&self) -> u64 {
        (self.bytes.len() / UNIT) as u64 + 1
    }

    /// All bytes of the entry that begins at this position.
    pub fn entry_at(&self, position: u64) -> Option<&[u8]> {
        self.starts.get(&position)?;
        let from = (position as usize - 1) * UNIT;
        let units = self.bytes[from + 5] as usize;
        self.bytes.get(from..from + units * UNIT)
    }

    /// The posting that begins at this position.
    pub fn posting(&self, position: u64) -> Option<Posting> {
        Posting::read_from_prefix(self.entry_at(position)?).ok().map(|(posting, _)| posting)
    }

    /// Entries from this position on, with their positions.
    pub fn entries(&self, from: u64) -> impl Iterator<Item = (u64, &[u8])> {
        self.starts.range(from..).map(|&at| (at, self.entry_at(at).expect("it begins there")))
    }
}

impl pabal_bank::Sink for Memory {
    type Mark = u64;

    fn entry(&mut self, units: usize) -> (u64, &mut [u8]) {
        assert!((1..=63).contains(&units), "an entry has 1 to 63 units, not {units}");
        let position = self.next();
        let from = self.bytes.len();
        self.bytes.resize(from + units * UNIT, 0);
        self.starts.insert(position);
        (position, &mut self.bytes[from..])
    }

    fn find(&mut self, position: u64) -> Option<Posting> {
        self.posting(position)
    }

    fn mark(&self) -> u64 {
        self.next()
    }

    fn rewind(&mut self, mark: u64) {
        self.bytes.truncate((mark as usize - 1) * UNIT);
        self.starts.split_off(&mark);
    }
}

/// What was written by one sending.
#[derive(Clone, Copy)]
struct Group {
    time_ms: u64,
    context: Context,
    quarantined: bool,
    /// The rules in force before it.
    rules: u32,
    first: u64,
    end: u64,
}

/// How a journal is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Everything is decided again.
    Decide,
    /// Everything is folded.
    Fold,
    /// As a program does that knows rules up to this version: those are decided, older ones folded.
    Knowing(u32),
}

/// Online, in the admission class of confirmed transfers.
pub const ONLINE: Context = Context { class: 1, job: None, item: 0 };

/// A bank, its journal in memory, and a clock that the test moves.
pub struct Teller {
    pub bank: Bank,
    pub journal: Memory,
    pub now_ms: u64,
    groups: Vec<Group>,
    ids: u64,
}

impl Teller {
    /// With a bank that is not founded.
    pub fn new() -> Teller {
        Teller {
            bank: Bank::default(),
            journal: Memory::default(),
            now_ms: START_MS,
            groups: Vec::new(),
            ids: 0,
        }
    }

    /// With a bank that was founded.
    pub fn founded(capacity: u32, rules: u32) -> Teller {
        let mut teller = Teller::new();
        let id = teller.id();
        let replies = teller.send(&[command::found(id, capacity, 7, rules, START_DATE).into()]);
        assert_eq!(replies[0].code, pabal_bank::ledger::Code::Done);
        teller
    }

    /// An id of its own made now.
    pub fn id(&mut self) -> Id {
        self.id_at(self.now_ms)
    }

    /// An id of its own made at this time.
    pub fn id_at(&mut self, time_ms: u64) -> Id {
        self.ids += 1;
        Id::new(time_ms, (self.ids % 4096) as u16, self.ids << 2)
    }

    /// Sends one command, or one bundle, online.
    pub fn send(&mut self, commands: &[Sent]) -> Vec<Reply> {
        self.send_as(&ONLINE, commands, false)
    }

    /// Sends one command online; its reply.
    pub fn ask(&mut self, command: Command) -> Reply {
        self.send(&[command.into()])[0]
    }

    /// Sends one command, or one bundle; the replies as their receiver sees them.
    pub fn send_as(&mut self, context: &Context, commands: &[Sent], quarantined: bool) -> Vec<Reply> {
        self.bank.begin(self.now_ms);
        if let Err(reply) = self.bank.admit(context) {
            return vec![reply; commands.len()];
        }
        let (first, rules) = (self.journal.next(), self.bank.moment().rules);
        let bytes: Vec<&[u8]> = commands.iter().map(Sent::bytes).collect();
        bytes.iter().for_each(|command| self.bank.prefetch_index(command));
        bytes.iter().for_each(|command| self.bank.prefetch(command));
        let mode = if quarantined { Mode::Quarantine } else { Mode::New };
        let mut replies = Vec::new();
        self.bank.apply(context, &bytes, mode, &mut self.journal, &mut replies);
        assert_eq!(replies.len(), commands.len(), "one reply a command");
        let end = self.journal.next();
        if end > first {
            let (time_ms, context) = (self.now_ms, *context);
            self.groups.push(Group { time_ms, context, quarantined, rules, first, end });
        }
        for (reply, sent) in replies.iter_mut().zip(commands) {
            if reply.again {
                let entry = self.journal.entry_at(reply.position).expect("`again` names an entry");
                let first = self.journal.posting(reply.position).expect("an entry is as long as a posting");
                *reply = Reply::again(&sent.command(), sent.bytes(), &first, entry, reply.position);
            }
        }
        replies
    }

    /// Replays the journal into a new bank: entries and digest must be the same.
    pub fn check_replay(&mut self, how: Replay) {
        let mut bank = Bank::knowing(if let Replay::Knowing(rules) = how { rules } else { RULES_CURRENT });
        let mut journal = Memory::default();
        for group in &self.groups {
            bank.begin(group.time_ms);
            let entries: Vec<&[u8]> = self
                .journal
                .entries(group.first)
                .take_while(|(at, _)| *at < group.end)
                .map(|e| e.1)
                .collect();
            let again = match how {
                Replay::Decide => true,
                Replay::Fold => false,
                Replay::Knowing(rules) => group.rules == rules,
            };
            replay_group(&mut bank, &mut journal, group, &entries, again, how);
        }
        bank.begin(self.bank.moment().time_ms);
        assert_eq!(journal.bytes.len(), self.journal.bytes.len(), "{how:?}: length of the journal");
        assert!(journal.bytes == self.journal.bytes, "{how:?}: bytes of the journal");
        assert_eq!(bank.digest(), self.bank.digest(), "{how:?}: digest");
        assert_eq!(bank.ids(), self.bank.ids(), "{how:?}: ids in the window");
    }
}

fn replay_group(
    bank: &mut Bank,
    journal: &mut Memory,
    group: &Group,
    entries: &[&[u8]],
    again: bool,
    how: Replay,
) {
    let mut sent = Vec::new();
    for entry in entries {
        let (posting, _) = Posting::read_from_prefix(entry).expect("as long as a posting");
        if posting.command.header.op == Op::HoldReleased as u16 {
            continue;
        }
        let length = command::length(entry).expect("an entry begins with its command");
        let command = Sent::new(&entry[..length]).with(|c| (c.header.entry_units, c.header.code) = (0, 0));
        sent.push((command, posting.command.header.code));
    }
    let mut at = 0;
    while at < sent.len() {
        let mut end = at + 1;
        let mode = if group.quarantined {
            Mode::Quarantine
        } else if again {
            while end < sent.len() && sent[end - 1].0.command().header.flags & flags::LINKED != 0 {
                end += 1;
            }
            Mode::Again
        } else {
            Mode::Fold(pabal_bank::ledger::Code::from_u16(sent[at].1).expect("a known code"))
        };
        let bytes: Vec<&[u8]> = sent[at..end].iter().map(|(s, _)| s.bytes()).collect();
        let mut replies = Vec::new();
        bank.apply(&group.context, &bytes, mode, journal, &mut replies);
        for (reply, (sent, code)) in replies.iter().zip(&sent[at..end]) {
            assert_eq!(reply.code as u16, *code, "{how:?}: {:?} was decided otherwise", sent.command());
        }
        at = end;
    }
}
