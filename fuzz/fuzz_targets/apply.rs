//! Any commands, single and bundled, given to a founded bank with a few accounts.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pabal_bank::command;
use pabal_bank::ledger::account::UNLIMITED;
use pabal_bank::ledger::entry::{COMMAND_BYTES, ENCODING, flags};
use pabal_bank::ledger::{Class, Code, Id, Op, Posting};
use pabal_bank::{Bank, Context, Mode, Reply, Sink};
use pabal_fuzz::input::{Aligned, Input};
use pabal_fuzz::seeds::{self, START_MS, TODAY, WON};
use std::collections::BTreeMap;
use zerocopy::{FromBytes, IntoBytes};

fuzz_target!(init: seeds::plant("apply"), |data: &[u8]| {
    let mut input = Input(data);
    let (capacity, rules) = (u32::from(input.u16()), 1 + u32::from(input.u8() % 3));
    let mut bank = Bank::default();
    let mut sink = Memory::default();
    let mut now = START_MS;
    bank.begin(now);
    let mut number = 1 << 20;
    let mut id = || {
        number += 1;
        Id::new(START_MS, 1, number << 2)
    };
    // Not founded: every command but one is refused. Whatever the window holds, the accounts are there.
    let capacity = if capacity == 0 { 1000 } else { capacity };
    let mut first = vec![command::found(id(), capacity.max(64), 7, rules, TODAY)];
    let customers = (1..=3).map(|n| (n, Class::CustomerDeposit, 1000));
    let own = Class::ALL.iter().map(|class| (100 + *class as u64, *class, UNLIMITED));
    first.extend(customers.chain(own).map(|(n, class, most)| command::open(id(), n, class, WON, n, most)));
    let online = Context { class: 1, job: None, item: 0 };
    for command in &first {
        let replies = ask(&mut bank, &online, &[command.as_bytes()], Mode::New, &mut sink);
        assert_eq!(replies[0].code, Code::Done);
    }
    while !input.is_empty() {
        let bits = input.u8();
        // Bits 0 and 1: how many more are in the bundle; 2 to 4: class; 5: bulk; 6: time passes; 7: put into form.
        let commands: Vec<Aligned> =
            (0..=bits & 3).map(|_| Aligned::of(&formed(input.piece(), bits & 0x80 != 0))).collect();
        let commands: Vec<&[u8]> = commands.iter().map(Aligned::bytes).collect();
        let mut context = Context { class: bits >> 2 & 7, job: None, item: 0 };
        if bits & 0x20 != 0 {
            context.job = Some(Id { high: u64::from(input.u8()), low: 0 });
            context.item = u64::from(input.u8());
        }
        if bits & 0x40 != 0 {
            // As far as ids and carried times reach.
            now = now.saturating_add(u64::from(input.u32()) << (input.u8() & 31)).min((1 << 48) - 1);
            bank.begin(now);
        }
        commands.iter().for_each(|command| bank.prefetch_index(command));
        commands.iter().for_each(|command| bank.prefetch(command));
        let (before, admitted) = (sink.entries.len(), bank.admit(&context).is_ok());
        let replies = ask(&mut bank, &context, &commands, Mode::New, &mut sink);
        // An item of a job that has ended hears so, which is final, and leaves nothing.
        let decided = |reply: &&Reply| admitted && reply.code.uses_id() && !reply.again;
        let left = replies.iter().filter(decided).count();
        let made = sink.entries[before..].iter().filter(|e| e.bytes()[4] & flags::CONTINUATION == 0);
        assert_eq!(made.count(), left, "each decision leaves an entry, and nothing else does: {replies:?}");
    }
    let _ = bank.digest();
    let mut sums: BTreeMap<u16, i128> = BTreeMap::new();
    for account in bank.ledger().accounts().iter() {
        *sums.entry(account.currency).or_default() += i128::from(account.balance);
        assert!(account.held >= 0);
    }
    assert!(sums.values().all(|sum| *sum == 0), "debits equal credits: {sums:?}");
});

fn ask(bank: &mut Bank, context: &Context, commands: &[&[u8]], mode: Mode, sink: &mut Memory) -> Vec<Reply> {
    let mut replies = Vec::new();
    bank.apply(context, commands, mode, sink, &mut replies);
    assert_eq!(replies.len(), commands.len(), "an answer for each");
    replies
}

/// The bytes as they are, or put into the form that a command has, so that what it says is looked at.
fn formed(piece: &[u8], form: bool) -> Vec<u8> {
    let mut bytes = piece.to_vec();
    if !form {
        return bytes;
    }
    let length = bytes.len().clamp(COMMAND_BYTES, 63 * 64);
    bytes.resize(length, 0);
    let op = u16::from(bytes[0]) % 15;
    bytes[..2].copy_from_slice(&op.to_le_bytes());
    if op == Op::KeepRecord as u16 {
        // The amount is the record's length.
        bytes[40..48].copy_from_slice(&(length as u64 - COMMAND_BYTES as u64).to_le_bytes());
    } else {
        bytes.truncate(COMMAND_BYTES);
    }
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes[2] = ENCODING;
    bytes[3] = (bytes.len() / 32) as u8;
    bytes[4] &= flags::ALLOWED;
    bytes[5..8].fill(0);
    // Version and variant of the id.
    bytes[9] = bytes[9] & 0x0f | 0x70;
    bytes[23] = bytes[23] & 0x3f | 0x80;
    bytes
}

/// Entries in memory: each at its number, counted from one.
#[derive(Default)]
struct Memory {
    entries: Vec<Place>,
}

/// An entry's place.
struct Place(Vec<u64>);

impl Place {
    fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Sink for Memory {
    type Mark = usize;

    fn entry(&mut self, units: usize) -> (u64, &mut [u8]) {
        assert!((1..=63).contains(&units), "an entry fits a block");
        self.entries.push(Place(vec![0; units * 8]));
        let position = self.entries.len() as u64;
        (position, self.entries.last_mut().expect("just made").0.as_mut_bytes())
    }

    fn find(&mut self, position: u64) -> Option<Posting> {
        let entry = self.entries.get(usize::try_from(position).ok()?.checked_sub(1)?)?;
        Posting::read_from_prefix(entry.bytes()).ok().map(|(posting, _)| posting)
    }

    fn mark(&self) -> usize {
        self.entries.len()
    }

    fn rewind(&mut self, mark: usize) {
        self.entries.truncate(mark);
    }
}
