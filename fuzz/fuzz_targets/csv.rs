//! The books of a foreign bank, whatever stands in their files.

#![no_main]

use flate2::{Compression, write::GzEncoder};
use libfuzzer_sys::fuzz_target;
use pabal_fuzz::berka::{parse, tables};
use pabal_fuzz::scratch::Scratch;
use pabal_fuzz::seeds::{self, BETWEEN, TABLES};
use std::cell::LazyCell;
use std::io::Write;

thread_local! {
    static SCRATCH: LazyCell<Scratch> = const { LazyCell::new(Scratch::new) };
}

fuzz_target!(init: seeds::plant("csv"), |data: &[u8]| {
    SCRATCH.with(|scratch| {
        let folder = scratch.path();
        let mut texts = data.split(|byte| *byte == BETWEEN);
        for table in TABLES {
            let text = texts.next().unwrap_or_default();
            std::fs::write(folder.join(format!("{table}.csv.gz")), packed(text)).expect("written");
        }
        if let Ok(books) = parse::read(folder, &mut |_, _| {}) {
            assert_eq!(books.files.len(), TABLES.len());
            let moment = |row: &tables::Row| (row.date, row.account, row.seq);
            assert!(books.rows.windows(2).all(|pair| moment(&pair[0]) < moment(&pair[1])), "rows in order");
        }
    });
});

/// A text packed with gzip; what begins as a packed file is one already.
fn packed(text: &[u8]) -> Vec<u8> {
    if text.starts_with(&[0x1f, 0x8b]) {
        return text.to_vec();
    }
    let mut packer = GzEncoder::new(Vec::new(), Compression::none());
    packer.write_all(text).expect("into memory");
    packer.finish().expect("into memory")
}
