//! The whole engine: clients that send, ask and send again, and one who follows.

use crate::disk::MemoryDisk;
use crate::machine::{Counter, Outcome, Reply, add, read};
use crate::trying;
use pabal_engine::{
    Engine, EngineConfig, Error, Follower, Lane, Request, Response, Seen, Stepper, Ticket, TimeSource,
    Unknown,
};
use pabal_journal::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use pabal_journal::sync::{JoinHandle, spawn};
use pabal_journal::{JournalConfig, Reader};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

const DATA: &str = "/data";
/// Two records, and the next segment: the supply is needed.
const SEGMENT_BLOCKS: u32 = 3;
const WHILE: Duration = Duration::from_millis(1);

fn config(disk: &MemoryDisk) -> EngineConfig {
    let journal = JournalConfig {
        segment_blocks: SEGMENT_BLOCKS,
        direct: false,
        disk: Arc::new(disk.clone()),
        background: true,
    };
    EngineConfig { journal, journal_id: 42, time: TimeSource::Carried }
}

/// What a journal has.
pub struct Journaled {
    pub records: u64,
    /// Position and counter of each id.
    pub entries: BTreeMap<u64, (u64, u64)>,
    /// The counter after each record.
    totals: Vec<u64>,
}

impl Journaled {
    /// What would be there after a loss of power now.
    pub fn durably(disk: &MemoryDisk) -> Journaled {
        let disk = Arc::new(disk.after_a_loss_of_power());
        let reader = Reader::open_on(disk, &Path::new(DATA).join("journal")).expect("a journal");
        let (mut entries, mut totals) = (BTreeMap::new(), vec![0]);
        let scanned = reader
            .scan(&mut |record| {
                totals.extend_from_within(totals.len() - 1..);
                for (position, bytes) in record.entries() {
                    if let Some((id, total)) = read(bytes) {
                        *totals.last_mut().expect("one at least") = total;
                        assert!(entries.insert(id, (position.0, total)).is_none(), "{id} was done twice");
                    }
                }
                Ok(())
            })
            .expect("sound");
        Journaled { records: scanned.records, entries, totals }
    }

    fn total(&self) -> u64 {
        self.entries.values().map(|(_, total)| *total).max().unwrap_or(0)
    }
}

/// What a client hears of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    Done(Reply),
    NotDone,
    Unknown,
}

/// An answer that is awaited.
pub struct Awaited(u64, Ticket<Response<Reply>>);

/// An engine that clients share until each has let go of it.
pub struct Bank {
    pub disk: MemoryDisk,
    engine: Arc<Engine<Counter>>,
    gone: (Sender<()>, Receiver<()>),
    clients: u32,
    /// How often it was said that the core has ended.
    ended: Arc<AtomicU32>,
    /// Whether whoever follows may end.
    over: Arc<AtomicBool>,
}

impl Bank {
    pub fn open(disk: &MemoryDisk) -> Bank {
        let (engine, _) = Engine::start(Path::new(DATA), Counter::default(), config(disk), &mut |_| {})
            .expect("started on a disk that is well");
        let ended = Arc::new(AtomicU32::new(0));
        let heard = ended.clone();
        engine.when_ended(move || {
            heard.fetch_add(1, Ordering::SeqCst);
        });
        let (engine, disk) = (Arc::new(engine), disk.clone());
        Bank { disk, engine, gone: channel(), clients: 0, ended, over: Arc::default() }
    }

    /// A client with a thread of its own.
    pub fn client<T: Send + 'static>(
        &mut self,
        run: impl FnOnce(Client) -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.clients += 1;
        let gone = self.gone.0.clone();
        let client = Client { engine: Some(self.engine.clone()), disk: self.disk.clone(), gone };
        spawn("client", move || run(client))
    }

    /// Follows from the first record to the last: how many there were, and the ids in their order.
    pub fn follower(&self) -> JoinHandle<(u64, Vec<u64>)> {
        let follower = self.engine.follow().expect("from the first record");
        let (over, disk) = (self.over.clone(), self.disk.clone());
        spawn("follower", move || follow(follower, &disk, &over))
    }

    /// Stops it when every client has let go.
    pub fn stop(self) -> Result<Counter, Error> {
        self.end(Engine::stop)
    }

    /// Ends it in this way when every client has let go.
    pub fn end<T>(self, end: impl FnOnce(Engine<Counter>) -> T) -> T {
        for _ in 0..self.clients {
            self.gone.1.recv().expect("clients let go");
        }
        let engine = Arc::into_inner(self.engine).expect("no client has it");
        let heard = self.ended.clone();
        engine.when_ended(move || {
            heard.fetch_add(1, Ordering::SeqCst);
        });
        let ended = end(engine);
        assert_eq!(self.ended.load(Ordering::SeqCst), 2, "both hear, once, that the core has ended");
        self.over.store(true, Ordering::SeqCst);
        ended
    }
}

fn follow(mut follower: Follower, disk: &MemoryDisk, over: &AtomicBool) -> (u64, Vec<u64>) {
    let (mut records, mut ids) = (0, Vec::new());
    loop {
        let over = over.load(Ordering::SeqCst);
        let mut sequence = 0;
        let came = follower
            .next(WHILE, |record| {
                sequence = record.header.sequence;
                ids.extend(record.entries().filter_map(|(_, bytes)| read(bytes)).map(|(id, _)| id));
            })
            .expect("what is durable is sound");
        if came {
            records += 1;
            assert_eq!(sequence, records, "each record once, in order");
            assert!(Journaled::durably(disk).records >= records, "followed, and not durable");
        } else if over {
            return (records, ids);
        } else {
            shuttle::thread::yield_now();
        }
    }
}

/// Someone who sends and asks.
pub struct Client {
    engine: Option<Arc<Engine<Counter>>>,
    disk: MemoryDisk,
    gone: Sender<()>,
}

impl Client {
    fn engine(&self) -> &Engine<Counter> {
        self.engine.as_ref().expect("not let go yet")
    }

    /// Sends it.
    pub fn send(&self, id: u64, request: Request) -> Awaited {
        Awaited(id, self.engine().submit(request))
    }

    /// Waits for the answer. What is said to be done must be durable at this moment.
    pub fn hear(&self, Awaited(id, ticket): Awaited) -> Heard {
        let Ok(response) = ticket.wait() else { return Heard::Unknown };
        let journaled = Journaled::durably(&self.disk);
        assert!(journaled.records >= response.sequence, "acknowledged, and not durable");
        let [reply] = response.replies[..] else { panic!("an answer for each command") };
        match reply.outcome {
            Outcome::Refused(_) => Heard::NotDone,
            Outcome::Done => {
                let entry = journaled.entries.get(&id);
                assert_eq!(
                    entry,
                    Some(&(reply.position, reply.total)),
                    "{id}: acknowledged, and not durable"
                );
                Heard::Done(reply)
            }
        }
    }

    /// Sends an addition and waits.
    pub fn add(&self, id: u64, n: u64, lane: Lane) -> Heard {
        self.hear(self.send(id, add(id, n, lane)))
    }

    /// Asks for the counter. What is shown must be durable at this moment, and every record before the one that the
    /// answer names be in it.
    pub fn query(&self) -> Result<u64, Unknown> {
        let (to, answer) = sync_channel(1);
        let to = Box::new(move |seen| to.send(seen).expect("it is waited for"));
        self.engine().query_to(0, (), to);
        let Seen { sequence, answer: total } = answer.recv().map_err(|_| Unknown)?;
        let journaled = Journaled::durably(&self.disk);
        assert!(journaled.total() >= total, "shown, and not durable");
        let before = journaled.totals[sequence.saturating_sub(1) as usize];
        assert!(total >= before, "as of record {sequence}, before which the counter was {before}: {total}");
        Ok(total)
    }

    /// Lets go of the engine; what is awaited still comes.
    pub fn let_go(&mut self) {
        self.engine = None;
        self.gone.send(()).expect("the bank waits");
    }
}

/// Opens what is durable on this disk as after a loss of power, and gives the machine and the number of records.
pub fn reopen(disk: &MemoryDisk) -> (Counter, u64) {
    let config = config(&disk.after_a_loss_of_power());
    let (stepper, recovery) = Stepper::start(Path::new(DATA), Counter::default(), config, &mut |_| {})
        .expect("what is durable can be opened");
    (stepper.stop().expect("stopped"), recovery.journal.records)
}

#[test]
fn each_command_is_done_once_and_every_answer_is_durable() {
    trying::every(|| {
        let disk = MemoryDisk::default();
        let mut bank = Bank::open(&disk);
        let follower = bank.follower();
        let first = bank.client(|mut client| {
            let first = client.add(1, 1, Lane::Online);
            let second = client.send(2, add(2, 10, Lane::Bulk));
            client.let_go();
            [first, client.hear(second)]
        });
        let second = bank.client(|mut client| {
            // The id that another sends, too; two requests on their way at once.
            let (first, third) =
                (client.send(1, add(1, 1, Lane::Online)), client.send(3, add(3, 100, Lane::Online)));
            client.let_go();
            [client.hear(first), client.hear(third)]
        });
        // Who only reads is told of nothing that was not seen, however many write.
        let reader = bank.client(|mut client| {
            let seen = [(); 2].map(|()| client.query().expect("it runs"));
            client.let_go();
            assert!(seen.is_sorted(), "{seen:?}");
        });
        let third = bank.client(|mut client| {
            let before = client.query().expect("it runs");
            let third = client.add(3, 100, Lane::Online);
            let after = client.query().expect("it runs");
            client.let_go();
            assert!(after >= before + if before < 100 { 100 } else { 0 }, "what was heard is seen");
            third
        });
        let stopped = bank.stop().expect("stopped in order");

        let ([a1, a2], [b1, b3]) = (first.join().expect("no panic"), second.join().expect("no panic"));
        let c3 = third.join().expect("no panic");
        reader.join().expect("no panic");
        for (one, other) in [(a1, b1), (b3, c3)] {
            let (Heard::Done(one), Heard::Done(other)) = (one, other) else { panic!("{one:?}, {other:?}") };
            assert_ne!(one.again, other.again, "one of the two did it");
            assert_eq!(one, Reply { again: one.again, ..other }, "the same answer");
        }
        assert!(matches!(a2, Heard::Done(_)));
        assert_eq!(stopped.total, 111);
        let (records, mut ids) = follower.join().expect("no panic");
        ids.sort_unstable();
        assert_eq!(ids, [1, 2, 3], "each once");
        assert_eq!(reopen(&disk), (stopped, records));
    });
}
