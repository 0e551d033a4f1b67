//! Frames: their heads, byte for byte, and their bounds.
//!
//! A client says [`Asking::Hello`] first, with the oldest and the newest version that it speaks; the server answers
//! [`Kind::Welcome`] with the version that both speak from then on, or [`Kind::Refused`] and closes. Then, in any
//! order and number up to the bounds that the welcome names:
//!
//! | asked | body | answered |
//! |---|---|---|
//! | `Submit` | commands, one after the other | `Replies`: one of 32 bytes for each command, in their order |
//! | `Query` | one question | `Answer` |
//! | `Follow` | nothing; `item` is the sequence of the first record wanted | `Record`, one for each, without end |
//! | any | | `Refused` with a code: nothing was done by this try; `Unknown`: nobody can say |
//!
//! Every frame that is asked carries all that an admission, an audit and a retry need: class, lane, deadline,
//! credential of the channel, principal and attempt. A frame that breaks a rule of this page ends its connection, and
//! nothing else; it is refused first, under its own tag, and what else was on its way is not answered. Integrity is the transport's: a Unix socket loses and alters nothing, and TLS checks.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The oldest version of the protocol that this program speaks.
pub const VERSION_OLDEST: u16 = 1;
/// The newest.
pub const VERSION: u16 = 1;
/// Bytes of a body that is asked, at most: a request of commands.
pub const ASKED_BYTES_MAX: usize = 1 << 20;
/// Bytes of a body that is answered, at most: a record of the journal.
pub const ANSWERED_BYTES_MAX: usize = 4 << 20;
/// Bytes of the reply to one command.
pub const REPLY_BYTES: usize = 32;
/// The last of the admission classes (P4).
pub const CLASS_MAX: u8 = 4;
/// [`Head::lane`] of what somebody waits for.
pub const LANE_ONLINE: u8 = 1;
/// [`Head::lane`] of bulk.
pub const LANE_BULK: u8 = 2;

/// What a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Asking {
    /// The first frame: `count` is the oldest version, `item` the newest that it speaks. No body. Nothing else in it is
    /// looked at, so that every version understands every other's.
    Hello = 1,
    /// Commands to execute: `count` of them, at least one.
    Submit = 2,
    /// A question. `item`: the sequence of the record that the answer must have seen at least; zero for any.
    Query = 3,
    /// The journal from the record of sequence `item` on, without end; nothing else is asked on this connection any more.
    Follow = 4,
}

impl Asking {
    /// The one with this number.
    pub const fn from_u16(value: u16) -> Option<Asking> {
        match value {
            1 => Some(Asking::Hello),
            2 => Some(Asking::Submit),
            3 => Some(Asking::Query),
            4 => Some(Asking::Follow),
            _ => None,
        }
    }
}

/// The head of a frame that a client sends: 80 bytes, then `length` bytes of body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Head {
    /// Bytes of the body: a multiple of 8, at most [`ASKED_BYTES_MAX`].
    pub length: u32,
    /// An [`Asking`].
    pub kind: u16,
    /// The version that the welcome named.
    pub version: u16,
    /// Chosen by the client; the answer has the same.
    pub tag: u64,
    /// Credential of the channel that sends it.
    pub credential: [u8; 16],
    /// Admission class, 0 (P0) to 4 (P4): [`CLASS_MAX`].
    pub class: u8,
    /// Lane: [`LANE_ONLINE`] or [`LANE_BULK`], in every frame but a hello.
    pub lane: u8,
    /// Zero.
    pub reserved: u16,
    /// Number of commands.
    pub count: u32,
    /// Milliseconds since 1970, by the bank's clock, after which it must not be begun; zero for none.
    pub deadline_ms: u64,
    /// The attempt's id; for bulk, the job's.
    pub attempt: [u64; 2],
    /// Who acts.
    pub principal: u64,
    /// For bulk, the number of its first command in the job; see [`Asking`] for the others.
    pub item: u64,
}

const _: () = assert!(size_of::<Head>() == 80);

/// What a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// To a hello: a [`Welcome`]. `sequence` is the last durable record.
    Welcome = 1,
    /// To a request: `count` replies of [`REPLY_BYTES`] each; they are durable at `sequence`.
    Replies = 2,
    /// To a question; it shows the bank as of `sequence`.
    Answer = 3,
    /// A record of the journal, all its blocks; `sequence` is its own.
    Record = 4,
    /// Not done by this try, and why: `code`. The same ids are safe to send again.
    Refused = 5,
    /// Whoever executed it ended before it could say. The same ids are to be sent again.
    Unknown = 6,
}

impl Kind {
    /// The one with this number.
    pub const fn from_u16(value: u16) -> Option<Kind> {
        match value {
            1 => Some(Kind::Welcome),
            2 => Some(Kind::Replies),
            3 => Some(Kind::Answer),
            4 => Some(Kind::Record),
            5 => Some(Kind::Refused),
            6 => Some(Kind::Unknown),
            _ => None,
        }
    }
}

/// The head of a frame that a server sends: 32 bytes, then `length` bytes of body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Reply {
    /// Bytes of the body, at most [`ANSWERED_BYTES_MAX`].
    pub length: u32,
    /// A [`Kind`].
    pub kind: u16,
    /// Outcome code of the bank's vocabulary; zero where the body says it.
    pub code: u16,
    /// The tag of what is answered.
    pub tag: u64,
    /// A record's sequence; see [`Kind`].
    pub sequence: u64,
    /// How many replies.
    pub count: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Reply>() == 32);

/// The body of a welcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Welcome {
    /// The version that both speak from now on.
    pub version: u16,
    /// 1: a core, which executes; 2: a reader, which answers questions only.
    pub role: u16,
    /// Requests and questions on their way on one connection at most; what is beyond is not read until some are answered.
    pub in_flight_max: u32,
    /// Bytes of their bodies at most.
    pub in_flight_bytes_max: u64,
    /// The journal's id: a client that knew another one speaks to another bank.
    pub journal_id: u64,
    /// Zero.
    pub reserved: u64,
}

const _: () = assert!(size_of::<Welcome>() == 32);

/// [`Welcome::role`] of a core.
pub const ROLE_CORE: u16 = 1;
/// [`Welcome::role`] of a reader.
pub const ROLE_READER: u16 = 2;
