//! Any bytes as a question to a served bank, from a channel and from a stranger, and as the answer to one.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pabal_core::question::{Asks, BankStanding, LINES_MAX, read_answer};
use pabal_core::{BankMachine, Channel, CoreService, Credential, Credentials, Question, Walkers};
use pabal_engine::Engine;
use pabal_engine::engine::JOURNAL;
use pabal_fuzz::input::Input;
use pabal_fuzz::scratch::Scratch;
use pabal_fuzz::seeds;
use pabal_journal::Reader;
use pabal_wire::{Answer, Asked, Asking, Body, Head, Kind, Service};
use std::cell::LazyCell;
use std::sync::Arc;
use std::sync::mpsc::channel;
use zerocopy::IntoBytes;

/// Blocks of histories in memory: fewer than there are, so that some are let go.
const CACHED: usize = 8;

/// A bank that did a little of everything, served.
struct Served {
    service: CoreService,
    credential: Credential,
    _scratch: Scratch,
}

thread_local! {
    static BANK: LazyCell<Served> = const { LazyCell::new(serve) };
}

fn serve() -> Served {
    let scratch = Scratch::new();
    let data = scratch.path();
    seeds::tell(data);
    let (engine, _) =
        Engine::start(data, BankMachine::default(), seeds::config(), &mut |_| {}).expect("started");
    let reader = Reader::open(&data.join(JOURNAL)).expect("a journal").with_cache(CACHED);
    let journal_id = reader.journal_id();
    let walkers = Walkers::start(reader).expect("threads");
    let credentials = Credentials::open(data).expect("made");
    let credential = Credentials::of(data, Channel::Watch).expect("made");
    let service = CoreService::new(Arc::new(engine), credentials, walkers, journal_id);
    Served { service, credential, _scratch: scratch }
}

fuzz_target!(init: seeds::plant("queries"), |data: &[u8]| {
    let _ = BankStanding::read(data);
    if let Some((standing, lines)) = read_answer(data) {
        assert_eq!(standing.lines as usize, lines.len());
        let _ = standing.view();
    }
    let mut input = Input(data);
    let stranger = input.u8() & 1 != 0;
    let asked = Question::read(input.0);
    if let Some((_, question)) = asked {
        assert_eq!(question.as_bytes(), input.0, "a question has one form");
    }
    let (kind, body) = BANK.with(|bank| ask(bank, stranger, input.0));
    match asked {
        _ if stranger => assert_eq!(kind, Kind::Refused),
        None => assert_eq!(kind, Kind::Refused),
        Some((asks, question)) => {
            assert_eq!(kind, Kind::Answer, "a sound journal can be read");
            is_right(asks, &question, &body);
        }
    }
});

/// What is answered. Everything is.
fn ask(bank: &Served, stranger: bool, body: &[u8]) -> (Kind, Vec<u8>) {
    let mut credential = bank.credential.0;
    credential[0] ^= u8::from(stranger);
    let head = Head { kind: Asking::Query as u16, credential, lane: 1, ..Head::default() };
    let (heard, hear) = channel();
    let answer = Answer::new(move |answered| {
        let mut body = Vec::new();
        if let Some(write) = answered.body {
            write(&mut body);
        }
        let _ = heard.send((answered.kind, body));
    });
    bank.service.asked(vec![Asked { connection: 1, head, body: Body::of(body), answer }]);
    hear.recv().expect("what is asked is answered")
}

fn is_right(asks: Asks, question: &Question, body: &[u8]) {
    if asks == Asks::Status {
        let bank = BankStanding::read(body).expect("the bank's standing").view();
        assert!(bank.founded && bank.accounts > 0);
        return;
    }
    let (standing, lines) = read_answer(body).expect("an answer");
    assert!(lines.len() <= usize::from(LINES_MAX.min(question.limit)), "no more than was asked for");
    assert!(asks == Asks::Statement || lines.is_empty());
    let mut last = if question.before == 0 { u64::MAX } else { question.before };
    for line in &lines {
        assert!(line.position < last, "newest first, and before what was said");
        assert!((question.from..=question.to).contains(&line.booking_date));
        last = line.position;
    }
    for two in lines.windows(2) {
        assert_eq!(two[0].balance, two[1].balance + two[0].amount, "a balance follows from the one before");
    }
    if asks == Asks::Statement {
        assert!(standing.next == 0 || standing.next == last, "it goes on from the last line");
    }
}
