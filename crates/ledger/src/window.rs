//! The id window: which ids were decided in the last 24 hours, and where their entries stand.
//!
//! Ids carry their time, so the window is a row of buckets by time for each class: a look-up touches one small table
//! for each class that has ids of that half second, and to forget a bucket, with the sum of its ids' digests, is to
//! take it out of its row, however many ids it has.
//! Costs 24 bytes an id, 5 to 24 of index (about 12 of a large one) and what the newest bucket of a class has in hand: at
//! most 48 when it has been fitted, beside at most 290 for each half second in which a class had any (50 MB a day for
//! each class). What was forgotten takes its memory until about an eighth as many ids have come.
//!
//! *What bounds it.* `capacity` ids (default 16 Mi). At the bound the oldest bucket of the class that is
//! furthest over its reserved share goes early, and the horizon rises to that bucket's end: an id
//! before the horizon that is not found is [`Seen::TooOld`], which means unknown, never new. So a flood
//! of one class costs other classes neither their answers nor their service, and no id is ever executed
//! twice. Nothing dated ahead is ever forgotten; so of each class at most a sixteenth of the capacity may be,
//! and a flood of ids dated ahead is refused before it takes the room of others.
//!
//! *Which rules.* Under rules 1 and 2 each part of a bundle asked for room alone and forgot one bucket at most, so that
//! bundles could pass the bound, one after the other without end; and all that was older than the window went with the
//! next id. Since rules 3 a bundle asks for all its parts, as much goes as they need, and of what is older than the
//! window one half second goes with each id: after an idle day nobody waits for the whole of it.

use crate::buckets::{Known, Later, NOWHERE, PIECE, Row, spread};
use crate::digest::Digest;
use crate::entry::Id;
use crate::ids::{AHEAD_MS, WINDOW_MS};
use crate::index::PLACES_MAX;
use crate::ledger::Moment;
use crate::saved::{Load, Save, load_count, load_words, save_words};
use pabal_fault::{Bug, planted};
use zerocopy::IntoBytes;

/// Ids that the window holds unless the bank was founded with another number.
pub const CAPACITY_DEFAULT: u32 = 16 << 20;
/// Ids of one half second, less one bundle that may be let in together.
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
/// The rules since which nothing passes the bound.
const RULES_BOUND: u32 = 3;
/// Ids that come between two steps of what is left to do about memory.
const STEP_EACH: u64 = 64;

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

/// The window.
pub struct Window {
    /// The buckets of each class.
    rows: [Row; CLASSES],
    /// Number of the oldest bucket of all; [`NOWHERE`] when there is none.
    oldest: u64,
    /// Ids in all rows.
    len: u64,
    capacity: u64,
    /// Ids before this time (ms) that are not found are too old.
    horizon_ms: u64,
    /// Keys the index, so that nobody outside can make ids that collide.
    key: u64,
    later: Later,
    /// Ids that came, for the steps of what is left for later.
    came: u64,
}

impl Window {
    /// A window for this many ids, its index keyed with `key`.
    pub fn new(capacity: u32, key: u64) -> Window {
        Window {
            rows: Default::default(),
            oldest: NOWHERE,
            len: 0,
            capacity: capacity.max(1) as u64,
            horizon_ms: 0,
            key,
            later: Later::default(),
            came: 0,
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
    fn find(&self, id: Id) -> Option<u64> {
        let (number, hash) = (id.time_ms() >> BUCKET_BITS, spread(id, self.key));
        self.rows.iter().find_map(|row| row.bucket(number)?.find(id, hash))
    }

    /// What is known of this id at this time.
    #[inline]
    pub fn look_up(&self, id: Id, now_ms: u64) -> Seen {
        let time = id.time_ms();
        if time > now_ms + AHEAD_MS * if planted(Bug::AheadTaken) { 2 } else { 1 } {
            return Seen::Ahead;
        }
        if let Some(position) = self.find(id) {
            return Seen::At(position);
        }
        if time < self.horizon_ms || time + WINDOW_MS < now_ms {
            return Seen::TooOld;
        }
        Seen::New
    }

    // ── room ─────────────────────────────────────────────────────────────────────────────────────

    /// Whether there is, or can be made, room for a new id of this class. Changes nothing: what is only
    /// asked leaves no trace in the journal, so it must leave none here.
    #[inline]
    pub fn has_room(&self, class: u8, time_ms: u64, moment: &Moment) -> bool {
        let (number, now_ms) = (time_ms >> BUCKET_BITS, moment.time_ms);
        let together: u64 = self.rows.iter().filter_map(|row| row.bucket(number)).map(|b| b.len as u64).sum();
        together < BUCKET_MAX as u64
            && (number <= now_ms >> BUCKET_BITS || self.ahead(class, now_ms) < self.ahead_max())
            && (self.len < self.capacity
                || if moment.rules < RULES_BOUND {
                    self.outdated(now_ms).is_some() || self.victim(class, now_ms).is_some()
                } else {
                    self.can_forget(self.len + 1 - self.capacity, class, now_ms)
                })
    }

    /// Whether there is, or can be made, room for all of a bundle, each part of which has it alone. Under rules that
    /// ask for no more, yes.
    pub fn has_room_for_all(
        &self,
        class: u8,
        times_ms: impl ExactSizeIterator<Item = u64>,
        moment: &Moment,
    ) -> bool {
        if moment.rules < RULES_BOUND || planted(Bug::BundlePassesBound) {
            return true;
        }
        let (now_ms, parts) = (moment.time_ms, times_ms.len() as u64);
        let coming = times_ms.filter(|time| time >> BUCKET_BITS > now_ms >> BUCKET_BITS).count() as u64;
        (coming == 0 || self.ahead(class, now_ms) + coming <= self.ahead_max())
            && (self.len + parts <= self.capacity
                || self.can_forget(self.len + parts - self.capacity, class, now_ms))
    }

    fn ahead_max(&self) -> u64 {
        (self.capacity / AHEAD_PART).max(1)
    }

    /// Ids of a class in buckets after the current one, of which there are at most 587; counted no further than
    /// they may be.
    #[cold]
    fn ahead(&self, class: u8, now_ms: u64) -> u64 {
        self.rows[class as usize].len_from((now_ms >> BUCKET_BITS) + 1, self.ahead_max())
    }

    /// The oldest bucket, when all of it is older than the window.
    #[inline]
    fn outdated(&self, now_ms: u64) -> Option<u64> {
        is_outdated(self.oldest, now_ms).then_some(self.oldest)
    }

    /// Ids of a class beyond its share.
    fn over(&self, class: usize) -> i64 {
        self.rows[class].len() as i64 - (self.capacity * RESERVED_PERCENT[class] / 100) as i64
    }

    /// The bucket to give up early and the class to give up there: the oldest of the class that is furthest over
    /// its share, among those that are over it and have one that has passed. A class within its share gives up
    /// for its own ids only: what a flood made within this half second is nothing to others. None when there is
    /// no such bucket.
    #[cold]
    fn victim(&self, class: u8, now_ms: u64) -> Option<(u64, usize)> {
        let over = |c: usize| self.over(c) + i64::from(c == class as usize);
        let oldest = |c: usize| (self.rows[c].oldest(), c);
        let passed = |&(number, _): &(u64, usize)| has_passed(number, now_ms);
        let gives = |&(_, c): &(u64, usize)| over(c) > 0 || c == class as usize;
        (0..CLASSES).map(oldest).filter(passed).filter(gives).max_by_key(|&(_, c)| over(c))
    }

    /// Whether so many ids can be forgotten for new ones of this class: those that are older than the window, all of
    /// its own class that have passed, and those of the others as long as they are over their shares. Looks at no
    /// more buckets than ids are wanted: none is empty.
    #[cold]
    fn can_forget(&self, wanted: u64, class: u8, now_ms: u64) -> bool {
        let mut found = 0;
        for (c, row) in self.rows.iter().enumerate() {
            let mut over = self.over(c);
            for (number, bucket) in row.buckets() {
                let gives = c == class as usize || over > 0;
                if !(is_outdated(number, now_ms) || gives && has_passed(number, now_ms)) {
                    break;
                }
                found += bucket.len as u64;
                over -= bucket.len as i64;
                if found >= wanted {
                    return true;
                }
            }
        }
        false
    }

    // ── keeping and forgetting ───────────────────────────────────────────────────────────────────

    /// Keeps a decided id, which must be new and have room: forgets what [`Window::has_room`] and
    /// [`Window::has_room_for_all`] found, and some of what is older than the window.
    #[inline]
    pub fn insert(&mut self, id: Id, class: u8, position: u64, moment: &Moment, digest: &mut Digest) {
        if self.len >= self.capacity || self.outdated(moment.time_ms).is_some() {
            self.make_room(class, moment, digest);
        }
        self.keep(Known { id, place: position | (class as u64) << 56 }, digest);
    }

    #[cold]
    fn make_room(&mut self, class: u8, moment: &Moment, digest: &mut Digest) {
        let now_ms = moment.time_ms;
        let all_at_once = moment.rules < RULES_BOUND;
        let mut first = true;
        while let Some(number) = self.outdated(now_ms)
            && (first || all_at_once || self.len >= self.capacity)
        {
            self.forget(number, None, digest);
            first = false;
        }
        while self.len >= self.capacity
            && let Some((number, victim)) = self.victim(class, now_ms)
        {
            self.forget(number, Some(victim), digest);
            self.horizon_ms = self.horizon_ms.max((number + 1) << BUCKET_BITS);
            if all_at_once {
                break;
            }
        }
    }

    /// Forgets a half second: all of it, or what one class has in it.
    fn forget(&mut self, number: u64, class: Option<usize>, digest: &mut Digest) {
        for of in (0..CLASSES).filter(|&of| class.is_none_or(|class| class == of)) {
            if let Some(bucket) = self.rows[of].take(number) {
                self.len -= bucket.len as u64;
                *digest = digest.minus(bucket.digest);
                self.later.give_back(bucket);
            }
        }
        self.oldest = self.rows.iter().map(Row::oldest).min().unwrap_or(NOWHERE);
    }

    /// Keeps an id that is not there yet.
    #[inline]
    fn keep(&mut self, known: Known, digest: &mut Digest) {
        let (class, number) = ((known.place >> 56) as usize, known.id.time_ms() >> BUCKET_BITS);
        let its = known.digest();
        self.rows[class].insert(number, known, its, self.key, &mut self.later);
        self.oldest = self.oldest.min(number);
        self.len += 1;
        *digest = digest.plus(its);
        self.came = self.came.wrapping_add(1);
        if self.came.is_multiple_of(STEP_EACH) {
            self.later.step(&mut self.rows, self.key);
        }
    }

    // ── snapshots ────────────────────────────────────────────────────────────────────────────────

    /// Writes the ids and the horizon: half second after half second, oldest first, and class after class in each.
    pub fn save(&self, save: &mut Save<'_>) {
        let mut missing = usize::from(planted(Bug::SnapshotIdMissing) && self.len > 0);
        save_words(save, &[self.len - missing as u64, self.horizon_ms]);
        let mut rows = self.rows.each_ref().map(|row| row.buckets().peekable());
        while let Some(number) = rows.iter_mut().filter_map(|row| row.peek().map(|(number, _)| *number)).min()
        {
            for (_, bucket) in rows.iter_mut().filter_map(|row| row.next_if(|(of, _)| *of == number)) {
                for piece in &bucket.pieces {
                    save(piece[std::mem::take(&mut missing)..].as_bytes());
                }
            }
        }
    }

    /// Reads what [`Window::save`] wrote into an empty window, and adds it to the digest. None when it is not that.
    pub fn load(mut self, load: &mut Load<'_>, digest: &mut Digest) -> Option<Window> {
        // Under rules 1 and 2 bundles could pass the bound by any number. What bounds the memory is that the ids
        // are there to be read.
        let count = load_count(load, usize::MAX)?;
        [self.horizon_ms] = load_words(load)?;
        let mut piece = vec![Known { id: Id::default(), place: 0 }; PIECE];
        let (mut left, mut last) = (count, (0, 0));
        while left > 0 {
            let here = left.min(PIECE);
            if !load(piece[..here].as_mut_bytes()) {
                return None;
            }
            for known in &piece[..here] {
                let number = known.id.time_ms() >> BUCKET_BITS;
                let class = (known.place >> 56) as usize;
                let full = |row: &Row| row.bucket(number).is_some_and(|b| b.len as usize >= PLACES_MAX);
                if class >= CLASSES
                    || !known.id.is_valid()
                    || (number, class) < last
                    || full(&self.rows[class])
                    || self.find(known.id).is_some()
                {
                    return None;
                }
                last = (number, class);
                self.keep(*known, digest);
            }
            left -= here;
        }
        Some(self)
    }

    /// Asks for the index lines of this id.
    #[inline]
    pub fn prefetch(&self, id: Id) {
        let (number, hash) = (id.time_ms() >> BUCKET_BITS, spread(id, self.key));
        for bucket in self.rows.iter().filter_map(|row| row.bucket(number)) {
            bucket.index.prefetch(hash);
        }
    }
}

/// Whether all of the bucket of this number is older than the window. [`NOWHERE`] is not.
#[inline]
fn is_outdated(number: u64, now_ms: u64) -> bool {
    let kept_ms = if planted(Bug::IdForgotten) { WINDOW_MS / 2 } else { WINDOW_MS };
    number != NOWHERE && ((number + 1) << BUCKET_BITS) + kept_ms < now_ms
}

/// Whether nothing new can be dated into the bucket of this number. [`NOWHERE`] has not.
#[inline]
fn has_passed(number: u64, now_ms: u64) -> bool {
    number < now_ms >> BUCKET_BITS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buckets::Bucket;
    use crate::digest::Object;
    use crate::entry::Date;

    const NOW: u64 = 1_800_000_000_000;

    fn at(time_ms: u64) -> Moment {
        Moment { time_ms, date: Date(1), rules: RULES_BOUND }
    }

    fn keep(window: &mut Window, id: Id, class: u8, position: u64, now: u64) -> bool {
        let room = window.has_room(class, id.time_ms(), &at(now));
        if room {
            window.insert(id, class, position, &at(now), &mut Digest::default());
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
            window.insert(Id::new(now, 0, i << 2), 1, i, &at(now), &mut digest);
        }
        let (last, later) = (Id::new(NOW + 2 * WINDOW_MS, 0, 0), NOW + 2 * WINDOW_MS);
        window.insert(last, 1, 1, &Moment { rules: 2, ..at(later) }, &mut digest);
        assert_eq!(window.len(), 1);
        let mut fresh = Digest::default();
        Window::new(100, 7).insert(last, 1, 1, &at(later), &mut fresh);
        assert_eq!(digest, fresh);
    }

    fn allocated(window: &Window) -> usize {
        let bucket = |b: &Bucket| {
            let pieces: usize = b.pieces.iter().map(|p| p.capacity() * size_of::<Known>()).sum();
            // A node of the tree has room for eleven and is at least half full.
            pieces + b.pieces.capacity() * 24 + b.index.allocated() + 2 * (size_of::<Bucket>() + 8)
        };
        window.rows.iter().flat_map(Row::buckets).map(|(_, b)| bucket(b)).sum()
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
                window.insert(id, 1, i, &at(time), &mut digest);
                if i % a_bucket == 7 {
                    // One comes late.
                    let late = Id::new(time.saturating_sub(700).max(NOW), 1, i << 2);
                    window.insert(late, 1, i, &at(time), &mut digest);
                }
            }
            let (bytes, buckets) = (allocated(&window), n.div_ceil(a_bucket));
            let hand = 16 * 98_305; // of the newest bucket, which is sized like the one before
            assert!(
                bytes as u64 <= 40 * window.len() + 290 * buckets + hand,
                "{a_bucket} in a bucket: {} bytes an id",
                bytes as u64 / window.len()
            );
        }
    }

    /// What is read back is saved as it was: ids of one half second stand by their classes.
    #[test]
    fn a_snapshot_has_one_form() {
        let (first, second) = (Id::new(NOW, 0, 4), Id::new(NOW, 1, 8));
        let loads = |classes: [u64; 2]| {
            let known =
                [(first, classes[0]), (second, classes[1])].map(|(id, c)| Known { id, place: c << 56 });
            let mut bytes = Vec::new();
            save_words(&mut |more: &[u8]| bytes.extend_from_slice(more), &[2, 0]);
            bytes.extend_from_slice(known.as_bytes());
            let mut rest = &bytes[..];
            let mut load = |into: &mut [u8]| {
                let Some((now, later)) = rest.split_at_checked(into.len()) else { return false };
                into.copy_from_slice(now);
                rest = later;
                true
            };
            let window = Window::new(1000, 7).load(&mut load, &mut Digest::default())?;
            let mut again = Vec::new();
            window.save(&mut |more: &[u8]| again.extend_from_slice(more));
            Some(again == bytes)
        };
        assert_eq!([[0, 0], [0, 1], [1, 0]].map(loads), [Some(true), Some(true), None]);
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
            window.insert(id, (i % 5) as u8, i, &at(NOW), &mut digest);
            kept.push((id, i));
            if i % 997 == 0 {
                let class = (i % 5) as usize;
                let number = window.rows[class].buckets().last().expect("it has some").0;
                window.forget(number, Some(class), &mut digest);
                let gone = |(id, place): &(Id, u64)| {
                    id.time_ms() >> BUCKET_BITS == number && *place % 5 == class as u64
                };
                kept.retain(|known| !gone(known));
            }
            for row in &window.rows {
                assert!(row.buckets().map(|(number, _)| number).is_sorted());
                assert_eq!(row.buckets().map(|(_, b)| b.len as u64).sum::<u64>(), row.len());
                assert!(row.buckets().all(|(_, b)| b.len > 0), "what is empty is not there");
            }
            let oldest = window.rows.iter().flat_map(Row::buckets).map(|(number, _)| number).min();
            assert_eq!(window.oldest, oldest.unwrap_or(NOWHERE));
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

    // ── the bound ────────────────────────────────────────────────────────────────────────────────

    fn random(state: &mut u64, below: u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) % below
    }

    /// What is let in finds its room, whatever is asked for: bundles of any class, dated anywhere in the day and ahead
    /// of it, in any half second.
    #[test]
    fn the_bound_is_never_passed() {
        for seed in 0..60 {
            let (mut state, mut now, mut i) = (seed, NOW, 0);
            let capacity = 1 + random(&mut state, 200);
            let mut window = Window::new(capacity as u32, 7);
            let (mut let_in, mut refused) = (0, 0);
            for _ in 0..300 {
                now += [0, 0, 7, 512, 40_000, WINDOW_MS / 3][random(&mut state, 6) as usize];
                let class = random(&mut state, 5) as u8;
                let ids: Vec<Id> = (0..1 + random(&mut state, 2) * random(&mut state, 60))
                    .map(|_| {
                        i += 1;
                        let to = [0, 0, 600, 20_000, WINDOW_MS][random(&mut state, 5) as usize];
                        let time = now + if random(&mut state, 9) == 0 { 900 } else { 0 };
                        Id::new(time - random(&mut state, to + 1), 0, i << 2)
                    })
                    .filter(|id| window.look_up(*id, now) == Seen::New)
                    .collect();
                let times = ids.iter().map(|id| id.time_ms());
                let alone = times.clone().all(|time| window.has_room(class, time, &at(now)));
                if !alone || !window.has_room_for_all(class, times, &at(now)) {
                    refused += 1;
                    continue;
                }
                for id in &ids {
                    window.insert(*id, class, 1, &at(now), &mut Digest::default());
                    assert!(window.len() <= capacity, "seed {seed}: {} of {capacity}", window.len());
                    assert!(window.ahead(class, now) <= window.ahead_max(), "seed {seed}");
                }
                let_in += 1;
            }
            assert!(let_in > 50 && (refused > 20 || capacity > 60), "{let_in} and {refused} of {capacity}");
        }
    }

    /// Room for all parts is room for each: whoever is alone is asked the same, and a bundle of one too many, which is
    /// refused, could have come one less.
    #[test]
    fn a_bundle_has_room_up_to_the_last_place() {
        let mut window = Window::new(100, 7);
        for i in 0..90 {
            assert!(keep(&mut window, Id::new(NOW - i % 3 * 512, 0, i << 2), 1, i, NOW));
        }
        // Sixty have passed, and ten places are free.
        for (parts, room) in [(1, true), (10, true), (69, true), (70, true), (71, false), (1000, false)] {
            assert_eq!(window.has_room_for_all(1, vec![NOW; parts].into_iter(), &at(NOW)), room, "{parts}");
        }
        // Others may take them only beyond the share: 65 of the 90, by whole half seconds.
        for (parts, room) in [(70, true), (71, false)] {
            assert_eq!(window.has_room_for_all(0, vec![NOW; parts].into_iter(), &at(NOW)), room, "{parts}");
        }
        // A sixteenth dated ahead.
        for (parts, room) in [(6, true), (7, false)] {
            assert_eq!(window.has_room_for_all(1, vec![NOW + 512; parts].into_iter(), &at(NOW)), room);
        }
        let before = Moment { rules: 2, ..at(NOW) };
        assert!(window.has_room_for_all(1, vec![NOW; 1000].into_iter(), &before));
    }

    /// What bundles made of it under rules 2 is brought under the bound by the first that rules 3 let in, and until then
    /// nothing is.
    #[test]
    fn a_window_beyond_its_bound_comes_under_it_with_rules_3() {
        let mut window = Window::new(100, 7);
        let (mut all, rules_2) = (Digest::default(), Moment { rules: 2, ..at(NOW) });
        for i in 0..300u64 {
            // One hundred and fifty half seconds that have passed, with one each, and as many in this one.
            let id = Id::new(NOW - 150u64.saturating_sub(i) * 512, 0, i << 2);
            window.keep(Known { id, place: 1 << 56 | i }, &mut all);
        }
        assert!(window.has_room(1, NOW, &rules_2));
        assert!(!keep(&mut window, Id::new(NOW, 2, 0), 1, 0, NOW), "it needs 201 of 150");
        assert!(keep(&mut window, Id::new(NOW + 512, 2, 0), 1, 0, NOW + 512));
        assert!(window.len() <= 100, "{}", window.len());
    }

    /// After an idle day each id takes one half second out that is older than the window; found until then.
    #[test]
    fn after_an_idle_day_nobody_waits_for_all_of_it_to_be_forgotten() {
        let mut window = Window::new(10_000, 7);
        for i in 0..5000 {
            assert!(keep(&mut window, Id::new(NOW + i * 512, 0, i << 2), (i % 5) as u8, i, NOW + i * 512));
        }
        let later = NOW + 2 * WINDOW_MS;
        for i in 0..6000u64 {
            assert!(keep(&mut window, Id::new(later, 1, i << 2), 1, i, later));
            let (left, next) = (5000u64.saturating_sub(i + 1), i + 1);
            assert_eq!(window.len(), left + next);
            if next < 5000 {
                assert_eq!(window.look_up(Id::new(NOW + i * 512, 0, i << 2), later), Seen::TooOld);
                assert_eq!(window.look_up(Id::new(NOW + next * 512, 0, next << 2), later), Seen::At(next));
            }
        }
    }

    /// A bucket is forgotten at once and gives its memory back with the ids that come after it, and is through with it
    /// long before the next one of its size is forgotten.
    #[test]
    fn the_memory_of_a_forgotten_bucket_is_given_back_bit_by_bit() {
        for a_bucket in [20_000, 300_000] {
            let mut window = Window::new(a_bucket * 2, 7);
            let (mut before, mut most) = (0, 0);
            let mut now = NOW;
            for i in 0..a_bucket as u64 * 5 {
                now = NOW + (i / a_bucket as u64) * 512;
                assert!(keep(&mut window, Id::new(now, 0, i << 2), 1, i, now));
                let leaving = window.later.leaving();
                assert!(leaving == a_bucket as usize || leaving + 4 * PIECE >= before, "{before}, {leaving}");
                assert!(leaving <= a_bucket as usize, "one after the other");
                (before, most) = (leaving, most.max(leaving));
            }
            assert!(most + 4 * PIECE > a_bucket as usize, "{most} at once");
            assert_eq!(window.look_up(Id::new(NOW, 0, 0), now), Seen::TooOld);
            assert_eq!(before, 0);
        }
    }
}
