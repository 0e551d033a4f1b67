//! The parts that threads share, each by itself: for the tests that try their schedules. Not in any other build.

use crate::durable::Durable;
use crate::error::Error;
use crate::supply::{Maker, Supply};
use std::sync::Arc;

/// A supply with the thread that makes its segments, if one does.
pub struct Supplied {
    /// The supply.
    pub supply: Arc<Supply>,
    /// Ends the thread when it is dropped.
    _maker: Maker,
}

impl Supplied {
    /// The supply of a journal that stands in segment 0 and has segment 1. Where no thread makes its segments, whoever
    /// needs one does.
    pub fn start(
        background: bool,
        make: impl Fn(u64) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Supplied {
        let (supply, maker) = Supply::start(Box::new(make), 2, 0, background);
        Supplied { supply, _maker: maker }
    }
}

/// As the writer asks before it writes in this segment.
pub fn ready(supply: &Supply, segment: u64) -> Result<(), Error> {
    supply.ready(segment)
}

/// As the writer says that a record is durable.
pub fn advance(durable: &Durable, sequence: u64, next_block: u64) {
    durable.advance(sequence, next_block);
}

/// As the writer says that it has stopped.
pub fn stop(durable: &Durable) {
    durable.stop();
}
