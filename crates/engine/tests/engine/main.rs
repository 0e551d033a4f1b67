//! Tests of the engine, on a toy state machine whose commands can be held, repeated and made to crash.

mod durable;
mod follow;
mod gate;
mod lanes;
mod room;
mod setup;
mod stop;
mod time;
mod toy;
