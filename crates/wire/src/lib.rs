//! The internal protocol: what processes of a bank say to one another, over a Unix socket on one machine or over TCP
//! with mutual TLS between machines.
//!
//! *What goes over it.* Frames: a fixed head, then a body of a bounded length. A client sends requests (commands),
//! questions, or the wish to follow the journal; each has a tag of its own, so that many can be on their way on one
//! connection, and is answered under that tag, in whatever order the answers come. See [`frame`].
//!
//! *What it does not know.* What a command, a question or an answer means: bodies are bytes here. Who serves them
//! stands behind [`Service`].
//!
//! *Why its own framing.* Durable transfers one at a time are limited by the system's calls, some microseconds each on
//! both sides; what a general RPC library adds to each request is more than the whole bank takes for it
//! (`docs/decisions`).
#![deny(missing_docs)]

#[cfg(target_endian = "big")]
compile_error!("frames are little-endian and are read in place");

pub mod body;
pub mod frame;
pub mod parse;
pub mod server;
pub mod service;
pub mod tls;

pub use body::Body;
pub use frame::{Asking, Head, Kind, Reply, Welcome};
pub use parse::{Broken, Parser, Replies, Requests};
pub use server::{Codes, Config, Limits, Listen, Server};
pub use service::{Answer, Asked, Service};
