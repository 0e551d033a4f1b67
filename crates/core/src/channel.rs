//! Which channel may send which kinds of commands: compiled data, enforced by the core.
//!
//! A channel is a process (or a face of one) with a credential of its own. What it may send follows from what it is
//! for: a web face for customers can neither open accounts nor book cash that nobody paid in, whatever takes it over. No
//! configuration widens this table.

use pabal_bank::ledger::{Kind, Op};

macro_rules! channels {
    ($($(#[$d:meta])* $name:ident = $value:literal, $text:literal, [$($op:ident),*], $kinds:expr;)*) => {
        /// Who sends. The numbers are stable: they stand in journals.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Channel { $($(#[$d])* $name = $value,)* }

        impl Channel {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Channel] = &[$(Channel::$name,)*];

            /// The stable name, also of its credential's file.
            pub const fn name(self) -> &'static str {
                match self { $(Channel::$name => $text,)* }
            }

            /// The kinds of commands that it may send.
            pub const fn commands(self) -> &'static [Op] {
                match self { $(Channel::$name => &[$(Op::$op),*],)* }
            }

            /// The kinds of postings and holds that it may send.
            pub const fn kinds(self) -> &'static [Kind] {
                match self { $(Channel::$name => $kinds,)* }
            }
        }
    };
}

/// What a customer orders by himself.
const ORDERS: &[Kind] = &[
    Kind::Transfer,
    Kind::TransferOut,
    Kind::Fee,
    Kind::HouseholdPayment,
    Kind::InsurancePayment,
    Kind::LoanPayment,
];

channels! {
    /// Operators of the bank, two of them where the bank asks for it (운영자).
    Operator = 1, "operator", [Found, AdvanceDate, ActivateRules, ExpireHolds], &[];
    /// Staff at a counter or behind it (창구).
    Staff = 2, "staff",
        [OpenAccount, ChangeAccount, CloseAccount, Post, Hold, PostHold, VoidHold, Reverse, KeepRecord], Kind::ALL;
    /// The web and mobile bank of customers (인터넷뱅킹).
    Customers = 3, "customers", [Post, Hold, PostHold, VoidHold], ORDERS;
    /// The public interface for programs.
    Api = 4, "api", [OpenAccount, ChangeAccount, Post, Hold, PostHold, VoidHold, Reverse], ORDERS;
    /// The face for institutions (기관).
    Institutions = 5, "institutions", [Post, Hold, VoidHold],
        &[Kind::Transfer, Kind::HouseholdPayment, Kind::InsurancePayment, Kind::PensionCredit];
    /// ATM and cards (자동화기기, 카드).
    Switch = 6, "switch", [Post, Hold, PostHold, VoidHold, Reverse],
        &[
            Kind::CashDeposit, Kind::CashWithdrawal, Kind::CardWithdrawal, Kind::Transfer, Kind::TransferOut,
            Kind::Fee,
        ];
    /// Due work: orders and collections (자동이체).
    Collect = 7, "collect", [Post, Hold, PostHold, VoidHold, ExpireHolds, EndJob],
        &[
            Kind::Transfer, Kind::TransferOut, Kind::Fee, Kind::HouseholdPayment, Kind::InsurancePayment,
            Kind::LoanPayment, Kind::PensionCredit, Kind::Interest, Kind::PenaltyInterest, Kind::Rounding,
        ];
    /// Other banks (타행).
    Clearing = 8, "clearing", [Post, Hold, PostHold, VoidHold, Reverse],
        &[Kind::TransferIn, Kind::TransferOut, Kind::Fee, Kind::SuspenseMove];
    /// The bringing in of another bank's books (이관).
    Import = 9, "import", [OpenAccount, ChangeAccount, CloseAccount, Post, AdvanceDate, KeepRecord, EndJob],
        Kind::ALL;
    /// A folded copy that serves reads.
    Reader = 10, "reader", [], &[];
    /// Backup.
    Keeper = 11, "keeper", [], &[];
    /// Probes and the auditor.
    Watch = 12, "watch", [], &[];
    /// Messages to customers (알림).
    Notify = 13, "notify", [], &[];
}

impl Channel {
    /// Whether it may send a command with this op and, for a posting or a hold, this kind. What is no op or no kind of
    /// ours is for the bank to refuse.
    #[inline]
    pub fn permits(self, op: u16, kind: u16) -> bool {
        // Bit n: the op, or the kind, of this number.
        const fn ops(ops: &[Op]) -> u64 {
            let (mut bits, mut i) = (0, 0);
            while i < ops.len() {
                bits |= 1 << ops[i] as u16;
                i += 1;
            }
            bits
        }
        const fn kinds(kinds: &[Kind]) -> u64 {
            let (mut bits, mut i) = (0, 0);
            while i < kinds.len() {
                bits |= 1 << kinds[i] as u16;
                i += 1;
            }
            bits
        }
        let its_op = op >= 64 || ops(self.commands()) >> op & 1 == 1 || Op::from_u16(op).is_none();
        let moves = op == Op::Post as u16 || op == Op::Hold as u16;
        let known = || u8::try_from(kind).ok().and_then(Kind::from_u8).is_some();
        its_op && (!moves || kind >= 64 || kinds(self.kinds()) >> kind & 1 == 1 || !known())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_sends_what_its_row_has_and_nothing_else() {
        for &channel in Channel::ALL {
            for (&op, &kind) in Op::ALL.iter().flat_map(|op| Kind::ALL.iter().map(move |kind| (op, kind))) {
                let moves = matches!(op, Op::Post | Op::Hold);
                let row = channel.commands().contains(&op) && (!moves || channel.kinds().contains(&kind));
                assert_eq!(channel.permits(op as u16, kind as u16), row, "{channel:?} {op:?} {kind:?}");
            }
            let moves = [Op::Post, Op::Hold].iter().any(|op| channel.commands().contains(op));
            assert_eq!(channel.kinds().is_empty(), !moves, "{channel:?}");
            assert!(!channel.commands().contains(&Op::HoldReleased), "never sent by anyone");
        }
        for face in [Channel::Customers, Channel::Api, Channel::Institutions] {
            let cash = [Kind::CashDeposit, Kind::TransferIn, Kind::Interest];
            assert!(
                !cash.iter().any(|kind| face.permits(Op::Post as u16, *kind as u16)),
                "money from nowhere"
            );
        }
        let silent = [Channel::Reader, Channel::Keeper, Channel::Watch, Channel::Notify];
        assert!(silent.iter().all(|channel| channel.commands().is_empty()));
        let founds: Vec<_> = Channel::ALL.iter().filter(|c| c.permits(Op::Found as u16, 0)).collect();
        assert_eq!(founds, [&Channel::Operator]);
    }
}
