//! How a bank dies, and what may kill it.

use super::super::judge::{Wrong, wrong};
use super::super::tap::{Judged, Poisoned};
use super::{Death, ROTTEN, World};
use crate::disk::image::Loss;
use crate::disk::{Access, Fault, Killed};
use pabal_engine::{Error, Stepper};
use pabal_journal::Disk;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

impl World {
    pub(super) fn engine_mut(&mut self) -> &mut Stepper<Judged> {
        self.engine.as_mut().expect("a bank that lives")
    }

    pub(super) fn engine_ref(&self) -> &Stepper<Judged> {
        self.engine.as_ref().expect("a bank that lives")
    }

    pub(super) fn shared_disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.disk.clone())
    }

    /// Lets the bank do this. None when it died of it.
    pub(super) fn guarded<T>(&mut self, act: impl FnOnce(&mut World) -> Result<T, Error>) -> Option<T> {
        self.engine.as_ref()?;
        match self.caught(act) {
            Ok(done) => {
                if self.disk.has_misled() {
                    self.damaged_at = self.engine.as_ref().map(|engine| engine.durable().sequence());
                }
                Some(done)
            }
            Err(death) => {
                let loss = match self.random.below(3) {
                    0 => Loss::Power,
                    _ => Loss::Process,
                };
                self.die(death, loss);
                None
            }
        }
    }

    /// Lets this happen; what stops it that may stop a bank.
    pub(super) fn caught<T>(&mut self, act: impl FnOnce(&mut World) -> Result<T, Error>) -> Result<T, Death> {
        let thrown = match catch_unwind(AssertUnwindSafe(|| act(self))) {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => {
                if !self.may_fail(&error) {
                    wrong("ended without a reason", error.to_string());
                }
                return Err(Death::Disk);
            }
            Err(thrown) => thrown,
        };
        if thrown.is::<Killed>() {
            return Err(Death::Killed);
        }
        if thrown.is::<Poisoned>() {
            return Err(Death::Poisoned);
        }
        if thrown.is::<Wrong>() {
            std::panic::resume_unwind(thrown);
        }
        // A core that reads what the disk has spoilt stops, saying so.
        let said = crate::quiet::said(&*thrown);
        let spoilt = said.contains(ROTTEN) && !self.damaged().is_empty();
        if spoilt || said.contains("os error 5") && self.failed {
            return Err(Death::Disk);
        }
        let check = if said.contains("compare.rs") { "state differs" } else { "panic" };
        wrong(check, said)
    }

    /// Whether this error has a reason.
    pub(super) fn may_fail(&self, error: &Error) -> bool {
        use pabal_journal::Error::{Folder, Io, NoEntry, Rotten};
        match error {
            Error::Journal(Io { source, .. }) if self.running && source.kind() == ErrorKind::StorageFull => {
                false
            }
            Error::Journal(Io { .. }) | Error::Ring { .. } => self.failed || self.disk.is_bounded(),
            Error::Journal(Rotten { .. } | Folder { .. } | NoEntry(_)) => {
                self.torn.is_some() || !self.damaged().is_empty()
            }
            // A reader's own reader: what it says is what went wrong.
            Error::Journal(pabal_journal::Error::Visitor(inner)) => inner
                .downcast_ref::<pabal_journal::Error>()
                .is_some_and(|error| matches!(error, Io { .. } | Rotten { .. }) && self.failed),
            _ => false,
        }
    }

    /// Lets someone read beside the bank. None when that failed with a reason.
    pub(super) fn reading<T>(&mut self, act: impl FnOnce(&mut World) -> Result<T, Error>) -> Option<T> {
        // Whoever reads is a process of its own: it dies, and the bank goes on.
        self.caught(act).ok()
    }

    pub(super) fn die(&mut self, death: Death, loss: Loss) {
        let Some(engine) = self.engine.take() else { return };
        self.running = false;
        self.report.crashes += 1;
        let name = match death {
            Death::Killed => "killed",
            Death::Poisoned => "poisoned",
            Death::Disk => "the disk failed it",
        };
        self.disk.say(|| format!("  died: {name}, {loss:?} lost"));
        let durable = engine.durable().sequence();
        self.bench.judge().ended(matches!(death, Death::Poisoned), loss == Loss::Process);
        // Nobody must do anything more while the process goes down.
        let struck = self.disk.disarm();
        self.clients.frames.ends(false, self.clock.read().1);
        drop(engine);
        (self.follower, self.copy_follower) = (None, None);
        if loss != Loss::Process {
            self.copy = None;
        }
        self.clients.lose();
        // That the very last record was lost, one disk cannot know; nor does anyone have to know what was never
        // acknowledged.
        let misled = self.disk.has_misled();
        if self.damaged_at.take().is_some_and(|sequence| durable <= sequence) || misled {
            self.disk.heal();
        }
        self.torn = (loss == Loss::PowerTorn).then(|| self.disk.image());
        self.disk.crash(loss);
        // Someone reads what it left: what they saw must not be lost by what comes next. Only of a record whose sync
        // failed nobody but the next writer knows whether it is there: a reader's own sync says nothing of it.
        let is_given_up = struck == Some((Access::Sync, Fault::Fails));
        if self.torn.is_none() && !is_given_up && self.random.one_in(4) {
            self.look();
            self.open_copy();
            if self.random.one_in(2) {
                self.lose(Loss::Power);
            }
        }
    }

    /// The machine goes down, or only what is left of the process, while no bank runs.
    pub(super) fn lose(&mut self, loss: Loss) {
        if loss != Loss::Process {
            self.bench.judge().ring_lost();
            self.copy = None;
        }
        self.disk.crash(loss);
    }

    /// The bank is stopped in order.
    pub(super) fn stop(&mut self) {
        let Some(engine) = self.engine.take() else { return };
        (self.follower, self.copy_follower) = (None, None);
        self.clients.frames.drains(self.clock.read().1);
        match self.caught(|_| engine.stop().map(drop)) {
            Ok(()) => {
                self.clients.frames.ends(true, self.clock.read().1);
                self.hear();
                self.bench.judge().ended(false, true);
            }
            Err(death) => self.bench.judge().ended(matches!(death, Death::Poisoned), true),
        }
        self.clients.frames.ends(false, self.clock.read().1);
        self.running = false;
        self.clients.lose();
        self.disk.disarm();
        if self.disk.has_misled() || self.damaged_at.take().is_some() {
            self.disk.heal();
        }
        self.disk.crash(Loss::Process);
        self.torn = None;
    }
}
