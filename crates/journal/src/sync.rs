//! What threads share, and what they wait with, by one name: the machine's own, or shuttle's, which tries their
//! schedules.
//!
//! Shuttle knows no time and takes a panic in any thread for the test's end. So here waiting with a bound is
//! [`Patience`], which under shuttle runs out when the schedule says so; and a panic ends the thread it is in and
//! nothing else, as the machine's own threads have it.

/// Whether it is shuttle's, in which no bank can run.
pub const TRIED: bool = cfg!(feature = "shuttle");

#[cfg(feature = "shuttle")]
pub use shuttle::sync::{Condvar, Mutex, MutexGuard, mpsc};
pub use std::sync::PoisonError;
#[cfg(not(feature = "shuttle"))]
pub use std::{
    sync::{Condvar, Mutex, MutexGuard, mpsc},
    thread::JoinHandle,
};

#[cfg(not(feature = "shuttle"))]
pub use real::{Patience, spawn};
#[cfg(feature = "shuttle")]
pub use tried::{JoinHandle, Patience, spawn};

#[cfg(not(feature = "shuttle"))]
mod real {
    use super::{Condvar, JoinHandle, Mutex, MutexGuard, PoisonError};
    use std::thread;
    use std::time::{Duration, Instant};

    /// Starts a thread of this name.
    pub fn spawn<T: Send + 'static>(name: &str, run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        thread::Builder::new().name(name.into()).spawn(run).expect("a thread at the start")
    }

    /// How long is still waited.
    pub struct Patience(Instant);

    impl Patience {
        /// For so long from now on.
        pub fn of(time: Duration) -> Patience {
            Patience(Instant::now() + time)
        }

        /// Whether it has run out.
        pub fn is_out(&self) -> bool {
            Instant::now() >= self.0
        }

        /// Waits to be told, as long as it lasts. `guard` is of this mutex.
        pub fn wait<'m, T>(
            &mut self,
            told: &Condvar,
            _mutex: &'m Mutex<T>,
            guard: MutexGuard<'m, T>,
        ) -> MutexGuard<'m, T> {
            let left = self.0.saturating_duration_since(Instant::now());
            told.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0
        }

        /// Sleeps for so long: a small part of it.
        pub fn sleep(&mut self, time: Duration) {
            thread::sleep(time);
        }
    }
}

#[cfg(feature = "shuttle")]
mod tried {
    use super::{Condvar, Mutex, MutexGuard, PoisonError};
    use shuttle::rand::{Rng, thread_rng};
    use shuttle::thread;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::time::Duration;

    /// Of so many waits with a bound one ends because time is up, the others only by being told: so that a wait
    /// which nobody ends is found out as a deadlock, whatever its bound.
    const TOLD: u32 = 4;
    /// Sleeps after which patience is out.
    const SLEEPS_MAX: u32 = 64;

    /// A thread that can be waited for.
    pub struct JoinHandle<T>(thread::JoinHandle<std::thread::Result<T>>);

    impl<T> JoinHandle<T> {
        /// Waits for its end.
        pub fn join(self) -> std::thread::Result<T> {
            self.0.join().and_then(|result| result)
        }
    }

    /// Starts a thread of this name.
    pub fn spawn<T: Send + 'static>(name: &str, run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let run = move || {
            catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
                if panic.is::<&'static str>() || panic.is::<String>() {
                    return panic;
                }
                // Not a panic: shuttle takes the thread down.
                resume_unwind(panic)
            })
        };
        JoinHandle(thread::Builder::new().name(name.into()).spawn(run).expect("a thread at the start"))
    }

    /// How long is still waited: until the schedule says that time is up.
    pub struct Patience {
        out: bool,
        sleeps: u32,
    }

    impl Patience {
        /// For so long from now on: not at all, or until the schedule says so.
        pub fn of(time: Duration) -> Patience {
            Patience { out: time.is_zero(), sleeps: 0 }
        }

        /// Whether it has run out.
        pub fn is_out(&self) -> bool {
            self.out
        }

        /// Waits to be told, or until time is up. `guard` is of this mutex.
        pub fn wait<'m, T>(
            &mut self,
            told: &Condvar,
            mutex: &'m Mutex<T>,
            guard: MutexGuard<'m, T>,
        ) -> MutexGuard<'m, T> {
            if !self.out && thread_rng().gen_range(0..TOLD) > 0 {
                return told.wait(guard).unwrap_or_else(PoisonError::into_inner);
            }
            self.out = true;
            drop(guard);
            thread::yield_now();
            mutex.lock().unwrap_or_else(PoisonError::into_inner)
        }

        /// Sleeps: all the others may go on meanwhile.
        pub fn sleep(&mut self, _time: Duration) {
            self.sleeps += 1;
            self.out |= self.sleeps >= SLEEPS_MAX;
            thread::yield_now();
        }
    }
}
