//! A journal that is sound, whose records say anything at all, replayed into a bank.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pabal_bank::Bank;
use pabal_core::BankMachine;
use pabal_engine::Replay;
use pabal_fuzz::image::Image;
use pabal_fuzz::input::Input;
use pabal_fuzz::scratch::Scratch;
use pabal_fuzz::seeds;
use pabal_journal::{ENTRY_UNITS_MAX, Reader, RecordHeader, UNIT, verify};
use std::cell::LazyCell;

/// Blocks of the one segment in which there are records.
const SEGMENT_BLOCKS: usize = 32;

thread_local! {
    static SCRATCH: LazyCell<Scratch> = const { LazyCell::new(Scratch::new) };
}

fuzz_target!(init: seeds::plant("replay"), |data: &[u8]| {
    let mut input = Input(data);
    let known = 1 + u32::from(input.u8() % 4);
    let mut image = Image::new(SEGMENT_BLOCKS, 2);
    let (mut next, mut header) = (1, None);
    let mut entries: Vec<Vec<u8>> = Vec::new();
    loop {
        let begins = input.is_empty() || input.u8() == 0;
        if !begins {
            entries.push(entry(input.piece()));
            continue;
        }
        if let Some(header) = header {
            let parts: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
            let Some(end) = image.record(next, &header, &parts) else { break };
            if end >= SEGMENT_BLOCKS {
                break;
            }
            next = end;
            entries.clear();
        }
        if input.is_empty() {
            break;
        }
        let (rules, time_ms, digest) = (u32::from(input.u8()), input.u64(), input.array());
        header = Some(RecordHeader { rules, time_ms, digest, kind: 1, ..RecordHeader::default() });
    }
    image.seal();
    SCRATCH.with(|scratch| {
        let folder = scratch.empty("journal");
        image.write(&folder);
        let machine = BankMachine(Bank::knowing(known));
        let mut replay = Replay::new(machine, Reader::open(&folder).expect("a reader"));
        verify(&folder, &mut |record| {
            // A forger knows what replaying a record gives, and gets past the comparison: so it goes on.
            let _ = replay.record(record);
            Ok(())
        })
        .expect("the journal itself is sound");
    });
});

/// An entry that the walk over its block finds: whole units, an operation, its length.
fn entry(piece: &[u8]) -> Vec<u8> {
    let mut entry = piece[..piece.len().min(ENTRY_UNITS_MAX * UNIT)].to_vec();
    // What the seeds leave out are zeros at the end: the entry's own length says how many.
    let units = usize::from(piece.get(5).copied().unwrap_or(1));
    let least = entry.len().div_ceil(UNIT).max(1);
    entry.resize(units.clamp(least, ENTRY_UNITS_MAX) * UNIT, 0);
    entry[5] = (entry.len() / UNIT) as u8;
    if entry[..2] == [0, 0] {
        entry[0] = 5;
    }
    entry
}
