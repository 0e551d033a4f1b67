//! The room of a record: what may take more than a record has is refused or gets a record of its own.

use crate::gate::Gate;
use crate::setup::{
    HandClock, NOW_MS, SEGMENT_BLOCKS, ask, bulk, codes, heard, ids, online, start, try_start,
};
use crate::toy::{DONE, MALFORMED, Toy, add};
use pabal_engine::request::{BULK_BLOCKS_MAX, RECORD_BLOCKS_MAX};
use pabal_journal::UNITS;

/// Units that take so many blocks, give or take a few.
fn units(blocks: u32) -> u64 {
    blocks as u64 * UNITS as u64
}

/// An assertion in the layout would have stopped the core before its command stood in the ring: a request
/// that could be sent again and again, and would stop it each time.
#[test]
fn a_request_that_may_take_more_than_a_segment_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = start(dir.path(), Toy::default());
    for claimed in [units(SEGMENT_BLOCKS), units(10 * SEGMENT_BLOCKS), 1 << 40] {
        for request in [online, bulk] {
            let replies = heard(engine.submit(request(&[add(1, 1).claiming(claimed)]))).expect("answered");
            assert_eq!(codes(&replies), [MALFORMED], "{claimed} units");
        }
    }
    assert_eq!(codes(&ask(&engine, &[add(1, 1)])), [DONE], "its id was not used up, and the core lives");
    engine.stop().expect("stopped");
    assert_eq!(ids(dir.path()), [vec![1]]);
}

#[test]
fn requests_that_together_may_take_more_than_a_record_get_records_of_their_own() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = start(dir.path(), Toy::default());
    let gate = Gate::closed();
    let mut waiting = vec![engine.submit(online(&[add(1, 1).at(&gate)]))];
    gate.reached();
    let third = units(SEGMENT_BLOCKS / 3);
    waiting.extend((2..7).map(|id| engine.submit(online(&[add(id, 1).claiming(third)]))));
    gate.open();
    for ticket in waiting {
        assert_eq!(codes(&heard(ticket).expect("answered")), [DONE]);
    }
    engine.stop().expect("stopped");
    assert_eq!(ids(dir.path()), [vec![1], vec![2, 3], vec![4, 5], vec![6]]);
}

/// However large the segments are: what one record may cost those who wait behind it is bounded, for bulk
/// more narrowly.
#[test]
fn a_record_is_bounded_whatever_the_segments_are() {
    let dir = tempfile::tempdir().expect("a folder");
    let clock = HandClock::at(NOW_MS).source(None);
    let (engine, _) = try_start(dir.path(), Toy::default(), clock, 4 * RECORD_BLOCKS_MAX).expect("started");
    let of = |bulky: bool, id, blocks: u32| {
        let request = if bulky { bulk } else { online };
        codes(&heard(engine.submit(request(&[add(id, 1).claiming(units(blocks))]))).expect("answered"))
    };
    assert_eq!(of(false, 1, 2 * RECORD_BLOCKS_MAX), [MALFORMED]);
    assert_eq!(of(false, 1, RECORD_BLOCKS_MAX / 3), [DONE]);
    assert_eq!(of(true, 2, 2 * BULK_BLOCKS_MAX), [MALFORMED]);
    assert_eq!(of(true, 2, BULK_BLOCKS_MAX / 3), [DONE]);
}

/// Whoever runs the core hears of its end, also when it comes too late to ask.
#[test]
fn the_end_of_the_core_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = start(dir.path(), Toy::default());
    let (to, told) = std::sync::mpsc::channel();
    let early = to.clone();
    engine.when_ended(move || early.send("early").expect("awaited"));
    assert!(heard(engine.submit(online(&[crate::toy::poison(1)]))).is_err());
    assert_eq!(told.recv_timeout(crate::gate::PATIENCE), Ok("early"));
    engine.when_ended(move || to.send("late").expect("awaited"));
    assert_eq!(told.recv_timeout(crate::gate::PATIENCE), Ok("late"));
    assert!(engine.stop().is_err());
}
