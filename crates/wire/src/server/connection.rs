//! One connection: bytes in, frames out of them; answers in, bytes out of them.

use super::outbox::Going;
use crate::body::Body;
use crate::frame::{ASKED_BYTES_MAX, Asking, Head, Kind, Reply, VERSION, VERSION_OLDEST};
use mio::net::UnixStream;
use std::io::{self, ErrorKind, IoSliceMut, Read, Write};
use std::time::Instant;
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of the buffer into which a connection is read.
const BUFFER: usize = 64 << 10;
/// Bytes that one round reads of a connection before the others have their turn.
const ROUND_BYTES: usize = 2 << 20;
const HEAD: usize = size_of::<Head>();

/// Why a connection ends. What the client may still be told is told first.
#[derive(Debug)]
pub enum End {
    /// The client has gone, or the system says no.
    Gone,
    /// It broke a rule of the frame.
    Malformed,
    /// It speaks no version of ours.
    Version,
}

/// What was read.
pub enum Frame {
    /// The client's first.
    Hello { tag: u64 },
    /// A request or a question.
    Asked(Head, Body),
    /// It wants to follow from here on.
    Follow(Head),
}

/// A body of which not all has come.
struct Partial {
    head: Head,
    body: Body,
    filled: usize,
}

pub struct Connection {
    pub stream: UnixStream,
    /// Bytes read and not yet taken as frames lie between `taken` and `filled`.
    buffer: Box<[u8]>,
    taken: usize,
    filled: usize,
    partial: Option<Partial>,
    pub welcomed: bool,
    /// There may be something to read.
    pub readable: bool,
    /// The system takes more.
    pub writable: bool,
    pub in_flight: u32,
    pub in_flight_bytes: u64,
    out: Vec<u8>,
    written: usize,
    /// To be handed over to follow, when all is answered and written.
    pub follow: Option<Head>,
    /// When something last went as it should.
    pub progress: Instant,
}

impl Connection {
    pub fn new(stream: UnixStream, now: Instant) -> Connection {
        Connection {
            stream,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            taken: 0,
            filled: 0,
            partial: None,
            welcomed: false,
            readable: true,
            writable: true,
            in_flight: 0,
            in_flight_bytes: 0,
            out: Vec::new(),
            written: 0,
            follow: None,
            progress: now,
        }
    }

    /// Bytes of answers that the client has not taken.
    pub fn untaken(&self) -> usize {
        self.out.len() - self.written
    }

    /// Whether it stands in the middle of something: a greeting, a frame, the taking of answers.
    pub fn is_amid(&self) -> bool {
        !self.welcomed || self.partial.is_some() || self.filled > self.taken || self.untaken() > 0
    }

    /// Reads what is there, at most a round's worth, and gives each frame to `take`, which says whether more is wanted
    /// now. Frames that were read before and are still here come first.
    pub fn read(
        &mut self,
        now: Instant,
        take: &mut dyn FnMut(&mut Connection, Frame) -> bool,
    ) -> Result<(), End> {
        let mut left = ROUND_BYTES;
        loop {
            while let Some(frame) = self.frame()? {
                self.progress = now;
                if !take(self, frame) {
                    return Ok(());
                }
            }
            if !self.readable || left == 0 {
                return Ok(());
            }
            if self.taken == self.filled {
                (self.taken, self.filled) = (0, 0);
            } else if self.filled == self.buffer.len() || self.buffer.len() - self.filled < HEAD {
                self.buffer.copy_within(self.taken..self.filled, 0);
                (self.taken, self.filled) = (0, self.filled - self.taken);
            }
            let amid = self.is_amid();
            let buffer = &mut self.buffer[self.filled..];
            let mut offered = buffer.len();
            // A long body is read to where it will be used, and what follows it in the same call.
            let got = match &mut self.partial {
                Some(partial) => {
                    let body = &mut partial.body.as_mut_bytes()[partial.filled..];
                    offered += body.len();
                    self.stream.read_vectored(&mut [IoSliceMut::new(body), IoSliceMut::new(buffer)])
                }
                None => self.stream.read(buffer),
            };
            let mut got = match got {
                Ok(0) => return Err(End::Gone),
                Ok(got) => got,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Err(End::Gone),
            };
            left = left.saturating_sub(got);
            if !amid {
                // What begins now has its own patience.
                self.progress = now;
            }
            // Less than was offered: there is no more now, and more will be announced.
            self.readable = got == offered;
            if let Some(partial) = &mut self.partial {
                let its = got.min(partial.body.as_bytes().len() - partial.filled);
                partial.filled += its;
                got -= its;
            }
            self.filled += got;
        }
    }

    /// The next whole frame of what was read.
    fn frame(&mut self) -> Result<Option<Frame>, End> {
        if let Some(partial) = &mut self.partial {
            if partial.filled < partial.body.as_bytes().len() {
                return Ok(None);
            }
            return Ok(self.partial.take().map(|Partial { head, body, .. }| Frame::Asked(head, body)));
        }
        let bytes = &self.buffer[self.taken..self.filled];
        let Ok((head, rest)) = Head::read_from_prefix(bytes) else { return Ok(None) };
        let length = head.length as usize;
        let asking = Asking::from_u16(head.kind).ok_or(End::Malformed)?;
        let body = matches!(asking, Asking::Submit | Asking::Query);
        let wrong = length > ASKED_BYTES_MAX
            || !length.is_multiple_of(8)
            || head.reserved != 0
            || body == (length == 0)
            || (asking == Asking::Hello) == self.welcomed
            || self.welcomed && head.version != VERSION;
        if wrong {
            return Err(End::Malformed);
        }
        match asking {
            Asking::Hello => {
                self.taken += HEAD;
                let (oldest, newest) = (u64::from(head.count), head.item);
                if oldest > u64::from(VERSION) || newest < u64::from(VERSION_OLDEST) || oldest > newest {
                    return Err(End::Version);
                }
                self.welcomed = true;
                Ok(Some(Frame::Hello { tag: head.tag }))
            }
            Asking::Follow => {
                self.taken += HEAD;
                Ok(Some(Frame::Follow(head)))
            }
            Asking::Submit | Asking::Query => {
                let here = rest.len().min(length);
                let mut body = Body::zeroed(length);
                body.as_mut_bytes()[..here].copy_from_slice(&rest[..here]);
                self.taken += HEAD + here;
                if here < length {
                    self.partial = Some(Partial { head, body, filled: here });
                    return Ok(None);
                }
                Ok(Some(Frame::Asked(head, body)))
            }
        }
    }

    /// Puts an answer among what is to be written.
    pub fn put(&mut self, going: Going, now: Instant) {
        if self.untaken() == 0 {
            self.progress = now;
        }
        let answered = going.answered;
        let head = Reply {
            length: 0,
            kind: answered.kind as u16,
            code: answered.code,
            tag: going.tag,
            sequence: answered.sequence,
            count: answered.count,
            reserved: 0,
        };
        let at = self.out.len();
        self.out.extend_from_slice(head.as_bytes());
        if let Some(body) = answered.body {
            body(&mut self.out);
            let length = (self.out.len() - at - size_of::<Reply>()) as u32;
            self.out[at..at + 4].copy_from_slice(&length.to_le_bytes());
        }
    }

    /// Puts a refusal of the server's own there.
    pub fn refuse(&mut self, tag: u64, code: u16) {
        let refused = Reply { kind: Kind::Refused as u16, code, tag, ..Reply::default() };
        self.out.extend_from_slice(refused.as_bytes());
    }

    /// Writes what is to be written, as far as the system takes it.
    pub fn flush(&mut self, now: Instant) -> Result<(), End> {
        while self.writable && self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(bytes) => {
                    self.written += bytes;
                    self.progress = now;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(End::Gone),
            }
        }
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
            // One long answer does not keep its memory for ever.
            self.out.shrink_to(4 * BUFFER);
        } else if self.written > BUFFER {
            self.out.drain(..self.written);
            self.written = 0;
        }
        Ok(())
    }

    /// Leaves the server: a stream of its own, which waits.
    pub fn into_blocking(self) -> io::Result<std::os::unix::net::UnixStream> {
        let stream = std::os::unix::net::UnixStream::from(std::os::fd::OwnedFd::from(self.stream));
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(std::time::Duration::from_secs(30)))?;
        Ok(stream)
    }
}
