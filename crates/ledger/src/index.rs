//! The index of a bucket of the id window: from the hash of an id to its place in the bucket's list.
//!
//! A small index is one table. A large one is 256 of them, and a part of the hash says which: each is enlarged, and
//! later fitted, by itself, so that no id waits for a million others to be placed anew.
//!
//! The index knows no ids: whoever asks says whether a place is the right one, and what the hash at a place is.

use crate::accounts::prefetch;

/// Places that it can tell apart: 24 bits, less one value that means "none".
pub(crate) const PLACES_MAX: usize = (1 << 24) - 1;
/// Tables of a large index.
const SECTIONS: usize = 256;
/// Ids from which on it is large.
const LARGE: usize = 16 * 1024;

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
    /// Length at which a section's table begins.
    begins: usize,
}

#[derive(Default)]
struct Section {
    table: Table,
    ids: u32,
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
        if at >= self.small.len() / 4 * 3 {
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

    /// Fits the section of this number, from zero; false when there is none. One that has little in hand stays as it is.
    pub fn settle_section(&mut self, number: usize, hash_of: impl Fn(usize) -> u64) -> bool {
        let Some(section) = self.large.as_mut().and_then(|large| large.sections.get_mut(number)) else {
            return false;
        };
        let (length, ids) = (section.table.len(), section.ids as usize);
        if length > length_for(ids) && length * 3 > ids * 10 {
            anew(&mut section.table, length_for(ids), hash_of);
        }
        true
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
        Box::new(Large { sections: std::array::from_fn(|_| Section::default()), begins: length_for(ids) })
    }

    #[inline]
    fn insert(&mut self, hash: u64, at: usize, hash_of: impl Fn(usize) -> u64) {
        let section = &mut self.sections[section(hash)];
        if section.ids as usize >= section.table.len() / 4 * 3 {
            let length = (section.table.len() * 2).max(self.begins);
            anew(&mut section.table, length, hash_of);
        }
        put(&mut section.table, hash, at);
        section.ids += 1;
    }
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
