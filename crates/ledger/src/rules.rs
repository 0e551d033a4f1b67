//! The posting-rule table: which kind of posting may debit which class and credit which. Compiled data.
//!
//! A path that is not here cannot be posted by any channel, batch or operator; there is no override.

macro_rules! numbered {
    ($(#[$doc:meta])* $type:ident { $($(#[$d:meta])* $name:ident = $value:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $type { $($(#[$d])* $name = $value,)* }
        impl $type {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [$type] = &[$($type::$name,)*];
            /// The one with this number, if there is one.
            #[inline]
            pub const fn from_u8(value: u8) -> Option<$type> {
                match value { $($value => Some($type::$name),)* _ => None }
            }
            /// The stable name that people and programs see.
            pub const fn name(self) -> &'static str {
                match self { $($type::$name => $text,)* }
            }
        }
    };
}

numbered! {
    /// What an account is for. A class is fixed when the account is opened.
    Class {
        /// Deposit of a customer (요구불예금).
        CustomerDeposit = 1, "customer_deposit";
        /// Cash on hand in offices and machines (현금).
        Cash = 2, "cash";
        /// What other banks owe us or we owe them (타행 결제).
        Settlement = 3, "settlement";
        /// Income from fees (수수료 수익).
        FeeIncome = 4, "fee_income";
        /// Interest paid to customers (이자 비용).
        InterestExpense = 5, "interest_expense";
        /// Penalty interest received (연체 이자).
        PenaltyIncome = 6, "penalty_income";
        /// Household payments on their way to the billers (생활요금).
        HouseholdPayments = 7, "household_payments";
        /// Insurance premiums on their way to the insurers (보험료).
        Insurance = 8, "insurance";
        /// Pensions to be paid out (연금).
        Pension = 9, "pension";
        /// Loans to customers (대출금).
        Loan = 10, "loan";
        /// Differences from rounding (단수 차이).
        Rounding = 11, "rounding";
        /// Money whose owner is not yet known (가수금).
        Suspense = 12, "suspense";
    }
}

numbered! {
    /// What a posting is for, as a statement shows it.
    Kind {
        /// Transfer between customers.
        Transfer = 1, "transfer";
        /// Cash paid in.
        CashDeposit = 2, "cash_deposit";
        /// Cash paid out.
        CashWithdrawal = 3, "cash_withdrawal";
        /// Cash or goods by card.
        CardWithdrawal = 4, "card_withdrawal";
        /// Transfer from another bank.
        TransferIn = 5, "transfer_in";
        /// Transfer to another bank.
        TransferOut = 6, "transfer_out";
        /// Fee for statements and upkeep.
        Fee = 7, "fee";
        /// Interest credited.
        Interest = 8, "interest";
        /// Penalty interest for an overdrawn account.
        PenaltyInterest = 9, "penalty_interest";
        /// Rent, energy, telephone.
        HouseholdPayment = 10, "household_payment";
        /// Insurance premium.
        InsurancePayment = 11, "insurance_payment";
        /// Pension received.
        PensionCredit = 12, "pension";
        /// Repayment of a loan.
        LoanPayment = 13, "loan_payment";
        /// Difference from rounding.
        Rounding = 14, "rounding";
        /// Undoes an earlier posting, whole or in part.
        Reversal = 15, "reversal";
        /// Money whose owner was found, or is being sought.
        SuspenseMove = 16, "suspense";
    }
}

/// One row: this kind may debit this class and credit that one.
type Row = (Kind, Class, Class);

/// The table. A reversal has no row: it runs the path of what it reverses, backwards.
const ROWS: &[Row] = {
    use Class as C;
    use Kind as K;
    &[
        (K::Transfer, C::CustomerDeposit, C::CustomerDeposit),
        (K::CashDeposit, C::Cash, C::CustomerDeposit),
        (K::CashWithdrawal, C::CustomerDeposit, C::Cash),
        (K::CardWithdrawal, C::CustomerDeposit, C::Cash),
        (K::CardWithdrawal, C::CustomerDeposit, C::Settlement),
        (K::TransferIn, C::Settlement, C::CustomerDeposit),
        (K::TransferOut, C::CustomerDeposit, C::Settlement),
        (K::Fee, C::CustomerDeposit, C::FeeIncome),
        (K::Interest, C::InterestExpense, C::CustomerDeposit),
        (K::PenaltyInterest, C::CustomerDeposit, C::PenaltyIncome),
        (K::HouseholdPayment, C::CustomerDeposit, C::HouseholdPayments),
        (K::InsurancePayment, C::CustomerDeposit, C::Insurance),
        (K::PensionCredit, C::Pension, C::CustomerDeposit),
        (K::LoanPayment, C::CustomerDeposit, C::Loan),
        (K::Rounding, C::CustomerDeposit, C::Rounding),
        (K::Rounding, C::Rounding, C::CustomerDeposit),
        (K::SuspenseMove, C::Settlement, C::Suspense),
        (K::SuspenseMove, C::Suspense, C::CustomerDeposit),
        (K::SuspenseMove, C::Suspense, C::Settlement),
    ]
};

const CLASSES: usize = 16;
const KINDS: usize = 32;

/// For each kind and debit class the set of credit classes, a bit a class.
static TABLE: [[u16; CLASSES]; KINDS] = {
    let mut table = [[0u16; CLASSES]; KINDS];
    let mut i = 0;
    while i < ROWS.len() {
        let (kind, debit, credit) = ROWS[i];
        table[kind as usize][debit as usize] |= 1 << credit as u16;
        i += 1;
    }
    table
};

/// Whether a posting of this kind may debit an account of the one class and credit one of the other.
#[inline]
pub fn permits(kind: Kind, debit: Class, credit: Class) -> bool {
    TABLE[kind as usize][debit as usize] & (1 << credit as u16) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_rows_and_no_others() {
        for &kind in Kind::ALL {
            for &debit in Class::ALL {
                for &credit in Class::ALL {
                    assert_eq!(permits(kind, debit, credit), ROWS.contains(&(kind, debit, credit)));
                }
            }
        }
    }

    #[test]
    fn a_reversal_has_no_path_of_its_own() {
        assert!(!ROWS.iter().any(|row| row.0 == Kind::Reversal));
    }
}
