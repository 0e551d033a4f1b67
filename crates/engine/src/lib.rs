//! The engine: runs a state machine over a journal.
//!
//! One thread, the core, executes; another, the writer, makes durable. While record n is being written the
//! core executes batch n + 1, whose write begins only when n is durable; a small record, during which small requests
//! would wait for one another, the core writes itself. What a batch answers (replies,
//! refusals, repeated answers, reads) is released when that batch is durable, so nothing is ever shown
//! that a crash could take back.
//!
//! *What bounds it.* Requests wait in two lanes of bounded length; at the bound they are refused at once
//! with an answer that does not use their ids up. Online requests come first; a bulk request is one small
//! batch of its own, begun only when nothing else is on its way, so it adds at most itself to an online
//! request's wait.
//!
//! *Fail-stop.* A failed write or sync ends the engine. Whoever waits hears [`Unknown`]: never done, never
//! failed. The process must end then; the next start reads what is really in the journal.
#![deny(missing_docs)]

mod core;
mod door;
pub mod engine;
pub mod fold;
pub mod follow;
pub mod machine;
pub mod queue;
pub mod replay;
pub mod request;
mod ring;
mod room;
pub mod snapshot;
mod start;
pub mod stepper;
pub mod time;
mod walk;
mod writer;

pub use door::Door;
pub use engine::{Engine, EngineConfig, Error, Recovery};
pub use fold::Fold;
pub use follow::Follower;
pub use machine::{Machine, Mode, Sink};
pub use replay::{Replay, ReplayError};
pub use request::{Commands, Hear, Lane, Request, RequestHeader, Response, Seen, Ticket, Unknown};
pub use stepper::Stepper;
pub use time::{Clock, SystemClock, TimeGap, TimeSource};
