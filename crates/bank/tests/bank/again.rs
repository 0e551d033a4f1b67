//! Flows of several steps, every step of them repeated, and every step of them failed in turn.

use crate::sink::{KRW, ONLINE, Replay, Teller};
use pabal_bank::command;
use pabal_bank::ledger::account::UNLIMITED;
use pabal_bank::ledger::{Class, Code, Command, Date, Id, Kind, Op, Status};
use pabal_bank::{Context, Reply};
use pabal_drill::sent::{Sent, linked};

/// What a step can build on: the ids of each step so far, its own last, and where the earlier ones stand.
pub struct Made {
    ids: Vec<Vec<Id>>,
    positions: Vec<Vec<u64>>,
}

impl Made {
    /// The id of a part of a step.
    fn id(&self, step: usize, part: usize) -> Id {
        self.ids[step][part]
    }

    /// Where a part of an earlier step stands.
    fn position(&self, step: usize, part: usize) -> u64 {
        self.positions[step][part]
    }
}

/// Makes the commands of a step.
type Make = Box<dyn Fn(&Made) -> Vec<Command>>;

/// A step: one command, or a bundle when it makes several.
struct Step {
    parts: usize,
    make: Make,
}

fn step(parts: usize, make: impl Fn(&Made) -> Vec<Command> + 'static) -> Step {
    Step { parts, make: Box::new(make) }
}

/// How a step is made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// It is set aside as one that stopped the core twice.
    Quarantine,
    /// The accounts of its first, or last, part are blocked for a while.
    BlockFirst,
    BlockLast,
    /// The account of its hold's receiver, or what it names, is not there.
    WrongTarget,
}

const FAILURES: [Failure; 4] =
    [Failure::Quarantine, Failure::BlockFirst, Failure::BlockLast, Failure::WrongTarget];

const CUSTOMERS: [u64; 3] = [1, 2, 3];
const CASH: u64 = 9;
const FEES: u64 = 8;

fn open_bank() -> Teller {
    let mut teller = Teller::founded(10_000, 2);
    for number in CUSTOMERS {
        let id = teller.id();
        teller.ask(command::open(id, number, Class::CustomerDeposit, KRW, number, 0));
    }
    for (number, class) in [(CASH, Class::Cash), (FEES, Class::FeeIncome)] {
        let id = teller.id();
        teller.ask(command::open(id, number, class, KRW, 0, UNLIMITED));
    }
    let id = teller.id();
    teller.ask(command::post(id, Kind::CashDeposit, CASH, 1, 100_000, KRW));
    teller
}

/// What a flow leaves behind, without ids and positions, which differ between tries.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    accounts: Vec<(u64, i64, i64, u32, i64, Status)>,
    holds: Vec<(u64, u64, i64)>,
    reversed: Vec<i64>,
    date: Date,
}

fn left(teller: &Teller) -> Left {
    let ledger = teller.bank.ledger();
    let accounts = ledger.accounts().iter();
    let mut holds: Vec<_> = ledger.holds().iter().map(|(_, h)| (h.debit, h.credit, h.remaining)).collect();
    holds.sort();
    Left {
        accounts: accounts.map(|a| (a.number, a.balance, a.held, a.holds, a.overdraft, a.status)).collect(),
        holds,
        reversed: ledger.reversed().iter().map(|(_, r)| r.amount).collect(),
        date: teller.bank.moment().date,
    }
}

fn next(teller: &mut Teller, step: &Step, made: &mut Made) -> Vec<Sent> {
    made.ids.push((0..step.parts).map(|_| teller.id()).collect());
    let commands = (step.make)(made);
    assert_eq!(commands.len(), step.parts);
    linked(commands.into_iter().map(Sent::from).collect())
}

fn carry_out(teller: &mut Teller, step: &Step, made: &mut Made) -> (Vec<Sent>, Vec<Reply>) {
    let sent = next(teller, step, made);
    let replies = teller.send(&sent);
    assert!(replies.iter().all(|r| r.code == Code::Done), "{sent:#?} {replies:?}");
    made.positions.push(replies.iter().map(|r| r.position).collect());
    (sent, replies)
}

/// Every step repeated, alone and with all before it, then every step failed, mended and tried anew.
fn repeat_every_step(flow: &[Step]) {
    let expected = repeat(flow);
    for at in 0..flow.len() {
        for failure in FAILURES {
            if let Some(found) = fail(flow, at, failure) {
                assert_eq!(found, expected, "step {at} failed by {failure:?}");
            }
        }
    }
}

/// Carries the flow out; after each step sends all steps so far again. Nothing may change.
fn repeat(flow: &[Step]) -> Left {
    let mut teller = open_bank();
    let mut made = Made { ids: Vec::new(), positions: Vec::new() };
    let mut firsts = Vec::new();
    for step in flow {
        firsts.push(carry_out(&mut teller, step, &mut made));
        teller.now_ms += 1;
        teller.bank.begin(teller.now_ms);
        let (digest, length) = (teller.bank.digest(), teller.journal.next());
        for (sent, replies) in &firsts {
            let again: Vec<Reply> = replies.iter().map(|first| Reply { again: true, ..*first }).collect();
            // Whatever class it comes in the second time.
            for class in 0..5 {
                assert_eq!(teller.send_as(&Context { class, ..ONLINE }, sent, false), again);
            }
            let other: Vec<Sent> = sent.iter().map(|s| s.with(|c| c.reference[15] ^= 1)).collect();
            for (reply, first) in teller.send(&other).iter().zip(replies) {
                let conflict = Reply { position: first.position, ..Reply::refused(Code::IdConflict) };
                assert_eq!(*reply, conflict, "the same id with another body");
            }
        }
        assert_eq!((teller.bank.digest(), teller.journal.next()), (digest, length), "nothing changes");
    }
    for how in [Replay::Decide, Replay::Fold] {
        teller.check_replay(how);
    }
    left(&teller)
}

/// Carries the flow out with one step failing at first. None when it cannot be made to fail so.
fn fail(flow: &[Step], at: usize, failure: Failure) -> Option<Left> {
    let mut teller = open_bank();
    let mut made = Made { ids: Vec::new(), positions: Vec::new() };
    for step in &flow[..at] {
        carry_out(&mut teller, step, &mut made);
    }
    let before = left(&teller);
    let mut sent = next(&mut teller, &flow[at], &mut made);
    let mut mended = Vec::new();
    match failure {
        Failure::Quarantine => {}
        Failure::BlockFirst | Failure::BlockLast => {
            let part = if failure == Failure::BlockFirst { &sent[0] } else { &sent[sent.len() - 1] };
            for number in accounts_of(&teller, &part.command()) {
                let block = Status(Status::DEBIT_BLOCKED.0 | Status::CREDIT_BLOCKED.0);
                let was = teller.bank.ledger().account(number)?.status;
                set_status(&mut teller, number, block);
                mended.push((number, was));
            }
            if mended.is_empty() {
                return None;
            }
        }
        Failure::WrongTarget => {
            let last = sent.pop().expect("a step has a part");
            let op = last.command().header.op;
            if ![Op::PostHold as u16, Op::VoidHold as u16, Op::Reverse as u16].contains(&op) {
                return None;
            }
            let nowhere = teller.id();
            sent.push(last.with(|c| c.target = nowhere));
        }
    }
    let first = teller.send_as(&ONLINE, &sent, failure == Failure::Quarantine);
    assert!(first.iter().all(|r| r.code != Code::Done && r.code.uses_id()), "{failure:?} {first:?}");
    for (number, status) in mended {
        set_status(&mut teller, number, status);
    }
    assert_eq!(left(&teller), before, "a step that failed by {failure:?} left something behind");
    // Final for its id, mended or not.
    let again: Vec<Reply> = first.iter().map(|first| Reply { again: true, ..*first }).collect();
    assert_eq!(teller.send(&sent), again);
    // Under fresh ids it goes on.
    made.ids.pop();
    for step in &flow[at..] {
        carry_out(&mut teller, step, &mut made);
    }
    for how in [Replay::Decide, Replay::Fold] {
        teller.check_replay(how);
    }
    Some(left(&teller))
}

/// The accounts that a block would make this command fail by; none where no block does.
fn accounts_of(teller: &Teller, c: &Command) -> Vec<u64> {
    let op = Op::from_u16(c.header.op).expect("a known op");
    match op {
        Op::Post | Op::Hold => vec![c.debit, c.credit],
        // What was reserved is paid even from a blocked account; the receiver must still take it.
        Op::PostHold => teller.bank.ledger().holds().get(c.target).map(|h| h.credit).into_iter().collect(),
        Op::Reverse => {
            let posting = teller.journal.posting(c.target.low).expect("it names a posting");
            vec![posting.outcome.credit.account]
        }
        _ => Vec::new(),
    }
}

fn set_status(teller: &mut Teller, number: u64, status: Status) {
    let id = teller.id();
    assert_eq!(teller.ask(command::change(id, number, None, None, Some(status))).code, Code::Done);
}

#[test]
fn a_transfer_with_its_fee() {
    repeat_every_step(&[
        step(2, |made| {
            vec![
                command::post(made.id(0, 0), Kind::Transfer, 1, 2, 5000, KRW),
                command::post(made.id(0, 1), Kind::Fee, 1, FEES, 500, KRW),
            ]
        }),
        step(1, |made| vec![command::post(made.id(1, 0), Kind::Transfer, 2, 3, 5000, KRW)]),
    ]);
}

#[test]
fn a_hold_posted_in_parts_and_released() {
    repeat_every_step(&[
        step(1, |made| {
            vec![command::hold(command::post(made.id(0, 0), Kind::Transfer, 1, 2, 900, KRW), None)]
        }),
        step(1, |made| vec![command::post_hold(made.id(1, 0), made.id(0, 0), 300, false)]),
        step(1, |made| vec![command::post_hold(made.id(2, 0), made.id(0, 0), 200, true)]),
        step(1, |made| vec![command::post(made.id(3, 0), Kind::CashWithdrawal, 1, CASH, 99_500, KRW)]),
    ]);
}

#[test]
fn a_hold_that_is_voided_and_its_money_spent() {
    repeat_every_step(&[
        step(1, |made| {
            let post = command::post(made.id(0, 0), Kind::Transfer, 1, 2, 100_000, KRW);
            vec![command::hold(post, Some(crate::sink::START_MS + 60_000))]
        }),
        step(1, |made| vec![command::void_hold(made.id(1, 0), made.id(0, 0))]),
        step(1, |made| vec![command::post(made.id(2, 0), Kind::Transfer, 1, 3, 100_000, KRW)]),
    ]);
}

#[test]
fn a_hold_made_and_posted_in_one_bundle() {
    repeat_every_step(&[step(3, |made| {
        vec![
            command::hold(command::post(made.id(0, 0), Kind::Transfer, 1, 2, 100_000, KRW), None),
            command::post_hold(made.id(0, 1), made.id(0, 0), 60_000, true),
            command::post(made.id(0, 2), Kind::Transfer, 2, 3, 60_000, KRW),
        ]
    })]);
}

#[test]
fn a_posting_reversed_in_parts() {
    repeat_every_step(&[
        step(1, |made| vec![command::post(made.id(0, 0), Kind::Transfer, 1, 2, 1000, KRW)]),
        step(1, |made| vec![command::reverse(made.id(1, 0), made.position(0, 0), 300)]),
        step(2, |made| {
            vec![
                command::reverse(made.id(2, 0), made.position(0, 0), 100),
                command::reverse(made.id(2, 1), made.position(0, 0), 0),
            ]
        }),
    ]);
}

#[test]
fn a_transfer_over_the_end_of_a_day() {
    repeat_every_step(&[
        step(1, |made| vec![command::post(made.id(0, 0), Kind::Transfer, 1, 2, 1, KRW)]),
        step(1, |made| vec![command::advance_date(made.id(1, 0), Date(crate::sink::START_DATE.0 + 1))]),
        step(1, |made| vec![command::reverse(made.id(2, 0), made.position(0, 0), 0)]),
        step(1, |made| vec![command::expire_holds(made.id(3, 0), 10)]),
        step(1, |made| vec![command::close(made.id(4, 0), 2)]),
    ]);
}
