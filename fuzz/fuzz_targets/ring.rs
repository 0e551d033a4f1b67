//! The file that survives a crash, with any content: a bank starts beside it, and what it then wrote can be started
//! from again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pabal_core::BankMachine;
use pabal_engine::Engine;
use pabal_engine::engine::JOURNAL;
use pabal_fuzz::input::Input;
use pabal_fuzz::scratch::Scratch;
use pabal_fuzz::seeds;
use std::cell::LazyCell;
use std::ffi::OsString;
use std::path::Path;
use zerocopy::IntoBytes;

/// Where the request stands in the file.
const HEAD: usize = 4096;

/// A folder, and the files of a founded bank's journal: their names and their bytes.
type Founded = (Scratch, Vec<(OsString, Vec<u8>)>);

thread_local! {
    static BANK: LazyCell<Founded> = const { LazyCell::new(bank) };
}

fn bank() -> Founded {
    let scratch = Scratch::new();
    seeds::found(scratch.path());
    let files = std::fs::read_dir(scratch.path().join(JOURNAL)).expect("a folder").map(|file| {
        let file = file.expect("a file");
        (file.file_name(), std::fs::read(file.path()).expect("a segment"))
    });
    let files = files.collect();
    (scratch, files)
}

fuzz_target!(init: seeds::plant("ring"), |data: &[u8]| {
    BANK.with(|bank| {
        let (scratch, files) = &**bank;
        let data_folder = scratch.empty("data");
        let journal = data_folder.join(JOURNAL);
        std::fs::create_dir(&journal).expect("a folder");
        for (name, bytes) in files {
            std::fs::write(journal.join(name), bytes).expect("written");
        }
        std::fs::write(data_folder.join("ring"), content(data)).expect("written");
        start(&data_folder);
        start(&data_folder);
    });
});

fn start(data: &Path) {
    let started = Engine::start(data, BankMachine::default(), seeds::config(), &mut |_| {});
    let (engine, _) = started.expect("a bank starts, whatever its ring says");
    engine.stop().expect("stopped");
}

/// The whole file, or a request whose length and check are right.
fn content(data: &[u8]) -> Vec<u8> {
    let mut input = Input(data);
    if input.u8() & 1 != 0 {
        return input.0.to_vec();
    }
    let (crashes, cursor) = (u64::from(input.u8()), u64::from(input.u32()));
    let request = input.0;
    let words = [1, cursor, request.len() as u64, u64::from(crc32c::crc32c(request)), crashes];
    let mut file = words.as_bytes().to_vec();
    file.resize(HEAD, 0);
    file.extend_from_slice(request);
    file
}
