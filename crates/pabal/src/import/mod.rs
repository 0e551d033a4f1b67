//! Books of other banks, brought in whole or not at all.

pub mod berka;
