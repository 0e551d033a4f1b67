//! One field: its text, and what it must be. No floats, no wrap-around, no guess.

use super::parse_error::{Fault, ReadError, shown};
use super::parse_file::Line;
use super::tables::{
    ACCOUNT_DIGITS_MAX, ACCOUNT_NUMBERS_MAX, BANK_BYTES_MAX, CodeWord, Date, ShortText, days_of_month,
};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// A field of a line, checked to be UTF-8 without control characters.
#[derive(Clone, Copy)]
pub(super) struct Field<'l> {
    pub line: &'l Line<'l>,
    pub column: &'static str,
    pub text: &'l str,
}

impl<'l> Field<'l> {
    /// An error about this field.
    pub fn wrong(&self, fault: Fault) -> ReadError {
        self.line.wrong(self.column, self.text.as_bytes(), fault)
    }

    /// A whole number, digits only.
    pub fn number(&self) -> Result<u64, ReadError> {
        self.number_up_to(u64::MAX)
    }

    /// A whole number that fits 32 bits.
    pub fn number_u32(&self) -> Result<u32, ReadError> {
        self.number_up_to(u64::from(u32::MAX)).map(|n| n as u32)
    }

    fn number_up_to(&self, max: u64) -> Result<u64, ReadError> {
        self.filled("a whole number")?;
        if !is_digits(self.text) {
            return Err(self.wrong(Fault::NotNumber));
        }
        // Only digits are left, so what does not parse is too large.
        let number = self.text.parse().ok().filter(|n| *n <= max);
        number.ok_or_else(|| self.wrong(Fault::NumberTooLarge { max }))
    }

    /// A number that has no record yet.
    pub fn key(&self, keys: &mut Keys) -> Result<u64, ReadError> {
        let key = self.number()?;
        keys.add(key, self)?;
        Ok(key)
    }

    /// The number of an account, which has no record yet.
    pub fn account_key(&self, keys: &mut Keys) -> Result<u64, ReadError> {
        let number = self.number()?;
        if number == 0 || number >= ACCOUNT_NUMBERS_MAX {
            return Err(self.wrong(Fault::NotAccountNumber));
        }
        keys.add(number, self)?;
        Ok(number)
    }

    /// A number that has a record in a table read before.
    pub fn reference(&self, keys: &Keys) -> Result<u64, ReadError> {
        let key = self.number()?;
        if !keys.places.contains_key(&key) {
            return Err(self.wrong(Fault::Dangling { file: keys.files.join(", ") }));
        }
        Ok(key)
    }

    /// An amount that may be negative, in hundredths: money in hellers, a share in hundredths of a percent.
    pub fn signed_amount(&self) -> Result<i64, ReadError> {
        self.filled("an amount")?;
        let (negative, unsigned) = match self.text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, self.text),
        };
        let (whole, decimals) = match unsigned.split_once('.') {
            Some((whole, decimals)) if matches!(decimals.len(), 1 | 2) => (whole, decimals),
            Some(_) => return Err(self.wrong(Fault::NotAmount)),
            None => (unsigned, "0"),
        };
        if !is_digits(whole) || !is_digits(decimals) {
            return Err(self.wrong(Fault::NotAmount));
        }
        let hundredths = decimals.parse::<i64>().ok().map(|d| if decimals.len() == 1 { d * 10 } else { d });
        let amount = whole.parse::<i64>().ok().and_then(|w| w.checked_mul(100)?.checked_add(hundredths?));
        let amount = amount.ok_or_else(|| self.wrong(Fault::AmountTooLarge))?;
        Ok(if negative { -amount } else { amount })
    }

    /// An amount of zero or more, in hundredths.
    pub fn amount(&self) -> Result<i64, ReadError> {
        let amount = self.signed_amount()?;
        // By the sign and not by the value: "-0.00" is no amount that a bank printed.
        if self.text.starts_with('-') { Err(self.wrong(Fault::Negative)) } else { Ok(amount) }
    }

    /// What `read` makes of the field, or None where it is printed `?`.
    pub fn unless_unknown<T>(
        &self,
        read: fn(&Field<'l>) -> Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        if self.text == "?" { Ok(None) } else { read(self).map(Some) }
    }

    /// A day: four, two and two digits with hyphens.
    pub fn date(&self) -> Result<Date, ReadError> {
        self.filled("a date (YYYY-MM-DD)")?;
        let number = |from, to| self.text.get(from..to).filter(|t| is_digits(t))?.parse::<u16>().ok();
        let date = || {
            let bytes = self.text.as_bytes();
            if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
                return None;
            }
            Date::new(number(0, 4)?, number(5, 7)? as u8, number(8, 10)? as u8)
        };
        date().ok_or_else(|| self.wrong(Fault::NotDate))
    }

    /// A day that the journal can carry.
    pub fn day(&self) -> Result<Date, ReadError> {
        let date = self.date()?;
        if u16::try_from(date.days()).is_err() {
            return Err(self.wrong(Fault::DayOutOfRange));
        }
        Ok(date)
    }

    /// YYMMDD, a day of the calendar; for women the month has 50 added. The century is not printed, so
    /// 29 February of year 00 is taken: 2000 had it.
    pub fn birth_number(&self) -> Result<ShortText<6>, ReadError> {
        self.filled("a birth number (YYMMDD)")?;
        let number = |from, to| self.text.get(from..to)?.parse::<u8>().ok();
        let good = || {
            let (year, month, day) = (number(0, 2)?, number(2, 4)?, number(4, 6)?);
            let month = if month > 50 { month - 50 } else { month };
            (day >= 1 && day <= days_of_month(2000 + u16::from(year), month)).then_some(())
        };
        let text = ShortText::new(self.text).filter(|_| self.text.len() == 6 && is_digits(self.text));
        text.filter(|_| good().is_some()).ok_or_else(|| self.wrong(Fault::NotBirthNumber))
    }

    /// A bank's code; None where blank.
    pub fn bank(&self) -> Result<Option<ShortText<BANK_BYTES_MAX>>, ReadError> {
        let good = self.text.bytes().all(|b| b.is_ascii_alphanumeric());
        self.short(good, Fault::NotBank { max: BANK_BYTES_MAX })
    }

    /// The number of an account of another bank; None where blank.
    pub fn account(&self) -> Result<Option<ShortText<ACCOUNT_DIGITS_MAX>>, ReadError> {
        let good = self.text.is_empty() || is_digits(self.text);
        self.short(good, Fault::NotAccount { max: ACCOUNT_DIGITS_MAX })
    }

    fn short<const N: usize>(&self, good: bool, fault: Fault) -> Result<Option<ShortText<N>>, ReadError> {
        let text = ShortText::new(self.text).filter(|_| good).ok_or_else(|| self.wrong(fault))?;
        Ok(Some(text).filter(|_| !self.text.is_empty()))
    }

    /// A field that must not be blank.
    pub fn required<T>(&self, value: Option<T>, expected: &'static str) -> Result<T, ReadError> {
        value.ok_or_else(|| self.wrong(Fault::Blank { expected }))
    }

    /// Any text but a blank one.
    pub fn name(&self) -> Result<Box<str>, ReadError> {
        self.filled("a name")?;
        Ok(self.text.into())
    }

    /// A code word of `C`. Spaces around it are passed over: `order` prints a blank symbol as one space.
    pub fn code<C: CodeWord>(&self) -> Result<C, ReadError> {
        self.code_of(C::ALL)
    }

    /// A code word of these.
    pub fn code_of<C: CodeWord>(&self, codes: &[C]) -> Result<C, ReadError> {
        let text = self.text.trim_matches(' ');
        let found = codes.iter().copied().find(|code| code.text() == text);
        found.ok_or_else(|| self.wrong(Fault::UnknownCode { expected: listed(codes) }))
    }

    fn filled(&self, expected: &'static str) -> Result<(), ReadError> {
        if self.text.trim_matches(' ').is_empty() {
            return Err(self.wrong(Fault::Blank { expected }));
        }
        Ok(())
    }
}

/// The numbers of a table's records, each with the place where it stands.
#[derive(Default)]
pub(super) struct Keys {
    places: HashMap<u64, (u8, u32)>,
    files: Vec<String>,
}

impl Keys {
    fn add(&mut self, key: u64, field: &Field<'_>) -> Result<(), ReadError> {
        let line = field.line;
        if self.files.last().is_none_or(|file| file != line.file) {
            self.files.push(line.file.to_string());
        }
        let file = self.files.len() - 1;
        match self.places.entry(key) {
            Entry::Vacant(vacant) => {
                vacant.insert((file as u8, line.number));
                Ok(())
            }
            Entry::Occupied(first) => {
                let (first_file, first_line) = *first.get();
                let first = place(&self.files[usize::from(first_file)], first_line);
                Err(field.wrong(Fault::Duplicate { first }))
            }
        }
    }
}

/// A place in a file, as messages name it.
pub(super) fn place(file: &str, line: u32) -> String {
    format!("{file}, line {line}")
}

/// Code words as messages list them.
pub(super) fn listed<C: CodeWord>(codes: &[C]) -> String {
    let mut list = String::new();
    for (i, code) in codes.iter().enumerate() {
        let before = match i {
            0 => "",
            i if i + 1 == codes.len() => " or ",
            _ => ", ",
        };
        list.push_str(before);
        list.push_str(worded(*code));
    }
    list
}

/// A code word as messages name it.
pub(super) fn worded<C: CodeWord>(code: C) -> &'static str {
    if code.text().is_empty() { "blank" } else { code.text() }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

impl Line<'_> {
    /// An error about a field of this line.
    pub(super) fn wrong(&self, column: &'static str, value: &[u8], fault: Fault) -> ReadError {
        ReadError::Field { file: self.file.into(), line: self.number, column, value: shown(value), fault }
    }
}
