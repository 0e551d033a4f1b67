//! Clients: they send, hear or do not, send again, send something else under the same id, and go away.

use super::acts::{Maker, job_id};
use super::frames::{Frames, Heard};
use super::judge::Judge;
use super::tap::Judged;
use crate::model::Model;
use crate::sent::{Sent, linked};
use pabal_bank::ledger::Command;
use pabal_bank::{Reply, command};
use pabal_core::machine::{Answer, Query};
use pabal_engine::{Commands, Lane, Request, RequestHeader, Response, Stepper, Ticket};
use pabal_journal::{ENTRY_UNITS_MAX, Position, UNITS};
use std::collections::VecDeque;

/// Requests that are kept to be sent again.
const KEPT: usize = 48;
/// Blocks of a bulk request's record at most.
const BULK_BLOCKS_MAX: usize = 128;

/// What was sent.
#[derive(Clone)]
pub struct Attempt {
    pub header: RequestHeader,
    pub commands: Vec<Sent>,
    pub malformed: bool,
    /// Nobody knows what became of it.
    pub unknown: bool,
    /// Some of it was sent before.
    pub before: bool,
}

/// An answer that is awaited: of which request, of which attempt.
struct Awaited {
    number: u64,
    attempt: Attempt,
    ticket: Ticket<Response<Reply>>,
}

/// All clients together.
pub struct Clients {
    pub maker: Maker,
    segment_blocks: u32,
    number: u64,
    awaited: Vec<Awaited>,
    questions: VecDeque<(u64, Ticket<Answer>)>,
    /// What was sent lately.
    sent: VecDeque<Attempt>,
    pub frames: Frames,
}

impl Clients {
    pub fn new(maker: Maker, segment_blocks: u32, frames: Frames) -> Clients {
        Clients {
            frames,
            maker,
            segment_blocks,
            number: 0,
            awaited: Vec::new(),
            questions: VecDeque::new(),
            sent: VecDeque::new(),
        }
    }

    /// Something new, most of the time.
    pub fn next(&mut self, model: &Model, poison: bool) -> Attempt {
        let again = self.maker.random.below(10) < 3;
        if again && let Some(attempt) = self.again() {
            return attempt;
        }
        let random = &mut self.maker.random;
        let bulk = random.one_in(8);
        let n = random.of(&[1, 1, 1, 2, 3, 4, 25]);
        let mut commands: Vec<Sent> = Vec::new();
        let mut malformed = false;
        if !poison && self.maker.random.one_in(20) {
            let sent = self.maker.any(model);
            commands.push(self.maker.broken(&sent));
            malformed = true;
        } else if n > 1 && self.maker.random.one_in(2) {
            let one_id = self.maker.random.one_in(15);
            for i in 0..n {
                let mut part = if self.maker.random.one_in(40) {
                    self.maker.any(model)
                } else {
                    self.maker.money(model)
                };
                if one_id && i > 0 {
                    let id = commands[0].command().id;
                    part = part.with(|c| c.id = id);
                }
                commands.push(part);
            }
            commands = linked(commands);
        } else {
            for _ in 0..n {
                commands.push(self.maker.any(model));
            }
        }
        let mut header = RequestHeader::new(Lane::Online, self.maker.random.below(7) as u8);
        if bulk {
            header = self.bulk(model);
        } else if self.maker.random.one_in(6) {
            // What means nothing of an online request, and what only the engine may say.
            let random = &mut self.maker.random;
            (header.attempt, header.item) = ([random.bits(), random.bits()], random.bits());
            (header.flags, header.code, header.time_ms) =
                (random.bits() as u8, random.bits() as u16, random.bits());
            (header.channel, header.command_units) = (random.bits() as u16, random.bits() as u8);
        }
        if self.maker.random.one_in(10) {
            let beside = self.maker.random.between(-5, 40);
            header.deadline_ms = model.now_ms.saturating_add_signed(beside).max(1);
        }
        Attempt { header, commands, malformed, unknown: false, before: false }
    }

    /// Many commands in one request, whose record is long.
    pub fn many(&mut self, model: &Model, n: usize) -> Attempt {
        let commands = (0..n).map(|_| self.maker.money(model)).collect();
        Attempt {
            header: RequestHeader::new(Lane::Online, 1),
            commands,
            malformed: false,
            unknown: false,
            before: false,
        }
    }

    fn bulk(&mut self, model: &Model) -> RequestHeader {
        let mut header = RequestHeader::new(Lane::Bulk, 4);
        let job = job_id(self.maker.random.below(3));
        let next = model.jobs.get(&job).map_or(0, |(next, _)| *next);
        let beside = if self.maker.random.one_in(6) { self.maker.random.between(-1, 1) } else { 0 };
        header.attempt = [job.high, job.low];
        header.item = next.saturating_add_signed(beside);
        header
    }

    /// Something that was sent before: as it was, or with another body, or only some of it, or with something new.
    fn again(&mut self) -> Option<Attempt> {
        let random = &mut self.maker.random;
        let unknown: Vec<usize> = (0..self.sent.len()).filter(|&i| self.sent[i].unknown).collect();
        let at = match unknown.is_empty() || random.one_in(3) {
            true => self.sent.len().checked_sub(1 + random.below(12) as usize)?,
            false => random.of(&unknown),
        };
        self.sent[at].unknown = false;
        let mut attempt = self.sent[at].clone();
        attempt.before = true;
        attempt.header.deadline_ms = 0;
        if attempt.malformed {
            return Some(attempt);
        }
        match random.weighted(&[6, 3, 1, 1, 1]) {
            1 => {
                let mut i = random.below(attempt.commands.len() as u64) as usize;
                // The rest of a long one, which is compared by itself.
                let is_long = |sent: &Sent| sent.bytes().len() > size_of::<Command>();
                i = attempt.commands.iter().position(is_long).unwrap_or(i);
                attempt.commands[i] = self.maker.other_body(&attempt.commands[i]);
            }
            2 => attempt.commands.truncate(1 + random.below(attempt.commands.len() as u64) as usize),
            3 => drop(attempt.commands.drain(..random.below(attempt.commands.len() as u64) as usize)),
            4 if !attempt.header.is_bulk() => attempt.header.class = random.below(5) as u8,
            _ => {}
        }
        if attempt.commands.iter().any(Sent::is_linked) {
            // What is cut off must not leave an open end.
            attempt.commands = linked(attempt.commands);
        }
        Some(attempt)
    }

    /// Something that was sent before and stands in one of these blocks.
    pub fn again_in(&mut self, model: &Model, blocks: &[u64]) -> Option<Attempt> {
        let is_there = |sent: &Sent| {
            let position = model.position_of(sent.command().id);
            position.is_some_and(|position| blocks.contains(&Position(position).block()))
        };
        let attempt = self.sent.iter().find(|attempt| attempt.commands.iter().any(is_there))?;
        let header = RequestHeader { deadline_ms: 0, ..attempt.header };
        Some(Attempt { header, before: true, ..attempt.clone() })
    }

    /// Where something stands that was sent lately.
    pub fn some_position(&mut self, model: &Model) -> Option<Position> {
        let at = self.maker.random.below(self.sent.len() as u64) as usize;
        let id = self.sent.get(at)?.commands.first()?.command().id;
        model.position_of(id).map(Position)
    }

    /// Sends this over frames, by a share of all; gives it back where it is to go otherwise.
    pub fn send_frames(&mut self, attempt: Attempt, judge: &mut Judge) -> Option<Attempt> {
        if self.maker.random.below(10) >= self.frames.share {
            return Some(attempt);
        }
        self.number += 1;
        let big = self.may_be_too_long(&attempt);
        self.frames.send(attempt, self.number, big, judge).err()
    }

    /// Sends this.
    pub fn send(&mut self, attempt: Attempt, engine: &Stepper<Judged>, judge: &mut Judge) {
        self.number += 1;
        let mut commands = Commands::new();
        attempt.commands.iter().for_each(|sent| commands.push(sent.bytes()));
        let header = RequestHeader { principal: self.number, ..attempt.header };
        let big = self.may_be_too_long(&attempt);
        let request = Request { header, commands };
        judge.sends(&request, &attempt.commands, attempt.malformed, big);
        let ticket = engine.submit(request);
        self.awaited.push(Awaited { number: self.number, attempt, ticket });
    }

    /// Whether this may take more room than a record has: the most that its entries can be, in blocks of which each
    /// loses less than the longest of them.
    fn may_be_too_long(&self, attempt: &Attempt) -> bool {
        let units = attempt.commands.iter().map(|sent| command::entry_units_max(&sent.command()));
        // More than a block is many entries of three units.
        let entry = |n: usize| if n > ENTRY_UNITS_MAX { 3 } else { n };
        let (all, longest) = units.fold((3, 1), |(all, longest), n| (all + n, longest.max(entry(n))));
        let blocks = match longest <= UNITS / 2 {
            true => all.div_ceil(UNITS - longest),
            false => 1 + 2 * (all / ENTRY_UNITS_MAX + 1),
        };
        let most = self.segment_blocks as usize - 1;
        blocks > if attempt.header.is_bulk() { most.min(BULK_BLOCKS_MAX) } else { most }
    }

    /// Asks this.
    pub fn ask(&mut self, query: Query, engine: &Stepper<Judged>, judge: &Judge) {
        if self.frames.share > 0 {
            return self.frames.ask(query, engine.door(), judge);
        }
        let number = if let Query::Account(number) = query { number } else { 0 };
        self.questions.push_back((number, engine.query(query)));
    }

    /// One of those who wait goes away.
    pub fn go_away(&mut self, judge: &mut Judge) {
        if let Some(gone) = self.frames.go_away() {
            self.keep(Attempt { unknown: true, ..gone });
        }
        if self.awaited.is_empty() {
            return;
        }
        let at = self.maker.random.below(self.awaited.len() as u64) as usize;
        let gone = self.awaited.swap_remove(at);
        judge.forgets(gone.number);
        self.keep(Attempt { unknown: true, ..gone.attempt });
    }

    fn keep(&mut self, attempt: Attempt) {
        if self.sent.len() >= KEPT {
            self.sent.pop_front();
        }
        self.sent.push_back(attempt);
    }

    /// Hears what was answered meanwhile. Gives the accounts that were answered, and what had been booked.
    pub fn hear(&mut self, judge: &mut Judge, note: &mut dyn FnMut(&[u8])) -> Vec<(u64, Answer, usize)> {
        let mut i = 0;
        while i < self.awaited.len() {
            match self.awaited[i].ticket.take() {
                None => i += 1,
                Some(answer) => {
                    let Awaited { number, attempt, .. } = self.awaited.remove(i);
                    match answer {
                        Ok(response) => {
                            note(format!("{number} {response:?}").as_bytes());
                            judge.hears(number, &response);
                            self.keep(attempt);
                        }
                        Err(_) => {
                            judge.forgets(number);
                            self.keep(Attempt { unknown: true, ..attempt });
                        }
                    }
                }
            }
        }
        let Heard { attempts, accounts: mut answers } = self.frames.hear(judge, note);
        for (attempt, known) in attempts {
            self.keep(Attempt { unknown: !known, ..attempt });
        }
        while let Some((number, ticket)) = self.questions.pop_front() {
            match ticket.take() {
                None => {
                    self.questions.push_front((number, ticket));
                    break;
                }
                Some(Ok(answer)) => {
                    note(format!("{answer:?}").as_bytes());
                    answers.push((number, answer, judge.hears_answer(answer)));
                }
                Some(Err(_)) => {}
            }
        }
        answers
    }

    /// The bank is gone: what was not answered is unknown.
    pub fn lose(&mut self) {
        for awaited in std::mem::take(&mut self.awaited) {
            self.keep(Attempt { unknown: true, ..awaited.attempt });
        }
        self.questions.clear();
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.awaited.len()
    }

    /// Everything that is unknown, oldest first.
    pub fn unknown(&mut self) -> Vec<Attempt> {
        let mut unknown = Vec::new();
        for attempt in self.sent.iter_mut().filter(|attempt| attempt.unknown) {
            attempt.unknown = false;
            unknown.push(Attempt {
                header: RequestHeader { deadline_ms: 0, ..attempt.header },
                ..attempt.clone()
            });
        }
        unknown
    }
}
