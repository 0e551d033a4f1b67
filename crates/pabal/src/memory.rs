//! The allocator, and what becomes of memory that is freed.

use libmimalloc_sys::mi_option_set;

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

#[cfg(test)]
mod tests {
    use super::*;

    /// The number is that of the option, in the version that is built in.
    #[test]
    fn the_option_is_the_one_that_is_meant() {
        // SAFETY: reads a number.
        let delay = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert!(delay() > 0, "{}", delay());
        keep_what_is_freed();
        assert_eq!(delay(), NEVER);
    }
}
