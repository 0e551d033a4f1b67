//! A copy beside the bank: a process of its own that folds the journal, follows, and makes snapshots.
//!
//! It is judged as of the record that it took last: its state by a judge of its own, who knows no more than the copy;
//! what it took by what the bank did. It must never be ahead of what is durable, nor behind what was shown.

use super::super::judge::wrong;
use super::super::tap::Judged;
use super::{DATA, Death, World};
use crate::disk::image::{BLOCK, block, bytes};
use crate::model::compare;
use pabal_bank::RULES_CURRENT;
use pabal_core::Copy;
use pabal_core::machine::Query;
use pabal_engine::engine::JOURNAL;
use pabal_engine::fold::NotTaken;
use pabal_engine::snapshot::SNAPSHOTS;
use pabal_engine::{Error, Fold, Machine, ReplayError};
use pabal_journal::Reader;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the number of the judge's shelf stands in a snapshot, which nobody else would spoil.
const STATE: usize = BLOCK + 8;

fn knows_too_little(error: &NotTaken) -> bool {
    matches!(error, NotTaken::Differs(ReplayError::RulesUnknown { found, known, .. }) if found > known)
}

impl World {
    /// The copy begins, or goes on.
    pub(super) fn copy(&mut self) {
        if self.copy.is_none() || self.random.one_in(8) {
            self.open_copy();
        }
        self.copy_follows();
        for _ in 0..self.random.below(4) {
            let query = self.some_query();
            self.ask_copy(query);
        }
        if self.random.one_in(3) {
            self.make_snapshot();
        }
    }

    /// The copy is asked this over frames.
    pub(super) fn ask_copy(&mut self, query: Query) {
        if self.clients.frames.share > 0 {
            self.clients.frames.copy.ask(query, self.bench.judge().shown_records());
        }
    }

    /// A copy begins with what stands in the files, whether or not the bank lives.
    pub(super) fn open_copy(&mut self) {
        (self.copy, self.copy_follower) = (None, None);
        self.clients.frames.copy.ends();
        let older = self.random.one_in(10);
        let knowing =
            if older { 1 + self.random.below(RULES_CURRENT as u64 - 1) as u32 } else { RULES_CURRENT };
        self.beside.judge().starts(knowing);
        self.beside.judge().hears_of(&self.bench.judge());
        let opened = self.reading(|world| {
            let machine = Judged::new(knowing, world.beside.clone());
            match Fold::open(world.shared_disk(), Path::new(DATA), machine, &mut |_| {}) {
                Ok(fold) => {
                    let reader = Reader::open_on(world.shared_disk(), &Path::new(DATA).join(JOURNAL))?;
                    Ok(Some((Copy::new(fold), reader)))
                }
                Err(Error::Journal(pabal_journal::Error::Visitor(refused))) => {
                    match refused.downcast::<NotTaken>() {
                        Ok(refused) if knows_too_little(&refused) => Ok(None),
                        Ok(refused) => wrong("copy refuses", refused.to_string()),
                        Err(refused) => Err(pabal_journal::Error::Visitor(refused).into()),
                    }
                }
                Err(error) => Err(error),
            }
        });
        self.disk.has_misled();
        let Some(Some((copy, reader))) = opened else { return };
        let at = copy.read().sequence();
        let shown = self.bench.judge().shown_records();
        if let Some(engine) = &self.engine {
            let durable = engine.durable().sequence();
            // Of a record that the disk lost, and that has no successor, a reader takes the writer to be in the middle.
            let lacks = at + 1 < durable && self.damaged().is_empty();
            if at > durable || lacks {
                wrong("copy", format!("opened at record {at} of {durable} while the bank lives"));
            }
        } else if at < shown {
            wrong("copy", format!("opened at record {at}, {shown} were shown"));
        }
        self.copy = Some(copy.clone());
        self.judge_copy();
        if self.clients.frames.share > 0 {
            self.clients.frames.serve_copy(copy, reader, self.clock.read().1);
        }
    }

    /// The copy takes some of the records that came.
    fn copy_follows(&mut self) {
        let (Some(engine), Some(copy)) = (&self.engine, &self.copy) else { return };
        let durable = engine.durable().sequence();
        if self.copy_follower.is_none() {
            let next = copy.read().sequence() + 1;
            if next > durable + 1 {
                wrong("copy", format!("it stands at record {} of {durable}", next - 1));
            }
            self.copy_follower = self.reading(|world| world.engine_ref().follow_from(next));
        }
        self.beside.judge().hears_of(&self.bench.judge());
        for _ in 0..self.random.below(12) {
            let (Some(mut follower), Some(copy)) = (self.copy_follower.take(), self.copy.take()) else {
                return;
            };
            let mut taken = Ok(());
            let next = self.reading(|_| {
                let next = follower.next(Duration::ZERO, |record| taken = copy.write().take(record));
                next.map_err(Error::from)
            });
            match (next, taken) {
                (Some(more), Ok(())) => {
                    let at = copy.read().sequence();
                    if !more && at != durable {
                        wrong("copy", format!("it has all, to record {at} of {durable}"));
                    }
                    (self.copy_follower, self.copy) = (Some(follower), Some(copy));
                    if !more {
                        break;
                    }
                }
                // It failed with a reason, and begins again.
                (None, _) => return,
                (_, Err(refused)) if knows_too_little(&refused) => return,
                (_, Err(refused)) => wrong("copy refuses", refused.to_string()),
            }
        }
        self.judge_copy();
    }

    /// What the copy answers is true as of its record, which is shown by it.
    fn judge_copy(&mut self) {
        let Some(copy) = self.copy.as_ref().map(Copy::read) else { return };
        let at = copy.sequence();
        let (records, known) = (self.beside.judge().records(), self.bench.judge().records());
        if at != records || at > known {
            wrong("copy", format!("it says record {at}, took {records}; {known} were made"));
        }
        if at == 0 {
            return;
        }
        compare(&copy.machine().bank.0, &self.beside.judge().model);
        for number in 0..15 {
            copy.machine().query(&Query::Account(number));
        }
        self.bench.judge().shows_record(at);
    }

    /// The copy makes a snapshot, if it can.
    fn make_snapshot(&mut self) {
        let Some(copy) = self.copy.take() else { return };
        let data = PathBuf::from(DATA);
        let made =
            self.caught(|_| copy.read().snapshot().map_err(|source| Error::Ring { path: data, source }));
        // What a write of it was turned into, reading it must find.
        let misled = self.disk.has_misled();
        match made {
            Ok(Some(made)) => {
                self.disk.say(|| format!("  snapshot of record {}", made.sequence));
                self.snapshot = (!misled).then_some(made.sequence);
                copy.write().snapshot_made(made.sequence);
                self.copy = Some(copy);
            }
            Ok(None) => self.copy = Some(copy),
            // No reason to stop serving; unless it died of it.
            Err(Death::Disk) => self.copy = Some(copy),
            Err(_) => self.copy_follower = None,
        }
        if misled {
            self.snapshot = None;
        }
    }

    /// A bank began from this record: the newest snapshot with which nothing is wrong is not passed over.
    pub(super) fn has_begun_from(&mut self, from: Option<u64>) {
        if !self.failed && self.snapshot.is_some() && from < self.snapshot {
            wrong("snapshot passed over", format!("began from {from:?}; {:?} was made", self.snapshot));
        }
    }

    /// The block at which the record begins that this snapshot is of, as it says itself.
    pub(super) fn snapshot_block(&self, sequence: u64) -> u64 {
        let (image, name) = (self.disk.image(), format!("{sequence:012}-"));
        let is_it = |path: &&Path| {
            path.starts_with(Path::new(DATA).join(SNAPSHOTS))
                && path.file_name().is_some_and(|own| own.to_string_lossy().starts_with(&name))
        };
        let found = image.paths().filter(is_it).last().and_then(|path| image.find(path));
        let title = bytes(&found.and_then(|id| image.file(id).block(0)));
        u64::from_le_bytes(title[16..24].try_into().expect("eight bytes"))
    }

    /// A snapshot rots; or what it says was never true, and its checks are right.
    pub(super) fn spoil_a_snapshot(&mut self) {
        let image = self.disk.image();
        let folder = Path::new(DATA).join(SNAPSHOTS);
        let snapshots: Vec<u64> = image
            .paths()
            .filter(|path| path.starts_with(&folder))
            .filter_map(|path| image.find(path))
            .collect();
        let Some(last) = snapshots.len().checked_sub(1) else { return };
        let which = if self.random.one_in(3) { self.random.index(last + 1) } else { last };
        let (id, file) = (snapshots[which], image.file(snapshots[which]));
        let whole: Vec<u8> = file.seen.iter().flat_map(bytes).collect();
        let word = |at: usize| u64::from_le_bytes(whole[at..at + 8].try_into().expect("eight bytes"));
        let (what, mut spoilt) = (self.random.below(3), whole.clone());
        let length = whole.get(80..88).map_or(0, |_| word(80)) as usize;
        let end = BLOCK + length;
        if length < 16 || end + 8 > whole.len() {
            return;
        }
        let bit = 1 << self.random.below(8);
        match what {
            0 => spoilt[BLOCK + self.random.below(length as u64) as usize] ^= bit,
            1 => {
                spoilt[STATE + self.random.below(length as u64 - 8) as usize] ^= bit;
                let check = crc32c::crc32c(&spoilt[BLOCK..end]);
                spoilt[end..end + 4].copy_from_slice(&check.to_le_bytes());
            }
            _ => {
                spoilt[32 + self.random.below(32) as usize] ^= bit;
                let check = u64::from(crc32c::crc32c(&spoilt[..120]));
                spoilt[120..128].copy_from_slice(&check.to_le_bytes());
            }
        }
        self.snapshot = None;
        self.disk.say(|| format!("  spoilt in way {what}"));
        for (at, content) in spoilt.chunks(BLOCK).enumerate() {
            if content != &whole[at * BLOCK..(at + 1) * BLOCK] {
                self.disk.decay(id, at, block(content));
            }
        }
    }
}
