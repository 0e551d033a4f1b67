//! Reading single entries and single records where there is none, or where what there was is gone.

use super::Attack;
use super::bed::{Bed, DIR, SEGMENT_BLOCKS, entry_in, is_right, place, reader, says_so, segment};
use crate::disk::{Access, Fault};
use pabal_fault::Point;
use pabal_journal::{Error, Position};
use std::path::Path;

pub const ATTACKS: &[Attack] = &[
    Attack {
        name: "positions at which no entry begins",
        points: &[
            Point::EntryNowhere,
            Point::EntryNoSegment,
            Point::EntryBlank,
            Point::EntryInHeader,
            Point::EntryBetween,
        ],
        run: no_entry,
    },
    Attack {
        name: "an entry whose block is spoilt",
        points: &[Point::EntryRotten, Point::EntryLost, Point::EntryNextRotten],
        run: spoilt,
    },
    Attack {
        name: "an entry that cannot be read",
        points: &[Point::EntryRead, Point::ReaderOpen, Point::IdentifyOpen],
        run: unreadable,
    },
    Attack {
        name: "a record that is followed is spoilt",
        points: &[Point::RecordHeadRotten, Point::RecordBodyRotten, Point::HeadRotten],
        run: followed,
    },
    Attack {
        name: "a reader beside a journal that fails it",
        points: &[Point::ReaderLock, Point::ReaderSync, Point::ScanTorn],
        run: beside,
    },
];

/// The block after the last record.
const END: u64 = SEGMENT_BLOCKS + 6;

fn no_entry() {
    let mut bed = Bed::with_records();
    let reader = reader(&bed.disk).expect("a journal");
    for (block, begins) in [(1, true), (2, true), (3, false), (4, true), (9, true), (13, false)] {
        let entry = reader.entry_before(entry_in(block, begins), END).expect("an entry");
        assert_eq!(entry[0], 1);
    }
    let nowhere = [
        Position::new(1, 0),              // a block's header
        Position::new(400, 3),            // far beyond the end
        Position(u64::MAX),               // further than anything
        Position::new(END, 1),            // not written yet
        Position::new(5, 1),              // left free at a segment's end
        Position::new(SEGMENT_BLOCKS, 1), // a segment's header
        Position::new(1, 1),              // a record's header
        Position::new(1, 30),             // in the middle of an entry
    ];
    for position in nowhere {
        for read in [reader.entry(position), reader.entry_before(position, END)] {
            assert!(matches!(read, Err(Error::NoEntry(at)) if at == position.0), "{position}: {read:?}");
        }
    }
    bed.is_whole();
}

fn spoilt() {
    let mut bed = Bed::with_records();
    let before = bed.disk.image();
    // One bit of it.
    bed.spoil(0, 3, |block| block[200] ^= 1);
    let read = reader(&bed.disk).expect("a journal").entry(entry_in(3, false));
    says_so(read.err(), &format!("{}the block's check", place(0, 3)));
    // Its content is another block's, which is sound where it belongs.
    bed.disk.set_image(before.clone());
    bed.forge(0, 3, |block| block[8..16].copy_from_slice(&4u64.to_le_bytes()));
    let read = reader(&bed.disk).expect("a journal").entry(entry_in(3, false));
    says_so(read.err(), &format!("{}the block's check", place(0, 3)));
    // All of it is gone: who knows how far the journal goes misses it.
    bed.disk.set_image(before.clone());
    bed.spoil(0, 3, |block| block.fill(0));
    let read = reader(&bed.disk).expect("a journal").entry_before(entry_in(3, false), END);
    says_so(read.err(), &format!("{}nothing is here that was written", place(0, 3)));
    // Whether a blank block was left free, the next segment's first record would say.
    bed.disk.set_image(before.clone());
    bed.spoil(1, 1, |block| block[200] ^= 1);
    let read = reader(&bed.disk).expect("a journal").entry_before(Position::new(5, 1), END);
    says_so(read.err(), &format!("{}not the beginning of a record", place(1, 1)));
    bed.disk.set_image(before);
    bed.is_whole();
}

fn unreadable() {
    let mut bed = Bed::with_records();
    let reading = reader(&bed.disk).expect("a journal");
    // A file that cannot be opened, and one that can, is not taken for one that is not there.
    for access in [Access::Open, Access::Read] {
        bed.disk.arm_next(access, Fault::Fails);
        let read = reading.entry_before(entry_in(9, true), END);
        assert!(matches!(&read, Err(Error::Io { path, .. }) if *path == segment(1)), "{read:?}");
        reading.entry(entry_in(1, true)).expect("the others are read");
    }
    reading.entry(entry_in(9, true)).expect("it failed once");
    bed.disk.arm_next(Access::Open, Fault::Fails);
    let opened = reader(&bed.disk).err();
    assert!(matches!(&opened, Some(Error::Io { path, .. }) if *path == segment(0)), "{opened:?}");
    bed.is_whole();
}

fn followed() {
    let mut bed = Bed::with_records();
    let before = bed.disk.image();
    let (mut block, mut sequence) = (1, 1);
    while sequence <= 4 {
        let read =
            reader(&bed.disk).expect("a journal").record_after(block, sequence, |r| is_right(r, sequence));
        block = read.expect("a record").0;
        assert_eq!(reader(&bed.disk).expect("a journal").end_of(sequence, END).expect("a record"), block);
        sequence += 1;
    }
    assert_eq!(block, END);
    let (not_it, no_head) = ("not the record that belongs here", "not the beginning of a record");
    bed.spoil(0, 2, |block| block[300] ^= 1);
    let reading = reader(&bed.disk).expect("a journal");
    says_so(reading.record_after(2, 2, |_| ()).err(), &format!("{}{not_it}", place(0, 2)));
    says_so(reading.end_of(3, END).err(), &format!("{}{no_head}", place(0, 2)));
    bed.disk.set_image(before.clone());
    bed.spoil(0, 3, |block| block[300] ^= 1);
    let reading = reader(&bed.disk).expect("a journal");
    says_so(reading.record_after(2, 2, |_| ()).err(), &format!("{}{not_it}", place(0, 2)));
    // Another record than the one that is asked for.
    bed.disk.set_image(before.clone());
    let reading = reader(&bed.disk).expect("a journal");
    says_so(reading.record_after(2, 3, |_| ()).err(), &format!("{}{not_it}", place(0, 2)));
    bed.disk.set_image(before);
    bed.is_whole();
}

fn beside() {
    let mut bed = Bed::with_records();
    bed.tear(2, 1);
    for (access, at) in [(Access::Lock, Path::new(DIR).to_path_buf()), (Access::Sync, segment(1))] {
        let left = super::bed::contents(&bed.disk);
        bed.disk.arm_next(access, Fault::Fails);
        let read = bed.scan().err();
        assert!(matches!(&read, Some(Error::Io { path, .. }) if *path == at), "{access:?}: {read:?}");
        assert_eq!(left, super::bed::contents(&bed.disk), "a reader changes nothing");
    }
    bed.scan().expect("nothing fails any more");
    bed.is_whole();
}
