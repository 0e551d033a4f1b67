//! The client: how requests end, whatever the server does.

use crate::server::{CREDENTIAL, Peer, Place, commands, welcome};
use pabal_bank::{Reply, command};
use pabal_client::{
    Ask, Client, ClientConfig, End, Envelope, Follow, Keep, KeepConfig, Lane, Name, NotTaken, RETRY_BURST,
    Told, Why,
};
use pabal_ledger::{Code, Id};
use pabal_wire::frame::ANSWERED_BYTES_MAX;
use pabal_wire::{Head, Kind, Reply as ReplyHead, Welcome};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use zerocopy::IntoBytes;

/// Longer than any test takes that passes.
const LONG: Duration = Duration::from_secs(30);
/// For what never gets its answer.
const SHORT: Duration = Duration::from_millis(80);

fn id(n: u64) -> Id {
    Id::new(n, 0, n << 2)
}

fn ask(ids: impl IntoIterator<Item = u64>, patience: Duration) -> Ask {
    let commands =
        ids.into_iter().flat_map(|n| command::void_hold(id(n), id(1)).as_bytes().to_vec()).collect();
    Ask { commands, patience, ..Ask::default() }
}

fn start(place: &Place, keep: Option<Keep>) -> Client {
    let config = ClientConfig { silence_max: SHORT / 2, ..ClientConfig::to(place.address(), CREDENTIAL) };
    Client::start(config, keep).expect("started")
}

fn keep_path(place: &Place) -> PathBuf {
    place.socket().with_file_name("sent")
}

fn keep(place: &Place) -> Keep {
    Keep::open(&keep_path(place), KeepConfig::default()).expect("opened")
}

fn left(place: &Place) -> Vec<Name> {
    keep(place).unsettled().values().flat_map(|parcel| parcel.names().collect::<Vec<_>>()).collect()
}

fn reply(code: Code, position: u64) -> Reply {
    Reply { position, ..Reply::refused(code) }
}

fn refuse(peer: &mut Peer, head: &Head, kind: Kind, code: Code) {
    let code = if kind == Kind::Refused { code as u16 } else { 0 };
    peer.say(kind, &ReplyHead { tag: head.tag, code, ..ReplyHead::default() }, &[]);
}

/// What a server does with one frame.
#[derive(Clone, Copy, Debug)]
enum Do {
    /// Says this code of every command.
    Say(Code),
    /// Refuses the frame.
    Refuse(Code),
    SayUnknown,
    /// Ends the connection, nothing said.
    Drop,
    /// Says nothing more.
    Silence,
    /// Writes bytes that are no frame of the protocol.
    Garbage,
    /// Ends the connection in the middle of its answer.
    Cut(Code),
}

/// Serves request after request like this, over as many connections as it takes; how many frames came.
fn follow_script(listener: &UnixListener, script: &[Do]) -> usize {
    let mut script = script.iter();
    let mut frames = 0;
    let mut next = script.next();
    while next.is_some() {
        let mut peer = Peer::welcomed(listener, &welcome());
        while let Some(&what) = next {
            let Some((head, body)) = peer.read() else { break };
            frames += 1;
            next = script.next();
            let said = |code| commands(&body).iter().map(|_| reply(code, 9)).collect::<Vec<_>>();
            match what {
                Do::Say(code) => drop(peer.reply(&head, &said(code))),
                Do::Refuse(code) => refuse(&mut peer, &head, Kind::Refused, code),
                Do::SayUnknown => refuse(&mut peer, &head, Kind::Unknown, Code::Done),
                Do::Drop => break,
                Do::Silence => while peer.read().is_some() {},
                Do::Garbage => {
                    let _ = peer.stream.write_all(&[0xa5; 200]);
                    while peer.read().is_some() {}
                }
                Do::Cut(code) => {
                    let head = ReplyHead { tag: head.tag, count: 1, ..ReplyHead::default() };
                    let whole =
                        crate::server::frame(Kind::Replies, &head, &crate::server::bytes(&said(code)));
                    let _ = peer.stream.write_all(&whole[..whole.len() - 1]);
                    break;
                }
            }
        }
        // What was said last is heard before the connection ends.
        if next.is_none() {
            while peer.read().is_some() {}
        }
    }
    frames
}

/// How a request of two commands ends before such a server.
fn end_after(script: &'static [Do], sent_before: bool, again_when_refused: bool) -> (End, Vec<Name>) {
    let place = Place::new();
    let server = place.serve(move |listener| follow_script(&listener, script));
    let client = start(&place, Some(keep(&place)));
    let unknown = script.last().is_some_and(|last| matches!(last, Do::Silence));
    let patience = if unknown { SHORT * 3 } else { LONG };
    let end = client
        .submit(Ask { sent_before, again_when_refused, ..ask([5, 6], patience) })
        .expect("taken")
        .wait();
    drop(client);
    assert_eq!(server.join().expect("served"), script.len(), "{script:?}");
    (end, left(&place))
}

/// Every way in which a try can go unheard, once and then again, and then what counts and what does not.
#[test]
fn the_end_is_the_truth_whatever_went_before() {
    use Code::{BundleMixed, DeadlinePassed, DiskFull, Done, IdConflict, IdTooOld, Malformed, Overloaded};
    let both = [Name::Id(id(5)), Name::Id(id(6))].to_vec();
    let replies = |code| End::Replies { sequence: 1, replies: vec![reply(code, 9); 2] };
    let refused = |code: Code| End::Refused(Why::Code(code as u16));
    let unheard: [Do; 6] =
        [Do::Drop, Do::Silence, Do::SayUnknown, Do::Garbage, Do::Cut(Done), Do::Cut(Overloaded)];
    let script = |steps: &[Do]| -> &'static [Do] { steps.to_vec().leak() };
    for first in unheard {
        for second in unheard.into_iter().map(Some).chain([None]) {
            let before: Vec<Do> = [first].into_iter().chain(second).collect();
            for code in [Done, Code::InsufficientFunds, IdConflict, BundleMixed] {
                let steps = script(&[&before[..], &[Do::Say(code)]].concat());
                assert_eq!(end_after(steps, false, false), (replies(code), vec![]), "{steps:?}");
            }
            let steps = script(&[&before[..], &[Do::Say(DeadlinePassed)]].concat());
            assert_eq!(end_after(steps, false, false), (refused(DeadlinePassed), vec![]), "{steps:?}");
        }
        // What says nothing of the try before is asked again until something does.
        for passes in [Do::Say(Overloaded), Do::Refuse(Overloaded), Do::Say(DiskFull), Do::Refuse(DiskFull)] {
            let steps = script(&[first, passes, Do::Say(Done)]);
            assert_eq!(end_after(steps, false, false), (replies(Done), vec![]), "{steps:?}");
        }
        // What says nothing and never will ends as unknown.
        for never in [Do::Say(IdTooOld), Do::Say(Malformed), Do::Refuse(Code::PathNotPermitted)] {
            let steps = script(&[first, never]);
            let (end, left) = end_after(steps, false, false);
            assert!(matches!(&end, End::Unknown { of, .. } if *of == both), "{steps:?}: {end:?}");
            assert_eq!(left, both, "{steps:?}: it is kept");
        }
    }
    for code in [Overloaded, DiskFull, DeadlinePassed, Malformed] {
        let say = script(&[Do::Say(code)]);
        assert_eq!(end_after(say, false, false), (refused(code), vec![]), "nothing went before");
        let refuse = script(&[Do::Refuse(code)]);
        assert_eq!(end_after(refuse, false, false), (refused(code), vec![]));
    }
    for code in [Overloaded, DiskFull] {
        let steps = script(&[Do::Say(code), Do::Refuse(code), Do::Say(Done)]);
        assert_eq!(end_after(steps, false, true), (replies(Done), vec![]), "tried again, as was asked");
        assert_eq!(end_after(&steps[1..], true, false), (replies(Done), vec![]), "another may have sent it");
    }
    let (end, left) = end_after(script(&[Do::Say(IdTooOld)]), false, true);
    assert!(matches!(&end, End::Unknown { of, heard } if *of == both && heard.len() == 2), "{end:?}");
    assert_eq!(left, both);
    let (end, _) = end_after(script(&[Do::Say(Overloaded), Do::Silence]), false, true);
    assert!(matches!(end, End::Unknown { .. }), "a refusal before does not count for a try after: {end:?}");
}

#[test]
fn what_is_tried_again_stays_within_its_budget() {
    let place = Place::new();
    let stop = Arc::new(AtomicBool::new(false));
    let ended = stop.clone();
    let server = place.serve(move |listener| {
        let mut frames = 0;
        let mut peer = Peer::welcomed(&listener, &welcome());
        while let Some((head, _)) = peer.read() {
            assert!(!ended.load(Ordering::Relaxed), "nothing is sent when all have ended");
            frames += 1;
            peer.reply(&head, &[reply(Code::Overloaded, 0)]);
        }
        frames
    });
    let client = start(&place, None);
    let pending: Vec<_> = (0..200)
        .map(|n| {
            let ask = Ask { again_when_refused: true, ..ask([n], LONG) };
            client.submit(ask).expect("taken")
        })
        .collect();
    for pending in pending {
        assert_eq!(pending.wait(), End::Refused(Why::Code(Code::Overloaded as u16)));
    }
    stop.store(true, Ordering::Relaxed);
    drop(client);
    let frames = server.join().expect("served");
    assert!(frames > 200 + RETRY_BURST / 2, "{frames}: it was tried again");
    assert!(frames <= 200 + RETRY_BURST + 20, "{frames}");
}

#[test]
fn another_bank_gets_nothing_and_is_reported() {
    let place = Place::new();
    let server = place.serve(|listener| {
        let mut first = Peer::welcomed(&listener, &welcome());
        let (head, _) = first.read().expect("asked");
        first.reply(&head, &[reply(Code::Done, 1)]);
        first.read().expect("asked");
        drop(first);
        let other = Welcome { journal_id: 8, ..welcome() };
        let mut frames = 0;
        for _ in 0..2 {
            let mut peer = Peer::welcomed(&listener, &other);
            frames += std::iter::from_fn(|| peer.read()).count();
        }
        frames
    });
    let client = start(&place, Some(keep(&place)));
    assert!(matches!(client.submit(ask([1], LONG)).expect("taken").wait(), End::Replies { .. }));
    let end = client.submit(ask([2], LONG)).expect("taken").wait();
    assert!(matches!(end, End::Unknown { .. }), "it may have been done by the bank that was there: {end:?}");
    drop(client);
    // The file knows whose bank it was.
    let client = start(&place, Some(keep(&place)));
    assert_eq!(client.submit(ask([3], LONG)).expect("taken").wait(), End::Refused(Why::OtherBank));
    drop(client);
    assert_eq!(server.join().expect("served"), 0, "nothing was sent to the other");
    assert_eq!(left(&place), [Name::Id(id(2))]);
}

#[test]
fn what_waits_is_bounded_and_ends_when_patience_does() {
    let place = Place::new();
    let config = ClientConfig { waiting_max: 2, ..ClientConfig::to(place.address(), CREDENTIAL) };
    let client = Client::start(config, None).expect("started");
    let first = client.submit(ask([1], SHORT)).expect("taken");
    let second = client.query(Envelope::default(), vec![0; 8], 0, SHORT).expect("taken");
    assert_eq!(client.submit(ask([3], SHORT)).err(), Some(NotTaken::Overloaded));
    assert_eq!(client.submit(Ask::default()).err(), Some(NotTaken::Malformed));
    let no_class = Envelope { class: 5, ..Envelope::default() };
    let asked = client.submit(Ask { envelope: no_class, ..ask([3], SHORT) });
    assert_eq!(asked.err(), Some(NotTaken::Malformed), "the server would end the connection of all");
    let asked = client.query(no_class, vec![0; 8], 0, SHORT);
    assert_eq!(asked.err(), Some(NotTaken::Malformed));
    let first = first
        .wait_until(Instant::now())
        .map_or_else(|first| first, |end| panic!("nobody is there to answer: {end:?}"));
    assert_eq!(first.wait(), End::Refused(Why::Unreachable));
    assert_eq!(second.wait(), Told::Refused(Why::Unreachable));
    let third = client.submit(ask([4], LONG)).expect("there is room again");
    drop(client);
    assert_eq!(third.wait(), End::Refused(Why::Closed));
}

#[test]
fn a_question_is_asked_again_when_it_went_unheard() {
    let place = Place::new();
    let server = place.serve(|listener| {
        let mut first = Peer::welcomed(&listener, &welcome());
        first.read().expect("asked");
        drop(first);
        let mut peer = Peer::welcomed(&listener, &welcome());
        let (head, body) = peer.read().expect("asked again");
        assert_eq!((head.item, &body[..]), (12, &[3; 16][..]));
        refuse(&mut peer, &head, Kind::Unknown, Code::Done);
        let (head, _) = peer.read().expect("asked again");
        peer.say(Kind::Answer, &ReplyHead { tag: head.tag, sequence: 13, ..ReplyHead::default() }, b"answer");
        let (head, _) = peer.read().expect("the next");
        refuse(&mut peer, &head, Kind::Refused, Code::Overloaded);
    });
    let client = start(&place, None);
    let told = client.query(Envelope::default(), vec![3; 16], 12, LONG).expect("taken").wait();
    assert_eq!(told, Told::Answer { sequence: 13, body: b"answer".to_vec() });
    let told = client.query(Envelope::default(), vec![4; 16], 0, LONG).expect("taken").wait();
    assert_eq!(told, Told::Refused(Why::Code(Code::Overloaded as u16)));
    server.join().expect("served");
}

/// Items of a job whose answer went unheard: that they are out of order does not say how they ended.
#[test]
fn an_item_whose_turn_has_passed_is_unknown() {
    let place = Place::new();
    let server = place.serve(|listener| {
        let mut first = Peer::welcomed(&listener, &welcome());
        first.read().expect("asked");
        drop(first);
        let mut peer = Peer::welcomed(&listener, &welcome());
        let (head, _) = peer.read().expect("asked again");
        assert_eq!((head.item, head.lane), (40, 2));
        peer.reply(&head, &[reply(Code::JobOutOfOrder, 30); 2]);
        let (head, _) = peer.read().expect("and again: its turn is still to come");
        peer.reply(&head, &[reply(Code::JobOutOfOrder, 42); 2]);
    });
    let client = start(&place, None);
    let envelope = Envelope { lane: Lane::Bulk, attempt: id(7), item: 40, ..Envelope::default() };
    let end = client.submit(Ask { envelope, ..ask([5, 6], LONG) }).expect("taken").wait();
    let heard = vec![Some(reply(Code::JobOutOfOrder, 42)); 2];
    let of = vec![Name::Item(id(7), 40), Name::Item(id(7), 41)];
    assert_eq!(end, End::Unknown { heard, of });
    server.join().expect("served");
}

#[test]
fn following_gives_each_record_once_and_in_order() {
    let place = Place::new();
    let server = place.serve(|listener| {
        for told in [&[5, 6, 7][..], &[5, 7], &[5, 5]] {
            let mut peer = Peer::welcomed(&listener, &welcome());
            let (head, _) = peer.read().expect("asked");
            for &sequence in told {
                let head = ReplyHead { tag: head.tag, sequence, ..ReplyHead::default() };
                peer.say(Kind::Record, &head, &vec![sequence as u8; ANSWERED_BYTES_MAX]);
            }
        }
    });
    for (good, whole) in [(3, true), (1, false), (1, false)] {
        let mut follow = Follow::from(&place.address(), CREDENTIAL, 5, LONG).expect("welcome");
        assert_eq!(follow.journal_id(), crate::server::JOURNAL_ID);
        let all: Vec<_> = follow.by_ref().collect();
        assert_eq!(all.len(), good + 1);
        for (record, n) in all[..good].iter().zip(5..) {
            let record = record.as_ref().expect("a record");
            assert_eq!(record.sequence, n);
            assert!(record.blocks.iter().all(|byte| *byte == n as u8));
        }
        assert_eq!(follow.next_sequence(), 5 + good as u64);
        let broken = matches!(all[good], Err(pabal_client::Error::Broken(_)));
        assert_eq!(broken, !whole);
    }
    server.join().expect("served");
}

// ── a server that remembers ──────────────────────────────────────────────────────────────────────

/// Numbers by chance, the same for a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

/// What a bank knows: each id it executed, once, and how often it was asked to.
#[derive(Default)]
struct Memory {
    executed: BTreeMap<Id, u64>,
    now_ms: u64,
    /// Requests of connections that are gone, which still wait to be executed.
    adrift: Vec<(Head, Vec<u8>)>,
}

impl Memory {
    /// Executes what it does not know, unless it is late, or refuses it with this code.
    fn decide(&mut self, head: &Head, body: &[u8], refusal: Option<Code>) -> Vec<Reply> {
        let late = (head.deadline_ms != 0 && head.deadline_ms < self.now_ms).then_some(Code::DeadlinePassed);
        let mut replies = Vec::new();
        for command in commands(body) {
            if let Some(&position) = self.executed.get(&command.id) {
                replies.push(Reply { again: true, ..reply(Code::Done, position) });
            } else if let Some(code) = late.or(refusal) {
                replies.push(reply(code, 0));
            } else {
                let position = self.executed.len() as u64 + 1;
                self.executed.insert(command.id, position);
                replies.push(reply(Code::Done, position));
            }
        }
        replies
    }
}

/// Serves as chance will have it until it is told to stop.
fn serve_by_chance(listener: &UnixListener, memory: &Mutex<Memory>, stop: &AtomicBool, mut chance: Chance) {
    while !stop.load(Ordering::SeqCst) {
        let Ok((stream, _)) = listener.accept() else { return };
        let mut peer = Peer { stream };
        let Some((hello, _)) = peer.read() else { continue };
        if chance.below(6) == 0 {
            continue;
        }
        peer.say(Kind::Welcome, &ReplyHead { tag: hello.tag, ..ReplyHead::default() }, welcome().as_bytes());
        let mut late: Vec<(Head, Vec<Reply>)> = Vec::new();
        while let Some((head, body)) = peer.read() {
            let mut bank = memory.lock().expect("whole");
            bank.now_ms += chance.below(2);
            if !bank.adrift.is_empty() && chance.below(4) == 0 {
                let at = chance.below(bank.adrift.len() as u64) as usize;
                let (head, body) = bank.adrift.swap_remove(at);
                bank.decide(&head, &body, None);
            }
            match chance.below(48) {
                // Executed, and nobody hears of it.
                0 => {
                    bank.decide(&head, &body, None);
                    break;
                }
                1 => break,
                2 => {
                    bank.adrift.push((head, body));
                    break;
                }
                3 => {
                    bank.decide(&head, &body, None);
                    refuse(&mut peer, &head, Kind::Unknown, Code::Done);
                }
                4 => refuse(&mut peer, &head, Kind::Unknown, Code::Done),
                5 => refuse(&mut peer, &head, Kind::Refused, Code::Overloaded),
                6 | 7 | 16..=20 => {
                    let replies =
                        commands(&body).iter().map(|_| reply(Code::Overloaded, 0)).collect::<Vec<_>>();
                    peer.reply(&head, &replies);
                }
                8 | 9 | 21..=25 => {
                    let replies = bank.decide(&head, &body, Some(Code::DiskFull));
                    peer.reply(&head, &replies);
                }
                // Said after others, or never.
                10 | 11 => {
                    let replies = bank.decide(&head, &body, None);
                    late.push((head, replies));
                }
                14 => {
                    let replies = bank.decide(&head, &body, None);
                    peer.reply(&head, &replies);
                    peer.reply(&head, &replies);
                }
                15 => {
                    bank.decide(&head, &body, None);
                    let _ = peer.stream.write_all(&[0x5a; 96]);
                }
                _ => {
                    let replies = bank.decide(&head, &body, None);
                    peer.reply(&head, &replies);
                    while chance.below(2) == 0
                        && let Some((head, replies)) = late.pop()
                    {
                        peer.reply(&head, &replies);
                    }
                }
            }
        }
    }
}

/// Whatever happens: done was done, refused was not and never will be by what is under way, and what is unknown is
/// kept, and told when the bank is itself again. The bank executes each id once; nobody here may say otherwise.
#[test]
fn nothing_is_said_of_a_bank_that_remembers_but_the_truth() {
    let mut ends = [0; 3];
    for seed in 1..=6 {
        let place = Place::new();
        let memory = Arc::new(Mutex::new(Memory::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (bank, stopped) = (memory.clone(), stop.clone());
        let server = place.serve(move |listener| {
            serve_by_chance(&listener, &bank, &stopped, Chance(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed)));
            listener
        });
        let client = start(&place, Some(keep(&place)));
        let mut chance = Chance(0x2545_f491_4f6c_dd1d_u64.wrapping_mul(seed));
        let mut ends_of: Vec<(Vec<u64>, End)> = Vec::new();
        for group in 0..12 {
            let asks: Vec<(Vec<u64>, _)> = (group * 5..group * 5 + 5)
                .map(|n| {
                    let ids: Vec<u64> = (0..1 + chance.below(3)).map(|k| n * 4 + k + 1).collect();
                    let envelope = Envelope {
                        deadline_ms: if chance.below(3) == 0 { 1 + chance.below(60) } else { 0 },
                        ..Envelope::default()
                    };
                    let again_when_refused = chance.below(2) == 0;
                    let patience = SHORT * (1 + chance.below(4) as u32);
                    let ask = Ask { envelope, again_when_refused, ..ask(ids.clone(), patience) };
                    (ids, client.submit(ask).expect("taken"))
                })
                .collect();
            ends_of.extend(asks.into_iter().map(|(ids, pending)| (ids, pending.wait())));
        }
        // The process ends, and what still waited in the bank is executed.
        drop(client);
        stop.store(true, Ordering::SeqCst);
        drop(UnixStream::connect(place.socket()));
        let listener = server.join().expect("served");
        let mut bank = memory.lock().expect("whole");
        for (head, body) in std::mem::take(&mut bank.adrift) {
            bank.decide(&head, &body, None);
        }
        let mut unknown = Vec::new();
        for (ids, end) in ends_of {
            match end {
                End::Replies { replies, .. } => {
                    ends[0] += 1;
                    for (n, heard) in ids.iter().zip(&replies) {
                        let position = bank.executed.get(&id(*n)).copied();
                        let done = (heard.code == Code::Done).then_some(heard.position);
                        assert_eq!(done, position, "seed {seed}, id {n}: {heard:?}");
                    }
                }
                End::Refused(why) => {
                    ends[1] += 1;
                    for n in ids {
                        assert!(!bank.executed.contains_key(&id(n)), "seed {seed}, id {n}: {why:?}");
                    }
                }
                End::Unknown { of, .. } => {
                    ends[2] += 1;
                    assert!(!of.is_empty());
                    unknown.extend(ids.into_iter().map(|n| Name::Id(id(n))));
                }
            }
        }
        drop(bank);
        // All that is unknown is kept; an answer that came too late for its caller may have settled some of it.
        let kept = left(&place);
        assert!(kept.iter().all(|name| unknown.contains(name)), "seed {seed}: only what is unknown is kept");
        let bank = memory.clone();
        let healthy = std::thread::spawn(move || {
            // Those that were to end the first server, or gave up on it, come first.
            let mut peer =
                std::iter::from_fn(|| Some(Peer { stream: listener.accept().expect("accepted").0 }))
                    .find_map(|mut peer| peer.read().map(|hello| (peer, hello.0.tag)))
                    .map(|(mut peer, tag)| {
                        let head = ReplyHead { tag, ..ReplyHead::default() };
                        peer.say(Kind::Welcome, &head, welcome().as_bytes());
                        peer
                    })
                    .expect("a client comes");
            while let Some((head, body)) = peer.read() {
                let replies = bank.lock().expect("whole").decide(&head, &body, None);
                peer.reply(&head, &replies);
            }
        });
        let client = start(&place, Some(keep(&place)));
        // Reached, so that the server is not waited for in vain when nothing is left to resolve.
        client.submit(ask([5000], LONG)).expect("taken").wait();
        let resolved: Vec<_> = client.resolve(LONG).collect();
        assert_eq!(resolved.iter().map(|(parcel, _)| parcel.count() as usize).sum::<usize>(), kept.len());
        for (parcel, end) in resolved {
            let settled = matches!(end, End::Replies { .. } | End::Refused(Why::Code(_)));
            assert!(settled, "seed {seed}: {:?} is {end:?}", parcel.names().collect::<Vec<_>>());
        }
        drop(client);
        assert_eq!(left(&place), [], "seed {seed}: nothing is left");
        healthy.join().expect("served");
    }
    assert!(ends.iter().all(|n| *n > 5), "every end was met: {ends:?}");
}
