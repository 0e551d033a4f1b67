//! The outbox: answers from any thread, on their way to the server's.
//!
//! *Waking.* Each waking of the server's thread is a system call, so whoever puts an answer here wakes it only when it
//! sleeps or is about to. That cannot be missed: whether it sleeps is said under the same lock that guards what is
//! here, and it goes to sleep only when nothing is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use mio::Waker;

use crate::service::{Answer, Answered};

/// An answer, and where it goes.
pub struct Going {
    pub connection: u64,
    pub tag: u64,
    /// Bytes of the body that was asked with.
    pub body_bytes: u32,
    pub answered: Answered,
}

pub struct Outbox {
    state: Mutex<State>,
    /// None where nobody sleeps: whoever steps the server says when it goes round.
    waker: Option<Waker>,
}

#[derive(Default)]
struct State {
    going: Vec<Going>,
    /// Something was put here, or said, since the server's thread last looked.
    news: bool,
    /// The server's thread sleeps, or is about to.
    asleep: bool,
    /// Until when everything is to be answered and the server to end.
    drain_until: Option<Instant>,
    /// The server has ended: nobody takes anything any more.
    closed: bool,
    /// What is to be done then.
    when_closed: Option<Box<dyn FnOnce() + Send>>,
}

impl Outbox {
    pub fn new(waker: Option<Waker>) -> Outbox {
        Outbox { state: Mutex::default(), waker }
    }

    /// The way back for something asked on this connection.
    pub fn answer(self: &Arc<Outbox>, connection: u64, tag: u64, body_bytes: u32) -> Answer {
        Answer::by_outbox(self.clone(), connection, tag, body_bytes)
    }

    pub fn push(&self, going: Going) {
        let mut state = self.lock();
        if state.closed {
            // What it holds may itself hold answers, which come here when it goes.
            drop(state);
            return drop(going);
        }
        state.going.push(going);
        self.tell(state);
    }

    /// Asks the server to answer what it has and to end, at this time at the latest.
    pub fn drain_until(&self, until: Instant) {
        let mut state = self.lock();
        state.drain_until = Some(until);
        self.tell(state);
    }

    /// Whether the server's thread may sleep: then it is taken to be asleep until it takes what is here.
    pub fn may_sleep(&self) -> bool {
        let mut state = self.lock();
        state.asleep = !state.news;
        state.asleep
    }

    /// Takes all that is there into `into`, which is empty; says until when to drain, if so.
    pub fn take(&self, into: &mut Vec<Going>) -> Option<Instant> {
        let mut state = self.lock();
        (state.news, state.asleep) = (false, false);
        std::mem::swap(&mut state.going, into);
        state.drain_until
    }

    /// Drops what is here and what will come.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let (left, then) = (std::mem::take(&mut state.going), state.when_closed.take());
        drop(state);
        drop(left);
        if let Some(then) = then {
            then();
        }
    }

    /// Does this when the server has ended: at once, if it has.
    pub fn when_closed(&self, then: Box<dyn FnOnce() + Send>) {
        let mut state = self.lock();
        if state.closed {
            drop(state);
            return then();
        }
        state.when_closed = Some(then);
    }

    fn tell(&self, mut state: MutexGuard<'_, State>) {
        state.news = true;
        let wake = std::mem::replace(&mut state.asleep, false);
        drop(state);
        if wake && let Some(waker) = &self.waker {
            // It fails only when a waking is on its way already.
            let _ = waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
