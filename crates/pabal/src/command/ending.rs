//! That a process is to end: said by a signal or by what it cannot go on without, heard wherever it waits.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Whether it is to end, and something to wait with.
pub struct Ending {
    /// Hung up when it is: then it can be read, for ever.
    said: UnixStream,
    heard: UnixStream,
    /// In order, and not because something is gone.
    in_order: AtomicBool,
    is_said: AtomicBool,
}

impl Ending {
    /// Not yet.
    pub fn new() -> io::Result<Ending> {
        let (said, heard) = UnixStream::pair()?;
        Ok(Ending { said, heard, in_order: AtomicBool::new(false), is_said: AtomicBool::new(false) })
    }

    /// It is to end: in order, as it was told to, or because it cannot go on. The first word counts.
    pub fn say(&self, in_order: bool) {
        if !self.is_said.swap(true, Ordering::SeqCst) {
            self.in_order.store(in_order, Ordering::SeqCst);
            // It fails only when it is hung up.
            let _ = self.said.shutdown(Shutdown::Both);
        }
    }

    /// Whether it is to end.
    pub fn is_said(&self) -> bool {
        self.is_said.load(Ordering::SeqCst)
    }

    /// Whether it was told to.
    pub fn is_in_order(&self) -> bool {
        self.in_order.load(Ordering::SeqCst)
    }

    /// Waits for it, so long at most; whether it is to end.
    pub fn wait(&self, most: Duration) -> bool {
        let most = Timespec { tv_sec: most.as_secs() as i64, tv_nsec: i64::from(most.subsec_nanos()) };
        let mut waited = [PollFd::new(&self.heard, PollFlags::IN)];
        match poll(&mut waited, Some(&most)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => eprintln!("cannot wait: {error}"),
        }
        self.is_said()
    }
}

impl AsFd for Ending {
    /// Can be read once it is to end.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.heard.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn whoever_waits_hears_at_once_and_the_first_word_counts() {
        let ending = Arc::new(Ending::new().expect("a pair"));
        assert!(!ending.wait(Duration::ZERO));
        let told = ending.clone();
        let waits = std::thread::spawn(move || told.wait(Duration::from_secs(3600)));
        ending.say(false);
        ending.say(true);
        assert!(waits.join().expect("it ended") && ending.wait(Duration::from_secs(3600)));
        assert!(!ending.is_in_order());
    }
}
