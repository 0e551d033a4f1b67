//! Reading: single entries by position, whole journals, records as they come.

use crate::block::{BLOCK, BlockHeader, KIND_RECORD, Position, UNIT, is_sound, is_zero, walk};
use crate::cache::Cache;
use crate::disk::{Disk, DiskFile, SystemDisk};
use crate::error::Error;
use crate::record::{FIRST_UNIT, Record, RecordHeader, genesis_hash};
use crate::scan::{After, By, Scanned, Visit, scan};
use crate::segment::{self, Layout};
use crate::sync::{Mutex, PoisonError};
use pabal_fault::{Bug, Point, planted};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zerocopy::FromBytes;

/// Segment files kept open at most; beyond it the oldest is closed.
const FILES_MAX: usize = 64;

/// Reads a journal, in the writer's process or in another.
pub struct Reader {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    layout: Layout,
    journal_id: u64,
    files: Mutex<BTreeMap<u64, Arc<dyn DiskFile>>>,
    cache: Option<Cache>,
}

impl Reader {
    /// Opens a journal for reading.
    pub fn open(dir: &Path) -> Result<Reader, Error> {
        Reader::open_on(Arc::new(SystemDisk), dir)
    }

    /// Opens a journal on this disk for reading.
    pub fn open_on(disk: Arc<dyn Disk>, dir: &Path) -> Result<Reader, Error> {
        let (layout, journal_id) = segment::identify(&*disk, dir)?;
        Ok(Reader { disk, dir: dir.to_path_buf(), layout, journal_id, files: Mutex::default(), cache: None })
    }

    /// The same, and keeps so many blocks in memory that were read for their entries and found sound.
    pub fn with_cache(self, blocks: usize) -> Reader {
        Reader { cache: Some(Cache::of(blocks)), ..self }
    }

    /// Reads everything. While a writer lives, a record counts once its successor has begun; when none
    /// does, the last whole record counts too, after a sync that makes it so. A writer may start meanwhile:
    /// reading never keeps one from it.
    pub fn scan(&self, visit: Visit<'_>) -> Result<Scanned, Error> {
        self.scan_after(None, visit)
    }

    /// The same, of what comes after a record that is known, which must be there.
    pub fn scan_after(&self, after: Option<After>, visit: Visit<'_>) -> Result<Scanned, Error> {
        let after = after.map(|after| self.find(&after).map(|header| (after, header))).transpose()?;
        scan(&*self.disk, &self.dir, By::Reader(self), after, visit)
    }

    /// The id of the journal.
    pub fn journal_id(&self) -> u64 {
        self.journal_id
    }

    /// Bytes of each of its segments.
    pub fn segment_bytes(&self) -> u64 {
        self.layout.segment_blocks * BLOCK as u64
    }

    /// The hash that the first record names as that of the one before it.
    pub fn genesis(&self) -> [u8; 32] {
        genesis_hash(self.journal_id)
    }

    /// The header of this record. An error when another one is there, or none.
    pub fn find(&self, after: &After) -> Result<RecordHeader, Error> {
        let mut found = None;
        let begins = !after.start_block.is_multiple_of(self.layout.segment_blocks);
        if begins {
            self.record_after(after.start_block, after.sequence, |record| {
                let is_other = record.hash != after.hash && !planted(Bug::SnapshotOtherRecord);
                let same = record.start_block == after.start_block && !is_other;
                found = same.then_some(*record.header);
            })?;
        }
        let what = "not the record that this snapshot is of";
        found.ok_or_else(|| self.rotten(Point::FindOther, after.start_block, what))
    }

    /// Whether a writer has the journal open now. The lock is only tried, and let go at once; a writer that
    /// meets it just then tries again.
    pub(crate) fn writer_lives(&self) -> Result<bool, Error> {
        let tried = self.disk.lock(&self.dir, true).map_err(Error::io(Point::ReaderLock, &self.dir))?;
        Ok(tried.is_none())
    }

    /// Makes this segment durable: a writer that died may have written its last record and not synced it.
    pub(crate) fn sync(&self, segment: u64) -> Result<(), Error> {
        let path = segment::path(&self.dir, segment);
        self.file(segment)?.sync().map_err(Error::io(Point::ReaderSync, path))
    }

    /// About where the journal ends: the block after the last written one, found with a few reads. For showing
    /// how far a scan has come; the scan alone says what is really there.
    pub fn extent(&self) -> Result<u64, Error> {
        let blank = |block| self.is_blank(block);
        let blocks = self.layout.segment_blocks;
        for segment in (0..segment::list(&*self.disk, &self.dir)?).rev() {
            let first = self.layout.first_of(segment);
            if blank(first)? {
                continue;
            }
            // Within a segment what is written comes before what is not.
            let (mut written, mut free) = (first, (segment + 1) * blocks);
            while free - written > 1 {
                let middle = written + (free - written) / 2;
                if blank(middle)? {
                    free = middle;
                } else {
                    written = middle;
                }
            }
            return Ok(free);
        }
        Ok(1)
    }

    /// The entry that begins at this position: one read of one block, checked. `end` is the block after the last
    /// record that was written: a block before it that is blank, and was not left free at its segment's end, has
    /// lost what was written there.
    pub fn entry_before(&self, position: Position, end: u64) -> Result<Box<[u8]>, Error> {
        if let Some(cache) = self.cache.as_ref().filter(|_| position.block() < end)
            && let Some(block) = cache.get(position.block())
        {
            return entry_of(&block, position);
        }
        let found = self.entry_kept(position, position.block() < end);
        if matches!(found, Err(Error::NoEntry(_)))
            && position.block() < end
            && self.is_blank(position.block())?
            && !self.is_left_free(position.block(), end)?
        {
            return Err(self.rotten(Point::EntryLost, position.block(), "nothing is here that was written"));
        }
        found
    }

    /// Whether the block is free because the record that came next did not fit into its segment.
    fn is_left_free(&self, block: u64, end: u64) -> Result<bool, Error> {
        let next = self.layout.segment_of(block) + 1;
        if next > self.layout.segment_of(end - 1) {
            return Ok(false);
        }
        let mut bytes = vec![0; BLOCK];
        self.read(self.layout.first_of(next), &mut bytes)?;
        if !is_sound(&bytes) {
            let first = self.layout.first_of(next);
            return Err(self.rotten(Point::EntryNextRotten, first, "not the beginning of a record"));
        }
        let (header, _) = RecordHeader::read_from_prefix(&bytes[UNIT..]).expect("a block is longer");
        let last = self.head(header.previous_block)?;
        Ok(block >= header.previous_block + last.blocks as u64)
    }

    fn is_blank(&self, block: u64) -> Result<bool, Error> {
        let mut bytes = [0; BLOCK];
        self.read(block, &mut bytes).map(|()| is_zero(&bytes))
    }

    /// The same where it is not known how far the journal goes: what was lost is found as not being there.
    pub fn entry(&self, position: Position) -> Result<Box<[u8]>, Error> {
        self.entry_kept(position, false)
    }

    /// `keep` when its record was written whole, so that the block never changes again.
    fn entry_kept(&self, position: Position, keep: bool) -> Result<Box<[u8]>, Error> {
        let missing = |point| Error::no_entry(point, position.0);
        if position.unit() == 0 {
            return Err(missing(Point::EntryNowhere));
        }
        let mut block = [0; BLOCK];
        let segment = self.layout.segment_of(position.block());
        let file = match self.file(segment) {
            // Beyond the journal's end; anything else that keeps it from being read does not say that it is not.
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                return Err(missing(Point::EntryNoSegment));
            }
            other => other?,
        };
        let offset = self.layout.offset_of(position.block());
        let path = || segment::path(&self.dir, segment);
        file.read(&mut block, offset).map_err(|e| Error::io(Point::EntryRead, path())(e))?;
        if is_zero(&block) {
            return Err(missing(Point::EntryBlank));
        }
        let header = BlockHeader::of(&block);
        let is_other = header.number != position.block() && !planted(Bug::OtherBlockRead);
        if !is_sound(&block) || is_other || header.journal_id != self.journal_id {
            return Err(self.rotten(Point::EntryRotten, position.block(), "the block's check"));
        }
        if header.kind != KIND_RECORD {
            return Err(missing(Point::EntryInHeader));
        }
        let entry = entry_of(&block, position);
        if let Some(cache) = self.cache.as_ref().filter(|_| keep) {
            cache.put(position.block(), block);
        }
        entry
    }

    /// Shows the record of this sequence, which follows the one that ended at `next_block` and is durable.
    /// Gives the block after it, and its sequence.
    pub fn record_after(
        &self,
        next_block: u64,
        sequence: u64,
        take: impl FnOnce(&Record<'_>),
    ) -> Result<(u64, u64), Error> {
        let mut start = next_block;
        let mut first = vec![0; BLOCK];
        if start.is_multiple_of(self.layout.segment_blocks) {
            start += 1;
        }
        self.read(start, &mut first)?;
        if is_zero(&first) {
            start = self.layout.first_of(self.layout.segment_of(start) + 1);
            self.read(start, &mut first)?;
        }
        let rotten = |point| self.rotten(point, start, "not the record that belongs here");
        let head = BlockHeader::of(&first);
        let begins = head.sequence == sequence && head.index == 0 && head.number == start;
        if !is_sound(&first) || !begins || !self.has_room(start, head.blocks) {
            return Err(rotten(Point::RecordHeadRotten));
        }
        let mut blocks = vec![0; head.blocks as usize * BLOCK];
        self.read(start, &mut blocks)?;
        let sound = blocks.chunks_exact(BLOCK).enumerate().all(|(i, block)| {
            let header = BlockHeader::of(block);
            is_sound(block) && header.sequence == sequence && header.index == i as u32
        });
        if !sound {
            return Err(rotten(Point::RecordBodyRotten));
        }
        let (header, _) = RecordHeader::read_from_prefix(&blocks[UNIT..]).expect("a block is longer");
        let hash = *blake3::hash(&blocks).as_bytes();
        take(&Record { header: &header, start_block: start, hash, blocks: &blocks });
        Ok((start + head.blocks as u64, sequence))
    }

    /// The block after the record of this sequence, for [`Reader::record_after`]. `end` is the block after a
    /// durable record, this one or a later one. Reads one block of each of a few segments, then one of each
    /// record that is before it in its segment.
    pub fn end_of(&self, sequence: u64, end: u64) -> Result<u64, Error> {
        // The last segment whose first record is not after it; every one up to `end` has a first record.
        let (mut low, mut high) = (0, self.layout.segment_of(end - 1));
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if self.head(self.layout.first_of(middle))?.sequence <= sequence {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        let mut block = self.layout.first_of(low);
        loop {
            let head = self.head(block)?;
            block += head.blocks as u64;
            if head.sequence == sequence {
                return Ok(block);
            }
        }
    }

    /// The header of the block at which a record begins. Anything else is an error.
    fn head(&self, block: u64) -> Result<BlockHeader, Error> {
        let mut bytes = vec![0; BLOCK];
        self.read(block, &mut bytes)?;
        let head = BlockHeader::of(&bytes);
        let begins = is_sound(&bytes)
            && head.kind == KIND_RECORD
            && head.index == 0
            && head.number == block
            && self.has_room(block, head.blocks);
        begins
            .then_some(head)
            .ok_or_else(|| self.rotten(Point::HeadRotten, block, "not the beginning of a record"))
    }

    fn rotten(&self, point: Point, block: u64, what: &'static str) -> Error {
        let (segment, within) = (self.layout.segment_of(block), block % self.layout.segment_blocks);
        Error::rotten(point, segment::path(&self.dir, segment), within, what)
    }

    /// Whether a record that begins at this block can have so many: at least its first, and no more than its segment.
    fn has_room(&self, block: u64, blocks: u32) -> bool {
        let room = self.layout.segment_blocks - block % self.layout.segment_blocks;
        (1..=room).contains(&u64::from(blocks))
    }

    fn read(&self, block: u64, into: &mut [u8]) -> Result<(), Error> {
        let segment = self.layout.segment_of(block);
        let offset = self.layout.offset_of(block);
        let path = segment::path(&self.dir, segment);
        self.file(segment)?.read(into, offset).map_err(Error::io(Point::ReaderRead, path))
    }

    fn file(&self, segment: u64) -> Result<Arc<dyn DiskFile>, Error> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = files.get(&segment) {
            return Ok(file.clone());
        }
        let path = segment::path(&self.dir, segment);
        let file = self.disk.open(&path).map_err(Error::io(Point::ReaderOpen, &path))?;
        if files.len() >= FILES_MAX {
            files.pop_first();
        }
        files.insert(segment, file.clone());
        Ok(file)
    }
}

/// The entry that begins at this position of a sound block of a record.
fn entry_of(block: &[u8; BLOCK], position: Position) -> Result<Box<[u8]>, Error> {
    let first = if BlockHeader::of(block).index == 0 { FIRST_UNIT } else { 1 };
    let found = walk(block, first).flatten().find(|(unit, _)| *unit == position.unit());
    let (unit, units) = found.ok_or_else(|| Error::no_entry(Point::EntryBetween, position.0))?;
    Ok(block[unit * UNIT..(unit + units) * UNIT].into())
}
