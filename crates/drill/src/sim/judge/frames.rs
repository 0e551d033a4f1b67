//! What is said over frames, judged: how requests end, and what is told to questions.
//!
//! Over frames a request is tried again and again, under one number, and its end is what the client's own code makes of
//! all that it heard and did not hear. So each try is kept with what it was to be answered, and an end must be the truth:
//! a reply that was given by one of the tries, whose effect is durable; or that nothing was done, which then must be
//! true of every try, and stay so. An end that says "unknown" claims nothing.

use super::{Decided, Judge, Question, require, wrong};
use crate::sent::Sent;
use pabal_bank::Reply;
use pabal_bank::ledger::Code;
use pabal_client::client::Told;
use pabal_client::{End, Name, Why};
use pabal_core::machine::{Answer, Query};
use pabal_core::question::{BankStanding, Standing, read_answer};
use pabal_engine::{RequestHeader, Seen};
use pabal_journal::Record;
use std::collections::{BTreeMap, BTreeSet};

/// Whether whoever sends a request may send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Yes.
    May,
    /// The channel may not send such commands.
    MayNot,
    /// No channel has this credential.
    Unknown,
}

/// A try that was looked at by the bank.
struct Try {
    replies: Vec<Reply>,
    /// Commands decided when it had been.
    decided: usize,
}

/// A request.
struct Request {
    sender: Sender,
    malformed: bool,
    bulk: bool,
    tries: Vec<Try>,
}

/// A question whose answer was let out.
struct Released {
    sequence: u64,
    question: Question,
}

/// What goes over frames.
#[derive(Default)]
pub struct OverFrames {
    requests: BTreeMap<u64, Request>,
    /// Of which request a whole try is being looked at.
    trying: Option<u64>,
    released: Vec<Released>,
    /// Of which requests which commands were said never to be done.
    denied: BTreeSet<(u64, u32)>,
    /// Bulk requests that came in and were not looked at yet.
    bulk_waiting: usize,
}

impl OverFrames {
    /// A process begins: what the one before it had not made durable is gone, and what waited in it.
    pub fn starts(&mut self, found: Option<usize>) {
        (self.trying, self.bulk_waiting) = (None, 0);
        let Some(found) = found else { return };
        for request in self.requests.values_mut() {
            request.tries.retain(|tried| tried.decided <= found);
        }
    }

    /// Bulk requests that wait.
    pub fn bulk_waiting(&self) -> usize {
        self.bulk_waiting
    }
}

impl Judge {
    /// A request is about to be sent over frames.
    pub fn sends_frames(
        &mut self,
        header: RequestHeader,
        commands: &[Sent],
        malformed: bool,
        big: bool,
        sender: Sender,
    ) {
        self.is_asked(header, commands, malformed);
        let request =
            Request { sender, malformed: malformed || big, bulk: header.is_bulk(), tries: Vec::new() };
        self.frames.requests.insert(header.principal, request);
    }

    /// The core is given a try of a request.
    pub fn comes_in(&mut self, header: &RequestHeader) {
        let number = header.principal;
        let Some(request) = self.frames.requests.get(&number) else {
            wrong("came in and was never sent", format!("{header:?}"));
        };
        let (sender, bulk) = (request.sender, request.bulk);
        require(sender == Sender::May, "came in and is not permitted", || {
            format!("request {number}: {sender:?}")
        });
        let deadline_ms = self.asked[&number].header.deadline_ms;
        require(header.deadline_ms == deadline_ms, "deadline lost", || {
            format!("request {number} came in with {}, sent with {deadline_ms}", header.deadline_ms)
        });
        self.frames.bulk_waiting += usize::from(bulk);
    }

    /// The core looks at a request: whether it comes whole, or piece by piece after it stopped the bank, which nobody
    /// hears of.
    pub(super) fn tries(&mut self, header: &RequestHeader) {
        let (number, decided) = (header.principal, self.history.len());
        self.frames.trying = None;
        let Some(request) = self.frames.requests.get_mut(&number) else { return };
        if self.asked.get(&number).is_some_and(|asked| asked.header.count == header.count) {
            self.frames.trying = Some(number);
            request.tries.push(Try { replies: Vec::new(), decided });
        }
        self.frames.bulk_waiting = self.frames.bulk_waiting.saturating_sub(usize::from(request.bulk));
    }

    /// What some commands of the try that is looked at are to be answered.
    pub(super) fn tried(&mut self, header: &RequestHeader, expected: &[Reply]) {
        let decided = self.history.len();
        if self.frames.trying == Some(header.principal)
            && let Some(request) = self.frames.requests.get_mut(&header.principal)
            && let Some(tried) = request.tries.last_mut()
        {
            tried.replies.extend_from_slice(expected);
            tried.decided = decided;
        }
    }

    /// A command of this request was decided.
    pub(super) fn is_done(&mut self, number: u64, body: u32) {
        let denied = self.frames.denied.contains(&(number, body));
        require(!denied, "done after it was said not to be", || format!("request {number}"));
    }

    /// The answer to a question is let out, in the order in which they were asked.
    pub fn releases(&mut self, query: Query, seen: &Seen<Answer>) {
        let Some(question) = self.answers.pop_front() else {
            wrong("answered twice", format!("{query:?}"));
        };
        require(question.answer == seen.answer, "read differs", || {
            format!("{:?} was {:?}", seen.answer, question.answer)
        });
        require(question.query == query, "answered out of turn", || format!("{query:?}"));
        self.frames.released.push(Released { sequence: seen.sequence, question });
    }

    /// What a copy was asked since it was last looked at is let out, as of the record that it took last.
    pub fn lets_out(&mut self) {
        let sequence = self.records();
        self.frames.released.extend(self.answers.drain(..).map(|question| Released { sequence, question }));
    }

    /// A copy was looked at by the judge alone.
    pub fn lets_nothing_out(&mut self) {
        self.answers.clear();
    }

    /// This record came to one who follows over frames: it is durable, and the journal's own.
    pub fn hears_record(&mut self, record: &Record<'_>) {
        let (sequence, durable) = (record.header.sequence, &self.durable);
        let durable = durable.as_ref().map_or(0, |durable| durable.sequence());
        require(sequence <= durable, "followed what is not durable", || {
            format!("record {sequence}, durable is {durable}")
        });
        self.reads(record);
        self.shows_record(sequence);
    }

    /// A request ended. True when it is known how.
    pub fn hears_end(&mut self, number: u64, commands: &[Sent], end: &End) -> bool {
        match end {
            End::Replies { sequence, replies } => {
                require(replies.len() == commands.len(), "answers missing", || format!("request {number}"));
                for (at, reply) in replies.iter().enumerate() {
                    self.hears_reply(number, at, commands, reply, Some(*sequence));
                }
                true
            }
            End::Refused(why) => {
                self.hears_refusal(number, commands, *why);
                true
            }
            End::Unknown { heard, of } => {
                let header = self.asked[&number].header;
                let job = pabal_bank::ledger::Id { high: header.attempt[0], low: header.attempt[1] };
                for (at, reply) in heard.iter().enumerate() {
                    let name = match header.is_bulk() {
                        true => Name::Item(job, header.item.wrapping_add(at as u64)),
                        false => Name::Id(commands[at].command().id),
                    };
                    if let (Some(reply), false) = (reply, of.contains(&name)) {
                        self.hears_reply(number, at, commands, reply, None);
                    }
                }
                false
            }
        }
    }

    /// This is said to be what became of a command.
    fn hears_reply(
        &mut self,
        number: u64,
        at: usize,
        commands: &[Sent],
        reply: &Reply,
        sequence: Option<u64>,
    ) {
        let request = &self.frames.requests[&number];
        let given = request.tries.iter().filter(|tried| tried.replies.get(at) == Some(reply));
        if let Some(decided) = given.map(|tried| tried.decided).min() {
            let sequence = sequence.unwrap_or(0);
            let covered = self.by_record.get((sequence as usize).wrapping_sub(1)).map(|made| made.decided);
            require(sequence == 0 || covered >= Some(decided), "answer names an earlier record", || {
                format!("request {number}: {covered:?} commands up to {sequence}, not {decided}")
            });
            self.shows(if reply.code.uses_id() { decided } else { 0 }, sequence);
        } else {
            let may = match reply.code {
                Code::Malformed => request.malformed,
                Code::Overloaded => request.bulk,
                _ => false,
            };
            require(may, "answer differs", || {
                let tries: Vec<_> = request.tries.iter().map(|tried| &tried.replies).collect();
                format!("request {number} heard {reply:?} of {:?}; its tries: {tries:?}", commands[at])
            });
        }
        if !reply.code.uses_id() {
            self.denies(number, &commands[at]);
        }
    }

    fn hears_refusal(&mut self, number: u64, commands: &[Sent], why: Why) {
        let request = &self.frames.requests[&number];
        let may = match why {
            Why::Code(code) => match Code::from_u16(code) {
                Some(Code::CredentialUnknown) => request.sender == Sender::Unknown,
                Some(Code::ChannelNotPermitted) => request.sender == Sender::MayNot,
                Some(Code::Malformed) if request.malformed => true,
                Some(Code::Overloaded) => request.bulk,
                Some(code) => request.tries.iter().any(|tried| {
                    tried.replies.len() == commands.len() && tried.replies.iter().all(|r| r.code == code)
                }),
                None => false,
            },
            Why::Unreachable => true,
            Why::OtherBank | Why::NotKept | Why::TooLong | Why::Closed => false,
        };
        require(may, "refused without a reason", || format!("request {number}: {why:?}"));
        commands.iter().for_each(|command| self.denies(number, command));
    }

    /// Nothing was done of this, it is said, by no try of the request, and never will be.
    fn denies(&mut self, number: u64, command: &Sent) {
        let body = crc32c::crc32c(command.bytes());
        // What was set aside had no effect. Of a bundle it may not use all ids, and the bundle is mixed from then on.
        let is_it = |decided: &Decided| decided.body == body && decided.code != Code::Quarantined;
        let done = self.history.iter().zip(&self.deciders).any(|(it, by)| *by == number && is_it(it));
        require(!done, "done, and said not to be", || format!("request {number}: {command:?}"));
        self.frames.denied.insert((number, body));
    }

    /// This was told to a question. Gives the answer and what had been booked then.
    pub fn hears_told(
        &mut self,
        query: Query,
        at_least: u64,
        is_known: bool,
        told: &Told,
    ) -> Option<(Answer, usize)> {
        let (sequence, body) = match told {
            Told::Answer { sequence, body } => (*sequence, body),
            Told::Refused(why) => {
                let unknown = Why::Code(Code::CredentialUnknown as u16);
                let may = *why == Why::Unreachable || *why == unknown && !is_known;
                require(may, "refused without a reason", || format!("{query:?}: {why:?}"));
                return None;
            }
            Told::Unheard => return None,
        };
        require(is_known, "answered one who guessed", || format!("{query:?}"));
        require(sequence >= at_least, "read older than promised", || {
            format!("{query:?}: as of record {sequence}, not {at_least}")
        });
        self.hears_released(query, sequence, |answer| says(answer, body))
    }

    /// A question was answered without frames.
    pub fn hears_seen(&mut self, query: Query, seen: &Seen<Answer>) -> Option<(Answer, usize)> {
        self.hears_released(query, seen.sequence, |answer| answer == seen.answer)
    }

    /// An answer to this question was heard, as of this record: it must have been let out.
    fn hears_released(
        &mut self,
        query: Query,
        sequence: u64,
        is_it: impl Fn(Answer) -> bool,
    ) -> Option<(Answer, usize)> {
        let is_it = |released: &Released| {
            released.question.query == query
                && released.sequence == sequence
                && is_it(released.question.answer)
        };
        let Some(at) = self.frames.released.iter().position(is_it) else {
            wrong("read differs", format!("{query:?} was told as of record {sequence} what is not so"));
        };
        let Question { answer, decided, booked, .. } = self.frames.released.swap_remove(at).question;
        self.shows(decided, sequence);
        Some((answer, booked))
    }
}

/// Whether these bytes say this.
fn says(answer: Answer, body: &[u8]) -> bool {
    let standing = || read_answer(body).map(|(standing, _)| standing);
    match answer {
        Answer::Status(view) => BankStanding::read(body).is_some_and(|said| said.view() == view),
        Answer::Account(view) => standing().is_some_and(|said| said.view() == view),
        Answer::Job(None) => standing() == Some(Standing::default()),
        Answer::Job(Some((next, ended))) => {
            standing().is_some_and(|said| (said.found, said.head, said.next) == (1, next, u64::from(ended)))
        }
    }
}
