//! The orderly stop: what waits is executed, the last record confirmed, and nothing left to be tried.

use crate::gate::Gate;
use crate::setup::{ask, bulk, codes, heard, ids, online, records, start};
use crate::toy::{DONE, Toy, add};
use pabal_journal::RecordKind;
use std::path::Path;

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a folder");
    let mut names: Vec<_> =
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn after_an_orderly_stop_nothing_is_tried_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    for id in 1..=3 {
        let (engine, recovery) = start(dir.path(), Toy::default());
        assert!(recovery.journal.orderly && !recovery.tried_alone && !recovery.quarantined);
        ask(&engine, &[add(id, 1)]);
        assert_eq!(engine.stop().expect("stopped").counter(), id as i64);
        // The ring keeps its space, so that a start on a full disk has it.
        assert_eq!(names(dir.path()), ["journal", "ring"]);
        assert_eq!(records(dir.path()).last().map(|record| record.kind), Some(RecordKind::Stop as u16));
    }
    assert!(names(&dir.path().join("journal")).iter().all(|name| name.ends_with(".seg")));
}

#[test]
fn an_engine_that_goes_out_of_scope_stops_in_order() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = start(dir.path(), Toy::default());
    let ticket = engine.submit(online(&[add(1, 1)]));
    drop(engine);
    assert_eq!(codes(&heard(ticket).expect("answered")), [DONE]);
    assert_eq!(records(dir.path()).last().map(|record| record.kind), Some(RecordKind::Stop as u16));
}

#[test]
fn what_waits_at_a_stop_is_executed_and_answered() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = start(dir.path(), Toy::default());
    let gate = Gate::closed();
    let mut waiting = vec![engine.submit(online(&[add(1, 1).at(&gate)]))];
    gate.reached();
    waiting.extend((2..6).map(|id| engine.submit(bulk(&[add(id, 1)]))));
    waiting.extend((6..10).map(|id| engine.submit(online(&[add(id, 1)]))));
    let question = engine.query(1);
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| engine.stop());
        gate.open();
        for ticket in waiting {
            assert_eq!(codes(&heard(ticket).expect("answered")), [DONE]);
        }
        assert_eq!(heard(question), Ok(5), "asked with the online requests");
        assert_eq!(stopping.join().expect("no panic").expect("stopped").counter(), 9);
    });
    assert_eq!(ids(dir.path()).concat(), [1, 6, 7, 8, 9, 2, 3, 4, 5]);
}

/// A stop that was not orderly is told at the next start, and its last record is then confirmed.
#[test]
fn the_last_record_before_a_failure_is_confirmed_after_the_start() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = start(dir.path(), Toy::default());
    // The writer ends while it tells an earlier outcome: the record of add(2) is the last.
    ask(&engine, &[add(1, 1)]);
    assert!(heard(engine.submit(online(&[add(2, 1), add(1, 1).untold()]))).is_err());
    assert!(engine.stop().is_err());
    let last = records(dir.path()).len() as u64;
    let (engine, recovery) = start(dir.path(), Toy::default());
    assert!(!recovery.journal.orderly);
    assert_eq!(recovery.journal.records, last);
    let mut follower = engine.follow_from(last + 1).expect("a follower");
    let mut kind = 0;
    assert!(follower.next(crate::gate::PATIENCE, |record| kind = record.header.kind).expect("read"));
    assert_eq!(kind, RecordKind::Closing as u16);
    engine.stop().expect("stopped");
}
