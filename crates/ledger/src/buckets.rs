//! The ids of one class by time: a row of buckets of half a second each, every one a dense list of ids under a small
//! index.
//!
//! *What bounds the time of one id.* Nothing here is done for a million ids at once because one more came or one
//! bucket was forgotten: the newest bucket's index grows by sections, what it has in hand is given back a section at a
//! time ([`Later`]), and so is the memory of a forgotten one, which is out of the row, and its ids unknown, at once.
//! A small bucket (16 Ki ids) is done with in one go, some tens of microseconds.

use crate::digest::{Digest, Object};
use crate::entry::Id;
use crate::index::Index;
use std::collections::{BTreeMap, VecDeque};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Ids in one piece of a bucket's list.
pub(crate) const PIECE: usize = 256;
/// Number of a bucket that is none.
pub(crate) const NOWHERE: u64 = u64::MAX;
/// Pieces of a bucket that are given back at once.
const SMALL_PIECES: usize = 64;
/// Sections and pieces of a forgotten bucket that are given back in one step. With a step for each 64 ids that come, a
/// bucket is gone before as many ids have come as it had, even the smallest of those that take steps.
const SECTIONS_A_STEP: usize = 2;
const PIECES_A_STEP: usize = 4;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Known {
    pub id: Id,
    /// Class in the top byte, position below.
    pub place: u64,
}

const _: () = assert!(size_of::<Known>() == 24);

impl Known {
    #[inline(always)]
    pub fn digest(&self) -> Digest {
        let mut digest = Digest::default();
        digest.add(Object::Id, &[self.id.high, self.id.low, self.place]);
        digest
    }
}

/// The hash of an id under the index's key.
#[inline(always)]
pub(crate) fn spread(id: Id, key: u64) -> u64 {
    let product = (id.low ^ key) as u128 * (id.high ^ 0x9e37_79b9_7f4a_7c15) as u128;
    (product as u64 ^ (product >> 64) as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// The hash of the id at each place of a bucket's list.
#[inline(always)]
fn hash_of(pieces: &[Vec<Known>], key: u64) -> impl Fn(usize) -> u64 {
    move |at| spread(pieces[at / PIECE][at % PIECE].id, key)
}

const POSITION: u64 = (1 << 56) - 1;

/// The ids of one class and one half second.
#[derive(Default)]
pub(crate) struct Bucket {
    pub pieces: Vec<Vec<Known>>,
    pub index: Index,
    /// The sum of its ids' digests.
    pub digest: Digest,
    pub len: u32,
}

impl Bucket {
    #[inline]
    fn get(&self, at: usize) -> &Known {
        &self.pieces[at / PIECE][at % PIECE]
    }

    /// The position that is kept with this id.
    #[inline]
    pub fn find(&self, id: Id, hash: u64) -> Option<u64> {
        let at = self.index.find(hash, |at| self.get(at).id == id)?;
        Some(self.get(at).place & POSITION)
    }

    /// An empty bucket, its index ready for as many ids as the one before it got.
    fn like(len: u32) -> Bucket {
        Bucket { index: Index::like(len as usize), ..Bucket::default() }
    }

    /// Gives back what it has in hand: nothing much will come to it any more. A large index is fitted later, a section
    /// at a time.
    fn settle(&mut self, key: u64) {
        self.index.settle(self.len as usize, hash_of(&self.pieces, key));
        if let Some(last) = self.pieces.last_mut() {
            last.shrink_to_fit();
        }
        self.pieces.shrink_to_fit();
    }

    /// Room for one more in the list. The first piece grows little by little, the others come whole, and
    /// a settled one takes late ids a few at a time.
    #[cold]
    fn extend(&mut self) {
        match self.pieces.last_mut() {
            Some(last) if last.len() < PIECE => {
                last.reserve_exact((last.len() / 8).max(4).min(PIECE - last.len()));
            }
            first => {
                let room = if first.is_none() { 4 } else { PIECE };
                self.pieces.push(Vec::with_capacity(room));
            }
        }
    }

    #[inline]
    pub fn insert(&mut self, known: Known, its: Digest, key: u64) {
        self.index.insert(spread(known.id, key), self.len as usize, hash_of(&self.pieces, key));
        if self.pieces.last().is_none_or(|last| last.len() == last.capacity()) {
            self.extend();
        }
        self.pieces.last_mut().expect("just made").push(known);
        self.digest = self.digest.plus(its);
        self.len += 1;
    }
}

/// The buckets of one class.
pub(crate) struct Row {
    /// The newest bucket, apart from the others: nearly everything goes there.
    newest: Bucket,
    /// Its number; [`NOWHERE`] when there is none.
    newest_number: u64,
    /// The others, by their numbers. All of them are older.
    older: BTreeMap<u64, Bucket>,
    /// Ids in all of them.
    len: u64,
}

impl Default for Row {
    fn default() -> Row {
        Row { newest: Bucket::default(), newest_number: NOWHERE, older: BTreeMap::new(), len: 0 }
    }
}

impl Row {
    /// Ids in all buckets.
    pub fn len(&self) -> u64 {
        self.len
    }

    #[inline(always)]
    pub fn bucket(&self, number: u64) -> Option<&Bucket> {
        if number == self.newest_number {
            Some(&self.newest)
        } else if number < self.newest_number {
            self.older.get(&number)
        } else {
            None
        }
    }

    /// All buckets and their numbers, oldest first.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, &Bucket)> {
        let newest = (self.newest_number != NOWHERE).then_some((self.newest_number, &self.newest));
        self.older.iter().map(|(&number, bucket)| (number, bucket)).chain(newest)
    }

    /// Number of the oldest bucket; [`NOWHERE`] when there is none.
    pub fn oldest(&self) -> u64 {
        self.older.first_key_value().map_or(self.newest_number, |(&number, _)| number)
    }

    /// Ids in the buckets from this number on; counted no further than `enough`.
    pub fn len_from(&self, number: u64, enough: u64) -> u64 {
        let is_one = self.newest_number != NOWHERE && self.newest_number >= number;
        let mut ids = if is_one { self.newest.len as u64 } else { 0 };
        for bucket in self.older.range(number..).map(|(_, bucket)| bucket) {
            if ids >= enough {
                break;
            }
            ids += bucket.len as u64;
        }
        ids
    }

    /// Keeps an id that is not there yet.
    #[inline]
    pub fn insert(&mut self, number: u64, known: Known, its: Digest, key: u64, later: &mut Later) {
        self.len += 1;
        let bucket = if number == self.newest_number {
            &mut self.newest
        } else if self.newest_number != NOWHERE && number < self.newest_number {
            self.older.entry(number).or_default()
        } else {
            self.begin(number, (known.place >> 56) as usize, key, later);
            &mut self.newest
        };
        bucket.insert(known, its, key);
    }

    /// Begins a bucket newer than all others, of the row of this class.
    #[cold]
    fn begin(&mut self, number: u64, class: usize, key: u64, later: &mut Later) {
        let fresh = Bucket::like(self.newest.len);
        let mut before = std::mem::replace(&mut self.newest, fresh);
        let was = std::mem::replace(&mut self.newest_number, number);
        if was != NOWHERE {
            before.settle(key);
            if before.index.is_large() {
                later.fitting.push_back((class, was, 0));
            }
            self.older.insert(was, before);
        }
    }

    /// Takes a bucket out. The next newest takes its place when it was the newest.
    pub fn take(&mut self, number: u64) -> Option<Bucket> {
        let taken = if number != self.newest_number {
            self.older.remove(&number)?
        } else {
            let (next, bucket) = self.older.pop_last().unwrap_or((NOWHERE, Bucket::default()));
            self.newest_number = next;
            std::mem::replace(&mut self.newest, bucket)
        };
        self.len -= taken.len as u64;
        Some(taken)
    }
}

/// What is left to do about memory, a step at a time. It is no part of the state: nobody's answer depends on it.
#[derive(Default)]
pub(crate) struct Later {
    /// Buckets that were the newest of their rows, whose large indexes are fitted to what they got: class, number, and
    /// the next section. Each took 16 Ki ids to come about, and as many bring it through.
    fitting: VecDeque<(usize, u64, usize)>,
    /// Forgotten buckets, whose memory is given back, and the next sections of their indexes.
    leaving: VecDeque<(Bucket, usize)>,
}

impl Later {
    /// Takes the memory of a forgotten bucket.
    pub fn give_back(&mut self, bucket: Bucket) {
        if bucket.index.is_large() || bucket.pieces.len() > SMALL_PIECES {
            self.leaving.push_back((bucket, 0));
        }
    }

    /// One step, of some microseconds.
    #[inline]
    pub fn step(&mut self, rows: &mut [Row], key: u64) {
        if !self.fitting.is_empty() {
            self.fit(rows, key);
        }
        if !self.leaving.is_empty() {
            self.leave();
        }
    }

    #[cold]
    fn fit(&mut self, rows: &mut [Row], key: u64) {
        let Some((class, number, section)) = self.fitting.front_mut() else { return };
        let fitted = rows[*class].older.get_mut(number).is_some_and(|bucket| {
            let Bucket { pieces, index, .. } = bucket;
            index.settle_section(*section, hash_of(pieces, key))
        });
        *section += 1;
        if !fitted {
            self.fitting.pop_front();
        }
    }

    #[cold]
    fn leave(&mut self) {
        let Some((bucket, section)) = self.leaving.front_mut() else { return };
        for _ in 0..SECTIONS_A_STEP {
            bucket.index.give_back_section(*section);
            *section += 1;
        }
        bucket.pieces.truncate(bucket.pieces.len().saturating_sub(PIECES_A_STEP));
        if bucket.pieces.is_empty() && !bucket.index.has_section(*section) {
            self.leaving.pop_front();
        }
    }

    /// Ids whose memory is not given back yet.
    #[cfg(test)]
    pub fn leaving(&self) -> usize {
        self.leaving.iter().map(|(bucket, _)| bucket.pieces.iter().map(Vec::len).sum::<usize>()).sum()
    }
}
