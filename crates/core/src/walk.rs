//! The threads that read histories, with a bounded queue: what does not fit is refused at once.

use crate::machine::{Answer as State, Query};
use crate::question::{Asks, BankStanding, Question, Standing};
use crate::read::{History, ReadError};
use pabal_bank::ledger::{Code, Id};
use pabal_journal::Reader;
use pabal_wire::service::Answered;
use pabal_wire::{Answer, Kind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use zerocopy::IntoBytes;

/// Questions that wait for a thread at most; more are refused as overloaded.
const WAITING_MAX: usize = 1024;
/// Threads.
const THREADS: usize = 2;

/// Something that takes reads of the journal.
struct Job {
    work: Work,
    answer: Answer,
}

/// Reads, and gives the answer.
pub(crate) type Work = Box<dyn FnOnce(&Reader) -> Result<Answered, ReadError> + Send>;

/// The threads.
pub struct Walkers {
    /// Hung up when dropped, which ends the threads.
    to: Option<SyncSender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Walkers {
    /// Threads that read with this reader.
    pub fn start(reader: Reader) -> std::io::Result<Walkers> {
        let (to, jobs) = sync_channel::<Job>(WAITING_MAX);
        let (reader, jobs) = (Arc::new(reader), Arc::new(Mutex::new(jobs)));
        let threads = (0..THREADS).map(|_| {
            let (reader, jobs) = (reader.clone(), jobs.clone());
            thread::Builder::new().name("pabal-walker".into()).spawn(move || run(&reader, &jobs))
        });
        let threads = threads.collect::<std::io::Result<_>>()?;
        Ok(Walkers { to: Some(to), threads })
    }

    /// Nobody: what takes reads is answered with "unknown". Where histories are read by whoever asks.
    pub fn none() -> Walkers {
        Walkers { to: None, threads: Vec::new() }
    }

    /// Nobody: whoever has the other part does what waits when it will, and a simulator can repeat it.
    pub fn stepped() -> (Walkers, Walks) {
        let (to, jobs) = sync_channel::<Job>(WAITING_MAX);
        (Walkers { to: Some(to), threads: Vec::new() }, Walks(jobs))
    }

    /// Has this done, and answered.
    pub(crate) fn send(&self, work: Work, answer: Answer) {
        match self.to.as_ref().map(|to| to.try_send(Job { work, answer })) {
            Some(Ok(())) | None => {}
            Some(Err(TrySendError::Full(job) | TrySendError::Disconnected(job))) => {
                job.answer.send(Answered::refused(Code::Overloaded as u16));
            }
        }
    }
}

impl Drop for Walkers {
    fn drop(&mut self) {
        self.to = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// What waits to be read by whoever steps it.
pub struct Walks(Receiver<Job>);

impl Walks {
    /// Does what waits longest, with this reader. False when nothing waits.
    pub fn step(&self, reader: &Reader) -> bool {
        self.0.try_recv().map(|job| job.done(reader)).is_ok()
    }
}

impl Job {
    fn done(self, reader: &Reader) {
        match (self.work)(reader) {
            Ok(answered) => self.answer.send(answered),
            Err(error) => {
                // Nobody is told what may be wrong; the journal's own check says where.
                eprintln!("a history could not be read: {error}; run verify");
                self.answer.send(Answered::unknown());
            }
        }
    }
}

fn run(reader: &Reader, jobs: &Mutex<Receiver<Job>>) {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        job.done(reader);
    }
}

/// A question and what the state says to it.
pub(crate) struct Walk {
    pub asks: Asks,
    pub question: Question,
    pub standing: Standing,
    /// How the bank stands, where that is asked.
    bank: Option<BankStanding>,
    /// The record that the state is as of.
    pub sequence: u64,
    /// The block after that record, or after a later one.
    pub end: u64,
}

impl Walk {
    /// What is asked of the state.
    pub fn query(asks: Asks, question: &Question) -> Query {
        match asks {
            Asks::Job => Query::Job(Id { high: question.job[0], low: question.job[1] }),
            Asks::Status => Query::Status,
            Asks::Account | Asks::Statement | Asks::AsOf => Query::Account(question.account),
        }
    }

    /// With what the state says.
    pub fn of(asks: Asks, question: Question, state: State, (sequence, end): (u64, u64)) -> Walk {
        let mut walk = Walk { asks, question, standing: Standing::default(), bank: None, sequence, end };
        match state {
            State::Account(view) => walk.standing = view.as_ref().map(Standing::of).unwrap_or_default(),
            State::Job(Some((head, ended))) => {
                walk.standing = Standing { found: 1, head, next: ended as u64, ..Standing::default() };
            }
            State::Job(None) => {}
            State::Status(view) => walk.bank = Some(BankStanding::of(&view)),
        }
        walk
    }

    /// Whether the answer takes reads of the journal.
    pub fn reads(&self) -> bool {
        self.standing.found == 1 && matches!(self.asks, Asks::Statement | Asks::AsOf)
    }

    /// The answer of what the state says alone.
    pub fn stands(&self) -> Answered {
        let standing = self.bank.as_ref().map_or(self.standing.as_bytes(), IntoBytes::as_bytes);
        answered(self.sequence, standing.to_vec())
    }

    /// The answer.
    pub fn read(&self, reader: &Reader) -> Result<Answered, ReadError> {
        let (q, mut standing) = (&self.question, self.standing);
        let history = History { reader, account: q.account, end: self.end };
        if self.asks == Asks::AsOf {
            standing.balance = history.balance_as_of(standing.head, q.to.0)?;
            return Ok(answered(self.sequence, standing.as_bytes().to_vec()));
        }
        let (lines, more) = history.lines(standing.head, (q.from.0, q.to.0), q.before, q.limit as usize)?;
        standing.lines = lines.len() as u32;
        standing.next = lines.last().filter(|_| more).map_or(0, |line| line.position);
        Ok(answered(self.sequence, [standing.as_bytes(), lines.as_bytes()].concat()))
    }
}

fn answered(sequence: u64, body: Vec<u8>) -> Answered {
    let write = move |out: &mut Vec<u8>| out.extend_from_slice(&body);
    Answered { kind: Kind::Answer, code: 0, sequence, count: 0, body: Some(Box::new(write)) }
}
