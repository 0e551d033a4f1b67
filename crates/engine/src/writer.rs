//! The writer: makes records durable, then releases what was answered with them.

use crate::machine::Machine;
use crate::request::{Commands, Hear, Response, Seen};
use pabal_fault::{Bug, Point, planted, reached};
use pabal_journal::sync::mpsc::{Receiver, Sender, SyncSender};
use pabal_journal::sync::{Mutex, PoisonError};
use pabal_journal::{Durable, Error, Journal, Reader, RecordBuffer};
use std::collections::VecDeque;
use std::sync::Arc;

/// What the core hands to the writer, in order.
pub(crate) enum Work<M: Machine> {
    /// Write this record, then release the answers.
    Record(RecordBuffer, Vec<Release<M>>),
    /// Release these once everything before is durable, which it is when their turn comes.
    Release(Vec<Release<M>>),
}

/// An answer that waits for its batch to be durable.
pub(crate) enum Release<M: Machine> {
    Response { to: Hear<Response<M::Reply>>, replies: Vec<M::Reply>, commands: Commands },
    Answer { to: Hear<Seen<M::Answer>>, answer: M::Answer },
}

/// The writer is gone: its error says why.
pub(crate) struct WriterGone;

impl WriterGone {
    fn found<T>(_: T) -> WriterGone {
        reached(Point::CoreNoWriter);
        WriterGone
    }
}

pub(crate) struct Writer {
    pub journal: Journal,
    pub reader: Reader,
}

impl Writer {
    /// Does this, and says so when a record is durable; gives back the record's buffer. After an error nothing more is to be done: the answers are
    /// dropped, and whoever waits hears "unknown".
    fn work<M: Machine>(&mut self, work: Work<M>, written: &dyn Fn()) -> Result<Spent, Error> {
        let mut done = None;
        let releases = match work {
            Work::Record(mut buffer, releases) if planted(Bug::AcknowledgedEarly) => {
                self.release(releases)?;
                self.journal.append(&mut buffer)?;
                written();
                return Ok(Some(buffer));
            }
            Work::Record(mut buffer, releases) => {
                self.journal.append(&mut buffer).inspect_err(|_| reached(Point::WriterEnded))?;
                written();
                done = Some(buffer);
                releases
            }
            Work::Release(releases) => releases,
        };
        self.release(releases)?;
        Ok(done)
    }

    fn release<M: Machine>(&self, releases: Vec<Release<M>>) -> Result<(), Error> {
        for release in releases {
            match release {
                Release::Answer { to, answer } => to(Seen { sequence: self.journal.sequence(), answer }),
                Release::Response { to, mut replies, commands } => {
                    repeat::<M>(&self.reader, self.journal.next_block(), &mut replies, &commands)?;
                    to(Response { sequence: self.journal.sequence(), replies });
                }
            }
        }
        Ok(())
    }
}

/// What a work leaves: the buffer of its record, if it had one.
pub(crate) type Spent = Option<RecordBuffer>;

/// Where the writer is to be found: its thread works here, and the core where it would have nothing to do meanwhile.
pub(crate) struct Desk(Mutex<Place>);

enum Place {
    Here(Box<Writer>),
    /// What ended it, until someone is told.
    Ended(Error),
    Empty,
}

impl Desk {
    pub fn of(writer: Writer) -> Desk {
        Desk(Mutex::new(Place::Here(Box::new(writer))))
    }

    /// Has this done. After an error, or an invariant that broke at it, nothing more is.
    fn work<M: Machine>(&self, work: Work<M>, written: &dyn Fn()) -> Result<Spent, WriterGone> {
        let mut desk = self.0.lock().map_err(WriterGone::found)?;
        // It is taken away while it works: where an invariant breaks it is dropped, and whoever waits for a record hears
        // that none will come.
        match std::mem::replace(&mut *desk, Place::Empty) {
            Place::Here(mut writer) => match writer.work(work, written) {
                Ok(spent) => {
                    *desk = Place::Here(writer);
                    return Ok(spent);
                }
                Err(error) => *desk = Place::Ended(error),
            },
            gone => *desk = gone,
        }
        Err(WriterGone::found(()))
    }

    /// Works until the core hangs up, or an error ends it.
    pub fn run<M: Machine>(
        &self,
        works: &Receiver<Work<M>>,
        spent: &Sender<Spent>,
        written: &dyn Fn(),
    ) -> Result<(), Error> {
        while let Ok(work) = works.recv()
            && let Ok(done) = self.work(work, written)
        {
            let _ = spent.send(done);
        }
        let mut desk = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *desk, Place::Empty) {
            Place::Ended(error) => Err(error),
            Place::Here(_) | Place::Empty => Ok(()),
        }
    }
}

/// Replaces each reply that repeats an earlier outcome by that outcome, read from its entry. An entry that cannot be
/// read ends the writer as a failed write does: who asked hears "unknown", and the error says why.
fn repeat<M: Machine>(
    reader: &Reader,
    end: u64,
    replies: &mut [M::Reply],
    commands: &Commands,
) -> Result<(), Error> {
    if replies.iter().all(|reply| M::repeats(reply).is_none()) {
        return Ok(());
    }
    let mut rest = commands.as_bytes();
    for reply in replies {
        let length = M::length(rest).expect("whole commands were let in");
        let (command, after) = rest.split_at(length);
        rest = after;
        if let Some(position) = M::repeats(reply) {
            let entry = reader.entry_before(position, end).inspect_err(|_| reached(Point::RepeatRotten))?;
            *reply = M::again(command, &entry, position);
        }
    }
    Ok(())
}

/// The core's way to the writer. What is handed over is done in its order.
pub(crate) trait Line<M: Machine> {
    /// Hands it this. Waits while too much is on its way.
    fn send(&mut self, work: Work<M>) -> Result<(), WriterGone>;
    /// The same, where nothing is on its way and the core is not to go on meanwhile: so it may be done on its thread.
    fn send_and_wait(&mut self, work: Work<M>) -> Result<(), WriterGone>;
    /// What a work left that is done; waits for one when `wait`. Each work is heard of once.
    fn spent(&mut self, wait: bool) -> Result<Option<Spent>, WriterGone>;
    /// Waits until every block before this one is durable, or the writer is gone; says whether they are.
    fn wait_for(&mut self, block: u64) -> bool;
}

/// To a writer with a thread of its own.
pub(crate) struct Threaded<M: Machine> {
    pub work: SyncSender<Work<M>>,
    pub spent: Receiver<Spent>,
    pub durable: Arc<Durable>,
    pub desk: Arc<Desk>,
    /// What is told that a record is written.
    pub written: Box<dyn Fn() + Send>,
    /// What was done here and not heard of yet.
    pub done: VecDeque<Spent>,
}

impl<M: Machine> Line<M> for Threaded<M> {
    fn send(&mut self, work: Work<M>) -> Result<(), WriterGone> {
        self.work.send(work).map_err(WriterGone::found)
    }

    fn send_and_wait(&mut self, work: Work<M>) -> Result<(), WriterGone> {
        self.done.push_back(self.desk.work(work, &*self.written)?);
        Ok(())
    }

    fn spent(&mut self, wait: bool) -> Result<Option<Spent>, WriterGone> {
        match self.done.pop_front() {
            Some(spent) => Ok(Some(spent)),
            None if wait => self.spent.recv().map(Some).map_err(WriterGone::found),
            None => Ok(self.spent.try_recv().ok()),
        }
    }

    fn wait_for(&mut self, block: u64) -> bool {
        self.durable.wait_for(block)
    }
}

/// Works that a writer without a thread lets wait at most: as many as wait for one with a thread, and the one
/// that it is at.
const WAITING_MAX: usize = 2;

/// To a writer that works when it is told to, or when the core would have to wait for it.
pub(crate) struct Stepped<M: Machine> {
    /// None once it has ended: as a thread's, it is dropped then, and whoever waits for a record hears of it.
    writer: Option<Writer>,
    waiting: VecDeque<Work<M>>,
    spent: VecDeque<Spent>,
    /// What ended it, until someone is told.
    pub ended: Option<Error>,
}

impl<M: Machine> Stepped<M> {
    pub fn new(writer: Writer) -> Stepped<M> {
        Stepped { writer: Some(writer), waiting: VecDeque::new(), spent: VecDeque::new(), ended: None }
    }

    /// Works that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Does the next thing that waits; false when nothing does.
    pub fn step(&mut self) -> Result<bool, WriterGone> {
        let Some(writer) = &mut self.writer else { return Err(WriterGone::found(())) };
        let Some(work) = self.waiting.pop_front() else { return Ok(false) };
        match writer.work(work, &|| ()) {
            Ok(spent) => {
                self.spent.push_back(spent);
                Ok(true)
            }
            Err(error) => {
                self.waiting.clear();
                self.ended = Some(error);
                self.writer = None;
                Err(WriterGone::found(()))
            }
        }
    }
}

impl<M: Machine> Line<M> for Stepped<M> {
    /// Whoever steps it may let others go first: what a thread can do is one of the ways in which that goes.
    fn send_and_wait(&mut self, work: Work<M>) -> Result<(), WriterGone> {
        self.send(work)
    }

    fn send(&mut self, work: Work<M>) -> Result<(), WriterGone> {
        while self.waiting.len() >= WAITING_MAX {
            self.step()?;
        }
        if self.writer.is_none() {
            return Err(WriterGone::found(work));
        }
        self.waiting.push_back(work);
        Ok(())
    }

    fn spent(&mut self, wait: bool) -> Result<Option<Spent>, WriterGone> {
        while wait && self.spent.is_empty() && self.step()? {}
        Ok(self.spent.pop_front())
    }

    fn wait_for(&mut self, block: u64) -> bool {
        let is_there =
            |stepped: &Self| stepped.writer.as_ref().is_some_and(|w| w.journal.next_block() >= block);
        while !is_there(self) && matches!(self.step(), Ok(true)) {}
        is_there(self)
    }
}
