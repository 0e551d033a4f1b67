//! `pabal statement` and `pabal balance`: the state from the newest good snapshot on ([`super::state`]), then the account's
//! own links followed, as a running bank follows them ([`pabal_core::read`]).
//!
//! A running bank is read too, up to its last confirmed record: neither waits for the other.

use super::show::grouped;
use super::state::{self, State};
use super::verify::Unbalanced;
use crate::dates;
use crate::progress::Bar;
use anyhow::{Context as _, bail, ensure};
use iso_currency::Currency;
use jiff::civil::Date;
use pabal_bank::ledger::Kind;
use pabal_bank::ledger::account::Account;
use pabal_core::question::Line;
use pabal_core::read::History;
use pabal_engine::engine::JOURNAL;
use pabal_journal::Reader;
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::path::Path;

/// Code and decimals of a currency by its number (ISO 4217); `XXX`, no currency, where there is none.
fn currency(numeric: u16) -> (&'static str, u8) {
    let known = Currency::from_numeric(numeric).unwrap_or(Currency::XXX);
    (known.code(), known.exponent().unwrap_or(0) as u8)
}

fn day(date: Option<Date>, missing: u16) -> anyhow::Result<u16> {
    date.map_or(Ok(missing), |date| dates::to_days(date).context(dates::RANGE))
}

/// A bank read from its files, and one account of it.
struct Found {
    state: State,
    account: Account,
    reader: Reader,
}

impl Found {
    /// Its history, as far as the journal was read.
    fn history(&self) -> History<'_> {
        let end = self.state.scanned.next_block;
        History { reader: &self.reader, account: self.account.number, end }
    }
}

fn find(data: &Path, number: u64, bar: &Bar) -> anyhow::Result<Found> {
    bar.begin("reading the journal");
    let state = state::now(data, bar)?;
    ensure!(state::is_balanced(&state.machine), Unbalanced);
    let ledger = state.machine.0.ledger();
    let Some(account) = ledger.account(number).copied() else {
        let mut numbers: Vec<u64> = ledger.accounts().iter().map(|a| a.number).collect();
        numbers.sort_unstable();
        let some: Vec<String> = numbers.iter().take(3).map(u64::to_string).collect();
        let there = match numbers.len() {
            0 => "no account is open yet".to_string(),
            all => format!("its first are {}, of {}", some.join(", "), grouped(all as u64)),
        };
        bail!("no account {number} in {}: {there}", data.display());
    };
    let found = Found { account, state, reader: Reader::open(&data.join(JOURNAL))? };
    // Its newest entry in the journal says the same as the state, wherever that was begun from.
    let written = found.history().balance_as_of(found.account.head(), u16::MAX)?;
    ensure!(written == found.account.balance, Unbalanced);
    Ok(found)
}

/// The entries of an account, oldest first.
pub fn statement(
    data: &Path,
    account: u64,
    last: Option<NonZeroUsize>,
    (from, to): (Option<Date>, Option<Date>),
    bar: &Bar,
) -> anyhow::Result<Value> {
    if let (Some(from), Some(to)) = (from, to)
        && from > to
    {
        bail!("--from {from} is after --to {to}: swap them");
    }
    let (from, to) = (day(from, 0)?, day(to, u16::MAX)?);
    let found = find(data, account, bar)?;
    let limit = last.map_or(usize::MAX, NonZeroUsize::get);
    let (lines, _) = found.history().lines(found.account.head(), (from, to), 0, limit)?;
    let entry = |line: &Line| {
        let kind = u8::try_from(line.kind).ok().and_then(Kind::from_u8).map_or("unknown", Kind::name);
        json!({
            "position": line.position,
            "date": dates::to_date(line.booking_date.0).to_string(),
            "kind": kind,
            "amount": line.amount,
            "balance": line.balance,
        })
    };
    let entries: Vec<Value> = lines.iter().rev().map(entry).collect();
    Ok(json!({
        "account": account,
        "currency": currency(found.account.currency).0,
        "entries": entries,
        "from_snapshot": found.state.snapshot,
        "up_to_record": found.state.scanned.records,
        "being_written": found.state.scanned.writer_lives,
    }))
}

/// The balance of an account at the end of a day, or now.
pub fn balance(data: &Path, account: u64, as_of: Option<Date>, bar: &Bar) -> anyhow::Result<Value> {
    let all = find(data, account, bar)?;
    let (found, scanned, bank) = (all.account, &all.state.scanned, &all.state.machine.0);
    let moment = bank.moment();
    let as_of = day(as_of, moment.date.0)?;
    let (mut balance, mut held, mut available) =
        (found.balance, found.held, bank.ledger().available(&found, &moment));
    if as_of < moment.date.0 {
        balance = all.history().balance_as_of(found.head(), as_of)?;
        // What was held then is known only to the state of then.
        bar.begin("reading up to that day");
        let (then, _) = state::at_the_end_of(data, bar, as_of)?;
        let found = then.0.ledger().account(account);
        held = found.map_or(0, |a| a.held);
        available = found.map_or(0, |a| then.0.ledger().available(a, &then.0.moment()));
    }
    Ok(json!({
        "account": account,
        "currency": currency(found.currency).0,
        "balance": balance,
        "held": held,
        "available": available,
        "as_of": dates::to_date(as_of).to_string(),
        "opened": dates::to_date(found.opened.0).to_string(),
        "business_date": dates::to_date(moment.date.0).to_string(),
        "from_snapshot": all.state.snapshot,
        "up_to_record": scanned.records,
        "being_written": scanned.writer_lives,
    }))
}
