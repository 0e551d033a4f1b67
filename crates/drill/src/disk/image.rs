//! What a disk holds: what a running system sees of it, and what a loss of power may leave.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of a block: what is written whole or not at all, unless tearing within blocks is asked for.
pub const BLOCK: usize = 4096;
/// Bytes of a sector: what is written whole even then.
pub const SECTOR: usize = 512;

/// The content of a block; none is zero.
pub type Block = Option<Arc<[u8; BLOCK]>>;

/// A choice among so many, 0 to n - 1. Where everything is tried, the caller counts; else it draws.
pub type Choose<'c> = &'c mut dyn FnMut(usize) -> usize;

/// A block that is not what was written to it.
#[derive(Clone, Debug)]
pub struct Damage {
    /// The file.
    pub file: u64,
    /// Which of its blocks.
    pub at: usize,
    /// What it is.
    pub wrong: Block,
    /// What it should be.
    pub right: Block,
}

/// A file.
#[derive(Clone, Default)]
pub struct FileImage {
    /// As the running system sees it.
    pub seen: Vec<Block>,
    /// Its length in bytes, as seen.
    pub length: u64,
    /// What a sync has made durable.
    durable: Vec<Block>,
    durable_length: u64,
    /// Block writes since then, oldest first. Any of them may have reached the disk, in any order.
    pending: Vec<(usize, Block)>,
    /// Blocks whose space was taken beforehand.
    pub reserved: usize,
}

/// A change of names that is not durable yet.
#[derive(Clone)]
enum NameChange {
    Add(PathBuf, u64),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

/// All files and names.
#[derive(Clone, Default)]
pub struct Image {
    files: BTreeMap<u64, FileImage>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    pending_names: Vec<NameChange>,
    next: u64,
}

/// What is left after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The process alone: all that it wrote is there.
    Process,
    /// The power: what was not synced may be there or not, block by block.
    Power,
    /// The same, and blocks themselves may be torn at sectors.
    PowerTorn,
}

impl Image {
    /// The file of this name.
    pub fn find(&self, path: &Path) -> Option<u64> {
        self.names.get(path).copied()
    }

    /// Whether there is such a file still, under some name.
    pub fn has(&self, id: u64) -> bool {
        self.names.values().any(|named| *named == id)
    }

    /// A file that is there.
    pub fn file(&self, id: u64) -> &FileImage {
        &self.files[&id]
    }

    /// A file that is there.
    pub fn file_mut(&mut self, id: u64) -> &mut FileImage {
        self.files.get_mut(&id).expect("an open file")
    }

    /// All files by their names, in order.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &FileImage)> {
        self.names.iter().map(|(path, id)| (path.as_path(), &self.files[id]))
    }

    /// Paths of files, in order.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.names.keys().map(PathBuf::as_path)
    }

    /// Makes a file.
    pub fn add(&mut self, path: &Path) -> u64 {
        self.next += 1;
        self.files.insert(self.next, FileImage::default());
        self.names.insert(path.into(), self.next);
        self.pending_names.push(NameChange::Add(path.into(), self.next));
        self.next
    }

    /// Gives a file another name, which may be taken; false when there is none.
    pub fn rename(&mut self, from: &Path, to: &Path) -> bool {
        let Some(id) = self.names.remove(from) else { return false };
        self.names.insert(to.into(), id);
        self.pending_names.push(NameChange::Rename(from.into(), to.into()));
        true
    }

    /// Removes a name; false when there is none.
    pub fn remove(&mut self, path: &Path) -> bool {
        self.pending_names.push(NameChange::Remove(path.into()));
        self.names.remove(path).is_some()
    }

    /// Blocks that are taken, written or reserved.
    pub fn used(&self) -> usize {
        self.names.values().map(|id| self.files[id].taken()).sum()
    }

    /// Makes all names durable.
    pub fn sync_names(&mut self) {
        self.durable_names = self.names.clone();
        self.pending_names.clear();
    }

    /// Changes of names that are not durable yet.
    pub fn names_pending(&self) -> usize {
        self.pending_names.len()
    }

    /// The file that was written to since this image was the same disk's, its name, and how often blocks of it were.
    pub fn written_since(&self, before: &Image) -> Option<Written<'_>> {
        self.files.iter().find_map(|(id, file)| {
            let known = before.files.get(id).map_or(0, |file| file.pending.len());
            let blocks = file.pending.get(known..).filter(|blocks| !blocks.is_empty())?;
            let path = self.names.iter().find(|(_, named)| *named == id)?.0;
            Some(Written { file: *id, path, blocks })
        })
    }

    /// What a crash leaves: what is to be chosen, `choose` chooses.
    pub fn crash(&mut self, loss: Loss, choose: Choose<'_>) {
        if loss == Loss::Process {
            return;
        }
        let names = choose(self.pending_names.len() + 1);
        self.lose_power(names, &mut |_, versions| match choose(versions + 1) {
            0 => Kept::Old,
            chosen if loss == Loss::PowerTorn => Kept::Torn(chosen - 1, choose(BLOCK / SECTOR + 1)),
            chosen => Kept::New(chosen - 1),
        });
    }

    /// What a loss of power leaves when so many of the pending changes of names survive, and of each block that was
    /// written to and not synced what `keep` says, which hears the file and how many contents the block was given,
    /// oldest first. Writing to a block what it holds durably leaves no doubt and is not asked about.
    pub fn lose_power(&mut self, names: usize, keep: &mut dyn FnMut(&Path, usize) -> Kept) {
        // A journaling file system: changes of names survive in their order, up to some point.
        for change in self.pending_names.drain(..).take(names) {
            match change {
                NameChange::Add(path, id) => drop(self.durable_names.insert(path, id)),
                NameChange::Remove(path) => drop(self.durable_names.remove(&path)),
                NameChange::Rename(from, to) => {
                    if let Some(id) = self.durable_names.remove(&from) {
                        self.durable_names.insert(to, id);
                    }
                }
            }
        }
        self.names = self.durable_names.clone();
        self.files.retain(|id, _| self.durable_names.values().any(|kept| kept == id));
        for (path, id) in &self.names {
            self.files.get_mut(id).expect("a named file").lose_power(path, keep);
        }
    }
}

/// A write, or several, to one file.
pub struct Written<'i> {
    /// The file.
    pub file: u64,
    /// Its name.
    pub path: &'i Path,
    /// The blocks, in their order: where, and what.
    pub blocks: &'i [(usize, Block)],
}

/// What a loss of power leaves of a block that was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// What was durable before.
    Old,
    /// The content of this number.
    New(usize),
    /// So many sectors of it, and then what was durable before.
    Torn(usize, usize),
}

impl FileImage {
    /// A block as it is seen.
    pub fn block(&self, at: usize) -> Block {
        self.seen.get(at).cloned().flatten()
    }

    /// Whether this block was written and may not be durable.
    pub fn is_pending(&self, at: usize) -> bool {
        self.pending.iter().any(|(pending, _)| *pending == at)
    }

    /// Blocks whose space it has.
    pub fn taken(&self) -> usize {
        self.seen.len().max(self.length.div_ceil(BLOCK as u64) as usize).max(self.reserved)
    }

    /// Writes whole blocks, as the running system sees them.
    pub fn write(&mut self, first: usize, blocks: impl Iterator<Item = Block>) {
        for (i, block) in blocks.enumerate() {
            self.see(first + i, block.clone());
            self.pending.push((first + i, block));
        }
    }

    /// Puts this block where it can be seen, and nothing else: neither written nor durable.
    pub fn see(&mut self, at: usize, block: Block) {
        if self.seen.len() <= at {
            self.seen.resize(at + 1, None);
        }
        self.seen[at] = block;
        self.length = self.length.max((at as u64 + 1) * BLOCK as u64);
    }

    /// Changes this block everywhere: what the disk itself did to it.
    pub fn decay(&mut self, at: usize, block: Block) {
        self.see(at, block.clone());
        if let Some(durable) = self.durable.get_mut(at) {
            *durable = block;
        }
    }

    /// Puts a block right where it is wrong: as it is seen, and as it is on the disk beneath what was written since.
    pub fn heal(&mut self, damage: Damage) {
        if self.block(damage.at) == damage.wrong {
            self.see(damage.at, damage.right.clone());
        }
        if let Some(durable) = self.durable.get_mut(damage.at)
            && *durable == damage.wrong
        {
            *durable = damage.right;
        }
    }

    /// Makes what was written durable. What had been given up by a failed sync stays as it is on the disk.
    pub fn sync(&mut self) {
        let writes = std::mem::take(&mut self.pending);
        for (at, block) in writes {
            self.settle(at, block);
        }
        // Space that was reserved is there too, though nothing was written to it.
        let blocks = (self.length / BLOCK as u64) as usize;
        self.durable.resize(self.durable.len().max(blocks), None);
        self.durable_length = self.length;
    }

    /// A sync that fails: some of what was written reached the disk. The system shows all of it still, and a later
    /// sync will say that nothing is left to do.
    pub fn sync_fails(&mut self, choose: Choose<'_>) {
        let writes = std::mem::take(&mut self.pending);
        for (at, block) in writes {
            if choose(2) == 1 {
                self.settle(at, block);
            }
        }
    }

    fn settle(&mut self, at: usize, block: Block) {
        if self.durable.len() <= at {
            self.durable.resize(at + 1, None);
            self.durable_length = self.durable_length.max((at as u64 + 1) * BLOCK as u64);
        }
        self.durable[at] = block;
    }

    fn lose_power(&mut self, path: &Path, keep: &mut dyn FnMut(&Path, usize) -> Kept) {
        let mut writes: BTreeMap<usize, Vec<Block>> = BTreeMap::new();
        for (at, block) in self.pending.drain(..) {
            writes.entry(at).or_default().push(block);
        }
        for (at, mut versions) in writes {
            let old = self.durable.get(at).cloned().flatten();
            // Where the file was shorter before, its length is in doubt too.
            if (at as u64) < self.durable_length / BLOCK as u64 {
                versions.retain(|version| *version != old);
            }
            if versions.is_empty() {
                continue;
            }
            let new = match keep(path, versions.len()) {
                Kept::Old => continue,
                Kept::New(version) => versions[version].clone(),
                Kept::Torn(version, sectors) => torn(&old, &versions[version], sectors),
            };
            self.settle(at, new);
        }
        self.seen = self.durable.clone();
        self.length = self.durable_length;
        self.reserved = 0;
    }
}

/// The first sectors of one block and the rest of another.
fn torn(old: &Block, new: &Block, sectors: usize) -> Block {
    let mut bytes = bytes(old);
    bytes[..sectors * SECTOR].copy_from_slice(&self::bytes(new)[..sectors * SECTOR]);
    block(&bytes)
}

/// The content of a block.
pub fn bytes(block: &Block) -> [u8; BLOCK] {
    block.as_deref().copied().unwrap_or([0; BLOCK])
}

/// The block with this content, and zero after it.
pub fn block(bytes: &[u8]) -> Block {
    if bytes.iter().all(|&b| b == 0) {
        return None;
    }
    let mut content = [0; BLOCK];
    content[..bytes.len()].copy_from_slice(bytes);
    Some(Arc::new(content))
}
