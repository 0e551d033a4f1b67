//! What the engine asks of a state machine.

use crate::request::{Refusal, RequestHeader};
use pabal_fault::{Point, reached};
use pabal_journal::{Position, Reader, RecordBuffer};

/// How to treat a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is new: decide it.
    New,
    /// It stands in the journal under rules that this program decides again.
    Again,
    /// It stands in the journal under older rules, with this outcome code.
    Fold(u16),
    /// It stopped the core twice: record that it was set aside.
    Quarantine,
}

/// A deterministic state machine. No clock, no randomness, no I/O inside: time comes with
/// [`Machine::begin`], earlier entries through the [`Sink`].
pub trait Machine: Send + 'static {
    /// The answer to one command.
    type Reply: Copy + Send + std::fmt::Debug + 'static;
    /// A question about the state.
    type Query: Send + 'static;
    /// Its answer.
    type Answer: Send + 'static;

    /// Length in bytes of the command that begins here; None when there is none.
    fn length(bytes: &[u8]) -> Option<usize>;
    /// Whether this command happens together with the next one or not at all.
    fn linked(command: &[u8]) -> bool;
    /// Units of 64 bytes that the command's entries take at most.
    fn units_max(command: &[u8]) -> usize;

    /// Begins a batch at this time, milliseconds since 1970; never earlier than the one before.
    fn begin(&mut self, time_ms: u64);
    /// Whether the request may be executed now.
    fn admit(&self, request: &RequestHeader) -> Result<(), Self::Reply>;
    /// Asks for what says where the memory stands that this command will touch. Changes nothing.
    fn prefetch_index(&self, command: &[u8]) {
        let _ = command;
    }
    /// Asks for that memory, some commands after [`Machine::prefetch_index`]. Changes nothing.
    fn prefetch(&self, command: &[u8]) {
        let _ = command;
    }
    /// Executes one command, or several that happen together, and appends a reply for each. In bulk work
    /// `request.item` is the number of the first of these, not that of the request's first.
    fn apply(
        &mut self,
        request: &RequestHeader,
        commands: &[&[u8]],
        mode: Mode,
        sink: &mut Sink<'_>,
        replies: &mut Vec<Self::Reply>,
    );
    /// The position of the entry that this reply repeats, when it does.
    fn repeats(reply: &Self::Reply) -> Option<Position>;
    /// The answer to a command that was decided in this entry.
    fn again(command: &[u8], entry: &[u8], position: Position) -> Self::Reply;
    /// The answers to these commands, which happen together when they are several, where none of them is to be
    /// decided: for when nothing can be decided now. They were decided before, or it cannot be told whether they were,
    /// or they are refused whatever comes. None when they are new. Changes nothing.
    fn recall(&self, request: &RequestHeader, commands: &[&[u8]]) -> Option<Vec<Self::Reply>> {
        let _ = (request, commands);
        None
    }
    /// The engine's own refusals, in the machine's words.
    fn refused(refusal: Refusal) -> Self::Reply;
    /// Answers a question.
    fn query(&self, query: &Self::Query) -> Self::Answer;

    /// Whether an entry may have this outcome code. One that may not is told by its place, and never folded.
    fn is_outcome(code: u16) -> bool;

    /// Writes the whole state: what the digest is of, in bytes that depend on nothing else.
    fn save(&self, save: &mut dyn FnMut(&[u8]));
    /// A machine like this one that has the state that was saved; false of `load` says that there are no more bytes.
    /// None when they are no state. Its digest is worked out anew from what was read.
    fn load(&self, load: &mut dyn FnMut(&mut [u8]) -> bool) -> Option<Self>
    where
        Self: Sized;

    /// The digest of the state as it is now.
    fn digest(&mut self) -> [u8; 16];
    /// The rules in force.
    fn rules(&self) -> u32;
    /// The newest rules that this program knows. Records under them are decided again, older ones folded,
    /// newer ones refused.
    fn rules_known(&self) -> u32;
    /// The business date: days since 1970-01-01.
    fn business_date(&self) -> i32;
}

/// Where entries are written, and earlier ones found.
pub struct Sink<'a> {
    pub(crate) buffer: &'a mut RecordBuffer,
    pub(crate) earlier: &'a mut dyn FnMut(Position) -> Option<Vec<u8>>,
}

impl Sink<'_> {
    /// A place for an entry of this many units: its position and its bytes, all zero.
    #[inline]
    pub fn entry(&mut self, units: usize) -> (Position, &mut [u8]) {
        self.buffer.entry(units)
    }

    /// The entry that begins at this position, in this record or an earlier one. None when none does.
    pub fn find(&mut self, position: Position) -> Option<Vec<u8>> {
        if position.block() >= self.buffer.start_block() {
            return self.buffer.get(position).map(<[u8]>::to_vec);
        }
        (self.earlier)(position)
    }

    /// How far has been written.
    #[inline]
    pub fn mark(&self) -> pabal_journal::Mark {
        self.buffer.mark()
    }

    /// Takes back what was written since the mark.
    pub fn rewind(&mut self, mark: pabal_journal::Mark) {
        self.buffer.rewind(mark);
    }
}

/// Reads an entry for a sink, of a journal whose records end before this block: None when there is none; an error that is not "no entry here" stops.
pub(crate) fn read_entry(reader: &Reader, position: Position, end: u64) -> Option<Vec<u8>> {
    match reader.entry_before(position, end) {
        Ok(entry) => Some(entry.to_vec()),
        Err(pabal_journal::Error::NoEntry(_)) => {
            reached(Point::FindNothing);
            None
        }
        // To decide as if it were not there would record a decision that no sound copy gives again.
        Err(error) => {
            reached(Point::FindRotten);
            panic!("{error}")
        }
    }
}
