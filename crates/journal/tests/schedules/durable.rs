//! The acknowledged point: nobody waits for ever behind it, and nothing is acknowledged too early.

use crate::trying;
use pabal_journal::Durable;
use pabal_journal::parts::{advance, stop};
use pabal_journal::sync::spawn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const RECORDS: u64 = 4;
/// Blocks of each record.
const BLOCKS: u64 = 2;
const WHILE: Duration = Duration::from_millis(1);

/// What the writer has done before it says so.
#[derive(Default)]
struct Done {
    durable: Durable,
    records: AtomicU64,
    stopping: AtomicBool,
}

impl Done {
    fn records(&self) -> u64 {
        self.records.load(Ordering::SeqCst)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
}

#[test]
fn whoever_waits_hears_of_the_record_or_of_the_stop() {
    trying::every(|| {
        let done = Arc::new(Done::default());
        let its = done.clone();
        let writer = spawn("writer", move || {
            for record in 1..=RECORDS {
                its.records.store(record, Ordering::SeqCst);
                advance(&its.durable, record, record * BLOCKS + 1);
            }
            its.stopping.store(true, Ordering::SeqCst);
            stop(&its.durable);
        });
        let its = done.clone();
        // One more than will ever come.
        let blocks = spawn("waits for blocks", move || {
            for record in 1..=RECORDS + 1 {
                its.durable.wait_for(record * BLOCKS + 1);
                assert!(its.records() >= record || its.is_stopping(), "record {record} was not durable");
            }
        });
        let its = done.clone();
        let last = spawn("waits for the last block", move || {
            // Told of each record, and it is not the one.
            its.durable.wait_for(RECORDS * BLOCKS + 1);
            assert!(its.records() == RECORDS, "the last record was not durable");
        });
        let its = done.clone();
        let records = spawn("waits for records", move || {
            let mut record = 1;
            while record <= RECORDS {
                if its.durable.wait_sequence(record, WHILE) {
                    assert!(its.records() >= record, "record {record} was not durable");
                    record += 1;
                }
            }
            assert!(!its.durable.wait_sequence(record, WHILE), "there is no such record");
            assert!(its.durable.wait_sequence(RECORDS, Duration::ZERO), "durable also after the stop");
        });
        let (mut before, mut block) = (0, 0);
        for _ in 0..3 {
            let now = done.durable.sequence();
            let next = done.durable.next_block();
            assert!(before <= now && now <= done.records(), "it never goes back nor ahead");
            assert!(block <= next && next <= done.records() * BLOCKS + 1);
            (before, block) = (now, next);
        }
        for thread in [writer, blocks, last, records] {
            thread.join().expect("no panic");
        }
        assert_eq!(done.durable.sequence(), RECORDS);
    });
}

/// What a waiting core must never miss: the only word of the writer that comes.
#[test]
fn a_stop_alone_ends_every_wait() {
    trying::every(|| {
        let durable = Arc::new(Durable::default());
        let waiting: Vec<_> =
            (0..3).map(|_| durable.clone()).map(|its| spawn("waits", move || its.wait_for(7))).collect();
        stop(&durable);
        for thread in waiting {
            assert!(!thread.join().expect("no panic"), "nothing became durable by it");
        }
        assert_eq!(durable.next_block(), 0, "nothing became durable by it");
    });
}
