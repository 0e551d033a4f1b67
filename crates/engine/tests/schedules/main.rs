//! The engine's hand-made concurrent parts under many schedules: `cargo xtask schedules` says how many.

#[path = "../../../journal/tests/schedules/disk.rs"]
mod disk;
mod ending;
mod engine;
mod failing;
mod machine;
mod queue;
#[path = "../../../journal/tests/schedules/trying.rs"]
mod trying;
