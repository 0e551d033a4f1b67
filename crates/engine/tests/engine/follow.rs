//! Following: every record once, in order, never one that is not durable.

use crate::gate::{Gate, PATIENCE};
use crate::setup::{ask, heard, online, records, start};
use crate::toy::{Toy, add};
use pabal_engine::{Engine, Error, Follower};
use pabal_journal::RecordKind;
use std::time::Duration;

/// Sequence and entries of the next record; None when none comes.
fn next(follower: &mut Follower, engine: &Engine<Toy>, wait: Duration) -> Option<(u64, u32)> {
    let mut seen = None;
    let came = follower
        .next(wait, |record| seen = Some((record.header.sequence, record.header.count)))
        .expect("read");
    assert_eq!(came, seen.is_some());
    if let Some((sequence, _)) = seen {
        assert!(sequence <= engine.durable().sequence(), "record {sequence} is not durable yet");
    }
    seen
}

/// Writes records over several segments while followers that began at different records read along.
#[test]
fn followers_see_each_record_once_while_the_writer_goes_on() {
    const COMMANDS: u64 = 400;
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = start(dir.path(), Toy::default());
    let before = ask(&engine, &[add(1, 1)]).sequence;
    let seen: Vec<Vec<(u64, u32)>> = std::thread::scope(|scope| {
        let followers: Vec<_> = [1, before, before + 1]
            .into_iter()
            .map(|from| {
                let mut follower = engine.follow_from(from).expect("a follower");
                let engine = &engine;
                scope.spawn(move || {
                    let mut seen = Vec::new();
                    let mut entries = 0;
                    let all = if from <= before { COMMANDS } else { COMMANDS - 1 };
                    // Each command has an entry and its request's header.
                    while entries < 2 * all {
                        let record = next(&mut follower, engine, PATIENCE).expect("it comes");
                        entries += record.1 as u64;
                        seen.push(record);
                    }
                    seen
                })
            })
            .collect();
        // One after the other, so that each is a record: more than six segments.
        (2..=COMMANDS).for_each(|id| drop(ask(&engine, &[add(id, 1)])));
        followers.into_iter().map(|follower| follower.join().expect("followed")).collect()
    });
    engine.stop().expect("stopped");
    assert!(dir.path().join("journal/000000000006.seg").exists());
    let all: Vec<_> = records(dir.path())
        .iter()
        .map(|r| (r.sequence, r.requests.iter().map(|request| 1 + request.entries.len() as u32).sum()))
        .collect();
    for (from, seen) in [1, before, before + 1].into_iter().zip(seen) {
        let there = &all[from as usize - 1..];
        assert_eq!(seen, there[..seen.len()], "from record {from}");
    }
}

#[test]
fn a_follower_can_begin_at_any_record_of_any_segment() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = start(dir.path(), Toy::default());
    for id in 0..150 {
        // Some of several blocks, some that leave the rest of their segment empty.
        let commands: Vec<_> = (0..1 + id % 50).map(|part| add(id * 100 + part, 1)).collect();
        let room = if id % 31 == 0 { 3000 } else { 0 };
        ask(&engine, &commands.iter().map(|c| c.claiming(room / commands.len() as u64)).collect::<Vec<_>>());
    }
    let last = engine.durable().sequence();
    for from in 1..=last {
        let mut follower = engine.follow_from(from).expect("a follower");
        for sequence in from..=last.min(from + 2) {
            assert_eq!(next(&mut follower, &engine, PATIENCE).map(|record| record.0), Some(sequence));
        }
    }
    // After a restart as before it: what the follower keeps is one number.
    let last_before = { engine.stop().map(|_| records(dir.path()).len() as u64).expect("stopped") };
    let (engine, _) = start(dir.path(), Toy::default());
    for from in [1, last / 2, last_before] {
        let mut follower = engine.follow_from(from).expect("a follower");
        assert_eq!(next(&mut follower, &engine, PATIENCE).map(|record| record.0), Some(from));
    }
}

#[test]
fn the_record_that_is_being_made_is_not_seen_and_then_is() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = start(dir.path(), Toy::default());
    let mut from_first = engine.follow().expect("a follower");
    assert_eq!(next(&mut from_first, &engine, Duration::ZERO), None, "an empty journal");
    let gate = Gate::closed();
    let held = engine.submit(online(&[add(1, 1).at(&gate)]));
    gate.reached();
    let mut from_next = engine.follow_from(1).expect("the next one to come");
    for follower in [&mut from_first, &mut from_next] {
        assert_eq!(next(follower, &engine, Duration::ZERO), None);
    }
    gate.open();
    heard(held).expect("answered");
    for follower in [&mut from_first, &mut from_next] {
        assert_eq!(next(follower, &engine, PATIENCE), Some((1, 2)));
    }
}

/// It was shown something that this journal never had, or has lost.
#[test]
fn a_follower_that_is_ahead_of_the_journal_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = start(dir.path(), Toy::default());
    assert!(matches!(engine.follow_from(2), Err(Error::Ahead { sequence: 2, last: 0 })));
    ask(&engine, &[add(1, 1)]);
    let mut follower = engine.follow().expect("a follower");
    while next(&mut follower, &engine, PATIENCE).is_some_and(|record| record.1 > 0) {}
    // The closing record was the second; nothing follows it.
    assert!(engine.follow_from(3).is_ok());
    let refused = engine.follow_from(4).map(|_| ()).expect_err("ahead").to_string();
    assert!(refused.contains("record 4") && refused.contains("record 2"), "{refused}");
}

/// While nothing happens a closing record confirms the last one: once, not again and again.
#[test]
fn a_closing_record_follows_work_and_only_work() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = start(dir.path(), Toy::default());
    let mut follower = engine.follow().expect("a follower");
    for id in 1..=10 {
        ask(&engine, &[add(id, 1)]);
        let mut kinds = Vec::new();
        while kinds.last() != Some(&(RecordKind::Closing as u16)) {
            let came = follower.next(PATIENCE, |record| kinds.push(record.header.kind)).expect("read");
            assert!(came, "nobody confirms the last record");
        }
        assert_eq!(kinds, [RecordKind::Batch as u16, RecordKind::Closing as u16]);
        // What leaves no record needs no confirmation.
        ask(&engine, &[add(id, 1)]);
        assert_eq!(heard(engine.query(1)), Ok(id as i64));
    }
    // Waits for what must not come: too short a wait could miss it, never invent it.
    assert!(!follower.next(Duration::from_millis(50), |_| ()).expect("read"), "confirmed once more");
    engine.stop().expect("stopped");
    let kinds: Vec<_> = records(dir.path()).iter().map(|record| record.kind).collect();
    assert_eq!(kinds.len(), 21);
    assert_eq!(kinds[20], RecordKind::Stop as u16);
}
