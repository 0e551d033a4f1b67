//! Blocks and positions: the layout of a segment file.

use pabal_fault::{Bug, planted};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a block: the unit of writing and of checking.
pub const BLOCK: usize = 4096;
/// Bytes of a unit: the unit of addressing.
pub const UNIT: usize = 64;
/// Units of a block, its header included.
pub const UNITS: usize = BLOCK / UNIT;
/// Units of an entry at most: what a block has beside its header.
pub const ENTRY_UNITS_MAX: usize = UNITS - 1;

/// Where an entry stands: block number times 64 plus unit. Zero is nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    /// The position of a unit of a block.
    pub const fn new(block: u64, unit: usize) -> Position {
        Position(block * UNITS as u64 + unit as u64)
    }

    /// The block.
    pub const fn block(self) -> u64 {
        self.0 / UNITS as u64
    }

    /// The unit within the block.
    pub const fn unit(self) -> usize {
        (self.0 % UNITS as u64) as usize
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

pub(crate) const MAGIC: u32 = u32::from_le_bytes(*b"PBL1");
pub(crate) const KIND_SEGMENT: u8 = 1;
pub(crate) const KIND_RECORD: u8 = 2;

/// The header of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct BlockHeader {
    /// CRC-32C of all the block's bytes after this field.
    pub check: u32,
    pub magic: u32,
    /// Number of the block in the whole journal: a block written elsewhere is found out.
    pub number: u64,
    /// The record's sequence; zero in a segment's header.
    pub sequence: u64,
    /// Number of the block within its record.
    pub index: u32,
    /// Blocks of the record.
    pub blocks: u32,
    pub journal_id: u64,
    pub epoch: u64,
    pub kind: u8,
    pub reserved: [u8; 7],
    /// The first bytes of the hash of the record before.
    pub chain: [u8; 8],
}

const _: () = assert!(size_of::<BlockHeader>() == UNIT);

impl BlockHeader {
    pub fn of(block: &[u8]) -> BlockHeader {
        BlockHeader::read_from_prefix(block).expect("a block is longer than its header").0
    }
}

pub(crate) fn check(block: &[u8]) -> u32 {
    crc32c::crc32c(&block[4..BLOCK])
}

/// Whether the block's own check holds.
pub(crate) fn is_sound(block: &[u8]) -> bool {
    let header = BlockHeader::of(block);
    header.magic == MAGIC && (header.check == check(block) || planted(Bug::CheckIgnored))
}

pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    let (head, words, tail) = bytes.align_to_words();
    head.iter().all(|&b| b == 0) && words.chunks(64).all(all_zero) && tail.iter().all(|&b| b == 0)
}

fn all_zero(words: &[u64]) -> bool {
    words.iter().fold(0, |a, w| a | w) == 0
}

trait AlignToWords {
    fn align_to_words(&self) -> (&[u8], &[u64], &[u8]);
}

impl AlignToWords for [u8] {
    fn align_to_words(&self) -> (&[u8], &[u64], &[u8]) {
        // SAFETY: any eight bytes are a valid u64.
        unsafe { self.align_to::<u64>() }
    }
}

/// The header block of a segment, after its block header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct SegmentHeader {
    pub format: u64,
    pub segment: u64,
    pub segment_blocks: u64,
    pub journal_id: u64,
}

/// Walks the entries of a block from a unit on: their first units and lengths. Stops at padding. None when
/// the units do not add up.
pub(crate) fn walk(block: &[u8], first: usize) -> impl Iterator<Item = Option<(usize, usize)>> + '_ {
    let mut unit = first;
    std::iter::from_fn(move || {
        if unit >= UNITS {
            return None;
        }
        let at = unit * UNIT;
        let (op, length) = (u16::from_le_bytes([block[at], block[at + 1]]), block[at + 5] as usize);
        if op == 0 {
            let padding = is_zero(&block[at..BLOCK]);
            unit = UNITS;
            return (!padding).then_some(None);
        }
        if length == 0 || unit + length > UNITS {
            unit = UNITS;
            return Some(None);
        }
        let entry = (unit, length);
        unit += length;
        Some(Some(entry))
    })
}
