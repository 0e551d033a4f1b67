//! The ring's file, as a crash or a loss of power can leave it: what fails its check is ignored.

use crate::child::{Killed, Role, crashes, innocent};
use crate::setup::{ask, codes, ids, start};
use crate::toy::{DONE, QUARANTINED, Toy};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

// Where things are in the file: five words of eight bytes, then at the second page the request.
const EXECUTING: usize = 0;
const CURSOR: usize = 8;
const LENGTH: usize = 16;
const CHECK: usize = 24;
const CRASHES: usize = 32;
const HEADER: usize = 4096;
const COMMANDS: usize = HEADER + 64;

/// A folder whose engine was killed while it executed the second of three innocent commands.
struct Crashed {
    dir: TempDir,
    ring: Vec<u8>,
}

impl Crashed {
    fn new() -> Crashed {
        let dir = tempfile::tempdir().expect("a folder");
        let mut child = Killed::spawn(Role::Held, dir.path());
        child.says("held");
        child.kill("held");
        let ring = std::fs::read(dir.path().join("ring")).expect("it survives the process");
        Crashed { dir, ring }
    }

    /// A copy of the folder with this ring.
    fn with(&self, ring: &[u8]) -> TempDir {
        let copy = tempfile::tempdir().expect("a folder");
        let journal = copy.path().join("journal");
        std::fs::create_dir(&journal).expect("a folder");
        for entry in std::fs::read_dir(self.dir.path().join("journal")).expect("a folder") {
            let from: PathBuf = entry.expect("an entry").path();
            std::fs::copy(&from, journal.join(from.file_name().expect("a name"))).expect("copied");
        }
        std::fs::write(copy.path().join("ring"), ring).expect("written");
        copy
    }

    fn changed(&self, at: usize, to: &[u8]) -> Vec<u8> {
        let mut ring = self.ring.clone();
        ring[at..at + to.len()].copy_from_slice(to);
        ring
    }
}

/// Makes the check of this ring's request right.
fn sealed(mut ring: Vec<u8>) -> Vec<u8> {
    let length = u64::from_le_bytes(ring[LENGTH..LENGTH + 8].try_into().expect("eight bytes")) as usize;
    let check = u64::from(crc32c::crc32c(&ring[HEADER..HEADER + length]));
    ring[CHECK..CHECK + 8].copy_from_slice(&check.to_le_bytes());
    ring
}

fn flipped(byte: u8) -> [u8; 1] {
    [byte ^ 0x10]
}

/// Starts on it, sends the innocent request again, and gives whether it had been tried, with all records.
fn started(data: &Path) -> (bool, Vec<Vec<u64>>) {
    let (engine, recovery) = start(data, Toy::default());
    assert!(!recovery.quarantined, "nothing crashed twice");
    assert_eq!(codes(&ask(&engine, &innocent())), [DONE; 3]);
    assert_eq!(engine.stop().expect("stopped").counter(), 116, "each once");
    let (engine, again) = start(data, Toy::default());
    assert!(!again.tried_alone, "after an orderly stop there is nothing to try");
    engine.stop().expect("stopped");
    (recovery.tried_alone, ids(data))
}

#[test]
fn a_ring_whose_check_fails_is_ignored_and_its_request_done_when_it_is_sent_again() {
    let crashed = Crashed::new();
    let ring = &crashed.ring;
    // Untouched it is believed; else the rest of this test would show nothing.
    let believed = started(crashed.with(ring).path());
    assert_eq!(believed, (true, vec![vec![1], vec![21], vec![22], vec![23]]));

    let ignored = (false, vec![vec![1], vec![21, 22, 23]]);
    let length = u64::from_le_bytes(ring[LENGTH..LENGTH + 8].try_into().expect("eight bytes")) as usize;
    let mut broken: Vec<(String, Vec<u8>)> = vec![
        ("empty".into(), Vec::new()),
        ("zero".into(), vec![0; ring.len()]),
        ("all ones".into(), vec![0xff; ring.len()]),
        ("one byte".into(), ring[..1].to_vec()),
        ("cut in its words".into(), ring[..CHECK + 3].to_vec()),
        ("cut before the request".into(), ring[..HEADER].to_vec()),
        ("cut in the request's header".into(), ring[..HEADER + 40].to_vec()),
        // The last bytes of the last command are zero: a cut there takes nothing away.
        ("cut in the commands".into(), ring[..COMMANDS + 64 + 20].to_vec()),
        ("not executing".into(), crashed.changed(EXECUTING, &0u64.to_le_bytes())),
        ("executing, but how".into(), crashed.changed(EXECUTING, &2u64.to_le_bytes())),
        ("check".into(), crashed.changed(CHECK, &flipped(ring[CHECK]))),
        (
            "check, high bytes".into(),
            crashed.changed(CHECK, &[ring[CHECK..CHECK + 7].to_vec(), vec![1]].concat()),
        ),
    ];
    for wrong in [0, 1, 63, length as u64 - 64, length as u64 + 64, ring.len() as u64, u64::MAX] {
        broken.push((format!("length {wrong}"), crashed.changed(LENGTH, &wrong.to_le_bytes())));
    }
    for at in [HEADER, HEADER + 8, HEADER + 63, COMMANDS, COMMANDS + 16, HEADER + length - 1] {
        broken.push((format!("byte {at}"), crashed.changed(at, &flipped(ring[at]))));
    }
    let noise: Vec<u8> = (0..ring.len() as u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 13) as u8).collect();
    broken.push(("noise".into(), noise.clone()));
    broken.push(("another request's words".into(), [&noise[..HEADER], &ring[HEADER..]].concat()));
    broken.push(("another request".into(), [&ring[..HEADER], &noise[HEADER..]].concat()));
    for (what, ring) in broken {
        assert_eq!(started(crashed.with(&ring).path()), ignored, "{what}");
    }
}

/// The cursor is outside the check: it moves before each command. Wherever it is, each command is done once.
#[test]
fn a_cursor_that_points_nowhere_does_no_harm() {
    let crashed = Crashed::new();
    let all = vec![vec![1], vec![21], vec![22], vec![23]];
    for cursor in [127, 128, 192, u64::MAX] {
        let data = crashed.with(&crashed.changed(CURSOR, &cursor.to_le_bytes()));
        assert_eq!(started(data.path()), (true, all.clone()), "cursor {cursor}");
    }
}

/// The count of crashes is what sets a command aside.
#[test]
fn a_second_crash_at_the_same_command_sets_it_aside_and_no_other() {
    let crashed = Crashed::new();
    // The count is outside the check, and may be anything.
    let any = crashed.with(&crashed.changed(CRASHES, &u64::MAX.to_le_bytes()));
    assert!(start(any.path(), Toy::default()).1.quarantined);
    let data = crashed.with(&crashed.changed(CRASHES, &1u64.to_le_bytes()));
    let (engine, recovery) = start(data.path(), Toy::default());
    assert!(recovery.tried_alone && recovery.quarantined);
    assert_eq!(codes(&ask(&engine, &innocent())), [DONE, QUARANTINED, DONE]);
    assert_eq!(engine.stop().expect("stopped").counter(), 106);
    // What follows in this process and after is not under suspicion.
    let mut child = Killed::spawn(Role::Load, data.path());
    child.says("answered");
    child.kill("answered");
    assert!(!start(data.path(), Toy::default()).1.quarantined);
}

/// A process that died before it executed anything again leaves what it found; that is no second crash.
#[test]
fn what_was_tried_and_done_is_not_tried_again() {
    let crashed = Crashed::new();
    let data = crashed.with(&crashed.ring);
    assert!(!crashes(Role::Start, data.path()));
    let (engine, recovery) = start(data.path(), Toy::default());
    assert!(!recovery.tried_alone);
    engine.stop().expect("stopped");
    assert_eq!(ids(data.path()), [[1], [21], [22]]);
}

/// A request's header went from the file into the journal as it was, and no start could read that record any more.
#[test]
fn a_header_that_is_no_requests_does_not_come_into_the_journal() {
    const ENTRY_UNITS: usize = HEADER + 5;
    const FLAGS: usize = HEADER + 4;
    let crashed = Crashed::new();
    for (at, bytes) in [(HEADER, [0, 0]), (HEADER, [1, 0]), (ENTRY_UNITS, [0, 9]), (FLAGS, [1, 1])] {
        let data = crashed.with(&sealed(crashed.changed(at, &bytes)));
        assert!(started(data.path()).0, "its check is right, so it is tried");
        start(data.path(), Toy::default()).0.stop().expect("what it wrote is read again");
    }
}

/// A request that takes more room than a record has stopped every start.
#[test]
fn a_request_that_no_record_has_the_room_for_is_not_tried() {
    const ROOM: usize = COMMANDS + 48;
    let crashed = Crashed::new();
    for room in [63 * 64, 1u64 << 40] {
        let data = crashed.with(&sealed(crashed.changed(ROOM, &room.to_le_bytes())));
        assert_eq!(started(data.path()).1, vec![vec![1], vec![21, 22, 23]], "room for {room} units");
    }
}
