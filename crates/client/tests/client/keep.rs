//! What is kept of what was sent.

use pabal_bank::command;
use pabal_client::{Envelope, Keep, KeepConfig, KeepError, Lane, Parcel};
use pabal_ledger::Id;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zerocopy::IntoBytes;

fn parcel(n: u64) -> Arc<Parcel> {
    let id = |n| Id::new(n, 0, n << 2);
    let envelope = Envelope {
        class: (n % 5) as u8,
        lane: if n.is_multiple_of(2) { Lane::Online } else { Lane::Bulk },
        deadline_ms: n,
        attempt: id(n + 100),
        principal: n + 1,
        item: n + 2,
    };
    let commands = command::void_hold(id(n), id(n + 7)).as_bytes().repeat(1 + n as usize % 3);
    Arc::new(Parcel::of(envelope, commands).expect("commands"))
}

fn open(path: &Path) -> Result<Keep, KeepError> {
    Keep::open(path, KeepConfig::default())
}

fn left(path: &Path) -> Vec<(u64, Arc<Parcel>)> {
    open(path).expect("opened").unsettled().iter().map(|(n, parcel)| (*n, parcel.clone())).collect()
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("sent");
    (dir, path)
}

#[test]
fn what_was_not_settled_comes_back_as_it_was() {
    let (_dir, path) = place();
    let mut keep = open(&path).expect("begun");
    assert_eq!(keep.bank_known(), None);
    keep.bank(77);
    let numbers: Vec<u64> = (0..6).map(|n| keep.sent(parcel(n)).expect("room")).collect();
    keep.write().expect("written");
    assert_eq!(keep.bank_known(), Some(77));
    for n in [1, 4] {
        keep.settled(numbers[n]);
    }
    keep.write().expect("written");
    drop(keep);
    let expected: Vec<_> = [0, 2, 3, 5].map(|n| (numbers[n], parcel(n as u64))).into();
    assert_eq!(left(&path), expected);
    let mut keep = open(&path).expect("opened");
    assert_eq!(keep.bank_known(), Some(77));
    assert!(keep.sent(parcel(9)).expect("room") > numbers[5], "no number is used twice");
}

/// Whatever byte it was cut at: each request whose bytes are whole is there, unless its mark is whole too.
#[test]
fn a_file_cut_at_every_byte_gives_back_what_is_whole() {
    let (_dir, path) = place();
    let mut keep = open(&path).expect("begun");
    // Bytes of the file after each step, and what is unsettled then.
    let mut steps = Vec::new();
    let step = |keep: &Keep, steps: &mut Vec<_>| {
        let bytes = std::fs::read(&path).expect("read").len();
        steps.push((bytes, keep.unsettled().keys().copied().collect::<Vec<_>>()));
    };
    step(&keep, &mut steps);
    for n in 0..4 {
        let number = keep.sent(parcel(n)).expect("room");
        keep.write().expect("written");
        step(&keep, &mut steps);
        if n % 2 == 1 {
            keep.settled(number);
            keep.write().expect("written");
            step(&keep, &mut steps);
        }
    }
    drop(keep);
    let whole = std::fs::read(&path).expect("read");
    assert_eq!(steps.last().expect("steps").0, whole.len());
    for cut in 0..=whole.len() {
        std::fs::write(&path, &whole[..cut]).expect("written");
        let Some((_, expected)) = steps.iter().rev().find(|(bytes, _)| *bytes <= cut) else {
            assert!(
                matches!(open(&path), Err(KeepError::Foreign)),
                "{cut}: never taken for one without requests"
            );
            continue;
        };
        let numbers: Vec<u64> = left(&path).into_iter().map(|(number, _)| number).collect();
        assert_eq!(numbers, *expected, "{cut}");
        // It goes on from there.
        let mut keep = open(&path).expect("opened");
        let number = keep.sent(parcel(8)).expect("room");
        keep.write().expect("written");
        drop(keep);
        assert_eq!(left(&path).last(), Some(&(number, parcel(8))), "{cut}");
    }
}

/// Any byte that is not what was written is found: in front of other entries it is damage, at the end a torn write.
#[test]
fn a_changed_byte_is_never_believed() {
    let (_dir, path) = place();
    let mut keep = open(&path).expect("begun");
    for n in 0..3 {
        keep.sent(parcel(n)).expect("room");
        keep.write().expect("written");
    }
    let before_last = std::fs::read(&path).expect("read").len();
    keep.sent(parcel(3)).expect("room");
    keep.write().expect("written");
    drop(keep);
    let whole = std::fs::read(&path).expect("read");
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        std::fs::write(&path, &changed).expect("written");
        match open(&path) {
            Err(KeepError::Foreign) => assert!(at < 24, "{at}"),
            Err(KeepError::Rotten(_)) => assert!((24..before_last).contains(&at), "{at}"),
            Ok(keep) => {
                assert!(at >= before_last, "{at}");
                assert_eq!(keep.unsettled().len(), 3, "{at}");
            }
            Err(other) => panic!("{at}: {other}"),
        }
    }
}

#[test]
fn it_is_bounded_and_is_written_anew_when_most_is_settled() {
    let (_dir, path) = place();
    let config = KeepConfig { bytes_max: 10_000, synced: true };
    let mut keep = Keep::open(&path, config).expect("begun");
    keep.bank(5);
    let stays = keep.sent(parcel(1)).expect("room");
    for _ in 0..20_000 {
        let number = keep.sent(parcel(0)).expect("room");
        keep.settled(number);
        if number.is_multiple_of(50) {
            keep.write().expect("written");
        }
        let bytes = std::fs::metadata(&path).expect("there").len();
        assert!(bytes < (1 << 20) + 40_000, "{bytes} bytes");
    }
    keep.write().expect("written");
    let numbers: Vec<u64> = std::iter::from_fn(|| keep.sent(parcel(0)).ok()).collect();
    assert!(matches!(keep.sent(parcel(0)), Err(KeepError::Full)));
    keep.settled(numbers[0]);
    keep.sent(parcel(0)).expect("there is room again");
    keep.write().expect("written");
    drop(keep);
    let keep = open(&path).expect("opened");
    assert_eq!((keep.bank_known(), keep.unsettled().len()), (Some(5), 1 + numbers.len()));
    assert_eq!(keep.unsettled().get(&stays), Some(&parcel(1)));
}

#[test]
fn one_process_has_it_at_a_time() {
    let (_dir, path) = place();
    let keep = open(&path).expect("begun");
    assert!(matches!(open(&path), Err(KeepError::InUse)));
    drop(keep);
    open(&path).expect("free again");
}
