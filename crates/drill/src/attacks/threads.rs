//! The engine with its threads: held where a fault or a full lane meets requests that wait.
//!
//! The writer is held in the middle of a write, where it has the whole disk, by the disk's own watch. So it is known
//! what waits where when the fault comes.

use super::Attack;
use super::bank::{BankBed, CUSTOMER, DATA, config, request, segment};
use super::bed::{says_so, spoil};
use crate::disk::image::{BLOCK, Loss};
use crate::disk::{Access, Fault, SimDisk};
use crate::sent::Sent;
use pabal_bank::ledger::Code;
use pabal_core::{BankMachine, Query};
use pabal_engine::queue::BULK_MAX;
use pabal_engine::{Engine, Error};
use pabal_fault::Point;
use pabal_journal::UNIT;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

pub const ATTACKS: &[Attack] = &[
    Attack { name: "a writer that fails while requests wait", points: WRITER_FAILS, run: writer_fails },
    Attack { name: "a core that stops while requests wait", points: CORE_STOPS, run: core_stops },
    Attack { name: "a flood of bulk", points: &[Point::SubmitOverloaded, Point::LaneBulkFull], run: flood },
    Attack {
        name: "a segment is taken away under the bank",
        points: &[Point::RepeatRotten, Point::EntryNoSegment, Point::StopJournal],
        run: taken_away,
    },
    Attack {
        name: "an answer to be told again is forged away",
        points: &[Point::RepeatRotten, Point::EntryBetween, Point::StopJournal, Point::WaitUnknown],
        run: forged_away,
    },
];

const WRITER_FAILS: &[Point] = &[
    Point::AppendSync,
    Point::WriterEnded,
    Point::CoreNoWriter,
    Point::StopJournal,
    Point::LaneClosed,
    Point::WaitUnknown,
];
const CORE_STOPS: &[Point] = &[Point::FindRotten, Point::Abandoned, Point::StopCore, Point::WaitUnknown];

/// A bank that was founded, with its threads.
fn running() -> (BankBed, Engine<BankMachine>) {
    let (bed, bank) = BankBed::founded();
    bank.stop().expect("stopped");
    let engine = run(&bed.disk);
    (bed, engine)
}

fn run(disk: &SimDisk) -> Engine<BankMachine> {
    Engine::start(Path::new(DATA), BankMachine::default(), config(disk), &mut |_| {}).expect("started").0
}

/// Sends this and waits until it is done.
fn does(bed: &mut BankBed, engine: &Engine<BankMachine>, sent: &[Sent]) -> u64 {
    let response = engine.submit(request(bed.online(), sent)).wait().expect("answered");
    assert!(response.replies.iter().all(|reply| reply.code == Code::Done), "{:?}", response.replies);
    bed.heard(sent, &response);
    response.replies[0].position
}

/// Holds whoever writes to the disk next, and with it the disk.
struct Gate {
    reached: Receiver<()>,
    open: Sender<()>,
}

impl Gate {
    fn closed(disk: &SimDisk) -> Gate {
        let ((reaches, reached), (open, opened)) = (channel(), channel());
        let mut is_first = true;
        disk.watch(move |_, access| {
            if access == Access::Write && std::mem::take(&mut is_first) {
                reaches.send(()).expect("it is waited for");
                opened.recv().expect("it is opened");
            }
        });
        Gate { reached, open }
    }

    fn reached(&self) {
        self.reached.recv().expect("someone writes");
    }

    fn open(self) {
        self.open.send(()).expect("it is waited for");
    }
}

/// Waits until the core has ended.
fn ended(engine: &Engine<BankMachine>) {
    let (tell, told) = channel();
    engine.when_ended(move || tell.send(()).expect("it is waited for"));
    told.recv().expect("it ends");
}

fn writer_fails() {
    let (mut bed, engine) = running();
    let sent = [bed.deposit(), bed.deposit(), bed.deposit()];
    does(&mut bed, &engine, &sent[..1]);
    bed.disk.arm_next(Access::Sync, Fault::Fails);
    let gate = Gate::closed(&bed.disk);
    let written = engine.submit(request(bed.online(), &sent[1..2]));
    gate.reached();
    // One more is executed behind it, a question asked, a bulk request waits in its lane.
    let behind = engine.submit(request(bed.online(), &sent[2..]));
    let asked = engine.query(Query::Account(CUSTOMER));
    let bulk = engine.submit(request(bed.bulk(1, 0), &[bed.deposit()]));
    gate.open();
    assert!(
        written.wait().is_err() && behind.wait().is_err() && asked.wait().is_err() && bulk.wait().is_err()
    );
    ended(&engine);
    // Whoever comes now is told at once, and its id is good.
    let late = engine.submit(request(bed.online(), &sent[2..])).wait().expect("at once");
    assert_eq!(late.replies[0].code, Code::Overloaded);
    assert!(engine.query(Query::Account(CUSTOMER)).wait().is_err());
    let error = engine.stop().err();
    assert!(
        matches!(&error, Some(Error::Journal(pabal_journal::Error::Io { path, .. })) if *path == segment(0)),
        "{error:?}"
    );
    bed.disk.crash(Loss::Process);
    bed.is_whole();
}

fn core_stops() {
    let (mut bed, engine) = running();
    let sent = [bed.deposit(), bed.deposit()];
    let position = does(&mut bed, &engine, &sent[..1]);
    let before = |disk: &SimDisk| {
        disk.image().file(disk.image().find(&segment(0)).expect("there")).block(block(position))
    };
    let right = before(&bed.disk);
    bed.disk.change(|image| spoil(image, &segment(0), block(position), |block| block[BLOCK - 1] ^= 1));
    let gate = Gate::closed(&bed.disk);
    let written = engine.submit(request(bed.online(), &sent[1..]));
    gate.reached();
    // The core will read what is spoilt, and stop; the bulk request still waits then, as online requests come first.
    let stops = engine.submit(request(bed.online(), &[bed.reversal(position)]));
    let bulk = engine.submit(request(bed.bulk(1, 0), &[bed.deposit()]));
    gate.open();
    assert!(stops.wait().is_err() && bulk.wait().is_err(), "unknown: never done, never failed");
    // What was on its way to the disk is answered all the same.
    let response = written.wait().expect("the writer goes on");
    bed.heard(&sent[1..], &response);
    ended(&engine);
    says_so(engine.stop().err(), "the core stopped on a broken invariant");
    bed.disk.change(|image| {
        let id = image.find(&segment(0)).expect("there");
        image.file_mut(id).decay(block(position), right);
    });
    bed.disk.crash(Loss::Process);
    bed.is_whole();
}

fn block(position: u64) -> usize {
    (position / 64) as usize
}

fn flood() {
    let (mut bed, engine) = running();
    let gate = Gate::closed(&bed.disk);
    let first = [bed.deposit()];
    let held = engine.submit(request(bed.online(), &first));
    gate.reached();
    // The core takes one out of the lane at most: it begins none while something is on its way.
    let sent: Vec<_> = (0..BULK_MAX + 8).map(|_| [bed.deposit()]).collect();
    let tickets: Vec<_> =
        sent.iter().zip(0..).map(|(sent, job)| engine.submit(request(bed.bulk(job, 0), sent))).collect();
    gate.open();
    let response = held.wait().expect("answered");
    bed.heard(&first, &response);
    let mut refused = 0;
    for (sent, ticket) in sent.iter().zip(tickets) {
        let response = ticket.wait().expect("answered");
        match response.replies[0].code {
            Code::Done => bed.heard_of_job(sent, &response),
            code => {
                assert_eq!(code, Code::Overloaded);
                refused += 1;
            }
        }
    }
    assert!((7..=8).contains(&refused), "{refused} were refused");
    engine.stop().expect("stopped");
    bed.is_whole();
}

fn taken_away() {
    let (mut bed, mut bank) = BankBed::founded();
    let sent = [bed.deposit()];
    bed.does(&mut bank, &sent);
    bed.fill(&mut bank, super::bank::SEGMENT_BLOCKS - 1);
    bed.fill(&mut bank, 2);
    bank.stop().expect("stopped");
    let engine = run(&bed.disk);
    let before = bed.disk.image();
    bed.disk.change(|image| assert!(image.remove(&segment(0))));
    let again = engine.submit(request(bed.online(), &sent));
    assert!(again.wait().is_err(), "unknown: never done, never failed");
    ended(&engine);
    says_so(engine.stop().err(), segment(0).to_str().expect("plain"));
    bed.disk.set_image(before);
    bed.is_whole();
}

fn forged_away() {
    let (mut bed, engine) = running();
    let sent = [bed.deposit()];
    let position = does(&mut bed, &engine, &sent);
    let before = bed.disk.image();
    bed.disk.change(|image| {
        spoil(image, &segment(0), block(position), |block| {
            // A record of no entries, and its check is right.
            block[3 * UNIT..].fill(0);
            let check = crc32c::crc32c(&block[4..]);
            block[..4].copy_from_slice(&check.to_le_bytes());
        });
    });
    let again = engine.submit(request(bed.online(), &sent));
    assert!(again.wait().is_err(), "unknown: never done, never failed");
    ended(&engine);
    says_so(engine.stop().err(), &format!("no entry begins at position {position}"));
    bed.disk.set_image(before);
    bed.is_whole();
}
