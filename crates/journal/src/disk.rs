//! The disk: everything that the journal asks of a file system, in one place.
//!
//! [`SystemDisk`] is the machine's own. The simulator has another one that tears, loses, reorders, rots and
//! fills up. Paths are only names here; nothing of a file system is used that is not named by this trait.

use crate::sync::TRIED;
use rustix::fs::{Advice, FallocateFlags, FlockOperation, OFlags, fadvise, fallocate, flock, statvfs};
use rustix::io::{Errno, retry_on_intr};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Result};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

/// How a file is opened for writing.
#[derive(Clone, Copy, Debug)]
pub struct Writing {
    /// Made now; it is an error when it is there already.
    pub new: bool,
    /// Past the page cache, where the file system can.
    pub direct: bool,
}

/// A file system.
pub trait Disk: Send + Sync {
    /// Makes a folder and those that it is in.
    fn make_folder(&self, folder: &Path) -> Result<()>;
    /// The names in a folder.
    fn names(&self, folder: &Path) -> Result<Vec<OsString>>;
    /// Opens for reading.
    fn open(&self, path: &Path) -> Result<Arc<dyn DiskFile>>;
    /// Opens for writing.
    fn open_to_write(&self, path: &Path, how: Writing) -> Result<Arc<dyn DiskFile>>;
    /// Gives a file another name.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &Path) -> Result<()>;
    /// Makes the names of this folder and of the one that it is in durable: what is acknowledged in a folder that
    /// a loss of power takes away is lost with it.
    fn sync_path(&self, folder: &Path) -> Result<()>;
    /// Takes the folder's lock, shared or exclusive, until it is dropped. None when another has it.
    fn lock(&self, folder: &Path, shared: bool) -> Result<Option<Box<dyn Lock>>>;
    /// Memory of a file of this length that outlives the process: made, its space taken, when it is not there.
    fn map(&self, path: &Path, bytes: usize) -> Result<Box<dyn Mapped>>;
    /// Bytes that whoever asks may still take on the disk of this folder; no bound where it is not known.
    fn free_bytes(&self, folder: &Path) -> Result<u64> {
        let _ = folder;
        Ok(u64::MAX)
    }
    /// Tells whoever looks after the machine what is wrong on it, though the bank goes on. Nobody looks after a disk
    /// that is made up.
    fn tell(&self, what: &str) {
        let _ = what;
    }
    /// Whether what is read may be worked on by several threads. Not in a world that is made up, whose steps must
    /// follow one another in the same way each time.
    fn has_threads(&self) -> bool {
        false
    }
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Its length in bytes.
    fn length(&self) -> Result<u64>;
    /// Reads all these bytes.
    fn read(&self, into: &mut [u8], offset: u64) -> Result<()>;
    /// Takes the space of the first bytes, so that a disk without it is found out before anything is written; from then
    /// on the file is as long, and what was never written reads as zero. False where the file system cannot: then
    /// nothing was done, and the writing itself finds out.
    fn reserve(&self, bytes: u64) -> Result<bool>;
    /// Writes all these bytes.
    fn write(&self, bytes: &[u8], offset: u64) -> Result<()>;
    /// Makes what was written durable.
    fn sync(&self) -> Result<()>;
    /// Makes what was written and the file's length durable.
    fn sync_all(&self) -> Result<()>;
    /// Says that these bytes will be read soon. Changes nothing.
    fn will_read(&self, offset: u64, bytes: u64) {
        let _ = (offset, bytes);
    }
}

/// A lock, held until dropped.
pub trait Lock: Send {}

/// Memory that outlives the process.
pub trait Mapped: Send {
    /// Where it lies; page-aligned, as long as was asked for, valid until this is dropped.
    fn memory(&self) -> NonNull<u8>;
}

/// Calls again when a signal came between, where the library does not.
fn uninterrupted<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// The machine's own file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn tell(&self, what: &str) {
        eprintln!("{what}");
    }

    fn make_folder(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder)
    }

    fn names(&self, folder: &Path) -> Result<Vec<OsString>> {
        uninterrupted(|| std::fs::read_dir(folder))?.map(|entry| entry.map(|e| e.file_name())).collect()
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(File::open(path)?))
    }

    fn open_to_write(&self, path: &Path, how: Writing) -> Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(how.new);
        if how.direct {
            let flags = OFlags::DIRECT.bits() as i32;
            match options.clone().custom_flags(flags).open(path) {
                Err(error) if error.kind() == ErrorKind::InvalidInput => {
                    // The file system has no direct writing (tmpfs); some make the file before they say so.
                    if how.new {
                        let _ = std::fs::remove_file(path);
                    }
                }
                other => return Ok(Arc::new(other?)),
            }
        }
        Ok(Arc::new(options.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_folder(&self, folder: &Path) -> Result<()> {
        File::open(folder)?.sync_all()
    }

    fn sync_path(&self, folder: &Path) -> Result<()> {
        for above in folder.canonicalize()?.ancestors().skip(1).take(2) {
            match File::open(above) {
                // Not ours to read, so not made by us either.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => break,
                file => file?.sync_all()?,
            }
        }
        Ok(())
    }

    fn lock(&self, folder: &Path, shared: bool) -> Result<Option<Box<dyn Lock>>> {
        let folder = File::open(folder)?;
        let operation = match shared {
            true => FlockOperation::NonBlockingLockShared,
            false => FlockOperation::NonBlockingLockExclusive,
        };
        match retry_on_intr(|| flock(&folder, operation)) {
            Ok(()) => Ok(Some(Box::new(folder))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn map(&self, path: &Path, bytes: usize) -> Result<Box<dyn Mapped>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        // Its space is taken now, also where a file system cannot reserve any: a page that finds the disk full when
        // it is first written would end the process.
        let there = file.metadata()?.len().min(bytes as u64);
        file.write_all_at(&vec![0; bytes - there as usize], there)?;
        file.set_len(bytes as u64)?;
        file.reserve(bytes as u64)?;
        // SAFETY: a fresh shared mapping of a file of this length; nobody else maps it (the journal's lock is held).
        let map = unsafe {
            mmap(std::ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &file, 0)
        }?;
        let memory = NonNull::new(map.cast()).ok_or(ErrorKind::OutOfMemory)?;
        Ok(Box::new(Mapping { memory, bytes }))
    }

    fn free_bytes(&self, folder: &Path) -> Result<u64> {
        let space = retry_on_intr(|| statvfs(folder))?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    fn has_threads(&self) -> bool {
        !TRIED
    }
}

impl DiskFile for File {
    fn length(&self) -> Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read(&self, into: &mut [u8], offset: u64) -> Result<()> {
        self.read_exact_at(into, offset)
    }

    fn reserve(&self, bytes: u64) -> Result<bool> {
        match retry_on_intr(|| fallocate(self, FallocateFlags::empty(), 0, bytes)) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> Result<()> {
        self.sync_data()
    }

    fn sync_all(&self) -> Result<()> {
        File::sync_all(self)
    }

    fn will_read(&self, offset: u64, bytes: u64) {
        // Advice only: what cannot take it reads when it is asked to.
        let _ = fadvise(self, offset, NonZeroU64::new(bytes), Advice::WillNeed);
    }
}

impl Lock for File {}

struct Mapping {
    memory: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping belongs to this value alone; it moves with it between threads.
unsafe impl Send for Mapping {}

impl Mapped for Mapping {
    fn memory(&self) -> NonNull<u8> {
        self.memory
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped with this length, and not used after.
        let _ = unsafe { munmap(self.memory.as_ptr().cast(), self.bytes) };
    }
}
