//! Snapshots that are not what they should be, and a folded copy that is shown what does not follow.

use super::Attack;
use super::bank::{BankBed, DATA, SEGMENT_BLOCKS, answer, config, folder, request, segment, start};
use crate::disk::image::{BLOCK, Loss};
use crate::disk::{Access, Fault, SimDisk};
use crate::sent::Sent;
use pabal_bank::ledger::Code;
use pabal_core::BankMachine;
use pabal_engine::fold::NotTaken;
use pabal_engine::snapshot::{KEPT, RESERVE_SEGMENTS, SNAPSHOTS};
use pabal_engine::{EngineConfig, Fold, Machine, Stepper};
use pabal_fault::Point;
use pabal_journal::{Disk, Reader, Record, RecordHeader, UNIT};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zerocopy::IntoBytes;

pub const ATTACKS: &[Attack] = &[
    Attack {
        name: "a snapshot that rotted",
        points: &[Point::SnapshotTitle, Point::SnapshotRotten, Point::SnapshotUnfit],
        run: rotted,
    },
    Attack {
        name: "a snapshot that was cut short",
        points: &[Point::SnapshotShort, Point::SnapshotRead],
        run: cut_short,
    },
    Attack {
        name: "a snapshot of what the journal does not have",
        points: &[Point::FindOther, Point::SnapshotUnfit],
        run: foreign,
    },
    Attack {
        name: "a snapshot whose state was forged",
        points: &[Point::SnapshotForm, Point::SnapshotDigest],
        run: forged,
    },
    Attack { name: "two who make a snapshot", points: &[Point::SnapshotLocked], run: two },
    Attack { name: "a making that fails at each step", points: &[Point::SnapshotLeft], run: fails },
    Attack { name: "a making that dies at each step", points: &[], run: dies },
    Attack { name: "a making on a disk that is full", points: &[Point::SnapshotReserve], run: full },
    Attack { name: "a making beside a bank whose disk is nearly full", points: &[], run: beside },
    Attack {
        name: "snapshots of a journal that was put back from an older copy",
        points: &[Point::SnapshotStale],
        run: put_back,
    },
    Attack { name: "snapshots whose folder cannot be read", points: &[Point::SnapshotNames], run: no_names },
    Attack { name: "snapshots of other names", points: &[], run: renamed },
    Attack { name: "what is wrong after a snapshot", points: &[Point::ScanTorn], run: after },
    Attack { name: "the first record of another journal", points: &[Point::FoldOther], run: other_journal },
    Attack { name: "rot before a snapshot", points: &[], run: rot_before },
    Attack {
        name: "records that do not follow",
        points: &[Point::FoldOther, Point::FoldReplay],
        run: follows,
    },
    Attack {
        name: "blocks that are no record",
        points: &[Point::CheckedLength, Point::CheckedBlock, Point::CheckedHeader, Point::CheckedEntries],
        run: no_record,
    },
];

fn folded(disk: &SimDisk) -> Fold<BankMachine> {
    Fold::open(Arc::new(disk.clone()), Path::new(DATA), BankMachine::default(), &mut |_| {}).expect("folded")
}

/// The record after which the bank of this disk begins when it is started, and its digest then.
fn begins(disk: &SimDisk) -> (Option<u64>, [u8; 16]) {
    let copy = SimDisk::with(disk.image(), 1);
    let found = Stepper::start(Path::new(DATA), BankMachine::default(), config(&copy), &mut |_| {});
    let (bank, recovery) = found.expect("it opens");
    let mut machine = bank.stop().expect("stopped");
    (recovery.snapshot, machine.digest())
}

/// A bank with two snapshots, stopped: the records after which they are the state.
fn with_snapshots() -> (BankBed, u64, u64) {
    let (mut bed, mut bank) = BankBed::founded();
    let mut made = [0; 2];
    for made in &mut made {
        let hold = bed.hold(60_000);
        let paid = bed.deposit();
        bed.does(&mut bank, &[hold, paid]);
        bank.stop().expect("stopped");
        *made = folded(&bed.disk).snapshot().expect("made").expect("something is new").sequence;
        bank = start(&bed.disk).expect("opened");
    }
    let last = bed.deposit();
    bed.does(&mut bank, &[last]);
    bank.stop().expect("stopped");
    assert!(made[0] < made[1]);
    assert_eq!(begins(&bed.disk).0, Some(made[1]));
    (bed, made[0], made[1])
}

fn files(disk: &SimDisk) -> Vec<PathBuf> {
    let folder = Path::new(DATA).join(SNAPSHOTS);
    let mut names = disk.names(&folder).expect("a folder");
    names.sort();
    names.into_iter().map(|name| folder.join(name)).collect()
}

fn bytes(disk: &SimDisk, path: &Path) -> Vec<u8> {
    let file = disk.open(path).expect("there");
    let mut bytes = vec![0; file.length().expect("known") as usize];
    file.read(&mut bytes, 0).expect("read");
    bytes
}

fn put(disk: &SimDisk, path: &Path, bytes: &[u8]) {
    if disk.open(path).is_ok() {
        disk.remove(path).expect("removed");
    }
    let file = disk.open_to_write(path, pabal_journal::disk::Writing { new: true, direct: false });
    let file = file.expect("made");
    file.write(bytes, 0).expect("written");
    file.sync_all().expect("durable");
}

/// Whatever was done to the newest one: the older one is taken, and the state is the same. None of either: everything is
/// replayed.
fn is_passed_over(bed: &BankBed, older: u64, newest: &Path, spoiled: &[u8]) {
    let (whole, right) = (bytes(&bed.disk, newest), begins(&bed.disk).1);
    put(&bed.disk, newest, spoiled);
    assert_eq!(begins(&bed.disk), (Some(older), right));
    put(&bed.disk, newest, &whole);
}

fn rotted() {
    let (bed, older, _) = with_snapshots();
    let newest = files(&bed.disk).pop().expect("one");
    let whole = bytes(&bed.disk, &newest);
    for at in (0..128).chain((BLOCK..end(&whole)).step_by(3)) {
        let mut spoiled = whole.clone();
        spoiled[at] ^= 1 << (at % 8);
        is_passed_over(&bed, older, &newest, &spoiled);
    }
    bed.is_whole();
}

fn cut_short() {
    let (bed, older, _) = with_snapshots();
    let newest = files(&bed.disk).pop().expect("one");
    let whole = bytes(&bed.disk, &newest);
    for length in (0..whole.len()).step_by(BLOCK) {
        is_passed_over(&bed, older, &newest, &whole[..length]);
    }
    // Said to be longer than it is.
    let mut longer = whole.clone();
    longer[80..88].copy_from_slice(&(1u64 << 20).to_le_bytes());
    is_passed_over(&bed, older, &newest, &with_title(longer));
    // Nor one that the disk does not give: at each of the first accesses of a start, in turn.
    let right = begins(&bed.disk).1;
    let mut passed_over = 0;
    for nth in 0..20 {
        let copy = SimDisk::with(bed.disk.image(), 1);
        copy.arm(nth, Fault::Fails);
        let found = Stepper::start(Path::new(DATA), BankMachine::default(), config(&copy), &mut |_| {});
        if let Ok((bank, recovery)) = found {
            passed_over += u64::from(recovery.snapshot != begins(&bed.disk).0);
            copy.disarm();
            assert_eq!(bank.stop().expect("stopped").digest(), right);
        }
    }
    assert!(passed_over > 2, "{passed_over} starts went on without the newest");
    bed.is_whole();
}

fn foreign() {
    let (bed, older, newer) = with_snapshots();
    let right = begins(&bed.disk).1;
    // Of a journal that was put back from an older copy the newest one is of what is not there any more.
    let (mut other, mut bank) = BankBed::founded();
    let paid = other.deposit();
    other.does(&mut bank, &[paid]);
    bank.stop().expect("stopped");
    let its = begins(&other.disk).1;
    let folder = Path::new(DATA).join(SNAPSHOTS);
    other.disk.make_folder(&folder).expect("made");
    for file in files(&bed.disk) {
        put(&other.disk, &file, &bytes(&bed.disk, &file));
    }
    assert_eq!(begins(&other.disk), (None, its), "everything was replayed");
    // A title that names another record, its check put right.
    let newest = files(&bed.disk).pop().expect("one");
    let whole = bytes(&bed.disk, &newest);
    for (at, value) in
        [(8, older), (8, newer + 1), (8, u64::MAX), (16, 1), (16, 0), (16, u64::MAX >> 8), (32, 7)]
    {
        let mut spoiled = whole.clone();
        spoiled[at..at + 8].copy_from_slice(&value.to_le_bytes());
        is_passed_over(&bed, older, &newest, &with_title(spoiled));
    }
    assert_eq!(begins(&bed.disk), (Some(newer), right));
    bed.is_whole();
}

/// Puts the title's check right.
fn with_title(mut bytes: Vec<u8>) -> Vec<u8> {
    let check = u64::from(crc32c::crc32c(&bytes[..120]));
    bytes[120..128].copy_from_slice(&check.to_le_bytes());
    bytes
}

/// Where the state ends that the only piece has.
fn end(bytes: &[u8]) -> usize {
    BLOCK + u64::from_le_bytes(bytes[80..88].try_into().expect("eight bytes")) as usize
}

/// Puts the check of the only piece right.
fn with_check(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = end(&bytes);
    let check = crc32c::crc32c(&bytes[BLOCK..end]);
    bytes[end..end + 4].copy_from_slice(&check.to_le_bytes());
    bytes
}

fn forged() {
    let (bed, older, _) = with_snapshots();
    let newest = files(&bed.disk).pop().expect("one");
    let whole = bytes(&bed.disk, &newest);
    // Each word of the state, made another in several ways.
    for at in (BLOCK..end(&whole)).step_by(8) {
        for change in [1u64, 1 << 40, u64::MAX] {
            let mut spoiled = whole.clone();
            let word = u64::from_le_bytes(spoiled[at..at + 8].try_into().expect("eight bytes"));
            spoiled[at..at + 8].copy_from_slice(&(word ^ change).to_le_bytes());
            is_passed_over(&bed, older, &newest, &with_check(spoiled));
        }
    }
    // A state that is longer than it is said to be.
    let mut longer = whole.clone();
    let length = (end(&whole) - BLOCK) as u64;
    longer[80..88].copy_from_slice(&(length + 8).to_le_bytes());
    longer[end(&whole)..][..16].fill(0);
    is_passed_over(&bed, older, &newest, &with_check(with_title(longer)));
    bed.is_whole();
}

fn two() {
    let (bed, ..) = with_snapshots();
    let lock = bed.disk.lock(&Path::new(DATA).join(SNAPSHOTS), false).expect("tried").expect("nobody has it");
    let refused = folded(&bed.disk).snapshot().expect_err("another makes one");
    assert!(refused.to_string().contains("another process"), "{refused}");
    drop(lock);
    folded(&bed.disk).snapshot().expect("made").expect("something is new");
    assert_eq!(files(&bed.disk).len(), KEPT, "older ones go");
}

/// Whatever fails: what is met afterwards is whole, and the next making succeeds.
fn fails() {
    let (bed, _, newer) = with_snapshots();
    let right = begins(&bed.disk).1;
    let last = folded(&bed.disk).sequence();
    let mut failed = 0;
    for nth in 0.. {
        let copy = SimDisk::with(bed.disk.image(), nth);
        let fold = folded(&copy);
        copy.arm(nth, Fault::Fails);
        let made = fold.snapshot();
        let done = made.is_ok();
        failed += u64::from(!done);
        copy.disarm();
        for loss in [Loss::Process, Loss::Power] {
            let disk = SimDisk::with(copy.image(), nth);
            disk.crash(loss);
            let (from, digest) = begins(&disk);
            assert!(from == Some(newer) || from == Some(last), "{from:?} of {newer} and {last}");
            assert_eq!(digest, right);
            if from == Some(newer) {
                assert!(!done, "what was made is there");
                folded(&disk).snapshot().expect("made now").expect("something is new");
                assert_eq!(begins(&disk).0, Some(last));
            }
        }
        if done {
            break;
        }
    }
    assert!(failed > 3, "{failed} steps failed");
    // And what is left of one stays, where the disk does not even let it go.
    let fold = folded(&bed.disk);
    bed.disk.set_free(Some(RESERVE_SEGMENTS as usize * SEGMENT_BLOCKS as usize + 1));
    bed.disk.arm_next(Access::Remove, Fault::Fails);
    assert!(fold.snapshot().is_err(), "no room");
    assert_eq!(files(&bed.disk).len(), KEPT + 1);
    assert_eq!(begins(&bed.disk), (Some(newer), right));
    bed.disk.set_free(None);
    fold.snapshot().expect("made now").expect("something is new");
    assert_eq!((begins(&bed.disk).0, files(&bed.disk).len()), (Some(last), KEPT));
    bed.is_whole();
}

/// Whoever makes one dies in it, and the machine or only the process is gone: the old ones or the new one are there, and
/// the next making succeeds.
fn dies() {
    let (bed, _, newer) = with_snapshots();
    let right = begins(&bed.disk).1;
    let last = folded(&bed.disk).sequence();
    let mut found = [0; 2];
    for (fault, loss) in [Fault::Dies, Fault::DiesAfter]
        .into_iter()
        .flat_map(|fault| [Loss::Process, Loss::Power, Loss::PowerTorn].map(|loss| (fault, loss)))
    {
        for nth in 0.. {
            let disk = SimDisk::with(bed.disk.image(), nth);
            let fold = folded(&disk);
            disk.arm(nth, fault);
            let died = catch_unwind(AssertUnwindSafe(|| fold.snapshot().expect("nothing fails")));
            disk.crash(loss);
            let (from, digest) = begins(&disk);
            assert!(
                from == Some(newer) || from == Some(last),
                "access {nth}: {from:?} of {newer} and {last}"
            );
            assert_eq!(digest, right);
            found[usize::from(from == Some(last))] += 1;
            let again = folded(&disk);
            if from == Some(newer) {
                again.snapshot().expect("made now").expect("something is new");
            }
            assert_eq!(begins(&disk), (Some(last), right));
            let kept = files(&disk);
            assert!(kept.iter().all(|path| path.extension().is_some_and(|e| e == "snap")), "{kept:?}");
            if died.is_ok() {
                break;
            }
        }
    }
    assert!(found.iter().all(|found| *found > 10), "{found:?}");
    bed.is_whole();
}

/// Nothing is left of one that found no space, and none takes what is the journal's: it may be all that that still has.
fn full() {
    let (bed, _, newer) = with_snapshots();
    let right = begins(&bed.disk);
    let reserve = RESERVE_SEGMENTS as usize * SEGMENT_BLOCKS as usize;
    let (mut refused, mut made) = (0, 0);
    for free in (0..8).chain([reserve - 1]).chain(reserve..reserve + 12) {
        let disk = SimDisk::with(bed.disk.image(), free as u64);
        let (fold, before, used) = (folded(&disk), files(&disk), disk.image().used());
        disk.set_free(Some(free));
        if let Err(error) = fold.snapshot() {
            refused += 1;
            assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
            assert_eq!((files(&disk), disk.image().used()), (before, used));
            assert_eq!((begins(&disk), right.0), (right, Some(newer)));
            disk.set_free(None);
            fold.snapshot().expect("made now").expect("something is new");
        } else {
            made += 1;
            // It replaces one that is as long, or it leaves the reserve.
            assert!(free > reserve, "{free} of {reserve}");
        }
        assert_eq!(begins(&disk), (Some(fold.sequence()), right.1));
    }
    assert!(refused > 9 && made > 3, "{refused} refused, {made} made");
    bed.is_whole();
}

/// A bank on a nearly full disk goes on for as long when someone tries to make snapshots beside it.
fn beside() {
    let requests = |with_snapshots: bool| {
        let (mut bed, mut bank) = BankBed::founded();
        bed.disk.set_free(Some(RESERVE_SEGMENTS as usize * SEGMENT_BLOCKS as usize + 1));
        for done in 0..10_000 {
            if with_snapshots {
                let _ = folded(&bed.disk).snapshot();
            }
            let paid = bed.deposit();
            if bed.ask(&mut bank, &[paid]).expect("it runs")[0].code == Code::DiskFull {
                return done;
            }
        }
        panic!("the disk is bounded");
    };
    let without = requests(false);
    assert!(without > 10, "{without} requests");
    assert_eq!(requests(true), without);
}

/// Snapshots of records that the journal has no more are not kept instead of those of records that it has.
fn put_back() {
    let (mut bed, ..) = with_snapshots();
    for _ in 0..KEPT {
        // Further on than the other journal will come.
        let mut bank = start(&bed.disk).expect("opened");
        for _ in 0..20 {
            let paid = bed.deposit();
            bed.does(&mut bank, &[paid]);
        }
        bank.stop().expect("stopped");
        folded(&bed.disk).snapshot().expect("made").expect("something is new");
    }
    let (mut other, mut bank) = BankBed::founded();
    for file in files(&bed.disk) {
        put(&other.disk, &file, &bytes(&bed.disk, &file));
    }
    for _ in 0..3 {
        let paid = other.deposit();
        other.does(&mut bank, &[paid]);
        bank.stop().expect("stopped");
        let right = begins(&other.disk).1;
        let made = folded(&other.disk).snapshot().expect("made").expect("something is new");
        assert_eq!(begins(&other.disk), (Some(made.sequence), right), "it is kept");
        assert_eq!(files(&other.disk).len(), KEPT);
        bank = start(&other.disk).expect("opened");
    }
    drop(bank);
    let strange = files(&bed.disk);
    assert!(
        files(&other.disk).iter().all(|file| !strange.contains(file)),
        "those of another journal are gone"
    );
}

fn no_names() {
    let (bed, ..) = with_snapshots();
    let right = begins(&bed.disk).1;
    let disk = SimDisk::with(bed.disk.image(), 1);
    disk.arm_next(Access::Names, Fault::Fails);
    let (bank, recovery) =
        Stepper::start(Path::new(DATA), BankMachine::default(), config(&disk), &mut |_| {})
            .expect("everything is replayed");
    assert_eq!(recovery.snapshot, None);
    assert_eq!(bank.stop().expect("stopped").digest(), right);
}

/// One under another name than its own is none.
fn renamed() {
    let (bed, _, newer) = with_snapshots();
    let right = begins(&bed.disk).1;
    let all = files(&bed.disk);
    let [first, second] = &all[..] else { panic!("two are kept: {all:?}") };
    let folder = Path::new(DATA).join(SNAPSHOTS);
    for name in [
        "999999999999-00.snap",
        "18446744073709551615-.snap",
        "0.snap",
        "18446744073709551616-00.snap",
        "-1-00.snap",
        "snapshot.snap",
        ".snap",
        "000000000009.tmp",
        "notes.txt",
    ] {
        let disk = SimDisk::with(bed.disk.image(), 1);
        disk.rename(first, &folder.join(name)).expect("renamed");
        assert_eq!(begins(&disk), (Some(newer), right), "{name}");
        // The newest one under another's name, and nothing else.
        disk.remove(second).expect("removed");
        assert_eq!(begins(&disk), (None, right), "{name}");
        let made = folded(&disk).snapshot().expect("made").expect("something is new");
        assert_eq!(begins(&disk), (Some(made.sequence), right), "{name}");
    }
    bed.is_whole();
}

/// From a snapshot on, everything is read as ever: what is torn is cut, what rotted is refused; and a snapshot whose own
/// record rotted is passed over, so that reading everything finds it.
fn after() {
    let (bed, _, newer) = with_snapshots();
    let right = begins(&bed.disk).1;
    let before = bed.disk.image();
    // Where each record begins.
    let reader = Reader::open_on(Arc::new(bed.disk.clone()), &folder()).expect("a reader");
    let mut starts = Vec::new();
    reader
        .scan(&mut |record| {
            starts.push((record.header.sequence, record.start_block));
            Ok(())
        })
        .expect("sound");
    for &(sequence, block) in &starts {
        let rot = |byte: usize| {
            let (number, at) = (block / SEGMENT_BLOCKS, (block % SEGMENT_BLOCKS) as usize);
            bed.disk.change(|image| super::bed::spoil(image, &segment(number), at, |block| block[byte] ^= 1));
        };
        rot(BLOCK / 2);
        let copy = SimDisk::with(bed.disk.image(), 1);
        let opened = Stepper::start(Path::new(DATA), BankMachine::default(), config(&copy), &mut |_| {});
        match opened {
            // What is before the snapshot is not read.
            Ok((_, recovery)) => {
                assert!(sequence < newer && recovery.snapshot == Some(newer), "record {sequence}");
            }
            Err(error) => {
                assert!(sequence >= newer, "record {sequence}: {error}");
                assert!(error.to_string().contains("restore it from a copy"), "{error}");
            }
        }
        bed.disk.set_image(before.clone());
    }
    // A torn record after it.
    let disk = SimDisk::with(before.clone(), 1);
    let mut bank = start(&disk).expect("opened");
    let mut torn = BankBed::on(disk.clone());
    torn.now_ms = bed.now_ms + 10;
    let many: Vec<Sent> = (0..60).map(|_| torn.deposit()).collect();
    let asked = bank.submit(request(torn.online(), &many));
    disk.arm_next(Access::Write, Fault::Dies);
    let died = catch_unwind(AssertUnwindSafe(|| answer(&mut bank, &asked).map(drop)));
    assert!(died.is_err(), "it died in its write");
    drop(bank);
    disk.crash(Loss::Process);
    let (from, digest) = begins(&disk);
    assert_eq!(from, Some(newer));
    assert!(digest == right || begins(&without(&disk)) == (None, digest), "cut, or whole");
    // The snapshot's own record is the last: it is written once more, as ever, and what follows is made blank.
    let last = folded(&bed.disk);
    last.snapshot().expect("made").expect("something is new");
    let mut bank = start(&bed.disk).expect("opened");
    let paid = torn.deposit();
    let reply = torn.does(&mut bank, &[paid])[0];
    assert!(reply.position > 0);
    bank.stop().expect("stopped");
    let (from, digest) = begins(&bed.disk);
    assert_eq!((from, begins(&without(&bed.disk))), (Some(last.sequence()), (None, digest)));
    bed.is_whole();
}

/// The same disk on which nobody made a snapshot.
fn without(disk: &SimDisk) -> SimDisk {
    let copy = SimDisk::with(disk.image(), 1);
    files(disk).iter().for_each(|file| copy.remove(file).expect("removed"));
    copy
}

/// Of a journal in which there is nothing yet, too, only its own record follows.
fn other_journal() {
    let (bed, ..) = with_snapshots();
    let disk = SimDisk::new(1);
    let other = EngineConfig { journal_id: 8, ..config(&disk) };
    drop(Stepper::start(Path::new(DATA), BankMachine::default(), other, &mut |_| {}).expect("made"));
    let mut fold = folded(&disk);
    let all = records(&bed.disk);
    let first = Record::checked(all[0].as_bytes()).expect("a record");
    assert_eq!((first.header.sequence, fold.sequence()), (1, 0));
    assert!(matches!(fold.take(&first), Err(NotTaken::Other { got: 1, at: 0 })));
    assert!(!fold.is_spoiled() && !fold.machine().0.is_founded());
}

/// A start from a snapshot does not read what is before it; whoever reads everything finds it.
fn rot_before() {
    let (bed, _, newer) = with_snapshots();
    let right = begins(&bed.disk).1;
    let before = bed.disk.image();
    bed.disk.change(|image| super::bed::spoil(image, &segment(0), 1, |block| block[BLOCK / 2] ^= 1));
    assert_eq!(begins(&bed.disk), (Some(newer), right));
    let reader = Reader::open_on(Arc::new(bed.disk.clone()), &folder()).expect("a reader");
    assert!(reader.scan(&mut |_| Ok(())).is_err(), "verify finds it");
    bed.disk.set_image(before);
    bed.is_whole();
}

/// The records of this bank's journal, each as its blocks.
fn records(disk: &SimDisk) -> Vec<Vec<u64>> {
    let mut records = Vec::new();
    let reader = Reader::open_on(Arc::new(disk.clone()), &folder()).expect("a reader");
    let mut take = |record: &Record<'_>| {
        let mut words = vec![0u64; record.blocks.len() / 8];
        words.as_mut_bytes().copy_from_slice(record.blocks);
        records.push(words);
        Ok(())
    };
    reader.scan(&mut take).expect("sound");
    records
}

fn follows() {
    let (bed, _, _) = with_snapshots();
    let all = records(&bed.disk);
    // A copy that begins with nothing takes them in order, and no other.
    let (other, bank) = BankBed::founded();
    bank.stop().expect("stopped");
    let mut fold = folded(&other.disk);
    let at = fold.sequence();
    let digest = fold.machine().0.ledger().accounts().len();
    for words in &all {
        let record = Record::checked(words.as_bytes()).expect("a record");
        if record.header.sequence != at + 1 {
            assert!(matches!(fold.take(&record), Err(NotTaken::Other { .. })), "it does not follow");
        }
    }
    assert_eq!(
        (fold.sequence(), fold.machine().0.ledger().accounts().len()),
        (at, digest),
        "nothing changed"
    );
    // One that follows by sequence and is another journal's, and one that says what was not decided.
    let mut own = folded(&bed.disk);
    let next = own.sequence() + 1;
    let forged = |previous: [u8; 32], digest: [u8; 16]| {
        let mut words = all.last().expect("some").clone();
        let bytes = words.as_mut_bytes();
        bytes[64 + 8..64 + 16].copy_from_slice(&next.to_le_bytes());
        bytes[64 + 64..64 + 96].copy_from_slice(&previous);
        bytes[64 + 96..64 + 112].copy_from_slice(&digest);
        let blocks = bytes.len() / BLOCK;
        for block in 0..blocks {
            let block = &mut bytes[block * BLOCK..(block + 1) * BLOCK];
            block[16..24].copy_from_slice(&next.to_le_bytes());
            let check = crc32c::crc32c(&block[4..]);
            block[..4].copy_from_slice(&check.to_le_bytes());
        }
        words
    };
    let last = *Record::checked(all.last().expect("some").as_bytes()).map(|r| r.hash).as_ref().expect("one");
    let strange = forged([7; 32], [0; 16]);
    let strange = Record::checked(strange.as_bytes()).expect("a record");
    assert!(matches!(own.take(&strange), Err(NotTaken::Other { .. })));
    let lies = forged(last, [9; 16]);
    let lies = Record::checked(lies.as_bytes()).expect("a record");
    assert!(matches!(own.take(&lies), Err(NotTaken::Differs(_))));
    assert!(matches!(own.take(&lies), Err(NotTaken::Other { .. } | NotTaken::Spoiled)));
    assert!(own.is_spoiled(), "nothing is answered from it");
    assert!(own.snapshot().expect("not tried").is_none(), "of what is spoiled no snapshot is made");
}

fn no_record() {
    /// Where a record says how many entries it has, where the first begins, and where that says how long it is.
    const COUNT: usize = UNIT + std::mem::offset_of!(RecordHeader, count);
    const FIRST_ENTRY: usize = 3 * UNIT;
    const LENGTH: usize = 5;
    let (bed, ..) = with_snapshots();
    let words = records(&bed.disk).into_iter().find(|words| words.len() > BLOCK / 8).unwrap_or_default();
    let words = if words.is_empty() { records(&bed.disk).remove(0) } else { words };
    let whole = words.as_bytes();
    assert!(Record::checked(whole).is_some());
    assert!(Record::checked(&[]).is_none() && Record::checked(&whole[..BLOCK - 8]).is_none());
    for at in (0..whole.len()).step_by(61) {
        let mut spoiled = words.clone();
        spoiled.as_mut_bytes()[at] ^= 1;
        assert!(Record::checked(spoiled.as_bytes()).is_none(), "byte {at}");
    }
    // The block's check put right: the header another's, more or fewer entries than it says, and one too long.
    for (at, flip) in [(64, 1), (COUNT, 1), (COUNT, 2), (COUNT + 3, 1), (FIRST_ENTRY + LENGTH, 0x80)] {
        let mut spoiled = words.clone();
        let bytes = spoiled.as_mut_bytes();
        bytes[at] ^= flip;
        let check = crc32c::crc32c(&bytes[4..BLOCK]);
        bytes[..4].copy_from_slice(&check.to_le_bytes());
        assert!(Record::checked(spoiled.as_bytes()).is_none(), "byte {at}");
    }
}
