//! An engine without threads: whoever owns it says what happens next. The same core, writer and journal; only
//! the order of their steps is chosen from outside, so that a simulator can try all of them and repeat each.

use crate::core::Step;
use crate::door::Door;
use crate::engine::{EngineConfig, Error, Recovery};
use crate::follow::Follower;
use crate::machine::Machine;
use crate::request::{Request, Response, Ticket};
use crate::start::{Ready, open};
use crate::writer::{Stepped, WriterGone};
use pabal_fault::{Point, reached};
use pabal_journal::{Durable, JournalConfig};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// An engine whose steps are taken one by one.
pub struct Stepper<M: Machine>(Ready<M, Stepped<M>>);

impl<M: Machine> Stepper<M> {
    /// Opens as [`crate::Engine::start`] does, but for [`Stepper::try_suspect`], which is to come next.
    pub fn start(
        data: &Path,
        machine: M,
        config: EngineConfig,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(Stepper<M>, Recovery), Error> {
        let journal = JournalConfig { background: false, ..config.journal };
        let config = EngineConfig { journal, ..config };
        let ready = open(data, machine, config, progress, false, |writer, _| Stepped::new(writer))?;
        let recovery = ready.recovery;
        Ok((Stepper(ready), recovery))
    }

    /// Tries what was being executed at the last crash, if anything was, alone. True when it was set aside.
    pub fn try_suspect(&mut self) -> Result<bool, Error> {
        let Some(suspect) = self.0.suspect.take() else { return Ok(false) };
        let tried = self.0.core.try_alone(&suspect);
        self.known(tried)
    }

    /// What stopped the writer, when it is gone.
    fn known<T>(&mut self, result: Result<T, WriterGone>) -> Result<T, Error> {
        result.map_err(|WriterGone| {
            reached(Point::StepJournal);
            self.0.core.writer.ended.take().unwrap_or(pabal_journal::Error::Stopped).into()
        })
    }

    /// The machine as it is now: what it decided last may not be durable.
    pub fn machine(&self) -> &M {
        &self.0.core.machine
    }

    /// As [`crate::Engine::submit`].
    pub fn submit(&self, request: Request) -> Ticket<Response<M::Reply>> {
        self.0.door.submit(request)
    }

    /// As [`crate::Engine::query`].
    pub fn query(&self, query: M::Query) -> Ticket<M::Answer> {
        self.0.door.query(query)
    }

    /// The door, for those who come from outside.
    pub fn door(&self) -> Door<M> {
        self.0.door.clone()
    }

    /// As [`crate::Engine::follow_from`].
    pub fn follow_from(&self, sequence: u64) -> Result<Follower, Error> {
        self.0.door.follow_from(sequence)
    }

    /// The acknowledged point.
    pub fn durable(&self) -> Arc<Durable> {
        self.0.door.durable.clone()
    }

    /// Requests and questions that wait for the core.
    pub fn waiting(&self) -> usize {
        self.0.door.queue.waiting()
    }

    /// What waits for the writer: records, and answers.
    pub fn unwritten(&self) -> usize {
        self.0.core.writer.waiting()
    }

    /// The core executes what waits, or, when nothing does, confirms the last record as after a while of idleness.
    pub fn execute(&mut self) -> Result<(), Error> {
        let step = self.0.core.step(Duration::ZERO);
        self.known(step).map(drop)
    }

    /// The writer does the next thing that waits for it. False when nothing does.
    pub fn write(&mut self) -> Result<bool, Error> {
        let step = self.0.core.writer.step();
        self.known(step)
    }

    /// Makes the next segment that is wanted. False when none is.
    pub fn make_segment(&self) -> bool {
        self.0.core.supply.make_one()
    }

    /// Executes what waits, confirms the last record, and ends. Gives the machine back.
    pub fn stop(mut self) -> Result<M, Error> {
        self.0.door.queue.stop();
        loop {
            let step = self.0.core.step(Duration::ZERO);
            if self.known(step)? == Step::Stopped {
                return Ok(self.0.core.machine);
            }
        }
    }
}
