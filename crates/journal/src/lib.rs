//! The journal: an append-only, hash-chained file of records, read in place.
//!
//! A folder of fixed-size segment files, each preallocated: zeroed, or where records are large reserved. A file is a row
//! of 4 KiB blocks; a block is 64 units of 64 bytes, the first its header (check, number, record, chain), the others
//! payload. A record is a run of whole blocks in one segment; its entries never straddle blocks, so an
//! entry is addressed by one number, its [`Position`], and read with one 4 KiB read.
//!
//! *Durable.* A record is written with one write and one `fdatasync`; the next write begins only after.
//! So whatever has a successor was durable, and only the last record can be torn.
//!
//! *Torn or rotten.* After a crash each block of the last record is as it was before (zero) or as it was
//! written (valid): such a tail is cut, and the cut is reported. A block that is neither, anywhere, is
//! rotten: the journal does not open, says where, and serves nothing of it. One disk cannot detect the
//! lost write of the very last record; a closing record, written when the core is idle, confirms it.
//!
//! Every opening makes what follows the last record durably blank before anything is written, also where it is seen to
//! be: what an interrupted cut hid must not come back.
//!
//! *Fail-stop.* After a failed write or sync nobody knows what the disk holds. It is never retried; the
//! journal refuses everything from then on, and the next opening reads what is there.
#![deny(missing_docs)]

#[cfg(target_endian = "big")]
compile_error!("journal bytes are little-endian and are read in place");

mod apart;
mod block;
mod buffer;
mod cache;
pub mod disk;
mod durable;
mod error;
#[cfg(feature = "shuttle")]
pub mod parts;
mod reader;
mod record;
mod scan;
mod segment;
mod supply;
pub mod sync;
mod writer;

pub use block::{BLOCK, ENTRY_UNITS_MAX, Position, UNIT, UNITS};
pub use buffer::{Mark, RecordBuffer, RecordMeta};
pub use disk::{Disk, SystemDisk};
pub use durable::Durable;
pub use error::Error;
pub use reader::Reader;
pub use record::{FORMAT, RECORD_BLOCKS_MAX, Record, RecordHeader, RecordKind};
pub use scan::{After, Cut, Scanned, verify};
pub use segment::{Layout, SEGMENT_BLOCKS_DEFAULT};
pub use supply::Supply;
pub use writer::{Journal, JournalConfig, Recovered};
