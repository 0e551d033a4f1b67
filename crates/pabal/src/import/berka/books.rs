//! The books as they are read: all tables, all rows, checked against one another.

use super::csv::{Line, ReadError, Table};
use pabal_bank::ledger::{Class, Kind};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// An account as it is to be opened.
pub struct Account {
    pub number: u64,
    /// Days since 1970: when it was opened, or its first row if that is earlier.
    pub opened: u16,
    /// What the printed balances need of overdraft, hellers.
    pub overdraft: i64,
    pub owner: u64,
}

/// One printed row.
pub struct Row {
    pub trans_id: u64,
    pub account: u64,
    pub date: u16,
    pub seq: u64,
    pub credit: bool,
    pub kind: Kind,
    pub contra: Class,
    pub amount: i64,
    pub balance: i64,
    pub residual: i64,
    pub file: usize,
    pub line: u64,
}

/// A line to be kept.
pub struct Kept {
    pub kind: u16,
    pub key: u64,
    pub text: String,
}

/// Everything.
pub struct Books {
    pub accounts: Vec<Account>,
    pub kept: Vec<Kept>,
    pub clients: u64,
    pub orders: u64,
    pub rows: Vec<Row>,
    pub files: Vec<String>,
    /// Of all files' contents.
    pub digest: [u8; 32],
}

const TRANS: &[&str] = &[
    "trans_id",
    "account_id",
    "date",
    "seq",
    "type",
    "operation",
    "amount",
    "balance",
    "k_symbol",
    "bank",
    "account",
    "resid",
];
const DISTRICT: &[&str] =
    &["A1", "A2", "A3", "A4", "A5", "A6", "A7", "A8", "A9", "A10", "A11", "A12", "A13", "A14", "A15", "A16"];

/// Reads and checks a folder. Nothing is posted.
pub fn read(dir: &Path) -> Result<Books, ReadError> {
    let mut hasher = blake3::Hasher::new();
    let mut table = |name: &str, columns| Table::read(dir, &format!("{name}.csv.gz"), columns, &mut hasher);
    let district = table("district", DISTRICT)?;
    let client = table("client", &["client_id", "birth_number", "district_id"])?;
    let account = table("account", &["account_id", "district_id", "frequency", "date"])?;
    let disp = table("disp", &["disp_id", "client_id", "account_id", "type"])?;
    let card = table("card", &["card_id", "disp_id", "type", "issued"])?;
    let loan = table("loan", &["loan_id", "account_id", "date", "amount", "duration", "payments", "status"])?;
    let order = table("order", &["order_id", "account_id", "bank_to", "account_to", "amount", "k_symbol"])?;
    let mut trans = Vec::new();
    for prefix in ["trans_bank", "trans_loan"] {
        let name = file_with(dir, prefix)?;
        trans.push(table(&name, TRANS)?);
    }

    let mut kept = Vec::new();
    let districts = keys(&district, "A1", 1, &mut kept, |l| {
        for column in &DISTRICT[3..] {
            let text = l.text(column);
            let number =
                text == "?" || (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
            if !number {
                return Err(l.wrong(column, "is neither a number nor ?"));
            }
        }
        Ok(())
    })?;
    let clients = keys(&client, "client_id", 2, &mut kept, |l| {
        birth_number(l)?;
        refers(l, "district_id", &districts, "district")
    })?;
    let numbers = keys(&account, "account_id", 7, &mut kept, |l| {
        l.one_of(
            "frequency",
            &[("POPLATEK MESICNE", ()), ("POPLATEK TYDNE", ()), ("POPLATEK PO OBRATU", ())],
        )?;
        l.date("date")?;
        refers(l, "district_id", &districts, "district")
    })?;
    let mut owners = BTreeMap::new();
    let disps = keys(&disp, "disp_id", 3, &mut kept, |l| {
        refers(l, "client_id", &clients, "client")?;
        refers(l, "account_id", &numbers, "account")?;
        if l.one_of("type", &[("OWNER", true), ("DISPONENT", false)])? {
            owners.insert(l.number("account_id")?, l.number("client_id")?);
        }
        Ok(())
    })?;
    keys(&card, "card_id", 4, &mut kept, |l| {
        l.one_of("type", &[("junior", ()), ("classic", ()), ("gold", ())])?;
        l.date("issued")?;
        refers(l, "disp_id", &disps, "disposition")
    })?;
    keys(&loan, "loan_id", 5, &mut kept, |l| {
        l.date("date")?;
        l.amount("amount")?;
        l.number("duration")?;
        l.amount("payments")?;
        l.one_of("status", &[("A", ()), ("B", ()), ("C", ()), ("D", ())])?;
        refers(l, "account_id", &numbers, "account")
    })?;
    let orders = keys(&order, "order_id", 6, &mut kept, |l| {
        l.amount("amount")?;
        l.one_of("k_symbol", &[("", ()), ("SIPO", ()), ("POJISTNE", ()), ("UVER", ()), ("LEASING", ())])?;
        refers(l, "account_id", &numbers, "account")
    })?;

    let rows = read_rows(&trans, &numbers)?;
    let mut accounts = BTreeMap::new();
    for l in account.lines() {
        let number = l.number("account_id")?;
        let owner = owners.get(&number).copied().unwrap_or(0);
        accounts.insert(number, Account { number, opened: l.date("date")?, overdraft: 0, owner });
    }
    let mut balances: BTreeMap<u64, i64> = BTreeMap::new();
    for row in &rows {
        let account = accounts.get_mut(&row.account).expect("references were checked");
        account.opened = account.opened.min(row.date);
        let balance = balances.entry(row.account).or_default();
        for change in [if row.credit { row.amount } else { -row.amount }, row.residual] {
            *balance += change;
            account.overdraft = account.overdraft.max(-*balance);
        }
    }
    let mut accounts: Vec<Account> = accounts.into_values().collect();
    accounts.sort_by_key(|a| (a.opened, a.number));
    Ok(Books {
        accounts,
        kept,
        clients: clients.len() as u64,
        orders: orders.len() as u64,
        rows,
        files: trans.iter().map(|t| t.name.clone()).collect(),
        digest: *hasher.finalize().as_bytes(),
    })
}

/// The one file whose name begins so, without its ending.
fn file_with(dir: &Path, prefix: &str) -> Result<String, ReadError> {
    let wrong = |what: &str| ReadError::File { file: format!("{prefix}*.csv.gz"), what: what.into() };
    let entries = std::fs::read_dir(dir)
        .map_err(|e| ReadError::File { file: dir.display().to_string(), what: e.to_string() })?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|e| e.file_name().to_string_lossy().strip_suffix(".csv.gz").map(str::to_string))
        .filter(|name| name.starts_with(prefix))
        .collect();
    match (names.pop(), names.is_empty()) {
        (Some(name), true) => Ok(name),
        (Some(_), false) => Err(wrong("more than one file has such a name")),
        (None, _) => Err(wrong("missing")),
    }
}

fn keys(
    table: &Table,
    column: &str,
    kind: u16,
    kept: &mut Vec<Kept>,
    mut check: impl FnMut(&Line<'_>) -> Result<(), ReadError>,
) -> Result<BTreeSet<u64>, ReadError> {
    let mut keys = BTreeSet::new();
    for line in table.lines() {
        let key = line.number(column)?;
        if !keys.insert(key) {
            return Err(line.wrong(column, "stands in an earlier line too"));
        }
        check(&line)?;
        let text = line.whole();
        if text.len() > pabal_bank::command::RECORD_BYTES_MAX {
            return Err(line.wrong(column, "begins a line that is too long to keep"));
        }
        kept.push(Kept { kind, key, text });
    }
    Ok(keys)
}

fn refers(line: &Line<'_>, column: &str, keys: &BTreeSet<u64>, what: &str) -> Result<(), ReadError> {
    if keys.contains(&line.number(column)?) {
        Ok(())
    } else {
        Err(line.wrong(column, format!("names no {what} of its table")))
    }
}

/// YYMMDD; for women 50 is added to the month.
fn birth_number(line: &Line<'_>) -> Result<(), ReadError> {
    let text = line.text("birth_number");
    let part = |from: usize| text.get(from..from + 2).and_then(|p| p.parse::<u8>().ok());
    let good = text.len() == 6
        && text.bytes().all(|b| b.is_ascii_digit())
        && part(2).is_some_and(|m| (1..=12).contains(&m) || (51..=62).contains(&m))
        && part(4).is_some_and(|d| (1..=31).contains(&d));
    if good { Ok(()) } else { Err(line.wrong("birth_number", "is not YYMMDD, the month plus 50 for women")) }
}

fn read_rows(tables: &[Table], accounts: &BTreeSet<u64>) -> Result<Vec<Row>, ReadError> {
    let mut rows: Vec<Row> = Vec::new();
    let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
    for (file, table) in tables.iter().enumerate() {
        for line in table.lines() {
            let row = read_row(&line, file, accounts)?;
            if !ids.insert(row.trans_id) {
                return Err(line.wrong("trans_id", "stands in an earlier line too"));
            }
            if !places.insert((row.account, row.date, row.seq)) {
                return Err(line.wrong("seq", "stands in an earlier line of this account and day too"));
            }
            rows.push(row);
        }
    }
    rows.sort_by_key(|row| (row.date, row.account, row.seq));
    Ok(rows)
}

fn read_row(line: &Line<'_>, file: usize, accounts: &BTreeSet<u64>) -> Result<Row, ReadError> {
    let trans_id = line.number("trans_id")?;
    refers(line, "account_id", accounts, "account")?;
    let credit = line.one_of("type", &[("PRIJEM", true), ("VYDAJ", false), ("VYBER", false)])?;
    let cash = (Kind::CashWithdrawal, Class::Cash);
    // Whether it is a credit, and what it is when k_symbol does not say more.
    type Operation = (bool, Option<(Kind, Class)>);
    let operations: &[(&str, Operation)] = &[
        ("VKLAD", (true, Some((Kind::CashDeposit, Class::Cash)))),
        ("PREVOD Z UCTU", (true, Some((Kind::TransferIn, Class::Settlement)))),
        ("", (true, None)),
        ("VYBER", (false, Some(cash))),
        ("VYBER KARTOU", (false, Some((Kind::CardWithdrawal, Class::Cash)))),
        ("PREVOD NA UCET", (false, Some((Kind::TransferOut, Class::Settlement)))),
    ];
    let (enters, usual) = line.one_of("operation", operations)?;
    if enters != credit || (line.text("type") == "VYBER" && usual != Some(cash)) {
        return Err(line.wrong("operation", format!("does not go with type {}", line.text("type"))));
    }
    type Symbol = Option<(bool, Kind, Class)>;
    let symbols: &[(&str, Symbol)] = &[
        ("", None),
        ("UROK", Some((true, Kind::Interest, Class::InterestExpense))),
        ("DUCHOD", Some((true, Kind::PensionCredit, Class::Pension))),
        ("SLUZBY", Some((false, Kind::Fee, Class::FeeIncome))),
        ("SANKC. UROK", Some((false, Kind::PenaltyInterest, Class::PenaltyIncome))),
        ("SIPO", Some((false, Kind::HouseholdPayment, Class::HouseholdPayments))),
        ("POJISTNE", Some((false, Kind::InsurancePayment, Class::Insurance))),
        ("UVER", Some((false, Kind::LoanPayment, Class::Loan))),
        ("LEASING", Some((false, Kind::TransferOut, Class::Settlement))),
    ];
    let (kind, contra) = match (line.one_of("k_symbol", symbols)?, usual) {
        (Some((into, kind, class)), _) if into == credit => (kind, class),
        (Some(_), _) => {
            return Err(line.wrong("k_symbol", format!("does not go with type {}", line.text("type"))));
        }
        (None, Some(usual)) => usual,
        (None, None) => return Err(line.wrong("operation", "is only left out where k_symbol says why")),
    };
    let amount = line.amount("amount")?;
    if amount < 0 {
        return Err(line.wrong("amount", "is negative; the type says which way it goes"));
    }
    Ok(Row {
        trans_id,
        account: line.number("account_id")?,
        date: line.date("date")?,
        seq: line.number("seq")?,
        credit,
        kind,
        contra,
        amount,
        balance: line.amount("balance")?,
        residual: line.amount("resid")?,
        file,
        line: line.number,
    })
}
