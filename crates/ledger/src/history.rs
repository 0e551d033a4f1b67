//! The history of an account: entries linked backwards, each with one jump pointer.
//!
//! The links form a skew-binary list (Myers, "An applicative random-access stack", 1983): a new entry's
//! jump pointer is known from the roots of the trees alone, so making it needs no read, and any earlier
//! day is O(log n) reads away. The newest roots stand in the account; an account whose list has more
//! trees keeps the older ones aside, four at a time.

use crate::digest::{Digest, Object};
use std::collections::BTreeMap;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Roots kept in the account itself.
const NEAR: usize = 7;
/// Roots moved at a time to and from the far ones.
const MOVED: usize = 4;

/// The newest roots of a history: positions and the ranks of their trees (a tree of rank r has 2^r - 1 entries).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Roots {
    positions: [u64; NEAR],
    ranks: [u8; NEAR],
    /// Low bits: how many are kept here. High bit: there are more among the far ones.
    depth: u8,
}

const FAR: u8 = 128;

/// Older roots by account slot, nearest last. At most 64 an account, as ranks grow downwards. They carry
/// their own digest, as they change seldom while their accounts are touched often.
#[derive(Default)]
pub struct FarRoots {
    lists: BTreeMap<u32, Vec<(u64, u8)>>,
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
            list.iter().for_each(|root| digest.add(Object::FarRoots, &words(*slot, *root)));
        }
        digest
    }

    /// The far roots of one account, nearest last.
    pub fn get(&self, slot: u32) -> Vec<(u64, u8)> {
        self.lists.get(&slot).cloned().unwrap_or_default()
    }

    /// Puts the far roots of one account to these.
    pub fn set(&mut self, slot: u32, list: Vec<(u64, u8)>) {
        while self.pop(slot).is_some() {}
        list.into_iter().for_each(|root| self.push(slot, root));
    }

    fn push(&mut self, slot: u32, root: (u64, u8)) {
        self.digest.add(Object::FarRoots, &words(slot, root));
        self.lists.entry(slot).or_default().push(root);
    }

    fn pop(&mut self, slot: u32) -> Option<(u64, u8)> {
        let list = self.lists.get_mut(&slot)?;
        let root = list.pop();
        if list.is_empty() {
            self.lists.remove(&slot);
        }
        if let Some(root) = root {
            self.digest.remove(Object::FarRoots, &words(slot, root));
        }
        root
    }
}

fn words(slot: u32, root: (u64, u8)) -> [u64; 3] {
    [slot as u64, root.0, root.1 as u64]
}

impl Roots {
    /// Position of the newest entry; zero for none.
    #[inline]
    pub fn head(&self) -> u64 {
        self.positions[0]
    }

    /// Whether some roots are kept aside.
    #[inline]
    pub fn has_far(&self) -> bool {
        self.depth & FAR != 0
    }

    /// Adds the entry at `position` and gives its links: the previous entry, and the jump.
    #[inline]
    pub fn push(&mut self, position: u64, slot: u32, far: &mut FarRoots) -> (u64, u64) {
        let previous = self.positions[0];
        let mut depth = (self.depth & !FAR) as usize;
        if depth >= 2 && self.ranks[0] == self.ranks[1] {
            if depth == 2 && self.has_far() {
                self.pull(slot, far);
                depth = (self.depth & !FAR) as usize;
            }
            // Two trees of one rank and the new entry become one tree, whose jump is the next root.
            let jump = if depth > 2 { self.positions[2] } else { 0 };
            self.positions[0] = position;
            self.ranks[0] += 1;
            self.positions.copy_within(2..depth, 1);
            self.ranks.copy_within(2..depth, 1);
            self.positions[depth - 1] = 0;
            self.ranks[depth - 1] = 0;
            self.depth -= 1;
            if self.depth == FAR | 1 {
                // The next push must be able to compare two ranks.
                self.pull(slot, far);
            }
            (previous, jump)
        } else {
            if depth == NEAR {
                self.spill(slot, far);
                depth -= MOVED;
            }
            self.positions.copy_within(0..depth, 1);
            self.ranks.copy_within(0..depth, 1);
            self.positions[0] = position;
            self.ranks[0] = 1;
            self.depth += 1;
            (previous, previous)
        }
    }

    #[cold]
    fn spill(&mut self, slot: u32, far: &mut FarRoots) {
        for i in (NEAR - MOVED..NEAR).rev() {
            far.push(slot, (self.positions[i], self.ranks[i]));
            self.positions[i] = 0;
            self.ranks[i] = 0;
        }
        self.depth = FAR | (NEAR - MOVED) as u8;
    }

    #[cold]
    fn pull(&mut self, slot: u32, far: &mut FarRoots) {
        let mut depth = (self.depth & !FAR) as usize;
        for _ in 0..MOVED {
            let (position, rank) = far.pop(slot).expect("far roots are moved in whole groups");
            self.positions[depth] = position;
            self.ranks[depth] = rank;
            depth += 1;
        }
        let more = if far.lists.contains_key(&slot) { FAR } else { 0 };
        self.depth = more | depth as u8;
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
