//! Marks in the code for those who attack it: failpoints, which are counted, and planted bugs.
//!
//! *Failpoints.* Every branch in which something has gone wrong in `journal` and `engine` says so with
//! [`reached`], once for each run through it. The counts show whether the attacks really get everywhere: a
//! branch that nothing has ever taken is a branch that nobody knows. It costs an addition where time no longer
//! matters.
//!
//! *Planted bugs.* With the feature `planted` each [`Bug`] can be switched on at run time, one at a time, so that
//! the simulator and its judge are measured by what they catch. Without the feature, as the bank is shipped,
//! [`planted`] is the constant `false` and nothing of a bug is built in.
#![deny(missing_docs)]

mod bug;
mod point;

pub use bug::{Bug, PLANTED, planted};
#[cfg(feature = "planted")]
pub use bug::{off, plant};
pub use point::{Point, reached};
