//! Reads a folder of the Berka books: nine gzip'd CSV files into typed tables. Nothing is posted here.
//!
//! *Order.* Tables are read so that what a record refers to has been read before it; each record is checked
//! when it is read, and the first thing wrong ends the reading with an error that names it. Only what needs
//! a whole file, the growth of `seq`, is checked at the file's end.
//!
//! *What bounds it.* Bytes of an unpacked file, of a line and of a record are bounded by constants; memory
//! is that of the records.
//!
//! *What it does not do.* It does not hold a row's printed balance against the one before: that is what the
//! import proves in the ledger. It takes nothing from the files it was written with: accounts, days and
//! counts may be any.

use super::parse_error::{Fault, ReadError, shown};
use super::parse_field::{Keys, place};
use super::parse_file::{Line, SourceFile, read_file};
use super::parse_rows::{self as rows, Known};
use super::tables::{Account, Card, Client, Disposition, District, Hellers, Loan, Order, Row};
use std::path::Path;

/// All tables of a folder, each in the order of its file but `rows`.
#[derive(Debug)]
pub struct Books {
    /// `district`.
    pub districts: Vec<District>,
    /// `client`.
    pub clients: Vec<Client>,
    /// `account`.
    pub accounts: Vec<Account>,
    /// `disp`.
    pub dispositions: Vec<Disposition>,
    /// `card`.
    pub cards: Vec<Card>,
    /// `loan`.
    pub loans: Vec<Loan>,
    /// `order`: standing orders.
    pub orders: Vec<Order>,
    /// Both transaction files, by (date, account, seq); no two rows have the same.
    pub rows: Vec<Row>,
    /// The files, in the order in which they were read.
    pub files: Vec<SourceFile>,
    /// BLAKE3 over the files in that order: of each, its name's length (u64, little-endian), its name, its
    /// unpacked length (u64, little-endian) and the BLAKE3 of its unpacked content. The content goes in by
    /// its digest because its length is known only once it has been streamed.
    pub digest: [u8; 32],
}

impl Books {
    /// An error about an amount of a row: in which column it stands.
    pub fn wrong(&self, row: &Row, column: &'static str, amount: i64, fault: Fault) -> ReadError {
        let file = self.files[usize::from(row.file)].name.clone();
        let value = shown(Hellers(amount).to_string().as_bytes());
        ReadError::Field { file, line: row.line, column, value, fault }
    }
}

/// The tables beside the transactions.
const TABLES: [&str; 7] = ["district", "client", "account", "disp", "card", "loan", "order"];
/// How the two transaction files' names begin and end; what is between is free.
const TRANS_PREFIXES: [&str; 2] = ["trans_bank", "trans_loan"];
const SUFFIX: &str = ".csv.gz";

/// Reads and checks the books in `dir`. `progress` hears, after each file, how many bytes of the packed files were
/// read, and how many there are.
pub fn read(dir: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Books, ReadError> {
    let trans = trans_files(dir)?;
    let names = TABLES.iter().map(|table| format!("{table}{SUFFIX}")).chain(trans.iter().cloned());
    let all = names.map(|name| packed(dir, &name)).sum();
    let mut files = Files { dir, progress, done: 0, all, files: Vec::new() };
    let mut known = Known::default();
    let districts = files.table("district", rows::DISTRICT, &mut |line| rows::district(line, &mut known))?;
    let clients = files.table("client", rows::CLIENT, &mut |line| rows::client(line, &mut known))?;
    let accounts = files.table("account", rows::ACCOUNT, &mut |line| rows::account(line, &mut known))?;
    let dispositions = files.table("disp", rows::DISP, &mut |line| rows::disposition(line, &mut known))?;
    let (mut cards, mut loans, mut orders) = (Keys::default(), Keys::default(), Keys::default());
    let cards = files.table("card", rows::CARD, &mut |line| rows::card(line, &mut cards, &known))?;
    let loans = files.table("loan", rows::LOAN, &mut |line| rows::loan(line, &mut loans, &known))?;
    let orders = files.table("order", rows::ORDER, &mut |line| rows::order(line, &mut orders, &known))?;
    let mut trans_ids = Keys::default();
    let mut all: Vec<Row> = Vec::new();
    for name in &trans {
        let before = all.len();
        files.trans(name, &mut all, &mut trans_ids, &known)?;
        check_sequence(name, &all[before..])?;
    }
    let files = files.files;
    all.sort_unstable_by_key(|row| (row.date, row.account, row.seq, row.file));
    check_moments(&files, &all)?;
    let digest = digest(&files);
    Ok(Books { districts, clients, accounts, dispositions, cards, loans, orders, rows: all, files, digest })
}

/// The files read so far.
struct Files<'a> {
    dir: &'a Path,
    progress: &'a mut dyn FnMut(u64, u64),
    /// Bytes of the packed files: read so far, and all.
    done: u64,
    all: u64,
    files: Vec<SourceFile>,
}

impl Files<'_> {
    fn table<T>(
        &mut self,
        table: &str,
        columns: &'static [&'static str],
        record: &mut dyn FnMut(&Line<'_>) -> Result<T, ReadError>,
    ) -> Result<Vec<T>, ReadError> {
        let mut records = Vec::new();
        let file = read_file(self.dir, &format!("{table}{SUFFIX}"), columns, &mut |line| {
            records.push(record(line)?);
            Ok(())
        })?;
        self.done(file);
        Ok(records)
    }

    fn trans(
        &mut self,
        name: &str,
        all: &mut Vec<Row>,
        trans_ids: &mut Keys,
        known: &Known,
    ) -> Result<(), ReadError> {
        let number = self.files.len() as u8; // nine files
        let file = read_file(self.dir, name, rows::TRANS, &mut |line| {
            all.push(rows::row(line, number, trans_ids, known)?);
            Ok(())
        })?;
        self.done(file);
        Ok(())
    }

    fn done(&mut self, file: SourceFile) {
        self.done += packed(self.dir, &file.name);
        (self.progress)(self.done, self.all);
        self.files.push(file);
    }
}

/// Bytes of a packed file; none when it cannot be told, which its reading says better.
fn packed(dir: &Path, name: &str) -> u64 {
    std::fs::metadata(dir.join(name)).map_or(0, |m| m.len())
}

/// The names of the two transaction files.
fn trans_files(dir: &Path) -> Result<Vec<String>, ReadError> {
    let system = |source| ReadError::Io { file: dir.display().to_string(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(system)? {
        // A name that is not UTF-8 is none of ours.
        let Ok(name) = entry.map_err(system)?.file_name().into_string() else { continue };
        if name.starts_with("trans_") && name.ends_with(SUFFIX) {
            names.push(name);
        }
    }
    names.sort_unstable(); // the system lists them in any order
    let pattern = |prefix: &str| format!("{prefix}*{SUFFIX}");
    let mut found = Vec::new();
    for prefix in TRANS_PREFIXES {
        let mut matching = names.iter().filter(|name| name.starts_with(prefix));
        match (matching.next(), matching.next()) {
            (Some(name), None) => found.push(name.clone()),
            (None, _) => return Err(ReadError::Missing { file: pattern(prefix), folder: dir.into() }),
            (Some(first), Some(second)) => {
                let (first, second) = (first.clone(), second.clone());
                return Err(ReadError::Ambiguous { pattern: pattern(prefix), first, second });
            }
        }
    }
    if let Some(file) = names.into_iter().find(|name| !found.contains(name)) {
        let patterns = TRANS_PREFIXES.map(pattern).join(" and ");
        return Err(ReadError::Unexpected { file, patterns });
    }
    Ok(found)
}

/// Along an account's rows of one file, by date, `seq` must grow: it is the only order that a day has.
fn check_sequence(name: &str, rows: &[Row]) -> Result<(), ReadError> {
    let mut order: Vec<&Row> = rows.iter().collect();
    order.sort_unstable_by_key(|row| (row.account, row.date, row.seq, row.line));
    let pairs = order.windows(2).map(|pair| (pair[0], pair[1]));
    let wrong = pairs.filter(|(before, row)| before.account == row.account && before.seq >= row.seq);
    // Of all, the first in the file.
    let Some((before, row)) = wrong.min_by_key(|(_, row)| row.line) else { return Ok(()) };
    let (seq, line) = (before.seq, before.line);
    let fault = Fault::OutOfSequence { before: seq, line, account: row.account };
    Err(seq_error(name, row, fault))
}

/// No two rows of both files may have the same account, date and seq. `rows` are sorted.
fn check_moments(files: &[SourceFile], rows: &[Row]) -> Result<(), ReadError> {
    let moment = |row: &Row| (row.date, row.account, row.seq);
    let twice = rows.windows(2).filter(|pair| moment(&pair[0]) == moment(&pair[1]));
    let Some(pair) = twice.min_by_key(|pair| pair[1].line) else { return Ok(()) };
    let name = |row: &Row| files[usize::from(row.file)].name.as_str();
    let first = place(name(&pair[0]), pair[0].line);
    Err(seq_error(name(&pair[1]), &pair[1], Fault::SameMoment { first }))
}

fn seq_error(file: &str, row: &Row, fault: Fault) -> ReadError {
    let value = shown(row.seq.to_string().as_bytes());
    ReadError::Field { file: file.into(), line: row.line, column: "seq", value, fault }
}

fn digest(files: &[SourceFile]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for file in files {
        hasher.update(&(file.name.len() as u64).to_le_bytes()).update(file.name.as_bytes());
        hasher.update(&file.bytes.to_le_bytes()).update(&file.digest);
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
