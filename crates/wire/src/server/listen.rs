//! Unix sockets: their files.

use mio::net::UnixListener;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Listens at this path. What a server that is dead left there is replaced.
pub fn unix(path: &Path) -> io::Result<UnixListener> {
    if fs::symlink_metadata(path).is_ok() {
        match UnixStream::connect(path) {
            Ok(_) => {
                let text = format!("{}: another process listens there; stop it first", path.display());
                return Err(io::Error::new(ErrorKind::AddrInUse, text));
            }
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path)?,
            Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        }
    }
    let listener = UnixListener::bind(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}
