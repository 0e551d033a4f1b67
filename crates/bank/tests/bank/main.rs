//! Tests of the bank: against a model, against golden bytes, along its histories, and of what it costs.
//!
//! `PABAL_CASES` sets how many flows the comparison with the model tries.
// The environment is only asked how long to test.
#![allow(clippy::disallowed_methods)]

mod again;
mod encoding;
mod history;
mod memory;
mod model;
mod random;
mod regression;
mod sink;
