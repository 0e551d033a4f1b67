//! A journal's folder of any content, forged as well as can be: scan, reading by position, following, opening.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pabal_fuzz::image::Image;
use pabal_fuzz::input::Input;
use pabal_fuzz::scratch::Scratch;
use pabal_fuzz::seeds::{self, left};
use pabal_journal::{Journal, JournalConfig, Position, Reader, verify};
use std::cell::LazyCell;

thread_local! {
    static SCRATCH: LazyCell<Scratch> = const { LazyCell::new(Scratch::new) };
}

fuzz_target!(init: seeds::plant("journal"), |data: &[u8]| {
    let mut input = Input(data);
    let segment_blocks = 2 + usize::from(input.u8().wrapping_sub(2) & 15);
    let mut image = Image::new(segment_blocks, 1 + usize::from(input.u8().wrapping_sub(1) & 3));
    while !input.is_empty() {
        let (bits, block) = (input.u8(), usize::from(input.u8()) % image.blocks());
        image.place(block, input.piece(), left(bits));
    }
    image.seal();
    SCRATCH.with(|scratch| {
        let folder = scratch.empty("journal");
        image.write(&folder);
        read(&folder, data);
    });
});

fn read(folder: &std::path::Path, data: &[u8]) {
    let mut seen = Vec::new();
    let scanned = verify(folder, &mut |record| {
        seen.extend(record.entries().map(|(position, entry)| (position, entry.len())));
        Ok(())
    });
    if let Ok(reader) = Reader::open(folder) {
        let end = reader.extent().unwrap_or(1).max(1);
        for (position, length) in &seen {
            let entry = reader.entry(*position).expect("what was scanned is read again");
            assert_eq!(entry.len(), *length);
        }
        for bytes in data.chunks(8).take(16) {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            let _ = reader.entry(Position(u64::from_le_bytes(word)));
            let _ = reader.entry(Position(u64::from_le_bytes(word) % (64 * 64)));
        }
        // As a follower reads: one record after the other, from the first on.
        let (mut block, mut sequence) = (1, 1);
        while let Ok((next, _)) = reader.record_after(block, sequence, |record| {
            record.entries().for_each(drop);
        }) {
            assert!(next > block, "it goes on");
            (block, sequence) = (next, sequence + 1);
        }
        for sequence in 1..16 {
            let _ = reader.end_of(sequence, end);
        }
    }
    // Opening for writing cuts what is torn; whatever it accepts stays readable.
    let config = JournalConfig { segment_blocks: 16, direct: false, ..JournalConfig::default() };
    let mut records = 0;
    let opened = Journal::open(folder, &config, 7, &mut |_| {
        records += 1;
        Ok(())
    });
    if let Ok((journal, recovered)) = opened {
        assert_eq!(recovered.records, records);
        drop(journal);
        let again = verify(folder, &mut |_| Ok(())).expect("what was opened is read again");
        assert_eq!((again.records, again.cut), (records, None));
    } else {
        assert!(
            scanned.is_err() || scanned.is_ok_and(|s| s.cut.is_some()),
            "a reader accepts what a writer does not"
        );
    }
}
