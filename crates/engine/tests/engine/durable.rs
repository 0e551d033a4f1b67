//! Nothing is answered before it is durable; when the disk fails whoever waits hears that the outcome is
//! unknown, and the journal says what it is.

use crate::gate::Gate;
use crate::setup::{ask, codes, entries, heard, ids, online, request, start};
use crate::toy::{BLOCKED, Command, DONE, Reply, Toy, add, block};
use pabal_engine::{Engine, Error, Lane, Request, RequestHeader, Response};
use pabal_journal::{Error as JournalError, Position, Reader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Units that no segment of the tests holds beside two small records: what claims them begins a new one.
const MOST_OF_A_SEGMENT: u64 = 3780;

/// The second segment of a journal, taken out of the writer's way.
struct Away {
    segment: PathBuf,
    kept: PathBuf,
}

impl Away {
    fn take(data: &Path) -> Away {
        let segment = data.join("journal/000000000001.seg");
        while !segment.exists() {
            std::thread::yield_now(); // it is being made, and comes
        }
        let kept = data.join("kept.seg");
        std::fs::rename(&segment, &kept).expect("moved");
        Away { segment, kept }
    }

    fn put_back(self) {
        let _ = std::fs::remove_dir(&self.segment).or_else(|_| std::fs::remove_file(&self.segment));
        std::fs::rename(self.kept, self.segment).expect("moved");
    }
}

/// A folder in its place: it cannot be opened.
fn folder(away: &Away) {
    std::fs::create_dir(&away.segment).expect("a folder in its place");
}

/// A full disk in its place: it opens, and takes no byte.
fn full_disk(away: &Away) {
    symlink("/dev/full", &away.segment).expect("a link in its place");
}

fn of_principal(principal: u64, id: u64) -> Request {
    request(RequestHeader { principal, ..RequestHeader::new(Lane::Online, 1) }, &[add(id, 1)])
}

/// Two records, so that what claims most of a segment goes to the next.
fn two_records(engine: &Engine<Toy>) -> Vec<Reply> {
    [add(1, 100), add(2, 10)].map(|command| ask(engine, &[command]).replies[0]).to_vec()
}

/// Everything that can be asked, in a batch of its own that follows the one whose write fails: it observes
/// what is never durable.
fn nothing_is_heard_of_a_write_that_failed(break_disk: fn(&Away)) {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = start(dir.path(), Toy::default());
    let first = two_records(&engine);
    let mut follower = engine.follow_from(engine.durable().sequence() + 1).expect("a follower");
    let away = Away::take(dir.path());
    break_disk(&away);
    let gate = Gate::closed();
    let lost = [add(3, 1).at(&gate).claiming(MOST_OF_A_SEGMENT), block(4, 66)];
    let failing = engine.submit(online(&lost));
    gate.reached();
    let repeated_of_it = engine.submit(online(&[add(3, 1)]));
    let repeated = engine.submit(online(&[add(1, 100)]));
    let refused = engine.submit(of_principal(66, 5));
    let question = engine.query(1);
    let after = engine.submit(online(&[add(6, 1)]));
    gate.open();
    for ticket in [failing, repeated_of_it, repeated, refused, after] {
        assert!(heard(ticket).is_err(), "neither done nor failed");
    }
    assert!(heard(question).is_err());
    assert!(!records_but_closing(&mut follower), "a follower sees nothing of it");
    match engine.stop() {
        Err(Error::Journal(JournalError::Io { path, .. })) => assert_eq!(path, away.segment),
        other => panic!("{:?}", other.map(|toy| toy.counters)),
    }
    away.put_back();

    // The journal has none of it, and the same ids are new, once.
    let (engine, _) = start(dir.path(), Toy::default());
    assert_eq!(heard(engine.query(1)), Ok(110));
    for again in [false, true] {
        let earlier = ask(&engine, &[add(1, 100), add(2, 10)]).replies;
        assert_eq!(earlier, first.iter().map(|r| Reply { again: true, ..*r }).collect::<Vec<_>>());
        let replies = ask(&engine, &[add(3, 1), block(4, 66), add(6, 1)]).replies;
        assert!(replies.iter().all(|reply| reply.code == DONE && reply.again == again));
        assert_eq!(codes(&heard(engine.submit(of_principal(66, 5))).expect("answered")), [BLOCKED]);
    }
    engine.stop().expect("stopped");
    assert_eq!(ids(dir.path()), [vec![1], vec![2], vec![3, 4, 6]]);
}

/// Whether a record with commands comes before the journal ends.
fn records_but_closing(follower: &mut pabal_engine::Follower) -> bool {
    let mut commands = false;
    while follower.next(crate::gate::PATIENCE, |r| commands |= r.header.count > 0).expect("read") {}
    commands
}

#[test]
fn when_the_next_segment_cannot_be_opened_everyone_hears_unknown() {
    nothing_is_heard_of_a_write_that_failed(folder);
}

#[test]
fn when_the_disk_is_full_everyone_hears_unknown() {
    nothing_is_heard_of_a_write_that_failed(full_disk);
}

#[test]
fn after_a_failed_write_nothing_more_is_executed() {
    let dir = tempfile::tempdir().expect("a folder");
    let toy = Toy::default();
    let seen = toy.seen.clone();
    let (engine, _) = start(dir.path(), toy);
    two_records(&engine);
    let away = Away::take(dir.path());
    folder(&away);
    assert!(heard(engine.submit(online(&[add(3, 1).claiming(MOST_OF_A_SEGMENT)]))).is_err());
    // The core finds the writer gone at one of its next records; the first refusal shows that it has ended.
    let ended = (1000..2000).any(|id| heard(engine.submit(online(&[add(id, 1)]))).is_ok_and(|r| refused(&r)));
    assert!(ended);
    let executed = || seen.begun.lock().expect("not poisoned").len();
    let before = executed();
    for id in 4..100 {
        assert!(not_done(&engine, id));
        assert!(heard(engine.query(1)).is_err());
    }
    assert_eq!(executed(), before);
    // Even when the disk is well again.
    away.put_back();
    assert!(not_done(&engine, 100));
    assert_eq!(executed(), before);
    assert!(matches!(engine.stop(), Err(Error::Journal(_))));
    assert_eq!(ids(dir.path()), [[1], [2]]);
}

/// Unknown, or refused without having used its id up.
fn not_done(engine: &Engine<Toy>, id: u64) -> bool {
    heard(engine.submit(online(&[add(id, 1)]))).map_or(true, |response| refused(&response))
}

fn refused(response: &Response<Reply>) -> bool {
    codes(response) == [crate::toy::OVERLOADED]
}

/// The record is durable and the process fails before it can say so: unknown, and the truth is "done".
#[test]
fn what_was_durable_and_never_answered_is_answered_after_the_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = start(dir.path(), Toy::default());
    ask(&engine, &[add(1, 100)]);
    let untold = [add(2, 10), add(1, 100).untold(), add(3, -1000)];
    assert!(heard(engine.submit(online(&untold))).is_err(), "the writer stopped before it could tell");
    assert!(not_done(&engine, 4));
    assert!(matches!(engine.stop(), Err(Error::Core)));

    let recorded = entries(dir.path());
    let (engine, _) = start(dir.path(), Toy::default());
    for _ in 0..2 {
        let replies = ask(&engine, &[add(2, 10), add(3, -1000)]).replies;
        for (reply, entry) in replies.iter().zip(&recorded[1..3]) {
            let Reply { code, value, position, again } = *reply;
            assert_eq!((code, value, position, again), (entry.code, entry.value, entry.position, true));
        }
    }
    assert_eq!(heard(engine.query(1)), Ok(110));
    assert_eq!(engine.stop().expect("stopped").counter(), 110);
    assert_eq!(entries(dir.path()).iter().map(|e| e.id).collect::<Vec<_>>(), [1, 2, 3]);
}

/// The writer is held after record 2. The core goes on and executes batch 3, and what repeats or reads batch 3;
/// nobody hears of it before the writer has gone on.
#[test]
fn answers_wait_while_the_writer_is_busy_with_the_record_before() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = start(dir.path(), Toy::default());
    ask(&engine, &[add(1, 1)]);
    let opened = Arc::new(AtomicBool::new(false));
    let (writer, core) = (Gate::closed(), Gate::closed());
    let before = engine.submit(online(&large(&[add(1, 1).told_at(&writer), add(2, 1)])));
    writer.reached();
    let durable = engine.durable();
    let written = durable.sequence();
    let mut follower = engine.follow_from(written + 1).expect("a follower");
    let executed = engine.submit(online(&[add(3, 1).at(&core)]));
    core.reached();
    core.open();
    let repeated = engine.submit(online(&[add(3, 1)]));
    let question = engine.query(1);
    let waiting = [executed, repeated].map(|ticket| {
        let (opened, durable) = (opened.clone(), durable.clone());
        std::thread::spawn(move || {
            let response = ticket.wait().expect("answered");
            assert!(opened.load(Ordering::SeqCst), "answered while its record waited for the writer");
            assert!(durable.sequence() > written && response.sequence > written);
        })
    });
    let asked = {
        let opened = opened.clone();
        std::thread::spawn(move || {
            assert_eq!(question.wait(), Ok(3));
            assert!(opened.load(Ordering::SeqCst), "shown while what it shows waited for the writer");
        })
    };
    assert_eq!(durable.sequence(), written);
    assert!(!follower.next(std::time::Duration::ZERO, |_| ()).expect("read"));
    opened.store(true, Ordering::SeqCst);
    writer.open();
    heard(before).expect("answered");
    waiting.into_iter().chain([asked]).for_each(|thread| thread.join().expect("in order"));
    engine.stop().expect("stopped");
    assert_eq!(ids(dir.path()), [[1], [2], [3]]);
}

/// These and so many repeats that their record is written by the writer's thread: a small one is by the core's.
fn large(commands: &[Command]) -> Vec<Command> {
    let repeats = std::iter::repeat_n(add(1, 1), 1024);
    commands.iter().copied().chain(repeats).collect()
}

/// Every answer, at the moment it is heard, is in the file that the journal is.
#[test]
fn an_answer_is_in_the_journal_when_it_is_heard() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = start(dir.path(), Toy::default());
    let reader = Reader::open(&dir.path().join("journal")).expect("a reader");
    std::thread::scope(|scope| {
        for sender in 1..=4u64 {
            let (engine, reader) = (&engine, &reader);
            scope.spawn(move || {
                for id in sender * 1000..sender * 1000 + 200 {
                    let response = ask(engine, &[add(id, 1), add(id - id % 7, 1)]);
                    assert!(engine.durable().sequence() >= response.sequence);
                    for reply in response.replies {
                        let entry = reader.entry(Position(reply.position)).expect("it is there");
                        assert_eq!(crate::toy::value_of(&entry), reply.value);
                    }
                }
            });
        }
    });
    engine.stop().expect("stopped");
}

/// A core that broke an invariant leaves nobody waiting either: neither those in its batch, nor those in the
/// lanes, nor those that come later.
#[test]
fn when_the_core_stops_on_a_broken_invariant_everyone_hears_unknown() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = start(dir.path(), Toy::default());
    let gate = Gate::closed();
    let culprit = engine.submit(online(&[add(1, 1).at(&gate), crate::toy::poison(2)]));
    gate.reached();
    let mut waiting = vec![culprit];
    waiting.push(engine.submit(online(&[add(3, 1)])));
    waiting.push(engine.submit(crate::setup::bulk(&[add(4, 1)])));
    let question = engine.query(1);
    gate.open();
    assert!(waiting.into_iter().all(|ticket| heard(ticket).is_err()));
    assert!(heard(question).is_err());
    assert!(not_done(&engine, 5));
    assert!(matches!(engine.stop(), Err(Error::Core)));
    assert!(ids(dir.path()).is_empty());
}

/// A writer that broke an invariant writes nothing more: a core that waits for a record on its way must not wait
/// for ever, and everybody with it.
#[test]
fn a_core_that_waits_for_a_record_hears_that_the_writer_is_gone() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = start(dir.path(), Toy::default());
    ask(&engine, &[add(1, 1)]);
    let durable = engine.durable();
    assert!(durable.wait_sequence(2, crate::gate::PATIENCE), "the closing record");
    let (writer, core) = (Gate::closed(), Gate::closed());
    let stops = engine.submit(online(&large(&[add(1, 1).told_at(&writer), add(1, 1).untold()])));
    writer.reached();
    let on_its_way = engine.submit(online(&[add(3, 1).at(&core)]));
    core.reached();
    let position = durable.next_block() * 64 + 4;
    let looks = engine.submit(online(&[crate::toy::look(4, position)]));
    core.open();
    writer.open();
    for ticket in [stops, on_its_way, looks] {
        assert!(heard(ticket).is_err());
    }
    assert!(matches!(engine.stop(), Err(Error::Core)));
    assert_eq!(ids(dir.path()), [[1]]);
}

/// The closing record fails, and nothing else comes: the engine ends at once, not when someone next asks.
#[test]
fn a_closing_record_that_fails_ends_an_idle_engine() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = start(dir.path(), Toy::default());
    let durable = engine.durable();
    let mut id = 0;
    let mut next = || {
        id += 1;
        ask(&engine, &[add(id, 1)]).sequence
    };
    // Batch and closing record, a block each, until one block of the segment is left.
    while durable.next_block() < crate::setup::SEGMENT_BLOCKS as u64 - 1 {
        let sequence = next();
        assert!(durable.wait_sequence(sequence + 1, crate::gate::PATIENCE), "closed");
    }
    let away = Away::take(dir.path());
    folder(&away);
    let (to, ended) = std::sync::mpsc::channel();
    engine.when_ended(move || to.send(()).expect("the test waits"));
    next();
    ended.recv_timeout(crate::gate::PATIENCE).expect("it ends");
    assert!(matches!(engine.stop(), Err(Error::Journal(_))));
    away.put_back();
    assert_eq!(start(dir.path(), Toy::default()).0.stop().expect("stopped").counter(), id as i64);
}
