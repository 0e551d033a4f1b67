//! What a bundle changed so far, so that all of it can be taken back when a later part fails.

use crate::account::Account;
use crate::entry::Id;
use crate::holds::{Hold, Reversal};

/// One change, as it was before. Taken back newest first.
pub(crate) enum Undo {
    /// An account, and its far roots.
    Account(u32, Box<Account>, Vec<u64>),
    /// A hold.
    Hold(Id, Option<Hold>),
    /// The amount reversed of a posting.
    Reversed(u64, Option<Reversal>),
}
