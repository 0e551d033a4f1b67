//! Requests: commands with all that an admission, an audit and a retry need to know of their sender.

use pabal_fault::{Point, reached};
/// Less where a segment is shorter. A request that may take more is refused, requests that together may take more get
/// records of their own.
pub use pabal_journal::RECORD_BLOCKS_MAX;
use pabal_journal::sync::mpsc;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Commands in one online request at most.
pub const COMMANDS_MAX: usize = 8190;
/// Bytes of commands in one request at most.
pub const BYTES_MAX: usize = 1 << 20;
/// Commands in one bulk request at most: the one small batch that bulk may add to an online request's wait.
pub const BULK_COMMANDS_MAX: usize = 512;
/// Blocks of the record of one bulk request at most, 512 KiB.
pub const BULK_BLOCKS_MAX: u32 = 128;
/// Marks the header of a request among the entries of a record.
pub const REQUEST_OP: u16 = 0x7fff;

/// The lane in which a request waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Lane {
    /// Someone waits for the answer.
    Online = 1,
    /// A numbered piece of a long job.
    Bulk = 2,
}

/// The header of a request: 64 bytes, journaled before the entries of its commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RequestHeader {
    /// [`REQUEST_OP`].
    pub op: u16,
    /// 1.
    pub version: u8,
    /// Zero.
    pub command_units: u8,
    /// Bit 0: its commands were set aside after stopping the core twice.
    pub flags: u8,
    /// 1.
    pub entry_units: u8,
    /// Zero.
    pub code: u16,
    /// Admission class, 0 (P0) to 4 (P4).
    pub class: u8,
    /// A [`Lane`].
    pub lane: u8,
    /// The channel that sent it.
    pub channel: u16,
    /// Number of its commands.
    pub count: u32,
    /// Milliseconds since 1970 after which it must not be begun; zero for none.
    pub deadline_ms: u64,
    /// The attempt's id; for bulk, the job's.
    pub attempt: [u64; 2],
    /// Who acts.
    pub principal: u64,
    /// For bulk: the number of its first command in the job.
    pub item: u64,
    /// The time that it carries, milliseconds since 1970, where the engine's time is carried.
    pub time_ms: u64,
}

const _: () = assert!(size_of::<RequestHeader>() == 64);

impl RequestHeader {
    /// Bit of `flags`: set aside.
    pub const QUARANTINED: u8 = 1;

    /// A header for this lane and class.
    pub fn new(lane: Lane, class: u8) -> RequestHeader {
        RequestHeader {
            op: REQUEST_OP,
            version: 1,
            entry_units: 1,
            class,
            lane: lane as u8,
            ..RequestHeader::default()
        }
    }

    /// The same in the form that the journal has: what only the engine may say does not come from a sender.
    pub(crate) fn in_form(self, count: u32) -> RequestHeader {
        let RequestHeader { op, version, entry_units, .. } = RequestHeader::new(Lane::Online, self.class);
        RequestHeader { op, version, command_units: 0, flags: 0, entry_units, code: 0, count, ..self }
    }

    /// Goes on to the command after these many: for bulk, the number of its item. What an online request says
    /// there means nothing, and may be any number.
    #[inline]
    pub(crate) fn advance(&mut self, commands: usize) {
        if self.is_bulk() {
            self.item = self.item.wrapping_add(commands as u64);
        }
    }

    /// Whether it is bulk work.
    pub fn is_bulk(&self) -> bool {
        self.lane == Lane::Bulk as u8
    }
}

/// Commands, one after the other, aligned to eight bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commands {
    words: Vec<u64>,
    count: usize,
}

impl Commands {
    /// None yet.
    pub fn new() -> Commands {
        Commands::default()
    }

    /// None yet, with room for this many bytes.
    pub fn with_capacity(bytes: usize) -> Commands {
        Commands { words: Vec::with_capacity(bytes / 8), count: 0 }
    }

    /// Adds a command. Its length must be a multiple of eight bytes.
    #[inline]
    pub fn push(&mut self, command: &[u8]) {
        assert!(command.len().is_multiple_of(8), "commands come in whole words");
        let at = self.words.len();
        self.words.resize(at + command.len() / 8, 0);
        self.words[at..].as_mut_bytes().copy_from_slice(command);
        self.count += 1;
    }

    /// Takes all out, keeping the memory.
    pub fn clear(&mut self) {
        self.words.clear();
        self.count = 0;
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Their bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.words.as_bytes()
    }

    /// What these words hold, said to be so many commands: whether they are is found out where they are let in. None
    /// when there are more than words.
    pub fn from_words(words: Vec<u64>, count: usize) -> Option<Commands> {
        (count <= words.len()).then_some(Commands { words, count })
    }
}

/// A request.
#[derive(Debug)]
pub struct Request {
    /// Who, how, until when.
    pub header: RequestHeader,
    /// What.
    pub commands: Commands,
}

/// The answer to a request.
#[derive(Debug)]
pub struct Response<R> {
    /// The record up to which the journal is durable now; what is answered is in it or before it.
    pub sequence: u64,
    /// An answer for each command, in their order.
    pub replies: Vec<R>,
}

/// The answer to a question.
#[derive(Clone, Copy, Debug)]
pub struct Seen<A> {
    /// A record that is durable now. The answer shows every record before it, and of this one what was decided before
    /// the question had its turn.
    pub sequence: u64,
    /// The answer.
    pub answer: A,
}

/// The engine ended before the answer was durable. What became of the commands is unknown: ask again,
/// under the same ids, when it is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the core stopped before it could say; the outcome is unknown, send the same ids again")]
pub struct Unknown;

/// Why the engine refused a command without executing it. None of these uses its id up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The lane is full.
    Overloaded,
    /// The deadline passed.
    DeadlinePassed,
    /// The disk has no room for another record.
    DiskFull,
    /// Not commands, too many, or more than a record takes.
    Malformed,
}

/// Hears an answer, on the writer's thread or the core's: it must not wait. Dropped unheard, the answer is [`Unknown`].
pub type Hear<T> = Box<dyn FnOnce(T) + Send>;

/// Hears the answer on this channel; nobody does when its ticket is gone.
pub(crate) fn hear<T: Send + 'static>(to: mpsc::SyncSender<T>) -> Hear<T> {
    Box::new(move |answer| {
        // Whoever asked may have gone away; that is its own affair.
        let _ = to.send(answer);
    })
}

/// The answer that is awaited.
pub struct Ticket<R>(pub(crate) mpsc::Receiver<R>);

impl<R> Ticket<R> {
    /// Waits for the answer.
    pub fn wait(self) -> Result<R, Unknown> {
        self.0.recv().map_err(|_| {
            reached(Point::WaitUnknown);
            Unknown
        })
    }

    /// The answer, if it has come.
    pub fn take(&self) -> Option<Result<R, Unknown>> {
        match self.0.try_recv() {
            Ok(answer) => Some(Ok(answer)),
            Err(mpsc::TryRecvError::Empty) => None,
            Err(mpsc::TryRecvError::Disconnected) => {
                reached(Point::TakeUnknown);
                Some(Err(Unknown))
            }
        }
    }
}
