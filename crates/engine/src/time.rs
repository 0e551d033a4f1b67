//! The bank's time: never backward, run by the monotonic clock, drawn gently towards the wall clock.

use pabal_fault::{Bug, Point, planted, reached};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The gap to the journal's last time that a start accepts without a second source, milliseconds.
pub const GAP_MS_MAX: u64 = 10 * 60 * 1000;
/// How fast time is drawn towards the wall clock: millionths of the time that passes.
const SLEW_PPM: u64 = 500;

/// The latest time that is taken from a request or a record, milliseconds since 1970: 48 bits, as ids have. Times are
/// added to without fear of overflow.
pub(crate) const CARRIED_MS_MAX: u64 = (1 << 48) - 1;

/// A source of time.
pub trait Clock: Send {
    /// Milliseconds since 1970, by the wall clock: may jump.
    fn wall_ms(&mut self) -> u64;
    /// Microseconds since some moment: never goes back.
    fn monotonic_us(&mut self) -> u64;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock(Instant::now())
    }
}

impl Clock for SystemClock {
    fn wall_ms(&mut self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
    }

    fn monotonic_us(&mut self) -> u64 {
        self.0.elapsed().as_micros() as u64
    }
}

/// The clock and the journal are too far apart for one source to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the clock says {wall_ms} ms since 1970, the journal's last time is {last_ms}: more than ten minutes \
     apart; confirm the time from a second source or by two people"
)]
pub struct TimeGap {
    /// What the wall clock says.
    pub wall_ms: u64,
    /// The time of the last record.
    pub last_ms: u64,
}

/// Where a batch's time comes from.
pub enum TimeSource {
    /// From a clock. `confirmed_ms` is a second source's word: a time within ten minutes of the clock's.
    Clock {
        /// The clock.
        clock: Box<dyn Clock>,
        /// What the second source says, when there is one.
        confirmed_ms: Option<u64>,
    },
    /// From the requests themselves: for books that are imported with their own dates.
    Carried,
}

/// Time as the engine runs it.
pub(crate) enum Time {
    Running { clock: Box<dyn Clock>, now_us: u64, last_us: u64 },
    Carried { now_ms: u64 },
}

impl Time {
    /// Begins after `last_ms`, the time of the last record (zero when there is none).
    pub fn start(source: TimeSource, last_ms: u64) -> Result<Time, TimeGap> {
        match source {
            TimeSource::Carried => Ok(Time::Carried { now_ms: last_ms }),
            TimeSource::Clock { mut clock, confirmed_ms } => {
                let wall_ms = clock.wall_ms();
                let confirmed = confirmed_ms.is_some_and(|ms| ms.abs_diff(wall_ms) <= GAP_MS_MAX);
                let confirmed = confirmed || planted(Bug::GapBelieved);
                if last_ms != 0 && wall_ms.abs_diff(last_ms) > GAP_MS_MAX && !confirmed {
                    reached(Point::StartGap);
                    return Err(TimeGap { wall_ms, last_ms });
                }
                let last_us = clock.monotonic_us();
                let stale = planted(Bug::TimeStale) && last_ms != 0;
                let start_ms = if stale { last_ms } else { wall_ms.max(last_ms) };
                Ok(Time::Running { clock, now_us: start_ms * 1000, last_us })
            }
        }
    }

    /// The time of the next batch, milliseconds; `carried_ms` counts only where time is carried.
    pub fn now_ms(&mut self, carried_ms: u64) -> u64 {
        match self {
            Time::Carried { now_ms } => {
                *now_ms = (*now_ms).max(carried_ms.min(CARRIED_MS_MAX));
                *now_ms
            }
            Time::Running { clock, now_us, last_us } => {
                let monotonic = clock.monotonic_us();
                let passed = monotonic.saturating_sub(*last_us);
                *last_us = monotonic;
                let wall_us = clock.wall_ms() * 1000;
                let slew = passed * SLEW_PPM / 1_000_000;
                let straight = *now_us + passed;
                *now_us = if wall_us >= straight {
                    straight + slew.min(wall_us - straight)
                } else {
                    straight - slew.min(straight - wall_us)
                };
                *now_us / 1000
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Hand(Arc<Mutex<(u64, u64)>>);

    impl Clock for Hand {
        fn wall_ms(&mut self) -> u64 {
            self.0.lock().expect("not poisoned").0
        }
        fn monotonic_us(&mut self) -> u64 {
            self.0.lock().expect("not poisoned").1
        }
    }

    fn clock(hand: &Hand, confirmed_ms: Option<u64>) -> TimeSource {
        TimeSource::Clock { clock: Box::new(hand.clone()), confirmed_ms }
    }

    #[test]
    fn a_wall_clock_that_jumps_moves_time_by_no_more_than_the_slew() {
        let hand = Hand::default();
        *hand.0.lock().expect("not poisoned") = (1_000_000_000, 0);
        let mut time = Time::start(clock(&hand, None), 0).expect("no gap");
        for jump in [-3_600_000i64, 3_600_000] {
            let before = time.now_ms(0);
            {
                let mut at = hand.0.lock().expect("not poisoned");
                at.0 = at.0.saturating_add_signed(jump + 10_000);
                at.1 += 10_000_000;
            }
            let passed = time.now_ms(0) - before;
            assert!((9_995..=10_005).contains(&passed), "{passed} ms in ten seconds");
        }
    }

    #[test]
    fn a_gap_at_the_start_needs_a_second_source_that_agrees() {
        let hand = Hand::default();
        *hand.0.lock().expect("not poisoned") = (1_000_000_000, 0);
        let last = 1_000_000_000 - GAP_MS_MAX - 1;
        assert!(Time::start(clock(&hand, None), last).is_err());
        assert!(Time::start(clock(&hand, Some(last)), last).is_err());
        assert!(Time::start(clock(&hand, Some(1_000_000_000)), last).is_ok());
        assert!(Time::start(clock(&hand, None), last + 1).is_ok());
    }

    #[test]
    fn time_never_begins_before_the_last_record() {
        let hand = Hand::default();
        *hand.0.lock().expect("not poisoned") = (1_000_000_000, 0);
        let mut time = Time::start(clock(&hand, None), 1_000_060_000).expect("within ten minutes");
        assert_eq!(time.now_ms(0), 1_000_060_000);
    }
}
