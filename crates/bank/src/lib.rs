//! The bank: the retail bank's rules as one state machine over the ledger. Pure.
//!
//! [`Bank::apply`] takes one command (or one bundle) with the bank's time, decides it, carries it out and
//! writes its entry. Given the same commands in the same order it writes the same bytes on any machine;
//! replay relies on that and compares every byte.
//!
//! *Rules have versions.* Each record carries the version it was decided under. Records of
//! [`RULES_CURRENT`] are decided again on replay; older ones are folded: what was decided is carried out
//! and nothing is judged anew. A journaled command, [`ledger::Op::ActivateRules`], switches to the next
//! version; until then the journal can go back to a program that only knows the older one.
#![deny(missing_docs)]
#![deny(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::disallowed_macros,
    clippy::float_arithmetic
)]

mod bank;
pub mod command;
mod jobs;
pub mod reply;

pub use bank::{Bank, Context, Mode, Sink};
pub use pabal_ledger as ledger;
pub use reply::{Reply, WireReply};

/// The newest rules that this program knows; the ones under which it decides recorded commands again.
///
/// 1: a hold counts against the available balance until it is released.
/// 2: a hold whose time has passed no longer counts, released or not.
/// 3: a bundle is let into the id window when there is room for all its parts, and not one by one.
pub const RULES_CURRENT: u32 = 3;
/// The oldest rules that this program can still decide new commands under.
pub const RULES_OLDEST: u32 = 1;
