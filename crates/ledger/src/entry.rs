//! The bytes of money: commands as they are sent, and entries as they stand in the journal.
//!
//! A command is 96 bytes (one kind is longer); its entry is the same bytes with `entry_units` and `code`
//! filled in, followed by 96 bytes of outcome: 192 in all. So an entry holds what was asked *and* what
//! was decided, is read in place, and 21 of them fill a journal block exactly. Little-endian, aligned.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The version of the encodings below. A change of any layout takes the next number and keeps the old.
pub const ENCODING: u8 = 1;
/// Length of all commands but the keeping of a record, in bytes.
pub const COMMAND_BYTES: usize = 96;
/// Length of an entry with its outcome, in bytes.
pub const ENTRY_BYTES: usize = 192;
/// Length of an entry, in the journal's units of 64 bytes.
pub const ENTRY_UNITS: usize = ENTRY_BYTES / 64;

/// A day: days since 1970-01-01, at most 65,535 (in the year 2149).
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(transparent)]
pub struct Date(pub u16);

/// A command's id: a UUIDv7, made before the first try. High half first.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Id {
    /// 48 bits of milliseconds since 1970, the version, 12 free bits.
    pub high: u64,
    /// The variant and 62 free bits.
    pub low: u64,
}

impl Id {
    /// A UUIDv7 of this time (milliseconds since 1970, 48 bits) and these free bits.
    pub const fn new(time_ms: u64, a: u16, b: u64) -> Id {
        Id { high: (time_ms << 16) | 0x7000 | (a as u64 & 0x0fff), low: (b >> 2) | (0b10 << 62) }
    }

    /// Milliseconds since 1970 at which the id was made.
    #[inline]
    pub const fn time_ms(self) -> u64 {
        self.high >> 16
    }

    /// Whether version and variant are those of a UUIDv7.
    #[inline]
    pub const fn is_valid(self) -> bool {
        (self.high >> 12) & 0xf == 7 && self.low >> 62 == 0b10
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (h, l) = (self.high, self.low);
        let (a, b, c) = (h >> 32, (h >> 16) & 0xffff, h & 0xffff);
        write!(f, "{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}", l >> 48, l & 0xffff_ffff_ffff)
    }
}

impl std::fmt::Debug for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

macro_rules! ops {
    ($($(#[$d:meta])* $name:ident = $value:literal;)*) => {
        /// What a command asks for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Op { $($(#[$d])* $name = $value,)* }
        impl Op {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Op] = &[$(Op::$name,)*];
            /// The one with this number, if there is one.
            #[inline]
            pub const fn from_u16(value: u16) -> Option<Op> {
                match value { $($value => Some(Op::$name),)* _ => None }
            }
        }
    };
}

ops! {
    /// Found the bank: bounds and keys that its decisions depend on. The first command of a journal.
    Found = 1;
    /// Open an account.
    OpenAccount = 2;
    /// Change an account's limits or status.
    ChangeAccount = 3;
    /// Close an empty account.
    CloseAccount = 4;
    /// Move money.
    Post = 5;
    /// Reserve money for a later posting.
    Hold = 6;
    /// Post a hold, whole or in part.
    PostHold = 7;
    /// Release a hold.
    VoidHold = 8;
    /// Release holds whose time has passed, at most `amount` of them, oldest first.
    ExpireHolds = 9;
    /// Undo a posting, named by its position, whole or in part.
    Reverse = 10;
    /// Move the business date forward.
    AdvanceDate = 11;
    /// Switch to the next version of the rules.
    ActivateRules = 12;
    /// Keep a record for later use.
    KeepRecord = 13;
    /// End a job: all of its items have been sent.
    EndJob = 14;
    /// A hold released by `ExpireHolds`; follows it in the journal and is never sent.
    HoldReleased = 32;
}

/// Flags of a command.
pub mod flags {
    /// This command and the next one happen together or not at all.
    pub const LINKED: u8 = 1;
    /// The hold backs a leg elsewhere: it never ends by time.
    pub const BACKED: u8 = 2;
    /// Posting a part of a hold releases the rest.
    pub const RELEASE: u8 = 4;
    /// The entry belongs to the command before it.
    pub const CONTINUATION: u8 = 128;
    /// What a client may set.
    pub const ALLOWED: u8 = LINKED | BACKED | RELEASE;
}

/// The first eight bytes of every command and entry. The journal walks entries by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// An [`Op`]; zero is padding.
    pub op: u16,
    /// [`ENCODING`].
    pub version: u8,
    /// Length of the command in units of 32 bytes.
    pub command_units: u8,
    /// See [`flags`].
    pub flags: u8,
    /// Length of the entry in units of 64 bytes; zero in a command as sent.
    pub entry_units: u8,
    /// The outcome's code; zero in a command as sent.
    pub code: u16,
}

/// A command. Fields that an op does not use are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Command {
    /// Op, version, flags.
    pub header: Header,
    /// The command's id, and the hold's where it makes one.
    pub id: Id,
    /// Number of the account that pays; the account itself where there is one only.
    pub debit: u64,
    /// Number of the account that receives.
    pub credit: u64,
    /// Minor units. Zero means "all that is left" where a hold or a posting is named.
    pub amount: i64,
    /// The sender's own reference, opaque.
    pub reference: [u8; 16],
    /// The hold's id, or the position of what is reversed in the low half.
    pub target: Id,
    /// Milliseconds since 1970 at which a hold ends.
    pub expires_ms: u64,
    /// ISO 4217 numeric code.
    pub currency: u16,
    /// A [`crate::Kind`].
    pub kind: u16,
    /// The day on which it was due.
    pub nominal_date: Date,
    /// The day from which interest counts.
    pub value_date: Date,
}

impl Command {
    /// An empty command of this op, with its header right.
    pub fn of(op: Op, id: Id) -> Command {
        Command {
            header: Header {
                op: op as u16,
                version: ENCODING,
                command_units: (COMMAND_BYTES / 32) as u8,
                ..Header::default()
            },
            id,
            ..Command::default()
        }
    }
}

/// What one side of a posting became: the balance after it and where its history goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Leg {
    /// Account number; zero where nothing was posted.
    pub account: u64,
    /// Balance after the posting: credits less debits, minor units.
    pub balance: i64,
    /// Position of the account's entry before this one; zero for none.
    pub previous: u64,
    /// Position of an earlier entry, so that any day is O(log n) away; zero for none.
    pub jump: u64,
}

/// The outcome half of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Outcome {
    /// The business date on which it was decided.
    pub booking_date: Date,
    /// The [`crate::Kind`] posted; that of the hold where a hold is posted.
    pub kind: u16,
    /// ISO 4217 numeric code.
    pub currency: u16,
    /// Zero.
    pub reserved: u16,
    /// The side that paid.
    pub debit: Leg,
    /// The side that received.
    pub credit: Leg,
    /// Amount posted, held or released, minor units.
    pub amount: i64,
    /// What is left: of the hold, or of the posting not yet reversed.
    pub remaining: i64,
    /// Position of what this refers to (the hold, the reversed posting); zero for none.
    pub evidence: u64,
}

/// An entry: a command and its outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Posting {
    /// As sent, with `entry_units` and `code` filled in.
    pub command: Command,
    /// What was decided.
    pub outcome: Outcome,
}

const _: () = assert!(size_of::<Command>() == COMMAND_BYTES);
const _: () = assert!(size_of::<Posting>() == ENTRY_BYTES);

impl Posting {
    /// Whether money moved: the entry then stands in the histories of both its accounts.
    pub fn is_booked(&self) -> bool {
        let h = &self.command.header;
        let moves = [Op::Post as u16, Op::PostHold as u16, Op::Reverse as u16];
        h.code == crate::Code::Done as u16 && moves.contains(&h.op)
    }
}
