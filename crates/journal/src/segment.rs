//! Segment files: their names, their making, their opening.

use crate::block::{BLOCK, BlockHeader, KIND_SEGMENT, MAGIC, SegmentHeader, UNIT, check};
use crate::disk::{Disk, DiskFile, Writing};
use crate::error::Error;
use crate::record::FORMAT;
use pabal_fault::{Bug, Point, planted, reached};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use zerocopy::IntoBytes;

/// Blocks of a segment unless the journal was made with another number: 64 MiB.
pub const SEGMENT_BLOCKS_DEFAULT: u32 = 16 * 1024;
/// Blocks of a segment at least: its header, and one for a record.
const SEGMENT_BLOCKS_MIN: u64 = 2;
/// Blocks of a segment at most, 1 GiB: a scan holds a whole segment in memory, and believes the first one's header.
const SEGMENT_BLOCKS_MAX: u64 = 256 * 1024;

/// How blocks lie in segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Blocks of each segment, its header included.
    pub segment_blocks: u64,
}

impl Layout {
    /// Segments of so many blocks. None when they cannot be.
    pub(crate) fn of(segment_blocks: u64) -> Option<Layout> {
        (SEGMENT_BLOCKS_MIN..=SEGMENT_BLOCKS_MAX)
            .contains(&segment_blocks)
            .then_some(Layout { segment_blocks })
    }

    /// Where a record of at most so many blocks begins, when the one before ended at `next_block`: there, or
    /// at the next segment's first free block when this segment may not have the room.
    pub fn place(&self, next_block: u64, blocks_max: u32) -> u64 {
        assert!((blocks_max as u64) < self.segment_blocks, "a record fits a segment");
        let within = next_block % self.segment_blocks;
        if within != 0 && within + blocks_max as u64 <= self.segment_blocks {
            next_block
        } else {
            self.first_of(next_block.div_ceil(self.segment_blocks))
        }
    }

    /// The segment of a block.
    pub fn segment_of(&self, block: u64) -> u64 {
        block / self.segment_blocks
    }

    pub(crate) fn first_of(&self, segment: u64) -> u64 {
        segment * self.segment_blocks + 1
    }

    pub(crate) fn offset_of(&self, block: u64) -> u64 {
        block % self.segment_blocks * BLOCK as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.segment_blocks * BLOCK as u64
    }
}

pub(crate) fn path(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("{segment:012}.seg"))
}

pub(crate) const MISSING: &str = "this segment is missing; restore it from a copy";
const STRANGE: &str = "does not belong to a journal; move it elsewhere";
pub(crate) const IMPOSSIBLE: &str = "a journal cannot have segments of this length";
pub(crate) const LENGTH: &str = "has not the length of a segment; restore it from a copy";

/// The segments of a folder, which must be numbered without a gap.
pub(crate) fn list(disk: &dyn Disk, dir: &Path) -> Result<u64, Error> {
    let mut numbers: Vec<u64> = Vec::new();
    for name in disk.names(dir).map_err(Error::io(Point::NamesRead, dir))? {
        let text = name.to_string_lossy();
        if numbered(&text, ".tmp").is_some() {
            continue; // a spare whose making was cut short; the next writer removes it
        }
        match numbered(&text, ".seg") {
            Some(number) => numbers.push(number),
            None => return Err(Error::folder(Point::NameStrange, dir.join(&name), STRANGE)),
        }
    }
    numbers.sort_unstable();
    for (i, number) in numbers.iter().enumerate() {
        if *number != i as u64 {
            return Err(Error::folder(Point::NameMissing, path(dir, i as u64), MISSING));
        }
    }
    Ok(numbers.len() as u64)
}

/// The number in a name of twelve digits and this ending.
fn numbered(name: &str, ending: &str) -> Option<u64> {
    let digits = name.strip_suffix(ending)?;
    (digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().expect("twelve digits"))
}

/// Removes spares whose making was cut short. Nothing else: what is strange is not ours to remove.
pub(crate) fn remove_unfinished(disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    for name in disk.names(dir).map_err(Error::io(Point::UnfinishedNames, dir))? {
        if numbered(&name.to_string_lossy(), ".tmp").is_some() {
            let path = dir.join(name);
            disk.remove(&path).map_err(Error::io(Point::UnfinishedRemove, &path))?;
        }
    }
    Ok(())
}

/// Reads and checks the header of the first segment: the layout and the journal's id.
pub(crate) fn identify(disk: &dyn Disk, dir: &Path) -> Result<(Layout, u64), Error> {
    let path = path(dir, 0);
    let file = match disk.open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound && disk.names(dir).is_ok() => {
            return Err(Error::folder(Point::IdentifyMissing, path, MISSING));
        }
        other => other.map_err(Error::io(Point::IdentifyOpen, &path))?,
    };
    let mut block = vec![0; BLOCK];
    match file.read(&mut block, 0) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            return Err(Error::folder(Point::IdentifyLength, path, LENGTH));
        }
        other => other.map_err(Error::io(Point::IdentifyRead, &path))?,
    }
    let (header, segment) = headers(&block);
    let sound =
        crate::block::is_sound(&block) && header.kind == KIND_SEGMENT && segment.format == FORMAT as u64;
    match Layout::of(segment.segment_blocks) {
        Some(layout) if sound => Ok((layout, segment.journal_id)),
        _ => Err(Error::rotten(Point::IdentifyRotten, path, 0, "the segment's header")),
    }
}

fn headers(block: &[u8]) -> (BlockHeader, SegmentHeader) {
    use zerocopy::FromBytes;
    let segment = SegmentHeader::read_from_prefix(&block[UNIT..]).expect("a block is longer than this").0;
    (BlockHeader::of(block), segment)
}

/// The header block that a segment must have, to the byte.
pub(crate) fn header_block(layout: Layout, journal_id: u64, segment: u64) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    let content =
        SegmentHeader { format: FORMAT as u64, segment, segment_blocks: layout.segment_blocks, journal_id };
    block[UNIT..UNIT + size_of::<SegmentHeader>()].copy_from_slice(content.as_bytes());
    let mut header = BlockHeader {
        magic: MAGIC,
        number: segment * layout.segment_blocks,
        blocks: 1,
        journal_id,
        kind: KIND_SEGMENT,
        ..BlockHeader::default()
    };
    block[..UNIT].copy_from_slice(header.as_bytes());
    header.check = check(&block);
    block[..UNIT].copy_from_slice(header.as_bytes());
    block
}

#[repr(align(4096))]
struct Zeros([u8; 1 << 20]);
static ZEROS: Zeros = Zeros([0; 1 << 20]);

/// What a new segment's blocks are before anything is written to them. They read as zero either way, and their space
/// is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blank {
    /// Really written: syncs of small records take half the time, as the file system has nothing to note.
    Zeroed,
    /// Reserved only, where the file system can: else a bank that writes large records writes everything twice.
    Reserved,
}

/// Makes a segment, so that later writes need no new space, whole or not there at all.
pub(crate) fn make(
    disk: &dyn Disk,
    dir: &Path,
    layout: Layout,
    journal_id: u64,
    segment: u64,
    how: (Blank, bool),
) -> Result<(), Error> {
    let path = path(dir, segment);
    let temporary = path.with_extension("tmp");
    // One whose making failed, and whose removal did too, would be in the way for ever.
    if disk.remove(&temporary).is_err_and(|error| error.kind() != ErrorKind::NotFound) {
        reached(Point::MakeInTheWay);
    }
    if let Err(error) = fill(disk, &temporary, layout, &header_block(layout, journal_id, segment), how) {
        // It may have taken the last of the disk.
        if disk.remove(&temporary).is_err_and(|error| error.kind() != ErrorKind::NotFound) {
            reached(Point::MakeLeft);
        }
        return Err(error);
    }
    disk.rename(&temporary, &path).map_err(Error::io(Point::MakeRename, &path))?;
    if planted(Bug::NameNotSynced) {
        return Ok(());
    }
    disk.sync_folder(dir).map_err(Error::io(Point::MakeFolderSync, dir))
}

/// Writes zeros from one byte up to another.
pub(crate) fn zero(file: &dyn DiskFile, mut from: u64, to: u64) -> std::io::Result<()> {
    while from < to {
        let length = (to - from).min(ZEROS.0.len() as u64);
        file.write(&ZEROS.0[..length as usize], from)?;
        from += length;
    }
    Ok(())
}

/// Makes a file that is durably zero but for its first block.
fn fill(
    disk: &dyn Disk,
    path: &Path,
    layout: Layout,
    first: &[u8],
    (blank, direct): (Blank, bool),
) -> Result<(), Error> {
    let how = Writing { new: true, direct };
    let file = disk.open_to_write(path, how).map_err(Error::io(Point::MakeOpen, path))?;
    let reserved = file.reserve(layout.bytes()).map_err(Error::io(Point::MakeReserve, path))?;
    if blank == Blank::Zeroed || !reserved {
        zero(&*file, 0, layout.bytes()).map_err(Error::io(Point::MakeWrite, path))?;
    }
    let mut aligned = crate::buffer::RecordBuffer::of_blocks(1);
    aligned.bytes_mut().copy_from_slice(first);
    file.write(aligned.bytes(), 0).map_err(Error::io(Point::MakeHeader, path))?;
    file.sync_all().map_err(Error::io(Point::MakeSync, path))
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;
    use crate::disk::SystemDisk;
    use std::os::unix::fs::MetadataExt;

    /// Both are as long, read the same, and have their space; only one was written.
    #[test]
    fn a_reserved_segment_is_to_be_read_as_a_zeroed_one() {
        let layout = Layout::of(256).expect("a layout");
        let made = [Blank::Zeroed, Blank::Reserved].map(|blank| {
            let dir = tempfile::tempdir().expect("a folder");
            make(&SystemDisk, dir.path(), layout, 7, 0, (blank, true)).expect("made");
            let file = path(dir.path(), 0);
            let space = file.metadata().expect("there").blocks() * 512;
            assert!(space >= layout.bytes(), "{blank:?} takes {space} bytes of the disk");
            std::fs::read(file).expect("read")
        });
        assert_eq!(made[0].len() as u64, layout.bytes());
        assert!(made[0] == made[1]);
        assert!(made[1][BLOCK..].iter().all(|&byte| byte == 0));
    }
}
