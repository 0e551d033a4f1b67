//! The server: one thread for all connections.
//!
//! *A round.* It reads what came, hands all of it to the [`Service`] in one call, then writes the answers that others
//! have put into the outbox meanwhile: one system call to read and one to write for each connection, however many
//! requests that were. It sleeps only when there is nothing to read, to answer or to write, and is woken only then.
//!
//! *What one client can do to others.* Nothing but take its turn. What a connection may have on its way is bounded
//! ([`Limits`]): beyond that it is not read, and waits by itself. A round reads a bounded piece of each. Answers that a
//! client does not take wait in its own memory, bounded, and then it is disconnected; so is one that stands in the
//! middle of a handshake or a frame, or says nothing at first. A client that breaks a rule of [`crate::frame`] is told
//! so, and disconnected. One that goes is forgotten: what it asked is still done, and its answers are dropped.
//!
//! *What all of them together can do.* They may hold [`HELD_BYTES_MAX`] of this process's memory. Of that each has a share
//! of its own, which nobody can take from it, so small requests and their answers always go on; the rest is common to all
//! ([`room`]). When half of the common part is used, who needs more of it than its share is not read until others have
//! given some back; when all of it is, who has the most answers not taken is disconnected. Nothing is locked for that: the
//! one thread counts.
//!
//! *A panic of the service* on this thread ends it, and with it the server ([`Server::when_ended`]): what it stands in
//! front of is not to be trusted then.

mod connection;
mod follow;
mod listen;
pub(crate) mod outbox;
mod places;
mod room;
mod round;
pub mod stepped;
mod transport;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::service::Service;
use crate::tls::{self, Identity};
use listen::Listener;
use outbox::Outbox;
use round::Round;
pub use round::TURNED_AWAY_MAX;

/// Connections of a server at most. One more is told that it is too many, and closed.
pub const CONNECTIONS_MAX: usize = 1024;
/// Requests and questions on their way on one connection at most. It is not read until some are answered.
pub const IN_FLIGHT_MAX: u32 = 1024;
/// Bytes of their bodies at most, and one body. It is not read until some are answered.
pub const IN_FLIGHT_BYTES_MAX: u64 = 8 << 20;
/// Bytes of answers that a client has not taken at most: from a quarter of them on it is not read, beyond them it is
/// disconnected.
pub const UNTAKEN_BYTES_MAX: usize = 16 << 20;
/// Bytes that all connections together may hold: bodies that come or are on their way, answers not taken, buffers. What
/// happens when they are used: [`room`]. A session's own of TLS, some tens of KiB each, are not among them.
pub const HELD_BYTES_MAX: u64 = 512 << 20;
/// Bytes of them that a connection always may hold.
pub const SHARE_BYTES: u64 = 64 << 10;
/// How long a client may take to say who it is and hello. Then it is disconnected.
pub const GREETING: Duration = Duration::from_secs(10);
/// How long a client may take for a frame, from its first byte to its last. Then it is disconnected.
pub const MIDWAY: Duration = Duration::from_secs(10);
/// How long a client may take nothing of the answers that wait for it. Then it is disconnected.
pub const TAKING: Duration = Duration::from_secs(30);
/// How long one who follows may take nothing of what is sent. Then the sending fails.
pub const FOLLOWING: Duration = Duration::from_secs(30);

/// Bounds of a server: what happens at each is said at its usual value.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// See [`CONNECTIONS_MAX`].
    pub connections: usize,
    /// See [`IN_FLIGHT_MAX`].
    pub in_flight: u32,
    /// See [`IN_FLIGHT_BYTES_MAX`].
    pub in_flight_bytes: u64,
    /// See [`UNTAKEN_BYTES_MAX`].
    pub untaken_bytes: usize,
    /// See [`HELD_BYTES_MAX`].
    pub held_bytes: u64,
    /// See [`SHARE_BYTES`].
    pub share_bytes: u64,
    /// See [`GREETING`].
    pub greeting: Duration,
    /// See [`MIDWAY`].
    pub midway: Duration,
    /// See [`TAKING`].
    pub taking: Duration,
    /// See [`FOLLOWING`].
    pub following: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: CONNECTIONS_MAX,
            in_flight: IN_FLIGHT_MAX,
            in_flight_bytes: IN_FLIGHT_BYTES_MAX,
            untaken_bytes: UNTAKEN_BYTES_MAX,
            held_bytes: HELD_BYTES_MAX,
            share_bytes: SHARE_BYTES,
            greeting: GREETING,
            midway: MIDWAY,
            taking: TAKING,
            following: FOLLOWING,
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

/// Where a server listens.
#[derive(Clone, Debug)]
pub enum Listen {
    /// On a Unix socket, which only the bank's own user can open.
    Unix(PathBuf),
    /// On TCP, for those whom the authority has named.
    Tls {
        /// Port zero: one that the system chooses.
        address: SocketAddr,
        /// Who the server is, and whom it believes.
        identity: Identity,
    },
}

/// What a server is to be.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens.
    pub listen: Vec<Listen>,
    /// Its bounds.
    pub limits: Limits,
    /// What it says when it refuses.
    pub codes: Codes,
}

impl Config {
    /// One Unix socket and the usual bounds.
    pub fn unix(path: impl Into<PathBuf>, codes: Codes) -> Config {
        Config { listen: vec![Listen::Unix(path.into())], limits: Limits::default(), codes }
    }
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process listens there.
    #[error("another process listens on {path}: stop it first")]
    Lives {
        /// Its socket.
        path: PathBuf,
    },
    /// Something else stands where the socket is to be.
    #[error("{path} is there and is no socket: it is left alone")]
    NotASocket {
        /// What is there.
        path: PathBuf,
    },
    /// The system does not let it listen.
    #[error("cannot listen on {at}: {source}")]
    Listen {
        /// Where.
        at: String,
        /// Why.
        source: io::Error,
    },
    /// Its certificates.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The system gives it no thread or nothing to wait with.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A running server. When it is dropped it ends at once: what is on its way then goes unheard.
pub struct Server {
    outbox: Arc<Outbox>,
    thread: Option<JoinHandle<io::Result<bool>>>,
    addresses: Vec<SocketAddr>,
}

impl Server {
    /// Listens. The socket file of a dead server is replaced; that of a living one is an error.
    pub fn start(config: Config, service: Arc<dyn Service>) -> Result<Server, Error> {
        let listeners = config.listen.iter().map(Listener::open).collect::<Result<Vec<_>, _>>()?;
        let addresses = listeners.iter().filter_map(Listener::address).collect();
        let round = Round::new(listeners, config.limits, config.codes, service)?;
        let outbox = round.outbox();
        let thread = std::thread::Builder::new().name("pabal-server".into()).spawn(|| round.run())?;
        Ok(Server { outbox, thread: Some(thread), addresses })
    }

    /// Where it listens on TCP.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Does this once it has ended, however that came: whoever waits for something else must hear of it, as nobody is
    /// served any more.
    pub fn when_ended(&self, then: impl FnOnce() + Send + 'static) {
        self.outbox.when_closed(Box::new(then));
    }

    /// Takes nothing more in, waits until everything that was asked is answered and taken, for so long at most, and
    /// ends. False when something was left.
    pub fn drain(mut self, patience: Duration) -> bool {
        self.end(Instant::now() + patience)
    }

    fn end(&mut self, until: Instant) -> bool {
        self.outbox.drain_until(until);
        self.thread.take().is_some_and(|thread| matches!(thread.join(), Ok(Ok(true))))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.end(Instant::now());
        }
    }
}
