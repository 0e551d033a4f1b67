//! What the services say, on its way to standard output.
//!
//! *What bounds it.* Each service has its own [`WAITING_MAX`] lines of [`LINE_BYTES_MAX`] at most. When they are not taken
//! as fast as they come, what is more is left out, and said so: a service is never kept from its work by whoever reads
//! its lines, nor by what another service says. The services take turns, a line each.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Lines of a service that wait at most; those that come then are left out.
pub const WAITING_MAX: usize = 1024;
/// Bytes of a line at most; a longer one goes on in the next.
pub const LINE_BYTES_MAX: usize = 4096;

/// The lines of some services.
pub struct Lines {
    state: Mutex<State>,
    news: Condvar,
}

struct State {
    services: Vec<Said>,
    /// Nothing more will be said.
    closed: bool,
    /// All was printed.
    printed: bool,
}

/// What one service has said.
#[derive(Default)]
struct Said {
    waiting: VecDeque<String>,
    left_out: u64,
    /// Its streams that have not ended.
    open: usize,
    /// It said that it is ready.
    ready: bool,
}

impl Lines {
    /// Of so many services.
    pub fn of(services: usize) -> Lines {
        let services = (0..services).map(|_| Said::default()).collect();
        Lines { state: Mutex::new(State { services, closed: false, printed: false }), news: Condvar::new() }
    }

    /// Says a line of this service, or leaves it out.
    pub fn say(&self, service: usize, line: String) {
        let said = &mut self.lock().services[service];
        if said.waiting.len() < WAITING_MAX {
            said.waiting.push_back(line);
        } else {
            said.left_out += 1;
        }
        self.news.notify_all();
    }

    /// This service begins, and so many streams of it are to be read: [`Lines::forward`] follows for each.
    pub fn begun(&self, service: usize, streams: usize) {
        let said = &mut self.lock().services[service];
        said.open += streams;
        said.ready = false;
    }

    /// Whether it has said since that it is ready.
    pub fn was_ready(&self, service: usize) -> bool {
        self.lock().services[service].ready
    }

    /// Says each line of a stream, with this before it, until it ends.
    pub fn forward(&self, service: usize, before: &str, from: impl Read) {
        let (mut from, mut line) = (BufReader::new(from), Vec::new());
        loop {
            line.clear();
            let read = (&mut from).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line);
            if !read.is_ok_and(|bytes| bytes > 0) {
                break;
            }
            let text = String::from_utf8_lossy(&line);
            if text.starts_with("ready ") {
                self.lock().services[service].ready = true;
            }
            self.say(service, format!("{before}{}", text.trim_end_matches('\n')));
        }
        self.lock().services[service].open -= 1;
        self.news.notify_all();
    }

    /// Waits until this service's streams have ended, so long at most: a process of its own may have inherited them.
    pub fn wait_for_end(&self, service: usize, most: Duration) {
        self.wait(most, |state| state.services[service].open == 0);
    }

    /// Says that nothing more comes, and waits until all was printed, so long at most: nobody may be reading.
    pub fn close(&self, most: Duration) {
        self.lock().closed = true;
        self.news.notify_all();
        self.wait(most, |state| state.printed);
    }

    /// Prints what is said until nothing more comes. A bank does not end because nobody listens any more.
    pub fn print(&self, out: &mut impl Write) {
        let mut state = self.lock();
        loop {
            let turn: Vec<String> = state.services.iter_mut().flat_map(Said::next).collect();
            if turn.is_empty() {
                if state.closed {
                    break;
                }
                state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            drop(state);
            for line in turn {
                let _ = writeln!(out, "{line}");
            }
            let _ = out.flush();
            state = self.lock();
        }
        state.printed = true;
        drop(state);
        self.news.notify_all();
    }

    fn wait(&self, most: Duration, until: impl Fn(&State) -> bool) {
        let (deadline, mut state) = (Instant::now() + most, self.lock());
        while !until(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.news.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Said {
    /// The next line, and after the last one how many were left out behind it.
    fn next(&mut self) -> Vec<String> {
        let mut lines: Vec<String> = self.waiting.pop_front().into_iter().collect();
        if self.waiting.is_empty() && self.left_out > 0 {
            lines.push(format!(
                "({} lines were left out: they came faster than they were read)",
                self.left_out
            ));
            self.left_out = 0;
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Nobody reads until it is let go.
    struct Stuck {
        begun: Sender<()>,
        go: Receiver<()>,
        written: Vec<u8>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.written.is_empty() {
                self.begun.send(()).expect("the test goes on");
                self.go.recv().expect("it is let go");
            }
            self.written.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_flood_of_one_is_bounded_and_leaves_the_other_its_turn() {
        let lines = Arc::new(Lines::of(2));
        let ((begun, has_begun), (go, going)) = (channel(), channel());
        let printer = lines.clone();
        let printer = std::thread::spawn(move || {
            let mut out = Stuck { begun, go: going, written: Vec::new() };
            printer.print(&mut out);
            String::from_utf8(out.written).expect("text")
        });
        lines.say(0, "first".into());
        has_begun.recv().expect("it prints");
        // Nobody reads, and no one who speaks waits for that.
        lines.begun(0, 1);
        let flood = "flood\n".repeat(10 * WAITING_MAX);
        lines.forward(0, "core: ", flood.as_bytes());
        lines.say(1, "reader: here".into());
        go.send(()).expect("it waits");
        lines.close(Duration::from_secs(60));
        let printed = printer.join().expect("it ended");
        let printed: Vec<&str> = printed.lines().collect();
        assert_eq!(printed[..3], ["first", "core: flood", "reader: here"], "they take turns");
        assert_eq!(printed.len(), 2 + WAITING_MAX + 1);
        assert!(
            printed[printed.len() - 1].starts_with(&format!("({} lines", 9 * WAITING_MAX)),
            "and that is said"
        );
    }

    #[test]
    fn a_line_that_never_ends_is_cut_and_what_is_no_text_is_still_said() {
        let lines = Lines::of(1);
        lines.begun(0, 1);
        let long = [&vec![b'x'; 2 * LINE_BYTES_MAX + 1][..], b"\n\xff.\nlast"].concat();
        lines.forward(0, "", &long[..]);
        lines.wait_for_end(0, Duration::ZERO);
        lines.close(Duration::ZERO);
        let mut out = Vec::new();
        lines.print(&mut out);
        let said = String::from_utf8(out).expect("text");
        let lengths: Vec<usize> = said.lines().map(str::len).collect();
        assert_eq!(lengths, [LINE_BYTES_MAX, LINE_BYTES_MAX, 1, "\u{fffd}.".len(), 4]);
    }
}
