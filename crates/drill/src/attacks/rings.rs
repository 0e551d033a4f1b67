//! The ring, forged: whoever can write to the file may say anything of what was being executed.

use super::Attack;
use super::bank::{BankBed, DATA, answer, request, start};
use crate::disk::image::Loss;
use crate::sent::{Sent, linked};
use pabal_bank::ledger::Code;
use pabal_engine::RequestHeader;
use pabal_fault::Point;
use std::path::Path;
use zerocopy::IntoBytes;

pub const ATTACKS: &[Attack] = &[
    Attack { name: "a length that no request has", points: &[Point::RingLength], run: length },
    Attack { name: "a check that does not hold", points: &[Point::RingCheck], run: check },
    Attack { name: "a cursor where no command begins", points: &[Point::AloneCutShort], run: cursor },
    Attack { name: "a bundle that no record has the room for", points: &[Point::AloneNoRoom], run: no_room },
    Attack { name: "an item that is not let in", points: &[Point::AloneNotAdmitted], run: not_admitted },
    Attack { name: "a suspect whose deadline has passed", points: &[Point::AloneLate], run: late },
    Attack { name: "a command that stopped the core twice", points: &[Point::AloneSetAside], run: set_aside },
    Attack { name: "a suspect on a full disk", points: &[Point::AloneDiskFull], run: full },
];

/// What the ring says.
struct Ring {
    length: u64,
    check: u64,
    cursor: u64,
    crashes: u64,
    body: Vec<u8>,
}

/// A ring that says truly that this was being executed.
fn ring(header: RequestHeader, sent: &[Sent]) -> Ring {
    let header = RequestHeader { count: sent.len() as u32, ..header };
    let mut body = header.as_bytes().to_vec();
    sent.iter().for_each(|sent| body.extend_from_slice(sent.bytes()));
    Ring { length: body.len() as u64, check: crc32c::crc32c(&body).into(), cursor: 0, crashes: 0, body }
}

/// Leaves it where the next start finds it.
fn leave(bed: &BankBed, ring: &Ring) {
    const BODY: usize = 4096;
    bed.disk.change_map(&Path::new(DATA).join("ring"), |bytes| {
        let words = [1, ring.cursor, ring.length, ring.check, ring.crashes];
        bytes[..words.len() * 8].copy_from_slice(words.as_bytes());
        bytes[BODY..BODY + ring.body.len()].copy_from_slice(&ring.body);
    });
}

/// A bank was founded and stopped; the next start finds this ring. What it then tries alone is set aside, or not, and
/// each of the commands hears that when it is sent once more.
fn found(bed: &mut BankBed, ring: &Ring, is_set_aside: bool, sent: &[Sent], hears: &[(Code, bool)]) {
    leave(bed, ring);
    let mut bank = start(&bed.disk).expect("whatever the ring says");
    assert_eq!(bank.try_suspect().expect("it runs"), is_set_aside);
    for (sent, hears) in sent.iter().zip(hears) {
        let reply = bed.ask(&mut bank, std::slice::from_ref(sent)).expect("it runs")[0];
        assert_eq!((reply.code, reply.again), *hears, "{sent:?}");
    }
    bank.stop().expect("stopped");
    bed.is_whole();
}

fn stopped() -> BankBed {
    let (bed, bank) = BankBed::founded();
    bank.stop().expect("stopped");
    bed
}

const NEW: (Code, bool) = (Code::Done, false);
const AGAIN: (Code, bool) = (Code::Done, true);

fn length() {
    for length in [0, 63, 64 + (1 << 20) + 1, 1 << 40, u64::MAX] {
        let mut bed = stopped();
        let sent = [bed.deposit()];
        let ring = Ring { length, ..ring(bed.online(), &sent) };
        found(&mut bed, &ring, false, &sent, &[NEW]);
    }
}

fn check() {
    let mut bed = stopped();
    let sent = [bed.deposit()];
    let mut ring = ring(bed.online(), &sent);
    ring.body[70] ^= 1;
    found(&mut bed, &ring, false, &sent, &[NEW]);
}

fn cursor() {
    // What was sent truly is done, once; it is not the suspect, so nothing is set aside.
    for cursor in [8, 192, u64::MAX] {
        let mut bed = stopped();
        let sent = [bed.deposit(), bed.deposit()];
        let ring = Ring { cursor, crashes: 5, ..ring(bed.online(), &sent) };
        found(&mut bed, &ring, false, &sent, &[AGAIN, AGAIN]);
    }
    // No commands at all.
    for body in [vec![0; 64], vec![0xff; 64], vec![0xff; 64 + 96]] {
        let mut bed = stopped();
        let (length, check) = (body.len() as u64, crc32c::crc32c(&body).into());
        found(&mut bed, &Ring { length, check, cursor: 1, crashes: u64::MAX, body }, false, &[], &[]);
    }
}

fn no_room() {
    let mut bed = stopped();
    let sent = linked((0..400).map(|_| bed.deposit()).collect());
    let ring = Ring { crashes: 5, ..ring(bed.online(), &sent) };
    let alone = [sent[399].clone()];
    found(&mut bed, &ring, false, &alone, &[NEW]);
}

fn not_admitted() {
    let mut bed = stopped();
    let sent = [bed.deposit()];
    let ring = ring(bed.bulk(3, 7), &sent);
    found(&mut bed, &ring, false, &sent, &[NEW]);
}

/// A later try may have heard `deadline_passed`, which says that no earlier one is done: none is.
fn late() {
    let mut bed = stopped();
    let sent = [bed.deposit()];
    let header = RequestHeader { deadline_ms: bed.now_ms - 1, ..bed.online() };
    let ring = ring(header, &sent);
    found(&mut bed, &ring, false, &sent, &[NEW]);
}

fn set_aside() {
    let mut bed = stopped();
    let sent = [bed.deposit(), bed.deposit()];
    let ring = Ring { cursor: 96, crashes: 1, ..ring(bed.online(), &sent) };
    found(&mut bed, &ring, true, &sent, &[AGAIN, (Code::Quarantined, true)]);
}

fn full() {
    let (mut bed, mut bank) = BankBed::founded();
    bed.disk.set_free(Some(0));
    let refused = loop {
        let sent = bed.deposit();
        let reply = bed.ask(&mut bank, std::slice::from_ref(&sent)).expect("it runs")[0];
        if reply.code == Code::DiskFull {
            break sent;
        }
    };
    drop(bank);
    bed.disk.crash(Loss::Process);
    leave(&bed, &ring(bed.online(), std::slice::from_ref(&refused)));
    let mut bank = start(&bed.disk).expect("a full disk is no reason");
    assert!(!bank.try_suspect().expect("it runs"));
    let ticket = bank.submit(request(bed.online(), std::slice::from_ref(&refused)));
    let response = answer(&mut bank, &ticket).expect("it runs").expect("answered");
    assert_eq!(response.replies[0].code, Code::DiskFull, "it was not done, and its id is good");
    drop(bank);
    // With room again it is tried, as long as nothing else has been.
    bed.disk.set_free(None);
    let mut bank = start(&bed.disk).expect("started");
    assert!(!bank.try_suspect().expect("it runs"));
    let reply = bed.ask(&mut bank, &[refused]).expect("it runs")[0];
    assert_eq!((reply.code, reply.again), AGAIN, "the ring kept it");
    bank.stop().expect("stopped");
    bed.is_whole();
}
