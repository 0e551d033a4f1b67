//! Bodies: bytes aligned to eight, filled from a socket in place.

use zerocopy::IntoBytes;

/// The body of a frame. Its memory is whole words, so that what it holds is read in place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    words: Vec<u64>,
}

impl Body {
    /// Zeros, this many bytes: a multiple of eight.
    pub fn zeroed(bytes: usize) -> Body {
        assert!(bytes.is_multiple_of(8), "bodies are whole words");
        Body { words: vec![0; bytes / 8] }
    }

    /// A copy of these bytes, filled up with zeros to whole words.
    pub fn of(bytes: &[u8]) -> Body {
        let mut body = Body::zeroed(bytes.len().next_multiple_of(8));
        body.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
        body
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.words.as_bytes()
    }

    /// Its bytes, to be filled.
    pub fn as_mut_bytes(&mut self) -> &mut [u8] {
        self.words.as_mut_bytes()
    }

    /// Its words.
    pub fn into_words(self) -> Vec<u64> {
        self.words
    }
}
