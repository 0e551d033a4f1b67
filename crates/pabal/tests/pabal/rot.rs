//! Rot in every kind of place of a data folder, found by `pabal verify`, which must say where.
//!
//! Ten thousand positions are turned over in `crates/journal/tests/journal.rs`, in one process. Here each
//! position goes through the real binary.

use crate::cli::flip;
use crate::{BLOCK, kept, loaded, pabal, run, segment_of, text, walk};
use std::path::{Path, PathBuf};

/// Verifies and expects the journal to be wrong: what `chain` says.
fn broken(data: &Path) -> String {
    let (report, code, errors) = pabal(&["verify", "--data", &text(data)]);
    assert_eq!((code, errors.as_str()), (1, ""), "{report}");
    let chain = report["chain"].as_str().expect("where it breaks").to_string();
    assert_ne!(chain, "ok");
    chain
}

/// The segments of a bank's journal: what else lies in its folder is none.
fn segments(data: &Path) -> Vec<PathBuf> {
    walk(data).into_iter().filter(|file| file.extension().is_some_and(|e| e == "seg")).collect()
}

fn is_good(data: &Path) {
    let (report, code, errors) = pabal(&["verify", "--data", &text(data)]);
    assert_eq!((code, &report["chain"]), (0, &"ok".into()), "{report}{errors}");
}

/// Turns a bit over, and back again; verify must name the file and the block in between.
fn is_found(data: &Path, file: &Path, at: u64) {
    flip(file, at);
    let chain = broken(data);
    let block = at / BLOCK as u64 * BLOCK as u64;
    let wanted = format!("{}, byte {block}:", file.display());
    assert!(chain.starts_with(&wanted), "byte {at}: {chain:?} does not begin with {wanted:?}");
    flip(file, at);
}

/// Bytes of a block's header, of a record's, and of a request's: the first of each field.
const BLOCK_FIELDS: [u64; 12] = [0, 4, 8, 16, 24, 28, 32, 40, 48, 49, 55, 56];
const RECORD_FIELDS: [u64; 14] = [64, 66, 68, 72, 80, 88, 96, 100, 104, 112, 116, 128, 160, 176];
const REQUEST_FIELDS: [u64; 14] = [192, 194, 195, 196, 197, 198, 200, 201, 202, 204, 208, 216, 232, 240];

#[test]
fn a_flip_of_any_byte_is_found_and_its_place_named() {
    let data = kept("rules-1-then-2.gz");
    is_good(data.path());
    let files = segments(data.path());
    let bytes: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).expect("read")).collect();
    let blank = |file: usize, block: usize| bytes[file][block * BLOCK..].iter().take(BLOCK).all(|b| *b == 0);
    let blocks = bytes[0].len() / BLOCK;
    let written = |file: usize| (1..blocks).take_while(|block| !blank(file, *block)).count() as u64;
    let current = files.len() - 1 - (0..files.len()).rev().take_while(|file| written(*file) == 0).count();
    assert!(current > 0 && current + 1 < files.len(), "full segments, a current one, and spares");
    assert!((1..blocks as u64 - 5).contains(&written(current)), "the current one has free blocks");

    let mut places: Vec<(usize, u64)> = Vec::new();
    let b = BLOCK as u64;
    for file in 0..files.len() {
        // The segment's header: its own fields, and the rest of its block.
        places.extend([0, 8, 40, 64, 72, 80, 88, 96, 2000, b - 1].map(|at| (file, at)));
        // The last byte of the file, and the first after the header.
        places.extend([(file, blocks as u64 * b - 1), (file, b)]);
    }
    let mut block = |file: usize, block: u64| {
        let fields = [&BLOCK_FIELDS[..], &RECORD_FIELDS, &REQUEST_FIELDS].concat();
        places.extend(fields.into_iter().map(|field| (file, block * b + field)));
        // Two entries' commands and outcomes, and what is left after the last one.
        places.extend([256, 300, 351, 352, 440, 447, 448, b - 64, b - 1].map(|at| (file, block * b + at)));
    };
    block(0, 9); // in the middle
    block(current, written(current)); // the last record
    // Free blocks of the current segment, and of the first spare.
    for free in [written(current) + 1, written(current) + 2, blocks as u64 - 2] {
        places.extend([0, 28, 29, 30, 100].map(|at| (current, free * b + at)));
    }
    places.extend([(current + 1, 5 * b), (current + 1, 5 * b + 28), (current + 1, 6 * b - 1)]);
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    for _ in 0..40 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let place = (random >> 20) % (bytes[0].len() * files.len()) as u64;
        places.push(((place / bytes[0].len() as u64) as usize, place % bytes[0].len() as u64));
    }
    assert!(places.len() > 150, "{}", places.len());
    for (file, at) in places {
        is_found(data.path(), &files[file], at);
    }
    is_good(data.path());
    assert!(
        segments(data.path())
            .iter()
            .zip(&bytes)
            .all(|(file, was)| &std::fs::read(file).expect("read") == was)
    );
}

#[test]
fn after_a_load_a_flip_of_any_byte_is_found_and_its_place_named() {
    let data = loaded(300);
    let files = segments(data.path());
    let length = std::fs::metadata(&files[0]).expect("a file").len();
    let mut random = 0x2545_f491_4f6c_dd1du64;
    for i in 0..30 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // The written part is small beside the preallocated: every other one there.
        let place =
            (random >> 20) % if i % 2 == 0 { 400 * BLOCK as u64 } else { length * files.len() as u64 };
        is_found(data.path(), &files[(place / length) as usize], place % length);
    }
    is_good(data.path());
}

#[test]
fn a_file_that_is_strange_missing_short_or_long_is_named() {
    let data = kept("rules-1-then-2.gz");
    let files = segments(data.path());
    let journal = data.path().join("journal");
    let strange = [
        data.path().join("notes.txt"),
        data.path().join(".hidden"),
        journal.join("notes.txt"),
        journal.join("notes.tmp"),
        journal.join("+00000000001.seg"),
        journal.join("00000000001.seg"),
        journal.join(format!("{:012}.seg", files.len() + 1)),
    ];
    for file in strange {
        std::fs::write(&file, "x").expect("written");
        let chain = broken(data.path());
        // A number beyond the next one says that those before it are missing.
        let beyond = file.to_str().is_some_and(|f| f.ends_with(&format!("{:012}.seg", files.len() + 1)));
        let named = if beyond { segment_of(data.path(), files.len()) } else { file.clone() };
        assert!(chain.starts_with(&format!("{}: ", named.display())), "{}: {chain}", file.display());
        std::fs::remove_file(&file).expect("removed");
    }
    let folder = journal.join("sub");
    std::fs::create_dir(&folder).expect("a folder");
    assert!(broken(data.path()).starts_with(&format!("{}: ", folder.display())));
    std::fs::remove_dir(&folder).expect("removed");

    for file in &files {
        let whole = std::fs::read(file).expect("read");
        let named = format!("{}: has not the length of a segment", file.display());
        let lengths = [0, 1, BLOCK - 1, BLOCK, whole.len() - BLOCK, whole.len() - 1, whole.len() + 1];
        for length in lengths {
            let mut other = whole.clone();
            other.resize(length, 0);
            std::fs::write(file, &other).expect("written");
            let chain = broken(data.path());
            assert!(chain.starts_with(&named), "{length}: {chain}");
        }
        std::fs::remove_file(file).expect("removed");
        if file != files.last().expect("one") {
            let chain = broken(data.path());
            let named = format!("{}: this segment is missing", file.display());
            assert!(chain.starts_with(&named), "{chain}");
        }
        std::fs::write(file, &whole).expect("restored");
    }
    is_good(data.path());
}

#[test]
fn segments_that_were_swapped_or_are_of_another_journal_are_named() {
    let (data, other) = (loaded(1_500), loaded(1_500));
    let files = segments(data.path());
    assert!(files.len() >= 3, "{} segments", files.len());
    let read = |file: &Path| std::fs::read(file).expect("read");
    let whole: Vec<Vec<u8>> = files.iter().map(|file| read(file)).collect();
    for (a, b) in [(0, 1), (1, 2), (0, files.len() - 1)] {
        std::fs::write(&files[a], &whole[b]).expect("written");
        std::fs::write(&files[b], &whole[a]).expect("written");
        let chain = broken(data.path());
        assert!(chain.starts_with(&format!("{}, byte 0: ", files[a].display())), "{chain}");
        std::fs::write(&files[a], &whole[a]).expect("restored");
        std::fs::write(&files[b], &whole[b]).expect("restored");
    }
    // How requests fall into batches, and so the number of segments, is not the same in both.
    for i in 1..files.len().min(segments(other.path()).len()) {
        std::fs::write(&files[i], read(&segment_of(other.path(), i))).expect("written");
        let chain = broken(data.path());
        assert!(chain.starts_with(&format!("{}, byte 0: ", files[i].display())), "{chain}");
        std::fs::write(&files[i], &whole[i]).expect("restored");
    }
    // With another's first segment the others are the foreign ones.
    std::fs::write(&files[0], read(&segment_of(other.path(), 0))).expect("written");
    assert!(broken(data.path()).starts_with(&format!("{}, byte 0: ", files[1].display())));
    std::fs::write(&files[0], &whole[0]).expect("restored");
    is_good(data.path());
}

/// A forger who makes every check and every hash right again does not get the outcomes right.
#[test]
fn a_chain_that_was_made_anew_over_another_outcome_is_found_by_deciding_again() {
    let data = kept("rules-1-then-2.gz");
    let files = segments(data.path());
    let mut segments: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).expect("read")).collect();
    // The last posting that was done: one won more, on both sides.
    let mut forged = None;
    for (s, bytes) in segments.iter_mut().enumerate() {
        for at in (BLOCK..bytes.len()).step_by(BLOCK).filter(|at| bytes[at + 64 + 2] == 1) {
            if bytes[at + 256..][..2] == [5, 0] && bytes[at + 256 + 6..][..2] == [1, 0] {
                forged =
                    Some((s, at, u64::from_le_bytes(bytes[at + 16..at + 24].try_into().expect("eight"))));
            }
        }
    }
    let (s, at, sequence) = forged.expect("a posting");
    segments[s][at + 256 + 32] ^= 1;
    chain_anew(&mut segments);
    for (file, bytes) in files.iter().zip(&segments) {
        std::fs::write(file, bytes).expect("written");
    }
    let (report, code, errors) = pabal(&["verify", "--data", &text(data.path())]);
    assert_eq!((code, errors.as_str()), (1, ""));
    assert_eq!((&report["chain"], &report["outcomes_match"]), (&"ok".into(), &false.into()), "{report}");
    assert_eq!(report["up_to_record"], sequence - 1);
    assert!(report["digest"].is_null() && report["debits_equal_credits"].is_null(), "{report}");
    assert!(report["wrong"].as_str().expect("what").starts_with(&format!("record {sequence}, ")), "{report}");
    let (out, errors, code) = run(&["balance", "101", "--data", &text(data.path())]);
    assert_eq!((out.as_str(), code), ("", 1), "{errors}");
}

/// Writes every check, chain and hash anew, from the first record on.
fn chain_anew(segments: &mut [Vec<u8>]) {
    let mut hash = None;
    for bytes in segments {
        let mut at = BLOCK;
        while at < bytes.len() && bytes[at..at + BLOCK].iter().any(|b| *b != 0) {
            let blocks = u32::from_le_bytes(bytes[at + 28..at + 32].try_into().expect("four")) as usize;
            let record = &mut bytes[at..at + blocks * BLOCK];
            let before: [u8; 32] = hash.unwrap_or(record[128..160].try_into().expect("32"));
            record[128..160].copy_from_slice(&before);
            for block in record.chunks_exact_mut(BLOCK) {
                block[56..64].copy_from_slice(&before[..8]);
                let check = crc32c(&block[4..]);
                block[..4].copy_from_slice(&check.to_le_bytes());
            }
            hash = Some(*blake3::hash(record).as_bytes());
            at += blocks * BLOCK;
        }
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ *byte as u32, |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}
