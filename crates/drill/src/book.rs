//! The small book with which every made-up bank begins: accounts at the edges of their limits, and the ways that
//! money may go between them, one account hot.

use pabal_bank::ledger::account::UNLIMITED;
use pabal_bank::ledger::{Class, Kind};

/// South Korean won.
pub const KRW: u16 = 410;
/// United States dollars.
pub const USD: u16 = 840;

/// Number, class, currency, overdraft, ceiling: what every bank begins with.
pub const ACCOUNTS: [(u64, Class, u16, i64, i64); 12] = [
    (1, Class::CustomerDeposit, KRW, 0, UNLIMITED),
    (2, Class::CustomerDeposit, KRW, 100, UNLIMITED),
    (3, Class::CustomerDeposit, KRW, 0, 1000),
    (4, Class::Cash, KRW, UNLIMITED, UNLIMITED),
    (5, Class::Settlement, KRW, UNLIMITED, UNLIMITED),
    (6, Class::FeeIncome, KRW, 0, UNLIMITED),
    (7, Class::CustomerDeposit, USD, 0, UNLIMITED),
    (8, Class::Cash, USD, UNLIMITED, UNLIMITED),
    (9, Class::CustomerDeposit, KRW, i64::MAX - 1, UNLIMITED),
    (10, Class::Suspense, KRW, 0, UNLIMITED),
    (11, Class::CustomerDeposit, KRW, UNLIMITED, UNLIMITED),
    (12, Class::Rounding, KRW, 5, 5),
];

/// Ways that money may go, the hot account in most.
pub const WAYS: [(Kind, u64, u64); 18] = [
    (Kind::CashDeposit, 4, 1),
    (Kind::Transfer, 1, 2),
    (Kind::Transfer, 2, 1),
    (Kind::Transfer, 1, 3),
    (Kind::Transfer, 3, 1),
    (Kind::CashWithdrawal, 1, 4),
    (Kind::Fee, 1, 6),
    (Kind::TransferOut, 2, 5),
    (Kind::TransferIn, 5, 1),
    (Kind::CardWithdrawal, 1, 5),
    (Kind::CashDeposit, 8, 7),
    (Kind::CashWithdrawal, 7, 8),
    (Kind::Transfer, 9, 1),
    (Kind::Transfer, 9, 11),
    (Kind::Transfer, 11, 9),
    (Kind::SuspenseMove, 5, 10),
    (Kind::SuspenseMove, 10, 1),
    (Kind::Rounding, 1, 12),
];
