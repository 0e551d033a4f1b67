//! What the fuzz targets share: hostile bytes for every decoder, made so that they get past the checks.
//!
//! *What is looked for.* A panic, an overflow, an allocation that the input alone decides, a loop without end. An
//! error is a good answer. Beside that a target asserts what must hold of any input that is let in: debits equal
//! credits, what a start wrote can be started from again.
//!
//! *Past the checks.* Bytes at random fail their CRC and are refused before they are looked at. So an input says
//! only what a forger would choose; checks, magic numbers, sequences and hashes are filled in after it
//! ([`image`]), unless the input says that they be left.
//!
//! *Seeds* are cut from the journal of a bank that each target makes for itself at its start ([`seeds`]): they
//! follow every change of the format and are not kept.

pub mod bounded;
pub mod image;
pub mod input;
pub mod scratch;
pub mod seeds;

/// The reading of foreign books: files of the binary, compiled here too because nothing imports the binary.
#[path = "../../crates/pabal/src/import/berka"]
#[allow(dead_code, reason = "the import uses the rest")]
pub mod berka {
    pub mod parse;
    mod parse_codes;
    mod parse_error;
    mod parse_field;
    mod parse_file;
    mod parse_rows;
    pub mod tables;
}
