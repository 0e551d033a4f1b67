//! Connections that have left the server, to follow: from here on they wait for the client, on a thread of their own.
//! Their `flush` also says whether the client has gone: whoever has nothing to send hears it of nothing else.

use std::io::{self, ErrorKind, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustls::ServerConnection;

use super::transport::Tls;

pub fn unix(socket: mio::net::UnixStream, patience: Duration) -> io::Result<Plain> {
    let socket = UnixStream::from(OwnedFd::from(socket));
    socket.set_nonblocking(false)?;
    socket.set_write_timeout(Some(patience))?;
    Ok(Plain(socket))
}

pub fn tls(tls: Tls, patience: Duration) -> io::Result<Sender> {
    let socket = TcpStream::from(OwnedFd::from(tls.socket));
    socket.set_nonblocking(false)?;
    socket.set_write_timeout(Some(patience))?;
    Ok(Sender { session: tls.session, socket })
}

/// An error when the client has gone. Who says that it sends no more counts as gone, as everywhere in the server.
fn is_there(socket: impl AsFd) -> io::Result<()> {
    let mut looked = [PollFd::new(&socket, PollFlags::RDHUP)];
    match poll(&mut looked, Some(&Timespec::default())) {
        Ok(0) | Err(Errno::INTR) => Ok(()),
        Ok(_) => Err(ErrorKind::BrokenPipe.into()),
        Err(error) => Err(error.into()),
    }
}

/// A socket on this machine.
pub struct Plain(UnixStream);

impl Write for Plain {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        is_there(&self.0)
    }
}

/// Only sends: what the other side may still say is never waited for.
pub struct Sender {
    session: ServerConnection,
    socket: TcpStream,
}

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.session.writer().write(bytes)?;
        self.push()?;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.push()?;
        is_there(&self.socket)
    }
}

impl Sender {
    fn push(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut self.socket)?;
        }
        Ok(())
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.session.send_close_notify();
        let _ = self.push();
    }
}
