//! The server, over real sockets.
//!
//! Nothing here sleeps. What must have been seen by the server before the test goes on is made sure of by a witness: a
//! second client whose request was sent later and is answered, so that what was there before has been read.

mod bounds;
mod clients;
mod drain;
mod follow;
mod frames;
mod house;
mod listen;
mod many;
mod tls;
