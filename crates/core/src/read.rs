//! Reading an account's history from the journal itself, along the account's own links: newest first, no index.
//!
//! An entry says, for each of its two accounts, the balance after it, the position of that account's entry before it,
//! and one jump further back; so a page of a statement takes a read for each line, and any day of the past O(log n).

use crate::question::Line;
use pabal_bank::ledger::{Leg, Posting};
use pabal_journal::{Error, Position, Reader};
use zerocopy::FromBytes;

/// Why a history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] Error),
    /// A link leads to what is no posting of this account.
    #[error("position {0}: a history's link leads to an entry of another account")]
    Link(u64),
}

/// An account's history in a journal, as of a state.
pub struct History<'r> {
    /// Reads the journal.
    pub reader: &'r Reader,
    /// The account's number.
    pub account: u64,
    /// The block after the last record that this state has seen.
    pub end: u64,
}

impl History<'_> {
    /// An entry of it, and the account's own side of that.
    fn entry(&self, position: u64) -> Result<(Posting, Leg), ReadError> {
        let bytes = self.reader.entry_before(Position(position), self.end)?;
        let (posting, _) = Posting::read_from_prefix(&bytes).map_err(|_| ReadError::Link(position))?;
        let legs = [posting.outcome.debit, posting.outcome.credit];
        let leg = legs.into_iter().find(|leg| leg.account == self.account);
        // Links lead back, or reading would not end.
        let leg = leg.filter(|leg| leg.previous < position && leg.jump < position);
        Ok((posting, leg.ok_or(ReadError::Link(position))?))
    }

    /// Position of the newest entry at or before this one for which `is_late` is false; zero for none. `is_late` must
    /// be true for all that come after one for which it is.
    fn last(&self, head: u64, is_late: impl Fn(u64, &Posting) -> bool) -> Result<u64, ReadError> {
        let mut at = head;
        while at != 0 {
            let (posting, leg) = self.entry(at)?;
            if !is_late(at, &posting) {
                break;
            }
            let far = leg.jump != 0 && is_late(leg.jump, &self.entry(leg.jump)?.0);
            at = if far { leg.jump } else { leg.previous };
        }
        Ok(at)
    }

    /// The entries booked from one day to another and before a position (zero: any), newest first, no more than so
    /// many; and whether there are more. `head`: the newest of all.
    pub fn lines(
        &self,
        head: u64,
        (from, to): (u16, u16),
        before: u64,
        limit: usize,
    ) -> Result<(Vec<Line>, bool), ReadError> {
        let is_late =
            |at, posting: &Posting| posting.outcome.booking_date.0 > to || before != 0 && at >= before;
        let mut at = self.last(head, is_late)?;
        let mut lines = Vec::with_capacity(limit.min(64));
        while at != 0 {
            let (posting, leg) = self.entry(at)?;
            let o = &posting.outcome;
            if o.booking_date.0 < from {
                break;
            }
            if lines.len() == limit {
                return Ok((lines, true));
            }
            let debit = o.debit.account == self.account;
            lines.push(Line {
                position: at,
                amount: if debit { -o.amount } else { o.amount },
                balance: leg.balance,
                other: if debit { o.credit.account } else { o.debit.account },
                reference: posting.command.reference,
                booking_date: o.booking_date,
                value_date: posting.command.value_date,
                nominal_date: posting.command.nominal_date,
                kind: o.kind,
            });
            at = leg.previous;
        }
        Ok((lines, false))
    }

    /// The balance at the end of a day. `head`: the newest entry of all.
    pub fn balance_as_of(&self, head: u64, day: u16) -> Result<i64, ReadError> {
        let at = self.last(head, |_, posting| posting.outcome.booking_date.0 > day)?;
        if at == 0 { Ok(0) } else { Ok(self.entry(at)?.1.balance) }
    }
}
