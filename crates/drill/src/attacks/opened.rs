//! What is wrong when a journal is opened or written: the lock, the names, the lengths, a disk that changes meanwhile.

use super::Attack;
use super::bed::{Bed, DIR, SEGMENT_BLOCKS, config, contents, segment, spoil};
use crate::disk::image::BLOCK;
use crate::disk::{Access, Fault, SimDisk};
use pabal_fault::Point;
use pabal_journal::{Error, Journal, JournalConfig};
use std::path::Path;

pub const ATTACKS: &[Attack] = &[
    Attack { name: "a second writer", points: &[Point::OpenLocked], run: second_writer },
    Attack { name: "segments of no possible length", points: &[Point::OpenImpossible], run: impossible },
    Attack { name: "a strange file", points: &[Point::NameStrange], run: strange },
    Attack { name: "a segment is missing in between", points: &[Point::NameMissing], run: missing },
    Attack { name: "the first segment is missing", points: &[Point::IdentifyMissing], run: first_missing },
    Attack { name: "the first segment is too short", points: &[Point::IdentifyLength], run: first_short },
    Attack { name: "the first segment's header", points: &[Point::IdentifyRotten], run: first_header },
    Attack { name: "a segment has another length", points: &[Point::ScanLengthWrong], run: length },
    Attack { name: "segments are missing at the end", points: &[Point::ScanEndMissing], run: end_missing },
    Attack { name: "an unfinished segment that stays", points: &[Point::UnfinishedRemove], run: unfinished },
    Attack { name: "the last record changes meanwhile", points: &[Point::OpenLastChanged], run: changes },
    Attack { name: "a visitor refuses", points: &[Point::ScanVisitor], run: visitor },
    Attack {
        name: "a visitor refuses while another thread reads on",
        points: &[Point::ScanVisitor, Point::ScanUnheard],
        run: read_ahead,
    },
    Attack {
        name: "a record after a failed write",
        points: &[Point::AppendWrite, Point::AppendStopped],
        run: write_fails,
    },
    Attack {
        name: "a record after a failed sync",
        points: &[Point::AppendSync, Point::AppendStopped],
        run: sync_fails,
    },
];

fn second_writer() {
    let mut bed = Bed::with_records();
    bed.open().expect("opened");
    let second = Journal::open(Path::new(DIR), &config(&bed.disk), 7, &mut |_| Ok(())).err();
    assert!(matches!(&second, Some(Error::Locked(folder)) if folder == Path::new(DIR)), "{second:?}");
    bed.append(2).expect("the first one goes on");
    bed.is_whole();
}

fn impossible() {
    for segment_blocks in [0, 1, 256 * 1024 + 1] {
        let bed = Bed::new(1);
        let config = JournalConfig { segment_blocks, ..config(&bed.disk) };
        let made = Journal::open(Path::new(DIR), &config, 7, &mut |_| Ok(())).err();
        assert!(matches!(&made, Some(Error::Folder { file, .. }) if file == Path::new(DIR)), "{made:?}");
        assert!(contents(&bed.disk).is_empty(), "nothing is made");
    }
}

/// What this does to the names and lengths is refused, saying this of that file.
fn refused(file: &Path, what: &str, damage: impl FnOnce(&Bed)) {
    let bed = Bed::with_records();
    let before = bed.disk.image();
    damage(&bed);
    bed.must_be_refused(before, &format!("{}: {what}", file.display()));
}

fn strange() {
    for name in ["notes.txt", "1.seg", "000000000004.seg.old", "00000000000x.seg", "0000000000005.seg"] {
        let file = Path::new(DIR).join(name);
        refused(&file, "does not belong to a journal", |bed| {
            bed.disk.change(|image| image.add(&file));
        });
    }
}

const MISSING: &str = "this segment is missing; restore it from a copy";

fn missing() {
    for number in 0..3 {
        refused(&segment(number), MISSING, |bed| {
            assert!(bed.disk.change(|image| image.remove(&segment(number))))
        });
    }
}

fn first_missing() {
    refused(&segment(0), MISSING, |bed| assert!(bed.disk.change(|image| image.remove(&segment(0)))));
}

fn first_short() {
    for bytes in [0, 1, BLOCK as u64 - 1] {
        refused(&segment(0), "has not the length of a segment", |bed| cut_file(bed, 0, bytes));
    }
}

fn length() {
    for number in 0..4 {
        for blocks in [1, SEGMENT_BLOCKS - 1, SEGMENT_BLOCKS + 1] {
            let bytes = blocks * BLOCK as u64;
            refused(&segment(number), "has not the length of a segment", |bed| cut_file(bed, number, bytes));
        }
    }
}

/// Makes a segment file so long.
fn cut_file(bed: &Bed, number: u64, bytes: u64) {
    bed.disk.change(|image| {
        let id = image.find(&segment(number)).expect("a segment");
        image.file_mut(id).length = bytes;
    });
}

fn first_header() {
    let file = segment(0);
    // Any one bit of what it says.
    for byte in (0..64 + 32).step_by(4) {
        let bed = Bed::with_records();
        let before = bed.disk.image();
        bed.disk.change(|image| spoil(image, &file, 0, |block| block[byte] ^= 1));
        bed.must_be_refused(before, &format!("{}, byte 0: the segment's header", file.display()));
    }
}

fn end_missing() {
    // Those that are spare, and then the last record's own.
    for left in [2, 1] {
        refused(&segment(left), MISSING, |bed| {
            bed.disk.change(|image| (left..4).for_each(|number| assert!(image.remove(&segment(number)))));
        });
    }
}

fn unfinished() {
    let mut bed = Bed::with_records();
    let file = Path::new(DIR).join("000000000004.tmp");
    bed.disk.change(|image| image.add(&file));
    bed.scan().expect("it is in nobody's way");
    bed.disk.arm_next(Access::Remove, Fault::Fails);
    let opened = bed.open().err();
    assert!(matches!(&opened, Some(Error::Io { path, .. }) if *path == file), "{opened:?}");
    bed.open().expect("removed");
    assert_eq!(bed.disk.image().find(&file), None);
    bed.is_whole();
}

fn changes() {
    let mut bed = Bed::with_records();
    let before = bed.disk.image();
    let opened = Journal::open(Path::new(DIR), &config(&bed.disk), 7, &mut |record| {
        if record.header.sequence == 4 {
            bed.spoil(1, 3, |block| block[100] ^= 1);
        }
        Ok(())
    });
    let says = format!("{}another than a moment ago", super::bed::place(1, 1));
    super::bed::says_so(opened.err(), &says);
    bed.disk.set_image(before);
    bed.is_whole();
}

fn visitor() {
    let mut bed = Bed::with_records();
    for stops_at in 1..=4 {
        let mut refuse = |record: &pabal_journal::Record<'_>| match record.header.sequence == stops_at {
            true => Err(format!("not number {stops_at}").into()),
            false => Ok(()),
        };
        let before = contents(&bed.disk);
        let read = super::bed::reader(&bed.disk).and_then(|reader| reader.scan(&mut refuse)).err();
        let opened = Journal::open(Path::new(DIR), &config(&bed.disk), 7, &mut refuse).err();
        for error in [read, opened] {
            assert!(matches!(error, Some(Error::Visitor(_))), "{error:?}");
            super::bed::says_so(error, &format!("not number {stops_at}"));
        }
        assert_eq!(before, contents(&bed.disk));
    }
    bed.is_whole();
}

/// Whoever is shown the records on another thread than the one that reads them sees and hears what he would on one:
/// whatever he refuses, and whatever is rotten further on.
fn read_ahead() {
    const RECORDS: u64 = 40;
    let mut bed = Bed::new(1);
    bed.open().expect("made");
    (0..RECORDS).for_each(|_| bed.append(1).expect("written"));
    bed.journal = None;
    let seen = |disk: &SimDisk, stops_at: u64, writes: bool| {
        let mut shown = Vec::new();
        let mut visit = |record: &pabal_journal::Record<'_>| {
            shown.push((record.header.sequence, record.start_block, record.hash, record.blocks.to_vec()));
            if record.header.sequence == stops_at { Err("enough".into()) } else { Ok(()) }
        };
        let error = if writes {
            Journal::open(Path::new(DIR), &config(disk), 7, &mut visit).err()
        } else {
            super::bed::reader(disk).and_then(|reader| reader.scan(&mut visit)).err()
        };
        (shown, error.map(|error| error.to_string()))
    };
    let image = bed.disk.image();
    for rotten in [None, Some((1, 3)), Some((3, 1)), Some((5, 2))] {
        for stops_at in 0..=RECORDS {
            for writes in [false, true] {
                let [alone, together] = [false, true].map(|threads| {
                    let disk = SimDisk::with(image.clone(), 1);
                    if let Some((number, at)) = rotten {
                        disk.change(|image| spoil(image, &segment(number), at, |block| block[200] ^= 1));
                    }
                    let disk = if threads { disk.with_threads() } else { disk };
                    seen(&disk, stops_at, writes)
                });
                let (shown, error) = &alone;
                assert!(error.is_some() || rotten.is_none() && stops_at == 0);
                assert!(!shown.is_empty(), "something is before what is wrong");
                assert!(alone == together, "{rotten:?}, {stops_at}, {error:?} or {:?}", together.1);
            }
        }
    }
    bed.is_whole();
}

fn write_fails() {
    goes_no_further(Access::Write);
}

fn sync_fails() {
    goes_no_further(Access::Sync);
}

fn goes_no_further(access: Access) {
    let mut bed = Bed::with_records();
    bed.open().expect("opened");
    bed.append(1).expect("written");
    bed.disk.arm_next(access, Fault::Fails);
    let failed = bed.append(1).err();
    assert!(matches!(&failed, Some(Error::Io { path, .. }) if *path == segment(1)), "{failed:?}");
    let left = contents(&bed.disk);
    for _ in 0..3 {
        let again = bed.append(1).err();
        assert!(matches!(again, Some(Error::Stopped)), "{again:?}");
    }
    assert!(bed.journal.as_ref().expect("there").durable().is_stopped(), "who waits waits no longer");
    assert_eq!(left, contents(&bed.disk), "nothing is tried again");
    // The failed record may be there or not.
    bed.begun = bed.acknowledged + 1;
    bed.is_whole();
}
