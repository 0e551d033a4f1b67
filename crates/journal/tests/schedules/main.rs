//! The journal's hand-made concurrent parts under many schedules: `cargo xtask schedules` says how many.

mod disk;
mod durable;
mod failing;
mod reader;
mod supply;
mod trying;
