//! The journal from a record on, as it grows, over a connection of its own.
//!
//! Each record comes once, in the order of their sequences, without a gap: a server that leaves one out, or tells one
//! twice, has broken the protocol. When the connection ends [`Follow::next_sequence`] says where to begin again; what
//! was taken is not told again. At most two records of the longest kind are held here: who does not take them is not
//! sent more, and the server decides how long it waits.

use crate::address::Address;
use crate::connection::{Connection, Error};
use pabal_fault::{Bug, planted};
use pabal_wire::Kind;
use std::time::{Duration, Instant};

/// A record of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its sequence.
    pub sequence: u64,
    /// All its blocks.
    pub blocks: Vec<u8>,
}

/// See the module.
pub struct Follow {
    connection: Connection,
    next_sequence: u64,
    timeout: Duration,
    ended: bool,
}

impl Follow {
    /// Begins with the record of this sequence. `timeout` is how long the welcome, and then each record, is waited for.
    pub fn from(
        address: &Address,
        credential: [u8; 16],
        sequence: u64,
        timeout: Duration,
    ) -> Result<Follow, Error> {
        Follow::on(Connection::connect(address, credential, timeout)?, sequence, timeout)
    }

    /// The same on a connection that was welcomed.
    pub(crate) fn on(mut connection: Connection, sequence: u64, timeout: Duration) -> Result<Follow, Error> {
        connection.follow(sequence).map_err(|_| Error::Closed)?;
        Ok(Follow { connection, next_sequence: sequence, timeout, ended: false })
    }

    /// The journal that is followed.
    pub fn journal_id(&self) -> u64 {
        self.connection.welcome().journal_id
    }

    /// The sequence of the record that comes next.
    pub fn next_sequence(&self) -> u64 {
        if planted(Bug::FollowedAgain) { self.next_sequence.max(2) - 1 } else { self.next_sequence }
    }

    /// Waits for the next record; none when none came in time. After an error nothing comes any more.
    pub fn wait(&mut self, timeout: Duration) -> Result<Option<Record>, Error> {
        let until = Instant::now() + timeout;
        loop {
            if let Some(record) = self.take()? {
                return Ok(Some(record));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.connection.poll(left)?;
        }
    }

    /// The next record, if it is here or the system has it now.
    pub(crate) fn look(&mut self) -> Result<Option<Record>, Error> {
        self.connection.pump();
        self.take()
    }

    fn take(&mut self) -> Result<Option<Record>, Error> {
        let Some(answered) = self.connection.take()? else { return Ok(None) };
        if answered.kind != Kind::Record {
            return Err(Error::Refused(answered.code));
        }
        if answered.sequence != self.next_sequence {
            return Err(Error::Broken("a record out of its order"));
        }
        let record = Record { sequence: answered.sequence, blocks: answered.body.to_vec() };
        self.next_sequence += 1;
        Ok(Some(record))
    }
}

/// The records; it ends when none came in time, or with the error that ended it.
impl Iterator for Follow {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Result<Record, Error>> {
        if self.ended {
            return None;
        }
        let next = self.wait(self.timeout);
        self.ended = next.is_err();
        next.transpose()
    }
}
