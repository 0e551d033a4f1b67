//! The other ends of an engine: dropped, its core stopped by a broken invariant, its writer by another.

use crate::disk::MemoryDisk;
use crate::engine::{Bank, Heard, reopen};
use crate::machine::{UNTOLD, add, poison};
use crate::trying;
use pabal_engine::{Error, Lane};

#[test]
fn an_engine_that_is_dropped_still_answers_what_waits() {
    trying::every(|| {
        let disk = MemoryDisk::default();
        let mut bank = Bank::open(&disk);
        let follower = bank.follower();
        let clients: Vec<_> = (1..=3)
            .map(|id| {
                bank.client(move |mut client| {
                    let lane = if id == 2 { Lane::Bulk } else { Lane::Online };
                    let sent = client.send(id, add(id, 1, lane));
                    client.let_go();
                    client.hear(sent)
                })
            })
            .collect();
        bank.end(drop);
        for client in clients {
            let heard = client.join().expect("no panic");
            assert!(matches!(heard, Heard::Done(_)), "{heard:?}");
        }
        let (machine, records) = reopen(&disk);
        assert_eq!(machine.total, 3);
        assert_eq!(follower.join().expect("no panic").0, records);
    });
}

#[test]
fn when_the_core_breaks_nobody_waits_for_ever() {
    trying::every(|| {
        let disk = MemoryDisk::default();
        let mut bank = Bank::open(&disk);
        let follower = bank.follower();
        let breaks = bank.client(|mut client| {
            let sent = client.send(9, poison(9));
            client.let_go();
            client.hear(sent)
        });
        let others: Vec<_> = (1..=2)
            .map(|id| {
                bank.client(move |mut client| {
                    let first = client.add(id, 1, Lane::Online);
                    let _ = client.query();
                    let bulk = client.send(id + 2, add(id + 2, 1, Lane::Bulk));
                    client.let_go();
                    [first, client.hear(bulk)]
                })
            })
            .collect();
        assert!(matches!(bank.stop(), Err(Error::Core)));
        assert_eq!(breaks.join().expect("no panic"), Heard::Unknown);
        let (machine, records) = reopen(&disk);
        for (id, client) in (1..).zip(others) {
            for (id, heard) in [id, id + 2].into_iter().zip(client.join().expect("no panic")) {
                match heard {
                    Heard::Done(_) => assert!(machine.decided.contains_key(&id)),
                    Heard::NotDone => assert!(!machine.decided.contains_key(&id)),
                    Heard::Unknown => {}
                }
            }
        }
        assert_eq!(follower.join().expect("no panic").0, records);
    });
}

#[test]
fn when_the_writer_breaks_nobody_waits_for_ever() {
    trying::every(|| {
        let disk = MemoryDisk::default();
        let mut bank = Bank::open(&disk);
        let follower = bank.follower();
        let breaks = bank.client(|mut client| {
            let first = client.add(UNTOLD, 1, Lane::Online);
            let again = client.send(UNTOLD, add(UNTOLD, 1, Lane::Online));
            client.let_go();
            (first, client.hear(again))
        });
        let other = bank.client(|mut client| {
            let first = client.add(1, 1, Lane::Online);
            let bulk = client.send(2, add(2, 1, Lane::Bulk));
            client.let_go();
            (first, client.hear(bulk))
        });
        assert!(matches!(bank.stop(), Err(Error::Core)));
        let (first, again) = breaks.join().expect("no panic");
        assert!(matches!(first, Heard::Done(_)));
        assert_eq!(again, Heard::Unknown);
        other.join().expect("no panic");
        let (machine, records) = reopen(&disk);
        assert!(machine.decided.contains_key(&UNTOLD));
        assert_eq!(follower.join().expect("no panic").0, records);
    });
}
