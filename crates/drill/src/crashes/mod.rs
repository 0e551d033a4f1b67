//! Crash enumeration: short histories of a bank, and every way in which each of them can be cut off.
//!
//! A history is made from a number: four lives of one bank on one disk, each beginning with what a crash of the one
//! before it left, at a moment that is drawn. It has small segments, so that they roll; requests of one command to
//! six, bundles, long records, repeated requests, questions; closing records; spares made at different moments; stops
//! in order.
//!
//! *Every moment.* After each access that changes the disk, all of these are looked at: the process dies; it dies in
//! the middle of the write, after each of its blocks; the power goes, with every subset of the blocks that are not
//! durable and every prefix of the changes of names ([`loss`]); and the same with one block torn at each of its
//! sectors.
//!
//! *What is judged.* The real journal is opened and every record decided again. Where each block is as it was or as
//! it was written, it must open, with the first of the records that were written and with all that was answered,
//! shown or named durable until then ([`judge`]). That an answer is what stands in the record at its position, and
//! that nothing in a record was never sent, is judged when each record is written and each answer heard ([`seen`]):
//! a record that has the same hash later says the same. Where a block is torn the bank may also refuse. Of some
//! states the next life is lived: it begins with the recovery, goes on with a request that must become durable,
//! and is itself cut off at each of its moments. Some are read offline, which must give what opening gives.
//!
//! *What bounds it.* Memory: the moments of one history at a time for each thread, and 16 bytes a state.
//!
//! *What it is blind to.* One writer without threads; accesses that fail; a disk that lies about its syncs; more than
//! one block torn at once; tearing that mixes sectors other than first ones new, the rest old; file systems that let
//! changes of names survive out of order.

mod judge;
mod life;
mod loss;
mod seen;

use crate::random::Random;
use judge::{Content, Judge, Outcome, Place, judge};
use life::{Days, Life, Sender, live};
use seen::{Known, Moment};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;

use crate::disk::image::Image;
use loss::Crash;

/// Lives of a bank in a history.
const LIVES: usize = 4;
/// Moments within which a recovery ends, where it makes no segment.
const RECOVERY: usize = 6;
/// Of one state in so many the next life is lived, and cut off at each moment.
const LIVED_ONE_IN: u64 = 64;
/// One state in so many is read offline too.
const READ_ONE_IN: u64 = 8;
/// Failures of a history that are told; more say nothing new.
const FAILURES_MAX: usize = 10;

/// What was tried, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// States of a disk, each counted once.
    pub states: u64,
    /// Of these, those that can only be had by tearing a block.
    pub torn: u64,
    /// Of the torn ones, those that were refused as rotten.
    pub refused: u64,
    /// Ways to end that were judged: the same state may be had in several ways, and more may be known.
    pub crashes: u64,
    /// States of which the next life was lived, beginning with the recovery, and cut off at each of its moments.
    pub recoveries: u64,
    /// States that were read offline too.
    pub read: u64,
    /// Histories.
    pub histories: u64,
    /// What was wrong, with all that is needed to have it again.
    pub failures: Vec<String>,
}

/// Tries histories, one after the other on each thread, until so many states were seen. `progress` hears how many
/// there are after each history. The same `seed` gives the same histories; [`replay`] gives one again.
pub fn enumerate(states: u64, seed: u64, threads: usize, progress: &mut dyn FnMut(u64)) -> Report {
    let (next, enough) = (AtomicU64::new(0), AtomicBool::new(false));
    let (to, tried) = channel();
    let (mut report, mut seen) = (Report::default(), HashSet::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let (to, next, enough) = (to.clone(), &next, &enough);
            scope.spawn(move || {
                while !enough.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if to.send(History::try_whole(seed, number)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(to);
        for history in tried {
            report.add(history, &mut seen);
            progress(report.states);
            if report.states >= states || !report.failures.is_empty() {
                enough.store(true, Ordering::Relaxed);
            }
        }
    });
    report
}

/// Tries the history of this number once more.
pub fn replay(seed: u64, number: u64) -> Report {
    let mut report = Report::default();
    report.add(History::try_whole(seed, number), &mut HashSet::new());
    report
}

impl Report {
    fn add(&mut self, history: Tried, seen: &mut HashSet<Content>) {
        for state in history.states {
            if seen.insert(state.content) {
                self.states += 1;
                self.torn += u64::from(state.torn);
                self.refused += u64::from(state.refused);
            }
        }
        self.crashes += history.crashes;
        self.recoveries += history.recoveries;
        self.read += history.read;
        self.histories += 1;
        self.failures.extend(history.failures);
    }
}

struct State {
    content: Content,
    torn: bool,
    refused: bool,
}

/// What came of a history.
#[derive(Default)]
struct Tried {
    states: Vec<State>,
    crashes: u64,
    recoveries: u64,
    read: u64,
    failures: Vec<String>,
}

struct History<'p> {
    name: String,
    place: &'p Place,
    judge: Judge<'p>,
    sender: Sender,
    draw: Random,
    tried: Tried,
}

impl History<'_> {
    fn try_whole(seed: u64, number: u64) -> Tried {
        let mut draw = Random::new(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let place =
            Place { segment_blocks: 4 + draw.index(9) as u32, journal_id: draw.bits(), data: "/bank".into() };
        let mut history = History {
            name: format!("seed {seed}, history {number}"),
            place: &place,
            judge: Judge::new(&place),
            sender: Sender::new(draw.bits()),
            draw,
            tried: Tried::default(),
        };
        history.run();
        history.tried
    }

    fn run(&mut self) {
        let (mut image, mut known) = (Image::default(), Arc::<Known>::default());
        for number in 0..LIVES {
            let name = format!("life {number}");
            let Some(life) = self.live(image, known, Days::Many, &name) else { return };
            self.end_everywhere(&life, &name, true);
            // The last one tries what a life leaves as well as any.
            let Some(next) = self.next(&life) else { return };
            (image, known) = next;
        }
    }

    fn is_enough(&self) -> bool {
        self.tried.failures.len() >= FAILURES_MAX
    }

    fn fails(&mut self, place: &str, what: &str) {
        if !self.is_enough() {
            self.tried.failures.push(format!("{}, {place}: {what}", self.name));
        }
    }

    /// Lives a life; none when the bank broke in it.
    fn live(&mut self, begin: Image, known: Arc<Known>, days: Days, name: &str) -> Option<Life> {
        let (place, sender) = (self.place, &mut self.sender);
        let lived = catch_unwind(AssertUnwindSafe(|| live(place, begin, known, sender, days)));
        let Ok(life) = lived else {
            self.fails(name, "the bank stopped on a broken invariant");
            return None;
        };
        for what in &life.wrong {
            self.fails(name, what);
        }
        Some(life)
    }

    /// Ends this life in every way at each of its moments.
    fn end_everywhere(&mut self, life: &Life, name: &str, lives_on: bool) {
        let mut before = &life.begin;
        for (number, moment) in life.moments.iter().enumerate() {
            for crash in loss::every(before, &moment.image, &mut self.draw) {
                if self.is_enough() {
                    return;
                }
                let left = crash.leave(before, &moment.image);
                let place = || format!("{name}, moment {number} after {:?}, {crash:?}", moment.access);
                self.tried.crashes += 1;
                let judged = catch_unwind(AssertUnwindSafe(|| self.open(&left, &crash, moment)));
                match judged {
                    Err(_) => self.fails(&place(), "opening it stopped on a broken invariant"),
                    Ok(Err(what)) => self.fails(&place(), &what),
                    Ok(Ok(Some(records))) if lives_on && self.draw.one_in(LIVED_ONE_IN) => {
                        self.tried.recoveries += 1;
                        let (known, name) = (remaining(moment, records), format!("{}, recovered", place()));
                        if let Some(next) = self.live(left, known, Days::One, &name) {
                            self.end_everywhere(&next, &name, false);
                        }
                    }
                    Ok(Ok(_)) => {}
                }
            }
            before = &moment.image;
        }
    }

    /// Opens and judges; gives how many records are there, if it opens.
    fn open(&mut self, left: &Image, crash: &Crash, moment: &Moment) -> Result<Option<usize>, String> {
        let content = self.judge.content(left);
        let (outcome, is_new) = self.judge.outcome(content, left)?;
        if is_new {
            let refused = matches!(outcome, Outcome::Rotten(_));
            self.tried.states.push(State { content, torn: crash.tears(), refused });
            // One without a segment has nothing to read yet.
            let segments = left.paths().any(|path| !loss::is_unfinished(path));
            if segments && self.draw.one_in(READ_ONE_IN) {
                self.tried.read += 1;
                self.judge.read_offline(left, &outcome)?;
            }
        }
        judge(crash, &moment.known, &outcome)
    }

    /// What the next life begins with: a crash of this one that is drawn.
    fn next(&mut self, life: &Life) -> Option<(Image, Arc<Known>)> {
        let last = life.moments.len() - 1;
        let number = match self.draw.index(4) {
            0 => last,
            // In the recovery itself.
            1 => self.draw.index(last.min(RECOVERY) + 1),
            _ => self.draw.index(last + 1),
        };
        let moment = &life.moments[number];
        let before = if number == 0 { &life.begin } else { &life.moments[number - 1].image };
        let mut crashes = loss::every(before, &moment.image, &mut self.draw);
        crashes.retain(|crash| !crash.tears());
        // Half a record written leaves most to put right, and seen from within nothing says that it is not durable.
        let in_write = |crash: &Crash| matches!(crash, Crash::ProcessInWrite(_));
        if crashes.iter().any(in_write) && self.draw.one_in(2) {
            crashes.retain(in_write);
        }
        let crash = &crashes[self.draw.index(crashes.len())];
        let left = crash.leave(before, &moment.image);
        // What is wrong with it was told when it was judged.
        let records = self.open(&left, crash, moment).ok()??;
        Some((left, remaining(moment, records)))
    }
}

/// What is known of a bank after a crash that left so many records.
fn remaining(moment: &Moment, records: usize) -> Arc<Known> {
    let mut known = Known::clone(&moment.known);
    known.records.truncate(records);
    Arc::new(known)
}
