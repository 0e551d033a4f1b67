//! What a [`Keep`](crate::Keep) asks of a file system, in one place.
//!
//! [`SystemFiles`] is the machine's own. Tests have another one, of which each call fails in turn, and which forgets
//! what was not synced. It is not the journal's disk: that one knows whole blocks in files that never get shorter.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Result};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A file system, as far as a keep needs one.
pub trait Files: Send {
    /// Takes the lock that this file stands for, until it is dropped; made when it is not there. None when another has
    /// it.
    fn lock(&self, path: &Path) -> Result<Option<Box<dyn Send>>>;
    /// Opens a file, for reading and writing. None when there is none.
    fn open(&self, path: &Path) -> Result<Option<Box<dyn KeptFile>>>;
    /// Makes an empty file; one that is there is emptied.
    fn create(&self, path: &Path) -> Result<Box<dyn KeptFile>>;
    /// Gives a file another name, in place of the one that has it.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &Path) -> Result<()>;
}

/// An open file.
pub trait KeptFile: Send {
    /// All its bytes.
    fn read(&self) -> Result<Vec<u8>>;
    /// Writes all these bytes. On an error some of them may stand there.
    fn write(&self, bytes: &[u8], offset: u64) -> Result<()>;
    /// Cuts it off after so many bytes.
    fn cut(&self, bytes: u64) -> Result<()>;
    /// Makes what was written and the file's length durable.
    fn sync(&self) -> Result<()>;
}

/// The machine's own file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemFiles;

impl Files for SystemFiles {
    fn lock(&self, path: &Path) -> Result<Option<Box<dyn Send>>> {
        let file = File::create(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn open(&self, path: &Path) -> Result<Option<Box<dyn KeptFile>>> {
        match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => Ok(Some(Box::new(file))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&self, path: &Path) -> Result<Box<dyn KeptFile>> {
        let mut options = OpenOptions::new();
        Ok(Box::new(options.read(true).write(true).create(true).truncate(true).open(path)?))
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
}

impl KeptFile for File {
    fn read(&self) -> Result<Vec<u8>> {
        let (mut file, mut bytes) = (self, Vec::new());
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn cut(&self, bytes: u64) -> Result<()> {
        self.set_len(bytes)
    }

    fn sync(&self) -> Result<()> {
        self.sync_all()
    }
}
