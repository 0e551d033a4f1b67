//! Tests of the bank: against a model, against golden bytes, along its histories, and of what it costs.
//!
//! `PABAL_CASES` sets how many flows the comparison with the model tries.
// The environment is only asked how long to test; what is allocated is counted by thread, as tests have threads.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod again;
mod encoding;
mod history;
mod memory;
mod pair;
mod random;
mod regression;
mod sink;
