//! The acknowledged point: how far the journal is durable.

use crate::sync::{Condvar, Mutex, Patience, PoisonError};
use std::time::Duration;

#[derive(Clone, Copy, Default)]
struct Point {
    sequence: u64,
    next_block: u64,
    stopped: bool,
}

/// The acknowledged point, shared between the writer and those who read behind it.
#[derive(Default)]
pub struct Durable {
    point: Mutex<Point>,
    moved: Condvar,
}

impl Durable {
    pub(crate) fn advance(&self, sequence: u64, next_block: u64) {
        let mut point = self.point.lock().unwrap_or_else(PoisonError::into_inner);
        (point.sequence, point.next_block) = (sequence, next_block);
        drop(point);
        self.moved.notify_all();
    }

    pub(crate) fn stop(&self) {
        self.point.lock().unwrap_or_else(PoisonError::into_inner).stopped = true;
        self.moved.notify_all();
    }

    /// The last durable record.
    pub fn sequence(&self) -> u64 {
        self.point.lock().unwrap_or_else(PoisonError::into_inner).sequence
    }

    /// The block after the last durable record.
    pub fn next_block(&self) -> u64 {
        self.point.lock().unwrap_or_else(PoisonError::into_inner).next_block
    }

    /// Whether the writer is gone: nothing more will be durable.
    pub fn is_stopped(&self) -> bool {
        self.point.lock().unwrap_or_else(PoisonError::into_inner).stopped
    }

    /// Waits until every block before this one is durable, or the journal has stopped; says whether they are.
    pub fn wait_for(&self, block: u64) -> bool {
        let mut point = self.point.lock().unwrap_or_else(PoisonError::into_inner);
        while point.next_block < block && !point.stopped {
            point = self.moved.wait(point).unwrap_or_else(PoisonError::into_inner);
        }
        point.next_block >= block
    }

    /// Waits at most so long until this record is durable; says whether it is.
    pub fn wait_sequence(&self, sequence: u64, wait: Duration) -> bool {
        let mut patience = Patience::of(wait);
        let mut point = self.point.lock().unwrap_or_else(PoisonError::into_inner);
        while point.sequence < sequence && !point.stopped && !patience.is_out() {
            point = patience.wait(&self.moved, &self.point, point);
        }
        point.sequence >= sequence
    }
}
