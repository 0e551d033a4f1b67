//! One connection: frames out, answers in, no thread of its own.
//!
//! *Who waits.* Only [`Connection::poll`] does, and [`Connection::submit`] for a moment when a body is long. Frames
//! are collected and written together by [`Connection::flush`]: a system call for many. A long body is not copied: it
//! is written from where it lies.
//!
//! *Why it cannot lock up with its server.* A server that bounds what it holds stops reading until its answers are
//! taken. So wherever this side waits to write, it reads too; what is read meanwhile is bounded by what is on its way,
//! which the welcome bounds.
//!
//! *What it believes.* Nothing that breaks a rule of [`pabal_wire::frame`]: an answer to what was not asked, twice, of
//! another kind or length, ends the connection; what else was on its way then went unheard.

use crate::address::{Address, Stream};
use crate::slots::{Slot, Slots};
use pabal_bank::{Reply, WireReply};
use pabal_ledger::Id;
use pabal_wire::frame::{
    ANSWERED_BYTES_MAX, ASKED_BYTES_MAX, CLASS_MAX, REPLY_BYTES, ROLE_CORE, ROLE_READER, VERSION,
    VERSION_OLDEST,
};
use pabal_wire::parse::Header;
use pabal_wire::{Asking, Head, Kind, Reply as ReplyHead, Welcome};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of a body that are copied to be written with others; longer ones are written from where they lie.
const COPIED_BYTES_MAX: usize = 16 << 10;
/// Collected bytes that are written without being told to.
const COLLECTED_BYTES_MAX: usize = 256 << 10;
/// Free bytes offered to a read, at least.
const READ_BYTES_MIN: usize = 256 << 10;
/// Bytes read and not yet taken at which reading waits for the taking. Above the longest frame, so that there is
/// always a whole one to take.
const UNTAKEN_BYTES_MAX: usize = 2 * ANSWERED_BYTES_MAX;
/// How long a long body waits for the server to take more of it. Then what is left is copied, and waits in
/// [`Connection::poll`].
const LONG_BODY_WAIT: Duration = Duration::from_millis(20);

const _: () = assert!(UNTAKEN_BYTES_MAX > ANSWERED_BYTES_MAX + size_of::<ReplyHead>());

/// Why a connection is no use any more. What is on its way on it goes unheard.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system says no.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server ended it.
    #[error("the server ended the connection")]
    Closed,
    /// The server does not want this client: a code of the bank's vocabulary, or zero.
    #[error("the server refused the connection (code {0})")]
    Refused(u16),
    /// No welcome came in time.
    #[error("the server did not say welcome in time")]
    NoWelcome,
    /// The server broke a rule of the protocol.
    #[error("the server broke the protocol: {0}")]
    Broken(&'static str),
}

/// Why something was not sent. Nothing of it has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsent {
    /// As much is on its way as the server allows: take answers first.
    #[error("as much is on its way as the server allows")]
    Full,
    /// Longer than a body may be, or longer than the server ever allows on its way.
    #[error("longer than a body may be")]
    TooLong,
    /// Not of whole words of eight bytes, without commands, or of no class that there is.
    #[error("not commands")]
    Malformed,
    /// The connection has ended.
    #[error("the connection has ended")]
    Ended,
}

/// The lane in which a request waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Lane {
    /// Someone waits for the answer.
    #[default]
    Online = 1,
    /// A numbered piece of a long job.
    Bulk = 2,
}

/// What a request carries beside its commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// Admission class, 0 (P0) to 4 (P4).
    pub class: u8,
    /// Who waits.
    pub lane: Lane,
    /// Milliseconds since 1970, by the bank's clock, after which it must not be begun; zero for none.
    pub deadline_ms: u64,
    /// The attempt's id; for bulk, the job's.
    pub attempt: Id,
    /// Who acts.
    pub principal: u64,
    /// For bulk, the number of its first command in the job.
    pub item: u64,
}

/// An answer, read in place.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// Of what was asked under this tag.
    pub tag: u64,
    /// What it is.
    pub kind: Kind,
    /// Why it was refused.
    pub code: u16,
    /// See [`Kind`].
    pub sequence: u64,
    /// How many replies.
    pub count: u32,
    /// The body.
    pub body: &'a [u8],
}

impl<'a> Answered<'a> {
    /// The replies in its body, in the order of the commands; none for one that this program cannot read, of which
    /// nothing is known then.
    pub fn replies(&self) -> impl ExactSizeIterator<Item = Option<Reply>> + use<'a> {
        self.body
            .chunks_exact(REPLY_BYTES)
            .map(|bytes| Reply::from_wire(&WireReply::read_from_bytes(bytes).ok()?))
    }
}

/// One connection. See the module.
pub struct Connection {
    stream: Stream,
    credential: [u8; 16],
    welcome: Welcome,
    sequence: u64,
    slots: Slots,
    /// Collected and not yet written: what lies from `written` on.
    out: Vec<u8>,
    written: usize,
    /// Read: what lies from `taken` to `filled` was not yet taken.
    read: Vec<u8>,
    taken: usize,
    filled: usize,
    /// Nothing more will come, and why.
    ended: Option<Error>,
    /// Nothing more is let out. What the server said before is still to be read.
    deaf: bool,
}

impl Connection {
    /// Reaches a server and waits for its welcome, for so long at most.
    pub fn connect(address: &Address, credential: [u8; 16], patience: Duration) -> Result<Connection, Error> {
        let until = Instant::now() + patience;
        let mut connection = Connection::begin(address.reach()?, credential);
        loop {
            connection.poll(until.saturating_duration_since(Instant::now()))?;
            if connection.greeted()? {
                return Ok(connection);
            }
            if Instant::now() >= until {
                return Err(Error::NoWelcome);
            }
        }
    }

    /// Says hello over this stream. Nothing else may be asked before [`Connection::greeted`] has said so.
    pub(crate) fn begin(stream: Stream, credential: [u8; 16]) -> Connection {
        let mut connection = Connection {
            stream,
            credential,
            welcome: Welcome::default(),
            sequence: 0,
            slots: Slots::default(),
            out: Vec::new(),
            written: 0,
            read: Vec::new(),
            taken: 0,
            filled: 0,
            ended: None,
            deaf: false,
        };
        let slot = Slot { asking: Asking::Hello, count: 0, bytes: 0 };
        let tag = connection.slots.open(slot);
        let hello = Head {
            kind: Asking::Hello as u16,
            version: VERSION,
            tag,
            credential,
            count: VERSION_OLDEST as u32,
            item: VERSION as u64,
            ..Head::default()
        };
        connection.collect(&hello, &[]);
        connection
    }

    /// Whether the welcome is here. Called until it is.
    pub(crate) fn greeted(&mut self) -> Result<bool, Error> {
        let Some(answered) = self.take()? else { return Ok(false) };
        let (kind, code, sequence) = (answered.kind, answered.code, answered.sequence);
        let welcome = Welcome::read_from_bytes(answered.body);
        if kind != Kind::Welcome {
            return Err(Error::Refused(code));
        }
        let welcome = welcome.map_err(|_| Error::Broken("a welcome of another length"))?;
        check(&welcome)?;
        (self.welcome, self.sequence) = (welcome, sequence);
        Ok(true)
    }

    /// What the server said of itself.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// The last durable record when it said so.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Requests and questions on their way.
    pub fn in_flight(&self) -> usize {
        self.slots.len()
    }

    /// Collects a request of these commands; the tag under which it will be answered. The tag's low half is a number
    /// below the welcome's `in_flight_max` that no other has while this one is on its way.
    pub fn submit(&mut self, envelope: &Envelope, count: u32, commands: &[u8]) -> Result<u64, Unsent> {
        if count == 0 || commands.is_empty() {
            return Err(Unsent::Malformed);
        }
        let head = Head {
            kind: Asking::Submit as u16,
            class: envelope.class,
            lane: envelope.lane as u8,
            count,
            deadline_ms: envelope.deadline_ms,
            attempt: [envelope.attempt.high, envelope.attempt.low],
            principal: envelope.principal,
            item: envelope.item,
            ..Head::default()
        };
        self.ask(Asking::Submit, head, commands)
    }

    /// Collects a question. Its answer has seen the record of this sequence at least; zero for any.
    pub fn query(&mut self, envelope: &Envelope, at_least: u64, question: &[u8]) -> Result<u64, Unsent> {
        let head = Head {
            kind: Asking::Query as u16,
            class: envelope.class,
            lane: envelope.lane as u8,
            deadline_ms: envelope.deadline_ms,
            attempt: [envelope.attempt.high, envelope.attempt.low],
            principal: envelope.principal,
            item: at_least,
            ..Head::default()
        };
        self.ask(Asking::Query, head, question)
    }

    /// Collects the wish for all records from this sequence on. Nothing else is asked on this connection any more.
    pub fn follow(&mut self, sequence: u64) -> Result<u64, Unsent> {
        let head =
            Head { kind: Asking::Follow as u16, lane: Lane::Online as u8, item: sequence, ..Head::default() };
        self.ask(Asking::Follow, head, &[])
    }

    /// Writes what was collected, as far as the server takes it now.
    pub fn flush(&mut self) {
        if self.stream.push().is_err() {
            self.deaf = true;
        }
        while self.written < self.out.len() && !self.deaf {
            let waiting = IoSlice::new(&self.out[self.written..]);
            match self.stream.write(&[waiting]) {
                Ok(bytes) => self.written += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // What the server said before it went is still to be read; its end is found there.
                Err(_) => self.deaf = true,
            }
        }
        self.forget_written();
    }

    /// Writes and reads what the system takes and has now: for one who waits for several connections at a time.
    pub fn pump(&mut self) {
        self.flush();
        self.fill();
    }

    /// What to wait with for something to read: then [`Connection::pump`].
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd().expect("only a stepped client has another stream, and shows no connection")
    }

    /// Writes and reads; waits so long at most, unless there is an answer to take, or the connection has ended.
    pub fn poll(&mut self, timeout: Duration) -> Result<(), Error> {
        self.poll_or(None, timeout)
    }

    /// The same, and ends too when the other descriptor can be read.
    pub fn poll_or(&mut self, other: Option<BorrowedFd<'_>>, timeout: Duration) -> Result<(), Error> {
        self.flush();
        if self.whole_frame() || self.ended.is_some() {
            return Ok(());
        }
        let until = Instant::now() + timeout;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let to_write = !self.out.is_empty() || self.stream.has_unwritten();
            let woken = self.wait(other, to_write, left)?;
            self.flush();
            if woken || self.whole_frame() || self.ended.is_some() || Instant::now() >= until {
                return Ok(());
            }
        }
    }

    /// The next answer, if it is here. An error ends the connection; all answers that came before it have been taken.
    pub fn take(&mut self) -> Result<Option<Answered<'_>>, Error> {
        let bytes = &self.read[self.taken..self.filled];
        let Ok((head, rest)) = ReplyHead::read_from_prefix(bytes) else {
            return self.end();
        };
        let Ok(length) = head.body_bytes() else {
            return Err(self.broken("a frame that breaks the rules of frames"));
        };
        if rest.len() < length {
            return self.end();
        }
        let Some(slot) = self.slots.get(head.tag) else {
            return Err(self.broken("an answer to nothing that was asked"));
        };
        let Some(kind) = Kind::from_u16(head.kind) else {
            return Err(self.broken("an answer of no known kind"));
        };
        if let Err(rule) = fits(&slot, &head, kind) {
            return Err(self.broken(rule));
        }
        if kind != Kind::Record {
            self.slots.close(head.tag);
        }
        let from = self.taken + size_of::<ReplyHead>();
        self.taken = from + length;
        let body = &self.read[from..from + length];
        let ReplyHead { code, tag, sequence, count, .. } = head;
        Ok(Some(Answered { tag, kind, code, sequence, count, body }))
    }

    // ── parts ────────────────────────────────────────────────────────────────────────────────────

    fn ask(&mut self, asking: Asking, head: Head, body: &[u8]) -> Result<u64, Unsent> {
        if self.ended.is_some() || self.deaf {
            return Err(Unsent::Ended);
        }
        if !body.len().is_multiple_of(8) || head.class > CLASS_MAX {
            return Err(Unsent::Malformed);
        }
        let bytes_max = self.welcome.in_flight_bytes_max;
        if body.len() > ASKED_BYTES_MAX || body.len() as u64 > bytes_max {
            return Err(Unsent::TooLong);
        }
        let full = self.slots.len() >= self.welcome.in_flight_max as usize
            || self.slots.bytes() + body.len() as u64 > bytes_max;
        if full {
            return Err(Unsent::Full);
        }
        let tag = self.slots.open(Slot { asking, count: head.count, bytes: body.len() as u32 });
        let head = Head {
            length: body.len() as u32,
            version: self.welcome.version,
            tag,
            credential: self.credential,
            ..head
        };
        self.collect(&head, body);
        Ok(tag)
    }

    fn collect(&mut self, head: &Head, body: &[u8]) {
        if body.len() > COPIED_BYTES_MAX {
            return self.write_long(head, body);
        }
        self.out.extend_from_slice(head.as_bytes());
        self.out.extend_from_slice(body);
        if self.out.len() - self.written >= COLLECTED_BYTES_MAX {
            self.flush();
        }
    }

    /// Writes what was collected, this head and this body, from where they lie. When the server takes nothing for a
    /// while, the rest is copied.
    fn write_long(&mut self, head: &Head, body: &[u8]) {
        let head = head.as_bytes();
        let collected = self.out.len() - self.written;
        let all = collected + head.len() + body.len();
        let mut done = 0;
        let mut until = Instant::now() + LONG_BODY_WAIT;
        while done < all && !self.deaf && self.ended.is_none() {
            let mut skip = done;
            let parts = [&self.out[self.written..], head, body].map(|part| {
                let skipped = skip.min(part.len());
                skip -= skipped;
                IoSlice::new(&part[skipped..])
            });
            match self.stream.write(&parts) {
                Ok(bytes) => {
                    done += bytes;
                    until = Instant::now() + LONG_BODY_WAIT;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() || self.stream.as_fd().is_none() || self.wait(None, true, left).is_err()
                    {
                        break;
                    }
                }
                Err(_) => self.deaf = true,
            }
        }
        // What is left of the three parts, in their order.
        self.written += done.min(collected);
        done -= done.min(collected);
        self.out.extend_from_slice(&head[done.min(head.len())..]);
        done -= done.min(head.len());
        self.out.extend_from_slice(&body[done..]);
        self.forget_written();
    }

    /// Waits until something can be read, or written where something is to be, and reads it. True when what woke it
    /// is the other descriptor.
    fn wait(
        &mut self,
        other: Option<BorrowedFd<'_>>,
        to_write: bool,
        timeout: Duration,
    ) -> Result<bool, Error> {
        let mut events = PollFlags::empty();
        events.set(PollFlags::IN, self.filled - self.taken < UNTAKEN_BYTES_MAX);
        events.set(PollFlags::OUT, to_write);
        let timeout = Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
        // What is made up does not change while this side waits for it.
        let Some(stream) = self.stream.as_fd() else { return Ok(false) };
        // The second place is filled with the stream itself where there is no other.
        let mut waited =
            [PollFd::from_borrowed_fd(stream, events), PollFd::from_borrowed_fd(stream, PollFlags::empty())];
        if let Some(other) = other {
            waited[1] = PollFd::from_borrowed_fd(other, PollFlags::IN);
        }
        let count = 1 + usize::from(other.is_some());
        match rustix::event::poll(&mut waited[..count], Some(&timeout)) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(false),
            Err(error) => return Err(Error::Io(error.into())),
        }
        let (can, woken) = (waited[0].revents(), count == 2 && !waited[1].revents().is_empty());
        if can.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            self.fill();
        }
        Ok(woken)
    }

    /// Reads what is there, up to the bound.
    fn fill(&mut self) {
        while self.ended.is_none() && self.filled - self.taken < UNTAKEN_BYTES_MAX {
            self.make_room();
            let offered = self.read.len() - self.filled;
            match self.stream.read(&mut self.read[self.filled..]) {
                Ok(0) => self.ended = Some(Error::Closed),
                Ok(bytes) => {
                    self.filled += bytes;
                    if bytes < offered && self.stream.short_is_all() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => self.ended = Some(Error::Io(error)),
            }
        }
    }

    /// Room to read into. What was taken makes way first.
    fn make_room(&mut self) {
        if self.read.len() - self.filled >= READ_BYTES_MIN {
            return;
        }
        self.read.copy_within(self.taken..self.filled, 0);
        (self.filled, self.taken) = (self.filled - self.taken, 0);
        let needed = self.filled + READ_BYTES_MIN;
        if self.read.len() < needed {
            self.read.resize(needed.next_power_of_two(), 0);
        }
    }

    /// Whether there is a whole frame to take, or what is no frame.
    fn whole_frame(&self) -> bool {
        let bytes = &self.read[self.taken..self.filled];
        ReplyHead::read_from_prefix(bytes)
            .is_ok_and(|(head, rest)| head.body_bytes().map_or(true, |length| rest.len() >= length))
    }

    fn forget_written(&mut self) {
        if self.written == self.out.len() || self.deaf {
            self.out.clear();
            self.written = 0;
        } else if self.written > COLLECTED_BYTES_MAX {
            self.out.drain(..self.written);
            self.written = 0;
        }
    }

    /// No whole frame is left: nothing for now, or why nothing will ever come.
    fn end(&mut self) -> Result<Option<Answered<'_>>, Error> {
        match self.ended.replace(Error::Closed) {
            Some(error) => Err(error),
            None => {
                self.ended = None;
                Ok(None)
            }
        }
    }

    fn broken(&mut self, rule: &'static str) -> Error {
        (self.taken, self.deaf, self.ended) = (self.filled, true, Some(Error::Closed));
        Error::Broken(rule)
    }
}

/// Whether this may be the answer to that. The rules that need no knowledge of what was asked have been seen to.
fn fits(slot: &Slot, head: &ReplyHead, kind: Kind) -> Result<(), &'static str> {
    let length = head.length as usize;
    let (asking, right_length) = match kind {
        Kind::Welcome => (Asking::Hello, true),
        Kind::Replies => (Asking::Submit, head.count == slot.count),
        Kind::Answer => (Asking::Query, true),
        Kind::Record => (Asking::Follow, length > 0),
        Kind::Refused | Kind::Unknown => (slot.asking, length == 0),
    };
    if asking != slot.asking {
        return Err("an answer of another kind than was asked");
    }
    if !right_length {
        return Err("an answer of another length than was asked");
    }
    Ok(())
}

/// Whether one can work with this welcome.
fn check(welcome: &Welcome) -> Result<(), Error> {
    if !(VERSION_OLDEST..=VERSION).contains(&welcome.version) {
        return Err(Error::Broken("a version that was not offered"));
    }
    if ![ROLE_CORE, ROLE_READER].contains(&welcome.role) || welcome.reserved != 0 {
        return Err(Error::Broken("a welcome of an unknown form"));
    }
    if welcome.in_flight_max == 0 || welcome.in_flight_bytes_max == 0 {
        return Err(Error::Broken("a welcome that allows nothing"));
    }
    Ok(())
}
