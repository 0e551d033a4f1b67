//! What befalls a bank.

use super::{DATA, Death, World};
use crate::disk::image::{BLOCK, Loss, block, bytes};
use crate::disk::{Access, Fault};
use crate::random::Random;
use pabal_engine::engine::JOURNAL;
use pabal_journal::UNIT;
use std::path::Path;

impl World {
    pub(super) fn danger(&mut self) {
        let what = self.random.weighted(&[6, 6, 3, 8, 3, 3, 2, 2, 3, 3, 4, 8]);
        self.disk.note(&[100 + what as u8]);
        const DANGERS: [&str; 12] = [
            "killed",
            "power lost",
            "stopped",
            "a fault comes",
            "a write goes wrong",
            "rot",
            "disk full",
            "room",
            "torn",
            "dies twice",
            "a snapshot is spoilt",
            "on frames",
        ];
        self.disk.say(|| format!("  danger: {}", DANGERS[what]));
        match what {
            0 => self.die(Death::Killed, Loss::Process),
            1 => {
                let loss = if self.random.one_in(4) { Loss::PowerTorn } else { Loss::Power };
                self.die(Death::Killed, loss);
            }
            2 => self.stop(),
            3 => {
                let fault = self.random.of(&[Fault::Fails, Fault::Dies, Fault::DiesAfter, Fault::Full]);
                self.arm(fault, 12);
            }
            4 if self.damaged_at.is_none() => {
                let fault = self.random.of(&[Fault::Lost, Fault::Misdirected]);
                self.arm(fault, 6);
            }
            5 => self.rot(),
            6 => {
                let free = self.random.below(3 * self.segment_blocks as u64) as usize;
                self.disk.set_free(Some(free));
                self.bench.judge().full = true;
            }
            7 => self.disk.set_free(None),
            8 => self.tear(),
            9 => self.die_twice(),
            10 => self.spoil_a_snapshot(),
            _ => {
                let what = self.clients.frames.danger(self.clock.read().1);
                self.disk.say(|| format!("  {what}"));
            }
        }
    }

    /// The process dies, or the disk fails it, in the write of a long record.
    pub(super) fn tear(&mut self) {
        let fault = self.random.of(&[Fault::Fails, Fault::Dies]);
        let many = self.random.between(25, 60) as usize;
        let attempt = self.clients.many(&self.bench.judge().model, many);
        self.send(attempt);
        self.guarded(|world| world.engine_mut().execute());
        self.disk.disarm();
        self.disk.arm_next(Access::Write, fault);
        self.failed = true;
        self.guarded(|world| world.engine_mut().write());
    }

    /// The process dies in the write of a record or before its sync; the next one begins with what is there of it, and
    /// shows it; then the power goes before anything more is written.
    pub(super) fn die_twice(&mut self) {
        let many = if self.random.one_in(2) { self.random.between(25, 60) as usize } else { 1 };
        let attempt = self.clients.many(&self.bench.judge().model, many);
        self.send(attempt);
        self.guarded(|world| world.engine_mut().execute());
        self.disk.disarm();
        let access = self.random.of(&[Access::Write, Access::Sync]);
        self.disk.arm_next(access, Fault::Dies);
        self.failed = true;
        while self.guarded(|world| world.engine_mut().write()) == Some(true) {}
        if self.engine.is_some() {
            return;
        }
        self.start();
        let mut unknown = self.clients.unknown();
        if self.random.one_in(3) {
            unknown.push(self.clients.many(&self.bench.judge().model, 1));
        }
        for attempt in unknown {
            self.send_and_wait(attempt);
        }
        self.die(Death::Killed, Loss::Power);
    }

    pub(super) fn arm(&mut self, fault: Fault, within: u64) {
        self.disk.disarm();
        let after = self.random.below(within);
        // What tears a record comes in its write, or before its sync.
        match self.random.below(4) {
            0 if fault != Fault::Full => self.disk.arm_next(Access::Write, fault),
            1 if fault != Fault::Full => self.disk.arm_next(Access::Sync, fault),
            _ => self.disk.arm(after, fault),
        }
        self.failed = true;
        if fault == Fault::Full {
            self.bench.judge().full = true;
        }
    }

    /// A block of a segment that was written and is durable is something else from now on.
    pub(super) fn rot(&mut self) {
        let draw = self.random.bits();
        let mut random = Random::new(draw);
        // Half of the time where an entry stands that someone may ask for again.
        let entry = self.clients.some_position(&self.bench.judge().model).filter(|_| random.one_in(2));
        let blocks = self.segment_blocks as u64;
        let chosen = self.disk.change(|image| {
            if let Some(position) = entry {
                let (segment, at) = (position.block() / blocks, position.block() % blocks);
                let id = image.find(&Path::new(DATA).join(JOURNAL).join(format!("{segment:012}.seg")))?;
                let mut content = bytes(&image.file(id).block(at as usize));
                let offset = position.unit() * UNIT + random.below(3 * UNIT as u64) as usize;
                content[offset] ^= 1 << random.below(8);
                // Or what was to be written elsewhere lies there, sound in itself.
                let other = (at as usize).saturating_sub(1 + random.below(3) as usize);
                if random.one_in(2) && image.file(id).block(other).is_some() {
                    content = bytes(&image.file(id).block(other));
                }
                let is_pending = image.file(id).is_pending(at as usize);
                return (!is_pending).then(|| (id, at as usize, block(&content)));
            }
            let segments: Vec<u64> = image
                .paths()
                .filter(|path| path.extension().is_some_and(|e| e == "seg"))
                .filter_map(|path| image.find(path))
                .collect();
            let id = *segments.get(random.below(segments.len() as u64) as usize)?;
            let file = image.file(id);
            let at = random.below(file.seen.len() as u64) as usize;
            let was = file.block(at);
            if file.is_pending(at) || was.is_none() && !random.one_in(4) {
                return None;
            }
            let mut content = bytes(&was);
            content[random.below(BLOCK as u64) as usize] ^= 1 << random.below(8);
            Some((id, at, block(&content)))
        });
        if let Some((id, at, wrong)) = chosen {
            self.disk.decay(id, at, wrong);
        }
    }
}
