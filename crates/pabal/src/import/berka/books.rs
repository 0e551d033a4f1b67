//! The books as the import needs them: what is opened, what is kept, what is posted on which path.

use super::parse::{self, Books as Parsed};
use super::parse_error::ReadError;
use super::tables::{self, Operation, Record, Role, Side, Symbol};
use pabal_bank::ledger::{Class, Kind};
use std::collections::BTreeMap;
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
    pub credit: bool,
    pub kind: Kind,
    pub contra: Class,
    pub amount: i64,
    pub balance: i64,
    pub residual: i64,
    /// Where it stands, for messages.
    pub file: u8,
    pub line: u32,
}

/// A line to be kept: the number of its table, its key, its text.
pub struct Kept {
    pub kind: u16,
    pub key: u64,
    pub text: Vec<u8>,
}

/// Everything.
pub struct Books {
    pub accounts: Vec<Account>,
    pub kept: Vec<Kept>,
    pub clients: usize,
    pub orders: usize,
    pub rows: Vec<Row>,
    pub files: Vec<String>,
    /// Of all files' contents.
    pub digest: [u8; 32],
}

/// Why the books cannot be imported. Nothing was posted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file does not say what it should.
    #[error("{0}; nothing was imported")]
    Read(ReadError),
    /// A number or a day that the ledger has no room for.
    #[error("{0}; nothing was imported")]
    Bounds(String),
}

/// Account numbers and keys below this; the bank's own accounts lie above.
pub const NUMBERS_MAX: u64 = 1_000_000_000_000_000;

/// Reads and checks a folder. Nothing is posted.
pub fn read(dir: &Path) -> Result<Books, Error> {
    let parsed = parse::read(dir, &mut |_| {}).map_err(Error::Read)?;
    let mut owners = BTreeMap::new();
    for disposition in parsed.dispositions.iter().filter(|d| d.role == Role::Owner) {
        owners.insert(disposition.account, disposition.client);
    }
    let mut accounts = BTreeMap::new();
    for a in &parsed.accounts {
        if a.id == 0 || a.id >= NUMBERS_MAX {
            return Err(Error::Bounds(format!("account {}: numbers are from 1 to 15 digits", a.id)));
        }
        let owner = owners.get(&a.id).copied().unwrap_or(0);
        let opened = day(a.opened, "account")?;
        accounts.insert(a.id, Account { number: a.id, opened, overdraft: 0, owner });
    }
    let mut rows = Vec::with_capacity(parsed.rows.len());
    let mut balances: BTreeMap<u64, i64> = BTreeMap::new();
    for row in &parsed.rows {
        let row = Row { date: day(row.date, "transaction")?, ..row_of(row) };
        let Some(account) = accounts.get_mut(&row.account) else {
            return Err(Error::Bounds(format!("account {} of a row is not there", row.account)));
        };
        account.opened = account.opened.min(row.date);
        let balance = balances.entry(row.account).or_default();
        for change in [if row.credit { row.amount } else { -row.amount }, row.residual] {
            let sum = balance.checked_add(change).filter(|sum| sum.checked_neg().is_some());
            *balance = sum.ok_or_else(|| {
                Error::Bounds(format!(
                    "{}: the balance does not fit 64 bits",
                    parsed.place(&parsed.rows[rows.len()])
                ))
            })?;
            account.overdraft = account.overdraft.max(-*balance);
        }
        rows.push(row);
    }
    let mut accounts: Vec<Account> = accounts.into_values().collect();
    accounts.sort_by_key(|a| (a.opened, a.number));
    Ok(Books {
        accounts,
        kept: kept(&parsed),
        clients: parsed.clients.len(),
        orders: parsed.orders.len(),
        rows,
        files: parsed.files.iter().map(|file| file.name.clone()).collect(),
        digest: parsed.digest,
    })
}

fn day(date: tables::Date, what: &str) -> Result<u16, Error> {
    u16::try_from(date.days())
        .map_err(|_| Error::Bounds(format!("{what} on {date}: days are from 1970-01-01 to 2149-06-06")))
}

fn kept(parsed: &Parsed) -> Vec<Kept> {
    fn of<T: Record>(kind: u16, records: &[T]) -> impl Iterator<Item = Kept> {
        records.iter().map(move |r| Kept { kind, key: r.key(), text: r.record_bytes() })
    }
    let mut kept: Vec<Kept> = of(1, &parsed.districts).collect();
    kept.extend(of(2, &parsed.clients));
    kept.extend(of(7, &parsed.accounts));
    kept.extend(of(3, &parsed.dispositions));
    kept.extend(of(4, &parsed.cards));
    kept.extend(of(5, &parsed.loans));
    kept.extend(of(6, &parsed.orders));
    kept
}

/// On which path a row is posted: what `k_symbol` says, else what the operation says. The parser lets no
/// contradiction through.
fn row_of(row: &tables::Row) -> Row {
    let (kind, contra) = match (row.symbol, row.operation) {
        (Symbol::Interest, _) => (Kind::Interest, Class::InterestExpense),
        (Symbol::Pension, _) => (Kind::PensionCredit, Class::Pension),
        (Symbol::Fee, _) => (Kind::Fee, Class::FeeIncome),
        (Symbol::PenaltyInterest, _) => (Kind::PenaltyInterest, Class::PenaltyIncome),
        (Symbol::Household, _) => (Kind::HouseholdPayment, Class::HouseholdPayments),
        (Symbol::Insurance, _) => (Kind::InsurancePayment, Class::Insurance),
        (Symbol::Loan, _) => (Kind::LoanPayment, Class::Loan),
        (Symbol::Leasing, _) => (Kind::TransferOut, Class::Settlement),
        (Symbol::None, Operation::CashIn) => (Kind::CashDeposit, Class::Cash),
        (Symbol::None, Operation::TransferIn) => (Kind::TransferIn, Class::Settlement),
        (Symbol::None, Operation::CashOut) => (Kind::CashWithdrawal, Class::Cash),
        (Symbol::None, Operation::CardOut) => (Kind::CardWithdrawal, Class::Cash),
        (Symbol::None, Operation::TransferOut) => (Kind::TransferOut, Class::Settlement),
        (Symbol::None, Operation::None) => (Kind::SuspenseMove, Class::Suspense),
    };
    Row {
        trans_id: row.trans_id,
        account: row.account,
        date: 0,
        credit: row.side == Side::Credit,
        kind,
        contra,
        amount: row.amount,
        balance: row.balance,
        residual: row.residual,
        file: row.file,
        line: row.line,
    }
}
