//! The made-up network: pipes of bytes that split, join, delay, stall, are cut and go bad.
//!
//! A pipe is what a stream socket is, or TLS over one: bytes come in their order, none altered. Where some are lost the
//! pipe has ended; where some are altered whoever reads it hears so (TLS checks) and nothing of them. Frames carry no
//! checks of their own and rely on that.

use crate::random::Random;
use pabal_wire::server::stepped::{self, Happened};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One direction.
#[derive(Default)]
struct Way {
    /// Sent, and still on the way.
    flowing: VecDeque<u8>,
    /// Come, and not yet read.
    here: VecDeque<u8>,
    /// Nothing more is sent after what flows.
    closed: bool,
    /// All that will ever come is here.
    ended: bool,
    /// What comes after what flows was altered.
    altered: bool,
    /// Bytes that were sent after that. Nobody reads them, and they take their room.
    lost: usize,
    /// Nobody reads it any more.
    unread: bool,
    /// Nothing moves.
    stalled: bool,
}

/// A pipe in both directions.
pub struct Link {
    up: Way,
    down: Way,
    /// Bytes that a direction holds.
    room: usize,
    /// What the server is to be told.
    news: Happened,
    watches_room: bool,
    /// What the server gave and waits for to be taken, where it waits; and how often nothing was.
    waiting: Option<(VecDeque<u8>, u32)>,
}

/// Looks without anything taken after which whoever waits for that has waited too long.
const LOOKS_MAX: u32 = 300;

/// A pipe, shared by its ends and by whoever moves its bytes.
pub type Shared = Arc<Mutex<Link>>;

fn lock(link: &Shared) -> MutexGuard<'_, Link> {
    link.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Way {
    /// Bytes that it holds.
    fn used(&self) -> usize {
        self.flowing.len() + self.here.len() + self.lost
    }

    fn write(&mut self, bytes: &[u8], room: usize) -> io::Result<usize> {
        if self.unread || self.closed {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let fits = room.saturating_sub(self.used()).min(bytes.len());
        if fits == 0 && !bytes.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        match self.altered {
            true => self.lost += fits,
            false => self.flowing.extend(&bytes[..fits]),
        }
        Ok(fits)
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.here.len().min(into.len());
        if bytes > 0 {
            into.iter_mut().zip(self.here.drain(..bytes)).for_each(|(to, byte)| *to = byte);
            return Ok(bytes);
        }
        match (self.ended, self.altered && self.flowing.is_empty()) {
            (_, true) => Err(ErrorKind::InvalidData.into()),
            (true, _) => Ok(0),
            _ => Err(ErrorKind::WouldBlock.into()),
        }
    }

    /// Moves so many bytes on; whether there is something new to read, the end included.
    fn move_on(&mut self, bytes: usize, note: &mut u32) -> bool {
        if self.stalled || self.ended {
            return false;
        }
        let moved = bytes.min(self.flowing.len());
        for byte in self.flowing.drain(..moved) {
            *note = note.rotate_left(5) ^ u32::from(byte).wrapping_mul(0x9e37_79b1);
            self.here.push_back(byte);
        }
        self.ended = self.closed && self.flowing.is_empty();
        moved > 0 || self.ended || self.altered && self.flowing.is_empty()
    }
}

impl Link {
    /// A new pipe with room for so many bytes in each direction.
    pub fn with_room(room: usize) -> Shared {
        let (up, down) = (Way::default(), Way::default());
        let (news, watches_room, waiting) = (Happened::default(), false, None);
        Arc::new(Mutex::new(Link { up, down, room, news, watches_room, waiting }))
    }

    /// Gives what waits, as far as there is room; whether there was.
    fn give(&mut self) -> io::Result<bool> {
        let Some((waiting, _)) = &mut self.waiting else { return Ok(true) };
        match self.down.write(waiting.make_contiguous(), self.room) {
            Ok(given) => {
                waiting.drain(..given);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn way(&mut self, up: bool) -> &mut Way {
        if up { &mut self.up } else { &mut self.down }
    }
}

/// Moves what flows: all of it, or a part.
pub fn move_on(link: &Shared, all: bool, random: &mut Random, note: &mut u32) {
    let mut link = lock(link);
    for up in [true, false] {
        let bytes = match random.below(6) {
            _ if all => usize::MAX,
            0 => 1,
            1 => 1 + random.below(60) as usize,
            2 => random.below(400) as usize,
            _ => usize::MAX,
        };
        let news = link.way(up).move_on(bytes, note);
        if up {
            link.news.readable |= news;
            link.news.closing |= link.up.ended;
            link.news.gone |= link.up.ended && link.down.unread;
        }
    }
}

/// Cuts it: of what flows a part still comes, in each direction another.
pub fn cut(link: &Shared, random: &mut Random) {
    let mut link = lock(link);
    for up in [true, false] {
        let way = link.way(up);
        way.flowing.truncate(random.below(way.flowing.len() as u64 + 1) as usize);
        (way.closed, way.stalled) = (true, false);
    }
}

/// A byte of what flows in this direction is altered: what is before it still comes. False when nothing flows.
pub fn alter(link: &Shared, up: bool, random: &mut Random) -> bool {
    let mut link = lock(link);
    let way = link.way(up);
    if way.flowing.is_empty() || way.altered {
        return false;
    }
    way.flowing.truncate(random.below(way.flowing.len() as u64) as usize);
    way.altered = true;
    true
}

/// Nothing moves in this direction, or everything does again.
pub fn stall(link: &Shared, up: bool, stalled: bool) {
    lock(link).way(up).stalled = stalled;
}

/// Everything moves again.
pub fn heal(link: &Shared) {
    stall(link, true, false);
    stall(link, false, false);
}

/// Whether both ends have let go of it.
pub fn is_over(link: &Shared) -> bool {
    let link = lock(link);
    link.up.unread && link.down.unread
}

/// Whether the server has let go of it.
pub fn is_left(link: &Shared) -> bool {
    lock(link).up.unread
}

/// The client's end.
pub struct ClientEnd(pub Shared);

/// The server's end.
pub struct ServerEnd(pub Shared);

impl Read for ClientEnd {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut link = lock(&self.0);
        let read = link.down.read(into);
        let freed = matches!(read, Ok(bytes) if bytes > 0);
        link.news.writable |= freed && link.watches_room;
        read
    }
}

impl Write for ClientEnd {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut link = lock(&self.0);
        let room = link.room;
        link.up.write(bytes, room)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for ClientEnd {
    fn drop(&mut self) {
        let mut link = lock(&self.0);
        (link.up.closed, link.down.unread) = (true, true);
    }
}

impl Read for ServerEnd {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        lock(&self.0).up.read(into)
    }
}

impl Write for ServerEnd {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut link = lock(&self.0);
        let room = link.room;
        if let Some((waiting, _)) = &mut link.waiting {
            waiting.extend(bytes);
            return link.give().map(|_| bytes.len());
        }
        link.down.write(bytes, room)
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut link = lock(&self.0);
        let given = link.give()?;
        let Some((waiting, looks)) = &mut link.waiting else { return Ok(()) };
        *looks = if given { 0 } else { *looks + 1 };
        match (waiting.is_empty(), *looks > LOOKS_MAX) {
            (true, _) => Ok(()),
            (false, true) => Err(ErrorKind::TimedOut.into()),
            (false, false) => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

impl stepped::Pipe for ServerEnd {
    fn happened(&mut self) -> Happened {
        std::mem::take(&mut lock(&self.0).news)
    }

    fn watch(&mut self, writable: bool) {
        let mut link = lock(&self.0);
        link.watches_room = writable;
        link.news.readable |= !link.up.here.is_empty() || link.up.ended;
        link.news.writable |= writable && link.down.used() < link.room;
    }

    fn waits(&mut self, _: Duration) {
        lock(&self.0).waiting = Some((VecDeque::new(), 0));
    }
}

impl Drop for ServerEnd {
    fn drop(&mut self) {
        let mut link = lock(&self.0);
        (link.down.closed, link.up.unread) = (true, true);
    }
}
