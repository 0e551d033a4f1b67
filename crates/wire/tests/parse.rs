//! Parsing, without a socket: frames in pieces of every size, and each rule broken.

use pabal_wire::frame::{ANSWERED_BYTES_MAX, ASKED_BYTES_MAX};
use pabal_wire::parse::Header;
use pabal_wire::{Asking, Body, Broken, Head, Kind, Parser, Replies, Reply, Requests};
use zerocopy::IntoBytes;

fn submit(tag: u64, body: &[u8]) -> Vec<u8> {
    let head = Head {
        length: body.len() as u32,
        kind: Asking::Submit as u16,
        version: 1,
        tag,
        class: 1,
        lane: 1,
        count: 1,
        ..Head::default()
    };
    [head.as_bytes(), body].concat()
}

fn reply(tag: u64, kind: Kind, count: u32, body: &[u8]) -> Vec<u8> {
    let head = Reply { length: body.len() as u32, kind: kind as u16, tag, count, ..Reply::default() };
    [head.as_bytes(), body].concat()
}

fn parsed<H: Header>(parser: &mut Parser<H>, mut bytes: &[u8]) -> Vec<(H, Body)> {
    let mut frames = Vec::new();
    while let Some(frame) = parser.take(&mut bytes).expect("no rule is broken") {
        frames.push(frame);
    }
    assert!(bytes.is_empty(), "all is taken");
    frames
}

/// Breaks one rule.
type Breaks<H> = fn(&mut H);

#[test]
fn frames_split_at_every_byte_are_the_same_frames() {
    let bodies: Vec<Vec<u8>> = [8, 16, 128, 8].iter().map(|n| (0..*n as u8).collect()).collect();
    let stream: Vec<u8> = bodies.iter().enumerate().flat_map(|(i, body)| submit(i as u64, body)).collect();
    for split in 0..=stream.len() {
        let mut parser = Requests::default();
        let mut frames = parsed(&mut parser, &stream[..split]);
        frames.extend(parsed(&mut parser, &stream[split..]));
        assert!(!parser.midway());
        assert_eq!(frames.len(), bodies.len(), "split at {split}");
        for (i, (head, body)) in frames.iter().enumerate() {
            assert_eq!((head.tag, body.as_bytes()), (i as u64, &bodies[i][..]), "split at {split}");
        }
    }
}

#[test]
fn a_read_fills_the_body_in_place_and_the_buffer_with_what_follows() {
    let body: Vec<u8> = (0..=255).cycle().take(4096).collect();
    let stream = [reply(7, Kind::Answer, 0, &body), reply(8, Kind::Answer, 0, b"odd")].concat();
    for step in 1..200 {
        let (mut parser, mut buffer, mut frames) = (Replies::default(), vec![0; step], Vec::new());
        let mut from = &stream[..];
        loop {
            let before = from.len();
            let brought = parser.read(&mut from, &mut buffer).unwrap();
            assert_eq!(brought.bytes, before - from.len());
            frames.extend(parsed(&mut parser, &buffer[..brought.buffered]));
            if brought.bytes == 0 {
                break;
            }
        }
        assert_eq!(frames.len(), 2);
        assert_eq!((frames[0].0.tag, frames[0].1.as_bytes()), (7, &body[..]));
        assert_eq!((frames[1].0.tag, frames[1].1.as_bytes()), (8, &b"odd"[..]));
    }
}

#[test]
fn a_frame_that_breaks_a_rule_is_named_by_the_rule_before_room_is_made() {
    let good = Head { length: 8, kind: 2, version: 1, class: 4, lane: 2, count: 1, ..Head::default() };
    assert_eq!(good.body_bytes(), Ok(8));
    let huge = ASKED_BYTES_MAX as u32 + 8;
    let cases: [(Breaks<Head>, Broken); 16] = [
        (|h| h.kind = 0, Broken::Kind(0)),
        (|h| h.kind = 5, Broken::Kind(5)),
        (|h| h.length = 0, Broken::Length(0)),
        (|h| h.length = 12, Broken::Length(12)),
        (|h| h.length = ASKED_BYTES_MAX as u32 + 8, Broken::Length(huge)),
        (|h| h.length = u32::MAX, Broken::Length(u32::MAX)),
        (|h| (h.kind, h.length) = (3, ASKED_BYTES_MAX as u32 + 8), Broken::Length(huge)),
        (|h| h.kind = 4, Broken::Length(8)),
        (|h| h.kind = 1, Broken::Length(8)),
        (|h| h.class = 5, Broken::Class(5, 2)),
        (|h| h.lane = 0, Broken::Class(4, 0)),
        (|h| h.lane = 3, Broken::Class(4, 3)),
        (|h| (h.kind, h.lane) = (3, 0), Broken::Class(4, 0)),
        (|h| h.reserved = 1, Broken::Reserved),
        (|h| h.count = 0, Broken::Count(0)),
        (|h| (h.kind, h.length, h.count, h.item) = (1, 0, 3, 2), Broken::Count(3)),
    ];
    for (breaks, broken) in cases {
        let mut head = good;
        breaks(&mut head);
        assert_eq!(Requests::default().take(&mut head.as_bytes()), Err(broken));
    }
}

#[test]
fn a_reply_that_breaks_a_rule_is_named_by_the_rule() {
    let good = Reply { length: 64, kind: Kind::Replies as u16, count: 2, ..Reply::default() };
    assert_eq!(good.body_bytes(), Ok(64));
    let cases: [(Breaks<Reply>, Broken); 7] = [
        (|r| r.kind = 0, Broken::Kind(0)),
        (|r| r.kind = 7, Broken::Kind(7)),
        (|r| r.reserved = 1, Broken::Reserved),
        (|r| r.count = 3, Broken::Length(64)),
        (|r| r.count = 2 + (1 << 27), Broken::Length(64)),
        (|r| r.kind = Kind::Welcome as u16, Broken::Length(64)),
        (
            |r| (r.kind, r.length) = (Kind::Answer as u16, ANSWERED_BYTES_MAX as u32 + 1),
            Broken::Length(ANSWERED_BYTES_MAX as u32 + 1),
        ),
    ];
    for (breaks, broken) in cases {
        let mut head = good;
        breaks(&mut head);
        assert_eq!(Replies::default().take(&mut head.as_bytes()), Err(broken));
    }
}
