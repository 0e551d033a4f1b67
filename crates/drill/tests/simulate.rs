//! The simulator: it finds nothing, and repeats itself.

use pabal_drill::sim::{campaign, run};

const TICKS: u64 = 400;

#[test]
fn some_seeds_find_nothing() {
    let found = campaign(0..40, TICKS, 2, 4, &mut |_| {});
    assert!(found.failures.is_empty(), "{:#?}", found.failures);
    assert!(found.crashes > found.seeds && found.decided > 50 * found.seeds, "{found:?}");
    assert!(found.over_frames > 8 * found.seeds, "{found:?}");
    assert!(found.followed > 8 * found.seeds && found.of_copies > 2 * found.seeds, "{found:?}");
}

#[test]
fn a_seed_repeats_itself() {
    for seed in 0..6 {
        let (first, second) = (run(seed, TICKS), run(seed, TICKS));
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert_ne!(first.trace, run(seed + 1000, TICKS).trace);
    }
}
