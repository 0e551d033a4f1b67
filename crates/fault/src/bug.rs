//! The planted bugs: each a mistake that someone has made somewhere.

/// Whether planted bugs are built into this program.
pub const PLANTED: bool = cfg!(feature = "planted");

/// Makes the enum and the names from one table.
macro_rules! bugs {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// A bug that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Bug { $($(#[$doc])* $name,)* }

        impl Bug {
            /// Every bug.
            pub const ALL: &'static [Bug] = &[$(Bug::$name,)*];

            /// Its name on the command line.
            pub const fn name(self) -> &'static str {
                match self { $(Bug::$name => $text,)* }
            }
        }
    };
}

bugs! {
    /// A record is acknowledged without its `fdatasync`.
    SyncSkipped = "sync_skipped";
}

/// Whether this bug is planted now.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn planted(_bug: Bug) -> bool {
    false
}

#[cfg(feature = "planted")]
pub use active::{off, plant, planted};

#[cfg(feature = "planted")]
mod active {
    use super::Bug;
    use std::sync::atomic::{AtomicU32, Ordering};

    const NONE: u32 = u32::MAX;
    static ACTIVE: AtomicU32 = AtomicU32::new(NONE);

    /// Whether this bug is planted now.
    #[inline]
    pub fn planted(bug: Bug) -> bool {
        ACTIVE.load(Ordering::Relaxed) == bug as u32
    }

    /// Plants this bug, for the whole process; the one planted before is gone.
    pub fn plant(bug: Bug) {
        ACTIVE.store(bug as u32, Ordering::Relaxed);
    }

    /// Takes the planted bug out.
    pub fn off() {
        ACTIVE.store(NONE, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for (i, bug) in Bug::ALL.iter().enumerate() {
            assert_eq!(*bug as usize, i);
            assert!(Bug::ALL[..i].iter().all(|other| other.name() != bug.name()), "{}", bug.name());
        }
    }

    #[cfg(not(feature = "planted"))]
    #[test]
    fn nothing_is_planted_as_the_bank_is_shipped() {
        const { assert!(!PLANTED) };
        assert!(Bug::ALL.iter().all(|bug| !planted(*bug)));
    }
}
