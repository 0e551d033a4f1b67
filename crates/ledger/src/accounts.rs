//! All accounts: 128 bytes each in slabs that never move, found by number through an open-addressed index.
//!
//! Memory per account: 128 bytes and 11 to 22 of index, a quarter empty at least. A place of the index holds half of
//! the number's hash beside the slot, so that a look-up that passes other accounts' places reads none of these
//! accounts: each would be a wait for far memory. Slabs, not one growing array, so that growth never copies accounts
//! nor holds them twice; nor does the index read them when it grows, as the half of the hash says each one's place.

use crate::account::Account;
use crate::saved::{Load, Save, load_count, save_words};
use zerocopy::IntoBytes;

/// Accounts at most: slots are 32 bits, one value means "none".
pub const ACCOUNTS_MAX: usize = u32::MAX as usize - 1;
/// Accounts of a slab: 8 MiB, of which those that are not there yet are never touched. So few that where they lie stays
/// in the processor's nearest memory: with slabs of 1024, twenty million accounts cost a wait more for each of them.
const SLAB: usize = 64 * 1024;
/// Accounts that are read back at a time.
const PIECE: usize = 1024;
/// How many accounts before its turn the place of one in the index is asked for.
const PLACE_AHEAD: usize = 32;

/// The accounts of the ledger.
#[derive(Default)]
pub struct Accounts {
    /// None of them ever grows beyond the room that it was made with.
    slabs: Vec<Vec<Account>>,
    /// Tag of an account above its slot + 1, zero for none; a power of two long, at most three quarters full.
    index: Vec<u64>,
    len: usize,
}

/// The half of a number's hash by which the index knows it.
#[inline(always)]
fn tag(number: u64) -> u32 {
    let product = (number ^ 0x2545_f491_4f6c_dd1d) as u128 * 0x9e37_79b9_7f4a_7c15_u128;
    ((product as u64 ^ (product >> 64) as u64) >> 32) as u32
}

/// What the index says of the account with this number, in this slot.
#[inline(always)]
fn place_of(number: u64, slot: u32) -> u64 {
    (tag(number) as u64) << 32 | (slot as u64 + 1)
}

/// The first place of a tag in an index of this length, at most twice the greatest number of accounts: its highest
/// bits, so that places of a grown index come in the order of those before.
#[inline(always)]
fn home(tag: u32, length: usize) -> usize {
    // A length is at least 64 and at most 2^33: divided by four first, the product stays within 64 bits.
    ((tag as u64 * (length as u64 / 4)) >> 30) as usize
}

impl Accounts {
    /// How many there are, closed ones included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Memory that they take, bytes: unused places of the index included, and what of a slab was never touched not.
    pub fn bytes(&self) -> usize {
        self.len * size_of::<Account>()
            + self.slabs.len() * size_of::<Vec<Account>>()
            + self.index.len() * size_of::<u64>()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The slot of the account with this number.
    #[inline]
    pub fn find(&self, number: u64) -> Option<u32> {
        self.look_up(number, |slot| self.get(slot).number == number)
    }

    /// The first slot under the number's tag that `is_it`.
    #[inline(always)]
    fn look_up(&self, number: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        if self.index.is_empty() {
            return None;
        }
        let tag = tag(number);
        let mut at = home(tag, self.index.len());
        loop {
            let place = self.index[at];
            let slot = (place as u32).checked_sub(1)?;
            if (place >> 32) as u32 == tag && is_it(slot) {
                return Some(slot);
            }
            at = (at + 1) & (self.index.len() - 1);
        }
    }

    /// The account in this slot.
    #[inline]
    pub fn get(&self, slot: u32) -> &Account {
        &self.slabs[slot as usize / SLAB][slot as usize % SLAB]
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32) -> &mut Account {
        &mut self.slabs[slot as usize / SLAB][slot as usize % SLAB]
    }

    /// Adds an account whose number is not there yet.
    pub(crate) fn insert(&mut self, account: Account) -> u32 {
        debug_assert!(self.find(account.number).is_none());
        if self.len >= self.index.len() / 4 * 3 {
            self.grow();
        }
        let slot = self.len as u32;
        self.slab().push(account);
        self.len += 1;
        Self::place(&mut self.index, place_of(account.number, slot));
        slot
    }

    /// The slab in which there is room for another one.
    fn slab(&mut self) -> &mut Vec<Account> {
        if self.slabs.last().is_none_or(|slab| slab.len() == SLAB) {
            self.slabs.push(Vec::with_capacity(SLAB));
        }
        self.slabs.last_mut().expect("just made")
    }

    /// Writes all accounts, in the order of their slots.
    pub(crate) fn save(&self, save: &mut Save<'_>) {
        save_words(save, &[self.len as u64]);
        let mut piece = Vec::with_capacity(PIECE.min(self.len));
        for accounts in self.slabs.iter().flat_map(|slab| slab.chunks(PIECE)) {
            piece.clear();
            // The mark of a batch is no state.
            piece.extend(accounts.iter().map(|account| Account { touched: 0, ..*account }));
            save(piece.as_bytes());
        }
    }

    /// Reads what [`Accounts::save`] wrote. None when it is not that.
    pub(crate) fn load(load: &mut Load<'_>) -> Option<Accounts> {
        let len = load_count(load, ACCOUNTS_MAX)?;
        let mut accounts = Accounts::default();
        while accounts.len < len {
            let here = PIECE.min(len - accounts.len);
            let slab = accounts.slab();
            let from = slab.len();
            slab.resize(from + here, Account::default());
            if !load(slab[from..].as_mut_bytes()) || !slab[from..].iter().all(Account::is_possible) {
                return None;
            }
            accounts.len += here;
        }
        // Made once, in the length that growing would have come to.
        let mut length = 64;
        while length / 4 * 3 < len {
            length *= 2;
        }
        accounts.index = vec![0; if len == 0 { 0 } else { length }];
        for slot in 0..len as u32 {
            // The index is large and its places far apart: without this each is waited for.
            if slot as usize + PLACE_AHEAD < len {
                accounts.prefetch_index(accounts.get(slot + PLACE_AHEAD as u32).number);
            }
            let number = accounts.get(slot).number;
            if accounts.find(number).is_some() {
                return None;
            }
            Self::place(&mut accounts.index, place_of(number, slot));
        }
        Some(accounts)
    }

    fn place(index: &mut [u64], place: u64) {
        let mask = index.len() - 1;
        let mut at = home((place >> 32) as u32, index.len());
        while index[at] != 0 {
            at = (at + 1) & mask;
        }
        index[at] = place;
    }

    #[cold]
    fn grow(&mut self) {
        let mut index = vec![0; (self.index.len() * 2).max(64)];
        for &place in self.index.iter().filter(|&&place| place != 0) {
            Self::place(&mut index, place);
        }
        self.index = index;
    }

    /// All accounts, in the order of their opening.
    pub fn iter(&self) -> impl Iterator<Item = &Account> {
        (0..self.len as u32).map(|slot| self.get(slot))
    }

    /// Asks for the index line of this number.
    #[inline]
    pub(crate) fn prefetch_index(&self, number: u64) {
        if !self.index.is_empty() {
            prefetch(&self.index[home(tag(number), self.index.len())]);
        }
    }

    /// Asks for the account's own lines, once its index line has arrived.
    #[inline]
    pub(crate) fn prefetch_account(&self, number: u64) {
        if let Some(slot) = self.look_up(number, |_| true) {
            self.prefetch_slot(slot);
        }
    }

    /// Asks for both lines of the account in this slot.
    #[inline]
    pub(crate) fn prefetch_slot(&self, slot: u32) {
        let account = self.get(slot);
        prefetch(&account.number);
        prefetch(&account.roots);
    }
}

/// Tells the processor that this will be wanted soon. Changes nothing.
#[inline(always)]
pub(crate) fn prefetch<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of a valid reference reads nothing that the program can see.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>((place as *const T).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Also of those whose halves of the hash are the same, which only the accounts themselves tell apart.
    #[test]
    fn every_account_is_found_by_its_own_number() {
        let mut accounts = Accounts::default();
        let (mut slots, mut tags) = (BTreeMap::new(), BTreeMap::<u32, u32>::new());
        let mut random = 1u64;
        for _ in 0..200_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = random >> 8 | 1;
            assert_eq!(accounts.find(number), None);
            slots.insert(number, accounts.insert(Account { number, ..Account::default() }));
            *tags.entry(tag(number)).or_default() += 1;
        }
        assert!(tags.values().any(|&numbers| numbers > 1), "no two share a tag");
        for (number, slot) in slots {
            assert_eq!(accounts.find(number), Some(slot), "account {number}");
        }
    }

    #[test]
    fn every_place_is_within_the_index() {
        for length in [64, 1 << 20, 1 << 32, 1 << 33] {
            assert_eq!(home(0, length), 0);
            assert!(
                (length - length.div_ceil(1 << 31)..length).contains(&home(u32::MAX, length)),
                "{length}"
            );
            assert_eq!(home(1 << 31, length), length / 2);
        }
    }
}
