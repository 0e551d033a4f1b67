//! What a connection is carried by: a Unix socket, or TCP under TLS. Nothing here waits.

use std::io::{self, ErrorKind, IoSliceMut, Read, Write};
use std::time::Duration;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use rustls::ServerConnection;

use super::follow;

/// Reads of a socket that may bring nothing to say, at most: a record is at most five, a handshake some twenty. A client
/// that goes on so is disconnected, as it would keep the others waiting.
const READS_MAX: usize = 64;

pub enum Transport {
    Unix(UnixStream),
    Tls(Box<Tls>),
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
        matches!(self, Transport::Unix(_))
    }

    /// Writes these bytes, none included, and what the session owes, as far as the system takes it.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<Written> {
        match self {
            // A stream socket takes less than it is given only when it is full.
            Transport::Unix(socket) => Ok(match blocks(socket.write(bytes))? {
                Some(taken) => Written { bytes: taken, blocked: taken < bytes.len() },
                None => Written { bytes: 0, blocked: true },
            }),
            Transport::Tls(tls) => tls.write(bytes),
        }
    }

    /// Whether it is not yet known who is there.
    pub fn is_handshaking(&self) -> bool {
        matches!(self, Transport::Tls(tls) if tls.session.is_handshaking())
    }

    /// Whether the session has something to send of its own.
    pub fn owes(&self) -> bool {
        match self {
            Transport::Unix(_) => false,
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

    pub fn source(&mut self) -> &mut dyn Source {
        match self {
            Transport::Unix(socket) => socket,
            Transport::Tls(tls) => &mut tls.socket,
        }
    }

    /// Whether it is to be told of when the system takes more, too: only while something waits for that, because each
    /// byte that the other side takes would be told of.
    pub fn reregister(&mut self, registry: &Registry, token: Token, writable: bool) -> io::Result<()> {
        let interest = if writable { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        registry.reregister(self.source(), token, interest)
    }

    /// A stream that waits, but not longer than this for one write.
    pub fn into_blocking(self, patience: Duration) -> io::Result<Box<dyn Write + Send>> {
        Ok(match self {
            Transport::Unix(socket) => Box::new(follow::unix(socket, patience)?),
            Transport::Tls(tls) => Box::new(follow::tls(*tls, patience)?),
        })
    }
}

impl Read for Transport {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Unix(socket) => socket.read(bytes),
            Transport::Tls(tls) => tls.read(bytes),
        }
    }

    fn read_vectored(&mut self, parts: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self {
            Transport::Unix(socket) => socket.read_vectored(parts),
            Transport::Tls(tls) => {
                let first = parts.iter_mut().find(|part| !part.is_empty());
                first.map_or(Ok(0), |part| tls.read(part))
            }
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

/// None where it would block.
fn blocks(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
