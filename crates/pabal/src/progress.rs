//! The one progress bar: how far a long command has come, and how long it may still take.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::cell::{Cell, RefCell};
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

/// What ends sooner than this shows no bar.
const PATIENCE: Duration = Duration::from_millis(300);
/// Time between two looks at the bar.
const BETWEEN: Duration = Duration::from_millis(100);

/// A bar on standard error when that is a terminal; nothing otherwise. It leaves no trace when dropped.
pub struct Bar {
    shown: bool,
    what: Cell<&'static str>,
    begun: Cell<Instant>,
    next: Cell<Instant>,
    bar: RefCell<Option<ProgressBar>>,
}

impl Bar {
    /// A bar, shown when `shown` is set and standard error is a terminal.
    pub fn new(shown: bool) -> Bar {
        let now = Instant::now();
        Bar {
            shown: shown && stderr().is_terminal(),
            what: Cell::new(""),
            begun: Cell::new(now),
            next: Cell::new(now + PATIENCE),
            bar: RefCell::new(None),
        }
    }

    /// No bar.
    pub fn hidden() -> Bar {
        Bar::new(false)
    }

    /// Begins something, from nothing done.
    pub fn begin(&self, what: &'static str) {
        self.clear();
        let now = Instant::now();
        self.what.set(what);
        self.begun.set(now);
        self.next.set(now + PATIENCE);
    }

    /// So much of so much is done.
    pub fn at(&self, done: u64, all: u64) {
        if !self.shown || done == 0 {
            return;
        }
        let now = Instant::now();
        if now < self.next.get() {
            return;
        }
        self.next.set(now + BETWEEN);
        let left = left(now - self.begun.get(), done, all);
        let mut bar = self.bar.borrow_mut();
        let bar = bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{prefix} {bar:40} {percent} %, {msg} left");
            ProgressBar::with_draw_target(Some(all), ProgressDrawTarget::stderr())
                .with_style(style.expect("a template"))
                .with_prefix(self.what.get())
                .with_message(left.clone())
                .with_position(done)
        });
        bar.set_length(all.max(done));
        bar.set_position(done);
        bar.set_message(left);
    }

    fn clear(&self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}

/// How long the rest takes, if it goes on as so far.
fn left(passed: Duration, done: u64, all: u64) -> String {
    let left = passed.as_secs_f64() * all.saturating_sub(done) as f64 / done as f64;
    match left.ceil() as u64 {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_follows_from_what_was_done() {
        let cases =
            [(1, 10, 10, "0 s"), (1, 1, 2, "1 s"), (2, 1, 100, "3 min 18 s"), (9, 1, 1000, "2 h 29 min")];
        for (passed, done, all, wanted) in cases {
            assert_eq!(left(Duration::from_secs(passed), done, all), wanted);
        }
    }
}
