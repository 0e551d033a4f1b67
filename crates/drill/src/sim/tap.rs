//! The bank with the judge beside it: every call of the engine goes to both.

use super::judge::Judge;
use pabal_bank::ledger::saved::{load_words, save_words};
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

/// Where a bank begins, of which the judge does not know yet: many may be read before one of them lives.
#[derive(Clone, Copy)]
enum From {
    /// With nothing.
    Nothing,
    /// With what stands under this number on the judge's shelf.
    Kept(u64),
}

/// The bank, judged.
pub struct Judged {
    /// The bank.
    pub bank: BankMachine,
    bench: Bench,
    /// None once the judge knows.
    from: Mutex<Option<From>>,
}

impl Judged {
    /// A bank that knows rules up to this version.
    pub fn new(rules_known: u32, bench: Bench) -> Judged {
        let from = Mutex::new(Some(From::Nothing));
        Judged { bank: BankMachine(Bank::knowing(rules_known)), bench, from }
    }

    fn from(&self) -> MutexGuard<'_, Option<From>> {
        self.from.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The judge, who knows from now on where this bank began.
    fn judge(&self) -> MutexGuard<'_, Judge> {
        let mut judge = self.bench.judge();
        match self.from().take() {
            Some(From::Nothing) => judge.begins_with_nothing(),
            Some(From::Kept(number)) => judge.begins_with(number),
            None => {}
        }
        judge
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
        self.judge().begins(time_ms);
        self.bank.begin(time_ms);
    }

    fn admit(&self, request: &RequestHeader) -> Result<(), Reply> {
        let said = self.bank.admit(request);
        self.judge().admits(request, &said);
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

    fn save(&self, save: &mut dyn FnMut(&[u8])) {
        // The judge keeps what it knows of this state, and finds it again by this number.
        save_words(save, &[self.judge().keeps()]);
        self.bank.save(save);
    }

    fn load(&self, load: &mut dyn FnMut(&mut [u8]) -> bool) -> Option<Judged> {
        let [number] = load_words(load)?;
        let bank = self.bank.load(load)?;
        let from = Mutex::new(Some(From::Kept(number)));
        self.bench.judge().has_kept(number).then(|| Judged { bank, bench: self.bench.clone(), from })
    }

    fn digest(&mut self) -> [u8; 16] {
        let kept = self.bank.digest();
        let is_kept = matches!(*self.from(), Some(From::Kept(_)));
        if is_kept {
            // Of what was just read, which may be anything still.
            drop(self.judge());
            return kept;
        }
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
