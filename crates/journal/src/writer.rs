//! The writer: one record, one write, one `fdatasync`; then the next.

use crate::block::{BLOCK, BlockHeader, KIND_RECORD, MAGIC, UNIT, check};
use crate::buffer::RecordBuffer;
use crate::disk::{Disk, DiskFile, Lock, SystemDisk, Writing};
use crate::durable::Durable;
use crate::error::Error;
use crate::reader::Reader;
use crate::record::{RECORD_BLOCKS_MAX, RecordHeader};
use crate::scan::{After, By, Cut, Visit, scan};
use crate::segment::{self, Blank, Layout, SEGMENT_BLOCKS_DEFAULT};
use crate::supply::{Maker, Supply};
use crate::sync::Patience;
use pabal_fault::{Bug, Point, planted, reached};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use zerocopy::{FromBytes, IntoBytes};

/// How long an opening waits for the lock: much longer than a reader has it, which is microseconds.
const LOCK_PATIENCE: Duration = Duration::from_millis(300);

/// How a journal is made and written.
#[derive(Clone)]
pub struct JournalConfig {
    /// Blocks of 4 KiB of a segment; counts only when the journal is made.
    pub segment_blocks: u32,
    /// Whether to write past the page cache.
    pub direct: bool,
    /// The disk that it lies on.
    pub disk: Arc<dyn Disk>,
    /// Whether a thread makes segments ahead; else whoever needs one waits for it.
    pub background: bool,
}

impl Default for JournalConfig {
    fn default() -> Self {
        JournalConfig {
            segment_blocks: SEGMENT_BLOCKS_DEFAULT,
            direct: true,
            disk: Arc::new(SystemDisk),
            background: true,
        }
    }
}

/// Blocks of a record from which a segment is better not zeroed: as many take the disk as long to zero as the file
/// system needs to note that they were written (decision 0011).
const LARGE_BLOCKS: u64 = 64;

/// What is being written, which decides how the next segments are made.
struct Pace {
    /// Blocks from which a record is a large one; a quarter of a segment is in any case.
    large: u64,
    /// Whether the last record was one.
    was_large: AtomicBool,
}

impl Pace {
    fn of(layout: Layout) -> Pace {
        Pace { large: LARGE_BLOCKS.min(layout.segment_blocks / 4), was_large: AtomicBool::new(false) }
    }

    fn wrote(&self, blocks: usize) {
        self.was_large.store(blocks as u64 >= self.large, Ordering::Relaxed);
    }

    fn blank(&self) -> Blank {
        if self.was_large.load(Ordering::Relaxed) { Blank::Reserved } else { Blank::Zeroed }
    }
}

/// What an opening found.
#[derive(Clone, Copy, Debug)]
pub struct Recovered {
    /// Records, closing ones included.
    pub records: u64,
    /// Header of the last one.
    pub last: Option<RecordHeader>,
    /// The torn record that was cut.
    pub cut: Option<Cut>,
    /// Whether the last stop was an orderly one (also of a journal that was just made).
    pub orderly: bool,
}

/// The journal, open for writing. Holds a lock on its folder.
pub struct Journal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    layout: Layout,
    journal_id: u64,
    direct: bool,
    file: Arc<dyn DiskFile>,
    segment: u64,
    next_block: u64,
    previous_block: u64,
    sequence: u64,
    hash: [u8; 32],
    durable: Arc<Durable>,
    supply: Arc<Supply>,
    pace: Arc<Pace>,
    /// Makes segments as long as there is a journal.
    _maker: Maker,
    stopped: bool,
    /// Keeps the lock.
    _lock: Box<dyn Lock>,
}

impl Journal {
    /// Opens the journal of this folder, making it with this id when there is none, and shows every record.
    /// A torn record at the end is cut; anything else that does not fit is an error and nothing is changed.
    pub fn open(
        dir: &Path,
        config: &JournalConfig,
        journal_id: u64,
        visit: Visit<'_>,
    ) -> Result<(Journal, Recovered), Error> {
        Journal::open_after(dir, config, journal_id, None, visit)
    }

    /// The same, and shows only what comes after a record that is known, which must be there. What is before it is
    /// not read.
    pub fn open_after(
        dir: &Path,
        config: &JournalConfig,
        journal_id: u64,
        after: Option<After>,
        visit: Visit<'_>,
    ) -> Result<(Journal, Recovered), Error> {
        let disk = config.disk.clone();
        disk.make_folder(dir).map_err(Error::io(Point::OpenFolderMake, dir))?;
        let lock = lock(&*disk, dir)?;
        segment::remove_unfinished(&*disk, dir)?;
        let mut segments = segment::list(&*disk, dir)?;
        if segments == 0 {
            let layout = Layout::of(config.segment_blocks as u64).ok_or_else(|| {
                Error::folder(Point::OpenImpossible, dir.to_path_buf(), segment::IMPOSSIBLE)
            })?;
            segment::make(&*disk, dir, layout, journal_id, 0, (Blank::Zeroed, config.direct))?;
            segments = 1;
        }
        // A process that was killed may have left names that are there and not durable yet.
        disk.sync_folder(dir).map_err(Error::io(Point::OpenFolderSync, dir))?;
        if segments == 1 {
            disk.sync_path(dir).map_err(Error::io(Point::OpenPathSync, dir))?;
        }
        let (layout, journal_id) = segment::identify(&*disk, dir)?;
        let find = |after| Reader::open_on(disk.clone(), dir)?.find(&after).map(|header| (after, header));
        let after = after.map(find).transpose()?;
        let scanned = scan(&*disk, dir, By::Writer, after, visit)?;
        let fresh = scanned.records == 0 && scanned.cut.is_none();
        let segment = scanned.next_block.saturating_sub(1) / layout.segment_blocks;
        let path = segment::path(dir, segment);
        let how = Writing { new: false, direct: config.direct };
        let file = disk.open_to_write(&path, how).map_err(Error::io(Point::OpenSegment, &path))?;
        let (on, to, direct) = (disk.clone(), dir.to_path_buf(), config.direct);
        let pace = Arc::new(Pace::of(layout));
        let its = pace.clone();
        let make = Box::new(move |number| {
            segment::make(&*on, &to, layout, journal_id, number, (its.blank(), direct))
        });
        let (supply, maker) = Supply::start(make, segments, segment, config.background);
        let journal = Journal {
            disk,
            dir: dir.to_path_buf(),
            layout,
            journal_id,
            direct: config.direct,
            file,
            segment,
            next_block: scanned.next_block,
            previous_block: scanned.last_block,
            sequence: scanned.records,
            hash: scanned.last_hash,
            durable: Arc::default(),
            supply,
            pace,
            _maker: maker,
            stopped: false,
            _lock: lock,
        };
        journal.take_space(segments);
        if let Some(last) = &scanned.last {
            journal.settle(last)?;
        }
        if !planted(Bug::TornLeft) {
            journal.blank(segments)?;
        }
        journal.durable.advance(journal.sequence, journal.next_block);
        let recovered = Recovered {
            records: scanned.records,
            last: scanned.last,
            cut: scanned.cut,
            orderly: scanned.orderly || fresh,
        };
        Ok((journal, recovered))
    }

    /// Takes the space of the segments that are written from now on. Whatever put the journal here, when it was restored
    /// from a copy, may have left holes where they are blank, and a record would find the disk full in the middle of
    /// one. Where there is no room, or the file system cannot, the bank starts without: the writing itself finds out.
    fn take_space(&self, segments: u64) {
        for segment in self.segment..segments {
            let how = Writing { new: false, direct: self.direct };
            let opened = self.disk.open_to_write(&segment::path(&self.dir, segment), how);
            if opened.and_then(|file| file.reserve(self.layout.bytes())).is_err() {
                reached(Point::OpenReserve);
            }
        }
    }

    /// Makes the last record, which from here on counts, durable: it may have been written and not synced, or its
    /// sync may have failed. After a failed sync a later one says nothing of what was written before it, so the
    /// same bytes are written once more.
    fn settle(&self, last: &RecordHeader) -> Result<(), Error> {
        let path = || segment::path(&self.dir, self.segment);
        let offset = self.layout.offset_of(self.previous_block);
        let mut record = RecordBuffer::of_blocks(last.blocks as usize);
        self.file.read(record.bytes_mut(), offset).map_err(Error::io(Point::OpenLastRead, path()))?;
        if *blake3::hash(record.bytes()).as_bytes() != self.hash {
            let (within, what) =
                (self.previous_block % self.layout.segment_blocks, "another than a moment ago");
            return Err(Error::rotten(Point::OpenLastChanged, path(), within, what));
        }
        if !planted(Bug::LastNotWritten) {
            self.file.write(record.bytes(), offset).map_err(Error::io(Point::OpenLastWrite, path()))?;
        }
        self.file.sync().map_err(Error::io(Point::OpenLastSync, path()))
    }

    /// Makes what follows the last record durably blank, as far as a record may have been begun there: here, and in
    /// the next segment if it had no room here. A torn record is cut by this. It is done also where blank is all
    /// that is seen: of a record whose cutting was itself cut short, or could not be made durable, the disk may still
    /// hold what the system shows as blank. After a loss of power it would stand among what is written from now on,
    /// and all of it be refused as rotten.
    fn blank(&self, segments: u64) -> Result<(), Error> {
        let next = self.segment + 1;
        for (segment, first) in [(self.segment, self.next_block), (next, self.layout.first_of(next))] {
            let end = (segment + 1) * self.layout.segment_blocks;
            let blocks = end.saturating_sub(first).min(RECORD_BLOCKS_MAX as u64);
            if segment >= segments || blocks == 0 {
                continue;
            }
            let path = segment::path(&self.dir, segment);
            let how = Writing { new: false, direct: self.direct };
            let file = self.disk.open_to_write(&path, how).map_err(Error::io(Point::CutOpen, &path))?;
            let from = self.layout.offset_of(first);
            segment::zero(&*file, from, from + blocks * BLOCK as u64)
                .map_err(Error::io(Point::CutWrite, &path))?;
            file.sync().map_err(Error::io(Point::CutSync, &path))?;
        }
        Ok(())
    }

    /// How blocks lie in segments.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The block after the last record.
    pub fn next_block(&self) -> u64 {
        self.next_block
    }

    /// The last record.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Which segments are there.
    pub fn supply(&self) -> Arc<Supply> {
        self.supply.clone()
    }

    /// The acknowledged point.
    pub fn durable(&self) -> Arc<Durable> {
        self.durable.clone()
    }

    /// Writes a finished record. When this returns without an error the record is durable. After an error
    /// it is unknown whether it is, and the journal takes nothing more.
    pub fn append(&mut self, buffer: &mut RecordBuffer) -> Result<(), Error> {
        if self.stopped {
            reached(Point::AppendStopped);
            return Err(Error::Stopped);
        }
        self.stopped = true;
        let written = self.write(buffer);
        match written {
            Ok(()) => self.stopped = false,
            Err(_) => self.durable.stop(),
        }
        written
    }

    fn write(&mut self, buffer: &mut RecordBuffer) -> Result<(), Error> {
        let start = buffer.start_block();
        assert!(buffer.blocks() <= RECORD_BLOCKS_MAX as usize, "records are bounded where they are made");
        let segment = self.layout.segment_of(start);
        let here = start == self.next_block && segment == self.segment;
        let rolled = segment == self.segment + 1 && start == self.layout.first_of(segment);
        assert!(here || rolled, "records follow one another");
        self.supply.ready(segment)?;
        if rolled {
            let path = segment::path(&self.dir, segment);
            let how = Writing { new: false, direct: self.direct };
            self.file = self.disk.open_to_write(&path, how).map_err(Error::io(Point::AppendOpen, &path))?;
            self.segment = segment;
        }
        self.seal(buffer);
        let hash = *blake3::hash(buffer.bytes()).as_bytes();
        let path = || segment::path(&self.dir, segment);
        let offset = self.layout.offset_of(start);
        let written =
            self.file.write(buffer.bytes(), offset).map_err(|e| Error::io(Point::AppendWrite, path())(e));
        let synced = match written {
            Ok(()) if planted(Bug::SyncSkipped) => Ok(()),
            Ok(()) => self.file.sync().map_err(|e| Error::io(Point::AppendSync, path())(e)),
            failed => failed,
        };
        if !planted(Bug::ErrorSwallowed) {
            synced?;
        }
        self.hash = hash;
        self.previous_block = start;
        self.sequence += 1;
        self.next_block = buffer.end_block();
        self.pace.wrote(buffer.blocks());
        self.durable.advance(self.sequence, self.next_block);
        if self.next_block % self.layout.segment_blocks > self.layout.segment_blocks / 2 {
            self.supply.ahead(segment);
        }
        Ok(())
    }

    /// Fills in what only the journal knows, and the check of each block.
    fn seal(&self, buffer: &mut RecordBuffer) {
        let (start, blocks) = (buffer.start_block(), buffer.blocks() as u32);
        let bytes = buffer.bytes_mut();
        let (header, _) =
            RecordHeader::mut_from_prefix(&mut bytes[UNIT..]).expect("aligned, and longer than its header");
        header.sequence = self.sequence + 1;
        header.previous_block = self.previous_block;
        header.previous_hash = self.hash;
        let mut head = BlockHeader {
            magic: MAGIC,
            sequence: self.sequence + 1,
            blocks,
            journal_id: self.journal_id,
            kind: KIND_RECORD,
            ..BlockHeader::default()
        };
        head.chain.copy_from_slice(&self.hash[..8]);
        for (i, block) in bytes.chunks_exact_mut(BLOCK).enumerate() {
            head.number = start + i as u64;
            head.index = i as u32;
            block[..UNIT].copy_from_slice(head.as_bytes());
            let check = check(block);
            block[..4].copy_from_slice(&check.to_le_bytes());
        }
    }
}

impl Drop for Journal {
    /// Whoever waits for a record to be durable waits no longer, however the writer ended.
    fn drop(&mut self) {
        self.durable.stop();
    }
}

/// Takes the lock of a writer. Readers only try it, for a moment; another writer keeps it.
fn lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn Lock>, Error> {
    let mut patience = Patience::of(LOCK_PATIENCE);
    loop {
        if let Some(lock) = disk.lock(dir, false).map_err(Error::io(Point::OpenLock, dir))? {
            return Ok(lock);
        }
        if patience.is_out() {
            reached(Point::OpenLocked);
            return Err(Error::Locked(dir.to_path_buf()));
        }
        patience.sleep(Duration::from_millis(1));
    }
}
