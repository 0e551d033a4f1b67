//! A disk in memory: what was written and what is durable of it. Every operation is one at which the other threads
//! may go on, and what takes several blocks goes block by block. It fails when told to, in one way at a time.

use pabal_journal::BLOCK;
use pabal_journal::disk::{Disk, DiskFile, Lock, Mapped, Writing};
use shuttle::rand::{Rng, thread_rng};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
// The machine's own: never held while another thread may go on.
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Writing a record: it is not there, or half of it.
    Write,
    /// Making a record durable: whether it is, nobody knows.
    Sync,
    /// Taking the space of a new segment.
    Full,
    /// Making a new segment durable.
    Make,
}

#[derive(Default)]
struct Content {
    written: Vec<u8>,
    durable: Vec<u8>,
}

type Files = BTreeMap<PathBuf, Arc<Mutex<Content>>>;

#[derive(Default)]
struct State {
    files: Files,
    /// The names that are durable.
    named: Files,
    /// Shared locks of each folder; exclusive is `u32::MAX`.
    locks: BTreeMap<PathBuf, u32>,
    maps: BTreeMap<PathBuf, Arc<Memory>>,
    /// What fails, after how many times that it does not.
    fault: Option<(Fault, u32)>,
    /// Whether it did.
    failed: bool,
}

/// A disk.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

impl MemoryDisk {
    /// What would be there after a loss of power now. Nobody writes it: it can be read as the dead are.
    pub fn after_a_loss_of_power(&self) -> MemoryDisk {
        let of = |content: &Arc<Mutex<Content>>| {
            let durable = content.lock().expect("not poisoned").durable.clone();
            Arc::new(Mutex::new(Content { written: durable.clone(), durable }))
        };
        let state = self.state();
        let named: Files = state.named.iter().map(|(path, content)| (path.clone(), of(content))).collect();
        MemoryDisk(Arc::new(Mutex::new(State { files: named.clone(), named, ..State::default() })))
    }

    /// This fails after so many times that it does not, and from then on.
    pub fn fail(&self, fault: Fault, after: u32) {
        self.state().fault = Some((fault, after));
    }

    /// Nothing fails any more.
    pub fn mend(&self) {
        self.state().fault = None;
    }

    /// Whether anything has failed.
    pub fn failed(&self) -> bool {
        self.state().failed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("not poisoned")
    }

    fn fails(&self, kind: Fault) -> bool {
        let mut state = self.state();
        match &mut state.fault {
            Some((fault, 0)) if *fault == kind => {
                state.failed = true;
                true
            }
            Some((fault, after)) if *fault == kind => {
                *after -= 1;
                false
            }
            _ => false,
        }
    }

    fn file(&self, path: &Path, content: Arc<Mutex<Content>>) -> Arc<dyn DiskFile> {
        let spare = path.extension().is_some_and(|ending| ending == "tmp");
        Arc::new(MemoryFile { disk: self.clone(), content, spare })
    }
}

/// The others may go on here.
fn pause() {
    shuttle::thread::sleep(Duration::ZERO);
}

impl Disk for MemoryDisk {
    fn make_folder(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn names(&self, folder: &Path) -> Result<Vec<OsString>> {
        pause();
        let state = self.state();
        let inside = state.files.keys().filter(|path| path.parent() == Some(folder));
        Ok(inside.filter_map(|path| path.file_name()).map(OsString::from).collect())
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn DiskFile>> {
        pause();
        let content = self.state().files.get(path).cloned().ok_or(ErrorKind::NotFound)?;
        Ok(self.file(path, content))
    }

    fn open_to_write(&self, path: &Path, how: Writing) -> Result<Arc<dyn DiskFile>> {
        if how.new {
            let made = Arc::default();
            match self.state().files.insert(path.into(), Arc::clone(&made)) {
                None => return Ok(self.file(path, made)),
                Some(_) => return Err(ErrorKind::AlreadyExists.into()),
            }
        }
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        pause();
        let mut state = self.state();
        let content = state.files.remove(from).ok_or(ErrorKind::NotFound)?;
        state.files.insert(to.into(), content);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.state().files.remove(path).map(drop).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn sync_folder(&self, folder: &Path) -> Result<()> {
        pause();
        let mut state = self.state();
        let State { files, named, .. } = &mut *state;
        named.retain(|path, _| path.parent() != Some(folder));
        let inside = files.iter().filter(|(path, _)| path.parent() == Some(folder));
        named.extend(inside.map(|(path, content)| (path.clone(), content.clone())));
        Ok(())
    }

    fn sync_path(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn lock(&self, folder: &Path, shared: bool) -> Result<Option<Box<dyn Lock>>> {
        pause();
        let mut state = self.state();
        let held = state.locks.entry(folder.into()).or_default();
        match (*held, shared) {
            (0, false) => *held = u32::MAX,
            (u32::MAX, _) | (_, false) => return Ok(None),
            _ => *held += 1,
        }
        Ok(Some(Box::new(Held { disk: self.clone(), folder: folder.into(), shared })))
    }

    fn map(&self, path: &Path, bytes: usize) -> Result<Box<dyn Mapped>> {
        let memory = self.state().maps.entry(path.into()).or_insert_with(|| Memory::of(bytes)).clone();
        Ok(Box::new(Map(memory)))
    }
}

struct Held {
    disk: MemoryDisk,
    folder: PathBuf,
    shared: bool,
}

impl Lock for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        let held = state.locks.entry(std::mem::take(&mut self.folder)).or_default();
        *held = if self.shared { *held - 1 } else { 0 };
    }
}

struct MemoryFile {
    disk: MemoryDisk,
    content: Arc<Mutex<Content>>,
    /// Whether it is a segment that is being made.
    spare: bool,
}

impl MemoryFile {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().expect("not poisoned")
    }

    fn settle(&self) {
        let mut content = self.content();
        content.durable = content.written.clone();
    }
}

impl DiskFile for MemoryFile {
    fn length(&self) -> Result<u64> {
        Ok(self.content().written.len() as u64)
    }

    fn read(&self, into: &mut [u8], offset: u64) -> Result<()> {
        for (i, part) in into.chunks_mut(BLOCK).enumerate() {
            pause();
            let from = offset as usize + i * BLOCK;
            let content = self.content();
            let bytes = content.written.get(from..from + part.len()).ok_or(ErrorKind::UnexpectedEof)?;
            part.copy_from_slice(bytes);
        }
        Ok(())
    }

    fn reserve(&self, _: u64) -> Result<bool> {
        if self.disk.fails(Fault::Full) { Err(ErrorKind::StorageFull.into()) } else { Ok(false) }
    }

    fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let fails = !self.spare && self.disk.fails(Fault::Write);
        let blocks = bytes.len().div_ceil(BLOCK);
        let written = if fails { thread_rng().gen_range(0..=blocks) } else { blocks };
        for (i, part) in bytes.chunks(BLOCK).enumerate().take(written) {
            if !self.spare {
                pause();
            }
            let from = offset as usize + i * BLOCK;
            let mut content = self.content();
            let length = content.written.len().max(from + part.len());
            content.written.resize(length, 0);
            content.written[from..from + part.len()].copy_from_slice(part);
        }
        if fails { Err(Error::from_raw_os_error(5)) } else { Ok(()) }
    }

    fn sync(&self) -> Result<()> {
        pause();
        if self.disk.fails(Fault::Sync) {
            if thread_rng().r#gen() {
                self.settle();
            }
            return Err(Error::from_raw_os_error(5));
        }
        self.settle();
        Ok(())
    }

    fn sync_all(&self) -> Result<()> {
        pause();
        if self.disk.fails(Fault::Make) {
            return Err(Error::from_raw_os_error(5));
        }
        self.settle();
        Ok(())
    }
}

/// Memory at a page's beginning, zero at first.
struct Memory {
    _words: Box<[u64]>,
    first: NonNull<u8>,
}

const PAGE: usize = 4096;

impl Memory {
    fn of(bytes: usize) -> Arc<Memory> {
        let mut words = vec![0u64; (bytes + PAGE) / 8].into_boxed_slice();
        let first = words.as_mut_ptr().cast::<u8>();
        // SAFETY: less than a page further, and there is a page more than is asked for.
        let first = unsafe { first.add(first.align_offset(PAGE)) };
        Arc::new(Memory { _words: words, first: NonNull::new(first).expect("not null") })
    }
}

// SAFETY: whoever maps it is the only one to use it, by the journal's lock.
unsafe impl Send for Memory {}
// SAFETY: the same.
unsafe impl Sync for Memory {}

struct Map(Arc<Memory>);

impl Mapped for Map {
    fn memory(&self) -> NonNull<u8> {
        self.0.first
    }
}
