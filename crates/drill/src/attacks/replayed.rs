//! Hostile records: chained by the journal's own hand, sound to the last check, and not what deciding gives.

use super::Attack;
use super::bank::{BankBed, config, folder, start};
use super::bed::says_so;
use crate::disk::SimDisk;
use crate::sent::Sent;
use pabal_bank::RULES_CURRENT;
use pabal_engine::RequestHeader;
use pabal_engine::request::Lane;
use pabal_fault::Point;
use pabal_journal::{Journal, Reader, RecordBuffer, RecordHeader, RecordKind, RecordMeta, UNIT};
use std::sync::Arc;
use zerocopy::{FromBytes, IntoBytes};

pub const ATTACKS: &[Attack] = &[
    Attack { name: "entries before any request's header", points: &[Point::ReplayHeader], run: no_header },
    Attack { name: "a request that is not let in", points: &[Point::ReplayNotAdmitted], run: not_admitted },
    Attack { name: "an entry that is no command", points: &[Point::ReplayCommand], run: no_command },
    Attack { name: "an entry that differs", points: &[Point::ReplayDiffers], run: differs },
    Attack { name: "an entry that is left out", points: &[Point::ReplayMore], run: more },
    Attack { name: "another digest", points: &[Point::ReplayDigest], run: digest },
    Attack { name: "a time that goes back", points: &[Point::ReplayTime], run: time },
    Attack { name: "rules that nobody knows", points: &[Point::RulesUnknown], run: rules },
    Attack { name: "an outcome that nobody knows", points: &[Point::ReplayOutcome], run: outcome },
];

/// A record as the bank would make it.
#[derive(Clone)]
struct Decided {
    header: RecordHeader,
    entries: Vec<(u64, Vec<u8>)>,
}

/// A bank that was stopped: with a hold whose time has passed.
fn stopped() -> BankBed {
    let (mut bed, mut bank) = BankBed::founded();
    let sent = [bed.deposit(), bed.hold(5)];
    bed.does(&mut bank, &sent);
    bank.stop().expect("stopped");
    bed.now_ms += 10;
    bed
}

/// What the bank decides of this, on a copy of its disk.
fn decided(bed: &BankBed, sent: &[Sent]) -> Decided {
    let mut copy = BankBed::on(SimDisk::with(bed.disk.image(), 1));
    copy.now_ms = bed.now_ms;
    let mut bank = start(&copy.disk).expect("started");
    let next = bank.durable().sequence() + 1;
    copy.ask(&mut bank, sent).expect("it runs");
    bank.stop().expect("stopped");
    let mut found = None;
    let reader = Reader::open_on(Arc::new(copy.disk), &folder()).expect("a journal");
    let scanned = reader.scan(&mut |record| {
        if record.header.sequence == next {
            let entries = record.entries().map(|(position, entry)| (position.0, entry.to_vec())).collect();
            found = Some(Decided { header: *record.header, entries });
        }
        Ok(())
    });
    scanned.expect("sound");
    found.expect("its record")
}

/// Appends this record to the bank's journal, as a bank would that decides so.
fn append(bed: &BankBed, record: &Decided) {
    let config = config(&bed.disk).journal;
    let (mut journal, _) = Journal::open(&folder(), &config, 7, &mut |_| Ok(())).expect("sound");
    let mut buffer = RecordBuffer::new();
    buffer.begin(journal.layout().place(journal.next_block(), 2));
    for (_, bytes) in &record.entries {
        buffer.entry(bytes.len() / UNIT).1.copy_from_slice(bytes);
    }
    let RecordHeader { rules, time_ms, business_date, digest, .. } = record.header;
    buffer.finish(RecordMeta { kind: RecordKind::Batch, rules, time_ms, business_date, digest });
    journal.append(&mut buffer).expect("written");
}

/// The bank decides this. With its record changed so it does not start, saying so; with the record as it was it does;
/// and with none of both nothing is missing.
fn refused(expired: bool, change: impl FnOnce(&mut Decided), says: impl FnOnce(&Decided) -> String) {
    let mut bed = stopped();
    let sent = if expired { bed.expiry(1) } else { bed.deposit() };
    let record = decided(&bed, &[sent]);
    let before = bed.disk.image();
    append(&bed, &record);
    start(&bed.disk).expect("whoever forges it knows how");
    let mut forged = record.clone();
    change(&mut forged);
    bed.disk.set_image(before.clone());
    append(&bed, &forged);
    says_so(start(&bed.disk).err(), &says(&record));
    bed.disk.set_image(before);
    bed.is_whole();
}

/// What is said of an entry of the record as it was.
fn at(record: &Decided, entry: usize, what: &str) -> String {
    format!("record {}, entry at position {}: {what}", record.header.sequence, record.entries[entry].0)
}

fn no_header() {
    let change = |record: &mut Decided| drop(record.entries.remove(0));
    refused(false, change, |record| at(record, 0, "entries before any request's header"));
}

fn not_admitted() {
    let change = |record: &mut Decided| {
        let bytes = &mut record.entries[0].1;
        let header = RequestHeader::read_from_bytes(bytes).expect("a request's header");
        let forged = RequestHeader { lane: Lane::Bulk as u8, attempt: [9, 9], item: 5, ..header };
        bytes.copy_from_slice(forged.as_bytes());
    };
    refused(false, change, |record| at(record, 0, "the request would not have been let in"));
}

fn no_command() {
    for units in [0, 1, 255] {
        let change = |record: &mut Decided| record.entries[1].1[3] = units;
        refused(false, change, |record| at(record, 0, "not a command"));
    }
}

fn differs() {
    let what = "what was recorded is not what deciding it again gives";
    // The amount; the outcome; a balance; a link.
    for byte in [32, 6, 96 + 8, 191] {
        refused(false, |record| record.entries[1].1[byte] ^= 1, |record| at(record, 1, what));
    }
    // The same twice: it is known by then, and leaves nothing.
    refused(
        false,
        |record| {
            let again = record.entries[1].clone();
            record.entries.push(again);
        },
        |record| format!("record {}, entry at position ", record.header.sequence),
    );
}

fn more() {
    let change = |record: &mut Decided| {
        assert_eq!(record.entries.len(), 3, "a request, its command, a hold that ended");
        record.entries.pop();
    };
    refused(true, change, |record| at(record, 2, "deciding it again gives an entry that was not recorded"));
}

fn digest() {
    for byte in [0, 15] {
        refused(
            false,
            |record| record.header.digest[byte] ^= 1,
            |record| {
                format!("record {}: the digest of the state is not the recorded one", record.header.sequence)
            },
        );
    }
}

fn time() {
    let says = |time_ms: u64| {
        move |record: &Decided| format!("record {}: time {time_ms} ms", record.header.sequence)
    };
    for time_ms in [0, 1_799_999_999_999, 1 << 48, u64::MAX] {
        refused(false, |record| record.header.time_ms = time_ms, says(time_ms));
    }
}

fn rules() {
    let change = |record: &mut Decided| record.header.rules = RULES_CURRENT + 1;
    refused(false, change, |record| {
        format!("record {} was decided under rules {}", record.header.sequence, RULES_CURRENT + 1)
    });
}

fn outcome() {
    for code in [0u16, 256, 999] {
        let change = |record: &mut Decided| {
            record.header.rules = 1;
            record.entries[1].1[6..8].copy_from_slice(&code.to_le_bytes());
        };
        refused(false, change, |record| at(record, 1, "an outcome that this program does not know"));
    }
}
