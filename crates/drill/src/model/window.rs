//! Ids: which commands may be decided, and what is remembered of those that were.

use super::{DAY_MS, First, Model, Written, refuse};
use crate::sent::Sent;
use pabal_bank::ledger::{Code, Id, Op};
use pabal_bank::{Context, Reply};

impl Model {
    /// Whether the command may be decided; the first outcome or the refusal if not.
    pub(super) fn new_or_known(&self, context: &Context, sent: &Sent) -> Result<(), Reply> {
        let c = sent.command();
        let Some((capacity, _)) = self.founded else {
            return if c.header.op == Op::Found as u16 { Ok(()) } else { Err(refuse(Code::NotFounded)) };
        };
        if context.job.is_some() {
            return Ok(());
        }
        let time = c.id.time_ms();
        if time > self.now_ms + 5 * 60 * 1000 {
            return Err(refuse(Code::IdAhead));
        }
        if let Some((_, _, position)) = self.window.iter().find(|(id, ..)| *id == c.id) {
            let first = &self.firsts[position];
            if first.sent != *sent {
                return Err(Reply { position: *position, ..refuse(Code::IdConflict) });
            }
            return Err(Reply {
                code: first.code,
                again: true,
                position: *position,
                debit_balance: first.balances().0,
                credit_balance: first.balances().1,
            });
        }
        if time < self.horizon_ms || time + DAY_MS < self.now_ms {
            return Err(refuse(Code::IdTooOld));
        }
        let class = context.class.min(4) as usize;
        // Of what is dated ahead of this half second, a class may have a sixteenth of all.
        let is_ahead = |id: Id| id.time_ms() / 512 > self.now_ms / 512;
        let ahead = self.window.iter().filter(|(id, c, _)| *c == class && is_ahead(*id)).count();
        if is_ahead(c.id) && ahead >= (capacity as usize / 16).max(1) {
            return Err(refuse(Code::StateFull));
        }
        let room = if self.rules < 3 {
            let old = self.window.iter().any(|(id, ..)| self.is_outdated(*id));
            self.window.len() < capacity as usize || old || self.given_up(&self.window, class).is_some()
        } else {
            self.could_take(class, 1)
        };
        if room { Ok(()) } else { Err(refuse(Code::StateFull)) }
    }

    /// Whether all parts of a bundle, each of which may be decided alone, may be decided together: since rules 3
    /// they must all find a place.
    pub(super) fn may_come_together(&self, context: &Context, sent: &[Sent]) -> bool {
        let Some((capacity, _)) = self.founded.filter(|_| self.rules >= 3 && context.job.is_none()) else {
            return true;
        };
        let class = context.class.min(4) as usize;
        let is_ahead = |id: Id| id.time_ms() / 512 > self.now_ms / 512;
        let coming = sent.iter().filter(|one| is_ahead(one.command().id)).count();
        let there = self.window.iter().filter(|(id, c, _)| *c == class && is_ahead(*id)).count();
        (coming == 0 || there + coming <= (capacity as usize / 16).max(1))
            && self.could_take(class, sent.len())
    }

    /// Whether so many of a class find a place, tried out: one stretch after the other is forgotten as long as there
    /// are too many.
    fn could_take(&self, class: usize, parts: usize) -> bool {
        let Some((capacity, _)) = self.founded else { return false };
        let mut left = self.window.clone();
        while left.len() + parts > capacity as usize {
            let Some((stretch, of)) = self.goes_next(&left, class) else { return false };
            left.retain(|(id, c, _)| id.time_ms() / 512 != stretch || of.is_some_and(|of| of != *c));
        }
        true
    }

    /// Which stretch is forgotten next to make room for this class: the oldest when it is outdated, else what one
    /// class gives up.
    fn goes_next(&self, window: &[(Id, usize, u64)], coming: usize) -> Option<(u64, Option<usize>)> {
        let oldest = window.iter().map(|(id, ..)| *id).min_by_key(|id| id.time_ms())?;
        if self.is_outdated(oldest) {
            return Some((oldest.time_ms() / 512, None));
        }
        self.given_up(window, coming).map(|(stretch, class)| (stretch, Some(class)))
    }

    /// Ids are forgotten by stretches of 512 ms.
    fn is_outdated(&self, id: Id) -> bool {
        (id.time_ms() / 512 + 1) * 512 + DAY_MS < self.now_ms
    }

    /// Which stretch of which class is given up when a new id of this class comes and all is full: the oldest
    /// of the class that is furthest over its share, of those that are over it, or are this one, and whose
    /// oldest has passed.
    fn given_up(&self, window: &[(Id, usize, u64)], coming: usize) -> Option<(u64, usize)> {
        let capacity = self.founded?.0 as i64;
        let mut worst: Option<(i64, u64, usize)> = None;
        for (class, share) in [40, 25, 15, 5, 0].into_iter().enumerate() {
            let of_class = || window.iter().filter(|(_, c, _)| *c == class);
            let over = of_class().count() as i64 + (coming == class) as i64 - capacity * share / 100;
            let oldest = of_class().map(|(id, ..)| id.time_ms() / 512).min();
            let Some(stretch) = oldest.filter(|stretch| (stretch + 1) * 512 <= self.now_ms) else { continue };
            if (over > 0 || class == coming) && worst.is_none_or(|(most, ..)| over >= most) {
                worst = Some((over, stretch, class));
            }
        }
        worst.map(|(_, stretch, class)| (stretch, class))
    }

    /// Writes the outcome down for ever, where its entry stands, and its id in the window.
    pub(super) fn keep(
        &mut self,
        context: &Context,
        sent: &Sent,
        position: u64,
        done: Result<Written, Code>,
    ) -> Reply {
        let newest = self.firsts.last_key_value().map_or(0, |(newest, _)| *newest);
        assert!(position > newest, "an entry at {position} cannot come after the one at {newest}");
        let (code, mut written) = match done {
            Ok(written) => (Code::Done, written),
            Err(code) => (code, Written::default()),
        };
        written.date = self.date;
        written.released.iter_mut().for_each(|(_, of)| of.date = self.date);
        self.decided += 1;
        self.released += written.released.len() as u64;
        if context.job.is_none() {
            self.positions.insert(sent.command().id, position);
        }
        let first = First { sent: sent.clone(), code, written };
        let balances = first.balances();
        self.firsts.insert(position, first);
        if let Some(job) = context.job {
            self.jobs.entry(job).or_default().0 += 1;
        } else if let Some((capacity, _)) = self.founded {
            let class = context.class.min(4) as usize;
            if self.rules < 3 {
                self.forget_as_before(capacity as usize, class);
            } else {
                self.forget(capacity as usize, class);
            }
            self.window.push((sent.command().id, class, position));
        }
        Reply { code, again: false, position, debit_balance: balances.0, credit_balance: balances.1 }
    }

    /// Under rules 1 and 2: all that is outdated, and at the bound one stretch more.
    fn forget_as_before(&mut self, capacity: usize, class: usize) {
        let now_ms = self.now_ms;
        self.window.retain(|(id, ..)| (id.time_ms() / 512 + 1) * 512 + DAY_MS >= now_ms);
        if self.window.len() >= capacity
            && let Some((stretch, victim)) = self.given_up(&self.window, class)
        {
            self.give_up(stretch, victim);
        }
    }

    /// Since rules 3: one stretch that is outdated, and at the bound as many as are needed.
    fn forget(&mut self, capacity: usize, class: usize) {
        let mut gone = 0;
        while let Some((stretch, of)) = self.goes_next(&self.window, class) {
            match of {
                None if gone == 0 || self.window.len() >= capacity => {
                    self.window.retain(|(id, ..)| id.time_ms() / 512 != stretch);
                }
                Some(victim) if self.window.len() >= capacity => self.give_up(stretch, victim),
                _ => break,
            }
            gone += 1;
        }
    }

    fn give_up(&mut self, stretch: u64, victim: usize) {
        self.window.retain(|(id, c, _)| *c != victim || id.time_ms() / 512 != stretch);
        self.horizon_ms = self.horizon_ms.max((stretch + 1) * 512);
    }
}
