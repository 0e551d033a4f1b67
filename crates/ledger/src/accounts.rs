//! All accounts: 128 bytes each in slabs that never move, found by number through an open-addressed index.
//!
//! Memory per account: 128 bytes and 8 to 16 of index, half empty at least, so that most look-ups end at their
//! first place. Slabs, not one growing array, so that growth never
//! copies accounts nor holds them twice.

use crate::account::Account;
use crate::saved::{Load, Save, load_count, save_words};
use zerocopy::IntoBytes;

/// Accounts at most: slots are 32 bits, one value means "none".
pub const ACCOUNTS_MAX: usize = u32::MAX as usize - 1;
/// Accounts of a slab: 128 KiB.
const SLAB: usize = 1024;

/// The accounts of the ledger.
#[derive(Default)]
pub struct Accounts {
    slabs: Vec<Box<[Account]>>,
    /// Slot + 1 of an account, zero for none; a power of two long, at most half full.
    index: Vec<u32>,
    len: usize,
}

#[inline(always)]
fn spread(number: u64) -> u64 {
    let product = (number ^ 0x2545_f491_4f6c_dd1d) as u128 * 0x9e37_79b9_7f4a_7c15_u128;
    product as u64 ^ (product >> 64) as u64
}

impl Accounts {
    /// How many there are, closed ones included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Memory that they take, bytes: slabs and index, unused places included.
    pub fn bytes(&self) -> usize {
        self.slabs.len() * (SLAB * size_of::<Account>() + size_of::<Box<[Account]>>())
            + self.index.len() * size_of::<u32>()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The slot of the account with this number.
    #[inline]
    pub fn find(&self, number: u64) -> Option<u32> {
        if self.index.is_empty() {
            return None;
        }
        let mask = self.index.len() - 1;
        let mut at = spread(number) as usize & mask;
        loop {
            let slot = self.index[at].checked_sub(1)?;
            if self.get(slot).number == number {
                return Some(slot);
            }
            at = (at + 1) & mask;
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
        if (self.len + 1) * 2 > self.index.len() {
            self.grow();
        }
        if self.len == self.slabs.len() * SLAB {
            self.slabs.push(vec![Account::default(); SLAB].into_boxed_slice());
        }
        let slot = self.len as u32;
        *self.get_mut(slot) = account;
        self.len += 1;
        Self::place(&mut self.index, account.number, slot);
        slot
    }

    /// Writes all accounts, in the order of their slots.
    pub(crate) fn save(&self, save: &mut Save<'_>) {
        save_words(save, &[self.len as u64]);
        let mut slab = vec![Account::default(); SLAB.min(self.len)];
        for (i, accounts) in self.slabs.iter().enumerate() {
            let here = SLAB.min(self.len - i * SLAB);
            slab[..here].copy_from_slice(&accounts[..here]);
            // The mark of a batch is no state.
            slab[..here].iter_mut().for_each(|account| account.touched = 0);
            save(slab[..here].as_bytes());
        }
    }

    /// Reads what [`Accounts::save`] wrote. None when it is not that.
    pub(crate) fn load(load: &mut Load<'_>) -> Option<Accounts> {
        let len = load_count(load, ACCOUNTS_MAX)?;
        let mut accounts = Accounts::default();
        while accounts.len < len {
            let here = SLAB.min(len - accounts.len);
            let mut slab = vec![Account::default(); SLAB].into_boxed_slice();
            if !load(slab[..here].as_mut_bytes()) {
                return None;
            }
            if !slab[..here].iter().all(Account::is_possible) {
                return None;
            }
            accounts.slabs.push(slab);
            accounts.len += here;
        }
        // Made once, in the length that growing would have come to.
        let mut length = 64;
        while len > 0 && length < len * 2 {
            length *= 2;
        }
        accounts.index = vec![0; if len == 0 { 0 } else { length }];
        for slot in 0..len as u32 {
            let number = accounts.get(slot).number;
            if !Self::place_new(&accounts.slabs, &mut accounts.index, number, slot) {
                return None;
            }
        }
        Some(accounts)
    }

    /// Places a number that must not be there yet; false when it is.
    fn place_new(slabs: &[Box<[Account]>], index: &mut [u32], number: u64, slot: u32) -> bool {
        let mask = index.len() - 1;
        let mut at = spread(number) as usize & mask;
        while let Some(other) = index[at].checked_sub(1) {
            if slabs[other as usize / SLAB][other as usize % SLAB].number == number {
                return false;
            }
            at = (at + 1) & mask;
        }
        index[at] = slot + 1;
        true
    }

    fn place(index: &mut [u32], number: u64, slot: u32) {
        let mask = index.len() - 1;
        let mut at = spread(number) as usize & mask;
        while index[at] != 0 {
            at = (at + 1) & mask;
        }
        index[at] = slot + 1;
    }

    #[cold]
    fn grow(&mut self) {
        let mut index = vec![0; (self.index.len() * 2).max(64)];
        for slot in 0..self.len as u32 {
            Self::place(&mut index, self.get(slot).number, slot);
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
            prefetch(&self.index[spread(number) as usize & (self.index.len() - 1)]);
        }
    }

    /// Asks for the account's own lines, once its index line has arrived.
    #[inline]
    pub(crate) fn prefetch_account(&self, number: u64) {
        if self.index.is_empty() {
            return;
        }
        if let Some(slot) = self.index[spread(number) as usize & (self.index.len() - 1)].checked_sub(1) {
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
