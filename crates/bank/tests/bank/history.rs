//! The histories of accounts: every booked posting is on the links of both its accounts, in order, and
//! any day is few steps away.

use crate::sink::{KRW, Teller};
use pabal_bank::command;
use pabal_bank::ledger::account::UNLIMITED;
use pabal_bank::ledger::{Class, Code, Date, Kind, Leg, Op};
use pabal_drill::sent::{Sent, linked};
use std::collections::BTreeMap;

const ACCOUNTS: u64 = 6;
const POSTINGS: u64 = 6000;

/// One booked posting as one of its accounts sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    position: u64,
    date: u16,
    balance: i64,
}

fn leg(teller: &Teller, position: u64, account: u64) -> (u16, Leg) {
    let posting = teller.journal.posting(position).expect("a link leads to an entry");
    assert!(posting.is_booked(), "a link leads to what was booked");
    let o = posting.outcome;
    let leg = [o.debit, o.credit].into_iter().find(|leg| leg.account == account);
    (o.booking_date.0, leg.expect("a link stays with its account"))
}

/// The history by its links, oldest first.
fn walked(teller: &Teller, account: u64) -> Vec<Line> {
    let mut at = teller.bank.ledger().account(account).expect("it was opened").head();
    let mut lines = Vec::new();
    while at != 0 {
        let (date, leg) = leg(teller, at, account);
        lines.push(Line { position: at, date, balance: leg.balance });
        assert!(leg.previous < at && leg.jump <= leg.previous, "links lead back");
        at = leg.previous;
    }
    lines.reverse();
    lines
}

/// The newest line at or before a date, found by jumps; and how many entries were read.
fn found(teller: &Teller, account: u64, date: u16) -> (u64, usize) {
    let mut at = teller.bank.ledger().account(account).expect("it was opened").head();
    let mut reads = 0;
    while at != 0 {
        reads += 1;
        let (booked, here) = leg(teller, at, account);
        if booked <= date {
            break;
        }
        reads += 1;
        let far = here.jump != 0 && leg(teller, here.jump, account).0 > date;
        at = if far { here.jump } else { here.previous };
    }
    (at, reads)
}

/// All histories by reading the whole journal, adding up balances anew.
fn scanned(teller: &Teller) -> BTreeMap<u64, Vec<Line>> {
    let mut histories: BTreeMap<u64, Vec<Line>> = BTreeMap::new();
    for (position, _) in teller.journal.entries(1) {
        let posting = teller.journal.posting(position).expect("it begins there");
        let h = posting.command.header;
        let moves = [Op::Post as u16, Op::PostHold as u16, Op::Reverse as u16];
        if h.code != Code::Done as u16 || !moves.contains(&h.op) {
            continue;
        }
        let o = posting.outcome;
        for (leg, change) in [(o.debit, -o.amount), (o.credit, o.amount)] {
            let lines = histories.entry(leg.account).or_default();
            let balance = lines.last().map_or(0, |line: &Line| line.balance) + change;
            lines.push(Line { position, date: o.booking_date.0, balance });
        }
    }
    histories
}

#[test]
fn links_lead_to_every_posting_and_jumps_to_any_day() {
    let mut teller = Teller::founded(100_000, 2);
    for number in 1..=ACCOUNTS {
        let id = teller.id();
        let overdraft = if number == 1 { UNLIMITED } else { 50_000 };
        teller.ask(command::open(id, number, Class::CustomerDeposit, KRW, 1, overdraft));
    }
    let mut taken_back = 0;
    // A small generator of its own; what it gives is the same every time.
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut draw = |n: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) % n
    };
    for _ in 0..POSTINGS {
        teller.now_ms += draw(100);
        let mut parts: Vec<Sent> = Vec::new();
        for _ in 0..1 + draw(5).saturating_sub(1) {
            let debit = 1 + draw(ACCOUNTS).min(draw(ACCOUNTS));
            let credit = 1 + draw(ACCOUNTS);
            let id = teller.id();
            let amount = draw(3000) as i64;
            let post = command::post(id, Kind::Transfer, debit, credit, amount, KRW);
            let (newest, back) = (teller.journal.next(), 3 * (1 + draw(40)));
            parts.push(match draw(12) {
                0 => command::reverse(id, newest.saturating_sub(back), 0).into(),
                1 => command::hold(post, None).into(),
                2 if !parts.is_empty() => {
                    command::post_hold(id, parts[parts.len() - 1].command().id, 0, true).into()
                }
                _ => post.into(),
            });
        }
        let replies = teller.send(&linked(parts));
        taken_back += replies.iter().any(|r| r.code == Code::BundleFailed) as u64;
        if draw(20) == 0 {
            let days = [1, 1, 1, 2, 3, 30][draw(6) as usize];
            let (id, date) = (teller.id(), Date(teller.bank.moment().date.0 + days));
            teller.ask(command::advance_date(id, date));
        }
        if draw(50) == 0 {
            teller.bank.digest();
        }
    }
    assert!(taken_back > 500, "only {taken_back} bundles were taken back");

    let scanned = scanned(&teller);
    for (account, lines) in &scanned {
        assert!(lines.len() > 300, "{account} has {} postings only", lines.len());
        assert_eq!(&walked(&teller, *account), lines, "history of {account}");
        let last = lines[lines.len() - 1];
        assert_eq!(teller.bank.ledger().account(*account).map(|a| a.balance), Some(last.balance));
        let reads_max = 2 * 3 * (lines.len().ilog2() as usize + 1);
        for date in lines[0].date - 2..=last.date + 2 {
            let naive = lines.iter().rev().find(|line| line.date <= date).map_or(0, |line| line.position);
            let (at, reads) = found(&teller, *account, date);
            assert_eq!(at, naive, "account {account}, date {date}");
            assert!(reads <= reads_max, "{reads} reads for {} postings", lines.len());
        }
    }
    let anew = teller.bank.ledger().digest_anew();
    let kept = teller.bank.digest();
    teller.check_replay(crate::sink::Replay::Decide);
    teller.check_replay(crate::sink::Replay::Fold);
    assert_eq!(teller.bank.digest(), kept);
    assert_eq!(teller.bank.ledger().digest_anew(), anew);
}
