//! A server with a service that a test drives, and clients that wait, but never for ever.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pabal_wire::frame::ROLE_CORE;
use pabal_wire::service::Answered;
use pabal_wire::{
    Answer, Asked, Asking, Body, Codes, Config, Head, Kind, Limits, Listen, Replies, Reply, Server, Service,
    Welcome,
};
use tempfile::TempDir;
use zerocopy::IntoBytes;

/// How long anything is waited for that must come.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const MALFORMED: u16 = 901;
pub const OVERLOADED: u16 = 902;
pub const VERSION_UNKNOWN: u16 = 903;
pub const SEQUENCE: u64 = 77;
pub const JOURNAL_ID: u64 = 4711;

pub const CODES: Codes =
    Codes { malformed: MALFORMED, overloaded: OVERLOADED, version_unknown: VERSION_UNKNOWN };

/// What one follows with.
pub type Followed = (Head, Box<dyn Write + Send>);

/// Questions are answered at once with what was asked; requests are given to the test.
pub struct Desk {
    requests: Mutex<Sender<Asked>>,
    follows: Mutex<Sender<Followed>>,
    hold: Mutex<Option<Hold>>,
    calls: AtomicUsize,
}

/// Says that the server's thread is held, and waits until it is let go.
struct Hold(Sender<()>, Receiver<()>);

impl Service for Desk {
    fn welcome(&self) -> (Welcome, u64) {
        (Welcome { role: ROLE_CORE, journal_id: JOURNAL_ID, ..Welcome::default() }, SEQUENCE)
    }

    fn asked(&self, asked: Vec<Asked>) {
        assert!(!asked.is_empty(), "called for something");
        self.calls.fetch_add(1, Ordering::SeqCst);
        if let Some(Hold(held, go)) = self.hold.lock().unwrap().take() {
            held.send(()).expect("the test goes on");
            go.recv_timeout(PATIENCE).expect("it is let go");
        }
        for asked in asked {
            if asked.head.kind == Asking::Query as u16 {
                asked.answer.send(echo(asked.body));
            } else {
                self.requests.lock().unwrap().send(asked).expect("the test goes on");
            }
        }
    }

    fn follow(&self, head: Head, stream: Box<dyn Write + Send>) {
        self.follows.lock().unwrap().send((head, stream)).expect("the test goes on");
    }
}

/// An answer of these bytes.
pub fn echo(body: Body) -> Answered {
    let write = move |out: &mut Vec<u8>| out.extend_from_slice(body.as_bytes());
    Answered { kind: Kind::Answer, code: 0, sequence: SEQUENCE, count: 0, body: Some(Box::new(write)) }
}

/// An answer of so many bytes.
pub fn long(bytes: usize) -> Answered {
    let write = move |out: &mut Vec<u8>| out.resize(out.len() + bytes, 7);
    Answered { kind: Kind::Answer, code: 0, sequence: SEQUENCE, count: 0, body: Some(Box::new(write)) }
}

pub struct House {
    pub server: Option<Server>,
    desk: Arc<Desk>,
    pub requests: Receiver<Asked>,
    pub follows: Receiver<Followed>,
    pub folder: TempDir,
}

impl House {
    pub fn open(limits: Limits) -> House {
        House::open_at(limits, |folder| vec![Listen::Unix(folder.join("socket"))])
    }

    pub fn open_at(limits: Limits, listen: impl FnOnce(PathBuf) -> Vec<Listen>) -> House {
        let folder = tempfile::tempdir().unwrap();
        let (desk, requests, follows) = desk();
        let config = Config { listen: listen(folder.path().into()), limits, codes: CODES };
        let server = Some(Server::start(config, desk.clone()).expect("a server starts"));
        House { server, desk, requests, follows, folder }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// A client that nobody has said hello for.
    pub fn stranger(&self) -> Client<UnixStream> {
        let stream = UnixStream::connect(self.path()).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client::new(stream)
    }

    pub fn client(&self) -> Client<UnixStream> {
        let mut client = self.stranger();
        client.hello();
        client
    }

    /// Holds the server's thread with this client's question while something else is done, so that the server meets all
    /// that at once. The client has its answer then.
    pub fn meanwhile(&self, client: &mut Client<UnixStream>, tag: u64, something: impl FnOnce()) {
        let ((held, is_held), (go, going)) = (channel(), channel());
        *self.desk.hold.lock().unwrap() = Some(Hold(held, going));
        client.send(&frame(Asking::Query, tag, &[0; 8]));
        is_held.recv_timeout(PATIENCE).expect("the server comes to it");
        something();
        go.send(()).expect("it waits");
        assert_eq!(client.next().expect("an answer").0.tag, tag);
    }

    /// How often the service was called with what was asked.
    pub fn calls(&self) -> usize {
        self.desk.calls.load(Ordering::SeqCst)
    }

    /// The next request.
    pub fn request(&self) -> Asked {
        self.requests.recv_timeout(PATIENCE).expect("a request comes")
    }

    /// The next ones, by their tags.
    pub fn answers(&self, count: usize) -> Vec<(u64, Answer, Body)> {
        (0..count).map(|_| self.request()).map(|asked| (asked.head.tag, asked.answer, asked.body)).collect()
    }

    pub fn server(&mut self) -> Server {
        self.server.take().expect("it runs")
    }
}

pub fn desk() -> (Arc<Desk>, Receiver<Asked>, Receiver<Followed>) {
    let (requests, requested) = channel();
    let (follows, followed) = channel();
    let desk = Desk {
        requests: Mutex::new(requests),
        follows: Mutex::new(follows),
        hold: Mutex::default(),
        calls: AtomicUsize::new(0),
    };
    (Arc::new(desk), requested, followed)
}

pub fn head(asking: Asking, tag: u64, length: usize) -> Head {
    let length = length as u32;
    Head { length, kind: asking as u16, version: 1, tag, class: 1, lane: 1, count: 1, ..Head::default() }
}

pub fn frame(asking: Asking, tag: u64, body: &[u8]) -> Vec<u8> {
    [head(asking, tag, body.len()).as_bytes(), body].concat()
}

pub fn hello(oldest: u32, newest: u64) -> Head {
    Head { kind: Asking::Hello as u16, tag: 1, count: oldest, item: newest, ..Head::default() }
}

/// Bytes that say which they are.
pub fn bytes(seed: u64, length: usize) -> Vec<u8> {
    (0..length as u64).map(|i| (seed.wrapping_mul(31) + i * 7 + i / 251) as u8).collect()
}

pub struct Client<S> {
    pub stream: S,
    parser: Replies,
    buffer: Vec<u8>,
    from: usize,
    to: usize,
}

impl<S: Read + Write> Client<S> {
    pub fn new(stream: S) -> Client<S> {
        Client { stream, parser: Replies::default(), buffer: vec![0; 64 << 10], from: 0, to: 0 }
    }

    pub fn hello(&mut self) {
        self.send(hello(1, 1).as_bytes());
        let (reply, _) = self.next().expect("an answer to hello");
        assert_eq!(reply.kind, Kind::Welcome as u16);
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server takes it");
        self.stream.flush().expect("the server takes it");
    }

    pub fn submit(&mut self, tag: u64, body: &[u8]) {
        self.send(&frame(Asking::Submit, tag, body));
    }

    /// The next answer; none when the server has closed.
    pub fn next(&mut self) -> Option<(Reply, Body)> {
        loop {
            let mut bytes = &self.buffer[self.from..self.to];
            let frame = self.parser.take(&mut bytes).expect("the server keeps the rules");
            self.from = self.to - bytes.len();
            if frame.is_some() {
                return frame;
            }
            let brought = self.parser.read(&mut self.stream, &mut self.buffer);
            match brought {
                Ok(brought) if brought.bytes > 0 => (self.from, self.to) = (0, brought.buffered),
                Ok(_) => return None,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("nothing came"),
                // Closed with something of ours unread.
                Err(_) => return None,
            }
        }
    }

    /// A question and its answer.
    pub fn round_trip(&mut self, tag: u64) {
        let body = bytes(tag, 64);
        self.send(&frame(Asking::Query, tag, &body));
        let (reply, answer) = self.next().expect("an answer");
        assert_eq!((reply.kind, reply.tag, answer.as_bytes()), (Kind::Answer as u16, tag, &body[..]));
    }

    /// It is told this, and the server closes.
    pub fn is_refused(&mut self, tag: u64, code: u16) {
        let (reply, _) = self.next().expect("it is told why");
        assert_eq!((reply.kind, reply.tag, reply.code), (Kind::Refused as u16, tag, code));
        assert!(self.next().is_none(), "it is closed");
    }
}
