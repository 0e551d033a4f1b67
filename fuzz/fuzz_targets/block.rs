//! Any blocks: the walk over their entries.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pabal_fuzz::seeds;
use pabal_journal::{BLOCK, Record, RecordHeader, UNIT, UNITS};
use zerocopy::FromBytes;

fuzz_target!(init: seeds::plant("block"), |data: &[u8]| {
    let mut blocks = data.to_vec();
    blocks.resize(data.len().next_multiple_of(BLOCK).max(BLOCK), 0);
    let header = RecordHeader::read_from_prefix(&blocks[UNIT..]).expect("a block is longer").0;
    let start_block = 1 + u64::from(data.first().copied().unwrap_or(0));
    let record = Record { header: &header, start_block, hash: [0; 32], blocks: &blocks };
    let mut free = start_block * UNITS as u64;
    for (position, entry) in record.entries() {
        assert!(position.0 >= free && position.unit() != 0, "entries follow one another");
        assert!(!entry.is_empty() && entry.len().is_multiple_of(UNIT), "whole units");
        let end = position.0 + (entry.len() / UNIT) as u64;
        assert!((end - 1) / UNITS as u64 == position.block(), "within their block");
        free = end;
    }
});
