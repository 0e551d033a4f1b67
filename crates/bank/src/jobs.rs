//! Jobs: long pieces of bulk work whose items are numbered, so that each is done once without its id being
//! kept. A job begins with its item 0, takes each next item only, and ends with `EndJob`.

use pabal_fault::{Bug, planted};
use pabal_ledger::digest::{Digest, Object};
use pabal_ledger::saved::{Load, Save, load_count, load_words, save_words};
use pabal_ledger::{Code, Id};
use std::collections::BTreeMap;

/// Jobs in memory at most, ended ones included; at the bound no new one begins.
pub const JOBS_MAX: usize = 65_536;

/// How far a job has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Job {
    /// The number of the item that is wanted next.
    pub next: u64,
    /// Whether all of its items were sent.
    pub ended: bool,
}

/// All jobs by their ids.
#[derive(Default)]
pub struct Jobs(BTreeMap<Id, Job>);

impl Jobs {
    pub fn iter(&self) -> impl Iterator<Item = (&Id, &Job)> {
        self.0.iter()
    }

    pub fn get(&self, id: Id) -> Option<Job> {
        self.0.get(&id).copied()
    }

    /// Whether this item of this job may be decided now; the number wanted next if it may not.
    pub fn admit(&self, id: Id, item: u64) -> Result<(), (Code, u64)> {
        match self.0.get(&id) {
            Some(job) if job.ended => Err((Code::JobNotOpen, job.next)),
            Some(job) if job.next == item => Ok(()),
            Some(job) if planted(Bug::ItemTwice) && job.next == item + 1 => Ok(()),
            Some(job) => Err((Code::JobOutOfOrder, job.next)),
            None if item != 0 => Err((Code::JobOutOfOrder, 0)),
            None if self.0.len() >= JOBS_MAX => Err((Code::StateFull, 0)),
            None => Ok(()),
        }
    }

    /// Writes them all, by id.
    pub fn save(&self, save: &mut Save<'_>) {
        save_words(save, &[self.0.len() as u64]);
        self.0.iter().for_each(|(id, job)| save_words(save, &[id.high, id.low, job.next, job.ended as u64]));
    }

    /// Reads what [`Jobs::save`] wrote, and adds it to the digest. None when it is not that.
    pub fn load(load: &mut Load<'_>, digest: &mut Digest) -> Option<Jobs> {
        let mut jobs = Jobs::default();
        for _ in 0..load_count(load, JOBS_MAX)? {
            let [high, low, next, ended] = load_words(load)?;
            let id = Id { high, low };
            if ended > 1 || jobs.0.last_key_value().is_some_and(|(last, _)| *last >= id) {
                return None;
            }
            jobs.set(id, Job { next, ended: ended == 1 }, digest);
        }
        Some(jobs)
    }

    pub fn set(&mut self, id: Id, job: Job, digest: &mut Digest) {
        if let Some(was) = self.0.insert(id, job) {
            digest.remove(Object::Above, &words(id, was));
        }
        digest.add(Object::Above, &words(id, job));
    }
}

fn words(id: Id, job: Job) -> [u64; 5] {
    [1, id.high, id.low, job.next, job.ended as u64]
}
