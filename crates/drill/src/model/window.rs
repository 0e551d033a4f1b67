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
        let old = self.window.iter().any(|(id, ..)| self.is_outdated(*id));
        if self.window.len() < capacity as usize || old || self.given_up(class).is_some() {
            Ok(())
        } else {
            Err(refuse(Code::StateFull))
        }
    }

    /// Ids are forgotten by stretches of 512 ms.
    fn is_outdated(&self, id: Id) -> bool {
        (id.time_ms() / 512 + 1) * 512 + DAY_MS < self.now_ms
    }

    /// Which stretch of which class is given up when a new id of this class comes and all is full: the oldest
    /// of the class that is furthest over its share, of those that are over it, or are this one, and whose
    /// oldest has passed.
    fn given_up(&self, coming: usize) -> Option<(u64, usize)> {
        let capacity = self.founded?.0 as i64;
        let mut worst: Option<(i64, u64, usize)> = None;
        for (class, share) in [40, 25, 15, 5, 0].into_iter().enumerate() {
            let of_class = || self.window.iter().filter(|(_, c, _)| *c == class);
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
            let now_ms = self.now_ms;
            self.window.retain(|(id, ..)| (id.time_ms() / 512 + 1) * 512 + DAY_MS >= now_ms);
            if self.window.len() >= capacity as usize
                && let Some((stretch, victim)) = self.given_up(class)
            {
                self.window.retain(|(id, c, _)| *c != victim || id.time_ms() / 512 != stretch);
                self.horizon_ms = self.horizon_ms.max((stretch + 1) * 512);
            }
            self.window.push((sent.command().id, class, position));
        }
        Reply { code, again: false, position, debit_balance: balances.0, credit_balance: balances.1 }
    }
}
