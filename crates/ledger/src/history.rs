//! The history of an account: entries linked backwards, each with one jump pointer.
//!
//! The links form a skew-binary list (Myers, "An applicative random-access stack", 1983): a new entry's
//! jump pointer is known from the roots of the trees alone, so making it needs no read, and any earlier
//! day is O(log n) reads away. The newest roots stand in the account; an account whose list has more
//! trees keeps the older ones aside, four at a time.

use crate::digest::{Digest, Object};
use crate::saved::{Load, Save, load_count, load_words, save_words};
use pabal_fault::{Bug, planted};
use std::collections::BTreeMap;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Roots kept in the account itself.
const NEAR: usize = 9;
/// Roots moved at a time to and from the far ones.
const MOVED: usize = 4;
/// Roots of one account kept aside at most: there are no more ranks.
const FAR_MAX: usize = 64;
/// Positions are below this: with units of 64 bytes, a journal of 16 PiB.
pub const POSITION_MAX: u64 = 1 << 48;

/// The newest roots of a history, 48 bits each, and the ranks of all of its trees (one of rank r has
/// 2^r - 1 entries). Places that are not used are zero, so that equal histories are equal bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Roots {
    /// Bit r: there is a tree of rank r, 1 to 62. Bit 0: of the smallest rank there are two. Only of the
    /// smallest can there be two, so this and the order of the roots say everything.
    ranks: u64,
    /// Newest first.
    positions: [[u8; 6]; NEAR],
    /// How many are kept here.
    near: u8,
    reserved: u8,
}

/// Bit of [`Roots::ranks`]: two trees of the smallest rank.
const TWICE: u64 = 1;

/// Older roots by account slot, nearest last. At most 64 an account, as ranks grow downwards. They carry
/// their own digest, as they change seldom while their accounts are touched often.
#[derive(Default)]
pub struct FarRoots {
    lists: BTreeMap<u32, Vec<u64>>,
    digest: Digest,
}

impl FarRoots {
    /// The digest of all far roots.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The digest worked out anew.
    pub fn digest_anew(&self) -> Digest {
        let mut digest = Digest::default();
        for (slot, list) in &self.lists {
            list.iter().for_each(|root| digest.add(Object::FarRoots, &[*slot as u64, *root]));
        }
        digest
    }

    /// The far roots of one account, nearest last.
    pub fn get(&self, slot: u32) -> Vec<u64> {
        self.lists.get(&slot).cloned().unwrap_or_default()
    }

    /// Puts the far roots of one account to these.
    pub fn set(&mut self, slot: u32, list: Vec<u64>) {
        while self.pop(slot).is_some() {}
        list.into_iter().for_each(|root| self.push(slot, root));
    }

    /// Writes them all.
    pub(crate) fn save(&self, save: &mut Save<'_>) {
        let kept = if planted(Bug::SnapshotFarMissing) { 0 } else { self.lists.len() };
        save_words(save, &[kept as u64]);
        for (slot, list) in self.lists.iter().take(kept) {
            save_words(save, &[*slot as u64, list.len() as u64]);
            save_words(save, list);
        }
    }

    /// Reads what [`FarRoots::save`] wrote, of these many slots. None when it is not that.
    pub(crate) fn load(load: &mut Load<'_>, slots: usize) -> Option<FarRoots> {
        let mut far = FarRoots::default();
        for _ in 0..load_count(load, slots)? {
            let [slot] = load_words(load)?;
            let slot = u32::try_from(slot).ok().filter(|slot| (*slot as usize) < slots)?;
            let roots = load_count(load, FAR_MAX)?;
            if roots == 0 || far.lists.last_key_value().is_some_and(|(last, _)| *last >= slot) {
                return None;
            }
            for _ in 0..roots {
                let [root] = load_words(load)?;
                far.push(slot, root);
            }
        }
        Some(far)
    }

    /// How many one account has.
    pub(crate) fn len(&self, slot: u32) -> usize {
        self.lists.get(&slot).map_or(0, Vec::len)
    }

    fn push(&mut self, slot: u32, root: u64) {
        self.digest.add(Object::FarRoots, &[slot as u64, root]);
        self.lists.entry(slot).or_default().push(root);
    }

    fn pop(&mut self, slot: u32) -> Option<u64> {
        let list = self.lists.get_mut(&slot)?;
        let root = list.pop();
        if list.is_empty() {
            self.lists.remove(&slot);
        }
        if let Some(root) = root {
            self.digest.remove(Object::FarRoots, &[slot as u64, root]);
        }
        root
    }
}

impl Roots {
    /// Position of the newest entry; zero for none.
    #[inline]
    pub fn head(&self) -> u64 {
        self.get(0)
    }

    /// Whether there can be such roots: for bytes that were read from a file.
    pub(crate) fn is_possible(&self) -> bool {
        let near = self.near as usize;
        let smallest = self.ranks & !TWICE;
        near <= NEAR
            && self.near as u32 <= self.depth()
            && (self.ranks & TWICE == 0 || smallest != 0 && near >= 2)
            && (near > 0 || self.depth() == 0)
            && (!self.has_far() || near >= 2 && self.far().is_multiple_of(MOVED))
            && self.positions[near..].iter().all(|unused| *unused == [0; 6])
            && self.ranks >> 62 == 0
            && self.reserved == 0
    }

    /// How many roots are kept aside.
    pub(crate) fn far(&self) -> usize {
        (self.depth() - self.near as u32) as usize
    }

    /// Whether some roots are kept aside.
    #[inline]
    pub fn has_far(&self) -> bool {
        self.depth() > self.near as u32
    }

    /// The number of trees.
    #[inline]
    fn depth(&self) -> u32 {
        // Bit 0 stands for a tree of its own: the second of the smallest rank.
        self.ranks.count_ones()
    }

    #[inline]
    fn get(&self, i: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes[..6].copy_from_slice(&self.positions[i]);
        u64::from_le_bytes(bytes)
    }

    #[inline]
    fn set(&mut self, i: usize, position: u64) {
        self.positions[i].copy_from_slice(&position.to_le_bytes()[..6]);
    }

    /// Adds the entry at `position` and gives its links: the previous entry, and the jump.
    #[inline]
    pub fn push(&mut self, position: u64, slot: u32, far: &mut FarRoots) -> (u64, u64) {
        assert!(position < POSITION_MAX, "a journal is at most 16 PiB");
        let previous = self.get(0);
        if self.ranks & TWICE != 0 {
            if self.near == 2 && self.has_far() {
                self.pull(slot, far);
            }
            // Two trees of one rank and the new entry become one tree, whose jump is the next root.
            let jump = if planted(Bug::JumpWrong) { self.get(1) } else { self.get(2) };
            self.positions.copy_within(2.., 1);
            self.set(NEAR - 1, 0);
            self.near -= 1;
            let ranks = self.ranks & !TWICE;
            let smallest = ranks & ranks.wrapping_neg();
            let made = smallest << 1;
            self.ranks = ranks & !smallest | made | if ranks & made != 0 { TWICE } else { 0 };
            self.set(0, position);
            (previous, jump)
        } else {
            if self.near as usize == NEAR {
                self.spill(slot, far);
            }
            self.positions.copy_within(..NEAR - 1, 1);
            self.near += 1;
            const ONE: u64 = 1 << 1;
            self.ranks |= if self.ranks & ONE != 0 { TWICE } else { ONE };
            self.set(0, position);
            (previous, previous)
        }
    }

    #[cold]
    fn spill(&mut self, slot: u32, far: &mut FarRoots) {
        for i in (NEAR - MOVED..NEAR).rev() {
            far.push(slot, self.get(i));
            self.set(i, 0);
        }
        self.near -= MOVED as u8;
    }

    #[cold]
    fn pull(&mut self, slot: u32, far: &mut FarRoots) {
        for _ in 0..MOVED {
            let position = far.pop(slot).expect("far roots are moved in whole groups");
            self.set(self.near as usize, position);
            self.near += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thousand and some entries: the links must be those of the definition, worked out over whole lists.
    #[test]
    fn links_are_those_of_a_skew_binary_list() {
        let mut roots = Roots::default();
        let mut far = FarRoots::default();
        let mut trees: Vec<(u64, u64)> = Vec::new(); // (root, size), newest last
        for position in 1..70_000u64 {
            let previous = trees.last().map_or(0, |t| t.0);
            let n = trees.len();
            let jump = if n >= 2 && trees[n - 1].1 == trees[n - 2].1 {
                let size = trees[n - 1].1 * 2 + 1;
                trees.truncate(n - 2);
                let jump = trees.last().map_or(0, |t| t.0);
                trees.push((position, size));
                jump
            } else {
                trees.push((position, 1));
                previous
            };
            assert_eq!(roots.push(position, 3, &mut far), (previous, jump), "entry {position}");
        }
    }

    #[test]
    fn any_entry_is_few_steps_away() {
        const N: u64 = 100_000;
        let mut links = vec![(0, 0)];
        let mut roots = Roots::default();
        let mut far = FarRoots::default();
        for position in 1..=N {
            links.push(roots.push(position, 0, &mut far));
        }
        for target in (1..=N).step_by(997) {
            let (mut at, mut steps) = (N, 0);
            while at > target {
                let (previous, jump) = links[at as usize];
                at = if jump >= target { jump } else { previous };
                steps += 1;
            }
            assert_eq!(at, target);
            assert!(steps <= 3 * 17, "{steps} steps to {target}");
        }
    }
}
