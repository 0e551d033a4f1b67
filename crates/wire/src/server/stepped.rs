//! A server without a thread, a socket or a clock of its own: whoever owns it lets clients in over pipes that are made
//! up, and says when it goes round and what time it is then. The same rounds and connections as a [`super::Server`]'s;
//! only what the system does is chosen from outside, so that a simulator can try all of it and repeat each.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::outbox::Outbox;
use super::round::Round;
use super::transport::Transport;
use super::{Codes, Limits};
use crate::service::Service;

/// What happened to a connection since it was last asked, as a system tells it: once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Happened {
    /// Bytes have come.
    pub readable: bool,
    /// It takes bytes again.
    pub writable: bool,
    /// The client sends no more after what is there.
    pub closing: bool,
    /// The client takes no more either.
    pub gone: bool,
}

/// A made-up stream, the server's side. It behaves as a stream socket that never waits: it takes less than it is given
/// only when it is full, gives less than there is room for only when it is empty, and closes when it is dropped.
pub trait Pipe: Read + Write + Send {
    /// What happened since this was last asked.
    fn happened(&mut self) -> Happened;
    /// What can be read is to be told of anew, and, if `writable`, that it takes bytes, as soon as it does.
    fn watch(&mut self, writable: bool);
    /// From now on it is as one that waits: a write takes all that it is given, and `flush` says
    /// [`std::io::ErrorKind::WouldBlock`] while the client has not taken it all, for so long at most.
    fn waits(&mut self, patience: Duration);
}

/// See the module. Dropped, it ends as a process does that is killed.
pub struct Stepped(Round);

impl Stepped {
    /// In front of this service.
    pub fn new(limits: Limits, codes: Codes, service: Arc<dyn Service>, now: Instant) -> Stepped {
        Stepped(Round::stepped(Outbox::new(None), limits, codes, service, now))
    }

    /// Somebody comes.
    pub fn let_in(&mut self, pipe: Box<dyn Pipe>) {
        self.0.let_in(Transport::Made(pipe));
    }

    /// Goes round once.
    pub fn step(&mut self, now: Instant) {
        self.0.step(now);
    }

    /// Takes nothing more in: what was asked is answered, and whoever waits for nothing is closed.
    pub fn drain(&mut self, until: Instant) {
        self.0.outbox().drain_until(until);
    }

    /// Connections that there are.
    pub fn connections(&self) -> usize {
        self.0.connections()
    }
}
