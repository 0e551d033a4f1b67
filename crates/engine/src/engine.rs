//! The engine itself: opening, asking, stopping.

use crate::core::{Ask, Core, WriterGone};
use crate::follow::Follower;
use crate::machine::Machine;
use crate::queue::{Queue, Waiting};
use crate::replay::Replay;
use crate::request::{
    BULK_BLOCKS_MAX, BULK_COMMANDS_MAX, BYTES_MAX, COMMANDS_MAX, RECORD_BLOCKS_MAX, Refusal, Request,
    Response, Ticket,
};
use crate::ring::Ring;
use crate::room::Room;
use crate::time::{Time, TimeGap, TimeSource};
use crate::writer;
use pabal_journal::{Durable, Journal, JournalConfig, Reader, RecordBuffer, Recovered};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Folder of the journal, in the data folder.
pub const JOURNAL: &str = "journal";
/// Records that can be on their way at once: one being written, one waiting, one being made.
const BUFFERS: usize = 3;

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
    /// Commands replayed.
    pub commands: u64,
    /// Whether a command was being executed when the process last died, and was tried alone.
    pub tried_alone: bool,
    /// Whether it was set aside, as it stopped the core twice. An operator must look at it.
    pub quarantined: bool,
}

/// A running engine.
pub struct Engine<M: Machine> {
    queue: Arc<Queue<Ask<M>>>,
    /// Blocks of a record at most.
    blocks_max: u32,
    ended: Arc<Ended>,
    durable: Arc<Durable>,
    dir: PathBuf,
    core: Option<JoinHandle<Result<(M, Ring), WriterGone>>>,
    writer: Option<JoinHandle<Result<Journal, pabal_journal::Error>>>,
}

impl<M: Machine> Engine<M> {
    /// Opens the data folder, replays its journal into the machine, and runs. `progress` hears, after
    /// each replayed record, the block at which it ended.
    pub fn start(
        data: &Path,
        mut machine: M,
        config: EngineConfig,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(Engine<M>, Recovery), Error> {
        let dir = data.join(JOURNAL);
        let mut commands = 0;
        // Made first, so that a reader can be had while the records are replayed.
        let (mut journal, recovered) = {
            let mut replay: Option<Replay<'_, M>> = None;
            let mut held = Some(&mut machine);
            let opened = Journal::open(&dir, &config.journal, config.journal_id, &mut |record| {
                if let Some(machine) = held.take() {
                    replay = Some(Replay::new(machine, Reader::open(&dir)?));
                }
                if let Some(replay) = &mut replay {
                    replay.record(record)?;
                    commands = replay.commands;
                }
                progress(record.start_block + record.header.blocks as u64);
                Ok(())
            })?;
            drop(replay);
            opened
        };
        let last_ms = recovered.last.map_or(0, |last| last.time_ms);
        let time = Time::start(config.time, last_ms)?;
        let ring_error = |source| Error::Ring { path: data.join(crate::ring::FILE), source };
        let (ring, suspect) = Ring::open(data).map_err(ring_error)?;
        let durable = journal.durable();
        let blocks_max = RECORD_BLOCKS_MAX.min((journal.layout().segment_blocks - 1) as u32);
        let queue = Arc::new(Queue::new());
        let (work, works) = sync_channel(1);
        let (spent_to, spent) = channel();
        let mut core = Core {
            machine,
            queue: queue.clone(),
            time,
            ring,
            layout: journal.layout(),
            durable: durable.clone(),
            reader: Reader::open(&dir)?,
            work,
            spent,
            buffers: (0..BUFFERS).map(|_| RecordBuffer::new()).collect(),
            next_block: journal.next_block(),
            outstanding: 0,
            blocks_max,
            unconfirmed: recovered.last.is_some_and(|l| l.kind == pabal_journal::RecordKind::Batch as u16),
            last_ms,
        };
        let reader = Reader::open(&dir)?;
        let gone = Gone { queue: queue.clone() };
        let writer = spawn("pabal-writer", move || {
            let _gone = gone;
            journal = writer::run::<M>(journal, &reader, works, &spent_to)?;
            Ok(journal)
        });
        let tried_alone = suspect.is_some();
        let mut quarantined = false;
        if let Some(suspect) = suspect {
            quarantined = core.try_alone(&suspect).unwrap_or(false);
        }
        let ended = Arc::new(Ended::default());
        let left = Left { queue: queue.clone(), ended: ended.clone() };
        let core = spawn("pabal-core", move || {
            let _left = left;
            core.run()
        });
        let engine =
            Engine { queue, blocks_max, ended, durable, dir, core: Some(core), writer: Some(writer) };
        Ok((engine, Recovery { journal: recovered, commands, tried_alone, quarantined }))
    }

    /// Sends a request. The answer comes when it is durable; a full lane answers at once.
    pub fn submit(&self, mut request: Request) -> Ticket<Response<M::Reply>> {
        let (to, answer) = sync_channel(1);
        let (commands, weight) = (request.commands.len(), request.commands.as_bytes().len());
        request.header = request.header.in_form(commands as u32);
        let bulk = request.header.is_bulk();
        let refuse = |refusal| {
            let replies = vec![M::refused(refusal); commands];
            let _ = to.send(Response { sequence: self.durable.sequence(), replies });
        };
        let (most, blocks) = match bulk {
            true => (BULK_COMMANDS_MAX, self.blocks_max.min(BULK_BLOCKS_MAX)),
            false => (COMMANDS_MAX, self.blocks_max),
        };
        let bounded = commands > 0 && commands <= most && weight <= BYTES_MAX;
        let room = if bounded { Room::of::<M>(&request.commands) } else { None };
        let Some(room) = room.filter(|room| room.blocks() <= blocks) else {
            refuse(Refusal::Malformed);
            return Ticket(answer);
        };
        let waiting = Waiting { item: Ask::Execute(request, room, to.clone()), weight, commands };
        if self.queue.push(bulk, waiting).is_err() {
            refuse(Refusal::Overloaded);
        }
        Ticket(answer)
    }

    /// Asks about the state. The answer comes when what it shows is durable.
    pub fn query(&self, query: M::Query) -> Ticket<M::Answer> {
        let (to, answer) = sync_channel(1);
        // When the lane is full the sender is dropped, and the asker hears "unknown".
        let _ = self.queue.push(false, Waiting { item: Ask::Query(query, to), weight: 64, commands: 1 });
        Ticket(answer)
    }

    /// The acknowledged point.
    pub fn durable(&self) -> Arc<Durable> {
        self.durable.clone()
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
        let reader = Reader::open(&self.dir)?;
        let next_sequence = sequence.max(1);
        // Asked before the block is, so that the record before lies before the block.
        let last = self.durable.sequence();
        let next_block = match next_sequence - 1 {
            0 => 1,
            before if before > last => return Err(Error::Ahead { sequence, last }),
            before => reader.end_of(before, self.durable.next_block())?,
        };
        Ok(Follower { reader, durable: self.durable.clone(), next_block, next_sequence })
    }

    /// Executes what waits, confirms the last record, and ends. Gives the machine back.
    pub fn stop(mut self) -> Result<M, Error> {
        self.queue.stop();
        self.finish()
    }

    fn finish(&mut self) -> Result<M, Error> {
        let core = self.core.take().map(JoinHandle::join);
        self.queue.abandon();
        let writer = self.writer.take().map(JoinHandle::join);
        match writer {
            Some(Ok(Err(error))) => return Err(error.into()),
            Some(Ok(Ok(_))) => {}
            _ => return Err(Error::Core),
        }
        match core {
            Some(Ok(Ok((machine, ring)))) => {
                let path = self.dir.with_file_name(crate::ring::FILE);
                ring.remove().map_err(|source| Error::Ring { path, source })?;
                Ok(machine)
            }
            _ => Err(Error::Core),
        }
    }
}

impl<M: Machine> Drop for Engine<M> {
    fn drop(&mut self) {
        if self.core.is_some() {
            self.queue.stop();
            let _ = self.finish();
        }
    }
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

fn spawn<T: Send + 'static>(name: &str, run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    std::thread::Builder::new().name(name.into()).spawn(run).expect("a thread at the start")
}
