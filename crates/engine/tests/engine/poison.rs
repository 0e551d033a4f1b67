//! Poison: a command that stops the core is tried alone at the next start and set aside at the second crash.
//! Everything else in its request is done once.

use crate::child::{Killed, Role, crashes, innocent, poisoned, poisoned_bundle};
use crate::gate::Gate;
use crate::setup::{WrittenRequest, ask, batches, entries, heard, ids, online, start};
use crate::toy::{CONFLICT, Command, DONE, QUARANTINED, Toy, add, poison};
use pabal_engine::{Lane, RequestHeader};
use std::path::Path;

/// The requests that were tried alone, after the one that the child sent first.
fn tried(data: &Path) -> Vec<WrittenRequest> {
    batches(data).into_iter().skip(1).flat_map(|record| record.requests).collect()
}

/// Sends the request again and says what each command hears: code, value, and whether it was decided before.
fn sent_again(data: &Path, commands: &[Command]) -> Vec<(u16, i64, bool)> {
    let (engine, recovery) = start(data, Toy::default());
    assert!(!recovery.tried_alone && !recovery.quarantined, "once is enough");
    let heard = ask(&engine, commands).replies;
    engine.stop().expect("stopped");
    heard.iter().map(|reply| (reply.code, reply.value, reply.again)).collect()
}

#[test]
fn poison_is_tried_alone_and_set_aside_at_its_second_crash() {
    let dir = tempfile::tempdir().expect("a folder");
    assert!(crashes(Role::Poison, dir.path()), "at its first try");
    assert_eq!(ids(dir.path()), [[1]], "nothing of its batch is recorded");
    assert!(crashes(Role::Start, dir.path()), "tried alone");
    // What came before it in its request was done first, each in a record of its own.
    assert_eq!(ids(dir.path()), [[1], [11], [12]]);

    let (engine, recovery) = start(dir.path(), Toy::default());
    assert!(recovery.tried_alone && recovery.quarantined);
    // The bank goes on.
    assert_eq!(ask(&engine, &[add(2, 100)]).replies[0].value, 116);
    engine.stop().expect("stopped");
    assert_eq!(ids(dir.path()), [[1], [11], [12], [13], [2]]);
    let set_aside = &tried(dir.path())[2];
    assert_eq!(set_aside.header.flags, RequestHeader::QUARANTINED);
    assert_eq!(set_aside.entries[0].code, QUARANTINED);

    // Its sender heard nothing, and sends it again: done once, refused once, and what came after it done now.
    let first = [(DONE, 6, true), (DONE, 16, true), (QUARANTINED, 0, true)];
    let now = [(DONE, 216, false), (DONE, 1216, false)];
    assert_eq!(sent_again(dir.path(), &poisoned()), [&first[..], &now[..]].concat());
    let again = [(DONE, 216, true), (DONE, 1216, true)];
    assert_eq!(sent_again(dir.path(), &poisoned()), [&first[..], &again[..]].concat());
    let mut all: Vec<_> = entries(dir.path()).iter().map(|entry| entry.id).collect();
    all.sort_unstable();
    assert_eq!(all, [1, 2, 11, 12, 13, 14, 15]);
}

/// Set aside, it is harmless: sent once more it is answered like any other repeated command.
#[test]
fn the_same_poison_does_not_stop_the_core_again() {
    let dir = tempfile::tempdir().expect("a folder");
    assert!(crashes(Role::Poison, dir.path()));
    assert!(crashes(Role::Start, dir.path()));
    assert!(!crashes(Role::Poison, dir.path()), "set aside before it was sent a second time");
    assert_eq!(sent_again(dir.path(), &[poison(13)]), [(QUARANTINED, 0, true)]);
    assert_eq!(entries(dir.path()).iter().filter(|entry| entry.id == 13).count(), 1);
}

#[test]
fn poison_in_a_job_keeps_the_numbers_of_its_items() {
    let dir = tempfile::tempdir().expect("a folder");
    assert!(crashes(Role::PoisonInBulk, dir.path()));
    assert!(crashes(Role::Start, dir.path()));
    let (engine, recovery) = start(dir.path(), Toy::default());
    assert!(recovery.quarantined);
    engine.stop().expect("stopped");
    let sent = RequestHeader { attempt: [1, 2], count: 1, ..RequestHeader::new(Lane::Bulk, 4) };
    let expected = [
        RequestHeader { item: 70, ..sent },
        RequestHeader { item: 71, ..sent },
        RequestHeader { item: 72, flags: RequestHeader::QUARANTINED, ..sent },
    ];
    assert_eq!(tried(dir.path()).iter().map(|request| request.header).collect::<Vec<_>>(), expected);
}

#[test]
fn what_happens_together_with_poison_is_set_aside_with_it() {
    let dir = tempfile::tempdir().expect("a folder");
    assert!(crashes(Role::PoisonInBundle, dir.path()));
    assert!(crashes(Role::Start, dir.path()));
    let (engine, recovery) = start(dir.path(), Toy::default());
    assert!(recovery.quarantined);
    engine.stop().expect("stopped");
    let tried = tried(dir.path());
    let codes: Vec<Vec<_>> =
        tried.iter().map(|r| r.entries.iter().map(|entry| (entry.id, entry.code)).collect()).collect();
    let bundle = [12, 13, 14].map(|id| (id, QUARANTINED)).to_vec();
    assert_eq!(codes, [vec![(11, DONE)], bundle]);
    assert_eq!(tried[1].header.count, 3);
    let heard = sent_again(dir.path(), &poisoned_bundle());
    let aside = (QUARANTINED, 0, true);
    assert_eq!(heard, [(DONE, 6, true), aside, aside, aside, (DONE, 1006, false)]);
}

/// Killed from outside while an innocent command is executed: it is tried alone, and done.
#[test]
fn a_kill_in_the_middle_of_an_innocent_command_sets_nothing_aside() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut child = Killed::spawn(Role::Held, dir.path());
    child.says("held");
    child.kill("held");
    let (engine, recovery) = start(dir.path(), Toy::default());
    assert!(recovery.tried_alone && !recovery.quarantined);
    assert_eq!(heard(engine.query(1)), Ok(16), "the first two; nobody saw the third begin");
    engine.stop().expect("stopped");
    assert_eq!(ids(dir.path()), [[1], [21], [22]]);
    let expected = [(DONE, 6, true), (DONE, 16, true), (DONE, 116, false)];
    assert_eq!(sent_again(dir.path(), &innocent()), expected);
}

/// Killed under load, again and again: what was answered is there once, nothing is set aside.
#[test]
fn kills_under_load_lose_nothing_double_nothing_and_set_nothing_aside() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut answered = Vec::new();
    for cycle in 1..=5 {
        let mut child = Killed::spawn(Role::Load, dir.path());
        // Answers of earlier cycles come first, at once; then new ones.
        let new = 1000 + answered.len() as u64 + 20 * cycle;
        while {
            let said = child.says("answered");
            answered.push(said[0]);
            said[0] < new
        } {}
        answered.extend(child.kill("answered").iter().map(|said| said[0]));
        answered.sort_unstable();
        answered.dedup();
    }
    let (engine, recovery) = start(dir.path(), Toy::default());
    assert!(!recovery.quarantined);
    engine.stop().expect("stopped");
    assert!(answered.len() >= 100);
    let found: Vec<_> = entries(dir.path()).iter().map(|entry| (entry.id, entry.code)).collect();
    for id in answered.iter().flat_map(|id| [*id, id + 1_000_000]) {
        let times = found.iter().filter(|entry| **entry == (id, DONE)).count();
        assert_eq!(times, 1, "{id} was answered and is there {times} times");
    }
    assert!(found.iter().all(|(_, code)| *code == DONE), "something was set aside");
}

/// Requests that shared a batch with poison were not being executed, and are not suspected: their senders heard
/// nothing, and send again.
#[test]
fn only_the_request_that_was_being_executed_is_tried() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = start(dir.path(), Toy::default());
    let gate = Gate::closed();
    let held = engine.submit(online(&[add(1, 5).at(&gate)]));
    gate.reached();
    let waiting =
        [vec![add(2, 1)], vec![poison(3)], vec![add(4, 1)]].map(|commands| engine.submit(online(&commands)));
    gate.open();
    heard(held).expect("answered");
    assert!(waiting.into_iter().all(|ticket| heard(ticket).is_err()));
    assert!(engine.stop().is_err());
    assert!(crashes(Role::Start, dir.path()), "tried alone");
    let (engine, recovery) = start(dir.path(), Toy::default());
    assert!(recovery.quarantined);
    assert_eq!(heard(engine.query(1)), Ok(5));
    let replies = ask(&engine, &[add(2, 1), add(3, 1), add(4, 1)]).replies;
    assert_eq!(
        replies.iter().map(|r| (r.code, r.again)).collect::<Vec<_>>(),
        [(DONE, false), (CONFLICT, true), (DONE, false)]
    );
    engine.stop().expect("stopped");
}
