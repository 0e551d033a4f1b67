//! Segment files: their names, their making, their opening.

use crate::block::{BLOCK, BlockHeader, KIND_SEGMENT, MAGIC, SegmentHeader, UNIT, check};
use crate::error::Error;
use crate::record::FORMAT;
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
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

    pub(crate) fn segment_of(&self, block: u64) -> u64 {
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
pub(crate) fn list(dir: &Path) -> Result<u64, Error> {
    let mut numbers: Vec<u64> = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io(dir))? {
        let entry = entry.map_err(Error::io(dir))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if numbered(&name, ".tmp").is_some() {
            continue; // a spare whose making was cut short; the next writer removes it
        }
        match numbered(&name, ".seg") {
            Some(number) => numbers.push(number),
            None => return Err(Error::Folder { file: entry.path(), what: STRANGE }),
        }
    }
    numbers.sort_unstable();
    for (i, number) in numbers.iter().enumerate() {
        if *number != i as u64 {
            return Err(Error::Folder { file: path(dir, i as u64), what: MISSING });
        }
    }
    Ok(numbers.len() as u64)
}

/// The number in a name of twelve digits and this ending.
fn numbered(name: &str, ending: &str) -> Option<u64> {
    let digits = name.strip_suffix(ending)?;
    (digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// Removes spares whose making was cut short. Nothing else: what is strange is not ours to remove.
pub(crate) fn remove_unfinished(dir: &Path) -> Result<(), Error> {
    for entry in std::fs::read_dir(dir).map_err(Error::io(dir))? {
        let entry = entry.map_err(Error::io(dir))?;
        if numbered(&entry.file_name().to_string_lossy(), ".tmp").is_some() {
            std::fs::remove_file(entry.path()).map_err(Error::io(entry.path()))?;
        }
    }
    Ok(())
}

/// Reads and checks the header of the first segment: the layout and the journal's id.
pub(crate) fn identify(dir: &Path) -> Result<(Layout, u64), Error> {
    let path = path(dir, 0);
    let file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound && dir.is_dir() => {
            return Err(Error::Folder { file: path, what: MISSING });
        }
        other => other.map_err(Error::io(&path))?,
    };
    let mut block = vec![0; BLOCK];
    match file.read_exact_at(&mut block, 0) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            return Err(Error::Folder { file: path, what: LENGTH });
        }
        other => other.map_err(Error::io(&path))?,
    }
    let (header, segment) = headers(&block);
    let sound =
        crate::block::is_sound(&block) && header.kind == KIND_SEGMENT && segment.format == FORMAT as u64;
    match Layout::of(segment.segment_blocks) {
        Some(layout) if sound => Ok((layout, segment.journal_id)),
        _ => Err(Error::Rotten { file: path, offset: 0, what: "the segment's header" }),
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

/// Opens for writing, past the page cache where the file system can.
pub(crate) fn open_direct(path: &Path, direct: bool, new: bool) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(new);
    if direct {
        let flags = OFlags::DIRECT.bits() as i32;
        match options.clone().custom_flags(flags).open(path) {
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                // The file system has no direct writing (tmpfs); some make the file before they say so.
                if new {
                    let _ = std::fs::remove_file(path);
                }
            }
            other => return other.map_err(Error::io(path)),
        }
    }
    options.open(path).map_err(Error::io(path))
}

/// Makes a segment: really zeroed, so that later writes need no new space, and whole or not there at all.
pub(crate) fn make(
    dir: &Path,
    layout: Layout,
    journal_id: u64,
    segment: u64,
    direct: bool,
) -> Result<(), Error> {
    let path = path(dir, segment);
    let temporary = path.with_extension("tmp");
    if let Err(error) = fill(&temporary, layout, &header_block(layout, journal_id, segment), direct) {
        // It may have taken the last of the disk.
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    std::fs::rename(&temporary, &path).map_err(Error::io(&path))?;
    File::open(dir).and_then(|d| d.sync_all()).map_err(Error::io(dir))
}

/// Makes a file that is durably zero but for its first block.
fn fill(path: &Path, layout: Layout, first: &[u8], direct: bool) -> Result<(), Error> {
    let file = open_direct(path, direct, true)?;
    let mut at = 0;
    while at < layout.bytes() {
        let length = (layout.bytes() - at).min(ZEROS.0.len() as u64);
        file.write_all_at(&ZEROS.0[..length as usize], at).map_err(Error::io(path))?;
        at += length;
    }
    let mut aligned = crate::buffer::RecordBuffer::new();
    aligned.begin(0);
    aligned.bytes_mut().copy_from_slice(first);
    file.write_all_at(aligned.bytes(), 0).map_err(Error::io(path))?;
    file.sync_all().map_err(Error::io(path))
}
