//! One connection: what comes is taken apart into frames, what goes is collected and written once a round.
//!
//! ```text
//! Greeting ──hello──▶ Open ──follow──▶ Following ──all answered and written──▶ leaves the server
//!     └──────────────────┴──a rule is broken──▶ Ending ──the refusal is written──▶ closed
//! ```
//!
//! *What bounds it.* It is read only while it may ask ([`Limits`]); what one read brought beyond a bound is kept, at
//! most a buffer's worth, and comes first when answers have made room.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Instant;

use zerocopy::IntoBytes;

use super::outbox::{Going, Outbox};
use super::room::Room;
use super::transport::Transport;
use super::{Codes, Limits};
use crate::body::Body;
use crate::frame::{ANSWERED_BYTES_MAX, Asking, Head, Kind, Reply, VERSION, VERSION_OLDEST};
use crate::parse::Requests;
use crate::service::{Answered, Asked, Service};

/// Bytes that one round reads of a connection, and a read's more, before the others have their turn.
const ROUND_BYTES: usize = 1 << 20;
/// What a request or a question takes beside its body, about.
const REQUEST_BYTES: u64 = 256;
/// Bytes of room for answers that an idle connection keeps.
const OUT_BYTES_KEPT: usize = 256 << 10;

/// Why a connection ends.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The client has gone, or the system or the session says no.
    Gone,
    /// It broke a rule, or is not wanted: it is told so under this tag, with this code.
    Refused { tag: u64, code: u16 },
}

/// Where it stands.
#[derive(Debug)]
enum Stage {
    /// No hello came yet; it has until then for all that comes before.
    Greeting { until: Instant },
    /// It asks, in the version that was agreed.
    Open { version: u16 },
    /// It asks nothing more, and leaves when all it asked is answered and written.
    Following(Head),
    /// It is not heard any more, and closed when it has been told why.
    Ending,
}

/// What a connection needs of its server while it is read.
pub struct Counter<'a> {
    pub outbox: &'a Arc<Outbox>,
    pub service: &'a dyn Service,
    pub limits: &'a Limits,
    /// What this connection may hold.
    pub room: Room,
    pub codes: &'a Codes,
    /// What was asked in this round.
    pub asked: &'a mut Vec<Asked>,
    pub now: Instant,
}

pub struct Connection {
    transport: Transport,
    number: u64,
    stage: Stage,
    /// Beyond the bound of connections: to be told so.
    too_many: bool,
    parser: Requests,
    /// What was read and may not be asked yet.
    kept: Vec<u8>,
    in_flight: u32,
    in_flight_bytes: u64,
    out: Vec<u8>,
    /// Bytes at the beginning of `out` that were written.
    written: usize,
    /// Since when a frame stands half here.
    midway_since: Option<Instant>,
    /// Since when nothing of what is to be written was taken.
    stalled_since: Option<Instant>,
    /// The system takes no more until it says so.
    pub blocked: bool,
    /// The client sends no more after what is there: it is read to its end.
    pub closing: bool,
    /// It was perhaps not read to its end because it may not ask: to be read again when it may.
    pub unread: bool,
    /// Among those that are read in this round, or the next.
    pub in_turn: bool,
    /// Among those that are written in this round.
    pub in_writing: bool,
    /// The system is to say when it takes more.
    pub awaits_room: bool,
    /// Bytes that are counted in the common part.
    pub counted: u64,
    /// Among those that wait for the common part.
    pub is_short: bool,
}

impl Connection {
    pub fn new(transport: Transport, number: u64, until: Instant, too_many: bool) -> Connection {
        Connection {
            transport,
            number,
            stage: Stage::Greeting { until },
            too_many,
            parser: Requests::default(),
            kept: Vec::new(),
            in_flight: 0,
            in_flight_bytes: 0,
            out: Vec::new(),
            written: 0,
            midway_since: None,
            stalled_since: None,
            blocked: false,
            closing: false,
            unread: false,
            in_turn: false,
            in_writing: false,
            awaits_room: false,
            counted: 0,
            is_short: false,
        }
    }

    pub fn transport(&mut self) -> &mut Transport {
        &mut self.transport
    }

    pub fn into_transport(self) -> Transport {
        self.transport
    }

    /// Whether it is read now.
    pub fn may_ask(&self, limits: &Limits, room: Room) -> bool {
        let open = matches!(self.stage, Stage::Greeting { .. } | Stage::Open { .. });
        open && self.in_flight < limits.in_flight
            && self.in_flight_bytes < limits.in_flight_bytes
            && self.untaken() <= limits.untaken_bytes / 4
            && self.has_room(room)
    }

    /// Whether there is room for what comes next. For a body that is being filled room was made.
    pub fn has_room(&self, room: Room) -> bool {
        let free = self.free(room);
        self.parser.is_filling() || free > 0 && self.parser.announced_bytes() as u64 <= free
    }

    /// Bytes that it may hold more: of its share when the common part has none, else as many as come.
    fn free(&self, room: Room) -> u64 {
        if self.held_bytes().saturating_sub(room.share) < room.common {
            return u64::MAX;
        }
        room.share.saturating_sub(self.asked_bytes() + self.untaken() as u64)
    }

    /// Bytes of what it asked and was not answered, and of the body that is being filled.
    fn asked_bytes(&self) -> u64 {
        let (requests, body) = (u64::from(self.in_flight), self.parser.held_bytes() as u64);
        requests * REQUEST_BYTES + self.in_flight_bytes + body
    }

    /// Bytes that are held for it.
    pub fn held_bytes(&self) -> u64 {
        self.asked_bytes() + self.out.capacity() as u64
    }

    /// Reads what is there, a round's worth at most, and hands over what is whole. True when there may be more.
    pub fn read(&mut self, counter: &mut Counter<'_>, buffer: &mut [u8]) -> Result<bool, End> {
        let kept = std::mem::take(&mut self.kept);
        // It is read again: what is half here has its time from now on.
        let mut anew = std::mem::take(&mut self.unread);
        anew |= self.frames(&kept, counter)?;
        let mut left = ROUND_BYTES;
        let mut more = true;
        while more && left > 0 && self.may_ask(counter.limits, counter.room) {
            let brought = match self.parser.read(&mut self.transport, buffer) {
                Ok(brought) if brought.bytes == 0 => return Err(End::Gone),
                Ok(brought) => brought,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    more = false;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Err(End::Gone),
            };
            left = left.saturating_sub(brought.bytes);
            anew |= self.frames(&buffer[..brought.buffered], counter)?;
            // What comes after this is announced; that nothing will come was announced before.
            more = !brought.short || !self.transport.short_is_drained() || self.closing;
        }
        // What is kept, or still lies in the socket, comes when it may ask again.
        self.unread = !self.may_ask(counter.limits, counter.room);
        let since = self.midway_since.filter(|_| !anew).unwrap_or(counter.now);
        self.midway_since = self.parser.midway().then_some(since);
        Ok(more && !self.unread)
    }

    /// Takes the frames out of these bytes; whether there was one. What may not be asked yet is kept.
    fn frames(&mut self, mut bytes: &[u8], counter: &mut Counter<'_>) -> Result<bool, End> {
        let mut whole = false;
        while self.may_ask(counter.limits, counter.room) {
            let free = self.free(counter.room);
            match self.parser.take_if(&mut bytes, |body| body as u64 <= free) {
                Ok(Some((head, body))) => self.frame(head, body, counter)?,
                Ok(None) if bytes.is_empty() => return Ok(whole),
                // There is no room for this body now.
                Ok(None) => break,
                Err(_) => return Err(End::Refused { tag: self.parser.tag(), code: counter.codes.malformed }),
            }
            whole = true;
        }
        match self.stage {
            Stage::Following(Head { tag, .. }) if !bytes.is_empty() => {
                Err(End::Refused { tag, code: counter.codes.malformed })
            }
            _ => {
                self.kept = bytes.to_vec();
                Ok(whole)
            }
        }
    }

    fn frame(&mut self, head: Head, body: Body, counter: &mut Counter<'_>) -> Result<(), End> {
        match (&self.stage, Asking::from_u16(head.kind)) {
            (Stage::Greeting { .. }, Some(Asking::Hello)) => self.greet(&head, counter),
            (Stage::Open { version }, Some(Asking::Submit | Asking::Query)) if *version == head.version => {
                let body_bytes = head.length;
                self.in_flight += 1;
                self.in_flight_bytes += u64::from(body_bytes);
                let answer = counter.outbox.answer(self.number, head.tag, body_bytes);
                counter.asked.push(Asked { connection: self.number, head, body, answer });
                Ok(())
            }
            (Stage::Open { version }, Some(Asking::Follow)) if *version == head.version => {
                self.stage = Stage::Following(head);
                Ok(())
            }
            _ => Err(End::Refused { tag: head.tag, code: counter.codes.malformed }),
        }
    }

    fn greet(&mut self, hello: &Head, counter: &Counter<'_>) -> Result<(), End> {
        let refused = |code| Err(End::Refused { tag: hello.tag, code });
        if self.too_many {
            return refused(counter.codes.overloaded);
        }
        let (oldest, newest) = (u64::from(hello.count), hello.item);
        let agreed = newest.min(u64::from(VERSION)) as u16;
        if u64::from(agreed) < oldest.max(u64::from(VERSION_OLDEST)) {
            return refused(counter.codes.version_unknown);
        }
        let (mut welcome, sequence) = counter.service.welcome();
        welcome.version = agreed;
        welcome.in_flight_max = counter.limits.in_flight;
        welcome.in_flight_bytes_max = counter.limits.in_flight_bytes;
        self.stage = Stage::Open { version: agreed };
        let length = size_of_val(&welcome) as u32;
        let head = Reply { length, kind: Kind::Welcome as u16, tag: hello.tag, sequence, ..Reply::default() };
        self.out.extend_from_slice(head.as_bytes());
        self.out.extend_from_slice(welcome.as_bytes());
        Ok(())
    }

    /// Puts an answer among what is to be written.
    pub fn answer(&mut self, going: Going) {
        self.in_flight -= 1;
        self.in_flight_bytes -= u64::from(going.body_bytes);
        if matches!(self.stage, Stage::Ending) {
            return;
        }
        let Answered { kind, code, sequence, count, body } = going.answered;
        let head = Reply { length: 0, kind: kind as u16, code, tag: going.tag, sequence, count, reserved: 0 };
        let at = self.out.len();
        self.out.extend_from_slice(head.as_bytes());
        let Some(write) = body else { return };
        write(&mut self.out);
        let length = self.out.len() - at - size_of::<Reply>();
        if length <= ANSWERED_BYTES_MAX {
            self.out[at..at + 4].copy_from_slice(&(length as u32).to_le_bytes());
        } else {
            // No client reads it, and what was done cannot be told otherwise.
            let unknown = Reply { kind: Kind::Unknown as u16, tag: going.tag, ..Reply::default() };
            self.out.truncate(at);
            self.out.extend_from_slice(unknown.as_bytes());
        }
    }

    /// Hears nothing more of it, and says why. What is already to be written is written before.
    pub fn refuse(&mut self, tag: u64, code: u16) {
        let refused = Reply { kind: Kind::Refused as u16, code, tag, ..Reply::default() };
        self.out.extend_from_slice(refused.as_bytes());
        self.stage = Stage::Ending;
        self.midway_since = None;
    }

    /// Bytes of answers that the client has not taken.
    pub fn untaken(&self) -> usize {
        self.out.len() - self.written
    }

    /// Whether there is something to write.
    pub fn owes(&self) -> bool {
        self.untaken() > 0 || self.transport.owes()
    }

    /// Writes what is to be written, as far as the system takes it.
    pub fn flush(&mut self, now: Instant) -> Result<(), End> {
        if self.blocked || !self.owes() {
            return Ok(());
        }
        let written = loop {
            match self.transport.write(&self.out[self.written..]) {
                Ok(written) => break written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(End::Gone),
            }
        };
        self.written += written.bytes;
        self.blocked = written.blocked;
        let since = self.stalled_since.filter(|_| written.bytes == 0).unwrap_or(now);
        self.stalled_since = self.owes().then_some(since);
        if self.written == self.out.len() {
            self.out.clear();
            // One long answer does not keep its memory for ever.
            self.out.shrink_to(OUT_BYTES_KEPT);
            self.written = 0;
        }
        Ok(())
    }

    /// Whether everything it asked is answered and written.
    pub fn is_done(&self) -> bool {
        self.in_flight == 0 && !self.owes()
    }

    /// Whether it is to be closed now.
    pub fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Ending) && !self.owes()
    }

    /// What it wants to follow, when it is to be handed over now.
    pub fn follows(&self) -> Option<Head> {
        match self.stage {
            Stage::Following(head) if self.is_done() => Some(head),
            _ => None,
        }
    }

    /// When it is to be disconnected unless it goes on.
    pub fn deadline(&self, limits: &Limits) -> Option<Instant> {
        let greeting = match self.stage {
            Stage::Greeting { until } => Some(until),
            _ => None,
        };
        // While we do not read, the client cannot be blamed for what is half here.
        let midway = self.midway_since.filter(|_| !self.unread).map(|since| since + limits.midway);
        let stalled = self.stalled_since.map(|since| since + limits.taking);
        [greeting, midway, stalled].into_iter().flatten().min()
    }
}
