//! The engine itself: opening, asking, stopping.

use crate::door::Door;
use crate::follow::Follower;
use crate::machine::Machine;
use crate::queue::Queue;
use crate::request::{Hear, Request, Response, Seen, Ticket};
use crate::start::{Ready, open};
use crate::time::{TimeGap, TimeSource};
use crate::writer::{Desk, Threaded, WriterGone};
use pabal_fault::{Point, reached};
use pabal_journal::sync::mpsc::{channel, sync_channel};
use pabal_journal::sync::{JoinHandle, Mutex, PoisonError, spawn};
use pabal_journal::{Durable, JournalConfig, Recovered};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Folder of the journal, in the data folder.
pub const JOURNAL: &str = "journal";

/// How to run an engine.
pub struct EngineConfig {
    /// How the journal is made and written.
    pub journal: JournalConfig,
    /// The id of a journal that is made now.
    pub journal_id: u64,
    /// Where time comes from.
    pub time: TimeSource,
}

/// Why an engine did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] pabal_journal::Error),
    /// The time.
    #[error(transparent)]
    Time(#[from] TimeGap),
    /// The file that survives crashes.
    #[error("{path}: {source}")]
    Ring {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A follower has seen records that are not in this journal.
    #[error(
        "record {sequence} cannot be followed: the journal ends with record {last}; begin from the first"
    )]
    Ahead {
        /// The record from which it wants to follow.
        sequence: u64,
        /// The last durable one.
        last: u64,
    },
    /// The core stopped on a broken invariant; what it said is on standard error.
    #[error("the core stopped on a broken invariant")]
    Core,
}

/// What a start found.
#[derive(Clone, Copy, Debug)]
pub struct Recovery {
    /// What the journal's opening found.
    pub journal: Recovered,
    /// The record after which a snapshot held the state, if there was one that was good.
    pub snapshot: Option<u64>,
    /// Commands replayed.
    pub commands: u64,
    /// Whether a command was being executed when the process last died, and was tried alone.
    pub tried_alone: bool,
    /// Whether it was set aside, as it stopped the core twice. An operator must look at it.
    pub quarantined: bool,
}

/// A running engine.
pub struct Engine<M: Machine> {
    door: Door<M>,
    ended: Arc<Ended>,
    core: Mutex<Option<JoinHandle<Result<M, WriterGone>>>>,
    writer: Mutex<Option<JoinHandle<Result<(), pabal_journal::Error>>>>,
}

impl<M: Machine> Engine<M> {
    /// Opens the data folder, replays its journal into the machine, and runs. `progress` hears, after
    /// each replayed record, the block at which it ended.
    pub fn start(
        data: &Path,
        machine: M,
        config: EngineConfig,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(Engine<M>, Recovery), Error> {
        let mut thread = None;
        let ready = open(data, machine, config, progress, true, |writer, door| {
            let (work, works) = sync_channel(1);
            let (spent_to, spent) = channel();
            let gone = Gone { queue: door.queue.clone() };
            let desk = Arc::new(Desk::of(writer));
            let (its, queue) = (desk.clone(), door.queue.clone());
            thread = Some(spawn("pabal-writer", move || {
                its.run::<M>(&works, &spent_to, &|| gone.queue.written())
            }));
            let written = Box::new(move || queue.written());
            Threaded { work, spent, durable: door.durable.clone(), desk, written, done: VecDeque::new() }
        })?;
        let Ready { door, mut core, suspect, mut recovery } = ready;
        if let Some(suspect) = suspect {
            recovery.quarantined = core.try_alone(&suspect).unwrap_or(false);
        }
        let ended = Arc::new(Ended::default());
        let left = Left { queue: door.queue.clone(), ended: ended.clone() };
        let core = spawn("pabal-core", move || {
            let _left = left;
            core.run()
        });
        let (core, writer) = (Mutex::new(Some(core)), Mutex::new(thread));
        Ok((Engine { door, ended, core, writer }, recovery))
    }

    /// Sends a request. The answer comes when it is durable; a full lane answers at once.
    pub fn submit(&self, request: Request) -> Ticket<Response<M::Reply>> {
        self.door.submit(request)
    }

    /// Asks about the state. The answer comes when what it shows is durable.
    pub fn query(&self, query: M::Query) -> Ticket<M::Answer> {
        self.door.query(query)
    }

    /// Lets requests in, each of a sender, whose answers are heard on a thread of the engine. Different senders take turns:
    /// one that floods waits behind itself.
    pub fn submit_all(&self, requests: impl IntoIterator<Item = (u64, Request, Hear<Response<M::Reply>>)>) {
        self.door.submit_all(requests);
    }

    /// Asks for one sender; heard on a thread of the engine, with the record as of which it was answered.
    pub fn query_to(&self, sender: u64, query: M::Query, to: Hear<Seen<M::Answer>>) {
        self.door.query_to(sender, query, to);
    }

    /// The acknowledged point.
    pub fn durable(&self) -> Arc<Durable> {
        self.door.durable.clone()
    }

    /// Calls this, once, when the core has ended: in order, on a failed write or on a broken invariant. A process
    /// that did not ask it to stop must end then; [`Engine::stop`] says why.
    pub fn when_ended(&self, heard: impl FnOnce() + Send + 'static) {
        self.ended.when(Box::new(heard));
    }

    /// Follows the journal from its first record on.
    pub fn follow(&self) -> Result<Follower, Error> {
        self.follow_from(1)
    }

    /// Follows the journal from the record of this sequence on: for a follower that keeps how far it has come.
    /// The record may be the next one to come. One beyond that is refused: whoever asks for it has seen records
    /// that this journal does not have.
    pub fn follow_from(&self, sequence: u64) -> Result<Follower, Error> {
        self.door.follow_from(sequence)
    }

    /// Executes what waits, confirms the last record, and ends. Gives the machine back.
    pub fn stop(self) -> Result<M, Error> {
        self.end()
    }

    /// The same, by one of several who have it: nobody has to let go of it first. Once: there is one machine.
    pub fn end(&self) -> Result<M, Error> {
        self.door.queue.stop();
        let (core, writer) = (taken(&self.core), taken(&self.writer));
        let core = core.map(JoinHandle::join);
        self.door.queue.abandon();
        match writer.map(JoinHandle::join) {
            Some(Ok(Err(error))) => {
                reached(Point::StopJournal);
                return Err(error.into());
            }
            Some(Ok(Ok(()))) => {
                if let Some(Ok(Ok(machine))) = core {
                    return Ok(machine);
                }
            }
            _ => {}
        }
        reached(Point::StopCore);
        Err(Error::Core)
    }
}

impl<M: Machine> Drop for Engine<M> {
    fn drop(&mut self) {
        if self.core.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            let _ = self.end();
        }
    }
}

fn taken<T>(from: &Mutex<Option<T>>) -> Option<T> {
    from.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Wakes the core when the writer has ended: on a failed write also one that has nothing to do must end.
struct Gone<T> {
    queue: Arc<Queue<T>>,
}

impl<T> Drop for Gone<T> {
    fn drop(&mut self) {
        self.queue.stop();
    }
}

/// Empties the lanes when the core has ended, however it did: nobody would take from them any more. Then says
/// so to whoever wants to know.
struct Left<T> {
    queue: Arc<Queue<T>>,
    ended: Arc<Ended>,
}

impl<T> Drop for Left<T> {
    fn drop(&mut self) {
        self.queue.abandon();
        self.ended.tell();
    }
}

type Heard = Box<dyn FnOnce() + Send>;

/// Who wants to hear that the core has ended.
#[derive(Default)]
struct Ended(Mutex<(bool, Vec<Heard>)>);

impl Ended {
    fn tell(&self) {
        let mut ended = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ended.0 = true;
        let waiting = std::mem::take(&mut ended.1);
        drop(ended);
        waiting.into_iter().for_each(|heard| heard());
    }

    fn when(&self, heard: Heard) {
        let mut ended = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !ended.0 {
            return ended.1.push(heard);
        }
        drop(ended);
        heard();
    }
}
