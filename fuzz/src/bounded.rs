//! An allocator that ends the process where an input makes it ask for too much.
//!
//! libFuzzer's own limit of one allocation needs a sanitizer's hooks, which there are none of on a stable toolchain;
//! its limit of resident memory does not see what is asked for and never touched. This sees both.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of one allocation at most: what no decoder has a reason to ask for, whatever an input of some KiB says.
const ONE_BYTES_MAX: usize = 64 << 20;
/// Bytes allocated at a time at most, the fuzzer's own corpus included.
const ALL_BYTES_MAX: usize = 1 << 30;

/// The system's allocator with bounds.
pub struct Bounded(AtomicUsize);

#[global_allocator]
static ALLOCATOR: Bounded = Bounded(AtomicUsize::new(0));

impl Bounded {
    fn take(&self, bytes: usize) {
        let all = self.0.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if bytes > ONE_BYTES_MAX || all > ALL_BYTES_MAX {
            // So that what is said below may allocate.
            self.0.fetch_sub(bytes, Ordering::Relaxed);
            panic!("an allocation of {bytes} bytes, {all} in all");
        }
    }

    fn give(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

// SAFETY: the system's allocator, with a count beside it. A panic in it is turned into an abort by the fuzzer's
// hook before anything unwinds.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.take(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.take(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        self.give(layout.size());
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.take(size);
        self.give(layout.size());
        unsafe { System.realloc(memory, layout, size) }
    }
}
