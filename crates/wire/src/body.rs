//! Bodies: bytes aligned to eight, filled from a socket in place.

use zerocopy::IntoBytes;

/// The body of a frame. Its memory is whole words, so that what it holds is read in place; what its last word has
/// beyond its bytes is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    words: Vec<u64>,
    length: usize,
}

impl Body {
    /// Zeros, this many bytes.
    pub fn zeroed(bytes: usize) -> Body {
        Body { words: vec![0; bytes.div_ceil(8)], length: bytes }
    }

    /// A copy of these bytes.
    pub fn of(bytes: &[u8]) -> Body {
        let mut body = Body::zeroed(bytes.len());
        body.as_mut_bytes().copy_from_slice(bytes);
        body
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.words.as_bytes()[..self.length]
    }

    /// Its bytes, to be filled.
    pub fn as_mut_bytes(&mut self) -> &mut [u8] {
        &mut self.words.as_mut_bytes()[..self.length]
    }

    /// Its words.
    pub fn into_words(self) -> Vec<u64> {
        self.words
    }
}
