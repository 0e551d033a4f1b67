//! `pabal statement` and `pabal balance`: read from the journal itself, along the account's links.

use super::show::grouped;
use super::verify::{self, Replayed};
use crate::dates;
use crate::progress::Bar;
use anyhow::{Context as _, bail, ensure};
use iso_currency::Currency;
use jiff::civil::Date;
use pabal_bank::ledger::account::Account;
use pabal_bank::ledger::{Kind, Leg, Posting};
use pabal_engine::engine::JOURNAL;
use pabal_journal::{Position, Reader};
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::path::Path;
use zerocopy::FromBytes;

/// Code and decimals of a currency by its number (ISO 4217); `XXX`, no currency, where there is none.
fn currency(numeric: u16) -> (&'static str, u8) {
    let known = Currency::from_numeric(numeric).unwrap_or(Currency::XXX);
    (known.code(), known.exponent().unwrap_or(0) as u8)
}

/// An entry of an account's history, and the account's own side of it.
fn entry(reader: &Reader, position: u64, account: u64) -> anyhow::Result<(Posting, Leg)> {
    let bytes = reader.entry(Position(position))?;
    let (posting, _) = Posting::read_from_prefix(&bytes).ok().context("an entry is 192 bytes")?;
    let o = &posting.outcome;
    let leg = [o.debit, o.credit].into_iter().find(|leg| leg.account == account);
    Ok((posting, leg.context("a history's link leads to an entry of another account")?))
}

/// Position of the newest entry booked on or before a day, O(log n) reads away. Zero for none.
fn last_until(reader: &Reader, account: u64, head: u64, day: u16) -> anyhow::Result<u64> {
    let mut at = head;
    while at != 0 {
        let (posting, leg) = entry(reader, at, account)?;
        if posting.outcome.booking_date.0 <= day {
            break;
        }
        let far = leg.jump != 0 && entry(reader, leg.jump, account)?.0.outcome.booking_date.0 > day;
        at = if far { leg.jump } else { leg.previous };
    }
    Ok(at)
}

fn day(date: Option<Date>, missing: u16) -> anyhow::Result<u16> {
    date.map_or(Ok(missing), |date| dates::to_days(date).context(dates::RANGE))
}

/// A bank read from its journal, and one account of it.
struct Found {
    replayed: Replayed,
    account: Account,
    reader: Reader,
}

fn find(data: &Path, number: u64, bar: &Bar) -> anyhow::Result<Found> {
    bar.begin("reading the journal");
    let replayed = verify::replay(data, bar, &mut |_, _| {})?;
    ensure!(replayed.balanced, verify::Unbalanced);
    let ledger = replayed.machine.0.ledger();
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
    Ok(Found { account, replayed, reader: Reader::open(&data.join(JOURNAL))? })
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
    let Found { replayed, account: found, reader } = find(data, account, bar)?;
    let mut at = last_until(&reader, account, found.head(), to)?;
    let mut entries = Vec::new();
    while at != 0 && entries.len() < last.map_or(usize::MAX, NonZeroUsize::get) {
        let (posting, leg) = entry(&reader, at, account)?;
        let o = &posting.outcome;
        if o.booking_date.0 < from {
            break;
        }
        let amount = if o.debit.account == account { -o.amount } else { o.amount };
        let kind = u8::try_from(o.kind).ok().and_then(Kind::from_u8).map_or("unknown", Kind::name);
        entries.push(json!({
            "position": at,
            "date": dates::to_date(o.booking_date.0).to_string(),
            "kind": kind,
            "amount": amount,
            "balance": leg.balance,
        }));
        at = leg.previous;
    }
    entries.reverse();
    Ok(json!({
        "account": account,
        "currency": currency(found.currency).0,
        "entries": entries,
        "up_to_record": replayed.scanned.records,
        "being_written": replayed.scanned.writer_lives,
    }))
}

/// The balance of an account at the end of a day, or now.
pub fn balance(data: &Path, account: u64, as_of: Option<Date>, bar: &Bar) -> anyhow::Result<Value> {
    let Found { replayed, account: found, reader } = find(data, account, bar)?;
    let bank = &replayed.machine.0;
    let moment = bank.moment();
    let as_of = day(as_of, moment.date.0)?;
    let (mut balance, mut held, mut available) =
        (found.balance, found.held, bank.ledger().available(&found, &moment));
    if as_of < moment.date.0 {
        let at = last_until(&reader, account, found.head(), as_of)?;
        balance = if at == 0 { 0 } else { entry(&reader, at, account)?.1.balance };
        // What was held then is known only to the state of then.
        bar.begin("reading up to that day");
        let then = verify::replay_until(data, bar, as_of)?;
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
        "up_to_record": replayed.scanned.records,
        "being_written": replayed.scanned.writer_lives,
    }))
}
