//! Opens what a crash left, and judges what is found there.

use super::loss::{Crash, is_unfinished};
use super::seen::{Known, WrittenRecord};
use crate::disk::SimDisk;
use crate::disk::image::{BLOCK, Image};
use pabal_core::BankMachine;
use pabal_engine::engine::JOURNAL;
use pabal_engine::{EngineConfig, Replay, TimeSource};
use pabal_journal::{Cut, Disk, Error, Journal, JournalConfig, Reader, Record};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// A name for what a disk holds: two disks of the same name hold the same.
pub type Content = u128;

/// A name for what a block holds.
type BlockHash = [u8; 16];

/// The bank of one history: all that a start is told.
pub struct Place {
    /// Blocks of a segment.
    pub segment_blocks: u32,
    /// The id of its journal.
    pub journal_id: u64,
    /// Its data folder.
    pub data: PathBuf,
}

impl Place {
    /// How its journal is opened on this disk.
    pub fn journal(&self, disk: &SimDisk) -> JournalConfig {
        JournalConfig {
            segment_blocks: self.segment_blocks,
            direct: true,
            disk: Arc::new(disk.clone()),
            background: false,
        }
    }

    /// How its engine is started on this disk.
    pub fn engine(&self, disk: &SimDisk) -> EngineConfig {
        EngineConfig { journal: self.journal(disk), journal_id: self.journal_id, time: TimeSource::Carried }
    }

    /// The folder of its journal.
    pub fn folder(&self) -> PathBuf {
        self.data.join(JOURNAL)
    }
}

/// What an opening came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every record was decided again and found the same.
    Opened {
        /// Hashes of the records.
        records: Arc<[[u8; 32]]>,
        /// The torn record after them.
        cut: Option<Cut>,
        /// Whether the last stop was an orderly one.
        orderly: bool,
    },
    /// Refused as rotten.
    Rotten(String),
}

/// Opens and judges; remembers what each content came to.
pub struct Judge<'p> {
    place: &'p Place,
    config: JournalConfig,
    outcomes: HashMap<Content, Outcome>,
    /// Hashes of blocks by where they lie, which they do as long as they are kept here.
    blocks: HashMap<*const [u8; BLOCK], (Arc<[u8; BLOCK]>, BlockHash)>,
}

impl<'p> Judge<'p> {
    /// For this bank.
    pub fn new(place: &'p Place) -> Judge<'p> {
        let config = place.journal(&SimDisk::new(0));
        Judge { place, config, outcomes: HashMap::new(), blocks: HashMap::new() }
    }

    /// What this disk holds. Of a segment whose making was cut short only the name counts.
    pub fn content(&mut self, image: &Image) -> Content {
        const ZERO: BlockHash = [0; 16];
        let mut content = Vec::with_capacity(2048);
        for (path, file) in image.files() {
            content.extend_from_slice(path.as_os_str().as_encoded_bytes());
            content.push(0);
            if is_unfinished(path) {
                continue;
            }
            content.extend_from_slice(&file.length.to_le_bytes());
            for block in &file.seen {
                let hash = block.as_ref().map_or(&ZERO, |block| {
                    let hash = || {
                        let hash = blake3::hash(&block[..]);
                        (block.clone(), *hash.as_bytes().first_chunk().expect("it has 32 bytes"))
                    };
                    &self.blocks.entry(Arc::as_ptr(block)).or_insert_with(hash).1
                });
                content.extend_from_slice(hash);
            }
        }
        let hash = blake3::hash(&content);
        u128::from_le_bytes(*hash.as_bytes().first_chunk().expect("it has 32 bytes"))
    }

    /// Opens this disk, which holds this. True when it is the first that does. An error is one of the bank.
    pub fn outcome(&mut self, content: Content, image: &Image) -> Result<(Outcome, bool), String> {
        if let Some(outcome) = self.outcomes.get(&content) {
            return Ok((outcome.clone(), false));
        }
        let outcome = self.open(image)?;
        self.outcomes.insert(content, outcome.clone());
        Ok((outcome, true))
    }

    /// Opens the journal as an engine does and decides every record again in a new bank.
    fn open(&mut self, image: &Image) -> Result<Outcome, String> {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::with(image.clone(), 1));
        self.config.disk = disk.clone();
        let folder = self.place.folder();
        let mut held = Some(BankMachine::default());
        let mut replay = None;
        let mut records = Vec::new();
        let opened =
            Journal::open(&folder, &self.config, self.place.journal_id, &mut |record: &Record<'_>| {
                if let Some(bank) = held.take() {
                    replay = Some(Replay::new(bank, Reader::open_on(disk.clone(), &folder)?));
                }
                if let Some(replay) = &mut replay {
                    replay.record(record)?;
                }
                records.push(record.hash);
                Ok(())
            });
        match opened {
            Ok((_, found)) => {
                Ok(Outcome::Opened { records: records.into(), cut: found.cut, orderly: found.orderly })
            }
            Err(rotten @ Error::Rotten { .. }) => Ok(Outcome::Rotten(rotten.to_string())),
            Err(error) => Err(format!("it does not open: {error}")),
        }
    }

    /// Reads this disk as one does who has nothing but the files of a bank that does not run. What `verify` says
    /// of them must be what the bank itself will find when it opens them: as no writer lives, the last whole record
    /// counts, and a torn one after it does not.
    pub fn read_offline(&self, image: &Image, opened: &Outcome) -> Result<(), String> {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::with(image.clone(), 1));
        let mut records = Vec::new();
        let scanned = Reader::open_on(disk, &self.place.folder()).and_then(|reader| {
            reader.scan(&mut |record| {
                records.push(record.hash);
                Ok(())
            })
        });
        let read = match scanned {
            Ok(found) => {
                // A journal that was just made counts as stopped in order.
                let orderly = found.orderly || found.records == 0 && found.cut.is_none();
                Outcome::Opened { records: records.into(), cut: found.cut, orderly }
            }
            Err(rotten @ Error::Rotten { .. }) => Outcome::Rotten(rotten.to_string()),
            Err(error) => return Err(format!("it opens, but is not read: {error}")),
        };
        match read == *opened {
            true => Ok(()),
            false => Err(format!("read offline {}, but opened {}", told(&read), told(opened))),
        }
    }
}

/// Whether this is what the crash of a bank of which this was known may come to. Gives how many records are there;
/// none where the disk was torn within a block and is refused.
pub fn judge(crash: &Crash, known: &Known, outcome: &Outcome) -> Result<Option<usize>, String> {
    let found = match outcome {
        Outcome::Rotten(_) if crash.tears() => return Ok(None),
        Outcome::Rotten(what) => {
            return Err(format!("refused, though each block is as it was or as written: {what}"));
        }
        Outcome::Opened { records, .. } => records,
    };
    if (found.len() as u64) < known.durable {
        let (found, durable) = (found.len(), known.durable);
        return Err(format!("{found} records are there, but {durable} were shown to be durable"));
    }
    let same = |(written, found): (&WrittenRecord, &[u8; 32])| written.hash == *found;
    if found.len() > known.records.len() || !known.records.iter().zip(found.iter()).all(same) {
        let written = known.records.len();
        return Err(format!(
            "{} records are there that are not the first of the {written} written",
            found.len()
        ));
    }
    if *crash == Crash::Process && found.len() < known.records.len() {
        return Err(format!(
            "{} records are there of {} that were written whole",
            found.len(),
            known.records.len()
        ));
    }
    Ok(Some(found.len()))
}

fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Opened { records, cut, orderly } => {
            format!("with {} records, cut {cut:?}, orderly {orderly}", records.len())
        }
        Outcome::Rotten(what) => format!("as rotten: {what}"),
    }
}
