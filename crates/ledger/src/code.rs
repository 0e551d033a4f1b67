//! What became of a command: one vocabulary for every crate, defined once.

/// Makes the enum, its names and its meanings from one table, so that they cannot part ways.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal, $use:ident;)*) => {
        /// The outcome of a command. The numbers are stable: they stand in journals.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Code { $($(#[$doc])* $name = $value,)* }

        impl Code {
            /// Every code, in the order of their numbers.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The code with this number, if there is one.
            pub const fn from_u16(value: u16) -> Option<Code> {
                match value { $($value => Some(Code::$name),)* _ => None }
            }

            /// The stable name that customers, operators and tests see.
            pub const fn name(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            /// Whether this outcome is final for its id and stands in the journal. When it is not, the
            /// same command may be sent again under the same id.
            pub const fn uses_id(self) -> bool {
                match self { $(Code::$name => codes!(@$use),)* }
            }
        }
    };
    (@Final) => { true };
    (@Again) => { false };
}

codes! {
    /// Executed, durably.
    Done = 1, "done", Final;
    /// No such account.
    AccountNotFound = 16, "account_not_found", Final;
    /// The number is taken.
    AccountExists = 17, "account_exists", Final;
    /// The account is closed.
    AccountClosed = 18, "account_closed", Final;
    /// Debits are blocked on the account that would pay.
    DebitBlocked = 19, "debit_blocked", Final;
    /// Credits are blocked on the account that would receive.
    CreditBlocked = 20, "credit_blocked", Final;
    /// Closing needs a zero balance and no holds.
    AccountNotEmpty = 21, "account_not_empty", Final;
    /// The new limit would lie below what is already used of it.
    LimitBelowUse = 22, "limit_below_use", Final;
    /// Balance less holds plus overdraft is less than the amount.
    InsufficientFunds = 32, "insufficient_funds", Final;
    /// The receiving account would pass its greatest balance.
    CeilingExceeded = 33, "ceiling_exceeded", Final;
    /// Zero or negative where a positive amount is needed.
    AmountInvalid = 34, "amount_invalid", Final;
    /// The balance would not fit 64 bits.
    AmountOverflow = 35, "amount_overflow", Final;
    /// The currency is not that of both accounts.
    CurrencyMismatch = 36, "currency_mismatch", Final;
    /// Both sides are the same account.
    SameAccount = 37, "same_account", Final;
    /// The posting-rule table has no such path.
    PathNotPermitted = 38, "path_not_permitted", Final;
    /// No open hold has this id: it never existed or has ended.
    HoldNotOpen = 48, "hold_not_open", Final;
    /// The hold's time has passed.
    HoldExpired = 49, "hold_expired", Final;
    /// More than what remains on the hold.
    HoldExceeded = 50, "hold_exceeded", Final;
    /// A hold ends by time or backs a leg elsewhere: exactly one of the two.
    ExpiryInvalid = 51, "expiry_invalid", Final;
    /// A hold with this id is open.
    HoldExists = 52, "hold_exists", Final;
    /// The position does not hold a posting that was done.
    NotReversible = 64, "not_reversible", Final;
    /// More than what has not been reversed yet.
    ReversalExceeded = 65, "reversal_exceeded", Final;
    /// The posting is older than reversals reach.
    ReversalTooLate = 66, "reversal_too_late", Final;
    /// Another part of the bundle failed, so nothing of it was done.
    BundleFailed = 80, "bundle_failed", Final;
    /// The business date only moves forward.
    DateNotLater = 96, "date_not_later", Final;
    /// Rules move up by one version at a time, to one that this program knows.
    RulesUnknown = 97, "rules_unknown", Final;
    /// The bank has been founded already.
    AlreadyFounded = 98, "already_founded", Final;
    /// A record of this kind and key exists.
    RecordExists = 99, "record_exists", Final;
    /// The job has ended, or was never begun.
    JobNotOpen = 100, "job_not_open", Final;
    /// The command stopped the core twice; it was set aside and not executed.
    Quarantined = 112, "quarantined", Final;
    /// The bytes are not a command of any version that this program knows.
    Malformed = 256, "malformed", Again;
    /// The id was used with another body. Nothing was executed now.
    IdConflict = 257, "id_conflict", Again;
    /// The id is older than the window. What became of it is *unknown* here: look its entry up.
    IdTooOld = 258, "id_too_old", Again;
    /// The id's time lies more than five minutes ahead.
    IdAhead = 259, "id_ahead", Again;
    /// Some parts of the bundle have been decided before, others not.
    BundleMixed = 260, "bundle_mixed", Again;
    /// A bound of the state is reached. Not done; the same id is safe.
    StateFull = 261, "state_full", Again;
    /// The bank is not founded yet.
    NotFounded = 262, "not_founded", Again;
    /// The item of a job is not the next one; the answer names the next.
    JobOutOfOrder = 263, "job_out_of_order", Again;
    /// The queue is full. Not looked at: it says nothing of an earlier try; the same id is safe.
    Overloaded = 264, "overloaded", Again;
    /// The deadline passed before execution. Not done, by no earlier try either; the same id is safe.
    DeadlinePassed = 265, "deadline_passed", Again;
    /// The disk has no room for another record. Not done so far, by no earlier try either; one that went unheard may
    /// still wait, and be done when there is room. The same id is safe. An operator must make room.
    DiskFull = 266, "disk_full", Again;
    /// The channel may not send commands of this kind. Not done by this try.
    ChannelNotPermitted = 267, "channel_not_permitted", Again;
    /// No channel has this credential. Not done by this try.
    CredentialUnknown = 268, "credential_unknown", Again;
    /// No version of the protocol is spoken by both sides. Not done by this try.
    VersionUnknown = 269, "version_unknown", Again;
    /// The reader has not seen the record yet that the question asks for. Ask the core, or later.
    NotFresh = 270, "not_fresh", Again;
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn numbers_and_names_are_unique_and_found_again() {
        for (i, a) in Code::ALL.iter().enumerate() {
            assert_eq!(Code::from_u16(*a as u16), Some(*a));
            for b in &Code::ALL[i + 1..] {
                assert_ne!(a.name(), b.name());
            }
        }
        assert_eq!(Code::from_u16(0), None);
    }
}
