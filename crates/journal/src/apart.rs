//! Scanning on one thread while another decides what was read again: reading, checks and hashes take as long as the
//! decisions do, and neither needs the other's result.
//!
//! *What it must not change.* Who is shown the records sees the same ones in the same order, and hears the same error:
//! whatever is wrong with a record is said after all before it were shown, and a refusal comes before what the scan
//! found further on. So the scan may know more than was shown, and says nothing of it.
//!
//! *What bounds it.* [`RECORDS_AHEAD`] records, and [`SEGMENTS`] of memory.

use crate::error::Error;
use crate::record::{Record, RecordHeader};
use crate::scan::Visit;
use pabal_fault::{Point, reached};
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread;

/// Records that were read and not shown yet, at most: as many large ones as take the time in which a segment is read.
const RECORDS_AHEAD: usize = 64;
/// Segments in memory at a time: one is read while the records of the one before are shown.
const SEGMENTS: usize = 2;

/// A record that was read and checked, where it lies in its segment.
pub(crate) struct Found {
    pub header: RecordHeader,
    pub start_block: u64,
    pub hash: [u8; 32],
    pub segment: Arc<Segment>,
    pub range: Range<usize>,
}

impl Found {
    /// Shows it.
    fn to(&self, visit: Visit<'_>) -> Result<(), Error> {
        let blocks = &self.segment.bytes[self.range.clone()];
        visit(&Record { header: &self.header, start_block: self.start_block, hash: self.hash, blocks })
            .map_err(|refused| {
                reached(Point::ScanVisitor);
                Error::Visitor(refused)
            })
    }
}

/// Takes the records of a scan.
pub(crate) type Take<'t> = &'t mut dyn FnMut(Found) -> Result<(), Error>;

/// Scans and shows each record as it is found: the same steps in the same order each time.
pub(crate) fn in_turn<T>(
    visit: Visit<'_>,
    scan: impl FnOnce(Take<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    scan(&mut |found| found.to(visit))
}

/// Scans on a thread of its own, and shows on this one.
pub(crate) fn apart<T: Send>(
    visit: Visit<'_>,
    scan: impl FnOnce(Take<'_>) -> Result<T, Error> + Send,
) -> Result<T, Error> {
    thread::scope(|scope| {
        let (found_to, found) = sync_channel::<Found>(RECORDS_AHEAD);
        let scanning = move || {
            scan(&mut |found| match found_to.send(found) {
                Ok(()) => Ok(()),
                Err(_) => {
                    // What refused it is heard there; this only ends the scan.
                    reached(Point::ScanUnheard);
                    Err(Error::Stopped)
                }
            })
        };
        let thread = thread::Builder::new().name("pabal-scan".into());
        let scanning = thread.spawn_scoped(scope, scanning).expect("a thread at the start");
        // Gone with the loop, also by a panic: the scan must not wait for room then.
        let shown = found.into_iter().try_for_each(|found| found.to(visit));
        let scanned = scanning.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        shown.and(scanned)
    })
}

/// A segment in memory, given back for the next one when nobody needs it any more.
pub(crate) struct Segment {
    pub bytes: Vec<u8>,
    back_to: Sender<Vec<u8>>,
}

impl Drop for Segment {
    fn drop(&mut self) {
        // The scan may have ended.
        let _ = self.back_to.send(std::mem::take(&mut self.bytes));
    }
}

/// The memory for segments.
pub(crate) struct Segments {
    back_to: Sender<Vec<u8>>,
    back: Receiver<Vec<u8>>,
}

impl Segments {
    /// None read yet.
    pub fn new() -> Segments {
        let (back_to, back) = channel();
        (0..SEGMENTS).for_each(|_| back_to.send(Vec::new()).expect("the other end is here"));
        Segments { back_to, back }
    }

    /// Memory for another one: waits until one is needed no more. There will be, as whoever scans keeps records of one
    /// segment at most.
    pub fn next(&self) -> Segment {
        let bytes = self.back.recv().expect("an end to send to is here");
        Segment { bytes, back_to: self.back_to.clone() }
    }
}
