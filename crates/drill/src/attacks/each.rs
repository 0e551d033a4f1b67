//! Fixed histories in which every access to the disk fails once, in turn, and in which every one finds no space.
//!
//! Either nothing happened, and the history ends as it does without a fault; or it ends there with an error that names
//! the file. In both cases nothing that was acknowledged is missing when the journal is opened again.

use super::Attack;
use super::bank::{self, BankBed};
use super::bed::{Bed, DIR, SEGMENT_BLOCKS, entry_in, is_right, reader};
use crate::disk::{Fault, SimDisk};
use crate::quiet;
use crate::sent::Sent;
use pabal_bank::Reply;
use pabal_bank::ledger::Code;
use pabal_core::{BankMachine, Query};
use pabal_engine::Stepper;
use pabal_fault::Point;
use pabal_journal::Error;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

pub const ATTACKS: &[Attack] = &[
    Attack { name: "each access of a journal's life fails", points: JOURNAL, run: journal_fails },
    Attack {
        name: "each access of a journal's life finds no space",
        points: &[Point::OpenReserve, Point::MakeOpen, Point::MakeReserve],
        run: journal_full,
    },
    Attack {
        name: "each access of a journal's life on a full disk fails",
        points: &[Point::MakeReserve, Point::MakeInTheWay, Point::MakeLeft, Point::SupplyNotReady],
        run: full_fails,
    },
    Attack { name: "each access of a bank's life fails", points: BANK, run: bank_fails },
    Attack {
        name: "each access of a bank's life finds no space",
        points: &[Point::RingOpen],
        run: bank_full,
    },
];

const JOURNAL: &[Point] = &[
    Point::OpenFolderMake,
    Point::OpenLock,
    Point::OpenFolderSync,
    Point::OpenPathSync,
    Point::OpenSegment,
    Point::OpenReserve,
    Point::OpenLastRead,
    Point::OpenLastWrite,
    Point::OpenLastSync,
    Point::CutOpen,
    Point::CutWrite,
    Point::CutSync,
    Point::AppendOpen,
    Point::AppendWrite,
    Point::AppendSync,
    Point::SupplyNotReady,
    Point::NamesRead,
    Point::UnfinishedNames,
    Point::IdentifyOpen,
    Point::IdentifyRead,
    Point::MakeInTheWay,
    Point::MakeOpen,
    Point::MakeReserve,
    Point::MakeWrite,
    Point::MakeHeader,
    Point::MakeSync,
    Point::MakeRename,
    Point::MakeFolderSync,
    Point::ScanOpen,
    Point::ScanLength,
    Point::ScanRead,
    Point::ScanTorn,
    Point::ScanMidWrite,
    Point::ScanAgain,
    Point::ReaderLock,
    Point::ReaderSync,
    Point::ReaderOpen,
    Point::ReaderRead,
    Point::EntryRead,
];

const BANK: &[Point] = &[
    Point::WriterEnded,
    Point::CoreNoWriter,
    Point::StepJournal,
    Point::RepeatRotten,
    Point::FindRotten,
    Point::FollowFrom,
    Point::FollowNext,
    Point::RingOpen,
    Point::ScanVisitor,
];

/// Failures that are tried of each kind at most: more than any history has accesses.
const ACCESSES_MAX: u64 = 2000;

/// A life of a journal: it is made, rolls into other segments, is torn, cut, followed, and read by others.
fn life(bed: &mut Bed) -> Result<(), Error> {
    bed.open()?;
    for blocks in [1, 2, 1, 5, 2] {
        bed.append(blocks)?;
    }
    bed.scan()?;
    bed.journal = None;
    // A process was killed in the middle of a write.
    bed.tear(3, 2);
    bed.scan()?;
    bed.open()?;
    // Another is killed beside whom someone reads.
    bed.journal = None;
    bed.tear(3, 1);
    let lock = super::bed::locked(&bed.disk)?;
    bed.scan()?;
    drop(lock);
    bed.open()?;
    for blocks in [2, 4] {
        bed.append(blocks)?;
    }
    let end = bed.journal.as_ref().expect("a writer").next_block();
    let reading = reader(&bed.disk)?;
    let (mut block, mut sequence) = (1, 1);
    while sequence <= bed.acknowledged {
        block = reading.record_after(block, sequence, |record| is_right(record, sequence))?.0;
        assert_eq!(reading.end_of(sequence, end)?, block);
        sequence += 1;
    }
    assert_eq!(block, end);
    assert!(reading.extent()? >= end);
    reading.entry(entry_in(1, true))?;
    reading.entry_before(entry_in(SEGMENT_BLOCKS + 1, true), end)?;
    let free = reading.entry_before(pabal_journal::Position::new(5, 1), end);
    assert!(!matches!(free, Ok(_) | Err(Error::Rotten { .. })), "left free at a segment's end: {free:?}");
    if let Err(error @ Error::Io { .. }) = free {
        return Err(error);
    }
    bed.journal = None;
    bed.scan()
}

/// A life of a journal on a disk that is full for a while.
fn life_on_a_full_disk(bed: &mut Bed) -> Result<(), Error> {
    bed.open()?;
    bed.append(5)?;
    bed.disk.set_free(Some(0));
    let refused = loop {
        if let Err(error) = bed.append(5) {
            break error;
        }
    };
    if !is_full(&refused) {
        return Err(refused);
    }
    bed.journal = None;
    bed.disk.set_free(None);
    bed.open()?;
    bed.append(5)?;
    bed.append(5)
}

fn is_full(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == ErrorKind::StorageFull)
}

/// Lives this life with each access failing so, in turn.
fn each(life: fn(&mut Bed) -> Result<(), Error>, fault: Fault) {
    for access in 0..ACCESSES_MAX {
        let mut bed = Bed::new(access + 1);
        bed.disk.arm(access, fault);
        let lived = life(&mut bed);
        let struck = bed.disk.disarm();
        match lived {
            Ok(()) => {}
            Err(Error::Io { path, source }) => {
                assert!(path.starts_with(DIR), "access {access}, {struck:?}: {}", path.display());
                let kind = source.raw_os_error();
                let is_ours = kind == Some(if fault == Fault::Full { 28 } else { 5 });
                assert!(struck.is_some() && is_ours, "access {access}, {struck:?}: {source}");
            }
            Err(error) => panic!("access {access}, {struck:?}: {error:?}"),
        }
        bed.is_whole();
        if struck.is_none() {
            assert!(access > 20, "it lived a life");
            return;
        }
    }
    panic!("its life has more than {ACCESSES_MAX} accesses");
}

fn journal_fails() {
    each(life, Fault::Fails);
}

fn journal_full() {
    each(life, Fault::Full);
}

fn full_fails() {
    each(life_on_a_full_disk, Fault::Fails);
}

/// Sends this, and once more what was refused for want of room: its id is good.
fn ask(
    bed: &mut BankBed,
    bank: &mut Stepper<BankMachine>,
    sent: &[Sent],
) -> Result<Reply, pabal_engine::Error> {
    let replies = bed.ask(bank, sent)?;
    let replies = match replies[0].code == Code::DiskFull {
        true => bed.ask(bank, sent)?,
        false => replies,
    };
    assert!(replies.iter().all(|reply| reply.code.uses_id()), "{replies:?}");
    Ok(replies[0])
}

/// A life of a bank: founded, paid into, asked, followed, stopped, started again, asked again for what it has said.
fn life_of_a_bank(bed: &mut BankBed) -> Result<(), pabal_engine::Error> {
    let mut bank = bank::start(&bed.disk)?;
    bank.try_suspect()?;
    let founding = bed.founding();
    ask(bed, &mut bank, &founding)?;
    let first = bed.deposit();
    let position = ask(bed, &mut bank, std::slice::from_ref(&first))?.position;
    let undone = bed.reversal(position);
    ask(bed, &mut bank, &[undone])?;
    ask(bed, &mut bank, std::slice::from_ref(&first))?;
    let ticket = bank.query(Query::Account(bank::CUSTOMER));
    bank::answer(&mut bank, &ticket)?.expect("answered");
    // Some of them long, so that the journal rolls.
    for _ in 0..2 {
        let long: Vec<_> = (0..190).map(|_| bed.deposit()).collect();
        ask(bed, &mut bank, &long)?;
    }
    let mut follower = bank.follow_from(3)?;
    let mut seen = 0;
    while follower.next(Duration::ZERO, |_| seen += 1)? {}
    assert_eq!(seen, bank.durable().sequence() - 2, "from the third on");
    bank.execute()?;
    bank.stop()?;
    let mut bank = bank::start(&bed.disk)?;
    assert!(!bank.try_suspect()?);
    let again = ask(bed, &mut bank, &[first])?;
    assert_eq!((again.code, again.again), (Code::Done, true));
    let sent = bed.reversal(position);
    let reply = ask(bed, &mut bank, &[sent])?;
    assert_ne!(reply.code, Code::Done, "it is reversed already");
    bank.stop().map(drop)
}

/// Lives the life of a bank with each access failing so, in turn.
fn each_of_a_bank(fault: Fault) {
    let says = if fault == Fault::Full { "(os error 28)" } else { "(os error 5)" };
    for access in 0..ACCESSES_MAX {
        let mut bed = BankBed::on(SimDisk::new(access + 1));
        bed.disk.arm(access, fault);
        // A core that cannot read an entry stops, saying so.
        let lived = catch_unwind(AssertUnwindSafe(|| life_of_a_bank(&mut bed)));
        let said = match lived {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(thrown) => Some(quiet::said(&*thrown)),
        };
        let struck = bed.disk.disarm();
        if let Some(said) = said {
            let names =
                said.starts_with(Path::new(bank::DATA).to_str().expect("plain")) && said.contains(says);
            assert!(struck.is_some() && names, "access {access}, {struck:?}: {said}");
        }
        bed.disk.crash(crate::disk::image::Loss::Process);
        bed.is_whole();
        if struck.is_none() {
            assert!(access > 20, "it lived a life");
            return;
        }
    }
    panic!("its life has more than {ACCESSES_MAX} accesses");
}

fn bank_fails() {
    each_of_a_bank(Fault::Fails);
}

fn bank_full() {
    each_of_a_bank(Fault::Full);
}
