//! The ledger itself: each command is first judged, then carried out. Judging changes nothing; carrying
//! out cannot fail. Folding an older record is carrying out without judging: whether it was right to decide so is
//! not asked again, only whether it can be done at all. What cannot be done gets another outcome than the recorded
//! one, which replay finds.

mod batch;

use crate::account::{Account, Status, UNLIMITED};
use crate::accounts::{ACCOUNTS_MAX, Accounts};
use crate::code::Code;
use crate::digest::{Digest, Object};
use crate::entry::{Command, Date, Id, Leg, Op, Outcome, Posting, flags};
use crate::history::FarRoots;
use crate::holds::{HOLD_MS_MAX, HOLDS_MAX, Hold, Holds, REVERSAL_DAYS, REVERSED_MAX, Reversal, Reversed};
use crate::rules::{self, Class, Kind};
use crate::saved::{Load, Save};
use crate::undo::Undo;
use batch::{FIRST_BATCH, words};
use pabal_fault::{Bug, planted};

/// When, and under which rules, a command is decided.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The bank's time, milliseconds since 1970.
    pub time_ms: u64,
    /// The business date.
    pub date: Date,
    /// Version of the rules.
    pub rules: u32,
}

/// Whether to judge a command, or to take what a record says was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Judge it.
    Open,
    /// It was decided so.
    Given(Code),
}

/// A money command, with what it needs of the journal.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Its op.
    pub op: Op,
    /// The command.
    pub command: &'a Command,
    /// The entry that a reversal names.
    pub evidence: Option<&'a Posting>,
}

/// The ledger.
pub struct Ledger {
    accounts: Accounts,
    far: FarRoots,
    holds: Holds,
    reversed: Reversed,
    digest: Digest,
    /// Slots touched since the digest was last taken.
    touched: Vec<u32>,
    /// How many of these have been added to the digest already, and are marked no more.
    settled: usize,
    /// The mark of what was touched since then.
    batch: u32,
    undo: Option<Vec<Undo>>,
}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger {
            accounts: Accounts::default(),
            far: FarRoots::default(),
            holds: Holds::default(),
            reversed: Reversed::default(),
            digest: Digest::default(),
            touched: Vec::new(),
            settled: 0,
            batch: FIRST_BATCH,
            undo: None,
        }
    }
}

/// A movement that is fully known: between which slots, how much.
#[derive(Clone, Copy)]
struct Move {
    debit: u32,
    credit: u32,
    amount: i64,
    kind: u16,
    currency: u16,
}

impl Ledger {
    /// The accounts.
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// The open holds.
    pub fn holds(&self) -> &Holds {
        &self.holds
    }

    /// The amounts reversed.
    pub fn reversed(&self) -> &Reversed {
        &self.reversed
    }

    /// The account with this number.
    pub fn account(&self, number: u64) -> Option<&Account> {
        self.accounts.find(number).map(|slot| self.accounts.get(slot))
    }

    /// What may be paid out of the account at this moment, minor units; `UNLIMITED` where there is no limit.
    #[inline]
    pub fn available(&self, account: &Account, moment: &Moment) -> i64 {
        account.available(self.expired(account, moment))
    }

    /// What of the account's holds no longer counts, minor units.
    ///
    /// Under rules 2 and later a hold whose time has passed no longer counts, released or not; under
    /// rules 1 it counted until released.
    #[inline]
    fn expired(&self, account: &Account, moment: &Moment) -> i64 {
        if account.holds == 0 || moment.rules < 2 {
            return 0;
        }
        self.holds.expired_of(account.number, moment.time_ms)
    }

    // ── snapshots ────────────────────────────────────────────────────────────────────────────────

    /// Whether an account's history is so long that roots of it are kept aside.
    pub fn has_far_roots(&self) -> bool {
        self.accounts.iter().any(|account| account.roots.has_far())
    }

    /// Writes the state.
    pub fn save(&self, save: &mut Save<'_>) {
        self.accounts.save(save);
        self.far.save(save);
        self.holds.save(save);
        self.reversed.save(save);
    }

    /// Reads what [`Ledger::save`] wrote; its digest is added up anew. None when it is not that.
    pub fn load(load: &mut Load<'_>) -> Option<Ledger> {
        let accounts = Accounts::load(load)?;
        let far = FarRoots::load(load, accounts.len())?;
        let mut digest = Digest::default();
        for slot in 0..accounts.len() as u32 {
            let account = accounts.get(slot);
            if account.roots.far() != far.len(slot) {
                return None;
            }
            digest.add(Object::Account, &words(account));
        }
        let holds = Holds::load(load, &mut digest)?;
        let reversed = Reversed::load(load, &mut digest)?;
        // Marks are zero: of no batch that is to come.
        Some(Ledger { accounts, far, holds, reversed, digest, ..Ledger::default() })
    }

    // ── money ────────────────────────────────────────────────────────────────────────────────────

    /// Decides a money command whose entry will stand at `position` and carries it out when done. The outcome
    /// is written into `outcome`, all zero before: the entry's own place in the record.
    #[inline]
    pub fn execute(
        &mut self,
        asked: Asked<'_>,
        moment: &Moment,
        position: u64,
        verdict: Verdict,
        outcome: &mut Outcome,
    ) -> Code {
        let Asked { op, command, evidence } = asked;
        let judge = verdict == Verdict::Open;
        let decided = match (verdict, op) {
            (Verdict::Given(code), _) if code != Code::Done => Err(code),
            (_, Op::Post) => self.post(command, moment, position, judge, outcome),
            (_, Op::Hold) => self.hold(command, moment, position, judge, outcome),
            (_, Op::PostHold) => self.post_hold(command, moment, position, judge, outcome),
            (_, Op::VoidHold) => self.void_hold(command, moment, judge, outcome),
            (_, Op::Reverse) => self.reverse(command, evidence, moment, position, judge, outcome),
            _ => Err(Code::Malformed),
        };
        outcome.booking_date = moment.date;
        decided.err().unwrap_or(Code::Done)
    }

    #[inline]
    fn post(
        &mut self,
        c: &Command,
        m: &Moment,
        position: u64,
        judge: bool,
        outcome: &mut Outcome,
    ) -> Result<(), Code> {
        let way = self.resolve(c)?;
        if judge {
            self.judge_path(&way)?;
            self.judge_debit(&way, m)?;
            self.judge_credit(&way)?;
        } else {
            self.can_book(&way)?;
        }
        self.book(way, position, outcome);
        Ok(())
    }

    fn hold(
        &mut self,
        c: &Command,
        m: &Moment,
        position: u64,
        judge: bool,
        outcome: &mut Outcome,
    ) -> Result<(), Code> {
        let way = self.resolve(c)?;
        let backed = c.header.flags & flags::BACKED != 0;
        if judge {
            self.judge_path(&way)?;
            let ends = c.expires_ms > m.time_ms && c.expires_ms <= m.time_ms + HOLD_MS_MAX;
            if if backed { c.expires_ms != 0 } else { !ends } {
                return Err(Code::ExpiryInvalid);
            }
            if self.holds.get(c.id).is_some() {
                return Err(Code::HoldExists);
            }
            self.judge_debit(&way, m)?;
            let held = self.accounts.get(way.debit).held;
            held.checked_add(way.amount).ok_or(Code::AmountOverflow)?;
            self.judge_credit(&way)?;
            if self.holds.len() >= HOLDS_MAX {
                return Err(Code::StateFull);
            }
        } else {
            self.can_hold(c.id, &way)?;
        }
        let hold = Hold {
            debit: c.debit,
            credit: c.credit,
            remaining: way.amount,
            expires_ms: c.expires_ms,
            position,
            currency: way.currency,
            kind: way.kind,
        };
        self.set_hold(c.id, Some(hold));
        self.touch(way.debit);
        let account = self.accounts.get_mut(way.debit);
        account.held += way.amount;
        account.holds += 1;
        *outcome = Outcome {
            kind: way.kind,
            currency: way.currency,
            amount: way.amount,
            remaining: way.amount,
            evidence: position,
            ..Outcome::default()
        };
        Ok(())
    }

    /// Posting a hold asks neither for the limit (the money was reserved) nor for a debit block (the
    /// reservation came first); it does ask whether the credit side still takes credits.
    fn post_hold(
        &mut self,
        c: &Command,
        m: &Moment,
        position: u64,
        judge: bool,
        outcome: &mut Outcome,
    ) -> Result<(), Code> {
        let hold = *self.holds.get(c.target).ok_or(Code::HoldNotOpen)?;
        let debit = self.accounts.find(hold.debit).ok_or(Code::AccountNotFound)?;
        let credit = self.accounts.find(hold.credit).ok_or(Code::AccountNotFound)?;
        let amount = if c.amount == 0 { hold.remaining } else { c.amount };
        let way = Move { debit, credit, amount, kind: hold.kind, currency: hold.currency };
        if judge {
            if hold.is_expired(m.time_ms) && !planted(Bug::ExpiredHoldPosted) {
                return Err(Code::HoldExpired);
            }
            if amount < 0 {
                return Err(Code::AmountInvalid);
            }
            if amount > hold.remaining {
                return Err(Code::HoldExceeded);
            }
            self.judge_credit(&way)?;
            self.judge_overflow(&way)?;
        } else if amount > hold.remaining {
            return Err(Code::HoldExceeded);
        } else {
            self.can_book(&way)?;
        }
        let left = hold.remaining - amount;
        let released = if c.header.flags & flags::RELEASE != 0 { left } else { 0 };
        if !planted(Bug::HoldPostedTwice) {
            self.reduce_hold(c.target, hold, debit, amount + released);
        }
        self.book(way, position, outcome);
        outcome.remaining = if planted(Bug::RestMisstated) { left } else { left - released };
        outcome.evidence = hold.position;
        Ok(())
    }

    fn void_hold(&mut self, c: &Command, m: &Moment, judge: bool, outcome: &mut Outcome) -> Result<(), Code> {
        let hold = *self.holds.get(c.target).ok_or(Code::HoldNotOpen)?;
        if judge && hold.is_expired(m.time_ms) {
            return Err(Code::HoldExpired);
        }
        *outcome = self.release(c.target).ok_or(Code::AccountNotFound)?;
        Ok(())
    }

    /// Ends a hold and gives its money back. None when there is no such hold.
    pub fn release(&mut self, id: Id) -> Option<Outcome> {
        let hold = *self.holds.get(id)?;
        let debit = self.accounts.find(hold.debit)?;
        self.reduce_hold(id, hold, debit, hold.remaining);
        Some(Outcome {
            kind: hold.kind,
            currency: hold.currency,
            amount: hold.remaining,
            evidence: hold.position,
            ..Outcome::default()
        })
    }

    fn reverse(
        &mut self,
        c: &Command,
        evidence: Option<&Posting>,
        m: &Moment,
        position: u64,
        judge: bool,
        outcome: &mut Outcome,
    ) -> Result<(), Code> {
        let original = evidence.filter(|e| e.is_booked()).ok_or(Code::NotReversible)?;
        let of = c.target.low;
        if original.outcome.kind == Kind::Reversal as u16 {
            return Err(Code::NotReversible);
        }
        let open = original.outcome.amount.checked_sub(self.reversed.amount(of));
        let open = open.ok_or(Code::ReversalExceeded)?;
        let amount = if c.amount == 0 { open } else { c.amount };
        let way = Move {
            debit: self.accounts.find(original.outcome.credit.account).ok_or(Code::AccountNotFound)?,
            credit: self.accounts.find(original.outcome.debit.account).ok_or(Code::AccountNotFound)?,
            amount,
            kind: Kind::Reversal as u16,
            currency: original.outcome.currency,
        };
        let way = match planted(Bug::WrongSide) {
            true => Move { debit: way.credit, credit: way.debit, ..way },
            false => way,
        };
        if judge {
            if original.outcome.booking_date.0.saturating_add(REVERSAL_DAYS) < m.date.0 {
                return Err(Code::ReversalTooLate);
            }
            if amount > open || open == 0 {
                return Err(Code::ReversalExceeded);
            }
            if amount <= 0 {
                return Err(Code::AmountInvalid);
            }
            self.judge_debit(&way, m)?;
            self.judge_credit(&way)?;
            if self.reversed.len() >= REVERSED_MAX {
                return Err(Code::StateFull);
            }
        } else if amount > open {
            return Err(Code::ReversalExceeded);
        } else {
            self.can_book(&way)?;
        }
        let before = if planted(Bug::ReversedBeyond) { 0 } else { self.reversed.amount(of) };
        let done = Reversal { amount: before + amount, booked: original.outcome.booking_date };
        let was = self.reversed.set(of, Some(done), &mut self.digest);
        self.remember(Undo::Reversed(of, was));
        self.book(way, position, outcome);
        outcome.remaining = open - amount;
        outcome.evidence = of;
        Ok(())
    }

    // ── judging ──────────────────────────────────────────────────────────────────────────────────

    #[inline(always)]
    fn resolve(&self, c: &Command) -> Result<Move, Code> {
        Ok(Move {
            debit: self.accounts.find(c.debit).ok_or(Code::AccountNotFound)?,
            credit: self.accounts.find(c.credit).ok_or(Code::AccountNotFound)?,
            amount: c.amount,
            kind: c.kind,
            currency: c.currency,
        })
    }

    #[inline(always)]
    fn judge_path(&self, way: &Move) -> Result<(), Code> {
        let (debit, credit) = (self.accounts.get(way.debit), self.accounts.get(way.credit));
        if way.amount <= 0 {
            return Err(Code::AmountInvalid);
        }
        if way.debit == way.credit {
            return Err(Code::SameAccount);
        }
        if debit.currency != way.currency || credit.currency != way.currency {
            return Err(Code::CurrencyMismatch);
        }
        let kind = u8::try_from(way.kind).ok().and_then(Kind::from_u8).ok_or(Code::PathNotPermitted)?;
        if !rules::permits(kind, debit.class(), credit.class()) {
            return Err(Code::PathNotPermitted);
        }
        Ok(())
    }

    #[inline(always)]
    fn judge_debit(&self, way: &Move, m: &Moment) -> Result<(), Code> {
        let account = self.accounts.get(way.debit);
        if account.status.0 != 0 {
            if account.status.has(Status::CLOSED) {
                return Err(Code::AccountClosed);
            }
            if account.status.has(Status::DEBIT_BLOCKED) {
                return Err(Code::DebitBlocked);
            }
        }
        let over = planted(Bug::LimitOffByOne) as i64;
        if account.overdraft != UNLIMITED && self.available(account, m).saturating_add(over) < way.amount {
            return Err(Code::InsufficientFunds);
        }
        self.judge_overflow(way)
    }

    #[inline(always)]
    fn judge_credit(&self, way: &Move) -> Result<(), Code> {
        let account = self.accounts.get(way.credit);
        if account.status.0 != 0 {
            if account.status.has(Status::CLOSED) && !planted(Bug::ClosedCredited) {
                return Err(Code::AccountClosed);
            }
            if account.status.has(Status::CREDIT_BLOCKED) {
                return Err(Code::CreditBlocked);
            }
        }
        let after = account.balance.checked_add(way.amount).ok_or(Code::AmountOverflow)?;
        if after > account.ceiling {
            return Err(Code::CeilingExceeded);
        }
        Ok(())
    }

    #[inline(always)]
    fn judge_overflow(&self, way: &Move) -> Result<(), Code> {
        let account = self.accounts.get(way.debit);
        account.balance.checked_sub(way.amount).ok_or(Code::AmountOverflow)?;
        Ok(())
    }

    // ── what a record says was decided: whether it can be carried out at all ─────────────────────

    fn can_book(&self, way: &Move) -> Result<(), Code> {
        if way.amount <= 0 {
            return Err(Code::AmountInvalid);
        }
        self.judge_overflow(way)?;
        let account = self.accounts.get(way.credit);
        account.balance.checked_add(way.amount).ok_or(Code::AmountOverflow)?;
        Ok(())
    }

    fn can_hold(&self, id: Id, way: &Move) -> Result<(), Code> {
        if way.amount <= 0 {
            return Err(Code::AmountInvalid);
        }
        if self.holds.get(id).is_some() {
            return Err(Code::HoldExists);
        }
        let held = self.accounts.get(way.debit).held;
        held.checked_add(way.amount).ok_or(Code::AmountOverflow)?;
        Ok(())
    }

    /// Whether an account like this can be there beside the others.
    pub fn can_open(&self, account: &Account) -> bool {
        account.number != 0
            && Class::from_u8(account.class).is_some()
            && self.accounts.find(account.number).is_none()
            && self.accounts.len() < ACCOUNTS_MAX
    }

    // ── carrying out ─────────────────────────────────────────────────────────────────────────────

    #[inline(always)]
    fn book(&mut self, way: Move, position: u64, outcome: &mut Outcome) {
        outcome.kind = way.kind;
        outcome.currency = way.currency;
        outcome.amount = way.amount;
        outcome.debit = self.book_leg(way.debit, -way.amount, position);
        outcome.credit = self.book_leg(way.credit, way.amount, position);
    }

    #[inline(always)]
    fn book_leg(&mut self, slot: u32, change: i64, position: u64) -> Leg {
        self.touch(slot);
        let account = self.accounts.get_mut(slot);
        // Read once: reading back what was just stored, together with its neighbour, waits for the store.
        let number = account.number;
        let balance = account.balance.checked_add(change).expect("judged, or recorded by a judge");
        account.balance = balance;
        let (previous, jump) = account.roots.push(position, slot, &mut self.far);
        Leg { account: number, balance, previous, jump }
    }

    fn set_hold(&mut self, id: Id, hold: Option<Hold>) {
        let was = self.holds.set(id, hold, &mut self.digest);
        self.remember(Undo::Hold(id, was));
    }

    fn reduce_hold(&mut self, id: Id, hold: Hold, debit: u32, by: i64) {
        let left = hold.remaining - by;
        self.set_hold(id, (left > 0).then_some(Hold { remaining: left, ..hold }));
        self.touch(debit);
        let account = self.accounts.get_mut(debit);
        account.held -= by;
        assert!(account.held >= 0, "holds of account {} are more than what is held", account.number);
        if left == 0 {
            account.holds -= 1;
        }
    }

    // ── accounts ─────────────────────────────────────────────────────────────────────────────────

    /// Whether an account like this may be opened.
    pub fn judge_open(&self, account: &Account) -> Result<(), Code> {
        if account.number == 0 || Class::from_u8(account.class).is_none() {
            return Err(Code::Malformed);
        }
        if account.overdraft < 0 || account.ceiling < 0 {
            return Err(Code::AmountInvalid);
        }
        if self.accounts.find(account.number).is_some() {
            return Err(Code::AccountExists);
        }
        if self.accounts.len() >= ACCOUNTS_MAX {
            return Err(Code::StateFull);
        }
        Ok(())
    }

    /// Opens it.
    pub fn open(&mut self, account: Account) {
        let slot = self.accounts.insert(Account { touched: self.batch, ..account });
        self.touched.push(slot);
    }

    /// Whether the account may have these limits.
    pub fn judge_limits(
        &self,
        number: u64,
        overdraft: i64,
        ceiling: i64,
        moment: &Moment,
    ) -> Result<(), Code> {
        let account = self.account(number).ok_or(Code::AccountNotFound)?;
        if account.status.has(Status::CLOSED) {
            return Err(Code::AccountClosed);
        }
        if overdraft < 0 || ceiling < 0 {
            return Err(Code::AmountInvalid);
        }
        let free = account.free(self.expired(account, moment));
        if (overdraft != UNLIMITED && free + (overdraft as i128) < 0) || account.balance > ceiling {
            return Err(Code::LimitBelowUse);
        }
        Ok(())
    }

    /// Whether the account may be closed.
    pub fn judge_close(&self, number: u64) -> Result<(), Code> {
        let account = self.account(number).ok_or(Code::AccountNotFound)?;
        if account.status.has(Status::CLOSED) {
            return Err(Code::AccountClosed);
        }
        if account.balance != 0 || account.held != 0 || account.holds != 0 {
            return Err(Code::AccountNotEmpty);
        }
        Ok(())
    }

    /// Changes an account. It must exist.
    pub fn change(&mut self, number: u64, change: impl FnOnce(&mut Account)) {
        let slot = self.accounts.find(number).expect("judged, or recorded by a judge");
        if !planted(Bug::DigestStale) {
            self.touch(slot);
        }
        change(self.accounts.get_mut(slot));
    }

    /// Asks for the index lines of these accounts.
    #[inline]
    pub fn prefetch_index(&self, debit: u64, credit: u64) {
        self.accounts.prefetch_index(debit);
        self.accounts.prefetch_index(credit);
    }

    /// Asks for these accounts, whose index lines have been asked for some commands before.
    #[inline]
    pub fn prefetch(&self, debit: u64, credit: u64) {
        self.accounts.prefetch_account(debit);
        self.accounts.prefetch_account(credit);
    }

    /// Lets go of what the new business date ends.
    pub fn advance_date(&mut self, today: Date) {
        self.reversed.release(today, &mut self.digest);
    }
}
