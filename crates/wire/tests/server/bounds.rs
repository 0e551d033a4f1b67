//! Bounds, and what happens at each.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use super::house::*;
use pabal_wire::{Asking, Kind, Limits, Reply};
use zerocopy::IntoBytes;

const SHORT: Duration = Duration::from_millis(100);

#[test]
fn beyond_the_bound_of_requests_a_connection_is_not_read_and_only_it() {
    let house = House::open(Limits { in_flight: 4, ..Limits::default() });
    let (mut client, mut witness) = (house.client(), house.client());
    let all: Vec<u8> = (0..10).flat_map(|tag| frame(Asking::Submit, tag, &[0; 8])).collect();
    client.send(&all);
    let mut answers = house.answers(4);
    // All ten lie in the socket, and the witness is served.
    witness.round_trip(1);
    assert!(house.requests.try_recv().is_err(), "four are on their way");
    for tag in 4..10 {
        let (_, answer, _) = answers.remove(0);
        answer.send(long(8));
        let asked = house.request();
        assert_eq!(asked.head.tag, tag);
        answers.push((tag, asked.answer, asked.body));
        witness.round_trip(tag);
        assert!(house.requests.try_recv().is_err(), "four are on their way");
    }
    answers.into_iter().for_each(|(_, answer, _)| answer.send(long(8)));
    (0..10).for_each(|tag| assert_eq!(client.next().unwrap().0.tag, tag));
}

#[test]
fn beyond_the_bound_of_bytes_a_sender_is_held_up_by_the_system() {
    let house = House::open(Limits { in_flight_bytes: 1 << 20, ..Limits::default() });
    let (mut client, mut witness) = (house.client(), house.client());
    client.stream.set_nonblocking(true).unwrap();
    let one = frame(Asking::Submit, 1, &[0; 64 << 10]);
    // Far more than the bound and the socket hold, unless the server goes on reading.
    let (mut sent, mut wakes) = (0, 0);
    while sent < 64 << 20 {
        let at = sent % one.len();
        match client.stream.write(&one[at..]) {
            Ok(bytes) => sent += bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // Once more after the server has certainly looked.
                wakes += 1;
                if wakes > 100 {
                    break;
                }
                witness.round_trip(wakes);
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(sent < 8 << 20, "{sent} bytes were taken");
    let taken: Vec<_> = house.requests.try_iter().collect();
    assert_eq!(taken.len(), 16, "as many as reach the bound");
    client.stream.set_nonblocking(false).unwrap();
    taken.into_iter().for_each(|asked| asked.answer.send(long(8)));
    (0..16).for_each(|_| drop(client.next().unwrap()));
    assert_eq!(house.request().head.tag, 1, "it is read again");
}

#[test]
fn a_client_that_takes_nothing_while_too_much_waits_is_disconnected() {
    let house = House::open(Limits { untaken_bytes: 4 << 20, ..Limits::default() });
    let (mut client, mut other) = (house.client(), house.client());
    for tag in 0..6 {
        client.submit(tag, &[0; 8]);
    }
    let answers = house.answers(6);
    for (tag, answer, _) in answers {
        answer.send(long(1 << 20));
        other.round_trip(tag);
    }
    // It still hears what the system had taken, but never all.
    let mut heard = 0;
    while let Some((reply, _)) = client.next() {
        assert_eq!(reply.kind, Kind::Answer as u16);
        heard += 1;
    }
    assert!(heard < 6, "it heard {heard}");
    other.round_trip(9);
}

#[test]
fn a_client_that_takes_nothing_for_long_is_disconnected() {
    let house = House::open(Limits { taking: SHORT, ..Limits::default() });
    let (mut client, mut other) = (house.client(), house.client());
    client.submit(1, &[0; 8]);
    house.request().answer.send(long(4 << 20));
    // Time passes by the server's own clock; the other is served all the while.
    let begun = std::time::Instant::now();
    let mut tag = 0;
    while begun.elapsed() < 3 * SHORT {
        other.round_trip(tag);
        tag += 1;
    }
    assert!(client.next().is_none(), "the answer was not taken in time");
    other.round_trip(1);
}

#[test]
fn a_client_that_takes_its_time_but_goes_on_is_left_alone() {
    // Long enough that it is not late only because the machine is.
    let taking = Duration::from_secs(2);
    let house = House::open(Limits { taking, ..Limits::default() });
    let (mut client, mut other) = (house.client(), house.client());
    client.submit(1, &[0; 8]);
    house.request().answer.send(long(4 << 20));
    let mut pass = || {
        let begun = std::time::Instant::now();
        while begun.elapsed() < taking * 2 / 5 {
            other.round_trip(1);
        }
    };
    let mut part = vec![0; 1 << 20];
    for _ in 0..4 {
        pass();
        client.stream.read_exact(&mut part).unwrap();
    }
    client.stream.read_exact(&mut part[..size_of::<Reply>()]).unwrap();
    // Nothing waits for it now: it may be silent.
    (0..4).for_each(|_| pass());
    client.round_trip(2);
}

#[test]
fn a_client_in_the_middle_of_a_frame_for_long_is_disconnected() {
    let house = House::open(Limits { midway: SHORT, ..Limits::default() });
    let whole = frame(Asking::Submit, 1, &[0; 800]);
    for half in [1, 79, 80, 81, whole.len() - 1] {
        let (mut client, mut other) = (house.client(), house.client());
        client.send(&whole[..half]);
        other.round_trip(1);
        assert!(client.next().is_none(), "after {half} bytes");
        other.round_trip(2);
    }
    assert!(house.requests.try_recv().is_err(), "none was whole");
}

/// The server itself does not read it then: it cannot be blamed.
#[test]
fn a_client_that_is_not_read_may_stand_in_the_middle_of_a_frame() {
    let house = House::open(Limits { midway: SHORT, in_flight: 1, ..Limits::default() });
    let (mut client, mut other) = (house.client(), house.client());
    let whole = frame(Asking::Submit, 1, &[0; 800]);
    client.send(&[&whole[..], &whole[..100]].concat());
    let asked = house.request();
    let begun = std::time::Instant::now();
    while begun.elapsed() < 3 * SHORT {
        other.round_trip(1);
    }
    client.send(&whole[100..]);
    asked.answer.send(long(8));
    house.request().answer.send(long(8));
    assert!(client.next().is_some() && client.next().is_some());
}

/// Nor when it is not read because it has answers to take.
#[test]
fn a_client_with_answers_to_take_may_stand_in_the_middle_of_a_frame() {
    let midway = Duration::from_secs(1);
    let house = House::open(Limits { midway, untaken_bytes: 4 << 20, ..Limits::default() });
    let (mut client, mut other) = (house.client(), house.client());
    let whole = frame(Asking::Submit, 1, &[0; 800]);
    client.send(&[&whole[..], &whole[..100]].concat());
    house.request().answer.send(long(3 << 20));
    let begun = std::time::Instant::now();
    while begun.elapsed() < midway * 3 / 2 {
        other.round_trip(1);
    }
    assert!(client.next().is_some());
    other.round_trip(2);
    client.send(&whole[100..]);
    house.request().answer.send(long(8));
    assert!(client.next().is_some());
}

#[test]
fn half_open_connections_are_bounded_and_end_by_themselves() {
    let limits = Limits { connections: 8, greeting: Duration::from_secs(1), ..Limits::default() };
    let house = House::open(limits);
    let mut there = house.client();
    let mut half_open: Vec<_> = (0..7).map(|_| house.stranger()).collect();
    there.round_trip(1);
    // More come than there is room for: told so when they say hello.
    let mut too_many: Vec<_> = (0..5).map(|_| house.stranger()).collect();
    for client in &mut too_many {
        client.send(hello(1, 1).as_bytes());
        client.is_refused(1, OVERLOADED);
    }
    there.round_trip(2);
    for client in &mut half_open {
        assert!(client.next().is_none(), "it said no hello in time");
    }
    let mut next = house.client();
    next.round_trip(1);
    there.round_trip(3);
}

#[test]
fn a_flood_of_connections_beyond_every_bound_does_not_touch_those_who_are_in() {
    let limits = Limits { connections: 4, greeting: Duration::from_secs(1), ..Limits::default() };
    let house = House::open(limits);
    let mut there = house.client();
    let flood: Vec<_> = (0..400).map(|_| house.stranger()).collect();
    (0..50).for_each(|tag| there.round_trip(tag));
    for mut client in flood {
        // With a word or without: closed.
        assert!(client.next().is_none());
    }
    house.client().round_trip(1);
}

/// Bounds of which this much is common to all.
fn common(bytes: u64) -> Limits {
    let much = Limits { connections: 16, held_bytes: 1 << 40, ..Limits::default() };
    Limits { held_bytes: much.held_bytes - much.common_bytes() + bytes, ..much }
}

/// Long enough that the server has certainly come to whatever lies in its sockets.
fn pass(witness: &mut Client<std::os::unix::net::UnixStream>) {
    (0..100).for_each(|tag| witness.round_trip(tag));
}

const LONG: usize = 768 << 10;

#[test]
fn what_all_ask_together_is_bounded_and_small_requests_go_on() {
    let house = House::open(common(8 << 20));
    let mut witness = house.client();
    let senders: Vec<_> = (0..6)
        .map(|_| {
            let mut client = house.client();
            std::thread::spawn(move || {
                (0..2).for_each(|tag| client.submit(tag, &[0; LONG]));
                (0..2).for_each(|_| drop(client.next().expect("an answer")));
            })
        })
        .collect();
    // Half of the common part is what six of them are, their shares taken off; none is read beyond that.
    let mut there = house.answers(6);
    for left in (0..6).rev() {
        pass(&mut witness);
        assert!(house.requests.try_recv().is_err(), "six are held");
        there.remove(0).1.send(long(8));
        there.extend(house.answers(1));
        assert_eq!(there.len(), 6, "{left} to come");
    }
    there.into_iter().for_each(|(_, answer, _)| answer.send(long(8)));
    senders.into_iter().for_each(|sender| sender.join().expect("all were answered"));
}

#[test]
fn bodies_that_came_half_are_counted_and_whoever_finds_no_room_is_served_later() {
    let house = House::open(common(8 << 20));
    let mut witness = house.client();
    let whole = frame(Asking::Submit, 1, &[0; LONG]);
    let mut half: Vec<_> = (0..6)
        .map(|_| {
            let mut client = house.client();
            client.send(&whole[..LONG / 2]);
            witness.round_trip(1);
            client
        })
        .collect();
    let mut next = house.client();
    let sent = whole.clone();
    let next = std::thread::spawn(move || {
        next.send(&sent);
        next.next().expect("an answer")
    });
    pass(&mut witness);
    assert!(house.requests.try_recv().is_err(), "there is no room for it");
    half[0].send(&whole[LONG / 2..]);
    house.request().answer.send(long(8));
    house.request().answer.send(long(16));
    assert_eq!(next.join().expect("it waited").0.length, 16);
    // One that goes leaves its room behind.
    drop(half);
    witness.submit(2, &[0; LONG]);
    assert_eq!(house.request().body.as_bytes().len(), LONG);
}

#[test]
fn when_too_many_answers_are_not_taken_who_has_the_most_is_disconnected() {
    let house = House::open(common(8 << 20));
    let mut witness = house.client();
    let mut hoard = |bytes: usize| {
        let mut client = house.client();
        client.submit(1, &[0; 8]);
        house.request().answer.send(long(bytes));
        pass(&mut witness);
        client
    };
    let mut most = hoard(4_000_000);
    let others: Vec<_> = (0..3).map(|_| hoard(2_000_000)).collect();
    assert!(most.next().is_none(), "it heard only what the system had taken");
    for mut other in others {
        assert_eq!(other.next().expect("all of it").0.length, 2_000_000);
        other.round_trip(2);
    }
}
