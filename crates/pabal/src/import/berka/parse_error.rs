//! Why a folder of books was refused: the first thing found, named to the file, line and column.

use super::tables::RECORD_BYTES_MAX;
use std::path::PathBuf;

/// The first thing that is wrong with a folder. Nothing of it was used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A field is not what its column holds.
    #[error("{file}, line {line}, column {column}: {value} {fault}")]
    Field {
        /// The file's name.
        file: String,
        /// 1-based; the header is line 1.
        line: u32,
        /// The column's name.
        column: &'static str,
        /// What stands there: quoted, escaped, at most [`SHOWN_CHARS_MAX`] characters of it.
        value: String,
        /// What is wrong with it.
        fault: Fault,
    },
    /// A line is not a record.
    #[error("{file}, line {line}: {fault}")]
    Line {
        /// The file's name.
        file: String,
        /// 1-based; the header is line 1.
        line: u32,
        /// What is wrong with it.
        fault: LineFault,
    },
    /// A file is not there.
    #[error("{file} is missing in {}", folder.display())]
    Missing {
        /// Its name; for transactions the pattern of its name.
        file: String,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// Two files have names of the same pattern: which of them is meant cannot be known.
    #[error("{first} and {second} both match {pattern}; expected one such file")]
    Ambiguous {
        /// The pattern.
        pattern: String,
        /// The first by name.
        first: String,
        /// The second by name.
        second: String,
    },
    /// A transaction file that no pattern covers: passing over it would lose money silently.
    #[error("{file} is not expected; transaction files are {patterns}")]
    Unexpected {
        /// Its name.
        file: String,
        /// What is expected.
        patterns: String,
    },
    /// The gzip data is damaged or cut short.
    #[error("{file} is not a whole gzip file: {what}")]
    Gzip {
        /// The file's name.
        file: String,
        /// What the decoder said.
        what: String,
    },
    /// The file grows too large when it is unpacked.
    #[error("{file} is more than {max} bytes when unpacked")]
    TooLarge {
        /// The file's name.
        file: String,
        /// The bound.
        max: u64,
    },
    /// The system could not read it.
    #[error("{file} cannot be read: {source}")]
    Io {
        /// The file's name, or the folder's.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each variant's text says what it is")]
pub enum Fault {
    #[error("is not the name of this column")]
    Header,
    #[error("is not UTF-8")]
    NotUtf8,
    #[error("holds a control character")]
    Control,
    #[error("is blank; expected {expected}")]
    Blank { expected: &'static str },
    #[error("is not a whole number")]
    NotNumber,
    #[error("is too large; expected at most {max}")]
    NumberTooLarge { max: u64 },
    #[error("is not an amount with at most two decimals")]
    NotAmount,
    #[error("is too large for an amount")]
    AmountTooLarge,
    #[error("is negative; expected an amount of zero or more")]
    Negative,
    #[error("is not a date (YYYY-MM-DD)")]
    NotDate,
    #[error("is a day that the journal cannot keep; expected one from 1970-01-01 to 2149-06-06")]
    DayOutOfRange,
    #[error("is not an account's number; expected one from 1 to 15 digits, not zero")]
    NotAccountNumber,
    #[error("takes the balance of {whose} beyond 64 bits")]
    BalanceTooLarge { whose: String },
    #[error("is not a birth number (YYMMDD, for women with 50 added to the month)")]
    NotBirthNumber,
    #[error("is not a bank code of at most {max} letters and digits")]
    NotBank { max: usize },
    #[error("is not an account number of at most {max} digits")]
    NotAccount { max: usize },
    #[error("is unknown; expected {expected}")]
    UnknownCode { expected: String },
    #[error("does not go with {with}; expected {expected}")]
    Contradiction { with: String, expected: String },
    #[error("stands in {first} already")]
    Duplicate { first: String },
    #[error("is in no line of {file}")]
    Dangling { file: String },
    #[error("is not above {before}, the seq of line {line}, which comes before it in account {account}")]
    OutOfSequence { before: u32, line: u32, account: u64 },
    #[error("stands in {first} already, for the same account and date")]
    SameMoment { first: String },
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each variant's text says what it is")]
pub enum LineFault {
    #[error("no header; expected {expected}")]
    NoHeader { expected: String },
    #[error("{found} fields; expected {expected}")]
    FieldCount { found: usize, expected: usize },
    #[error("blank; expected a record")]
    Blank,
    #[error("longer than {max} bytes")]
    TooLong { max: usize },
    #[error("a quotation mark is not closed on its line")]
    OpenQuote,
    #[error("a record of {found} bytes; expected at most {RECORD_BYTES_MAX}")]
    RecordTooLong { found: usize },
    #[error("more lines than can be numbered")]
    TooMany,
}

/// Characters of a bad value that an error shows at most.
pub const SHOWN_CHARS_MAX: usize = 40;

/// A bad value as an error shows it: escaped, so that no file can write to the operator's terminal.
pub(super) fn shown(value: &[u8]) -> String {
    // A character is at most four bytes; what is beyond is not looked at.
    let head = &value[..value.len().min(4 * (SHOWN_CHARS_MAX + 1))];
    let text = String::from_utf8_lossy(head);
    let bounded: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    let more = if text.chars().count() > SHOWN_CHARS_MAX { "..." } else { "" };
    format!("{bounded:?}{more}")
}
