//! Opening: the journal replayed into the machine, and everything that runs it made ready.

use crate::core::Core;
use crate::door::Door;
use crate::engine::{EngineConfig, Error, JOURNAL, Recovery};
use crate::machine::Machine;
use crate::queue::Queue;
use crate::replay::Replay;
use crate::request::RECORD_BLOCKS_MAX;
use crate::ring::{FILE, Ring, Suspect};
use crate::snapshot;
use crate::time::Time;
use crate::writer::{Line, Writer};
use pabal_fault::{Point, reached};
use pabal_journal::{Journal, Reader, RecordBuffer, RecordKind};
use std::path::Path;
use std::sync::Arc;

/// Records that can be on their way at once: one being written, one waiting, one being made.
const BUFFERS: usize = 3;

/// What stands ready to run.
pub(crate) struct Ready<M: Machine, L> {
    pub door: Door<M>,
    pub core: Core<M, L>,
    pub suspect: Option<Suspect>,
    pub recovery: Recovery,
}

/// Opens the data folder and replays its journal into the machine. `line` makes the core's way to the writer;
/// `groups`: whether small requests wait for one another while it writes.
pub(crate) fn open<M: Machine, L: Line<M>>(
    data: &Path,
    machine: M,
    config: EngineConfig,
    progress: &mut dyn FnMut(u64),
    groups: bool,
    line: impl FnOnce(Writer, &Door<M>) -> L,
) -> Result<Ready<M, L>, Error> {
    let dir = data.join(JOURNAL);
    let disk = config.journal.disk.clone();
    let reader = || Reader::open_on(disk.clone(), &dir);
    // Only read here: a reader makes them.
    let loaded = snapshot::newest(&*disk, data, &machine, &reader);
    let (after, from) = (loaded.as_ref().map(|l| l.after), loaded.as_ref().map(|l| l.after.sequence));
    let mut held = Some(loaded.map_or((machine, 0), |loaded| (loaded.machine, loaded.time_ms)));
    let mut replay: Option<Replay<M>> = None;
    let mut visit = |record: &pabal_journal::Record<'_>| {
        // Made with the first record, so that there is a journal to read.
        if let Some((machine, last_ms)) = held.take() {
            replay = Some(Replay::after(machine, reader()?, last_ms));
        }
        if let Some(replay) = &mut replay {
            replay.record(record)?;
        }
        progress(record.start_block + record.header.blocks as u64);
        Ok(())
    };
    let (journal, recovered) =
        Journal::open_after(&dir, &config.journal, config.journal_id, after, &mut visit)?;
    let commands = replay.as_ref().map_or(0, |replay| replay.commands);
    let machine =
        replay.map(Replay::into_machine).or(held.map(|held| held.0)).expect("one of the two has it");
    let last_ms = recovered.last.map_or(0, |last| last.time_ms);
    let time = Time::start(config.time, last_ms)?;
    let (ring, suspect) = Ring::open(&*disk, data).map_err(|source| {
        reached(Point::RingOpen);
        Error::Ring { path: data.join(FILE), source }
    })?;
    let layout = journal.layout();
    let blocks_max = RECORD_BLOCKS_MAX.min((layout.segment_blocks - 1) as u32);
    let (supply, next_block) = (journal.supply(), journal.next_block());
    let door = Door {
        queue: Arc::new(Queue::new(groups)),
        blocks_max,
        durable: journal.durable(),
        disk: disk.clone(),
        dir: dir.clone(),
    };
    let (its, cores) = (reader()?, reader()?);
    let writer = line(Writer { journal, reader: its }, &door);
    let core = Core {
        machine,
        queue: door.queue.clone(),
        time,
        ring,
        layout,
        supply,
        reader: cores,
        writer,
        buffers: (0..BUFFERS).map(|_| RecordBuffer::new()).collect(),
        next_block,
        outstanding: 0,
        blocks_max,
        unconfirmed: recovered.last.is_some_and(|l| l.kind == RecordKind::Batch as u16),
        put_off: false,
        last_ms,
    };
    let tried_alone = suspect.is_some();
    let recovery = Recovery { journal: recovered, snapshot: from, commands, tried_alone, quarantined: false };
    Ok(Ready { door, core, suspect, recovery })
}
