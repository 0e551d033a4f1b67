//! An account: two cache lines. What every posting touches stands in the first, its history in the second.

use crate::history::Roots;
use crate::rules::Class;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// No limit: of an overdraft or of a greatest balance.
pub const UNLIMITED: i64 = i64::MAX;

/// Blocks on an account, as bits. None set: active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Status(pub u8);

impl Status {
    /// Debits and credits.
    pub const ACTIVE: Status = Status(0);
    /// No debits (지급정지).
    pub const DEBIT_BLOCKED: Status = Status(1);
    /// No credits (입금정지).
    pub const CREDIT_BLOCKED: Status = Status(2);
    /// Ended; the number is never used again.
    pub const CLOSED: Status = Status(4);

    /// Whether this status has all the bits of that one.
    #[inline]
    pub const fn has(self, other: Status) -> bool {
        self.0 & other.0 == other.0
    }
}

/// An account.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct Account {
    /// The account's number; never zero.
    pub number: u64,
    /// Credits less debits, minor units.
    pub balance: i64,
    /// Sum of what remains on its open holds, minor units.
    pub held: i64,
    /// How far the balance less holds may fall below zero; never negative. [`UNLIMITED`] for none.
    pub overdraft: i64,
    /// The greatest balance; [`UNLIMITED`] for none.
    pub ceiling: i64,
    /// The opaque customer id of the holder; zero for the bank's own.
    pub holder: u64,
    /// ISO 4217 numeric code.
    pub currency: u16,
    /// A [`Class`].
    pub class: u8,
    /// Blocks.
    pub status: Status,
    /// Number of its open holds.
    pub holds: u32,
    /// Day of opening.
    pub opened: crate::Date,
    /// Zero.
    pub reserved: u16,
    /// The batch that touched it last, for the digest. Not part of the state.
    pub(crate) touched: u32,
    /// The newest roots of its history.
    pub(crate) roots: Roots,
}

const _: () = assert!(size_of::<Account>() == 128);

impl Account {
    /// An active account with no history.
    pub fn new(number: u64, class: u8, currency: u16, holder: u64, opened: crate::Date) -> Account {
        Account {
            number,
            class,
            currency,
            holder,
            opened,
            overdraft: 0,
            ceiling: UNLIMITED,
            ..Account::default()
        }
    }

    /// The class; accounts are only made with one that exists.
    #[inline]
    pub fn class(&self) -> Class {
        Class::from_u8(self.class).expect("an account's class was checked when it was opened")
    }

    /// Position of the newest entry of its history; zero for none.
    #[inline]
    pub fn head(&self) -> u64 {
        self.roots.head()
    }

    /// Whether there can be such an account: for bytes that were read from a file.
    pub(crate) fn is_possible(&self) -> bool {
        self.number != 0
            && Class::from_u8(self.class).is_some()
            && self.held >= 0
            && self.overdraft >= 0
            && self.ceiling >= 0
            && self.reserved == 0
            && self.touched == 0
            && self.roots.is_possible()
    }

    /// What may be paid out: balance less holds plus overdraft, and `expired` of the holds does not count.
    /// Minor units; [`UNLIMITED`] where there is no limit. Added up in 128 bits and cut to 64 only at the
    /// end: cut in between, money would seem to be there that is not.
    #[inline]
    pub fn available(&self, expired: i64) -> i64 {
        if self.overdraft == UNLIMITED {
            return UNLIMITED;
        }
        let sum = self.free(expired) + self.overdraft as i128;
        sum.clamp(i64::MIN as i128, i64::MAX as i128) as i64
    }

    /// Balance less the holds that count, minor units.
    #[inline]
    pub fn free(&self, expired: i64) -> i128 {
        self.balance as i128 - self.held as i128 + expired as i128
    }
}
