//! What crash enumeration found, each as short as it can be told.

use pabal_drill::disk::image::{Image, Kept, SECTOR};
use pabal_drill::disk::{Access, SimDisk};
use pabal_journal::{Journal, JournalConfig, RecordBuffer, RecordKind, RecordMeta};
use std::path::Path;
use std::sync::{Arc, Mutex};

const DIR: &str = "/journal";

fn open(disk: &SimDisk) -> (Journal, u64) {
    let config =
        JournalConfig { segment_blocks: 4, direct: true, disk: Arc::new(disk.clone()), background: false };
    let (journal, found) = Journal::open(Path::new(DIR), &config, 7, &mut |_| Ok(())).expect("it opens");
    (journal, found.records)
}

/// Appends a record of so many blocks.
fn append(journal: &mut Journal, blocks: u32) {
    const UNITS: usize = 60;
    let mut buffer = RecordBuffer::new();
    buffer.begin(journal.layout().place(journal.next_block(), blocks));
    for _ in 0..blocks {
        let (_, entry) = buffer.entry(UNITS);
        (entry[0], entry[5]) = (1, UNITS as u8);
        entry[SECTOR..].fill(blocks as u8);
    }
    assert_eq!(buffer.blocks(), blocks as usize);
    let (kind, digest) = (RecordKind::Batch, [0; 16]);
    buffer.finish(RecordMeta { kind, rules: 1, time_ms: 1, business_date: 1, digest });
    journal.append(&mut buffer).expect("appended");
}

/// The disk after each write that `run` makes on it.
fn writes(disk: &SimDisk, run: impl FnOnce()) -> Vec<Image> {
    let images = Arc::new(Mutex::new(Vec::new()));
    let seen = images.clone();
    disk.watch(move |image, access| {
        if access == Access::Write {
            seen.lock().expect("not poisoned").push(image.clone());
        }
    });
    run();
    disk.watch(|_, _| {});
    std::mem::take(&mut images.lock().expect("not poisoned"))
}

/// A record that did not fit into segment 0 was torn in segment 1. The process that cut it was killed before the cut
/// was durable, or its sync failed. The next one saw nothing to cut and wrote a record that did fit into segment 0,
/// acknowledged. After a loss of power the torn one was back: the bank refused to start, all of it for rotten.
#[test]
fn a_cut_that_is_not_durable_is_made_again() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk);
    append(&mut journal, 2);
    append(&mut journal, 1);
    append(&mut journal, 1); // in segment 1, so that segment 2 is there
    let before = disk.image();
    let torn = writes(&disk, || append(&mut journal, 3)).pop().expect("one write");
    drop(journal);
    let written = torn.written_since(&before).expect("the record");
    assert!(written.path.ends_with("000000000002.seg"), "{:?}", written.path);
    let mut left = before.clone();
    left.file_mut(written.file).write(written.blocks[0].0, std::iter::once(written.blocks[0].1.clone()));

    let disk = SimDisk::with(left, 1);
    let cuts = writes(&disk, || drop(open(&disk)));
    let is_cut = |image: &&Image| image.file(written.file).block(1).is_none();
    let cut = cuts.iter().find(is_cut).expect("it is cut");
    assert!(cut.file(written.file).is_pending(1), "the cut is not durable yet");
    let mut failed = cut.clone();
    // Of the two contents that the torn block was given the first reaches the disk, the cut does not.
    let mut choices = [1].into_iter().chain(std::iter::repeat(0));
    failed.file_mut(written.file).sync_fails(&mut |_| choices.next().expect("endless"));

    for (what, left) in [("killed", cut.clone()), ("its sync failed", failed)] {
        let disk = SimDisk::with(left, 1);
        let (mut journal, records) = open(&disk);
        assert_eq!(records, 3, "{what}");
        append(&mut journal, 1);
        drop(journal);
        let mut lost = disk.image();
        lost.lose_power(0, &mut |_, _| Kept::New(0));
        assert_eq!(open(&SimDisk::with(lost, 1)).1, 4, "{what}");
    }
}
