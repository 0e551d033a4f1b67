//! Many at a time.

use std::collections::BTreeSet;
use std::sync::mpsc::channel;
use std::thread;

use super::house::*;
use pabal_wire::{Asking, Limits};

#[test]
fn many_in_flight_are_answered_in_any_order() {
    let house = House::open(Limits::default());
    let mut client = house.client();
    let count = 1000;
    let all: Vec<u8> = (0..count)
        .flat_map(|tag| frame(Asking::Submit, tag, &bytes(tag, 8 + tag as usize % 9 * 8)))
        .collect();
    client.send(&all);
    let mut answers = house.answers(count as usize);
    // From the last to the first, but for every third.
    answers.sort_by_key(|(tag, ..)| (tag % 3 == 0, u64::MAX - tag));
    let order: Vec<u64> = answers.iter().map(|(tag, ..)| *tag).collect();
    for (_, answer, body) in answers {
        answer.send(echo(body));
    }
    for tag in order {
        let (reply, body) = client.next().unwrap();
        assert_eq!((reply.tag, body.as_bytes()), (tag, &bytes(tag, 8 + tag as usize % 9 * 8)[..]));
    }
}

/// More than a read brings at a time, and the bound of what may be on its way reached again and again.
#[test]
fn small_frames_one_after_the_other_are_all_answered() {
    let house = House::open(Limits { in_flight: 7, ..Limits::default() });
    let client = house.client();
    let count = 20_000;
    let (mut writer, mut reader) = (client.stream.try_clone().unwrap(), client);
    let sender = thread::spawn(move || {
        let all: Vec<u8> = (0..count).flat_map(|tag| frame(Asking::Query, tag, &bytes(tag, 8))).collect();
        std::io::Write::write_all(&mut writer, &all).unwrap();
    });
    for tag in 0..count {
        let (reply, body) = reader.next().unwrap();
        assert_eq!((reply.tag, body.as_bytes()), (tag, &bytes(tag, 8)[..]));
    }
    sender.join().unwrap();
}

#[test]
fn answers_come_from_several_threads_at_once() {
    let house = House::open(Limits::default());
    let (clients, each, answerers) = (8, 2000, 4);
    let (senders, threads): (Vec<_>, Vec<_>) = (0..answerers)
        .map(|_| {
            let (sender, receiver) = channel::<pabal_wire::Asked>();
            let answerer = thread::spawn(move || {
                for asked in receiver {
                    asked.answer.send(echo(asked.body));
                }
            });
            (sender, answerer)
        })
        .unzip();
    let asking: Vec<_> = (0..clients)
        .map(|number| {
            let mut client = house.client();
            thread::spawn(move || {
                let mut heard = BTreeSet::new();
                for tag in 0..each + 16 {
                    if tag < each {
                        client.submit(tag, &bytes(tag * 8 + number, 64));
                    }
                    if tag >= 16 {
                        let (reply, body) = client.next().unwrap();
                        assert_eq!(body.as_bytes(), bytes(reply.tag * 8 + number, 64));
                        assert!(heard.insert(reply.tag), "once");
                    }
                }
                assert_eq!(heard.len() as u64, each);
            })
        })
        .collect();
    for i in 0..clients * each {
        senders[i as usize % answerers].send(house.request()).unwrap();
    }
    asking.into_iter().for_each(|client| client.join().unwrap());
    drop(senders);
    threads.into_iter().for_each(|answerer| answerer.join().unwrap());
}

#[test]
fn all_that_comes_in_one_round_is_handed_over_in_one_call() {
    let house = House::open(Limits::default());
    let mut witness = house.client();
    let mut clients: Vec<_> = (0..20).map(|_| house.client()).collect();
    let before = house.calls();
    house.meanwhile(&mut witness, 0, || {
        for client in &mut clients {
            (0..30).for_each(|tag| client.submit(tag, &[0; 64]));
        }
    });
    let answers = house.answers(600);
    assert_eq!(house.calls() - before, 2, "the witness's question, and all the others' requests");
    answers.into_iter().for_each(|(_, answer, _)| answer.send(long(8)));
    for client in &mut clients {
        (0..30).for_each(|tag| assert_eq!(client.next().unwrap().0.tag, tag));
    }
}

/// What one sends does not keep others waiting.
#[test]
fn a_flood_of_frames_keeps_nobody_waiting() {
    let house = House::open(Limits::default());
    let mut flooder = house.client();
    let mut taker = Client::new(flooder.stream.try_clone().unwrap());
    let count = 40_000;
    let sender = thread::spawn(move || {
        let some: Vec<u8> = (0..100).flat_map(|tag| frame(Asking::Query, tag, &[0; 8])).collect();
        (0..count / 100).for_each(|_| flooder.send(&some));
    });
    let receiver = thread::spawn(move || (0..count).for_each(|_| drop(taker.next().unwrap())));
    let mut other = house.client();
    (0..200).for_each(|tag| other.round_trip(tag));
    sender.join().unwrap();
    receiver.join().unwrap();
}
