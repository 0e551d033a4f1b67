//! Memory of a file that outlives the process: what it shows after a loss of power is any mixture of its pages.

use super::image::Choose;
use pabal_journal::disk::Mapped;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

const PAGE: usize = 4096;
/// Pages that a loss of power mixes; those after them stay.
const MIXED: usize = 4;

pub struct Memory {
    memory: NonNull<u8>,
    length: usize,
    /// The first pages as they were when the last process began.
    before: Mutex<Vec<u8>>,
}

// SAFETY: the simulation runs one thing at a time; the memory itself lives as long as this value.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    pub fn new(length: usize) -> Memory {
        let layout = Memory::layout(length);
        // SAFETY: the layout is not empty.
        let Some(memory) = NonNull::new(unsafe { alloc_zeroed(layout) }) else { handle_alloc_error(layout) };
        Memory { memory, length, before: Mutex::new(vec![0; (MIXED * PAGE).min(length)]) }
    }

    fn layout(length: usize) -> Layout {
        Layout::from_size_align(length.max(1), PAGE).expect("a bounded length")
    }

    /// A process begins to use it.
    pub fn begun(&self) {
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let length = before.len();
        // SAFETY: within the memory; the process that wrote to it is gone.
        before.copy_from_slice(unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), length) });
    }

    /// Changes its bytes, as whoever can write to the file may. No process uses it now.
    pub fn change(&self, change: impl FnOnce(&mut [u8])) {
        // SAFETY: the whole memory; the process that wrote to it is gone.
        change(unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.length) });
    }

    /// Each page is as it is, as it was when the process began, or was never written.
    pub fn power_loss(&self, choose: Choose<'_>) {
        let before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        for at in (0..before.len()).step_by(PAGE) {
            let end = (at + PAGE).min(before.len());
            // SAFETY: within the memory; the process that wrote to it is gone.
            let page = unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr().add(at), end - at) };
            match choose(3) {
                0 => {}
                1 => page.copy_from_slice(&before[at..end]),
                _ => page.fill(0),
            }
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: made with this layout.
        unsafe { dealloc(self.memory.as_ptr(), Memory::layout(self.length)) };
    }
}

pub struct Map(pub Arc<Memory>);

impl Mapped for Map {
    fn memory(&self) -> NonNull<u8> {
        self.0.memory
    }
}
