//! The bank on the engine: the one place where the two meet.
//!
//! The bank knows no journal file and no thread; the engine knows no account. [`BankMachine`] translates between
//! them, word for word: a request's header into the bank's context, the engine's modes into the bank's, positions
//! into positions. It decides nothing itself, so what is true of [`pabal_bank::Bank`] is true of a running bank,
//! and whatever runs a bank (the binary, its tests, a simulator) runs this one.
//!
//! *What is read.* A [`Query`] is answered from the state as it stands, and its [`Answer`] is released when
//! everything that it shows is durable: no one is shown money that a crash could take back. One question costs one
//! look-up, plus the account's own open holds: nothing here walks over all accounts.
//!
//! *What it must never do.* Keep anything of its own beside the bank: it would be missing after a replay.
#![deny(missing_docs)]

pub mod channel;
pub mod copy;
pub mod credentials;
pub mod machine;
pub mod question;
pub mod read;
pub mod service;
pub mod walk;

pub use channel::Channel;
pub use copy::{Copy, ReaderService};
pub use credentials::{Credential, Credentials};
pub use machine::{AccountView, Answer, BankMachine, BankView, Query};
pub use question::Question;
pub use service::{Behind, CoreService, Following};
pub use walk::{Walkers, Walks};
