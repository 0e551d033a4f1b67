//! The allocator, memory that it has before it needs it, and what becomes of memory that is freed.

use anyhow::{Context as _, ensure};
use libmimalloc_sys::mi_option_set;
use std::hint::black_box;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Number of mimalloc's option `purge_delay`, which its bindings do not name (`mimalloc.h` of version 3).
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// The value of it that means: never.
const NEVER: std::ffi::c_long = -1;

/// Keeps memory that is freed from now on, for what is needed next, rather than give it back to the system. What was
/// given back comes again page by page, on a virtual machine at half a gigabyte a second, while a bank's clients wait;
/// and a bank needs tomorrow what it needed today. A
/// replay needs at its end what it freed at its beginning.
pub fn keep_what_is_freed() {
    // SAFETY: changes a number that the allocator reads whenever it has freed something.
    unsafe { mi_option_set(PURGE_DELAY, NEVER) }
}

/// Taken at once: what the allocator finds room for in what it has from the system.
const PIECE: usize = (4 << 20) - (64 << 10);
const PAGE: usize = 4096;

/// Takes so many bytes from the system, to the last page, and leaves them to the allocator, which keeps what is freed.
/// A page that is touched for the first time costs whoever touches it the zeroing of it and on a virtual machine far
/// more, as its host has to find it: 5 ms for 2 MiB were seen, and hosts take back what lies idle. A bank that is
/// going to grow takes the time before it serves anybody.
///
/// # Errors
/// The machine has not so much to give: more than three quarters of what is available are never taken, as a system that
/// runs out of memory ends processes.
pub fn take(bytes: usize) -> anyhow::Result<()> {
    let available = available()?;
    ensure!(
        bytes <= available / 4 * 3,
        "{} MiB are asked for, {} MiB are available on this machine, and a quarter stays free",
        bytes >> 20,
        available >> 20
    );
    let mut taken = Vec::new();
    for _ in 0..bytes.div_ceil(PIECE) {
        let mut piece = Vec::<u8>::new();
        piece.try_reserve_exact(PIECE)?;
        piece.spare_capacity_mut().iter_mut().step_by(PAGE).for_each(|byte| _ = byte.write(1));
        taken.push(black_box(piece));
    }
    Ok(())
}

/// Bytes that processes can have without others' being swapped out.
pub fn available() -> anyhow::Result<usize> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).context("no MemAvailable")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<usize>()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").expect("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
    }

    /// The number is that of the option, in the version that is built in; what is taken is the process's at once and
    /// stays it, and what is needed next comes from it. One test, as the option is the whole process's.
    #[test]
    fn memory_that_was_taken_is_kept_and_used_next() {
        // SAFETY: reads a number.
        let delay = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert!(delay() > 0, "{}", delay());
        keep_what_is_freed();
        assert_eq!(delay(), NEVER);

        let (before, some) = (resident(), 256 << 20);
        take(some).expect("taken");
        let taken = resident();
        assert!(taken >= before + some - (some >> 4), "{before} {taken}");
        // Where what was taken is not used, this takes as much again.
        let held: Vec<Vec<u8>> = (0..200).map(|_| vec![1; 1 << 20]).collect();
        let used = resident();
        assert!(used < taken + (64 << 20), "{taken} {used}");
        drop(held);
    }

    #[test]
    fn more_than_there_is_is_refused_before_it_is_touched() {
        let error = take(1 << 60).expect_err("2^60 bytes");
        assert!(error.to_string().contains("are available"), "{error}");
    }
}
