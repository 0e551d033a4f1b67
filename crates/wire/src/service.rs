//! Who serves what is asked, and the way back to who asked.

use crate::body::Body;
use crate::frame::{Head, Kind, Welcome};

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
    /// What is said to one who comes, but for the version, and the last durable record.
    fn welcome(&self) -> (Welcome, u64);
    /// All requests and questions that came in one round, over all connections.
    fn asked(&self, asked: Vec<Asked>);
    /// One wants to follow. The stream is a connection of its own from here on: what is written to it may wait, so it
    /// belongs on a thread of its own.
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
    /// Appends the body.
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
pub struct Answer(Option<Box<dyn FnOnce(Answered) + Send>>);

impl Answer {
    /// An answer that goes this way.
    pub fn new(send: impl FnOnce(Answered) + Send + 'static) -> Answer {
        Answer(Some(Box::new(send)))
    }

    /// Answers. May be called on any thread, and never waits for the client.
    pub fn send(mut self, answered: Answered) {
        if let Some(send) = self.0.take() {
            send(answered);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(send) = self.0.take() {
            send(Answered::unknown());
        }
    }
}
