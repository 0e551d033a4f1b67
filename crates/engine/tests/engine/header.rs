//! The header of a request stands in the journal as it was sent.

use crate::setup::{WrittenRequest, batches, heard, online, request, start};
use crate::toy::{Toy, add};
use pabal_engine::request::REQUEST_OP;
use pabal_engine::{Lane, RequestHeader};
use std::path::Path;

fn full(lane: Lane) -> RequestHeader {
    RequestHeader {
        class: 3,
        channel: 0x1234,
        deadline_ms: u64::MAX - 1,
        attempt: [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210],
        principal: 0x1111_2222_3333_4444,
        item: 0x5555_6666_7777_8888,
        time_ms: 0x9999_aaaa_bbbb_cccc,
        ..RequestHeader::new(lane, 3)
    }
}

fn written(data: &Path) -> Vec<WrittenRequest> {
    batches(data).into_iter().flat_map(|record| record.requests).collect()
}

#[test]
fn the_header_stands_in_the_journal_as_it_was_sent() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = start(dir.path(), Toy::default());
    for (i, lane) in [Lane::Online, Lane::Bulk].into_iter().enumerate() {
        let ids = [1, 2, 3].map(|id| add(id + 10 * i as u64, 1));
        heard(engine.submit(request(full(lane), &ids))).expect("answered");
    }
    engine.stop().expect("stopped");
    let headers: Vec<_> = written(dir.path()).iter().map(|request| request.header).collect();
    let sent = [Lane::Online, Lane::Bulk].map(|lane| RequestHeader { count: 3, ..full(lane) });
    assert_eq!(headers, sent);
    assert!(headers[1].is_bulk() && !headers[0].is_bulk());
}

/// The count is of the commands that were sent, also of those that were decided before and have no entry here.
#[test]
fn the_header_counts_what_was_sent() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = start(dir.path(), Toy::default());
    heard(engine.submit(online(&[add(1, 1)]))).expect("answered");
    heard(engine.submit(online(&[add(1, 1), add(2, 1), add(2, 1)]))).expect("answered");
    engine.stop().expect("stopped");
    let counts: Vec<_> = written(dir.path()).iter().map(|r| (r.header.count, r.entries.len())).collect();
    assert_eq!(counts, [(1, 1), (3, 1)]);
}

/// What only the engine may say of a request it says itself: a sender that says it was set aside, or marks it
/// as no request at all, would make a journal that cannot be replayed.
#[test]
fn what_a_sender_says_of_the_form_of_its_request_is_not_believed() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, _) = start(dir.path(), Toy::default());
    let forms = [
        RequestHeader { flags: RequestHeader::QUARANTINED, ..full(Lane::Online) },
        RequestHeader { flags: 0xff, command_units: 9, code: 9, count: 9, version: 9, ..full(Lane::Online) },
        RequestHeader { op: 0, entry_units: 0, ..full(Lane::Online) },
        RequestHeader { op: 1, entry_units: 63, ..full(Lane::Online) },
        RequestHeader::default(),
    ];
    for (id, form) in (1..).zip(forms) {
        let response = heard(engine.submit(request(form, &[add(id, 1)]))).expect("answered");
        assert_eq!(response.replies[0].value, id as i64);
    }
    engine.stop().expect("stopped");
    let headers: Vec<_> = written(dir.path()).iter().map(|request| request.header).collect();
    assert_eq!(headers[..4], [RequestHeader { count: 1, ..full(Lane::Online) }; 4]);
    assert_eq!((headers[4].op, headers[4].version, headers[4].entry_units), (REQUEST_OP, 1, 1));
    let (engine, _) = start(dir.path(), Toy::default());
    assert_eq!(engine.stop().expect("stopped").counter(), 5);
}
