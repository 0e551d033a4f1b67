//! The id window: which ids were decided in the last 24 hours, and where their entries stand.
//!
//! Ids carry their time, so the window is a row of buckets by time, each a dense list of ids under a
//! small index: a look-up touches one small table, and forgetting a day-old bucket frees it whole, with the sum of its
//! ids' digests.
//! Costs 24 bytes an id, 5 to 24 of index (about 12 of a large one) and what the newest bucket has in hand: at most 48
//! when it has been fitted, beside at most 320 for each half second in which there was anything (55 MB in all).
//!
//! *What bounds it.* `capacity` ids (default 16 Mi). At the bound the oldest bucket of the class that is
//! furthest over its reserved share goes early, and the horizon rises to that bucket's end: an id
//! before the horizon that is not found is [`Seen::TooOld`], which means unknown, never new. So a flood
//! of one class costs other classes neither their answers nor their service, and no id is ever executed
//! twice. Nothing dated ahead is ever forgotten; so of each class at most a sixteenth of the capacity may be,
//! and a flood of ids dated ahead is refused before it takes the room of others.

use crate::digest::{Digest, Object};
use crate::entry::Id;
use crate::ids::{AHEAD_MS, WINDOW_MS};
use crate::index::{Index, PLACES_MAX};
use crate::saved::{Load, Save, load_count, load_words, save_words};
use pabal_fault::{Bug, planted};
use std::collections::{BTreeMap, BTreeSet};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Ids that the window holds unless the bank was founded with another number.
pub const CAPACITY_DEFAULT: u32 = 16 << 20;
/// Ids that one bucket can index, less one bundle that may be let in together.
const BUCKET_MAX: usize = PLACES_MAX - BUNDLE_ROOM;
/// Ids of one bundle that may be let in together, and more.
const BUNDLE_ROOM: usize = 2047;
/// Width of a bucket: 2^9 ms.
const BUCKET_BITS: u32 = 9;
/// Admission classes, P0 to P4.
pub const CLASSES: usize = 5;
/// Percent of the capacity reserved for each class.
const RESERVED_PERCENT: [u64; CLASSES] = [40, 25, 15, 5, 0];
/// Of the capacity, the part that ids dated ahead of the current bucket may take, for each class.
const AHEAD_PART: u64 = 16;
/// Ids in one piece of a bucket's list.
const PIECE: usize = 256;
/// Ids that come between two sections that are fitted.
const SETTLE_EACH: u64 = 512;
/// Number of a bucket that is none.
const NOWHERE: u64 = u64::MAX;

/// What the window knows of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Never seen: execute it.
    New,
    /// Decided; its entry stands at this position.
    At(u64),
    /// Older than the window reaches: unknown.
    TooOld,
    /// More than five minutes ahead.
    Ahead,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Known {
    id: Id,
    /// Class in the top byte, position below.
    place: u64,
}

const _: () = assert!(size_of::<Known>() == 24);

impl Known {
    #[inline(always)]
    fn digest(&self) -> Digest {
        let mut digest = Digest::default();
        digest.add(Object::Id, &[self.id.high, self.id.low, self.place]);
        digest
    }
}

#[derive(Default)]
struct Bucket {
    pieces: Vec<Vec<Known>>,
    index: Index,
    /// The sum of its ids' digests.
    digest: Digest,
    by_class: [u32; CLASSES],
    len: u32,
}

impl Bucket {
    #[inline]
    fn get(&self, at: usize) -> &Known {
        &self.pieces[at / PIECE][at % PIECE]
    }

    #[inline]
    fn find(&self, id: Id, hash: u64) -> Option<u64> {
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
    fn insert(&mut self, known: Known, its: Digest, key: u64) {
        self.index.insert(spread(known.id, key), self.len as usize, hash_of(&self.pieces, key));
        if self.pieces.last().is_none_or(|last| last.len() == last.capacity()) {
            self.extend();
        }
        self.pieces.last_mut().expect("just made").push(known);
        self.by_class[(known.place >> 56) as usize] += 1;
        self.digest = self.digest.plus(its);
        self.len += 1;
    }

    fn iter(&self) -> impl Iterator<Item = &Known> {
        self.pieces.iter().flatten()
    }
}

/// The hash of the id at each place of a bucket's list.
#[inline(always)]
fn hash_of(pieces: &[Vec<Known>], key: u64) -> impl Fn(usize) -> u64 {
    move |at| spread(pieces[at / PIECE][at % PIECE].id, key)
}

const POSITION: u64 = (1 << 56) - 1;

/// The window.
pub struct Window {
    /// The newest bucket, apart from the others: nearly everything goes there.
    newest: Bucket,
    /// Its number; [`NOWHERE`] when there is none.
    newest_number: u64,
    /// The others, by their numbers. All of them are older.
    older: BTreeMap<u64, Bucket>,
    /// The one of them that was the newest before, while its index is being fitted; [`NOWHERE`] for none.
    settling: u64,
    /// Sections of it that have been.
    settled: usize,
    by_class: [u64; CLASSES],
    /// The buckets in which a class has any.
    of_class: [BTreeSet<u64>; CLASSES],
    len: u64,
    capacity: u64,
    /// Ids before this time (ms) that are not found are too old.
    horizon_ms: u64,
    /// Keys the index, so that nobody outside can make ids that collide.
    key: u64,
}

#[inline(always)]
fn spread(id: Id, key: u64) -> u64 {
    let product = (id.low ^ key) as u128 * (id.high ^ 0x9e37_79b9_7f4a_7c15) as u128;
    (product as u64 ^ (product >> 64) as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

impl Window {
    /// A window for this many ids, its index keyed with `key`.
    pub fn new(capacity: u32, key: u64) -> Window {
        Window {
            newest: Bucket::default(),
            newest_number: NOWHERE,
            older: BTreeMap::new(),
            settling: NOWHERE,
            settled: 0,
            by_class: [0; CLASSES],
            of_class: Default::default(),
            len: 0,
            capacity: capacity.max(1) as u64,
            horizon_ms: 0,
            key,
        }
    }

    /// Ids in the window.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Ids before this time (ms) that are not found are too old, also within the 24 hours.
    pub fn horizon_ms(&self) -> u64 {
        self.horizon_ms
    }

    #[inline]
    fn bucket(&self, number: u64) -> Option<&Bucket> {
        if number == self.newest_number { Some(&self.newest) } else { self.older.get(&number) }
    }

    /// All buckets, oldest first.
    #[cfg(test)]
    fn buckets(&self) -> impl Iterator<Item = (u64, &Bucket)> {
        let newest = (self.newest_number != NOWHERE).then_some((self.newest_number, &self.newest));
        self.older.iter().map(|(&number, bucket)| (number, bucket)).chain(newest)
    }

    /// The bucket of this number, begun if need be.
    #[inline]
    fn bucket_mut(&mut self, number: u64) -> &mut Bucket {
        if number != self.newest_number {
            if self.newest_number != NOWHERE && number < self.newest_number {
                return self.older.entry(number).or_default();
            }
            self.begin(number);
        }
        &mut self.newest
    }

    /// Begins a bucket newer than all others.
    #[cold]
    fn begin(&mut self, number: u64) {
        let fresh = Bucket::like(self.newest.len);
        let mut before = std::mem::replace(&mut self.newest, fresh);
        if self.newest_number != NOWHERE {
            before.settle(self.key);
            self.older.insert(self.newest_number, before);
            while self.settling != NOWHERE {
                self.settle_section();
            }
            (self.settling, self.settled) = (self.newest_number, 0);
        }
        self.newest_number = number;
    }

    /// Fits the next section of the bucket that was the newest before.
    #[cold]
    fn settle_section(&mut self) {
        let (key, section) = (self.key, self.settled);
        self.settled += 1;
        let fitted = self.older.get_mut(&self.settling).is_some_and(|bucket| {
            let Bucket { pieces, index, .. } = bucket;
            index.settle_section(section, hash_of(pieces, key))
        });
        if !fitted {
            self.settling = NOWHERE;
        }
    }

    /// Takes a bucket out. The next newest takes its place when it was the newest.
    fn take(&mut self, number: u64) -> Option<Bucket> {
        if number != self.newest_number {
            return self.older.remove(&number);
        }
        let (next, bucket) = self.older.pop_last().unwrap_or((NOWHERE, Bucket::default()));
        self.newest_number = next;
        Some(std::mem::replace(&mut self.newest, bucket))
    }

    /// What is known of this id at this time.
    #[inline]
    pub fn look_up(&self, id: Id, now_ms: u64) -> Seen {
        let time = id.time_ms();
        if time > now_ms + AHEAD_MS * if planted(Bug::AheadTaken) { 2 } else { 1 } {
            return Seen::Ahead;
        }
        if let Some(bucket) = self.bucket(time >> BUCKET_BITS)
            && let Some(position) = bucket.find(id, spread(id, self.key))
        {
            return Seen::At(position);
        }
        if time < self.horizon_ms || time + WINDOW_MS < now_ms {
            return Seen::TooOld;
        }
        Seen::New
    }

    /// Whether there is, or can be made, room for a new id of this class. Changes nothing: what is only
    /// asked leaves no trace in the journal, so it must leave none here.
    #[inline]
    pub fn has_room(&self, class: u8, time_ms: u64, now_ms: u64) -> bool {
        let number = time_ms >> BUCKET_BITS;
        self.bucket(number).is_none_or(|b| b.len < BUCKET_MAX as u32)
            && (number <= now_ms >> BUCKET_BITS || self.ahead(class, now_ms) < self.ahead_max())
            && (self.len < self.capacity
                || self.outdated(now_ms).is_some()
                || self.victim(class, now_ms).is_some())
    }

    fn ahead_max(&self) -> u64 {
        (self.capacity / AHEAD_PART).max(1)
    }

    /// Ids of a class in buckets after the current one, of which there are at most 587; counted no further than
    /// they may be.
    #[cold]
    fn ahead(&self, class: u8, now_ms: u64) -> u64 {
        let class = class as usize;
        let mut ahead = 0;
        for &number in self.of_class[class].range((now_ms >> BUCKET_BITS) + 1..) {
            ahead += self.bucket(number).map_or(0, |bucket| bucket.by_class[class] as u64);
            if ahead >= self.ahead_max() {
                break;
            }
        }
        ahead
    }

    /// The oldest bucket, when all of it is older than the window.
    fn outdated(&self, now_ms: u64) -> Option<u64> {
        let number = self.older.first_key_value().map_or(self.newest_number, |(&number, _)| number);
        let kept_ms = if planted(Bug::IdForgotten) { WINDOW_MS / 2 } else { WINDOW_MS };
        (number != NOWHERE && ((number + 1) << BUCKET_BITS) + kept_ms < now_ms).then_some(number)
    }

    /// The bucket to give up early and the class to give up there: the oldest of the class that is furthest over
    /// its share, among those that are over it and have one that has passed. A class within its share gives up
    /// for its own ids only: what a flood made within this half second is nothing to others. None when there is
    /// no such bucket.
    #[cold]
    fn victim(&self, class: u8, now_ms: u64) -> Option<(u64, usize)> {
        let over = |c: usize| {
            let coming = u64::from(c == class as usize);
            (self.by_class[c] + coming) as i64 - (self.capacity * RESERVED_PERCENT[c] / 100) as i64
        };
        let oldest = |c: usize| self.of_class[c].first().map(|&number| (number, c));
        let passed = |&(number, _): &(u64, usize)| (number + 1) << BUCKET_BITS <= now_ms;
        let gives = |&(_, c): &(u64, usize)| over(c) > 0 || c == class as usize;
        (0..CLASSES).filter_map(oldest).filter(passed).filter(gives).max_by_key(|&(_, c)| over(c))
    }

    /// Forgets a bucket: all of it, or what one class has in it.
    fn forget(&mut self, number: u64, class: Option<usize>, digest: &mut Digest) {
        let Some(bucket) = self.take(number) else { return };
        for of in (0..CLASSES).filter(|&of| class.is_none_or(|c| c == of)) {
            self.of_class[of].remove(&number);
        }
        let mut kept = Bucket::default();
        if class.is_some_and(|class| bucket.by_class[class] < bucket.len) {
            let stays = |known: &&Known| class.is_some_and(|class| (known.place >> 56) as usize != class);
            bucket.iter().filter(stays).for_each(|known| kept.insert(*known, known.digest(), self.key));
        }
        for (of, ids) in self.by_class.iter_mut().enumerate() {
            *ids -= (bucket.by_class[of] - kept.by_class[of]) as u64;
        }
        self.len -= (bucket.len - kept.len) as u64;
        *digest = digest.minus(bucket.digest).plus(kept.digest);
        if kept.len == 0 {
            return;
        }
        if self.newest_number == NOWHERE || number > self.newest_number {
            self.begin(number);
            self.newest = kept;
        } else {
            kept.settle(self.key);
            self.older.insert(number, kept);
        }
    }

    /// Keeps a decided id, which must be new. Forgets what is older than the window and, at the bound, what
    /// [`Window::has_room`] found; the parts of one bundle may pass the bound together.
    #[inline]
    pub fn insert(&mut self, id: Id, class: u8, position: u64, now_ms: u64, digest: &mut Digest) {
        while let Some(number) = self.outdated(now_ms) {
            self.forget(number, None, digest);
        }
        if self.len >= self.capacity
            && let Some((number, victim)) = self.victim(class, now_ms)
        {
            self.forget(number, Some(victim), digest);
            self.horizon_ms = self.horizon_ms.max((number + 1) << BUCKET_BITS);
        }
        self.keep(Known { id, place: position | (class as u64) << 56 }, digest);
    }

    /// Keeps an id that is not there yet.
    #[inline]
    fn keep(&mut self, known: Known, digest: &mut Digest) {
        let (id, class) = (known.id, known.place >> 56);
        let (key, number) = (self.key, id.time_ms() >> BUCKET_BITS);
        let its = known.digest();
        let bucket = self.bucket_mut(number);
        bucket.insert(known, its, key);
        if bucket.by_class[class as usize] == 1 {
            self.of_class[class as usize].insert(number);
        }
        self.by_class[class as usize] += 1;
        self.len += 1;
        *digest = digest.plus(its);
        if self.len.is_multiple_of(SETTLE_EACH) && self.settling != NOWHERE {
            self.settle_section();
        }
    }

    /// Writes the ids and the horizon: bucket after bucket, oldest first.
    pub fn save(&self, save: &mut Save<'_>) {
        let mut missing = usize::from(planted(Bug::SnapshotIdMissing) && self.len > 0);
        save_words(save, &[self.len - missing as u64, self.horizon_ms]);
        let newest = (self.newest_number != NOWHERE).then_some(&self.newest);
        for bucket in self.older.values().chain(newest) {
            for piece in &bucket.pieces {
                save(piece[std::mem::take(&mut missing)..].as_bytes());
            }
        }
    }

    /// Reads what [`Window::save`] wrote into an empty window, and adds it to the digest. None when it is not that.
    pub fn load(mut self, load: &mut Load<'_>, digest: &mut Digest) -> Option<Window> {
        // A bundle may pass the bound on ids by its parts less one.
        let count = load_count(load, self.capacity as usize + BUNDLE_ROOM)?;
        [self.horizon_ms] = load_words(load)?;
        let mut piece = vec![Known { id: Id::default(), place: 0 }; PIECE];
        let mut left = count;
        while left > 0 {
            let here = left.min(PIECE);
            if !load(piece[..here].as_mut_bytes()) {
                return None;
            }
            for known in &piece[..here] {
                let number = known.id.time_ms() >> BUCKET_BITS;
                let bucket = self.bucket(number);
                let full = bucket.is_some_and(|bucket| bucket.len as usize >= PLACES_MAX);
                let is_there = |bucket: &Bucket| bucket.find(known.id, spread(known.id, self.key)).is_some();
                let behind = self.newest_number != NOWHERE && number < self.newest_number;
                if known.place >> 56 >= CLASSES as u64
                    || !known.id.is_valid()
                    || full
                    || behind
                    || bucket.is_some_and(is_there)
                {
                    return None;
                }
                self.keep(*known, digest);
            }
            left -= here;
        }
        Some(self)
    }

    /// Asks for the index line of this id.
    #[inline]
    pub fn prefetch(&self, id: Id) {
        if let Some(bucket) = self.bucket(id.time_ms() >> BUCKET_BITS) {
            bucket.index.prefetch(spread(id, self.key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn keep(window: &mut Window, id: Id, class: u8, position: u64, now: u64) -> bool {
        let room = window.has_room(class, id.time_ms(), now);
        if room {
            window.insert(id, class, position, now, &mut Digest::default());
        }
        room
    }

    #[test]
    fn an_id_is_found_for_24_hours_and_unknown_after() {
        let mut window = Window::new(1000, 7);
        let id = Id::new(NOW, 1, 1);
        assert_eq!(window.look_up(id, NOW), Seen::New);
        assert!(keep(&mut window, id, 1, 77, NOW));
        assert_eq!(window.look_up(id, NOW + WINDOW_MS), Seen::At(77));
        assert!(keep(&mut window, Id::new(NOW + WINDOW_MS + 1024, 1, 1), 1, 78, NOW + WINDOW_MS + 1024));
        assert_eq!(window.look_up(id, NOW + WINDOW_MS + 1024), Seen::TooOld);
        assert_eq!(window.look_up(Id::new(NOW - WINDOW_MS, 0, 0), NOW), Seen::New);
        assert_eq!(window.look_up(Id::new(NOW - WINDOW_MS - 1, 0, 0), NOW), Seen::TooOld);
        assert_eq!(window.look_up(Id::new(NOW + AHEAD_MS, 0, 0), NOW), Seen::New);
        assert_eq!(window.look_up(Id::new(NOW + AHEAD_MS + 1, 0, 0), NOW), Seen::Ahead);
    }

    #[test]
    fn a_flood_of_one_class_leaves_the_answers_of_another() {
        let mut window = Window::new(1000, 7);
        let mine = Id::new(NOW, 0, 9);
        assert!(keep(&mut window, mine, 0, 5, NOW));
        for i in 1..10_000 {
            let now = NOW + i * 10;
            assert!(keep(&mut window, Id::new(now, 3, i << 2), 3, i, now));
            assert!(window.len() <= 1000);
        }
        assert_eq!(window.look_up(mine, NOW + 100_000), Seen::At(5));
        // Forgotten early, never taken for new.
        assert_eq!(window.look_up(Id::new(NOW + 10, 3, 1 << 2), NOW + 100_000), Seen::TooOld);
    }

    /// Ids dated ahead cannot be forgotten: a flood of them is refused at its part and takes nobody's room.
    #[test]
    fn a_flood_of_ids_dated_ahead_is_refused_and_costs_others_nothing() {
        let mut window = Window::new(1600, 7);
        let mine = Id::new(NOW, 9, 1);
        assert!(keep(&mut window, mine, 0, 5, NOW));
        let mut kept = 0;
        for i in 0..10_000u64 {
            kept += u64::from(keep(&mut window, Id::new(NOW + 1024 + i % 290_000, 1, i << 2), 3, i, NOW));
        }
        assert_eq!(kept, 100, "a sixteenth");
        let mut now = NOW;
        for class in [1, 2, 3, 4, 0] {
            if class == 0 {
                assert_eq!(window.look_up(mine, now), Seen::At(5), "within its class's share");
            }
            for i in 0..3000 {
                now += 10;
                assert!(keep(&mut window, Id::new(now, 2, i << 2), class, i, now), "class {class}, {i}");
            }
        }
        assert!(window.len() <= 1600);
        // Once their time has come they are like any others.
        let later = NOW + 300_000;
        assert!(keep(&mut window, Id::new(later + 1024, 8, 1), 3, 1, later));
    }

    /// A flood within one half second cannot be forgotten before it has passed: others do not pay for it.
    #[test]
    fn a_flood_within_a_half_second_leaves_the_answers_of_another_class() {
        let mut window = Window::new(1000, 7);
        let mine = Id::new(NOW, 0, 9);
        assert!(keep(&mut window, mine, 0, 5, NOW));
        let now = NOW + 1024;
        let kept = (1..2000).filter(|&i| keep(&mut window, Id::new(now, 3, i << 2), 3, i, now)).count();
        assert_eq!(window.look_up(mine, now), Seen::At(5), "within its class's share");
        assert_eq!(kept, 999);
        // Whoever has something of its own that has passed is served.
        assert!(keep(&mut window, Id::new(now, 0, 10), 0, 6, now));
        // So is the flood, in the next half second.
        assert!(keep(&mut window, Id::new(now + 512, 3, 1), 3, 6, now + 512));
    }

    /// When everything there is belongs to the current half second, new ids are refused, and nothing is forgotten.
    #[test]
    fn at_the_bound_what_has_not_passed_is_not_forgotten() {
        let mut window = Window::new(100, 7);
        for i in 0..100 {
            assert!(keep(&mut window, Id::new(NOW, 0, i << 2), 2, i, NOW));
        }
        assert!(!keep(&mut window, Id::new(NOW, 1, 1), 2, 1, NOW));
        assert_eq!(window.look_up(Id::new(NOW, 0, 0), NOW), Seen::At(0));
        assert!(keep(&mut window, Id::new(NOW + 1024, 1, 1), 2, 1, NOW + 1024));
    }

    #[test]
    fn the_digest_of_an_emptied_window_is_that_of_an_empty_one() {
        let mut window = Window::new(100, 7);
        let mut digest = Digest::default();
        for i in 0..500u64 {
            let now = NOW + i * 700;
            window.insert(Id::new(now, 0, i << 2), 1, i, now, &mut digest);
        }
        let (last, later) = (Id::new(NOW + 2 * WINDOW_MS, 0, 0), NOW + 2 * WINDOW_MS);
        window.insert(last, 1, 1, later, &mut digest);
        assert_eq!(window.len(), 1);
        let mut fresh = Digest::default();
        Window::new(100, 7).insert(last, 1, 1, later, &mut fresh);
        assert_eq!(digest, fresh);
    }

    fn allocated(window: &Window) -> usize {
        let bucket = |b: &Bucket| {
            let pieces: usize = b.pieces.iter().map(|p| p.capacity() * size_of::<Known>()).sum();
            // A node of the tree has room for eleven and is at least half full.
            pieces + b.pieces.capacity() * 24 + b.index.allocated() + 2 * (size_of::<Bucket>() + 8)
        };
        let buckets: usize = window.buckets().map(|(_, b)| bucket(b)).sum();
        let of_class: usize = window.of_class.iter().map(|set| set.len() * 24).sum();
        buckets + of_class
    }

    /// The bound of 40 bytes an id, from what is really allocated, at rates from one id in a bucket to
    /// thousands, most of them just where a piece or an index was enlarged.
    #[test]
    fn an_id_costs_at_most_40_bytes() {
        for a_bucket in [1, 5, 12, 13, 24, 49, 65, 97, 193, 257, 385, 1537, 12_289, 98_305] {
            let mut window = Window::new(CAPACITY_DEFAULT, 7);
            let mut digest = Digest::default();
            let n = 400_000;
            for i in 0..n {
                let time = NOW + ((i / a_bucket) << BUCKET_BITS);
                let id = Id::new(time, 0, i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                window.insert(id, 1, i, time, &mut digest);
                if i % a_bucket == 7 {
                    // One comes late.
                    let late = Id::new(time.saturating_sub(700).max(NOW), 1, i << 2);
                    window.insert(late, 1, i, time, &mut digest);
                }
            }
            let (bytes, buckets) = (allocated(&window), n.div_ceil(a_bucket));
            let hand = 16 * 98_305; // of the newest bucket, which is sized like the one before
            assert!(
                bytes as u64 <= 40 * window.len() + 320 * buckets + hand,
                "{a_bucket} in a bucket: {} bytes an id",
                bytes as u64 / window.len()
            );
        }
    }

    /// The bucket that is kept apart is the newest, whatever is forgotten and in whatever order ids come.
    #[test]
    fn every_id_is_found_in_whatever_order_their_times_come() {
        let mut window = Window::new(10_000, 7);
        let mut digest = Digest::default();
        let mut random = 1u64;
        let mut kept = Vec::new();
        for i in 0..5000u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let id = Id::new(NOW + (random >> 33) % 60_000, 0, i << 2);
            window.insert(id, (i % 5) as u8, i, NOW, &mut digest);
            kept.push((id, i));
            if i % 997 == 0 {
                let (number, class) = (window.newest_number, (i % 5) as usize);
                window.forget(number, Some(class), &mut digest);
                let gone = |(id, place): &(Id, u64)| {
                    id.time_ms() >> BUCKET_BITS == number && *place % 5 == class as u64
                };
                kept.retain(|known| !gone(known));
            }
            assert!(window.older.last_key_value().is_none_or(|(n, _)| *n < window.newest_number));
            for class in 0..CLASSES {
                let has = window.buckets().filter(|(_, b)| b.by_class[class] > 0).map(|(number, _)| number);
                assert!(window.of_class[class].iter().copied().eq(has), "class {class}");
            }
        }
        assert_eq!(window.len(), kept.len() as u64);
        let mut sum = Digest::default();
        for (id, place) in kept.iter() {
            sum.add(Object::Id, &[id.high, id.low, place | (place % 5) << 56]);
        }
        assert_eq!(digest, sum, "what was forgotten went out of the digest");
        for (id, place) in kept {
            assert_eq!(window.look_up(id, NOW), Seen::At(place));
        }
    }
}
