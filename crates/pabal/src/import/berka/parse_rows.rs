//! From a line to a record: one function for each table, its columns above it.

use super::parse_error::{Fault, ReadError};
use super::parse_field::{Keys, listed, worded};
use super::parse_file::Line;
use super::tables::{
    Account, Card, Client, Disposition, District, Loan, Operation, Order, Row, Side, Symbol, Type,
};

/// The numbers that other tables may refer to.
#[derive(Default)]
pub(super) struct Known {
    districts: Keys,
    clients: Keys,
    accounts: Keys,
    dispositions: Keys,
}

type Columns = &'static [&'static str];

pub(super) const TRANS: Columns = &[
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

pub(super) fn row(line: &Line<'_>, file: u8, keys: &mut Keys, known: &Known) -> Result<Row, ReadError> {
    let mut fields = line.fields();
    let trans_id = fields.next()?.key(keys)?;
    let account = fields.next()?.reference(&known.accounts)?;
    let date = fields.next()?.day()?;
    let seq = fields.next()?.number_u32()?;
    let kind_in: Type = fields.next()?.code()?;

    let field = fields.next()?;
    let operation: Operation = field.code()?;
    let with = || format!("type {}", worded(kind_in));
    let operations = operations_of(kind_in);
    if !operations.contains(&operation) {
        return Err(field.wrong(Fault::Contradiction { with: with(), expected: listed(operations) }));
    }

    let amount = fields.next()?.amount()?;
    let balance = fields.next()?.signed_amount()?;

    let field = fields.next()?;
    let symbol: Symbol = field.code()?;
    let symbols = symbols_of(kind_in, operation);
    if !symbols.contains(&symbol) {
        let with = format!("{} and operation {}", with(), worded(operation));
        return Err(field.wrong(Fault::Contradiction { with, expected: listed(symbols) }));
    }

    Ok(Row {
        trans_id,
        account,
        date,
        seq,
        side: side_of(kind_in),
        kind_in,
        operation,
        symbol,
        amount,
        balance,
        bank: fields.next()?.bank()?,
        counter_account: fields.next()?.account()?,
        residual: fields.next()?.signed_amount()?,
        file,
        line: line.number,
    })
}

fn side_of(kind_in: Type) -> Side {
    match kind_in {
        Type::Credit => Side::Credit,
        Type::Debit | Type::CashDebit => Side::Debit,
    }
}

/// The operations that a type can have.
fn operations_of(kind_in: Type) -> &'static [Operation] {
    match kind_in {
        Type::Credit => &[Operation::CashIn, Operation::TransferIn, Operation::None],
        Type::Debit => &[Operation::CashOut, Operation::CardOut, Operation::TransferOut],
        Type::CashDebit => &[Operation::CashOut, Operation::CardOut],
    }
}

/// The symbols that a type and an operation can have. Interest comes by no operation, and nothing else does.
fn symbols_of(kind_in: Type, operation: Operation) -> &'static [Symbol] {
    match (side_of(kind_in), operation) {
        (Side::Credit, Operation::None) => &[Symbol::Interest],
        (Side::Credit, _) => &[Symbol::None, Symbol::Pension],
        (Side::Debit, _) => &[
            Symbol::None,
            Symbol::Fee,
            Symbol::PenaltyInterest,
            Symbol::Household,
            Symbol::Insurance,
            Symbol::Loan,
            Symbol::Leasing,
        ],
    }
}

pub(super) const ACCOUNT: Columns = &["account_id", "district_id", "frequency", "date"];

pub(super) fn account(line: &Line<'_>, known: &mut Known) -> Result<Account, ReadError> {
    let mut fields = line.fields();
    Ok(Account {
        id: fields.next()?.account_key(&mut known.accounts)?,
        district: fields.next()?.reference(&known.districts)?,
        frequency: fields.next()?.code()?,
        opened: fields.next()?.day()?,
        text: line.text()?,
    })
}

pub(super) const CLIENT: Columns = &["client_id", "birth_number", "district_id"];

pub(super) fn client(line: &Line<'_>, known: &mut Known) -> Result<Client, ReadError> {
    let mut fields = line.fields();
    Ok(Client {
        id: fields.next()?.key(&mut known.clients)?,
        birth_number: fields.next()?.birth_number()?,
        district: fields.next()?.reference(&known.districts)?,
        text: line.text()?,
    })
}

pub(super) const DISP: Columns = &["disp_id", "client_id", "account_id", "type"];

pub(super) fn disposition(line: &Line<'_>, known: &mut Known) -> Result<Disposition, ReadError> {
    let mut fields = line.fields();
    Ok(Disposition {
        id: fields.next()?.key(&mut known.dispositions)?,
        client: fields.next()?.reference(&known.clients)?,
        account: fields.next()?.reference(&known.accounts)?,
        role: fields.next()?.code()?,
        text: line.text()?,
    })
}

pub(super) const CARD: Columns = &["card_id", "disp_id", "type", "issued"];

pub(super) fn card(line: &Line<'_>, keys: &mut Keys, known: &Known) -> Result<Card, ReadError> {
    let mut fields = line.fields();
    Ok(Card {
        id: fields.next()?.key(keys)?,
        disposition: fields.next()?.reference(&known.dispositions)?,
        grade: fields.next()?.code()?,
        issued: fields.next()?.date()?,
        text: line.text()?,
    })
}

pub(super) const LOAN: Columns =
    &["loan_id", "account_id", "date", "amount", "duration", "payments", "status"];

pub(super) fn loan(line: &Line<'_>, keys: &mut Keys, known: &Known) -> Result<Loan, ReadError> {
    let mut fields = line.fields();
    Ok(Loan {
        id: fields.next()?.key(keys)?,
        account: fields.next()?.reference(&known.accounts)?,
        granted: fields.next()?.date()?,
        amount: fields.next()?.amount()?,
        duration_months: fields.next()?.number_u32()?,
        payment: fields.next()?.amount()?,
        status: fields.next()?.code()?,
        text: line.text()?,
    })
}

pub(super) const ORDER: Columns = &["order_id", "account_id", "bank_to", "account_to", "amount", "k_symbol"];

/// What a standing order can be for.
const ORDER_SYMBOLS: &[Symbol] =
    &[Symbol::Household, Symbol::Insurance, Symbol::Loan, Symbol::Leasing, Symbol::None];

pub(super) fn order(line: &Line<'_>, keys: &mut Keys, known: &Known) -> Result<Order, ReadError> {
    let mut fields = line.fields();
    let id = fields.next()?.key(keys)?;
    let account = fields.next()?.reference(&known.accounts)?;
    let bank = fields.next()?;
    let bank_to = bank.required(bank.bank()?, "a bank code")?;
    let payee = fields.next()?;
    let account_to = payee.required(payee.account()?, "an account number")?;
    let amount = fields.next()?.amount()?;
    let symbol = fields.next()?.code_of(ORDER_SYMBOLS)?;
    Ok(Order { id, account, bank_to, account_to, amount, symbol, text: line.text()? })
}

pub(super) const DISTRICT: Columns =
    &["A1", "A2", "A3", "A4", "A5", "A6", "A7", "A8", "A9", "A10", "A11", "A12", "A13", "A14", "A15", "A16"];

pub(super) fn district(line: &Line<'_>, known: &mut Known) -> Result<District, ReadError> {
    let mut fields = line.fields();
    Ok(District {
        id: fields.next()?.key(&mut known.districts)?,
        name: fields.next()?.name()?,
        region: fields.next()?.name()?,
        inhabitants: fields.next()?.number_u32()?,
        municipalities: [
            fields.next()?.number_u32()?,
            fields.next()?.number_u32()?,
            fields.next()?.number_u32()?,
            fields.next()?.number_u32()?,
        ],
        cities: fields.next()?.number_u32()?,
        urban_share: fields.next()?.amount()?,
        salary_average: fields.next()?.number_u32()?,
        unemployment: [
            fields.next()?.unless_unknown(|f| f.amount())?,
            fields.next()?.unless_unknown(|f| f.amount())?,
        ],
        entrepreneurs: fields.next()?.number_u32()?,
        crimes_1995: fields.next()?.unless_unknown(|f| f.number_u32())?,
        crimes_1996: fields.next()?.number_u32()?,
        text: line.text()?,
    })
}
