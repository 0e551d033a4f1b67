//! Sockets and their files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use super::house::*;
use pabal_wire::server::Error;
use pabal_wire::{Config, Limits, Listen, Server};

fn start(path: &std::path::Path) -> Result<Server, Error> {
    let listen = vec![Listen::Unix(path.into())];
    Server::start(Config { listen, limits: Limits::default(), codes: CODES }, desk().0)
}

#[test]
fn the_socket_is_the_banks_own() {
    let house = House::open(Limits::default());
    let mode = fs::metadata(house.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_dir(house.folder.path()).unwrap().count(), 1, "nothing lies beside it");
}

#[test]
fn the_socket_of_a_dead_server_is_replaced_and_that_of_a_living_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a dead server leaves its file");
    let server = start(&path).unwrap();
    let error = start(&path).err().expect("it lives");
    assert!(matches!(error, Error::Lives { .. }));
    assert!(error.to_string().contains("another process listens on"), "{error}");
    server.drain(PATIENCE);
    drop(start(&path).unwrap());
    assert!(!path.exists());
}

/// One that does not come to let anybody in lives too.
#[test]
fn the_socket_of_a_server_that_hangs_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let hanging = UnixListener::bind(&path).unwrap();
    let mut waiting = Vec::new();
    while let Ok(one) = mio::net::UnixStream::connect(&path) {
        waiting.push(one);
        assert!(waiting.len() < 100_000, "its queue is bounded");
    }
    assert!(matches!(start(&path), Err(Error::Lives { .. })));
    drop(hanging);
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    fs::write(&path, "money").unwrap();
    assert!(matches!(start(&path), Err(Error::NotASocket { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"money");
    let nowhere = folder.path().join("nowhere").join("socket");
    assert!(matches!(start(&nowhere), Err(Error::Listen { .. })));
}

#[test]
fn a_server_listens_in_several_places() {
    let house = House::open_at(Limits::default(), |folder| {
        vec![Listen::Unix(folder.join("socket")), Listen::Unix(folder.join("other"))]
    });
    house.client().round_trip(1);
    let other = std::os::unix::net::UnixStream::connect(house.folder.path().join("other")).unwrap();
    let mut other = Client::new(other);
    other.hello();
    other.round_trip(2);
}
