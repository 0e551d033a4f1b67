//! Finding earlier entries: what a command finds when it is decided, replay finds too, wherever it stands.

use crate::gate::Gate;
use crate::setup::{SEGMENT_BLOCKS, ask, entries, heard, online, start};
use crate::toy::{Toy, add, look};
use pabal_engine::Error;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

/// The position of the first entry of a record that begins at this block: after the headers of the block, the
/// record and the request.
fn first_of(block: u64) -> u64 {
    block * 64 + 4
}

/// The record that holds it is handed to the writer at the moment at which the next batch looks for it.
#[test]
fn an_entry_on_its_way_to_the_disk_is_found() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = start(dir.path(), Toy::default());
    for id in 1..=100 {
        let gate = Gate::closed();
        let held = engine.submit(online(&[add(id * 10, 1).at(&gate)]));
        gate.reached();
        let position = first_of(engine.durable().next_block());
        let looking = engine.submit(online(&[look(id * 10 + 1, position)]));
        gate.open();
        let added = heard(held).expect("answered").replies[0];
        let looked = heard(looking).expect("answered").replies[0];
        // At a segment's border it is elsewhere.
        if added.position == position {
            assert_eq!(looked.value, added.value, "the entry at {position} was there");
        }
    }
    engine.stop().expect("stopped");
    start(dir.path(), Toy::default()).0.stop().expect("replayed");
}

#[test]
fn an_entry_of_the_record_being_made_is_found_and_one_yet_to_come_is_not() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = start(dir.path(), Toy::default());
    // Entries of two units each, from unit 4 of block 1 on.
    let own = [add(1, 7), look(2, 64 + 4), look(3, 64 + 6), look(4, 64 + 12), look(5, 64 + 5), look(6, 0)];
    let values: Vec<_> = ask(&engine, &own).replies.iter().map(|reply| reply.value).collect();
    assert_eq!(values, [7, 7, 7, -1, -1, -1]);
    engine.stop().expect("stopped");
    start(dir.path(), Toy::default()).0.stop().expect("replayed");
}

/// Where a record did not fit the rest of a segment nothing is ever written. Whoever names such a place, or one
/// that is yet to come, is told that nothing begins there; the core does not wait for it.
#[test]
fn a_position_at_which_nothing_is_written_is_not_waited_for() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = start(dir.path(), Toy::default());
    let blocks = SEGMENT_BLOCKS as u64;
    ask(&engine, &[add(1, 7)]);
    // The first of these begins a segment, and looks at the end of the one before.
    let skipped = first_of(blocks - 1);
    let replies = ask(&engine, &[look(2, skipped).claiming(3780), add(3, 1)]).replies;
    assert!(replies[0].position > blocks * 64, "it began the next segment");
    assert_eq!(replies[0].value, -1);
    for (id, position) in (4..).zip([
        skipped,
        blocks * 64,              // the segment's header
        first_of(blocks - 1) + 1, // inside nothing
        first_of(10 * blocks),    // a segment that is not there
        u64::MAX,
    ]) {
        assert_eq!(ask(&engine, &[look(id, position)]).replies[0].value, -1, "position {position}");
    }
    assert_eq!(ask(&engine, &[look(100, first_of(1))]).replies[0].value, 7);
    engine.stop().expect("stopped");
    start(dir.path(), Toy::default()).0.stop().expect("replayed");
}

/// A block that cannot be read is not a block without entries: what would be decided on it no sound copy of the
/// journal would decide again.
#[test]
fn an_entry_that_has_rotten_stops_the_core() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = start(dir.path(), Toy::default());
    let position = ask(&engine, &[add(1, 7)]).replies[0].position;
    let segment = dir.path().join("journal/000000000000.seg");
    let file = OpenOptions::new().read(true).write(true).open(segment).expect("a segment");
    let (place, mut was) = (position * 64 + 16, [0]);
    file.read_exact_at(&mut was, place).expect("read");
    file.write_all_at(&[was[0] ^ 1], place).expect("flipped");
    assert!(heard(engine.submit(online(&[look(2, position)]))).is_err(), "neither found nor not found");
    assert!(matches!(engine.stop(), Err(Error::Core)));
    file.write_all_at(&was, place).expect("restored");
    assert_eq!(entries(dir.path()).len(), 1);
}
