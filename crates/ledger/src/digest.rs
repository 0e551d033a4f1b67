//! The digest: an order-independent sum of typed hashes of every object in state.
//!
//! Two replicas that disagree find out in the same batch. It detects accidents; against adversaries
//! stands the hash chain of the journal. So a fast mix is enough: two independent folded multiplications
//! over the object's words, 128 bits in all, added up by wrapping addition.

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

const A: [u64; 4] =
    [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 0xd6e8_feb8_6659_fd93];

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

/// The hash of one object of this kind with these words.
#[inline]
pub fn hash(object: u64, words: &[u64]) -> u128 {
    let mut x = object.wrapping_mul(A[0]) ^ words.len() as u64;
    let mut y = object.wrapping_mul(A[1]) ^ A[2];
    let mut pairs = words.chunks_exact(2);
    for pair in &mut pairs {
        x = fold(pair[0] ^ A[0] ^ x, pair[1] ^ A[1]) ^ x.rotate_left(29);
        y = fold(pair[0] ^ A[2], pair[1] ^ A[3] ^ y) ^ y.rotate_left(31);
    }
    if let [last] = pairs.remainder() {
        x = fold(*last ^ A[0] ^ x, A[1]) ^ x.rotate_left(29);
        y = fold(*last ^ A[2], A[3] ^ y) ^ y.rotate_left(31);
    }
    (fold(x ^ A[3], A[0]) as u128) << 64 | fold(y ^ A[1], A[2]) as u128
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
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
