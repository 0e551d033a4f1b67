//! The state machine: what a command does.

use crate::command::{self, BUNDLE_MAX, EXPIRE_MAX, change};
use crate::jobs::{Job, Jobs};
use crate::reply::Reply;
use crate::{RULES_CURRENT, RULES_OLDEST};
use pabal_fault::{Bug, planted};
use pabal_ledger::account::{Account, Status};
use pabal_ledger::digest::{Digest, Object};
use pabal_ledger::entry::{ENTRY_UNITS, flags};
use pabal_ledger::saved::{Load, Save, load_count, load_words, save_words};
use pabal_ledger::window::{CLASSES, Seen, Window};
use pabal_ledger::{Asked, Code, Command, Date, Id, Ledger, Moment, Op, Outcome, Posting, Verdict};
use std::collections::BTreeMap;
use zerocopy::{FromBytes, IntoBytes};

/// Where entries are written, and earlier ones found: the engine's record buffer and journal.
pub trait Sink {
    /// A place for an entry of this many units of 64 bytes: its position and its bytes, all zero.
    fn entry(&mut self, units: usize) -> (u64, &mut [u8]);
    /// The entry that begins at this position, here or in the journal. None when none begins there.
    fn find(&mut self, position: u64) -> Option<Posting>;
    /// A place to go back to.
    type Mark: Copy;
    /// How far has been written.
    fn mark(&self) -> Self::Mark;
    /// Takes back everything written since the mark.
    fn rewind(&mut self, mark: Self::Mark);
}

/// What came with the command.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Admission class, 0 to 4.
    pub class: u8,
    /// The job, when this is bulk work.
    pub job: Option<Id>,
    /// The number of the item in the job: that of the first of the commands at hand.
    pub item: u64,
}

/// How to treat a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is new: decide it.
    New,
    /// It is in the journal under the current rules: decide it again.
    Again,
    /// It is in the journal under older rules: carry out what was decided.
    Fold(Code),
    /// It stopped the core twice: record that it was set aside.
    Quarantine,
}

/// The form in which the state is saved. Another form takes the next number; a snapshot of another form is passed over.
const SAVED: u64 = 1;
/// Kept records at most; at the bound new ones are refused with `state_full`.
const RECORDS_MAX: usize = 16 << 20;

/// The bank.
pub struct Bank {
    ledger: Ledger,
    window: Option<Window>,
    jobs: Jobs,
    /// Where each kept record stands.
    records: BTreeMap<(u16, u64), u64>,
    /// Of everything but the ledger's own objects.
    digest: Digest,
    moment: Moment,
    /// The newest rules that this program knows: [`RULES_CURRENT`], or less where the way back is tried.
    rules_known: u32,
    capacity: u32,
    key: u64,
}

impl Default for Bank {
    fn default() -> Bank {
        Bank::knowing(RULES_CURRENT)
    }
}

impl Bank {
    /// A bank, not founded yet, that knows rules up to this version.
    pub fn knowing(rules: u32) -> Bank {
        Bank {
            ledger: Ledger::default(),
            window: None,
            jobs: Jobs::default(),
            records: BTreeMap::new(),
            digest: Digest::default(),
            moment: Moment { time_ms: 0, date: Date(0), rules: 0 },
            rules_known: rules,
            capacity: 0,
            key: 0,
        }
    }

    /// The ledger.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// When, and under which rules, the bank decides now.
    pub fn moment(&self) -> Moment {
        self.moment
    }

    /// The newest rules that this program knows.
    pub fn rules_known(&self) -> u32 {
        self.rules_known
    }

    /// Whether it was founded.
    pub fn is_founded(&self) -> bool {
        self.window.is_some()
    }

    /// How far a job has come: the next item, and whether it ended.
    pub fn job(&self, id: Id) -> Option<(u64, bool)> {
        self.jobs.get(id).map(|job| (job.next, job.ended))
    }

    /// All jobs: id, next item, whether ended.
    pub fn jobs(&self) -> impl Iterator<Item = (Id, u64, bool)> {
        self.jobs.iter().map(|(id, job)| (*id, job.next, job.ended))
    }

    /// Kept records: kind, key and position.
    pub fn records(&self) -> impl Iterator<Item = (u16, u64, u64)> {
        self.records.iter().map(|(&(kind, key), &position)| (kind, key, position))
    }

    /// Ids in the window.
    pub fn ids(&self) -> u64 {
        self.window.as_ref().map_or(0, Window::len)
    }

    /// Begins a batch at this time.
    pub fn begin(&mut self, time_ms: u64) {
        assert!(time_ms >= self.moment.time_ms, "the bank's time never goes back");
        self.moment.time_ms = time_ms;
    }

    /// Whether bulk work may go on with this item; if not, why, and the item wanted next.
    #[inline]
    pub fn admit(&self, context: &Context) -> Result<(), Reply> {
        let Some(job) = context.job else { return Ok(()) };
        self.jobs
            .admit(job, context.item)
            .map_err(|(code, next)| Reply { position: next, ..Reply::refused(code) })
    }

    /// The answers to a command, or to a bundle when there are several, where nothing is to be decided: what
    /// [`Bank::apply`] would answer without an entry. That their ids are too old is among it: then nobody may be told
    /// that they were not done. None when they are new. Changes nothing.
    pub fn recall(&self, context: &Context, commands: &[&[u8]]) -> Option<Vec<Reply>> {
        let [bytes] = commands else {
            return self.bundle_let_in(context, commands).err();
        };
        let refused = match command::read(bytes) {
            Ok((_, command)) if is_linked(command) => Reply::refused(Code::Malformed),
            Ok((op, command)) => self.let_in(context, op, command).err()?,
            Err(code) => Reply::refused(code),
        };
        Some(vec![refused])
    }

    /// Asks for what says where the memory stands that this command will touch.
    #[inline]
    pub fn prefetch_index(&self, command: &[u8]) {
        let Ok((command, _)) = Command::ref_from_prefix(command) else { return };
        self.ledger.prefetch_index(command.debit, command.credit);
        if let Some(window) = &self.window {
            window.prefetch(command.id);
        }
    }

    /// Asks for that memory, some commands after [`Bank::prefetch_index`].
    #[inline]
    pub fn prefetch(&self, command: &[u8]) {
        let Ok((command, _)) = Command::ref_from_prefix(command) else { return };
        self.ledger.prefetch(command.debit, command.credit);
    }

    /// Decides one command, or one bundle when there are several, and appends a reply for each.
    ///
    /// A reply with `again` set stands for an earlier entry: whoever releases it reads that entry and
    /// makes the answer with [`Reply::again`].
    #[inline]
    pub fn apply<S: Sink>(
        &mut self,
        context: &Context,
        commands: &[&[u8]],
        mode: Mode,
        sink: &mut S,
        replies: &mut Vec<Reply>,
    ) {
        // An item that left no entry (malformed, a bound) keeps its number: those after it do not move up.
        if !matches!(mode, Mode::Fold(_))
            && let Err(reply) = self.admit(context)
        {
            return replies.extend(std::iter::repeat_n(reply, commands.len()));
        }
        if let Mode::New | Mode::Again = mode
            && commands.len() > 1
        {
            return self.bundle(context, commands, mode, sink, replies);
        }
        // What was decided of a bundle's parts stands in each part's own entry.
        for bytes in commands {
            let reply = self.one(context, bytes, mode, sink);
            replies.push(reply);
        }
    }

    // ── one command ──────────────────────────────────────────────────────────────────────────────

    #[inline]
    fn one<S: Sink>(&mut self, context: &Context, bytes: &[u8], mode: Mode, sink: &mut S) -> Reply {
        let (op, command) = match command::read(bytes) {
            Ok(read) => read,
            Err(code) => return Reply::refused(code),
        };
        if is_linked(command) && matches!(mode, Mode::New | Mode::Again) {
            return Reply::refused(Code::Malformed);
        }
        // An outcome that leaves no entry stands in no journal that a bank wrote.
        if let Mode::Fold(code) = mode
            && !code.uses_id()
        {
            return Reply::refused(code);
        }
        // What is folded was let in when it was recorded, a bundle's parts together: nothing is asked again.
        if !matches!(mode, Mode::Fold(_)) {
            if let Err(reply) = self.is_new(context, op, command) {
                return reply;
            }
            if mode != Mode::Quarantine
                && let Err(code) = self.bounded(op, command)
            {
                return Reply::refused(code);
            }
        }
        self.decide(context, op, command, bytes, mode, sink)
    }

    /// Whether this id may be decided now: not known, not too old, and there is room to keep it.
    #[inline]
    fn is_new(&self, context: &Context, op: Op, command: &Command) -> Result<(), Reply> {
        let Some(window) = &self.window else {
            let found = op == Op::Found;
            return if found { Ok(()) } else { Err(Reply::refused(Code::NotFounded)) };
        };
        if context.job.is_some() {
            return Ok(());
        }
        let now = self.moment.time_ms;
        match window.look_up(command.id, now) {
            Seen::New => {}
            Seen::At(_) if planted(Bug::RetryExecuted) => {}
            Seen::At(position) => {
                return Err(Reply { again: true, position, ..Reply::refused(Code::Done) });
            }
            Seen::TooOld => return Err(Reply::refused(Code::IdTooOld)),
            Seen::Ahead => return Err(Reply::refused(Code::IdAhead)),
        }
        let class = context.class.min(CLASSES as u8 - 1);
        if window.has_room(class, command.id.time_ms(), &self.moment) {
            Ok(())
        } else {
            Err(Reply::refused(Code::StateFull))
        }
    }

    /// Whether this may be decided now. If not, nothing of it stands in the journal.
    #[inline]
    fn let_in(&self, context: &Context, op: Op, command: &Command) -> Result<(), Reply> {
        self.is_new(context, op, command)?;
        self.bounded(op, command).map_err(Reply::refused)
    }

    /// Refusals that leave no entry come before the entry is begun.
    #[inline]
    fn bounded(&self, op: Op, command: &Command) -> Result<(), Code> {
        match op {
            Op::Post | Op::PostHold | Op::VoidHold => Ok(()),
            Op::KeepRecord if self.records.len() >= RECORDS_MAX => Err(Code::StateFull),
            Op::Hold if self.ledger.holds().len() >= pabal_ledger::holds::HOLDS_MAX => Err(Code::StateFull),
            Op::Reverse if self.ledger.reversed().len() >= pabal_ledger::holds::REVERSED_MAX => {
                Err(Code::StateFull)
            }
            Op::ExpireHolds if !(1..=EXPIRE_MAX).contains(&command.amount) => Err(Code::Malformed),
            Op::OpenAccount => match self.ledger.judge_open(&account_of(command, self.moment.date)) {
                Err(code) if !code.uses_id() => Err(code),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    // Inlined, or the reply is read from the stack wider than it was just written, and the processor first finishes all
    // that it still has to write, entry and accounts: 40 ns a command (docs/decisions/0011).
    #[inline(always)]
    fn decide<S: Sink>(
        &mut self,
        context: &Context,
        op: Op,
        command: &Command,
        bytes: &[u8],
        mode: Mode,
        sink: &mut S,
    ) -> Reply {
        let verdict = match mode {
            Mode::New | Mode::Again => Verdict::Open,
            Mode::Fold(code) => Verdict::Given(code),
            Mode::Quarantine => Verdict::Given(Code::Quarantined),
        };
        let evidence = match op {
            Op::Reverse => sink.find(command.target.low),
            _ => None,
        };
        let units = match op {
            Op::KeepRecord => command::entry_units_max(command),
            _ => ENTRY_UNITS,
        };
        let (position, place) = sink.entry(units);
        let mut released = Vec::new();
        let (mut debit_balance, mut credit_balance) = (0, 0);
        let code = if op == Op::KeepRecord {
            let done = self.manage(op, command, position, verdict, &mut Outcome::default(), &mut released);
            let code = done.err().unwrap_or(Code::Done);
            place[..bytes.len()].copy_from_slice(bytes);
            place[5] = units as u8;
            place[6..8].copy_from_slice(&(code as u16).to_le_bytes());
            code
        } else {
            let entry = Posting::mut_from_bytes(place).expect("an entry's place is as long and aligned");
            entry.command = *command;
            entry.command.header.entry_units = ENTRY_UNITS as u8;
            let outcome = &mut entry.outcome;
            let code = match op {
                Op::Post | Op::Hold | Op::PostHold | Op::VoidHold | Op::Reverse => {
                    let asked = Asked { op, command, evidence: evidence.as_ref() };
                    if planted(Bug::OlderDecidedAnew) && matches!(mode, Mode::Fold(_)) {
                        let anew = Moment { rules: self.rules_known, ..self.moment };
                        self.ledger.execute(asked, &anew, position, Verdict::Open, outcome)
                    } else {
                        self.ledger.execute(asked, &self.moment, position, verdict, outcome)
                    }
                }
                _ => {
                    let done = self.manage(op, command, position, verdict, outcome, &mut released);
                    outcome.booking_date = self.moment.date;
                    done.err().unwrap_or(Code::Done)
                }
            };
            if outcome.debit.account != 0 {
                (debit_balance, credit_balance) = (outcome.debit.balance, outcome.credit.balance);
            }
            entry.command.header.code = code as u16;
            code
        };
        assert!(code.uses_id(), "{code} leaves no entry and must be found before the entry is begun");
        for (hold, mut outcome) in released {
            outcome.booking_date = self.moment.date;
            let (_, place) = sink.entry(ENTRY_UNITS);
            let mut command = Command { target: hold, ..Command::of(Op::HoldReleased, command.id) };
            command.header.flags = flags::CONTINUATION;
            command.header.entry_units = ENTRY_UNITS as u8;
            command.header.code = Code::Done as u16;
            place.copy_from_slice(Posting { command, outcome }.as_bytes());
        }
        self.keep_id(context, command.id, position);
        Reply { code, again: false, position, debit_balance, credit_balance }
    }

    /// Remembers that this command was decided: in the window, or as the item of its job.
    #[inline]
    fn keep_id(&mut self, context: &Context, id: Id, position: u64) {
        match context.job {
            None => {
                if let Some(window) = &mut self.window {
                    let class = context.class.min(CLASSES as u8 - 1);
                    window.insert(id, class, position, &self.moment, &mut self.digest);
                }
            }
            Some(job) => {
                let was = self.jobs.get(job).unwrap_or_default();
                self.jobs.set(job, Job { next: was.next + 1, ..was }, &mut self.digest);
            }
        }
    }

    /// Everything that is not a movement of money.
    fn manage(
        &mut self,
        op: Op,
        c: &Command,
        position: u64,
        verdict: Verdict,
        outcome: &mut Outcome,
        released: &mut Vec<(Id, Outcome)>,
    ) -> Result<(), Code> {
        if let Verdict::Given(code) = verdict
            && code != Code::Done
        {
            return Err(code);
        }
        let judge = verdict == Verdict::Open;
        match op {
            Op::Found => {
                if self.window.is_some() {
                    return Err(Code::AlreadyFounded);
                }
                let rules = c.target.high as u32;
                if judge && !(RULES_OLDEST..=self.rules_known).contains(&rules) {
                    return Err(Code::RulesUnknown);
                }
                self.moment.rules = rules;
                self.moment.date = c.value_date;
                (self.capacity, self.key) = (c.amount.clamp(1, u32::MAX as i64) as u32, c.target.low);
                self.window = Some(Window::new(self.capacity, self.key));
            }
            Op::OpenAccount => {
                let account = account_of(c, self.moment.date);
                if judge {
                    self.ledger.judge_open(&account)?;
                } else if !self.ledger.can_open(&account) {
                    return Err(Code::AccountExists);
                }
                self.ledger.open(account);
            }
            Op::ChangeAccount => {
                let account = self.ledger.account(c.debit).ok_or(Code::AccountNotFound)?;
                let overdraft = if c.kind & change::OVERDRAFT != 0 { c.amount } else { account.overdraft };
                let ceiling =
                    if c.kind & change::CEILING != 0 { c.target.high as i64 } else { account.ceiling };
                let blocks = Status(c.target.low as u8 & 3);
                let status = if c.kind & change::STATUS != 0 { blocks } else { account.status };
                if judge {
                    self.ledger.judge_limits(c.debit, overdraft, ceiling, &self.moment)?;
                }
                self.ledger.change(c.debit, |account| {
                    (account.overdraft, account.ceiling, account.status) = (overdraft, ceiling, status);
                });
            }
            Op::CloseAccount => {
                if judge {
                    self.ledger.judge_close(c.debit)?;
                } else if self.ledger.account(c.debit).is_none() {
                    return Err(Code::AccountNotFound);
                }
                self.ledger.change(c.debit, |account| account.status = Status::CLOSED);
            }
            Op::ExpireHolds => {
                for id in self.ledger.holds().expired(self.moment.time_ms, c.amount as usize) {
                    released.extend(self.ledger.release(id).map(|outcome| (id, outcome)));
                }
                outcome.amount = released.len() as i64;
                outcome.remaining = self.ledger.holds().expired(self.moment.time_ms, 1).len() as i64;
            }
            Op::AdvanceDate => {
                if judge && c.value_date <= self.moment.date {
                    return Err(Code::DateNotLater);
                }
                self.moment.date = c.value_date;
                self.ledger.advance_date(c.value_date);
            }
            Op::ActivateRules => {
                let next = u32::try_from(c.amount).unwrap_or(0);
                if judge && (Some(next) != self.moment.rules.checked_add(1) || next > self.rules_known) {
                    return Err(Code::RulesUnknown);
                }
                self.moment.rules = next;
            }
            Op::KeepRecord => {
                let key = (c.kind, c.target.low);
                if judge && self.records.contains_key(&key) {
                    return Err(Code::RecordExists);
                }
                self.records.insert(key, position);
                self.digest.add(Object::Above, &[2, c.kind as u64, c.target.low, position]);
            }
            Op::EndJob => {
                let job = self.jobs.get(c.target).filter(|job| !job.ended).ok_or(Code::JobNotOpen)?;
                self.jobs.set(c.target, Job { ended: true, ..job }, &mut self.digest);
            }
            _ => return Err(Code::Malformed),
        }
        Ok(())
    }

    // ── bundles ──────────────────────────────────────────────────────────────────────────────────

    /// Decides a bundle: each part in turn; when one fails, all that came before it is taken back, and
    /// every part stands in the journal as refused, the failing one with its reason.
    fn bundle<S: Sink>(
        &mut self,
        context: &Context,
        commands: &[&[u8]],
        mode: Mode,
        sink: &mut S,
        replies: &mut Vec<Reply>,
    ) {
        let parts = match self.bundle_let_in(context, commands) {
            Ok(parts) => parts,
            Err(refused) => return replies.extend(refused),
        };
        let failed = self.try_bundle(&parts, sink);
        if let Some((_, code)) = failed
            && !code.uses_id()
        {
            // The parts together pass a bound that each alone does not: nothing is done and no id used up.
            return replies.extend(vec![Reply::refused(code); commands.len()]);
        }
        for (i, (op, command, bytes)) in parts.iter().enumerate() {
            let mode = match failed {
                Some((at, code)) => Mode::Fold(if at == i { code } else { Code::BundleFailed }),
                None => mode,
            };
            replies.push(self.decide(context, *op, command, bytes, mode, sink));
        }
    }

    /// The parts of a bundle that may be decided now. If it may not, the answers: nothing of it stands in the journal
    /// now.
    fn bundle_let_in<'a>(
        &self,
        context: &Context,
        commands: &[&'a [u8]],
    ) -> Result<Vec<Part<'a>>, Vec<Reply>> {
        let all = |code| vec![Reply::refused(code); commands.len()];
        let mut parts: Vec<Part<'a>> = Vec::with_capacity(commands.len());
        for (i, bytes) in commands.iter().enumerate() {
            let Ok((op, command)) = command::read(bytes) else { return Err(all(Code::Malformed)) };
            let money = matches!(op, Op::Post | Op::Hold | Op::PostHold | Op::VoidHold | Op::Reverse);
            let twice = parts.iter().any(|(_, c, _)| c.id == command.id);
            if is_linked(command) != (i + 1 < commands.len())
                || !money
                || twice
                || commands.len() > BUNDLE_MAX
            {
                return Err(all(Code::Malformed));
            }
            parts.push((op, command, *bytes));
        }
        let mut known = Vec::with_capacity(parts.len());
        let mut fresh = Ok(());
        let mut too_old = false;
        for (op, command, _) in &parts {
            if let Err(reply) = self.let_in(context, *op, command) {
                if reply.again {
                    known.push(reply);
                }
                too_old |= reply.code == Code::IdTooOld;
                fresh = Err(reply);
            }
        }
        if known.len() == parts.len() {
            return Err(known);
        }
        if let Err(reply) = fresh {
            // Where what became of one part is unknown, it is of the whole: it may have been done.
            let code = if too_old {
                Code::IdTooOld
            } else if known.is_empty() {
                reply.code
            } else {
                Code::BundleMixed
            };
            return Err(all(code));
        }
        if let Some(window) = &self.window
            && context.job.is_none()
            && !window.has_room_for_all(
                context.class.min(CLASSES as u8 - 1),
                parts.iter().map(|(_, command, _)| command.id.time_ms()),
                &self.moment,
            )
        {
            return Err(all(Code::StateFull));
        }
        Ok(parts)
    }

    /// Tries the parts in turn and takes everything back; says which one failed, and why.
    fn try_bundle<S: Sink>(&mut self, parts: &[Part<'_>], sink: &mut S) -> Option<(usize, Code)> {
        let mark = sink.mark();
        self.ledger.begin_bundle();
        let mut failed = None;
        for (i, (op, command, bytes)) in parts.iter().enumerate() {
            let evidence = if *op == Op::Reverse { sink.find(command.target.low) } else { None };
            let (position, place) = sink.entry(ENTRY_UNITS);
            // Found again by a later part that names this one.
            place[..bytes.len()].copy_from_slice(bytes);
            place[5] = ENTRY_UNITS as u8;
            let asked = Asked { op: *op, command, evidence: evidence.as_ref() };
            let mut outcome = Outcome::default();
            let code = self.ledger.execute(asked, &self.moment, position, Verdict::Open, &mut outcome);
            if code != Code::Done {
                failed = Some((i, code));
                break;
            }
        }
        self.ledger.end_bundle(false);
        sink.rewind(mark);
        failed
    }

    // ── snapshots ────────────────────────────────────────────────────────────────────────────────

    /// Writes the state: what its digest is of, and nothing else.
    pub fn save(&self, save: &mut Save<'_>) {
        let Moment { time_ms, date, rules } = self.moment;
        let (date, rules, capacity) = (date.0 as u64, rules as u64, self.capacity as u64);
        save_words(save, &[SAVED, self.window.is_some() as u64, time_ms, date, rules, capacity, self.key]);
        self.ledger.save(save);
        if let Some(window) = &self.window {
            window.save(save);
        }
        self.jobs.save(save);
        save_words(save, &[self.records.len() as u64]);
        for ((kind, key), position) in &self.records {
            save_words(save, &[*kind as u64, *key, *position]);
        }
    }

    /// Reads what [`Bank::save`] wrote, into a bank that knows rules up to this version. None when it is not that, or
    /// of rules that are not known. Its digest is added up anew: compare it with the one that is wanted.
    pub fn load(rules_known: u32, load: &mut Load<'_>) -> Option<Bank> {
        let [form, founded, time_ms, date, rules, capacity, key] = load_words(load)?;
        let moment =
            Moment { time_ms, date: Date(u16::try_from(date).ok()?), rules: u32::try_from(rules).ok()? };
        let capacity = u32::try_from(capacity).ok()?;
        if form != SAVED || founded > 1 || moment.rules > rules_known {
            return None;
        }
        let ledger = Ledger::load(load)?;
        let mut digest = Digest::default();
        let window = match founded {
            1 => Some(Window::new(capacity, key).load(load, &mut digest)?),
            _ => None,
        };
        let jobs = Jobs::load(load, &mut digest)?;
        let mut records = BTreeMap::new();
        for _ in 0..load_count(load, RECORDS_MAX)? {
            let [kind, key, position] = load_words(load)?;
            let place = (u16::try_from(kind).ok()?, key);
            if records.last_key_value().is_some_and(|(last, _)| *last >= place) {
                return None;
            }
            digest.add(Object::Above, &[2, kind, key, position]);
            records.insert(place, position);
        }
        Some(Bank { ledger, window, jobs, records, digest, moment, rules_known, capacity, key })
    }

    // ── digest ───────────────────────────────────────────────────────────────────────────────────

    /// The digest of everything in state, as it is now.
    pub fn digest(&mut self) -> Digest {
        let mut own = self.digest;
        own.add(
            Object::Above,
            &[
                3,
                self.moment.date.0 as u64,
                self.moment.rules as u64,
                self.capacity as u64,
                self.key,
                self.moment.time_ms,
                self.window.as_ref().map_or(0, Window::horizon_ms),
            ],
        );
        self.ledger.digest().plus(own)
    }
}

/// A part of a bundle: what it is, and all of its bytes.
type Part<'a> = (Op, &'a Command, &'a [u8]);

/// Whether it happens together with the next one.
fn is_linked(command: &Command) -> bool {
    command.header.flags & flags::LINKED != 0
}

fn account_of(c: &Command, today: Date) -> Account {
    let class = u8::try_from(c.kind).unwrap_or(0);
    let mut account = Account::new(c.debit, class, c.currency, c.credit, today);
    account.overdraft = c.amount;
    account.ceiling = c.target.high as i64;
    account
}
