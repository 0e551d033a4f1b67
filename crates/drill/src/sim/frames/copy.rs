//! The copy beside the bank behind frames of its own: the reader's own service and server, over pipes of the same kind,
//! asked by processes that speak to it alone.

use super::super::judge::{Judge, wrong};
use super::super::tap::{Bench, Judged};
use super::pipe::{self, Shared};
use super::{CODES, Net, SharedNet, close, credential, known, lock, move_links, reach};
use crate::random::Random;
use pabal_bank::ledger::Code;
use pabal_client::client::{Pending, Told};
use pabal_client::stepped::{Pipe, Stepped as Process};
use pabal_client::{Address, ClientConfig, Envelope, Why};
use pabal_core::machine::Query;
use pabal_core::{Channel, Copy, Credentials, Question, ReaderService, Walkers, Walks};
use pabal_journal::Reader;
use pabal_wire::Limits;
use pabal_wire::server::stepped::Stepped as Server;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use zerocopy::IntoBytes;

/// Who asks: processes of these channels, and one that guessed its credential.
const ASKERS: [Option<Channel>; 4] =
    [Some(Channel::Staff), Some(Channel::Staff), Some(Channel::Customers), None];

/// A question whose answer is awaited.
struct Questioned {
    query: Query,
    at_least: u64,
    /// The earliest record that the copy stood at since it was asked.
    lowest: u64,
    is_known: bool,
    /// Asked when all was quiet.
    last: bool,
    pending: Pending<Told>,
}

/// What serves: it ends with the copy's process.
struct Serving {
    server: Server,
    walks: Walks,
    reader: Reader,
    copy: Copy<Judged>,
}

/// See the module.
pub struct CopyFrames {
    random: Random,
    beside: Bench,
    net: SharedNet,
    limits: Limits,
    serving: Option<Serving>,
    processes: Vec<Process>,
    questions: Vec<Questioned>,
    is_quiet: bool,
    is_healed: bool,
    /// Questions that were answered.
    pub heard: u64,
}

impl CopyFrames {
    pub fn new(mut random: Random, beside: Bench, now: Instant) -> CopyFrames {
        let limits = Limits {
            in_flight: random.of(&[1, 2, 1024]),
            untaken_bytes: random.of(&[4096, 16 << 20]),
            ..Limits::default()
        };
        let net = Net { room: random.of(&[200, 1000, 65_536]), ..Net::default() };
        let mut frames = CopyFrames {
            random,
            beside,
            net: Arc::new(Mutex::new(net)),
            limits,
            serving: None,
            processes: Vec::new(),
            questions: Vec::new(),
            is_quiet: false,
            is_healed: false,
            heard: 0,
        };
        frames.processes = (0..ASKERS.len()).map(|at| frames.process(at, now)).collect();
        frames
    }

    fn process(&mut self, at: usize, now: Instant) -> Process {
        let config = ClientConfig::to(Address::Unix("made-up".into()), credential(ASKERS[at]));
        let net = self.net.clone();
        let reach = move || reach(&net).map(|end| Box::new(end) as Box<dyn Pipe>);
        Process::new(config, None, reach, self.random.bits(), now)
    }

    /// A copy lives, and is served. It reads histories with this reader.
    pub fn serve(&mut self, copy: Copy<Judged>, reader: Reader, now: Instant) {
        self.ends();
        let at = copy.read().sequence();
        self.questions.iter_mut().for_each(|question| question.lowest = question.lowest.min(at));
        let (walkers, walks) = Walkers::stepped();
        let credentials = Credentials::of_these(known());
        let service = ReaderService::new(copy.clone(), credentials, walkers, reader.journal_id());
        let server = Server::new(self.limits, CODES, Arc::new(service), now);
        self.serving = Some(Serving { server, walks, reader, copy });
        lock(&self.net).open = true;
    }

    /// The copy's process ended.
    pub fn ends(&mut self) {
        self.serving = None;
        close(&self.net);
    }

    /// Asks this; what was shown to anyone, of which the last was this record, may be wanted.
    pub fn ask(&mut self, query: Query, shown: u64) {
        let at = self.random.index(ASKERS.len());
        self.ask_by(at, query, shown);
    }

    fn ask_by(&mut self, at: usize, query: Query, shown: u64) {
        let question = match query {
            Query::Account(number) => Question::account(number),
            Query::Job(id) => Question::job(id),
            Query::Status => Question::status(),
        };
        let stands = self.serving.as_ref().map_or(0, |serving| serving.copy.read().sequence());
        let at_least = match self.random.below(6) {
            _ if self.is_quiet => 0,
            0 | 1 => 0,
            2 | 3 => stands,
            4 => stands + 1,
            _ => shown,
        };
        let patience = if self.is_quiet { 3_600_000 } else { self.random.of(&[1, 20_000, 90_000_000]) };
        let (envelope, bytes) = (Envelope::default(), question.as_bytes().to_vec());
        let asked =
            self.processes[at].client().query(envelope, bytes, at_least, Duration::from_millis(patience));
        match asked {
            Ok(pending) => self.questions.push(Questioned {
                query,
                at_least,
                lowest: stands,
                is_known: ASKERS[at].is_some(),
                last: self.is_quiet,
                pending,
            }),
            Err(error) => wrong("client takes nothing", format!("{query:?}: {error}")),
        }
    }

    /// Those who ask, the pipes and the server go on, some of them where it is not to be all.
    pub fn step(&mut self, all: bool, now: Instant, note: &mut u32) {
        if all || self.random.one_in(2) {
            self.processes.iter_mut().for_each(|process| process.step(now));
        }
        if all || self.random.one_in(2) {
            move_links(&self.net, all, &mut self.random, note);
        }
        let Some(serving) = &mut self.serving else { return };
        let arrivals = std::mem::take(&mut lock(&self.net).arrivals);
        arrivals.into_iter().for_each(|end| serving.server.let_in(Box::new(end)));
        serving.server.step(now);
        self.beside.judge().lets_nothing_out();
        for _ in 0..if all { u64::MAX } else { self.random.below(4) } {
            if !serving.walks.step(&serving.reader) {
                break;
            }
            self.beside.judge().lets_out();
        }
    }

    /// The pipes to it.
    pub fn links(&self) -> Vec<Shared> {
        lock(&self.net).links.clone()
    }

    /// One of those who ask dies, and begins anew.
    pub fn asker_dies(&mut self, now: Instant) {
        let at = self.random.index(ASKERS.len());
        self.processes[at] = self.process(at, now);
    }

    /// Hears what was told. `judge` is the bank's: what a copy shows is shown.
    pub fn hear(&mut self, judge: &mut Judge, note: &mut dyn FnMut(&[u8])) {
        for questioned in std::mem::take(&mut self.questions) {
            let Questioned { query, at_least, lowest, is_known, last, pending } = questioned;
            let told = match pending.look() {
                Ok(told) => told,
                Err(pending) => {
                    let questioned = Questioned { query, at_least, lowest, is_known, last, pending };
                    self.questions.push(questioned);
                    continue;
                }
            };
            note(format!("copy {query:?} {told:?}").as_bytes());
            if told == Told::Refused(Why::Code(Code::NotFresh as u16)) && is_known && at_least > lowest {
                continue;
            }
            self.beside.judge().hears_told(query, at_least, is_known, &told);
            if let Told::Answer { sequence, .. } = told {
                judge.shows_record(sequence.max(1));
                self.heard += 1;
                self.is_healed |= last;
            }
        }
    }

    /// Everything moves again, and somebody new asks, if a copy is there. Whether it is.
    pub fn heal(&mut self, now: Instant) {
        self.links().iter().for_each(pipe::heal);
        self.is_quiet = true;
        match self.serving.is_some() {
            true => {
                self.processes[0] = self.process(0, now);
                self.ask_by(0, Query::Status, 0);
            }
            false => self.is_healed = true,
        }
    }

    /// Whether he was answered.
    pub fn is_healed(&self) -> bool {
        self.is_healed || self.serving.is_none()
    }
}
