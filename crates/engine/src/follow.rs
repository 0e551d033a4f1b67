//! Following the journal: every durable record from a position on, in order, as it comes.

use pabal_fault::{Bug, Point, planted, reached};
use pabal_journal::{Durable, Error, Reader, Record};
use std::sync::Arc;
use std::time::Duration;

/// Reads records one after the other, never beyond what is durable.
pub struct Follower {
    pub(crate) reader: Reader,
    pub(crate) durable: Arc<Durable>,
    pub(crate) next_block: u64,
    pub(crate) next_sequence: u64,
}

impl Follower {
    /// Hands the next record to `take`, waiting for it at most so long. False when none came.
    pub fn next(&mut self, wait: Duration, take: impl FnOnce(&Record<'_>)) -> Result<bool, Error> {
        if !self.durable.wait_sequence(self.next_sequence, wait) {
            return Ok(false);
        }
        let (end, sequence) = self
            .reader
            .record_after(self.next_block, self.next_sequence, take)
            .inspect_err(|_| reached(Point::FollowNext))?;
        self.next_block = end;
        self.next_sequence = sequence + 1;
        if planted(Bug::RecordSkipped) && sequence.is_multiple_of(5) && self.durable.sequence() > sequence {
            (self.next_block, _) = self.reader.record_after(end, sequence + 1, |_| ())?;
            self.next_sequence += 1;
        }
        Ok(true)
    }
}
