//! A journal's folder as bytes in memory, and what a forger would fill in: checks, sequences and hashes.

use pabal_journal::{BLOCK, Record, RecordHeader, UNIT, UNITS};
use std::path::Path;
use zerocopy::{FromBytes, IntoBytes};

/// The journal's id.
const JOURNAL_ID: u64 = 7;
/// The unit of a record's first block at which its entries begin.
const FIRST_UNIT: usize = 3;

// Where things stand in a block's header.
const CHECK: usize = 0;
const MAGIC: usize = 4;
const NUMBER: usize = 8;
const SEQUENCE: usize = 16;
const INDEX: usize = 24;
const BLOCKS: usize = 28;
const ID: usize = 32;
const EPOCH: usize = 40;
const KIND: usize = 48;
const CHAIN: usize = 56;

/// What of a block stays as the input has it; nothing of it by default.
#[derive(Clone, Copy, Default)]
pub struct Left {
    /// The block's check.
    pub check: bool,
    /// Magic, number, journal and kind.
    pub header: bool,
    /// Sequence, index, and the hash of the record before.
    pub chain: bool,
}

/// All segments of a journal, one after the other.
pub struct Image {
    segment_blocks: usize,
    bytes: Vec<u8>,
    left: Vec<Left>,
}

impl Image {
    /// Segments with nothing in them.
    pub fn new(segment_blocks: usize, segments: usize) -> Image {
        let blocks = segment_blocks * segments;
        let mut image =
            Image { segment_blocks, bytes: vec![0; blocks * BLOCK], left: vec![Left::default(); blocks] };
        for segment in 0..segments {
            let block = image.block_mut(segment * segment_blocks);
            put(block, BLOCKS, &1u32.to_le_bytes());
            let words = [1, segment as u64, segment_blocks as u64, JOURNAL_ID];
            put(block, UNIT, words.as_bytes());
        }
        image
    }

    /// How many blocks there are.
    pub fn blocks(&self) -> usize {
        self.left.len()
    }

    /// A block.
    pub fn block(&self, number: usize) -> &[u8] {
        &self.bytes[number * BLOCK..][..BLOCK]
    }

    /// A block.
    pub fn block_mut(&mut self, number: usize) -> &mut [u8] {
        &mut self.bytes[number * BLOCK..][..BLOCK]
    }

    /// Puts these bytes at the beginning of a block, and says what of it stays.
    pub fn place(&mut self, number: usize, bytes: &[u8], left: Left) {
        let bytes = &bytes[..bytes.len().min(BLOCK)];
        put(self.block_mut(number), 0, bytes);
        self.left[number] = left;
    }

    /// Puts a record at a block: its header, and its entries as they fit. The block after it, or none when there
    /// is no room in the segment.
    pub fn record(&mut self, start: usize, header: &RecordHeader, entries: &[&[u8]]) -> Option<usize> {
        let mut unit = FIRST_UNIT;
        let end = self.segment_blocks - start % self.segment_blocks;
        let mut places = Vec::with_capacity(entries.len());
        for entry in entries {
            let units = entry.len() / UNIT;
            if unit.is_multiple_of(UNITS) {
                unit += 1;
            }
            if unit % UNITS + units > UNITS {
                unit = unit.next_multiple_of(UNITS) + 1;
            }
            places.push(unit);
            unit += units;
        }
        let blocks = unit.div_ceil(UNITS);
        if blocks > end {
            return None;
        }
        let from = start * BLOCK;
        for (unit, entry) in places.iter().zip(entries) {
            put(&mut self.bytes, from + unit * UNIT, entry);
        }
        put(&mut self.bytes, from + UNIT, header.as_bytes());
        for block in start..start + blocks {
            put(self.block_mut(block), BLOCKS, &(blocks as u32).to_le_bytes());
        }
        Some(start + blocks)
    }

    /// Fills in what a forger would.
    pub fn seal(&mut self) {
        let (mut sequence, mut previous) = (0, 0);
        let mut hash = *blake3::hash(&JOURNAL_ID.to_le_bytes()).as_bytes();
        let mut at = 0;
        while at < self.blocks() {
            let within = at % self.segment_blocks;
            if within == 0 {
                self.head(at, 1);
                self.check(at);
                at += 1;
                continue;
            }
            if self.block(at).iter().all(|b| *b == 0) {
                at += 1;
                continue;
            }
            sequence += 1;
            let blocks = number(self.block(at), BLOCKS) as usize;
            let blocks = blocks.clamp(1, self.segment_blocks - within);
            for block in at..at + blocks {
                if self.block(block).iter().all(|b| *b == 0) {
                    continue; // torn
                }
                self.head(block, 2);
                if !self.left[block].chain {
                    let bytes = self.block_mut(block);
                    put(bytes, SEQUENCE, &u64::to_le_bytes(sequence));
                    put(bytes, INDEX, &((block - at) as u32).to_le_bytes());
                    put(bytes, BLOCKS, &(blocks as u32).to_le_bytes());
                    put(bytes, CHAIN, &hash[..8]);
                    if block == at {
                        self.link(at, blocks, sequence, previous, hash);
                    }
                }
                self.check(block);
            }
            hash = *blake3::hash(&self.bytes[at * BLOCK..(at + blocks) * BLOCK]).as_bytes();
            previous = at as u64;
            at += blocks;
        }
    }

    /// The record's own header: what ties it to the one before, and counts what is in it.
    fn link(&mut self, at: usize, blocks: usize, sequence: u64, previous: u64, hash: [u8; 32]) {
        let epoch = number64(self.block(at), EPOCH);
        let bytes = &self.bytes[at * BLOCK..(at + blocks) * BLOCK];
        let mut header = RecordHeader::read_from_prefix(&bytes[UNIT..]).expect("a block is longer").0;
        let record = Record { header: &header, start_block: at as u64, hash, blocks: bytes };
        header.count = record.entries().count() as u32;
        header.format = pabal_journal::FORMAT;
        if !(1..=3).contains(&header.kind) {
            header.kind = 1;
        }
        (header.sequence, header.epoch, header.blocks) = (sequence, epoch, blocks as u32);
        (header.previous_block, header.previous_hash) = (previous, hash);
        (header.reserved, header.reserved_more) = ([0; 3], [0; 2]);
        put(self.block_mut(at), UNIT, header.as_bytes());
    }

    fn head(&mut self, block: usize, kind: u8) {
        if !self.left[block].header {
            let bytes = self.block_mut(block);
            put(bytes, MAGIC, b"PBL1");
            put(bytes, NUMBER, &(block as u64).to_le_bytes());
            put(bytes, ID, &JOURNAL_ID.to_le_bytes());
            put(bytes, KIND, &[kind, 0, 0, 0, 0, 0, 0, 0]);
        }
    }

    fn check(&mut self, block: usize) {
        if !self.left[block].check {
            let check = crc32c::crc32c(&self.block(block)[4..]);
            put(self.block_mut(block), CHECK, &check.to_le_bytes());
        }
    }

    /// Writes the segments into a folder.
    pub fn write(&self, folder: &Path) {
        for (i, bytes) in self.bytes.chunks(self.segment_blocks * BLOCK).enumerate() {
            std::fs::write(folder.join(format!("{i:012}.seg")), bytes).expect("a file can be written");
        }
    }
}

fn put(to: &mut [u8], at: usize, bytes: &[u8]) {
    to[at..at + bytes.len()].copy_from_slice(bytes);
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn number64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
