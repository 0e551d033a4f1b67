//! Tests of the engine, on a toy state machine whose commands can be held, repeated and made to crash.

mod child;
mod durable;
mod find;
mod follow;
mod gate;
mod header;
mod lanes;
mod room;
mod poison;
mod replay;
mod ring;
mod setup;
mod stop;
mod time;
mod toy;
