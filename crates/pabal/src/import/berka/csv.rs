//! Reading the CSV files: every field checked, every error naming file, line and column.

use jiff::civil;
use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;

/// Bytes of a file, unpacked, at most.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// Bytes of a line at most.
const LINE_BYTES_MAX: usize = 4096;

/// Why a folder cannot be imported. Nothing was posted.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file is missing or cannot be read.
    #[error("{file}: {what}; nothing was imported")]
    File {
        /// Its name.
        file: String,
        /// What is wrong with it.
        what: String,
    },
    /// A field does not fit.
    #[error("{file}, line {line}, column {column}: {value:?} {what}; nothing was imported")]
    Field {
        /// The file's name.
        file: String,
        /// The line, the header being line 1.
        line: u64,
        /// The column's name.
        column: String,
        /// What stands there, at most 40 characters of it.
        value: String,
        /// What is wrong with it.
        what: String,
    },
}

/// A file: its name, its lines after the header.
pub struct Table {
    pub name: String,
    columns: &'static [&'static str],
    records: Vec<csv::StringRecord>,
}

/// One line of a file.
#[derive(Clone, Copy)]
pub struct Line<'t> {
    table: &'t Table,
    record: &'t csv::StringRecord,
    pub number: u64,
}

impl Table {
    /// Reads a file whose header must be these columns, and adds it to the digest.
    pub fn read(
        dir: &Path,
        name: &str,
        columns: &'static [&'static str],
        digest: &mut blake3::Hasher,
    ) -> Result<Table, ReadError> {
        let wrong = |what: String| ReadError::File { file: name.into(), what };
        let file = std::fs::File::open(dir.join(name)).map_err(|e| wrong(e.to_string()))?;
        let mut text = Vec::new();
        let unpacked = flate2::read::MultiGzDecoder::new(file);
        unpacked.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(|e| wrong(format!("gzip: {e}")))?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(wrong("more than 1 GiB when unpacked".into()));
        }
        digest.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
        digest.update(&(text.len() as u64).to_le_bytes()).update(&text);
        let mut reader = csv::ReaderBuilder::new().flexible(true).has_headers(false).from_reader(&text[..]);
        let mut records = Vec::new();
        for (i, record) in reader.records().enumerate() {
            let record = record.map_err(|e| wrong(e.to_string()))?;
            let number = record.position().map_or(i as u64 + 1, csv::Position::line);
            let field = |column: &str, value: &str, what: String| ReadError::Field {
                file: name.into(),
                line: number,
                column: column.into(),
                value: shorten(value),
                what,
            };
            if record.as_slice().len() > LINE_BYTES_MAX {
                return Err(field(columns[0], &record[0], "begins a line of more than 4096 bytes".into()));
            }
            if record.len() != columns.len() {
                let at = record.len().min(columns.len() - 1);
                let value = record.get(at).unwrap_or("");
                let what = format!("is in a line of {} fields, not {}", record.len(), columns.len());
                return Err(field(columns[at], value, what));
            }
            if i == 0 {
                if let Some(at) = (0..columns.len()).find(|&at| record[at] != *columns[at]) {
                    return Err(field(columns[at], &record[at], "is not this column's name".into()));
                }
            } else {
                records.push(record);
            }
        }
        if records.is_empty() && text.is_empty() {
            return Err(wrong("empty; a header line is expected".into()));
        }
        Ok(Table { name: name.into(), columns, records })
    }

    pub fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.records.iter().enumerate().map(|(i, record)| Line {
            table: self,
            record,
            number: record.position().map_or(i as u64 + 2, csv::Position::line),
        })
    }
}

impl<'t> Line<'t> {
    /// An error about a column of this line.
    pub fn wrong(&self, column: &str, what: impl Into<String>) -> ReadError {
        ReadError::Field {
            file: self.table.name.clone(),
            line: self.number,
            column: column.into(),
            value: shorten(self.text(column)),
            what: what.into(),
        }
    }

    /// The field as it stands.
    pub fn text(&self, column: &str) -> &'t str {
        let at = self.table.columns.iter().position(|c| *c == column);
        at.and_then(|at| self.record.get(at)).unwrap_or("")
    }

    /// The whole line, as it is kept.
    pub fn whole(&self) -> String {
        let mut whole = String::new();
        for (i, field) in self.record.iter().enumerate() {
            let _ = write!(whole, "{}{field}", if i == 0 { "" } else { "," });
        }
        whole
    }

    pub fn number(&self, column: &str) -> Result<u64, ReadError> {
        let text = self.text(column);
        let digits = !text.is_empty() && text.len() <= 15 && text.bytes().all(|b| b.is_ascii_digit());
        let number = if digits { text.parse().ok() } else { None };
        number
            .filter(|n| *n > 0)
            .ok_or_else(|| self.wrong(column, "is not a whole number from 1 to 15 digits"))
    }

    /// An amount with at most two decimals, in hundredths.
    pub fn amount(&self, column: &str) -> Result<i64, ReadError> {
        let text = self.text(column);
        parse_amount(text).ok_or_else(|| self.wrong(column, "is not an amount with at most two decimals"))
    }

    /// A day from 1970-01-01 on, as days since then.
    pub fn date(&self, column: &str) -> Result<u16, ReadError> {
        let text = self.text(column);
        let day = (text.len() == 10).then(|| text.parse::<civil::Date>().ok()).flatten();
        let days = day.and_then(crate::dates::to_days);
        days.ok_or_else(|| self.wrong(column, "is not a day as YYYY-MM-DD from 1970-01-01 to 2149-06-06"))
    }

    pub fn one_of<T: Copy>(&self, column: &str, codes: &[(&str, T)]) -> Result<T, ReadError> {
        // The source writes "none" as a space in some tables.
        let text = self.text(column).trim_matches(' ');
        let found = codes.iter().find(|(code, _)| *code == text).map(|(_, value)| *value);
        found.ok_or_else(|| {
            let known: Vec<_> = codes.iter().map(|(code, _)| format!("{code:?}")).collect();
            self.wrong(column, format!("is not a known code (known: {})", known.join(", ")))
        })
    }
}

fn shorten(value: &str) -> String {
    value.chars().take(40).collect()
}

fn parse_amount(text: &str) -> Option<i64> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let all = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !all(whole) || !all(part) || part.len() > 2 || whole.len() > 15 {
        return None;
    }
    let part: i64 = part.parse::<i64>().ok()? * if part.len() == 1 { 10 } else { 1 };
    let amount = whole.parse::<i64>().ok()?.checked_mul(100)?.checked_add(part)?;
    Some(if negative { -amount } else { amount })
}

#[cfg(test)]
mod tests {
    use super::parse_amount;

    #[test]
    fn amounts_are_read_to_the_last_heller_or_not_at_all() {
        for (text, amount) in [("900.00", 90_000), ("-0.10", -10), ("7", 700), ("7.5", 750)] {
            assert_eq!(parse_amount(text), Some(amount), "{text}");
        }
        for text in ["", "-", ".", "1.", ".5", "1.234", "1e3", "+1", "--1", "1,00", "9999999999999999", " 1"]
        {
            assert_eq!(parse_amount(text), None, "{text}");
        }
    }
}
