//! Golden bytes of encoding version 1, and what is refused as malformed.
//!
//! The bytes of a version never change: journals hold them. A test here that fails says that old journals
//! can no longer be read or replayed. Take the next version number; never mend the bytes.

use crate::sink::{KRW, START_DATE, START_MS, Teller};
use pabal_bank::command::{self, RECORD_BYTES_MAX};
use pabal_bank::ledger::account::UNLIMITED;
use pabal_bank::ledger::{Class, Code, Command, Date, Id, Kind, Op, Status};
use pabal_bank::{Context, Reply};
use pabal_drill::sent::Sent;

const ID: Id = Id::new(0x0123_4567_89ab, 0xcde, 0x0f1e_2d3c_4b5a_6978);
const TARGET: Id = Id::new(0x0fed_cba9_8765, 0x321, 0x8091_a2b3_c4d5_e6f7);

fn hex(bytes: &[u8]) -> String {
    // Words of eight bytes, a space between: as the fields stand.
    let words = bytes.chunks(8).map(|word| word.iter().map(|b| format!("{b:02x}")).collect::<String>());
    words.collect::<Vec<_>>().join(" ")
}

fn every_command() -> Vec<(&'static str, Sent)> {
    let post = command::post(ID, Kind::Transfer, 0x1122_3344_5566_7788, 2, 12_345, KRW);
    let dated = Command {
        nominal_date: Date(20_000),
        value_date: Date(20_001),
        reference: *b"sixteen letters!",
        ..post
    };
    vec![
        ("found", command::found(ID, 1 << 20, 0x0102_0304_0506_0708, 2, Date(20_833)).into()),
        ("open", command::open(ID, 77, Class::CustomerDeposit, KRW, 1234, 5000).into()),
        ("ceiling", command::with_ceiling(command::open(ID, 77, Class::Cash, KRW, 0, UNLIMITED), 9).into()),
        ("change", command::change(ID, 77, Some(1), Some(2), Some(Status::DEBIT_BLOCKED)).into()),
        ("change status", command::change(ID, 77, None, None, Some(Status(3))).into()),
        ("close", command::close(ID, 77).into()),
        ("post", post.into()),
        ("post with dates", dated.into()),
        ("hold", command::hold(post, Some(1_800_000_000_000)).into()),
        ("hold backed", command::hold(post, None).into()),
        ("post hold", command::post_hold(ID, TARGET, 5, true).into()),
        ("void hold", command::void_hold(ID, TARGET).into()),
        ("expire holds", command::expire_holds(ID, 1000).into()),
        ("reverse", command::reverse(ID, 0x1234_5678, -1).into()),
        ("advance date", command::advance_date(ID, Date(65_535)).into()),
        ("activate rules", command::activate_rules(ID, 2).into()),
        (
            "keep record",
            Sent::new(&command::keep_record(ID, 3, 4, b"a record of 33 bytes, not of 32 b").expect("short")),
        ),
        ("end job", command::end_job(ID, TARGET).into()),
    ]
}

const GOLDEN: &[(&str, &str)] = &[
    (
        "found",
        "0100010300000000 de7cab8967452301 5e9ad6124f8bc783 0000000000000000 \
         0000000000000000 0000100000000000 0000000000000000 0000000000000000 \
         0200000000000000 0807060504030201 0000000000000000 0000000000006151",
    ),
    (
        "open",
        "0200010300000000 de7cab8967452301 5e9ad6124f8bc783 4d00000000000000 \
         d204000000000000 8813000000000000 0000000000000000 0000000000000000 \
         ffffffffffffff7f 0000000000000000 0000000000000000 9a01010000000000",
    ),
    (
        "ceiling",
        "0200010300000000 de7cab8967452301 5e9ad6124f8bc783 4d00000000000000 \
         0000000000000000 ffffffffffffff7f 0000000000000000 0000000000000000 \
         0900000000000000 0000000000000000 0000000000000000 9a01020000000000",
    ),
    (
        "change",
        "0300010300000000 de7cab8967452301 5e9ad6124f8bc783 4d00000000000000 \
         0000000000000000 0100000000000000 0000000000000000 0000000000000000 \
         0200000000000000 0100000000000000 0000000000000000 0000070000000000",
    ),
    (
        "change status",
        "0300010300000000 de7cab8967452301 5e9ad6124f8bc783 4d00000000000000 \
         0000000000000000 0000000000000000 0000000000000000 0000000000000000 \
         0000000000000000 0300000000000000 0000000000000000 0000040000000000",
    ),
    (
        "close",
        "0400010300000000 de7cab8967452301 5e9ad6124f8bc783 4d00000000000000 \
         0000000000000000 0000000000000000 0000000000000000 0000000000000000 \
         0000000000000000 0000000000000000 0000000000000000 0000000000000000",
    ),
    (
        "post",
        "0500010300000000 de7cab8967452301 5e9ad6124f8bc783 8877665544332211 \
         0200000000000000 3930000000000000 0000000000000000 0000000000000000 \
         0000000000000000 0000000000000000 0000000000000000 9a01010000000000",
    ),
    (
        "post with dates",
        "0500010300000000 de7cab8967452301 5e9ad6124f8bc783 8877665544332211 \
         0200000000000000 3930000000000000 7369787465656e20 6c65747465727321 \
         0000000000000000 0000000000000000 0000000000000000 9a010100204e214e",
    ),
    (
        "hold",
        "0600010300000000 de7cab8967452301 5e9ad6124f8bc783 8877665544332211 \
         0200000000000000 3930000000000000 0000000000000000 0000000000000000 \
         0000000000000000 0000000000000000 00505c18a3010000 9a01010000000000",
    ),
    (
        "hold backed",
        "0600010302000000 de7cab8967452301 5e9ad6124f8bc783 8877665544332211 \
         0200000000000000 3930000000000000 0000000000000000 0000000000000000 \
         0000000000000000 0000000000000000 0000000000000000 9a01010000000000",
    ),
    (
        "post hold",
        "0700010304000000 de7cab8967452301 5e9ad6124f8bc783 0000000000000000 \
         0000000000000000 0500000000000000 0000000000000000 0000000000000000 \
         21736587a9cbed0f bd7935f1ac6824a0 0000000000000000 0000000000000000",
    ),
    (
        "void hold",
        "0800010300000000 de7cab8967452301 5e9ad6124f8bc783 0000000000000000 \
         0000000000000000 0000000000000000 0000000000000000 0000000000000000 \
         21736587a9cbed0f bd7935f1ac6824a0 0000000000000000 0000000000000000",
    ),
    (
        "expire holds",
        "0900010300000000 de7cab8967452301 5e9ad6124f8bc783 0000000000000000 \
         0000000000000000 e803000000000000 0000000000000000 0000000000000000 \
         0000000000000000 0000000000000000 0000000000000000 0000000000000000",
    ),
    (
        "reverse",
        "0a00010300000000 de7cab8967452301 5e9ad6124f8bc783 0000000000000000 \
         0000000000000000 ffffffffffffffff 0000000000000000 0000000000000000 \
         0000000000000000 7856341200000000 0000000000000000 0000000000000000",
    ),
    (
        "advance date",
        "0b00010300000000 de7cab8967452301 5e9ad6124f8bc783 0000000000000000 \
         0000000000000000 0000000000000000 0000000000000000 0000000000000000 \
         0000000000000000 0000000000000000 0000000000000000 000000000000ffff",
    ),
    (
        "activate rules",
        "0c00010300000000 de7cab8967452301 5e9ad6124f8bc783 0000000000000000 \
         0000000000000000 0200000000000000 0000000000000000 0000000000000000 \
         0000000000000000 0000000000000000 0000000000000000 0000000000000000",
    ),
    (
        "keep record",
        "0d00010500000000 de7cab8967452301 5e9ad6124f8bc783 0000000000000000 \
         0000000000000000 2100000000000000 0000000000000000 0000000000000000 \
         0000000000000000 0400000000000000 0000000000000000 0000030000000000 \
         61207265636f7264 206f662033332062 797465732c206e6f 74206f6620333220 \
         6200000000000000 0000000000000000 0000000000000000 0000000000000000",
    ),
    (
        "end job",
        "0e00010300000000 de7cab8967452301 5e9ad6124f8bc783 0000000000000000 \
         0000000000000000 0000000000000000 0000000000000000 0000000000000000 \
         21736587a9cbed0f bd7935f1ac6824a0 0000000000000000 0000000000000000",
    ),
];

#[test]
fn commands_of_version_1_are_these_bytes() {
    let found: Vec<_> = every_command().into_iter().map(|(name, sent)| (name, hex(sent.bytes()))).collect();
    let golden: Vec<_> = GOLDEN.iter().map(|(name, bytes)| (*name, bytes.to_string())).collect();
    assert_eq!(found, golden);
    // Every op that can be sent is there.
    for op in Op::ALL.iter().filter(|op| **op != Op::HoldReleased) {
        assert!(every_command().iter().any(|(_, sent)| sent.command().header.op == *op as u16), "{op:?}");
    }
    for (name, sent) in every_command() {
        assert!(command::read(sent.bytes()).is_ok(), "{name}");
        assert_eq!(command::length(sent.bytes()), Some(sent.bytes().len()), "{name}");
    }
}

const GOLDEN_POST: &str = "0500010300030100 337300505c18a301 0d00000000000080 0100000000000000 \
     0200000000000000 9001000000000000 0000000000000000 0000000000000000 \
     0000000000000000 0000000000000000 0000000000000000 9a01010000000000 \
     615101009a010000 0100000000000000 18fcffffffffffff 1000000000000000 \
     1000000000000000 0200000000000000 e803000000000000 1000000000000000 \
     1000000000000000 9001000000000000 0000000000000000 0000000000000000";

#[test]
fn the_entry_of_a_posting_of_version_1_is_these_bytes() {
    let mut teller = Teller::founded(100, 2);
    for (number, overdraft) in [(1, 1000), (2, 0)] {
        let id = Id::new(START_MS, 0x222, number << 2);
        let open = command::open(id, number, Class::CustomerDeposit, KRW, 0, overdraft);
        assert_eq!(teller.ask(open).code, Code::Done);
    }
    for (n, amount) in [(10, 100), (11, 200), (12, 300), (13, 400)] {
        let id = Id::new(START_MS, 0x333, n << 2);
        assert_eq!(teller.ask(command::post(id, Kind::Transfer, 1, 2, amount, KRW)).code, Code::Done);
    }
    let last = teller.journal.next() - 3;
    let entry = teller.journal.entry_at(last).expect("the newest");
    assert_eq!(entry.len(), 192);
    assert_eq!(hex(entry), GOLDEN_POST);
}

#[test]
fn what_an_entry_holds_of_a_record_is_the_record() {
    for length in [0, 1, 31, 32, 33, 96, 97, 128, 1000, RECORD_BYTES_MAX] {
        let mut teller = Teller::founded(100, 2);
        let record: Vec<u8> = (0..length).map(|i| (i % 251) as u8 + 1).collect();
        let sent = Sent::new(&command::keep_record(teller.id(), 1, 2, &record).expect("short enough"));
        let first = teller.send(std::slice::from_ref(&sent))[0];
        assert_eq!(first.code, Code::Done);
        let entry = teller.journal.entry_at(first.position).expect("it was written");
        assert_eq!(command::record_of(entry), Some(&record[..]));
        assert_eq!(teller.send(std::slice::from_ref(&sent)), [Reply { again: true, ..first }]);
        // Another record under the same id, different in its last byte only.
        if length > 0 {
            let mut bytes = sent.bytes().to_vec();
            bytes[96 + length - 1] ^= 0x80;
            assert_eq!(teller.send(&[Sent::new(&bytes)])[0].code, Code::IdConflict, "length {length}");
        }
    }
    assert_eq!(command::keep_record(ID, 1, 2, &vec![0; RECORD_BYTES_MAX + 1]), None);
}

#[test]
fn malformed_commands_are_refused_and_leave_nothing() {
    let mut teller = Teller::founded(100, 2);
    let good: Sent = command::post(teller.id(), Kind::Transfer, 1, 2, 3, KRW).into();
    let mut bad: Vec<(&str, Sent)> = Vec::new();
    let mut with = |name, change: fn(&mut Command)| bad.push((name, good.with(change)));
    with("version 0", |c| c.header.version = 0);
    with("version 2", |c| c.header.version = 2);
    with("op 0", |c| c.header.op = 0);
    with("op 15", |c| c.header.op = 15);
    with("op 256 + post", |c| c.header.op = 256 + Op::Post as u16);
    with("op hold released", |c| c.header.op = Op::HoldReleased as u16);
    with("length 0", |c| c.header.command_units = 0);
    with("length 2", |c| c.header.command_units = 2);
    with("length 4", |c| c.header.command_units = 4);
    with("code", |c| c.header.code = Code::Done as u16);
    with("entry units", |c| c.header.entry_units = 3);
    with("flag 8", |c| c.header.flags = 8);
    with("flag 16", |c| c.header.flags = 16);
    with("flag 32", |c| c.header.flags = 32);
    with("flag 64", |c| c.header.flags = 64);
    with("flag continuation", |c| c.header.flags = 128);
    with("linked to nothing", |c| c.header.flags = 1);
    with("id of another version", |c| c.id.high ^= 0x3000);
    with("id of another variant", |c| c.id.low &= !(1 << 63));
    with("id zero", |c| c.id = Id::default());

    let record = command::keep_record(teller.id(), 1, 2, &[7; 33]).expect("short");
    let mut with = |name, change: fn(&mut Vec<u8>)| {
        let mut bytes = record.clone();
        change(&mut bytes);
        bad.push((name, Sent::new(&bytes)));
    };
    with("record with padding not zero", |b| b[96 + 33] = 1);
    with("record with its last byte not zero", |b| *b.last_mut().expect("long") = 1);
    with("record shorter than it says", |b| b.truncate(96 + 32));
    with("record longer than it says", |b| b.resize(b.len() + 32, 0));
    with("record of negative length", |b| b[40..48].copy_from_slice(&(-1i64).to_le_bytes()));
    with("record of greatest length", |b| b[40..48].copy_from_slice(&i64::MAX.to_le_bytes()));
    with("record with another length in its header", |b| b[3] += 1);

    bad.push(("shorter", Sent::new(&good.bytes()[..88])));
    bad.push(("longer", Sent::new(&[good.bytes(), &[0; 32]].concat())));
    bad.push(("header only", Sent::new(&good.bytes()[..8])));
    bad.push(("nothing", Sent::new(&[])));

    for n in [0, -1, 1001, i64::MAX, i64::MIN] {
        bad.push(("expiry of too few or many", command::expire_holds(teller.id(), n).into()));
    }
    bad.push(("account 0", command::open(teller.id(), 0, Class::Cash, KRW, 0, 0).into()));
    let open: Sent = command::open(teller.id(), 5, Class::Cash, KRW, 0, 0).into();
    for kind in [0, 13, 255, 256 + Class::Cash as u16, u16::MAX] {
        bad.push(("class that is not", open.with(|c| c.kind = kind)));
    }

    teller.bank.begin(teller.now_ms);
    let (digest, length) = (teller.bank.digest(), teller.journal.next());
    for (name, sent) in &bad {
        for job in [None, Some(ID)] {
            let context = Context { class: 1, job, item: 0 };
            let replies = teller.send_as(&context, std::slice::from_ref(sent), false);
            assert_eq!(replies, [Reply::refused(Code::Malformed)], "{name}");
        }
        // And so is a bundle that holds it.
        let id = teller.id();
        let first: Sent = command::post(id, Kind::Transfer, 1, 2, 3, KRW).into();
        let first = first.with(|c| c.header.flags = 1);
        let replies = teller.send(&[first, sent.clone()]);
        assert!(replies.iter().all(|r| *r == Reply::refused(Code::Malformed)), "{name} in a bundle");
    }
    assert_eq!((teller.bank.digest(), teller.journal.next()), (digest, length), "nothing is left behind");
    assert_eq!(START_DATE, teller.bank.moment().date);
}
