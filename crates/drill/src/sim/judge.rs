//! The judge: follows everything that the bank is given and says, and compares it with the model.
//!
//! It sits between the engine and the bank ([`super::tap`]), so it knows the order in which commands are executed,
//! and hears what clients hear. It keeps three things apart: what was *executed* (a line of decided commands, of
//! which a crash may take back the end), what was *shown* to anyone outside (of which it may take nothing), and
//! what is *found* when the journal is opened again, which must be the beginning of what was executed and hold all
//! that was shown.

pub mod frames;
mod snapshots;

use super::clock::SimClock;
use super::written::{self, Made};
use crate::disk::Killed;
use crate::model::{Model, check_digest};
use crate::sent::Sent;
use frames::OverFrames;
use pabal_bank::ledger::{Code, Date, Id, Op, Status};
use pabal_bank::{Bank, Context, Reply};
use pabal_core::machine::{Answer, BankView, Query, context};
use pabal_engine::machine::Mode;
use pabal_engine::request::{Request, RequestHeader, Response};
use pabal_journal::{Durable, Record};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

/// Something that must not be. Thrown where it is found, and caught by whoever runs the simulation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Which check found it.
    pub check: &'static str,
    /// What it found.
    pub what: String,
}

/// Throws that something is wrong.
pub fn wrong(check: &'static str, what: String) -> ! {
    std::panic::panic_any(Wrong { check, what })
}

fn require(holds: bool, check: &'static str, what: impl FnOnce() -> String) {
    if !holds {
        wrong(check, what());
    }
}

/// A command that was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Decided {
    position: u64,
    code: Code,
    balances: (i64, i64),
    body: u32,
}

/// What a client sent and was not answered yet.
struct Sending {
    malformed: bool,
    /// May take more room than a record has.
    big: bool,
    deadline_ms: u64,
    bulk: bool,
    /// What it must hear, as far as it was executed.
    expected: Vec<Reply>,
    /// Commands decided when it was executed.
    decided: usize,
}

struct Question {
    query: Query,
    answer: Answer,
    decided: usize,
    /// Postings booked then.
    booked: usize,
}

/// The least that must be there after any crash.
#[derive(Clone, Copy, Debug, Default)]
struct Shown {
    decided: usize,
    records: u64,
}

/// What was true after a record of whose state a snapshot was made, or begun.
#[derive(Clone)]
struct Kept {
    model: Model,
    history: Vec<Decided>,
    by_record: Vec<Made>,
}

/// Bulk requests that the bulk lane takes before it refuses.
const BULK_WAITING: usize = 64;
/// How fast the bank's time may be drawn towards the wall clock: millionths, rounded up.
const SLEW_PPM: u64 = 501;

/// See the module.
pub struct Judge {
    /// What the bank should be now.
    pub model: Model,
    clock: SimClock,
    /// The newest rules that the running program knows.
    knowing: u32,
    replaying: bool,
    history: Vec<Decided>,
    /// By which requests.
    deciders: Vec<u64>,
    /// Of which something is being decided.
    deciding: u64,
    replayed: usize,
    /// What was true when each record was made.
    by_record: Vec<Made>,
    shown: Shown,
    /// Records that someone read.
    hashes: BTreeMap<u64, [u8; 32]>,
    sendings: BTreeMap<u64, Sending>,
    /// Every request ever sent.
    asked: BTreeMap<u64, written::Asked>,
    /// Requests that were answered.
    answered: BTreeSet<u64>,
    /// Commands that are being executed, one or a bundle.
    executing: Vec<Id>,
    /// How often the bank died while it executed a command.
    deaths: BTreeMap<Id, u32>,
    /// What stopped the bank last, and must be tried alone before anything else is executed.
    suspect: Option<Id>,
    /// By when what is being executed, or was when the bank stopped, is wanted; zero for whenever.
    deadline_ms: u64,
    /// Whether what is being executed would be tried alone whatever happens meanwhile: no item of a job, which may
    /// not be wanted any more.
    is_tried_alone: bool,
    /// Parts of a bundle that is folded, as they come one by one.
    folded: Vec<(Context, Sent, Reply)>,
    answers: VecDeque<Question>,
    /// What goes over frames.
    frames: OverFrames,
    /// Commands that were broken on purpose; each was sent by itself.
    broken: BTreeSet<Vec<u8>>,
    /// Microseconds at which the bank's time began, and the monotonic clock then.
    began: (u64, u64),
    /// The same of the last batch.
    begun: (u64, u64),
    /// Commands that stop the bank, and how often they did, one crash after the other.
    poison: BTreeMap<Id, u32>,
    /// What was true when snapshots were made; of all judges.
    shelf: Arc<Mutex<Vec<Kept>>>,
    /// Whether the disk may be full.
    pub full: bool,
    /// How far the running bank is durable.
    pub durable: Option<Arc<Durable>>,
}

impl Judge {
    /// Of a bank that has not begun.
    pub fn new(clock: SimClock) -> Judge {
        Judge {
            model: Model::new(),
            clock,
            knowing: 0,
            replaying: false,
            history: Vec::new(),
            deciders: Vec::new(),
            deciding: 0,
            replayed: 0,
            by_record: Vec::new(),
            shown: Shown::default(),
            hashes: BTreeMap::new(),
            sendings: BTreeMap::new(),
            asked: BTreeMap::new(),
            answered: BTreeSet::new(),
            executing: Vec::new(),
            deaths: BTreeMap::new(),
            suspect: None,
            deadline_ms: 0,
            is_tried_alone: false,
            folded: Vec::new(),
            answers: VecDeque::new(),
            frames: OverFrames::default(),
            broken: BTreeSet::new(),
            began: (0, 0),
            begun: (0, 0),
            poison: BTreeMap::new(),
            shelf: Arc::default(),
            full: false,
            durable: None,
        }
    }

    /// Of a copy beside the bank that this judge follows: it knows the records that the copy took, and no more.
    pub fn beside(&self) -> Judge {
        let mut judge = Judge::new(self.clock.clone());
        judge.shelf = self.shelf.clone();
        judge.starts(2);
        judge
    }

    /// What the bank did until now, which is what a copy beside it must find.
    pub fn hears_of(&mut self, bank: &Judge) {
        self.history.clone_from(&bank.history);
    }

    /// Records that were made or read.
    pub fn records(&self) -> u64 {
        self.by_record.len() as u64
    }

    /// Records that were shown to anyone.
    pub fn shown_records(&self) -> u64 {
        self.shown.records
    }

    // ── the life of a process ────────────────────────────────────────────────────────────────────

    /// A process begins to read the journal.
    pub fn starts(&mut self, rules_known: u32) {
        self.model = Model::new();
        self.knowing = rules_known;
        self.replaying = true;
        self.replayed = 0;
        self.by_record.clear();
        self.sendings.clear();
        self.answers.clear();
        self.folded.clear();
        self.frames.starts(None);
    }

    /// The journal has been read: it holds all that was shown, and nothing that was not executed.
    pub fn started(&mut self) {
        let (found, records) = (self.replayed, self.by_record.len() as u64);
        require(found >= self.shown.decided, "acknowledged and lost", || {
            format!("{} decided commands were shown, {found} are there", self.shown.decided)
        });
        require(records >= self.shown.records, "record shown and lost", || {
            format!("record {} was shown, {records} are there", self.shown.records)
        });
        // Who was reading when it died has shown nobody what it read.
        self.hashes.retain(|sequence, _| *sequence <= self.shown.records);
        self.history.truncate(found);
        self.deciders.truncate(found);
        self.frames.starts(Some(found));
        self.replaying = false;
        self.model.rules_known = self.knowing;
        let (wall_ms, monotonic_us) = self.clock.read();
        self.began = (wall_ms.max(self.model.now_ms) * 1000, monotonic_us);
        self.begun = self.began;
    }

    /// The process ended, stopped by a command that was made to if `poisoned`. `ring` says that what it was executing
    /// is remembered for sure.
    pub fn ended(&mut self, poisoned: bool, ring: bool) {
        let executing = std::mem::take(&mut self.executing);
        if poisoned && ring && self.is_tried_alone {
            self.suspect = executing.first().copied();
        }
        executing.into_iter().for_each(|id| *self.deaths.entry(id).or_default() += 1);
        if !(poisoned && ring) {
            self.ring_lost();
        }
    }

    /// What was being executed may be forgotten.
    pub fn ring_lost(&mut self) {
        self.poison.values_mut().for_each(|crashes| *crashes = 0);
        self.suspect = None;
    }

    /// What stopped the bank was tried alone.
    pub fn tried_alone(&mut self) {
        // Too late it is not executed any more: a later try may have heard that none is done.
        let late = self.deadline_ms != 0 && self.deadline_ms < self.model.now_ms;
        let suspect = self.suspect.take().filter(|_| !self.full && !late);
        require(suspect.is_none(), "poison not tried alone", || format!("{suspect:?} stopped the bank"));
        self.poison.values_mut().for_each(|crashes| *crashes = 0);
    }

    /// From now on this command stops the bank.
    pub fn poison(&mut self, id: Id) {
        self.poison.insert(id, 0);
    }

    /// These commands are about to be executed, or set aside. Whether one of them is to stop the bank now.
    pub fn executes(&mut self, header: &RequestHeader, commands: &[&[u8]], mode: Mode) -> bool {
        if self.replaying {
            return false;
        }
        let number = header.principal;
        let asked = self.asked.get(&number).map(|asked| &asked.commands);
        let all = |asked: &Vec<u32>| commands.iter().all(|bytes| asked.contains(&crc32c::crc32c(bytes)));
        require(asked.is_some_and(all), "executed and never sent", || format!("{header:?}"));
        let answered = self.answered.contains(&number);
        require(!answered, "executed after its answer", || format!("request {number}"));
        let durable = self.durable.as_ref().map_or(0, |durable| durable.sequence());
        let waits = !header.is_bulk() || durable == self.by_record.len() as u64;
        require(waits, "bulk beside others", || format!("{durable} of {} records", self.by_record.len()));
        self.executing = commands.iter().map(|bytes| Sent::new(bytes).command().id).collect();
        (self.is_tried_alone, self.deadline_ms) = (!header.is_bulk(), header.deadline_ms);
        if self.suspect.is_some_and(|suspect| self.executing.contains(&suspect)) {
            self.suspect = None;
        }
        if mode == Mode::Quarantine {
            let known = |id: &Id| self.deaths.get(id).is_some_and(|deaths| *deaths >= 2);
            require(self.executing.iter().any(known), "set aside without a reason", || {
                format!("{:?}", self.executing)
            });
            return false;
        }
        self.stops(commands)
    }

    fn stops(&mut self, commands: &[&[u8]]) -> bool {
        for command in commands {
            let id = Sent::new(command).command().id;
            if let Some(crashes) = self.poison.get_mut(&id) {
                *crashes += 1;
                let again = *crashes > 2 && !self.full;
                require(!again, "poison tried again", || format!("{id} was executed a third time"));
                return true;
            }
        }
        false
    }

    // ── what the bank is given, and says ─────────────────────────────────────────────────────────

    /// A batch begins at this time.
    pub fn begins(&mut self, time_ms: u64) {
        require(time_ms >= self.model.now_ms, "time goes back", || {
            format!("{time_ms} after {}", self.model.now_ms)
        });
        if !self.replaying {
            let passed = self.clock.read().1 - self.began.1;
            let slew = passed * SLEW_PPM / 1_000_000;
            let least = (self.began.0 + passed).saturating_sub(slew + 2000) / 1000;
            let most = (self.began.0 + passed + slew + 2000) / 1000;
            require((least..=most).contains(&time_ms), "time is wrong", || {
                format!("{time_ms} is not within {least} and {most}")
            });
        }
        self.model.now_ms = time_ms;
        self.begun = (time_ms * 1000, self.clock.read().1);
    }

    /// About so many microseconds until the bank's time is this.
    pub fn us_until(&self, time_ms: u64) -> Option<u64> {
        let now_us = self.begun.0 + self.clock.read().1.saturating_sub(self.begun.1);
        (time_ms * 1000).checked_sub(now_us)
    }

    /// The engine asks whether a request may be executed, and hears this.
    pub fn admits(&mut self, header: &RequestHeader, said: &Result<(), Reply>) {
        if self.replaying {
            return;
        }
        let refused = self.job_refusal(&context(header));
        require(said.err() == refused, "admission", || format!("said {said:?}, should be {refused:?}"));
        self.tries(header);
        if let Some(reply) = refused {
            self.tried(header, &vec![reply; header.count as usize]);
        }
        if let Some(reply) = refused
            && let Some(sending) = self.sendings.get_mut(&header.principal)
        {
            sending.expected.extend(std::iter::repeat_n(reply, header.count as usize));
            sending.decided = self.history.len();
        }
    }

    fn job_refusal(&self, context: &Context) -> Option<Reply> {
        let refused = |code, position| Some(Reply { position, ..Reply::refused(code) });
        match self.model.jobs.get(&context.job?) {
            Some((next, true)) => refused(Code::JobNotOpen, *next),
            Some((next, false)) if *next != context.item => refused(Code::JobOutOfOrder, *next),
            None if context.item != 0 => refused(Code::JobOutOfOrder, 0),
            _ => None,
        }
    }

    /// The bank was given these commands together, and answered this.
    pub fn applied(&mut self, header: &RequestHeader, commands: &[&[u8]], mode: Mode, said: &[Reply]) {
        self.executing.clear();
        let sent: Vec<Sent> = commands.iter().map(|bytes| Sent::new(bytes)).collect();
        let its = context(header);
        if let Mode::Fold(_) = mode {
            // Its parts come one by one; the model decides them together.
            self.folded.push((its, sent[0].clone(), said[0]));
            if !sent[0].is_linked() {
                let parts = std::mem::take(&mut self.folded);
                let sent: Vec<Sent> = parts.iter().map(|part| part.1.clone()).collect();
                let said: Vec<Reply> = parts.iter().map(|part| part.2).collect();
                self.compare(&parts[0].0, &sent, false, false, &said);
            }
            return;
        }
        let malformed = sent.iter().any(|sent| self.broken.contains(sent.bytes()));
        let wanted_by = self.asked.get(&header.principal).filter(|_| !self.replaying);
        let wanted_by = wanted_by.map_or(0, |asked| asked.header.deadline_ms);
        let late = wanted_by != 0 && wanted_by < self.model.now_ms;
        require(!late, "executed after its deadline", || format!("request {}", header.principal));
        if mode == Mode::Quarantine {
            // Set aside: it is known from now on, and stops nothing.
            self.poison.retain(|id, _| sent.iter().all(|sent| sent.command().id != *id));
        }
        self.deciding = header.principal;
        let expected = self.compare(&its, &sent, mode == Mode::Quarantine, malformed, said);
        let decided = self.history.len();
        if !self.replaying {
            self.tried(header, &expected);
        }
        if !self.replaying
            && let Some(sending) = self.sendings.get_mut(&header.principal)
        {
            sending.expected.extend(expected);
            sending.decided = decided;
        }
    }

    fn compare(
        &mut self,
        context: &Context,
        sent: &[Sent],
        quarantined: bool,
        malformed: bool,
        said: &[Reply],
    ) -> Vec<Reply> {
        if self.replaying {
            // What a program did not know when it decided, it says by its refusal.
            let op = sent[0].command().header.op;
            if op == Op::ActivateRules as u16 || op == Op::Found as u16 {
                let c = sent[0].command();
                let asked = if op == Op::Found as u16 { c.target.high } else { c.amount as u64 };
                let unknown = said[0].code == Code::RulesUnknown;
                self.model.rules_known =
                    if unknown { (asked as u32).saturating_sub(1) } else { Model::new().rules_known };
            }
        }
        let last = self.history.last().map_or(0, |last| last.position);
        let last = if self.replaying { 0 } else { last };
        let mut decided = Vec::new();
        let mut before = last;
        let expected = self.model.send(context, sent, quarantined, malformed, &mut |part| {
            decided.push(part);
            let position = said.get(part).map_or(0, |reply| reply.position);
            let (so_far, what) = (before, sent);
            require(position > so_far, "not decided", || {
                format!("the model decides part {part} of {what:?}; the bank said {said:?}")
            });
            before = position;
            position
        });
        require(said.len() == expected.len(), "answers missing", || format!("{said:?} to {sent:?}"));
        for (said, expected) in said.iter().zip(&expected) {
            let known = expected.again || expected.code == Code::IdConflict;
            let same = match said.again {
                true => known && said.position == expected.position,
                false => said == expected,
            };
            if !same && self.durable.as_ref().is_some_and(|durable| durable.is_stopped()) {
                // Decided after the writer was gone, without what could not be written: nobody will hear of it.
                std::panic::panic_any(Killed);
            }
            require(same, "decision differs", || {
                format!(
                    "said {said:?}, should be {expected:?}; sent {context:?} {sent:?} at {}",
                    self.model.now_ms
                )
            });
        }
        for part in decided {
            let reply = said[part];
            let balances = (reply.debit_balance, reply.credit_balance);
            let body = crc32c::crc32c(sent[part].bytes());
            self.decided(Decided { position: reply.position, code: reply.code, balances, body });
        }
        expected
    }

    fn decided(&mut self, decided: Decided) {
        if !self.replaying {
            self.is_done(self.deciding, decided.body);
            self.deciders.push(self.deciding);
            return self.history.push(decided);
        }
        let (i, was) = (self.replayed, self.history.get(self.replayed));
        require(was == Some(&decided), "the journal is not what was done", || {
            format!("command {i} is {decided:?}, was {was:?}")
        });
        self.replayed += 1;
    }

    /// The digest after a record was asked for.
    pub fn digests(&mut self, bank: &mut Bank) -> [u8; 16] {
        require(self.folded.is_empty(), "half a bundle", || format!("{} parts", self.folded.len()));
        let moment = bank.moment();
        let (said, should) = ((moment.date.0, moment.rules), (self.model.date, self.model.rules));
        require(said == should, "date or rules", || format!("{said:?}, should be {should:?}"));
        let decided = if self.replaying { self.replayed } else { self.history.len() };
        let Model { date, rules, now_ms, .. } = self.model;
        self.by_record.push(Made { decided, date, rules, now_ms });
        check_digest(bank, &self.model).0.to_le_bytes()
    }

    /// Something was asked and answered, for when it is durable.
    pub fn queried(&mut self, query: &Query, answer: Answer) {
        let should = match query {
            Query::Job(id) => Answer::Job(self.model.jobs.get(id).copied()),
            Query::Account(number) => self.account(*number, answer),
            Query::Status => Answer::Status(BankView {
                founded: self.model.founded.is_some(),
                business_date: Date(self.model.date),
                rules: self.model.rules,
                time_ms: self.model.now_ms,
                accounts: self.model.accounts.len() as u64,
            }),
        };
        require(answer == should, "read differs", || format!("{answer:?}, should be {should:?}"));
        self.answers.push_back(Question {
            query: *query,
            answer,
            decided: self.history.len(),
            booked: self.model.booked.len(),
        });
    }

    /// What should be answered of an account; what the model does not know of it is taken from the answer.
    fn account(&self, number: u64, answer: Answer) -> Answer {
        let (Some(account), Answer::Account(Some(mut view))) = (self.model.accounts.get(&number), answer)
        else {
            return Answer::Account(None);
        };
        let fit = |n: i128| n.clamp(i64::MIN as i128, i64::MAX as i128) as i64;
        view.currency = account.currency;
        view.balance = fit(self.model.balance(number));
        view.held = fit(self.model.held(number));
        view.available = fit(self.model.available(number));
        view.head = pabal_journal::Position(self.model.head(number));
        let flags = [
            (Status::CLOSED, account.closed),
            (Status::DEBIT_BLOCKED, account.debit_blocked),
            (Status::CREDIT_BLOCKED, account.credit_blocked),
        ];
        let same = flags.iter().all(|(flag, set)| view.status.has(*flag) == *set);
        require(same, "read differs", || format!("status {:?}, should be {account:?}", view.status));
        Answer::Account(Some(view))
    }

    /// Nothing could be decided, and the bank was asked what it would answer to these commands all the same.
    pub fn recalled(&mut self, header: &RequestHeader, commands: &[&[u8]], said: Option<&[Reply]>) {
        let sent: Vec<Sent> = commands.iter().map(|bytes| Sent::new(bytes)).collect();
        let malformed = sent.iter().any(|sent| self.broken.contains(sent.bytes()));
        let known = self.model.recall(&context(header), &sent, malformed);
        // The codes of what was decided before are read when it is answered.
        let what = |replies: &[Reply]| -> Vec<u64> { replies.iter().map(|reply| reply.position).collect() };
        require(said.map(what) == known.as_deref().map(what), "recall", || {
            format!("{said:?}, should be {known:?}")
        });
        let (decided, full, now_ms) = (self.history.len(), self.full, self.model.now_ms);
        let Some(asked) = self.asked.get(&header.principal) else { return };
        let late = asked.header.deadline_ms != 0 && asked.header.deadline_ms < now_ms;
        require(known.is_some() || late || full, "refused without a reason", || {
            format!("request {}", header.principal)
        });
        let refused = Reply::refused(if late { Code::DeadlinePassed } else { Code::DiskFull });
        let expected = known.unwrap_or(vec![refused; sent.len()]);
        self.tried(header, &expected);
        if let Some(sending) = self.sendings.get_mut(&header.principal) {
            sending.expected.extend(expected);
            sending.decided = decided;
        }
    }

    // ── what clients send, and hear ──────────────────────────────────────────────────────────────

    /// A request is about to be sent.
    pub fn sends(&mut self, request: &Request, attempt: &[Sent], malformed: bool, big: bool) {
        let header = RequestHeader { count: attempt.len() as u32, ..request.header };
        self.is_asked(header, attempt, malformed);
        let sending = Sending {
            malformed,
            big,
            deadline_ms: request.header.deadline_ms,
            bulk: request.header.is_bulk(),
            expected: Vec::new(),
            decided: 0,
        };
        self.sendings.insert(request.header.principal, sending);
    }

    fn is_asked(&mut self, header: RequestHeader, commands: &[Sent], malformed: bool) {
        if malformed {
            self.broken.extend(commands.iter().map(|sent| sent.bytes().to_vec()));
        }
        let commands = commands.iter().map(|sent| crc32c::crc32c(sent.bytes())).collect();
        self.asked.insert(header.principal, written::Asked { header, commands });
    }

    /// A request was answered.
    pub fn hears(&mut self, number: u64, response: &Response<Reply>) {
        let bulk = self.sendings.values().filter(|sending| sending.bulk).count();
        let bulk = bulk + self.frames.bulk_waiting();
        let Some(sending) = self.sendings.remove(&number) else {
            wrong("answered twice", format!("request {number}"));
        };
        self.answered.insert(number);
        let covered = self.by_record.get((response.sequence as usize).wrapping_sub(1));
        let covered = covered.map_or(0, |made| made.decided);
        require(covered >= sending.decided, "answer names an earlier record", || {
            format!(
                "request {number}: {covered} commands up to {}, not {}",
                response.sequence, sending.decided
            )
        });
        self.shows(sending.decided, response.sequence);
        if sending.expected.is_empty() {
            for reply in &response.replies {
                let may = match reply.code {
                    Code::Malformed => sending.malformed || sending.big,
                    Code::DeadlinePassed => {
                        sending.deadline_ms != 0 && sending.deadline_ms < self.model.now_ms
                    }
                    Code::Overloaded => sending.bulk && bulk >= BULK_WAITING,
                    _ => false,
                };
                require(may, "refused without a reason", || format!("request {number}: {reply:?}"));
            }
            return;
        }
        require(response.replies == sending.expected, "answer differs", || {
            format!("request {number} heard {:?}, should hear {:?}", response.replies, sending.expected)
        });
    }

    /// Whoever sent this request does not want to hear of it any more.
    pub fn forgets(&mut self, number: u64) {
        self.sendings.remove(&number);
    }

    /// A question was answered: what was booked until then is known now.
    pub fn hears_answer(&mut self, answer: Answer) -> usize {
        let Some(asked) = self.answers.pop_front() else {
            wrong("answered twice", format!("{answer:?}"));
        };
        require(asked.answer == answer, "read differs", || format!("{answer:?} was {:?}", asked.answer));
        self.shows(asked.decided, 0);
        asked.booked
    }

    /// This record was shown, and must say what was done.
    pub fn reads(&mut self, record: &Record<'_>) {
        let sequence = record.header.sequence;
        let made = self.by_record.get((sequence as usize).wrapping_sub(1));
        let Some(made) = made else { wrong("record from nowhere", format!("record {sequence}")) };
        written::check(record, made, &self.model, &self.asked);
        let before = *self.hashes.entry(sequence).or_insert(record.hash);
        require(before == record.hash, "record shown otherwise before", || format!("record {sequence}"));
    }

    /// This record and all before it were shown.
    pub fn shows_record(&mut self, sequence: u64) {
        let made = self.by_record.get((sequence as usize).wrapping_sub(1)).copied();
        let Some(made) = made else { wrong("record from nowhere", format!("record {sequence}")) };
        self.shows(made.decided, sequence);
    }

    /// Whether everything that was decided stands in the records up to this one.
    pub fn is_all(&self, sequence: u64) -> bool {
        let made = self.by_record.get((sequence as usize).wrapping_sub(1));
        made.map_or(0, |made| made.decided) == self.history.len()
    }

    fn shows(&mut self, decided: usize, records: u64) {
        self.shown.decided = self.shown.decided.max(decided);
        self.shown.records = self.shown.records.max(records);
    }
}
