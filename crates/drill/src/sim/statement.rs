//! A statement, read from the journal itself by the links of its entries, and what it should say.

use super::judge::wrong;
use crate::model::Booked;
use pabal_bank::ledger::{Leg, Posting};
use pabal_journal::{Error, Position, Reader};
use zerocopy::FromBytes;

/// A line of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    position: u64,
    date: u16,
    leg: Leg,
}

/// Reads from the newest entry of this account back to its first.
pub fn read(reader: &Reader, number: u64, head: u64) -> Result<Vec<Line>, Error> {
    let mut lines: Vec<Line> = Vec::new();
    let mut at = head;
    while at != 0 {
        if lines.last().is_some_and(|line| line.position <= at) {
            wrong("statement", format!("a link of account {number} leads forward to {at}"));
        }
        let entry = reader.entry(Position(at))?;
        let Ok((posting, _)) = Posting::read_from_prefix(&entry) else {
            wrong("statement", format!("a link of account {number} leads to {at}, no posting"));
        };
        let o = posting.outcome;
        let Some(leg) = [o.debit, o.credit].into_iter().find(|leg| leg.account == number) else {
            wrong("statement", format!("a link of account {number} leads to {at}, another's"));
        };
        lines.push(Line { position: at, date: o.booking_date.0, leg });
        at = leg.previous;
    }
    lines.reverse();
    Ok(lines)
}

/// Compares it, oldest first, with what was booked; and looks for the last line of each of these days by jumps.
pub fn check(lines: &[Line], number: u64, booked: &[Booked], dates: [u16; 2]) {
    let mut balance = 0i128;
    let mut should = booked.iter().filter(|b| b.debit == number || b.credit == number);
    for line in lines {
        let Some(b) = should.next() else { wrong("statement", format!("{line:?} was not booked")) };
        balance += if b.credit == number { b.amount as i128 } else { -(b.amount as i128) };
        let same = (line.position, line.date, line.leg.balance as i128) == (b.position, b.date, balance);
        if !same {
            wrong("statement", format!("account {number}: {line:?}, should be {b:?} with {balance}"));
        }
    }
    if let Some(b) = should.next() {
        wrong("statement", format!("account {number}: {b:?} is missing"));
    }
    jumps(lines, number);
    for date in dates {
        find(lines, number, date);
    }
}

/// Each line's jump leads where those of a skew-binary list do.
fn jumps(lines: &[Line], number: u64) {
    // Of each line, the number of the one that it jumps to, counted from one.
    let mut to: Vec<usize> = vec![0];
    for (i, line) in lines.iter().enumerate() {
        let n = i + 1;
        let before = n - 1;
        let (first, second) = (to[before], to[to[before]]);
        // Two trees of one size become one.
        let jump = if before - first == first - second && before > 0 { second } else { before };
        to.push(jump);
        let position = jump.checked_sub(1).map_or(0, |at| lines[at].position);
        if line.leg.jump != position {
            wrong("statement", format!("account {number}: {line:?} should jump to {position}"));
        }
    }
}

/// The last line of a day or of one before it is found by jumps.
fn find(lines: &[Line], number: u64, date: u16) {
    let at = |position: u64| lines.iter().find(|line| line.position == position);
    let mut here = lines.last();
    while let Some(line) = here.filter(|line| line.date > date) {
        let far = at(line.leg.jump).filter(|far| far.date > date);
        here = far.or_else(|| at(line.leg.previous));
    }
    let should = lines.iter().rev().find(|line| line.date <= date);
    if here != should {
        wrong("statement", format!("account {number} on {date}: {here:?}, should be {should:?}"));
    }
}
