//! The bank on the engine: the one place where the two meet.

use pabal_bank::ledger::{Code, Command, Id, Posting};
use pabal_bank::{Bank, Context, Reply, command};
use pabal_engine::machine::{Machine, Mode, Sink};
use pabal_engine::request::{Refusal, RequestHeader};
use pabal_journal::Position;
use zerocopy::FromBytes;

/// The bank as a state machine of the engine.
#[derive(Default)]
pub struct BankMachine(pub Bank);

/// What can be asked of a running bank.
pub enum Query {
    /// How far a job has come.
    Job(Id),
}

/// The answers.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// The next item and whether the job ended, if it was begun.
    Job(Option<(u64, bool)>),
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

fn context(request: &RequestHeader) -> Context {
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
    fn prefetch<'a>(&self, commands: impl Iterator<Item = &'a [u8]> + Clone) {
        self.0.prefetch(commands);
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

    fn refused(refusal: Refusal) -> Reply {
        Reply::refused(match refusal {
            Refusal::Overloaded => Code::Overloaded,
            Refusal::DeadlinePassed => Code::DeadlinePassed,
            Refusal::Malformed => Code::Malformed,
        })
    }

    fn query(&self, query: &Query) -> Answer {
        match query {
            Query::Job(id) => Answer::Job(self.0.job(*id)),
        }
    }

    fn is_outcome(code: u16) -> bool {
        Code::from_u16(code).is_some_and(Code::uses_id)
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
        let journal = JournalConfig { segment_blocks: 64, ..JournalConfig::default() };
        let config = EngineConfig { journal, journal_id: 7, time: TimeSource::Carried };
        Engine::start(data, BankMachine::default(), config, &mut |_| {}).expect("started").0
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
}
