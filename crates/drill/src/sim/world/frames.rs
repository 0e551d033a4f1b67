//! Frames in the world: when they move, and what befalls them.

use super::super::clients::Attempt;
use super::super::judge::wrong;
use super::World;

/// Time that a step of frames takes at most.
const STEP_US: u64 = 4000;
/// Time that a round takes when all is quiet: so that waits between tries pass.
const QUIET_US: u64 = 20_000;

impl World {
    /// Sends this, over frames or not.
    pub(super) fn send_any(&mut self, attempt: Attempt) {
        self.disk.say(|| format!("  perhaps by frames {:?} {:?}", attempt.header, attempt.commands));
        let left = self.clients.send_frames(attempt, &mut self.bench.judge());
        if let Some(attempt) = left {
            self.send(attempt);
        }
    }

    /// Some of those who speak and hear go on.
    pub(super) fn step_frames(&mut self) {
        if self.clients.frames.share == 0 {
            return;
        }
        self.clock.pass(self.random.below(STEP_US), 0);
        if self.copy.is_none() {
            self.clients.frames.copy.ends();
        }
        let us = self.clock.read().1;
        let moved = match self.engine.is_some() {
            // For those who follow the core reads its journal.
            true => self.guarded(|world| Ok(world.clients.frames.step(us))),
            false => Some(self.clients.frames.step(us)),
        };
        self.disk.note(&moved.unwrap_or_default().to_le_bytes());
    }

    /// A bank lives: those who knock are let in.
    pub(super) fn serve(&mut self) {
        let door = self.engine_ref().door();
        self.clients.frames.serve(door, self.journal_id, self.clock.read().1);
    }

    /// Everything moves again, beside those who keep no rule: whoever asks is answered.
    pub(super) fn settle_frames(&mut self) {
        let rounds = self.clients.frames.quiet_rounds();
        if rounds == 0 || self.engine.is_none() {
            return;
        }
        if self.copy.is_none() {
            self.open_copy();
        }
        self.clients.frames.heal(self.clock.read().1);
        let whole = self.damaged().is_empty();
        for _ in 0..rounds {
            self.clock.pass(QUIET_US, 0);
            let us = self.clock.read().1;
            self.guarded(|world| {
                world.clients.frames.step_all(us);
                Ok(())
            });
            self.guarded(|world| world.engine_mut().execute());
            while self.guarded(|world| world.engine_mut().write()) == Some(true) {}
            self.hear();
            // Whoever follows does not come past what cannot be read.
            let durable = self.engine.as_ref().map_or(0, |engine| engine.durable().sequence());
            let all = if whole { durable } else { 0 };
            if self.engine.is_none() || self.clients.frames.is_healed(all) {
                return;
            }
        }
        let lacks = self.clients.frames.lacks();
        wrong("no answer over frames", format!("within {rounds} rounds: {lacks}"));
    }
}
