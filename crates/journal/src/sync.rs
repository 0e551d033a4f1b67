//! What threads share, by one name: the machine's own, or shuttle's, which tries their schedules.

#[cfg(feature = "shuttle")]
pub use shuttle::{
    sync::{Condvar, Mutex, MutexGuard, mpsc},
    thread::JoinHandle,
};
pub use std::sync::PoisonError;
#[cfg(not(feature = "shuttle"))]
pub use std::{
    sync::{Condvar, Mutex, MutexGuard, mpsc},
    thread::JoinHandle,
};

/// Starts a thread of this name.
pub fn spawn<T: Send + 'static>(name: &str, run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    #[cfg(feature = "shuttle")]
    use shuttle::thread;
    #[cfg(not(feature = "shuttle"))]
    use std::thread;
    thread::Builder::new().name(name.into()).spawn(run).expect("a thread at the start")
}
