//! A bank that begins from a snapshot is the bank that replayed everything: the same state, the same answers, the same
//! journal from then on, to the byte.

use pabal_bank::ledger::{Class, Code, Date, Id, Kind, Op};
use pabal_bank::{Bank, RULES_CURRENT, command};
use pabal_core::{BankMachine, Query};
use pabal_drill::disk::SimDisk;
use pabal_drill::lives::{DATA, Life, ask, start};
use pabal_drill::sent::Sent;
use pabal_engine::snapshot::SNAPSHOTS;
use pabal_engine::{Fold, Lane, Machine, RequestHeader, Stepper};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Lives that are lived.
const LIVES: u64 = 120;
/// How long an id is known at most.
const WINDOW_MS: u64 = 24 * 60 * 60 * 1000;

fn fold(disk: &SimDisk) -> Fold<BankMachine> {
    let disk = Arc::new(disk.clone());
    Fold::open(disk, Path::new(DATA), BankMachine::default(), &mut |_| {}).expect("folded")
}

fn saved(machine: &BankMachine) -> Vec<u8> {
    let mut bytes = Vec::new();
    machine.save(&mut |more| bytes.extend_from_slice(more));
    bytes
}

/// A file: its name, its length, its blocks.
type Content = (PathBuf, u64, Vec<Option<[u8; 4096]>>);

/// What every file beneath this folder holds, and how long it is.
fn files(disk: &SimDisk, folder: &Path) -> Vec<Content> {
    let image = disk.image();
    let within = image.files().filter(|(path, _)| path.starts_with(folder));
    let content = |file: &pabal_drill::disk::image::FileImage| {
        file.seen.iter().map(|block| block.as_deref().copied()).collect()
    };
    within.map(|(path, file)| (path.to_path_buf(), file.length, content(file))).collect()
}

/// The same disk on which nobody made a snapshot.
fn without_snapshots(disk: &SimDisk) -> SimDisk {
    let copy = SimDisk::with(disk.image(), 1);
    copy.change(|image| {
        let paths: Vec<PathBuf> = image.paths().map(PathBuf::from).collect();
        for path in paths.iter().filter(|path| path.starts_with(Path::new(DATA).join(SNAPSHOTS))) {
            assert!(image.remove(path));
        }
    });
    copy
}

/// Everything that can be asked of both is answered alike.
fn are_alike(one: &Stepper<BankMachine>, other: &Stepper<BankMachine>, what: &str) {
    let (one, other) = (&one.machine().0, &other.machine().0);
    assert_eq!(one.ledger().digest_anew(), other.ledger().digest_anew(), "{what}");
    let accounts = |bank: &Bank| -> Vec<String> {
        let of = |account| format!("{account:?}, {}", bank.ledger().available(account, &bank.moment()));
        // The mark of a batch is no state.
        bank.ledger().accounts().iter().map(of).map(|text| without_mark(&text)).collect()
    };
    assert_eq!(accounts(one), accounts(other), "{what}: accounts");
    assert!(one.jobs().eq(other.jobs()), "{what}: jobs");
    assert!(one.records().eq(other.records()), "{what}: records");
    assert!(one.ledger().holds().iter().eq(other.ledger().holds().iter()), "{what}: holds");
    assert!(one.ledger().reversed().iter().eq(other.ledger().reversed().iter()), "{what}: reversals");
    assert_eq!(one.ids(), other.ids(), "{what}: ids");
}

fn without_mark(account: &str) -> String {
    let (before, after) = account.split_once("touched: ").expect("an account has a mark");
    format!("{before}{}", after.split_once(',').expect("and more after it").1)
}

/// What the lives came to, so that it is known that they had it all.
#[derive(Default, Debug)]
struct Had {
    far: u64,
    holds: u64,
    reversed: u64,
    jobs: u64,
    ended: u64,
    records: u64,
    ids_max: u64,
    ops: BTreeSet<u16>,
    rules: BTreeSet<u32>,
    again: u64,
    too_old: u64,
    /// Of these, ids within their day: the horizon was raised.
    early: u64,
    evicted: u64,
}

fn live(seed: u64, had: &mut Had) {
    let disk = SimDisk::new(seed);
    let mut life = Life::new(seed);
    let (mut bank, _) = start(&disk, RULES_CURRENT);
    for asked in life.founding() {
        let said = ask(&mut bank, &asked);
        life.heard(&asked, &said, &bank);
    }
    let before = life.below(60) as usize;
    life.live(&mut bank, before);
    // Someone folds beside it, follows, and makes a snapshot at any record; the bank goes on.
    let mut copy = fold(&disk);
    let mut follower = bank.follow_from(copy.sequence() + 1).expect("follows");
    let more = life.below(30) as usize;
    life.live(&mut bank, more);
    let upto = copy.sequence() + life.below(bank.durable().sequence() + 1 - copy.sequence());
    while copy.sequence() < upto {
        let taken = follower.next(Duration::ZERO, |record| copy.take(record).expect("it follows"));
        assert!(taken.expect("read"), "it is durable");
    }
    let made = copy.snapshot().expect("made").expect("the first");
    assert_eq!(made.sequence, copy.sequence());
    let ids_then = copy.machine().0.ids();
    had.far += u64::from(copy.machine().0.ledger().has_far_roots());
    had.rules.insert(copy.machine().rules());
    had.holds += copy.machine().0.ledger().holds().len() as u64;
    had.reversed += copy.machine().0.ledger().reversed().len() as u64;
    had.records += copy.machine().0.records().count() as u64;
    had.jobs += copy.machine().0.jobs().count() as u64;
    had.ended += copy.machine().0.jobs().filter(|job| job.2).count() as u64;
    had.ids_max = had.ids_max.max(ids_then);
    let after = life.below(30) as usize;
    life.live(&mut bank, after);
    if life.below(2) == 0 {
        bank.stop().expect("stopped");
    } else {
        drop(bank);
    }
    disk.crash(pabal_drill::disk::image::Loss::Process);

    // From the snapshot, and from the beginning.
    let whole = without_snapshots(&disk);
    let ((mut short, from), (mut long, all)) = (start(&disk, RULES_CURRENT), start(&whole, RULES_CURRENT));
    assert_eq!((from.snapshot, all.snapshot), (Some(made.sequence), None));
    assert!(from.commands <= all.commands);
    are_alike(&short, &long, "opened");
    assert_eq!(saved(short.machine()), saved(long.machine()), "seed {seed}: what they save");
    let requests = 30 + life.below(60);
    for request in 0..requests {
        let asked = life.next_request();
        had.ops.extend(asked.1.iter().map(|sent| sent.command().header.op));
        let (said, other) = (ask(&mut short, &asked), ask(&mut long, &asked));
        let (one, two) = ((said.sequence, &said.replies), (other.sequence, &other.replies));
        assert_eq!(one, two, "seed {seed}, request {request}: {asked:?}");
        had.again += said.replies.iter().filter(|reply| reply.again).count() as u64;
        let now_ms = short.machine().0.moment().time_ms;
        for (sent, reply) in asked.1.iter().zip(&said.replies) {
            let is_too_old = reply.code == Code::IdTooOld;
            had.too_old += u64::from(is_too_old);
            had.early += u64::from(is_too_old && sent.command().id.time_ms() + WINDOW_MS > now_ms);
        }
        had.evicted += u64::from(short.machine().0.ids() < ids_then);
        life.heard(&asked, &said, &short);
    }
    for number in 0..16 {
        let answers = [&mut short, &mut long].map(|bank| {
            let ticket = bank.query(Query::Account(number));
            loop {
                if let Some(answer) = ticket.take() {
                    return answer.expect("answered");
                }
                bank.execute().expect("it executes");
                while bank.write().expect("it writes") {}
            }
        });
        assert_eq!(answers[0], answers[1]);
    }
    are_alike(&short, &long, "lived on");
    let (mut short, mut long) = (short.stop().expect("stopped"), long.stop().expect("stopped"));
    assert_eq!(short.digest(), long.digest());
    assert_eq!(saved(&short), saved(&long), "seed {seed}");
    let folder = pabal_drill::lives::journal();
    assert!(
        files(&disk, &folder) == files(&whole, &folder),
        "seed {seed}: the journals are not the same bytes"
    );

    // And so are the snapshots of both.
    for disk in [&disk, &whole] {
        let made = fold(disk).snapshot().expect("made").expect("something is new");
        assert_eq!(made.digest, short.digest());
    }
    let newest = |disk: &SimDisk| files(disk, &Path::new(DATA).join(SNAPSHOTS)).pop().expect("one");
    assert!(newest(&disk) == newest(&whole), "seed {seed}: the snapshots are not the same bytes");
}

#[test]
fn a_bank_that_begins_from_a_snapshot_is_the_one_that_replayed_everything() {
    let mut had = Had::default();
    for seed in 0..LIVES {
        live(seed, &mut had);
    }
    println!("{had:?}");
    let Had { far, holds, reversed, jobs, ended, records, ids_max, .. } = had;
    assert!(far > 10 && holds > 100 && reversed > 200 && jobs > 200 && ended > 10, "{had:?}");
    assert!(records > 50 && ids_max > 300 && had.rules.len() == 3, "{had:?}");
    assert!(had.again > 100 && had.too_old > 200 && had.early > 100 && had.evicted > 200, "{had:?}");
    let asked = |op: Op| had.ops.contains(&(op as u16));
    let all = [Op::Post, Op::Hold, Op::PostHold, Op::VoidHold, Op::Reverse, Op::KeepRecord, Op::EndJob];
    assert!(all.into_iter().all(asked), "{had:?}");
}

/// The form in which a state is kept. Whoever changes it raises `SAVED` in the bank, the first word here, so that a
/// program of today passes over what it cannot read; then what is said here is taken anew.
#[test]
fn the_form_of_a_saved_state_changes_only_with_its_number() {
    let disk = SimDisk::new(1);
    let (mut bank, _) = start(&disk, RULES_CURRENT);
    a_little_of_everything(&mut bank);
    let machine = bank.stop().expect("stopped");
    assert!(machine.0.ledger().has_far_roots());
    let bytes = saved(&machine);
    let form = u64::from_le_bytes(bytes[..8].try_into().expect("a word"));
    let check = blake3::hash(&bytes).to_hex();
    assert_eq!((form, bytes.len(), &check[..16]), (1, 952, "6b971cb29f721807"));
    let made = fold(&disk).snapshot().expect("made").expect("the first");
    let (path, length, blocks) = files(&disk, &Path::new(DATA).join(SNAPSHOTS)).pop().expect("one");
    assert_eq!((&path, length), (&made.path, made.bytes));
    // The title: magic, and of which record; then the state, its check and its number.
    let file: Vec<u8> = blocks.iter().flat_map(|block| block.unwrap_or([0; 4096])).collect();
    assert_eq!(&file[..8], b"PBLSNAP1");
    assert_eq!(file[8..16], made.sequence.to_le_bytes());
    assert_eq!(file[64..80], made.digest);
    assert_eq!(file[80..88], (bytes.len() as u64).to_le_bytes());
    assert_eq!(file[120..128], u64::from(crc32c::crc32c(&file[..120])).to_le_bytes());
    assert_eq!(file[4096..4096 + bytes.len()], bytes);
    let end = 4096 + bytes.len();
    assert_eq!(file[end..end + 8], u64::from(crc32c::crc32c(&bytes)).to_le_bytes());
}

/// Accounts of which one has older roots kept aside, holds with and without an end, a posting reversed in part, a kept
/// record, a job that goes on and one that ended, ids of all classes.
fn a_little_of_everything(bank: &mut Stepper<BankMachine>) {
    const NOW_MS: u64 = 1_800_000_000_000;
    let mut ids = 0;
    let mut id = || {
        ids += 1;
        Id::new(NOW_MS + ids / 8 * 300, 0, ids << 2)
    };
    let mut all = |lane, class, job: u64, item, sent: Vec<Sent>| {
        let header = RequestHeader { time_ms: NOW_MS + 60_000, item, ..RequestHeader::new(lane, class) };
        let header = RequestHeader { attempt: [0x7000, job | 1 << 63], ..header };
        let said = ask(bank, &(header, sent));
        assert!(said.replies.iter().all(|reply| reply.code == Code::Done), "{:?}", said.replies);
        said.replies[0].position
    };
    let mut online = |class, sent: Vec<Sent>| all(Lane::Online, class, 0, 0, sent);
    let pay = |id, amount| command::post(id, Kind::CashDeposit, 1, 2, amount, 410);
    let found = command::found(id(), 8192, 7, 2, Date(20_000));
    let cash = command::open(id(), 1, Class::Cash, 410, 0, i64::MAX);
    let customer = command::open(id(), 2, Class::CustomerDeposit, 410, 77, 500);
    online(0, vec![found.into(), cash.into(), command::with_ceiling(customer, i64::MAX - 1).into()]);
    let paid = online(1, vec![pay(id(), 100_000).into()]);
    let part = command::reverse(id(), paid, 30);
    online(2, vec![part.into()]);
    let (backed, timed) =
        (command::hold(pay(id(), 5), None), command::hold(pay(id(), 6), Some(NOW_MS + 90_000)));
    let kept = command::keep_record(id(), 3, 4, b"a record that is kept").expect("short");
    online(3, vec![backed.into(), timed.into(), Sent::new(&kept)]);
    let block = command::change(id(), 2, None, None, Some(pabal_bank::ledger::Status::DEBIT_BLOCKED));
    online(4, vec![block.into()]);
    // With the posting and its reversal 2,037: eleven roots.
    for (job, chunks, together) in [(1, 20, 100), (2, 1, 35)] {
        for chunk in 0..chunks {
            let sent = (0..together).map(|_| pay(id(), 1).into()).collect();
            all(Lane::Bulk, 4, job, chunk * together, sent);
        }
    }
    let end = command::end_job(id(), Id { high: 0x7000, low: 2 | 1 << 63 });
    all(Lane::Online, 1, 0, 0, vec![end.into()]);
}
