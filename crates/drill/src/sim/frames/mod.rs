//! Clients that speak the protocol: the client's own code, over pipes that are made up, to the server's own code before
//! the simulated core.
//!
//! *What is real.* Frames, their parsing, hello and welcome, tags, proofs, budgets, waiting and trying again of
//! `pabal-client`; rounds, connections, outbox and bounds of `pabal-wire`; who may send what, of `pabal-core`.
//! *What is made up.* The system: [`pipe`]; the time, which is the world's; and some who keep no rule ([`hostile`]).

pub mod behind;
pub mod copy;
pub mod follow;
pub mod hostile;
pub mod pipe;

use super::clients::Attempt;
use super::judge::{Judge, frames::Sender, wrong};
use super::tap::{Bench, Judged};
use crate::random::Random;
use behind::{Followings, SimCore};
use copy::CopyFrames;
use follow::Followed;
use hostile::Hostile;
use pabal_bank::ledger::{Code, Id};
use pabal_client::client::{Pending, Told};
use pabal_client::stepped::{Following as Passing, Pipe, Stepped as Process};
use pabal_client::{Address, Ask, ClientConfig, End, Envelope, Lane};
use pabal_core::machine::{Answer, Query};
use pabal_core::{Behind, Channel, Copy, CoreService, Credential, Credentials, Following, Question, Walkers};
use pabal_engine::{Door, RequestHeader, Seen};
use pabal_journal::Reader;
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
/// Connections that the server takes: two for each process and for the one that
/// follows, as an old one may not have ended, and the hostile.
const CONNECTIONS: usize = 2 * (SENDERS.len() + 1) + HOSTILE_MAX;
/// Hostile ones at a time.
const HOSTILE_MAX: usize = 3;
/// Rounds in which, all being quiet, a question must be answered.
const QUIET_ROUNDS: usize = 400;
/// Those who follow for a moment and go, when all is quiet, and the rounds for which they stay.
const PASSING: usize = 12;
const PASSING_ROUNDS: u32 = 20;
/// Times that who follows goes on at a time, at most.
const FOLLOWING_TURNS: u64 = 40;
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
pub struct Net {
    open: bool,
    room: usize,
    arrivals: Vec<ServerEnd>,
    links: Vec<Shared>,
}

pub type SharedNet = Arc<Mutex<Net>>;

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

/// Nobody is there any more.
fn close(net: &SharedNet) {
    let arrivals = {
        let mut net = lock(net);
        net.open = false;
        std::mem::take(&mut net.arrivals)
    };
    drop(arrivals);
}

/// Moves what flows in all pipes; some that stalled go on.
fn move_links(net: &SharedNet, all: bool, random: &mut Random, note: &mut u32) {
    let links = {
        let mut net = lock(net);
        net.links.retain(|link| !pipe::is_over(link));
        net.links.clone()
    };
    for link in &links {
        if random.one_in(60) {
            pipe::heal(link);
        }
        pipe::move_on(link, all, random, note);
    }
}

/// The credentials of all channels.
fn known() -> Vec<(Channel, Credential)> {
    Channel::ALL.iter().map(|&channel| (channel, Credential(credential(Some(channel))))).collect()
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
    /// Those who follow, as the core serves them; and the one who keeps the rules.
    followings: Followings,
    followed: Followed,
    /// Those who do so for a moment, and for how many rounds still.
    passing: (Vec<Passing>, u32),
    /// The copy, behind frames of its own.
    pub copy: CopyFrames,
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
    pub fn new(mut random: Random, bench: Bench, beside: Bench) -> Frames {
        let share = random.of(&[0, 3, 6, 9]);
        let room = random.of(&[200, 1000, 65_536]);
        let limits = Limits {
            connections: CONNECTIONS,
            in_flight: random.of(&[1, 2, 5, 1024]),
            untaken_bytes: random.of(&[4096, 16 << 20]),
            ..Limits::default()
        };
        let began = Instant::now();
        let mut frames = Frames {
            share,
            ends_heard: 0,
            followings: Followings::default(),
            followed: Followed::default(),
            passing: (Vec::new(), 0),
            copy: CopyFrames::new(Random::new(random.bits()), beside, began),
            random,
            bench,
            began,
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

    fn core(&self, door: Door<Judged>) -> SimCore {
        SimCore { door, bench: self.bench.clone(), followings: self.followings.clone() }
    }

    // ── the server ───────────────────────────────────────────────────────────────────────────────

    /// A bank lives, and is served.
    pub fn serve(&mut self, door: Door<Judged>, journal_id: u64, us: u64) {
        if self.share == 0 {
            return;
        }
        let core = Arc::new(self.core(door));
        let credentials = Credentials::of_these(known());
        let service = CoreService::new(core, credentials, Walkers::none(), journal_id);
        self.server = Some(Server::new(self.limits, CODES, Arc::new(service), self.moment(us)));
        lock(&self.net).open = true;
    }

    /// A copy lives, and is served.
    pub fn serve_copy(&mut self, copy: Copy<Judged>, reader: Reader, us: u64) {
        let now = self.moment(us);
        self.copy.serve(copy, reader, now);
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
        close(&self.net);
        lock_followings(&self.followings).clear();
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
        let (core, seen) = (self.core(door), self.seen.clone());
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
                4 => self.step_server(us),
                5 => {
                    let turns = self.random.below(FOLLOWING_TURNS);
                    self.follow_on(turns);
                }
                6..9 => {
                    self.step_hostile();
                    self.step_processes(us);
                    self.step_links(true);
                    self.step_server(us);
                    self.step_links(true);
                    self.step_processes(us);
                    let now = self.moment(us);
                    self.copy.step(false, now, &mut self.note);
                }
                _ => self.step_hostile(),
            }
        }
        self.note
    }

    fn step_processes(&mut self, us: u64) {
        let now = self.moment(us);
        self.processes.iter_mut().for_each(|process| process.step(now));
        self.step_followed();
    }

    fn step_followed(&mut self) {
        let came = self.followed.step(&self.net, &self.bench, &mut self.random, self.is_quiet);
        self.note = self.note.rotate_left(7) ^ came as u32;
    }

    /// Records are many times as long as a pipe may be.
    fn follow_on(&mut self, turns: u64) {
        for _ in 0..turns {
            self.step_followings();
            self.step_links(true);
            self.step_followed();
        }
    }

    /// Those who follow are sent what there is for them; reading it may be the end of the core.
    fn step_followings(&mut self) {
        lock_followings(&self.followings).retain_mut(|following| following(Duration::ZERO));
    }

    fn step_links(&mut self, all: bool) {
        move_links(&self.net, all, &mut self.random, &mut self.note);
    }

    fn step_server(&mut self, us: u64) {
        let now = self.moment(us);
        let Some(server) = &mut self.server else { return };
        let arrivals = std::mem::take(&mut lock(&self.net).arrivals);
        arrivals.into_iter().for_each(|end| server.let_in(Box::new(end)));
        server.step(now);
        self.step_followings();
        let Some(server) = &self.server else { return };
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
        let mut links = lock(&self.net).links.clone();
        links.extend(self.copy.links());
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
            _ if self.random.one_in(4) => {
                self.followed.ends();
                self.copy.asker_dies(self.moment(us));
                "who follows and who asks the copy die"
            }
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
        self.copy.hear(judge, note);
        heard
    }

    // ── the end ──────────────────────────────────────────────────────────────────────────────────

    /// Everything moves again, the hostile stay as they are, and somebody new asks.
    pub fn heal(&mut self, us: u64) {
        lock(&self.net).links.iter().for_each(pipe::heal);
        self.copy.heal(self.moment(us));
        let (credential, next) = (credential(Some(Channel::Reader)), self.followed.has() + 1);
        for _ in 0..PASSING {
            let end = reach(&self.net).map(|end| Passing::from(Box::new(end), credential, next));
            self.passing.0.extend(end);
        }
        self.passing.1 = PASSING_ROUNDS;
        self.processes[0] = self.process(0, us);
        let bench = self.bench.clone();
        self.is_quiet = true;
        self.ask_by(0, Query::Status, &bench.judge());
    }

    /// Whether he was answered, by the copy too, and who follows has all up to this record.
    pub fn is_healed(&self, durable: u64) -> bool {
        self.passing.1 == 0 && self.is_healed && self.copy.is_healed() && self.followed.has() >= durable
    }

    /// What is not healed.
    pub fn lacks(&self) -> String {
        let (core, copy, followed) = (self.is_healed, self.copy.is_healed(), self.followed.has());
        format!("core {core}, copy {copy}, followed to record {followed}")
    }

    /// Records that came to one who follows, and questions that the copy answered.
    pub fn beside(&self) -> (u64, u64) {
        (self.followed.heard, self.copy.heard)
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
        let now = self.moment(us);
        self.copy.step(true, now, &mut self.note);
        self.follow_on(FOLLOWING_TURNS);
        self.step_passing();
    }

    /// Those who stay for a moment; when they have gone there is room for whoever comes, though nothing new is to be sent.
    fn step_passing(&mut self) {
        let (passing, rounds) = &mut self.passing;
        passing.retain_mut(|passing| passing.step().is_ok());
        if *rounds == 1 {
            passing.clear();
            self.followed.forgets();
        }
        *rounds = rounds.saturating_sub(1);
    }
}

fn lock_followings(followings: &Followings) -> MutexGuard<'_, Vec<Following>> {
    followings.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether this channel may send all of it.
fn permits(channel: Channel, attempt: &Attempt) -> bool {
    attempt.commands.iter().all(|sent| {
        let command = sent.command();
        channel.permits(command.header.op, command.kind)
    })
}
