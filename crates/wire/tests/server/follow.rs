//! Connections that leave the server to follow.

use std::io::Write;

use super::house::*;
use pabal_wire::{Asking, Head, Kind, Limits, Reply};
use zerocopy::IntoBytes;

#[test]
fn one_follows_when_all_it_asked_before_is_answered() {
    let house = House::open(Limits::default());
    let mut client = house.client();
    let follow = Head { item: 12, ..head(Asking::Follow, 9, 0) };
    let before = frame(Asking::Submit, 1, &[0; 8]);
    client.send(&[&before[..], follow.as_bytes()].concat());
    let asked = house.request();
    let mut witness = house.client();
    witness.round_trip(1);
    assert!(house.follows.try_recv().is_err(), "one is not answered yet");
    asked.answer.send(long(1 << 20));
    assert_eq!(client.next().unwrap().1.as_bytes().len(), 1 << 20);
    let (head, mut stream) = house.follows.recv_timeout(PATIENCE).unwrap();
    assert_eq!((head.tag, head.item), (9, 12));
    // Far more than a socket holds: the writing waits for the taking.
    let record = bytes(1, 64 << 10);
    let sending = std::thread::spawn({
        let record = record.clone();
        move || {
            for sequence in 12..112 {
                let (kind, length) = (Kind::Record as u16, record.len() as u32);
                let reply = Reply { length, kind, tag: 9, sequence, ..Reply::default() };
                stream.write_all(reply.as_bytes()).unwrap();
                stream.write_all(&record).unwrap();
            }
        }
    });
    for sequence in 12..112 {
        let (reply, body) = client.next().unwrap();
        assert_eq!((reply.sequence, body.as_bytes() == record), (sequence, true));
    }
    sending.join().unwrap();
    assert!(client.next().is_none(), "the service has let it go");
    witness.round_trip(2);
}

#[test]
fn one_who_follows_and_asks_more_is_refused() {
    let house = House::open(Limits::default());
    let mut client = house.client();
    let follow = head(Asking::Follow, 9, 0);
    client.send(&[follow.as_bytes(), &frame(Asking::Submit, 1, &[0; 8])].concat());
    client.is_refused(9, MALFORMED);
    assert!(house.follows.try_recv().is_err());
}

/// A follower that takes nothing fails the sending in time, and nobody else notices.
#[test]
fn sending_to_one_who_takes_nothing_fails_in_time() {
    let limits = Limits { following: std::time::Duration::from_millis(50), ..Limits::default() };
    let house = House::open(limits);
    let mut client = house.client();
    client.send(head(Asking::Follow, 9, 0).as_bytes());
    let (_, mut stream) = house.follows.recv_timeout(PATIENCE).unwrap();
    assert!(stream.write_all(&[0; 8 << 20]).is_err());
    house.client().round_trip(1);
}

/// Nothing is to be sent, perhaps for hours: that one who follows has gone is known all the same, and its place free.
#[test]
fn one_who_follows_and_goes_is_missed_though_nothing_is_sent() {
    let house = House::open(Limits::default());
    let mut client = house.client();
    client.send(head(Asking::Follow, 9, 0).as_bytes());
    let (_, mut stream) = house.follows.recv_timeout(PATIENCE).unwrap();
    stream.flush().expect("it is there");
    drop(client);
    assert!(stream.flush().is_err());
}
