//! Readers beside a writer that comes and goes: what they see is whole, in order, and never less than was durable.

use crate::disk::MemoryDisk;
use crate::trying;
use pabal_journal::sync::spawn;
use pabal_journal::{Durable, Error, Journal, JournalConfig, Reader, RecordBuffer, RecordKind, RecordMeta};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const FOLDER: &str = "/journal";
const SEGMENT_BLOCKS: u32 = 4;
/// Blocks of the records, in their order.
const RECORDS: [u32; 4] = [1, 2, 3, 1];
/// Entries of 63 units, of which each takes a block.
const UNITS: usize = 63;

pub fn open(disk: &MemoryDisk) -> Journal {
    let config = JournalConfig {
        segment_blocks: SEGMENT_BLOCKS,
        direct: false,
        disk: Arc::new(disk.clone()),
        background: true,
    };
    Journal::open(Path::new(FOLDER), &config, 42, &mut |_| Ok(())).expect("opened").0
}

/// Writes a record whose every entry says its number.
pub fn append(journal: &mut Journal, blocks: u32, number: u64) -> Result<(), Error> {
    let mut buffer = RecordBuffer::new();
    buffer.begin(journal.layout().place(journal.next_block(), blocks));
    // The first block has the record's header beside its entry.
    for block in 0..blocks {
        let units = if block == 0 { UNITS - 2 } else { UNITS };
        let (_, bytes) = buffer.entry(units);
        (bytes[0], bytes[5]) = (1, units as u8);
        bytes[8..16].copy_from_slice(&number.to_le_bytes());
    }
    let kind = RecordKind::Batch;
    buffer.finish(RecordMeta { kind, rules: 1, time_ms: number, business_date: 7, digest: [9; 16] });
    assert_eq!(buffer.end_block() - buffer.start_block(), blocks as u64);
    journal.append(&mut buffer)
}

pub fn reader(disk: &MemoryDisk) -> Reader {
    Reader::open_on(Arc::new(disk.clone()), Path::new(FOLDER)).expect("a journal")
}

/// Reads everything: the records are 1, 2, 3 …, and each is whole.
pub fn scan(reader: &Reader) -> u64 {
    let mut seen = 0;
    let scanned = reader
        .scan(&mut |record| {
            seen += 1;
            assert_eq!(record.header.sequence, seen);
            let entries: Vec<_> = record.entries().map(|(_, entry)| &entry[8..16]).collect();
            assert_eq!(entries.len(), record.header.blocks as usize);
            assert!(entries.iter().all(|number| *number == seen.to_le_bytes()));
            Ok(())
        })
        .expect("nothing is rotten");
    assert_eq!(scanned.records, seen);
    assert!(scanned.cut.is_none(), "no writer was stopped in the middle of a record");
    seen
}

#[test]
fn a_scan_beside_a_writer_that_comes_and_goes_sees_whole_records_in_order() {
    trying::every(|| {
        let disk = MemoryDisk::default();
        let mut journal = open(&disk);
        let (begun, durable) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (on, starts, ends) = (disk.clone(), begun.clone(), durable.clone());
        let writer = spawn("writer", move || {
            for (record, blocks) in (1..).zip(RECORDS) {
                starts.store(record, Ordering::SeqCst);
                append(&mut journal, blocks, record).expect("written");
                ends.store(record, Ordering::SeqCst);
                if record == 2 {
                    drop(journal);
                    journal = open(&on);
                }
            }
        });
        let on = disk.clone();
        let reads = spawn("reader", move || {
            let reader = reader(&on);
            let mut before = 0;
            for _ in 0..2 {
                let durable = durable.load(Ordering::SeqCst);
                let seen = scan(&reader);
                // The last one is seen once its successor has begun or while no writer lives.
                assert!(seen + 1 >= durable.max(before), "{durable} were durable, {seen} are seen");
                assert!(seen <= begun.load(Ordering::SeqCst));
                before = seen;
            }
        });
        writer.join().expect("no panic");
        reads.join().expect("no panic");
        assert_eq!(scan(&reader(&disk)), RECORDS.len() as u64, "the writer has gone: all are seen");
        assert_eq!(scan(&reader(&disk.after_a_loss_of_power())), RECORDS.len() as u64);
    });
}

#[test]
fn a_reader_behind_the_acknowledged_point_finds_every_record() {
    trying::every(|| {
        let disk = MemoryDisk::default();
        let mut journal = open(&disk);
        let durable: Arc<Durable> = journal.durable();
        let writer = spawn("writer", move || {
            for (record, blocks) in (1..).zip(RECORDS) {
                append(&mut journal, blocks, record).expect("written");
            }
        });
        let reader = reader(&disk);
        let (mut block, mut sequence) = (1, 1);
        while sequence <= RECORDS.len() as u64 {
            if !durable.wait_sequence(sequence, Duration::from_millis(1)) {
                continue;
            }
            let power = self::reader(&disk.after_a_loss_of_power());
            assert!(scan(&power) >= sequence, "acknowledged, and a loss of power would take it");
            let end = reader.end_of(sequence, durable.next_block()).expect("a durable record");
            let (next, read) = reader
                .record_after(block, sequence, |record| {
                    assert_eq!(record.header.time_ms, sequence, "another record");
                })
                .expect("a durable record");
            assert_eq!((next, read), (end, sequence));
            (block, sequence) = (next, sequence + 1);
        }
        writer.join().expect("no panic");
    });
}
