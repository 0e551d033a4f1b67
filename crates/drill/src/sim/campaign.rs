//! Many seeds, on as many threads as there are cores.

use super::judge::Wrong;
use super::world::{Report, run};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A seed that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The step.
    pub tick: u64,
    /// What was wrong.
    pub wrong: Wrong,
}

/// What came of many seeds.
#[derive(Clone, Debug, Default)]
pub struct Campaign {
    /// Seeds run.
    pub seeds: u64,
    /// Steps taken.
    pub ticks: u64,
    /// Times that a bank died.
    pub crashes: u64,
    /// Starts that refused a damaged disk.
    pub refused: u64,
    /// Commands decided.
    pub decided: u64,
    /// Seeds that failed, in their order.
    pub failures: Vec<Failure>,
}

impl Campaign {
    fn add(&mut self, seed: u64, report: Report) {
        self.seeds += 1;
        self.ticks += report.ticks;
        self.crashes += report.crashes;
        self.refused += report.refused;
        self.decided += report.decided;
        if let Some((wrong, tick)) = report.wrong {
            self.failures.push(Failure { seed, tick, wrong });
        }
    }
}

/// Runs these seeds, `ticks` steps each. `stop` says after how many failures no new seed is begun. `progress` hears
/// how many are done.
pub fn campaign(
    seeds: std::ops::Range<u64>,
    ticks: u64,
    threads: usize,
    stop: usize,
    progress: &(dyn Fn(u64) + Sync),
) -> Campaign {
    let next = AtomicU64::new(seeds.start);
    let sum = Mutex::new(Campaign::default());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let report = run(seed, ticks);
                    let mut sum = sum.lock().expect("not poisoned");
                    sum.add(seed, report);
                    progress(sum.seeds);
                    if sum.failures.len() >= stop {
                        return;
                    }
                }
            });
        }
    });
    let mut sum = sum.into_inner().expect("not poisoned");
    sum.failures.sort_by_key(|failure| failure.seed);
    sum
}
