//! The simulator: the real bank on the real engine and journal, in a world that is made up and hostile.
//!
//! One seed is one life of a bank: a disk, a clock, clients, and a row of processes that run the bank until they
//! are killed. Everything happens on one thread, one step after the other, and every choice comes from the seed, so
//! a seed is repeated exactly, and its trace hash says so.
//!
//! *What befalls it.* The clock jumps and drifts. The disk loses what was not synced, block by block, tears blocks,
//! fails, fills up, loses and misdirects writes, and rots. The process is killed at any access to the disk and
//! between any two steps; commands stop it; programs with older rules take its place. Clients send again, send
//! something else under the same id, send late and early ids, and go away. Most speak the protocol ([`frames`]), over
//! pipes that split, stall, are cut and go bad, beside others who keep no rule.
//!
//! *Who judges.* [`judge`], with the independent model: every decision, every answer, every read, every digest, and
//! after every start that all is there that was shown to anyone and nothing that was not done. What readers and
//! followers see of the journal is compared to the byte with what was sent and decided ([`written`]).
//!
//! *What it is blind to* stands in `docs/testing.md`.

pub(crate) mod acts;
mod campaign;
mod clients;
mod clock;
mod frames;
mod judge;
mod statement;
mod tap;
mod world;
mod written;

pub use campaign::{Campaign, Failure, campaign};
pub use judge::Wrong;
pub use world::{Report, run, tell};
