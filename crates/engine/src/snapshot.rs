//! Snapshots: the state after a record, in a file, so that a start replays only what came after it.
//!
//! *Whose word counts.* The journal's. A snapshot is believed only when the record that it names is in the journal with
//! that hash, when every piece of the file passes its check, and when the digest worked out anew from what was read is
//! the one in that record. Anything else is passed over for an older one, and the reason is said; with none left the
//! whole journal is replayed. So a snapshot that rotted, was cut short, or is of another journal or of another form
//! costs time and nothing else.
//!
//! *What bounds it.* [`KEPT`] files are kept; once a new one is durable under its name, those go first that are not of this
//! journal (it may have been put back from an older copy than they are of), then the oldest. A file is made under another
//! name first, so one that was cut short is never met; what is left of one that could not be made goes at once, as its
//! space may be all that the journal still has.
//!
//! What is free on the disk is the journal's first: a snapshot that would leave less than [`RESERVE_SEGMENTS`] of its
//! segments is not made. The bank goes on with the older one, and a later start takes longer.
//!
//! *What it cannot do.* Say that the journal before it is sound: a start from a snapshot does not read that. `verify`
//! does.

use crate::machine::Machine;
use pabal_fault::{Bug, Point, planted, reached};
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
/// Segments of the journal for which a snapshot leaves room on the disk.
pub const RESERVE_SEGMENTS: u64 = 4;
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

/// Makes a snapshot of the state that this machine has after this record of the journal, durably, and removes those that
/// are too many.
pub fn make<M: Machine>(
    disk: &dyn Disk,
    data: &Path,
    machine: &M,
    after: After,
    header: &RecordHeader,
    journal: &Reader,
) -> io::Result<Made> {
    let folder = data.join(SNAPSHOTS);
    disk.make_folder(&folder)?;
    let Some(_lock) = disk.lock(&folder, false)? else {
        reached(Point::SnapshotLocked);
        return Err(io::Error::new(io::ErrorKind::WouldBlock, "another process is making a snapshot"));
    };
    let digest: String = header.digest.iter().rev().map(|byte| format!("{byte:02x}")).collect();
    let own = format!("{:012}-{digest}.snap", after.sequence);
    let path = folder.join(&own);
    let unfinished = path.with_extension("tmp");
    for name in disk.names(&folder)? {
        // Of a making that was cut short.
        if name.to_string_lossy().ends_with(".tmp") {
            disk.remove(&folder.join(name))?;
        }
    }
    let title = Title {
        magic: MAGIC,
        sequence: after.sequence,
        start_block: after.start_block,
        time_ms: header.time_ms,
        hash: after.hash,
        digest: header.digest,
        ..Title::default()
    };
    let room = Room { disk, folder: &folder, reserve: RESERVE_SEGMENTS * journal.segment_bytes() };
    let written = write(&room, &unfinished, machine, title).and_then(|bytes| {
        disk.rename(&unfinished, &path)?;
        Ok(bytes)
    });
    if written.is_err() && disk.remove(&unfinished).is_err() {
        reached(Point::SnapshotLeft);
    }
    let bytes = written?;
    disk.sync_folder(&folder)?;
    let others = list(disk, &folder)?.into_iter().filter(|(_, name)| *name != own);
    let mut others: Vec<(bool, u64, String)> = others
        .map(|(sequence, name)| (is_of(disk, &folder.join(&name), sequence, journal), sequence, name))
        .collect();
    others.sort_unstable();
    for (.., name) in others.into_iter().rev().skip(KEPT - 1) {
        disk.remove(&folder.join(name))?;
    }
    Ok(Made { path, sequence: after.sequence, digest: header.digest, bytes })
}

/// Writes the whole file, durably; gives its bytes.
fn write<M: Machine>(room: &Room<'_>, path: &Path, machine: &M, title: Title) -> io::Result<u64> {
    room.has(BLOCK as u64)?;
    let file = room.disk.open_to_write(path, Writing { new: true, direct: false })?;
    let piece = Vec::with_capacity(PIECE);
    let mut pieces = Pieces { room, file: &*file, piece, number: 0, failed: Ok(()) };
    let mut length = 0;
    machine.save(&mut |bytes| {
        length += bytes.len() as u64;
        pieces.take(bytes);
    });
    let bytes = pieces.end()?;
    let mut first = [0; BLOCK];
    first[..TITLE].copy_from_slice(Title { length, ..title }.checked().as_bytes());
    file.write(&first, 0)?;
    file.sync_all()?;
    Ok(bytes)
}

/// What a snapshot may take of the disk.
struct Room<'d> {
    disk: &'d dyn Disk,
    folder: &'d Path,
    /// Bytes that it leaves free.
    reserve: u64,
}

impl Room<'_> {
    /// Whether so many bytes more may be taken. Asked for each piece: the journal grows meanwhile.
    fn has(&self, bytes: u64) -> io::Result<()> {
        if self.disk.free_bytes(self.folder)? < self.reserve.saturating_add(bytes) {
            reached(Point::SnapshotReserve);
            let what = "what is free on the disk is kept for the journal";
            return Err(io::Error::new(io::ErrorKind::StorageFull, what));
        }
        Ok(())
    }
}

/// Whether this snapshot is of a record that the journal has.
fn is_of(disk: &dyn Disk, path: &Path, named: u64, journal: &Reader) -> bool {
    let found = || entitled(&*disk.open(path)?, named, journal);
    match found() {
        Ok(_) => true,
        Err(_) => {
            reached(Point::SnapshotStale);
            false
        }
    }
}

/// The state in pieces, each with its check.
struct Pieces<'f> {
    room: &'f Room<'f>,
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
        // The block of the title, which is written last, takes its room too.
        self.room.has((self.piece.len() + BLOCK) as u64)?;
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
    /// Its bytes are not those that were written, or not under this name.
    #[error("it has rotted, was cut short, or was renamed")]
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
    newest_of(disk, data, machine, reader, &|_| true)
}

/// The same, of those whose record is `wanted`: for a state of the past. The others are not read, and nothing is said of
/// them.
pub fn newest_of<M: Machine>(
    disk: &dyn Disk,
    data: &Path,
    machine: &M,
    reader: &dyn Fn() -> Result<Reader, Error>,
    wanted: &dyn Fn(&RecordHeader) -> bool,
) -> Option<Loaded<M>> {
    let folder = data.join(SNAPSHOTS);
    let found = match list(disk, &folder) {
        Ok(found) => found,
        // None were made yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            reached(Point::SnapshotNames);
            disk.tell(&format!("snapshots in {} are passed over: {error}", folder.display()));
            return None;
        }
    };
    for (named, name) in found.into_iter().rev() {
        let path = folder.join(name);
        match load(disk, &path, named, machine, reader, wanted) {
            Ok(Some(loaded)) => return Some(loaded),
            Ok(None) => {}
            Err(unfit) => {
                reached(Point::SnapshotUnfit);
                disk.tell(&format!("snapshot {} is passed over: {unfit}", path.display()));
            }
        }
    }
    None
}

/// The snapshots of a folder by their sequences, oldest first.
fn list(disk: &dyn Disk, folder: &Path) -> io::Result<Vec<(u64, String)>> {
    let mut found = Vec::new();
    for name in disk.names(folder)? {
        // Whatever has another name is not ours.
        let Some(name) = name.to_str() else { continue };
        let sequence = name.strip_suffix(".snap").and_then(|name| name.split('-').next()?.parse().ok());
        found.extend(sequence.map(|sequence| (sequence, name.to_owned())));
    }
    found.sort_unstable();
    Ok(found)
}

/// The title of a snapshot that is named by this record, and the record's header, which the journal has.
fn entitled(
    file: &dyn DiskFile,
    named: u64,
    journal: &Reader,
) -> Result<(Title, After, RecordHeader), Unfit> {
    let mut title = Title::default();
    if file.length()? < BLOCK as u64 {
        reached(Point::SnapshotShort);
        return Err(Unfit::Rotten);
    }
    file.read(title.as_mut_bytes(), 0)?;
    if title.magic != MAGIC || title.check != title.checked().check || title.sequence != named {
        reached(Point::SnapshotTitle);
        return Err(Unfit::Rotten);
    }
    let after = After { sequence: title.sequence, start_block: title.start_block, hash: title.hash };
    let header = journal.find(&after)?;
    Ok((title, after, header))
}

/// Reads one snapshot, and holds it against the journal. None when its record is not wanted.
fn load<M: Machine>(
    disk: &dyn Disk,
    path: &Path,
    named: u64,
    machine: &M,
    reader: &dyn Fn() -> Result<Reader, Error>,
    wanted: &dyn Fn(&RecordHeader) -> bool,
) -> Result<Option<Loaded<M>>, Unfit> {
    let file = disk.open(path)?;
    let (title, after, header) = entitled(&*file, named, &reader()?)?;
    if !wanted(&header) {
        return Ok(None);
    }
    let left = title.length;
    let mut source = Source { file, left, unread: left, piece: Vec::new(), number: 0, used: 0, wrong: None };
    let loaded = machine.load(&mut |into| source.fill(into));
    if let Some(unfit) = source.wrong {
        return Err(unfit);
    }
    let Some(mut machine) = loaded.filter(|_| source.left == 0) else {
        reached(Point::SnapshotForm);
        return Err(Unfit::Form);
    };
    if machine.digest() != header.digest && !planted(Bug::SnapshotUnchecked) {
        reached(Point::SnapshotDigest);
        return Err(Unfit::Digest);
    }
    Ok(Some(Loaded { machine, after, time_ms: header.time_ms }))
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
    /// What was wrong first with what was read; nothing is read after it.
    wrong: Option<Unfit>,
}

impl Source {
    fn fill(&mut self, mut into: &mut [u8]) -> bool {
        if into.len() as u64 > self.left || self.wrong.is_some() {
            return false;
        }
        self.left -= into.len() as u64;
        while !into.is_empty() {
            if self.used == self.piece.len() {
                match self.next() {
                    Ok(()) => {}
                    Err(unfit) => {
                        self.wrong = Some(unfit);
                        return false;
                    }
                }
            }
            let now = into.len().min(self.piece.len() - self.used);
            let (head, rest) = into.split_at_mut(now);
            head.copy_from_slice(&self.piece[self.used..self.used + now]);
            self.used += now;
            into = rest;
        }
        true
    }

    /// Reads the next piece, and holds it against its check.
    fn next(&mut self) -> Result<(), Unfit> {
        let payload = self.unread.min((PIECE - CHECK) as u64) as usize;
        self.piece.resize(payload + CHECK, 0);
        let offset = BLOCK as u64 + u64::from(self.number) * PIECE as u64;
        self.file.read(&mut self.piece, offset).inspect_err(|_| reached(Point::SnapshotRead))?;
        let (bytes, check) = self.piece.split_at(payload);
        let mut right = crc32c::crc32c(bytes).to_le_bytes().to_vec();
        right.extend_from_slice(&self.number.to_le_bytes());
        if check != right {
            reached(Point::SnapshotRotten);
            return Err(Unfit::Rotten);
        }
        self.piece.truncate(payload);
        self.unread -= payload as u64;
        self.number += 1;
        self.used = 0;
        Ok(())
    }
}
