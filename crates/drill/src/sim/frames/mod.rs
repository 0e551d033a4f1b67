//! Clients that speak the protocol: the client's own code, over pipes that are made up, to the server's own code before
//! the simulated core.
//!
//! *What is real.* Frames, their parsing, hello and welcome, tags, proofs, budgets, waiting and trying again of
//! `pabal-client`; rounds, connections, outbox and bounds of `pabal-wire`; who may send what, of `pabal-core`.
//! *What is made up.* The system: [`pipe`]; the time, which is the world's; and some who keep no rule ([`hostile`]).

pub mod behind;
pub mod hostile;
pub mod pipe;

use super::clients::Attempt;
use super::judge::{Judge, frames::Sender, wrong};
use super::tap::{Bench, Judged};
use crate::random::Random;
use behind::SimCore;
use hostile::Hostile;
use pabal_bank::ledger::{Code, Id};
use pabal_client::client::{Pending, Told};
use pabal_client::stepped::{Pipe, Stepped as Process};
use pabal_client::{Address, Ask, ClientConfig, End, Envelope, Lane};
use pabal_core::machine::{Answer, Query};
use pabal_core::{Behind, Channel, CoreService, Credential, Credentials, Question, Walkers};
use pabal_engine::{Door, RequestHeader, Seen};
use pabal_wire::server::stepped::Stepped as Server;
use pabal_wire::{Codes, Limits};
use pipe::{ClientEnd, Link, ServerEnd, Shared};
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use zerocopy::IntoBytes;

/// Who speaks: processes of these channels, and one that guessed its credential.
const SENDERS: [Option<Channel>; 7] = [
    Some(Channel::Staff),
    Some(Channel::Staff),
    Some(Channel::Operator),
    Some(Channel::Collect),
    Some(Channel::Import),
    Some(Channel::Customers),
    None,
];
/// Connections that the server takes: two for each process, as an old one may not have ended, and the hostile.
const CONNECTIONS: usize = 2 * SENDERS.len() + HOSTILE_MAX;
/// Hostile ones at a time.
const HOSTILE_MAX: usize = 3;
/// Rounds in which, all being quiet, a question must be answered.
const QUIET_ROUNDS: usize = 400;
const CODES: Codes = Codes {
    malformed: Code::Malformed as u16,
    overloaded: Code::Overloaded as u16,
    version_unknown: Code::VersionUnknown as u16,
};

/// The credential of a channel; of none, one that nobody has.
fn credential(channel: Option<Channel>) -> [u8; 16] {
    [channel.map_or(0xee, |channel| channel as u8); 16]
}

/// What clients and server share: who stands at the door, and all pipes.
#[derive(Default)]
struct Net {
    open: bool,
    room: usize,
    arrivals: Vec<ServerEnd>,
    links: Vec<Shared>,
}

type SharedNet = Arc<Mutex<Net>>;

/// A question, and what was answered to it at the core's own door.
type AnsweredHere = (Query, Seen<Answer>);

fn lock(net: &SharedNet) -> MutexGuard<'_, Net> {
    net.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens a pipe to the server, if one is there.
fn reach(net: &SharedNet) -> io::Result<ClientEnd> {
    let mut net = lock(net);
    if !net.open {
        return Err(ErrorKind::ConnectionRefused.into());
    }
    let link = Link::with_room(net.room);
    net.arrivals.push(ServerEnd(link.clone()));
    net.links.push(link.clone());
    Ok(ClientEnd(link))
}

/// A request whose end is awaited.
struct Awaited {
    number: u64,
    attempt: Attempt,
    pending: Pending<End>,
}

/// A question whose answer is awaited.
struct Questioned {
    query: Query,
    at_least: u64,
    sender: Option<Channel>,
    /// Asked when all was quiet.
    last: bool,
    pending: Pending<Told>,
}

/// What was heard.
#[derive(Default)]
pub struct Heard {
    /// Requests that ended, and whether it is known how.
    pub attempts: Vec<(Attempt, bool)>,
    /// Accounts as they were answered, and what had been booked then.
    pub accounts: Vec<(u64, Answer, usize)>,
}

/// All that goes over frames.
pub struct Frames {
    /// Of ten requests, so many go over frames; none where nothing does.
    pub share: u64,
    /// Requests and questions that were answered.
    pub ends_heard: u64,
    random: Random,
    bench: Bench,
    began: Instant,
    net: SharedNet,
    limits: Limits,
    server: Option<Server>,
    processes: Vec<Process>,
    hostile: Vec<Hostile>,
    awaited: Vec<Awaited>,
    questions: Vec<Questioned>,
    /// What was answered at the core's own door.
    seen: Arc<Mutex<Vec<AnsweredHere>>>,
    /// A digest of all bytes that moved.
    note: u32,
    /// Nothing goes wrong any more; and who asked then was answered.
    is_quiet: bool,
    is_healed: bool,
}

impl Frames {
    pub fn new(mut random: Random, bench: Bench) -> Frames {
        let share = random.of(&[0, 3, 6, 9]);
        let room = random.of(&[200, 1000, 65_536]);
        let limits = Limits {
            connections: CONNECTIONS,
            in_flight: random.of(&[1, 2, 5, 1024]),
            untaken_bytes: random.of(&[4096, 16 << 20]),
            ..Limits::default()
        };
        let mut frames = Frames {
            share,
            ends_heard: 0,
            random,
            bench,
            began: Instant::now(),
            net: Arc::new(Mutex::new(Net { room, ..Net::default() })),
            limits,
            server: None,
            processes: Vec::new(),
            hostile: Vec::new(),
            awaited: Vec::new(),
            questions: Vec::new(),
            seen: Arc::default(),
            note: 0,
            is_quiet: false,
            is_healed: false,
        };
        for at in 0..if share > 0 { SENDERS.len() } else { 0 } {
            let process = frames.process(at, 0);
            frames.processes.push(process);
        }
        frames
    }

    /// The moment, of which only differences count.
    fn moment(&self, us: u64) -> Instant {
        self.began + Duration::from_micros(us)
    }

    fn process(&mut self, at: usize, us: u64) -> Process {
        // Where it is reached, the pipe says.
        let config = ClientConfig::to(Address::Unix("made-up".into()), credential(SENDERS[at]));
        let net = self.net.clone();
        let reach = move || reach(&net).map(|end| Box::new(end) as Box<dyn Pipe>);
        Process::new(config, None, reach, self.random.bits(), self.moment(us))
    }

    // ── the server ───────────────────────────────────────────────────────────────────────────────

    /// A bank lives, and is served.
    pub fn serve(&mut self, door: Door<Judged>, journal_id: u64, us: u64) {
        if self.share == 0 {
            return;
        }
        let core = Arc::new(SimCore { door, bench: self.bench.clone() });
        let known = Channel::ALL.iter().map(|&c| (c, Credential(credential(Some(c))))).collect();
        let service = CoreService::new(core, Credentials::of_these(known), Walkers::none(), journal_id);
        self.server = Some(Server::new(self.limits, CODES, Arc::new(service), self.moment(us)));
        lock(&self.net).open = true;
    }

    /// The bank is about to stop: nothing more is taken in.
    pub fn drains(&mut self, us: u64) {
        let now = self.moment(us);
        if let Some(server) = &mut self.server {
            server.drain(now + Duration::from_secs(1));
            // In the first round it hears of that, and may still read.
            server.step(now);
        }
    }

    /// The bank's process ended. In order, what it had to say is said before, as far as the pipes take it.
    pub fn ends(&mut self, in_order: bool, us: u64) {
        let now = self.moment(us);
        if let Some(mut server) = self.server.take()
            && in_order
        {
            server.step(now);
        }
        let arrivals = {
            let mut net = lock(&self.net);
            net.open = false;
            std::mem::take(&mut net.arrivals)
        };
        drop(arrivals);
    }

    // ── what is sent ─────────────────────────────────────────────────────────────────────────────

    /// Sends this under this number, if there is one who may, or one who tries. Gives it back where there is none.
    pub fn send(
        &mut self,
        attempt: Attempt,
        number: u64,
        big: bool,
        judge: &mut Judge,
    ) -> Result<(), Attempt> {
        let may: Vec<usize> =
            (0..SENDERS.len()).filter(|&at| SENDERS[at].is_some_and(|c| permits(c, &attempt))).collect();
        let at = match may.is_empty() || self.random.one_in(15) {
            true if self.random.one_in(3) => self.random.index(SENDERS.len()),
            true if may.is_empty() => return Err(attempt),
            _ => self.random.of(&may),
        };
        let bytes: Vec<u8> = attempt.commands.iter().flat_map(|sent| sent.bytes()).copied().collect();
        let h = &attempt.header;
        let lane = if h.is_bulk() { Lane::Bulk } else { Lane::Online };
        let attempt_id = Id { high: h.attempt[0], low: h.attempt[1] };
        let envelope = Envelope {
            class: h.class.min(4),
            lane,
            deadline_ms: h.deadline_ms,
            attempt: attempt_id,
            principal: number,
            item: h.item,
        };
        let header = RequestHeader {
            principal: number,
            channel: SENDERS[at].map_or(0, |channel| channel as u16),
            class: envelope.class,
            count: attempt.commands.len() as u32,
            time_ms: 0,
            ..*h
        };
        let sender = match SENDERS[at] {
            None => Sender::Unknown,
            Some(channel) if permits(channel, &attempt) => Sender::May,
            Some(_) => Sender::MayNot,
        };
        judge.sends_frames(header, &attempt.commands, attempt.malformed, big, sender);
        let ask = Ask {
            envelope,
            commands: bytes,
            patience: self.patience(),
            sent_before: attempt.before,
            again_when_refused: self.random.one_in(3),
        };
        match self.processes[at].client().submit(ask) {
            Ok(pending) => self.awaited.push(Awaited { number, attempt, pending }),
            Err(error) => wrong("client takes nothing", format!("request {number}: {error}")),
        }
        Ok(())
    }

    /// Asks this, over frames or at the core's own door.
    pub fn ask(&mut self, query: Query, door: Door<Judged>, judge: &Judge) {
        if self.random.one_in(2) {
            let at = self.random.index(SENDERS.len());
            return self.ask_by(at, query, judge);
        }
        let (core, seen) = (SimCore { door, bench: self.bench.clone() }, self.seen.clone());
        let heard = move |answer| seen.lock().unwrap_or_else(PoisonError::into_inner).push((query, answer));
        core.query_to(0, query, Box::new(heard));
    }

    fn ask_by(&mut self, at: usize, query: Query, judge: &Judge) {
        let question = match query {
            Query::Account(number) => Question::account(number),
            Query::Job(id) => Question::job(id),
            Query::Status => Question::status(),
        };
        // What was shown to anyone is seen by whoever asks then.
        let at_least = if self.random.one_in(2) { judge.shown_records() } else { 0 };
        let patience = if self.is_quiet { Duration::from_secs(3600) } else { self.patience() };
        let envelope = Envelope::default();
        let bytes = question.as_bytes().to_vec();
        match self.processes[at].client().query(envelope, bytes, at_least, patience) {
            Ok(pending) => {
                let (sender, last) = (SENDERS[at], self.is_quiet);
                self.questions.push(Questioned { query, at_least, sender, last, pending });
            }
            Err(error) => wrong("client takes nothing", format!("{query:?}: {error}")),
        }
    }

    fn patience(&mut self) -> Duration {
        Duration::from_millis(self.random.of(&[1, 20_000, 3_600_000, 90_000_000, 90_000_000]))
    }

    // ── what moves ───────────────────────────────────────────────────────────────────────────────

    /// Some of those who have something to do, in some order. Gives what moved, as a number.
    pub fn step(&mut self, us: u64) -> u32 {
        for _ in 0..self.random.between(1, 5) {
            match self.random.below(10) {
                0 | 1 => self.step_processes(us),
                2 | 3 => self.step_links(false),
                4 | 5 => self.step_server(us),
                6..9 => {
                    self.step_hostile();
                    self.step_processes(us);
                    self.step_links(true);
                    self.step_server(us);
                    self.step_links(true);
                    self.step_processes(us);
                }
                _ => self.step_hostile(),
            }
        }
        self.note
    }

    fn step_processes(&mut self, us: u64) {
        let now = self.moment(us);
        self.processes.iter_mut().for_each(|process| process.step(now));
    }

    fn step_links(&mut self, all: bool) {
        let links = {
            let mut net = lock(&self.net);
            net.links.retain(|link| !pipe::is_over(link));
            net.links.clone()
        };
        for link in &links {
            if self.random.one_in(60) {
                pipe::stall(link, true, false);
                pipe::stall(link, false, false);
            }
            pipe::move_on(link, all, &mut self.random, &mut self.note);
        }
    }

    fn step_server(&mut self, us: u64) {
        let now = self.moment(us);
        let Some(server) = &mut self.server else { return };
        let arrivals = std::mem::take(&mut lock(&self.net).arrivals);
        arrivals.into_iter().for_each(|end| server.let_in(Box::new(end)));
        server.step(now);
        if server.connections() > CONNECTIONS + pabal_wire::server::TURNED_AWAY_MAX {
            wrong("too many connections", format!("{}", server.connections()));
        }
    }

    fn step_hostile(&mut self) {
        if self.share == 0 {
            return;
        }
        for hostile in &mut self.hostile {
            hostile.step(&mut self.random);
        }
        self.hostile.retain(|hostile| !hostile.is_done());
        if self.hostile.len() < HOSTILE_MAX
            && self.random.one_in(6)
            && let Ok(end) = reach(&self.net)
        {
            let taken_max = hostile::taken_bytes_max(&self.limits, lock(&self.net).room);
            self.hostile.push(Hostile::new(end, taken_max, &mut self.random));
        }
    }

    // ── what befalls it ──────────────────────────────────────────────────────────────────────────

    /// Something befalls a pipe, or a client. Says what.
    pub fn danger(&mut self, us: u64) -> &'static str {
        let links = lock(&self.net).links.clone();
        if links.is_empty() {
            return "nothing there";
        }
        let link = &links[self.random.index(links.len())];
        let up = self.random.one_in(2);
        match self.random.below(8) {
            0..3 => {
                pipe::cut(link, &mut self.random);
                "a pipe is cut"
            }
            3 | 4 => {
                pipe::stall(link, up, true);
                "a pipe stalls"
            }
            5 | 6 if pipe::alter(link, up, &mut self.random) => "a byte is altered",
            5 | 6 => "nothing flows",
            _ => {
                // What it waited for ends as unknown.
                let at = self.random.index(SENDERS.len());
                self.processes[at] = self.process(at, us);
                "a client dies"
            }
        }
    }

    // ── what is heard ────────────────────────────────────────────────────────────────────────────

    /// One of those who wait goes away.
    pub fn go_away(&mut self) -> Option<Attempt> {
        if self.awaited.is_empty() {
            return None;
        }
        let at = self.random.index(self.awaited.len());
        Some(self.awaited.remove(at).attempt)
    }

    /// Hears what ended meanwhile.
    pub fn hear(&mut self, judge: &mut Judge, note: &mut dyn FnMut(&[u8])) -> Heard {
        let mut heard = Heard::default();
        for Awaited { number, attempt, pending } in std::mem::take(&mut self.awaited) {
            match pending.look() {
                Err(pending) => self.awaited.push(Awaited { number, attempt, pending }),
                Ok(end) => {
                    note(format!("frames {number} {end:?}").as_bytes());
                    self.ends_heard += u64::from(matches!(end, End::Replies { .. }));
                    let known = judge.hears_end(number, &attempt.commands, &end);
                    heard.attempts.push((attempt, known));
                }
            }
        }
        let seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        for (query, seen) in seen {
            note(format!("{query:?} {seen:?}").as_bytes());
            let answer = judge.hears_seen(query, &seen);
            if let (Query::Account(number), Some((answer, booked))) = (query, answer) {
                heard.accounts.push((number, answer, booked));
            }
        }
        for Questioned { query, at_least, sender, last, pending } in std::mem::take(&mut self.questions) {
            match pending.look() {
                Err(pending) => {
                    self.questions.push(Questioned { query, at_least, sender, last, pending });
                }
                Ok(told) => {
                    note(format!("frames {query:?} {told:?}").as_bytes());
                    self.ends_heard += u64::from(matches!(told, Told::Answer { .. }));
                    self.is_healed |= last && matches!(told, Told::Answer { .. });
                    let answer = judge.hears_told(query, at_least, sender.is_some(), &told);
                    if let (Query::Account(number), Some((answer, booked))) = (query, answer) {
                        heard.accounts.push((number, answer, booked));
                    }
                }
            }
        }
        heard
    }

    // ── the end ──────────────────────────────────────────────────────────────────────────────────

    /// Everything moves again, the hostile stay as they are, and somebody new asks.
    pub fn heal(&mut self, us: u64) {
        for link in &lock(&self.net).links {
            pipe::stall(link, true, false);
            pipe::stall(link, false, false);
        }
        self.processes[0] = self.process(0, us);
        let bench = self.bench.clone();
        self.is_quiet = true;
        self.ask_by(0, Query::Status, &bench.judge());
    }

    /// Whether he was answered.
    pub fn is_healed(&self) -> bool {
        self.is_healed
    }

    /// Rounds in which somebody who asks must be answered, once all is healed.
    pub fn quiet_rounds(&self) -> usize {
        if self.share > 0 { QUIET_ROUNDS } else { 0 }
    }

    /// A round in which nobody is left out.
    pub fn step_all(&mut self, us: u64) {
        self.step_processes(us);
        self.step_links(true);
        self.step_server(us);
        self.step_links(true);
        self.step_processes(us);
    }
}

/// Whether this channel may send all of it.
fn permits(channel: Channel, attempt: &Attempt) -> bool {
    attempt.commands.iter().all(|sent| {
        let command = sent.command();
        channel.permits(command.header.op, command.kind)
    })
}
