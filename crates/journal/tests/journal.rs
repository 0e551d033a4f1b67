//! The journal against crashes and rot.

use pabal_journal::{
    BLOCK, Cut, Error, Journal, JournalConfig, Position, Reader, RecordBuffer, RecordKind, RecordMeta, verify,
};
use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

const SEGMENT_BLOCKS: u32 = 16;

fn config() -> JournalConfig {
    JournalConfig { segment_blocks: SEGMENT_BLOCKS, ..JournalConfig::default() }
}

fn meta(kind: RecordKind) -> RecordMeta {
    RecordMeta { kind, rules: 1, time_ms: 5, business_date: 7, digest: [9; 16] }
}

/// Appends a record of this many entries and gives their positions.
fn append(journal: &mut Journal, entries: usize) -> Vec<Position> {
    let mut buffer = RecordBuffer::new();
    buffer.begin(journal.layout().place(journal.next_block(), (entries / 20 + 1) as u32));
    let positions = (0..entries)
        .map(|i| {
            let (position, bytes) = buffer.entry(3);
            bytes[8..16].copy_from_slice(&(i as u64).to_le_bytes());
            (bytes[0], bytes[5]) = (1, 3);
            position
        })
        .collect();
    let kind = if entries == 0 { RecordKind::Stop } else { RecordKind::Batch };
    buffer.finish(meta(kind));
    journal.append(&mut buffer).expect("written");
    positions
}

fn open(dir: &Path) -> Result<(Journal, pabal_journal::Recovered), Error> {
    Journal::open(dir, &config(), 42, &mut |_| Ok(()))
}

fn scan(dir: &Path) -> Result<pabal_journal::Scanned, Error> {
    verify(dir, &mut |_| Ok(()))
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir).expect("a folder").flatten().map(|e| e.path()).collect();
    files.sort();
    files
}

/// A journal of some records over several segments, stopped in order.
fn some_records(dir: &Path) -> Vec<Position> {
    let (mut journal, _) = open(dir).expect("made");
    let mut positions = Vec::new();
    for n in [1, 19, 20, 21, 60, 5, 100, 1, 200, 40] {
        positions.extend(append(&mut journal, n));
    }
    append(&mut journal, 0);
    positions
}

#[test]
fn what_was_written_is_read_again_entry_by_entry() {
    let dir = tempfile::tempdir().expect("a folder");
    let positions = some_records(dir.path());
    let mut read = Vec::new();
    let (mut journal, recovered) = Journal::open(dir.path(), &config(), 0, &mut |record| {
        read.extend(record.entries().map(|(position, _)| position));
        Ok(())
    })
    .expect("opened");
    assert_eq!(read, positions);
    assert!(recovered.orderly && recovered.cut.is_none());
    assert_eq!(recovered.records, 11);
    let reader = Reader::open(dir.path()).expect("a reader");
    for position in &positions {
        assert_eq!(reader.entry(*position).expect("an entry").len(), 192);
        let beside = Position(position.0 + 1);
        assert!(matches!(reader.entry(beside), Err(Error::NoEntry(_))), "{beside} is inside an entry");
    }
    assert!(matches!(reader.entry(Position(64 * 10_000)), Err(Error::NoEntry(_))));
    append(&mut journal, 30);
    drop(journal);
    let scanned = scan(dir.path()).expect("sound");
    assert_eq!((scanned.records, scanned.writer_lives), (12, false));
    assert_eq!(reader.extent().expect("read"), scanned.next_block);
}

#[test]
fn the_extent_is_the_block_after_the_last_written_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = open(dir.path()).expect("made");
    let reader = Reader::open(dir.path()).expect("a reader");
    assert_eq!(reader.extent().expect("read"), 1);
    for n in 0..40 {
        append(&mut journal, n * 7 % 200 + 1);
        assert_eq!(reader.extent().expect("read"), journal.next_block());
    }
}

/// A writer that panicked left a core waiting for ever for a record that nobody would write.
#[test]
fn whoever_waits_for_a_record_waits_no_longer_when_the_writer_is_gone() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = open(dir.path()).expect("made");
    append(&mut journal, 3);
    let durable = journal.durable();
    let waiting = std::thread::spawn(move || {
        durable.wait_for(1000);
        durable.wait_sequence(5, std::time::Duration::from_secs(3600))
    });
    drop(journal);
    assert!(!waiting.join().expect("it returned"), "the record never came");
}

/// What keeps a segment from being read does not say that an entry is not there.
#[test]
fn a_segment_that_cannot_be_read_is_an_error_not_a_missing_entry() {
    let dir = tempfile::tempdir().expect("a folder");
    let positions = some_records(dir.path());
    let last = *positions.last().expect("some");
    let segment = files(dir.path())[(last.block() / SEGMENT_BLOCKS as u64) as usize].clone();
    std::fs::remove_file(&segment).expect("removed");
    let reader = Reader::open(dir.path()).expect("a reader");
    assert!(matches!(reader.entry(last), Err(Error::NoEntry(_))), "beyond the end");
    std::os::unix::fs::symlink(&segment, &segment).expect("a link that leads to itself");
    assert!(matches!(reader.entry(last), Err(Error::Io { .. })));
}

#[test]
fn a_second_writer_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_journal, _) = open(dir.path()).expect("made");
    assert!(matches!(open(dir.path()), Err(Error::Locked(_))));
}

#[test]
fn while_a_writer_lives_others_see_only_what_has_a_successor() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = open(dir.path()).expect("made");
    for n in 1..10 {
        append(&mut journal, 7);
        assert_eq!(scan(dir.path()).expect("sound").records, n - 1);
    }
    drop(journal);
    assert_eq!(scan(dir.path()).expect("sound").records, 9);
}

#[test]
fn while_a_writer_lives_rot_before_a_later_record_is_found() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = open(dir.path()).expect("made");
    let blocks: Vec<u64> = (0..12).map(|_| append(&mut journal, 50)[0].block()).collect();
    for (i, &block) in blocks.iter().enumerate() {
        for at in [block, block + 1, block + 2] {
            let (segment, offset) = (at / SEGMENT_BLOCKS as u64, at % SEGMENT_BLOCKS as u64 * BLOCK as u64);
            let file = OpenOptions::new().read(true).write(true).open(&files(dir.path())[segment as usize]);
            let (file, mut was) = (file.expect("a segment"), [0; BLOCK]);
            file.read_exact_at(&mut was, offset).expect("read");
            for rotten in [&[0; BLOCK][..], &[7; BLOCK][..]] {
                file.write_all_at(rotten, offset).expect("written");
                match scan(dir.path()) {
                    // The last one may be in the middle of its write; the one before it counts or not.
                    Ok(scanned) => {
                        assert!(i == 11 && scanned.records >= 10, "record {i}, read {}", scanned.records);
                        assert_eq!(scanned.cut, None);
                    }
                    Err(Error::Rotten { .. }) => assert!(i < 11, "record {i} of {}", blocks.len()),
                    Err(error) => panic!("{error}"),
                }
            }
            file.write_all_at(&was, offset).expect("restored");
        }
    }
    assert_eq!(scan(dir.path()).expect("sound").records, 11);
    assert!(scan(dir.path()).expect("sound").writer_lives);
}

/// The first record of a segment, where the one before it left the end of its own segment free.
#[test]
fn while_a_writer_lives_the_first_record_of_a_segment_may_be_in_the_middle_of_its_write() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = open(dir.path()).expect("made");
    let block = (0..4).map(|_| append(&mut journal, 70)[0].block()).last().expect("four");
    assert_eq!(block, SEGMENT_BLOCKS as u64 + 1);
    let file = OpenOptions::new().read(true).write(true).open(&files(dir.path())[1]).expect("a segment");
    for i in 0..4 {
        let (offset, mut was) = ((1 + i) * BLOCK as u64, [0; BLOCK]);
        file.read_exact_at(&mut was, offset).expect("read");
        for unfinished in [&[0; BLOCK][..], &[7; BLOCK][..]] {
            file.write_all_at(unfinished, offset).expect("written");
            let scanned = scan(dir.path()).expect("unfinished, not rotten");
            assert_eq!((scanned.cut, scanned.writer_lives), (None, true));
            assert!((2..=3).contains(&scanned.records), "block {i}: {} records", scanned.records);
        }
        file.write_all_at(&was, offset).expect("restored");
    }
    // What lies before it is not its affair.
    let before = OpenOptions::new().write(true).open(&files(dir.path())[0]).expect("a segment");
    before.write_all_at(&[7; BLOCK], 14 * BLOCK as u64).expect("written");
    assert!(matches!(scan(dir.path()), Err(Error::Rotten { .. })));
}

#[test]
fn while_a_writer_writes_what_is_read_is_sound_and_never_less_than_before() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = open(dir.path()).expect("made");
    append(&mut journal, 1);
    let durable = journal.durable();
    let writer = std::thread::spawn(move || {
        for n in 0..400 {
            append(&mut journal, n * 37 % 200 + 1);
        }
    });
    let mut before = 0;
    while !writer.is_finished() {
        let least = durable.sequence() - 1;
        let scanned = scan(dir.path()).expect("sound");
        assert!(scanned.records >= least.max(before), "{} records of {least}", scanned.records);
        assert!(scanned.cut.is_none());
        before = scanned.records;
    }
    writer.join().expect("written");
    assert_eq!(scan(dir.path()).expect("sound").records, 401);
}

/// A check of the journal that takes an hour must not keep a bank from starting for an hour.
#[test]
fn a_writer_may_start_while_others_read() {
    for (stays, torn) in [(true, false), (false, false), (true, true), (false, true)] {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut journal, _) = open(dir.path()).expect("made");
        (0..6).for_each(|_| drop(append(&mut journal, 50)));
        let last = append(&mut journal, 50)[0].block();
        drop(journal);
        if torn {
            let file = OpenOptions::new().write(true).open(&files(dir.path())[1]).expect("a segment");
            let at = last % SEGMENT_BLOCKS as u64;
            file.write_all_at(&[0; BLOCK], at * BLOCK as u64).expect("zeroed");
        }
        let (mut writer, mut seen) = (None, Vec::new());
        let scanned = verify(dir.path(), &mut |record| {
            if seen.is_empty() {
                let (mut journal, recovered) = open(dir.path())?;
                assert_eq!(recovered.cut.is_some(), torn);
                (0..4).for_each(|_| drop(append(&mut journal, 30)));
                writer = stays.then_some(journal);
            }
            seen.push(record.header.sequence);
            Ok(())
        })
        .expect("sound");
        // Reading goes ahead of what is shown: it may have met a writer that has gone since.
        assert!(scanned.writer_lives || !stays);
        assert_eq!(scanned.cut, None);
        assert!(seen.iter().copied().eq(1..=seen.len() as u64), "each once, in order: {seen:?}");
        assert!(seen.len() >= 6, "what was there before is seen: {seen:?}");
        drop(writer);
        assert_eq!(scan(dir.path()).expect("sound").records, if torn { 10 } else { 11 });
    }
}

/// Every way in which the blocks of the last record can have reached the disk or not.
#[test]
fn a_torn_record_is_cut_whatever_blocks_of_it_are_missing() {
    const BLOCKS: usize = 5;
    for missing in 1u32..1 << BLOCKS {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut journal, _) = open(dir.path()).expect("made");
        append(&mut journal, 3);
        let from = append(&mut journal, 20 + 21 * (BLOCKS - 2) + 1)[0].block();
        drop(journal);
        let file = OpenOptions::new().write(true).open(&files(dir.path())[0]).expect("a segment");
        for i in (0..BLOCKS).filter(|i| missing & 1 << i != 0) {
            file.write_all_at(&[0; BLOCK], (from + i as u64) * BLOCK as u64).expect("zeroed");
        }
        let all = missing == (1 << BLOCKS) - 1;
        let cut = Cut { sequence: 2, from_block: from, blocks: BLOCKS as u32 };
        assert_eq!(scan(dir.path()).expect("torn, not rotten").cut, (!all).then_some(cut));
        let (mut journal, recovered) = open(dir.path()).expect("cut");
        assert_eq!((recovered.records, recovered.cut), (1, (!all).then_some(cut)));
        append(&mut journal, 50);
        drop(journal);
        let scanned = scan(dir.path()).expect("sound");
        assert_eq!((scanned.records, scanned.cut), (2, None));
    }
}

#[test]
fn a_hole_before_a_later_record_is_rot_not_a_torn_tail() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = open(dir.path()).expect("made");
    append(&mut journal, 3);
    let block = append(&mut journal, 50)[0].block();
    append(&mut journal, 1);
    drop(journal);
    for hole in block..block + 3 {
        let file = OpenOptions::new().read(true).write(true).open(&files(dir.path())[0]).expect("a segment");
        let mut was = [0; BLOCK];
        file.read_exact_at(&mut was, hole * BLOCK as u64).expect("read");
        file.write_all_at(&[0; BLOCK], hole * BLOCK as u64).expect("zeroed");
        assert!(matches!(open(dir.path()), Err(Error::Rotten { .. })), "block {hole}");
        file.write_all_at(&was, hole * BLOCK as u64).expect("restored");
    }
    assert!(open(dir.path()).is_ok());
}

/// 10,000 positions over all files, unused preallocated space included.
#[test]
fn after_an_orderly_stop_a_flip_of_any_byte_is_found() {
    let dir = tempfile::tempdir().expect("a folder");
    some_records(dir.path());
    let files = files(dir.path());
    let bytes = SEGMENT_BLOCKS as u64 * BLOCK as u64;
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    for i in 0..10_000u32 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let place = (random >> 20) % (bytes * files.len() as u64);
        let file = OpenOptions::new().read(true).write(true).open(&files[(place / bytes) as usize]);
        let (file, at, mut was) = (file.expect("a segment"), place % bytes, [0]);
        file.read_exact_at(&mut was, at).expect("read");
        file.write_all_at(&[was[0] ^ (1 << (i % 8))], at).expect("flipped");
        assert!(scan(dir.path()).is_err(), "{:?}, byte {at}", files[(place / bytes) as usize]);
        file.write_all_at(&was, at).expect("restored");
    }
    assert!(scan(dir.path()).is_ok());
}

#[test]
fn blocks_of_another_place_or_another_journal_are_rot() {
    let (dir, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    some_records(dir.path());
    {
        let (mut journal, _) = Journal::open(other.path(), &config(), 43, &mut |_| Ok(())).expect("made");
        append(&mut journal, 1);
    }
    let (mine, theirs) = (files(dir.path())[0].clone(), files(other.path())[0].clone());
    let file = OpenOptions::new().read(true).write(true).open(&mine).expect("a segment");
    let (mut first, mut second) = ([0; BLOCK], [0; BLOCK]);
    file.read_exact_at(&mut first, BLOCK as u64).expect("read");
    file.read_exact_at(&mut second, 2 * BLOCK as u64).expect("read");
    file.write_all_at(&second, BLOCK as u64).expect("misdirected");
    assert!(matches!(scan(dir.path()), Err(Error::Rotten { .. })));
    let foreign = std::fs::read(theirs).expect("read");
    file.write_all_at(&foreign[BLOCK..2 * BLOCK], BLOCK as u64).expect("another journal's");
    assert!(matches!(scan(dir.path()), Err(Error::Rotten { .. })));
    file.write_all_at(&first, BLOCK as u64).expect("restored");
    assert!(scan(dir.path()).is_ok());
}

#[test]
fn files_that_are_missing_strange_or_short_are_named() {
    let dir = tempfile::tempdir().expect("a folder");
    some_records(dir.path());
    let strange = dir.path().join("notes.txt");
    std::fs::write(&strange, "x").expect("written");
    assert!(scan(dir.path()).expect_err("strange").to_string().contains("notes.txt"));
    std::fs::remove_file(&strange).expect("removed");
    let second = files(dir.path())[1].clone();
    let whole = std::fs::read(&second).expect("read");
    std::fs::write(&second, &whole[..whole.len() - 1]).expect("cut short");
    assert!(scan(dir.path()).expect_err("short").to_string().contains("length"));
    std::fs::remove_file(&second).expect("removed");
    assert!(scan(dir.path()).expect_err("missing").to_string().contains("missing"));
}

/// What is left would be a sound journal that ends earlier.
#[test]
fn segments_gone_from_the_end_are_missed() {
    let dir = tempfile::tempdir().expect("a folder");
    let last = some_records(dir.path()).last().expect("some").block() / SEGMENT_BLOCKS as u64;
    let mut all = files(dir.path());
    while all.len() as u64 > last + 2 {
        std::fs::remove_file(all.pop().expect("spares beyond the next segment")).expect("removed");
    }
    assert!(scan(dir.path()).is_ok(), "nothing was in them, and the journal never said that they were there");
    while all.len() > 1 {
        std::fs::remove_file(all.pop().expect("more than one")).expect("removed");
        for found in [scan(dir.path()).map(|_| ()), open(dir.path()).map(|_| ())] {
            let error = found.expect_err("missed").to_string();
            assert!(
                error.contains(&format!("{:012}.seg", all.len())) && error.contains("missing"),
                "{error}"
            );
        }
    }
}

#[test]
fn after_a_failed_write_nothing_more_is_taken() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = open(dir.path()).expect("made");
    append(&mut journal, 5);
    let fail = |journal: &mut Journal| {
        let mut buffer = RecordBuffer::new();
        buffer.begin(journal.layout().place(journal.next_block(), 15));
        (0..290).for_each(|_| {
            let (_, bytes) = buffer.entry(3);
            (bytes[0], bytes[5]) = (1, 3);
        });
        buffer.finish(meta(RecordKind::Batch));
        journal.append(&mut buffer)
    };
    // The next segment is in the way of the record: it has become a folder.
    let next = dir.path().join("000000000001.seg");
    while !next.exists() {
        std::thread::yield_now();
    }
    std::fs::remove_file(&next).expect("removed");
    std::fs::create_dir(&next).expect("a folder in its place");
    assert!(matches!(fail(&mut journal), Err(Error::Io { .. })));
    std::fs::remove_dir(&next).expect("removed");
    assert!(matches!(fail(&mut journal), Err(Error::Stopped)));
}

/// A segment that is there and cannot be opened is not a place without entries: whoever decided so would decide
/// what no sound copy of the journal decides again.
#[test]
fn a_segment_that_cannot_be_opened_is_an_error_not_a_missing_entry() {
    let dir = tempfile::tempdir().expect("a folder");
    let positions = some_records(dir.path());
    let second = files(dir.path())[1].clone();
    let position = positions.into_iter().find(|p| p.block() > SEGMENT_BLOCKS as u64).expect("in the second");
    std::fs::remove_file(&second).expect("removed");
    std::os::unix::fs::symlink(&second, &second).expect("a link to itself");
    let reader = Reader::open(dir.path()).expect("a reader");
    match reader.entry(position) {
        Err(Error::Io { path, .. }) => assert_eq!(path, second),
        other => panic!("{other:?}"),
    }
    // One that is not there holds no entry.
    assert!(matches!(reader.entry(Position(u64::MAX)), Err(Error::NoEntry(_))));
}

/// A segment that could not be made left one after it: a gap, for which the journal did not open any more.
#[test]
fn after_a_segment_could_not_be_made_the_journal_opens_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = open(dir.path()).expect("made");
    let in_the_way = dir.path().join("000000000002.tmp");
    std::fs::create_dir(&in_the_way).expect("a folder in its place");
    let mut buffer = RecordBuffer::new();
    for _ in 0..2 {
        buffer.begin(journal.layout().place(journal.next_block(), 15));
        (0..290).for_each(|_| {
            let (_, bytes) = buffer.entry(3);
            (bytes[0], bytes[5]) = (1, 3);
        });
        buffer.finish(meta(RecordKind::Batch));
        if let Err(error) = journal.append(&mut buffer) {
            assert!(error.to_string().contains("000000000002.tmp"), "{error}");
        }
    }
    assert_eq!(journal.sequence(), 1, "the second is not taken: the segment after its own is not there");
    drop(journal);
    std::fs::remove_dir(&in_the_way).expect("removed");
    let (mut journal, recovered) = open(dir.path()).expect("nothing was lost");
    assert_eq!((recovered.records, recovered.cut), (1, None));
    (0..40).for_each(|n| drop(append(&mut journal, n * 7)));
    drop(journal);
    assert_eq!(scan(dir.path()).expect("sound").records, 41);
}

/// A copy that has holes wherever the journal is blank, as tools make them that put back a backup.
fn sparse_copy(from: &Path, to: &Path) {
    for path in files(from) {
        let bytes = std::fs::read(&path).expect("read");
        let file = std::fs::File::create(to.join(path.file_name().expect("a name"))).expect("made");
        file.set_len(bytes.len() as u64).expect("long");
        for (block, at) in bytes.chunks(BLOCK).zip((0..).step_by(BLOCK)) {
            if block.iter().any(|&byte| byte != 0) {
                file.write_all_at(block, at).expect("written");
            }
        }
        file.sync_all().expect("durable");
    }
}

/// What a copy left out is there again before the first record could need it, and nothing else has changed.
#[test]
fn a_journal_put_back_with_holes_has_its_space_when_it_is_opened() {
    // More than the opening itself writes, so that a hole stays one unless its space is taken.
    let config = || JournalConfig { segment_blocks: 4096, ..config() };
    let open = |dir: &Path| Journal::open(dir, &config(), 42, &mut |_| Ok(())).expect("opened").0;
    let space = |path: &PathBuf| std::fs::metadata(path).expect("there").blocks() * 512;
    let (first, put_back) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let mut journal = open(first.path());
    append(&mut journal, 40);
    // The spare after the segment that is written is there.
    assert!(journal.supply().room_for(0));
    drop(journal);
    sparse_copy(first.path(), put_back.path());
    let whole = 4096 * BLOCK as u64;
    let segments = files(put_back.path());
    assert_eq!(segments.len(), 2);
    assert!(segments.iter().all(|path| space(path) < whole / 2), "this file system makes no holes");
    drop(open(put_back.path()));
    for path in &segments {
        assert!(space(path) >= whole, "{}: {} of {whole} bytes", path.display(), space(path));
        let name = path.file_name().expect("a name");
        let before = std::fs::read(first.path().join(name)).expect("read");
        assert!(std::fs::read(path).expect("read") == before, "{}: something else", path.display());
    }
}
