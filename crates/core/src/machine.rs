//! The bank as a state machine of the engine, and what can be asked of it while it runs.

use pabal_bank::ledger::{Code, Command, Date, Id, Posting, Status};
use pabal_bank::{Bank, Context, Reply, command};
use pabal_engine::machine::{Machine, Mode, Sink};
use pabal_engine::request::{Refusal, RequestHeader};
use pabal_journal::Position;
use zerocopy::FromBytes;

/// The bank as a state machine of the engine. Made from a bank: [`Bank::knowing`] gives one that knows older rules
/// only.
#[derive(Default)]
pub struct BankMachine(pub Bank);

impl From<Bank> for BankMachine {
    fn from(bank: Bank) -> BankMachine {
        BankMachine(bank)
    }
}

/// What can be asked of a running bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// How far a job has come.
    Job(Id),
    /// How the account with this number stands.
    Account(u64),
    /// How the bank itself stands.
    Status,
}

/// The answers, each to the question of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The next item and whether the job ended, if it was begun.
    Job(Option<(u64, bool)>),
    /// The account, if it was opened.
    Account(Option<AccountView>),
    /// The bank.
    Status(BankView),
}

/// The bank as a probe sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BankView {
    /// Whether it was founded.
    pub founded: bool,
    /// Its business date.
    pub business_date: Date,
    /// The version of the rules that it decides by.
    pub rules: u32,
    /// Milliseconds since 1970, by its own clock.
    pub time_ms: u64,
    /// Accounts that were opened, closed ones included.
    pub accounts: u64,
}

impl BankView {
    fn of(bank: &Bank) -> BankView {
        let moment = bank.moment();
        BankView {
            founded: bank.is_founded(),
            business_date: moment.date,
            rules: moment.rules,
            time_ms: moment.time_ms,
            accounts: bank.ledger().accounts().len() as u64,
        }
    }
}

/// An account as a teller sees it. Amounts are in minor units of the account's currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountView {
    /// ISO 4217 numeric code.
    pub currency: u16,
    /// Blocks, or closed.
    pub status: Status,
    /// Credits less debits.
    pub balance: i64,
    /// What remains on its open holds, those whose time has passed and that were not released yet among them.
    pub held: i64,
    /// What may be paid out now, as the bank itself would judge it; the greatest number where there is no limit.
    pub available: i64,
    /// The newest entry that booked on it: where its statement begins to be read. Zero for none.
    pub head: Position,
}

impl AccountView {
    /// The account with this number, if it was opened.
    fn of(bank: &Bank, number: u64) -> Option<AccountView> {
        let ledger = bank.ledger();
        let account = ledger.account(number)?;
        Some(AccountView {
            currency: account.currency,
            status: account.status,
            balance: account.balance,
            held: account.held,
            available: ledger.available(account, &bank.moment()),
            head: Position(account.head()),
        })
    }
}

struct Entries<'a, 'b>(&'a mut Sink<'b>);

impl pabal_bank::Sink for Entries<'_, '_> {
    type Mark = pabal_journal::Mark;

    #[inline]
    fn entry(&mut self, units: usize) -> (u64, &mut [u8]) {
        let (position, bytes) = self.0.entry(units);
        (position.0, bytes)
    }

    fn find(&mut self, position: u64) -> Option<Posting> {
        let entry = self.0.find(Position(position))?;
        Posting::read_from_prefix(&entry).ok().map(|(posting, _)| posting)
    }

    fn mark(&self) -> Self::Mark {
        self.0.mark()
    }

    fn rewind(&mut self, mark: Self::Mark) {
        self.0.rewind(mark);
    }
}

/// What the bank needs to know of a request.
pub fn context(request: &RequestHeader) -> Context {
    let job = request.is_bulk().then_some(Id { high: request.attempt[0], low: request.attempt[1] });
    Context { class: request.class, job, item: request.item }
}

impl Machine for BankMachine {
    type Reply = Reply;
    type Query = Query;
    type Answer = Answer;

    #[inline]
    fn length(bytes: &[u8]) -> Option<usize> {
        command::length(bytes)
    }

    #[inline]
    fn linked(bytes: &[u8]) -> bool {
        bytes[4] & pabal_bank::ledger::entry::flags::LINKED != 0
    }

    #[inline]
    fn units_max(bytes: &[u8]) -> usize {
        Command::ref_from_prefix(bytes).map_or(0, |(c, _)| command::entry_units_max(c))
    }

    fn begin(&mut self, time_ms: u64) {
        self.0.begin(time_ms);
    }

    fn admit(&self, request: &RequestHeader) -> Result<(), Reply> {
        self.0.admit(&context(request))
    }

    #[inline]
    fn prefetch_index(&self, command: &[u8]) {
        self.0.prefetch_index(command);
    }

    #[inline]
    fn prefetch(&self, command: &[u8]) {
        self.0.prefetch(command);
    }

    #[inline]
    fn apply(
        &mut self,
        request: &RequestHeader,
        commands: &[&[u8]],
        mode: Mode,
        sink: &mut Sink<'_>,
        replies: &mut Vec<Reply>,
    ) {
        let mode = match mode {
            Mode::New => pabal_bank::Mode::New,
            Mode::Again => pabal_bank::Mode::Again,
            Mode::Fold(code) => pabal_bank::Mode::Fold(Code::from_u16(code).unwrap_or(Code::Malformed)),
            Mode::Quarantine => pabal_bank::Mode::Quarantine,
        };
        self.0.apply(&context(request), commands, mode, &mut Entries(sink), replies);
    }

    #[inline]
    fn repeats(reply: &Reply) -> Option<Position> {
        reply.again.then_some(Position(reply.position))
    }

    fn again(sent: &[u8], entry: &[u8], position: Position) -> Reply {
        // What was read from a file is not aligned; entries are read in place elsewhere.
        let (Ok((command, _)), Ok((posting, _))) =
            (Command::read_from_prefix(sent), Posting::read_from_prefix(entry))
        else {
            return Reply::refused(Code::Malformed);
        };
        Reply::again(&command, sent, &posting, entry, position.0)
    }

    fn recall(&self, request: &RequestHeader, commands: &[&[u8]]) -> Option<Vec<Reply>> {
        self.0.recall(&context(request), commands)
    }

    fn refused(refusal: Refusal) -> Reply {
        Reply::refused(match refusal {
            Refusal::Overloaded => Code::Overloaded,
            Refusal::DeadlinePassed => Code::DeadlinePassed,
            Refusal::DiskFull => Code::DiskFull,
            Refusal::Malformed => Code::Malformed,
        })
    }

    fn query(&self, query: &Query) -> Answer {
        match query {
            Query::Job(id) => Answer::Job(self.0.job(*id)),
            Query::Account(number) => Answer::Account(AccountView::of(&self.0, *number)),
            Query::Status => Answer::Status(BankView::of(&self.0)),
        }
    }

    fn is_outcome(code: u16) -> bool {
        Code::from_u16(code).is_some_and(Code::uses_id)
    }

    fn save(&self, save: &mut dyn FnMut(&[u8])) {
        self.0.save(save);
    }

    fn load(&self, load: &mut dyn FnMut(&mut [u8]) -> bool) -> Option<BankMachine> {
        Bank::load(self.0.rules_known(), load).map(BankMachine)
    }

    fn digest(&mut self) -> [u8; 16] {
        self.0.digest().0.to_le_bytes()
    }

    fn rules(&self) -> u32 {
        self.0.moment().rules
    }

    fn rules_known(&self) -> u32 {
        self.0.rules_known()
    }

    fn business_date(&self) -> i32 {
        self.0.moment().date.0 as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pabal_bank::ledger::{Class, Date, Kind};
    use pabal_engine::{Commands, Engine, EngineConfig, Lane, Request, TimeSource};
    use pabal_journal::JournalConfig;
    use std::path::Path;
    use zerocopy::IntoBytes;

    const WON: u16 = 410;

    fn start(data: &Path) -> Engine<BankMachine> {
        start_knowing(data, pabal_bank::RULES_CURRENT)
    }

    fn start_knowing(data: &Path, rules: u32) -> Engine<BankMachine> {
        let journal = JournalConfig { segment_blocks: 64, ..JournalConfig::default() };
        let config = EngineConfig { journal, journal_id: 7, time: TimeSource::Carried };
        Engine::start(data, Bank::knowing(rules).into(), config, &mut |_| {}).expect("started").0
    }

    fn send(engine: &Engine<BankMachine>, item: u64, commands: &[Command]) -> Vec<(Code, u64)> {
        let mut header = RequestHeader::new(Lane::Bulk, 4);
        (header.attempt, header.item) = ([1, 2], item);
        let mut sent = Commands::new();
        commands.iter().for_each(|command| sent.push(command.as_bytes()));
        let response = engine.submit(Request { header, commands: sent }).wait().expect("it runs");
        response.replies.iter().map(|reply| (reply.code, reply.position)).collect()
    }

    /// An item that leaves no entry ends its request: were those after it done under lower numbers, a sender that
    /// goes on with the item that is wanted next would do the last of them twice.
    #[test]
    fn what_follows_a_malformed_item_of_a_job_is_not_done() {
        let dir = tempfile::tempdir().expect("a folder");
        let engine = start(dir.path());
        let id = |n: u64| Id::new(0, 0, n << 2);
        let found = command::found(id(1), 100, 7, 2, Date(20_000));
        let mut sent = Commands::new();
        sent.push(found.as_bytes());
        let header = RequestHeader::new(Lane::Online, 1);
        engine.submit(Request { header, commands: sent }).wait().expect("founded");
        let open = |n, class, overdraft| command::open(id(n), n, class, WON, 0, overdraft);
        let pay = |n, amount| command::post(id(n), Kind::CashDeposit, 2, 3, amount, WON);
        let broken = Command { id: Id::default(), ..pay(5, 10) };
        let first = [
            open(2, Class::Cash, i64::MAX),
            open(3, Class::CustomerDeposit, 0),
            broken,
            pay(6, 100),
            pay(7, 1000),
        ];
        let heard = send(&engine, 0, &first);
        assert_eq!(
            heard.iter().map(|h| h.0).collect::<Vec<_>>()[..3],
            [Code::Done, Code::Done, Code::Malformed]
        );
        assert_eq!(heard[3..], [(Code::JobOutOfOrder, 2); 2], "not done; the item wanted next is named");
        // The sender mends the item and goes on from it.
        let heard = send(&engine, 2, &[pay(5, 10), pay(6, 100), pay(7, 1000)]);
        assert!(heard.iter().all(|h| h.0 == Code::Done), "{heard:?}");
        // What comes after the end of its job is not done either.
        let end = command::end_job(id(8), Id { high: 1, low: 2 });
        let heard = send(&engine, 5, &[end, pay(9, 10_000)]);
        assert_eq!(heard.iter().map(|h| h.0).collect::<Vec<_>>(), [Code::Done, Code::JobNotOpen]);
        let bank = engine.stop().expect("stopped").0;
        assert_eq!(bank.ledger().account(3).expect("opened").balance, 1110);
        start(dir.path()).stop().expect("replayed");
    }

    /// Folded, an outcome that is none stopped the bank.
    #[test]
    fn only_outcomes_that_leave_an_entry_are_let_in_from_a_journal() {
        let known: Vec<u16> = (0..=u16::MAX).filter(|code| BankMachine::is_outcome(*code)).collect();
        let left: Vec<u16> =
            Code::ALL.iter().filter(|code| code.uses_id()).map(|code| *code as u16).collect();
        assert_eq!(known, left);
    }

    /// Whatever time a request carries: added to, it overflowed and stopped the core, also when it was tried alone
    /// and when it was to be set aside.
    #[test]
    fn the_greatest_time_that_can_be_carried_stops_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        for time_ms in [u64::MAX, 5] {
            let engine = start(dir.path());
            for n in 1..4 {
                let found = command::found(Id::new((1 << 48) - 1, 0, n << 2), 100, 7, 2, Date(20_000));
                let mut sent = Commands::new();
                sent.push(found.as_bytes());
                let header = RequestHeader { time_ms, ..RequestHeader::new(Lane::Online, 1) };
                engine.submit(Request { header, commands: sent }).wait().expect("it runs");
            }
            engine.stop().expect("stopped");
        }
    }

    /// Sends one command online at this time.
    fn ask(engine: &Engine<BankMachine>, time_ms: u64, command: &Command) -> Reply {
        let mut sent = Commands::new();
        sent.push(command.as_bytes());
        let header = RequestHeader { time_ms, ..RequestHeader::new(Lane::Online, 1) };
        engine.submit(Request { header, commands: sent }).wait().expect("it runs").replies[0]
    }

    fn seen(engine: &Engine<BankMachine>, number: u64) -> Option<AccountView> {
        match engine.query(Query::Account(number)).wait().expect("it runs") {
            Answer::Account(view) => view,
            other => panic!("{other:?}"),
        }
    }

    /// What a teller sees of an account while money comes, is held, is paid out and stays held too long, and again
    /// after a restart.
    #[test]
    fn an_account_is_seen_as_the_bank_judges_it() {
        const CASH: u64 = 2;
        const CUSTOMER: u64 = 3;
        const BEGIN_MS: u64 = 1_000_000;
        let dir = tempfile::tempdir().expect("a folder");
        let engine = start(dir.path());
        let mut ids = 0;
        let mut id = |time_ms| {
            ids += 1;
            Id::new(time_ms, 0, ids << 2)
        };
        let mut done = |engine: &_, time_ms, make: &dyn Fn(Id) -> Command| {
            let reply = ask(engine, time_ms, &make(id(time_ms)));
            assert_eq!(reply.code, Code::Done);
            Position(reply.position)
        };
        done(&engine, BEGIN_MS, &|id| command::found(id, 100, 7, 2, Date(20_000)));
        assert_eq!(seen(&engine, CUSTOMER), None, "not opened yet");
        done(&engine, BEGIN_MS, &|id| command::open(id, CASH, Class::Cash, WON, 0, i64::MAX));
        done(&engine, BEGIN_MS, &|id| command::open(id, CUSTOMER, Class::CustomerDeposit, WON, 9, 50));
        let new = AccountView {
            currency: WON,
            status: Status::ACTIVE,
            balance: 0,
            held: 0,
            available: 50,
            head: Position(0),
        };
        assert_eq!(seen(&engine, CUSTOMER), Some(new), "nothing was booked; it may be overdrawn by 50");

        let pay_in = |id| command::post(id, Kind::CashDeposit, CASH, CUSTOMER, 1000, WON);
        let head = done(&engine, BEGIN_MS, &pay_in);
        let paid_in = AccountView { balance: 1000, available: 1050, head, ..new };
        assert_eq!(seen(&engine, CUSTOMER), Some(paid_in));
        let cash = seen(&engine, CASH).expect("opened");
        assert_eq!((cash.balance, cash.available, cash.head), (-1000, i64::MAX, head), "cash has no limit");

        let pay_out = |id, amount| command::post(id, Kind::CashWithdrawal, CUSTOMER, CASH, amount, WON);
        done(&engine, BEGIN_MS, &|id| command::hold(pay_out(id, 300), Some(BEGIN_MS + 500)));
        let held = AccountView { held: 300, available: 750, ..paid_in };
        assert_eq!(seen(&engine, CUSTOMER), Some(held), "a hold is no booking: the newest is still the same");

        let head = done(&engine, BEGIN_MS, &|id| pay_out(id, 200));
        let paid_out = AccountView { balance: 800, available: 550, head, ..held };
        assert_eq!(seen(&engine, CUSTOMER), Some(paid_out));

        // The hold's time passes; nothing released it, and it counts no longer.
        let block = |id| command::change(id, CUSTOMER, None, None, Some(Status::DEBIT_BLOCKED));
        done(&engine, BEGIN_MS + 500, &block);
        let blocked = AccountView { available: 850, status: Status::DEBIT_BLOCKED, ..paid_out };
        assert_eq!(seen(&engine, CUSTOMER), Some(blocked));

        engine.stop().expect("stopped");
        let engine = start(dir.path());
        assert_eq!(seen(&engine, CUSTOMER), Some(blocked), "after a restart");
        engine.stop().expect("stopped");
    }

    /// The bank that is handed over is the one that runs: one that knows older rules only refuses newer ones.
    #[test]
    fn a_bank_that_knows_older_rules_is_founded_under_those_only() {
        let dir = tempfile::tempdir().expect("a folder");
        let engine = start_knowing(dir.path(), 1);
        let found = |n: u64, rules| command::found(Id::new(5, 0, n << 2), 100, 7, rules, Date(20_000));
        assert_eq!(ask(&engine, 5, &found(1, 2)).code, Code::RulesUnknown);
        assert_eq!(ask(&engine, 5, &found(2, 1)).code, Code::Done);
        engine.stop().expect("stopped");
    }
}
