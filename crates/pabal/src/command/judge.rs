//! What came of what was sent in a drill: the one judge of what is missing, what is there twice, and what was shown
//! that was not so.
//!
//! *What it goes by.* The books of the clients, and the journal, which it decides again from its beginning. Of each
//! account it adds up the amounts of its entries itself: what a reader showed at a record is compared with that sum, and
//! not with what an entry or a copy of the bank says of it.
//!
//! *What it must never do.* Count as found what only an id says: position and outcome are those that were answered, or
//! the answers differ.

use super::drill::{ACK_BYTES, NOT_DONE};
use super::verify::{self, At};
use crate::progress::Bar;
use anyhow::bail;
use pabal_bank::ledger::entry::COMMAND_BYTES;
use pabal_bank::ledger::{Code, Command, Id, Op, Posting};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The books of one client.
pub struct Kept {
    /// What it sent.
    pub sent: PathBuf,
    /// What it was answered.
    pub acked: PathBuf,
    /// What it was shown. Whoever keeps that has asked for everything until it was answered.
    pub shown: Option<PathBuf>,
}

impl Kept {
    /// Those in this folder.
    pub fn within(folder: &Path) -> Kept {
        let [sent, acked, shown] = ["sent", "acked", "shown"].map(|name| folder.join(name));
        Kept { sent, acked, shown: Some(shown) }
    }
}

/// An account as it was shown to somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Shown {
    /// Its number.
    pub account: u64,
    /// The record that was promised to have been seen.
    pub at_least: u64,
    /// The record that it was said to stand at.
    pub sequence: u64,
    /// Its balance.
    pub balance: i64,
    /// Its newest entry.
    pub head: u64,
    /// Lines that were asked for; zero when it was no statement.
    pub limit: u64,
    /// What [`mark`] says of the lines.
    pub mark: u64,
    /// 1 when the core showed it, 0 when the reader did.
    pub by_core: u64,
}

pub const SHOWN_BYTES: usize = size_of::<Shown>();

/// A number that lines of a statement have and others have not: of each, newest first, its position, what was credited
/// and the balance after it.
pub fn mark(lines: impl Iterator<Item = (u64, i64, i64)>) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for (position, amount, balance) in lines {
        hasher.update(position.as_bytes()).update(amount.as_bytes()).update(balance.as_bytes());
    }
    u64::from_le_bytes(*hasher.finalize().as_bytes().first_chunk().expect("32 bytes"))
}

/// Counts what the journal has of what these clients were answered and shown.
pub fn check(data: &Path, kept: &[Kept]) -> anyhow::Result<Value> {
    let mut heard = Heard::default();
    for one in kept {
        heard.take(one)?;
    }
    let mut found = Found::default();
    let replayed = verify::replay(data, &Bar::hidden(), &mut |at, entry| found.take(at, entry))?;
    found.last = replayed.scanned.last.map_or(0, |last| last.sequence);
    let (mut there, mut missing, mut doubled) = (0u64, 0u64, 0u64);
    let mut differing = heard.differing;
    for (id, answer) in &heard.answers {
        match found.entries.get(id).map(Vec::as_slice) {
            None => missing += 1,
            Some([one]) => {
                there += 1;
                differing += u64::from(one != answer);
            }
            Some(_) => doubled += 1,
        }
    }
    // Also what was never answered must not be there twice.
    doubled = doubled.max(found.entries.values().filter(|entries| entries.len() > 1).count() as u64);
    let refused_but_done = heard.not_done.iter().filter(|id| found.entries.contains_key(id)).count();
    let is_open = |id: &&Id| !heard.answers.contains_key(id) && !heard.not_done.contains(id);
    let unresolved = heard.settled.iter().filter(is_open).count();
    let (mut older, mut unlike) = (0u64, 0u64);
    for shown in &heard.shown {
        older += u64::from(shown.sequence < shown.at_least);
        if !found.agrees(shown) {
            unlike += 1;
            if unlike == 1 {
                let stood = found.stood(shown).next();
                eprintln!("shown: {shown:?}\nthe journal, to record {}: {stood:?}", found.last);
            }
        }
    }
    let wrong = missing + doubled + differing + older + unlike;
    let good = wrong == 0 && refused_but_done == 0 && unresolved == 0 && replayed.balanced;
    Ok(json!({
        "sent": heard.sent,
        "acknowledged": heard.answers.len(),
        "found": there,
        "missing": missing,
        "doubled": doubled,
        "differing": differing,
        "refused": heard.not_done.len(),
        "refused_but_done": refused_but_done,
        "unresolved": unresolved,
        "shown": heard.shown.len(),
        "older": older,
        "unlike": unlike,
        "records": replayed.scanned.records,
        "balanced": replayed.balanced,
        "passed": good,
    }))
}

/// What clients sent and heard.
#[derive(Default)]
struct Heard {
    /// Commands that were kept to be sent.
    sent: usize,
    /// Position and code of each that was answered. Each id once, however often it was answered.
    answers: BTreeMap<Id, (u64, u16)>,
    /// Said to be done by no try.
    not_done: BTreeSet<Id>,
    /// Of those who ask until they are answered.
    settled: BTreeSet<Id>,
    shown: Vec<Shown>,
    /// Later answers that were not the first one again.
    differing: u64,
}

impl Heard {
    fn take(&mut self, kept: &Kept) -> anyhow::Result<()> {
        let sent = std::fs::read(&kept.sent)?;
        self.sent += sent.len() / COMMAND_BYTES;
        for ack in std::fs::read(&kept.acked)?.chunks_exact(ACK_BYTES) {
            let word = |i: usize| u64::from_le_bytes(ack[i * 8..i * 8 + 8].try_into().expect("eight bytes"));
            let (id, position, code) = (Id { high: word(0), low: word(1) }, word(2), word(3));
            if code == NOT_DONE {
                self.not_done.insert(id);
                continue;
            }
            let Some(code) = u16::try_from(code).ok().and_then(Code::from_u16) else {
                bail!("a broken answer")
            };
            if code.uses_id() {
                let answer = (position, code as u16);
                self.differing += u64::from(*self.answers.entry(id).or_insert(answer) != answer);
            }
        }
        if let Some(shown) = &kept.shown {
            let ids = sent.chunks_exact(COMMAND_BYTES).filter_map(|c| Command::read_from_bytes(c).ok());
            self.settled.extend(ids.map(|command| command.id));
            let shown = std::fs::read(shown)?;
            self.shown.extend(
                shown.chunks_exact(SHOWN_BYTES).filter_map(|bytes| Shown::read_from_bytes(bytes).ok()),
            );
        }
        Ok(())
    }
}

/// An entry as one of its two accounts has it.
struct Booked {
    sequence: u64,
    position: u64,
    /// What was credited; negative for a debit.
    amount: i64,
    /// The sum of all amounts so far.
    balance: i64,
}

/// What stands in the journal.
#[derive(Default)]
struct Found {
    entries: BTreeMap<Id, Vec<(u64, u16)>>,
    accounts: BTreeMap<u64, Vec<Booked>>,
    /// The last record.
    last: u64,
}

impl Found {
    fn take(&mut self, at: At, entry: &Posting) {
        // Requests' headers and released holds are no commands that were sent.
        let op = Op::from_u16(entry.command.header.op);
        if op.is_some_and(|op| op != Op::HoldReleased) {
            let one = (at.position, entry.command.header.code);
            self.entries.entry(entry.command.id).or_default().push(one);
        }
        if entry.is_booked() {
            let outcome = &entry.outcome;
            for (account, amount) in
                [(outcome.debit.account, -outcome.amount), (outcome.credit.account, outcome.amount)]
            {
                let booked = self.accounts.entry(account).or_default();
                let balance = booked.last().map_or(0, |last| last.balance) + amount;
                booked.push(Booked { sequence: at.sequence, position: at.position, amount, balance });
            }
        }
    }

    /// How the account stood after that record, and at each moment before that it may be shown of: a reader shows the
    /// bank after whole records; the core answers between two requests of the record that it is about to write.
    fn stood(&self, shown: &Shown) -> impl Iterator<Item = Shown> {
        let booked = self.accounts.get(&shown.account).map_or(&[][..], Vec::as_slice);
        let until = |sequence: u64| booked.partition_point(|one| one.sequence <= sequence);
        let last = until(shown.sequence);
        let first = if shown.by_core == 1 { until(shown.sequence.saturating_sub(1)) } else { last };
        (first..=last).rev().map(|entries| {
            let booked = &booked[..entries];
            let (balance, head) = booked.last().map_or((0, 0), |newest| (newest.balance, newest.position));
            let lines = booked.iter().rev().take(shown.limit as usize);
            let mark = mark(lines.map(|one| (one.position, one.amount, one.balance)));
            Shown { balance, head, mark, ..*shown }
        })
    }

    /// Whether it stood like that. A record that is not there says nothing.
    fn agrees(&self, shown: &Shown) -> bool {
        shown.sequence <= self.last && self.stood(shown).any(|stood| stood == *shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> Found {
        let booked = [(3, 70, 10, 10), (3, 71, -4, 6), (5, 90, 1, 7)];
        let booked = booked.map(|(sequence, position, amount, balance)| Booked {
            sequence,
            position,
            amount,
            balance,
        });
        Found { accounts: BTreeMap::from([(1, booked.into())]), last: 5, ..Found::default() }
    }

    #[test]
    fn what_was_shown_is_what_stood_at_that_record() {
        let nothing = mark(std::iter::empty());
        let shown = Shown {
            account: 1,
            at_least: 0,
            sequence: 4,
            balance: 6,
            head: 71,
            limit: 1,
            mark: mark([(71, -4, 6)].into_iter()),
            by_core: 0,
        };
        let found = found();
        assert!(found.agrees(&shown));
        assert!(found.agrees(&Shown { sequence: 3, limit: 0, mark: nothing, ..shown }));
        let before = Shown { sequence: 2, balance: 0, head: 0, mark: nothing, ..shown };
        assert!(found.agrees(&before), "nothing was booked yet");
        assert!(found.agrees(&Shown { account: 2, ..before }));
        // The core answers while record 3 is being put together, and a reader does not.
        let within = Shown { sequence: 3, balance: 10, head: 70, limit: 0, mark: nothing, ..shown };
        for (by_core, sequence, agrees) in [(0, 3, false), (1, 3, true), (1, 4, false), (1, 2, false)] {
            assert_eq!(found.agrees(&Shown { by_core, sequence, ..within }), agrees);
        }
        for wrong in [
            Shown { sequence: 5, ..shown },
            Shown { sequence: 2, ..shown },
            Shown { balance: 7, ..shown },
            Shown { head: 70, ..shown },
            Shown { limit: 2, ..shown },
            Shown { mark: 0, ..shown },
            Shown { account: 2, ..shown },
            // Beyond the last record, where another one may come to stand.
            Shown { sequence: 6, balance: 7, head: 90, mark: mark([(90, 1, 7)].into_iter()), ..shown },
        ] {
            assert!(!found.agrees(&wrong), "{wrong:?}");
        }
    }

    /// What a client keeps and hears, put together by hand.
    #[test]
    fn what_is_open_and_what_was_answered_otherwise_is_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let kept = Kept::within(folder.path());
        let id = |n| Id { high: 1, low: n };
        let sent: Vec<Command> = (1..=4).map(|n| pabal_bank::command::void_hold(id(n), id(9))).collect();
        std::fs::write(&kept.sent, sent.as_bytes()).expect("written");
        let ack = |n: u64, position: u64, code: u64| [1, n, position, code];
        let done = Code::Done as u64;
        let acked =
            [ack(1, 70, done), ack(2, 0, NOT_DONE), ack(1, 70, done), ack(3, 71, done), ack(3, 72, done)];
        std::fs::write(&kept.acked, acked.as_bytes()).expect("written");
        std::fs::write(kept.shown.as_ref().expect("a customer"), [0; SHOWN_BYTES + 1]).expect("written");
        let mut heard = Heard::default();
        heard.take(&kept).expect("read");
        assert_eq!((heard.sent, heard.differing, heard.shown.len()), (4, 1, 1));
        assert_eq!(heard.answers[&id(1)], (70, Code::Done as u16));
        assert!(heard.not_done.contains(&id(2)) && heard.settled.contains(&id(4)));
        assert_eq!(heard.answers.len() + heard.not_done.len(), 3);
    }
}
