//! Days: as the calendar writes them, and as days since 1970-01-01.

use jiff::civil::Date;

/// The days that the journal can keep.
pub const RANGE: &str = "a day is from 1970-01-01 to 2149-06-06, written like 1994-12-31";
const EPOCH: Date = jiff::civil::date(1970, 1, 1);

/// Days since 1970-01-01, if the day is within the 16 bits that the journal keeps.
pub fn to_days(date: Date) -> Option<u16> {
    let days = date.since(EPOCH).ok()?.get_days();
    u16::try_from(days).ok()
}

/// A day as someone wrote it.
pub fn parse(text: &str) -> Result<Date, &'static str> {
    text.parse().ok().filter(|date| text.len() == 10 && to_days(*date).is_some()).ok_or(RANGE)
}

/// The day as the calendar writes it.
pub fn to_date(days: u16) -> Date {
    EPOCH.saturating_add(jiff::Span::new().days(days as i64))
}
