//! The whole engine on a disk that fails: nobody waits for ever, nobody hears what is not so.

use crate::disk::{Fault, MemoryDisk};
use crate::engine::{Bank, Heard, Journaled, reopen};
use crate::machine::add;
use crate::trying;
use pabal_engine::{Error, Lane};
use pabal_journal::sync::spawn;
use shuttle::rand::{Rng, thread_rng};

/// Steps of others at most before the operator makes room: clients are refused meanwhile, or are not.
const REFUSED: u32 = 300;

#[test]
fn after_a_fault_everybody_hears_what_is_durable_or_unknown() {
    trying::every(|| {
        let disk = MemoryDisk::default();
        let mut bank = Bank::open(&disk);
        let mut random = thread_rng();
        let fault = [Fault::Write, Fault::Sync, Fault::Make, Fault::Full][random.gen_range(0..4)];
        disk.fail(fault, random.gen_range(0..4));
        let follower = bank.follower();
        let first = bank.client(|mut client| {
            let first = client.add(1, 1, Lane::Online);
            let second = client.send(2, add(2, 10, Lane::Bulk));
            client.let_go();
            [first, client.hear(second)]
        });
        let second = bank.client(|mut client| {
            let first = client.send(1, add(1, 1, Lane::Online));
            let third = client.send(3, add(3, 100, Lane::Online));
            let seen = client.query();
            let fourth = client.send(4, add(4, 1000, Lane::Online));
            client.let_go();
            ([client.hear(first), client.hear(third), client.hear(fourth)], seen)
        });
        let stopped = bank.stop();

        let [a1, a2] = first.join().expect("no panic");
        let ([b1, b3, b4], seen) = second.join().expect("no panic");
        let (followed, ids) = follower.join().expect("no panic");
        match (&stopped, fault) {
            (
                Err(Error::Journal(pabal_journal::Error::Io { .. })),
                Fault::Write | Fault::Sync | Fault::Make,
            ) => {
                assert!(disk.failed(), "nothing failed, and yet it stopped");
            }
            (Ok(_), Fault::Write | Fault::Sync) => assert!(!disk.failed(), "it failed, and nobody says so"),
            (Ok(_), _) => {}
            (Err(error), _) => panic!("{error}"),
        }
        if stopped.is_ok() {
            let heard = [a1, a2, b1, b3, b4];
            assert!(!heard.contains(&Heard::Unknown) && seen.is_ok(), "{heard:?}: it was stopped in order");
        }
        if let (Heard::Done(one), Heard::Done(other)) = (a1, b1) {
            assert_eq!((one.position, one.total), (other.position, other.total), "the same answer");
        }
        let (machine, records) = reopen(&disk);
        let durable = Journaled::durably(&disk);
        // Those whose id nobody else sends.
        for (id, heard) in [(2, a2), (3, b3), (4, b4)] {
            match heard {
                Heard::Done(_) => assert!(machine.decided.contains_key(&id)),
                Heard::NotDone => assert!(!machine.decided.contains_key(&id), "{id} was said not to be done"),
                Heard::Unknown => {}
            }
        }
        assert!(followed <= records && ids.iter().all(|id| durable.entries.contains_key(id)));
        if let Ok(stopped) = stopped {
            assert_eq!((&stopped, followed), (&machine, records));
        }
    });
}

#[test]
fn what_a_full_disk_refused_can_be_sent_again_when_there_is_room() {
    trying::every(|| {
        let disk = MemoryDisk::default();
        let mut bank = Bank::open(&disk);
        disk.fail(Fault::Full, thread_rng().gen_range(0..3));
        let clients: Vec<_> = (1..=3)
            .map(|id| {
                bank.client(move |mut client| {
                    let mut heard = client.add(id, 1, Lane::Online);
                    while heard == Heard::NotDone {
                        shuttle::thread::yield_now();
                        heard = client.add(id, 1, Lane::Online);
                    }
                    client.let_go();
                    heard
                })
            })
            .collect();
        let mends = disk.clone();
        let operator = spawn("operator", move || {
            for _ in 0..thread_rng().gen_range(0..REFUSED) {
                shuttle::thread::yield_now();
            }
            mends.mend();
        });
        operator.join().expect("no panic");
        for client in clients {
            assert!(matches!(client.join().expect("no panic"), Heard::Done(_)));
        }
        let stopped = bank.stop().expect("stopped in order");
        assert_eq!(stopped.total, 3);
        assert_eq!(reopen(&disk).0, stopped);
    });
}
