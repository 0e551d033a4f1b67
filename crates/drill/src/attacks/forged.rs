//! Forged blocks: every check is right, and what they say cannot be.

use super::Attack;
use super::bed::{Bed, place};
use crate::disk::image::BLOCK;
use pabal_fault::Point;
use pabal_journal::{RecordHeader, UNIT};
use zerocopy::{FromBytes, IntoBytes};

pub const ATTACKS: &[Attack] = &[
    Attack { name: "a segment's header is forged", points: &[Point::ScanSegmentHeader], run: segment_header },
    Attack { name: "written beyond the end", points: &[Point::ScanBeyond], run: beyond },
    Attack { name: "a record of no possible length", points: &[Point::ScanForeignFirst], run: foreign_first },
    Attack { name: "a block of another record", points: &[Point::ScanForeign], run: foreign },
    Attack {
        name: "a hole in a record that has a successor",
        points: &[Point::ScanAfterTorn],
        run: after_torn,
    },
    Attack { name: "a record's header is forged", points: &[Point::ScanRecordHeader], run: record_header },
    Attack { name: "entries do not add up", points: &[Point::ScanEntries], run: entries },
    Attack { name: "another number of entries", points: &[Point::ScanCount], run: count },
];

/// What this forges in a block is refused, saying this of that place.
fn refused(at: (u64, usize), says: &str, change: impl FnOnce(&mut [u8; BLOCK])) {
    let bed = Bed::with_records();
    let before = bed.disk.image();
    bed.forge(at.0, at.1, change);
    bed.must_be_refused(before, &format!("{}{says}", place(at.0, at.1 as u64)));
}

fn segment_header() {
    for number in 1..4 {
        for byte in (4..64 + 32).step_by(4) {
            refused((number, 0), "the segment's header", |block| block[byte] ^= 1);
        }
    }
}

fn beyond() {
    refused((3, 1), "written, but nothing before it is", |block| block[100] = 1);
}

const FOREIGN: &str = "not a block of the record that belongs here";

fn foreign_first() {
    for blocks in [0u32, 8, u32::MAX] {
        refused((0, 1), FOREIGN, |block| block[28..32].copy_from_slice(&blocks.to_le_bytes()));
    }
}

fn foreign() {
    // Any one field of a block's header: of the first block of a record, and of a later one.
    for (at, fields) in [((0, 2), [4, 8, 16, 24, 32, 48, 49, 56]), ((1, 3), [4, 8, 16, 24, 32, 48, 55, 63])] {
        for byte in fields {
            refused(at, FOREIGN, |block| block[byte] ^= 1);
        }
    }
    let bed = Bed::with_records();
    let before = bed.disk.image();
    bed.spoil(1, 4, |block| block[BLOCK - 1] ^= 0x80);
    bed.must_be_refused(before, &format!("{}{FOREIGN}", place(1, 4)));
}

fn after_torn() {
    for (hole, after) in [(3, 4), (2, 4)] {
        let bed = Bed::with_records();
        let before = bed.disk.image();
        bed.spoil(0, hole, |block| block.fill(0));
        bed.must_be_refused(before, &format!("{}written after a record that is not whole", place(0, after)));
    }
}

fn record_header() {
    let changes: [fn(&mut RecordHeader); 9] = [
        |header| header.format += 1,
        |header| header.kind = 4,
        |header| header.sequence += 1,
        |header| header.epoch += 1,
        |header| header.blocks += 1,
        |header| header.previous_block -= 1,
        |header| header.previous_hash[31] ^= 1,
        |header| header.reserved[2] = 1,
        |header| header.reserved_more[1] = 1,
    ];
    for (number, at) in [(0, 4), (1, 1)] {
        for change in changes {
            refused((number, at), "the record's header does not go on", |block| in_header(block, change));
        }
    }
}

fn in_header(block: &mut [u8; BLOCK], change: impl FnOnce(&mut RecordHeader)) {
    let (mut header, _) = RecordHeader::read_from_prefix(&block[UNIT..]).expect("a block is longer");
    change(&mut header);
    block[UNIT..UNIT + size_of::<RecordHeader>()].copy_from_slice(header.as_bytes());
}

fn entries() {
    let says = "entries that do not add up";
    // The entry begins at unit 3 of a record's first block, at unit 1 of a later one; it has 60 units.
    for (number, at, unit) in [(0, 1, 3), (0, 3, 1), (1, 5, 1)] {
        // None at all, one more than the block has, and all that can be said.
        for units in [0, 65 - unit as u8, 255] {
            refused((number, at), says, |block| block[unit * UNIT + 5] = units);
        }
        // No operation, and not blank either.
        refused((number, at), says, |block| block[unit * UNIT..unit * UNIT + 2].fill(0));
    }
}

fn count() {
    let says = "not as many entries as the record says";
    for (number, at) in [(0, 1), (0, 2), (0, 4), (1, 1)] {
        for change in [(|n: &mut u32| *n += 1) as fn(&mut u32), |n| *n -= 1, |n| *n = u32::MAX] {
            refused((number, at), says, |block| in_header(block, |header| change(&mut header.count)));
        }
    }
}
