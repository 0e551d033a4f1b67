//! Which channel may send which kinds of commands: compiled data, enforced by the core.
//!
//! A channel is a process (or a face of one) with a credential of its own. What it may send follows from what it is
//! for: a web face for customers cannot open accounts, whatever takes it over. No configuration widens this table.

use pabal_bank::ledger::Op;

macro_rules! channels {
    ($($(#[$d:meta])* $name:ident = $value:literal, $text:literal, [$($op:ident),*];)*) => {
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
        }
    };
}

channels! {
    /// Operators of the bank, two of them where the bank asks for it (운영자).
    Operator = 1, "operator", [Found, AdvanceDate, ActivateRules, ExpireHolds];
    /// Staff at a counter or behind it (창구).
    Staff = 2, "staff",
        [OpenAccount, ChangeAccount, CloseAccount, Post, Hold, PostHold, VoidHold, Reverse, KeepRecord];
    /// The web and mobile bank of customers (인터넷뱅킹).
    Customers = 3, "customers", [Post, Hold, PostHold, VoidHold];
    /// The public interface for programs.
    Api = 4, "api", [OpenAccount, ChangeAccount, Post, Hold, PostHold, VoidHold, Reverse];
    /// The face for institutions (기관).
    Institutions = 5, "institutions", [Post, Hold, VoidHold];
    /// ATM and cards (자동화기기, 카드).
    Switch = 6, "switch", [Post, Hold, PostHold, VoidHold, Reverse];
    /// Due work: orders and collections (자동이체).
    Collect = 7, "collect", [Post, Hold, PostHold, VoidHold, ExpireHolds, EndJob];
    /// Other banks (타행).
    Clearing = 8, "clearing", [Post, Hold, PostHold, VoidHold, Reverse];
    /// The bringing in of another bank's books (이관).
    Import = 9, "import", [OpenAccount, ChangeAccount, CloseAccount, Post, AdvanceDate, KeepRecord, EndJob];
    /// A folded copy that serves reads.
    Reader = 10, "reader", [];
    /// Backup.
    Keeper = 11, "keeper", [];
    /// Probes and the auditor.
    Watch = 12, "watch", [];
    /// Messages to customers (알림).
    Notify = 13, "notify", [];
}

impl Channel {
    /// Whether it may send a command with this op. What is no op of ours is for the bank to refuse as malformed.
    #[inline]
    pub fn permits(self, op: u16) -> bool {
        // Bit n: the op of this number.
        const fn bits(ops: &[Op]) -> u64 {
            let (mut bits, mut i) = (0, 0);
            while i < ops.len() {
                bits |= 1 << ops[i] as u16;
                i += 1;
            }
            bits
        }
        op >= 64 || bits(self.commands()) >> op & 1 == 1 || Op::from_u16(op).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_sends_what_its_row_has_and_nothing_else() {
        for &channel in Channel::ALL {
            for &op in Op::ALL {
                assert_eq!(
                    channel.permits(op as u16),
                    channel.commands().contains(&op),
                    "{channel:?} {op:?}"
                );
            }
            assert!(!channel.commands().contains(&Op::HoldReleased), "never sent by anyone");
        }
        let silent = [Channel::Reader, Channel::Keeper, Channel::Watch, Channel::Notify];
        assert!(silent.iter().all(|channel| channel.commands().is_empty()));
        let founds: Vec<_> = Channel::ALL.iter().filter(|c| c.permits(Op::Found as u16)).collect();
        assert_eq!(founds, [&Channel::Operator]);
    }
}
