//! Scanning: every byte of every segment, record by record. Recovery and `verify` are this same code.

use crate::apart::{Found, Segment, Segments, Take, apart, in_turn};
use crate::block::{BLOCK, BlockHeader, KIND_RECORD, UNIT, is_sound, is_zero, walk};
use crate::disk::{Disk, DiskFile};
use crate::error::Error;
use crate::reader::Reader;
use crate::record::{FIRST_UNIT, FORMAT, Record, RecordHeader, RecordKind, genesis_hash};
use crate::segment::{self, Layout};
use pabal_fault::{Bug, Point, planted, reached};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zerocopy::FromBytes;

/// A torn record at the end, which was never acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The sequence that it would have had.
    pub sequence: u64,
    /// The block at which it began.
    pub from_block: u64,
    /// Its length in blocks.
    pub blocks: u32,
}

/// What a scan found.
#[derive(Clone, Copy, Debug)]
pub struct Scanned {
    /// Records, closing ones included.
    pub records: u64,
    /// Header of the last one.
    pub last: Option<RecordHeader>,
    /// Block at which the last one begins.
    pub last_block: u64,
    /// Hash of the last one; of the journal's id when there is none.
    pub last_hash: [u8; 32],
    /// The block after the last one.
    pub next_block: u64,
    /// The torn record after it, if there is one.
    pub cut: Option<Cut>,
    /// Whether the last record is that of an orderly stop.
    pub orderly: bool,
    /// Whether a writer had the journal open: what it had not confirmed yet was left out.
    pub writer_lives: bool,
}

/// A record that is known from elsewhere, by a snapshot of the state after it: reading begins after it. Whatever is
/// before it was read when the snapshot was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct After {
    /// Its sequence.
    pub sequence: u64,
    /// The block at which it begins.
    pub start_block: u64,
    /// BLAKE3 of its blocks.
    pub hash: [u8; 32],
}

/// Who reads.
#[derive(Clone, Copy)]
pub(crate) enum By<'r> {
    /// The writer itself, before it writes: the last whole record counts.
    Writer,
    /// Anyone, beside a writer that may come and go meanwhile. While one lives a record counts once its
    /// successor has begun, and what follows is its affair; else the last whole record counts too, after a
    /// sync that makes it so.
    Reader(&'r Reader),
}

pub(crate) type Visit<'v> =
    &'v mut dyn FnMut(&Record<'_>) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Reads the whole journal of this folder, changing nothing, and shows each record.
pub fn verify(dir: &Path, visit: Visit<'_>) -> Result<Scanned, Error> {
    Reader::open(dir)?.scan(visit)
}

pub(crate) struct Scan<'v> {
    disk: &'v dyn Disk,
    dir: PathBuf,
    layout: Layout,
    journal_id: u64,
    by: By<'v>,
    show: Take<'v>,
    held: Option<Found>,
    memory: Segments,
    /// The next segment, where the system reads it meanwhile.
    next: Option<Next>,
    found: Scanned,
    /// Sequence and hash up to which records were read, a held one included.
    sequence: u64,
    hash: [u8; 32],
    last_block: u64,
    /// The block after it.
    next_block: u64,
    /// The segment that was read last: what did not fit lies there.
    reached: u64,
}

/// A segment that will be read after this one.
struct Next {
    file: Arc<dyn DiskFile>,
    /// So far the system was told.
    told: usize,
}

/// Bytes of which the system is told at a time that they will be read: a piece that it takes whole.
const TOLD: usize = 1 << 20;

enum At {
    Record(u32),
    Zero,
    Torn(Cut),
}

pub(crate) fn scan(
    disk: &dyn Disk,
    dir: &Path,
    by: By<'_>,
    after: Option<(After, RecordHeader)>,
    visit: Visit<'_>,
) -> Result<Scanned, Error> {
    match disk.has_threads() {
        true => apart(visit, |take| read(disk, dir, by, after, take)),
        false => in_turn(visit, |take| read(disk, dir, by, after, take)),
    }
}

fn read(
    disk: &dyn Disk,
    dir: &Path,
    by: By<'_>,
    after: Option<(After, RecordHeader)>,
    show: Take<'_>,
) -> Result<Scanned, Error> {
    let (layout, journal_id) = segment::identify(disk, dir)?;
    let hash = genesis_hash(journal_id);
    let found = Scanned {
        records: 0,
        last: None,
        last_block: 0,
        last_hash: hash,
        next_block: 1,
        cut: None,
        orderly: false,
        writer_lives: false,
    };
    let mut scan = Scan {
        disk,
        dir: dir.to_path_buf(),
        layout,
        journal_id,
        by,
        show,
        held: None,
        memory: Segments::new(),
        next: None,
        found,
        sequence: 0,
        hash,
        last_block: 0,
        next_block: 1,
        reached: 0,
    };
    if let Some((after, header)) = after {
        (scan.sequence, scan.hash, scan.last_block) = (after.sequence, after.hash, after.start_block);
        scan.next_block = after.start_block + header.blocks as u64;
        scan.found = Scanned {
            records: after.sequence,
            last: Some(header),
            last_block: after.start_block,
            last_hash: after.hash,
            next_block: scan.next_block,
            orderly: header.kind == RecordKind::Stop as u16,
            ..scan.found
        };
    }
    scan.run()
}

impl Scan<'_> {
    fn run(mut self) -> Result<Scanned, Error> {
        // Where an earlier try ended, and whether a writer lived. What does not fit is read again from there: a writer
        // may have come, or gone on, or gone, between the reading of one block and of the next.
        let mut tried = None;
        loop {
            let segments = segment::list(self.disk, &self.dir)?;
            self.found.cut = None;
            let read = self.read(segments);
            match (read, self.by) {
                (Ok(()), _) if self.found.cut.is_none() => break,
                (Err(error), _) if !matches!(error, Error::Rotten { .. }) => return Err(error),
                (read, By::Writer) => {
                    read?;
                    break;
                }
                (read, By::Reader(reader)) => {
                    let lives = reader.writer_lives()?;
                    if lives && !self.has_successor(segments)? {
                        self.found.cut = None;
                        reached(Point::ScanMidWrite);
                        break;
                    }
                    let here = Some((self.sequence, lives));
                    if std::mem::replace(&mut tried, here) != here {
                        reached(Point::ScanAgain);
                        continue;
                    }
                    // The same once more: so it is. What was read before it counts.
                    self.settle(reader)?;
                    read?;
                    break;
                }
            }
        }
        if let By::Reader(reader) = self.by {
            self.settle(reader)?;
        }
        self.whole()?;
        Ok(self.found)
    }

    /// Whether the segment after the last record's own is there: it was before that record was written. If not,
    /// it is gone, and who knows what with it.
    fn whole(&self) -> Result<(), Error> {
        let next = self.layout.segment_of(self.last_block) + 1;
        if self.sequence > 0 && segment::list(self.disk, &self.dir)? <= next {
            let path = segment::path(&self.dir, next);
            return Err(Error::folder(Point::ScanEndMissing, path, segment::MISSING));
        }
        Ok(())
    }

    /// Shows the last record read when no writer lives, after a sync that makes it durable.
    fn settle(&mut self, reader: &Reader) -> Result<(), Error> {
        self.found.writer_lives = reader.writer_lives()?;
        if self.found.writer_lives {
            return Ok(());
        }
        // The last record's own segment: spares may have been made far beyond it, and whatever is before it was
        // durable when it was begun.
        if !planted(Bug::UnsyncedShown) {
            reader.sync(self.layout.segment_of(self.last_block))?;
        }
        self.release()
    }

    /// Reads on from the last record read.
    fn read(&mut self, segments: u64) -> Result<(), Error> {
        let mut ended = false;
        for number in self.layout.segment_of(self.next_block)..segments {
            self.reached = number;
            if ended {
                self.must_be_blank(number)?;
                continue;
            }
            let mut segment = self.memory.next();
            self.load(number, self.first(number), &mut segment.bytes)?;
            self.look_ahead(number + 1, segments);
            ended = self.segment(number, &Arc::new(segment))?;
        }
        Ok(())
    }

    /// The block of this segment from which on it is read.
    fn first(&self, number: u64) -> usize {
        match self.layout.segment_of(self.next_block) == number {
            true => ((self.next_block % self.layout.segment_blocks) as usize).max(1),
            false => 1,
        }
    }

    /// Reads a segment in which nothing may stand, a piece at a time: there are some, and they are large.
    fn must_be_blank(&self, number: u64) -> Result<(), Error> {
        let file = self.open(number)?;
        let (mut piece, blocks) = (vec![0; TOLD], self.layout.segment_blocks as usize);
        let mut at = 1;
        while at < blocks {
            let here = (blocks - at).min(TOLD / BLOCK);
            let piece = &mut piece[..here * BLOCK];
            self.blocks(&*file, number, at, piece)?;
            if let Some(block) = piece.chunks(BLOCK).position(|block| !is_zero(block)) {
                let what = "written, but nothing before it is";
                return Err(self.rotten(Point::ScanBeyond, number, at + block, what));
            }
            at += here;
        }
        Ok(())
    }

    /// Opens the segment after this one, so that the system can read it while this one is worked on. That it cannot
    /// be opened is found out when it is its turn.
    fn look_ahead(&mut self, number: u64, segments: u64) {
        let wanted = self.disk.has_threads() && number < segments;
        let open = || self.disk.open(&segment::path(&self.dir, number)).ok();
        self.next = wanted.then(open).flatten().map(|file| Next { file, told: 0 });
    }

    /// Tells the system to read as far in the next segment as this one was worked on.
    fn tell(&mut self, worked: usize) {
        if let Some(next) = &mut self.next {
            while next.told + TOLD <= worked {
                next.file.will_read(next.told as u64, TOLD as u64);
                next.told += TOLD;
            }
        }
    }

    /// Whether there is a block of a later record than the one that would be read next. Then that one was
    /// durable before, and reading it now must succeed.
    fn has_successor(&self, segments: u64) -> Result<bool, Error> {
        let mut bytes = Vec::new();
        for number in self.layout.segment_of(self.next_block)..segments {
            self.load(number, 1, &mut bytes)?;
            // The next record itself counts where it lies after what did not fit: it was begun in a segment of
            // its own, and nothing is written in the one before any more.
            let least = self.sequence + if number <= self.reached { 2 } else { 1 };
            let later = bytes[BLOCK..].chunks_exact(BLOCK).any(|block| {
                let h = BlockHeader::of(block);
                h.kind == KIND_RECORD
                    && h.journal_id == self.journal_id
                    && h.sequence >= least
                    && is_sound(block)
            });
            if later {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads blocks of a segment, from this one on.
    fn blocks(&self, file: &dyn DiskFile, number: u64, first: usize, into: &mut [u8]) -> Result<(), Error> {
        let path = || segment::path(&self.dir, number);
        file.read(into, (first * BLOCK) as u64).map_err(|error| Error::io(Point::ScanRead, path())(error))
    }

    /// Opens a segment whose length and header are right.
    fn open(&self, number: u64) -> Result<Arc<dyn DiskFile>, Error> {
        let path = segment::path(&self.dir, number);
        let file = self.disk.open(&path).map_err(Error::io(Point::ScanOpen, &path))?;
        let length = file.length().map_err(Error::io(Point::ScanLength, &path))?;
        if length != self.layout.bytes() {
            return Err(Error::folder(Point::ScanLengthWrong, path, segment::LENGTH));
        }
        let mut header = [0; BLOCK];
        self.blocks(&*file, number, 0, &mut header)?;
        if header[..] != segment::header_block(self.layout, self.journal_id, number)[..] {
            return Err(self.rotten(Point::ScanSegmentHeader, number, 0, "the segment's header"));
        }
        Ok(file)
    }

    /// Reads a segment from this block on into memory for all of it. What stands there before is left.
    fn load(&self, number: u64, first: usize, bytes: &mut Vec<u8>) -> Result<(), Error> {
        let file = self.open(number)?;
        let length = self.layout.bytes() as usize;
        if bytes.len() != length {
            // Zero as it comes from the system, and not touched where nothing is read.
            *bytes = vec![0; length];
        }
        self.blocks(&*file, number, first, &mut bytes[first * BLOCK..])
    }

    /// Reads a segment's records, from the last one read on. True when the journal ends in it.
    fn segment(&mut self, number: u64, segment: &Arc<Segment>) -> Result<bool, Error> {
        let bytes = &segment.bytes[..];
        let blocks = self.layout.segment_blocks as usize;
        let mut at = self.first(number);
        while at < blocks {
            match self.look(number, bytes, at)? {
                At::Record(n) => {
                    self.take(number, at, n as usize, segment)?;
                    at += n as usize;
                    self.tell(at * BLOCK);
                }
                At::Zero => return Ok(at == 1),
                At::Torn(cut) => {
                    // Its write began, so the one before was durable.
                    self.release()?;
                    self.found.cut = Some(cut);
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// What begins at this block: a whole record, nothing at all, or a torn record. Anything else is rotten.
    fn look(&self, number: u64, bytes: &[u8], at: usize) -> Result<At, Error> {
        let start = number * self.layout.segment_blocks + at as u64;
        let block = |i: usize| &bytes[i * BLOCK..(i + 1) * BLOCK];
        let end = self.layout.segment_blocks as usize;
        let Some(first) = (at..end).find(|&i| !is_zero(block(i))) else { return Ok(At::Zero) };
        let length = BlockHeader::of(block(first)).blocks as usize;
        if length == 0 || at + length > end || first >= at + length {
            let what = "not a block of the record that belongs here";
            return Err(self.rotten(Point::ScanForeignFirst, number, first, what));
        }
        let mut missing = first - at;
        for i in first..at + length {
            if is_zero(block(i)) {
                missing += 1;
            } else if !self.belongs(block(i), start, (i - at) as u32, length as u32) {
                if planted(Bug::RottenCut) {
                    let cut = Cut { sequence: self.sequence + 1, from_block: start, blocks: length as u32 };
                    return Ok(At::Torn(cut));
                }
                let what = "not a block of the record that belongs here";
                return Err(self.rotten(Point::ScanForeign, number, i, what));
            }
        }
        if missing == 0 || planted(Bug::TornTaken) && first == at {
            return Ok(At::Record(length as u32));
        }
        if let Some(i) = (at + length..end).find(|&i| !is_zero(block(i))) {
            let what = "written after a record that is not whole";
            return Err(self.rotten(Point::ScanAfterTorn, number, i, what));
        }
        reached(Point::ScanTorn);
        Ok(At::Torn(Cut { sequence: self.sequence + 1, from_block: start, blocks: length as u32 }))
    }

    fn belongs(&self, block: &[u8], start: u64, index: u32, blocks: u32) -> bool {
        let h = BlockHeader::of(block);
        is_sound(block)
            && h.kind == KIND_RECORD
            && h.number == start + index as u64
            && h.sequence == self.sequence + 1
            && h.index == index
            && h.blocks == blocks
            && h.journal_id == self.journal_id
            && h.reserved == [0; 7]
            && h.chain == self.hash[..8]
    }

    /// Takes a record whose blocks are all sound: checks the rest and shows it.
    fn take(&mut self, number: u64, at: usize, blocks: usize, segment: &Arc<Segment>) -> Result<(), Error> {
        let range = at * BLOCK..(at + blocks) * BLOCK;
        let region = &segment.bytes[range.clone()];
        let start_block = number * self.layout.segment_blocks + at as u64;
        let (header, _) = RecordHeader::read_from_prefix(&region[UNIT..]).expect("a block is longer");
        let epoch = BlockHeader::of(region).epoch;
        let sound = header.format == FORMAT
            && RecordKind::from_u16(header.kind).is_some()
            && header.sequence == self.sequence + 1
            && header.epoch == epoch
            && header.blocks as usize == region.len() / BLOCK
            && header.previous_block == self.last_block
            && header.previous_hash == self.hash
            && header.reserved == [0; 3]
            && header.reserved_more == [0; 2];
        if !sound {
            let what = "the record's header does not go on from the record before";
            return Err(self.rotten(Point::ScanRecordHeader, number, at, what));
        }
        let mut count = 0;
        for (i, block) in region.chunks_exact(BLOCK).enumerate() {
            for entry in walk(block, if i == 0 { FIRST_UNIT } else { 1 }) {
                if entry.is_none() {
                    return Err(self.rotten(
                        Point::ScanEntries,
                        number,
                        at + i,
                        "entries that do not add up",
                    ));
                }
                count += 1;
            }
        }
        if count != header.count && !planted(Bug::TornTaken) {
            let what = "not as many entries as the record says";
            return Err(self.rotten(Point::ScanCount, number, at, what));
        }
        // Its beginning shows that the one before was durable.
        self.release()?;
        let hash = *blake3::hash(region).as_bytes();
        (self.sequence, self.hash, self.last_block) = (header.sequence, hash, start_block);
        self.next_block = start_block + (region.len() / BLOCK) as u64;
        let found = Found { header, start_block, hash, segment: segment.clone(), range };
        match self.by {
            By::Writer => self.show(found),
            By::Reader(_) => {
                self.held = Some(found);
                Ok(())
            }
        }
    }

    fn release(&mut self) -> Result<(), Error> {
        self.held.take().map_or(Ok(()), |held| self.show(held))
    }

    fn show(&mut self, found: Found) -> Result<(), Error> {
        let (header, start_block, hash) = (found.header, found.start_block, found.hash);
        (self.show)(found)?;
        self.found.records += 1;
        self.found.last = Some(header);
        self.found.last_block = start_block;
        self.found.last_hash = hash;
        self.found.next_block = start_block + header.blocks as u64;
        self.found.orderly = header.kind == RecordKind::Stop as u16;
        Ok(())
    }

    fn rotten(&self, point: Point, segment: u64, block: usize, what: &'static str) -> Error {
        Error::rotten(point, segment::path(&self.dir, segment), block as u64, what)
    }
}
