//! Days: as the calendar writes them, and as days since 1970-01-01.

use jiff::civil::Date;

const EPOCH: Date = jiff::civil::date(1970, 1, 1);

/// Days since 1970-01-01, if the day is within the 16 bits that the journal keeps.
pub fn to_days(date: Date) -> Option<u16> {
    let days = date.since(EPOCH).ok()?.get_days();
    u16::try_from(days).ok()
}

/// The day as the calendar writes it.
pub fn to_date(days: u16) -> Date {
    EPOCH.saturating_add(jiff::Span::new().days(days as i64))
}
