//! The threads that read histories, with a bounded queue: what does not fit is refused at once.

use crate::machine::Answer as State;
use crate::question::{Asks, Question, Standing};
use crate::read::{History, ReadError};
use pabal_bank::ledger::Code;
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

/// A question whose state part is known.
struct Walk {
    asks: Asks,
    question: Question,
    standing: Standing,
    /// The record that the state is as of, and the block after it or a later one.
    as_of: (u64, u64),
    answer: Answer,
}

/// The threads.
pub struct Walkers {
    /// Hung up when dropped, which ends the threads.
    to: Option<SyncSender<Walk>>,
    threads: Vec<JoinHandle<()>>,
}

impl Walkers {
    /// Threads that read with this reader.
    pub fn start(reader: Reader) -> std::io::Result<Walkers> {
        let (to, walks) = sync_channel::<Walk>(WAITING_MAX);
        let (reader, walks) = (Arc::new(reader), Arc::new(Mutex::new(walks)));
        let threads = (0..THREADS).map(|_| {
            let (reader, walks) = (reader.clone(), walks.clone());
            thread::Builder::new().name("pabal-walker".into()).spawn(move || run(&reader, &walks))
        });
        let threads = threads.collect::<std::io::Result<_>>()?;
        Ok(Walkers { to: Some(to), threads })
    }

    /// Answers a question of which this is what the state says.
    pub(crate) fn answer(
        &self,
        asks: Asks,
        question: Question,
        state: State,
        as_of: (u64, u64),
        answer: Answer,
    ) {
        let standing = match state {
            State::Account(view) => view.as_ref().map(Standing::of).unwrap_or_default(),
            State::Job(job) => job.map_or(Standing::default(), |(head, ended)| Standing {
                found: 1,
                head,
                next: ended as u64,
                ..Standing::default()
            }),
        };
        let walk = Walk { asks, question, standing, as_of, answer };
        if standing.found == 0 || !matches!(asks, Asks::Statement | Asks::AsOf) {
            return answered(walk.answer, as_of.0, standing.as_bytes().to_vec());
        }
        match self.to.as_ref().map(|to| to.try_send(walk)) {
            Some(Ok(())) | None => {}
            Some(Err(TrySendError::Full(walk) | TrySendError::Disconnected(walk))) => {
                walk.answer.send(Answered::refused(Code::Overloaded as u16));
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

fn run(reader: &Reader, walks: &Mutex<Receiver<Walk>>) {
    loop {
        let next = walks.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(walk) = next else { return };
        match walk.read(reader) {
            Ok(body) => answered(walk.answer, walk.as_of.0, body),
            Err(error) => {
                // Nobody is told what may be wrong; the journal's own check says where.
                eprintln!("a history could not be read: {error}; run verify");
                walk.answer.send(Answered::unknown());
            }
        }
    }
}

impl Walk {
    /// The answer's body.
    fn read(&self, reader: &Reader) -> Result<Vec<u8>, ReadError> {
        let (q, mut standing) = (&self.question, self.standing);
        let history = History { reader, account: q.account, end: self.as_of.1 };
        if self.asks == Asks::AsOf {
            standing.balance = history.balance_as_of(standing.head, q.to.0)?;
            return Ok(standing.as_bytes().to_vec());
        }
        let (lines, more) = history.lines(standing.head, (q.from.0, q.to.0), q.before, q.limit as usize)?;
        standing.lines = lines.len() as u32;
        standing.next = lines.last().filter(|_| more).map_or(0, |line| line.position);
        Ok([standing.as_bytes(), lines.as_bytes()].concat())
    }
}

fn answered(answer: Answer, sequence: u64, body: Vec<u8>) {
    let write = move |out: &mut Vec<u8>| out.extend_from_slice(&body);
    answer.send(Answered { kind: Kind::Answer, code: 0, sequence, count: 0, body: Some(Box::new(write)) });
}
