//! The client against servers that do, step by step, whatever a server can do to one.

mod client;
mod connection;
mod faults;
mod keep;
mod real;
mod server;
