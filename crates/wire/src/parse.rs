//! Bytes into frames, as they come: what a server parses of its clients, and what a client parses of its server.
//!
//! A [`Parser`] is given bytes in pieces of any size and gives whole frames. It keeps no buffer: between two pieces it
//! has at most a part of a head, or a head and the part of its body that came. So one buffer serves any number of
//! connections, and the body of a frame that did not come whole is filled by the socket itself ([`Parser::read`]),
//! not copied.
//!
//! *What bounds it.* A head is checked before room for its body is made, so a parser never holds more than one body
//! of the length that the rules allow. What breaks a rule is [`Broken`], and the parser is of no more use.

use std::io::{self, IoSliceMut, Read};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::body::Body;
use crate::frame::{
    ANSWERED_BYTES_MAX, ASKED_BYTES_MAX, Asking, CLASS_MAX, Head, Kind, LANE_BULK, LANE_ONLINE, REPLY_BYTES,
    Reply, Welcome,
};

/// The rule that a frame breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Its kind is none that there is.
    #[error("kind {0} is none of the protocol's")]
    Kind(u16),
    /// Its body is longer than the rules allow, not of whole words, or not of the length that its kind has.
    #[error("a body of {0} bytes is none that this kind of frame has")]
    Length(u32),
    /// Its class or its lane is none that there is.
    #[error("class {0} or lane {1} is none that there is")]
    Class(u8, u8),
    /// What has to be zero is not.
    #[error("what is reserved is not zero")]
    Reserved,
    /// Its number of commands, of replies, or its range of versions cannot be.
    #[error("a count of {0} cannot be")]
    Count(u32),
}

/// The fixed part at the beginning of a frame.
pub trait Header: FromBytes + IntoBytes + Immutable + Copy + Default {
    /// Bytes of the body that follows, once the rules are seen to be kept.
    fn body_bytes(&self) -> Result<usize, Broken>;
}

impl Header for Head {
    fn body_bytes(&self) -> Result<usize, Broken> {
        let asking = Asking::from_u16(self.kind).ok_or(Broken::Kind(self.kind))?;
        let length = self.length as usize;
        // A hello is read by every version, the other fields of a later version's included: only what it says counts.
        if asking == Asking::Hello {
            return match self.length {
                0 if u64::from(self.count) <= self.item => Ok(0),
                0 => Err(Broken::Count(self.count)),
                _ => Err(Broken::Length(self.length)),
            };
        }
        let lane = matches!(self.lane, LANE_ONLINE | LANE_BULK);
        if self.class > CLASS_MAX || !lane {
            return Err(Broken::Class(self.class, self.lane));
        }
        if self.reserved != 0 {
            return Err(Broken::Reserved);
        }
        let fits = match asking {
            Asking::Submit => (1..=ASKED_BYTES_MAX).contains(&length),
            Asking::Query => length <= ASKED_BYTES_MAX,
            Asking::Hello | Asking::Follow => length == 0,
        };
        if !fits || !length.is_multiple_of(8) {
            return Err(Broken::Length(self.length));
        }
        if asking == Asking::Submit && self.count == 0 {
            return Err(Broken::Count(self.count));
        }
        Ok(length)
    }
}

impl Header for Reply {
    fn body_bytes(&self) -> Result<usize, Broken> {
        let kind = Kind::from_u16(self.kind).ok_or(Broken::Kind(self.kind))?;
        if self.reserved != 0 {
            return Err(Broken::Reserved);
        }
        let length = self.length as usize;
        let fits = match kind {
            Kind::Welcome => length == size_of::<Welcome>(),
            Kind::Replies => length as u64 == u64::from(self.count) * REPLY_BYTES as u64,
            Kind::Answer | Kind::Record | Kind::Refused | Kind::Unknown => true,
        };
        if !fits || length > ANSWERED_BYTES_MAX {
            return Err(Broken::Length(self.length));
        }
        Ok(length)
    }
}

/// Bytes into frames whose heads are `H`.
#[derive(Debug)]
pub struct Parser<H> {
    head: H,
    /// Bytes of the head that came.
    head_bytes: usize,
    /// Made once the head is whole.
    body: Option<Body>,
    /// Bytes of the body that came.
    body_bytes: usize,
}

impl Requests {
    /// The tag of the frame that is being parsed, or of the one that broke a rule.
    pub fn tag(&self) -> u64 {
        self.head.tag
    }
}

/// What a server parses.
pub type Requests = Parser<Head>;
/// What a client parses.
pub type Replies = Parser<Reply>;

impl<H: Header> Default for Parser<H> {
    fn default() -> Parser<H> {
        Parser { head: H::default(), head_bytes: 0, body: None, body_bytes: 0 }
    }
}

/// What one read brought: see [`Parser::read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brought {
    /// Bytes in all; none at the end of the stream.
    pub bytes: usize,
    /// How many of them stand at the beginning of the buffer, to be taken: the others are in their body already.
    pub buffered: usize,
    /// Whether there was room for more: then the socket had no more.
    pub short: bool,
}

impl<H: Header> Parser<H> {
    /// The next whole frame out of these bytes, which are moved on behind what was taken of them. None: all were
    /// taken, and a frame is not whole yet.
    pub fn take(&mut self, bytes: &mut &[u8]) -> Result<Option<(H, Body)>, Broken> {
        self.take_if(bytes, |_| true)
    }

    /// The same, while there may be room for a body of so many bytes. None with bytes left: there may not now, and the
    /// frame goes on with them when this is called again.
    pub fn take_if(
        &mut self,
        bytes: &mut &[u8],
        may: impl FnOnce(usize) -> bool,
    ) -> Result<Option<(H, Body)>, Broken> {
        if self.body.is_none() {
            let rest = &mut self.head.as_mut_bytes()[self.head_bytes..];
            let taken = move_into(rest, bytes);
            self.head_bytes += taken;
            if self.head_bytes < size_of::<H>() {
                return Ok(None);
            }
            let body_bytes = self.head.body_bytes()?;
            if !may(body_bytes) {
                return Ok(None);
            }
            self.body = Some(Body::zeroed(body_bytes));
        }
        let taken = move_into(self.room(), bytes);
        self.body_bytes += taken;
        if !self.room().is_empty() {
            return Ok(None);
        }
        (self.head_bytes, self.body_bytes) = (0, 0);
        Ok(self.body.take().map(|body| (self.head, body)))
    }

    /// Reads once: into the body that is not whole, and what is beyond it into the buffer.
    /// Whatever it brought, [`Parser::take`] is to be called then with what stands in the buffer.
    pub fn read(&mut self, from: &mut impl Read, buffer: &mut [u8]) -> io::Result<Brought> {
        let buffer_bytes = buffer.len();
        let room = self.room();
        let room_bytes = room.len();
        let bytes = if room_bytes == 0 {
            from.read(buffer)?
        } else {
            from.read_vectored(&mut [IoSliceMut::new(room), IoSliceMut::new(buffer)])?
        };
        self.body_bytes += bytes.min(room_bytes);
        let short = bytes < room_bytes + buffer_bytes;
        Ok(Brought { bytes, buffered: bytes.saturating_sub(room_bytes), short })
    }

    /// Bytes of the body that is being filled: none is held otherwise.
    pub fn held_bytes(&self) -> usize {
        self.body.as_ref().map_or(0, |body| body.as_bytes().len())
    }

    /// Whether a body is being filled: there is room for all of it.
    pub fn is_filling(&self) -> bool {
        self.body.is_some()
    }

    /// Bytes of a body whose head came and for which there was no room.
    pub fn announced_bytes(&self) -> usize {
        let waits = self.head_bytes == size_of::<H>() && self.body.is_none();
        if waits { self.head.body_bytes().unwrap_or(0) } else { 0 }
    }

    /// Whether a part of a frame came and its rest did not.
    pub fn midway(&self) -> bool {
        self.head_bytes > 0
    }

    /// The rest of the body, to be filled.
    fn room(&mut self) -> &mut [u8] {
        self.body.as_mut().map_or(&mut [], |body| &mut body.as_mut_bytes()[self.body_bytes..])
    }
}

/// Moves as many bytes as there are and fit.
fn move_into(to: &mut [u8], from: &mut &[u8]) -> usize {
    let (taken, rest) = from.split_at(to.len().min(from.len()));
    to[..taken.len()].copy_from_slice(taken);
    *from = rest;
    taken.len()
}
