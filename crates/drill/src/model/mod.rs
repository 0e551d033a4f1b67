//! The bank as one would write it without a thought for speed: plain maps, a list of every posting ever made,
//! balances added up anew each time. It shares no code with the bank but the names of things.
//!
//! *Where entries stand* it cannot know: a journal on disk has blocks, records and closing records between them. So
//! whoever sends says where each entry stands or would stand, in the order of the journal, and the model holds the
//! bank to what follows from it: which posting a reversal names, where a first outcome is read again, where a kept
//! record and the newest entry of an account are found.
//!
//! *Time* is the caller's too: [`Model::now_ms`] is set to the bank's before each sending, and never goes back.
//!
//! Judging, managing and booking are in `decide.rs`; ids, and what is remembered of them, in `window.rs`.

mod compare;
mod decide;
mod window;

pub use compare::{check_digest, compare};

use crate::sent::Sent;
use pabal_bank::ledger::digest::{Digest, Object};
use pabal_bank::ledger::{Class, Code, Id, Op};
use pabal_bank::{Context, Reply};
use std::collections::BTreeMap;

const UNLIMITED: i64 = i64::MAX;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const LINKED: u8 = 1;
const BACKED: u8 = 2;
const RELEASE: u8 = 4;

/// An account; its balance stands nowhere, it is added up.
#[derive(Clone, Debug)]
pub struct Account {
    /// Number of a [`Class`].
    pub class: u16,
    /// ISO 4217 numeric code.
    pub currency: u16,
    /// How far it may fall below zero, minor units; the greatest number for no limit.
    pub overdraft: i64,
    /// The greatest balance, minor units; the greatest number for no limit.
    pub ceiling: i64,
    /// Whether nothing may be paid out of it.
    pub debit_blocked: bool,
    /// Whether nothing may be paid into it.
    pub credit_blocked: bool,
    /// Whether it ended.
    pub closed: bool,
}

/// A posting that was made.
#[derive(Clone, Debug)]
pub struct Booked {
    /// Where its entry stands.
    pub position: u64,
    /// The account that paid.
    pub debit: u64,
    /// The account that got it.
    pub credit: u64,
    /// Minor units.
    pub amount: i64,
    /// Business date on which it was booked.
    pub date: u16,
    /// The posting that this one undoes.
    pub reverses: Option<u64>,
}

/// An open hold.
#[derive(Clone, Debug)]
pub struct Hold {
    /// The account that will pay.
    pub debit: u64,
    /// The account that will get it.
    pub credit: u64,
    /// What was not posted of it yet, minor units.
    pub remaining: i64,
    /// From when on it is unusable; zero for never.
    pub expires_ms: u64,
    /// Where its entry stands.
    pub position: u64,
    /// ISO 4217 numeric code.
    pub currency: u16,
    /// What its postings will be.
    pub kind: u16,
}

/// What the entry of a decided command says of its outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The business date after it.
    pub date: u16,
    /// What was posted, held or released.
    pub kind: u16,
    /// ISO 4217 numeric code.
    pub currency: u16,
    /// Posted, held or released, minor units; of a release of many holds, how many there were.
    pub amount: i64,
    /// What is left: of the hold, of what can be reversed, or whether more holds are due.
    pub remaining: i64,
    /// Where the hold or the reversed posting stands.
    pub evidence: u64,
    /// The account that paid and the one that got it, with their balances after it; zero where nothing was booked.
    pub sides: [(u64, i64); 2],
    /// The holds that were released with it, each with an entry of its own.
    pub released: Vec<(Id, Written)>,
}

/// What became of one command, kept for ever: its bytes, its code, and what its entry says beside them.
#[derive(Clone)]
struct First {
    sent: Sent,
    code: Code,
    written: Written,
}

impl First {
    fn balances(&self) -> (i64, i64) {
        (self.written.sides[0].1, self.written.sides[1].1)
    }
}

/// The bank, written down a second time.
#[derive(Clone, Default)]
pub struct Model {
    /// The capacity of the id window and its key, once founded.
    pub founded: Option<(u32, u64)>,
    /// The bank's time: whoever sends sets it before.
    pub now_ms: u64,
    /// The business date.
    pub date: u16,
    /// The rules in force.
    pub rules: u32,
    /// The newest rules that the bank's program knows.
    pub rules_known: u32,
    /// Accounts by number, closed ones too.
    pub accounts: BTreeMap<u64, Account>,
    /// Every posting ever made, oldest first.
    pub booked: Vec<Booked>,
    /// Open holds, those whose time has passed and that were not released among them.
    pub holds: BTreeMap<Id, Hold>,
    /// Of each job the item wanted next, and whether it ended.
    pub jobs: BTreeMap<Id, (u64, bool)>,
    /// Where each kept record stands, by kind and key.
    pub records: BTreeMap<(u16, u64), u64>,
    /// Ids that are known still, their classes and where they were decided.
    pub window: Vec<(Id, usize, u64)>,
    /// How many commands were decided, refused ones among them: each has an entry of its own.
    pub decided: u64,
    /// How many holds were released because their time had passed: each has an entry, after that of the command
    /// that had them released.
    pub released: u64,
    horizon_ms: u64,
    firsts: BTreeMap<u64, First>,
    /// Where each online id was decided, those that left the window too.
    positions: BTreeMap<Id, u64>,
}

fn refuse(code: Code) -> Reply {
    Reply { code, again: false, position: 0, debit_balance: 0, credit_balance: 0 }
}

impl Model {
    /// A bank that is not founded.
    pub fn new() -> Model {
        Model { rules_known: 3, ..Model::default() }
    }

    // ── what can be asked ────────────────────────────────────────────────────────────────────────

    /// Credits less debits, minor units.
    pub fn balance(&self, number: u64) -> i128 {
        let got: i128 = self.booked.iter().filter(|b| b.credit == number).map(|b| b.amount as i128).sum();
        let paid: i128 = self.booked.iter().filter(|b| b.debit == number).map(|b| b.amount as i128).sum();
        got - paid
    }

    /// What remains on the account's holds, minor units.
    pub fn held(&self, number: u64) -> i128 {
        self.holds.values().filter(|h| h.debit == number).map(|h| h.remaining as i128).sum()
    }

    fn is_expired(&self, hold: &Hold) -> bool {
        hold.expires_ms != 0 && hold.expires_ms <= self.now_ms
    }

    /// What counts against the account's limit: its balance less the holds that still count.
    pub fn free(&self, number: u64) -> i128 {
        let counts = |h: &&Hold| h.debit == number && (self.rules < 2 || !self.is_expired(h));
        let held: i128 = self.holds.values().filter(counts).map(|h| h.remaining as i128).sum();
        self.balance(number) - held
    }

    /// What may be paid out; the greatest number where there is no limit. The account must have been opened.
    pub fn available(&self, number: u64) -> i128 {
        match self.accounts[&number].overdraft {
            UNLIMITED => UNLIMITED as i128,
            overdraft => self.free(number) + overdraft as i128,
        }
    }

    /// How much of the posting at this position was undone, minor units.
    pub fn reversed(&self, position: u64) -> i128 {
        let of = self.booked.iter().filter(|b| b.reverses == Some(position));
        of.map(|b| b.amount as i128).sum()
    }

    /// Position of the account's newest posting; zero for none.
    pub fn head(&self, number: u64) -> u64 {
        let mut of = self.booked.iter().filter(|b| b.debit == number || b.credit == number);
        of.next_back().map_or(0, |b| b.position)
    }

    /// What was decided at this position: the command, its code, and the balances of both sides after it, zero where
    /// nothing was booked.
    pub fn first(&self, position: u64) -> Option<(&Sent, Code, (i64, i64))> {
        self.firsts.get(&position).map(|first| (&first.sent, first.code, first.balances()))
    }

    /// Every command that was decided from this position on and before that one: where its entry stands, what was
    /// sent, its code, and what its entry says beside them.
    pub fn written(&self, from: u64, end: u64) -> impl Iterator<Item = (u64, &Sent, Code, &Written)> {
        self.firsts.range(from..end).map(|(at, first)| (*at, &first.sent, first.code, &first.written))
    }

    /// Where this online id was decided, whether or not it is known still.
    ///
    /// An id is decided once: what leaves the window is too old from then on, by the clock or by the horizon. Only a
    /// founding that is refused, or set aside, stands in no window, as there is none yet; its id may be decided
    /// again, and this is the latest of its positions.
    pub fn position_of(&self, id: Id) -> Option<u64> {
        self.positions.get(&id).copied()
    }

    /// What this command, or this bundle if there are several, would be answered without deciding anything. None when
    /// it is new.
    pub fn recall(&self, context: &Context, sent: &[Sent], malformed: bool) -> Option<Vec<Reply>> {
        match sent {
            _ if malformed => Some(vec![refuse(Code::Malformed); sent.len()]),
            [one] => self.undecided(context, one).map(|reply| vec![reply]),
            _ => self.undecided_bundle(context, sent),
        }
    }

    /// The part of the digest that is not the ledger's own, hashed from what the model holds.
    pub fn digest_above_ledger(&self) -> Digest {
        let mut digest = Digest::default();
        let (capacity, key) = self.founded.unwrap_or((0, 0));
        let (date, rules) = (self.date as u64, self.rules as u64);
        let moment = [3, date, rules, capacity as u64, key, self.now_ms, self.horizon_ms];
        digest.add(Object::Above, &moment);
        for (id, (next, ended)) in &self.jobs {
            digest.add(Object::Above, &[1, id.high, id.low, *next, *ended as u64]);
        }
        for ((kind, key), position) in &self.records {
            digest.add(Object::Above, &[2, *kind as u64, *key, *position]);
        }
        for (id, class, position) in &self.window {
            digest.add(Object::Id, &[id.high, id.low, position | (*class as u64) << 56]);
        }
        digest
    }

    // ── what can be sent ─────────────────────────────────────────────────────────────────────────

    /// What the bank should answer to this command, or to this bundle if there are several. `malformed` says that
    /// some bytes of it were broken on purpose.
    ///
    /// `at` says where the entry of the part of this number stands. It is asked once for each part that is decided,
    /// first to last, and for no other; it must answer with a position after all earlier ones.
    pub fn send(
        &mut self,
        context: &Context,
        sent: &[Sent],
        quarantined: bool,
        malformed: bool,
        at: &mut dyn FnMut(usize) -> u64,
    ) -> Vec<Reply> {
        if let Some(job) = context.job {
            let refused = |code, position| vec![Reply { position, ..refuse(code) }; sent.len()];
            match self.jobs.get(&job) {
                Some((next, true)) => return refused(Code::JobNotOpen, *next),
                Some((next, false)) if *next != context.item => {
                    return refused(Code::JobOutOfOrder, *next);
                }
                None if context.item != 0 => return refused(Code::JobOutOfOrder, 0),
                _ => {}
            }
        }
        if malformed {
            return vec![refuse(Code::Malformed); sent.len()];
        }
        if quarantined {
            return sent
                .iter()
                .enumerate()
                .map(|(part, one)| match self.new_or_known(context, one) {
                    Err(reply) => reply,
                    Ok(()) => self.keep(context, one, at(part), Err(Code::Quarantined)),
                })
                .collect();
        }
        if sent.len() > 1 { self.bundle(context, sent, at) } else { vec![self.one(context, &sent[0], at)] }
    }

    /// The answer to a command that is not to be decided.
    fn undecided(&self, context: &Context, sent: &Sent) -> Option<Reply> {
        let c = sent.command();
        if c.header.flags & LINKED != 0 {
            return Some(refuse(Code::Malformed));
        }
        if let Err(reply) = self.new_or_known(context, sent) {
            return Some(reply);
        }
        if c.header.op == Op::ExpireHolds as u16 && !(1..=1000).contains(&c.amount) {
            return Some(refuse(Code::Malformed));
        }
        let no_class = !Class::ALL.iter().any(|k| *k as u16 == c.kind);
        let malformed = c.header.op == Op::OpenAccount as u16 && (c.debit == 0 || no_class);
        malformed.then_some(refuse(Code::Malformed))
    }

    fn one(&mut self, context: &Context, sent: &Sent, at: &mut dyn FnMut(usize) -> u64) -> Reply {
        if let Some(reply) = self.undecided(context, sent) {
            return reply;
        }
        let position = at(0);
        let done = self.execute(&sent.command(), position, position);
        self.keep(context, sent, position, done)
    }

    /// The answers to a bundle that is not to be decided.
    fn undecided_bundle(&self, context: &Context, sent: &[Sent]) -> Option<Vec<Reply>> {
        let all = |code| Some(vec![refuse(code); sent.len()]);
        for (i, one) in sent.iter().enumerate() {
            let c = one.command();
            let money = [Op::Post, Op::Hold, Op::PostHold, Op::VoidHold, Op::Reverse];
            let is_money = money.iter().any(|op| *op as u16 == c.header.op);
            let is_linked = c.header.flags & LINKED != 0;
            let twice = sent[..i].iter().any(|earlier| earlier.command().id == c.id);
            if !is_money || is_linked == (i + 1 == sent.len()) || twice {
                return all(Code::Malformed);
            }
        }
        let asked: Vec<_> = sent.iter().map(|one| self.new_or_known(context, one)).collect();
        let was_known = |r: &&Result<(), Reply>| matches!(r, Err(k) if k.position != 0);
        let known = asked.iter().filter(was_known).count();
        if known == sent.len() {
            return asked.into_iter().map(Result::err).collect();
        }
        if asked.iter().any(|r| matches!(r, Err(reply) if reply.code == Code::IdTooOld)) {
            return all(Code::IdTooOld);
        }
        if known > 0 {
            return all(Code::BundleMixed);
        }
        match asked.into_iter().filter_map(Result::err).next_back() {
            Some(refused) => all(refused.code),
            None if !self.may_come_together(context, sent) => all(Code::StateFull),
            None => None,
        }
    }

    fn bundle(&mut self, context: &Context, sent: &[Sent], at: &mut dyn FnMut(usize) -> u64) -> Vec<Reply> {
        if let Some(replies) = self.undecided_bundle(context, sent) {
            return replies;
        }
        let positions: Vec<u64> = (0..sent.len()).map(at).collect();
        // What money commands change, to be put back if one of the parts is refused.
        let (booked, holds) = (self.booked.len(), self.holds.clone());
        let mut results = Vec::new();
        for (one, position) in sent.iter().zip(&positions) {
            let result = self.execute(&one.command(), *position, positions[0]);
            let failed = result.is_err();
            results.push(result);
            if failed {
                break;
            }
        }
        if results.iter().any(Result::is_err) {
            self.booked.truncate(booked);
            self.holds = holds;
            let refused = results.len() - 1;
            results[..refused].fill(Err(Code::BundleFailed));
            results.resize(sent.len(), Err(Code::BundleFailed));
        }
        let parts = sent.iter().zip(positions).zip(results);
        parts.map(|((one, position), result)| self.keep(context, one, position, result)).collect()
    }
}
