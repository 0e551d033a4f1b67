//! What the sender of a command hears.

use pabal_fault::{Bug, planted};
use pabal_ledger::entry::COMMAND_BYTES;
use pabal_ledger::{Code, Command, Posting};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The answer to one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What became of it.
    pub code: Code,
    /// Whether it was decided earlier, and this is that first outcome again.
    pub again: bool,
    /// Position of its entry; for `job_out_of_order` the number of the next item; otherwise zero.
    pub position: u64,
    /// Balance of the debit side after it, minor units; zero when nothing was booked.
    pub debit_balance: i64,
    /// Balance of the credit side after it, minor units; zero when nothing was booked.
    pub credit_balance: i64,
}

impl Reply {
    /// An answer that no entry stands behind.
    pub fn refused(code: Code) -> Reply {
        Reply { code, again: false, position: 0, debit_balance: 0, credit_balance: 0 }
    }

    /// The answer that this entry at this position stands for.
    pub fn of(entry: &Posting, position: u64) -> Reply {
        let code = Code::from_u16(entry.command.header.code).unwrap_or(Code::Malformed);
        let booked = entry.is_booked();
        let balance = |b: i64| if booked { b } else { 0 };
        Reply {
            code,
            again: false,
            position,
            debit_balance: balance(entry.outcome.debit.balance),
            credit_balance: balance(entry.outcome.credit.balance),
        }
    }

    /// The answer to a command whose id was decided in this entry: the first outcome again if the body is
    /// the same to the byte, a conflict if it is not.
    ///
    /// `sent` and `entry` are all the bytes of what `command` and `first` begin.
    pub fn again(command: &Command, sent: &[u8], first: &Posting, entry: &[u8], position: u64) -> Reply {
        let mut asked = first.command;
        asked.header.entry_units = 0;
        asked.header.code = 0;
        let rest_differs = sent.len() > COMMAND_BYTES
            && !planted(Bug::RestNotCompared)
            && entry.get(COMMAND_BYTES..sent.len()) != Some(&sent[COMMAND_BYTES..]);
        if (asked.as_bytes() != command.as_bytes() || rest_differs) && !planted(Bug::OtherBodyTaken) {
            return Reply { position, ..Reply::refused(Code::IdConflict) };
        }
        Reply { again: true, ..Reply::of(first, position) }
    }

    /// The form in which it goes to another process.
    pub fn to_wire(&self) -> WireReply {
        WireReply {
            code: self.code as u16,
            again: self.again as u8,
            zeros: [0; 5],
            position: self.position,
            debit_balance: self.debit_balance,
            credit_balance: self.credit_balance,
        }
    }

    /// The answer that another process sent. None when these bytes are no answer that this program knows: of a code
    /// that it cannot name it must not guess what it says.
    #[inline]
    pub fn from_wire(wire: &WireReply) -> Option<Reply> {
        if wire.again > 1 || wire.zeros != [0; 5] {
            return None;
        }
        Some(Reply {
            code: Code::from_u16(wire.code)?,
            again: wire.again == 1,
            position: wire.position,
            debit_balance: wire.debit_balance,
            credit_balance: wire.credit_balance,
        })
    }
}

/// The answer to one command as it goes from process to process: 32 bytes, little-endian, read in place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct WireReply {
    /// A [`Code`].
    pub code: u16,
    /// 1 when it was decided earlier, otherwise zero.
    pub again: u8,
    /// Zero.
    pub zeros: [u8; 5],
    /// See [`Reply`].
    pub position: u64,
    /// See [`Reply`].
    pub debit_balance: i64,
    /// See [`Reply`].
    pub credit_balance: i64,
}

const _: () = assert!(size_of::<WireReply>() == 32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_comes_out_as_it_went_in() {
        for (n, &code) in Code::ALL.iter().enumerate() {
            for again in [false, true] {
                let reply = Reply {
                    code,
                    again,
                    position: u64::MAX - n as u64,
                    debit_balance: i64::MIN + n as i64,
                    credit_balance: i64::MAX - n as i64,
                };
                let wire = reply.to_wire();
                let read = WireReply::read_from_bytes(wire.as_bytes()).expect("32 bytes");
                assert_eq!(Reply::from_wire(&read), Some(reply));
            }
        }
    }

    /// The bytes are a promise to processes of other versions.
    #[test]
    fn the_bytes_are_those_that_were_promised() {
        let reply = Reply {
            code: Code::InsufficientFunds,
            again: true,
            position: 0x0102_0304_0506_0708,
            debit_balance: -2,
            credit_balance: 3,
        };
        let mut bytes = vec![32, 0, 1, 0, 0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1, 0xfe];
        bytes.extend([0xff; 7]);
        bytes.extend([3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(reply.to_wire().as_bytes(), bytes);
    }

    #[test]
    fn what_is_no_answer_is_not_taken_for_one() {
        let right = Reply::refused(Code::Overloaded).to_wire();
        assert!(Reply::from_wire(&right).is_some());
        assert_eq!(Reply::from_wire(&WireReply { code: 0, ..right }), None, "no such code");
        assert_eq!(Reply::from_wire(&WireReply { again: 2, ..right }), None);
        for at in 0..5 {
            let mut wrong = right;
            wrong.zeros[at] = 1;
            assert_eq!(Reply::from_wire(&wrong), None, "byte {at} means nothing yet");
        }
    }
}
