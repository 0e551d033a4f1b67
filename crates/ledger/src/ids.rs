//! Bounds of ids in time.

/// How long the outcome of an online command can be had again under its id, milliseconds.
pub const WINDOW_MS: u64 = 24 * 60 * 60 * 1000;
/// How far ahead of the bank's time an id may lie, milliseconds.
pub const AHEAD_MS: u64 = 5 * 60 * 1000;
