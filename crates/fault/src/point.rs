//! The failpoints: their list, their names, their counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Makes the enum, the names and the counters from one table.
macro_rules! points {
    ($($name:ident = $text:literal;)*) => {
        /// A branch in which something has gone wrong.
        #[allow(missing_docs, reason = "each says where it is and what went wrong by its text")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Point { $($name,)* }

        impl Point {
            /// Every point.
            pub const ALL: &'static [Point] = &[$(Point::$name,)*];

            /// Where it is, and what went wrong there.
            pub const fn name(self) -> &'static str {
                match self { $(Point::$name => $text,)* }
            }
        }

        static COUNTS: [AtomicU64; Point::ALL.len()] = [const { AtomicU64::new(0) }; Point::ALL.len()];
    };
}

/// Counts that this branch was taken.
#[cold]
pub fn reached(point: Point) {
    COUNTS[point as usize].fetch_add(1, Ordering::Relaxed);
}

impl Point {
    /// How often it was reached in this process.
    pub fn count(self) -> u64 {
        COUNTS[self as usize].load(Ordering::Relaxed)
    }
}

points! {
    // ── journal: opening ──
    OpenFolderMake = "journal.open: the folder cannot be made";
    OpenLock = "journal.open: the lock cannot be tried";
    OpenLocked = "journal.open: another process writes";
    OpenImpossible = "journal.open: segments of no possible length are asked for";
    OpenFolderSync = "journal.open: the folder's names cannot be made durable";
    OpenPathSync = "journal.open: the names above the folder cannot be made durable";
    OpenSegment = "journal.open: the segment to go on in cannot be opened";
    OpenReserve = "journal.open: the space of a segment to be written cannot be taken";
    OpenLastRead = "journal.open: the last record cannot be read";
    OpenLastChanged = "journal.open: the last record is not what was scanned";
    OpenLastWrite = "journal.open: the last record cannot be written again";
    OpenLastSync = "journal.open: the last record cannot be made durable";
    CutOpen = "journal.cut: the segment cannot be opened";
    CutWrite = "journal.cut: the torn record cannot be zeroed";
    CutSync = "journal.cut: the zeros cannot be made durable";
    // ── journal: writing ──
    AppendStopped = "journal.append: an earlier write failed";
    AppendOpen = "journal.append: the next segment cannot be opened";
    AppendWrite = "journal.append: the record cannot be written";
    AppendSync = "journal.append: the record cannot be made durable";
    SupplyFull = "journal.supply: the disk has no room for the next segment";
    SupplyNotReady = "journal.supply: the next segment could not be made";
    // ── journal: segments ──
    NamesRead = "journal.segment: the folder cannot be read";
    NameStrange = "journal.segment: a strange file";
    NameMissing = "journal.segment: one is missing in between";
    UnfinishedNames = "journal.segment: the folder cannot be read for unfinished ones";
    UnfinishedRemove = "journal.segment: an unfinished one cannot be removed";
    IdentifyMissing = "journal.segment: the first one is missing";
    IdentifyOpen = "journal.segment: the first one cannot be opened";
    IdentifyLength = "journal.segment: the first one is too short";
    IdentifyRead = "journal.segment: the first one cannot be read";
    IdentifyRotten = "journal.segment: the first one's header is rotten";
    MakeInTheWay = "journal.segment: an unfinished one is in the way of a new one";
    MakeLeft = "journal.segment: what is left of one that could not be made cannot be removed";
    MakeOpen = "journal.segment: a new one cannot be begun";
    MakeReserve = "journal.segment: there is no space for a new one";
    MakeWrite = "journal.segment: a new one cannot be zeroed";
    MakeHeader = "journal.segment: a new one's header cannot be written";
    MakeSync = "journal.segment: a new one cannot be made durable";
    MakeRename = "journal.segment: a new one cannot be given its name";
    MakeFolderSync = "journal.segment: a new one's name cannot be made durable";
    // ── journal: scanning ──
    ScanOpen = "journal.scan: a segment cannot be opened";
    ScanLength = "journal.scan: a segment's length cannot be asked";
    ScanLengthWrong = "journal.scan: a segment has another length";
    ScanRead = "journal.scan: a segment cannot be read";
    ScanSegmentHeader = "journal.scan: a segment's header is rotten";
    ScanBeyond = "journal.scan: written beyond the end";
    ScanForeignFirst = "journal.scan: no record of a possible length begins";
    ScanForeign = "journal.scan: a block does not belong to its record";
    ScanAfterTorn = "journal.scan: written after a record that is not whole";
    ScanRecordHeader = "journal.scan: a record's header does not go on";
    ScanEntries = "journal.scan: entries do not add up";
    ScanCount = "journal.scan: another number of entries";
    ScanTorn = "journal.scan: a torn record";
    ScanEndMissing = "journal.scan: segments are missing at the end";
    ScanVisitor = "journal.scan: the visitor refused a record";
    ScanUnheard = "journal.scan: nobody takes the records any more that are read ahead";
    ScanAgain = "journal.scan: what does not fit is read again";
    ScanMidWrite = "journal.scan: a writer is in the middle of a record";
    // ── journal: reading ──
    ReaderLock = "journal.reader: the lock cannot be tried";
    ReaderSync = "journal.reader: the last record cannot be made durable";
    ReaderOpen = "journal.reader: a segment cannot be opened";
    ReaderRead = "journal.reader: blocks cannot be read";
    EntryNowhere = "journal.entry: no entry begins at a block's header";
    EntryNoSegment = "journal.entry: beyond the last segment";
    EntryRead = "journal.entry: the block cannot be read";
    EntryBlank = "journal.entry: nothing was written there";
    EntryLost = "journal.entry: what was written there is gone";
    EntryNextRotten = "journal.entry: after a blank block, the next segment's first record is rotten";
    EntryRotten = "journal.entry: the block is rotten";
    EntryInHeader = "journal.entry: the block is a segment's header";
    EntryBetween = "journal.entry: no entry begins at this unit";
    RecordHeadRotten = "journal.record_after: the first block is rotten";
    RecordBodyRotten = "journal.record_after: a later block is rotten";
    CheckedLength = "record.checked: not a record's blocks";
    CheckedBlock = "record.checked: a block's check, or not of this record";
    CheckedHeader = "record.checked: the header is not that of these blocks";
    CheckedEntries = "record.checked: not as many entries as the header says, or none that add up";
    FindOther = "reader.find: another record is there than the one that is known";
    HeadRotten = "journal.end_of: no record begins where one should";
    // ── engine: asking ──
    SubmitMalformed = "engine.submit: malformed or too much";
    SubmitOverloaded = "engine.submit: not let in";
    QueryOverloaded = "engine.query: not let in";
    LaneOnlineFull = "engine.queue: the online lane is full";
    LaneBulkFull = "engine.queue: the bulk lane is full";
    LaneClosed = "engine.queue: the engine is stopping, or has ended";
    WaitUnknown = "engine.ticket: the answer that was waited for never comes";
    TakeUnknown = "engine.ticket: the answer that was looked for never comes";
    DeadlinePassed = "engine.core: the deadline has passed";
    NotAdmitted = "engine.core: the machine does not let the request in";
    DiskFull = "engine.core: refused, as the disk is full";
    ConfirmDiskFull = "engine.core: no closing record, as the disk is full";
    AloneDiskFull = "engine.core: nothing is tried alone, as the disk is full";
    AloneLate = "engine.core: what was executed at the crash is too late now";
    AloneNotAdmitted = "engine.core: what is tried alone is not let in";
    AloneNoRoom = "engine.core: what is tried alone takes more than a record";
    AloneCutShort = "engine.core: what is tried alone does not have the command at its cursor";
    AloneSetAside = "engine.core: a command is set aside";
    FollowAhead = "engine.follow: beyond the journal's end";
    FollowFrom = "engine.follow: where to begin cannot be read";
    FollowNext = "engine.follow: the next record cannot be read";
    // ── engine: ending ──
    WriterEnded = "engine.writer: the journal took no more";
    RepeatRotten = "engine.writer: an entry that is to be told again cannot be read";
    CoreNoWriter = "engine.core: the writer is gone";
    StopJournal = "engine.stop: the writer had ended on an error";
    StepJournal = "engine.stepper: the writer has ended on an error";
    StopCore = "engine.stop: the core had ended on a broken invariant";
    Abandoned = "engine.queue: what waited was dropped";
    // ── engine: starting ──
    StartGap = "engine.start: the clock and the journal are far apart";
    FoldOther = "fold.take: not the record that follows";
    FoldReplay = "fold.take: the record does not say what deciding it again gives";
    SnapshotLocked = "snapshot.make: another process makes one";
    SnapshotReserve = "snapshot.make: what is free on the disk is kept for the journal";
    SnapshotLeft = "snapshot.make: what is left of one that could not be made cannot be removed";
    SnapshotStale = "snapshot.make: one that is there is not of this journal, or cannot be read";
    SnapshotNames = "snapshot.newest: the folder cannot be read";
    SnapshotUnfit = "snapshot.newest: one is passed over";
    SnapshotShort = "snapshot.load: shorter than its title";
    SnapshotTitle = "snapshot.load: the title's check fails";
    SnapshotRead = "snapshot.load: a piece cannot be read";
    SnapshotRotten = "snapshot.load: a piece's check fails";
    SnapshotForm = "snapshot.load: not a state, or not all of one";
    SnapshotDigest = "snapshot.load: another state than the journal's";
    RingOpen = "engine.start: the ring cannot be opened";
    RingLength = "engine.ring: a length that no request has";
    RingCheck = "engine.ring: the check does not hold";
    RulesUnknown = "engine.replay: rules that this program does not know";
    ReplayTime = "engine.replay: a time before the last record's, or beyond all times";
    ReplayOutcome = "engine.replay: an outcome that this program does not know";
    ReplayHeader = "engine.replay: an entry that is no request's header";
    ReplayNotAdmitted = "engine.replay: a request that would not have been let in";
    ReplayCommand = "engine.replay: an entry that is no command";
    ReplayDiffers = "engine.replay: an entry differs";
    ReplayMore = "engine.replay: an entry that was not recorded";
    ReplayDigest = "engine.replay: the digest differs";
    FindNothing = "engine.find: no entry begins there";
    FindRotten = "engine.find: the entry cannot be read";
    FindUnwritten = "engine.find: the entry could not be written";
    FindSkipped = "engine.find: skipped at a segment's end";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_counts_are_kept_apart() {
        for (i, point) in Point::ALL.iter().enumerate() {
            assert_eq!(*point as usize, i);
            assert!(Point::ALL[..i].iter().all(|other| other.name() != point.name()), "{}", point.name());
        }
        let (before, other) = (Point::AppendSync.count(), Point::AppendWrite.count());
        reached(Point::AppendSync);
        assert_eq!((Point::AppendSync.count(), Point::AppendWrite.count()), (before + 1, other));
    }
}
