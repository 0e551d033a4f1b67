//! How often this client tries again: a budget, so that a bank in trouble does not get more work from those it could
//! not serve; and how long it waits between, with jitter, so that they do not all come back at once.

use std::time::Duration;

/// Tries again that are saved up at most, and at hand in the beginning.
pub const RETRY_BURST: u32 = 100;
/// First tries that earn one more try: of all that is sent, a tenth is sent again at most.
pub const FIRST_TRIES_FOR_A_RETRY: u32 = 10;
/// The wait before the first try again.
pub const BACK_OFF_FIRST: Duration = Duration::from_millis(5);
/// The wait between tries at most.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// What may be sent again.
pub(crate) struct Budget {
    /// In parts of a try: so many are one.
    parts: u32,
}

impl Budget {
    pub fn full() -> Budget {
        Budget { parts: RETRY_BURST * FIRST_TRIES_FOR_A_RETRY }
    }

    /// Something was sent for the first time.
    pub fn earn(&mut self) {
        self.parts = (self.parts + 1).min(RETRY_BURST * FIRST_TRIES_FOR_A_RETRY);
    }

    pub fn is_spent(&self) -> bool {
        self.parts < FIRST_TRIES_FOR_A_RETRY
    }

    /// Spends one try, if there is one.
    pub fn spend(&mut self) -> bool {
        let can = !self.is_spent();
        if can {
            self.parts -= FIRST_TRIES_FOR_A_RETRY;
        }
        can
    }
}

/// The wait before this try again, counted from zero: doubled each time up to a bound, and of it a part by chance
/// between a half and the whole.
pub(crate) fn back_off(tries: u32, chance: u64) -> Duration {
    let whole = BACK_OFF_FIRST.saturating_mul(1 << tries.min(16)).min(BACK_OFF_MAX);
    let half = whole / 2;
    half + Duration::from_nanos(chance % (half.as_nanos() as u64 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_what_is_sent_and_a_burst() {
        let mut budget = Budget::full();
        for _ in 0..7 {
            budget.earn();
        }
        let burst = std::iter::from_fn(|| budget.spend().then_some(())).count();
        assert_eq!(burst, RETRY_BURST as usize, "no more is saved up");
        let mut again = 0;
        for _ in 0..1000 {
            budget.earn();
            again += u32::from(budget.spend());
        }
        assert_eq!(again, 100);
    }

    #[test]
    fn the_wait_grows_to_its_bound_and_is_spread() {
        assert_eq!(back_off(0, 0), BACK_OFF_FIRST / 2);
        assert_eq!(back_off(3, 0), BACK_OFF_FIRST * 4);
        assert_eq!(back_off(u32::MAX, 0), BACK_OFF_MAX / 2);
        for tries in 0..40 {
            let spread: Vec<Duration> = (0..64).map(|n| back_off(tries, n * 0x9e37_79b9_7f4a)).collect();
            assert!(spread.iter().all(|wait| *wait <= BACK_OFF_MAX && *wait >= BACK_OFF_FIRST / 2));
            assert!(spread.iter().any(|wait| *wait != spread[0]), "not all at once");
        }
    }
}
