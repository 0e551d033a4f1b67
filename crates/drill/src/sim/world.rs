//! The world: one bank after the other on one disk, driven by a seed, and everything that befalls them.

use super::acts::{ACCOUNTS, FIRST_WAYS, Maker};
use super::clients::{Attempt, Clients};
use super::clock::SimClock;
use super::judge::{Judge, Wrong, wrong};
use super::statement;
use super::tap::{Bench, Judged, Poisoned};
use crate::disk::image::{BLOCK, Damage, Image, Loss, block, bytes};
use crate::disk::{Access, Fault, Killed, SimDisk};
use crate::model::compare;
use crate::random::Random;
use crate::sent::Sent;
use pabal_bank::command;
use pabal_bank::ledger::{Date, Id};
use pabal_core::machine::Answer;
use pabal_engine::engine::JOURNAL;
use pabal_engine::{EngineConfig, Error, Follower, Lane, ReplayError, RequestHeader, Stepper, TimeSource};
use pabal_journal::{Disk, JournalConfig, Reader, UNIT};
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const DATA: &str = "/bank";
const START_MS: u64 = 1_800_000_000_000;
const START_DATE: Date = Date(20_833);
const MINUTE_US: u64 = 60_000_000;
const HOUR_US: u64 = 60 * MINUTE_US;
/// The gap in time that a start accepts, milliseconds.
const GAP_MS_MAX: u64 = 600_000;
/// What a restart may need: more than one thing can be wrong.
const STARTS_MAX: usize = 12;
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
    if story {
        disk.tell();
    }
    let maker = Maker::new(Random::new(random.bits()));
    let segment_blocks = random.of(&[6, 8, 12, 16, 24, 64]);
    let mut world = World {
        segment_blocks,
        journal_id: random.bits(),
        knowing: 1 + random.below(2) as u32,
        danger: random.of(&[20, 60, 200]),
        random,
        disk,
        clock,
        bench,
        clients: Clients::new(maker, segment_blocks),
        engine: None,
        follower: None,
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
        for (item, command) in commands.iter().enumerate() {
            let mut header = RequestHeader::new(Lane::Bulk, 4);
            (header.attempt, header.item) = ([job.high, job.low], item as u64);
            self.send_all(header, std::slice::from_ref(command));
        }
    }

    /// Sends this and waits for the answer.
    fn send_all(&mut self, header: RequestHeader, commands: &[Sent]) {
        let commands = commands.to_vec();
        self.send_and_wait(Attempt { header, commands, malformed: false, unknown: false });
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
        let what = self.random.weighted(&[30, 22, 26, 3, 10, 5, 4, 1, 1]);
        self.disk.note(&[what as u8]);
        const STEPS: [&str; 9] =
            ["send", "execute", "write", "make a segment", "time passes", "ask", "follow", "go away", "look"];
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
                self.send(attempt);
            }
            1 => drop(self.guarded(|world| world.engine_mut().execute())),
            2 => drop(self.guarded(|world| world.engine_mut().write())),
            3 => drop(self.guarded(|world| Ok(world.engine_mut().make_segment()))),
            4 => self.time(),
            5 => {
                let account = (!self.random.one_in(4)).then(|| self.random.below(15));
                let job = self.random.below(4);
                if let Some(engine) = &self.engine {
                    self.clients.ask(account, job, engine);
                }
            }
            6 => self.follow(),
            7 => self.clients.go_away(&mut self.bench.judge()),
            _ => drop(self.look()),
        }
        self.hear();
        if self.random.one_in(self.danger) {
            self.danger();
        }
    }

    /// Something that was sent before, and whose entry lies in a block that is not what it should be.
    fn again_in_damage(&mut self) -> Option<Attempt> {
        let damage = self.disk.damage();
        if damage.is_empty() || self.random.one_in(2) {
            return None;
        }
        let blocks = self.segment_blocks as u64;
        let damaged: Vec<u64> = self.disk.change(|image| {
            let of = |path: &Path| {
                let number: u64 = path.file_stem()?.to_str()?.parse().ok()?;
                Some((image.find(path)?, number * blocks))
            };
            let files: Vec<(u64, u64)> = image.paths().filter_map(of).collect();
            let block = |d: &Damage| {
                let (_, first) = files.iter().find(|(id, _)| *id == d.file)?;
                Some(first + d.at as u64)
            };
            damage.iter().filter_map(block).collect()
        });
        self.clients.again_in(&self.bench.judge().model, &damaged)
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

    /// A follower reads on.
    fn follow(&mut self) {
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
    fn look(&mut self) -> Option<u64> {
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
            let lacks = last + 1 < durable && self.disk.damage().is_empty();
            if last > 0 && last >= durable || lacks {
                wrong("reader", format!("sees record {last} of {durable} while the bank lives"));
            }
        }
        Some(last)
    }

    /// Reads the statement of an account from its newest entry, as it was answered.
    fn statement(&mut self, number: u64, head: u64, booked: usize) {
        let dates = [self.random.below(1 << 16) as u16, self.bench.judge().model.date];
        let read = self.reading(|world| {
            let reader = Reader::open_on(world.shared_disk(), &Path::new(DATA).join(JOURNAL))?;
            Ok(statement::read(&reader, number, head)?)
        });
        if let Some(lines) = read {
            statement::check(&lines, number, &self.bench.judge().model.booked[..booked], dates);
        }
    }

    // ── dangers ──────────────────────────────────────────────────────────────────────────────────

    fn danger(&mut self) {
        let what = self.random.weighted(&[6, 6, 3, 8, 3, 3, 2, 2, 3, 3]);
        self.disk.note(&[100 + what as u8]);
        const DANGERS: [&str; 10] = [
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
            _ => self.die_twice(),
        }
    }

    /// The process dies, or the disk fails it, in the write of a long record.
    fn tear(&mut self) {
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
    fn die_twice(&mut self) {
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

    fn arm(&mut self, fault: Fault, within: u64) {
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
    fn rot(&mut self) {
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

    // ── dying ────────────────────────────────────────────────────────────────────────────────────

    fn engine_mut(&mut self) -> &mut Stepper<Judged> {
        self.engine.as_mut().expect("a bank that lives")
    }

    fn engine_ref(&self) -> &Stepper<Judged> {
        self.engine.as_ref().expect("a bank that lives")
    }

    fn shared_disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.disk.clone())
    }

    /// Lets the bank do this. None when it died of it.
    fn guarded<T>(&mut self, act: impl FnOnce(&mut World) -> Result<T, Error>) -> Option<T> {
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
    fn caught<T>(&mut self, act: impl FnOnce(&mut World) -> Result<T, Error>) -> Result<T, Death> {
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
        let spoilt = said.contains(ROTTEN) && !self.disk.damage().is_empty();
        if spoilt || said.contains("os error 5") && self.failed {
            return Err(Death::Disk);
        }
        let check = if said.contains("compare.rs") { "state differs" } else { "panic" };
        wrong(check, said)
    }

    /// Whether this error has a reason.
    fn may_fail(&self, error: &Error) -> bool {
        use pabal_journal::Error::{Folder, Io, NoEntry, Rotten};
        match error {
            Error::Journal(Io { source, .. }) if self.running && source.kind() == ErrorKind::StorageFull => {
                false
            }
            Error::Journal(Io { .. }) | Error::Ring { .. } => self.failed || self.disk.is_bounded(),
            Error::Journal(Rotten { .. } | Folder { .. } | NoEntry(_)) => {
                self.torn.is_some() || !self.disk.damage().is_empty()
            }
            // A reader's own reader: what it says is what went wrong.
            Error::Journal(pabal_journal::Error::Visitor(inner)) => inner
                .downcast_ref::<pabal_journal::Error>()
                .is_some_and(|error| matches!(error, Io { .. } | Rotten { .. }) && self.failed),
            _ => false,
        }
    }

    /// Lets someone read beside the bank. None when that failed with a reason.
    fn reading<T>(&mut self, act: impl FnOnce(&mut World) -> Result<T, Error>) -> Option<T> {
        // Whoever reads is a process of its own: it dies, and the bank goes on.
        self.caught(act).ok()
    }

    fn die(&mut self, death: Death, loss: Loss) {
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
        drop(engine);
        self.follower = None;
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
            if self.random.one_in(2) {
                self.lose(Loss::Power);
            }
        }
    }

    /// The machine goes down, or only what is left of the process, while no bank runs.
    fn lose(&mut self, loss: Loss) {
        if loss != Loss::Process {
            self.bench.judge().ring_lost();
        }
        self.disk.crash(loss);
    }

    /// The bank is stopped in order.
    fn stop(&mut self) {
        let Some(engine) = self.engine.take() else { return };
        self.follower = None;
        match self.caught(|_| engine.stop().map(drop)) {
            Ok(()) => {
                self.hear();
                self.bench.judge().ended(false, true);
            }
            Err(death) => self.bench.judge().ended(matches!(death, Death::Poisoned), true),
        }
        self.running = false;
        self.clients.lose();
        self.disk.disarm();
        if self.disk.has_misled() || self.damaged_at.take().is_some() {
            self.disk.heal();
        }
        self.disk.crash(Loss::Process);
        self.torn = None;
    }

    // ── starting ─────────────────────────────────────────────────────────────────────────────────

    fn start(&mut self) {
        let mut confirmed: Option<u64> = None;
        if self.random.one_in(8) {
            self.knowing = 1 + self.random.below(2) as u32;
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
                    Ok((stepper, _)) => Ok(Some(stepper)),
                    Err(error @ (Error::Time(_) | Error::Journal(pabal_journal::Error::Visitor(_)))) => {
                        refused = Some(error);
                        Ok(None)
                    }
                    Err(error) => Err(error),
                });
            match started {
                Ok(Some(engine)) => {
                    let last_ms = self.bench.judge().model.now_ms;
                    if !may_begin(wall_ms, last_ms, confirmed) {
                        wrong("gap accepted", format!("{last_ms} to {wall_ms}, confirmed {confirmed:?}"));
                    }
                    if self.begin(engine) {
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
                    }
                    Some(error) => self.refused(error),
                    None => {}
                },
                Err(Death::Disk) if !self.failed || !self.disk.damage().is_empty() || self.torn.is_some() => {
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

    /// The journal is read. False when it died while it tried what had stopped it before.
    fn begin(&mut self, engine: Stepper<Judged>) -> bool {
        if self.disk.has_misled() {
            self.damaged_at = Some(engine.durable().sequence());
        }
        if !self.disk.damage().is_empty() && self.damaged_at.is_none() {
            wrong("damage not noticed", format!("{:?}", self.disk.damage().first().map(|d| (d.file, d.at))));
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
        }
        tried
    }

    /// A start that was refused for what it read.
    fn refused(&mut self, error: Error) {
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
    fn mend(&mut self) {
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
    fn rest(&mut self) {
        self.guarded(|world| {
            while world.engine_mut().waiting() > 0 {
                world.engine_mut().execute()?;
            }
            world.engine_mut().execute()?;
            while world.engine_mut().write()? {}
            Ok(())
        });
        let last = self.engine.is_some().then(|| self.look()).flatten();
        if last.is_some_and(|last| !self.bench.judge().is_all(last)) && self.disk.damage().is_empty() {
            wrong("not confirmed", format!("{last:?} is the last record that is seen of a bank at rest"));
        }
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
        self.rest();
        if let Some(engine) = &self.engine {
            compare(&engine.machine().bank.0, &self.bench.judge().model);
        }
        self.stop();
        self.disk.heal();
        self.look();
        // By the newest program, which folds what older ones decided.
        self.knowing = 2;
        self.start();
        self.report.decided = self.bench.judge().model.decided;
        self.stop();
    }
}
