//! A folder for what is decoded from files, in memory where the system has such a file system.

use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder of this process, empty again whenever it is asked to be.
pub struct Scratch(TempDir);

impl Scratch {
    /// A new one.
    pub fn new() -> Scratch {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Scratch(folder.expect("a folder can be made"))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// An empty folder in it, of this name.
    pub fn empty(&self, name: &str) -> PathBuf {
        let folder = self.path().join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).expect("a folder can be made");
        folder
    }
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch::new()
    }
}
