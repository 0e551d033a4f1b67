//! The room that all connections share: how much memory they hold together, and who may hold more.
//!
//! ```text
//! held_bytes = connections × (share + a read's bytes) + common
//! ```
//!
//! What a connection holds beyond its share is counted in the common part. Below half of that anyone may go on. From
//! there to all of it only answers come, to what was asked before: those cannot be put off. One read and one answer may
//! go beyond a bound, as how long they are is known only with them.

use super::Limits;
use super::connection::Connection;
use super::round::{BUFFER_BYTES, TURNED_AWAY_MAX};

/// The common part.
pub struct Common {
    share: u64,
    bytes: u64,
    used: u64,
}

/// What one connection may hold.
#[derive(Clone, Copy)]
pub struct Room {
    pub share: u64,
    /// Of the common part, as long as the others hold what they do.
    pub common: u64,
}

impl Limits {
    /// Bytes of the common part: what is left when each connection has its share. Never none, or nobody could send
    /// what is longer than that.
    pub fn common_bytes(&self) -> u64 {
        let connections = (self.connections + TURNED_AWAY_MAX) as u64;
        let shares = connections.saturating_mul(self.share_bytes + BUFFER_BYTES as u64);
        self.held_bytes.saturating_sub(shares).max(2)
    }
}

impl Common {
    pub fn new(limits: &Limits) -> Common {
        Common { share: limits.share_bytes, bytes: limits.common_bytes(), used: 0 }
    }

    /// For this connection, to ask for more.
    pub fn room(&self, connection: &Connection) -> Room {
        let others = self.used - connection.counted;
        Room { share: self.share, common: (self.bytes / 2).saturating_sub(others) }
    }

    /// Counts what this connection holds now.
    pub fn count(&mut self, connection: &mut Connection) {
        let beyond = connection.held_bytes().saturating_sub(self.share);
        self.used = self.used - connection.counted + beyond;
        connection.counted = beyond;
    }

    /// Forgets a connection that is no more.
    pub fn forget(&mut self, connection: &Connection) {
        self.used -= connection.counted;
    }

    /// Whether those who wait for room may try.
    pub fn is_open(&self) -> bool {
        self.used < self.bytes / 2
    }

    /// Whether more is held than may be.
    pub fn is_exceeded(&self) -> bool {
        self.used > self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_all_leave_a_common_part_as_great_as_they_are() {
        let usual = Limits::default();
        assert!(usual.common_bytes() >= usual.held_bytes / 2, "{}", usual.common_bytes());
        assert!(Limits { held_bytes: 0, ..usual }.common_bytes() > 0);
    }
}
