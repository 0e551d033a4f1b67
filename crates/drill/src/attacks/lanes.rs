//! Lanes that are full, and requests that are none: whoever is refused hears so at once, and whoever was let in is
//! answered.

use super::Attack;
use super::bank::{BankBed, CUSTOMER, answer, request};
use pabal_bank::ledger::Code;
use pabal_core::Query;
use pabal_engine::queue::{BULK_MAX, ONLINE_MAX};
use pabal_engine::request::BULK_COMMANDS_MAX;
use pabal_engine::{Commands, Request};
use pabal_fault::Point;

pub const ATTACKS: &[Attack] = &[
    Attack {
        name: "more questions than the online lane holds",
        points: &[Point::QueryOverloaded, Point::SubmitOverloaded, Point::LaneOnlineFull],
        run: online,
    },
    Attack {
        name: "more bulk requests than their lane holds",
        points: &[Point::SubmitOverloaded, Point::LaneBulkFull],
        run: bulk,
    },
    Attack { name: "requests that are none", points: &[Point::SubmitMalformed], run: malformed },
];

fn online() {
    let (mut bed, mut bank) = BankBed::founded();
    let asked: Vec<_> = (0..ONLINE_MAX).map(|_| bank.query(Query::Account(CUSTOMER))).collect();
    let refused = bank.query(Query::Account(CUSTOMER));
    assert!(refused.take().expect("at once").is_err());
    let sent = [bed.deposit()];
    let refused = bank.submit(request(bed.online(), &sent)).take().expect("at once").expect("answered");
    assert_eq!(refused.replies[0].code, Code::Overloaded);
    let last = asked.last().expect("many");
    answer(&mut bank, last).expect("it runs").expect("answered");
    assert!(asked[..ONLINE_MAX - 1].iter().all(|ticket| matches!(ticket.take(), Some(Ok(_)))));
    bed.does(&mut bank, &sent);
    bank.stop().expect("stopped");
    bed.is_whole();
}

fn bulk() {
    let (mut bed, mut bank) = BankBed::founded();
    let sent: Vec<_> = (0..=BULK_MAX).map(|_| [bed.deposit()]).collect();
    let tickets: Vec<_> =
        sent.iter().zip(0..).map(|(sent, job)| bank.submit(request(bed.bulk(job, 0), sent))).collect();
    let refused = tickets[BULK_MAX].take().expect("at once").expect("answered");
    assert_eq!(refused.replies[0].code, Code::Overloaded);
    // Someone who waits for an answer still comes in.
    let urgent = [bed.deposit()];
    bed.does(&mut bank, &urgent);
    for (sent, ticket) in sent.iter().zip(&tickets[..BULK_MAX]) {
        let response = answer(&mut bank, ticket).expect("it runs").expect("answered");
        assert_eq!(response.replies[0].code, Code::Done);
        bed.heard_of_job(sent, &response);
    }
    bed.does(&mut bank, &sent[BULK_MAX]);
    bank.stop().expect("stopped");
    bed.is_whole();
}

fn malformed() {
    let (mut bed, mut bank) = BankBed::founded();
    let hears = |header, commands: Commands| {
        let count = commands.len();
        let response = bank.submit(Request { header, commands }).take().expect("at once").expect("answered");
        assert_eq!(response.replies.len(), count);
        assert!(response.replies.iter().all(|reply| reply.code == Code::Malformed), "{:?}", response.replies);
    };
    let whole = bed.deposit();
    let long = |n: usize, bed: &mut BankBed| {
        let mut commands = Commands::new();
        (0..n).for_each(|_| commands.push(bed.deposit().bytes()));
        commands
    };
    hears(bed.online(), Commands::new());
    for length in [8, 88] {
        let mut cut = Commands::new();
        cut.push(&whole.bytes()[..length]);
        hears(bed.online(), cut);
    }
    // Two that are sent as one.
    let mut two = Commands::new();
    two.push(&[whole.bytes(), whole.bytes()].concat());
    hears(bed.online(), two);
    // More than a record of this journal takes, and more than a bulk request may have.
    hears(bed.online(), long(400, &mut bed));
    hears(bed.bulk(1, 0), long(BULK_COMMANDS_MAX + 1, &mut bed));
    bed.does(&mut bank, &[whole]);
    bank.stop().expect("stopped");
    bed.is_whole();
}
