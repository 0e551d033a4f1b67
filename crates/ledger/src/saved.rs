//! The state written out and read back: for snapshots, which spare a start the replay of all that was.
//!
//! What is written is the state and nothing else: no index, no mark of a batch, nothing that depends on how it came
//! about. So two banks with equal digests write equal bytes. Reading it back adds up the digest anew from each object;
//! whoever reads compares it with the one that the journal has at that record. Bytes that are no state are refused,
//! never believed: they may have rotted.

use zerocopy::IntoBytes;

/// Takes the bytes of a state, in order. What goes wrong with them is the taker's affair.
pub type Save<'a> = dyn FnMut(&[u8]) + 'a;
/// Fills in the next bytes of a state; false when there are not so many.
pub type Load<'a> = dyn FnMut(&mut [u8]) -> bool + 'a;

/// Writes these words.
pub fn save_words(save: &mut Save<'_>, words: &[u64]) {
    save(words.as_bytes());
}

/// The next words.
pub fn load_words<const N: usize>(load: &mut Load<'_>) -> Option<[u64; N]> {
    let mut words = [0u64; N];
    load(words.as_mut_bytes()).then_some(words)
}

/// How many objects come next, if no more than there may be.
pub fn load_count(load: &mut Load<'_>, max: usize) -> Option<usize> {
    let [count] = load_words(load)?;
    usize::try_from(count).ok().filter(|count| *count <= max)
}
