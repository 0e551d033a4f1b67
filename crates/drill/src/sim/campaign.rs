//! Many seeds, on as many threads as there are cores.

use super::judge::Wrong;
use super::world::{Report, run};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;

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
    /// Requests and questions that were answered over frames.
    pub over_frames: u64,
    /// Records that came to those who follow over frames.
    pub followed: u64,
    /// Questions that copies answered over frames.
    pub of_copies: u64,
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
        self.over_frames += report.over_frames;
        self.followed += report.followed;
        self.of_copies += report.of_copies;
        if let Some((wrong, tick)) = report.wrong {
            self.failures.push(Failure { seed, tick, wrong });
        }
    }
}

/// Runs these seeds, `ticks` steps each. After so many failures no new seed is begun. `progress` hears how many are
/// done.
pub fn campaign(
    seeds: Range<u64>,
    ticks: u64,
    threads: usize,
    failures_max: usize,
    progress: &mut dyn FnMut(u64),
) -> Campaign {
    let (next, enough) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let mut sum = Campaign::default();
    std::thread::scope(|scope| {
        let (done, reports) = channel();
        for _ in 0..threads.max(1) {
            let (done, next, enough, end) = (done.clone(), &next, &enough, seeds.end);
            scope.spawn(move || {
                while !enough.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || done.send((seed, run(seed, ticks))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        for (seed, report) in reports {
            sum.add(seed, report);
            enough.store(sum.failures.len() >= failures_max, Ordering::Relaxed);
            progress(sum.seeds);
        }
    });
    sum.failures.sort_by_key(|failure| failure.seed);
    sum
}
