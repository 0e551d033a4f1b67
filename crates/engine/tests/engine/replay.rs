//! Replay: what a record says is compared with what deciding it again gives; older rules are folded, newer
//! ones refused.

use crate::setup::{HandClock, NOW_MS, SEGMENT_BLOCKS, ask, codes, entries, records, start, try_start};
use crate::toy::{DONE, REFUSED, Toy, add, block, rules};
use pabal_engine::{Error, Mode, Replay, ReplayError};
use pabal_journal::{BLOCK, Error as JournalError, Reader, Record, RecordHeader, UNIT, verify};
use std::path::Path;

/// Three batches: counter 1 at 100, at 150, a withdrawal refused.
fn some_batches(data: &Path) {
    let (engine, _) = start(data, Toy::default());
    ask(&engine, &[add(1, 100)]);
    ask(&engine, &[add(2, 20), add(3, 30)]);
    assert_eq!(codes(&ask(&engine, &[add(4, -151), block(5, 66)])), [REFUSED, DONE]);
    engine.stop().expect("stopped");
}

/// What is wrong with this journal in the eyes of this machine.
fn wrong(data: &Path, toy: Toy) -> Option<ReplayError> {
    let journal = data.join("journal");
    let mut replay = Replay::new(toy, Reader::open(&journal).expect("a reader"));
    let mut wrong = None;
    verify(&journal, &mut |record| {
        if wrong.is_none() {
            wrong = replay.record(record).err();
        }
        Ok(())
    })
    .expect("sound");
    wrong
}

/// Whether the engine refuses to run on it, with the same words.
fn refused_at_start(data: &Path, toy: Toy) -> String {
    let started = try_start(data, toy, HandClock::at(NOW_MS).source(None), SEGMENT_BLOCKS);
    match started.map(|_| ()) {
        Err(error @ Error::Journal(JournalError::Visitor(_))) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_decided_otherwise_is_named_by_record_and_position() {
    let dir = tempfile::tempdir().expect("a folder");
    some_batches(dir.path());
    assert!(wrong(dir.path(), Toy::default()).is_none());
    let lower = || Toy { limit: 149, ..Toy::default() };
    // The third command passes a limit that was not there when it was decided.
    let third = entries(dir.path())[2];
    let second =
        records(dir.path()).iter().find(|r| r.ids() == [2, 3]).map(|r| r.sequence).expect("it is there");
    match wrong(dir.path(), lower()) {
        Some(ReplayError::Differs { sequence, position, .. }) => {
            assert_eq!((sequence, position.0), (second, third.position));
        }
        other => panic!("{other:?}"),
    }
    let told = refused_at_start(dir.path(), lower());
    assert!(told.contains(&format!("record {second}, entry at position {}", third.position)), "{told}");
    // Nothing was changed by that.
    start(dir.path(), Toy::default()).0.stop().expect("stopped");
}

/// The same entries, and yet another state.
#[test]
fn a_digest_that_differs_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    some_batches(dir.path());
    let salted = || Toy { salt: 1, ..Toy::default() };
    assert!(matches!(wrong(dir.path(), salted()), Some(ReplayError::Digest { sequence: 1 })));
    let told = refused_at_start(dir.path(), salted());
    assert!(told.contains("record 1") && told.contains("digest"), "{told}");
}

/// A journal that begins under rules 1 and goes on under rules 2.
fn two_rules(data: &Path) {
    let (engine, _) = start(data, Toy { known: 2, ..Toy::default() });
    ask(&engine, &[add(1, 100)]);
    ask(&engine, &[add(2, -101)]);
    ask(&engine, &[rules(3, 2)]);
    ask(&engine, &[add(4, 5)]);
    engine.stop().expect("stopped");
}

#[test]
fn records_of_newer_rules_are_refused_with_what_to_do() {
    let dir = tempfile::tempdir().expect("a folder");
    two_rules(dir.path());
    let at = records(dir.path()).iter().find(|r| r.rules == 2).map(|r| r.sequence).expect("it is there");
    match wrong(dir.path(), Toy::default()) {
        Some(ReplayError::RulesUnknown { sequence, found: 2, known: 1 }) => assert_eq!(sequence, at),
        other => panic!("{other:?}"),
    }
    let told = refused_at_start(dir.path(), Toy::default());
    assert!(told.contains(&format!("record {at} ")) && told.contains("use a newer one"), "{told}");
}

#[test]
fn records_of_older_rules_are_folded_and_those_of_its_own_decided_again() {
    let dir = tempfile::tempdir().expect("a folder");
    two_rules(dir.path());
    // It would decide the first command otherwise, and must not.
    let toy = || Toy { known: 2, limit: 99, ..Toy::default() };
    match wrong(dir.path(), toy()) {
        Some(ReplayError::Differs { position, .. }) => {
            assert_eq!(
                position.0,
                entries(dir.path())[3].position,
                "rules 2 are decided again: 105 is too much"
            );
        }
        other => panic!("{other:?}"),
    }
    let toy = Toy { known: 2, ..Toy::default() };
    let seen = toy.seen.clone();
    let (engine, recovery) = start(dir.path(), toy);
    assert_eq!(recovery.commands, 4);
    // The record that changes the rules ends under the new ones.
    let modes = [Mode::Fold(DONE), Mode::Fold(REFUSED), Mode::Again, Mode::Again];
    assert_eq!(*seen.modes.lock().expect("not poisoned"), modes);
    let toy = engine.stop().expect("stopped");
    assert_eq!((toy.counter(), toy.rules), (105, 2));
    // By a program that knows rules 3 all of it is folded.
    let toy = Toy { known: 3, limit: 0, ..Toy::default() };
    let seen = toy.seen.clone();
    assert_eq!(start(dir.path(), toy).0.stop().expect("stopped").counter(), 105);
    let folded = [DONE, REFUSED, DONE, DONE].map(Mode::Fold);
    assert_eq!(*seen.modes.lock().expect("not poisoned"), folded);
}

/// What replaying a journal says whose records are changed so, each by itself after all before it.
fn forged(data: &Path, toy: Toy, change: impl Fn(&mut RecordHeader, &mut [u8])) -> Vec<ReplayError> {
    let journal = data.join("journal");
    let mut replay = Replay::new(toy, Reader::open(&journal).expect("a reader"));
    let mut said = Vec::new();
    verify(&journal, &mut |record| {
        let (mut header, mut blocks) = (*record.header, record.blocks.to_vec());
        change(&mut header, &mut blocks);
        let (start_block, hash) = (record.start_block, record.hash);
        said.extend(replay.record(&Record { header: &header, start_block, hash, blocks: &blocks }).err());
        Ok(())
    })
    .expect("sound");
    said
}

/// An outcome code that the program does not know stopped whoever folded it.
#[test]
fn an_outcome_that_is_not_known_is_told_by_record_and_position() {
    let dir = tempfile::tempdir().expect("a folder");
    two_rules(dir.path());
    let first = entries(dir.path())[0].position;
    // The first entry of a record stands after its header and that of its request.
    let at = first as usize % (BLOCK / UNIT) * UNIT + 6;
    let change = |header: &mut RecordHeader, blocks: &mut [u8]| {
        if header.sequence == 1 {
            blocks[at..at + 2].copy_from_slice(&999u16.to_le_bytes());
        }
    };
    let said = forged(dir.path(), Toy { known: 2, ..Toy::default() }, change);
    match &said[0] {
        ReplayError::Differs { sequence: 1, position, what } => {
            assert_eq!((position.0, *what), (first, "an outcome that this program does not know"));
        }
        other => panic!("{other:?}"),
    }
}

/// A record whose time is before that of the one before it stopped the machine, which takes it for the engine's
/// mistake; so did one whose time overflows when something is added to it.
#[test]
fn a_time_that_goes_back_or_beyond_all_times_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    some_batches(dir.path());
    for time_ms in [0, NOW_MS - 1, 1 << 48, u64::MAX] {
        let said = forged(dir.path(), Toy::default(), |header, _| {
            if header.sequence == 2 {
                header.time_ms = time_ms;
            }
        });
        match said[0] {
            ReplayError::Time { sequence: 2, time_ms: found, last_ms: NOW_MS } => assert_eq!(found, time_ms),
            ref other => panic!("{other:?}"),
        }
    }
}
