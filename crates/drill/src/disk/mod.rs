//! A disk that is simulated: it loses what was not synced, tears, lies, rots, fails and fills up, as told.
//!
//! It knows the journal's own kinds of access: whole blocks, files that are made, filled, renamed. A write that is
//! not of whole blocks is widened to them. What it shows a running system and what a loss of power leaves are kept
//! apart ([`image`]).

mod access;
pub mod image;
mod memory;

use crate::random::Random;
use image::{Block, Damage, Image, Loss};
use memory::Memory;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The error that a device gives: EIO.
const EIO: i32 = 5;
/// The error that a full disk gives: ENOSPC.
const ENOSPC: i32 = 28;

/// What goes wrong with one access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails; of a write some blocks are made, of a sync some become durable.
    Fails,
    /// It fails for want of space, where it may take some; else nothing happens.
    Full,
    /// The process dies in it: of a write some blocks are made.
    Dies,
    /// The process dies just after it.
    DiesAfter,
    /// A write is acknowledged and lost. Of anything else nothing happens.
    Lost,
    /// A write goes elsewhere in its file. Of anything else nothing happens.
    Misdirected,
}

/// With this the simulated process dies: it is thrown, and caught by whoever runs the simulation.
pub struct Killed;

/// Kinds of access.
#[allow(missing_docs, reason = "each is one of what a disk can be asked")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Access {
    MakeFolder,
    Names,
    Open,
    Create,
    Rename,
    Remove,
    SyncFolder,
    Lock,
    Map,
    Length,
    Free,
    Read,
    Reserve,
    Write,
    Sync,
}

struct World {
    image: Image,
    /// Blocks that fit; at the bound there is no space.
    capacity: usize,
    /// Folders whose lock someone has for himself.
    locked: BTreeSet<PathBuf>,
    maps: BTreeMap<PathBuf, Arc<Memory>>,
    accesses: u64,
    /// The fault that comes at this access.
    armed: Option<(u64, Fault)>,
    /// The only kind of access at which it comes.
    only: Option<Access>,
    /// What came of the last fault that was armed.
    struck: Option<(Access, Fault)>,
    /// What is wrong on the disk now, and was not done by whoever uses it.
    damage: Vec<Damage>,
    misled: bool,
    trace: blake3::Hasher,
    /// The story so far, where it is told.
    story: Option<Vec<String>>,
    draw: Random,
    /// Called after each access that changes something, with the image as it then is.
    watch: Option<Watch>,
    /// Whether it lets several threads work on what is read.
    has_threads: bool,
}

type Watch = Box<dyn FnMut(&Image, Access) + Send>;

/// A simulated disk. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<World>>);

impl SimDisk {
    /// An empty disk; `seed` chooses where its faults leave a choice.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk::with(Image::default(), seed)
    }

    /// A disk that holds this.
    pub fn with(image: Image, seed: u64) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(World {
            image,
            capacity: usize::MAX,
            locked: BTreeSet::new(),
            maps: BTreeMap::new(),
            accesses: 0,
            armed: None,
            only: None,
            struck: None,
            damage: Vec::new(),
            misled: false,
            trace: blake3::Hasher::new(),
            story: None,
            draw: Random::new(seed),
            watch: None,
            has_threads: false,
        })))
    }

    /// Says that what is read may be worked on by several threads, as a real disk does: the order of accesses then
    /// differs from one time to the next.
    pub fn with_threads(self) -> SimDisk {
        self.lock().has_threads = true;
        self
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes something in the trace, whose hash tells two runs apart.
    pub fn note(&self, what: &[u8]) {
        self.lock().trace.update(what);
    }

    /// The hash of everything that happened.
    pub fn trace(&self) -> [u8; 32] {
        *self.lock().trace.finalize().as_bytes()
    }

    /// From now on the story is kept.
    pub fn tell(&self) {
        self.lock().story = Some(Vec::new());
    }

    /// Adds to the story, where it is told.
    pub fn say(&self, what: impl FnOnce() -> String) {
        if let Some(story) = &mut self.lock().story {
            story.push(what());
        }
    }

    /// The story so far.
    pub fn story(&self) -> Vec<String> {
        self.lock().story.take().unwrap_or_default()
    }

    /// Accesses so far.
    pub fn accesses(&self) -> u64 {
        self.lock().accesses
    }

    /// Lets the access after so many more have this fault.
    pub fn arm(&self, after: u64, fault: Fault) {
        let mut world = self.lock();
        world.armed = Some((world.accesses + after, fault));
        world.only = None;
        world.struck = None;
    }

    /// Lets the next access of this kind have this fault.
    pub fn arm_next(&self, access: Access, fault: Fault) {
        let mut world = self.lock();
        world.armed = Some((world.accesses, fault));
        world.only = Some(access);
        world.struck = None;
    }

    /// Takes back a fault that has not come yet; says at what access it came if it has.
    pub fn disarm(&self) -> Option<(Access, Fault)> {
        let mut world = self.lock();
        world.armed = None;
        world.struck.take()
    }

    /// Whether a fault is armed that has not come.
    pub fn is_armed(&self) -> bool {
        self.lock().armed.is_some()
    }

    /// Lets a block of a file decay: what it held is something else from now on.
    pub fn decay(&self, file: u64, at: usize, wrong: Block) {
        let mut world = self.lock();
        let right = world.image.file(file).block(at);
        world.image.file_mut(file).decay(at, wrong.clone());
        world.damage.push(Damage { file, at, wrong, right });
    }

    /// What is wrong on the disk now; what was written over is not any more.
    pub fn damage(&self) -> Vec<Damage> {
        let world = self.lock();
        let image = &world.image;
        let is_there = |d: &&Damage| image.has(d.file) && image.file(d.file).block(d.at) == d.wrong;
        world.damage.iter().filter(is_there).cloned().collect()
    }

    /// Whether a write was lost or went elsewhere since this was last asked.
    pub fn has_misled(&self) -> bool {
        std::mem::take(&mut self.lock().misled)
    }

    /// Puts right what is wrong, as from a copy.
    pub fn heal(&self) {
        let mut world = self.lock();
        let World { damage, image, .. } = &mut *world;
        // The last one first: what it is right after may be wrong too.
        for d in damage.drain(..).rev() {
            if image.has(d.file) {
                image.file_mut(d.file).heal(d);
            }
        }
    }

    /// Leaves this many free blocks; none at all lets it be as large as is wanted.
    pub fn set_free(&self, free: Option<usize>) {
        let mut world = self.lock();
        world.capacity = free.map_or(usize::MAX, |free| world.image.used() + free);
    }

    /// Whether the space is bounded now.
    pub fn is_bounded(&self) -> bool {
        self.lock().capacity != usize::MAX
    }

    /// The process or the machine is gone.
    pub fn crash(&self, loss: Loss) {
        let mut world = self.lock();
        let world = &mut *world;
        world.locked.clear();
        world.armed = None;
        let draw = &mut world.draw;
        world.image.crash(loss, &mut |n| draw.index(n));
        if loss != Loss::Process {
            let kept: Vec<PathBuf> = world.maps.keys().cloned().collect();
            for path in kept {
                world.maps[&path].power_loss(&mut |n| world.draw.index(n));
            }
        }
    }

    /// The image as it is.
    pub fn image(&self) -> Image {
        self.lock().image.clone()
    }

    /// Puts another image in its place.
    pub fn set_image(&self, image: Image) {
        self.lock().image = image;
    }

    /// Changes the image: what the disk does by itself.
    pub fn change<T>(&self, change: impl FnOnce(&mut Image) -> T) -> T {
        change(&mut self.lock().image)
    }

    /// Changes the bytes of a file that was mapped into memory and is not now.
    pub fn change_map(&self, path: &Path, change: impl FnOnce(&mut [u8])) {
        self.lock().maps.get(path).expect("a file that was mapped").change(change);
    }

    /// Calls this after each access that changes something.
    pub fn watch(&self, watch: impl FnMut(&Image, Access) + Send + 'static) {
        self.lock().watch = Some(Box::new(watch));
    }
}

/// What is to be done about an access.
enum Turn {
    Goes,
    Fails(Error),
    Dies,
    Fault(Fault),
}

impl World {
    /// Begins an access: counts it, notes it, and says what becomes of it.
    fn begin(&mut self, access: Access, path: &Path, detail: u64) -> Turn {
        self.accesses += 1;
        self.trace.update(&[access as u8]);
        self.trace.update(path.as_os_str().as_encoded_bytes());
        self.trace.update(&detail.to_le_bytes());
        if let Some(story) = &mut self.story {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let (offset, length) = (detail & ((1 << 40) - 1), detail >> 40);
            let place = if detail == 0 { String::new() } else { format!(" {length} bytes at {offset}") };
            story.push(format!("    disk: {access:?} {name}{place}"));
        }
        let Some((at, fault)) = self.armed else { return Turn::Goes };
        if self.accesses <= at {
            return Turn::Goes;
        }
        let takes_space = matches!(access, Access::Create | Access::Reserve | Access::Map);
        if self.only.is_some_and(|only| only != access)
            || fault == Fault::Full && !takes_space
            || matches!(fault, Fault::Lost | Fault::Misdirected) && access != Access::Write
        {
            return Turn::Goes; // it waits for one that it can have
        }
        self.armed = None;
        self.struck = Some((access, fault));
        self.trace.update(&[fault as u8]);
        if let Some(story) = &mut self.story {
            story.push(format!("    disk: {fault:?}"));
        }
        match fault {
            Fault::Full => Turn::Fails(Error::from_raw_os_error(ENOSPC)),
            Fault::Fails if !matches!(access, Access::Write | Access::Sync) => {
                Turn::Fails(Error::from_raw_os_error(EIO))
            }
            Fault::Dies if access != Access::Write => Turn::Dies,
            fault => Turn::Fault(fault),
        }
    }

    fn choose(&mut self, n: usize) -> usize {
        self.draw.index(n)
    }

    fn changed(&mut self, access: Access) {
        if let Some(watch) = &mut self.watch {
            watch(&self.image, access);
        }
    }
}
