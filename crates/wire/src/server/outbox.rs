//! The outbox: answers from any thread, on their way to the server's.

use crate::service::{Answer, Answered};
use mio::Waker;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// An answer, and where it goes.
pub struct Going {
    pub connection: u64,
    pub tag: u64,
    /// Bytes of the body that was asked with.
    pub weight: u64,
    pub answered: Answered,
}

pub struct Outbox {
    going: Mutex<Vec<Going>>,
    waker: Waker,
    /// Whether the server's thread sleeps, or is about to: only then is it woken, as each waking is a system call.
    asleep: AtomicBool,
    until: Mutex<Option<Instant>>,
    drained: AtomicBool,
}

impl Outbox {
    pub fn new(waker: Waker) -> Outbox {
        Outbox {
            going: Mutex::default(),
            waker,
            asleep: AtomicBool::new(false),
            until: Mutex::default(),
            drained: AtomicBool::new(false),
        }
    }

    /// The way back for something asked on this connection.
    pub fn answer(self: &Arc<Outbox>, connection: u64, tag: u64, weight: u64) -> Answer {
        let outbox = self.clone();
        Answer::new(move |answered| outbox.push(Going { connection, tag, weight, answered }))
    }

    fn push(&self, going: Going) {
        self.going.lock().unwrap_or_else(PoisonError::into_inner).push(going);
        self.wake();
    }

    fn wake(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            // It fails only when a wake-up is on its way already.
            let _ = self.waker.wake();
        }
    }

    /// Says that the server's thread is about to sleep. False when it must not, as something is there.
    pub fn may_sleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        let empty = self.going.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        if !empty {
            self.asleep.store(false, Ordering::SeqCst);
        }
        empty
    }

    pub fn woke(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }

    /// Takes all that is there into `into`, which is empty.
    pub fn take(&self, into: &mut Vec<Going>) {
        std::mem::swap(&mut *self.going.lock().unwrap_or_else(PoisonError::into_inner), into);
    }

    pub fn drain_until(&self, until: Instant) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        self.wake();
    }

    /// Until when it is to be drained, when it is.
    pub fn draining(&self) -> Option<Instant> {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn drained(&self) {
        self.drained.store(true, Ordering::SeqCst);
    }

    pub fn is_drained(&self) -> bool {
        self.drained.load(Ordering::SeqCst)
    }
}
