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
