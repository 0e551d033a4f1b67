//! The protocol's client: what a channel uses to reach a core or a reader.
#![deny(missing_docs)]
