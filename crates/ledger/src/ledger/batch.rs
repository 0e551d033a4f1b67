//! Batches and bundles: what a bundle takes back, and the digest, which is taken of each account that a batch touched
//! once, at its end or, of many accounts, while it is near.

use super::Ledger;
use crate::account::Account;
use crate::digest::{Digest, Object};
use crate::holds::{Holds, Reversed};
use crate::undo::Undo;
use pabal_fault::{Bug, planted};

/// Accounts whose memory is asked for before the digest comes to them.
const DIGEST_AHEAD: usize = 12;
/// Touched accounts that wait for the digest while they are near, where they would be far by the batch's end. Some do
/// wait: what was just stored is not to be read back at once.
const NEAR: usize = 16;
/// Accounts from which on they would: together they are several times what a processor keeps near. With fewer, most of
/// a batch's accounts are touched more than once in it, and hashing them once saves more.
const MANY: usize = 64 * 1024;

/// The mark that no batch has.
const NO_BATCH: u32 = 0;
pub(super) const FIRST_BATCH: u32 = 1;

impl Ledger {
    /// Begins a bundle: from here on every change can be taken back.
    pub fn begin_bundle(&mut self) {
        assert!(self.undo.is_none(), "bundles do not nest");
        self.undo = Some(Vec::new());
    }

    /// Ends the bundle, keeping its changes or taking them all back.
    pub fn end_bundle(&mut self, keep: bool) {
        let undo = self.undo.take().expect("a bundle was begun");
        if keep {
            return;
        }
        for change in undo.into_iter().rev() {
            match change {
                Undo::Account(slot, was, far) => {
                    *self.accounts.get_mut(slot) = *was;
                    self.far.set(slot, far);
                }
                Undo::Hold(..) if planted(Bug::BundleHalfDone) => {}
                Undo::Hold(id, was) => {
                    self.holds.set(id, was, &mut self.digest);
                }
                Undo::Reversed(position, was) => {
                    self.reversed.set(position, was, &mut self.digest);
                }
            }
        }
    }

    /// Takes the digest over all objects, as they are now.
    pub fn digest(&mut self) -> Digest {
        for i in self.settled..self.touched.len() {
            if let Some(&ahead) = self.touched.get(i + DIGEST_AHEAD) {
                self.accounts.prefetch_slot(ahead);
            }
            self.digest.add(Object::Account, &words(self.accounts.get(self.touched[i])));
        }
        self.touched.clear();
        self.settled = 0;
        self.batch = self.batch.wrapping_add(1);
        if self.batch == NO_BATCH {
            // 2^32 batches: marks of one round must not be taken for the next one's.
            self.batch = FIRST_BATCH;
            for slot in 0..self.accounts.len() as u32 {
                self.accounts.get_mut(slot).touched = NO_BATCH;
            }
        }
        self.digest.plus(self.far.digest())
    }

    /// The digest worked out anew from all objects; equal to [`Ledger::digest`] unless memory rotted.
    pub fn digest_anew(&self) -> Digest {
        let mut digest = self.far.digest_anew();
        for slot in 0..self.accounts.len() as u32 {
            let account = self.accounts.get(slot);
            digest.add(Object::Account, &words(account));
        }
        let (mut holds, mut reversed) = (Holds::default(), Reversed::default());
        for (id, hold) in self.holds.iter() {
            holds.set(*id, Some(*hold), &mut digest);
        }
        for (position, reversal) in self.reversed.iter() {
            reversed.set(*position, Some(*reversal), &mut digest);
        }
        digest
    }

    #[inline(always)]
    pub(super) fn touch(&mut self, slot: u32) {
        if self.undo.is_some() {
            let was = Box::new(*self.accounts.get(slot));
            let far = self.far.get(slot);
            self.mark(slot);
            let was = Box::new(Account { touched: self.batch, ..*was });
            self.remember(Undo::Account(slot, was, far));
        } else {
            self.mark(slot);
        }
    }

    #[inline(always)]
    fn mark(&mut self, slot: u32) {
        let account = self.accounts.get(slot);
        if account.touched != self.batch {
            self.digest.remove(Object::Account, &words(account));
            self.accounts.get_mut(slot).touched = self.batch;
            self.touched.push(slot);
            // Not within a bundle: what is taken back is marked as it was.
            if self.accounts.len() >= MANY && self.undo.is_none() {
                self.settle();
            }
        }
    }

    /// Adds the oldest of the touched accounts to the digest, if enough others wait. Touched again, it is taken away
    /// again.
    #[inline(always)]
    fn settle(&mut self) {
        if self.touched.len() - self.settled <= NEAR {
            return;
        }
        let slot = self.touched[self.settled];
        self.settled += 1;
        self.digest.add(Object::Account, &words(self.accounts.get(slot)));
        self.accounts.get_mut(slot).touched = NO_BATCH;
    }

    #[inline]
    pub(super) fn remember(&mut self, undo: Undo) {
        if let Some(list) = &mut self.undo {
            list.push(undo);
        }
    }
}

/// An account's words without the mark that is not state: the upper half of the eighth.
#[inline(always)]
pub(super) fn words(account: &Account) -> [u64; 16] {
    const MARK: usize = std::mem::offset_of!(Account, touched);
    const _: () = assert!(MARK % 8 == 4);
    let mut words: [u64; 16] = zerocopy::transmute!(*account);
    words[MARK / 8] &= 0xffff_ffff;
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Date;
    use crate::rules::Class;

    /// Whether many are touched or few, the same one again at once or much later, alone or in a bundle that is taken back.
    #[test]
    fn of_many_accounts_each_is_in_the_digest_as_it_is() {
        let mut ledger = Ledger::default();
        let last = MANY as u64 + 10;
        for number in 1..=last {
            ledger.open(Account::new(number, Class::CustomerDeposit as u8, 410, 0, Date(1)));
        }
        assert_eq!(ledger.digest(), ledger.digest_anew(), "opened in one batch");
        let mut random = 1u64;
        for batch in 0..200 {
            for _ in 0..batch {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                // Few of them, so that most come again, some while they wait and some after.
                let number = 1 + (random >> 33) % (2 * NEAR as u64 + 1) * (last / (2 * NEAR as u64 + 1));
                let bundle = random >> 20 & 7;
                if bundle < 2 {
                    ledger.begin_bundle();
                }
                ledger.change(number, |account| account.overdraft += 1);
                ledger.change(last - number, |account| account.ceiling -= 1);
                if bundle < 2 {
                    ledger.end_bundle(bundle == 0);
                }
            }
            assert_eq!(ledger.digest(), ledger.digest_anew(), "batch {batch}");
        }
    }

    /// After 2^32 batches the marks begin anew, as often as that is.
    #[test]
    fn an_account_that_rested_for_a_whole_round_of_marks_is_digested() {
        let mut ledger = Ledger::default();
        for number in 1..=2 {
            ledger.open(Account::new(number, Class::CustomerDeposit as u8, 410, 0, Date(1)));
        }
        for round in 0..3 {
            // The first rests from the last batch of a round to the last of the next, the second from the first.
            for number in 1..=2 {
                ledger.change(number, |account| account.overdraft += 1);
                assert_eq!(ledger.digest(), ledger.digest_anew(), "round {round}, account {number}");
            }
            ledger.batch = u32::MAX;
        }
    }
}
