//! Where a core or a reader is reached.

use crate::stepped::Pipe;
use pabal_wire::tls::{self, Identity};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustls::ClientConnection;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Where a core or a reader is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A socket on this machine.
    Unix(PathBuf),
    /// Another machine, over TLS: both sides show certificates that the bank's own authority signed.
    Tls {
        /// Where it listens.
        address: SocketAddr,
        /// The name that its certificate must have.
        name: String,
        /// Who this process is, and whom it believes.
        identity: Identity,
    },
}

/// How long it is waited for another machine to take a connection.
const REACHING: Duration = Duration::from_secs(3);

impl Address {
    /// A stream to it that never waits.
    pub(crate) fn reach(&self) -> io::Result<Stream> {
        match self {
            Address::Unix(path) => {
                // One that waits would wait for as long as a server does that no longer accepts.
                let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
                let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
                connect(&socket, &SocketAddrUnix::new(path)?)?;
                Ok(Stream::Unix(UnixStream::from(socket)))
            }
            Address::Tls { address, name, identity } => {
                let session = tls::client(identity).and_then(|config| tls::session(name, config));
                let session = session.map_err(io::Error::other)?;
                let socket = TcpStream::connect_timeout(address, REACHING)?;
                socket.set_nodelay(true)?;
                socket.set_nonblocking(true)?;
                Ok(Stream::Tls(Box::new(Tls { session, socket })))
            }
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Tls { address, name, .. } => write!(f, "tls:{name} at {address}"),
        }
    }
}

/// A stream of bytes that never waits.
pub(crate) enum Stream {
    Unix(UnixStream),
    Tls(Box<Tls>),
    /// What a simulator makes up.
    Made(Box<dyn Pipe>),
}

/// A session over TCP. What it has taken and the socket has not waits in it.
pub(crate) struct Tls {
    session: ClientConnection,
    socket: TcpStream,
}

impl Stream {
    pub fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.read(into),
            Stream::Tls(tls) => tls.read(into),
            Stream::Made(pipe) => pipe.read(into),
        }
    }

    pub fn write(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.write_vectored(parts),
            Stream::Tls(tls) => tls.write(parts),
            Stream::Made(pipe) => pipe.write_vectored(parts),
        }
    }

    /// Whether it has bytes of its own to write, whatever else there is: of a handshake, or sealed ones.
    pub fn has_unwritten(&self) -> bool {
        match self {
            Stream::Unix(_) | Stream::Made(_) => false,
            Stream::Tls(tls) => tls.session.wants_write(),
        }
    }

    /// Writes those, as far as the system takes them.
    pub fn push(&mut self) -> io::Result<()> {
        match self {
            Stream::Unix(_) | Stream::Made(_) => Ok(()),
            Stream::Tls(tls) => tls.push(),
        }
    }

    /// Whether a read of less than was offered says that there is no more.
    pub fn short_is_all(&self) -> bool {
        matches!(self, Stream::Unix(_) | Stream::Made(_))
    }

    /// What the system waits with; what is made up is not waited for.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Stream::Unix(stream) => Some(stream.as_fd()),
            Stream::Tls(tls) => Some(tls.socket.as_fd()),
            Stream::Made(_) => None,
        }
    }
}

impl Tls {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // Whoever is cut off without a word has gone too.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                other => return other,
            }
            if self.session.read_tls(&mut self.socket)? == 0 {
                return Ok(0);
            }
            let processed = self.session.process_new_packets().map(drop);
            // Also what is said of a failure.
            self.push()?;
            processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        }
    }

    fn write(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.push()?;
        match self.session.writer().write_vectored(parts)? {
            0 => Err(ErrorKind::WouldBlock.into()),
            taken => {
                self.push()?;
                Ok(taken)
            }
        }
    }

    fn push(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
