//! The way up to new rules, and the way back, on journals kept as files.
//!
//! `tests/fixtures/rules-1.gz` is the journal of a program that knows rules 1 only; `rules-1-then-2.gz` is the
//! same journal after a newer program activated rules 2 and went on; `rules-2.gz` is that of another bank, whose
//! small window bundles filled beyond its bound, and `rules-2-then-3.gz` goes on from there under rules 3. All are made through the
//! real engine by the very requests below, with fixed ids, times and journal id, so that each program writes the same
//! bytes again; `hashes` holds those of the bytes themselves. To make them anew:
//!
//! ```sh
//! PABAL_WRITE_FIXTURES=1 cargo test -p pabal kept_journals
//! ```
//!
//! That is right as long as no bank has a journal of this format. From then on a difference found here says
//! that old journals can no longer be read or replayed: take the next version (of the rules, of the entries'
//! encoding, of the journal's format), keep the old one working, and never make these files anew.

use crate::command::{read, verify};
use crate::progress::Bar;
use pabal_bank::ledger::account::UNLIMITED;
use pabal_bank::ledger::{Class, Code, Command, Date, Id, Kind, Status, entry::flags};
use pabal_bank::{Bank, Reply, command};
use pabal_core::BankMachine;
use pabal_engine::engine::JOURNAL;
use pabal_engine::{Commands, Engine, EngineConfig, Lane, Replay, ReplayError, Request};
use pabal_engine::{RequestHeader, TimeSource};
use pabal_journal::{BLOCK, JournalConfig, Reader, RecordKind};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::{TempDir, tempdir};
use zerocopy::IntoBytes;

/// Small, so that the journals cross from one segment to the next.
const SEGMENT_BLOCKS: u32 = 64;
const JOURNAL_ID: u64 = 0x5061_6261_6c21_0001;
const DATE: u16 = 20_458; // 2026-01-05
const START_MS: u64 = DATE as u64 * 86_400_000 + 9 * HOUR_MS;
const HOUR_MS: u64 = 3_600_000;
const WON: u16 = 410;
/// Customers.
const A: u64 = 101;
const B: u64 = 102;
const C: u64 = 103;
const D: u64 = 104;
/// The bank's own accounts.
const CASH: u64 = 9001;
const FEES: u64 = 9002;
const BANKS: u64 = 9003;
/// A hold on B whose time passes under rules 1, and which nobody released before rules 2 came.
const LEFT_OVER: Id = Id::new(START_MS, 1, 1 << 40);

// ── what happened at the bank ────────────────────────────────────────────────────────────────────

/// Under rules 1, from the founding on.
fn first_days(desk: &mut Desk) {
    desk.one(|id| command::found(id, 10_000, 7, 1, Date(DATE)), Code::Done);
    let open = |number, class, overdraft| move |id| command::open(id, number, class, WON, number, overdraft);
    for number in [A, B, C, D] {
        desk.one(open(number, Class::CustomerDeposit, 0), Code::Done);
    }
    let own = [(CASH, Class::Cash), (FEES, Class::FeeIncome), (BANKS, Class::Settlement)];
    let opened = own.map(|(number, class)| open(number, class, UNLIMITED)(desk.id()));
    desk.ask(&opened, &[Code::Done; 3]);

    let [to_a, to_b] = [(A, 100_000), (B, 50_000)]
        .map(|(to, amount)| command::post(desk.id(), Kind::CashDeposit, CASH, to, amount, WON));
    let [to_a, _] = desk.ask(&[to_a, to_b], &[Code::Done; 2])[..] else { panic!("two replies") };
    desk.again(command::post(Id::default(), Kind::Fee, A, FEES, 500, WON));
    desk.refusals();
    desk.bundles();

    // Holds: posted in part, released, backing a leg elsewhere, and ending by time.
    let card = |id, from, amount| command::post(id, Kind::CardWithdrawal, from, BANKS, amount, WON);
    let [parts, backed, void, soon] = [(); 4].map(|()| desk.id());
    let at = desk.now_ms;
    let holds = [
        command::hold(card(parts, A, 10_000), Some(at + HOUR_MS)),
        command::hold(card(backed, A, 5_000), None),
        command::hold(card(void, A, 700), Some(at + HOUR_MS)),
        command::hold(card(soon, A, 900), Some(at + HOUR_MS / 2)),
        command::hold(card(LEFT_OVER, B, 40_000), Some(at + HOUR_MS)),
    ];
    desk.ask(&holds, &[Code::Done; 5]);
    desk.one(|id| command::hold(card(id, A, 1), Some(at)), Code::ExpiryInvalid);
    desk.one(|id| command::post_hold(id, parts, 4_000, false), Code::Done);
    desk.one(|id| command::post_hold(id, parts, 6_001, false), Code::HoldExceeded);
    desk.one(|id| command::post_hold(id, backed, 2_000, true), Code::Done);
    desk.one(|id| command::void_hold(id, void), Code::Done);
    desk.one(|id| command::void_hold(id, void), Code::HoldNotOpen);

    // Reversals: in part, then more than is left.
    let back = desk.one(|id| command::reverse(id, to_a.position, 30_000), Code::Done);
    desk.one(|id| command::reverse(id, to_a.position, 70_001), Code::ReversalExceeded);
    desk.one(|id| command::reverse(id, back.position, 0), Code::NotReversible);

    desk.records();
    desk.job(1);

    // Limits and blocks.
    let change = |number, overdraft, status| move |id| command::change(id, number, overdraft, None, status);
    desk.one(change(C, Some(5_000), None), Code::Done);
    desk.one(change(C, None, Some(Status::DEBIT_BLOCKED)), Code::Done);
    desk.one(|id| command::post(id, Kind::Transfer, C, A, 1, WON), Code::DebitBlocked);
    desk.one(change(C, None, Some(Status::ACTIVE)), Code::Done);
    desk.one(|id| command::close(id, A), Code::AccountNotEmpty);
    desk.one(|id| command::close(id, D), Code::Done);
    desk.one(|id| command::post(id, Kind::Transfer, A, D, 1, WON), Code::AccountClosed);

    // Holds whose time has passed count until they are released.
    desk.later(2 * HOUR_MS);
    desk.one(b_pays, Code::InsufficientFunds);
    desk.one(|id| command::post_hold(id, LEFT_OVER, 0, false), Code::HoldExpired);
    desk.one(|id| command::void_hold(id, LEFT_OVER), Code::HoldExpired);
    desk.one(|id| command::expire_holds(id, 1), Code::Done);

    desk.later(20 * HOUR_MS);
    desk.one(|id| command::advance_date(id, Date(DATE + 1)), Code::Done);
    desk.one(|id| command::advance_date(id, Date(DATE + 1)), Code::DateNotLater);
    desk.one(|id| command::activate_rules(id, 3), Code::RulesUnknown);
    desk.one(b_pays, Code::InsufficientFunds);
}

/// What differs: under rules 1 the hold left over stands in the way of this, under rules 2 no more.
fn b_pays(id: Id) -> Command {
    command::post(id, Kind::Transfer, B, A, 20_000, WON)
}

/// A day's work that every program does alike while the rules are 1. `days` since the founding.
fn a_day_under_rules_1(desk: &mut Desk, days: u16) {
    desk.later(HOUR_MS);
    desk.one(|id| command::advance_date(id, Date(DATE + days)), Code::Done);
    desk.refusals();
    desk.bundles();
    desk.job(days as u64);
    desk.one(b_pays, Code::InsufficientFunds);
    let paid = desk.one(|id| command::post(id, Kind::Transfer, A, C, 1_000, WON), Code::Done);
    desk.one(|id| command::reverse(id, paid.position, 0), Code::Done);
    let at = desk.now_ms;
    let hold = desk.id();
    let card = command::post(hold, Kind::CardWithdrawal, C, BANKS, 100, WON);
    desk.ask(&[command::hold(card, Some(at + HOUR_MS / 4))], &[Code::Done]);
    desk.later(HOUR_MS / 2);
    desk.one(|id| command::post_hold(id, hold, 0, false), Code::HoldExpired);
}

/// Rules 2 are activated; from then on some decisions come out differently.
fn activation_and_a_day_under_rules_2(desk: &mut Desk, days: u16) {
    desk.later(HOUR_MS);
    desk.one(b_pays, Code::InsufficientFunds);
    desk.one(|id| command::activate_rules(id, 2), Code::Done);
    desk.one(b_pays, Code::Done);
    desk.one(|id| command::activate_rules(id, 2), Code::RulesUnknown);
    desk.one(|id| command::void_hold(id, LEFT_OVER), Code::HoldExpired);
    desk.refusals();
    desk.bundles();
    desk.job(days as u64);
    desk.one(|id| command::expire_holds(id, 10), Code::Done);
    desk.one(|id| command::void_hold(id, LEFT_OVER), Code::HoldNotOpen);
    desk.one(|id| command::advance_date(id, Date(DATE + days)), Code::Done);
    let paid = desk.one(|id| command::post(id, Kind::Transfer, A, C, 1_000, WON), Code::Done);
    desk.one(|id| command::reverse(id, paid.position, 400), Code::Done);
}

/// Ids that the window of the other bank holds.
const SMALL: u32 = 16;

/// A bank under rules 2 whose window is small: bundles fill it beyond its bound.
fn a_small_window_under_rules_2(desk: &mut Desk) {
    desk.one(|id| command::found(id, SMALL, 7, 2, Date(DATE)), Code::Done);
    let open = |number, class, overdraft| move |id| command::open(id, number, class, WON, number, overdraft);
    desk.one(open(A, Class::CustomerDeposit, 0), Code::Done);
    desk.one(open(B, Class::CustomerDeposit, 0), Code::Done);
    desk.one(open(CASH, Class::Cash, UNLIMITED), Code::Done);
    desk.one(|id| command::post(id, Kind::CashDeposit, CASH, A, 100_000, WON), Code::Done);
    desk.transfers(SMALL as usize, Code::Done);
    // All that is older than the window goes with the next id.
    desk.later(25 * HOUR_MS);
    desk.one(b_pays_back, Code::Done);
    for parts in [3, 2 * SMALL as usize, SMALL as usize + 1] {
        desk.transfers(parts, Code::Done);
        for _ in 0..3 {
            desk.one(b_pays_back, Code::Done);
        }
    }
    desk.one(|id| command::activate_rules(id, 4), Code::RulesUnknown);
    desk.transfers(SMALL as usize + 1, Code::Done);
}

/// Rules 3 are activated, the window still beyond its bound; what differs is that no bundle fills it so any more.
fn activation_and_a_day_under_rules_3(desk: &mut Desk) {
    desk.one(|id| command::activate_rules(id, 3), Code::Done);
    desk.one(|id| command::activate_rules(id, 3), Code::RulesUnknown);
    for parts in [3, SMALL as usize, SMALL as usize] {
        desk.transfers(parts, Code::Done);
        desk.transfers(SMALL as usize + 1, Code::StateFull);
        desk.one(b_pays_back, Code::Done);
    }
    desk.one(|id| command::activate_rules(id, 4), Code::RulesUnknown);
    // Of what is older than the window one half second goes with each id.
    for _ in 0..5 {
        desk.one(b_pays_back, Code::Done);
    }
    desk.later(25 * HOUR_MS);
    for _ in 0..3 {
        desk.one(b_pays_back, Code::Done);
    }
}

fn b_pays_back(id: Id) -> Command {
    command::post(id, Kind::Transfer, B, A, 1, WON)
}

/// Someone at a running bank, sending one request after the other.
struct Desk {
    engine: Engine<BankMachine>,
    now_ms: u64,
    ids: u64,
}

impl Desk {
    /// Opens the bank with a program that knows rules up to this version, `hours` after the founding.
    fn open(data: &Path, known: u32, hours: u64) -> Result<Desk, pabal_engine::Error> {
        let config = EngineConfig {
            journal: JournalConfig { segment_blocks: SEGMENT_BLOCKS, ..JournalConfig::default() },
            journal_id: JOURNAL_ID,
            time: TimeSource::Carried,
        };
        let machine = BankMachine(Bank::knowing(known));
        let (engine, recovery) = Engine::start(data, machine, config, &mut |_| {})?;
        assert!(recovery.journal.orderly && recovery.journal.cut.is_none() && !recovery.tried_alone);
        Ok(Desk { engine, now_ms: START_MS + hours * HOUR_MS, ids: hours << 16 })
    }

    fn later(&mut self, ms: u64) {
        self.now_ms += ms;
    }

    fn id(&mut self) -> Id {
        self.ids += 1;
        Id::new(self.now_ms, self.ids as u16, self.ids << 2)
    }

    fn one(&mut self, make: impl FnOnce(Id) -> Command, wanted: Code) -> Reply {
        let id = self.id();
        self.ask(&[make(id)], &[wanted])[0]
    }

    /// Sends one online request of these commands.
    fn ask(&mut self, commands: &[Command], wanted: &[Code]) -> Vec<Reply> {
        let mut sent = Commands::new();
        commands.iter().for_each(|c| sent.push(c.as_bytes()));
        self.send(RequestHeader::new(Lane::Online, 1), sent, wanted)
    }

    /// Sends a request and waits until its record is confirmed by a closing one. So each record holds one
    /// request and each has a closing one behind it, however fast the machine is.
    fn send(&mut self, header: RequestHeader, commands: Commands, wanted: &[Code]) -> Vec<Reply> {
        self.now_ms += 1_000;
        let header = RequestHeader {
            channel: 3,
            principal: 0x1234,
            deadline_ms: self.now_ms + 10_000,
            time_ms: self.now_ms,
            ..header
        };
        let durable = self.engine.durable();
        let before = durable.sequence();
        let response = self.engine.submit(Request { header, commands }).wait().expect("the engine runs");
        let codes: Vec<Code> = response.replies.iter().map(|reply| reply.code).collect();
        assert_eq!(codes, wanted);
        if response.sequence > before {
            assert!(durable.wait_sequence(before + 2, Duration::from_secs(60)), "no closing record");
        }
        response.replies
    }

    /// Done, and then sent again under the same id: the same answer, and nothing in the journal.
    fn again(&mut self, command: Command) {
        let command = Command { id: self.id(), ..command };
        let first = self.ask(&[command], &[Code::Done])[0];
        assert_eq!(self.ask(&[command], &[Code::Done])[0], Reply { again: true, ..first });
    }

    fn refusals(&mut self) {
        let post = |kind, debit, credit, amount, currency| {
            move |id| command::post(id, kind, debit, credit, amount, currency)
        };
        self.one(post(Kind::Transfer, A, B, 1 << 40, WON), Code::InsufficientFunds);
        self.one(post(Kind::Transfer, A, 999, 1, WON), Code::AccountNotFound);
        self.one(post(Kind::Transfer, A, FEES, 1, WON), Code::PathNotPermitted);
        self.one(post(Kind::Transfer, A, A, 1, WON), Code::SameAccount);
        let both = [(Kind::Transfer, 0, WON), (Kind::Transfer, 1, 203)];
        let both = both.map(|(kind, amount, currency)| post(kind, A, B, amount, currency)(self.id()));
        self.ask(&both, &[Code::AmountInvalid, Code::CurrencyMismatch]);
    }

    /// A bundle that is done, and one of which nothing is.
    fn bundles(&mut self) {
        let mut parts = [(A, B, 300), (B, C, 200), (A, B, 10), (C, A, 1 << 40), (A, C, 10)]
            .map(|(from, to, amount)| command::post(self.id(), Kind::Transfer, from, to, amount, WON));
        for linked in [0, 2, 3] {
            parts[linked].header.flags |= flags::LINKED;
        }
        let (done, failed) =
            ([Code::Done; 2], [Code::BundleFailed, Code::InsufficientFunds, Code::BundleFailed]);
        self.ask(&parts[..2], &done);
        self.ask(&parts[2..], &failed);
    }

    /// A bundle of so many transfers, all of them with this outcome.
    fn transfers(&mut self, parts: usize, wanted: Code) {
        let mut bundle: Vec<Command> =
            (0..parts).map(|_| command::post(self.id(), Kind::Transfer, A, B, 2, WON)).collect();
        bundle[..parts - 1].iter_mut().for_each(|part| part.header.flags |= flags::LINKED);
        self.ask(&bundle, &vec![wanted; parts]);
    }

    fn records(&mut self) {
        let long = (0..900u32).map(|i| b'a' + (i % 26) as u8).collect::<Vec<u8>>();
        let records: [(u64, &[u8], Code); 4] = [
            (1, b"one", Code::Done),
            (2, &long, Code::Done),
            (1, b"another", Code::RecordExists),
            (3, b"", Code::Done),
        ];
        for (key, record, wanted) in records {
            let mut sent = Commands::new();
            sent.push(&command::keep_record(self.id(), 5, key, record).expect("short enough"));
            self.send(RequestHeader::new(Lane::Online, 3), sent, &[wanted]);
        }
    }

    /// A job of two requests, with a refused item, an item out of order, and its end.
    fn job(&mut self, number: u64) {
        let job = Id::new(START_MS, 0, number << 20);
        let mut item = 0;
        let interest = |id, to| command::post(id, Kind::Interest, A, to, 3, WON);
        let mut requests = vec![vec![], vec![]];
        for to in [B, C] {
            requests[0].push((command::post(self.id(), Kind::Fee, to, FEES, 7, WON), Code::Done));
            requests[1].push((interest(self.id(), to), Code::PathNotPermitted));
        }
        requests[1].push((command::end_job(self.id(), job), Code::Done));
        requests.push(vec![(interest(self.id(), A), Code::JobNotOpen)]);
        for request in requests {
            let mut header = RequestHeader::new(Lane::Bulk, 4);
            (header.attempt, header.item) = ([job.high, job.low], item);
            let mut sent = Commands::new();
            request.iter().for_each(|(command, _)| sent.push(command.as_bytes()));
            let wanted: Vec<Code> = request.iter().map(|(_, code)| *code).collect();
            item += wanted.len() as u64;
            self.send(header, sent, &wanted);
        }
    }

    fn stop(self) {
        self.engine.stop().expect("an orderly stop");
    }
}

// ── the kept journals ────────────────────────────────────────────────────────────────────────────

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The segments of a data folder, one after the other.
fn bytes(data: &Path) -> Vec<u8> {
    let folder = std::fs::read_dir(data.join(JOURNAL)).expect("a journal");
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files.iter().flat_map(|file| std::fs::read(file).expect("a segment")).collect()
}

/// A data folder with a kept journal.
fn kept(name: &str) -> TempDir {
    let packed = std::fs::read(fixtures().join(format!("{name}.gz"))).expect("a kept journal");
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut bytes).expect("packed with gzip");
    let data = tempdir().expect("a folder");
    let dir = data.path().join(JOURNAL);
    std::fs::create_dir(&dir).expect("a folder");
    for (i, segment) in bytes.chunks(SEGMENT_BLOCKS as usize * BLOCK).enumerate() {
        std::fs::write(dir.join(format!("{i:012}.seg")), segment).expect("written");
    }
    data
}

fn keep(name: &str, bytes: &[u8]) {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(bytes).expect("packed");
    std::fs::write(fixtures().join(format!("{name}.gz")), packer.finish().expect("packed")).expect("written");
}

/// The journals as today's programs write them.
fn made_now() -> [(&'static str, Vec<u8>); 4] {
    let data = tempdir().expect("a folder");
    let mut desk = Desk::open(data.path(), 1, 0).expect("a new bank");
    first_days(&mut desk);
    desk.stop();
    let first = bytes(data.path());
    let mut desk = Desk::open(data.path(), 2, 24).expect("opened");
    activation_and_a_day_under_rules_2(&mut desk, 2);
    desk.stop();
    let other = tempdir().expect("a folder");
    let mut desk = Desk::open(other.path(), 2, 0).expect("a new bank");
    a_small_window_under_rules_2(&mut desk);
    desk.stop();
    let second = bytes(other.path());
    let mut desk = Desk::open(other.path(), 3, 30).expect("opened");
    activation_and_a_day_under_rules_3(&mut desk);
    desk.stop();
    [
        ("rules-1", first),
        ("rules-1-then-2", bytes(data.path())),
        ("rules-2", second),
        ("rules-2-then-3", bytes(other.path())),
    ]
}

#[test]
fn kept_journals_are_what_the_programs_write() {
    let made = made_now();
    let hashes: String =
        made.iter().map(|(name, bytes)| format!("{} {name}\n", blake3::hash(bytes).to_hex())).collect();
    if std::env::var_os("PABAL_WRITE_FIXTURES").is_some() {
        made.iter().for_each(|(name, bytes)| keep(name, bytes));
        std::fs::write(fixtures().join("hashes"), &hashes).expect("written");
    }
    let what_to_do = "see the beginning of src/upgrade.rs for what to do";
    let held = std::fs::read_to_string(fixtures().join("hashes")).expect("the hashes");
    for ((name, made), line) in made.iter().zip(held.lines()) {
        let kept = bytes(kept(name).path());
        assert_eq!(format!("{} {name}", blake3::hash(&kept).to_hex()), line, "{name}.gz has changed");
        let differs =
            made.iter().zip(&kept).position(|(a, b)| a != b).or((made.len() != kept.len()).then_some(0));
        assert_eq!(differs, None, "{name}: what is written now differs from this byte on; {what_to_do}");
    }
    assert_eq!(held, hashes, "{what_to_do}");
}

// ── the way up, and the way back ─────────────────────────────────────────────────────────────────

/// Replays everything as a program that knows rules up to `known`: bytes and digests are compared by the
/// replay itself. Gives how many batches stand there under rules 1, 2 and 3.
fn replay(data: &Path, known: u32) -> Result<[u64; 3], pabal_journal::Error> {
    let dir = data.join(JOURNAL);
    let machine = BankMachine(Bank::knowing(known));
    let mut replay = Replay::new(machine, Reader::open(&dir)?);
    let mut batches = [0; 3];
    let scanned = Reader::open(&dir)?.scan(&mut |record| {
        replay.record(record)?;
        batches[record.header.rules as usize - 1] +=
            u64::from(record.header.kind == RecordKind::Batch as u16);
        Ok(())
    })?;
    assert!(scanned.orderly && scanned.cut.is_none());
    Ok(batches)
}

#[test]
fn a_journal_of_rules_1_is_folded_by_newer_programs_and_decided_again_by_its_own() {
    let data = kept("rules-1");
    let before = bytes(data.path());
    for known in [1, 2, 3] {
        let [old, new, newest] = replay(data.path(), known).expect("replayed");
        assert!(old > 40 && new == 0 && newest == 0, "{old}, {new} and {newest} batches");
    }
    assert!(bytes(data.path()) == before, "reading changed the journal");
}

/// Rules 3 say more of the same: what bundles did to the window under rules 2 is folded as it was decided, and the
/// window comes out the same to the last id.
#[test]
fn a_journal_whose_window_passed_its_bound_under_rules_2_is_folded_and_goes_on_under_rules_3() {
    for known in [2, 3, 4] {
        let [_, old, new] = replay(kept("rules-2").path(), known).expect("replayed");
        assert!(old > 10 && new == 0, "{old} and {new} batches");
    }
    let data = kept("rules-2-then-3");
    for known in [3, 4] {
        let [_, old, new] = replay(data.path(), known).expect("replayed");
        assert!(old > 10 && new > 10, "{old} and {new} batches");
    }
    let Err(refused) = Desk::open(data.path(), 2, 72) else { panic!("opened") };
    assert!(refused.to_string().contains("use a newer one"), "{refused}");
    let mut desk = Desk::open(data.path(), 3, 72).expect("opened");
    desk.transfers(SMALL as usize, Code::Done);
    desk.transfers(SMALL as usize + 1, Code::StateFull);
    desk.stop();
    replay(data.path(), 3).expect("replayed");
}

#[test]
fn a_newer_program_opens_it_activates_the_new_rules_and_goes_on() {
    let data = kept("rules-1");
    let mut desk = Desk::open(data.path(), 2, 24).expect("opened");
    a_day_under_rules_1(&mut desk, 2);
    activation_and_a_day_under_rules_2(&mut desk, 3);
    desk.stop();
    for known in [2, 3] {
        let [old, new, _] = replay(data.path(), known).expect("replayed");
        assert!(old > 40 && new > 10, "{old} and {new} batches");
    }
    // And once more after a stop, in the middle of rules 2.
    let mut desk = Desk::open(data.path(), 2, 72).expect("opened");
    desk.one(b_pays, Code::Done);
    desk.bundles();
    desk.stop();
    replay(data.path(), 2).expect("replayed");
}

#[test]
fn until_the_activation_the_way_back_is_free() {
    let data = kept("rules-1");
    // Forth and back between the programs, each going on where the other stopped.
    for (day, known) in [(2, 2), (3, 1), (4, 2), (5, 1)] {
        let mut desk = Desk::open(data.path(), known, day as u64 * 24).expect("opened");
        a_day_under_rules_1(&mut desk, day);
        desk.stop();
        for known in [1, 2, 3] {
            replay(data.path(), known).expect("replayed");
        }
    }
    let mut desk = Desk::open(data.path(), 1, 6 * 24).expect("opened");
    desk.one(|id| command::activate_rules(id, 2), Code::RulesUnknown);
    desk.stop();
    let mut desk = Desk::open(data.path(), 2, 7 * 24).expect("opened");
    activation_and_a_day_under_rules_2(&mut desk, 8);
    desk.stop();
    replay(data.path(), 2).expect("replayed");
}

#[test]
fn under_rules_1_both_programs_write_the_same_bytes() {
    let written = [1, 2].map(|known| {
        let data = kept("rules-1");
        let mut desk = Desk::open(data.path(), known, 24).expect("opened");
        a_day_under_rules_1(&mut desk, 2);
        desk.stop();
        bytes(data.path())
    });
    assert!(written[0] == written[1]);
}

#[test]
fn after_the_activation_a_program_that_knows_only_the_old_rules_refuses_and_changes_nothing() {
    let data = kept("rules-1-then-2");
    let before = bytes(data.path());
    replay(data.path(), 2).expect("replayed by a program that knows them");
    let mut first = None;
    let reader = Reader::open(&data.path().join(JOURNAL)).expect("a journal");
    reader
        .scan(&mut |record| {
            if record.header.rules == 2 {
                first.get_or_insert(record.header.sequence);
            }
            Ok(())
        })
        .expect("sound");
    let first = first.expect("rules 2 were activated");

    let Err(refused) = Desk::open(data.path(), 1, 72) else { panic!("opened") };
    let text = refused.to_string();
    for part in [&format!("record {first} "), "under rules 2", "up to 1", "use a newer one"] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    let Err(pabal_journal::Error::Visitor(error)) = replay(data.path(), 1) else { panic!("replayed") };
    match error.downcast_ref::<ReplayError>() {
        Some(ReplayError::RulesUnknown { sequence, found: 2, known: 1 }) => assert_eq!(*sequence, first),
        other => panic!("{other:?}"),
    }
    assert!(bytes(data.path()) == before, "the refusal changed the journal");
}

/// What this program cannot judge it does not call wrong, and shows nothing of.
#[test]
fn rules_of_the_future_are_an_error_of_input() {
    let data = kept("rules-1-then-2");
    let known = pabal_bank::RULES_CURRENT;
    let mut desk = Desk::open(data.path(), known + 1, 72).expect("opened");
    (3..=known + 1).for_each(|rules| {
        desk.one(|id| command::activate_rules(id, rules), Code::Done);
    });
    desk.stop();
    let Err(error) = verify::run(data.path(), &Bar::hidden()) else { panic!("a report") };
    assert!(!verify::is_wrong(&error) && error.to_string().contains("use a newer one"), "{error}");
    let Err(error) = read::balance(data.path(), A, None, &Bar::hidden()) else { panic!("a balance") };
    assert!(!verify::is_wrong(&error) && error.to_string().contains("use a newer one"), "{error}");
}
