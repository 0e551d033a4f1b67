//! What was sent and has not been settled, in a file: so that a channel that dies does not forget what it asked.
//!
//! *The order.* The bytes of a request are in the file before any of them is sent, and the mark that it was settled
//! comes after its end was heard. So what [`Keep::open`] gives back may have been done or not, and is asked again under
//! the same ids; what it does not give back was never sent, or its end is known. A mark that is lost costs one question
//! more, never a payment: what was decided is answered as before. Of what was refused that is not so: asked once more it
//! may be done. So its mark is in the file before anybody hears that it was refused.
//!
//! *What the file withstands.* The process's end at any moment. With [`KeepConfig::synced`] that of the machine too;
//! without, requests of the last seconds may be missing after a power cut, and the journal is the place to look.
//! A write that fails is taken back, durably: whoever asked hears that nothing was sent, and no later process may find
//! it and send it. Where it cannot be taken back the end is unknown, and this process sends nothing of it.
//! An end of the file that was being written is cut off. A place further in front that is not what was written, with
//! whole entries after it, is reported and not passed over: what it held may have been sent.
//!
//! *What bounds it.* `bytes_max` of what is not settled; at the bound nothing new is taken, and so nothing new sent. When
//! most of the file is settled it is written anew beside the old one, which it then replaces.

use crate::connection::{Envelope, Lane};
use crate::files::{Files, KeptFile, SystemFiles};
use crate::parcel::Parcel;
use pabal_ledger::Id;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of unsettled requests unless it is told otherwise.
const BYTES_MAX_DEFAULT: usize = 64 << 20;
/// Bytes of settled requests in the file before it is written anew, at least.
const SETTLED_BYTES_MIN: u64 = 1 << 20;
/// The first bytes of every such file.
const MAGIC: [u8; 8] = *b"pabalkp1";

/// How a [`Keep`] is kept.
#[derive(Clone, Copy, Debug)]
pub struct KeepConfig {
    /// Bytes of unsettled requests at most.
    pub bytes_max: usize,
    /// Whether what is sent is on the disk before it is sent, and not only in the system's hands.
    pub synced: bool,
}

impl Default for KeepConfig {
    fn default() -> KeepConfig {
        KeepConfig { bytes_max: BYTES_MAX_DEFAULT, synced: false }
    }
}

/// Why a keep cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The system says no.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Another process has it.
    #[error("another process keeps its requests in this file")]
    InUse,
    /// This is another file.
    #[error("this file keeps no requests")]
    Foreign,
    /// A place in it is not what was written.
    #[error(
        "the file is damaged at byte {0}: a request that stood there may have been sent; look for it in the journal"
    )]
    Rotten(u64),
    /// An earlier write of it failed in such a way that nothing more is written to it.
    #[error("an earlier write failed; open the file anew")]
    Failed,
    /// The system says no, and what was written could not be taken back: it may be in the file or not.
    #[error("{0}; what was being kept may be found by whoever opens the file anew")]
    Unknown(io::Error),
    /// As much is unsettled as it may hold.
    #[error("as much is unsettled as the file may hold")]
    Full,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct FileHead {
    magic: [u8; 8],
    /// Drawn for each file, so that no bytes that a customer sends look like an entry.
    salt: u64,
    /// CRC-32C of what stands before.
    check: u32,
    zero: u32,
}

impl FileHead {
    fn new(salt: u64) -> FileHead {
        let mut head = FileHead { magic: MAGIC, salt, check: 0, zero: 0 };
        head.check = head.checked();
        head
    }

    fn checked(&self) -> u32 {
        crc32c::crc32c(&self.as_bytes()[..16])
    }
}

/// A request was about to be sent.
const SENT: u16 = 1;
/// The request of this number was settled.
const SETTLED: u16 = 2;
/// The journal of the bank that all this was sent to, as the number.
const BANK: u16 = 3;

#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct EntryHead {
    /// CRC-32C of the file's salt, the entry's place, what follows in the head, and the body.
    check: u32,
    length: u32,
    kind: u16,
    class: u8,
    lane: u8,
    zero: u32,
    number: u64,
    deadline_ms: u64,
    attempt: [u64; 2],
    principal: u64,
    item: u64,
}

const FILE_HEAD_BYTES: u64 = size_of::<FileHead>() as u64;
const ENTRY_HEAD_BYTES: usize = size_of::<EntryHead>();
const _: () = assert!(ENTRY_HEAD_BYTES == 64);

/// See the module.
pub struct Keep {
    files: Box<dyn Files>,
    path: PathBuf,
    config: KeepConfig,
    file: Box<dyn KeptFile>,
    salt: u64,
    /// Bytes in the file that are whole.
    length: u64,
    /// To be written.
    waiting: Vec<u8>,
    unsettled: BTreeMap<u64, Arc<Parcel>>,
    unsettled_bytes: usize,
    /// The next request's number.
    next: u64,
    /// Requests from this number on are not in the file yet.
    fresh: u64,
    journal_id: Option<u64>,
    /// What of it is in the file.
    bank_written: Option<u64>,
    failed: bool,
    /// What was written last may be in the file or not.
    unsure: bool,
    /// Held as long as this is.
    _lock: Box<dyn Send>,
}

impl Keep {
    /// Opens the file at this path, or begins it.
    pub fn open(path: &Path, config: KeepConfig) -> Result<Keep, KeepError> {
        Keep::open_on(Box::new(SystemFiles), path, config)
    }

    /// The same on this file system.
    pub fn open_on(files: Box<dyn Files>, path: &Path, config: KeepConfig) -> Result<Keep, KeepError> {
        let lock = files.lock(&beside(path, "lock"))?.ok_or(KeepError::InUse)?;
        let Some(file) = files.open(path)? else {
            let head = FileHead::new(draw()?);
            let file = replace(&*files, path, head.as_bytes()).map_err(|unreplaced| unreplaced.error)?;
            return Ok(Keep::on(files, path, config, lock, file, head.salt));
        };
        let bytes = file.read()?;
        let (head, _) = FileHead::read_from_prefix(&bytes).map_err(|_| KeepError::Foreign)?;
        if head.magic != MAGIC || head.check != head.checked() || head.zero != 0 {
            return Err(KeepError::Foreign);
        }
        let mut keep = Keep::on(files, path, config, lock, file, head.salt);
        keep.recall(&bytes)?;
        keep.file.cut(keep.length)?;
        if config.synced {
            // What the process before left may stand in the system's memory alone, and will be sent. After a failed sync
            // a later one says nothing of what was written before it, so the same bytes are written once more.
            keep.file.write(&bytes[..keep.length as usize], 0)?;
            keep.file.sync()?;
            keep.files.sync_folder(folder(path))?;
        }
        Ok(keep)
    }

    /// The requests that were not settled, by their numbers.
    pub fn unsettled(&self) -> &BTreeMap<u64, Arc<Parcel>> {
        &self.unsettled
    }

    /// Whether it is known what is in the file. Else none of it is sent by this process any more.
    pub fn is_sure(&self) -> bool {
        !self.unsure
    }

    /// The journal of the bank that they were sent to, once it is known.
    pub fn bank_known(&self) -> Option<u64> {
        self.bank_written
    }

    /// Notes a request that is about to be sent; its number. It must not leave before [`Keep::write`] has said so.
    pub fn sent(&mut self, parcel: Arc<Parcel>) -> Result<u64, KeepError> {
        if self.unsettled_bytes + parcel.commands().len() + ENTRY_HEAD_BYTES > self.config.bytes_max {
            return Err(KeepError::Full);
        }
        let number = self.next;
        self.next += 1;
        self.enter(number, &parcel);
        self.unsettled_bytes += parcel.commands().len() + ENTRY_HEAD_BYTES;
        self.unsettled.insert(number, parcel);
        Ok(number)
    }

    /// Notes that its end was heard. Written with what comes next. False when there is no such request.
    pub fn settled(&mut self, number: u64) -> bool {
        let there = self.forget(number);
        if there {
            self.push(EntryHead { kind: SETTLED, number, ..EntryHead::default() }, &[]);
        }
        there
    }

    /// Notes whose bank this is, before anything is sent to it.
    pub fn bank(&mut self, journal_id: u64) {
        self.journal_id = Some(journal_id);
        self.push_bank(self.journal_id);
    }

    /// Writes what was noted. On an error none of it may be sent. Nothing of it is in the file either, and it is to be
    /// [forgotten](Keep::forget); but with [`KeepError::Unknown`] it may be: then it stays among what is not settled.
    /// Marks that are missing are made up for by asking again.
    pub fn write(&mut self) -> Result<(), KeepError> {
        let written = self.write_waiting();
        self.waiting.clear();
        match &written {
            Ok(()) => (self.fresh, self.bank_written) = (self.next, self.journal_id),
            Err(_) => self.journal_id = self.bank_written,
        }
        written
    }

    /// Takes back what could not be written. False when there is no such request.
    pub fn forget(&mut self, number: u64) -> bool {
        let Some(parcel) = self.unsettled.remove(&number) else { return false };
        self.unsettled_bytes -= parcel.commands().len() + ENTRY_HEAD_BYTES;
        true
    }

    /// Takes back the mark of one that was settled, which could not be written: it is in the file as before.
    pub fn unsettle(&mut self, number: u64, parcel: Arc<Parcel>) {
        self.unsettled_bytes += parcel.commands().len() + ENTRY_HEAD_BYTES;
        self.unsettled.insert(number, parcel);
    }

    // ── parts ────────────────────────────────────────────────────────────────────────────────────

    fn on(
        files: Box<dyn Files>,
        path: &Path,
        config: KeepConfig,
        lock: Box<dyn Send>,
        file: Box<dyn KeptFile>,
        salt: u64,
    ) -> Keep {
        Keep {
            files,
            path: path.to_owned(),
            config,
            file,
            salt,
            length: FILE_HEAD_BYTES,
            waiting: Vec::new(),
            unsettled: BTreeMap::new(),
            unsettled_bytes: 0,
            next: 1,
            fresh: 1,
            journal_id: None,
            bank_written: None,
            failed: false,
            unsure: false,
            _lock: lock,
        }
    }

    fn write_waiting(&mut self) -> Result<(), KeepError> {
        if self.failed {
            return Err(KeepError::Failed);
        }
        if self.length + self.waiting.len() as u64 > 2 * self.unsettled_bytes as u64 + SETTLED_BYTES_MIN {
            self.write_anew()?;
        }
        if self.waiting.is_empty() {
            return Ok(());
        }
        let written = self.file.write(&self.waiting, self.length);
        let unsynced = written.is_ok();
        let synced = if self.config.synced { written.and_then(|()| self.file.sync()) } else { written };
        let Err(error) = synced else {
            self.length += self.waiting.len() as u64;
            return Ok(());
        };
        // Durably also where nothing else is: it is told that nothing was sent, and that must stay true.
        let taken_back = self.file.cut(self.length).and_then(|()| self.file.sync());
        // After a failed sync the disk may have something else than what the system shows of earlier entries too.
        self.unsure = taken_back.is_err();
        self.failed = unsynced || self.unsure;
        Err(if self.unsure { KeepError::Unknown(error) } else { KeepError::Io(error) })
    }

    fn enter(&mut self, number: u64, parcel: &Parcel) {
        let envelope = *parcel.envelope();
        let head = EntryHead {
            kind: SENT,
            class: envelope.class,
            lane: envelope.lane as u8,
            number,
            deadline_ms: envelope.deadline_ms,
            attempt: [envelope.attempt.high, envelope.attempt.low],
            principal: envelope.principal,
            item: envelope.item,
            ..EntryHead::default()
        };
        self.push(head, parcel.commands());
    }

    fn push(&mut self, head: EntryHead, body: &[u8]) {
        let head = EntryHead { length: body.len() as u32, ..head };
        let place = self.length + self.waiting.len() as u64;
        let head = EntryHead { check: check(self.salt, place, &head, body), ..head };
        self.waiting.extend_from_slice(head.as_bytes());
        self.waiting.extend_from_slice(body);
    }

    /// Writes what is in the file and not settled into a new one, which takes its place. What waits is then to be
    /// written to that one: should this fail, whichever file is found later does not have it.
    fn write_anew(&mut self) -> Result<(), KeepError> {
        let before = (self.salt, self.length);
        let head = FileHead::new(draw()?);
        self.waiting.clear();
        (self.salt, self.length) = (head.salt, FILE_HEAD_BYTES);
        self.push_bank(self.bank_written);
        for (number, parcel) in self.unsettled.clone().range(..self.fresh) {
            self.enter(*number, parcel);
        }
        let bytes = [head.as_bytes(), &self.waiting].concat();
        self.waiting.clear();
        match replace(&*self.files, &self.path, &bytes) {
            Ok(file) => (self.file, self.length) = (file, bytes.len() as u64),
            Err(unreplaced) => {
                (self.salt, self.length) = before;
                // Where it is not known whether the new file took the old one's place, neither is written to any more.
                self.failed = unreplaced.maybe;
                return Err(KeepError::Io(unreplaced.error));
            }
        }
        if self.bank_written != self.journal_id {
            self.push_bank(self.journal_id);
        }
        for (number, parcel) in self.unsettled.clone().range(self.fresh..) {
            self.enter(*number, parcel);
        }
        Ok(())
    }

    fn push_bank(&mut self, journal_id: Option<u64>) {
        if let Some(number) = journal_id {
            self.push(EntryHead { kind: BANK, number, ..EntryHead::default() }, &[]);
        }
    }

    /// Takes in what a file holds.
    fn recall(&mut self, bytes: &[u8]) -> Result<(), KeepError> {
        let mut at = FILE_HEAD_BYTES as usize;
        while let Some((head, body)) = entry(self.salt, bytes, at) {
            match head.kind {
                SENT => {
                    let parcel = parcel(&head, body).ok_or(KeepError::Rotten(at as u64))?;
                    self.unsettled_bytes += body.len() + ENTRY_HEAD_BYTES;
                    self.unsettled.insert(head.number, Arc::new(parcel));
                    self.next = self.next.max(head.number.saturating_add(1));
                }
                SETTLED => {
                    self.forget(head.number);
                }
                _ => {
                    self.journal_id = Some(head.number);
                    self.bank_written = self.journal_id;
                }
            }
            at += ENTRY_HEAD_BYTES + body.len();
        }
        (self.length, self.fresh) = (at as u64, self.next);
        // Cut short at its end it may be; a whole entry behind a broken one says that it was damaged.
        let whole_behind =
            (at + 8..bytes.len()).step_by(8).any(|place| entry(self.salt, bytes, place).is_some());
        if whole_behind { Err(KeepError::Rotten(at as u64)) } else { Ok(()) }
    }
}

/// The entry that begins here, if it is whole.
fn entry(salt: u64, bytes: &[u8], at: usize) -> Option<(EntryHead, &[u8])> {
    let (head, rest) = EntryHead::read_from_prefix(bytes.get(at..)?).ok()?;
    let body = rest.get(..head.length as usize)?;
    let known = (SENT..=BANK).contains(&head.kind) && head.length.is_multiple_of(8) && head.zero == 0;
    (known && head.check == check(salt, at as u64, &head, body)).then_some((head, body))
}

fn parcel(head: &EntryHead, body: &[u8]) -> Option<Parcel> {
    let envelope = Envelope {
        class: head.class,
        lane: match head.lane {
            1 => Lane::Online,
            2 => Lane::Bulk,
            _ => return None,
        },
        deadline_ms: head.deadline_ms,
        attempt: Id { high: head.attempt[0], low: head.attempt[1] },
        principal: head.principal,
        item: head.item,
    };
    Parcel::of(envelope, body.to_vec())
}

fn check(salt: u64, place: u64, head: &EntryHead, body: &[u8]) -> u32 {
    let mut check = crc32c::crc32c(salt.as_bytes());
    for bytes in [place.as_bytes(), &head.as_bytes()[4..], body] {
        check = crc32c::crc32c_append(check, bytes);
    }
    check
}

/// A file did not take another's place.
struct Unreplaced {
    error: io::Error,
    /// Or it did.
    maybe: bool,
}

/// Puts a file of these bytes in the place of another: either stands there whole, whenever the machine ends.
fn replace(files: &dyn Files, path: &Path, bytes: &[u8]) -> Result<Box<dyn KeptFile>, Unreplaced> {
    let new = beside(path, "new");
    let made = files.create(&new).and_then(|file| {
        file.write(bytes, 0)?;
        file.sync()?;
        Ok(file)
    });
    let file = made.map_err(|error| {
        // It may have taken the last of the disk. If it stays, the next one takes its place.
        let _ = files.remove(&new);
        Unreplaced { error, maybe: false }
    })?;
    let replaced = files.rename(&new, path).and_then(|()| files.sync_folder(folder(path)));
    replaced.map_err(|error| Unreplaced { error, maybe: true })?;
    Ok(file)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn draw() -> Result<u64, KeepError> {
    getrandom::u64().map_err(|error| KeepError::Io(io::Error::other(error)))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}
