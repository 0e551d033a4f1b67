//! Crash enumeration in its short form; `pabal drill crashes` has the full one.

use pabal_drill::crashes::{enumerate, replay};

/// States that are tried here.
const STATES: u64 = 10_000;

#[test]
fn whatever_a_crash_leaves_opens_with_all_that_was_acknowledged() {
    let mut heard = 0;
    let report = enumerate(STATES, 1, 2, &mut |states| heard = states);
    assert_eq!(report.failures, Vec::<String>::new());
    assert_eq!(heard, report.states);
    assert!(report.states >= STATES, "{report:?}");
    // None of what is looked at in samples may have been left out, and some tearing is found out.
    assert!(report.recoveries > 0 && report.read > 0 && report.refused > 0, "{report:?}");
    assert!(report.refused <= report.torn && report.torn < report.states, "{report:?}");
}

#[test]
fn a_history_is_the_same_each_time() {
    assert_eq!(replay(2, 5), replay(2, 5));
    assert_ne!(replay(2, 5), replay(2, 6));
}
