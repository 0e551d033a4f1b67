//! What was moved on each account, added up beside the replay and knowing nothing of it: at the end it must be what
//! the accounts say.
//!
//! Two places in memory for each posting, anywhere in a table that no cache holds: that is as much work as deciding
//! the posting, so it is done on a thread of its own, and many places are asked for before the first one is needed.

use std::hint::black_box;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

/// Movements handed over together, about.
const TOGETHER: usize = 8 * 1024;
/// Handed over and not added up yet, at most.
const WAITING: usize = 16;
/// Places asked for together.
const ASKED: usize = 64;

/// Money that came to an account, or went.
#[derive(Clone, Copy)]
pub struct Movement {
    /// The account's number.
    pub account: u64,
    /// ISO 4217 numeric code.
    pub currency: u16,
    /// In minor units.
    pub amount: i64,
    /// Whether it went.
    pub is_debit: bool,
}

impl Movement {
    fn signed(&self) -> i128 {
        let amount = self.amount as i128;
        if self.is_debit { -amount } else { amount }
    }
}

/// Adds up on another thread.
pub struct Adding<'s> {
    to: SyncSender<Vec<Movement>>,
    next: Vec<Movement>,
    thread: ScopedJoinHandle<'s, Sums>,
}

impl<'s> Adding<'s> {
    /// From nothing.
    pub fn begin(scope: &'s Scope<'s, '_>) -> Adding<'s> {
        let (to, movements) = sync_channel::<Vec<Movement>>(WAITING);
        let thread = scope.spawn(move || {
            let mut sums = Sums::default();
            movements.iter().for_each(|movements| sums.add(&movements));
            sums
        });
        Adding { to, next: Vec::with_capacity(TOGETHER), thread }
    }

    /// This too.
    #[inline]
    pub fn add(&mut self, movement: Movement) {
        if self.next.len() == TOGETHER {
            self.hand_over();
        }
        self.next.push(movement);
    }

    fn hand_over(&mut self) {
        let next = std::mem::replace(&mut self.next, Vec::with_capacity(TOGETHER));
        self.to.send(next).expect("it takes all there are");
    }

    /// All of it.
    pub fn end(mut self) -> Sums {
        self.hand_over();
        drop(self.to);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

#[derive(Clone, Copy, Default)]
struct Place {
    account: u64,
    /// Plus one: zero where the place is free.
    currency: u64,
    sum: i128,
}

/// The sums, by account and currency.
#[derive(Default)]
pub struct Sums {
    /// Searched from where the key falls; a power of two long, at most half full.
    places: Vec<Place>,
    /// Places that are not free and were not taken.
    len: usize,
}

impl Sums {
    fn add(&mut self, movements: &[Movement]) {
        for together in movements.chunks(ASKED) {
            if (self.len + together.len()) * 2 > self.places.len() {
                self.grow();
            }
            // None of these waits for another one, as the additions would.
            let look = |m: &Movement| self.places[self.home(m.account, m.currency)].currency;
            black_box(together.iter().map(look).fold(0, |all, one| all | one));
            for movement in together {
                let at = self.find(movement.account, movement.currency);
                let place = &mut self.places[at];
                if place.currency == 0 {
                    self.len += 1;
                    (place.account, place.currency) = (movement.account, movement.currency as u64 + 1);
                }
                place.sum += movement.signed();
            }
        }
    }

    /// Takes the sum of an account, once; zero where nothing moved.
    pub fn take(&mut self, account: u64, currency: u16) -> i128 {
        if self.places.is_empty() {
            return 0;
        }
        let at = self.find(account, currency);
        self.len -= usize::from(self.places[at].currency != 0);
        self.places[at].sum
    }

    /// Whether all were taken.
    pub fn are_taken(&self) -> bool {
        self.len == 0
    }

    fn home(&self, account: u64, currency: u16) -> usize {
        let key = account ^ (currency as u64) << 48 ^ 0x2545_f491_4f6c_dd1d;
        let product = key as u128 * 0x9e37_79b9_7f4a_7c15_u128;
        (product as u64 ^ (product >> 64) as u64) as usize & (self.places.len() - 1)
    }

    /// Its place, or the free one that it would have.
    fn find(&self, account: u64, currency: u16) -> usize {
        let mut at = self.home(account, currency);
        loop {
            let place = &self.places[at];
            if place.currency == 0 || (place.account, place.currency) == (account, currency as u64 + 1) {
                return at;
            }
            at = (at + 1) & (self.places.len() - 1);
        }
    }

    fn grow(&mut self) {
        let length = (self.places.len() * 2).max(ASKED * 4);
        let before = std::mem::replace(&mut self.places, vec![Place::default(); length]);
        for place in before.into_iter().filter(|place| place.currency != 0) {
            let at = self.find(place.account, (place.currency - 1) as u16);
            self.places[at] = place;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Held against the plainest way to add up, over more accounts than the table begins with, some in two currencies
    /// and with numbers that fall together.
    #[test]
    fn the_sums_are_those_of_the_movements() {
        let mut plain: BTreeMap<(u64, u16), i128> = BTreeMap::new();
        let mut random = 9u64;
        let mut sums = std::thread::scope(|scope| {
            let mut adding = Adding::begin(scope);
            for _ in 0..100_000 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let account = random >> 40 & 0xfff | (random >> 60) << 60;
                let currency = [0, 410, 840, u16::MAX][(random >> 38 & 3) as usize];
                let amount = if random >> 37 & 1 == 0 { i64::MIN } else { (random as i64) >> 20 };
                let movement = Movement { account, currency, amount, is_debit: random >> 36 & 1 == 0 };
                adding.add(movement);
                *plain.entry((account, currency)).or_default() += movement.signed();
            }
            adding.end()
        });
        assert!(!sums.are_taken() && plain.len() > 10_000);
        for ((account, currency), sum) in plain {
            assert_eq!(sums.take(account, currency), sum, "{account}, {currency}");
        }
        assert!(sums.are_taken());
        assert_eq!(sums.take(u64::MAX, 1), 0, "nothing moved");
    }
}
