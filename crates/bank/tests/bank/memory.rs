//! What an idle account costs, measured where it is allocated.

use pabal_bank::ledger::account::{Account, UNLIMITED};
use pabal_bank::ledger::{Class, Date, Ledger};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Bytes an idle account may cost.
const ACCOUNT_BYTES_MAX: usize = 160;
/// Accounts come by slabs of so many. What the newest has beyond its accounts is taken and never touched, so it is no
/// memory of the machine's.
const SLAB: usize = 64 * 1024;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Counts what this thread has allocated and not freed, and the most it ever had.
struct Counting;

fn count(bytes: isize) {
    LIVE.set(LIVE.get() + bytes);
    PEAK.set(PEAK.get().max(LIVE.get()));
}

// SAFETY: every call is handed to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The old and the new may stand side by side for a while.
        count(size as isize);
        // SAFETY: as the caller promised.
        let new = unsafe { System.realloc(place, layout, size) };
        count(-(layout.size() as isize));
        new
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn an_idle_account_costs_at_most_160_bytes() {
    // Around the sizes at which the index grows (three quarters of a power of two) and slabs are added.
    for accounts in [1usize, 48, 49, 4096, 4097, 49_152, 49_153, 98_304, 98_305, 300_000, 786_433, 1_000_000]
    {
        LIVE.set(0);
        PEAK.set(0);
        let mut ledger = Ledger::default();
        for number in 1..=accounts {
            let mut account =
                Account::new(number as u64, Class::CustomerDeposit as u8, 410, number as u64, Date(20_000));
            account.overdraft = UNLIMITED;
            ledger.open(account);
            if number % 1000 == 0 {
                ledger.digest();
            }
        }
        ledger.digest();
        let untouched = (accounts.next_multiple_of(SLAB) - accounts) * size_of::<Account>();
        let (live, peak) = (LIVE.get() as usize - untouched, PEAK.get() as usize - untouched);
        let bound = ACCOUNT_BYTES_MAX * accounts + 8192;
        assert!(live <= bound, "{accounts} accounts cost {live} bytes");
        assert!(peak <= bound, "{accounts} accounts cost {peak} bytes while the index grew");
        assert_eq!(ledger.accounts().len(), accounts);
        // What the ledger says of it, as the benchmark reports it, is what was allocated, give or take the
        // few lists that are no account's.
        let said = ledger.accounts().bytes();
        assert!(said <= live && live <= said + 8192 + said / 1000, "{said} bytes said, {live} allocated");
    }
}
