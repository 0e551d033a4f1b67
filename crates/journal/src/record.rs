//! Records: what one write makes durable.

use crate::block::{BLOCK, BlockHeader, KIND_RECORD, Position, UNIT, is_sound, walk};
use pabal_fault::{Point, reached};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The version of the journal's format.
pub const FORMAT: u16 = 1;
/// The unit of a record's first block at which its entries begin.
pub(crate) const FIRST_UNIT: usize = 3;

/// Blocks of one record at most, 4 MiB.
pub const RECORD_BLOCKS_MAX: u32 = 1024;

/// What a record is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum RecordKind {
    /// Commands and their outcomes.
    Batch = 1,
    /// Nothing but the confirmation of the record before, written when the core is idle.
    Closing = 2,
    /// The same at an orderly stop.
    Stop = 3,
}

impl RecordKind {
    pub(crate) fn from_u16(value: u16) -> Option<RecordKind> {
        [RecordKind::Batch, RecordKind::Closing, RecordKind::Stop].into_iter().find(|k| *k as u16 == value)
    }
}

/// The header of a record: 128 bytes after the first block's header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RecordHeader {
    /// [`FORMAT`].
    pub format: u16,
    /// A [`RecordKind`].
    pub kind: u16,
    /// Version of the rules under which it was decided.
    pub rules: u32,
    /// 1 for the first record, one more for each.
    pub sequence: u64,
    /// Which leader wrote it.
    pub epoch: u64,
    /// The batch's time, milliseconds since 1970.
    pub time_ms: u64,
    /// Number of entries.
    pub count: u32,
    /// Number of blocks.
    pub blocks: u32,
    /// The block at which the record before begins; zero for none.
    pub previous_block: u64,
    /// The business date when the record ended: days since 1970-01-01.
    pub business_date: i32,
    /// Zero.
    pub reserved: [u32; 3],
    /// BLAKE3 of all blocks of the record before; of the journal's id for the first.
    pub previous_hash: [u8; 32],
    /// The digest of the state after it.
    pub digest: [u8; 16],
    /// Zero.
    pub reserved_more: [u64; 2],
}

const _: () = assert!(size_of::<RecordHeader>() == 2 * UNIT);

/// A record, read and checked.
pub struct Record<'a> {
    /// Its header.
    pub header: &'a RecordHeader,
    /// The block at which it begins.
    pub start_block: u64,
    /// BLAKE3 of its blocks.
    pub hash: [u8; 32],
    /// All of its blocks.
    pub blocks: &'a [u8],
}

impl<'a> Record<'a> {
    /// The record that these blocks are, each checked: for blocks that came from elsewhere than a file. They must be
    /// aligned to eight bytes. That it follows the one before is for whoever knows that one to check. None when they
    /// are no record.
    pub fn checked(blocks: &'a [u8]) -> Option<Record<'a>> {
        let count = blocks.len() / BLOCK;
        let aligned = blocks.as_ptr().align_offset(8) == 0;
        if count == 0 || count > RECORD_BLOCKS_MAX as usize || !blocks.len().is_multiple_of(BLOCK) || !aligned
        {
            reached(Point::CheckedLength);
            return None;
        }
        let first = BlockHeader::of(blocks);
        let belongs = |(i, block): (usize, &[u8])| {
            let h = BlockHeader::of(block);
            is_sound(block)
                && h.kind == KIND_RECORD
                && (h.index as usize, h.blocks as usize) == (i, count)
                && h.number == first.number + i as u64
                && (h.sequence, h.journal_id, h.epoch) == (first.sequence, first.journal_id, first.epoch)
        };
        if !blocks.chunks_exact(BLOCK).enumerate().all(belongs) {
            reached(Point::CheckedBlock);
            return None;
        }
        let header = RecordHeader::ref_from_prefix(&blocks[UNIT..]).ok()?.0;
        let same = header.format == FORMAT
            && RecordKind::from_u16(header.kind).is_some()
            && header.sequence == first.sequence
            && header.blocks as usize == count;
        if !same {
            reached(Point::CheckedHeader);
            return None;
        }
        // Those that do not add up are none.
        let walked = blocks.chunks_exact(BLOCK).enumerate();
        let walked = walked.flat_map(|(i, block)| walk(block, if i == 0 { FIRST_UNIT } else { 1 }));
        if walked.map(|entry| entry.map(|_| 1)).sum::<Option<u64>>() != Some(header.count.into()) {
            reached(Point::CheckedEntries);
            return None;
        }
        let hash = *blake3::hash(blocks).as_bytes();
        Some(Record { header, start_block: first.number, hash, blocks })
    }

    /// Its entries, in order.
    pub fn entries(&self) -> impl Iterator<Item = (Position, &'a [u8])> + use<'a> {
        entries(self.start_block, self.blocks)
    }
}

/// The entries of checked blocks.
pub(crate) fn entries(start_block: u64, blocks: &[u8]) -> impl Iterator<Item = (Position, &[u8])> {
    blocks.chunks_exact(BLOCK).enumerate().flat_map(move |(i, block)| {
        let first = if i == 0 { FIRST_UNIT } else { 1 };
        walk(block, first).flatten().map(move |(unit, units)| {
            let at = unit * UNIT;
            (Position::new(start_block + i as u64, unit), &block[at..at + units * UNIT])
        })
    })
}

pub(crate) fn genesis_hash(journal_id: u64) -> [u8; 32] {
    *blake3::hash(&journal_id.to_le_bytes()).as_bytes()
}
