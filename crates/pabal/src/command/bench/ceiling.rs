//! The ceiling: the same bytes written and synced with no ledger at all; of a long run a part, for the rate.

use super::SEGMENT_BLOCKS;
use pabal_journal::{BLOCK, Journal, JournalConfig, RecordBuffer, RecordKind, RecordMeta};
use std::path::Path;
use std::time::Instant;

/// Bytes that are written at most: a run of 100 million transfers is not written twice.
pub const BYTES_MAX: u64 = 4 << 30;

/// Seconds in which as many blocks are written and synced, in as many records, with no ledger; from [`BYTES_MAX`] on at
/// the rate of the first ones.
pub fn ceiling(dir: &Path, blocks: u64, records: u64) -> anyhow::Result<f64> {
    let config = JournalConfig { segment_blocks: SEGMENT_BLOCKS, ..JournalConfig::default() };
    let (mut journal, _) = Journal::open(dir, &config, 1, &mut |_| Ok(()))?;
    let mut buffer = RecordBuffer::new();
    let mut append = |blocks: u64| {
        buffer.begin(journal.layout().place(journal.next_block(), blocks as u32));
        while (buffer.blocks() as u64) < blocks {
            let (_, entry) = buffer.entry(3);
            (entry[0], entry[5]) = (1, 3);
        }
        let kind = RecordKind::Batch;
        buffer.finish(RecordMeta { kind, rules: 0, time_ms: 0, business_date: 0, digest: [0; 16] });
        journal.append(&mut buffer)
    };
    // The first record waits for the second segment; the ledger's first did so when the bank was founded.
    append(1)?;
    let begun = Instant::now();
    let written = blocks.min((BYTES_MAX / BLOCK as u64).max(1));
    let (records, mut done) = (records.clamp(1, blocks.max(1)), 0);
    // Records of the mean size: each ends where its share of the blocks does.
    for record in 1..=records {
        let end = (u128::from(blocks) * u128::from(record) / u128::from(records)) as u64;
        let end = end.min(written);
        if end > done {
            append(end - done)?;
            done = end;
        }
    }
    Ok(begun.elapsed().as_secs_f64() * blocks.max(1) as f64 / written.max(1) as f64)
}
