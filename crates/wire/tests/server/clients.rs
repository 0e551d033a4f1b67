//! Clients that go.

use super::house::*;
use pabal_wire::{Asking, Limits};

#[test]
fn answers_to_one_who_has_gone_are_dropped_and_reach_nobody_else() {
    let house = House::open(Limits::default());
    let (mut dying, mut witness) = (house.client(), house.client());
    let all: Vec<u8> = (0..50).flat_map(|tag| frame(Asking::Submit, tag, &[0; 64])).collect();
    dying.send(&all);
    let answers = house.answers(50);
    drop(dying);
    witness.round_trip(1);
    // It has the place of the one who has gone.
    let mut next = house.client();
    for (_, answer, _) in answers {
        answer.send(long(8));
    }
    next.round_trip(1000);
    witness.round_trip(2);
}

/// What it asked and its end come together: the end is noticed all the same, and makes room.
#[test]
fn one_who_asks_and_goes_at_once_leaves_no_connection_behind() {
    let house = House::open(Limits { connections: 2, ..Limits::default() });
    let mut witness = house.client();
    // An answer would notice it: there is none for now.
    let mut on_their_way = Vec::new();
    for tag in 0..50 {
        let mut hasty = house.client();
        house.meanwhile(&mut witness, tag, || {
            hasty.submit(tag, &[0; 64]);
            drop(hasty);
        });
        let asked = house.request();
        assert_eq!(asked.head.tag, tag, "it is done all the same");
        on_their_way.push(asked);
        witness.round_trip(tag);
    }
}

#[test]
fn one_who_goes_while_it_is_not_read_leaves_no_connection_behind() {
    let house = House::open(Limits { connections: 2, in_flight: 1, ..Limits::default() });
    let mut witness = house.client();
    let mut on_their_way = Vec::new();
    for tag in 0..20 {
        let mut hasty = house.client();
        let one = frame(Asking::Submit, tag, &[0; 64]);
        hasty.send(&[&one[..], &one, &one].concat());
        on_their_way.push(house.request());
        drop(hasty);
        witness.round_trip(tag);
    }
    drop(on_their_way);
    witness.round_trip(20);
    assert!(house.requests.try_recv().is_err(), "what was not read is not asked");
}
