//! The buffer in which a record is made: page-aligned memory in the very form that is written.

use crate::block::{BLOCK, ENTRY_UNITS_MAX, Position, UNIT, UNITS, walk};
use crate::record::{FIRST_UNIT, FORMAT, Record, RecordHeader, RecordKind, entries};
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use zerocopy::IntoBytes;

/// What the maker of a record says of it.
#[derive(Clone, Copy, Debug)]
pub struct RecordMeta {
    /// What it is for.
    pub kind: RecordKind,
    /// Version of the rules.
    pub rules: u32,
    /// The batch's time, milliseconds since 1970.
    pub time_ms: u64,
    /// Days since 1970-01-01.
    pub business_date: i32,
    /// The digest of the state after it.
    pub digest: [u8; 16],
}

/// A place in a buffer to go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    unit: usize,
    count: u32,
}

/// A record being made. Its memory is kept from one record to the next.
pub struct RecordBuffer {
    memory: NonNull<u8>,
    capacity_blocks: usize,
    start_block: u64,
    /// The next free unit, counted from the record's start.
    unit: usize,
    count: u32,
    /// Blocks that were zeroed for this record: each just before its first entry, while it is near.
    zeroed_blocks: usize,
}

// SAFETY: the memory belongs to this value alone.
unsafe impl Send for RecordBuffer {}

// SAFETY: through a shared reference the memory is only read.
unsafe impl Sync for RecordBuffer {}

impl Default for RecordBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl RecordBuffer {
    /// An empty buffer.
    pub fn new() -> RecordBuffer {
        let mut buffer = RecordBuffer {
            memory: NonNull::dangling(),
            capacity_blocks: 0,
            start_block: 0,
            unit: FIRST_UNIT,
            count: 0,
            zeroed_blocks: 0,
        };
        buffer.grow(16);
        buffer
    }

    /// Memory for this many whole blocks, zero.
    pub(crate) fn of_blocks(blocks: usize) -> RecordBuffer {
        let mut buffer = RecordBuffer::new();
        buffer.begin(0);
        (1..blocks).for_each(|block| buffer.zero(block));
        buffer.unit = blocks * UNITS;
        buffer
    }

    /// Begins a record at this block.
    pub fn begin(&mut self, start_block: u64) {
        self.start_block = start_block;
        self.unit = FIRST_UNIT;
        self.count = 0;
        self.zeroed_blocks = 0;
        self.zero(0);
    }

    /// A place for an entry of this many units (1 to 63): its position and its bytes, all zero. The first
    /// bytes must then be made an entry's: operation and length.
    #[inline(always)]
    pub fn entry(&mut self, units: usize) -> (Position, &mut [u8]) {
        assert!((1..=ENTRY_UNITS_MAX).contains(&units), "entries fit a block");
        let mut unit = self.unit;
        if unit.is_multiple_of(UNITS) {
            unit += 1;
        }
        if unit % UNITS + units > UNITS {
            unit = unit.next_multiple_of(UNITS) + 1;
        }
        let block = unit / UNITS;
        if block >= self.zeroed_blocks {
            self.zero(block);
        }
        self.unit = unit + units;
        self.count += 1;
        let position = Position::new(self.start_block, 0).0 + unit as u64;
        let at = unit * UNIT;
        will_write(self.memory.as_ptr().wrapping_add(at + BLOCK), units);
        // SAFETY: `block` lies within the capacity and the entry within its block.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr().add(at), units * UNIT) };
        (Position(position), bytes)
    }

    /// Makes the next block ready: what an earlier record left there goes.
    #[inline(never)]
    fn zero(&mut self, block: usize) {
        assert!(block == self.zeroed_blocks, "entries fill one block after the other");
        if block >= self.capacity_blocks {
            self.grow(block + 1);
        }
        self.memory_mut()[block * BLOCK..(block + 1) * BLOCK].fill(0);
        self.zeroed_blocks = block + 1;
    }

    /// How far it has been filled.
    #[inline]
    pub fn mark(&self) -> Mark {
        Mark { unit: self.unit, count: self.count }
    }

    /// Takes back everything since the mark.
    pub fn rewind(&mut self, mark: Mark) {
        assert!(mark.unit <= self.unit, "a mark of this record");
        let to = (self.blocks() * BLOCK).min(self.zeroed_blocks * BLOCK);
        self.memory_mut()[mark.unit * UNIT..to].fill(0);
        self.unit = mark.unit;
        self.count = mark.count;
        self.zeroed_blocks = self.blocks();
    }

    /// The entry that begins at this position, if one made so far does.
    pub fn get(&self, position: Position) -> Option<&[u8]> {
        // In its own block only: a record may have thousands.
        let index = usize::try_from(position.block().checked_sub(self.start_block)?).ok()?;
        let block = self.bytes().chunks_exact(BLOCK).nth(index)?;
        let first = if index == 0 { FIRST_UNIT } else { 1 };
        let (unit, units) = walk(block, first).flatten().find(|(unit, _)| *unit == position.unit())?;
        Some(&block[unit * UNIT..(unit + units) * UNIT])
    }

    /// The entries made so far.
    pub fn entries(&self) -> impl Iterator<Item = (Position, &[u8])> {
        entries(self.start_block, self.bytes())
    }

    /// Whether its blocks are those of this record to the byte, but for the headers: then so are its entries. Without
    /// looking at each.
    pub fn has_entries_of(&self, record: &Record<'_>) -> bool {
        let headers = |block| UNIT * if block == 0 { FIRST_UNIT } else { 1 };
        let blocks = self.bytes().chunks_exact(BLOCK).zip(record.blocks.chunks_exact(BLOCK)).enumerate();
        self.start_block == record.start_block
            && self.bytes().len() == record.blocks.len()
            && blocks.into_iter().all(|(i, (made, other))| made[headers(i)..] == other[headers(i)..])
    }

    /// Number of entries.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The block at which it begins.
    pub fn start_block(&self) -> u64 {
        self.start_block
    }

    /// Number of blocks so far.
    pub fn blocks(&self) -> usize {
        self.unit.div_ceil(UNITS).max(1)
    }

    /// The block after its last.
    pub fn end_block(&self) -> u64 {
        self.start_block + self.blocks() as u64
    }

    /// All its blocks.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: blocks() never exceeds the capacity.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.blocks() * BLOCK) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let length = self.blocks() * BLOCK;
        &mut self.memory_mut()[..length]
    }

    /// Fills the record's header, but for what the journal knows: sequence, epoch and chain.
    pub fn finish(&mut self, meta: RecordMeta) {
        let header = RecordHeader {
            format: FORMAT,
            kind: meta.kind as u16,
            rules: meta.rules,
            time_ms: meta.time_ms,
            count: self.count,
            blocks: self.blocks() as u32,
            business_date: meta.business_date,
            digest: meta.digest,
            ..RecordHeader::default()
        };
        self.memory_mut()[UNIT..3 * UNIT].copy_from_slice(header.as_bytes());
    }

    fn memory_mut(&mut self) -> &mut [u8] {
        // SAFETY: the whole allocation, zeroed when made, owned by `self`.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.capacity_blocks * BLOCK) }
    }

    #[cold]
    fn grow(&mut self, blocks: usize) {
        let capacity = blocks.max(self.capacity_blocks * 2);
        let layout = Self::layout(capacity);
        // SAFETY: the layout is not empty.
        let Some(memory) = NonNull::new(unsafe { alloc_zeroed(layout) }) else { handle_alloc_error(layout) };
        if self.capacity_blocks > 0 {
            let used = self.zeroed_blocks.min(self.capacity_blocks) * BLOCK;
            // SAFETY: both are at least `used` long and do not overlap; the old one was made with its layout.
            unsafe {
                std::ptr::copy_nonoverlapping(self.memory.as_ptr(), memory.as_ptr(), used);
                dealloc(self.memory.as_ptr(), Self::layout(self.capacity_blocks));
            }
        }
        self.memory = memory;
        self.capacity_blocks = capacity;
    }

    fn layout(blocks: usize) -> Layout {
        Layout::from_size_align(blocks * BLOCK, BLOCK).expect("a bounded number of blocks")
    }
}

/// Asks for these lines, to be written soon: those of the next block, one entry's at a time, so that it can be made ready
/// without waiting for the processor that hashed what was in them before. Changes nothing, wherever it points.
#[inline(always)]
fn will_write(place: *const u8, lines: usize) {
    for line in 0..lines {
        let line = place.wrapping_add(line * UNIT);
        // SAFETY: a hint; of an address that is none it does nothing, and so does a processor that does not know it.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            std::arch::asm!("prefetchw [{}]", in(reg) line, options(nostack, preserves_flags, readonly));
        }
        #[cfg(not(target_arch = "x86_64"))]
        std::hint::black_box(line);
    }
}

impl Drop for RecordBuffer {
    fn drop(&mut self) {
        // SAFETY: made with this layout.
        unsafe { dealloc(self.memory.as_ptr(), Self::layout(self.capacity_blocks)) };
    }
}
