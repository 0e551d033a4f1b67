//! The end of a server.

use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use super::house::*;
use pabal_wire::{Asking, Limits};

#[test]
fn everything_asked_is_answered_before_the_end() {
    let mut house = House::open(Limits::default());
    let (mut client, mut idle) = (house.client(), house.client());
    for tag in 0..100 {
        client.submit(tag, &bytes(tag, 64));
    }
    let answers = house.answers(100);
    let server = house.server();
    let draining = thread::spawn(move || server.drain(PATIENCE));
    // Closed although the other still waits: it waits for nothing.
    assert!(idle.next().is_none());
    assert!(UnixStream::connect(house.path()).is_err(), "nobody is let in");
    // What is asked now is not heard any more.
    client.submit(100, &[0; 8]);
    // Long enough that the socket does not take all at once.
    for (_, answer, _) in answers {
        answer.send(long(64 << 10));
    }
    for tag in 0..100 {
        assert_eq!(client.next().unwrap().0.tag, tag);
    }
    assert!(client.next().is_none());
    assert!(draining.join().unwrap(), "nothing was left");
    assert!(house.requests.try_recv().is_err());
    assert!(!house.path().exists());
}

#[test]
fn the_end_waits_for_so_long_and_says_that_something_was_left() {
    let mut house = House::open(Limits::default());
    let mut client = house.client();
    client.submit(1, &[0; 8]);
    let asked = house.request();
    let begun = Instant::now();
    assert!(!house.server().drain(Duration::from_millis(50)));
    assert!(begun.elapsed() >= Duration::from_millis(50));
    assert!(client.next().is_none());
    // The way back leads nowhere.
    asked.answer.send(long(8));
}

#[test]
fn a_client_that_does_not_take_its_answers_does_not_hold_up_the_end_for_ever() {
    let mut house = House::open(Limits::default());
    let mut client = house.client();
    client.submit(1, &[0; 8]);
    house.request().answer.send(long(4 << 20));
    assert!(!house.server().drain(Duration::from_millis(50)));
}

/// Nobody waits for ever for a server that is no more.
#[test]
fn a_server_whose_service_panics_ends_and_says_so() {
    let mut house = House::open(Limits::default());
    let (ended, end) = std::sync::mpsc::channel();
    let server = house.server();
    server.when_ended(move || ended.send(()).unwrap());
    let mut client = house.client();
    client.submit(1, &[0; 8]);
    let asked = house.request();
    assert!(end.try_recv().is_err(), "it serves");
    // Who takes the requests is gone, which the service does not bear.
    house.requests = std::sync::mpsc::channel().1;
    client.submit(2, &[0; 8]);
    end.recv_timeout(PATIENCE).expect("it is said");
    assert!(client.next().is_none());
    asked.answer.send(long(8));
    assert!(!server.drain(PATIENCE), "not as it should");
}

#[test]
fn a_server_that_is_dropped_ends_at_once() {
    let mut house = House::open(Limits::default());
    let mut client = house.client();
    client.send(&frame(Asking::Submit, 1, &[0; 8]));
    let asked = house.request();
    drop(house.server());
    assert!(client.next().is_none());
    assert!(!house.path().exists());
    drop(asked);
}
