//! Replay: the journal's records executed again, every byte and every digest compared.
//!
//! Records under the newest rules that the program knows are decided again; older ones are folded. Both
//! ways the entries made must equal the recorded ones to the byte, and the digest after each record must
//! equal the recorded one. Recovery and `verify` are this same code.

use crate::machine::{Machine, Mode, Sink, read_entry};
use crate::request::{REQUEST_OP, RequestHeader};
use crate::time::CARRIED_MS_MAX;
use crate::walk::Ahead;
use pabal_fault::{Point, reached};
use pabal_journal::{Position, Reader, Record, RecordBuffer};
use zerocopy::{FromBytes, IntoBytes};

/// What is wrong with a record.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The record was decided under rules that this program does not know.
    #[error(
        "record {sequence} was decided under rules {found}; this program knows up to {known}: use a newer one"
    )]
    RulesUnknown {
        /// The record.
        sequence: u64,
        /// Its rules.
        found: u32,
        /// The newest known.
        known: u32,
    },
    /// The record does not say what replaying it gives.
    #[error("record {sequence}, entry at position {position}: {what}")]
    Differs {
        /// The record.
        sequence: u64,
        /// Where in it.
        position: Position,
        /// What differs.
        what: &'static str,
    },
    /// The record's time is before that of the one before it, or beyond what times are.
    #[error(
        "record {sequence}: time {time_ms} ms since 1970 cannot follow that of the record before it, {last_ms}"
    )]
    Time {
        /// The record.
        sequence: u64,
        /// Its time.
        time_ms: u64,
        /// The time of the record before.
        last_ms: u64,
    },
    /// The digest of the state after the record is not the recorded one.
    #[error("record {sequence}: the digest of the state is not the recorded one")]
    Digest {
        /// The record.
        sequence: u64,
    },
}

/// Replays records into a machine.
pub struct Replay<M: Machine> {
    machine: M,
    reader: Reader,
    buffer: RecordBuffer,
    replies: Vec<M::Reply>,
    sent: Sent,
    /// The time of the last record.
    last_ms: u64,
    /// Commands executed.
    pub commands: u64,
}

impl<M: Machine> Replay<M> {
    /// Into this machine; earlier entries that commands name are read with `reader`.
    pub fn new(machine: M, reader: Reader) -> Replay<M> {
        Replay {
            machine,
            reader,
            buffer: RecordBuffer::new(),
            replies: Vec::new(),
            sent: Sent::default(),
            last_ms: 0,
            commands: 0,
        }
    }

    /// The same, into a machine as it was after a record of this time.
    pub fn after(machine: M, reader: Reader, last_ms: u64) -> Replay<M> {
        Replay { last_ms, ..Replay::new(machine, reader) }
    }

    /// The machine, when nothing more is to be replayed.
    pub fn into_machine(self) -> M {
        self.machine
    }

    /// The machine as it is now.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// Where earlier entries are read.
    pub(crate) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Executes one record again.
    pub fn record(&mut self, record: &Record<'_>) -> Result<(), ReplayError> {
        let h = record.header;
        let known = self.machine.rules_known();
        if h.rules > known {
            reached(Point::RulesUnknown);
            return Err(ReplayError::RulesUnknown { sequence: h.sequence, found: h.rules, known });
        }
        let fold = h.rules != known;
        if !(self.last_ms..=CARRIED_MS_MAX).contains(&h.time_ms) {
            let last_ms = self.last_ms;
            reached(Point::ReplayTime);
            return Err(ReplayError::Time { sequence: h.sequence, time_ms: h.time_ms, last_ms });
        }
        self.last_ms = h.time_ms;
        // Closing records too: a batch of questions before them moved the time and left no record.
        self.machine.begin(h.time_ms);
        self.buffer.begin(record.start_block);
        let mut entries = record.entries().peekable();
        while let Some((position, bytes)) = entries.next() {
            let wrong = |(point, what)| {
                reached(point);
                ReplayError::Differs { sequence: h.sequence, position, what }
            };
            let (request, _) = RequestHeader::read_from_prefix(bytes).expect("an entry has a unit at least");
            if request.op != REQUEST_OP {
                return Err(wrong((Point::ReplayHeader, "entries before any request's header")));
            }
            self.sent.clear();
            while let Some((position, entry)) = entries.peek()
                && entry[..2] != REQUEST_OP.to_le_bytes()
            {
                if fold && !M::is_outcome(code_of(entry)) {
                    reached(Point::ReplayOutcome);
                    let what = "an outcome that this program does not know";
                    return Err(ReplayError::Differs { sequence: h.sequence, position: *position, what });
                }
                self.sent.take::<M>(entry);
                entries.next();
            }
            self.request(&request, bytes, fold).map_err(wrong)?;
        }
        self.compare(record)?;
        if self.machine.digest() != h.digest {
            reached(Point::ReplayDigest);
            return Err(ReplayError::Digest { sequence: h.sequence });
        }
        Ok(())
    }

    fn request(
        &mut self,
        request: &RequestHeader,
        header: &[u8],
        fold: bool,
    ) -> Result<(), (Point, &'static str)> {
        let (_, place) = self.buffer.entry(1);
        place.copy_from_slice(&header[..64]);
        if !fold && self.machine.admit(request).is_err() {
            return Err((Point::ReplayNotAdmitted, "the request would not have been let in"));
        }
        if self.sent.strange {
            return Err((Point::ReplayCommand, "not a command"));
        }
        let commands = self.sent.commands();
        self.commands += commands.len() as u64;
        let mut ahead = Ahead::of(commands.iter().copied(), &self.machine);
        let quarantined = request.flags & RequestHeader::QUARANTINED != 0;
        let (mut at, mut piece) = (0, *request);
        while at < commands.len() {
            let mut end = at + 1;
            let mode = if quarantined {
                Mode::Quarantine
            } else if fold {
                Mode::Fold(self.sent.code(at))
            } else {
                while end < commands.len() && M::linked(commands[end - 1]) {
                    end += 1;
                }
                Mode::Again
            };
            ahead.advance(end - at, &self.machine);
            self.replies.clear();
            let reader = &self.reader;
            let before = self.buffer.start_block();
            let mut earlier = |position| read_entry(reader, position, before);
            let mut sink = Sink { buffer: &mut self.buffer, earlier: &mut earlier };
            self.machine.apply(&piece, &commands[at..end], mode, &mut sink, &mut self.replies);
            piece.advance(end - at);
            at = end;
        }
        Ok(())
    }

    /// Compares the record made with the recorded one, entry by entry.
    fn compare(&self, record: &Record<'_>) -> Result<(), ReplayError> {
        if self.buffer.has_entries_of(record) {
            return Ok(());
        }
        // Which one differs.
        let sequence = record.header.sequence;
        let mut made = self.buffer.entries();
        for (position, entry) in record.entries() {
            match made.next() {
                Some((at, bytes)) if at == position && bytes == entry => {}
                _ => {
                    reached(Point::ReplayDiffers);
                    let what = "what was recorded is not what deciding it again gives";
                    return Err(ReplayError::Differs { sequence, position, what });
                }
            }
        }
        if let Some((position, _)) = made.next() {
            reached(Point::ReplayMore);
            let what = "deciding it again gives an entry that was not recorded";
            return Err(ReplayError::Differs { sequence, position, what });
        }
        Ok(())
    }
}

/// The commands of a request as they were sent: without what their entries filled in.
#[derive(Default)]
struct Sent {
    words: Vec<u64>,
    /// Of each, where it begins in these words and its length in bytes.
    places: Vec<(usize, usize)>,
    /// Of each, the outcome that was recorded.
    codes: Vec<u16>,
    /// Whether there was an entry of none.
    strange: bool,
}

impl Sent {
    fn clear(&mut self) {
        self.words.clear();
        self.places.clear();
        self.codes.clear();
        self.strange = false;
    }

    /// Takes the command of this entry, unless it goes on with the one before.
    #[inline]
    fn take<M: Machine>(&mut self, entry: &[u8]) {
        const CONTINUATION: u8 = 128;
        if entry[4] & CONTINUATION != 0 {
            return;
        }
        let Some(length) = M::length(entry) else {
            self.strange = true;
            return;
        };
        let at = self.words.len();
        self.words.resize(at + length.div_ceil(8), 0);
        let bytes = self.words[at..].as_mut_bytes();
        bytes[..length].copy_from_slice(&entry[..length]);
        bytes[5..8].fill(0);
        self.places.push((at, length));
        self.codes.push(code_of(entry));
    }

    fn commands(&self) -> Vec<&[u8]> {
        let command = |&(at, length): &(usize, usize)| &self.words[at..].as_bytes()[..length];
        self.places.iter().map(command).collect()
    }

    /// The outcome that was recorded of this one.
    fn code(&self, at: usize) -> u16 {
        self.codes[at]
    }
}

/// The outcome code in an entry's first eight bytes.
fn code_of(entry: &[u8]) -> u16 {
    u16::from_le_bytes([entry[6], entry[7]])
}
