//! Who serves what is asked, and the way back to who asked.

use std::sync::Arc;

use crate::body::Body;
use crate::frame::{Head, Kind, Welcome};
use crate::server::outbox::{Going, Outbox};

/// Something asked on a connection, and the way to answer it.
pub struct Asked {
    /// The connection: what different connections ask is taken in turns.
    pub connection: u64,
    /// Its head, checked against the rules of the frame; nothing more is known of it.
    pub head: Head,
    /// Its body.
    pub body: Body,
    /// The way back.
    pub answer: Answer,
}

/// What a server stands in front of.
///
/// Its methods are called on the server's one thread, on which everybody waits: none may wait itself.
pub trait Service: Send + Sync + 'static {
    /// What is said to one who comes, and the last durable record. Version and bounds are the server's to fill in.
    fn welcome(&self) -> (Welcome, u64);
    /// All requests and questions that came in one round, over all connections.
    fn asked(&self, asked: Vec<Asked>);
    /// One wants to follow. The stream is a connection of its own from here on: what is written to it may wait, for so
    /// long as [`crate::server::Limits::following`] says, so it belongs on a thread of its own. How many may follow is
    /// the service's to say.
    fn follow(&self, head: Head, stream: Box<dyn std::io::Write + Send>);
}

/// Writes an answer's body, on the server's thread.
pub type Write = Box<dyn FnOnce(&mut Vec<u8>) + Send>;

/// An answer on its way back.
pub struct Answered {
    /// What it is.
    pub kind: Kind,
    /// See [`crate::frame::Reply`].
    pub code: u16,
    /// See [`crate::frame::Reply`].
    pub sequence: u64,
    /// See [`crate::frame::Reply`].
    pub count: u32,
    /// Appends the body: [`crate::frame::ANSWERED_BYTES_MAX`] bytes at most. A longer one is not sent, and `Unknown`
    /// said in its place.
    pub body: Option<Write>,
}

impl Answered {
    /// Not done by this try, and why.
    pub fn refused(code: u16) -> Answered {
        Answered { kind: Kind::Refused, code, sequence: 0, count: 0, body: None }
    }

    /// Nobody can say what became of it.
    pub fn unknown() -> Answered {
        Answered { kind: Kind::Unknown, code: 0, sequence: 0, count: 0, body: None }
    }
}

/// The way back to who asked. Used once; dropped unused it says [`Kind::Unknown`], so that nobody waits for ever.
pub struct Answer(Option<Way>);

/// A server's own way has no allocation of its own: there is one for each request.
enum Way {
    Outbox { outbox: Arc<Outbox>, connection: u64, tag: u64, body_bytes: u32 },
    Other(Box<dyn FnOnce(Answered) + Send>),
}

impl Answer {
    /// An answer that goes this way.
    pub fn new(send: impl FnOnce(Answered) + Send + 'static) -> Answer {
        Answer(Some(Way::Other(Box::new(send))))
    }

    pub(crate) fn by_outbox(outbox: Arc<Outbox>, connection: u64, tag: u64, body_bytes: u32) -> Answer {
        Answer(Some(Way::Outbox { outbox, connection, tag, body_bytes }))
    }

    /// Answers. May be called on any thread, and never waits for the client.
    pub fn send(mut self, answered: Answered) {
        self.go(answered);
    }

    fn go(&mut self, answered: Answered) {
        match self.0.take() {
            Some(Way::Outbox { outbox, connection, tag, body_bytes }) => {
                outbox.push(Going { connection, tag, body_bytes, answered });
            }
            Some(Way::Other(send)) => send(answered),
            None => {}
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.0.is_some() {
            self.go(Answered::unknown());
        }
    }
}
