//! The books as the import needs them: what is opened, what is kept, what is posted on which path.

use super::parse::{self, Books as Parsed};
use super::parse_error::{Fault, ReadError};
use super::tables::{self, Operation, Record, Role, Side, Symbol};
use crate::progress::Bar;
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
#[error("{0}; nothing was imported")]
pub struct Error(ReadError);

/// Reads and checks a folder. Nothing is posted.
pub fn read(dir: &Path, bar: &Bar) -> Result<Books, Error> {
    bar.begin("reading");
    let parsed = parse::read(dir, &mut |done, all| bar.at(done, all)).map_err(Error)?;
    let mut owners = BTreeMap::new();
    for disposition in parsed.dispositions.iter().filter(|d| d.role == Role::Owner) {
        owners.insert(disposition.account, disposition.client);
    }
    let mut accounts = BTreeMap::new();
    for a in &parsed.accounts {
        let owner = owners.get(&a.id).copied().unwrap_or(0);
        accounts.insert(a.id, Account { number: a.id, opened: day(a.opened), overdraft: 0, owner });
    }
    let mut rows = Vec::with_capacity(parsed.rows.len());
    let mut balances = Balances::default();
    for printed in &parsed.rows {
        let row = Row { date: day(printed.date), ..row_of(printed) };
        let account = accounts.get_mut(&row.account).expect("the parser looked every account up");
        account.opened = account.opened.min(row.date);
        let signed = if row.credit { row.amount } else { -row.amount };
        for (column, amount, change, contra) in [
            ("amount", row.amount, signed, row.contra),
            ("resid", row.residual, row.residual, Class::Rounding),
        ] {
            let balance = balances.post(row.account, contra, change).map_err(|whose| {
                Error(parsed.wrong(printed, column, amount, Fault::BalanceTooLarge { whose }))
            })?;
            account.overdraft = account.overdraft.max(-balance);
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

/// Days since 1970; the parser let no other day through.
fn day(date: tables::Date) -> u16 {
    date.days() as u16
}

/// What the balances will be, so that no posting can be refused for want of bits in the middle of an import.
#[derive(Default)]
struct Balances {
    customers: BTreeMap<u64, i64>,
    /// The bank's own, one account a class.
    own: BTreeMap<Class, i64>,
}

impl Balances {
    /// Into the account from the bank's own, or the other way; gives the account's new balance. An error is
    /// whose balance has no room for it.
    fn post(&mut self, account: u64, contra: Class, change: i64) -> Result<i64, String> {
        let own = self.own.entry(contra).or_default();
        *own = fitting(own.checked_sub(change)).ok_or_else(|| format!("the bank's own {}", contra.name()))?;
        let balance = self.customers.entry(account).or_default();
        *balance = fitting(balance.checked_add(change)).ok_or_else(|| format!("account {account}"))?;
        Ok(*balance)
    }
}

/// Overdraft limits are balances with the sign turned round, which the least of all numbers has not.
fn fitting(balance: Option<i64>) -> Option<i64> {
    balance.filter(|balance| *balance != i64::MIN)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_balance_without_room_is_found_on_either_side() {
        let mut balances = Balances::default();
        assert_eq!(balances.post(1, Class::Cash, i64::MAX), Ok(i64::MAX));
        assert_eq!(balances.post(2, Class::Cash, 1), Err("the bank's own cash".to_string()));
        let mut balances = Balances::default();
        assert_eq!(balances.post(1, Class::Cash, i64::MAX - 1), Ok(i64::MAX - 1));
        assert_eq!(balances.post(1, Class::Pension, 1), Ok(i64::MAX));
        assert_eq!(balances.post(1, Class::Pension, 1), Err("account 1".to_string()));
    }
}
