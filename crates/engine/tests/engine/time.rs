//! The time of batches, as the journal has it.

use crate::gate::Gate;
use crate::setup::{
    HandClock, NOW_MS, SEGMENT_BLOCKS, ask, batches, heard, online, records, start, try_start,
};
use crate::toy::{Toy, add};
use pabal_engine::time::GAP_MS_MAX;
use pabal_engine::{Engine, Error, Request, TimeSource};
use std::path::Path;

const MINUTE_MS: i64 = 60 * 1000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

fn on(data: &Path, clock: &HandClock, confirmed_ms: Option<u64>) -> Result<Engine<Toy>, Error> {
    try_start(data, Toy::default(), clock.source(confirmed_ms), SEGMENT_BLOCKS).map(|(engine, _)| engine)
}

#[test]
fn the_time_of_batches_never_goes_back_whatever_the_clock_does() {
    let dir = tempfile::tempdir().expect("a folder");
    let clock = HandClock::at(NOW_MS);
    let mut id = 0;
    // Jumps within a run are drawn out; between runs the clock may stand up to ten minutes behind.
    for restart in [0, -9 * MINUTE_MS, 5 * MINUTE_MS, -5 * MINUTE_MS] {
        clock.jump(restart);
        let engine = on(dir.path(), &clock, None).expect("within ten minutes");
        for jump in [0, -HOUR_MS, HOUR_MS, 3 * HOUR_MS, -3 * HOUR_MS] {
            clock.jump(jump);
            id += 1;
            ask(&engine, &[add(id, 1)]);
            clock.pass(1000);
            id += 1;
            ask(&engine, &[add(id, 1)]);
        }
        engine.stop().expect("stopped");
    }
    let times: Vec<_> = batches(dir.path()).iter().map(|record| record.time_ms).collect();
    assert_eq!(times.len(), 40);
    assert!(times.is_sorted(), "{times:?}");
    for pair in times.chunks_exact(2) {
        // A second passes between the two of a pair; by the wall an hour or three may have.
        assert!((999..=1001).contains(&(pair[1] - pair[0])), "{pair:?}");
    }
    assert!(records(dir.path()).iter().map(|record| record.time_ms).is_sorted());
    assert!(times[39] - times[0] < 10 * MINUTE_MS as u64, "the jumps moved no time");
}

/// A batch of questions or of commands decided before leaves no record but moves the time, which is part of the
/// state: the closing or stopping record after it had the digest of one time and was replayed at another, and
/// the journal did not open. Found by the crash drill, in one of some thousand kills.
#[test]
fn the_time_of_a_batch_without_a_record_is_that_of_the_record_after_it() {
    for repeated in [true, false] {
        let dir = tempfile::tempdir().expect("a folder");
        let clock = HandClock::at(NOW_MS);
        for _ in 0..3 {
            let engine = on(dir.path(), &clock, None).expect("it opens again");
            ask(&engine, &[add(1, 1)]);
            clock.pass(7);
            if repeated {
                assert!(ask(&engine, &[add(1, 1)]).replies[0].again);
            } else {
                assert_eq!(heard(engine.query(1)), Ok(1));
            }
            clock.pass(7);
            engine.stop().expect("stopped");
        }
    }
}

#[test]
fn a_gap_of_more_than_ten_minutes_needs_a_second_word_at_the_start() {
    let dir = tempfile::tempdir().expect("a folder");
    let clock = HandClock::at(NOW_MS);
    let engine = on(dir.path(), &clock, None).expect("a new journal has no time to compare with");
    ask(&engine, &[add(1, 1)]);
    engine.stop().expect("stopped");
    for gap in [GAP_MS_MAX as i64 + 1, -(GAP_MS_MAX as i64) - 1] {
        clock.jump(gap);
        let wall_ms = NOW_MS.checked_add_signed(gap).expect("after 1970");
        for confirmed in [None, Some(NOW_MS), Some(wall_ms + GAP_MS_MAX + 1)] {
            match on(dir.path(), &clock, confirmed).map(|_| ()) {
                Err(Error::Time(told)) => assert_eq!((told.wall_ms, told.last_ms), (wall_ms, NOW_MS)),
                other => panic!("{other:?}"),
            }
        }
        clock.jump(-gap);
    }
    // Refused, it changed nothing. Just within, no second word is needed.
    let count = records(dir.path()).len();
    clock.jump(GAP_MS_MAX as i64);
    let engine = on(dir.path(), &clock, None).expect("within ten minutes");
    ask(&engine, &[add(2, 1)]);
    engine.stop().expect("stopped");
    let all = records(dir.path());
    assert_eq!(all[count].time_ms, NOW_MS + GAP_MS_MAX);
    clock.jump(24 * HOUR_MS);
    let said = NOW_MS + GAP_MS_MAX + 24 * HOUR_MS as u64;
    let engine = on(dir.path(), &clock, Some(said - 1000)).expect("confirmed");
    ask(&engine, &[add(3, 1)]);
    engine.stop().expect("stopped");
    assert_eq!(batches(dir.path())[2].time_ms, said);
}

fn dated(id: u64, time_ms: u64) -> Request {
    let mut request = online(&[add(id, 1)]);
    request.header.time_ms = time_ms;
    request
}

#[test]
fn requests_that_carry_different_times_have_records_of_their_own() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) =
        try_start(dir.path(), Toy::default(), TimeSource::Carried, SEGMENT_BLOCKS).expect("started");
    let gate = Gate::closed();
    let mut held = online(&[add(1, 1).at(&gate)]);
    held.header.time_ms = 1000;
    let mut waiting = vec![engine.submit(held)];
    gate.reached();
    // Taken from the lane together.
    for (id, time_ms) in [(2, 1000), (3, 2000), (4, 2000), (5, 3000), (6, 2500), (7, 2500), (8, 3000)] {
        waiting.push(engine.submit(dated(id, time_ms)));
    }
    let question = engine.query(1);
    gate.open();
    waiting.into_iter().for_each(|ticket| drop(heard(ticket).expect("answered")));
    assert_eq!(heard(question), Ok(8));
    engine.stop().expect("stopped");
    let written: Vec<_> = batches(dir.path()).iter().map(|record| (record.time_ms, record.ids())).collect();
    let expected: [(u64, &[u64]); 6] =
        [(1000, &[1]), (1000, &[2]), (2000, &[3, 4]), (3000, &[5]), (3000, &[6, 7]), (3000, &[8])];
    assert_eq!(written, expected.map(|(time_ms, ids)| (time_ms, ids.to_vec())));
    // As each was sent, also where its batch could not go back to it.
    let carried: Vec<_> =
        batches(dir.path()).iter().flat_map(|r| &r.requests).map(|r| r.header.time_ms).collect();
    assert_eq!(carried, [1000, 1000, 2000, 2000, 3000, 2500, 2500, 3000]);
    // Years later, without a clock: no gap is too long. Earlier than before: not before the last record.
    for (id, time_ms, expected) in [(9, NOW_MS, NOW_MS), (10, 5000, NOW_MS)] {
        let (engine, _) =
            try_start(dir.path(), Toy::default(), TimeSource::Carried, SEGMENT_BLOCKS).expect("started");
        heard(engine.submit(dated(id, time_ms))).expect("answered");
        engine.stop().expect("stopped");
        assert_eq!(batches(dir.path()).last().map(|record| record.time_ms), Some(expected));
    }
}

/// With a clock, what a request carries is kept and decides nothing.
#[test]
fn a_carried_time_means_nothing_where_a_clock_runs() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = start(dir.path(), Toy::default());
    let gate = Gate::closed();
    let held = engine.submit(online(&[add(1, 1).at(&gate)]));
    gate.reached();
    let waiting = [engine.submit(dated(2, 1000)), engine.submit(dated(3, 2 * NOW_MS))];
    gate.open();
    waiting.into_iter().chain([held]).for_each(|ticket| drop(heard(ticket).expect("answered")));
    engine.stop().expect("stopped");
    let written: Vec<_> = batches(dir.path()).iter().map(|record| (record.time_ms, record.ids())).collect();
    assert_eq!(written, [(NOW_MS, vec![1]), (NOW_MS, vec![2, 3])]);
}
