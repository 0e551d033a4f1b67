//! What can be wrong with a journal.

use crate::block::BLOCK;
use pabal_fault::{Point, reached};
use std::path::{Path, PathBuf};

/// What is wrong with a journal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operation on a file failed.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process has the journal open for writing.
    #[error("{0}: another process is writing this journal; stop it first")]
    Locked(PathBuf),
    /// A block is neither as it was before its write nor as it was written.
    #[error("{file}, byte {offset}: {what}; nothing of this journal is served, restore it from a copy")]
    Rotten {
        /// The segment file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What does not fit.
        what: &'static str,
    },
    /// A file that does not belong into the folder, or one that is missing or of the wrong length.
    #[error("{file}: {what}")]
    Folder {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// No entry begins at this position.
    #[error("no entry begins at position {0}")]
    NoEntry(u64),
    /// The one who was shown the records refused one.
    #[error("{0}")]
    Visitor(Box<dyn std::error::Error + Send + Sync>),
    /// An earlier write or sync failed: nothing is written after it.
    #[error("an earlier write failed; the journal takes nothing more until it is opened anew")]
    Stopped,
}

impl Error {
    /// Whether there was no room for a file.
    pub(crate) fn is_full(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Error::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }

    /// Each of these names the branch in which it is made, so that none is taken uncounted.
    pub(crate) fn io(point: Point, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Error {
        move |source| {
            reached(point);
            Error::Io { path: path.as_ref().into(), source }
        }
    }

    pub(crate) fn rotten(point: Point, file: PathBuf, block: u64, what: &'static str) -> Error {
        reached(point);
        Error::Rotten { file, offset: block * BLOCK as u64, what }
    }

    pub(crate) fn folder(point: Point, file: PathBuf, what: &'static str) -> Error {
        reached(point);
        Error::Folder { file, what }
    }

    pub(crate) fn no_entry(point: Point, position: u64) -> Error {
        reached(point);
        Error::NoEntry(position)
    }
}
