//! A clock that is moved by whoever simulates: the wall clock may jump and drift, the monotonic one only goes on.

use pabal_engine::Clock;
use std::sync::{Arc, Mutex, PoisonError};

/// Both clocks of a machine. Clones are the same clocks.
#[derive(Clone, Debug, Default)]
pub struct SimClock(Arc<Mutex<(u64, u64)>>);

impl SimClock {
    /// Standing at this wall time, milliseconds since 1970.
    pub fn at(wall_ms: u64) -> SimClock {
        SimClock(Arc::new(Mutex::new((wall_ms, 0))))
    }

    /// Wall milliseconds, monotonic microseconds.
    pub fn read(&self) -> (u64, u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets time pass; the wall clock goes wrong by so many milliseconds meanwhile.
    pub fn pass(&self, us: u64, wrong_ms: i64) {
        let mut clock = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        clock.0 = clock.0.saturating_add(us / 1000).saturating_add_signed(wrong_ms);
        clock.1 += us;
    }
}

impl Clock for SimClock {
    fn wall_ms(&mut self) -> u64 {
        self.read().0
    }

    fn monotonic_us(&mut self) -> u64 {
        self.read().1
    }
}
