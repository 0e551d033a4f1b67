//! The commands of the command line, one file each.

pub mod bench;
pub mod core;
pub mod crashes;
pub mod customers;
pub mod drill;
pub mod ending;
pub mod full;
pub mod judge;
pub mod lines;
pub mod read;
pub mod reader;
pub mod serve;
pub mod show;
pub mod simulate;
pub mod state;
mod sums;
pub mod verify;
