//! A server that does what a test tells it: a thread behind a socket, and frames by hand.

use pabal_bank::Reply;
use pabal_wire::frame::{ROLE_CORE, VERSION};
use pabal_wire::{Head, Kind, Reply as ReplyHead, Welcome};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::JoinHandle;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// The journal that servers here stand before, unless they say otherwise.
pub const JOURNAL_ID: u64 = 7;

/// The credential that clients here show.
pub const CREDENTIAL: [u8; 16] = *b"a channel's own.";

/// A folder with a socket in it.
pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Place {
        Place { dir: tempfile::tempdir().expect("a folder") }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("core.sock")
    }

    pub fn address(&self) -> pabal_client::Address {
        pabal_client::Address::Unix(self.socket())
    }

    /// Serves on a thread of its own.
    pub fn serve<T: Send + 'static>(
        &self,
        serve: impl FnOnce(UnixListener) -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let listener = UnixListener::bind(self.socket()).expect("bound");
        std::thread::spawn(move || serve(listener))
    }
}

/// What a server says of itself.
pub fn welcome() -> Welcome {
    Welcome {
        version: VERSION,
        role: ROLE_CORE,
        in_flight_max: 64,
        in_flight_bytes_max: 8 << 20,
        journal_id: JOURNAL_ID,
        reserved: 0,
    }
}

/// The server's end of a connection.
pub struct Peer {
    pub stream: UnixStream,
}

impl Peer {
    /// Takes the next connection and its hello, and says welcome.
    pub fn welcomed(listener: &UnixListener, welcome: &Welcome) -> Peer {
        let mut peer = Peer { stream: listener.accept().expect("accepted").0 };
        let (hello, _) = peer.read().expect("a hello");
        peer.say(Kind::Welcome, &ReplyHead { tag: hello.tag, ..ReplyHead::default() }, welcome.as_bytes());
        peer
    }

    /// The next frame. None when the client has gone.
    pub fn read(&mut self) -> Option<(Head, Vec<u8>)> {
        let mut head = Head::new_zeroed();
        self.stream.read_exact(head.as_mut_bytes()).ok()?;
        let mut body = vec![0; head.length as usize];
        self.stream.read_exact(&mut body).ok()?;
        Some((head, body))
    }

    /// Writes a frame; kind and length are filled in. False when the client has gone.
    pub fn say(&mut self, kind: Kind, head: &ReplyHead, body: &[u8]) -> bool {
        self.stream.write_all(&frame(kind, head, body)).is_ok()
    }

    /// Answers a request with these replies.
    pub fn reply(&mut self, head: &Head, replies: &[Reply]) -> bool {
        let reply =
            ReplyHead { tag: head.tag, sequence: 1, count: replies.len() as u32, ..ReplyHead::default() };
        self.say(Kind::Replies, &reply, &bytes(replies))
    }
}

/// A frame's bytes.
pub fn frame(kind: Kind, head: &ReplyHead, body: &[u8]) -> Vec<u8> {
    let head = ReplyHead { kind: kind as u16, length: body.len() as u32, ..*head };
    [head.as_bytes(), body].concat()
}

/// Replies as they are sent.
pub fn bytes(replies: &[Reply]) -> Vec<u8> {
    replies.iter().flat_map(|reply| reply.to_wire().as_bytes().to_vec()).collect()
}

/// The commands in a body: of 96 bytes each.
pub fn commands(body: &[u8]) -> Vec<pabal_ledger::Command> {
    body.chunks_exact(96)
        .map(|bytes| pabal_ledger::Command::read_from_bytes(bytes).expect("96 bytes"))
        .collect()
}
