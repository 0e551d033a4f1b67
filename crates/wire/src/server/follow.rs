//! Connections that have left the server, to follow: from here on they wait for the client, on a thread of their own.

use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustls::ServerConnection;

use super::transport::Tls;

pub fn unix(socket: mio::net::UnixStream, patience: Duration) -> io::Result<UnixStream> {
    let socket = UnixStream::from(OwnedFd::from(socket));
    socket.set_nonblocking(false)?;
    socket.set_write_timeout(Some(patience))?;
    Ok(socket)
}

pub fn tls(tls: Tls, patience: Duration) -> io::Result<Sender> {
    let socket = TcpStream::from(OwnedFd::from(tls.socket));
    socket.set_nonblocking(false)?;
    socket.set_write_timeout(Some(patience))?;
    Ok(Sender { session: tls.session, socket })
}

/// Only sends: what the other side may still say is never waited for.
pub struct Sender {
    session: ServerConnection,
    socket: TcpStream,
}

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.session.writer().write(bytes)?;
        self.flush()?;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut self.socket)?;
        }
        Ok(())
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.session.send_close_notify();
        let _ = self.flush();
    }
}
