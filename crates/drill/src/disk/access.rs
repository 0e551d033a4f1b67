//! What the journal asks of a disk, answered by a simulated one: each access goes, fails, or is the last.

use super::image::{BLOCK, Block, Damage, block, bytes};
use super::memory::{self, Memory};
use super::{Access, EIO, ENOSPC, Fault, Killed, SimDisk, Turn, World};
use pabal_journal::disk::{Disk, DiskFile, Lock, Mapped, Writing};
use std::ffi::OsString;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard};

/// An access that changes no file's content: it goes, fails, or the process dies before or after it.
fn plain<T>(
    disk: &SimDisk,
    access: Access,
    path: &Path,
    act: impl FnOnce(&mut World) -> Result<T>,
) -> Result<T> {
    let mut world = disk.lock();
    match world.begin(access, path, 0) {
        Turn::Goes => {}
        Turn::Fails(error) => return Err(error),
        Turn::Dies => die(world),
        Turn::Fault(_) => {
            let done = act(&mut world);
            world.changed(access);
            // What was got (a lock) is given back, to this disk.
            drop(world);
            drop(done);
            std::panic::panic_any(Killed);
        }
    }
    let done = act(&mut world)?;
    if matches!(access, Access::Create | Access::Rename | Access::Remove | Access::SyncFolder) {
        world.changed(access);
    }
    Ok(done)
}

fn die(world: MutexGuard<'_, World>) -> ! {
    drop(world);
    std::panic::panic_any(Killed);
}

fn missing() -> Error {
    ErrorKind::NotFound.into()
}

impl Disk for SimDisk {
    fn make_folder(&self, folder: &Path) -> Result<()> {
        plain(self, Access::MakeFolder, folder, |_| Ok(()))
    }

    fn names(&self, folder: &Path) -> Result<Vec<OsString>> {
        plain(self, Access::Names, folder, |world| {
            let within = world.image.paths().filter(|path| path.parent() == Some(folder));
            Ok(within.filter_map(|path| path.file_name()).map(OsString::from).collect())
        })
    }

    fn free_bytes(&self, folder: &Path) -> Result<u64> {
        plain(self, Access::Free, folder, |world| {
            Ok((world.capacity.saturating_sub(world.image.used()) as u64).saturating_mul(BLOCK as u64))
        })
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn DiskFile>> {
        let id = plain(self, Access::Open, path, |world| world.image.find(path).ok_or_else(missing))?;
        Ok(Arc::new(SimFile { disk: self.clone(), path: path.into(), id }))
    }

    fn open_to_write(&self, path: &Path, how: Writing) -> Result<Arc<dyn DiskFile>> {
        let access = if how.new { Access::Create } else { Access::Open };
        let id = plain(self, access, path, |world| match (how.new, world.image.find(path)) {
            (true, Some(_)) => Err(ErrorKind::AlreadyExists.into()),
            (true, None) => Ok(world.image.add(path)),
            (false, found) => found.ok_or_else(missing),
        })?;
        Ok(Arc::new(SimFile { disk: self.clone(), path: path.into(), id }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        plain(self, Access::Rename, to, |world| {
            world.image.rename(from, to).then_some(()).ok_or_else(missing)
        })
    }

    fn remove(&self, path: &Path) -> Result<()> {
        plain(self, Access::Remove, path, |world| world.image.remove(path).then_some(()).ok_or_else(missing))
    }

    fn sync_folder(&self, folder: &Path) -> Result<()> {
        plain(self, Access::SyncFolder, folder, |world| {
            world.image.sync_names();
            Ok(())
        })
    }

    fn sync_path(&self, folder: &Path) -> Result<()> {
        // The folders themselves never get lost here.
        plain(self, Access::MakeFolder, folder, |_| Ok(()))
    }

    fn lock(&self, folder: &Path, shared: bool) -> Result<Option<Box<dyn Lock>>> {
        plain(self, Access::Lock, folder, |world| {
            if world.locked.contains(folder) {
                return Ok(None);
            }
            let exclusive = (!shared).then(|| folder.to_path_buf());
            world.locked.extend(exclusive.clone());
            Ok(Some(Box::new(Held { disk: self.clone(), exclusive }) as Box<dyn Lock>))
        })
    }

    fn map(&self, path: &Path, length: usize) -> Result<Box<dyn Mapped>> {
        plain(self, Access::Map, path, |world| {
            let memory = world.maps.entry(path.into()).or_insert_with(|| Arc::new(Memory::new(length)));
            memory.begun();
            Ok(Box::new(memory::Map(memory.clone())) as Box<dyn Mapped>)
        })
    }

    fn has_threads(&self) -> bool {
        self.lock().has_threads
    }
}

struct Held {
    disk: SimDisk,
    /// The folder, where nobody else may have it.
    exclusive: Option<PathBuf>,
}

impl Lock for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(folder) = &self.exclusive {
            self.disk.lock().locked.remove(folder);
        }
    }
}

struct SimFile {
    disk: SimDisk,
    path: PathBuf,
    id: u64,
}

impl DiskFile for SimFile {
    fn length(&self) -> Result<u64> {
        plain(&self.disk, Access::Length, &self.path, |world| Ok(world.image.file(self.id).length))
    }

    fn read(&self, into: &mut [u8], offset: u64) -> Result<()> {
        plain(&self.disk, Access::Read, &self.path, |world| {
            let file = world.image.file(self.id);
            if offset + into.len() as u64 > file.length {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let (mut at, mut done) = (offset as usize, 0);
            while done < into.len() {
                let length = (BLOCK - at % BLOCK).min(into.len() - done);
                match file.seen.get(at / BLOCK).and_then(Option::as_deref) {
                    Some(block) => {
                        into[done..done + length].copy_from_slice(&block[at % BLOCK..at % BLOCK + length]);
                    }
                    None => into[done..done + length].fill(0),
                }
                (at, done) = (at + length, done + length);
            }
            Ok(())
        })
    }

    fn reserve(&self, length: u64) -> Result<bool> {
        plain(&self.disk, Access::Reserve, &self.path, |world| {
            let blocks = (length as usize).div_ceil(BLOCK);
            let file = world.image.file(self.id);
            let more = blocks.saturating_sub(file.taken());
            if world.image.used().saturating_add(more) > world.capacity {
                return Err(Error::from_raw_os_error(ENOSPC));
            }
            let file = world.image.file_mut(self.id);
            file.reserved = file.reserved.max(blocks);
            file.length = file.length.max(length);
            file.seen.resize(file.seen.len().max(blocks), None);
            Ok(true)
        })
    }

    fn write(&self, written: &[u8], offset: u64) -> Result<()> {
        let mut world = self.disk.lock();
        let turn = world.begin(Access::Write, &self.path, offset | (written.len() as u64) << 40);
        let check = crc32c::crc32c(written);
        world.trace.update(&check.to_le_bytes());
        let first = offset as usize / BLOCK;
        let whole = offset.is_multiple_of(BLOCK as u64) && written.len().is_multiple_of(BLOCK);
        let blocks: Vec<Block> = match whole {
            true => written.chunks_exact(BLOCK).map(block).collect(),
            false => widened(world.image.file(self.id).seen.get(first), written, offset as usize % BLOCK),
        };
        let file = world.image.file(self.id);
        let more = (first + blocks.len()).saturating_sub(file.taken());
        if more > 0 && world.image.used().saturating_add(more) > world.capacity {
            return Err(Error::from_raw_os_error(ENOSPC));
        }
        let some = world.choose(blocks.len() + 1);
        let others = world.image.file(self.id).seen.len().max(2) - 1;
        let far = world.choose(others);
        let file = world.image.file_mut(self.id);
        match turn {
            Turn::Fault(Fault::Fails) => {
                file.write(first, blocks.into_iter().take(some));
                world.changed(Access::Write);
                return Err(Error::from_raw_os_error(EIO));
            }
            Turn::Fault(Fault::Dies) => {
                file.write(first, blocks.into_iter().take(some));
                world.changed(Access::Write);
                die(world)
            }
            // Neither is shown as the system's cache would until the machine is started anew: so that processes too
            // come to see it.
            // What is there already cannot be lost.
            Turn::Fault(Fault::Lost)
                if blocks.iter().enumerate().all(|(i, b)| file.block(first + i) == *b) =>
            {
                file.write(first, blocks.into_iter());
            }
            Turn::Fault(fault @ (Fault::Lost | Fault::Misdirected)) => {
                let mut damage = Vec::new();
                let id = self.id;
                for (i, right) in blocks.iter().enumerate() {
                    let wrong = file.block(first + i);
                    damage.push(Damage { file: id, at: first + i, wrong, right: right.clone() });
                }
                if fault == Fault::Misdirected {
                    // Anywhere else in the file, over what was written before too, and as much as there is room for.
                    let length = file.seen.len();
                    let elsewhere = (first + 1 + far) % length.max(1);
                    for (i, wrong) in blocks.iter().enumerate().take(length - elsewhere) {
                        let at = elsewhere + i;
                        damage.retain(|d| d.at != at);
                        let right = blocks.get(at.wrapping_sub(first)).cloned();
                        let right = right.unwrap_or_else(|| file.block(at));
                        damage.push(Damage { file: id, at, wrong: wrong.clone(), right });
                        file.write(at, std::iter::once(wrong.clone()));
                    }
                }
                // The file is as long as if it had been written.
                for at in first..first + blocks.len() {
                    let seen = file.block(at);
                    file.see(at, seen);
                }
                damage.retain(|d| d.wrong != d.right);
                world.damage.extend(damage);
                world.misled = true;
            }
            Turn::Fails(error) => return Err(error),
            Turn::Dies => die(world),
            Turn::Goes | Turn::Fault(_) => file.write(first, blocks.into_iter()),
        }
        world.changed(Access::Write);
        match turn {
            Turn::Fault(Fault::DiesAfter) => die(world),
            _ => Ok(()),
        }
    }

    fn sync(&self) -> Result<()> {
        let mut world = self.disk.lock();
        let turn = world.begin(Access::Sync, &self.path, 0);
        let world_ = &mut *world;
        let file = world_.image.file_mut(self.id);
        match turn {
            Turn::Goes => file.sync(),
            Turn::Fails(error) => return Err(error),
            Turn::Dies => die(world),
            Turn::Fault(Fault::DiesAfter) => {
                file.sync();
                world.changed(Access::Sync);
                die(world)
            }
            Turn::Fault(_) => {
                let draw = &mut world_.draw;
                file.sync_fails(&mut |n| draw.index(n));
                world.changed(Access::Sync);
                return Err(Error::from_raw_os_error(EIO));
            }
        }
        world.changed(Access::Sync);
        Ok(())
    }

    fn sync_all(&self) -> Result<()> {
        self.sync()
    }
}

/// The blocks that hold these bytes and, around them, what was there.
fn widened(was: Option<&Block>, written: &[u8], skip: usize) -> Vec<Block> {
    let mut whole = vec![0; (skip + written.len()).next_multiple_of(BLOCK)];
    if let Some(was) = was {
        whole[..BLOCK].copy_from_slice(&bytes(was));
    }
    whole[skip..skip + written.len()].copy_from_slice(written);
    whole.chunks_exact(BLOCK).map(block).collect()
}
