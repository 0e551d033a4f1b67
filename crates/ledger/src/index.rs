//! The index of a bucket of the id window: from the hash of an id to its place in the bucket's list.
//!
//! A small index is one table. A large one is 256 of them, and a part of the hash says which: each is enlarged, and
//! later fitted, by itself, so that no id waits for a million others to be placed anew. Nor is the memory of all of
//! them taken at once, which may be new to the machine: tens of milliseconds. Each begins small and gets the length
//! that it is expected to need when its turn comes. Nor are all enlarged at about the same number of ids, which they
//! would reach together: the first when half full, the last when full, the others in between.
//!
//! The index knows no ids: whoever asks says whether a place is the right one, and what the hash at a place is.

use crate::accounts::prefetch;

/// Places that it can tell apart: 24 bits, less one value that means "none".
pub(crate) const PLACES_MAX: usize = (1 << 24) - 1;
/// Tables of a large index.
const SECTIONS: usize = 256;
/// Ids from which on it is made large; a small one becomes so when it is next full.
const LARGE: usize = 16 * 1024;
/// Of the ids that are expected, the part within which all sections get the length that they are expected to need.
const TURNS_PART: usize = 8;

/// Eight bits of the hash and 24 bits of place + 1; zero for none. A power of two long, at most three quarters full;
/// or empty.
type Table = Vec<u32>;

#[derive(Default)]
pub(crate) struct Index {
    small: Table,
    /// Instead of the small one.
    large: Option<Box<Large>>,
}

struct Large {
    sections: [Section; SECTIONS],
    /// Ids that are expected in a section.
    expected: usize,
}

#[derive(Default)]
struct Section {
    table: Table,
    ids: u32,
    /// Ids with which it is to be enlarged: when it is full, or when its turn comes.
    enlarge_at: u32,
}

impl Index {
    /// An empty one, made for as many ids as the bucket before got, and some more: doubling it step by step would place
    /// each id anew two times and more.
    pub fn like(ids: usize) -> Index {
        let mut index = Index::default();
        if ids < LARGE {
            index.small = vec![0; length_for(ids)];
        } else {
            index.large = Some(Large::new((ids + ids / 8) / SECTIONS));
        }
        index
    }

    #[inline(always)]
    fn table(&self, hash: u64) -> &Table {
        match &self.large {
            Some(large) => &large.sections[section(hash)].table,
            None => &self.small,
        }
    }

    /// The place with this hash that `is_it`.
    #[inline(always)]
    pub fn find(&self, hash: u64, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        let table = self.table(hash);
        if table.is_empty() {
            return None;
        }
        let mask = table.len() - 1;
        let mut i = hash as usize & mask;
        loop {
            let word = table[i];
            if word == 0 {
                return None;
            }
            let at = (word & 0xff_ffff) as usize - 1;
            if word >> 24 == (hash >> 56) as u32 && is_it(at) {
                return Some(at);
            }
            i = (i + 1) & mask;
        }
    }

    /// Adds the place `at`, the next after those that are there.
    #[inline]
    pub fn insert(&mut self, hash: u64, at: usize, hash_of: impl Fn(usize) -> u64) {
        debug_assert!(at < PLACES_MAX);
        if let Some(large) = &mut self.large {
            return large.insert(hash, at, hash_of);
        }
        if at >= full(self.small.len()) {
            if at >= LARGE {
                return self.enlarge(at + 1, |place| if place == at { hash } else { hash_of(place) });
            }
            let length = (self.small.len() * 2).max(16);
            anew(&mut self.small, length, hash_of);
        }
        put(&mut self.small, hash, at);
    }

    /// Makes the small index a large one, for ids at so many places.
    #[cold]
    fn enlarge(&mut self, places: usize, hash_of: impl Fn(usize) -> u64) {
        let mut large = Large::new(places / SECTIONS);
        (0..places).for_each(|at| large.insert(hash_of(at), at, &hash_of));
        *self = Index { small: Table::new(), large: Some(large) };
    }

    /// Fits it to the ids that are there, which a large one's sections are one by one.
    pub fn settle(&mut self, ids: usize, hash_of: impl Fn(usize) -> u64) {
        if ids < LARGE && (self.large.is_some() || self.small.len() > length_for(ids)) {
            *self = Index { small: vec![0; length_for(ids)], large: None };
            (0..ids).for_each(|at| put(&mut self.small, hash_of(at), at));
        }
    }

    /// Fits the section of this number, from zero; false when there is none. One that is a sixth full stays as it is: by
    /// growing evenly it may be half of three eighths full, and by the part that was expected beyond what came a
    /// ninth less.
    pub fn settle_section(&mut self, number: usize, hash_of: impl Fn(usize) -> u64) -> bool {
        let Some(section) = self.large.as_mut().and_then(|large| large.sections.get_mut(number)) else {
            return false;
        };
        let (length, ids) = (section.table.len(), section.ids as usize);
        if length > length_for(ids) && length > ids * 6 {
            anew(&mut section.table, length_for(ids), hash_of);
            section.enlarge_at = full(length_for(ids)) as u32;
        }
        true
    }

    /// Whether it is fitted, and given back, section by section.
    pub fn is_large(&self) -> bool {
        self.large.is_some()
    }

    /// Whether it has a section of this number, from zero.
    pub fn has_section(&self, number: usize) -> bool {
        self.large.is_some() && number < SECTIONS
    }

    /// Gives back the memory of the section of this number, if there is one: nothing will be found in it.
    pub fn give_back_section(&mut self, number: usize) {
        if let Some(section) = self.large.as_mut().and_then(|large| large.sections.get_mut(number)) {
            section.table = Table::new();
        }
    }

    /// Asks for the line in which this hash stands.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        let table = self.table(hash);
        if !table.is_empty() {
            prefetch(&table[hash as usize & (table.len() - 1)]);
        }
    }

    /// Memory that it has taken beside itself, bytes.
    #[cfg(test)]
    pub fn allocated(&self) -> usize {
        let large = self.large.iter().map(|large| {
            let tables: usize = large.sections.iter().map(|section| section.table.capacity() * 4).sum();
            tables + size_of::<Large>()
        });
        self.small.capacity() * 4 + large.sum::<usize>()
    }
}

impl Large {
    /// Empty, its sections to begin with room for so many ids.
    fn new(ids: usize) -> Box<Large> {
        Box::new(Large { sections: std::array::from_fn(|_| Section::default()), expected: ids })
    }

    #[inline]
    fn insert(&mut self, hash: u64, at: usize, hash_of: impl Fn(usize) -> u64) {
        let number = section(hash);
        let section = &mut self.sections[number];
        if section.ids >= section.enlarge_at {
            section.enlarge(number, self.expected, hash_of);
        }
        put(&mut section.table, hash, at);
        section.ids += 1;
    }
}

impl Section {
    /// Makes room, as the section of this number. The turns come one after the other, all within the first part of
    /// the ids that are expected.
    #[cold]
    fn enlarge(&mut self, number: usize, expected: usize, hash_of: impl Fn(usize) -> u64) {
        let (ids, length) = (self.ids as usize, self.table.len());
        let turn = expected * (number + 1) / (TURNS_PART * SECTIONS);
        let mut length = if ids < enough(length, number) { length } else { (length * 2).max(16) };
        while ids >= turn && enough(length, number) < expected {
            length *= 2;
        }
        anew(&mut self.table, length, hash_of);
        self.enlarge_at = enough(length, number) as u32;
        if ids < turn {
            self.enlarge_at = self.enlarge_at.min(turn as u32);
        }
    }
}

/// Ids with which a table of this length is full.
fn full(length: usize) -> usize {
    length / 4 * 3
}

/// Ids with which a table of this length is enlarged, as the section of this number: between half of full and full, so
/// that sections that fill alike are enlarged one after the other.
fn enough(length: usize, number: usize) -> usize {
    let full = full(length);
    full - full / 2 * (SECTIONS - 1 - number) / SECTIONS
}

/// The section of a hash: eight bits that neither the tables' lengths nor their words use.
#[inline(always)]
fn section(hash: u64) -> usize {
    (hash >> 48) as usize % SECTIONS
}

/// Length of a table for so many ids: a power of two, at most three quarters full.
fn length_for(ids: usize) -> usize {
    (ids + ids.div_ceil(3)).next_power_of_two().max(16)
}

#[inline(always)]
fn put(table: &mut Table, hash: u64, at: usize) {
    let mask = table.len() - 1;
    let mut i = hash as usize & mask;
    while table[i] != 0 {
        i = (i + 1) & mask;
    }
    table[i] = (hash >> 56 << 24) as u32 | (at as u32 + 1);
}

/// Makes the table this long and places what it has anew.
#[cold]
fn anew(table: &mut Table, length: usize, hash_of: impl Fn(usize) -> u64) {
    let before = std::mem::replace(table, vec![0; length]);
    for word in before.into_iter().filter(|&word| word != 0) {
        let at = (word & 0xff_ffff) as usize - 1;
        put(table, hash_of(at), at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(at: usize) -> u64 {
        let product = (at as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        (product as u64 ^ (product >> 64) as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    fn filled(mut index: Index, places: usize) -> Index {
        (0..places).for_each(|at| index.insert(hash(at), at, hash));
        index
    }

    #[track_caller]
    fn has_all(index: &Index, places: usize) {
        for at in 0..places {
            assert_eq!(index.find(hash(at), |found| found == at), Some(at), "{at} of {places}");
        }
        assert_eq!(index.find(hash(places), |found| found == places), None);
    }

    /// From small to large, and whatever was expected.
    #[test]
    fn every_place_is_found() {
        for expected in [0, 5, LARGE - 1, LARGE, 60_000, 500_000] {
            for places in [0, 1, 12, 13, LARGE, 24_576, 24_577, 100_000] {
                has_all(&filled(Index::like(expected), places), places);
            }
        }
    }

    /// What was expected and did not come is given back; what is found stays found.
    #[test]
    fn a_settled_index_takes_what_its_ids_need() {
        for expected in [0, 1000, 100_000, 1_000_000] {
            for places in [1, 1000, 2 * LARGE, 100_000] {
                let mut index = filled(Index::like(expected), places);
                index.settle(places, hash);
                let mut section = 0;
                while index.settle_section(section, hash) {
                    section += 1;
                }
                assert_eq!(section, if places < LARGE { 0 } else { SECTIONS });
                has_all(&index, places);
                // A table that is a quarter full takes 16 bytes an id; 64 is the smallest table.
                let most = places * 16 + 64 + if places < LARGE { 0 } else { size_of::<Large>() };
                assert!(index.allocated() <= most, "{places} of {expected}: {}", index.allocated());
            }
        }
    }

    /// Nor do thousands that come together, once it is a large one.
    #[test]
    fn no_batch_waits_for_many_others() {
        const BATCH: usize = 8192;
        for expected in [0, 700_000] {
            let mut index = Index::like(expected);
            let placed = std::cell::Cell::new(0);
            for at in 0..2_000_000 {
                index.insert(hash(at), at, |place| {
                    placed.set(placed.get() + 1);
                    hash(place)
                });
                if at % BATCH == BATCH - 1 {
                    let placed = placed.take();
                    assert!(
                        at < 4 * LARGE || placed <= 6 * BATCH,
                        "the batch until id {at} places {placed} anew"
                    );
                }
            }
        }
    }

    /// No id causes much of the index to be placed anew, however many there are: the sections are enlarged at
    /// different ids.
    #[test]
    fn no_id_waits_for_many_others() {
        for expected in [0, 300_000] {
            let mut index = Index::like(expected);
            for at in 0..300_000 {
                let placed = std::cell::Cell::new(0);
                index.insert(hash(at), at, |place| {
                    placed.set(placed.get() + 1);
                    hash(place)
                });
                // Most where a small index becomes a large one, whose sections grow while it does.
                assert!(placed.get() <= 3 * LARGE, "id {at} places {} anew", placed.get());
            }
        }
    }
}
