//! The two lanes in which requests wait for the core.

use pabal_fault::{Point, reached};
use pabal_journal::sync::{Condvar, Mutex, MutexGuard, Patience, PoisonError};
use std::collections::VecDeque;
use std::time::Duration;

/// Requests waiting in the online lane at most.
pub const ONLINE_MAX: usize = 65_536;
/// Bytes of commands waiting in the online lane at most.
pub const ONLINE_BYTES_MAX: usize = 64 << 20;
/// Requests waiting in the bulk lane at most.
pub const BULK_MAX: usize = 64;

/// What waits: `weight` is its bytes.
pub(crate) struct Waiting<T> {
    pub item: T,
    pub weight: usize,
    pub commands: usize,
}

struct Lanes<T> {
    online: VecDeque<Waiting<T>>,
    online_bytes: usize,
    bulk: VecDeque<Waiting<T>>,
    stopping: bool,
}

/// The lanes.
pub(crate) struct Queue<T> {
    lanes: Mutex<Lanes<T>>,
    arrived: Condvar,
}

/// What the core is to do next.
pub(crate) enum Next<T> {
    /// Execute these together.
    Online(Vec<T>),
    /// Execute this one by itself.
    Bulk(T),
    /// Nothing came for a while.
    Idle,
    /// Nothing more will come.
    Stop,
}

impl<T> Queue<T> {
    pub fn new() -> Queue<T> {
        let lanes =
            Lanes { online: VecDeque::new(), online_bytes: 0, bulk: VecDeque::new(), stopping: false };
        Queue { lanes: Mutex::new(lanes), arrived: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Lanes<T>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts it into its lane, or gives it back when the lane is full or the engine is stopping.
    pub fn push(&self, bulk: bool, waiting: Waiting<T>) -> Result<(), T> {
        let mut lanes = self.lock();
        let full = if bulk {
            lanes.bulk.len() >= BULK_MAX
        } else {
            lanes.online.len() >= ONLINE_MAX || lanes.online_bytes + waiting.weight > ONLINE_BYTES_MAX
        };
        if full || lanes.stopping {
            reached(match (full, bulk) {
                (false, _) => Point::LaneClosed,
                (true, false) => Point::LaneOnlineFull,
                (true, true) => Point::LaneBulkFull,
            });
            return Err(waiting.item);
        }
        if bulk {
            lanes.bulk.push_back(waiting);
        } else {
            lanes.online_bytes += waiting.weight;
            lanes.online.push_back(waiting);
        }
        drop(lanes);
        self.arrived.notify_one();
        Ok(())
    }

    /// Waits for work: online requests together up to these many commands and bytes, else one bulk request.
    pub fn next(&self, idle: Duration, commands_max: usize, bytes_max: usize) -> Next<T> {
        let mut lanes = self.lock();
        let mut patience = Patience::of(idle);
        loop {
            if let Some(first) = lanes.online.pop_front() {
                let (mut commands, mut bytes) = (first.commands, first.weight);
                let mut batch = vec![first.item];
                while let Some(next) = lanes.online.front()
                    && commands + next.commands <= commands_max
                    && bytes + next.weight <= bytes_max
                {
                    commands += next.commands;
                    bytes += next.weight;
                    batch.extend(lanes.online.pop_front().map(|w| w.item));
                }
                lanes.online_bytes -= bytes;
                return Next::Online(batch);
            }
            if let Some(waiting) = lanes.bulk.pop_front() {
                return Next::Bulk(waiting.item);
            }
            if lanes.stopping {
                return Next::Stop;
            }
            if patience.is_out() {
                return Next::Idle;
            }
            lanes = patience.wait(&self.arrived, &self.lanes, lanes);
        }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        let lanes = self.lock();
        lanes.online.len() + lanes.bulk.len()
    }

    /// Lets nothing more in; what waits is still executed.
    pub fn stop(&self) {
        self.lock().stopping = true;
        self.arrived.notify_all();
    }

    /// Lets nothing more in and drops what waits: whoever asked hears that the outcome is unknown.
    pub fn abandon(&self) {
        let mut lanes = self.lock();
        lanes.stopping = true;
        if !lanes.online.is_empty() || !lanes.bulk.is_empty() {
            reached(Point::Abandoned);
        }
        lanes.online.clear();
        lanes.bulk.clear();
        lanes.online_bytes = 0;
    }
}
