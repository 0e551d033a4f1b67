//! What a bank is drilled with: whatever judges a whole bank from outside, on a journal in memory, on a disk, or on
//! a disk that fails.
//!
//! [`model`] is the bank as one would write it without a thought for speed. It is told what was sent and where each
//! command's entry stands, and says what the bank should have answered and what its whole state should be. [`sent`]
//! is what is sent: the bytes of a command, as both are given them.
//!
//! *What bounds it.* Nothing: the model keeps everything for ever and adds every balance up anew. It is meant for
//! flows of some hundred to some thousand commands, many of them, never for a bank that runs.
//!
//! *What it must never do.* Share code with what it judges: of the bank it takes the names of things and the form of
//! their bytes, or one mistake would stand in both and be found by neither.
#![deny(missing_docs)]

pub mod attacks;
pub mod book;
pub mod crashes;
pub mod disk;
pub mod lives;
pub mod model;
mod quiet;
mod random;
pub mod sent;
pub mod sim;
