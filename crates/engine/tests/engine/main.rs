//! Tests of the engine, on a toy state machine whose commands can be held, repeated and made to crash.

mod child;
mod durable;
mod find;
mod follow;
mod gate;
mod header;
mod lanes;
mod poison;
mod replay;
mod ring;
mod room;
mod setup;
mod stop;
mod time;
mod toy;
