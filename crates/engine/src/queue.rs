//! The two lanes in which requests wait for the core.

use pabal_fault::{Point, reached};
use pabal_journal::sync::{Condvar, Mutex, MutexGuard, Patience, PoisonError, TRIED};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Requests waiting in the online lane at most.
pub const ONLINE_MAX: usize = 65_536;
/// Bytes of commands waiting in the online lane at most.
pub const ONLINE_BYTES_MAX: usize = 64 << 20;
/// Requests waiting in the bulk lane at most.
pub const BULK_MAX: usize = 64;

/// Commands that make a record worth writing while another is being written. Fewer wait until it is written: each
/// record costs the disk the same, so many small ones in a row would make everybody wait longer. Where schedules are
/// tried two are many, so that both ways to write are.
pub(crate) const GROUP_MIN: usize = if TRIED { 2 } else { 1024 };

/// What waits: `weight` is its bytes.
pub(crate) struct Waiting<T> {
    pub item: T,
    pub weight: usize,
    pub commands: usize,
}

struct Lanes<T> {
    online: Turns<T>,
    bulk: VecDeque<Waiting<T>>,
    /// Whether the core waits for work: only then is it woken, as each waking is a call of the system.
    waits: bool,
    /// Records on their way to the disk.
    writing: usize,
    stopping: bool,
}

impl<T> Lanes<T> {
    /// Whether what is in the online lane waits for a record to be written, so that more come together.
    fn is_held(&self, groups: bool) -> bool {
        groups && self.writing > 0 && self.online.commands < GROUP_MIN && !self.stopping
    }
}

/// The online lane: senders take turns, one request each, so that whoever floods waits behind itself. What one sender
/// sent stays in its order.
struct Turns<T> {
    /// Whose turn comes when. Each sender that has something waiting is there once.
    order: VecDeque<u64>,
    of: BTreeMap<u64, VecDeque<Waiting<T>>>,
    len: usize,
    commands: usize,
    bytes: usize,
}

impl<T> Turns<T> {
    fn none() -> Turns<T> {
        Turns { order: VecDeque::new(), of: BTreeMap::new(), len: 0, commands: 0, bytes: 0 }
    }

    fn push(&mut self, sender: u64, waiting: Waiting<T>) {
        self.len += 1;
        self.commands += waiting.commands;
        self.bytes += waiting.weight;
        let its = self.of.entry(sender).or_default();
        if its.is_empty() {
            self.order.push_back(sender);
        }
        its.push_back(waiting);
    }

    /// The request whose turn it is, if it has at most so many commands and bytes.
    fn pop(&mut self, commands_max: usize, bytes_max: usize) -> Option<Waiting<T>> {
        let sender = *self.order.front()?;
        let its = self.of.get_mut(&sender)?;
        let next = its.front()?;
        if next.commands > commands_max || next.weight > bytes_max {
            return None;
        }
        let next = its.pop_front()?;
        self.order.pop_front();
        if its.is_empty() {
            self.of.remove(&sender);
        } else {
            self.order.push_back(sender);
        }
        self.len -= 1;
        self.commands -= next.commands;
        self.bytes -= next.weight;
        Some(next)
    }
}

/// The lanes.
pub(crate) struct Queue<T> {
    lanes: Mutex<Lanes<T>>,
    arrived: Condvar,
    /// Whether small requests are held while a record is being written. Not where the owner says what comes next.
    groups: bool,
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
    pub fn new(groups: bool) -> Queue<T> {
        let lanes =
            Lanes { online: Turns::none(), bulk: VecDeque::new(), waits: false, writing: 0, stopping: false };
        Queue { lanes: Mutex::new(lanes), arrived: Condvar::new(), groups }
    }

    fn lock(&self) -> MutexGuard<'_, Lanes<T>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts it into its lane, or gives it back when the lane is full or the engine is stopping.
    pub fn push(&self, sender: u64, bulk: bool, waiting: Waiting<T>) -> Result<(), T> {
        let mut lanes = self.lock();
        let full = if bulk {
            lanes.bulk.len() >= BULK_MAX
        } else {
            lanes.online.len >= ONLINE_MAX || lanes.online.bytes + waiting.weight > ONLINE_BYTES_MAX
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
            lanes.online.push(sender, waiting);
        }
        self.wake(lanes);
        Ok(())
    }

    /// Wakes the core if it waits and there is something for it.
    fn wake(&self, mut lanes: MutexGuard<'_, Lanes<T>>) {
        let wakes = lanes.waits && !(lanes.is_held(self.groups) && lanes.online.len > 0);
        if wakes {
            lanes.waits = false;
            drop(lanes);
            self.arrived.notify_one();
        }
    }

    /// That a record goes to the disk.
    pub fn writes(&self) {
        self.lock().writing += 1;
    }

    /// That one is written: what was held goes on.
    pub fn written(&self) {
        let mut lanes = self.lock();
        lanes.writing -= 1;
        if lanes.writing == 0 && lanes.online.len > 0 {
            self.wake(lanes);
        }
    }

    /// Waits for work: online requests together up to these many commands and bytes, else one bulk request.
    pub fn next(&self, idle: Duration, commands_max: usize, bytes_max: usize) -> Next<T> {
        let mut lanes = self.lock();
        let mut patience = Patience::of(idle);
        loop {
            if lanes.online.len > 0 && lanes.is_held(self.groups) {
                lanes.waits = true;
                lanes = self.arrived.wait(lanes).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            if let Some(first) = lanes.online.pop(usize::MAX, usize::MAX) {
                let (mut commands, mut bytes) = (first.commands, first.weight);
                let mut batch = vec![first.item];
                while commands < commands_max
                    && let Some(next) =
                        lanes.online.pop(commands_max - commands, bytes_max.saturating_sub(bytes))
                {
                    commands += next.commands;
                    bytes += next.weight;
                    batch.push(next.item);
                }
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
            lanes.waits = true;
            lanes = patience.wait(&self.arrived, &self.lanes, lanes);
        }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        let lanes = self.lock();
        lanes.online.len + lanes.bulk.len()
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
        if lanes.online.len > 0 || !lanes.bulk.is_empty() {
            reached(Point::Abandoned);
        }
        // Dropped outside the lock: whoever hears of it may ask again at once.
        let dropped = (std::mem::replace(&mut lanes.online, Turns::none()), std::mem::take(&mut lanes.bulk));
        drop(lanes);
        drop(dropped);
    }
}
