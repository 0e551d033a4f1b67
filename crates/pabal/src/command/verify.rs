//! `pabal verify`: the whole journal read, decided again, and compared.

use crate::machine::BankMachine;
use pabal_bank::ledger::Posting;
use pabal_engine::Replay;
use pabal_journal::{Reader, Scanned};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;
use zerocopy::FromBytes;

/// What a replay found.
pub struct Replayed {
    /// The state at the end.
    pub machine: BankMachine,
    /// What the scan found; or what is wrong.
    pub scanned: Result<Scanned, pabal_journal::Error>,
    /// Postings: entries that moved money.
    pub postings: u64,
    /// Whether the sums over all postings are what the accounts say, in each currency.
    pub balanced: bool,
}

/// Files that may stand in a data folder.
fn check_folder(data: &Path) -> Result<(), pabal_journal::Error> {
    let io = |source| pabal_journal::Error::Io { path: data.into(), source };
    for entry in std::fs::read_dir(data).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name();
        if name != pabal_engine::engine::JOURNAL && name != "ring" {
            let what = "does not belong into a data folder";
            return Err(pabal_journal::Error::Folder { file: entry.path(), what });
        }
    }
    Ok(())
}

/// Reads the journal of a data folder and decides everything again. `each` sees every entry and the state
/// after its record.
pub fn replay(
    data: &Path,
    progress: &mut dyn FnMut(u64),
    each: &mut dyn FnMut(u64, &Posting),
) -> Result<Replayed, pabal_journal::Error> {
    check_folder(data)?;
    let dir = data.join(pabal_engine::engine::JOURNAL);
    let reader = Reader::open(&dir)?;
    let mut machine = BankMachine::default();
    let mut postings = 0;
    let mut sums: BTreeMap<(u64, u16), i128> = BTreeMap::new();
    let scanned = {
        let mut replay = Replay::new(&mut machine, Reader::open(&dir)?);
        reader.scan(&mut |record| {
            replay.record(record)?;
            for (position, entry) in record.entries() {
                let Ok((posting, _)) = Posting::read_from_prefix(entry) else { continue };
                if posting.is_booked() {
                    postings += 1;
                    let (o, currency) = (&posting.outcome, posting.outcome.currency);
                    *sums.entry((o.debit.account, currency)).or_default() -= o.amount as i128;
                    *sums.entry((o.credit.account, currency)).or_default() += o.amount as i128;
                }
                each(position.0, &posting);
            }
            progress(record.header.sequence);
            Ok(())
        })
    };
    let mut totals: BTreeMap<u16, i128> = BTreeMap::new();
    let mut balanced = true;
    for account in machine.0.ledger().accounts().iter() {
        *totals.entry(account.currency).or_default() += account.balance as i128;
        let sum = sums.remove(&(account.number, account.currency)).unwrap_or(0);
        balanced &= sum == account.balance as i128;
    }
    balanced &= sums.is_empty() && totals.values().all(|total| *total == 0);
    Ok(Replayed { machine, scanned, postings, balanced })
}

/// The report. The second value says whether all is well.
pub fn run(data: &Path, progress: &mut dyn FnMut(u64)) -> (Value, bool) {
    let begun = Instant::now();
    let replayed = replay(data, progress, &mut |_, _| {});
    let seconds = || (begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
    let mut replayed = match replayed {
        Ok(replayed) => replayed,
        Err(error) => {
            return (
                json!({ "chain": error.to_string(), "outcomes_match": false, "seconds": seconds() }),
                false,
            );
        }
    };
    let accounts = replayed.machine.0.ledger().accounts().len();
    let digest = replayed.machine.0.digest().to_string();
    let (records, chain, cut, orderly, differs) = match &replayed.scanned {
        Ok(s) => (s.records, "ok".to_string(), s.cut, s.orderly, false),
        Err(pabal_journal::Error::Visitor(what)) => (0, what.to_string(), None, false, true),
        Err(error) => (0, error.to_string(), None, false, false),
    };
    let good = replayed.scanned.is_ok() && replayed.balanced;
    let report = json!({
        "records": records,
        "postings": replayed.postings,
        "accounts": accounts,
        "chain": chain,
        "torn_tail": cut.map(|c| json!({
            "sequence": c.sequence, "from_block": c.from_block, "blocks": c.blocks,
        })),
        "orderly_stop": orderly,
        "digest": digest,
        "debits_equal_credits": replayed.balanced,
        "outcomes_match": replayed.scanned.is_ok() && !differs,
        "seconds": seconds(),
    });
    (report, good)
}

/// The state as it was when the business date passed the end of this day.
pub fn replay_until(data: &Path, day: u16) -> Result<BankMachine, pabal_journal::Error> {
    #[derive(Debug, thiserror::Error)]
    #[error("far enough")]
    struct Enough;
    let dir = data.join(pabal_engine::engine::JOURNAL);
    let mut machine = BankMachine::default();
    let mut replay = Replay::new(&mut machine, Reader::open(&dir)?);
    let scanned = Reader::open(&dir)?.scan(&mut |record| {
        if record.header.business_date > day as i32 {
            return Err(Box::new(Enough));
        }
        Ok(replay.record(record)?)
    });
    match scanned {
        Err(pabal_journal::Error::Visitor(error)) if error.is::<Enough>() => Ok(machine),
        Err(error) => Err(error),
        Ok(_) => Ok(machine),
    }
}
