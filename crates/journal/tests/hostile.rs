//! Forged journals: every check is right, and what they say cannot be.

use pabal_journal::{
    BLOCK, Error, Journal, JournalConfig, Reader, RecordBuffer, RecordKind, RecordMeta, UNIT, verify,
};
use std::path::Path;
use tempfile::TempDir;

fn config(segment_blocks: u32) -> JournalConfig {
    JournalConfig { segment_blocks, direct: false, ..JournalConfig::default() }
}

/// A journal of two records of one block each.
fn two_records() -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = Journal::open(dir.path(), &config(16), 42, &mut |_| Ok(())).expect("made");
    let mut buffer = RecordBuffer::new();
    for _ in 0..2 {
        buffer.begin(journal.next_block());
        let (_, bytes) = buffer.entry(1);
        (bytes[0], bytes[5]) = (1, 1);
        buffer.finish(RecordMeta {
            kind: RecordKind::Batch,
            rules: 1,
            time_ms: 5,
            business_date: 7,
            digest: [9; 16],
        });
        journal.append(&mut buffer).expect("written");
    }
    dir
}

/// Puts these bytes at a place of a block of the first segment, and the block's check right.
fn forge(dir: &Path, block: usize, at: usize, bytes: &[u8]) {
    let path = dir.join("000000000000.seg");
    let mut file = std::fs::read(&path).expect("a segment");
    let block = &mut file[block * BLOCK..][..BLOCK];
    block[at..at + bytes.len()].copy_from_slice(bytes);
    let check = crc32c::crc32c(&block[4..]);
    block[..4].copy_from_slice(&check.to_le_bytes());
    std::fs::write(&path, file).expect("written");
}

/// The length was believed: nothing at all divided by zero, and very much overflowed or took all memory.
#[test]
fn a_segment_length_that_cannot_be_is_rotten() {
    const SEGMENT_BLOCKS: usize = UNIT + 16;
    let dir = two_records();
    forge(dir.path(), 0, SEGMENT_BLOCKS, &16u64.to_le_bytes());
    assert!(verify(dir.path(), &mut |_| Ok(())).is_ok(), "the forger knows how");
    for blocks in [0, 1, (1 << 18) + 1, 1 << 52, u64::MAX] {
        forge(dir.path(), 0, SEGMENT_BLOCKS, &blocks.to_le_bytes());
        let read = verify(dir.path(), &mut |_| Ok(())).err();
        let opened = Journal::open(dir.path(), &config(16), 42, &mut |_| Ok(())).err();
        for error in [read, opened] {
            assert!(matches!(error, Some(Error::Rotten { offset: 0, .. })), "{blocks} blocks: {error:?}");
        }
    }
    for segment_blocks in [0, 1, (1 << 18) + 1] {
        let empty = tempfile::tempdir().expect("a folder");
        let made = Journal::open(empty.path(), &config(segment_blocks), 42, &mut |_| Ok(())).err();
        assert!(matches!(made, Some(Error::Folder { .. })), "{made:?}");
        assert_eq!(std::fs::read_dir(empty.path()).expect("a folder").count(), 0, "nothing was made");
    }
}

/// A follower took as much memory as the first block said, or stopped on a record of no blocks; and looking for
/// the end of a record never ended on one of none.
#[test]
fn a_record_of_no_blocks_or_of_more_than_its_segment_has_is_rotten() {
    const BLOCKS: usize = 28;
    let dir = two_records();
    let reader = Reader::open(dir.path()).expect("a reader");
    assert_eq!(reader.record_after(1, 1, |_| ()).expect("sound"), (2, 1));
    assert_eq!(reader.end_of(2, 3).expect("sound"), 3);
    for blocks in [0, 16, u32::MAX] {
        forge(dir.path(), 1, BLOCKS, &blocks.to_le_bytes());
        for error in [reader.record_after(1, 1, |_| ()).err(), reader.end_of(2, 3).err()] {
            assert!(matches!(error, Some(Error::Rotten { offset: 4096, .. })), "{blocks} blocks: {error:?}");
        }
    }
}
