//! The lanes: who is taken first, what is refused at the bounds. Proven by gates and by the order of records.

use crate::gate::Gate;
use crate::setup::{HandClock, NOW_MS, ask, batches, bulk, codes, heard, ids, online, start, try_start};
use crate::toy::{Command, DEADLINE, DONE, MALFORMED, OVERLOADED, Toy, add};
use pabal_engine::queue::{BULK_MAX, ONLINE_BYTES_MAX, ONLINE_MAX};
use pabal_engine::request::{BULK_COMMANDS_MAX, BYTES_MAX, COMMANDS_MAX};
use pabal_engine::{Engine, Recovery, Request};
use std::path::Path;

fn adds(ids: std::ops::Range<u64>) -> Vec<Command> {
    ids.map(|id| add(id, 1)).collect()
}

/// An engine whose segments hold the largest batch.
fn large(data: &Path) -> (Engine<Toy>, Recovery) {
    try_start(data, Toy::default(), HandClock::at(NOW_MS).source(None), 2048).expect("started")
}

#[test]
fn online_is_taken_before_bulk_that_came_first() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = start(dir.path(), Toy::default());
    let gate = Gate::closed();
    let held = engine.submit(online(&[add(1, 1).at(&gate)]));
    gate.reached();
    let mut waiting = vec![held];
    waiting.extend([2, 3].map(|id| engine.submit(bulk(&[add(id, 1)]))));
    waiting.extend([4, 5].map(|id| engine.submit(online(&[add(id, 1)]))));
    gate.open();
    waiting.into_iter().for_each(|ticket| assert_eq!(codes(&heard(ticket).expect("answered")), [DONE]));
    engine.stop().expect("stopped");
    // Online together, bulk one by one.
    assert_eq!(ids(dir.path()), [vec![1], vec![4, 5], vec![2], vec![3]]);
}

#[test]
fn online_that_comes_during_a_bulk_batch_waits_for_that_one_only() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = start(dir.path(), Toy::default());
    let gate = Gate::closed();
    let mut waiting = vec![engine.submit(bulk(&[add(1, 1).at(&gate), add(2, 1)]))];
    gate.reached();
    waiting.extend((3..10).map(|id| engine.submit(bulk(&[add(id, 1)]))));
    waiting.push(engine.submit(online(&[add(10, 1)])));
    gate.open();
    waiting.into_iter().for_each(|ticket| drop(heard(ticket).expect("answered")));
    engine.stop().expect("stopped");
    let ids = ids(dir.path());
    assert_eq!(ids[..3], [vec![1, 2], vec![10], vec![3]]);
    assert_eq!(ids.len(), 9, "each bulk request is a batch of its own");
}

/// A record being written takes many times longer than beginning the next batch, so that bulk begun too early
/// sees an earlier durable point in at least one of the rounds.
#[test]
fn bulk_is_begun_only_when_nothing_else_is_on_its_way() {
    let dir = tempfile::tempdir().expect("a folder");
    let toy = Toy::default();
    let seen = toy.seen.clone();
    let (engine, _) = start(dir.path(), toy);
    for round in 1..=30 {
        let gate = Gate::closed();
        let held = engine.submit(online(&[add(round * 10, 1).at(&gate)]));
        gate.reached();
        let first = engine.submit(online(&[add(round * 10 + 1, 1)]));
        let second = engine.submit(bulk(&[add(round * 10 + 2, 1)]));
        let third = engine.submit(bulk(&[add(round * 10 + 3, 1)]));
        gate.open();
        let before = [held, first].map(|t| heard(t).expect("answered").sequence);
        let second = heard(second).expect("answered").sequence;
        heard(third).expect("answered");
        let begun = seen.begun.lock().expect("not poisoned");
        let at = |id| begun.iter().find(|(begun, _)| *begun == id).expect("it was begun").1;
        assert!(at(round * 10 + 2) >= before[1], "begun while the online batch was on its way");
        assert!(at(round * 10 + 3) >= second, "begun while the bulk batch before it was on its way");
    }
}

/// Fills a lane behind a held command, sees the next request refused while it is held, and sends it again.
fn full_lane_refuses_at_once(fill: impl Fn() -> Request, requests: usize, last: fn(&[Command]) -> Request) {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = large(dir.path());
    let gate = Gate::closed();
    let held = engine.submit(online(&[add(1, 1).at(&gate)]));
    gate.reached();
    // What fills it will be too late, so that nothing of it need be written.
    let waiting: Vec<_> = (0..requests)
        .map(|_| {
            let mut request = fill();
            request.header.deadline_ms = 1;
            engine.submit(request)
        })
        .collect();
    let refused = heard(engine.submit(last(&[add(2, 10), add(3, 10)]))).expect("answered at once");
    assert_eq!(codes(&refused), [OVERLOADED; 2]);
    assert_eq!(refused.sequence, 0, "refused while nothing at all was durable");
    gate.open();
    assert_eq!(codes(&heard(held).expect("answered")), [DONE]);
    for ticket in waiting {
        assert!(codes(&ticket.wait().expect("answered")).iter().all(|&code| code == DEADLINE));
    }
    let sent_again = heard(engine.submit(last(&[add(2, 10), add(3, 10)]))).expect("answered");
    assert_eq!(codes(&sent_again), [DONE; 2]);
    assert!(sent_again.replies.iter().all(|reply| !reply.again), "the refusal used no id up");
    assert_eq!(engine.stop().expect("stopped").counter(), 21);
    assert_eq!(ids(dir.path()), [vec![1], vec![2, 3]]);
}

#[test]
fn a_full_bulk_lane_refuses_at_once() {
    full_lane_refuses_at_once(|| bulk(&[add(9, 1)]), BULK_MAX, bulk);
}

#[test]
fn a_full_online_lane_refuses_at_once() {
    full_lane_refuses_at_once(|| online(&[add(9, 1)]), ONLINE_MAX, online);
}

#[test]
fn an_online_lane_full_of_bytes_refuses_at_once() {
    let mebibyte = || online(&vec![add(9, 1).long(62); BYTES_MAX / (62 * 64)]);
    let bytes = mebibyte().commands.as_bytes().len();
    assert!(bytes <= BYTES_MAX && bytes > BYTES_MAX - 4096);
    // What is left of the lane is less than the request that is refused.
    let rest = ONLINE_BYTES_MAX % bytes;
    assert!(rest < bytes);
    let left = std::cell::Cell::new(ONLINE_BYTES_MAX / bytes);
    let fill = || {
        if left.get() > 0 {
            left.set(left.get() - 1);
            mebibyte()
        } else {
            online(&vec![add(9, 1); rest / 64])
        }
    };
    full_lane_refuses_at_once(fill, ONLINE_BYTES_MAX / bytes + 1, online);
}

/// A full lane has no answer for a question, and says so.
#[test]
fn a_question_to_a_full_lane_hears_unknown() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = start(dir.path(), Toy::default());
    let gate = Gate::closed();
    let held = engine.submit(online(&[add(1, 1).at(&gate)]));
    gate.reached();
    let waiting: Vec<_> = (0..ONLINE_MAX).map(|_| engine.query(1)).collect();
    assert!(heard(engine.query(1)).is_err());
    gate.open();
    heard(held).expect("answered");
    assert!(waiting.into_iter().all(|ticket| ticket.wait() == Ok(1)));
    assert_eq!(heard(engine.query(1)), Ok(1));
}

#[test]
fn requests_out_of_bounds_are_malformed_and_leave_no_entry() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = large(dir.path());
    let too_long = vec![add(1, 1).long(62); BYTES_MAX / (62 * 64) + 1];
    let mut not_commands = online(&[add(1, 1)]);
    not_commands.commands.push(&[0; 64]);
    let mut two_as_one = online(&[]);
    two_as_one.commands.push(&[add(1, 1).bytes(), add(2, 1).bytes()].concat());
    for (request, commands) in [
        (online(&[]), 0),
        (bulk(&[]), 0),
        (online(&adds(0..COMMANDS_MAX as u64 + 1)), COMMANDS_MAX + 1),
        (bulk(&adds(0..BULK_COMMANDS_MAX as u64 + 1)), BULK_COMMANDS_MAX + 1),
        (online(&too_long), too_long.len()),
        (not_commands, 2),
        (two_as_one, 1),
    ] {
        let response = heard(engine.submit(request)).expect("answered");
        assert_eq!(codes(&response), vec![MALFORMED; commands]);
    }
    // At the bounds, and under the ids that were refused.
    let most = heard(engine.submit(online(&adds(1..COMMANDS_MAX as u64 + 1)))).expect("answered");
    assert_eq!(codes(&most), [DONE; COMMANDS_MAX]);
    let (from, to) = (10_000, 10_000 + BULK_COMMANDS_MAX as u64);
    let most = heard(engine.submit(bulk(&adds(from..to)))).expect("answered");
    assert_eq!(codes(&most), [DONE; BULK_COMMANDS_MAX]);
    assert_eq!(engine.stop().expect("stopped").counter(), (COMMANDS_MAX + BULK_COMMANDS_MAX) as i64);
    let sizes: Vec<_> = ids(dir.path()).iter().map(Vec::len).collect();
    assert_eq!(sizes, [COMMANDS_MAX, BULK_COMMANDS_MAX]);
}

fn due(id: u64, deadline_ms: u64) -> Request {
    let mut request = online(&[add(id, 1)]);
    request.header.deadline_ms = deadline_ms;
    request
}

#[test]
fn a_deadline_that_passed_in_the_lane_is_refused_without_an_entry() {
    let dir = tempfile::tempdir().expect("a folder");
    let clock = HandClock::at(NOW_MS);
    let (engine, _) = try_start(dir.path(), Toy::default(), clock.source(None), 64).expect("started");
    let gate = Gate::closed();
    let held = engine.submit(online(&[add(1, 1).at(&gate)]));
    gate.reached();
    let send = |engine: &Engine<Toy>, id, deadline| engine.submit(due(id, deadline));
    let [late, just, never] = [
        send(&engine, 2, NOW_MS + 999),
        send(&engine, 3, NOW_MS + 1000),
        send(&engine, 4, 0), // none
    ];
    clock.pass(1000);
    gate.open();
    heard(held).expect("answered");
    assert_eq!(codes(&heard(late).expect("answered")), [DEADLINE]);
    assert_eq!(codes(&heard(just).expect("answered")), [DONE]);
    assert_eq!(codes(&heard(never).expect("answered")), [DONE]);
    let again = ask(&engine, &[add(2, 1)]);
    assert!(again.replies[0].code == DONE && !again.replies[0].again, "the refusal used no id up");
    engine.stop().expect("stopped");
    assert_eq!(ids(dir.path()), [vec![1], vec![3, 4], vec![2]]);
    assert_eq!(batches(dir.path())[1].requests.len(), 2, "no header of a request that left no entry");
}
