//! What crash enumeration and the simulator found, each as short as it can be told.

use pabal_bank::ledger::entry::flags;
use pabal_bank::ledger::{Class, Code, Command, Date, Id, Kind};
use pabal_bank::{Reply, command};
use pabal_core::BankMachine;
use pabal_drill::disk::image::Loss;
use pabal_drill::disk::image::{Image, Kept, SECTOR};
use pabal_drill::disk::{Access, Fault, SimDisk};
use pabal_engine::{Commands, EngineConfig, Lane, Request, RequestHeader, Stepper, TimeSource};
use pabal_journal::disk::{Disk, Writing};
use pabal_journal::{Error, Journal, JournalConfig, Position, Reader, RecordBuffer, RecordKind, RecordMeta};
use std::path::Path;
use std::sync::{Arc, Mutex};
use zerocopy::IntoBytes;

const DIR: &str = "/journal";

fn open(disk: &SimDisk) -> (Journal, u64) {
    open_of(disk, 4)
}

fn open_of(disk: &SimDisk, segment_blocks: u32) -> (Journal, u64) {
    let config =
        JournalConfig { segment_blocks, direct: true, disk: Arc::new(disk.clone()), background: false };
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

/// Where records are large a zeroed segment is a segment that is written twice; where they are small it spares each
/// sync half its time.
#[test]
fn only_segments_for_small_records_are_zeroed() {
    const SEGMENTS: u64 = 6;
    // A quarter of a segment is a large record.
    for (blocks, writes_a_segment) in [(1, 2), (2, 1)] {
        let disk = SimDisk::new(1);
        let (mut journal, _) = open_of(&disk, 8);
        // The second segment is made before it is known how large records are.
        append(&mut journal, blocks);
        let made = || disk.image().paths().count();
        let (before, mut records) = (made(), 0);
        let writes = writes(&disk, || {
            while journal.next_block() < SEGMENTS * 8 {
                append(&mut journal, blocks);
                records += 1;
            }
        });
        let ahead = made() - before;
        assert!(ahead >= 5, "{ahead} were made");
        assert_eq!(writes.len() - records, ahead * writes_a_segment, "records of {blocks} blocks");
        // What was reserved and never written is blank for whoever opens it, also after a loss of power.
        drop(journal);
        disk.crash(Loss::Power);
        assert_eq!(open_of(&disk, 8).1, records as u64 + 1);
    }
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

/// A record's sync failed. The system showed it still, so the next process counted it and synced again, which a
/// system that has given the blocks up answers with success. The loss of power after that took an acknowledged
/// record.
#[test]
fn what_a_failed_sync_gave_up_is_written_again() {
    for seed in 1..20 {
        let disk = SimDisk::new(seed);
        let (mut journal, _) = open(&disk);
        append(&mut journal, 1);
        disk.arm_next(Access::Sync, Fault::Fails);
        let mut buffer = RecordBuffer::new();
        buffer.begin(journal.next_block());
        let (_, entry) = buffer.entry(1);
        (entry[0], entry[5]) = (1, 1);
        let (kind, digest) = (RecordKind::Batch, [0; 16]);
        buffer.finish(RecordMeta { kind, rules: 1, time_ms: 1, business_date: 1, digest });
        assert!(journal.append(&mut buffer).is_err(), "its sync fails");
        drop(journal);
        disk.crash(Loss::Process);
        let (journal, counted) = open(&disk);
        drop(journal);
        disk.crash(Loss::Power);
        assert_eq!(open(&disk).1, counted, "seed {seed}: what was counted is there");
    }
}

/// Where an entry stood the disk had lost what was written. It was taken for a place at which no entry begins, and a
/// reversal that named it was refused for good.
#[test]
fn what_was_lost_is_not_taken_for_what_never_was() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk);
    append(&mut journal, 1);
    append(&mut journal, 1);
    append(&mut journal, 2); // does not fit: in segment 1, and a block of segment 0 is left free
    let end = journal.next_block();
    let reader = Reader::open_on(Arc::new(disk.clone()), Path::new(DIR)).expect("a reader");
    let (there, free) = (Position::new(2, 3), Position::new(3, 3));
    assert!(reader.entry_before(there, end).is_ok());
    assert!(matches!(reader.entry_before(free, end), Err(Error::NoEntry(_))));
    let file = disk.change(|image| image.find(&Path::new(DIR).join("000000000000.seg")).expect("segment 0"));
    disk.decay(file, 2, None);
    assert!(matches!(reader.entry_before(there, end), Err(Error::Rotten { .. })));
    // The last record of the journal too, which no later one tells of.
    let file = disk.change(|image| image.find(&Path::new(DIR).join("000000000001.seg")).expect("segment 1"));
    disk.decay(file, 2, None);
    assert!(matches!(reader.entry_before(Position::new(6, 1), end), Err(Error::Rotten { .. })));
}

/// The making of a segment had failed, and so had the removal of what was left of it: the next try found a file of
/// that name and ended the bank, though there was room.
#[test]
fn a_segment_left_half_made_is_not_in_the_way() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk);
    let left = Path::new(DIR).join("000000000001.tmp");
    disk.open_to_write(&left, Writing { new: true, direct: true }).expect("left behind");
    for _ in 0..4 {
        append(&mut journal, 2);
    }
    assert_eq!(journal.sequence(), 4);
}

const WON: u16 = 410;
const NOW_MS: u64 = 1_800_000_000_000;

fn id(n: u64) -> Id {
    Id::new(NOW_MS, 0, n << 2)
}

fn submit(
    bank: &Stepper<BankMachine>,
    made: &[Command],
) -> pabal_engine::Ticket<pabal_engine::Response<Reply>> {
    let mut commands = Commands::new();
    made.iter().for_each(|command| commands.push(command.as_bytes()));
    let header = RequestHeader { time_ms: NOW_MS, ..RequestHeader::new(Lane::Online, 1) };
    bank.submit(Request { header, commands })
}

/// A founded bank with a deposit of 100 won on its way to the disk.
fn deposit(disk: &SimDisk) -> (Stepper<BankMachine>, pabal_engine::Ticket<pabal_engine::Response<Reply>>) {
    let journal =
        JournalConfig { segment_blocks: 16, disk: Arc::new(disk.clone()), ..JournalConfig::default() };
    let config = EngineConfig { journal, journal_id: 7, time: TimeSource::Carried };
    let (mut bank, _) =
        Stepper::start(Path::new("/bank"), BankMachine::default(), config, &mut |_| {}).expect("it starts");
    let made = [
        command::found(id(1), 100, 7, 2, Date(20_000)),
        command::open(id(2), 1, Class::Cash, WON, 0, i64::MAX),
        command::open(id(3), 2, Class::CustomerDeposit, WON, 0, 0),
    ];
    submit(&bank, &made);
    bank.execute().expect("founded");
    while bank.write().expect("durable") {}
    let heard = submit(&bank, &[command::post(id(4), Kind::CashDeposit, 1, 2, 100, WON)]);
    bank.execute().expect("deposited");
    (bank, heard)
}

/// A reversal named an entry on its way to the disk, and the disk failed. The core went on to decide as if there were
/// no such entry, or stopped on it as on a rotten journal; the disk's own error was not told.
#[test]
fn an_entry_that_could_not_be_written_ends_the_bank_with_the_error_of_the_disk() {
    let (mut bank, heard) = deposit(&SimDisk::new(1));
    while bank.write().expect("durable") {}
    let position = heard.wait().expect("answered").replies[0].position;
    let reversal = command::reverse(id(5), position, 0);
    let done = submit(&bank, &[reversal]);
    bank.execute().expect("decided");
    bank.write().expect("durable");
    assert_eq!(done.wait().expect("answered").replies[0].code, Code::Done);

    let disk = SimDisk::new(1);
    let (mut bank, heard) = deposit(&disk);
    let reversal = submit(&bank, &[reversal]);
    disk.arm_next(Access::Write, Fault::Fails);
    let error = bank.execute().expect_err("the disk fails it").to_string();
    assert!(error.contains("os error 5"), "{error}");
    drop(bank);
    assert!(heard.wait().is_err() && reversal.wait().is_err(), "what became of both is unknown");
}

/// Sends these, lets them be executed and written, and gives what is heard.
fn heard_of(bank: &mut Stepper<BankMachine>, header: RequestHeader, made: &[Command]) -> Vec<Reply> {
    let mut commands = Commands::new();
    made.iter().for_each(|command| commands.push(command.as_bytes()));
    let ticket = bank.submit(Request { header, commands });
    bank.execute().expect("executed");
    while bank.write().expect("durable") {}
    ticket.wait().expect("answered").replies
}

fn codes(replies: &[Reply]) -> Vec<Code> {
    replies.iter().map(|reply| reply.code).collect()
}

const ONLINE: Lane = Lane::Online;

fn header(lane: Lane) -> RequestHeader {
    RequestHeader { time_ms: NOW_MS, attempt: [1, 2], ..RequestHeader::new(lane, 1) }
}

/// On a full disk all that was not known by its id was said not to be done, also where nobody may say so: what is
/// older than the window, an item of a job that had been done, a bundle of which a part had been.
#[test]
fn a_full_disk_says_of_nothing_that_it_was_not_done_unless_it_was_not() {
    const FIRST: Id = Id { high: 1, low: 2 };
    let disk = SimDisk::new(1);
    let (mut bank, _) = deposit(&disk);
    while bank.write().expect("durable") {}
    let pay = |id, amount| command::post(id, Kind::CashDeposit, 1, 2, amount, WON);
    let item = heard_of(&mut bank, header(Lane::Bulk), &[pay(id(5), 7)]);
    assert_eq!(codes(&item), [Code::Done]);
    disk.set_free(Some(0));
    let mut ids = 100..;
    loop {
        let heard = heard_of(&mut bank, header(ONLINE), &[pay(id(ids.next().expect("endless")), 1)]);
        if codes(&heard) == [Code::DiskFull] {
            break;
        }
        assert_eq!(codes(&heard), [Code::Done]);
    }
    let old = Id::new(NOW_MS - 25 * 60 * 60 * 1000, 0, 4);
    let heard = heard_of(&mut bank, header(ONLINE), &[pay(old, 1), pay(id(4), 100), pay(id(90), 1)]);
    assert_eq!(codes(&heard), [Code::IdTooOld, Code::Done, Code::DiskFull]);
    assert!(heard[1].again);
    let mut part = pay(id(4), 100);
    part.header.flags |= flags::LINKED;
    assert_eq!(codes(&heard_of(&mut bank, header(ONLINE), &[part, pay(id(91), 1)])), [Code::BundleMixed; 2]);
    let mut part = pay(id(92), 100);
    part.header.flags |= flags::LINKED;
    assert_eq!(codes(&heard_of(&mut bank, header(ONLINE), &[part, pay(id(93), 1)])), [Code::DiskFull; 2]);
    let again = heard_of(&mut bank, header(Lane::Bulk), &[pay(id(5), 7)]);
    assert_eq!((again[0].code, again[0].position), (Code::JobOutOfOrder, 1), "item 1 is wanted next");
    let next = RequestHeader { item: 1, ..header(Lane::Bulk) };
    assert_eq!(codes(&heard_of(&mut bank, next, &[pay(id(6), 8), pay(id(7), 9)])), [Code::DiskFull; 2]);
    disk.set_free(None);
    assert_eq!(codes(&heard_of(&mut bank, next, &[pay(id(6), 8), pay(id(7), 9)])), [Code::Done; 2]);
    assert_eq!(bank.machine().0.job(FIRST), Some((3, false)));
}

/// A payment had been done, its answer was lost, and it was sent again: by then its deadline had passed, and its sender
/// heard that it was not done.
#[test]
fn a_passed_deadline_does_not_say_of_what_was_done_that_it_was_not() {
    let (mut bank, _) = deposit(&SimDisk::new(1));
    while bank.write().expect("durable") {}
    let late = RequestHeader { deadline_ms: NOW_MS - 1, ..header(ONLINE) };
    let pay = |id, amount| command::post(id, Kind::CashDeposit, 1, 2, amount, WON);
    let heard = heard_of(&mut bank, late, &[pay(id(4), 100), pay(id(4), 101), pay(id(5), 1)]);
    assert_eq!(codes(&heard), [Code::Done, Code::IdConflict, Code::DeadlinePassed]);
    assert!(heard[0].again);
}

/// While the disk was full there was no room for the closing record. It was never tried again: whoever read beside the
/// bank did not see its last record, however long it had rested and whatever room there was.
#[test]
fn a_closing_record_is_made_up_for_when_there_is_room_again() {
    let disk = SimDisk::new(1);
    let (mut bank, _) = deposit(&disk);
    while bank.write().expect("durable") {}
    disk.set_free(Some(0));
    for n in 5.. {
        let heard = submit(&bank, &[command::post(id(n), Kind::CashDeposit, 1, 2, 100, WON)]);
        bank.execute().expect("decided or refused");
        while bank.write().expect("durable") {}
        if heard.wait().expect("answered").replies[0].code == Code::DiskFull {
            break;
        }
    }
    let mut rest = || {
        bank.execute().expect("nothing waits");
        while bank.write().expect("durable") {}
        bank.durable().sequence()
    };
    let last = rest();
    assert_eq!(rest(), last, "no room");
    disk.set_free(None);
    assert_eq!(rest(), last + 1, "confirmed");
    assert_eq!(rest(), last + 1, "once");
}
