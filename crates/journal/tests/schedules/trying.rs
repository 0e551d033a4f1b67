//! Tries the schedules of a test: at random, and by priorities with few changes (which finds what needs one thread
//! held back for long). The same seed tries the same schedules; one that fails can be tried again by itself.

use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner};
use std::any::type_name;
use std::env::var;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many schedules of each kind; and with which seed.
const SCHEDULES: &str = "PABAL_SCHEDULES";
const SEED: &str = "PABAL_SCHEDULES_SEED";
/// One schedule, as shuttle printed it.
const SCHEDULE: &str = "PABAL_SCHEDULE";

const SCHEDULES_USUAL: usize = 1000;
/// Changes of priority in a schedule of the second kind, and one more.
const DEPTH: usize = 4;
/// Steps of a schedule at most: beyond it threads only spin.
const STEPS_MAX: usize = 100_000;
/// Bytes of a thread's stack.
const STACK: usize = 256 << 10;

/// Tries this under many schedules, or under the one that is given.
pub fn every<F: Fn() + Send + Sync + 'static>(test: F) {
    let path = type_name::<F>().trim_end_matches("::{{closure}}");
    let name = path.strip_prefix("schedules::").expect("a function of this test program");
    let tried = Tried { name, test: Arc::new(test), begun: Arc::default() };
    if let Ok(schedule) = var(SCHEDULE) {
        tried.run("given", 1, 0, ReplayScheduler::new_from_encoded(schedule.trim()));
        return;
    }
    let (count, seed) = (number(SCHEDULES, SCHEDULES_USUAL), number(SEED, 1));
    tried.run("at random", count, seed, RandomScheduler::new_from_seed(seed, count));
    tried.run("by priorities", count, seed, PctScheduler::new_from_seed(seed, DEPTH, count));
}

struct Tried<F> {
    name: &'static str,
    test: Arc<F>,
    /// Schedules begun so far.
    begun: Arc<AtomicUsize>,
}

impl<F: Fn() + Send + Sync + 'static> Tried<F> {
    fn run(&self, kind: &str, count: usize, seed: u64, scheduler: impl Scheduler + 'static) {
        let mut config = Config::new();
        config.stack_size = STACK;
        config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
        let name = self.name;
        let (test, begun) = (self.test.clone(), self.begun.clone());
        self.begun.store(0, Ordering::Relaxed);
        let run = AssertUnwindSafe(|| {
            Runner::new(scheduler, config).run(move || {
                begun.fetch_add(1, Ordering::Relaxed);
                test();
            })
        });
        match catch_unwind(run) {
            Ok(tried) => println!("{name}: {tried} schedules {kind}, seed {seed}"),
            Err(panic) => {
                let (which, package) = (self.begun.load(Ordering::Relaxed), env!("CARGO_PKG_NAME"));
                eprintln!(
                    "{name}: schedule {which} of {count} {kind} failed, seed {seed}. To try it again, with the \
                     schedule that is printed above:\n  {SCHEDULE}=… cargo test -p {package} --features shuttle \
                     --test schedules -- --exact {name}"
                );
                resume_unwind(panic);
            }
        }
    }
}

fn number<T: FromStr>(name: &str, usual: T) -> T {
    match var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => usual,
    }
}
