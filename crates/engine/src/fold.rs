//! A folded copy of the machine: the journal read elsewhere than in the core, and as far as it is durable.
//!
//! It begins with the newest good snapshot and the journal's files, without asking anyone, so it serves reads also when
//! no core runs. From then on it takes each record as it comes, and only the one that follows by sequence and by hash:
//! a record of another journal, or one too many, is refused and changes nothing. Each is decided again and compared
//! to the byte, as at a start; a copy that finds a difference takes nothing more.

use crate::engine::{Error, JOURNAL};
use crate::machine::Machine;
use crate::replay::{Replay, ReplayError};
use crate::snapshot::{self, Made};
use pabal_fault::{Bug, Point, planted, reached};
use pabal_journal::{After, Disk, Reader, Record, RecordHeader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A machine that follows a journal.
pub struct Fold<M: Machine> {
    replay: Replay<M>,
    disk: Arc<dyn Disk>,
    data: PathBuf,
    /// The record that it took last.
    at: Option<(After, RecordHeader)>,
    /// The record of the newest snapshot that it knows of.
    snapshot: u64,
    /// Whether a record did not say what deciding it again gives, or could not be decided to its end.
    spoiled: bool,
}

/// Why a record was not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// It does not follow the last one: it is another journal's, or some are missing between.
    #[error("record {got} does not follow record {at}; begin again from what the files say")]
    Other {
        /// The record that came.
        got: u64,
        /// The last one taken.
        at: u64,
    },
    /// It does not say what deciding it again gives, or the one before did not.
    #[error(transparent)]
    Differs(#[from] ReplayError),
    /// An earlier one did not say what deciding it again gives.
    #[error("an earlier record did not say what deciding it again gives; nothing more is taken")]
    Spoiled,
}

impl<M: Machine> Fold<M> {
    /// Reads what stands in the files of this data folder, from the newest good snapshot on, into a machine like this
    /// one. `progress` hears, after each record, the block at which it ended.
    pub fn open(
        disk: Arc<dyn Disk>,
        data: &Path,
        machine: M,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Fold<M>, Error> {
        let dir = data.join(JOURNAL);
        let reader = || Reader::open_on(disk.clone(), &dir);
        let loaded = snapshot::newest(&*disk, data, &machine, &reader);
        let after = loaded.as_ref().map(|loaded| loaded.after);
        let (machine, last_ms) = loaded.map_or((machine, 0), |loaded| (loaded.machine, loaded.time_ms));
        let mut fold = Fold {
            replay: Replay::after(machine, reader()?, last_ms),
            disk: disk.clone(),
            data: data.into(),
            at: None,
            snapshot: after.map_or(0, |after| after.sequence),
            spoiled: false,
        };
        let files = reader()?;
        if let Some(after) = after {
            fold.at = Some((after, files.find(&after)?));
        }
        files.scan_after(after, &mut |record| {
            fold.take(record)?;
            progress(record.start_block + record.header.blocks as u64);
            Ok(())
        })?;
        Ok(fold)
    }

    /// Takes the next record.
    pub fn take(&mut self, record: &Record<'_>) -> Result<(), NotTaken> {
        let (h, at) = (record.header, self.sequence());
        let follows = match &self.at {
            Some((last, _)) => h.sequence == at + 1 && h.previous_hash == last.hash,
            None => h.sequence == 1 && h.previous_hash == self.replay.reader().genesis(),
        };
        if self.spoiled || !follows {
            reached(Point::FoldOther);
            return Err(if self.spoiled {
                NotTaken::Spoiled
            } else {
                NotTaken::Other { got: h.sequence, at }
            });
        }
        let after = After { sequence: h.sequence, start_block: record.start_block, hash: record.hash };
        if planted(Bug::FoldSkips) && h.sequence.is_multiple_of(7) {
            self.at = Some((after, *h));
            return Ok(());
        }
        // Also when it stops in the middle.
        self.spoiled = true;
        if let Err(differs) = self.replay.record(record) {
            reached(Point::FoldReplay);
            return Err(differs.into());
        }
        self.spoiled = false;
        self.at = Some((after, *h));
        Ok(())
    }

    /// The last record that it took; zero for none.
    pub fn sequence(&self) -> u64 {
        self.at.as_ref().map_or(0, |(after, _)| after.sequence)
    }

    /// The block after that record.
    pub fn next_block(&self) -> u64 {
        self.at.as_ref().map_or(1, |(after, header)| after.start_block + header.blocks as u64)
    }

    /// The time of that record, milliseconds since 1970.
    pub fn time_ms(&self) -> u64 {
        self.at.as_ref().map_or(0, |(_, header)| header.time_ms)
    }

    /// Whether the machine has taken some of a record and not all of it: then it is no state of the journal's, and
    /// nothing must be answered from it.
    pub fn is_spoiled(&self) -> bool {
        self.spoiled
    }

    /// The machine as of that record, unless it is spoiled.
    pub fn machine(&self) -> &M {
        self.replay.machine()
    }

    /// Commands that were decided again.
    pub fn commands(&self) -> u64 {
        self.replay.commands
    }

    /// The record of the newest snapshot that it knows of; zero for none.
    pub fn snapshot_sequence(&self) -> u64 {
        self.snapshot
    }

    /// That a snapshot was made of the state after this record.
    pub fn snapshot_made(&mut self, sequence: u64) {
        self.snapshot = self.snapshot.max(sequence);
    }

    /// Makes a snapshot of the state as it is. None when there is nothing that the newest one does not have.
    pub fn snapshot(&self) -> std::io::Result<Option<Made>> {
        match &self.at {
            Some((after, header)) if !self.spoiled && after.sequence > self.snapshot => {
                let (disk, journal) = (&*self.disk, self.replay.reader());
                snapshot::make(disk, &self.data, self.machine(), *after, header, journal).map(Some)
            }
            _ => Ok(None),
        }
    }
}
