//! The lanes by themselves: what was let in is taken once or dropped, and the bounds hold.

use crate::trying;
use lanes::{BULK_MAX, Next, ONLINE_BYTES_MAX, Queue, Waiting};
use pabal_journal::sync::mpsc::channel;
use pabal_journal::sync::spawn;
use shuttle::rand::{Rng, thread_rng};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The very file of the engine, which shows its lanes to nobody.
#[path = "../../src/queue.rs"]
mod lanes;

const SENDERS: usize = 3;
/// Requests of each sender.
const EACH: usize = 3;
const IDLE: Duration = Duration::from_millis(5);

/// A request: counts how often it went away.
struct Item {
    number: usize,
    gone: Arc<[AtomicU32]>,
}

impl Drop for Item {
    fn drop(&mut self) {
        self.gone[self.number].fetch_add(1, Ordering::SeqCst);
    }
}

/// The lanes, and what the test knows of them.
struct Lanes {
    queue: Queue<Item>,
    gone: Arc<[AtomicU32]>,
    /// Numbers that were let in, and those that were taken, in their order.
    let_in: Mutex<Vec<usize>>,
    taken: Mutex<Vec<usize>>,
    /// Nothing may be let in any more.
    closed: AtomicBool,
}

impl Lanes {
    fn new() -> Arc<Lanes> {
        Lanes::of(false)
    }

    fn of(groups: bool) -> Arc<Lanes> {
        Arc::new(Lanes {
            queue: Queue::new(groups),
            gone: (0..SENDERS * EACH).map(|_| AtomicU32::new(0)).collect(),
            let_in: Mutex::default(),
            taken: Mutex::default(),
            closed: AtomicBool::new(false),
        })
    }

    /// Sends the requests of this sender, every third one in bulk.
    fn send(&self, sender: usize) {
        for number in sender * EACH..(sender + 1) * EACH {
            let closed = self.closed.load(Ordering::SeqCst);
            let item = Item { number, gone: self.gone.clone() };
            let waiting = Waiting { item, weight: 64, commands: 1 };
            if self.queue.push((number / EACH) as u64, number % EACH == 2, waiting).is_ok() {
                assert!(!closed, "let in after the end");
                self.let_in.lock().expect("not poisoned").push(number);
            }
        }
    }

    fn take(&self, items: impl IntoIterator<Item = Item>) {
        self.taken.lock().expect("not poisoned").extend(items.into_iter().map(|item| item.number));
    }

    /// Takes until there is no more, or as often as is said. True when there is no more.
    fn run(&self, times: usize) -> bool {
        for _ in 0..times {
            match self.queue.next(IDLE, 2, 1 << 20) {
                Next::Online(items) => {
                    assert!((1..=2).contains(&items.len()), "no more together than was said");
                    self.take(items);
                }
                Next::Bulk(item) => self.take([item]),
                Next::Idle => {}
                Next::Stop => {
                    self.closed.store(true, Ordering::SeqCst);
                    assert_eq!(self.queue.waiting(), 0);
                    return true;
                }
            }
        }
        false
    }

    /// Each went away once; returns how many were let in, and how many taken.
    fn check(&self) -> (usize, usize) {
        assert!(self.gone.iter().all(|gone| gone.load(Ordering::SeqCst) == 1), "each goes away once");
        assert_eq!(self.queue.waiting(), 0);
        let (let_in, taken) =
            (self.let_in.lock().expect("not poisoned"), self.taken.lock().expect("not poisoned"));
        assert!(taken.iter().all(|number| let_in.contains(number)), "taken, and was not let in");
        for sender in 0..SENDERS {
            let online = taken.iter().filter(|number| *number / EACH == sender && *number % EACH != 2);
            assert!(online.clone().is_sorted(), "a sender's requests keep their order: {taken:?}");
        }
        let mut once = taken.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), taken.len(), "taken twice");
        (let_in.len(), taken.len())
    }
}

#[test]
fn what_was_let_in_before_the_stop_is_taken_once() {
    trying::every(|| {
        let lanes = Lanes::new();
        let core = lanes.clone();
        let core = spawn("core", move || assert!(core.run(usize::MAX)));
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| (sender, lanes.clone()))
            .map(|(sender, its)| spawn("sender", move || its.send(sender)))
            .collect();
        let stops = lanes.clone();
        let stops = spawn("stops", move || {
            stops.queue.stop();
            stops.closed.store(true, Ordering::SeqCst);
        });
        for thread in senders.into_iter().chain([core, stops]) {
            thread.join().expect("no panic");
        }
        let (let_in, taken) = lanes.check();
        assert_eq!(let_in, taken, "all that was let in is taken");
    });
}

/// Without a stop in between: each request alone must wake the core.
#[test]
fn every_request_wakes_the_core() {
    trying::every(|| {
        let lanes = Lanes::new();
        let core = lanes.clone();
        let core = spawn("core", move || {
            while core.taken.lock().expect("not poisoned").len() < SENDERS * EACH {
                assert!(!core.run(1));
            }
        });
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| (sender, lanes.clone()))
            .map(|(sender, its)| spawn("sender", move || its.send(sender)))
            .collect();
        for thread in senders.into_iter().chain([core]) {
            thread.join().expect("no panic");
        }
        assert_eq!(lanes.check(), (SENDERS * EACH, SENDERS * EACH));
    });
}

/// Small requests are held while a record is being written: its end alone must wake the core then.
#[test]
fn what_is_held_goes_on_when_the_record_is_written() {
    trying::every(|| {
        let lanes = Lanes::of(true);
        let (records, written) = channel::<()>();
        let (core, writer) = (lanes.clone(), lanes.clone());
        let core = spawn("core", move || {
            while core.taken.lock().expect("not poisoned").len() < SENDERS * EACH {
                match core.queue.next(IDLE, 2, 1 << 20) {
                    Next::Online(items) => {
                        core.take(items);
                        core.queue.writes();
                        records.send(()).expect("there is a writer");
                    }
                    Next::Bulk(item) => core.take([item]),
                    Next::Idle => {}
                    Next::Stop => unreachable!("nobody stops it"),
                }
            }
        });
        let writer = spawn("writer", move || {
            while written.recv().is_ok() {
                writer.queue.written();
            }
        });
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| (sender, lanes.clone()))
            .map(|(sender, its)| spawn("sender", move || its.send(sender)))
            .collect();
        for thread in senders.into_iter().chain([core, writer]) {
            thread.join().expect("no panic");
        }
        assert_eq!(lanes.check(), (SENDERS * EACH, SENDERS * EACH));
    });
}

#[test]
fn what_is_abandoned_is_dropped_and_nothing_is_let_in_after() {
    trying::every(|| {
        let lanes = Lanes::new();
        let core = lanes.clone();
        let times = thread_rng().gen_range(0..4);
        let core = spawn("core", move || {
            core.run(times);
            core.queue.abandon();
            core.closed.store(true, Ordering::SeqCst);
        });
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| (sender, lanes.clone()))
            .map(|(sender, its)| spawn("sender", move || its.send(sender)))
            .collect();
        for thread in senders.into_iter().chain([core]) {
            thread.join().expect("no panic");
        }
        let (let_in, taken) = lanes.check();
        assert!(taken <= let_in);
    });
}

#[test]
fn no_lane_holds_more_than_its_bound() {
    trying::every(|| {
        // Each has more than half of the bytes that may wait; of the bulk ones there are too many.
        let queue: Arc<Queue<usize>> = Arc::new(Queue::new(false));
        let senders: Vec<_> = (0..2)
            .map(|_| queue.clone())
            .map(|queue| {
                spawn("sender", move || {
                    let mut let_in = 0;
                    for _ in 0..2 {
                        let weight = ONLINE_BYTES_MAX / 2 + 1;
                        let waiting = Waiting { item: weight, weight, commands: 1 };
                        let_in += usize::from(queue.push(0, false, waiting).is_ok());
                    }
                    for _ in 0..BULK_MAX * 2 / 3 {
                        let waiting = Waiting { item: 0, weight: 64, commands: 1 };
                        let_in += usize::from(queue.push(0, true, waiting).is_ok());
                    }
                    let_in
                })
            })
            .collect();
        let mut taken = 0;
        for _ in 0..4 {
            assert!(queue.waiting() <= 1 + BULK_MAX);
            match queue.next(Duration::ZERO, 100, usize::MAX) {
                Next::Online(weights) => {
                    assert_eq!(weights.len(), 1, "two waited at once");
                    taken += 1;
                }
                Next::Bulk(_) => taken += 1,
                Next::Idle => {}
                Next::Stop => panic!("nobody stops it"),
            }
        }
        let let_in: usize = senders.into_iter().map(|thread| thread.join().expect("no panic")).sum();
        while queue.waiting() > 0 {
            match queue.next(Duration::ZERO, 100, usize::MAX) {
                Next::Online(weights) => taken += weights.len(),
                Next::Bulk(_) => taken += 1,
                Next::Idle | Next::Stop => panic!("it waits"),
            }
        }
        assert_eq!(taken, let_in, "all that was let in is taken");
        // All that may wait may wait now, and no byte more.
        let waiting = |weight| Waiting { item: weight, weight, commands: 1 };
        assert!(queue.push(0, false, waiting(ONLINE_BYTES_MAX)).is_ok(), "there is room again");
        assert!(queue.push(0, false, waiting(1)).is_err());
        queue.stop();
        assert!(matches!(queue.next(IDLE, 100, usize::MAX), Next::Online(weights) if weights.len() == 1));
        assert!(matches!(queue.next(IDLE, 100, usize::MAX), Next::Stop));
    });
}
