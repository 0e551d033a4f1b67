//! Gates: a command that reaches one waits until the test opens it.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a test waits for what must come before it calls it missing.
pub const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Default)]
struct State {
    reached: bool,
    open: bool,
}

static GATES: Mutex<BTreeMap<u64, State>> = Mutex::new(BTreeMap::new());
static MOVED: Condvar = Condvar::new();

fn gates() -> MutexGuard<'static, BTreeMap<u64, State>> {
    GATES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A gate, closed. Open once it is gone, so that a test that fails does not wait for itself: it must go before
/// the engine that waits at it.
pub struct Gate(u64);

impl Gate {
    pub fn closed() -> Gate {
        let mut gates = gates();
        let id = gates.last_key_value().map_or(1, |(id, _)| id + 1);
        gates.insert(id, State::default());
        Gate(id)
    }

    pub fn id(&self) -> u64 {
        self.0
    }

    /// Waits until someone stands at it.
    pub fn reached(&self) {
        let mut gates = gates();
        while !gates[&self.0].reached {
            let (again, wait) = MOVED.wait_timeout(gates, PATIENCE).unwrap_or_else(PoisonError::into_inner);
            assert!(!wait.timed_out(), "nobody came to the gate");
            gates = again;
        }
    }

    pub fn open(&self) {
        gates().entry(self.0).or_default().open = true;
        MOVED.notify_all();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}

/// Waits until this gate is open. No gate at all (zero, or one of another process) is open.
pub fn pass(id: u64) {
    let mut gates = gates();
    loop {
        let Some(gate) = gates.get_mut(&id) else { return };
        if gate.open {
            return;
        }
        gate.reached = true;
        MOVED.notify_all();
        gates = MOVED.wait(gates).unwrap_or_else(PoisonError::into_inner);
    }
}
