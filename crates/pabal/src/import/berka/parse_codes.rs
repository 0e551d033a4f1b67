//! The code words of the columns: each word stands once, beside what it means.

/// A code word of a column.
pub trait CodeWord: Copy + PartialEq + 'static {
    /// All of them.
    const ALL: &'static [Self];
    /// As printed; empty for a blank field.
    fn text(self) -> &'static str;
}

/// An enum whose variants are the code words of a column: each word stands once, here.
macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl CodeWord for $name {
            const ALL: &'static [$name] = &[$($name::$variant),*];

            fn text(self) -> &'static str {
                match self {
                    $($name::$variant => $text,)*
                }
            }
        }
    };
}

codes! {
    /// The type of a row.
    Type {
        /// Into the account.
        Credit = "PRIJEM",
        /// Out of the account.
        Debit = "VYDAJ",
        /// Out of the account, in cash.
        CashDebit = "VYBER",
    }
}

codes! {
    /// How the money of a row moved.
    Operation {
        /// Not printed: interest.
        None = "",
        /// Cash paid in.
        CashIn = "VKLAD",
        /// Cash paid out.
        CashOut = "VYBER",
        /// Cash by card.
        CardOut = "VYBER KARTOU",
        /// From another bank.
        TransferIn = "PREVOD Z UCTU",
        /// To another bank.
        TransferOut = "PREVOD NA UCET",
    }
}

codes! {
    /// What a row or a standing order is for.
    Symbol {
        /// Not printed.
        None = "",
        /// Interest credited.
        Interest = "UROK",
        /// Statement fee.
        Fee = "SLUZBY",
        /// Penalty interest for a negative balance.
        PenaltyInterest = "SANKC. UROK",
        /// Household payment.
        Household = "SIPO",
        /// Insurance payment.
        Insurance = "POJISTNE",
        /// Old-age pension.
        Pension = "DUCHOD",
        /// Loan payment.
        Loan = "UVER",
        /// Leasing payment.
        Leasing = "LEASING",
    }
}

codes! {
    /// When the statement fee falls due.
    Frequency {
        /// Every month.
        Monthly = "POPLATEK MESICNE",
        /// Every week.
        Weekly = "POPLATEK TYDNE",
        /// After each transaction.
        EachTransaction = "POPLATEK PO OBRATU",
    }
}

codes! {
    /// What a client is to an account.
    Role {
        /// May order and borrow.
        Owner = "OWNER",
        /// May use.
        Authorised = "DISPONENT",
    }
}

codes! {
    /// The grade of a card.
    Grade {
        /// For the young.
        Junior = "junior",
        /// The usual one.
        Classic = "classic",
        /// The better one.
        Gold = "gold",
    }
}

codes! {
    /// How a loan ended or stands.
    LoanStatus {
        /// Over, and paid.
        EndedWell = "A",
        /// Over, and not paid.
        EndedUnpaid = "B",
        /// Running, and paid so far.
        RunningWell = "C",
        /// Running, and in debt.
        RunningInDebt = "D",
    }
}
