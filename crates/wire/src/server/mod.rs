//! The server: one thread for all connections.
//!
//! *A round.* It reads what came, hands all of it to the [`Service`] in one call, then writes the answers that others
//! have put into the outbox meanwhile: one system call to read and one to write for each connection, however many
//! requests that were. It sleeps only when there is nothing to read, to answer or to write.
//!
//! *What one client can do to others.* Nothing but take its turn. What a connection may have on its way is bounded
//! ([`Limits`]): beyond that it is not read, and waits by itself. A round reads a bounded piece of each. Answers that a
//! client does not take wait in its own memory, bounded, and then it is disconnected; so is one that stands in the
//! middle of a frame, or says nothing at all.

mod connection;
mod listen;
mod outbox;
mod round;

use crate::service::Service;
use mio::net::UnixListener;
use outbox::Outbox;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bounds of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections; one more is told that it is too many, and closed.
    pub connections: usize,
    /// Requests and questions on their way on one connection; beyond it is not read.
    pub in_flight: u32,
    /// Bytes of their bodies; beyond it is not read.
    pub in_flight_bytes: u64,
    /// Bytes of answers that a client has not taken; beyond it is disconnected.
    pub untaken_bytes: usize,
    /// How long a client may say nothing at first, stand in the middle of a frame, or take nothing of its answers.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 1024,
            in_flight: 1024,
            in_flight_bytes: 8 << 20,
            untaken_bytes: 16 << 20,
            patience: Duration::from_secs(30),
        }
    }
}

/// Codes of the bank's vocabulary for what the server itself refuses.
#[derive(Clone, Copy, Debug)]
pub struct Codes {
    /// A frame that breaks a rule.
    pub malformed: u16,
    /// Too many connections.
    pub overloaded: u16,
    /// No version in common.
    pub version_unknown: u16,
}

/// A running server. Ends when dropped: what is on its way then goes unheard.
pub struct Server {
    outbox: Arc<Outbox>,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
}

impl Server {
    /// Listens on a Unix socket, which only the bank's own user can open. One that a dead server left is replaced; that
    /// of a living one is an error.
    pub fn start(path: &Path, limits: Limits, codes: Codes, service: Arc<dyn Service>) -> io::Result<Server> {
        let listener = listen::unix(path)?;
        let (poll, outbox) = round::poll()?;
        let mut round = round::Round::new(poll, outbox.clone(), listener, limits, codes, service)?;
        let thread = std::thread::Builder::new().name("pabal-server".into()).spawn(move || round.run())?;
        Ok(Server { outbox, thread: Some(thread), path: path.into() })
    }

    /// Takes nothing more in, waits until everything that was asked is answered and taken, for so long at most, and
    /// ends. False when something was left.
    pub fn drain(mut self, patience: Duration) -> bool {
        self.outbox.drain_until(Instant::now() + patience);
        let ended = self.thread.take().is_some_and(|thread| thread.join().is_ok());
        ended && self.outbox.is_drained()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.outbox.drain_until(Instant::now());
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A listener that the event loop polls.
type Listener = UnixListener;
