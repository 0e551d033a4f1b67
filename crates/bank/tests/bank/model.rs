//! The bank as one would write it without a thought for speed: plain maps, a list of every posting ever
//! made, balances added up anew each time. It shares no code with the bank but the names of things.

use crate::sink::Sent;
use pabal_bank::ledger::digest::{Digest, Object};
use pabal_bank::ledger::{Class, Code, Command, Id, Kind, Op};
use pabal_bank::{Context, Reply};
use std::collections::BTreeMap;

const UNLIMITED: i64 = i64::MAX;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const LINKED: u8 = 1;
const BACKED: u8 = 2;
const RELEASE: u8 = 4;

#[derive(Clone, Debug)]
pub struct Account {
    pub class: u16,
    pub currency: u16,
    pub overdraft: i64,
    pub ceiling: i64,
    pub debit_blocked: bool,
    pub credit_blocked: bool,
    pub closed: bool,
}

#[derive(Clone, Debug)]
pub struct Booked {
    pub position: u64,
    pub debit: u64,
    pub credit: u64,
    pub amount: i64,
    pub date: u16,
    /// The posting that this one undoes.
    pub reverses: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct Hold {
    pub debit: u64,
    pub credit: u64,
    pub remaining: i64,
    pub expires_ms: u64,
    pub position: u64,
    pub currency: u16,
    pub kind: u16,
}

/// What became of one command, kept for ever: its bytes, its code, its balances.
#[derive(Clone)]
struct First {
    sent: Sent,
    code: Code,
    balances: (i64, i64),
}

#[derive(Clone)]
pub struct Model {
    pub founded: Option<(u32, u64)>,
    pub now_ms: u64,
    pub date: u16,
    pub rules: u32,
    pub accounts: BTreeMap<u64, Account>,
    pub booked: Vec<Booked>,
    pub holds: BTreeMap<Id, Hold>,
    pub jobs: BTreeMap<Id, (u64, bool)>,
    pub records: BTreeMap<(u16, u64), u64>,
    /// Ids, their classes and where they were decided.
    pub window: Vec<(Id, usize, u64)>,
    horizon_ms: u64,
    firsts: BTreeMap<u64, First>,
    /// Where the next entry will stand.
    pub next: u64,
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

fn refuse(code: Code) -> Reply {
    Reply { code, again: false, position: 0, debit_balance: 0, credit_balance: 0 }
}

fn fits(value: i128) -> Result<i64, Code> {
    i64::try_from(value).map_err(|_| Code::AmountOverflow)
}

impl Model {
    pub fn new() -> Model {
        Model {
            founded: None,
            now_ms: 0,
            date: 0,
            rules: 0,
            accounts: BTreeMap::new(),
            booked: Vec::new(),
            holds: BTreeMap::new(),
            jobs: BTreeMap::new(),
            records: BTreeMap::new(),
            window: Vec::new(),
            horizon_ms: 0,
            firsts: BTreeMap::new(),
            next: 1,
        }
    }

    // ── what can be asked ────────────────────────────────────────────────────────────────────────

    pub fn balance(&self, number: u64) -> i128 {
        let got: i128 = self.booked.iter().filter(|b| b.credit == number).map(|b| b.amount as i128).sum();
        let paid: i128 = self.booked.iter().filter(|b| b.debit == number).map(|b| b.amount as i128).sum();
        got - paid
    }

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

    /// What may be paid out; the greatest number where there is no limit.
    pub fn available(&self, number: u64) -> i128 {
        match self.accounts[&number].overdraft {
            UNLIMITED => UNLIMITED as i128,
            overdraft => self.free(number) + overdraft as i128,
        }
    }

    pub fn reversed(&self, position: u64) -> i128 {
        let of = self.booked.iter().filter(|b| b.reverses == Some(position));
        of.map(|b| b.amount as i128).sum()
    }

    /// Position of the account's newest posting.
    pub fn head(&self, number: u64) -> u64 {
        let mut of = self.booked.iter().filter(|b| b.debit == number || b.credit == number);
        of.next_back().map_or(0, |b| b.position)
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

    /// What the bank should answer to this command or bundle. `malformed` says that some bytes of it
    /// were broken on purpose.
    pub fn send(
        &mut self,
        context: &Context,
        sent: &[Sent],
        quarantined: bool,
        malformed: bool,
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
                .map(|one| match self.new_or_known(context, one) {
                    Err(reply) => reply,
                    Ok(()) => self.keep(context, one, Err(Code::Quarantined)),
                })
                .collect();
        }
        if sent.len() > 1 { self.bundle(context, sent) } else { vec![self.one(context, &sent[0])] }
    }

    fn one(&mut self, context: &Context, sent: &Sent) -> Reply {
        let c = sent.command();
        if c.header.flags & LINKED != 0 {
            return refuse(Code::Malformed);
        }
        if let Err(reply) = self.new_or_known(context, sent) {
            return reply;
        }
        if c.header.op == Op::ExpireHolds as u16 && !(1..=1000).contains(&c.amount) {
            return refuse(Code::Malformed);
        }
        let no_class = !Class::ALL.iter().any(|k| *k as u16 == c.kind);
        if c.header.op == Op::OpenAccount as u16 && (c.debit == 0 || no_class) {
            return refuse(Code::Malformed);
        }
        let at = self.next;
        let done = self.execute(&c, at, at);
        self.keep(context, sent, done)
    }

    fn bundle(&mut self, context: &Context, sent: &[Sent]) -> Vec<Reply> {
        let all = |code| vec![refuse(code); sent.len()];
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
            return asked.into_iter().map(|r| r.expect_err("known")).collect();
        }
        if asked.iter().any(|r| matches!(r, Err(reply) if reply.code == Code::IdTooOld)) {
            return all(Code::IdTooOld);
        }
        if known > 0 {
            return all(Code::BundleMixed);
        }
        if let Some(Err(refused)) = asked.into_iter().rfind(Result::is_err) {
            return all(refused.code);
        }
        let mut tried = self.clone();
        let first = self.next;
        let mut results = Vec::new();
        for (i, one) in sent.iter().enumerate() {
            let result = tried.execute(&one.command(), first + 3 * i as u64, first);
            let failed = result.is_err();
            results.push(result);
            if failed {
                break;
            }
        }
        if results.iter().all(Result::is_ok) {
            (self.booked, self.holds) = (tried.booked, tried.holds);
        } else {
            let at = results.len() - 1;
            for (i, result) in results.iter_mut().enumerate() {
                if i < at {
                    *result = Err(Code::BundleFailed);
                }
            }
            results.resize_with(sent.len(), || Err(Code::BundleFailed));
        }
        sent.iter().zip(results).map(|(one, result)| self.keep(context, one, result)).collect()
    }

    /// Whether the command may be decided; the first outcome or the refusal if not.
    fn new_or_known(&self, context: &Context, sent: &Sent) -> Result<(), Reply> {
        let c = sent.command();
        let Some((capacity, _)) = self.founded else {
            return if c.header.op == Op::Found as u16 { Ok(()) } else { Err(refuse(Code::NotFounded)) };
        };
        if context.job.is_some() {
            return Ok(());
        }
        let time = c.id.time_ms();
        if time > self.now_ms + 5 * 60 * 1000 {
            return Err(refuse(Code::IdAhead));
        }
        if let Some((_, _, position)) = self.window.iter().find(|(id, ..)| *id == c.id) {
            let first = &self.firsts[position];
            if first.sent != *sent {
                return Err(Reply { position: *position, ..refuse(Code::IdConflict) });
            }
            return Err(Reply {
                code: first.code,
                again: true,
                position: *position,
                debit_balance: first.balances.0,
                credit_balance: first.balances.1,
            });
        }
        if time < self.horizon_ms || time + DAY_MS < self.now_ms {
            return Err(refuse(Code::IdTooOld));
        }
        let class = context.class.min(4) as usize;
        // Of what is dated ahead of this half second, a class may have a sixteenth of all.
        let is_ahead = |id: Id| id.time_ms() / 512 > self.now_ms / 512;
        let ahead = self.window.iter().filter(|(id, c, _)| *c == class && is_ahead(*id)).count();
        if is_ahead(c.id) && ahead >= (capacity as usize / 16).max(1) {
            return Err(refuse(Code::StateFull));
        }
        let old = self.window.iter().any(|(id, ..)| self.is_outdated(*id));
        if self.window.len() < capacity as usize || old || self.given_up(class).is_some() {
            Ok(())
        } else {
            Err(refuse(Code::StateFull))
        }
    }

    /// Ids are forgotten by stretches of 512 ms.
    fn is_outdated(&self, id: Id) -> bool {
        (id.time_ms() / 512 + 1) * 512 + DAY_MS < self.now_ms
    }

    /// Which stretch of which class is given up when a new id of this class comes and all is full: the oldest
    /// of the class that is furthest over its share, of those that are over it, or are this one, and whose
    /// oldest has passed.
    fn given_up(&self, coming: usize) -> Option<(u64, usize)> {
        let capacity = self.founded?.0 as i64;
        let mut worst: Option<(i64, u64, usize)> = None;
        for (class, share) in [40, 25, 15, 5, 0].into_iter().enumerate() {
            let of_class = || self.window.iter().filter(|(_, c, _)| *c == class);
            let over = of_class().count() as i64 + (coming == class) as i64 - capacity * share / 100;
            let oldest = of_class().map(|(id, ..)| id.time_ms() / 512).min();
            let Some(stretch) = oldest.filter(|stretch| (stretch + 1) * 512 <= self.now_ms) else { continue };
            if (over > 0 || class == coming) && worst.is_none_or(|(most, ..)| over >= most) {
                worst = Some((over, stretch, class));
            }
        }
        worst.map(|(_, stretch, class)| (stretch, class))
    }

    /// Writes the outcome down for ever, and its id in the window.
    fn keep(&mut self, context: &Context, sent: &Sent, done: Result<(i128, i128, u64), Code>) -> Reply {
        let position = self.next;
        let units = (sent.bytes().len() as u64).div_ceil(64).max(3);
        let (code, balances, more) = match done {
            Ok((debit, credit, more)) => (Code::Done, (debit as i64, credit as i64), more),
            Err(code) => (code, (0, 0), 0),
        };
        self.next += units + 3 * more;
        self.firsts.insert(position, First { sent: sent.clone(), code, balances });
        if let Some(job) = context.job {
            self.jobs.entry(job).or_default().0 += 1;
        } else if let Some((capacity, _)) = self.founded {
            let class = context.class.min(4) as usize;
            let now_ms = self.now_ms;
            self.window.retain(|(id, ..)| (id.time_ms() / 512 + 1) * 512 + DAY_MS >= now_ms);
            if self.window.len() >= capacity as usize
                && let Some((stretch, victim)) = self.given_up(class)
            {
                self.window.retain(|(id, c, _)| *c != victim || id.time_ms() / 512 != stretch);
                self.horizon_ms = self.horizon_ms.max((stretch + 1) * 512);
            }
            self.window.push((sent.command().id, class, position));
        }
        Reply { code, again: false, position, debit_balance: balances.0, credit_balance: balances.1 }
    }

    /// Decides a command at this position; both balances after it (zero where nothing was booked) and how
    /// many entries follow its own. `bundle` is where its bundle begins.
    fn execute(&mut self, c: &Command, at: u64, bundle: u64) -> Result<(i128, i128, u64), Code> {
        let op = Op::ALL.iter().copied().find(|op| *op as u16 == c.header.op).expect("a known op");
        let nothing = Ok((0, 0, 0));
        match op {
            Op::Post => {
                self.judge_way(c)?;
                self.judge_pays(c.debit, c.amount)?;
                self.judge_gets(c.credit, c.amount)?;
                self.book(at, c.debit, c.credit, c.amount, None)
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
                nothing
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
                if amount == hold.remaining || c.header.flags & RELEASE != 0 {
                    self.holds.remove(&c.target);
                } else if let Some(open) = self.holds.get_mut(&c.target) {
                    open.remaining -= amount;
                }
                self.book(at, hold.debit, hold.credit, amount, None)
            }
            Op::VoidHold => {
                let hold = self.holds.get(&c.target).ok_or(Code::HoldNotOpen)?;
                if self.is_expired(hold) {
                    return Err(Code::HoldExpired);
                }
                self.holds.remove(&c.target);
                nothing
            }
            Op::Reverse => self.reverse(c, at, bundle),
            _ => self.manage(op, c, at).map(|more| (0, 0, more)),
        }
    }

    fn reverse(&mut self, c: &Command, at: u64, bundle: u64) -> Result<(i128, i128, u64), Code> {
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
        self.book(at, first.credit, first.debit, amount, Some(of))
    }

    /// Everything that is not money; how many entries follow.
    fn manage(&mut self, op: Op, c: &Command, at: u64) -> Result<u64, Code> {
        match op {
            Op::Found => {
                if self.founded.is_some() {
                    return Err(Code::AlreadyFounded);
                }
                if !(1..=2).contains(&(c.target.high as u32)) {
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
                due.truncate(c.amount as usize);
                for (_, id) in &due {
                    self.holds.remove(id);
                }
                return Ok(due.len() as u64);
            }
            Op::AdvanceDate => {
                if c.value_date.0 <= self.date {
                    return Err(Code::DateNotLater);
                }
                self.date = c.value_date.0;
            }
            Op::ActivateRules => {
                if self.rules != 1 || c.amount != 2 {
                    return Err(Code::RulesUnknown);
                }
                self.rules = 2;
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
        Ok(0)
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
        reverses: Option<u64>,
    ) -> Result<(i128, i128, u64), Code> {
        let date = self.date;
        self.booked.push(Booked { position, debit, credit, amount, date, reverses });
        Ok((self.balance(debit), self.balance(credit), 0))
    }
}
