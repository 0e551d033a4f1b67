//! What a connection is carried by: a Unix socket, TCP under TLS, or what a simulator makes up. Nothing here waits.

use std::io::{self, ErrorKind, IoSliceMut, Read, Write};
use std::time::Duration;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use rustls::ServerConnection;

use super::follow;
use super::stepped::Pipe;

/// Reads of a socket that may bring nothing to say, at most: a record is at most five, a handshake some twenty. A client
/// that goes on so is disconnected, as it would keep the others waiting.
const READS_MAX: usize = 64;

pub enum Transport {
    Unix(UnixStream),
    Tls(Box<Tls>),
    Made(Box<dyn Pipe>),
}

pub struct Tls {
    pub session: ServerConnection,
    pub socket: TcpStream,
}

/// What became of a write.
pub struct Written {
    /// Bytes taken.
    pub bytes: usize,
    /// Whether the system takes no more for now.
    pub blocked: bool,
}

impl Transport {
    /// Whether a read that brought less than there was room for has emptied the socket, so that the next byte is
    /// announced anew. It is so with a stream socket; a session gives what it has decrypted so far.
    pub fn short_is_drained(&self) -> bool {
        matches!(self, Transport::Unix(_) | Transport::Made(_))
    }

    /// Writes these bytes, none included, and what the session owes, as far as the system takes it.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<Written> {
        match self {
            Transport::Unix(socket) => stream(socket, bytes),
            Transport::Tls(tls) => tls.write(bytes),
            Transport::Made(pipe) => stream(pipe, bytes),
        }
    }

    /// Whether it is not yet known who is there.
    pub fn is_handshaking(&self) -> bool {
        matches!(self, Transport::Tls(tls) if tls.session.is_handshaking())
    }

    /// Whether the session has something to send of its own.
    pub fn owes(&self) -> bool {
        match self {
            Transport::Unix(_) | Transport::Made(_) => false,
            Transport::Tls(tls) => tls.session.wants_write(),
        }
    }

    /// Says goodbye, if that can be said at once.
    pub fn close(mut self) {
        if let Transport::Tls(tls) = &mut self {
            tls.session.send_close_notify();
            let _ = tls.push();
        }
    }

    /// Has the system tell of it. What is made up tells by itself.
    pub fn register(&mut self, registry: Option<&Registry>, token: Token) -> io::Result<()> {
        match (self.source(), registry) {
            (Some(source), Some(registry)) => registry.register(source, token, Interest::READABLE),
            _ => Ok(()),
        }
    }

    /// Whether it is to be told of when the system takes more, too: only while something waits for that, because each
    /// byte that the other side takes would be told of.
    pub fn reregister(
        &mut self,
        registry: Option<&Registry>,
        token: Token,
        writable: bool,
    ) -> io::Result<()> {
        let interest = if writable { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        match (self, registry) {
            (Transport::Made(pipe), _) => {
                pipe.watch(writable);
                Ok(())
            }
            (transport, Some(registry)) => match transport.source() {
                Some(source) => registry.reregister(source, token, interest),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Has the system tell of it no more.
    pub fn deregister(&mut self, registry: Option<&Registry>) {
        if let (Some(source), Some(registry)) = (self.source(), registry) {
            let _ = registry.deregister(source);
        }
    }

    fn source(&mut self) -> Option<&mut dyn Source> {
        match self {
            Transport::Unix(socket) => Some(socket),
            Transport::Tls(tls) => Some(&mut tls.socket),
            Transport::Made(_) => None,
        }
    }

    /// A stream that waits, but not longer than this for one write.
    pub fn into_blocking(self, patience: Duration) -> io::Result<Box<dyn Write + Send>> {
        Ok(match self {
            Transport::Unix(socket) => Box::new(follow::unix(socket, patience)?),
            Transport::Tls(tls) => Box::new(follow::tls(*tls, patience)?),
            Transport::Made(mut pipe) => {
                pipe.waits(patience);
                Box::new(pipe)
            }
        })
    }
}

impl Read for Transport {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Unix(socket) => socket.read(bytes),
            Transport::Tls(tls) => tls.read(bytes),
            Transport::Made(pipe) => pipe.read(bytes),
        }
    }

    fn read_vectored(&mut self, parts: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self {
            Transport::Unix(socket) => socket.read_vectored(parts),
            Transport::Tls(tls) => {
                let first = parts.iter_mut().find(|part| !part.is_empty());
                first.map_or(Ok(0), |part| tls.read(part))
            }
            Transport::Made(pipe) => pipe.read_vectored(parts),
        }
    }
}

impl Tls {
    /// What was decrypted; nothing more than that is taken from the socket. It would block only when the socket would.
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        for _ in 0..READS_MAX {
            if let Some(read) = blocks(self.session.reader().read(bytes))? {
                return Ok(read);
            }
            if self.session.read_tls(&mut self.socket)? == 0 {
                return Ok(0);
            }
            self.session
                .process_new_packets()
                .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        }
        Err(io::Error::new(ErrorKind::InvalidData, "records that say nothing"))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<Written> {
        let mut taken = 0;
        // Until the client has shown who it is, it is told nothing but the handshake.
        if self.session.is_handshaking() {
            return Ok(Written { bytes: 0, blocked: self.push()? });
        }
        loop {
            // As much as the session keeps at a time.
            taken += self.session.writer().write(&bytes[taken..])?;
            let blocked = self.push()?;
            if blocked || taken == bytes.len() {
                return Ok(Written { bytes: taken, blocked });
            }
        }
    }

    /// Sends what the session has to send; whether the system takes no more.
    fn push(&mut self) -> io::Result<bool> {
        while self.session.wants_write() {
            if blocks(self.session.write_tls(&mut self.socket))?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Writes to a stream, which takes less than it is given only when it is full.
fn stream(stream: &mut impl Write, bytes: &[u8]) -> io::Result<Written> {
    Ok(match blocks(stream.write(bytes))? {
        Some(taken) => Written { bytes: taken, blocked: taken < bytes.len() },
        None => Written { bytes: 0, blocked: true },
    })
}

/// None where it would block.
fn blocks(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
