//! The bank with the judge beside it: every call of the engine goes to both.

use super::judge::Judge;
use pabal_bank::{Bank, Reply};
use pabal_core::machine::{Answer, BankMachine, Query};
use pabal_engine::machine::{Machine, Mode, Sink};
use pabal_engine::request::{Refusal, RequestHeader};
use pabal_journal::Position;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// With this a poisoned command stops the bank: it is thrown.
pub struct Poisoned;

/// The judge, shared.
#[derive(Clone)]
pub struct Bench(Arc<Mutex<Judge>>);

impl Bench {
    /// A bench for this judge.
    pub fn new(judge: Judge) -> Bench {
        Bench(Arc::new(Mutex::new(judge)))
    }

    /// The judge, who throws while it is held: that is no reason not to hear it again.
    pub fn judge(&self) -> MutexGuard<'_, Judge> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bank, judged.
pub struct Judged {
    /// The bank.
    pub bank: BankMachine,
    bench: Bench,
}

impl Judged {
    /// A bank that knows rules up to this version.
    pub fn new(rules_known: u32, bench: Bench) -> Judged {
        Judged { bank: BankMachine(Bank::knowing(rules_known)), bench }
    }
}

impl Machine for Judged {
    type Reply = Reply;
    type Query = Query;
    type Answer = Answer;

    fn length(bytes: &[u8]) -> Option<usize> {
        BankMachine::length(bytes)
    }

    fn linked(command: &[u8]) -> bool {
        BankMachine::linked(command)
    }

    fn is_outcome(code: u16) -> bool {
        BankMachine::is_outcome(code)
    }

    fn units_max(command: &[u8]) -> usize {
        BankMachine::units_max(command)
    }

    fn begin(&mut self, time_ms: u64) {
        self.bench.judge().begins(time_ms);
        self.bank.begin(time_ms);
    }

    fn admit(&self, request: &RequestHeader) -> Result<(), Reply> {
        let said = self.bank.admit(request);
        self.bench.judge().admits(request, &said);
        said
    }

    fn prefetch_index(&self, command: &[u8]) {
        self.bank.prefetch_index(command);
    }

    fn prefetch(&self, command: &[u8]) {
        self.bank.prefetch(command);
    }

    fn apply(
        &mut self,
        request: &RequestHeader,
        commands: &[&[u8]],
        mode: Mode,
        sink: &mut Sink<'_>,
        replies: &mut Vec<Reply>,
    ) {
        if matches!(mode, Mode::New | Mode::Quarantine)
            && self.bench.judge().executes(request, commands, mode)
        {
            std::panic::panic_any(Poisoned);
        }
        let before = replies.len();
        self.bank.apply(request, commands, mode, sink, replies);
        self.bench.judge().applied(request, commands, mode, &replies[before..]);
    }

    fn repeats(reply: &Reply) -> Option<Position> {
        BankMachine::repeats(reply)
    }

    fn again(command: &[u8], entry: &[u8], position: Position) -> Reply {
        BankMachine::again(command, entry, position)
    }

    fn recall(&self, request: &RequestHeader, commands: &[&[u8]]) -> Option<Vec<Reply>> {
        let said = self.bank.recall(request, commands);
        self.bench.judge().recalled(request, commands, said.as_deref());
        said
    }

    fn refused(refusal: Refusal) -> Reply {
        BankMachine::refused(refusal)
    }

    fn query(&self, query: &Query) -> Answer {
        let answer = self.bank.query(query);
        self.bench.judge().queried(query, answer);
        answer
    }

    fn digest(&mut self) -> [u8; 16] {
        let kept = self.bank.digest();
        let anew = self.bench.judge().digests(&mut self.bank.0);
        assert_eq!(kept, anew);
        kept
    }

    fn rules(&self) -> u32 {
        self.bank.rules()
    }

    fn rules_known(&self) -> u32 {
        self.bank.rules_known()
    }

    fn business_date(&self) -> i32 {
        self.bank.business_date()
    }
}
