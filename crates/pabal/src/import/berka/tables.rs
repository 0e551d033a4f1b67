//! The tables of the books, typed: what a field may hold is what its type can hold.
//!
//! Money is in hellers (`i64`), days are [`Date`]s, code words are enums; nothing is a float. Every record
//! has a number of its own and a canonical line ([`Record`]), by which the ledger's journal keeps it.

pub use super::parse_codes::{CodeWord, Frequency, Grade, LoanStatus, Operation, Role, Symbol, Type};
use std::fmt;

/// What every record can give: the number that names it, and its line.
pub trait Record {
    /// The number in the table's first column; unique in the table.
    fn key(&self) -> u64;
    /// The record's line: its fields joined by commas, no line end. At most [`RECORD_BYTES_MAX`] bytes.
    fn record_bytes(&self) -> Vec<u8>;
}

/// Bytes of a record's line at most; a longer one is refused when it is read.
pub const RECORD_BYTES_MAX: usize = 512;

/// One printed row of an account's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Unique over both transaction files.
    pub trans_id: u64,
    /// Its account.
    pub account: u64,
    /// The day it was booked.
    pub date: Date,
    /// Its place in the account's history; grows along the account's rows of one file.
    pub seq: u32,
    /// Which way the money went; follows from `kind_in`.
    pub side: Side,
    /// The type as printed.
    pub kind_in: Type,
    /// How the money moved.
    pub operation: Operation,
    /// What for.
    pub symbol: Symbol,
    /// Hellers, zero or more.
    pub amount: i64,
    /// Balance printed after the row, hellers. Not checked here: the ledger proves it.
    pub balance: i64,
    /// What rounding left over: balance less (previous balance and signed amount), hellers.
    pub residual: i64,
    /// The other side's bank.
    pub bank: Option<ShortText<BANK_BYTES_MAX>>,
    /// The other side's account. Some cash rows have `0` here.
    pub counter_account: Option<ShortText<ACCOUNT_DIGITS_MAX>>,
    /// Index into [`super::parse::Books::files`].
    pub file: u8,
    /// Line in that file; the header is line 1.
    pub line: u32,
}

/// Account numbers below this; the bank's own accounts lie above.
pub const ACCOUNT_NUMBERS_MAX: u64 = 1_000_000_000_000_000;

/// Letters and digits of a bank code at most.
pub const BANK_BYTES_MAX: usize = 8;
/// Digits of an account number of another bank at most.
pub const ACCOUNT_DIGITS_MAX: usize = 16;

impl Record for Row {
    fn key(&self) -> u64 {
        self.trans_id
    }

    /// Made from the typed fields: amounts always with two decimals, numbers without leading zeros.
    fn record_bytes(&self) -> Vec<u8> {
        format!(
            "{},{},{},{},{},{},{},{},{},{},{},{}",
            self.trans_id,
            self.account,
            self.date,
            self.seq,
            self.kind_in.text(),
            self.operation.text(),
            Hellers(self.amount),
            Hellers(self.balance),
            self.symbol.text(),
            self.bank.as_ref().map_or("", ShortText::as_str),
            self.counter_account.as_ref().map_or("", ShortText::as_str),
            Hellers(self.residual),
        )
        .into_bytes()
    }
}

/// A small table's record: its fields, and the line that they stood in.
macro_rules! table {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
            pub(super) text: Box<str>,
        }

        impl Record for $name {
            fn key(&self) -> u64 {
                self.id
            }

            fn record_bytes(&self) -> Vec<u8> {
                self.text.as_bytes().to_vec()
            }
        }
    };
}

table! {
    /// An account.
    Account {
        /// account_id.
        id: u64,
        /// District of its branch.
        district: u64,
        /// How often a statement is made and charged.
        frequency: Frequency,
        /// The day it was opened.
        opened: Date,
    }
}

table! {
    /// A client.
    Client {
        /// client_id.
        id: u64,
        /// YYMMDD, checked; for women the month has 50 added.
        birth_number: ShortText<6>,
        /// District of residence.
        district: u64,
    }
}

table! {
    /// A disposition: what a client may do with an account.
    Disposition {
        /// disp_id.
        id: u64,
        /// The client.
        client: u64,
        /// The account.
        account: u64,
        /// Whether owner or authorised.
        role: Role,
    }
}

table! {
    /// A card.
    Card {
        /// card_id.
        id: u64,
        /// The disposition it belongs to.
        disposition: u64,
        /// junior, classic or gold.
        grade: Grade,
        /// The day of issue.
        issued: Date,
    }
}

table! {
    /// A loan.
    Loan {
        /// loan_id.
        id: u64,
        /// The account it is paid out to and paid from.
        account: u64,
        /// The day it was granted.
        granted: Date,
        /// Hellers.
        amount: i64,
        /// Months.
        duration_months: u32,
        /// Hellers each month.
        payment: i64,
        /// How it ended or stands.
        status: LoanStatus,
    }
}

table! {
    /// A standing order.
    Order {
        /// order_id.
        id: u64,
        /// The account that pays.
        account: u64,
        /// The bank that is paid.
        bank_to: ShortText<BANK_BYTES_MAX>,
        /// The account that is paid.
        account_to: ShortText<ACCOUNT_DIGITS_MAX>,
        /// Hellers.
        amount: i64,
        /// None, Household, Insurance, Loan or Leasing.
        symbol: Symbol,
    }
}

table! {
    /// A district. Shares and rates are in hundredths of a percent point, so 46.7 is 4670.
    District {
        /// A1.
        id: u64,
        /// A2.
        name: Box<str>,
        /// A3.
        region: Box<str>,
        /// A4.
        inhabitants: u32,
        /// A5 to A8: municipalities with fewer than 500, 2000, 10000 inhabitants, and with more.
        municipalities: [u32; 4],
        /// A9.
        cities: u32,
        /// A10, hundredths of a percent.
        urban_share: i64,
        /// A11, crowns.
        salary_average: u32,
        /// A12 and A13: in 1995 and 1996, hundredths of a percent; None where printed `?`.
        unemployment: [Option<i64>; 2],
        /// A14, per 1000 inhabitants.
        entrepreneurs: u32,
        /// A15: crimes in 1995; None where printed `?`.
        crimes_1995: Option<u32>,
        /// A16.
        crimes_1996: u32,
    }
}

/// Which way the money of a row went, as the account sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Into the account.
    Credit,
    /// Out of the account.
    Debit,
}

/// A day of the calendar, years 1 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    year: i16,
    month: u8,
    day: u8,
}

impl Date {
    /// The day, if there is such a day.
    pub fn new(year: u16, month: u8, day: u8) -> Option<Date> {
        let good = (1..=9999).contains(&year) && day >= 1 && day <= days_of_month(year, month);
        good.then_some(Date { year: year as i16, month, day })
    }

    /// Days since 1970-01-01; negative before.
    pub fn days(self) -> i32 {
        // Years begin in March here, so that the leap day is a year's last.
        let year = i32::from(self.year) - i32::from(self.month <= 2);
        let month = (i32::from(self.month) + 9) % 12;
        let day_of_year = (153 * month + 2) / 5 + i32::from(self.day) - 1;
        365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
    }
}

/// As ISO 8601 writes it.
impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

/// Zero for a month that does not exist.
pub(super) fn days_of_month(year: u16, month: u8) -> u8 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u8::from(leap),
        _ => 0,
    }
}

/// A text of at most `N` bytes, kept in place: a million rows make no million allocations.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortText<const N: usize> {
    bytes: [u8; N],
    length: u8,
}

impl<const N: usize> ShortText<N> {
    /// The text, if it is short enough.
    pub fn new(text: &str) -> Option<Self> {
        const { assert!(N <= u8::MAX as usize) };
        let mut bytes = [0; N];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(ShortText { bytes, length: text.len() as u8 })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).expect("it was made from a str")
    }
}

impl<const N: usize> fmt::Debug for ShortText<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Hellers, written in crowns with two decimals.
pub(super) struct Hellers(pub i64);

impl fmt::Display for Hellers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, hellers) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        write!(f, "{sign}{}.{:02}", hellers / 100, hellers % 100)
    }
}
