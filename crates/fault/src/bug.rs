//! The planted bugs: each a mistake that someone has made somewhere.

/// Whether planted bugs are built into this program.
pub const PLANTED: bool = cfg!(feature = "planted");

/// Makes the enum and the names from one table.
macro_rules! bugs {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// A bug that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Bug { $($(#[$doc])* $name,)* }

        impl Bug {
            /// Every bug.
            pub const ALL: &'static [Bug] = &[$(Bug::$name,)*];

            /// Its name on the command line.
            pub const fn name(self) -> &'static str {
                match self { $(Bug::$name => $text,)* }
            }
        }
    };
}

bugs! {
    /// A record is acknowledged without its `fdatasync`.
    SyncSkipped = "sync_skipped";
    /// Answers are released before their record is written.
    AcknowledgedEarly = "acknowledged_early";
    /// A question is answered from what is not durable yet.
    ReadEarly = "read_early";
    /// A failed write or sync of a record is taken for a good one.
    ErrorSwallowed = "error_swallowed";
    /// After a crash the last record is synced again, but not written again: what a failed sync gave up stays lost.
    LastNotWritten = "last_not_written";
    /// A record of which blocks are missing is taken for a whole one.
    TornTaken = "torn_taken";
    /// A torn record is not zeroed when it is cut.
    TornLeft = "torn_left";
    /// A rotten record is cut as if it were torn.
    RottenCut = "rotten_cut";
    /// A block's check is not compared.
    CheckIgnored = "check_ignored";
    /// A new segment's name is not made durable.
    NameNotSynced = "name_not_synced";
    /// After a restart time goes on from the last record, not from the clock.
    TimeStale = "time_stale";
    /// A request is executed after its deadline.
    DeadlineIgnored = "deadline_ignored";
    /// What stopped the core twice is tried again for ever.
    PoisonRetried = "poison_retried";
    /// A command that is sent again is executed again.
    RetryExecuted = "retry_executed";
    /// Another body under a known id is answered as the first one was.
    OtherBodyTaken = "other_body_taken";
    /// Ids are forgotten after half of their day.
    IdForgotten = "id_forgotten";
    /// A bundle is let in when there is room for each of its parts alone.
    BundlePassesBound = "bundle_passes_bound";
    /// Ids are taken that lie too far ahead.
    AheadTaken = "ahead_taken";
    /// The item of a job that was done last is done again.
    ItemTwice = "item_twice";
    /// Records of older rules are decided anew under the new ones.
    OlderDecidedAnew = "older_decided_anew";
    /// Posting a hold leaves it open.
    HoldPostedTwice = "hold_posted_twice";
    /// A hold is posted after its time.
    ExpiredHoldPosted = "expired_hold_posted";
    /// A hold that backs a leg elsewhere expires by time.
    BackedExpired = "backed_expired";
    /// An account may go one unit below its limit.
    LimitOffByOne = "limit_off_by_one";
    /// A closed account is credited.
    ClosedCredited = "closed_credited";
    /// A reversal goes the way of the posting that it reverses.
    WrongSide = "wrong_side";
    /// Of what was reversed only the last part is remembered.
    ReversedBeyond = "reversed_beyond";
    /// Holds of a bundle that failed stay.
    BundleHalfDone = "bundle_half_done";
    /// An entry's jump leads to a root before the right one.
    JumpWrong = "jump_wrong";
    /// A changed account keeps its digest.
    DigestStale = "digest_stale";
    /// A hold is usable for one millisecond after its time.
    HoldUsableLate = "hold_usable_late";
    /// Of a kept record that is sent again only the command is compared.
    RestNotCompared = "rest_not_compared";
    /// The entry of a hold that was posted says that the rest is held still, which was released.
    RestMisstated = "rest_misstated";
    /// A follower leaves out a record.
    RecordSkipped = "record_skipped";
    /// A start believes one clock over any gap.
    GapBelieved = "gap_believed";
    /// What is being executed is not remembered when it stops the core.
    RingCleared = "ring_cleared";
    /// Whoever reads when no writer lives shows the last record without making it durable.
    UnsyncedShown = "unsynced_shown";
    /// An entry is read from whatever sound block lies at its place.
    OtherBlockRead = "other_block_read";
    /// A snapshot's state is believed without its digest.
    SnapshotUnchecked = "snapshot_unchecked";
    /// A snapshot of another record than the journal's is believed.
    SnapshotOtherRecord = "snapshot_other_record";
    /// An id is missing in a snapshot.
    SnapshotIdMissing = "snapshot_id_missing";
    /// A hold is missing in a snapshot.
    SnapshotHoldMissing = "snapshot_hold_missing";
    /// The older roots of long histories are not kept in a snapshot.
    SnapshotFarMissing = "snapshot_far_missing";
    /// A folded copy leaves out a record.
    FoldSkips = "fold_skips";
    /// The server answers two requests each under the other's tag.
    TagsSwapped = "tags_swapped";
    /// The deadline of a frame is forgotten.
    DeadlineForgotten = "deadline_forgotten";
    /// Whatever a channel sends is let in.
    ChannelUnchecked = "channel_unchecked";
    /// A client takes a connection that was cut for a request that was not executed.
    CutTakenForFailure = "cut_taken_for_failure";
    /// A client believes a refusal though an earlier try of the same went unheard.
    RefusalBelieved = "refusal_believed";
    /// Whoever follows anew is sent what comes after the record that it asked for.
    FollowedFromLater = "followed_from_later";
    /// A client that follows says that the record which came last is still to come.
    FollowedAgain = "followed_again";
    /// A copy answers though it does not have the record that was to be seen.
    ReadOlder = "read_older";
    /// A copy says that it is as of a record which it has not taken yet.
    CopyAhead = "copy_ahead";
}

/// Whether this bug is planted now.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn planted(_bug: Bug) -> bool {
    false
}

#[cfg(feature = "planted")]
pub use active::{off, plant, planted};

#[cfg(feature = "planted")]
mod active {
    use super::Bug;
    use std::sync::atomic::{AtomicU32, Ordering};

    const NONE: u32 = u32::MAX;
    static ACTIVE: AtomicU32 = AtomicU32::new(NONE);

    /// Whether this bug is planted now.
    #[inline]
    pub fn planted(bug: Bug) -> bool {
        ACTIVE.load(Ordering::Relaxed) == bug as u32
    }

    /// Plants this bug, for the whole process; the one planted before is gone.
    pub fn plant(bug: Bug) {
        ACTIVE.store(bug as u32, Ordering::Relaxed);
    }

    /// Takes the planted bug out.
    pub fn off() {
        ACTIVE.store(NONE, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for (i, bug) in Bug::ALL.iter().enumerate() {
            assert_eq!(*bug as usize, i);
            assert!(Bug::ALL[..i].iter().all(|other| other.name() != bug.name()), "{}", bug.name());
        }
    }

    #[cfg(not(feature = "planted"))]
    #[test]
    fn nothing_is_planted_as_the_bank_is_shipped() {
        const { assert!(!PLANTED) };
        assert!(Bug::ALL.iter().all(|bug| !planted(*bug)));
    }
}
