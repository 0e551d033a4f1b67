//! What is said: greetings, frames in pieces, and frames that break a rule.

use super::house::*;
use pabal_wire::frame::{ANSWERED_BYTES_MAX, ASKED_BYTES_MAX};
use pabal_wire::{Asking, Head, Kind, Limits, Welcome};
use zerocopy::{FromBytes, IntoBytes};

#[test]
fn a_hello_is_welcomed_with_what_the_service_and_the_server_say() {
    let house = House::open(Limits { in_flight: 12, in_flight_bytes: 4096, ..Limits::default() });
    // One that speaks more, and one that speaks this alone.
    for (oldest, newest) in [(0, 9), (1, 1), (1, u64::MAX)] {
        let mut client = house.stranger();
        client.send(hello(oldest, newest).as_bytes());
        let (reply, body) = client.next().unwrap();
        let welcome = Welcome::read_from_bytes(body.as_bytes()).unwrap();
        assert_eq!((reply.kind, reply.tag, reply.sequence), (Kind::Welcome as u16, 1, SEQUENCE));
        assert_eq!((welcome.version, welcome.role, welcome.journal_id), (1, 1, JOURNAL_ID));
        assert_eq!((welcome.in_flight_max, welcome.in_flight_bytes_max), (12, 4096));
        client.round_trip(5);
    }
}

#[test]
fn a_client_of_another_version_is_told_so() {
    let house = House::open(Limits::default());
    for (oldest, newest) in [(2, 3), (0, 0), (u32::MAX, u64::MAX)] {
        let mut client = house.stranger();
        client.send(hello(oldest, newest).as_bytes());
        client.is_refused(1, VERSION_UNKNOWN);
    }
    house.client().round_trip(1);
}

#[test]
fn frames_in_two_pieces_are_whole_wherever_they_are_cut() {
    let house = House::open(Limits::default());
    let (mut client, mut witness) = (house.client(), house.client());
    let body = bytes(3, 128);
    let two = [frame(Asking::Submit, 1, &body), frame(Asking::Submit, 2, &body[..8])].concat();
    for cut in 1..two.len() {
        client.send(&two[..cut]);
        witness.round_trip(cut as u64);
        client.send(&two[cut..]);
        for (tag, answer, its) in house.answers(2) {
            assert_eq!(its.as_bytes(), &body[..[128, 8][tag as usize - 1]], "cut at {cut}");
            answer.send(echo(its));
        }
        for tag in [1, 2] {
            assert_eq!(client.next().unwrap().0.tag, tag, "cut at {cut}");
        }
    }
}

#[test]
fn the_longest_bodies_go_both_ways() {
    let house = House::open(Limits::default());
    let mut client = house.client();
    let body = bytes(9, ASKED_BYTES_MAX);
    for tag in 0..20 {
        client.submit(tag, &body);
        let asked = house.request();
        assert_eq!((asked.head.tag, asked.body.as_bytes() == body), (tag, true));
        asked.answer.send(long(ANSWERED_BYTES_MAX));
        let (reply, answer) = client.next().unwrap();
        assert_eq!((reply.tag, answer.as_bytes().len()), (tag, ANSWERED_BYTES_MAX));
        assert!(answer.as_bytes().iter().all(|byte| *byte == 7));
    }
}

#[test]
fn an_answer_too_long_or_none_at_all_is_unknown() {
    let house = House::open(Limits::default());
    let mut client = house.client();
    client.submit(1, &[0; 8]);
    house.request().answer.send(long(ANSWERED_BYTES_MAX + 1));
    client.submit(2, &[0; 8]);
    drop(house.request());
    for tag in [1, 2] {
        let (reply, body) = client.next().unwrap();
        assert_eq!((reply.kind, reply.tag, body.as_bytes().len()), (Kind::Unknown as u16, tag, 0));
    }
    client.round_trip(3);
}

#[test]
fn a_frame_that_breaks_a_rule_ends_its_connection_only() {
    let house = House::open(Limits::default());
    let mut other = house.client();
    let cases: &[fn(&mut Head)] = &[
        |h| h.kind = 0,
        |h| h.kind = 99,
        |h| (h.kind, h.length, h.count, h.item) = (Asking::Hello as u16, 0, 1, 1),
        |h| h.version = 2,
        |h| h.version = 0,
        |h| h.length = 0,
        |h| h.length = 4,
        |h| h.length = ASKED_BYTES_MAX as u32 + 8,
        |h| h.length = u32::MAX,
        |h| h.class = 5,
        |h| h.lane = 0,
        |h| h.lane = 3,
        |h| h.reserved = 1,
        |h| h.count = 0,
        |h| (h.kind, h.version, h.length) = (Asking::Follow as u16, 2, 0),
        |h| h.kind = Asking::Follow as u16,
    ];
    for (tag, breaks) in cases.iter().enumerate() {
        let tag = tag as u64 + 100;
        let mut client = house.client();
        let mut broken = head(Asking::Submit, tag, 8);
        breaks(&mut broken);
        client.send(&[broken.as_bytes(), &[0; 8]].concat());
        client.is_refused(tag, MALFORMED);
        other.round_trip(tag);
    }
    // Before hello nothing else is said.
    let mut client = house.stranger();
    client.submit(7, &[0; 8]);
    client.is_refused(7, MALFORMED);
    // What was asked before is with the service; what comes after is not heard.
    let mut client = house.client();
    let broken = Head { reserved: 1, ..head(Asking::Submit, 2, 8) };
    let good = frame(Asking::Submit, 1, &[0; 8]);
    client.send(&[&good[..], broken.as_bytes(), &[0; 8], &good].concat());
    client.is_refused(2, MALFORMED);
    house.request().answer.send(long(8));
    other.round_trip(1);
    assert!(house.requests.try_recv().is_err(), "one was asked");
}
