//! Where clients come in: a Unix socket, which only the bank's own user opens, or TCP under TLS, which only those whom
//! the bank's authority has named get through.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use mio::event::Source;
use mio::net::{TcpListener, UnixListener, UnixStream};
use rustls::{ServerConfig, ServerConnection};

use super::transport::{Tls, Transport};
use super::{Error, Listen};
use crate::tls;

pub struct Listener {
    door: Door,
    /// Somebody may stand at it.
    pub ready: bool,
    /// The system had no room for one more; when to look again.
    pub again: Option<Instant>,
}

enum Door {
    Unix { listener: UnixListener, _file: SocketFile },
    Tls { listener: TcpListener, config: Arc<ServerConfig> },
}

impl Listener {
    pub fn open(listen: &Listen) -> Result<Listener, Error> {
        let door = match listen {
            Listen::Unix(path) => {
                let (listener, _file) = unix(path)?;
                Door::Unix { listener, _file }
            }
            Listen::Tls { address, identity } => {
                let config = tls::server(identity)?;
                let listener = TcpListener::bind(*address)
                    .map_err(|source| Error::Listen { at: address.to_string(), source })?;
                Door::Tls { listener, config }
            }
        };
        Ok(Listener { door, ready: false, again: None })
    }

    /// The address, if it is TCP: the port that the system chose included.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.door {
            Door::Unix { .. } => None,
            Door::Tls { listener, .. } => listener.local_addr().ok(),
        }
    }

    pub fn source(&mut self) -> &mut dyn Source {
        match &mut self.door {
            Door::Unix { listener, .. } => listener,
            Door::Tls { listener, .. } => listener,
        }
    }

    /// The next one who comes.
    pub fn accept(&self) -> io::Result<Transport> {
        match &self.door {
            Door::Unix { listener, .. } => Ok(Transport::Unix(listener.accept()?.0)),
            Door::Tls { listener, config } => {
                let socket = listener.accept()?.0;
                // What was accepted and cannot be used is as one who left at once.
                let left = |_| io::Error::from(ErrorKind::ConnectionAborted);
                socket.set_nodelay(true).map_err(left)?;
                let session =
                    ServerConnection::new(config.clone()).map_err(|_| ErrorKind::ConnectionAborted)?;
                Ok(Transport::Tls(Box::new(Tls { session, socket })))
            }
        }
    }
}

/// The file of a socket; gone with the listener, unless another server has put its own there.
struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Listens at this path. What a dead server left there is replaced; a living one is an error.
fn unix(path: &Path) -> Result<(UnixListener, SocketFile), Error> {
    let failed = |source| Error::Listen { at: path.display().to_string(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
        Ok(file) if !file.file_type().is_socket() => return Err(Error::NotASocket { path: path.into() }),
        // Only a socket at which nobody listens refuses; where somebody does, or did not come to it yet, we are not
        // in the right.
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(failed)?;
            }
            Ok(_) => return Err(Error::Lives { path: path.into() }),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(Error::Lives { path: path.into() });
            }
            Err(error) => return Err(failed(error)),
        },
    }
    // Bound beside its place and put there when nobody else can open it any more: between binding and the change of
    // its mode it would be open to all.
    let mut beside = path.as_os_str().to_owned();
    beside.push("~");
    let beside = PathBuf::from(beside);
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&beside).map_err(failed)?;
    let placed = fs::set_permissions(&beside, Permissions::from_mode(0o600))
        // Unlike a renaming, this fails when another server was faster.
        .and_then(|()| fs::hard_link(&beside, path))
        .and_then(|()| inode(path));
    let _ = fs::remove_file(&beside);
    match placed {
        Ok(inode) => Ok((listener, SocketFile { path: path.into(), inode })),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Error::Lives { path: path.into() }),
        Err(error) => Err(failed(error)),
    }
}
