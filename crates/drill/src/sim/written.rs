//! A record as it is read from the journal, and what it should say: who asked, what was asked, to the byte, and what
//! was decided. Where an entry's history goes on is judged where statements are read.

use super::judge::wrong;
use crate::model::{Model, Written};
use crate::sent::Sent;
use pabal_bank::ledger::entry::flags;
use pabal_bank::ledger::{Code, Command, Date, Id, Leg, Op, Outcome, Posting};
use pabal_engine::RequestHeader;
use pabal_engine::request::REQUEST_OP;
use pabal_journal::{Record, UNITS};
use std::collections::{BTreeMap, VecDeque};
use zerocopy::{FromBytes, IntoBytes};

const CHECK: &str = "record says otherwise";

/// What was true when a record was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// Commands decided until then.
    pub decided: usize,
    /// The business date.
    pub date: u16,
    /// The rules in force.
    pub rules: u32,
    /// The bank's time.
    pub now_ms: u64,
}

/// A request as it was sent.
pub struct Asked {
    /// Its header, with its count.
    pub header: RequestHeader,
    /// Checks of its commands.
    pub commands: Vec<u32>,
}

/// Compares a record with what was asked and decided when it was made.
pub fn check(record: &Record<'_>, made: &Made, model: &Model, asked: &BTreeMap<u64, Asked>) {
    let h = record.header;
    let said = (h.business_date, h.rules, h.time_ms);
    if said != (made.date as i32, made.rules, made.now_ms) {
        wrong(CHECK, format!("record {} says {said:?}, should be {made:?}", h.sequence));
    }
    let from = record.start_block * UNITS as u64;
    let mut should = model.written(from, from + h.blocks as u64 * UNITS as u64);
    let mut released: VecDeque<(Id, &(Id, Written))> = VecDeque::new();
    let mut set_aside = None;
    for (position, entry) in record.entries() {
        let (posting, _) = Posting::read_from_prefix(entry).unwrap_or_default();
        if entry[..2] == REQUEST_OP.to_le_bytes() {
            let (header, _) = RequestHeader::read_from_prefix(entry).expect("an entry has a unit at least");
            check_header(&header, asked);
            set_aside = Some(header.flags == RequestHeader::QUARANTINED);
        } else if entry[4] & flags::CONTINUATION != 0 {
            let should = released.pop_front().map(|(by, (hold, written))| release(by, *hold, written));
            if should != Some(posting) {
                wrong(CHECK, format!("{position}: {posting:?}, should be {should:?}"));
            }
        } else {
            let Some((at, sent, code, written)) = should.next().filter(|_| released.is_empty()) else {
                wrong(CHECK, format!("{position}: {posting:?} was not decided"));
            };
            let expected = expected(sent, code, written, &posting, entry.len());
            if at != position.0 || entry != expected || set_aside != Some(code == Code::Quarantined) {
                wrong(CHECK, format!("{position}: {posting:?}, at {at} {code} {written:?} of {sent:?}"));
            }
            released.extend(written.released.iter().map(|released| (sent.command().id, released)));
        }
    }
    if let Some((at, sent, ..)) = should.next() {
        wrong(CHECK, format!("record {} leaves out {sent:?} at {at}", h.sequence));
    }
    if let Some((by, _)) = released.front() {
        wrong(CHECK, format!("record {} leaves out a hold that {by} released", h.sequence));
    }
}

/// Whoever asked stands there as they said; what only the engine may say it says.
fn check_header(said: &RequestHeader, asked: &BTreeMap<u64, Asked>) {
    let Some(Asked { header, .. }) = asked.get(&said.principal) else {
        wrong(CHECK, format!("nobody sent {said:?}"));
    };
    // What stopped the bank is tried alone, with what came before it, piece by piece.
    let whole = said.count == header.count && said.item == header.item;
    let moved = said.item.wrapping_sub(header.item) < header.count as u64 && header.is_bulk();
    let part = said.count < header.count && (said.item == header.item || moved);
    let in_form = RequestHeader {
        op: REQUEST_OP,
        version: 1,
        command_units: 0,
        flags: said.flags & RequestHeader::QUARANTINED,
        entry_units: 1,
        code: 0,
        count: said.count,
        item: said.item,
        ..*header
    };
    if *said != in_form || !(whole || part) {
        wrong(CHECK, format!("{said:?} was sent as {header:?}"));
    }
}

/// All bytes of the entry of this command; `found` is asked only where its sides' histories go on.
fn expected(sent: &Sent, code: Code, written: &Written, found: &Posting, length: usize) -> Vec<u8> {
    let mut entry = sent.bytes().to_vec();
    entry.resize(length, 0);
    entry[5] = (length / 64) as u8;
    entry[6..8].copy_from_slice(&(code as u16).to_le_bytes());
    if sent.command().header.op != Op::KeepRecord as u16 {
        let legs = [found.outcome.debit, found.outcome.credit];
        let outcome = outcome(written, legs);
        entry[size_of::<Command>()..].copy_from_slice(outcome.as_bytes());
    }
    entry
}

fn outcome(written: &Written, found: [Leg; 2]) -> Outcome {
    let side = |side: usize| match written.sides[side] {
        (0, _) => Leg::default(),
        (account, balance) => Leg { account, balance, ..found[side] },
    };
    Outcome {
        booking_date: Date(written.date),
        kind: written.kind,
        currency: written.currency,
        debit: side(0),
        credit: side(1),
        amount: written.amount,
        remaining: written.remaining,
        evidence: written.evidence,
        ..Outcome::default()
    }
}

/// The entry of a hold that this command released.
fn release(by: Id, hold: Id, written: &Written) -> Posting {
    let mut command = Command { target: hold, ..Command::of(Op::HoldReleased, by) };
    command.header.flags = flags::CONTINUATION;
    command.header.entry_units = (size_of::<Posting>() / 64) as u8;
    command.header.code = Code::Done as u16;
    Posting { command, outcome: outcome(written, [Leg::default(); 2]) }
}
