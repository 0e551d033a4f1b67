//! Commands: made here, read here. Which field of [`Command`] an op uses for what is said at its maker.

use pabal_ledger::account::UNLIMITED;
use pabal_ledger::entry::{COMMAND_BYTES, ENCODING, ENTRY_UNITS, flags};
use pabal_ledger::{Class, Code, Command, Date, Id, Kind, Op, Status};
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of a kept record at most; the longest entry is 63 units of 64 bytes.
pub const RECORD_BYTES_MAX: usize = 63 * 64 - COMMAND_BYTES;
/// Holds that one command releases at most.
pub const EXPIRE_MAX: i64 = 1000;
/// Parts of a bundle at most.
pub const BUNDLE_MAX: usize = 1024;

/// Bits of `ChangeAccount`: what is changed.
pub mod change {
    /// The overdraft limit.
    pub const OVERDRAFT: u16 = 1;
    /// The greatest balance.
    pub const CEILING: u16 = 2;
    /// The blocks.
    pub const STATUS: u16 = 4;
}

/// Founds the bank: `capacity` ids in the window, its index keyed with `key`, deciding under `rules`,
/// beginning on `date`.
pub fn found(id: Id, capacity: u32, key: u64, rules: u32, date: Date) -> Command {
    let target = Id { high: rules as u64, low: key };
    Command { amount: capacity as i64, target, value_date: date, ..Command::of(Op::Found, id) }
}

/// Opens an account. Limits in minor units; `UNLIMITED` for none.
pub fn open(id: Id, number: u64, class: Class, currency: u16, holder: u64, overdraft: i64) -> Command {
    Command {
        debit: number,
        credit: holder,
        amount: overdraft,
        target: Id { high: UNLIMITED as u64, low: 0 },
        kind: class as u16,
        currency,
        ..Command::of(Op::OpenAccount, id)
    }
}

/// The same with a greatest balance.
pub fn with_ceiling(mut command: Command, ceiling: i64) -> Command {
    command.target.high = ceiling as u64;
    command
}

/// Changes an account: whatever is given.
pub fn change(
    id: Id,
    number: u64,
    overdraft: Option<i64>,
    ceiling: Option<i64>,
    status: Option<Status>,
) -> Command {
    let mut command = Command { debit: number, ..Command::of(Op::ChangeAccount, id) };
    if let Some(overdraft) = overdraft {
        command.kind |= change::OVERDRAFT;
        command.amount = overdraft;
    }
    if let Some(ceiling) = ceiling {
        command.kind |= change::CEILING;
        command.target.high = ceiling as u64;
    }
    if let Some(status) = status {
        command.kind |= change::STATUS;
        command.target.low = status.0 as u64;
    }
    command
}

/// Closes an empty account.
pub fn close(id: Id, number: u64) -> Command {
    Command { debit: number, ..Command::of(Op::CloseAccount, id) }
}

/// Moves money.
pub fn post(id: Id, kind: Kind, debit: u64, credit: u64, amount: i64, currency: u16) -> Command {
    Command { debit, credit, amount, currency, kind: kind as u16, ..Command::of(Op::Post, id) }
}

/// Reserves money until a time; with no time it backs a leg elsewhere and never ends by itself.
pub fn hold(posting: Command, expires_ms: Option<u64>) -> Command {
    let mut command = posting;
    command.header.op = Op::Hold as u16;
    match expires_ms {
        Some(at) => command.expires_ms = at,
        None => command.header.flags |= flags::BACKED,
    }
    command
}

/// Posts a hold: `amount` of it, or all that is left when zero.
pub fn post_hold(id: Id, hold: Id, amount: i64, release_rest: bool) -> Command {
    let mut command = Command { target: hold, amount, ..Command::of(Op::PostHold, id) };
    if release_rest {
        command.header.flags |= flags::RELEASE;
    }
    command
}

/// Releases a hold.
pub fn void_hold(id: Id, hold: Id) -> Command {
    Command { target: hold, ..Command::of(Op::VoidHold, id) }
}

/// Releases at most `n` holds whose time has passed, oldest ending first.
pub fn expire_holds(id: Id, n: i64) -> Command {
    Command { amount: n, ..Command::of(Op::ExpireHolds, id) }
}

/// Reverses the posting at a position: `amount` of it, or all that is left when zero.
pub fn reverse(id: Id, position: u64, amount: i64) -> Command {
    Command { target: Id { high: 0, low: position }, amount, ..Command::of(Op::Reverse, id) }
}

/// Moves the business date forward.
pub fn advance_date(id: Id, date: Date) -> Command {
    Command { value_date: date, ..Command::of(Op::AdvanceDate, id) }
}

/// Switches to the next version of the rules.
pub fn activate_rules(id: Id, rules: u32) -> Command {
    Command { amount: rules as i64, ..Command::of(Op::ActivateRules, id) }
}

/// Ends a job.
pub fn end_job(id: Id, job: Id) -> Command {
    Command { target: job, ..Command::of(Op::EndJob, id) }
}

/// Keeps a record of a kind under a key. Longer than other commands, so it comes as bytes. None when the
/// record is longer than [`RECORD_BYTES_MAX`].
pub fn keep_record(id: Id, kind: u16, key: u64, record: &[u8]) -> Option<Vec<u8>> {
    if record.len() > RECORD_BYTES_MAX {
        return None;
    }
    let length = (COMMAND_BYTES + record.len()).next_multiple_of(32);
    let mut command = Command {
        amount: record.len() as i64,
        target: Id { high: 0, low: key },
        kind,
        ..Command::of(Op::KeepRecord, id)
    };
    command.header.command_units = (length / 32) as u8;
    let mut bytes = command.as_bytes().to_vec();
    bytes.extend_from_slice(record);
    bytes.resize(length, 0);
    Some(bytes)
}

/// The record in a `KeepRecord` command or entry.
pub fn record_of(entry: &[u8]) -> Option<&[u8]> {
    // What was read from a file need not be aligned.
    let (command, rest) = Command::read_from_prefix(entry).ok()?;
    (command.header.op == Op::KeepRecord as u16)
        .then(|| rest.get(..usize::try_from(command.amount).ok()?))
        .flatten()
}

/// Length in bytes of the command that begins here, from its header alone. None when there is none.
#[inline]
pub fn length(bytes: &[u8]) -> Option<usize> {
    let units = *bytes.get(3)? as usize;
    (units >= COMMAND_BYTES / 32 && units * 32 <= bytes.len()).then_some(units * 32)
}

/// The command in these bytes, checked: known op and version, right length, only flags that it may have.
#[inline]
pub fn read(bytes: &[u8]) -> Result<(Op, &Command), Code> {
    let (command, rest) = Command::ref_from_prefix(bytes).map_err(|_| Code::Malformed)?;
    let h = &command.header;
    let op = Op::from_u16(h.op).ok_or(Code::Malformed)?;
    let record = if op == Op::KeepRecord {
        let length = usize::try_from(command.amount).map_err(|_| Code::Malformed)?;
        if length > RECORD_BYTES_MAX {
            return Err(Code::Malformed);
        }
        length
    } else {
        0
    };
    let length = (COMMAND_BYTES + record).next_multiple_of(32);
    let right = h.version == ENCODING
        && h.command_units as usize * 32 == length
        && bytes.len() == length
        && h.flags & !flags::ALLOWED == 0
        && h.entry_units == 0
        && h.code == 0
        && op != Op::HoldReleased
        && command.id.is_valid()
        && rest.get(record..).is_some_and(|pad| pad.iter().all(|&b| b == 0));
    if right { Ok((op, command)) } else { Err(Code::Malformed) }
}

/// Units of 64 bytes that the entries of this command take at most, checked or not.
#[inline]
pub fn entry_units_max(command: &Command) -> usize {
    const KEEP_RECORD: u16 = Op::KeepRecord as u16;
    const EXPIRE_HOLDS: u16 = Op::ExpireHolds as u16;
    match command.header.op {
        KEEP_RECORD => (command.header.command_units as usize).div_ceil(2).max(ENTRY_UNITS),
        EXPIRE_HOLDS => ENTRY_UNITS * (1 + command.amount.clamp(0, EXPIRE_MAX) as usize),
        _ => ENTRY_UNITS,
    }
}
