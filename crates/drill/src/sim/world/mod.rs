//! The world: one bank after the other on one disk, driven by a seed, and everything that befalls them.

mod copies;
mod dangers;
mod death;
mod frames;
mod readers;
mod start;

use super::acts::{FIRST_WAYS, Maker, job_id};
use super::clients::{Attempt, Clients};
use super::clock::SimClock;
use super::frames::Frames;
use super::judge::{Judge, Wrong, wrong};
use super::tap::{Bench, Judged};
use crate::book::{ACCOUNTS, KRW, WAYS};
use crate::disk::SimDisk;
use crate::disk::image::Image;
use crate::model::compare;
use crate::random::Random;
use crate::sent::Sent;
use pabal_bank::command;
use pabal_bank::ledger::{Date, Id};
use pabal_core::Copy;
use pabal_core::machine::{Answer, Query};
use pabal_engine::{Follower, Lane, RequestHeader, Stepper};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

const DATA: &str = "/bank";
const START_MS: u64 = 1_800_000_000_000;
const START_DATE: Date = Date(20_833);
const MINUTE_US: u64 = 60_000_000;
const HOUR_US: u64 = 60 * MINUTE_US;
/// The gap in time that a start accepts, milliseconds.
const GAP_MS_MAX: u64 = 600_000;
/// Postings after which an account has more roots than are kept in it, and those that fit into the smallest segment.
const LONG: usize = 2036;
const TOGETHER: usize = 60;
/// What a restart may need: more than one thing can be wrong, and a second source of time is wrong once in three.
const STARTS_MAX: usize = 32;
/// Turns of core and writer in which everything that waits must be answered.
const TURNS_MAX: usize = 200;
/// What a disk does to its journal says so in these words.
const ROTTEN: &str = "restore it from a copy";

/// What came of a seed.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Steps taken.
    pub ticks: u64,
    /// Times that the bank died.
    pub crashes: u64,
    /// Starts that refused a disk which had been damaged.
    pub refused: u64,
    /// Commands decided.
    pub decided: u64,
    /// Requests and questions that were answered over frames.
    pub over_frames: u64,
    /// Records that came to one who follows over frames.
    pub followed: u64,
    /// Questions that the copy answered over frames.
    pub of_copies: u64,
    /// The hash of everything that happened.
    pub trace: [u8; 32],
    /// What happened, step by step, where it was asked for.
    pub story: Vec<String>,
    /// What was wrong, and at which step.
    pub wrong: Option<(Wrong, u64)>,
}

/// Why a bank is gone.
enum Death {
    /// It was killed, by the disk or from outside.
    Killed,
    /// A poisoned command stopped it.
    Poisoned,
    /// It ended by itself, as the disk failed it.
    Disk,
}

/// Whether a bank may begin at this time, after that of its last record (zero for none).
fn may_begin(wall_ms: u64, last_ms: u64, confirmed: Option<u64>) -> bool {
    let is_near = |ms: u64| ms.abs_diff(wall_ms) <= GAP_MS_MAX;
    last_ms == 0 || is_near(last_ms) || confirmed.is_some_and(is_near)
}

struct World {
    random: Random,
    disk: SimDisk,
    clock: SimClock,
    bench: Bench,
    clients: Clients,
    engine: Option<Stepper<Judged>>,
    follower: Option<Follower>,
    /// A process beside the bank that folds its journal, its judge, and how it follows.
    copy: Option<Copy<Judged>>,
    beside: Bench,
    copy_follower: Option<Follower>,
    /// The record of the newest snapshot with which nothing is wrong.
    snapshot: Option<u64>,
    /// The record that the follower must show next.
    follows: u64,
    segment_blocks: u32,
    journal_id: u64,
    /// The newest rules that the program knows which is started next.
    knowing: u32,
    /// Whether the disk was told to fail since the last start.
    failed: bool,
    /// Whether a bank has begun and not ended: of a full disk it may not die then.
    running: bool,
    /// The record whose write went wrong unnoticed.
    damaged_at: Option<u64>,
    /// The disk before the last loss of power, where that may have torn blocks.
    torn: Option<Image>,
    report: Report,
    ticks: u64,
    /// How often the dangers come: one in so many steps, each.
    danger: u64,
}

/// Runs a seed for so many steps.
pub fn run(seed: u64, ticks: u64) -> Report {
    tell(seed, ticks, false)
}

/// The same; `story` has everything that happens told.
pub fn tell(seed: u64, ticks: u64, story: bool) -> Report {
    crate::quiet::begin();
    let mut random = Random::new(seed);
    let clock = SimClock::at(START_MS + random.below(86_400_000));
    let disk = SimDisk::new(random.bits());
    let bench = Bench::new(Judge::new(clock.clone()));
    let beside = Bench::new(bench.judge().beside());
    if story {
        disk.tell();
    }
    let maker = Maker::new(Random::new(random.bits()));
    let segment_blocks = random.of(&[6, 8, 12, 16, 24, 64]);
    let frames = Frames::new(Random::new(random.bits()), bench.clone(), beside.clone());
    let mut world = World {
        segment_blocks,
        journal_id: random.bits(),
        knowing: 1 + random.below(pabal_bank::RULES_CURRENT as u64) as u32,
        danger: random.of(&[20, 60, 200]),
        random,
        disk,
        clock,
        bench,
        clients: Clients::new(maker, segment_blocks, frames),
        engine: None,
        follower: None,
        copy: None,
        beside,
        copy_follower: None,
        snapshot: None,
        follows: 0,
        failed: false,
        running: false,
        damaged_at: None,
        torn: None,
        report: Report::default(),
        ticks,
    };
    let ended = catch_unwind(AssertUnwindSafe(|| world.live()));
    if let Err(thrown) = ended {
        let found = match thrown.downcast::<Wrong>() {
            Ok(found) => *found,
            Err(thrown) => {
                let what = crate::quiet::said(&*thrown);
                let check = if what.contains("compare.rs") { "state differs" } else { "panic" };
                Wrong { check, what }
            }
        };
        world.disk.note(found.what.as_bytes());
        world.report.wrong = Some((found, world.report.ticks));
    }
    world.report.trace = world.disk.trace();
    world.report.story = world.disk.story();
    world.report
}

impl World {
    fn live(&mut self) {
        self.start();
        self.found();
        while self.report.ticks < self.ticks {
            self.report.ticks += 1;
            self.tick();
        }
        self.finish();
    }

    // ── a bank and its first customers ───────────────────────────────────────────────────────────

    /// Founds the bank and opens its accounts; nothing goes wrong yet.
    fn found(&mut self) {
        let capacity = self.random.of(&[4, 8, 20, 30, 10_000, 10_000, 10_000]);
        let rules = 1 + self.random.below(self.knowing as u64) as u32;
        let now_ms = self.clock.read().0;
        let id = self.clients.maker.id_at(now_ms);
        let mut commands: Vec<Sent> = vec![command::found(id, capacity, 99, rules, START_DATE).into()];
        self.send_all(RequestHeader::new(Lane::Online, 1), &commands);
        commands.clear();
        for (number, class, currency, overdraft, ceiling) in ACCOUNTS {
            let open = command::open(
                self.clients.maker.id_at(now_ms),
                number,
                class,
                currency,
                number * 10,
                overdraft,
            );
            commands.push(command::with_ceiling(open, ceiling).into());
        }
        commands.extend((0..FIRST_WAYS.len()).map(|i| self.clients.maker.first_money(now_ms, i)));
        // By a job of their own: the window is for what follows.
        let job = Id::new(0, 0, 4);
        let mut item = 0;
        let mut by_job = |world: &mut World, commands: &[Sent]| {
            let mut header = RequestHeader::new(Lane::Bulk, 4);
            (header.attempt, header.item) = ([job.high, job.low], item);
            item += commands.len() as u64;
            world.send_all(header, commands);
        };
        commands.iter().for_each(|command| by_job(self, std::slice::from_ref(command)));
        // Some have a history so long that its older roots are kept aside.
        for _ in 0..if self.random.one_in(10) { LONG / TOGETHER + 1 } else { 0 } {
            let (kind, debit, credit) = WAYS[0];
            let post = |id| command::post(id, kind, debit, credit, 1, KRW).into();
            let posts: Vec<Sent> = (0..TOGETHER).map(|_| post(self.clients.maker.id_at(now_ms))).collect();
            by_job(self, &posts);
        }
    }

    /// Sends this and waits for the answer.
    fn send_all(&mut self, header: RequestHeader, commands: &[Sent]) {
        let commands = commands.to_vec();
        self.send_and_wait(Attempt { header, commands, malformed: false, unknown: false, before: false });
    }

    fn send_and_wait(&mut self, attempt: Attempt) {
        self.send(attempt);
        for turn in 0.. {
            if self.engine.is_none() || self.clients.waiting() == 0 {
                return;
            }
            if turn == TURNS_MAX {
                wrong("no answer", format!("after {turn} turns of core and writer"));
            }
            self.guarded(|world| world.engine_mut().execute());
            while self.guarded(|world| world.engine_mut().write()) == Some(true) {}
            self.hear();
        }
    }

    // ── steps ────────────────────────────────────────────────────────────────────────────────────

    fn tick(&mut self) {
        let what = self.random.weighted(&[30, 22, 26, 3, 10, 5, 4, 1, 1, 6, 24]);
        self.disk.note(&[what as u8]);
        const STEPS: [&str; 11] = [
            "send",
            "execute",
            "write",
            "make a segment",
            "time passes",
            "ask",
            "follow",
            "go away",
            "look",
            "copy",
            "frames",
        ];
        let tick = self.report.ticks;
        self.disk.say(|| format!("{tick}: {}", STEPS[what]));
        if self.engine.is_none() {
            self.start();
        }
        match what {
            0 => {
                let poison = self.random.one_in(60);
                self.clients.maker.next_block = self.engine.as_ref().map_or(1, |e| e.durable().next_block());
                let attempt = match self.again_in_damage().filter(|_| !poison) {
                    Some(attempt) => attempt,
                    None => self.clients.next(&self.bench.judge().model, poison),
                };
                if poison && !attempt.malformed {
                    let id = &attempt.commands[self.random.below(attempt.commands.len() as u64) as usize];
                    self.bench.judge().poison(id.command().id);
                }
                self.send_any(attempt);
            }
            1 => drop(self.guarded(|world| world.engine_mut().execute())),
            2 => drop(self.guarded(|world| world.engine_mut().write())),
            3 => drop(self.guarded(|world| Ok(world.engine_mut().make_segment()))),
            4 => self.time(),
            5 => {
                let query = self.some_query();
                if self.random.one_in(2) {
                    self.ask_copy(query);
                }
                if let Some(engine) = &self.engine {
                    self.clients.ask(query, engine, &self.bench.judge());
                }
            }
            6 => self.follow(),
            7 => self.clients.go_away(&mut self.bench.judge()),
            8 => drop(self.look()),
            9 => self.copy(),
            _ => self.step_frames(),
        }
        // Whoever speaks and hears does so beside all this.
        if self.random.one_in(2) {
            self.step_frames();
        }
        self.hear();
        if self.random.one_in(self.danger) {
            self.danger();
        }
    }

    fn some_query(&mut self) -> Query {
        let account = (!self.random.one_in(4)).then(|| self.random.below(15));
        let job = self.random.below(5);
        match (account, job) {
            (Some(number), _) => Query::Account(number),
            (None, 4) => Query::Status,
            (None, job) => Query::Job(job_id(job)),
        }
    }

    /// Something that was sent before, and whose entry lies in a block that is not what it should be.
    fn again_in_damage(&mut self) -> Option<Attempt> {
        let damaged = self.damaged();
        if damaged.is_empty() || self.random.one_in(2) {
            return None;
        }
        self.clients.again_in(&self.bench.judge().model, &damaged)
    }

    /// Blocks of the journal that are not what was written to them.
    fn damaged(&self) -> Vec<u64> {
        let (damage, image, blocks) = (self.disk.damage(), self.disk.image(), self.segment_blocks as u64);
        let of = |path: &Path| {
            let number: u64 = path.file_stem()?.to_str()?.parse().ok()?;
            Some((image.find(path)?, number * blocks))
        };
        let is_segment = |path: &&Path| path.extension().is_some_and(|extension| extension == "seg");
        let files: Vec<(u64, u64)> = image.paths().filter(is_segment).filter_map(of).collect();
        let first = |file: u64| files.iter().find(|(id, _)| *id == file).map(|(_, first)| *first);
        damage.iter().filter_map(|d| Some(first(d.file)? + d.at as u64)).collect()
    }

    fn send(&mut self, attempt: Attempt) {
        if let Some(engine) = &self.engine {
            self.disk.say(|| format!("  send {:?} {:?}", attempt.header, attempt.commands));
            self.clients.send(attempt, engine, &mut self.bench.judge());
        }
    }

    fn hear(&mut self) {
        let disk = self.disk.clone();
        let answers = self.clients.hear(&mut self.bench.judge(), &mut |what| {
            disk.note(what);
            disk.say(|| format!("  heard {}", String::from_utf8_lossy(what)));
        });
        for (number, answer, booked) in answers {
            if let Answer::Account(Some(view)) = answer
                && self.random.one_in(2)
            {
                self.statement(number, view.head.0, booked);
            }
        }
    }

    fn time(&mut self) {
        let us = match self.random.weighted(&[10, 6, 3, 1, 1]) {
            0 => self.random.below(3000),
            1 => self.random.below(2_000_000),
            2 => self.random.below(20 * MINUTE_US),
            3 => self.random.below(30 * HOUR_US),
            _ => 24 * HOUR_US + self.random.below(2_000_000),
        };
        let us = self.until_a_hold_ends().unwrap_or(us);
        let wrong_ms = match self.random.below(12) {
            0 => self.random.between(-7_200_000, 7_200_000),
            1 => self.random.between(-100, 100),
            _ => 0,
        };
        self.clock.pass(us, wrong_ms);
    }

    /// Sometimes, until just when a hold ends, or a millisecond beside.
    fn until_a_hold_ends(&mut self) -> Option<u64> {
        if !self.random.one_in(3) {
            return None;
        }
        let beside = self.random.of(&[-1, 0, 0, 0, 1]);
        let judge = self.bench.judge();
        let model = &judge.model;
        let ends = model.holds.values().map(|hold| hold.expires_ms).filter(|ends| *ends > model.now_ms);
        judge.us_until(ends.min()?.saturating_add_signed(beside)).filter(|us| *us <= 72 * HOUR_US)
    }

    // ── the end ──────────────────────────────────────────────────────────────────────────────────

    /// Everything becomes quiet: what is unknown is sent again, and everything is read once more.
    fn finish(&mut self) {
        self.disk.disarm();
        self.disk.set_free(None);
        for _ in 0..4 {
            if self.engine.is_none() {
                self.start();
            }
            for attempt in self.clients.unknown() {
                self.send_and_wait(attempt);
            }
        }
        self.settle_frames();
        self.rest();
        if let Some(engine) = &self.engine {
            compare(&engine.machine().bank.0, &self.bench.judge().model);
        }
        self.stop();
        self.disk.heal();
        self.look();
        // By the newest program, which folds what older ones decided.
        self.knowing = pabal_bank::RULES_CURRENT;
        self.start();
        self.report.decided = self.bench.judge().model.decided;
        self.report.over_frames = self.clients.frames.ends_heard;
        (self.report.followed, self.report.of_copies) = self.clients.frames.beside();
        self.stop();
    }
}
