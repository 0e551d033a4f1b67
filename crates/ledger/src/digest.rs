//! The digest: an order-independent sum of typed hashes of every object in state.
//!
//! Two replicas that disagree find out in the same batch. It detects accidents; against adversaries
//! stands the hash chain of the journal. So a fast mix is enough: folded multiplications over the object's
//! words under two sets of keys, 128 bits in all, added up by wrapping addition.

/// What kind of object is hashed, so that equal bytes of different kinds differ.
#[derive(Clone, Copy)]
#[repr(u64)]
pub enum Object {
    /// An [`crate::Account`].
    Account = 1,
    /// An open hold.
    Hold = 2,
    /// The amount reversed of a posting.
    Reversed = 3,
    /// An id in the window.
    Id = 4,
    /// Older roots of an account's history.
    FarRoots = 5,
    /// Whatever the layer above keeps: its own number is added.
    Above = 64,
}

/// A sum of hashes of objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest(pub u128);

/// Words of an object at most.
pub const WORDS_MAX: usize = 16;

/// Keys, two for each word: the digits of a splitmix64 sequence.
const KEYS: [[u64; WORDS_MAX]; 2] = {
    let (mut keys, mut state, mut i) = ([[0; WORDS_MAX]; 2], 0u64, 0);
    while i < 2 * WORDS_MAX {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        keys[i / WORDS_MAX][i % WORDS_MAX] = z ^ (z >> 31);
        i += 1;
    }
    keys
};

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

/// The hash of one object of this kind with these words, at most [`WORDS_MAX`].
///
/// Pairs of keyed words are multiplied independently of one another, so that the processor has them all
/// under way at once; each half of the sum pairs the words differently.
#[inline(always)]
pub fn hash(object: u64, words: &[u64]) -> u128 {
    assert!(words.len() <= WORDS_MAX, "an object has at most 16 words");
    let mut x = object ^ (words.len() as u64) << 32;
    let mut y = !x;
    let mut i = 0;
    while i + 1 < words.len() {
        x = x.wrapping_add(fold(words[i] ^ KEYS[0][i], words[i + 1] ^ KEYS[0][i + 1]));
        y = y.wrapping_add(fold(words[i] ^ KEYS[1][i], words[i + 1].rotate_left(32) ^ KEYS[1][i + 1]));
        i += 2;
    }
    if i < words.len() {
        x = x.wrapping_add(fold(words[i] ^ KEYS[0][i], KEYS[1][i]));
        y = y.wrapping_add(fold(words[i] ^ KEYS[1][i], KEYS[0][i]));
    }
    let high = fold(x ^ KEYS[0][0], y ^ KEYS[0][1]) ^ x;
    let low = fold(y ^ KEYS[1][0], x.rotate_left(32) ^ KEYS[1][1]) ^ y;
    (high as u128) << 64 | low as u128
}

impl Digest {
    /// Adds an object.
    #[inline]
    pub fn add(&mut self, object: Object, words: &[u64]) {
        self.0 = self.0.wrapping_add(hash(object as u64, words));
    }

    /// Takes an object away again.
    #[inline]
    pub fn remove(&mut self, object: Object, words: &[u64]) {
        self.0 = self.0.wrapping_sub(hash(object as u64, words));
    }

    /// Adds another sum.
    pub fn plus(self, other: Digest) -> Digest {
        Digest(self.0.wrapping_add(other.0))
    }

    /// Takes another sum away again.
    pub fn minus(self, other: Digest) -> Digest {
        Digest(self.0.wrapping_sub(other.0))
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every bit of every word counts, in both halves, whatever the object's length.
    #[test]
    fn a_flip_of_any_bit_changes_both_halves() {
        for length in 1..=WORDS_MAX {
            let words: Vec<u64> = (0..length as u64).map(|i| i.wrapping_mul(0x0123_4567_89ab_cdef)).collect();
            let was = hash(1, &words);
            for bit in 0..length * 64 {
                let mut other = words.clone();
                other[bit / 64] ^= 1 << (bit % 64);
                let now = hash(1, &other);
                assert!(now as u64 != was as u64 && now >> 64 != was >> 64, "{length} words, bit {bit}");
            }
        }
    }

    /// What accidents look like: equal words at other places, other kinds, other lengths, zeros.
    #[test]
    fn places_kinds_and_lengths_are_told_apart() {
        let mut seen = std::collections::BTreeSet::new();
        for object in [1, 2, 3, 4, 5, 64] {
            for length in 0..=WORDS_MAX {
                assert!(seen.insert(hash(object, &vec![0; length])));
                assert!(seen.insert(hash(object, &vec![7; length])) || length == 0);
                for i in 0..length {
                    let mut words = vec![0; length];
                    words[i] = 9;
                    assert!(seen.insert(hash(object, &words)));
                }
            }
        }
    }
}
