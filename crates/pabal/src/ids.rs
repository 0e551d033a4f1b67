//! Making ids: the one place where randomness enters.

use pabal_bank::ledger::Id;
use std::time::{SystemTime, UNIX_EPOCH};

/// Eight random bytes of the system.
pub fn random() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the system's random source");
    u64::from_le_bytes(bytes)
}

/// Milliseconds since 1970 by the wall clock.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// A fresh id.
pub fn fresh() -> Id {
    let random = random();
    Id::new(now_ms(), random as u16, random.rotate_left(16))
}

/// Today as days since 1970.
pub fn today() -> pabal_bank::ledger::Date {
    pabal_bank::ledger::Date((now_ms() / 86_400_000) as u16)
}
