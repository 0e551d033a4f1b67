//! What the model is told and what it remembers. Whether it judges as the bank does, the bank's own tests show.

use pabal_bank::ledger::{Class, Code, Command, Date, Id, Kind};
use pabal_bank::{Context, RULES_CURRENT, Reply, command};
use pabal_drill::model::Model;
use pabal_drill::sent::{Sent, linked};

const WON: u16 = 410;
const CASH: u64 = 1;
const CUSTOMER: u64 = 2;
const START_MS: u64 = 1_800_000_000_000;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const ONLINE: Context = Context { class: 1, job: None, item: 0 };

/// A model whose entries stand far apart and not evenly, as those of a journal on disk do.
struct Drilled {
    model: Model,
    next: u64,
    /// The parts that were asked for at the last sending.
    asked: Vec<usize>,
}

impl Drilled {
    fn new() -> Drilled {
        let mut model = Model::new();
        model.now_ms = START_MS;
        Drilled { model, next: 65, asked: Vec::new() }
    }

    fn founded(capacity: u32) -> Drilled {
        let mut drilled = Drilled::new();
        drilled.done(command::found(id(1), capacity, 7, RULES_CURRENT, Date(20_000)));
        drilled.done(command::open(id(2), CASH, Class::Cash, WON, 0, i64::MAX));
        drilled.done(command::open(id(3), CUSTOMER, Class::CustomerDeposit, WON, 9, 0));
        drilled
    }

    fn send(&mut self, sent: &[Sent], quarantined: bool) -> Vec<Reply> {
        self.asked.clear();
        self.model.send(&ONLINE, sent, quarantined, false, &mut |part| {
            self.asked.push(part);
            let position = self.next;
            self.next += 3 + 64 * (position % 4);
            position
        })
    }

    fn ask(&mut self, command: Command) -> Reply {
        self.send(&[command.into()], false)[0]
    }

    fn done(&mut self, command: Command) -> Reply {
        let reply = self.ask(command);
        assert_eq!(reply.code, Code::Done, "{command:?}");
        reply
    }
}

fn id_at(time_ms: u64, n: u64) -> Id {
    Id::new(time_ms, 0, n << 2)
}

fn id(n: u64) -> Id {
    id_at(START_MS, n)
}

fn pay_in(id: Id, amount: i64) -> Command {
    command::post(id, Kind::CashDeposit, CASH, CUSTOMER, amount, WON)
}

/// Everything the bank answers about places is where the caller said that the entries stand.
#[test]
fn entries_stand_where_the_caller_says() {
    let mut drilled = Drilled::founded(100);
    let from = drilled.next;
    let first = drilled.done(pay_in(id(4), 1000));
    assert_eq!(first.position, from);
    let parts = linked(vec![pay_in(id(5), 20).into(), pay_in(id(6), 3).into()]);
    let from = drilled.next;
    let replies = drilled.send(&parts, false);
    assert_eq!(drilled.asked, [0, 1]);
    assert_eq!((replies[0].position, drilled.model.head(CUSTOMER)), (from, replies[1].position));
    assert!(replies[1].position > from + 3, "the next entry does not stand right behind");
    assert_eq!(drilled.ask(command::reverse(id(7), first.position + 3, 0)).code, Code::NotReversible);
    let undone = drilled.done(command::reverse(id(8), first.position, 0));
    assert_eq!((undone.debit_balance, drilled.model.reversed(first.position)), (23, 1000));
}

/// A bundle's part that is refused takes the others back, and all of them have entries.
#[test]
fn a_bundle_that_fails_books_nothing_and_stands_in_the_journal() {
    let mut drilled = Drilled::founded(100);
    drilled.done(pay_in(id(4), 100));
    let hold = command::hold(command::post(id(5), Kind::CashWithdrawal, CUSTOMER, CASH, 10, WON), None);
    drilled.done(hold);
    let (decided, head) = (drilled.model.decided, drilled.model.head(CUSTOMER));
    let out = |n, amount| command::post(id(n), Kind::CashWithdrawal, CUSTOMER, CASH, amount, WON);
    let parts = [pay_in(id(6), 5), command::post_hold(id(7), hold.id, 0, false), out(8, 1000), out(9, 1)];
    let replies = drilled.send(&linked(parts.map(Sent::from).to_vec()), false);
    let codes: Vec<Code> = replies.iter().map(|reply| reply.code).collect();
    assert_eq!(codes, [Code::BundleFailed, Code::BundleFailed, Code::InsufficientFunds, Code::BundleFailed]);
    assert_eq!(drilled.asked, [0, 1, 2, 3]);
    let model = &drilled.model;
    assert_eq!((model.balance(CUSTOMER), model.held(CUSTOMER), model.head(CUSTOMER)), (100, 10, head));
    assert_eq!(model.decided, decided + 4);
    assert_eq!(model.first(replies[2].position).expect("it was decided").1, Code::InsufficientFunds);
}

/// No place is asked for, and nothing remembered, where nothing is decided.
#[test]
fn what_is_not_decided_has_no_place() {
    let mut drilled = Drilled::founded(100);
    let sent = pay_in(id(4), 1000);
    let first = drilled.done(sent);
    let decided = drilled.model.decided;
    let again = drilled.ask(sent);
    assert_eq!(again, Reply { again: true, ..first });
    let other = drilled.ask(pay_in(id(4), 1001));
    assert_eq!((other.code, other.position), (Code::IdConflict, first.position));
    assert_eq!(drilled.ask(pay_in(id_at(START_MS + DAY_MS, 5), 1)).code, Code::IdAhead);
    assert_eq!((drilled.asked.len(), drilled.model.decided), (0, decided));
    // Of what is set aside only what is new is asked for.
    let parts = [sent, pay_in(id(6), 1)].map(Sent::from);
    let replies = drilled.send(&parts, true);
    assert_eq!((replies[0].again, replies[1].code), (true, Code::Quarantined));
    assert_eq!((&drilled.asked[..], drilled.model.decided), (&[1][..], decided + 1));
    let (found, code, balances) = drilled.model.first(first.position).expect("it was decided");
    assert_eq!((found, code, balances), (&sent.into(), Code::Done, (-1000, 1000)));
    assert!(drilled.model.first(first.position + 1).is_none());
    assert_eq!(drilled.model.position_of(id_at(START_MS + DAY_MS, 5)), None);
}

/// Whatever makes an id leave the window, the clock or a flood, it is not decided again, and its place is known.
#[test]
fn an_id_that_left_the_window_keeps_its_place() {
    for (capacity, later_ms) in [(100, DAY_MS + 1024), (5, 1024)] {
        let mut drilled = Drilled::founded(capacity);
        let sent = pay_in(id(4), 1000);
        let first = drilled.done(sent);
        drilled.model.now_ms += later_ms;
        let now_ms = drilled.model.now_ms;
        drilled.done(pay_in(id_at(now_ms, 5), 1));
        drilled.done(pay_in(id_at(now_ms, 6), 1));
        assert!(drilled.model.window.iter().all(|(id, ..)| *id != sent.id), "capacity {capacity}");
        assert_eq!(drilled.ask(sent).code, Code::IdTooOld);
        assert_eq!(drilled.model.position_of(sent.id), Some(first.position));
        assert_eq!(drilled.model.first(first.position).expect("for ever").1, Code::Done);
    }
}

/// There is no window before the founding: an id that a refused one used may be decided again.
#[test]
fn the_latest_place_of_an_id_that_was_decided_before_the_founding_is_known() {
    let mut drilled = Drilled::new();
    let refused = drilled.ask(command::found(id(1), 100, 7, 9, Date(20_000)));
    assert_eq!(refused.code, Code::RulesUnknown);
    assert_eq!(drilled.model.position_of(id(1)), Some(refused.position));
    let founded = drilled.done(command::found(id(1), 100, 7, 2, Date(20_000)));
    assert!(founded.position > refused.position);
    assert_eq!(drilled.model.position_of(id(1)), Some(founded.position));
    assert_eq!((drilled.model.decided, drilled.model.window.len()), (2, 1));
    assert_eq!(drilled.model.first(refused.position).expect("for ever").1, Code::RulesUnknown);
}

/// What a job asks for uses no id up, so it has no place under its id.
#[test]
fn the_items_of_a_job_have_no_place_under_their_ids() {
    let mut drilled = Drilled::founded(100);
    let job = Context { class: 4, job: Some(id(90)), item: 0 };
    let before = drilled.model.decided;
    let item: Sent = pay_in(id(4), 5).into();
    let position = drilled.next;
    let replies = drilled.model.send(&job, std::slice::from_ref(&item), false, false, &mut |_| position);
    assert_eq!((replies[0].code, drilled.model.decided), (Code::Done, before + 1));
    assert_eq!(drilled.model.position_of(id(4)), None);
    assert_eq!(drilled.model.first(position).map(|first| first.0.clone()), Some(item));
}

#[test]
#[should_panic(expected = "an entry at 64 cannot come after the one at")]
fn an_entry_before_another_is_no_journal() {
    let mut drilled = Drilled::founded(100);
    drilled.next = 64;
    drilled.ask(pay_in(id(4), 1));
}
