//! The books of a Czech bank of 1993 to 1998 (PKDD'99, "Berka"): read, checked, posted, and proven.
//!
//! Everything is read and checked before anything is posted. The books then become one job: numbered items
//! in an order that follows from the files alone, each journaled once, so that an import that was killed
//! goes on where it stopped. At the end the figures are not counted while posting but read from the journal:
//! every printed row against the balance that the ledger recorded.

mod books;
mod parse;
mod parse_codes;
mod parse_error;
mod parse_field;
mod parse_file;
mod parse_rows;
mod tables;

use crate::command::verify;
use crate::ids;
use crate::progress::Bar;
use anyhow::bail;
use books::{Books, Row};
use pabal_bank::command;
use pabal_bank::ledger::window::CAPACITY_DEFAULT;
use pabal_bank::ledger::{Class, Code, Command, Date, Id, Kind, Posting};
use pabal_core::{Answer, BankMachine, Query};
use pabal_engine::request::BULK_COMMANDS_MAX;
use pabal_engine::{Commands, Engine, EngineConfig, Lane, Request, RequestHeader, TimeSource};
use pabal_journal::JournalConfig;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::time::Instant;
use zerocopy::IntoBytes;

/// Czech crown.
const CZK: u16 = 203;
/// The bank's own accounts have these numbers: this and the class. Above all imported ones (15 digits).
const OWN: u64 = 9_000_000_000_000_000;
const DAY_MS: u64 = 86_400_000;
/// Requests on their way at a time; the bulk lane holds 64.
const IN_FLIGHT: usize = 32;

/// Bytes of commands in a request, give or take one: kept records are long, and a bulk record is bounded.
const REQUEST_BYTES: usize = 64 * 1024;

/// Imports the folder into a data folder. Gives the figures, and whether every row matched.
pub fn import(dir: &Path, data: &Path, bar: &Bar) -> anyhow::Result<(Value, bool)> {
    let begun = Instant::now();
    let books = books::read(dir, bar)?;
    let job = job_of(&books);
    let already = match there(data, bar)? {
        None => false,
        Some(jobs) => match jobs.iter().find(|(id, _)| *id == job) {
            Some((_, ended)) => *ended,
            None if jobs.is_empty() => {
                bail!("{}: holds other books; import into an empty folder (--data)", data.display())
            }
            None => {
                bail!("{}: holds the import of other files; use an empty folder (--data)", data.display())
            }
        },
    };
    if !already {
        post(&books, job, data, bar)?;
    }
    let (mut report, good) = audit(&books, data, bar)?;
    report["already"] = json!(already);
    report["seconds"] = json!((begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0);
    Ok((report, good))
}

/// The jobs that a data folder holds; None when it holds nothing yet.
fn there(data: &Path, bar: &Bar) -> anyhow::Result<Option<Vec<(Id, bool)>>> {
    if !verify::holds_a_journal(data)? {
        return Ok(None);
    }
    bar.begin("reading what is there");
    let replayed = verify::replay(data, bar, &mut |_, _| {})?;
    if !replayed.machine.0.is_founded() {
        return Ok(None);
    }
    Ok(Some(replayed.machine.0.jobs().map(|(id, _, ended)| (id, ended)).collect()))
}

fn job_of(books: &Books) -> Id {
    let word = |at: usize| u64::from_le_bytes(books.digest[at..at + 8].try_into().expect("eight bytes"));
    Id { high: word(0), low: word(8) }
}

/// An item: the day it carries, its command, and the row that it came from.
struct Item {
    date: u16,
    command: Vec<u8>,
    row: Option<usize>,
}

/// All items, in the order that follows from the books alone.
fn items(books: &Books, job: Id) -> Vec<Item> {
    let first_account = books.accounts.first().map(|a| a.opened);
    let first_row = books.rows.first().map(|r| r.date);
    let first = first_account.into_iter().chain(first_row).min().unwrap_or(0);
    let mut items: Vec<Item> = Vec::new();
    let id = |date: u16, number: usize| {
        let mut hash = blake3::Hasher::new();
        hash.update(&books.digest).update(&(number as u64).to_le_bytes());
        let word = u64::from_le_bytes(hash.finalize().as_bytes()[..8].try_into().expect("eight bytes"));
        Id::new(date as u64 * DAY_MS, word as u16, word)
    };
    let push = |items: &mut Vec<Item>, date: u16, row: Option<usize>, make: &dyn Fn(Id) -> Vec<u8>| {
        let command = make(id(date, items.len()));
        items.push(Item { date, command, row });
    };
    let bytes = |command: Command| command.as_bytes().to_vec();
    push(&mut items, first, None, &|id| {
        let rules = pabal_bank::RULES_CURRENT;
        bytes(command::found(id, CAPACITY_DEFAULT, ids::random(), rules, Date(first)))
    });
    for class in Class::ALL.iter().filter(|c| **c != Class::CustomerDeposit) {
        push(&mut items, first, None, &|id| {
            bytes(command::open(id, OWN + *class as u64, *class, CZK, 0, i64::MAX))
        });
    }
    for kept in &books.kept {
        push(&mut items, first, None, &|id| {
            command::keep_record(id, kept.kind, kept.key, &kept.text).expect("length was checked")
        });
    }
    let days: BTreeSet<u16> =
        books.accounts.iter().map(|a| a.opened).chain(books.rows.iter().map(|r| r.date)).collect();
    let (mut accounts, mut rows) =
        (books.accounts.iter().peekable(), books.rows.iter().enumerate().peekable());
    for day in days {
        if day > first {
            push(&mut items, day, None, &|id| bytes(command::advance_date(id, Date(day))));
        }
        while let Some(a) = accounts.next_if(|a| a.opened == day) {
            push(&mut items, day, None, &|id| {
                bytes(command::open(id, a.number, Class::CustomerDeposit, CZK, a.owner, a.overdraft))
            });
        }
        while let Some((i, row)) = rows.next_if(|(_, r)| r.date == day) {
            for posting in postings(row) {
                push(&mut items, day, Some(i), &|id| bytes(Command { id, ..posting }));
            }
        }
    }
    let last = items.last().map_or(first, |item| item.date);
    push(&mut items, last, None, &|id| bytes(command::end_job(id, job)));
    items
}

/// The one or two postings of a row: its amount, and what rounding left over.
fn postings(row: &Row) -> Vec<Command> {
    let make = |kind, into: bool, contra: Class, amount| {
        let (own, other) = (row.account, OWN + contra as u64);
        let (debit, credit) = if into { (other, own) } else { (own, other) };
        let mut command = command::post(Id::default(), kind, debit, credit, amount, CZK);
        command.reference[..8].copy_from_slice(&row.trans_id.to_le_bytes());
        (command.nominal_date, command.value_date) = (Date(row.date), Date(row.date));
        command
    };
    let mut both = Vec::with_capacity(2);
    if row.amount != 0 {
        both.push(make(row.kind, row.credit, row.contra, row.amount));
    }
    if row.residual != 0 {
        both.push(make(Kind::Rounding, row.residual > 0, Class::Rounding, row.residual.abs()));
    }
    both
}

fn post(books: &Books, job: Id, data: &Path, bar: &Bar) -> anyhow::Result<()> {
    let items = items(books, job);
    verify::make_folder(data)?;
    let config = EngineConfig {
        journal: JournalConfig::default(),
        journal_id: ids::random(),
        time: TimeSource::Carried,
    };
    let (engine, recovery) = Engine::start(data, BankMachine::default(), config, &mut |_| {})?;
    if let Some(cut) = recovery.journal.cut {
        eprintln!(
            "a torn record was cut: sequence {}, {} blocks from block {}; it was never acknowledged",
            cut.sequence, cut.blocks, cut.from_block
        );
    }
    let Answer::Job(begun) = engine.query(Query::Job(job)).wait()? else {
        bail!("the bank was asked how far the job has come and answered something else");
    };
    let next = begun.map_or(0, |(next, _)| next as usize);
    bar.begin("posting");
    let mut waiting = VecDeque::new();
    let (mut at, mut done) = (next, next);
    while at < items.len() || !waiting.is_empty() {
        if at < items.len() && waiting.len() < IN_FLIGHT {
            let mut commands = Commands::new();
            let date = items[at].date;
            let mut header = RequestHeader::new(Lane::Bulk, 4);
            (header.attempt, header.item) = ([job.high, job.low], at as u64);
            header.time_ms = date as u64 * DAY_MS;
            let from = at;
            while at < items.len()
                && items[at].date == date
                && commands.len() < BULK_COMMANDS_MAX
                && commands.as_bytes().len() < REQUEST_BYTES
            {
                commands.push(&items[at].command);
                at += 1;
            }
            waiting.push_back((from, engine.submit(Request { header, commands })));
            continue;
        }
        let Some((from, ticket)) = waiting.pop_front() else { break };
        for (i, reply) in ticket.wait()?.replies.iter().enumerate() {
            if reply.code != Code::Done {
                let place = items[from + i].row.map_or_else(String::new, |row| {
                    let row = &books.rows[row];
                    format!(" ({}, line {})", books.files[row.file as usize], row.line)
                });
                bail!("item {} of the import was refused: {}{place}", from + i, reply.code);
            }
            done += 1;
        }
        bar.at(done as u64, items.len() as u64);
    }
    engine.stop()?;
    Ok(())
}

/// Reads the journal and holds every printed row against what the ledger recorded.
fn audit(books: &Books, data: &Path, bar: &Bar) -> anyhow::Result<(Value, bool)> {
    let mut expected = books.rows.iter().flat_map(|row| {
        let postings = postings(row);
        let last = postings.len().saturating_sub(1);
        postings.into_iter().enumerate().map(move |(i, posting)| (row, posting, i == last))
    });
    let mut balances: BTreeMap<u64, i64> = BTreeMap::new();
    let mut printed: BTreeMap<u64, i64> = BTreeMap::new(); // by trans_id: the balance recorded after it
    let mut in_order = true;
    bar.begin("proving");
    let replayed = verify::replay(data, bar, &mut |_, posting: &Posting| {
        if !posting.is_booked() {
            return;
        }
        let o = &posting.outcome;
        let Some((row, wanted, last)) = expected.next() else {
            in_order = false;
            return;
        };
        let own = if o.debit.account == row.account { &o.debit } else { &o.credit };
        in_order &= own.account == row.account
            && (o.debit.account, o.credit.account) == (wanted.debit, wanted.credit)
            && o.amount == wanted.amount
            && o.kind == wanted.kind
            && posting.command.reference == wanted.reference
            && o.booking_date == Date(row.date);
        balances.insert(row.account, own.balance);
        if last {
            printed.insert(row.trans_id, own.balance);
        }
    })?;
    in_order &= expected.next().is_none();
    let (mut matched, mut wrong_accounts) = (0u64, BTreeSet::new());
    let mut running: BTreeMap<u64, i64> = BTreeMap::new();
    for row in &books.rows {
        let balance = running.entry(row.account).or_default();
        // A row of nothing leaves the balance as it was.
        *balance = printed.get(&row.trans_id).copied().unwrap_or(*balance);
        if in_order && *balance == row.balance {
            matched += 1;
        } else {
            if wrong_accounts.len() < 10 {
                eprintln!(
                    "{}, line {}: printed balance {}, ledger {balance} (hellers)",
                    books.files[row.file as usize], row.line, row.balance
                );
            }
            wrong_accounts.insert(row.account);
        }
    }
    let rows = books.rows.len() as u64;
    let report = json!({
        "accounts": books.accounts.len(),
        "clients": books.clients,
        "orders": books.orders,
        "rows": rows,
        "rows_matched": matched,
        "rows_mismatched": rows - matched,
        "histories_matched": running.len() - wrong_accounts.len(),
        "postings": replayed.postings,
        "balanced": replayed.balanced,
    });
    Ok((report, matched == rows && in_order && replayed.balanced))
}
