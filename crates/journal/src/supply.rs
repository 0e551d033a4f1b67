//! The supply of segments: made ahead, so that a record never waits for one unless it is late.
//!
//! A record is written in a segment only when the one after it is there, durably: so segments that are gone from
//! the journal's end are missed. That a disk is full is therefore known a whole segment before there is no room
//! for a record, and whoever is about to decide something can ask first: [`Supply::room_for`].

use crate::error::Error;
use crate::sync::{Condvar, JoinHandle, Mutex, MutexGuard, PoisonError, spawn};
use pabal_fault::{Point, reached};
use std::sync::Arc;

/// Segments kept ready ahead of the one being written.
const AHEAD: u64 = 2;

/// Makes one segment, durably, or leaves nothing of it.
pub(crate) type Make = Box<dyn Fn(u64) -> Result<(), Error> + Send + Sync>;

struct State {
    /// The segment that is written now.
    current: u64,
    /// Segments that are there.
    made: u64,
    /// Segments that are wanted.
    wanted: u64,
    /// Whether one is being made. It is by one thread at a time: two would make the same one, the later in the place of
    /// the other, in which records may stand by then.
    making: bool,
    /// What kept the next one from being made, when it was last tried.
    failed: Option<Error>,
    ended: bool,
}

impl State {
    /// Whether the next one may be made now. None is beyond one that could not be: it would be missing in between.
    fn is_due(&self) -> bool {
        self.made < self.wanted && self.failed.is_none() && !self.making && !self.ended
    }
}

/// Which segments are there: shared by the writer, the maker of segments and whoever asks for room.
pub struct Supply {
    state: Mutex<State>,
    changed: Condvar,
    make: Make,
    /// Whether a thread makes them; else whoever needs one does.
    background: bool,
}

impl Supply {
    pub(crate) fn start(make: Make, made: u64, current: u64, background: bool) -> (Arc<Supply>, Maker) {
        // One spare at first; a journal that fills its segments keeps more ahead.
        let state = State { current, made, wanted: current + 2, making: false, failed: None, ended: false };
        let supply = Arc::new(Supply { state: Mutex::new(state), changed: Condvar::new(), make, background });
        let its = supply.clone();
        let thread = background.then(|| spawn("pabal-supply", move || while its.make_next(true) {}));
        let maker = Maker { supply: supply.clone(), thread };
        (supply, maker)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the next wanted segment; `wait` for one to be wanted. False when there is none to make.
    fn make_next(&self, wait: bool) -> bool {
        let mut state = self.lock();
        while wait && !state.is_due() && !state.ended {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if !state.is_due() {
            return false;
        }
        let segment = state.made;
        state.making = true;
        drop(state);
        let made = (self.make)(segment);
        let mut state = self.lock();
        state.making = false;
        match made {
            Ok(()) => state.made += 1,
            Err(error) => state.failed = Some(error),
        }
        self.changed.notify_all();
        true
    }

    /// Makes the next segment that is wanted, where no thread does. False when none is, or one is being made.
    pub fn make_one(&self) -> bool {
        self.make_next(false)
    }

    /// Waits until this segment is there or could not be made.
    fn wait_for<'s>(&'s self, mut state: MutexGuard<'s, State>, segment: u64) -> MutexGuard<'s, State> {
        while state.made <= segment && state.failed.is_none() && !state.ended {
            if self.background || state.making {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            } else {
                drop(state);
                self.make_next(false);
                state = self.lock();
            }
        }
        state
    }

    /// Wants the segments before this one. That the disk was full when one was last tried, maybe hours ago, says
    /// nothing of now: it is tried again.
    fn want(&self, state: &mut State, end: u64) {
        if state.failed.as_ref().is_some_and(Error::is_full) {
            state.failed = None;
        }
        state.wanted = state.wanted.max(end);
        self.changed.notify_all();
    }

    /// Whether a record may be written in this segment; waits while the one after it is being made. False when
    /// there is no room on the disk for that one. Anything else that is wrong with it, the writing will say.
    pub fn room_for(&self, segment: u64) -> bool {
        let mut state = self.lock();
        if state.made > segment + 1 {
            return true;
        }
        self.want(&mut state, segment + 2);
        state = self.wait_for(state, segment + 1);
        let full = state.failed.as_ref().is_some_and(Error::is_full);
        if full {
            reached(Point::SupplyFull);
        }
        state.made > segment + 1 || !full
    }

    /// This segment fills up: more are kept ahead from here on. The first that a bank fills would else have one spare
    /// only, and its end wait for another to be made: a tenth of a second and more.
    pub(crate) fn ahead(&self, segment: u64) {
        let mut state = self.lock();
        // A disk that was full is not tried with each record: whoever needs the room does that.
        if state.wanted < segment + 1 + AHEAD && state.failed.is_none() {
            self.want(&mut state, segment + 1 + AHEAD);
        }
    }

    /// Before a record goes into this segment: the one after it is there.
    pub(crate) fn ready(&self, segment: u64) -> Result<(), Error> {
        let mut state = self.lock();
        if segment > state.current {
            state.current = segment;
            self.want(&mut state, segment + 1 + AHEAD);
        }
        if state.made > segment + 1 {
            return Ok(());
        }
        self.want(&mut state, segment + 2);
        state = self.wait_for(state, segment + 1);
        if state.made > segment + 1 {
            return Ok(());
        }
        reached(Point::SupplyNotReady);
        Err(state.failed.take().unwrap_or(Error::Stopped))
    }
}

/// The thread that makes segments. Ends with this value.
pub(crate) struct Maker {
    supply: Arc<Supply>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Maker {
    fn drop(&mut self) {
        self.supply.lock().ended = true;
        self.supply.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    fn fails(kind: ErrorKind) -> Error {
        Error::io(Point::MakeOpen, "a segment")(kind.into())
    }

    type Made = Arc<Mutex<Vec<u64>>>;

    /// The supply of a journal that stands in segment 0 and has segment 1; whether one can be made says `can`.
    fn supply(can: impl Fn(u64) -> Result<(), Error> + Send + Sync + 'static) -> (Arc<Supply>, Maker, Made) {
        let made = Arc::new(Mutex::new(vec![0, 1]));
        let list = made.clone();
        let make = move |number| {
            can(number)?;
            list.lock().expect("not poisoned").push(number);
            Ok(())
        };
        let (supply, maker) = Supply::start(Box::new(make), 2, 0, true);
        (supply, maker, made)
    }

    /// Segment 3 without segment 2 is a folder that no bank opens any more, though nothing was lost.
    #[test]
    fn none_is_made_beyond_one_that_could_not_be() {
        let (supply, maker, made) = supply(|number| match number {
            2 => Err(fails(ErrorKind::PermissionDenied)),
            _ => Ok(()),
        });
        assert!(supply.ready(0).is_ok(), "nothing new is needed");
        assert!(supply.room_for(1), "it is not for want of room that it fails: the writing says why");
        assert!(supply.ready(1).is_err());
        drop(maker);
        assert_eq!(*made.lock().expect("not poisoned"), [0, 1]);
    }

    /// A writer that comes to the end of its first segment finds the one after the next there.
    #[test]
    fn more_are_made_before_the_first_segment_ends() {
        let (supply, maker, made) = supply(|_| Ok(()));
        assert!(supply.ready(0).is_ok(), "the spare of a quiet bank is enough");
        supply.ahead(0);
        // Waits for what was asked for, and asks for nothing itself.
        drop(supply.wait_for(supply.lock(), 2));
        drop(maker);
        assert_eq!(*made.lock().expect("not poisoned"), [0, 1, 2]);
    }

    /// The disk was full when the segment was first tried and has room when it is needed.
    #[test]
    fn a_disk_that_was_full_is_tried_again_when_the_segment_is_needed() {
        let full = Arc::new(Mutex::new(true));
        let disk = full.clone();
        let (supply, maker, made) = supply(move |_| {
            if *disk.lock().expect("not poisoned") { Err(fails(ErrorKind::StorageFull)) } else { Ok(()) }
        });
        assert!(supply.room_for(0), "the current segment has room");
        assert!(!supply.room_for(1), "no room for the one after the next");
        *full.lock().expect("not poisoned") = false;
        assert!(supply.room_for(1));
        assert!(supply.ready(1).is_ok());
        *full.lock().expect("not poisoned") = true;
        assert!(!supply.room_for(7), "still full");
        assert!(supply.ready(7).is_err());
        drop(maker);
        let made = made.lock().expect("not poisoned");
        assert!(made.iter().copied().eq(0..made.len() as u64), "{made:?}");
    }
}
