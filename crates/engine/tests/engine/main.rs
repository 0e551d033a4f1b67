//! Tests of the engine, on a toy state machine whose commands can be held, repeated and made to crash.

mod durable;
mod gate;
mod lanes;
mod setup;
mod toy;
