//! Snapshots: the state after a record, in a file, so that a start replays only what came after it.
//!
//! *Whose word counts.* The journal's. A snapshot is believed only when the record that it names is in the journal with
//! that hash, when every piece of the file passes its check, and when the digest worked out anew from what was read is
//! the one in that record. Anything else is passed over for an older one, and the reason is said; with none left the
//! whole journal is replayed. So a snapshot that rotted, was cut short, or is of another journal or of another form
//! costs time and nothing else.
//!
//! *What bounds it.* [`KEPT`] files are kept; older ones go once a newer one is durable under its name. A file is made
//! under another name first, so one that was cut short is never met.
//!
//! *What it cannot do.* Say that the journal before it is sound: a start from a snapshot does not read that. `verify`
//! does.

use crate::machine::Machine;
use pabal_fault::{Point, reached};
use pabal_journal::disk::{Disk, DiskFile, Writing};
use pabal_journal::{After, BLOCK, Error, Reader, RecordHeader};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Folder of the snapshots, in the data folder.
pub const SNAPSHOTS: &str = "snapshots";
/// Snapshots that are kept.
pub const KEPT: usize = 2;
/// Bytes of a piece, its check included: whole blocks. Of the last one what is not needed is zero, to the block's end.
const PIECE: usize = 1 << 20;
/// Bytes of the check at a piece's end: CRC-32C, and the piece's number.
const CHECK: usize = 8;
const MAGIC: u64 = u64::from_le_bytes(*b"PBLSNAP1");

/// What stands at the beginning of the file, in a block of its own: 128 bytes.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Title {
    magic: u64,
    /// Sequence of the record after which this was the state.
    sequence: u64,
    /// The block at which that record begins.
    start_block: u64,
    /// The time of that record, milliseconds since 1970.
    time_ms: u64,
    /// BLAKE3 of that record's blocks.
    hash: [u8; 32],
    /// The digest of the state.
    digest: [u8; 16],
    /// Bytes of the state.
    length: u64,
    reserved: [u64; 4],
    /// CRC-32C of all before it.
    check: u64,
}

const TITLE: usize = 128;
const _: () = assert!(size_of::<Title>() == TITLE);

impl Title {
    fn checked(self) -> Title {
        let check = crc32c::crc32c(&self.as_bytes()[..TITLE - 8]) as u64;
        Title { check, ..self }
    }
}

/// A state that was read from a snapshot.
pub struct Loaded<M> {
    /// The machine that has it.
    pub machine: M,
    /// The record after which it is the state.
    pub after: After,
    /// The time of that record, milliseconds since 1970.
    pub time_ms: u64,
}

/// A snapshot that was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its file.
    pub path: PathBuf,
    /// Sequence of the record after which it is the state.
    pub sequence: u64,
    /// The digest of the state.
    pub digest: [u8; 16],
    /// Bytes of the file.
    pub bytes: u64,
}

/// Makes a snapshot of the state that this machine has after this record, durably, and removes those that are too old.
pub fn make<M: Machine>(
    disk: &dyn Disk,
    data: &Path,
    machine: &M,
    after: After,
    header: &RecordHeader,
) -> io::Result<Made> {
    let folder = data.join(SNAPSHOTS);
    disk.make_folder(&folder)?;
    let Some(_lock) = disk.lock(&folder, false)? else {
        reached(Point::SnapshotLocked);
        return Err(io::Error::new(io::ErrorKind::WouldBlock, "another process is making a snapshot"));
    };
    let digest: String = header.digest.iter().rev().map(|byte| format!("{byte:02x}")).collect();
    let path = folder.join(format!("{:012}-{digest}.snap", after.sequence));
    let unfinished = path.with_extension("tmp");
    for name in disk.names(&folder)? {
        // Of a making that was cut short.
        if name.to_string_lossy().ends_with(".tmp") {
            disk.remove(&folder.join(name))?;
        }
    }
    let file = disk.open_to_write(&unfinished, Writing { new: true, direct: false })?;
    let mut pieces = Pieces { file: &*file, piece: Vec::with_capacity(PIECE), number: 0, failed: Ok(()) };
    let mut length = 0;
    machine.save(&mut |bytes| {
        length += bytes.len() as u64;
        pieces.take(bytes);
    });
    let written = pieces.end()?;
    let title = Title {
        magic: MAGIC,
        sequence: after.sequence,
        start_block: after.start_block,
        time_ms: header.time_ms,
        hash: after.hash,
        digest: header.digest,
        length,
        ..Title::default()
    };
    let mut first = [0; BLOCK];
    first[..TITLE].copy_from_slice(title.checked().as_bytes());
    file.write(&first, 0)?;
    file.sync_all()?;
    disk.rename(&unfinished, &path)?;
    disk.sync_folder(&folder)?;
    for old in list(disk, &folder)?.into_iter().rev().skip(KEPT) {
        disk.remove(&folder.join(old.1))?;
    }
    Ok(Made { path, sequence: after.sequence, digest: header.digest, bytes: written })
}

/// The state in pieces, each with its check.
struct Pieces<'f> {
    file: &'f dyn DiskFile,
    piece: Vec<u8>,
    number: u64,
    /// What went wrong first; nothing is written after it.
    failed: io::Result<()>,
}

impl Pieces<'_> {
    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.failed.is_ok() {
            let room = PIECE - CHECK - self.piece.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.piece.extend_from_slice(now);
            bytes = later;
            if self.piece.len() == PIECE - CHECK {
                self.failed = self.write();
            }
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let check = crc32c::crc32c(&self.piece);
        self.piece.extend_from_slice(&check.to_le_bytes());
        self.piece.extend_from_slice(&(self.number as u32).to_le_bytes());
        self.piece.resize(self.piece.len().next_multiple_of(BLOCK), 0);
        self.file.write(&self.piece, BLOCK as u64 + self.number * PIECE as u64)?;
        self.number += 1;
        self.piece.clear();
        Ok(())
    }

    /// Writes what is left; gives the bytes of the file.
    fn end(mut self) -> io::Result<u64> {
        self.failed?;
        self.failed = Ok(());
        let whole = BLOCK as u64 + self.number * PIECE as u64;
        if self.piece.is_empty() {
            return Ok(whole);
        }
        let last = (self.piece.len() + CHECK).next_multiple_of(BLOCK) as u64;
        self.write()?;
        Ok(whole + last)
    }
}

/// Why a snapshot is passed over.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Its bytes are not those that were written.
    #[error("it has rotted or was cut short")]
    Rotten,
    /// The journal does not have the record that it is of, or cannot be read there.
    #[error("it is not of this journal: {0}")]
    Foreign(#[from] Error),
    /// What was read is no state that this program knows.
    #[error("it holds no state of a form that this program knows")]
    Form,
    /// The state is not the one that the journal has at that record.
    #[error("its state is not the one that the journal has there")]
    Digest,
}

/// The newest good snapshot of this folder, read by a machine like this one. What is wrong with newer ones is said on
/// standard error. `reader` opens the journal.
pub fn newest<M: Machine>(
    disk: &dyn Disk,
    data: &Path,
    machine: &M,
    reader: &dyn Fn() -> Result<Reader, Error>,
) -> Option<Loaded<M>> {
    let folder = data.join(SNAPSHOTS);
    // None were made yet.
    let found = list(disk, &folder).unwrap_or_default();
    for (_, name) in found.into_iter().rev() {
        let path = folder.join(name);
        match load(disk, &path, machine, reader) {
            Ok(loaded) => return Some(loaded),
            Err(unfit) => {
                reached(Point::SnapshotUnfit);
                eprintln!("snapshot {} is passed over: {unfit}", path.display());
            }
        }
    }
    None
}

/// The snapshots of a folder by their sequences, oldest first.
fn list(disk: &dyn Disk, folder: &Path) -> io::Result<Vec<(u64, String)>> {
    let mut found = Vec::new();
    for name in disk.names(folder)? {
        let name = name.to_string_lossy().into_owned();
        let sequence = name.strip_suffix(".snap").and_then(|name| name.split('-').next()?.parse().ok());
        found.extend(sequence.map(|sequence| (sequence, name)));
    }
    found.sort_unstable();
    Ok(found)
}

/// Reads one snapshot, and holds it against the journal.
fn load<M: Machine>(
    disk: &dyn Disk,
    path: &Path,
    machine: &M,
    reader: &dyn Fn() -> Result<Reader, Error>,
) -> Result<Loaded<M>, Unfit> {
    let file = disk.open(path)?;
    let mut title = Title::default();
    if file.length()? < BLOCK as u64 {
        reached(Point::SnapshotShort);
        return Err(Unfit::Rotten);
    }
    file.read(title.as_mut_bytes(), 0)?;
    if title.magic != MAGIC || title.check != title.checked().check {
        reached(Point::SnapshotTitle);
        return Err(Unfit::Rotten);
    }
    let after = After { sequence: title.sequence, start_block: title.start_block, hash: title.hash };
    let header = reader()?.find(&after)?;
    let left = title.length;
    let mut source = Source { file, left, unread: left, piece: Vec::new(), number: 0, used: 0, sound: true };
    let loaded = machine.load(&mut |into| source.fill(into));
    if !source.sound {
        reached(Point::SnapshotRotten);
        return Err(Unfit::Rotten);
    }
    let Some(mut machine) = loaded.filter(|_| source.left == 0) else {
        reached(Point::SnapshotForm);
        return Err(Unfit::Form);
    };
    if machine.digest() != header.digest {
        reached(Point::SnapshotDigest);
        return Err(Unfit::Digest);
    }
    Ok(Loaded { machine, after, time_ms: header.time_ms })
}

/// The state read back, piece by piece.
struct Source {
    file: Arc<dyn DiskFile>,
    /// Bytes of the state that were not given yet.
    left: u64,
    /// Of these, those that were not read yet.
    unread: u64,
    piece: Vec<u8>,
    number: u32,
    used: usize,
    /// Whether all that was read so far passed its check.
    sound: bool,
}

impl Source {
    fn fill(&mut self, mut into: &mut [u8]) -> bool {
        if into.len() as u64 > self.left || !self.sound {
            return false;
        }
        self.left -= into.len() as u64;
        while !into.is_empty() {
            if self.used == self.piece.len() && !self.next() {
                self.sound = false;
                return false;
            }
            let now = into.len().min(self.piece.len() - self.used);
            let (head, rest) = into.split_at_mut(now);
            head.copy_from_slice(&self.piece[self.used..self.used + now]);
            self.used += now;
            into = rest;
        }
        true
    }

    /// Reads the next piece; false when there is none that passes its check.
    fn next(&mut self) -> bool {
        let payload = self.unread.min((PIECE - CHECK) as u64) as usize;
        let length = payload + CHECK;
        self.piece.resize(length, 0);
        let offset = BLOCK as u64 + u64::from(self.number) * PIECE as u64;
        if payload == 0 || self.file.read(&mut self.piece, offset).is_err() {
            reached(Point::SnapshotRead);
            return false;
        }
        let (bytes, check) = self.piece.split_at(length - CHECK);
        let mut right = crc32c::crc32c(bytes).to_le_bytes().to_vec();
        right.extend_from_slice(&self.number.to_le_bytes());
        if check != right {
            return false;
        }
        self.piece.truncate(payload);
        self.unread -= payload as u64;
        self.number += 1;
        self.used = 0;
        true
    }
}
