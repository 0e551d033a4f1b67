//! The writer: one record, one write, one `fdatasync`; then the next.

use crate::block::{BLOCK, BlockHeader, KIND_RECORD, MAGIC, UNIT, check};
use crate::buffer::RecordBuffer;
use crate::durable::Durable;
use crate::error::Error;
use crate::record::RecordHeader;
use crate::scan::{By, Cut, Visit, scan};
use crate::segment::{self, Layout, SEGMENT_BLOCKS_DEFAULT};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use zerocopy::{FromBytes, IntoBytes};

/// How long an opening waits for the lock: much longer than a reader has it, which is microseconds.
const LOCK_PATIENCE: Duration = Duration::from_millis(300);

/// How a journal is made and written.
#[derive(Clone, Copy, Debug)]
pub struct JournalConfig {
    /// Blocks of 4 KiB of a segment; counts only when the journal is made.
    pub segment_blocks: u32,
    /// Whether to write past the page cache.
    pub direct: bool,
}

impl Default for JournalConfig {
    fn default() -> Self {
        JournalConfig { segment_blocks: SEGMENT_BLOCKS_DEFAULT, direct: true }
    }
}

/// What an opening found.
#[derive(Clone, Copy, Debug)]
pub struct Recovered {
    /// Records, closing ones included.
    pub records: u64,
    /// Header of the last one.
    pub last: Option<RecordHeader>,
    /// The torn record that was cut.
    pub cut: Option<Cut>,
    /// Whether the last stop was an orderly one (also of a journal that was just made).
    pub orderly: bool,
}

/// The journal, open for writing. Holds a lock on its folder.
pub struct Journal {
    dir: PathBuf,
    layout: Layout,
    journal_id: u64,
    direct: bool,
    file: File,
    segment: u64,
    next_block: u64,
    previous_block: u64,
    sequence: u64,
    hash: [u8; 32],
    durable: Arc<Durable>,
    spares: Spares,
    stopped: bool,
    /// Keeps the lock.
    _folder: File,
}

impl Journal {
    /// Opens the journal of this folder, making it with this id when there is none, and shows every record.
    /// A torn record at the end is cut; anything else that does not fit is an error and nothing is changed.
    pub fn open(
        dir: &Path,
        config: &JournalConfig,
        journal_id: u64,
        visit: Visit<'_>,
    ) -> Result<(Journal, Recovered), Error> {
        std::fs::create_dir_all(dir).map_err(Error::io(dir))?;
        let folder = File::open(dir).map_err(Error::io(dir))?;
        lock(dir, &folder)?;
        segment::remove_unfinished(dir)?;
        let mut segments = segment::list(dir)?;
        if segments == 0 {
            let impossible = || Error::Folder { file: dir.to_path_buf(), what: segment::IMPOSSIBLE };
            let layout = Layout::of(config.segment_blocks as u64).ok_or_else(impossible)?;
            segment::make(dir, layout, journal_id, 0, config.direct)?;
            segments = 1;
        }
        // A process that was killed may have left names that are there and not durable yet.
        folder.sync_all().map_err(Error::io(dir))?;
        if segments == 1 {
            sync_names(dir)?;
        }
        let (layout, journal_id) = segment::identify(dir)?;
        let scanned = scan(dir, By::Writer, visit)?;
        let fresh = scanned.records == 0 && scanned.cut.is_none();
        let segment = scanned.next_block.saturating_sub(1) / layout.segment_blocks;
        let path = segment::path(dir, segment);
        let file = segment::open_direct(&path, config.direct, false)?;
        let (to, direct) = (dir.to_path_buf(), config.direct);
        let make = move |number| segment::make(&to, layout, journal_id, number, direct);
        let spares = Spares::start(make, segments, segment);
        let journal = Journal {
            dir: dir.to_path_buf(),
            layout,
            journal_id,
            direct: config.direct,
            file,
            segment,
            next_block: scanned.next_block,
            previous_block: scanned.last_block,
            sequence: scanned.records,
            hash: scanned.last_hash,
            durable: Arc::default(),
            spares,
            stopped: false,
            _folder: folder,
        };
        // The last whole record may not have been synced; from here on it counts.
        journal.file.sync_data().map_err(Error::io(&path))?;
        if let Some(cut) = &scanned.cut {
            journal.cut(cut)?;
        }
        journal.durable.advance(journal.sequence, journal.next_block);
        let recovered = Recovered {
            records: scanned.records,
            last: scanned.last,
            cut: scanned.cut,
            orderly: scanned.orderly || fresh,
        };
        Ok((journal, recovered))
    }

    fn cut(&self, cut: &Cut) -> Result<(), Error> {
        let path = segment::path(&self.dir, self.layout.segment_of(cut.from_block));
        let file = std::fs::OpenOptions::new().write(true).open(&path).map_err(Error::io(&path))?;
        let zeros = vec![0; cut.blocks as usize * BLOCK];
        file.write_all_at(&zeros, self.layout.offset_of(cut.from_block)).map_err(Error::io(&path))?;
        file.sync_data().map_err(Error::io(&path))
    }

    /// How blocks lie in segments.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The block after the last record.
    pub fn next_block(&self) -> u64 {
        self.next_block
    }

    /// The last record.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The acknowledged point.
    pub fn durable(&self) -> Arc<Durable> {
        self.durable.clone()
    }

    /// Writes a finished record. When this returns without an error the record is durable. After an error
    /// it is unknown whether it is, and the journal takes nothing more.
    pub fn append(&mut self, buffer: &mut RecordBuffer) -> Result<(), Error> {
        if self.stopped {
            return Err(Error::Stopped);
        }
        self.stopped = true;
        let written = self.write(buffer);
        match written {
            Ok(()) => self.stopped = false,
            Err(_) => self.durable.stop(),
        }
        written
    }

    fn write(&mut self, buffer: &mut RecordBuffer) -> Result<(), Error> {
        let start = buffer.start_block();
        let segment = self.layout.segment_of(start);
        let here = start == self.next_block && segment == self.segment;
        let rolled = segment == self.segment + 1 && start == self.layout.first_of(segment);
        assert!(here || rolled, "records follow one another");
        self.spares.ready(segment)?;
        if rolled {
            let path = segment::path(&self.dir, segment);
            self.file = segment::open_direct(&path, self.direct, false)?;
            self.segment = segment;
        }
        self.seal(buffer);
        let hash = *blake3::hash(buffer.bytes()).as_bytes();
        let path = || segment::path(&self.dir, segment);
        let offset = self.layout.offset_of(start);
        self.file.write_all_at(buffer.bytes(), offset).map_err(|e| Error::io(path())(e))?;
        self.file.sync_data().map_err(|e| Error::io(path())(e))?;
        self.hash = hash;
        self.previous_block = start;
        self.sequence += 1;
        self.next_block = buffer.end_block();
        self.durable.advance(self.sequence, self.next_block);
        Ok(())
    }

    /// Fills in what only the journal knows, and the check of each block.
    fn seal(&self, buffer: &mut RecordBuffer) {
        let (start, blocks) = (buffer.start_block(), buffer.blocks() as u32);
        let bytes = buffer.bytes_mut();
        let (header, _) =
            RecordHeader::mut_from_prefix(&mut bytes[UNIT..]).expect("aligned, and longer than its header");
        header.sequence = self.sequence + 1;
        header.previous_block = self.previous_block;
        header.previous_hash = self.hash;
        let mut head = BlockHeader {
            magic: MAGIC,
            sequence: self.sequence + 1,
            blocks,
            journal_id: self.journal_id,
            kind: KIND_RECORD,
            ..BlockHeader::default()
        };
        head.chain.copy_from_slice(&self.hash[..8]);
        for (i, block) in bytes.chunks_exact_mut(BLOCK).enumerate() {
            head.number = start + i as u64;
            head.index = i as u32;
            block[..UNIT].copy_from_slice(head.as_bytes());
            let check = check(block);
            block[..4].copy_from_slice(&check.to_le_bytes());
        }
    }
}

/// Makes the names of this folder and of the one that it is in durable: what is acknowledged in a folder that a
/// loss of power takes away is lost with it.
fn sync_names(dir: &Path) -> Result<(), Error> {
    let dir = dir.canonicalize().map_err(Error::io(dir))?;
    for folder in dir.ancestors().skip(1).take(2) {
        match File::open(folder) {
            // Not ours to read, so not made by us either.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => break,
            file => file.and_then(|file| file.sync_all()).map_err(Error::io(folder))?,
        }
    }
    Ok(())
}

impl Drop for Journal {
    /// Whoever waits for a record to be durable waits no longer, however the writer ended.
    fn drop(&mut self) {
        self.durable.stop();
    }
}

/// Takes the lock of a writer. Readers only try it, for a moment; another writer keeps it.
fn lock(dir: &Path, folder: &File) -> Result<(), Error> {
    let until = Instant::now() + LOCK_PATIENCE;
    while flock(folder, FlockOperation::NonBlockingLockExclusive).is_err() {
        if Instant::now() >= until {
            return Err(Error::Locked(dir.to_path_buf()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Makes the next segments in the background, so that a record never waits for one unless it is late.
struct Spares {
    /// The segment that is written now.
    current: u64,
    /// Segments that are there.
    made: u64,
    /// Segments that are there or were asked for.
    wanted: u64,
    asked: Option<Sender<u64>>,
    done: Receiver<Result<(), Error>>,
    thread: Option<JoinHandle<()>>,
}

/// Segments kept ready ahead of the one being written.
const SPARES_MAX: u64 = 2;

impl Spares {
    fn start(
        mut make: impl FnMut(u64) -> Result<(), Error> + Send + 'static,
        made: u64,
        current: u64,
    ) -> Spares {
        let (asked, requests) = channel::<u64>();
        let (answers, done) = channel();
        let make = move || {
            let mut next = made;
            for segment in requests {
                // None is made beyond one that could not be: it would be missing in between.
                if segment != next {
                    continue;
                }
                let result = make(segment);
                next += u64::from(result.is_ok());
                if answers.send(result).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("pabal-spares".into()).spawn(make);
        let thread = thread.expect("a thread at the start");
        let mut spares =
            Spares { current, made, wanted: made, asked: Some(asked), done, thread: Some(thread) };
        // One spare at first; a journal that fills its segments keeps more ahead.
        spares.want(current + 2);
        spares
    }

    /// Asks for the segments before this one.
    fn want(&mut self, end: u64) {
        while self.wanted < end
            && let Some(asked) = &self.asked
        {
            let _ = asked.send(self.wanted);
            self.wanted += 1;
        }
    }

    /// Before a record goes into this segment: the one after it is there, durably, so that segments gone from the
    /// journal's end are missed. Waits for it if it is still being made. That the disk was full when it was
    /// first tried, maybe hours ago, says nothing of now: it is tried once more.
    fn ready(&mut self, segment: u64) -> Result<(), Error> {
        if segment > self.current {
            self.current = segment;
            self.want(segment + 1 + SPARES_MAX);
        }
        let mut tries = 2;
        while self.made <= segment + 1 {
            match self.done.recv().map_err(|_| Error::Stopped)? {
                Ok(()) => self.made += 1,
                Err(error) => {
                    tries -= 1;
                    if tries == 0 || !error.is_full() {
                        return Err(error);
                    }
                    self.wanted = self.made;
                    self.want(segment + 1 + SPARES_MAX);
                }
            }
        }
        Ok(())
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        self.asked = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    fn fails(kind: ErrorKind) -> Error {
        Error::io("a segment")(kind.into())
    }

    /// Spares of a journal that stands in segment 0 and has segment 1; whether a segment can be made says `can`.
    fn spares(can: impl Fn(u64) -> Result<(), Error> + Send + 'static) -> (Spares, Arc<Mutex<Vec<u64>>>) {
        let made = Arc::new(Mutex::new(vec![0, 1]));
        let list = made.clone();
        let make = move |number| {
            can(number)?;
            list.lock().expect("not poisoned").push(number);
            Ok(())
        };
        (Spares::start(make, 2, 0), made)
    }

    /// Segment 3 without segment 2 is a folder that no bank opens any more, though nothing was lost.
    #[test]
    fn no_spare_is_made_beyond_one_that_could_not_be() {
        let (mut spares, made) = spares(|number| match number {
            2 => Err(fails(ErrorKind::PermissionDenied)),
            _ => Ok(()),
        });
        assert!(spares.ready(0).is_ok(), "nothing new is needed");
        assert!(spares.ready(1).is_err());
        drop(spares);
        assert_eq!(*made.lock().expect("not poisoned"), [0, 1]);
    }

    /// The disk was full when the spare was first tried and has room when it is needed.
    #[test]
    fn a_disk_that_was_full_is_tried_again_when_the_segment_is_needed() {
        let full = Arc::new(Mutex::new((true, 0)));
        let disk = full.clone();
        let (mut spares, made) = spares(move |_| {
            let mut disk = disk.lock().expect("not poisoned");
            disk.1 += 1;
            if disk.0 { Err(fails(ErrorKind::StorageFull)) } else { Ok(()) }
        });
        spares.want(3);
        while full.lock().expect("not poisoned").1 == 0 {
            std::thread::yield_now();
        }
        for _ in 0..3 {
            assert!(spares.ready(0).is_ok(), "the current segment has room");
        }
        full.lock().expect("not poisoned").0 = false;
        assert!(spares.ready(1).is_ok());
        full.lock().expect("not poisoned").0 = true;
        assert!(spares.ready(3).is_err(), "still full");
        drop(spares);
        let made = made.lock().expect("not poisoned");
        assert!(made.iter().copied().eq(0..made.len() as u64), "{made:?}");
    }
}
