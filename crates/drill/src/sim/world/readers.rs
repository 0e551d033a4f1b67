//! Those who read beside the bank: followers, other processes, and customers their statements.

use super::super::judge::wrong;
use super::super::statement;
use super::{DATA, World};
use pabal_engine::Error;
use pabal_engine::engine::JOURNAL;
use pabal_journal::Reader;
use std::path::Path;
use std::time::Duration;

impl World {
    /// A follower reads on.
    pub(super) fn follow(&mut self) {
        let Some(engine) = &self.engine else { return };
        if self.follower.is_none() {
            let last = engine.durable().sequence();
            let from = 1 + self.random.below(last + 1);
            match self.reading(|world| world.engine_ref().follow_from(from)) {
                Some(follower) => (self.follower, self.follows) = (Some(follower), from),
                None => return,
            }
        }
        let Some(mut follower) = self.follower.take() else { return };
        for _ in 0..self.random.below(6) {
            let mut seen = None;
            let next = self.reading(|world| {
                let next = follower.next(Duration::ZERO, |record| {
                    world.bench.judge().reads(record);
                    seen = Some(record.header.sequence);
                });
                next.map_err(Error::from)
            });
            let durable = self.engine.as_ref().map_or(0, |engine| engine.durable().sequence());
            match (next, seen) {
                (Some(true), Some(sequence)) if sequence == self.follows => {
                    self.bench.judge().shows_record(sequence);
                    self.follows += 1;
                }
                (Some(false), None) if durable < self.follows => break,
                (None, _) => return,
                other => wrong("follower", format!("{other:?}, should be {} of {durable}", self.follows)),
            }
        }
        self.follower = Some(follower);
    }

    /// Another process reads the whole journal; gives the last record that it saw.
    pub(super) fn look(&mut self) -> Option<u64> {
        let mut last = 0;
        self.reading(|world| {
            let reader = Reader::open_on(world.shared_disk(), &Path::new(DATA).join(JOURNAL))?;
            Ok(reader.scan(&mut |record| {
                let sequence = record.header.sequence;
                if sequence != last + 1 {
                    wrong("reader", format!("record {sequence} after record {last}"));
                }
                world.bench.judge().reads(record);
                last = sequence;
                Ok(())
            })?)
        })?;
        if last > 0 {
            self.bench.judge().shows_record(last);
        }
        // Beside a bank that lives the last record counts once the next one has begun: all but it are seen.
        if let Some(engine) = &self.engine {
            let durable = engine.durable().sequence();
            let lacks = last + 1 < durable && self.damaged().is_empty();
            if last > 0 && last >= durable || lacks {
                wrong("reader", format!("sees record {last} of {durable} while the bank lives"));
            }
        }
        Some(last)
    }

    /// Reads the statement of an account from its newest entry, as it was answered.
    pub(super) fn statement(&mut self, number: u64, head: u64, booked: usize) {
        let dates = [self.random.below(1 << 16) as u16, self.bench.judge().model.date];
        let read = self.reading(|world| {
            let reader = Reader::open_on(world.shared_disk(), &Path::new(DATA).join(JOURNAL))?;
            Ok(statement::read(&reader, number, head)?)
        });
        if let Some(lines) = read {
            statement::check(&lines, number, &self.bench.judge().model.booked[..booked], dates);
        }
    }
}
