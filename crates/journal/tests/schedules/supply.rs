//! The supply: whoever needs a segment gets it or hears why not, and each is made once, in order.

use crate::trying;
use pabal_journal::parts::{Supplied, ready};
use pabal_journal::sync::spawn;
use pabal_journal::{Error, Supply};
use shuttle::rand::{Rng, thread_rng};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Segments that the writer writes in.
const WRITTEN: u64 = 4;
/// Steps of others at most before the operator makes room: the core is refused meanwhile, or is not.
const REFUSED: u32 = 30;

/// The disk on which segments are made.
#[derive(Default)]
struct Site {
    full: AtomicBool,
    /// The segment that cannot be made for another reason than room; zero for none.
    broken: u64,
    /// Those that were made, and those whose making failed.
    made: Mutex<Vec<u64>>,
    failed: Mutex<Vec<u64>>,
}

impl Site {
    fn make(&self, segment: u64) -> Result<(), Error> {
        let full = self.full.load(Ordering::SeqCst);
        shuttle::thread::sleep(Duration::ZERO);
        let kind = match segment {
            _ if full => ErrorKind::StorageFull,
            _ if segment == self.broken => ErrorKind::PermissionDenied,
            _ => {
                self.made.lock().expect("not poisoned").push(segment);
                return Ok(());
            }
        };
        self.failed.lock().expect("not poisoned").push(segment);
        Err(Error::Io { path: PathBuf::from("a segment"), source: kind.into() })
    }

    /// Whether this segment is there: the first two were from the start.
    fn has(&self, segment: u64) -> bool {
        segment < 2 || self.made.lock().expect("not poisoned").contains(&segment)
    }

    /// Each was made once, none without those before it.
    fn check(&self) {
        let made = self.made.lock().expect("not poisoned");
        assert!(made.iter().copied().eq(2..2 + made.len() as u64), "{made:?}");
        for failed in self.failed.lock().expect("not poisoned").iter() {
            assert!(*failed <= 2 + made.len() as u64, "{failed} was tried before one that is not there");
        }
    }
}

fn start(site: Site) -> (Arc<Site>, Supplied) {
    let site = Arc::new(site);
    let its = site.clone();
    (site, Supplied::start(true, move |segment| its.make(segment)))
}

/// Writes segment after segment, as the journal does: true when it came to the last.
fn write(supply: &Supply, site: &Site) -> bool {
    for segment in 0..WRITTEN {
        match ready(supply, segment) {
            Ok(()) => assert!(site.has(segment + 1), "the one after {segment} is not there"),
            Err(Error::Io { .. }) => return false,
            Err(error) => panic!("{error}"),
        }
    }
    true
}

/// Asks before it decides, as the core does: true when there was always room.
fn ask(supply: &Supply, site: &Site) -> bool {
    (0..WRITTEN).all(|segment| {
        let room = supply.room_for(segment);
        assert!(!room || site.broken != 0 || site.has(segment + 1), "no room for what comes after {segment}");
        room
    })
}

#[test]
fn the_core_and_the_writer_get_every_segment_that_they_need() {
    trying::every(|| {
        let (site, supplied) = start(Site::default());
        let (core, writer) = (supplied.supply.clone(), supplied.supply.clone());
        let (cores, writers) = (site.clone(), site.clone());
        let core = spawn("core", move || ask(&core, &cores));
        let writer = spawn("writer", move || write(&writer, &writers));
        assert!(core.join().expect("no panic") && writer.join().expect("no panic"));
        drop(supplied);
        site.check();
        assert!(site.failed.lock().expect("not poisoned").is_empty());
    });
}

/// Both made the same segment, the later one in the place of the other, in which records might stand by then.
#[test]
fn where_no_thread_makes_them_two_that_need_one_do_not_both_make_it() {
    trying::every(|| {
        let site = Arc::new(Site::default());
        let its = site.clone();
        let supplied = Supplied::start(false, move |segment| its.make(segment));
        let (core, writer) = (supplied.supply.clone(), supplied.supply.clone());
        let (cores, writers) = (site.clone(), site.clone());
        let core = spawn("core", move || ask(&core, &cores));
        let writer = spawn("writer", move || write(&writer, &writers));
        while supplied.supply.make_one() {}
        assert!(core.join().expect("no panic") && writer.join().expect("no panic"));
        site.check();
    });
}

#[test]
fn a_segment_that_cannot_be_made_is_heard_of_and_none_is_made_beyond_it() {
    trying::every(|| {
        let broken = thread_rng().gen_range(2..=WRITTEN);
        let (site, supplied) = start(Site { broken, ..Site::default() });
        let (core, writer) = (supplied.supply.clone(), supplied.supply.clone());
        let (cores, writers) = (site.clone(), site.clone());
        // As in the engine: when the writer has failed the supply ends, and whoever still waits must hear of it.
        let writer = spawn("writer", move || {
            let came_to_the_end = write(&writer, &writers);
            drop(supplied);
            came_to_the_end
        });
        let core = spawn("core", move || ask(&core, &cores));
        assert!(!writer.join().expect("no panic"), "one of those that it needs is not there");
        assert!(core.join().expect("no panic"), "it is not for want of room: the writing says why");
        site.check();
        assert!(site.made.lock().expect("not poisoned").iter().all(|made| *made < broken));
    });
}

#[test]
fn a_full_disk_is_told_to_the_core_and_tried_again() {
    trying::every(|| {
        let (site, supplied) = start(Site { full: true.into(), ..Site::default() });
        let (supply, its) = (supplied.supply.clone(), site.clone());
        let core = spawn("core", move || {
            for segment in 0..WRITTEN {
                let mut refused = 0;
                while !supply.room_for(segment) {
                    // An attempt that began while it was full may still end now; the one after it may not fail.
                    refused += u32::from(!its.full.load(Ordering::SeqCst));
                    assert!(refused <= 2, "refused though there is room");
                    shuttle::thread::yield_now();
                }
                ready(&supply, segment).expect("what was granted is there");
            }
        });
        let its = site.clone();
        let operator = spawn("operator", move || {
            for _ in 0..thread_rng().gen_range(0..REFUSED) {
                shuttle::thread::yield_now();
            }
            its.full.store(false, Ordering::SeqCst);
        });
        operator.join().expect("no panic");
        core.join().expect("no panic");
        drop(supplied);
        site.check();
    });
}

#[test]
fn the_end_of_the_maker_ends_every_wait() {
    trying::every(|| {
        let (site, supplied) = start(Site::default());
        let (core, writer) = (supplied.supply.clone(), supplied.supply.clone());
        let core = spawn("core", move || core.room_for(WRITTEN));
        let writer = spawn("writer", move || ready(&writer, WRITTEN).map_err(|error| error.to_string()));
        drop(supplied);
        assert!(core.join().expect("no panic"), "whether there is room the writing will say");
        let stopped = Error::Stopped.to_string();
        match writer.join().expect("no panic") {
            Ok(()) => assert!(site.has(WRITTEN + 1)),
            Err(error) => assert_eq!(error, stopped),
        }
        site.check();
    });
}
