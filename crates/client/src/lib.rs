//! The protocol's client: what a channel uses to reach a core or a reader.
//!
//! *Two ways in.* [`Connection`] is one connection and nothing more: no thread, no retry, frames out and answers in.
//! A load generator drives it, and everything else here stands on it. [`Client`] is what a channel uses: it keeps ids
//! before it sends them, sends again what went unheard, and says how each request ended.
//!
//! *What it must never do.* Say "done" or "not done" of what it does not know. What an answer proves when an earlier
//! try of the same request went unheard is a table of its own, [`proof`].
#![deny(missing_docs)]

mod address;
mod budget;
pub mod client;
mod connection;
pub mod files;
pub mod follow;
pub mod keep;
mod parcel;
pub mod proof;
mod slots;
pub mod stepped;
mod worker;

pub use address::Address;
pub use budget::{BACK_OFF_FIRST, BACK_OFF_MAX, FIRST_TRIES_FOR_A_RETRY, RETRY_BURST};
pub use client::{Ask, Client, ClientConfig, End, NotTaken, Pending, Told, Why};
pub use connection::{Answered, Connection, Envelope, Error, Lane, Unsent};
pub use follow::{Follow, Record};
pub use keep::{Keep, KeepConfig, KeepError};
pub use parcel::{Name, Parcel};
