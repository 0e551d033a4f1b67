//! How a bank comes to life again, and what may keep it from that.

use super::super::judge::wrong;
use super::super::tap::Judged;
use super::{DATA, Death, GAP_MS_MAX, STARTS_MAX, World, may_begin};
use crate::disk::Fault;
use crate::disk::image::Loss;
use crate::model::compare;
use pabal_bank::RULES_CURRENT;
use pabal_engine::{EngineConfig, Error, ReplayError, Stepper, TimeSource};
use pabal_journal::JournalConfig;
use std::path::Path;

impl World {
    pub(super) fn start(&mut self) {
        let mut confirmed: Option<u64> = None;
        if self.random.one_in(8) {
            self.knowing = 1 + self.random.below(RULES_CURRENT as u64) as u32;
        }
        // The recovery itself is in danger too.
        if self.report.ticks > 0 && self.random.one_in(8) {
            let fault = self.random.of(&[Fault::Fails, Fault::Dies, Fault::DiesAfter]);
            self.arm(fault, 60);
        }
        for _ in 0..STARTS_MAX {
            let knowing = self.knowing;
            self.disk.say(|| format!("  start, knowing rules {knowing}"));
            self.bench.judge().starts(self.knowing);
            let wall_ms = self.clock.read().0;
            let config = EngineConfig {
                journal: JournalConfig {
                    segment_blocks: self.segment_blocks,
                    direct: true,
                    disk: self.shared_disk(),
                    background: false,
                },
                journal_id: self.journal_id,
                time: TimeSource::Clock { clock: Box::new(self.clock.clone()), confirmed_ms: confirmed },
            };
            let machine = Judged::new(self.knowing, self.bench.clone());
            let mut refused = None;
            let started =
                self.caught(|_| match Stepper::start(Path::new(DATA), machine, config, &mut |_| {}) {
                    Ok((stepper, recovery)) => Ok(Some((stepper, recovery.snapshot))),
                    Err(error @ (Error::Time(_) | Error::Journal(pabal_journal::Error::Visitor(_)))) => {
                        refused = Some(error);
                        Ok(None)
                    }
                    Err(error) => Err(error),
                });
            match started {
                Ok(Some((engine, from))) => {
                    let last_ms = self.bench.judge().model.now_ms;
                    if !may_begin(wall_ms, last_ms, confirmed) {
                        wrong("gap accepted", format!("{last_ms} to {wall_ms}, confirmed {confirmed:?}"));
                    }
                    if self.begin(engine, from) {
                        return;
                    }
                }
                Ok(None) => match refused {
                    Some(Error::Time(gap)) => {
                        if may_begin(gap.wall_ms, gap.last_ms, confirmed) {
                            wrong("time refused without a reason", gap.to_string());
                        }
                        // The second source may be as wrong as the first.
                        let beside = self.random.of(&[0, GAP_MS_MAX as i64, GAP_MS_MAX as i64 + 1]);
                        let beside = if self.random.one_in(2) { beside } else { -beside };
                        confirmed = Some(wall_ms.saturating_add_signed(beside));
                        self.disk.say(|| format!("  time refused; a second source is {beside} ms beside"));
                    }
                    Some(error) => self.refused(error),
                    None => {}
                },
                Err(Death::Disk) if !self.failed || !self.damaged().is_empty() || self.torn.is_some() => {
                    self.mend();
                }
                Err(_) => {
                    // It failed once, or the process was killed while it started.
                    self.report.crashes += 1;
                    self.disk.disarm();
                    let loss = if self.random.one_in(2) { Loss::Power } else { Loss::Process };
                    self.lose(loss);
                }
            }
        }
        wrong("does not start", format!("after {STARTS_MAX} tries"));
    }

    /// The journal is read, from this record on. False when it died while it tried what had stopped it before.
    pub(super) fn begin(&mut self, engine: Stepper<Judged>, from: Option<u64>) -> bool {
        self.has_begun_from(from);
        if self.disk.has_misled() {
            self.damaged_at = Some(engine.durable().sequence());
        }
        let damaged = self.damaged();
        // What is before a snapshot is not read: whoever verifies finds it.
        let first = from.map_or(0, |sequence| self.snapshot_block(sequence));
        let unnoticed = damaged.iter().find(|block| **block >= first);
        if unnoticed.is_some() && self.damaged_at.is_none() {
            wrong("damage not noticed", format!("{unnoticed:?}, read from block {first} on"));
        }
        if unnoticed.is_none() && !damaged.is_empty() {
            self.disk.heal();
        }
        self.torn = None;
        self.failed = self.disk.is_armed();
        let rules = self.bench.judge().model.rules;
        if rules > self.knowing {
            wrong("newer rules", format!("{rules} read by a program that knows {}", self.knowing));
        }
        self.bench.judge().started();
        self.bench.judge().durable = Some(engine.durable());
        compare(&engine.machine().bank.0, &self.bench.judge().model);
        self.engine = Some(engine);
        self.running = true;
        if !self.disk.is_bounded() {
            self.bench.judge().full = false;
        }
        let tried = self.guarded(|world| world.engine_mut().try_suspect()).is_some();
        if tried {
            self.bench.judge().tried_alone();
            self.serve();
        }
        tried
    }

    /// A start that was refused for what it read.
    pub(super) fn refused(&mut self, error: Error) {
        let Error::Journal(pabal_journal::Error::Visitor(inner)) = &error else {
            wrong("refused without a reason", error.to_string());
        };
        match inner.downcast_ref::<ReplayError>() {
            Some(ReplayError::RulesUnknown { found, known, .. }) if *found > *known => self.knowing = *found,
            _ if self.may_fail(&error) => {
                self.disk.disarm();
                self.disk.crash(Loss::Process);
            }
            _ => wrong("replay differs", error.to_string()),
        }
    }

    /// A start that was refused for what the disk had done is made possible, as from a copy.
    pub(super) fn mend(&mut self) {
        self.report.refused += 1;
        self.disk.say(|| "  the disk is put right".into());
        self.disk.disarm();
        self.damaged_at = None;
        self.failed = false;
        let Some(image) = self.torn.take() else { return self.disk.heal() };
        self.disk.set_image(image);
        self.disk.heal();
        self.lose(Loss::Power);
    }

    /// Nothing more comes for a while: then everything that was decided is seen by those who read beside the bank.
    pub(super) fn rest(&mut self) {
        self.guarded(|world| {
            while world.engine_mut().waiting() > 0 {
                world.engine_mut().execute()?;
            }
            world.engine_mut().execute()?;
            while world.engine_mut().write()? {}
            Ok(())
        });
        let last = self.engine.is_some().then(|| self.look()).flatten();
        if last.is_some_and(|last| !self.bench.judge().is_all(last)) && self.damaged().is_empty() {
            wrong("not confirmed", format!("{last:?} is the last record that is seen of a bank at rest"));
        }
    }
}
