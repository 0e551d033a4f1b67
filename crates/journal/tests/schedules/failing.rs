//! A disk that fails: whoever waits hears of it, and what was acknowledged is there afterwards.

use crate::disk::{Fault, MemoryDisk};
use crate::reader::{append, open, reader, scan};
use crate::trying;
use pabal_journal::sync::spawn;
use shuttle::rand::{Rng, thread_rng};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A record each: none has a segment to itself, and the supply must make two while they are written.
const RECORDS: u64 = 8;

#[test]
fn a_write_that_fails_ends_every_wait_and_takes_nothing_that_was_acknowledged() {
    trying::every(|| {
        let disk = MemoryDisk::default();
        let mut journal = open(&disk);
        let mut random = thread_rng();
        let fault = [Fault::Write, Fault::Sync, Fault::Make, Fault::Full][random.gen_range(0..4)];
        let after = random.gen_range(0..4);
        disk.fail(fault, after);
        let acknowledged = Arc::new(AtomicU64::new(0));
        let durable = journal.durable();
        let last = durable.clone();
        let waits = spawn("waits", move || last.wait_for(u64::MAX));
        let its = acknowledged.clone();
        let writer = spawn("writer", move || {
            for record in 1..=RECORDS {
                if append(&mut journal, 1, record).is_err() {
                    append(&mut journal, 1, record).expect_err("it takes nothing more");
                    return false;
                }
                its.store(record, Ordering::SeqCst);
            }
            true
        });
        let all = writer.join().expect("no panic");
        waits.join().expect("no panic");
        let acknowledged = acknowledged.load(Ordering::SeqCst);
        assert_eq!(durable.sequence(), acknowledged);
        assert!(all || disk.failed(), "nothing failed, and yet it stopped");
        assert!(!all || !disk.failed() || matches!(fault, Fault::Make | Fault::Full));
        let power = scan(&reader(&disk.after_a_loss_of_power()));
        assert!(power >= acknowledged, "{acknowledged} were acknowledged, {power} are there");
        disk.mend();
        let mut journal = open(&disk);
        let found = journal.sequence();
        assert!(found == acknowledged || found == acknowledged + 1, "the one that failed may be there");
        append(&mut journal, 1, found + 1).expect("the disk is well");
        drop(journal);
        assert_eq!(scan(&reader(&disk)), found + 1);
    });
}
