//! One connection.

use crate::server::{CREDENTIAL, Peer, Place, frame, welcome};
use pabal_bank::Reply;
use pabal_client::{Connection, Envelope, Error, Lane, Unsent};
use pabal_ledger::{Code, Id};
use pabal_wire::frame::{ANSWERED_BYTES_MAX, ASKED_BYTES_MAX};
use pabal_wire::{Asking, Kind, Reply as ReplyHead, Welcome};
use std::io::Write;
use std::time::Duration;
use zerocopy::IntoBytes;

const PATIENCE: Duration = Duration::from_secs(20);

fn connect(place: &Place) -> Result<Connection, Error> {
    Connection::connect(&place.address(), CREDENTIAL, PATIENCE)
}

/// Waits for an answer: tag, kind, sequence and body.
fn hear(connection: &mut Connection) -> Result<(u64, Kind, u64, Vec<u8>), Error> {
    loop {
        if let Some(a) = connection.take()? {
            return Ok((a.tag, a.kind, a.sequence, a.body.to_vec()));
        }
        connection.poll(PATIENCE)?;
    }
}

fn done(position: u64) -> Reply {
    Reply { position, debit_balance: -5, credit_balance: 5, ..Reply::refused(Code::Done) }
}

#[test]
fn what_is_asked_arrives_as_it_was_said_and_answers_find_it_in_any_order() {
    let place = Place::new();
    let server = place.serve(|listener| {
        let mut peer = Peer::welcomed(&listener, &welcome());
        let asked: Vec<_> = (0..3).map(|_| peer.read().expect("asked")).collect();
        let answer = ReplyHead { tag: asked[1].0.tag, sequence: 9, ..ReplyHead::default() };
        // Of no whole number of words: what comes after it lies at an odd place.
        peer.say(Kind::Answer, &answer, b"seven b");
        peer.reply(&asked[2].0, &[done(2), done(3)]);
        peer.reply(&asked[0].0, &[done(1)]);
        asked
    });
    let mut connection = connect(&place).expect("welcome");
    assert_eq!(*connection.welcome(), welcome());
    let envelope = Envelope {
        class: 3,
        lane: Lane::Bulk,
        deadline_ms: 11,
        attempt: Id::new(12, 13, 14),
        principal: 15,
        item: 16,
    };
    let first = connection.submit(&envelope, 1, &[1; 96]).expect("collected");
    let question = connection.query(&Envelope::default(), 8, &[2; 16]).expect("collected");
    let second = connection.submit(&Envelope::default(), 2, &[3; 192]).expect("collected");
    assert_eq!(connection.in_flight(), 3);
    let heard: Vec<_> = (0..3).map(|_| hear(&mut connection).expect("answered")).collect();
    assert_eq!(connection.in_flight(), 0);
    assert_eq!(heard[0], (question, Kind::Answer, 9, b"seven b".to_vec()));
    assert_eq!((heard[1].0, heard[1].1), (second, Kind::Replies));
    assert_eq!(heard[1].3, crate::server::bytes(&[done(2), done(3)]));
    assert_eq!((heard[2].0, heard[2].1), (first, Kind::Replies));

    let asked = server.join().expect("served");
    let head = asked[0].0;
    assert_eq!((head.kind, head.class, head.lane, head.count), (Asking::Submit as u16, 3, 2, 1));
    assert_eq!((head.deadline_ms, head.principal, head.item), (11, 15, 16));
    assert_eq!(head.attempt, [envelope.attempt.high, envelope.attempt.low]);
    assert_eq!((head.credential, head.version, head.tag), (CREDENTIAL, 1, first));
    assert_eq!(asked[0].1, [1; 96]);
    assert_eq!((asked[1].0.kind, asked[1].0.item), (Asking::Query as u16, 8));
    assert_eq!((asked[2].0.count, asked[2].0.lane), (2, 1));
}

/// Neither side reads until the other has: with one that only writes, both would wait for ever.
#[test]
fn long_requests_and_long_answers_cross_each_other() {
    const REQUESTS: u64 = 40;
    const COMMANDS: usize = ASKED_BYTES_MAX / 96;
    let place = Place::new();
    let server = place.serve(|listener| {
        let wide = Welcome { in_flight_bytes_max: 1 << 30, ..welcome() };
        let mut peer = Peer::welcomed(&listener, &wide);
        let replies: Vec<Reply> = (0..COMMANDS as u64).map(done).collect();
        // It answers each before it reads the next, and waits with writing until it is read.
        for n in 0..REQUESTS {
            let (head, body) = peer.read().expect("asked");
            assert!(body.chunks_exact(8).all(|word| word == n.to_le_bytes()), "request {n} is whole");
            assert!(peer.reply(&head, &replies));
        }
    });
    let mut connection = connect(&place).expect("welcome");
    for n in 0..REQUESTS {
        let body = n.to_le_bytes().repeat(COMMANDS * 12);
        connection.submit(&Envelope::default(), COMMANDS as u32, &body).expect("collected");
    }
    for _ in 0..REQUESTS {
        assert_eq!(hear(&mut connection).expect("answered").3.len(), COMMANDS * 32);
    }
    server.join().expect("served");
}

#[test]
fn many_short_requests_before_any_answer_is_taken() {
    let place = Place::new();
    let server = place.serve(|listener| {
        let wide = Welcome { in_flight_max: 100_000, in_flight_bytes_max: 1 << 30, ..welcome() };
        let mut peer = Peer::welcomed(&listener, &wide);
        while let Some((head, body)) = peer.read() {
            let position = u64::from_le_bytes(body[..8].try_into().expect("8 bytes"));
            if !peer.reply(&head, &[done(position)]) {
                break;
            }
        }
    });
    let mut connection = connect(&place).expect("welcome");
    let mut by_tag = std::collections::BTreeMap::new();
    for n in 0..50_000_u64 {
        let tag = connection.submit(&Envelope::default(), 1, &n.to_le_bytes().repeat(12)).expect("collected");
        by_tag.insert(tag, n);
    }
    while !by_tag.is_empty() {
        let (tag, kind, _, body) = hear(&mut connection).expect("answered");
        assert_eq!(kind, Kind::Replies);
        let n = by_tag.remove(&tag).expect("asked, and not answered before");
        assert_eq!(body, crate::server::bytes(&[done(n)]));
    }
    drop(connection);
    server.join().expect("served");
}

#[test]
fn what_the_server_does_not_allow_is_not_sent() {
    let place = Place::new();
    let server = place.serve(|listener| {
        let narrow = Welcome { in_flight_max: 2, in_flight_bytes_max: 300, ..welcome() };
        let mut peer = Peer::welcomed(&listener, &narrow);
        let first = peer.read().expect("asked").0;
        peer.reply(&first, &[done(1)]);
        (0..2).map(|_| peer.read().expect("asked").1.len()).collect::<Vec<_>>()
    });
    let mut connection = connect(&place).expect("welcome");
    let submit = |connection: &mut Connection, bytes: usize| {
        connection.submit(&Envelope::default(), 1, &vec![0; bytes])
    };
    assert_eq!(submit(&mut connection, 304), Err(Unsent::TooLong));
    assert_eq!(submit(&mut connection, 0), Err(Unsent::Malformed));
    assert_eq!(submit(&mut connection, 97), Err(Unsent::Malformed));
    assert_eq!(connection.submit(&Envelope::default(), 0, &[0; 96]), Err(Unsent::Malformed));
    submit(&mut connection, 192).expect("collected");
    assert_eq!(submit(&mut connection, 192), Err(Unsent::Full), "of bytes");
    submit(&mut connection, 96).expect("collected");
    assert_eq!(submit(&mut connection, 8), Err(Unsent::Full), "of requests");
    hear(&mut connection).expect("answered");
    submit(&mut connection, 200).expect("there is room again");
    connection.flush();
    assert_eq!(server.join().expect("served"), [96, 200]);
    assert!(matches!(hear(&mut connection), Err(Error::Closed)));
    assert!(matches!(hear(&mut connection), Err(Error::Closed)), "and stays so");
    assert_eq!(submit(&mut connection, 8), Err(Unsent::Ended));
}

/// Every way in which an answer can break the rules ends the connection, and is told apart from an answer.
#[test]
fn an_answer_that_breaks_a_rule_ends_the_connection() {
    type Break = fn(&mut Vec<u8>, &mut Vec<u8>);
    fn head(bytes: &mut [u8], change: impl FnOnce(&mut ReplyHead)) {
        use zerocopy::FromBytes;
        change(ReplyHead::mut_from_prefix(bytes).expect("aligned").0);
    }
    // The right answer to the request, and the one to the question, to be spoilt.
    let breaks: [(&str, Break); 12] = [
        ("twice", |replies, _| replies.extend(replies.clone())),
        ("never asked", |replies, _| head(replies, |h| h.tag += 1 << 32)),
        ("no such slot", |replies, _| head(replies, |h| h.tag += 40)),
        ("no kind", |replies, _| head(replies, |h| h.kind = 99)),
        ("another kind", |replies, _| head(replies, |h| h.kind = Kind::Answer as u16)),
        ("another kind", |_, answer| head(answer, |h| h.kind = Kind::Replies as u16)),
        ("a record", |_, answer| head(answer, |h| h.kind = Kind::Record as u16)),
        ("a welcome", |replies, _| head(replies, |h| h.kind = Kind::Welcome as u16)),
        ("a count that was not asked", |replies, _| head(replies, |h| h.count = 2)),
        ("a length of no replies", |replies, _| {
            replies.truncate(56);
            head(replies, |h| h.length = 24);
        }),
        ("reserved", |replies, _| head(replies, |h| h.reserved = 1)),
        ("longer than any", |replies, _| head(replies, |h| h.length = ANSWERED_BYTES_MAX as u32 + 1)),
    ];
    for (name, spoil) in breaks {
        let place = Place::new();
        let server = place.serve(move |listener| {
            let mut peer = Peer::welcomed(&listener, &welcome());
            let (request, question) = (peer.read().expect("asked").0, peer.read().expect("asked").0);
            let tagged = |tag, count| ReplyHead { tag, count, ..ReplyHead::default() };
            let mut replies =
                frame(Kind::Replies, &tagged(request.tag, 1), &crate::server::bytes(&[done(1)]));
            let mut answer = frame(Kind::Answer, &tagged(question.tag, 0), &[0; 32]);
            spoil(&mut replies, &mut answer);
            let _ = peer.stream.write_all(&[replies, answer].concat());
            peer.read().map(|frame| frame.0)
        });
        let mut connection = connect(&place).expect("welcome");
        connection.submit(&Envelope::default(), 1, &[0; 96]).expect("collected");
        connection.query(&Envelope::default(), 0, &[0; 8]).expect("collected");
        let mut heard = 0;
        let error = loop {
            match hear(&mut connection) {
                Ok(_) => heard += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::Broken(_)), "{name}: {error}");
        assert!(heard < 2, "{name}");
        assert_eq!(connection.submit(&Envelope::default(), 1, &[0; 96]), Err(Unsent::Ended), "{name}");
        assert!(matches!(hear(&mut connection), Err(Error::Closed)), "{name}");
        drop(connection);
        assert_eq!(server.join().expect("served"), None, "{name}");
    }
}

/// A frame cut short anywhere is no answer; those before it are.
#[test]
fn a_connection_that_is_cut_at_any_byte_gives_the_answers_that_came_whole() {
    let answers = |tags: &[u64]| -> Vec<u8> {
        let head = |tag| ReplyHead { tag, count: 1, ..ReplyHead::default() };
        tags.iter()
            .flat_map(|&tag| frame(Kind::Replies, &head(tag), &crate::server::bytes(&[done(1)])))
            .collect()
    };
    for cut in 0..=128 {
        let place = Place::new();
        let server = place.serve(move |listener| {
            let mut peer = Peer::welcomed(&listener, &welcome());
            let tags = [0, 1].map(|_| peer.read().expect("asked").0.tag);
            peer.stream.write_all(&answers(&tags)[..cut]).expect("written");
        });
        let mut connection = connect(&place).expect("welcome");
        for _ in 0..2 {
            connection.submit(&Envelope::default(), 1, &[0; 96]).expect("collected");
        }
        for _ in 0..cut / 64 {
            assert_eq!(hear(&mut connection).expect("whole").1, Kind::Replies, "{cut}");
        }
        assert!(matches!(hear(&mut connection), Err(Error::Closed | Error::Io(_))), "{cut}");
        server.join().expect("served");
    }
}

#[test]
fn a_welcome_one_cannot_work_with_is_none() {
    type Spoil = fn(&mut Welcome);
    let spoilt: [(&str, Spoil); 6] = [
        ("too new", |w| w.version = 2),
        ("too old", |w| w.version = 0),
        ("no role", |w| w.role = 3),
        ("nothing on its way", |w| w.in_flight_max = 0),
        ("no bytes on their way", |w| w.in_flight_bytes_max = 0),
        ("reserved", |w| w.reserved = 1),
    ];
    for (name, spoil) in spoilt {
        let place = Place::new();
        let mut said = welcome();
        spoil(&mut said);
        let server = place.serve(move |listener| drop(Peer::welcomed(&listener, &said)));
        assert!(matches!(connect(&place), Err(Error::Broken(_))), "{name}");
        server.join().expect("served");
    }
}

#[test]
fn a_server_that_refuses_leaves_or_says_nothing_is_told_apart() {
    let place = Place::new();
    let server = place.serve(|listener| {
        let mut peer = Peer { stream: listener.accept().expect("accepted").0 };
        let hello = peer.read().expect("a hello").0;
        assert_eq!((hello.kind, hello.count, hello.item), (Asking::Hello as u16, 1, 1));
        let refused = ReplyHead { tag: hello.tag, code: 264, ..ReplyHead::default() };
        peer.say(Kind::Refused, &refused, &[]);
        drop(listener.accept());
        // Kept open until the client has gone.
        let mut silent = Peer { stream: listener.accept().expect("accepted").0 };
        silent.read();
        silent.read();
    });
    assert!(matches!(connect(&place), Err(Error::Refused(264))));
    assert!(matches!(connect(&place), Err(Error::Closed | Error::Io(_))));
    let silent = Connection::connect(&place.address(), CREDENTIAL, Duration::from_millis(20));
    assert!(matches!(silent, Err(Error::NoWelcome)));
    server.join().expect("served");
    assert!(matches!(connect(&place), Err(Error::Io(_))), "nobody listens");
}

#[test]
fn records_are_followed_without_end_and_bounded_in_what_is_held() {
    const RECORDS: u64 = 64;
    let place = Place::new();
    let server = place.serve(|listener| {
        let mut peer = Peer::welcomed(&listener, &welcome());
        let (head, _) = peer.read().expect("asked");
        assert_eq!((head.kind, head.item), (Asking::Follow as u16, 3));
        for sequence in 3..3 + RECORDS {
            let reply = ReplyHead { tag: head.tag, sequence, ..ReplyHead::default() };
            let body = sequence
                .to_le_bytes()
                .repeat(ANSWERED_BYTES_MAX / 8 / if sequence % 2 == 0 { 1 } else { 512 });
            peer.say(Kind::Record, &reply, &body);
        }
        peer.say(Kind::Refused, &ReplyHead { tag: head.tag, code: 264, ..ReplyHead::default() }, &[]);
    });
    let mut connection = connect(&place).expect("welcome");
    let tag = connection.follow(3).expect("collected");
    for sequence in 3..3 + RECORDS {
        let (heard, kind, its, body) = hear(&mut connection).expect("a record");
        assert_eq!((heard, kind, its), (tag, Kind::Record, sequence));
        assert!(body.as_bytes().chunks_exact(8).all(|word| word == sequence.to_le_bytes()));
    }
    assert_eq!(hear(&mut connection).expect("refused").1, Kind::Refused);
    assert_eq!(connection.in_flight(), 0);
    server.join().expect("served");
}
