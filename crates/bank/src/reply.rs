//! What the sender of a command hears.

use pabal_fault::{Bug, planted};
use pabal_ledger::entry::COMMAND_BYTES;
use pabal_ledger::{Code, Command, Posting};
use zerocopy::IntoBytes;

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
}
