//! Directed attacks: for the branches that chance hardly ever takes.
//!
//! The simulator draws what befalls a bank, so what needs three things at once comes to pass in one life of a hundred
//! thousand. Here each such branch has an attack of its own, which sets a bank or a journal up on a simulated disk, does
//! one thing to it, and says what must come of it: the error, and that its text names the place; or that the bank goes
//! on. Whatever was done, once the damage is put right nothing that was acknowledged may be missing.
//!
//! *What is attacked* is the real code: journal, reader, stepper, the engine with its threads. Hostile records are
//! chained by the journal's own hand and lie only in what they say ([`forged`], [`replayed`]). [`each`] goes through
//! fixed histories and lets every access to the disk fail once, in turn.
//!
//! *What it must never do* is pass without having hit what it is for: each attack names its failpoints, and one that
//! did not come by them has failed.

mod bank;
mod bed;
mod each;
mod engine;
mod forged;
mod lanes;
mod opened;
mod read;
mod replayed;
mod rings;
mod snapshots;
mod threads;

use crate::quiet;
use pabal_fault::Point;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// An attack.
pub struct Attack {
    /// What is done.
    pub name: &'static str,
    /// The branches that it is for.
    pub points: &'static [Point],
    run: fn(),
}

/// What came of an attack.
pub struct Attacked {
    /// The attack.
    pub attack: &'static Attack,
    /// Branches that it is for and did not take.
    pub missed: Vec<Point>,
    /// What was not as it must be.
    pub wrong: Option<String>,
}

impl Attacked {
    /// Whether everything was as it must be.
    pub fn is_right(&self) -> bool {
        self.missed.is_empty() && self.wrong.is_none()
    }
}

/// All attacks, by what they attack.
const ALL: [&[Attack]; 10] = [
    opened::ATTACKS,
    forged::ATTACKS,
    read::ATTACKS,
    each::ATTACKS,
    replayed::ATTACKS,
    engine::ATTACKS,
    rings::ATTACKS,
    lanes::ATTACKS,
    snapshots::ATTACKS,
    threads::ATTACKS,
];

/// All attacks.
pub fn all() -> impl Iterator<Item = &'static Attack> {
    ALL.into_iter().flatten()
}

/// Makes all attacks, one after the other. `progress` hears the name of each before it begins.
///
/// Panics of what is attacked say nothing meanwhile: those of this thread, and of every thread of an engine.
pub fn run(progress: &mut dyn FnMut(&str)) -> Vec<Attacked> {
    let _quiet = quiet::Everywhere::begin();
    let mut made = Vec::new();
    for attack in all() {
        progress(attack.name);
        let before: Vec<u64> = attack.points.iter().map(|point| point.count()).collect();
        let wrong = quiet::during(|| {
            catch_unwind(AssertUnwindSafe(attack.run)).err().map(|thrown| quiet::said(&*thrown))
        });
        let missed = attack.points.iter().zip(before);
        let missed =
            missed.filter(|(point, before)| point.count() == *before).map(|(point, _)| *point).collect();
        made.push(Attacked { attack, missed, wrong });
    }
    made
}
