//! The protocol's client: what a channel uses to reach a core or a reader.
//!
//! [`Connection`] is one connection and nothing more: no thread, no retry, frames out and answers in.
#![deny(missing_docs)]

mod address;
mod connection;
mod slots;

pub use address::Address;
pub use connection::{Answered, Connection, Envelope, Error, Lane, Unsent};
