//! The ledger: accounts, postings, holds and the rules that bind them. Pure.
//!
//! A ledger is a function of the commands it was given, in their order. It reads no clock, draws no
//! random number, does no I/O and iterates nothing in hash order, so the same commands give the same
//! balances, the same links and the same digest on every machine.
//!
//! *What bounds it.* Every collection has a named bound beside it; at the bound a command is refused
//! with a code that does not use its id up ([`Code::uses_id`]).
//!
//! *What it never does.* It never moves money along a path that [`rules::permits`] does not have, never
//! lets an account pass its limit, and never changes anything before every check has passed: a refused
//! command leaves no trace but its entry.
#![deny(missing_docs)]
#![deny(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::disallowed_macros,
    clippy::float_arithmetic
)]

#[cfg(target_endian = "big")]
compile_error!("journal bytes are little-endian and are read in place");

pub mod account;
pub mod accounts;
mod buckets;
pub mod code;
pub mod digest;
pub mod entry;
pub mod history;
pub mod holds;
pub mod ids;
mod index;
mod ledger;
pub mod rules;
pub mod saved;
mod undo;
pub mod window;

pub use account::{Account, Status};
pub use code::Code;
pub use digest::Digest;
pub use entry::{Command, Date, Header, Id, Leg, Op, Outcome, Posting};
pub use ledger::{Asked, Ledger, Moment, Verdict};
pub use rules::{Class, Kind};
