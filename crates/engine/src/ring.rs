//! The ring: what the core was executing when it crashed.
//!
//! Before a request is executed its bytes go to a small file mapped into memory, and before each command a
//! cursor. A process that dies leaves them behind. At the next start that one request is tried alone,
//! command by command; what stops the core a second time is set aside with a recorded refusal.
//!
//! The file survives the process, not the machine: after a loss of power it may be half of one request
//! and half of another, so its bytes carry a check and are ignored when it fails. The ring never decides
//! what was done: only the journal does.

use crate::request::{BYTES_MAX, RequestHeader};
use pabal_fault::{Point, reached};
use pabal_journal::disk::{Disk, Mapped};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use zerocopy::{FromBytes, IntoBytes};

/// Name of the file, in the data folder.
pub(crate) const FILE: &str = "ring";
const HEAD: usize = 4096;
const SIZE: usize = HEAD + 64 + BYTES_MAX;

/// What was being executed at a crash.
pub(crate) struct Suspect {
    pub header: RequestHeader,
    pub commands: Vec<u8>,
    /// Byte at which the command begins that was being executed.
    pub cursor: usize,
    /// Crashes so far, this one included.
    pub crashes: u64,
}

/// Words of the first page.
#[repr(usize)]
enum Word {
    Executing = 0,
    Cursor = 1,
    Length = 2,
    Check = 3,
    Crashes = 4,
}

pub(crate) struct Ring {
    memory: NonNull<u8>,
    /// Keeps the memory.
    _map: Box<dyn Mapped>,
}

// SAFETY: the memory belongs to this value alone; it moves with it between threads.
unsafe impl Send for Ring {}

impl Ring {
    /// Opens the ring of this folder and says what was being executed when the process last died.
    pub fn open(disk: &dyn Disk, dir: &Path) -> std::io::Result<(Ring, Option<Suspect>)> {
        let map = disk.map(&dir.join(FILE), SIZE)?;
        let ring = Ring { memory: map.memory(), _map: map };
        let suspect = ring.suspect();
        Ok((ring, suspect))
    }

    fn word(&self, word: Word) -> &AtomicU64 {
        // SAFETY: within the first page, aligned, only ever used as atomics.
        unsafe { &*self.memory.as_ptr().cast::<AtomicU64>().add(word as usize) }
    }

    fn body(&self, length: usize) -> &[u8] {
        // SAFETY: HEAD + length lies within the mapping (checked by the callers).
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(HEAD), length) }
    }

    fn suspect(&self) -> Option<Suspect> {
        if self.word(Word::Executing).load(Ordering::Acquire) != 1 {
            return None;
        }
        let length = self.word(Word::Length).load(Ordering::Relaxed) as usize;
        if !(64..=SIZE - HEAD).contains(&length) {
            reached(Point::RingLength);
            return None;
        }
        let body = self.body(length);
        if crc32c::crc32c(body) as u64 != self.word(Word::Check).load(Ordering::Relaxed) {
            reached(Point::RingCheck);
            return None;
        }
        let (header, commands) = RequestHeader::read_from_prefix(body).expect("no shorter than a header");
        Some(Suspect {
            header,
            commands: commands.to_vec(),
            cursor: self.word(Word::Cursor).load(Ordering::Relaxed) as usize,
            crashes: self.word(Word::Crashes).load(Ordering::Relaxed).saturating_add(1),
        })
    }

    /// A request is about to be executed; it has stopped the core this many times before.
    pub fn begin(&mut self, header: &RequestHeader, commands: &[u8], crashes: u64) {
        let length = 64 + commands.len();
        assert!(length <= SIZE - HEAD, "requests are bounded where they are let in");
        self.word(Word::Executing).store(0, Ordering::Release);
        // SAFETY: in bounds by the assertion above; `&mut self` is the only user of the body.
        let body = unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr().add(HEAD), length) };
        body[..64].copy_from_slice(header.as_bytes());
        body[64..].copy_from_slice(commands);
        self.word(Word::Length).store(length as u64, Ordering::Relaxed);
        self.word(Word::Check).store(crc32c::crc32c(body) as u64, Ordering::Relaxed);
        self.word(Word::Cursor).store(0, Ordering::Relaxed);
        self.word(Word::Crashes).store(crashes, Ordering::Relaxed);
        self.word(Word::Executing).store(1, Ordering::Release);
    }

    /// The command at this byte is about to be executed.
    #[inline]
    pub fn at(&self, cursor: usize) {
        self.word(Word::Cursor).store(cursor as u64, Ordering::Release);
    }

    /// The request was executed.
    pub fn end(&self) {
        self.word(Word::Executing).store(0, Ordering::Release);
    }
}
