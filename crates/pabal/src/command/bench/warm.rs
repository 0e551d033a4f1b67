//! Memory that the machine has: a virtual one gets it from its host page by page when it is first touched, at a few
//! hundred megabytes a second, and loses it again when it lies idle. That is the host's doing, and comes and goes from one
//! run to the next; a bank that has run for a day has long touched what it needs. So before a run as much is touched
//! as the core is going to take, and given back.

use rustix::system::sysinfo;
use std::alloc::{GlobalAlloc, Layout, System};

/// Bytes that an id of the window and an account take, indexes included, roundly.
const ID_BYTES: u64 = 48;
const ACCOUNT_BYTES: u64 = 160;
/// What else a core takes, its records and requests on their way among them.
const REST_BYTES: u64 = 256 << 20;
/// Touched at most, and at most half of what is free: a longer run is less disturbed by it.
const MOST_BYTES: u64 = 4 << 30;
const PAGE: usize = 4096;

/// Touches as much memory as a core takes with so many accounts after so many transfers.
pub fn up(accounts: u64, transfers: u64) {
    let bytes = transfers.saturating_mul(ID_BYTES).saturating_add(accounts.saturating_mul(ACCOUNT_BYTES));
    let free = sysinfo().freeram as u64 * u64::from(sysinfo().mem_unit);
    let bytes = bytes.saturating_add(REST_BYTES).min(MOST_BYTES).min(free / 2) as usize;
    let Ok(layout) = Layout::from_size_align(bytes, PAGE) else { return };
    // Not from the bank's allocator, which keeps what is freed.
    // SAFETY: the layout is not empty; what is written lies within it; it is given back as it was taken.
    unsafe {
        let memory = System.alloc(layout);
        if memory.is_null() {
            return;
        }
        (0..bytes).step_by(PAGE).for_each(|at| memory.add(at).write_volatile(1));
        System.dealloc(memory, layout);
    }
}
