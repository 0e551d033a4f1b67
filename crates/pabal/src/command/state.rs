//! The state of a bank, read from its files: from the newest good snapshot on, as a start and a reader begin, and the
//! journal after it decided again.
//!
//! *Whose word counts.* The journal's: a snapshot is held against it before it is believed ([`pabal_engine::snapshot`]), a
//! bad one is passed over for an older one, and said; with none left the whole journal is decided again. What lies before
//! the snapshot is not read here: `pabal verify` reads it all.
//!
//! *Beside a running bank.* Nothing is locked and nothing written. What is seen ends with the last record that is
//! confirmed: one that a snapshot is of, or that another one follows.

use super::verify;
use crate::progress::Bar;
use anyhow::Context as _;
use pabal_bank::ledger::{Code, Command, Op};
use pabal_core::BankMachine;
use pabal_engine::{Replay, ReplayError, snapshot};
use pabal_journal::{BLOCK, Error, Position, Reader, Record, Scanned, SystemDisk, UNIT};
use std::collections::BTreeMap;
use std::path::Path;
use zerocopy::FromBytes;

/// A state, and how it was come by.
pub struct State {
    /// The machine that has it.
    pub machine: BankMachine,
    /// What the scan found.
    pub scanned: Scanned,
    /// The record of the snapshot that it began from.
    pub snapshot: Option<u64>,
}

/// The state as it is now. A journal that is not sound after the snapshot is an error: nothing of it is shown.
pub fn now(data: &Path, bar: &Bar) -> anyhow::Result<State> {
    let (machine, scanned, snapshot) = read(data, bar, None)?;
    Ok(State { machine, scanned: scanned.context("read to its end")?, snapshot })
}

/// The state as it was when the business date passed the end of this day, and the record of the snapshot that it began
/// from: the newest that is not of a later day.
pub fn at_the_end_of(data: &Path, bar: &Bar, day: u16) -> anyhow::Result<(BankMachine, Option<u64>)> {
    let (machine, _, snapshot) = read(data, bar, Some(day))?;
    Ok((machine, snapshot))
}

/// Whether debits equal credits in each currency.
pub fn is_balanced(machine: &BankMachine) -> bool {
    let mut totals: BTreeMap<u16, i128> = BTreeMap::new();
    for account in machine.0.ledger().accounts().iter() {
        *totals.entry(account.currency).or_default() += account.balance as i128;
    }
    totals.values().all(|total| *total == 0)
}

/// The machine, what the scan found if it went to the end, and the record of the snapshot.
fn read(
    data: &Path,
    bar: &Bar,
    until: Option<u16>,
) -> anyhow::Result<(BankMachine, Option<Scanned>, Option<u64>)> {
    #[derive(Debug, thiserror::Error)]
    #[error("far enough")]
    struct Enough;
    let dir = verify::journal_of(data)?;
    let reader = || Reader::open(&dir);
    let is_later = |business_date: i32| until.is_some_and(|day| business_date > i32::from(day));
    let empty = BankMachine::default();
    let loaded =
        snapshot::newest_of(&SystemDisk, data, &empty, &reader, &|record| !is_later(record.business_date));
    let after = loaded.as_ref().map(|loaded| loaded.after);
    let (machine, last_ms) = loaded.map_or((empty, 0), |loaded| (loaded.machine, loaded.time_ms));
    let mut replay = Replay::after(machine, reader()?, last_ms);
    let files = reader()?;
    // Only for the bar.
    let end = files.extent().unwrap_or(0);
    let scanned = files.scan_after(after, &mut |record| {
        if !is_later(record.header.business_date) {
            replay.record(record)?;
            bar.at(record.start_block + u64::from(record.header.blocks), end);
            return Ok(());
        }
        // The day ends within this record, or before it.
        if let Some(blocks) = until.and_then(|day| up_to(record, day)) {
            match replay.record(&Record { blocks: &blocks, ..*record }) {
                // The digest is that of the whole record.
                Ok(()) | Err(ReplayError::Digest { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Box::new(Enough))
    });
    let scanned = match scanned {
        Err(Error::Visitor(error)) if error.is::<Enough>() => None,
        scanned => Some(scanned?),
    };
    Ok((replay.into_machine(), scanned, after.map(|after| after.sequence)))
}

/// The blocks of a record without what came after the end of this day; None when the day ended before it.
fn up_to(record: &Record<'_>, day: u16) -> Option<Vec<u8>> {
    let is_next_day = |(_, entry): &(Position, &[u8])| {
        Command::read_from_prefix(entry).is_ok_and(|(command, _)| {
            let h = command.header;
            let begins_a_day = [Op::Found as u16, Op::AdvanceDate as u16].contains(&h.op);
            begins_a_day && h.code == Code::Done as u16 && command.value_date.0 > day
        })
    };
    let (position, _) = record.entries().find(is_next_day)?;
    let block = (position.block() - record.start_block) as usize;
    let mut blocks = record.blocks[..(block + 1) * BLOCK].to_vec();
    blocks[block * BLOCK + position.unit() * UNIT..].fill(0);
    Some(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pabal_bank::command;
    use pabal_bank::ledger::{Class, Id, Kind};
    use pabal_engine::{Commands, Engine, EngineConfig, Fold, Lane, Request, RequestHeader, TimeSource};
    use pabal_journal::JournalConfig;
    use std::sync::Arc;
    use zerocopy::IntoBytes;

    /// What others sent in the batch in which the business date moved on is on the right side of it.
    #[test]
    fn the_end_of_a_day_can_be_within_a_record() {
        let data = tempfile::tempdir().expect("a folder");
        let config = || EngineConfig {
            journal: JournalConfig { segment_blocks: 64, ..JournalConfig::default() },
            journal_id: 1,
            time: TimeSource::Carried,
        };
        let mut snapshots = Vec::new();
        const DAY: u16 = 20_000;
        let now_ms = DAY as u64 * 86_400_000;
        let id = |n: u64| Id::new(now_ms, 0, n << 2);
        let hold = |n, amount| {
            let rent = command::post(id(n), Kind::Transfer, 1, 2, amount, 410);
            command::hold(rent, None)
        };
        let open = |n, number| command::open(id(n), number, Class::CustomerDeposit, 410, 1, 10_000);
        // With many small entries in front, so that the day also ends in a later block than the first.
        for (round, before) in [(0u64, 0u64), (1, 100)] {
            let (engine, _) = Engine::start(data.path(), BankMachine::default(), config(), &mut |_| {})
                .expect("a bank that opens");
            let mut sent = Commands::new();
            let mut commands = vec![];
            if round == 0 {
                let date = pabal_bank::ledger::Date(DAY);
                commands.extend([command::found(id(1), 10_000, 7, 2, date), open(2, 1), open(3, 2)]);
            }
            let at = 1_000 * (round + 1);
            commands.extend((0..before).map(|n| hold(at + n, 1)));
            commands.push(hold(at + 200, 500));
            let tomorrow = pabal_bank::ledger::Date(DAY + 1 + round as u16);
            commands.push(command::advance_date(id(at + 201), tomorrow));
            commands.push(hold(at + 202, 70));
            commands.push(command::void_hold(id(at + 203), id(at + 200)));
            commands.iter().for_each(|command| sent.push(command.as_bytes()));
            let header = RequestHeader { time_ms: now_ms, ..RequestHeader::new(Lane::Online, 1) };
            let response = engine.submit(Request { header, commands: sent }).wait().expect("answered");
            assert!(response.replies.iter().all(|reply| reply.code == Code::Done));
            engine.stop().expect("an orderly stop");
            let disk = Arc::new(SystemDisk);
            let fold = Fold::open(disk, data.path(), BankMachine::default(), &mut |_| {}).expect("sound");
            snapshots.push(fold.snapshot().expect("made").expect("something is new").sequence);
        }
        let held = |day| {
            let (then, from) = at_the_end_of(data.path(), &Bar::hidden(), day).expect("sound");
            (then.0.ledger().account(1).map(|account| account.held), from)
        };
        let sums = [None, Some(500), Some(70 + 100 + 500), Some(70 + 100 + 70)];
        let days = [DAY - 1, DAY, DAY + 1, DAY + 2];
        let [first, second] = [Some(snapshots[0]), Some(snapshots[1])];
        let from = [None, None, first, second];
        assert_eq!(days.map(held), std::array::from_fn(|i| (sums[i], from[i])));
        std::fs::remove_dir_all(data.path().join(snapshot::SNAPSHOTS)).expect("removed");
        assert_eq!(days.map(held), sums.map(|sum| (sum, None)), "the same without any");
    }
}
