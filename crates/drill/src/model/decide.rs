//! What a command does when it is decided: money, accounts, and everything else.

use super::{Account, BACKED, Booked, DAY_MS, Hold, Model, RELEASE, UNLIMITED, Written};
use pabal_bank::ledger::{Class, Code, Command, Id, Kind, Op};

impl Model {
    /// Decides a command at this position; what its entry says of it, but for the date. `bundle` is where its
    /// bundle begins.
    pub(super) fn execute(&mut self, c: &Command, at: u64, bundle: u64) -> Result<Written, Code> {
        let op = Op::ALL.iter().copied().find(|op| *op as u16 == c.header.op).expect("a known op");
        match op {
            Op::Post => {
                self.judge_way(c)?;
                self.judge_pays(c.debit, c.amount)?;
                self.judge_gets(c.credit, c.amount)?;
                Ok(self.book(at, c.debit, c.credit, c.amount, c.kind, None))
            }
            Op::Hold => {
                self.judge_way(c)?;
                let backed = c.header.flags & BACKED != 0;
                let ends = c.expires_ms > self.now_ms && c.expires_ms <= self.now_ms + 400 * DAY_MS;
                if backed && c.expires_ms != 0 || !backed && !ends {
                    return Err(Code::ExpiryInvalid);
                }
                if self.holds.contains_key(&c.id) {
                    return Err(Code::HoldExists);
                }
                self.judge_pays(c.debit, c.amount)?;
                fits(self.held(c.debit) + c.amount as i128)?;
                self.judge_gets(c.credit, c.amount)?;
                let hold = Hold {
                    debit: c.debit,
                    credit: c.credit,
                    remaining: c.amount,
                    expires_ms: c.expires_ms,
                    position: at,
                    currency: c.currency,
                    kind: c.kind,
                };
                self.holds.insert(c.id, hold);
                let (kind, currency, amount) = (c.kind, c.currency, c.amount);
                Ok(Written { kind, currency, amount, remaining: amount, evidence: at, ..Written::default() })
            }
            Op::PostHold => {
                let hold = self.holds.get(&c.target).ok_or(Code::HoldNotOpen)?.clone();
                if self.is_expired(&hold) {
                    return Err(Code::HoldExpired);
                }
                let amount = if c.amount == 0 { hold.remaining } else { c.amount };
                if amount < 0 {
                    return Err(Code::AmountInvalid);
                }
                if amount > hold.remaining {
                    return Err(Code::HoldExceeded);
                }
                self.judge_gets(hold.credit, amount)?;
                fits(self.balance(hold.debit) - amount as i128)?;
                let mut remaining = hold.remaining - amount;
                if remaining == 0 || c.header.flags & RELEASE != 0 {
                    self.holds.remove(&c.target);
                    remaining = 0;
                } else if let Some(open) = self.holds.get_mut(&c.target) {
                    open.remaining = remaining;
                }
                let booked = self.book(at, hold.debit, hold.credit, amount, hold.kind, None);
                Ok(Written { remaining, evidence: hold.position, ..booked })
            }
            Op::VoidHold => {
                let hold = self.holds.get(&c.target).ok_or(Code::HoldNotOpen)?;
                if self.is_expired(hold) {
                    return Err(Code::HoldExpired);
                }
                let hold = self.holds.remove(&c.target).expect("just found");
                Ok(ended(&hold))
            }
            Op::Reverse => self.reverse(c, at, bundle),
            _ => self.manage(op, c, at),
        }
    }

    fn reverse(&mut self, c: &Command, at: u64, bundle: u64) -> Result<Written, Code> {
        let of = c.target.low;
        // Parts of one bundle cannot be reversed inside it: none is done until all are.
        let found = self.booked.iter().find(|b| b.position == of && of < bundle);
        let first = found.filter(|b| b.reverses.is_none()).ok_or(Code::NotReversible)?.clone();
        if (first.date as u32 + 400).min(u16::MAX as u32) < self.date as u32 {
            return Err(Code::ReversalTooLate);
        }
        let open = first.amount as i128 - self.reversed(of);
        let amount = if c.amount == 0 { open as i64 } else { c.amount };
        if amount as i128 > open || open == 0 {
            return Err(Code::ReversalExceeded);
        }
        if amount <= 0 {
            return Err(Code::AmountInvalid);
        }
        self.judge_pays(first.credit, amount)?;
        self.judge_gets(first.debit, amount)?;
        let kind = Kind::Reversal as u16;
        let booked = self.book(at, first.credit, first.debit, amount, kind, Some(of));
        Ok(Written { remaining: open as i64 - amount, evidence: of, ..booked })
    }

    /// Everything that is not money.
    fn manage(&mut self, op: Op, c: &Command, at: u64) -> Result<Written, Code> {
        match op {
            Op::Found => {
                if self.founded.is_some() {
                    return Err(Code::AlreadyFounded);
                }
                if !(1..=self.rules_known).contains(&(c.target.high as u32)) {
                    return Err(Code::RulesUnknown);
                }
                self.founded = Some((c.amount.max(1) as u32, c.target.low));
                self.rules = c.target.high as u32;
                self.date = c.value_date.0;
            }
            Op::OpenAccount => {
                let (overdraft, ceiling) = (c.amount, c.target.high as i64);
                if overdraft < 0 || ceiling < 0 {
                    return Err(Code::AmountInvalid);
                }
                if self.accounts.contains_key(&c.debit) {
                    return Err(Code::AccountExists);
                }
                let account = Account {
                    class: c.kind,
                    currency: c.currency,
                    overdraft,
                    ceiling,
                    debit_blocked: false,
                    credit_blocked: false,
                    closed: false,
                };
                self.accounts.insert(c.debit, account);
            }
            Op::ChangeAccount => {
                let mut account = self.accounts.get(&c.debit).ok_or(Code::AccountNotFound)?.clone();
                if account.closed {
                    return Err(Code::AccountClosed);
                }
                if c.kind & 1 != 0 {
                    account.overdraft = c.amount;
                }
                if c.kind & 2 != 0 {
                    account.ceiling = c.target.high as i64;
                }
                if c.kind & 4 != 0 {
                    account.debit_blocked = c.target.low & 1 != 0;
                    account.credit_blocked = c.target.low & 2 != 0;
                }
                if account.overdraft < 0 || account.ceiling < 0 {
                    return Err(Code::AmountInvalid);
                }
                let below =
                    account.overdraft != UNLIMITED && self.free(c.debit) + (account.overdraft as i128) < 0;
                if below || self.balance(c.debit) > account.ceiling as i128 {
                    return Err(Code::LimitBelowUse);
                }
                self.accounts.insert(c.debit, account);
            }
            Op::CloseAccount => {
                let account = self.accounts.get(&c.debit).ok_or(Code::AccountNotFound)?;
                if account.closed {
                    return Err(Code::AccountClosed);
                }
                if self.balance(c.debit) != 0 || self.holds.values().any(|h| h.debit == c.debit) {
                    return Err(Code::AccountNotEmpty);
                }
                let account = self.accounts.get_mut(&c.debit).expect("just found");
                account.closed = true;
                account.debit_blocked = false;
                account.credit_blocked = false;
            }
            Op::ExpireHolds => {
                let mut due: Vec<(u64, Id)> = Vec::new();
                for (id, hold) in &self.holds {
                    if self.is_expired(hold) {
                        due.push((hold.expires_ms, *id));
                    }
                }
                due.sort();
                let more = due.len() > c.amount as usize;
                due.truncate(c.amount as usize);
                let mut end = |(_, id): (u64, Id)| self.holds.remove(&id).map(|hold| (id, ended(&hold)));
                let released: Vec<(Id, Written)> = due.into_iter().filter_map(&mut end).collect();
                let (amount, remaining) = (released.len() as i64, more as i64);
                return Ok(Written { amount, remaining, released, ..Written::default() });
            }
            Op::AdvanceDate => {
                if c.value_date.0 <= self.date {
                    return Err(Code::DateNotLater);
                }
                self.date = c.value_date.0;
            }
            Op::ActivateRules => {
                if c.amount != self.rules as i64 + 1 || c.amount > self.rules_known as i64 {
                    return Err(Code::RulesUnknown);
                }
                self.rules += 1;
            }
            Op::KeepRecord => {
                let key = (c.kind, c.target.low);
                if self.records.contains_key(&key) {
                    return Err(Code::RecordExists);
                }
                self.records.insert(key, at);
            }
            Op::EndJob => match self.jobs.get_mut(&c.target) {
                Some((_, ended)) if !*ended => *ended = true,
                _ => return Err(Code::JobNotOpen),
            },
            _ => unreachable!("money is decided elsewhere"),
        }
        Ok(Written::default())
    }

    // ── judging and booking ──────────────────────────────────────────────────────────────────────

    fn judge_way(&self, c: &Command) -> Result<(), Code> {
        let debit = self.accounts.get(&c.debit).ok_or(Code::AccountNotFound)?;
        let credit = self.accounts.get(&c.credit).ok_or(Code::AccountNotFound)?;
        if c.amount <= 0 {
            return Err(Code::AmountInvalid);
        }
        if c.debit == c.credit {
            return Err(Code::SameAccount);
        }
        if debit.currency != c.currency || credit.currency != c.currency {
            return Err(Code::CurrencyMismatch);
        }
        if !permitted(c.kind, debit.class, credit.class) {
            return Err(Code::PathNotPermitted);
        }
        Ok(())
    }

    fn judge_pays(&self, number: u64, amount: i64) -> Result<(), Code> {
        let account = &self.accounts[&number];
        if account.closed {
            return Err(Code::AccountClosed);
        }
        if account.debit_blocked {
            return Err(Code::DebitBlocked);
        }
        if account.overdraft != UNLIMITED && self.available(number) < amount as i128 {
            return Err(Code::InsufficientFunds);
        }
        fits(self.balance(number) - amount as i128).map(|_| ())
    }

    fn judge_gets(&self, number: u64, amount: i64) -> Result<(), Code> {
        let account = &self.accounts[&number];
        if account.closed {
            return Err(Code::AccountClosed);
        }
        if account.credit_blocked {
            return Err(Code::CreditBlocked);
        }
        let after = fits(self.balance(number) + amount as i128)?;
        if after > account.ceiling { Err(Code::CeilingExceeded) } else { Ok(()) }
    }

    fn book(
        &mut self,
        position: u64,
        debit: u64,
        credit: u64,
        amount: i64,
        kind: u16,
        reverses: Option<u64>,
    ) -> Written {
        let date = self.date;
        self.booked.push(Booked { position, debit, credit, amount, date, reverses });
        let sides = [debit, credit].map(|number| (number, self.balance(number) as i64));
        let currency = self.accounts[&debit].currency;
        Written { kind, currency, amount, sides, ..Written::default() }
    }
}

/// What is said of a hold that ends without having been posted.
fn ended(hold: &Hold) -> Written {
    Written {
        kind: hold.kind,
        currency: hold.currency,
        amount: hold.remaining,
        evidence: hold.position,
        ..Written::default()
    }
}

/// Whether the posting-rule table should have this path: written down a second time, from what the
/// kinds mean.
fn permitted(kind: u16, debit: u16, credit: u16) -> bool {
    let find = |n: u16| Class::ALL.iter().copied().find(|c| *c as u16 == n);
    let (Some(debit), Some(credit)) = (find(debit), find(credit)) else { return false };
    let Some(kind) = Kind::ALL.iter().copied().find(|k| *k as u16 == kind) else { return false };
    use Class::*;
    let customer_pays = debit == CustomerDeposit;
    let customer_gets = credit == CustomerDeposit;
    match kind {
        Kind::Transfer => customer_pays && customer_gets,
        Kind::CashDeposit => debit == Cash && customer_gets,
        Kind::CashWithdrawal => customer_pays && credit == Cash,
        Kind::CardWithdrawal => customer_pays && (credit == Cash || credit == Settlement),
        Kind::TransferIn => debit == Settlement && customer_gets,
        Kind::TransferOut => customer_pays && credit == Settlement,
        Kind::Fee => customer_pays && credit == FeeIncome,
        Kind::Interest => debit == InterestExpense && customer_gets,
        Kind::PenaltyInterest => customer_pays && credit == PenaltyIncome,
        Kind::HouseholdPayment => customer_pays && credit == HouseholdPayments,
        Kind::InsurancePayment => customer_pays && credit == Insurance,
        Kind::PensionCredit => debit == Pension && customer_gets,
        Kind::LoanPayment => customer_pays && credit == Loan,
        Kind::Rounding => customer_pays && credit == Rounding || debit == Rounding && customer_gets,
        Kind::Reversal => false,
        Kind::SuspenseMove => {
            debit == Settlement && credit == Suspense
                || debit == Suspense && (customer_gets || credit == Settlement)
        }
    }
}

fn fits(value: i128) -> Result<i64, Code> {
    i64::try_from(value).map_err(|_| Code::AmountOverflow)
}
