//! `pabal verify`: the whole journal read, decided again, and compared.

use super::core::SOCKET;
use super::reader::READER_SOCKET;
use super::sums::{Adding, Movement, Sums};
use crate::progress::Bar;
use anyhow::{Context as _, bail};
use pabal_bank::ledger::Posting;
use pabal_core::BankMachine;
use pabal_core::credentials::CREDENTIALS;
use pabal_core::read::ReadError;
use pabal_engine::engine::JOURNAL;
use pabal_engine::snapshot::SNAPSHOTS;
use pabal_engine::{Replay, ReplayError};
use pabal_journal::{BLOCK, Error, Reader, Record, Scanned};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;
use zerocopy::FromBytes;

/// What the replay of a sound journal gives.
pub struct Replayed {
    /// The state at the end.
    pub machine: BankMachine,
    /// What the scan found.
    pub scanned: Scanned,
    /// Postings: entries that moved money.
    pub postings: u64,
    /// Whether the sums over all postings are what the accounts say, in each currency.
    pub balanced: bool,
}

/// What stands in a data folder.
const BELONGS: [&str; 6] = [JOURNAL, "ring", SNAPSHOTS, CREDENTIALS, SOCKET, READER_SOCKET];

/// The journal of a data folder; what else may stand there is checked.
pub fn journal_of(data: &Path) -> anyhow::Result<PathBuf> {
    let shown = data.display();
    let entries = match std::fs::read_dir(data) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("{shown}: there is no such folder; name the data folder with --data")
        }
        entries => entries.with_context(|| shown.to_string())?,
    };
    let dir = data.join(JOURNAL);
    if !dir.is_dir() {
        bail!("{shown}: is not a data folder, it has no {JOURNAL}/ in it; name the data folder with --data");
    }
    // As a start leaves it that is making its first segment, or was killed at it: nothing is lost.
    let begun = std::fs::read_dir(&dir)
        .with_context(|| dir.display().to_string())?
        .any(|entry| entry.is_ok_and(|e| e.path().extension().is_none_or(|e| e != "tmp")));
    if !begun {
        bail!("{shown}: nothing was written to it yet; start the bank on it, or import into it");
    }
    for entry in entries {
        let entry = entry.with_context(|| shown.to_string())?;
        let name = entry.file_name();
        if !BELONGS.iter().any(|known| name == *known) {
            let what = "does not belong into a data folder; move it elsewhere";
            return Err(Error::Folder { file: entry.path(), what }.into());
        }
    }
    Ok(dir)
}

/// Whether a data folder holds a journal; false where a bank may make its own. What holds something else
/// is an error: a bank must not mix its files with others, which `verify` would find strange ever after.
pub fn holds_a_journal(data: &Path) -> anyhow::Result<bool> {
    let shown = data.display();
    if data.join(JOURNAL).join("000000000000.seg").exists() {
        return Ok(true);
    }
    let entries = match std::fs::read_dir(data) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        entries => entries.with_context(|| shown.to_string())?,
    };
    for entry in entries {
        let name = entry.with_context(|| shown.to_string())?.file_name();
        // Both may be there without a segment: the start was killed before its first one was whole.
        if !BELONGS.iter().any(|known| name == *known) {
            bail!("{shown}: is neither empty nor a data folder; name another with --data");
        }
    }
    Ok(false)
}

/// Makes a data folder where there is none.
pub fn make_folder(data: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(data).with_context(|| format!("{}: cannot be made", data.display()))
}

/// Whether this error says that a data folder was checked and is wrong, rather than that it could not be
/// checked.
pub fn is_wrong(error: &anyhow::Error) -> bool {
    let journal = match error.downcast_ref::<pabal_engine::Error>() {
        Some(pabal_engine::Error::Journal(error)) => Some(error),
        _ => match error.downcast_ref::<ReadError>() {
            Some(ReadError::Journal(error)) => Some(error),
            Some(ReadError::Link(_)) => return true,
            None => error.downcast_ref::<Error>(),
        },
    };
    match journal {
        Some(error) => condemns(error),
        None => error.is::<Unbalanced>(),
    }
}

/// Whether this says that the journal is wrong, and not only that it could not be read now.
fn condemns(error: &Error) -> bool {
    match error {
        Error::Rotten { .. } | Error::Folder { .. } => true,
        Error::Visitor(error) => match error.downcast_ref() {
            Some(error) => condemns(error),
            None => !matches!(error.downcast_ref(), Some(ReplayError::RulesUnknown { .. })),
        },
        _ => false,
    }
}

/// What becomes of a record that was shown.
type Seen = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Shows each record of a journal, and how far it is.
fn scan(dir: &Path, bar: &Bar, each: &mut dyn FnMut(&Record<'_>) -> Seen) -> Result<Scanned, Error> {
    let reader = Reader::open(dir)?;
    // Only for the bar: what is wrong with the journal, the scan says better.
    let end = reader.extent().unwrap_or(0);
    reader.scan(&mut |record| {
        each(record)?;
        bar.at(record.start_block + (record.blocks.len() / BLOCK) as u64, end);
        Ok(())
    })
}

/// Where an entry stands.
#[derive(Clone, Copy)]
pub struct At {
    /// The record.
    pub sequence: u64,
    /// The entry's own place.
    pub position: u64,
}

/// Reads the journal of a data folder and decides everything again. `each` sees every entry after its
/// record was. A journal that is not sound is an error: nothing of it is shown.
pub fn replay(data: &Path, bar: &Bar, each: &mut dyn FnMut(At, &Posting)) -> anyhow::Result<Replayed> {
    examine(data, bar, each, &mut 0)
}

/// The same; `read` becomes the last record that was found sound and right.
fn examine(
    data: &Path,
    bar: &Bar,
    each: &mut dyn FnMut(At, &Posting),
    read: &mut u64,
) -> anyhow::Result<Replayed> {
    let dir = journal_of(data)?;
    let mut postings = 0;
    let mut replay = Replay::new(BankMachine::default(), Reader::open(&dir)?);
    let (scanned, mut sums) = std::thread::scope(|scope| -> Result<(Scanned, Sums), Error> {
        let mut adding = Adding::begin(scope);
        let scanned = scan(&dir, bar, &mut |record| {
            replay.record(record)?;
            for (position, entry) in record.entries() {
                let Ok((posting, _)) = Posting::read_from_prefix(entry) else { continue };
                if posting.is_booked() {
                    postings += 1;
                    let (o, currency) = (&posting.outcome, posting.outcome.currency);
                    adding.add(Movement {
                        account: o.debit.account,
                        currency,
                        amount: o.amount,
                        is_debit: true,
                    });
                    adding.add(Movement {
                        account: o.credit.account,
                        currency,
                        amount: o.amount,
                        is_debit: false,
                    });
                }
                each(At { sequence: record.header.sequence, position: position.0 }, &posting);
            }
            *read = record.header.sequence;
            Ok(())
        })?;
        Ok((scanned, adding.end()))
    })?;
    let machine = replay.into_machine();
    let mut totals: BTreeMap<u16, i128> = BTreeMap::new();
    let mut balanced = true;
    for account in machine.0.ledger().accounts().iter() {
        *totals.entry(account.currency).or_default() += account.balance as i128;
        balanced &= sums.take(account.number, account.currency) == account.balance as i128;
    }
    balanced &= sums.are_taken() && totals.values().all(|total| *total == 0);
    Ok(Replayed { machine, scanned, postings, balanced })
}

/// The report. The second value says whether all is well. What was not found out is null.
pub fn run(data: &Path, bar: &Bar) -> anyhow::Result<(Value, bool)> {
    let begun = Instant::now();
    bar.begin("verifying");
    let mut read = 0;
    let examined = examine(data, bar, &mut |_, _| {}, &mut read);
    let (mut report, good) = match examined {
        Ok(replayed) => sound(replayed),
        Err(error) if is_wrong(&error) => (wrong(data, bar, &error), false),
        Err(error) => return Err(error),
    };
    report["up_to_record"] = json!(read);
    report["seconds"] = json!((begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0);
    Ok((report, good))
}

fn sound(mut replayed: Replayed) -> (Value, bool) {
    let (bank, s) = (&mut replayed.machine.0, &replayed.scanned);
    let report = json!({
        "records": s.records,
        "postings": replayed.postings,
        "accounts": bank.ledger().accounts().len(),
        "chain": "ok",
        "torn_tail": s.cut.map(|c| json!({
            "sequence": c.sequence, "from_block": c.from_block, "blocks": c.blocks,
        })),
        "orderly_stop": s.orderly,
        "being_written": s.writer_lives,
        "digest": bank.digest().to_string(),
        "debits_equal_credits": replayed.balanced,
        "outcomes_match": true,
        "wrong": (!replayed.balanced).then(|| Unbalanced.to_string()),
    });
    (report, replayed.balanced)
}

/// What is left to say of a journal that is not sound, or does not say what deciding it again gives.
fn wrong(data: &Path, bar: &Bar, error: &anyhow::Error) -> Value {
    // What an entry says has nothing to do with whether the bytes are those that were written.
    let differs = matches!(error.downcast_ref(), Some(Error::Visitor(_)));
    let chain = if differs { Some(scan(&data.join(JOURNAL), bar, &mut |_| Ok(()))) } else { None };
    let scanned = chain.as_ref().and_then(|chain| chain.as_ref().ok());
    json!({
        "records": scanned.map(|s| s.records),
        "postings": null,
        "accounts": null,
        "chain": match &chain {
            None => error.to_string(),
            Some(Ok(_)) => "ok".to_string(),
            Some(Err(broken)) => broken.to_string(),
        },
        "torn_tail": null,
        "orderly_stop": scanned.map(|s| s.orderly),
        "being_written": scanned.map(|s| s.writer_lives),
        "digest": null,
        "debits_equal_credits": null,
        "outcomes_match": differs.then_some(false),
        "wrong": if differs { format!("{error}; {DIFFERS}") } else { error.to_string() },
    })
}

/// The books of a bank do not balance.
#[derive(Debug, thiserror::Error)]
#[error(
    "the accounts are not the sums of their postings, or debits are not equal to credits; stop this bank \
     and call whoever looks after the program"
)]
pub struct Unbalanced;

const DIFFERS: &str = "verify with the release that wrote it; if that says the same, restore the journal \
     from a copy";

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that fails while records are decided again says nothing of what stands on it.
    #[test]
    fn what_could_not_be_read_is_not_wrong() {
        let failed = || Error::Io { path: "a segment".into(), source: std::io::ErrorKind::Other.into() };
        let rotten = || Error::Rotten { file: "a segment".into(), offset: 0, what: "rotten" };
        let within = |error: Error| pabal_engine::Error::Journal(Error::Visitor(Box::new(error)));
        assert!(!is_wrong(&failed().into()));
        assert!(!is_wrong(&within(failed()).into()));
        assert!(is_wrong(&rotten().into()));
        assert!(is_wrong(&within(rotten()).into()));
    }

    /// 10,000 positions over all files of a bank that was stopped in order, space not used yet included: a bit of
    /// each is turned over, and what `pabal verify` runs must say that it is wrong, and where.
    #[test]
    fn after_an_orderly_stop_a_flip_of_any_byte_of_any_file_is_found() {
        use std::os::unix::fs::FileExt;
        const BYTES: u64 = 64 * BLOCK as u64;
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/rules-1-then-2.gz");
        let mut bytes = Vec::new();
        let packed = std::fs::File::open(path).expect("a kept journal");
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(packed), &mut bytes).expect("packed");
        let data = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(data.path().join(JOURNAL)).expect("a folder");
        let name = |i: usize| data.path().join(JOURNAL).join(format!("{i:012}.seg"));
        let files: Vec<_> = bytes
            .chunks(BYTES as usize)
            .enumerate()
            .map(|(i, segment)| {
                std::fs::write(name(i), segment).expect("written");
                let file = std::fs::OpenOptions::new().read(true).write(true).open(name(i));
                (name(i), file.expect("a segment"))
            })
            .collect();
        let verified = || run(data.path(), &Bar::hidden()).expect("a data folder");
        assert!(verified().1, "sound before");
        // The positions are spread evenly over all files, each somewhere in its stretch.
        let (all, mut random) = (BYTES * files.len() as u64, 0x9e37_79b9_7f4a_7c15u64);
        for i in 0..10_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let stretch = all / 10_000;
            let place = i * stretch + (random >> 33) % stretch;
            let ((path, file), at) = (&files[(place / BYTES) as usize], place % BYTES);
            let mut was = [0];
            file.read_exact_at(&mut was, at).expect("read");
            file.write_all_at(&[was[0] ^ 1 << (random >> 61)], at).expect("turned over");
            let (report, good) = verified();
            let chain = report["chain"].as_str().expect("where");
            let named = format!("{}, byte {}", path.display(), at - at % BLOCK as u64);
            assert!(!good && chain.starts_with(&named), "{}, byte {at}: {report}", path.display());
            file.write_all_at(&was, at).expect("put back");
        }
        assert!(verified().1, "sound after");
    }
}
