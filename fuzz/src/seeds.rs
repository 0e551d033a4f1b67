//! Seeds: the journal of a bank that did a little of everything, cut into what each target takes.

use crate::image::Left;
use crate::input::{put_piece, trimmed};
use crate::scratch::Scratch;
use flate2::read::MultiGzDecoder;
use pabal_bank::command::{self, change};
use pabal_bank::ledger::account::UNLIMITED;
use pabal_bank::ledger::entry::{COMMAND_BYTES, flags};
use pabal_bank::ledger::{Class, Code, Command, Date, Id, Kind, Posting, Status};
use pabal_core::question::LINES_MAX;
use pabal_core::{BankMachine, Question};
use pabal_engine::engine::JOURNAL;
use pabal_engine::request::REQUEST_OP;
use pabal_engine::{
    Commands, Engine, EngineConfig, Lane, Machine, Replay, Request, RequestHeader, TimeSource,
};
use pabal_journal::{BLOCK, JournalConfig, Reader, RecordHeader, verify};
use pabal_wire::frame::{VERSION, VERSION_OLDEST};
use pabal_wire::{Asking, Head, Kind as FrameKind, Reply as FrameHead};
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use zerocopy::{FromBytes, IntoBytes};

/// The variable that names the folder into which a target puts its seeds before it begins.
pub const FOLDER: &str = "PABAL_FUZZ_SEEDS";
/// Blocks of a segment of the bank's journal.
pub const SEGMENT_BLOCKS: usize = 16;
/// The bank's currency.
pub const WON: u16 = 410;
/// When the bank begins, milliseconds since 1970.
pub const START_MS: u64 = 1_700_000_000_000;
/// On which day.
pub const TODAY: Date = Date(20_000);
/// Bytes of a seed at most: libFuzzer makes no input longer than the longest.
const SEED_BYTES_MAX: usize = 16 * 1024;
/// Records of a foreign table in a seed at most.
const ROWS_MAX: usize = 12;

/// Writes this target's seeds, if a folder for them is named.
pub fn plant(target: &str) {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let seeds = match target {
        "csv" => books(),
        _ => Story::told().seeds(target),
    };
    assert!(!seeds.is_empty(), "{target} has seeds");
    for (i, seed) in seeds.iter().enumerate() {
        let seed = &seed[..seed.len().min(SEED_BYTES_MAX)];
        std::fs::write(folder.join(format!("seed-{i:03}")), seed).expect("a seed can be written");
    }
}

/// A record as the bank wrote it.
struct Written {
    header: RecordHeader,
    start_block: u64,
    entries: Vec<Vec<u8>>,
    blocks: Vec<u8>,
    /// The state after it, as a snapshot keeps it.
    state: Vec<u8>,
}

/// What a bank wrote.
struct Story(Vec<Written>);

impl Story {
    fn told() -> Story {
        let scratch = Scratch::new();
        tell(scratch.path());
        let mut records = Vec::new();
        let folder = scratch.path().join(JOURNAL);
        let mut replay = Replay::new(BankMachine::default(), Reader::open(&folder).expect("a reader"));
        verify(&folder, &mut |record| {
            replay.record(record)?;
            let mut state = Vec::new();
            replay.machine().save(&mut |bytes| state.extend_from_slice(bytes));
            records.push(Written {
                header: *record.header,
                start_block: record.start_block,
                entries: record.entries().map(|(_, entry)| entry.to_vec()).collect(),
                blocks: record.blocks.to_vec(),
                state,
            });
            Ok(())
        })
        .expect("the bank's journal is sound");
        Story(records)
    }

    fn seeds(&self, target: &str) -> Vec<Vec<u8>> {
        match target {
            "apply" => self.commands(),
            "block" => self.0.iter().map(|r| trimmed(&r.blocks).to_vec()).collect(),
            "command" => self.entries(),
            "frames" => self.frames(),
            "journal" => self.journals(),
            "queries" => self.questions(),
            "replay" => vec![self.records(2), self.records(3)],
            "ring" => self.requests(),
            // By a program that knows the newest rules.
            "snapshots" => self.0.iter().map(|r| [&[2], &r.state[..]].concat()).collect(),
            other => panic!("no seeds for {other}"),
        }
    }

    /// Entries, and commands as they were sent.
    fn entries(&self) -> Vec<Vec<u8>> {
        let entries: Vec<&Vec<u8>> = self.0.iter().flat_map(|r| &r.entries).collect();
        let sent: Vec<u8> = entries.iter().filter_map(|entry| sent(entry)).flatten().collect();
        entries.into_iter().cloned().chain([sent]).collect()
    }

    /// For `apply`: all commands one by one, and each bundle as one.
    fn commands(&self) -> Vec<Vec<u8>> {
        let mut seed = vec![0, 0, 0];
        let mut seeds = Vec::new();
        for command in self.0.iter().flat_map(|r| &r.entries).filter_map(|entry| sent(entry)) {
            seed.push(0x80);
            put_piece(&mut seed, &command);
            if seed.len() > 2000 {
                seeds.push(std::mem::replace(&mut seed, vec![0, 0, 0]));
            }
        }
        seeds.push(seed);
        seeds
    }

    /// For `frames`: a conversation of each side, its frames in form and as bytes, each frame a piece or all of them one.
    fn frames(&self) -> Vec<Vec<u8>> {
        let asked = |asking: Asking, item: u64, count: u32, body: &[u8]| {
            let (length, kind) = (body.len() as u32, asking as u16);
            let head =
                Head { length, kind, version: VERSION, class: 1, lane: 1, count, item, ..Head::default() };
            [head.as_bytes(), body].concat()
        };
        let said = |kind: FrameKind, count: u32, body: &[u8]| {
            let (length, kind) = (body.len() as u32, kind as u16);
            let head = FrameHead { length, kind, count, sequence: 7, ..FrameHead::default() };
            [head.as_bytes(), body].concat()
        };
        let commands: Vec<u8> =
            self.0.iter().flat_map(|r| &r.entries).filter_map(|entry| sent(entry)).flatten().collect();
        let client = [
            asked(Asking::Hello, u64::from(VERSION), u32::from(VERSION_OLDEST), &[]),
            asked(Asking::Submit, 0, 9, &commands[..commands.len().min(4096)]),
            asked(Asking::Query, 7, 0, &[1; 64]),
            asked(Asking::Follow, 1, 0, &[]),
        ];
        let blocks = &self.0[0].blocks;
        let server = [
            said(FrameKind::Welcome, 0, &[1; 32]),
            said(FrameKind::Replies, 2, &[3; 64]),
            said(FrameKind::Answer, 0, b"an answer of any length"),
            said(FrameKind::Refused, 0, &[]),
            said(FrameKind::Unknown, 0, &[]),
            said(FrameKind::Record, 0, &blocks[..blocks.len().min(4096)]),
        ];
        let mut seeds = Vec::new();
        for (direction, frames) in [(0, &client[..]), (1, &server[..])] {
            for bits in [direction, direction | 2] {
                let mut seed = vec![bits];
                frames.iter().for_each(|frame| put_piece(&mut seed, frame));
                seeds.push(seed);
            }
            let mut seed = vec![direction];
            put_piece(&mut seed, &frames.concat());
            seeds.push(seed);
        }
        seeds
    }

    /// For `journal`: the whole folder, and the folder with each of its records as the last.
    fn journals(&self) -> Vec<Vec<u8>> {
        let segments = self.0.last().expect("records").start_block as usize / SEGMENT_BLOCKS + 2;
        let head = vec![SEGMENT_BLOCKS as u8, segments as u8];
        let mut seed = head.clone();
        let mut seeds = Vec::new();
        for record in &self.0 {
            for (i, block) in record.blocks.chunks(BLOCK).enumerate() {
                seed.push(0);
                seed.push((record.start_block as usize + i) as u8);
                put_piece(&mut seed, trimmed(block));
            }
            if seed.len() < SEED_BYTES_MAX {
                seeds.push(seed.clone());
            }
        }
        seeds
    }

    /// For `queries`: of each kind, about each account that money moved on, and before each of its entries.
    fn questions(&self) -> Vec<Vec<u8>> {
        let entries = self.0.iter().flat_map(|r| &r.entries);
        let booked =
            entries.filter_map(|entry| Posting::read_from_prefix(entry).ok()).filter(|p| p.0.is_booked());
        let sides: Vec<_> = booked.flat_map(|(p, _)| [p.outcome.debit, p.outcome.credit]).collect();
        let accounts: BTreeSet<u64> = sides.iter().map(|side| side.account).collect();
        let mut questions =
            vec![Question::status(), Question::job(Id::new(START_MS, 0, 4)), Question::account(9999)];
        for &account in &accounts {
            questions.push(Question::account(account));
            questions.push(Question::statement(account, 2));
            questions.push(Question { from: TODAY, to: TODAY, ..Question::statement(account, LINES_MAX) });
            questions
                .extend([TODAY.0 - 1, TODAY.0, TODAY.0 + 1].map(|day| Question::as_of(account, Date(day))));
        }
        questions.extend(
            sides
                .iter()
                .map(|side| Question { before: side.previous, ..Question::statement(side.account, 1) }),
        );
        questions.iter().map(|question| [&[0], question.as_bytes()].concat()).collect()
    }

    /// For `replay`: all records, to be read by a bank that knows rules up to these.
    fn records(&self, known: u8) -> Vec<u8> {
        let mut seed = vec![known - 1];
        for record in &self.0 {
            let h = &record.header;
            seed.push(0);
            seed.push(h.rules as u8);
            seed.extend_from_slice(&h.time_ms.to_le_bytes());
            seed.extend_from_slice(&h.digest);
            for entry in &record.entries {
                seed.push(1);
                put_piece(&mut seed, trimmed(entry));
            }
        }
        seed
    }

    /// For `ring`: each request that was executed.
    fn requests(&self) -> Vec<Vec<u8>> {
        let mut seeds: Vec<Vec<u8>> = Vec::new();
        for entry in self.0.iter().flat_map(|r| &r.entries) {
            match sent(entry) {
                None if entry[..2] == REQUEST_OP.to_le_bytes() => {
                    // Left as it is, at the first command, for the first or the second time.
                    let crashes = (seeds.len() % 3) as u8;
                    seeds.push([&[0, crashes, 0, 0, 0, 0], &entry[..64]].concat());
                }
                None => {}
                Some(command) => seeds.last_mut().expect("a request's header comes first").extend(command),
            }
        }
        seeds
    }
}

/// The command of an entry, as it was sent.
fn sent(entry: &[u8]) -> Option<Vec<u8>> {
    if entry[..2] == REQUEST_OP.to_le_bytes() || entry[4] & flags::CONTINUATION != 0 {
        return None;
    }
    let mut command = entry[..command::length(entry)?].to_vec();
    command[5..8].fill(0);
    Some(command)
}

/// The bytes of the blocks of a founded bank's journal with a few accounts: what other targets begin with.
pub fn found(data: &Path) {
    let mut bank = Teller::start(data);
    bank.begin(2);
    bank.stop();
}

/// The left bits of an input.
pub fn left(bits: u8) -> Left {
    Left { check: bits & 1 != 0, header: bits & 2 != 0, chain: bits & 4 != 0 }
}

/// Sends commands to a bank, and numbers them.
struct Teller {
    engine: Engine<BankMachine>,
    number: u64,
}

impl Teller {
    fn start(data: &Path) -> Teller {
        let (engine, _) =
            Engine::start(data, BankMachine::default(), config(), &mut |_| {}).expect("started");
        Teller { engine, number: 0 }
    }

    fn id(&mut self) -> Id {
        self.number += 1;
        Id::new(START_MS + self.number, 0, self.number << 2)
    }

    fn send(&mut self, header: RequestHeader, commands: &[Vec<u8>]) -> Vec<u64> {
        let mut sent = Commands::new();
        commands.iter().for_each(|command| sent.push(command));
        let header = RequestHeader { time_ms: START_MS + self.number, ..header };
        let response = self.engine.submit(Request { header, commands: sent }).wait().expect("it runs");
        assert!(response.replies.iter().all(|reply| reply.code.uses_id()), "{:?}", response.replies);
        response.replies.iter().map(|reply| reply.position).collect()
    }

    fn ask(&mut self, commands: &[Command]) -> Vec<u64> {
        let commands: Vec<Vec<u8>> = commands.iter().map(|c| c.as_bytes().to_vec()).collect();
        self.send(RequestHeader::new(Lane::Online, 1), &commands)
    }

    /// Founds the bank and opens an account of each class, and three of customers.
    fn begin(&mut self, rules: u32) {
        let found = command::found(self.id(), 1000, 7, rules, TODAY);
        self.ask(&[found]);
        let customers = (1..=3).map(|number| (number, Class::CustomerDeposit, 1000));
        let own = Class::ALL.iter().map(|class| (100 + *class as u64, *class, UNLIMITED));
        let open: Vec<Command> = customers
            .chain(own)
            .map(|(number, class, overdraft)| command::open(self.id(), number, class, WON, number, overdraft))
            .collect();
        self.ask(&open);
    }

    fn stop(self) {
        self.engine.stop().expect("stopped");
    }
}

/// How the bank of the seeds runs, and whoever goes on with its journal.
pub fn config() -> EngineConfig {
    let journal =
        JournalConfig { segment_blocks: SEGMENT_BLOCKS as u32, direct: false, ..JournalConfig::default() };
    EngineConfig { journal, journal_id: 7, time: TimeSource::Carried }
}

/// A little of everything.
pub fn tell(data: &Path) {
    let mut bank = Teller::start(data);
    bank.begin(1);
    let cash = 100 + Class::Cash as u64;
    let deposit = |id, to, amount| command::post(id, Kind::CashDeposit, cash, to, amount, WON);
    let transfer = |id, amount| command::post(id, Kind::Transfer, 1, 2, amount, WON);
    let paid = bank.id();
    let paid = bank.ask(&[deposit(paid, 1, 500_000)])[0];
    let (a, b) = (bank.id(), bank.id());
    bank.ask(&[transfer(a, 1000), transfer(b, i64::MAX)]);
    // Holds: posted in part, released, expired.
    let (backed, timed, spare) = (bank.id(), bank.id(), bank.id());
    let soon = START_MS + bank.number + 2;
    let (x, y, z) = (transfer(backed, 700), transfer(timed, 800), transfer(spare, 900));
    bank.ask(&[command::hold(x, None), command::hold(y, Some(soon)), command::hold(z, Some(soon))]);
    let (id, void) = (bank.id(), bank.id());
    bank.ask(&[command::post_hold(id, backed, 300, true), command::void_hold(void, spare)]);
    let rules = command::activate_rules(bank.id(), 2);
    bank.ask(&[rules]);
    let expire = command::expire_holds(bank.id(), 10);
    bank.ask(&[expire]);
    // Bundles: one that is done, one that is not.
    for amount in [10, i64::MAX] {
        let mut first = transfer(bank.id(), 10);
        first.header.flags |= flags::LINKED;
        let second = transfer(bank.id(), amount);
        bank.ask(&[first, second]);
    }
    let (part, rest) = (bank.id(), bank.id());
    bank.ask(&[command::reverse(part, paid, 100), command::reverse(rest, paid, 0)]);
    let status = Some(Status::DEBIT_BLOCKED);
    let (limits, close) = (bank.id(), bank.id());
    bank.ask(&[command::change(limits, 3, Some(5), Some(9), status), command::close(close, 3)]);
    let tomorrow = command::advance_date(bank.id(), Date(TODAY.0 + 1));
    bank.ask(&[tomorrow]);
    // A job, with a kept record in it.
    let job = bank.id();
    let header = RequestHeader { attempt: [job.high, job.low], item: 0, ..RequestHeader::new(Lane::Bulk, 4) };
    let kept = command::keep_record(bank.id(), 1, 2, b"a record that is kept").expect("a short record");
    let item = deposit(bank.id(), 2, 5).as_bytes().to_vec();
    bank.send(header, &[kept, item]);
    let end = command::end_job(bank.id(), job).as_bytes().to_vec();
    bank.send(RequestHeader { item: 2, ..header }, &[end]);
    bank.stop();
    // So that a change of what these mean is noticed here.
    const { assert!(change::OVERDRAFT == 1 && Code::Done as u16 == 1 && COMMAND_BYTES == 96) };
}

// ── foreign books ────────────────────────────────────────────────────────────────────────────────

/// The tables, in the order in which they are read.
pub const TABLES: [&str; 9] = [
    "district",
    "client",
    "account",
    "disp",
    "card",
    "loan",
    "order",
    "trans_bank_1993_94",
    "trans_loan_accounts_1995_98",
];
/// What stands between the tables of an input.
pub const BETWEEN: u8 = 0x1c;

/// Small books: made up, and cut from the real ones where they are.
fn books() -> Vec<Vec<u8>> {
    let tables = real(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/berka"));
    if tables.is_none() {
        eprintln!("../shared/data/berka is not there: made-up books are the only seed");
    }
    [Some(MADE_UP.map(str::to_owned)), tables].into_iter().flatten().map(|t| joined(&t)).collect()
}

/// The tables of books as one input.
fn joined(tables: &[String; 9]) -> Vec<u8> {
    tables.join(&char::from(BETWEEN).to_string()).into_bytes()
}

/// The records of the first accounts, and those that they refer to.
fn real(folder: &Path) -> Option<[String; 9]> {
    let mut texts = Vec::new();
    for table in TABLES {
        let file = std::fs::File::open(folder.join(format!("{table}.csv.gz"))).ok()?;
        let mut text = String::new();
        MultiGzDecoder::new(file).read_to_string(&mut text).ok()?;
        texts.push(text);
    }
    let cut = |table: usize, column: usize, wanted: Option<&BTreeSet<String>>| {
        let mut lines = texts[table].lines();
        let header = lines.next().unwrap_or_default();
        let field = |line: &str| line.split(',').nth(column).unwrap_or_default().to_owned();
        let records = lines.filter(|line| wanted.is_none_or(|keys| keys.contains(&field(line))));
        let records: Vec<&str> = records.take(ROWS_MAX).collect();
        [vec![header], records].concat().join("\n") + "\n"
    };
    let keys = |text: &str, column: usize| -> BTreeSet<String> {
        text.lines().skip(1).filter_map(|line| line.split(',').nth(column)).map(str::to_owned).collect()
    };
    // The accounts that have the most to show: those with a loan.
    let loans = cut(5, 0, None);
    let wanted = keys(&loans, 1);
    let accounts = cut(2, 0, Some(&wanted));
    let dispositions = cut(3, 2, Some(&wanted));
    let clients = cut(1, 0, Some(&keys(&dispositions, 1)));
    let districts: BTreeSet<String> = &keys(&accounts, 1) | &keys(&clients, 2);
    Some([
        cut(0, 0, Some(&districts)),
        clients,
        accounts,
        cut(3, 2, Some(&wanted)),
        cut(4, 1, Some(&keys(&dispositions, 0))),
        loans,
        cut(6, 1, Some(&wanted)),
        cut(7, 1, Some(&wanted)),
        cut(8, 1, Some(&wanted)),
    ])
}

const MADE_UP: [&str; 9] = [
    "A1,A2,A3,A4,A5,A6,A7,A8,A9,A10,A11,A12,A13,A14,A15,A16\n\
     1,Brno,\"south, Moravia\",387570,0,0,0,1,1,100.0,9897,1.6,1.96,140,?,18696\n",
    "client_id,birth_number,district_id\n5,706213,1\n",
    "account_id,district_id,frequency,date\n9,1,POPLATEK MESICNE,1993-01-01\n",
    "disp_id,client_id,account_id,type\n3,5,9,OWNER\n",
    "card_id,disp_id,type,issued\n4,3,gold,1993-11-07\n",
    "loan_id,account_id,date,amount,duration,payments,status\n6,9,1993-07-05,96396,12,8033.00,B\n",
    "order_id,account_id,bank_to,account_to,amount,k_symbol\n7,9,YZ,87144583,2452.00,SIPO\n",
    "trans_id,account_id,date,seq,type,operation,amount,balance,k_symbol,bank,account,resid\n\
     1,9,1993-01-01,1,PRIJEM,VKLAD,900.00,900.00,,,,0.00\n\
     2,9,1993-01-31,2,VYDAJ,VYBER,14.60,885.40,SLUZBY,,,0.00\n",
    "trans_id,account_id,date,seq,type,operation,amount,balance,k_symbol,bank,account,resid\n",
];
