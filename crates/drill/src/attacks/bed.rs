//! A journal to attack: records of known content on a simulated disk, and what must always be true of them.

use crate::disk::SimDisk;
use crate::disk::image::{BLOCK, Block, Image, Loss, block, bytes};
use pabal_journal::{
    Error, Journal, JournalConfig, Position, Reader, Record, RecordBuffer, RecordKind, RecordMeta,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The journal's folder.
pub const DIR: &str = "/journal";
/// Blocks of a segment.
pub const SEGMENT_BLOCKS: u64 = 8;
/// Units of each entry: no two share a block.
const ENTRY_UNITS: usize = 60;
/// Lives that a loss of power may leave, of which so many are drawn.
const LOSSES: u64 = 8;

/// A journal whose record number n says n in an entry in each of its blocks.
pub struct Bed {
    pub disk: SimDisk,
    pub journal: Option<Journal>,
    /// Records that are acknowledged, and those whose write was begun.
    pub acknowledged: u64,
    pub begun: u64,
}

/// How a journal is opened on this disk.
pub fn config(disk: &SimDisk) -> JournalConfig {
    let segment_blocks = SEGMENT_BLOCKS as u32;
    JournalConfig { segment_blocks, direct: true, disk: Arc::new(disk.clone()), background: false }
}

/// The file of a segment.
pub fn segment(number: u64) -> PathBuf {
    Path::new(DIR).join(format!("{number:012}.seg"))
}

/// A place in a segment, as errors name it.
pub fn place(number: u64, block: u64) -> String {
    format!("{}, byte {}: ", segment(number).display(), block * BLOCK as u64)
}

/// A reader of the journal.
pub fn reader(disk: &SimDisk) -> Result<Reader, Error> {
    Reader::open_on(Arc::new(disk.clone()), Path::new(DIR))
}

/// Record number `sequence` is what was appended under it.
pub fn is_right(record: &Record<'_>, sequence: u64) {
    assert_eq!(record.header.sequence, sequence);
    let entries: Vec<&[u8]> = record.entries().map(|(_, entry)| entry).collect();
    assert_eq!(entries.len(), record.header.blocks as usize, "an entry in each block");
    assert!(
        entries.iter().all(|entry| entry[8..16] == sequence.to_le_bytes()),
        "record {sequence} says another"
    );
}

/// Opens the journal of this disk as a writer, shows that each record is right, and says how many there are.
fn found(disk: &SimDisk) -> Result<(Journal, u64), Error> {
    let mut seen = 0;
    let (journal, recovered) = Journal::open(Path::new(DIR), &config(disk), 7, &mut |record| {
        seen += 1;
        is_right(record, seen);
        Ok(())
    })?;
    assert_eq!(recovered.records, seen);
    Ok((journal, seen))
}

/// What every file holds.
pub fn contents(disk: &SimDisk) -> Vec<(PathBuf, Vec<Block>)> {
    disk.image().files().map(|(path, file)| (path.to_path_buf(), file.seen.clone())).collect()
}

impl Bed {
    /// Of a disk on which there is nothing.
    pub fn new(seed: u64) -> Bed {
        Bed { disk: SimDisk::new(seed), journal: None, acknowledged: 0, begun: 0 }
    }

    /// With records in the blocks 1, 2 to 3 and 4 of segment 0 and 1 to 5 of segment 1, two spare segments after them,
    /// and no writer.
    pub fn with_records() -> Bed {
        let mut bed = Bed::new(1);
        bed.open().expect("made");
        for blocks in [1, 2, 1, 5] {
            bed.append(blocks).expect("written");
        }
        let supply = bed.journal.as_ref().expect("open").supply();
        while supply.make_one() {}
        bed.journal = None;
        assert_eq!(bed.disk.image().files().count(), 4);
        bed
    }

    pub fn open(&mut self) -> Result<(), Error> {
        let (journal, records) = found(&self.disk)?;
        self.is_enough(records);
        // A record that was being written when the writer failed counts from now on, or never will.
        (self.acknowledged, self.begun) = (records, records);
        self.journal = Some(journal);
        Ok(())
    }

    /// A record that is ready to be appended.
    fn record(journal: &Journal, blocks: u32) -> RecordBuffer {
        let mut buffer = RecordBuffer::new();
        buffer.begin(journal.layout().place(journal.next_block(), blocks));
        let number = journal.sequence() + 1;
        for _ in 0..blocks {
            let (_, entry) = buffer.entry(ENTRY_UNITS);
            (entry[0], entry[5]) = (1, ENTRY_UNITS as u8);
            entry[8..16].copy_from_slice(&number.to_le_bytes());
        }
        let (kind, digest) = (RecordKind::Batch, [9; 16]);
        buffer.finish(RecordMeta { kind, rules: 1, time_ms: number, business_date: 7, digest });
        assert_eq!(buffer.blocks(), blocks as usize);
        buffer
    }

    pub fn append(&mut self, blocks: u32) -> Result<(), Error> {
        let journal = self.journal.as_mut().expect("a writer");
        let mut buffer = Bed::record(journal, blocks);
        self.begun = journal.sequence() + 1;
        journal.append(&mut buffer)?;
        self.acknowledged = journal.sequence();
        Ok(())
    }

    /// Leaves the first blocks of a record as a writer would that was killed in the middle of it. There is none now.
    pub fn tear(&mut self, blocks: u32, kept: usize) {
        assert!(self.journal.is_none());
        let copy = SimDisk::with(self.disk.image(), 1);
        let (mut journal, _) = found(&copy).expect("nothing fails on the copy");
        let mut buffer = Bed::record(&journal, blocks);
        let start = buffer.start_block();
        journal.append(&mut buffer).expect("nothing fails on the copy");
        let (path, first) = (segment(start / SEGMENT_BLOCKS), (start % SEGMENT_BLOCKS) as usize);
        let whole = copy.image();
        let whole = whole.file(whole.find(&path).expect("a segment"));
        self.disk.change(|image| {
            let id = image.find(&path).expect("spares are made before");
            image.file_mut(id).write(first, (first..first + kept).map(|at| whole.block(at)));
        });
    }

    /// Reads all as anyone does who is not the writer. What was shown must not be taken back.
    pub fn scan(&mut self) -> Result<(), Error> {
        let mut seen = 0;
        let scanned = reader(&self.disk)?.scan(&mut |record| {
            seen += 1;
            is_right(record, seen);
            Ok(())
        })?;
        assert_eq!(scanned.records, seen);
        // Of a writer that lives the last record is not shown, unless the next one was begun.
        let hidden = u64::from(scanned.writer_lives);
        self.is_enough(seen.max(self.acknowledged.min(seen + hidden)));
        self.acknowledged = self.acknowledged.max(seen);
        Ok(())
    }

    fn is_enough(&self, records: u64) {
        let (acknowledged, begun) = (self.acknowledged, self.begun);
        let is_right = (acknowledged..=begun.max(acknowledged)).contains(&records);
        assert!(is_right, "{acknowledged} records are acknowledged, {begun} begun, {records} are there");
    }

    /// Nothing that was acknowledged is missing, neither after the process is gone nor after a loss of power.
    pub fn is_whole(&mut self) {
        self.journal = None;
        self.disk.disarm();
        self.disk.set_free(None);
        let mut image = self.disk.image();
        for draw in 0..LOSSES {
            let disk = SimDisk::with(image.clone(), draw);
            disk.crash(if draw == 0 { Loss::Process } else { Loss::Power });
            let (journal, records) = found(&disk).unwrap_or_else(|error| panic!("loss {draw}: {error}"));
            self.is_enough(records);
            drop(journal);
            if draw == 0 {
                // What the next opening found counts, whatever becomes of the power then.
                (self.acknowledged, self.begun) = (records, records);
                image = disk.image();
            }
        }
    }

    /// Changes a block and puts its check right.
    pub fn forge(&self, number: u64, at: usize, change: impl FnOnce(&mut [u8; BLOCK])) {
        self.spoil(number, at, |content| {
            change(content);
            let check = crc32c::crc32c(&content[4..]);
            content[..4].copy_from_slice(&check.to_le_bytes());
        });
    }

    /// Changes a block.
    pub fn spoil(&self, number: u64, at: usize, change: impl FnOnce(&mut [u8; BLOCK])) {
        self.disk.change(|image| spoil(image, &segment(number), at, change));
    }

    /// Neither a reader nor a writer gets anywhere with what is on the disk now: both say this, and change nothing.
    /// Put right, as from a copy, nothing is missing.
    pub fn must_be_refused(mut self, before: Image, says: &str) {
        let damaged = contents(&self.disk);
        let read = reader(&self.disk).and_then(|reader| reader.scan(&mut |_| Ok(()))).err();
        says_so(read, says);
        says_so(found_any(&self.disk).err(), says);
        assert_eq!(damaged, contents(&self.disk), "what is refused is left as it is");
        self.disk.set_image(before);
        self.is_whole();
    }
}

/// Opens as a writer, whatever the records say.
fn found_any(disk: &SimDisk) -> Result<Journal, Error> {
    Journal::open(Path::new(DIR), &config(disk), 7, &mut |_| Ok(())).map(|(journal, _)| journal)
}

/// There is an error, and its text begins so.
pub fn says_so(error: Option<impl std::fmt::Display>, says: &str) {
    let said = error.expect("it is refused").to_string();
    assert!(said.starts_with(says), "said: {said}; should begin: {says}");
}

/// Changes a block of a file, durably.
pub fn spoil(image: &mut Image, path: &Path, at: usize, change: impl FnOnce(&mut [u8; BLOCK])) {
    let id = image.find(path).expect("a file");
    let mut content = bytes(&image.file(id).block(at));
    change(&mut content);
    image.file_mut(id).decay(at, block(&content));
}

/// The position of the entry in this block of the whole journal, which begins its record or does not.
pub fn entry_in(block: u64, begins: bool) -> Position {
    Position::new(block, if begins { 3 } else { 1 })
}

/// Takes the lock of a writer, who does nothing.
pub fn locked(disk: &SimDisk) -> Result<Box<dyn pabal_journal::disk::Lock>, Error> {
    let lock = pabal_journal::Disk::lock(disk, Path::new(DIR), false);
    lock.map(|lock| lock.expect("nobody has it")).map_err(|source| Error::Io { path: DIR.into(), source })
}
