//! Open holds, and the amounts reversed of earlier postings.

use crate::digest::{Digest, Object};
use crate::entry::{Date, Id};
use crate::saved::{Load, Save, load_count, load_words, save_words};
use pabal_fault::{Bug, planted};
use std::collections::{BTreeMap, BTreeSet};

/// Open holds at most; at the bound new ones are refused with `state_full`.
pub const HOLDS_MAX: usize = 16 << 20;
/// Postings with a reversed amount in memory at most; at the bound reversals are refused with `state_full`.
pub const REVERSED_MAX: usize = 16 << 20;
/// How many days back a posting can be reversed. Older amounts reversed leave memory.
pub const REVERSAL_DAYS: u16 = 400;
/// How far ahead a hold may end, milliseconds: 400 days.
pub const HOLD_MS_MAX: u64 = 400 * 24 * 60 * 60 * 1000;

/// Money reserved on an account for a later posting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The account that will pay.
    pub debit: u64,
    /// The account that will receive.
    pub credit: u64,
    /// What remains of it, minor units; never zero.
    pub remaining: i64,
    /// Milliseconds since 1970 at which it ends; zero when it backs a leg elsewhere.
    pub expires_ms: u64,
    /// Position of the entry that made it.
    pub position: u64,
    /// ISO 4217 numeric code.
    pub currency: u16,
    /// The [`crate::Kind`] that posting it will have.
    pub kind: u16,
}

impl Hold {
    /// Whether its time has passed.
    #[inline]
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_ms != 0 && self.expires_ms + planted(Bug::HoldUsableLate) as u64 <= now_ms
    }
}

/// All open holds, by id, by account and by the time of their ending.
#[derive(Default)]
pub struct Holds {
    by_id: BTreeMap<Id, Hold>,
    /// Account, time of ending, id: those of an account whose time has passed stand together, however many
    /// others it has.
    by_account: BTreeSet<(u64, u64, Id)>,
    by_expiry: BTreeSet<(u64, Id)>,
}

impl Holds {
    /// How many are open.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The open hold with this id.
    pub fn get(&self, id: Id) -> Option<&Hold> {
        self.by_id.get(&id)
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&Id, &Hold)> {
        self.by_id.iter()
    }

    /// Writes them all, by id.
    pub(crate) fn save(&self, save: &mut Save<'_>) {
        let missing = usize::from(planted(Bug::SnapshotHoldMissing) && !self.by_id.is_empty());
        save_words(save, &[(self.by_id.len() - missing) as u64]);
        self.by_id.iter().skip(missing).for_each(|(id, hold)| save_words(save, &words(*id, hold)));
    }

    /// Reads what [`Holds::save`] wrote, and adds it to the digest. None when it is not that.
    pub(crate) fn load(load: &mut Load<'_>, digest: &mut Digest) -> Option<Holds> {
        let mut holds = Holds::default();
        for _ in 0..load_count(load, HOLDS_MAX)? {
            let [high, low, debit, credit, remaining, expires_ms, position, kinds] = load_words(load)?;
            let (currency, kind) = ((kinds >> 16) as u16, kinds as u16);
            let remaining = remaining as i64;
            let hold = Hold { debit, credit, remaining, expires_ms, position, currency, kind };
            let (id, last) = (Id { high, low }, holds.by_id.last_key_value());
            if kinds >> 32 != 0 || remaining <= 0 || last.is_some_and(|(last, _)| *last >= id) {
                return None;
            }
            holds.set(id, Some(hold), digest);
        }
        Some(holds)
    }

    /// What remains on holds of this account whose time has passed but which were not released yet.
    pub fn expired_of(&self, account: u64, now_ms: u64) -> i64 {
        // Zero is no time of ending, but backs a leg elsewhere: from 1 to now, which may be zero itself.
        let range =
            (account, 1, Id::default())..=(account, now_ms.max(1), Id { high: u64::MAX, low: u64::MAX });
        let holds = self
            .by_account
            .range(range)
            .take_while(|(_, ends, _)| *ends <= now_ms)
            .filter_map(|(.., id)| self.by_id.get(id));
        holds.map(|hold| hold.remaining).sum()
    }

    /// The holds whose time has passed, oldest ending first, at most `n`.
    pub fn expired(&self, now_ms: u64, n: usize) -> Vec<Id> {
        self.by_expiry.iter().take_while(|(at, _)| *at <= now_ms).take(n).map(|(_, id)| *id).collect()
    }

    /// Puts the hold with this id to this value, or takes it away. Gives what it was.
    pub(crate) fn set(&mut self, id: Id, hold: Option<Hold>, digest: &mut Digest) -> Option<Hold> {
        let was = match hold {
            Some(hold) => self.by_id.insert(id, hold),
            None => self.by_id.remove(&id),
        };
        if let Some(was) = was {
            digest.remove(Object::Hold, &words(id, &was));
        }
        if let Some(hold) = hold {
            digest.add(Object::Hold, &words(id, &hold));
        }
        match (was, hold) {
            (None, Some(hold)) => {
                self.by_account.insert((hold.debit, hold.expires_ms, id));
                if hold.expires_ms != 0 || planted(Bug::BackedExpired) {
                    self.by_expiry.insert((hold.expires_ms, id));
                }
            }
            (Some(was), None) => {
                self.by_account.remove(&(was.debit, was.expires_ms, id));
                self.by_expiry.remove(&(was.expires_ms, id));
            }
            _ => {}
        }
        was
    }
}

fn words(id: Id, hold: &Hold) -> [u64; 8] {
    [
        id.high,
        id.low,
        hold.debit,
        hold.credit,
        hold.remaining as u64,
        hold.expires_ms,
        hold.position,
        (hold.currency as u64) << 16 | hold.kind as u64,
    ]
}

/// How much of a posting has been reversed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reversal {
    /// Minor units; never more than the posting's own amount.
    pub amount: i64,
    /// Booking date of the posting; its entry here leaves memory [`REVERSAL_DAYS`] after.
    pub booked: Date,
}

/// Amounts reversed, by position of the posting.
#[derive(Default)]
pub struct Reversed(BTreeMap<u64, Reversal>);

impl Reversed {
    /// How many postings have a reversed amount in memory.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What was reversed of the posting at this position, minor units.
    pub fn amount(&self, position: u64) -> i64 {
        self.0.get(&position).map_or(0, |r| r.amount)
    }

    /// All of them, by position.
    pub fn iter(&self) -> impl Iterator<Item = (&u64, &Reversal)> {
        self.0.iter()
    }

    /// Writes them all, by position.
    pub(crate) fn save(&self, save: &mut Save<'_>) {
        save_words(save, &[self.0.len() as u64]);
        let words = |(position, r): (&u64, &Reversal)| [*position, r.amount as u64, r.booked.0 as u64];
        self.0.iter().map(words).for_each(|words| save_words(save, &words));
    }

    /// Reads what [`Reversed::save`] wrote, and adds it to the digest. None when it is not that.
    pub(crate) fn load(load: &mut Load<'_>, digest: &mut Digest) -> Option<Reversed> {
        let mut reversed = Reversed::default();
        for _ in 0..load_count(load, REVERSED_MAX)? {
            let [position, amount, booked] = load_words(load)?;
            let reversal = Reversal { amount: amount as i64, booked: Date(u16::try_from(booked).ok()?) };
            let last = reversed.0.last_key_value();
            if reversal.amount <= 0 || last.is_some_and(|(last, _)| *last >= position) {
                return None;
            }
            reversed.set(position, Some(reversal), digest);
        }
        Some(reversed)
    }

    pub(crate) fn set(
        &mut self,
        position: u64,
        value: Option<Reversal>,
        digest: &mut Digest,
    ) -> Option<Reversal> {
        let was = match value {
            Some(value) => self.0.insert(position, value),
            None => self.0.remove(&position),
        };
        let words = |r: Reversal| [position, r.amount as u64, r.booked.0 as u64];
        if let Some(was) = was {
            digest.remove(Object::Reversed, &words(was));
        }
        if let Some(value) = value {
            digest.add(Object::Reversed, &words(value));
        }
        was
    }

    /// Lets go of amounts whose postings can no longer be reversed. Positions rise with booking dates.
    pub(crate) fn release(&mut self, today: Date, digest: &mut Digest) {
        while let Some((&position, &reversal)) = self.0.first_key_value()
            && reversal.booked.0.saturating_add(REVERSAL_DAYS) < today.0
        {
            self.set(position, None, digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At time zero, which carried time may be, there is no time of ending that has passed.
    #[test]
    fn at_any_time_what_has_passed_can_be_asked_for() {
        let (mut holds, id) = (Holds::default(), Id::default());
        let hold =
            Hold { debit: 1, credit: 2, remaining: 5, expires_ms: 1, position: 67, currency: 410, kind: 1 };
        holds.set(id, Some(hold), &mut Digest::default());
        assert_eq!([0, 1, u64::MAX].map(|now_ms| holds.expired_of(1, now_ms)), [0, 5, 5]);
    }
}
