//! A running bank: a disk that is full, positions where nothing stands, followers that know too much.

use super::Attack;
use super::bank::{BankBed, SEGMENT_BLOCKS, answer, config, folder, request, segment, start};
use super::bed::{says_so, spoil};
use crate::disk::image::BLOCK;
use crate::disk::{Access, Fault};
use crate::quiet;
use pabal_bank::ledger::Code;
use pabal_core::{BankMachine, Query};
use pabal_engine::{Clock, EngineConfig, Error, RequestHeader, Stepper, TimeSource};
use pabal_fault::Point;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

pub const ATTACKS: &[Attack] = &[
    Attack {
        name: "a reversal of what was skipped at a segment's end",
        points: &[Point::FindSkipped],
        run: skipped,
    },
    Attack { name: "a reversal of nothing", points: &[Point::FindNothing], run: nothing },
    Attack { name: "a reversal of what is spoilt", points: &[Point::FindRotten], run: spoilt },
    Attack { name: "a request after its deadline", points: &[Point::DeadlinePassed], run: deadline },
    Attack { name: "an item out of order", points: &[Point::NotAdmitted], run: out_of_order },
    Attack {
        name: "a full disk",
        points: &[Point::DiskFull, Point::ConfirmDiskFull, Point::SupplyFull],
        run: full,
    },
    Attack { name: "a follower from beyond the end", points: &[Point::FollowAhead], run: ahead },
    Attack {
        name: "a follower of a journal that is spoilt",
        points: &[Point::FollowFrom, Point::FollowNext],
        run: follow_spoilt,
    },
    Attack { name: "a clock that is hours off", points: &[Point::StartGap], run: gap },
    Attack { name: "the ring cannot be opened", points: &[Point::RingOpen], run: ring },
    Attack {
        name: "a writer that fails under a bank without threads",
        points: &[Point::WriterEnded, Point::CoreNoWriter, Point::StepJournal, Point::TakeUnknown],
        run: writer_fails,
    },
    Attack {
        name: "an answer to be told again is spoilt",
        points: &[Point::RepeatRotten],
        run: repeat_spoilt,
    },
    Attack {
        name: "an entry of a record that could not be written",
        points: &[Point::FindUnwritten],
        run: unwritten,
    },
];

fn skipped() {
    let (mut bed, mut bank) = BankBed::founded();
    bed.fill(&mut bank, 8);
    let last = bank.durable().next_block();
    assert!(last.is_multiple_of(SEGMENT_BLOCKS) || last % SEGMENT_BLOCKS < SEGMENT_BLOCKS - 1);
    // The last block of this segment. A record that may take so many does not fit, and goes into the next.
    let position = pabal_journal::Position::new(last.next_multiple_of(SEGMENT_BLOCKS) - 1, 4).0;
    let sent = [bed.reversal(position), bed.expiry(200)];
    let replies = bed.ask(&mut bank, &sent).expect("it runs");
    assert_eq!(replies[0].code, Code::NotReversible, "nothing stands there, and nothing ever will");
    assert!(replies[0].position / 64 > last.next_multiple_of(SEGMENT_BLOCKS), "in the next segment");
    bank.stop().expect("stopped");
    bed.is_whole();
}

fn nothing() {
    let (mut bed, mut bank) = BankBed::founded();
    bed.fill(&mut bank, 8);
    // In a block's header, in a segment's, between entries, where a request's header stands.
    for position in [64, 65, 3, 64 + 20, 64 * 3, 64 * 3 + 3] {
        let sent = [bed.reversal(position)];
        let replies = bed.ask(&mut bank, &sent).expect("it runs");
        assert_eq!(replies[0].code, Code::NotReversible, "position {position}");
    }
    bank.stop().expect("stopped");
    bed.is_whole();
}

/// A bank with two records of payments, and the position of the first. The block of the first is spoilt now.
fn with_spoilt() -> (BankBed, Stepper<BankMachine>, crate::disk::image::Image, u64, crate::sent::Sent) {
    let (mut bed, mut bank) = BankBed::founded();
    let sent = bed.deposit();
    let position = bed.does(&mut bank, std::slice::from_ref(&sent))[0].position;
    let other = bed.deposit();
    bed.does(&mut bank, &[other]);
    let before = bed.disk.image();
    bed.disk
        .change(|image| spoil(image, &segment(0), (position / 64) as usize, |block| block[BLOCK - 1] ^= 1));
    (bed, bank, before, position, sent)
}

/// What the error says of a block of the first segment that does not hold.
fn check_of(position: u64) -> String {
    let offset = position / 64 * BLOCK as u64;
    format!("{}, byte {offset}: the block's check", segment(0).display())
}

fn spoilt() {
    let (mut bed, mut bank, before, position, _) = with_spoilt();
    let sent = bed.reversal(position);
    let ticket = bank.submit(request(bed.online(), &[sent]));
    // To decide as if nothing stood there would record what no sound copy gives: the core stops.
    let thrown = catch_unwind(AssertUnwindSafe(|| bank.execute())).expect_err("the core stops");
    let said = quiet::said(&*thrown);
    assert!(said.starts_with(&check_of(position)), "{said}");
    drop(bank);
    assert!(ticket.take().expect("over").is_err(), "unknown: never done, never failed");
    bed.disk.set_image(before);
    bed.is_whole();
}

fn repeat_spoilt() {
    let (bed, mut bank, before, position, sent) = with_spoilt();
    let ticket = bank.submit(request(bed.online(), &[sent]));
    bank.execute().expect("it knows the id");
    let durable = bank.durable();
    let ended = bank.write().err();
    says_so(ended, &check_of(position));
    assert!(ticket.take().expect("over").is_err(), "unknown: never done, never failed");
    assert!(durable.is_stopped(), "whoever waits for a record hears that the writer is gone");
    drop(bank);
    bed.disk.set_image(before);
    bed.is_whole();
}

fn deadline() {
    let (mut bed, mut bank) = BankBed::founded();
    bed.now_ms += 10;
    let sent = bed.deposit();
    let header = RequestHeader { deadline_ms: bed.now_ms - 1, ..bed.online() };
    let ticket = bank.submit(request(header, std::slice::from_ref(&sent)));
    let response = answer(&mut bank, &ticket).expect("it runs").expect("answered");
    assert_eq!(response.replies[0].code, Code::DeadlinePassed);
    bed.does(&mut bank, &[sent]);
    bank.stop().expect("stopped");
    bed.is_whole();
}

fn out_of_order() {
    let (mut bed, mut bank) = BankBed::founded();
    let sent = [bed.deposit()];
    for (item, code) in [(1, Code::JobOutOfOrder), (0, Code::Done), (0, Code::JobOutOfOrder)] {
        let ticket = bank.submit(request(bed.bulk(1, item), &sent));
        let response = answer(&mut bank, &ticket).expect("it runs").expect("answered");
        assert_eq!(response.replies[0].code, code, "item {item}");
        bed.heard_of_job(&sent, &response);
    }
    bank.stop().expect("stopped");
    bed.is_whole();
}

fn full() {
    let (mut bed, mut bank) = BankBed::founded();
    bed.disk.set_free(Some(0));
    let first = bed.deposit();
    bed.does(&mut bank, std::slice::from_ref(&first));
    let refused = loop {
        let sent = bed.deposit();
        let reply = bed.ask(&mut bank, std::slice::from_ref(&sent)).expect("it runs")[0];
        if reply.code != Code::Done {
            assert_eq!(reply.code, Code::DiskFull);
            break sent;
        }
    };
    // What was decided before is answered as it was; there is no room to confirm the last record either.
    let again = bed.ask(&mut bank, &[first]).expect("it runs")[0];
    assert_eq!((again.code, again.again), (Code::Done, true));
    bank.execute().expect("idle");
    assert_eq!(bank.unwritten(), 0, "nothing is written");
    // Room is made, and the same id is good.
    bed.disk.set_free(None);
    bed.does(&mut bank, &[refused]);
    bank.stop().expect("stopped");
    bed.is_whole();
}

fn ahead() {
    let (mut bed, mut bank) = BankBed::founded();
    let sent = bed.deposit();
    bed.does(&mut bank, &[sent]);
    let last = bank.durable().sequence();
    for sequence in [last + 2, u64::MAX] {
        let refused = bank.follow_from(sequence).err();
        says_so(
            refused,
            &format!("record {sequence} cannot be followed: the journal ends with record {last}"),
        );
    }
    let mut next = bank.follow_from(last + 1).expect("the next one to come");
    assert!(!next.next(Duration::ZERO, |_| ()).expect("nothing yet"));
    bank.stop().expect("stopped");
    bed.is_whole();
}

fn follow_spoilt() {
    let (mut bed, mut bank) = BankBed::founded();
    bed.fill(&mut bank, 8);
    let before = bed.disk.image();
    let mut follower = bank.follow_from(3).expect("it is there");
    bed.disk.change(|image| spoil(image, &segment(0), 3, |block| block[2000] ^= 1));
    let says = |what: &str| format!("{}, byte {}: {what}", segment(0).display(), 3 * BLOCK);
    says_so(follower.next(Duration::ZERO, |_| ()).err(), &says("not the record that belongs here"));
    says_so(bank.follow_from(5).err(), &says("not the beginning of a record"));
    bed.disk.set_image(before);
    assert!(follower.next(Duration::ZERO, |_| ()).expect("put right"));
    bank.stop().expect("stopped");
    bed.is_whole();
}

/// A clock that stands.
struct Standing(u64);

impl Clock for Standing {
    fn wall_ms(&mut self) -> u64 {
        self.0
    }

    fn monotonic_us(&mut self) -> u64 {
        0
    }
}

fn gap() {
    let (bed, bank) = BankBed::founded();
    bank.stop().expect("stopped");
    for (off_ms, must_be_refused) in [(600_000, false), (600_001, true), (-600_000, false), (-600_001, true)]
    {
        let wall_ms = bed.now_ms.saturating_add_signed(off_ms);
        for (confirmed_ms, must_be_refused) in
            [(None, must_be_refused), (Some(bed.now_ms), must_be_refused), (Some(wall_ms), false)]
        {
            let disk = crate::disk::SimDisk::with(bed.disk.image(), 1);
            let time = TimeSource::Clock { clock: Box::new(Standing(wall_ms)), confirmed_ms };
            let config = EngineConfig { time, ..config(&disk) };
            let started =
                Stepper::start(Path::new(super::bank::DATA), BankMachine::default(), config, &mut |_| {})
                    .err();
            match must_be_refused {
                true => says_so(started, &format!("the clock says {wall_ms} ms since 1970")),
                false => assert!(started.is_none(), "{off_ms} {confirmed_ms:?}: {started:?}"),
            }
        }
    }
    bed.is_whole();
}

fn ring() {
    let (bed, bank) = BankBed::founded();
    bank.stop().expect("stopped");
    for fault in [Fault::Fails, Fault::Full] {
        bed.disk.arm_next(Access::Map, fault);
        let started = start(&bed.disk).err();
        assert!(matches!(&started, Some(Error::Ring { path, .. }) if path.ends_with("ring")), "{started:?}");
    }
    start(&bed.disk).expect("it failed once");
    bed.is_whole();
}

fn writer_fails() {
    let (mut bed, mut bank) = BankBed::founded();
    let sent = [bed.deposit()];
    let waits = bank.submit(request(bed.online(), &sent));
    bank.execute().expect("executed");
    let asked = bank.query(Query::Account(super::bank::CUSTOMER));
    bank.execute().expect("executed");
    bed.disk.arm_next(Access::Sync, Fault::Fails);
    let ended = bank.write().err();
    assert!(
        matches!(&ended, Some(Error::Journal(pabal_journal::Error::Io { path, .. })) if *path == segment(0)),
        "{ended:?}"
    );
    assert!(waits.take().expect("over").is_err(), "nobody hears of what may be lost");
    assert!(asked.take().expect("over").is_err());
    // Nothing more is done.
    let ticket = bank.submit(request(bed.online(), &sent));
    assert!(bank.write().is_err());
    assert!(bank.execute().and_then(|()| bank.execute()).is_err());
    drop(bank);
    assert!(ticket.take().expect("over").is_err());
    bed.is_whole();
    assert!(bed.disk.image().find(&folder().join("000000000000.seg")).is_some());
}

fn unwritten() {
    let (mut bed, mut bank) = BankBed::founded();
    let sent = bed.deposit();
    let first = bank.submit(request(bed.online(), &[sent]));
    let position = pabal_journal::Position::new(bank.durable().next_block(), 4).0;
    bank.execute().expect("executed");
    let sent = bed.reversal(position);
    let second = bank.submit(request(bed.online(), &[sent]));
    bed.disk.arm_next(Access::Write, Fault::Fails);
    // What it reverses must be written first, which fails: nothing that is decided from here on is heard of.
    assert!(bank.execute().is_err());
    drop(bank);
    assert!(first.take().expect("over").is_err());
    assert!(second.take().expect("over").is_err());
    bed.is_whole();
}
