//! Questions and their answers as they go between processes: fixed forms, little-endian, read in place.
//!
//! Bytes that are no question are refused as malformed; bytes that are no answer are none. Amounts are minor units of
//! the account's currency.

use crate::machine::{AccountView, BankView};
use pabal_bank::ledger::{Date, Id, Status};
use pabal_journal::Position;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Lines of a statement in one answer at most; the rest is asked for with [`Question::before`].
pub const LINES_MAX: u16 = 1000;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Asks {
    /// How an account stands.
    Account = 1,
    /// Its entries, newest first.
    Statement = 2,
    /// Its balance at the end of a day.
    AsOf = 3,
    /// How far a job has come.
    Job = 4,
    /// How the bank itself stands: answered with a [`BankStanding`].
    Status = 5,
}

impl Asks {
    fn from_u16(value: u16) -> Option<Asks> {
        let all = [Asks::Account, Asks::Statement, Asks::AsOf, Asks::Job, Asks::Status];
        all.into_iter().find(|asks| *asks as u16 == value)
    }
}

/// A question: 48 bytes. Fields that a kind does not use are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Question {
    /// An [`Asks`].
    pub asks: u16,
    /// Lines wanted, 1 to [`LINES_MAX`].
    pub limit: u16,
    /// The first booking date.
    pub from: Date,
    /// The last booking date; the day itself for a balance as of one.
    pub to: Date,
    /// The account's number.
    pub account: u64,
    /// Only entries before this position; zero for all.
    pub before: u64,
    /// The job.
    pub job: [u64; 2],
    /// Zero.
    pub reserved: u64,
}

const _: () = assert!(size_of::<Question>() == 48);

impl Question {
    /// How an account stands.
    pub fn account(account: u64) -> Question {
        Question { asks: Asks::Account as u16, account, ..Question::default() }
    }

    /// The newest entries of an account.
    pub fn statement(account: u64, limit: u16) -> Question {
        Question { asks: Asks::Statement as u16, account, limit, to: Date(u16::MAX), ..Question::default() }
    }

    /// The balance of an account at the end of a day.
    pub fn as_of(account: u64, day: Date) -> Question {
        Question { asks: Asks::AsOf as u16, account, to: day, ..Question::default() }
    }

    /// How far a job has come.
    pub fn job(id: Id) -> Question {
        Question { asks: Asks::Job as u16, job: [id.high, id.low], ..Question::default() }
    }

    /// How the bank itself stands.
    pub fn status() -> Question {
        Question { asks: Asks::Status as u16, ..Question::default() }
    }

    /// The question that these bytes are.
    pub fn read(bytes: &[u8]) -> Option<(Asks, Question)> {
        let question = Question::read_from_bytes(bytes).ok()?;
        let asks = Asks::from_u16(question.asks)?;
        let limit = match asks {
            Asks::Statement => 1..=LINES_MAX,
            _ => 0..=0,
        };
        (question.reserved == 0 && limit.contains(&question.limit)).then_some((asks, question))
    }
}

/// How the bank itself stands: 32 bytes. The frame says as of which record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BankStanding {
    /// 1 once it was founded.
    pub founded: u16,
    /// Its business date.
    pub business_date: Date,
    /// The version of the rules that it decides by.
    pub rules: u32,
    /// Milliseconds since 1970, by its own clock.
    pub time_ms: u64,
    /// Accounts that were opened, closed ones included.
    pub accounts: u64,
    /// Zero.
    pub reserved: u64,
}

const _: () = assert!(size_of::<BankStanding>() == 32);

impl BankStanding {
    /// Of this bank.
    pub fn of(view: &BankView) -> BankStanding {
        BankStanding {
            founded: view.founded as u16,
            business_date: view.business_date,
            rules: view.rules,
            time_ms: view.time_ms,
            accounts: view.accounts,
            reserved: 0,
        }
    }

    /// The answer that these bytes are.
    pub fn read(bytes: &[u8]) -> Option<BankStanding> {
        let standing = BankStanding::read_from_bytes(bytes).ok()?;
        (standing.founded <= 1 && standing.reserved == 0).then_some(standing)
    }

    /// The bank that this is.
    pub fn view(&self) -> BankView {
        BankView {
            founded: self.founded == 1,
            business_date: self.business_date,
            rules: self.rules,
            time_ms: self.time_ms,
            accounts: self.accounts,
        }
    }
}

/// How an account stands, the beginning of each answer about one: 48 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Standing {
    /// 1 when it is there; else all is zero.
    pub found: u8,
    /// Blocks, or closed: the bits of [`Status`].
    pub status: u8,
    /// ISO 4217 numeric code.
    pub currency: u16,
    /// Lines that follow.
    pub lines: u32,
    /// Balance; for a question as of a day, at its end.
    pub balance: i64,
    /// What remains on open holds.
    pub held: i64,
    /// What may be paid out now.
    pub available: i64,
    /// The newest entry; for a job, the next item.
    pub head: u64,
    /// Where to go on: the position of the last line when there are more; else zero. For a job, 1 when it ended.
    pub next: u64,
}

const _: () = assert!(size_of::<Standing>() == 48);

impl Standing {
    /// Of this account.
    pub fn of(view: &AccountView) -> Standing {
        Standing {
            found: 1,
            status: view.status.0,
            currency: view.currency,
            balance: view.balance,
            held: view.held,
            available: view.available,
            head: view.head.0,
            ..Standing::default()
        }
    }

    /// The account that this is.
    pub fn view(&self) -> Option<AccountView> {
        (self.found == 1).then_some(AccountView {
            currency: self.currency,
            status: Status(self.status),
            balance: self.balance,
            held: self.held,
            available: self.available,
            head: Position(self.head),
        })
    }
}

/// A line of a statement: 56 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Line {
    /// Position of the entry.
    pub position: u64,
    /// What was credited; negative for a debit.
    pub amount: i64,
    /// The account's balance after it.
    pub balance: i64,
    /// The other side's account.
    pub other: u64,
    /// The sender's own reference.
    pub reference: [u8; 16],
    /// The business date on which it was booked.
    pub booking_date: Date,
    /// The day from which interest counts.
    pub value_date: Date,
    /// The day on which it was due.
    pub nominal_date: Date,
    /// A [`pabal_bank::ledger::Kind`].
    pub kind: u16,
}

const _: () = assert!(size_of::<Line>() == 56);

/// The answer's parts. None when these bytes are no answer about an account.
pub fn read_answer(bytes: &[u8]) -> Option<(Standing, Vec<Line>)> {
    let (standing, rest) = Standing::read_from_prefix(bytes).ok()?;
    let lines: Vec<Line> =
        rest.chunks_exact(size_of::<Line>()).map_while(|line| Line::read_from_bytes(line).ok()).collect();
    let whole =
        rest.len() == standing.lines as usize * size_of::<Line>() && lines.len() == standing.lines as usize;
    (whole && standing.found <= 1).then_some((standing, lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_question_is_none() {
        for question in [
            Question::account(7),
            Question::statement(7, 50),
            Question::as_of(7, Date(20_000)),
            Question::job(Id { high: 1, low: 2 }),
            Question::status(),
        ] {
            let bytes = question.as_bytes();
            assert_eq!(Question::read(bytes).map(|(_, question)| question), Some(question));
            assert!(Question::read(&bytes[1..]).is_none(), "too short");
            assert!(Question::read(&[bytes, &[0; 8]].concat()).is_none(), "too long");
        }
        for wrong in [
            Question::default(),
            Question { asks: 6, ..Question::account(7) },
            Question { limit: 1, ..Question::account(7) },
            Question::statement(7, 0),
            Question::statement(7, LINES_MAX + 1),
            Question { reserved: 1, ..Question::account(7) },
        ] {
            assert!(Question::read(wrong.as_bytes()).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn an_answer_has_as_many_lines_as_it_says() {
        let standing = Standing { found: 1, lines: 2, ..Standing::default() };
        let line = Line { position: 67, amount: -5, ..Line::default() };
        let bytes = [standing.as_bytes(), line.as_bytes(), line.as_bytes()].concat();
        assert_eq!(read_answer(&bytes), Some((standing, vec![line; 2])));
        for wrong in [&bytes[..bytes.len() - 1], &bytes[..bytes.len() - 56], &bytes[..47]] {
            assert_eq!(read_answer(wrong), None);
        }
    }

    #[test]
    fn how_the_bank_stands_comes_back_as_it_went() {
        let view = BankView {
            founded: true,
            business_date: Date(20_000),
            rules: 2,
            time_ms: 1_700_000_000_000,
            accounts: 7,
        };
        let standing = BankStanding::of(&view);
        assert_eq!(BankStanding::read(standing.as_bytes()).map(|read| read.view()), Some(view));
        assert_eq!(BankStanding::read(&standing.as_bytes()[1..]), None);
        for wrong in [BankStanding { founded: 2, ..standing }, BankStanding { reserved: 1, ..standing }] {
            assert_eq!(BankStanding::read(wrong.as_bytes()), None);
        }
    }
}
