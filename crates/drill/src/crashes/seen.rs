//! What is seen of a bank from outside while it runs: each state of its disk, what it wrote, what it answered.

use crate::disk::Access;
use crate::disk::image::{Block, Image};
use crate::sent::Sent;
use pabal_bank::Reply;
use pabal_bank::ledger::{Id, Op, Posting};
use pabal_core::Answer;
use pabal_engine::request::REQUEST_OP;
use pabal_engine::{Response, Ticket, Unknown};
use pabal_journal::{BLOCK, Durable, Position, Record, RecordHeader, UNIT};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use zerocopy::FromBytes;

use super::loss::is_unfinished;

/// Marks an entry that goes on from the one before.
const CONTINUATION: u8 = 128;

/// A record as it was handed to the disk.
#[derive(Clone)]
pub struct WrittenRecord {
    /// BLAKE3 of its blocks.
    pub hash: [u8; 32],
    /// The block at which it begins.
    pub start_block: u64,
    blocks: Arc<[u8]>,
}

impl WrittenRecord {
    fn holds(&self, position: Position) -> bool {
        (self.start_block..self.start_block + (self.blocks.len() / BLOCK) as u64).contains(&position.block())
    }
}

/// What the world knows of a bank.
#[derive(Clone, Default)]
pub struct Known {
    /// Records that must never be missing any more: something of them was shown to someone.
    pub durable: u64,
    /// All records that were written, the last one maybe not durably.
    pub records: Vec<WrittenRecord>,
    /// What was answered, by the command's id.
    answers: BTreeMap<Id, Reply>,
    /// What was sent.
    sent: BTreeMap<Id, Sent>,
}

impl Known {
    /// The record that holds this position, its sequence, and the entry there.
    fn entry(&self, position: u64) -> Option<(u64, &[u8])> {
        let position = Position(position);
        let at = self.records.iter().position(|record| record.holds(position))?;
        let record = &self.records[at];
        let first = (position.block() - record.start_block) as usize * BLOCK + position.unit() * UNIT;
        Some((at as u64 + 1, &record.blocks[first..]))
    }

    /// An answer to this command: the entry that it speaks of is there and says the same, and so did every answer
    /// before.
    fn answer(&mut self, sent: &Sent, reply: &Reply) -> Result<(), String> {
        if !reply.code.uses_id() {
            return Ok(());
        }
        let (id, reply) = (sent.command().id, Reply { again: false, ..*reply });
        let first = *self.answers.entry(id).or_insert(reply);
        if first != reply {
            return Err(format!("{id} was answered {first:?}, and later {reply:?}"));
        }
        let Some((sequence, bytes)) = self.entry(reply.position) else {
            return Err(format!("{id} was answered {reply:?}, but nothing was written there"));
        };
        let entry = Posting::read_from_prefix(bytes).map_err(|_| "an entry is too short")?.0;
        if entry.command.id != id || Reply::of(&entry, reply.position) != reply {
            return Err(format!("{id} was answered {reply:?}, but what was written there is {entry:?}"));
        }
        self.durable = self.durable.max(sequence);
        Ok(())
    }

    /// Whether all that the record says was sent.
    fn was_sent(&self, record: &WrittenRecord) -> Result<(), String> {
        let header = RecordHeader::read_from_prefix(&record.blocks[UNIT..]).map_err(|_| "a short block")?.0;
        let (start_block, hash) = (record.start_block, record.hash);
        let record = Record { header: &header, start_block, hash, blocks: &record.blocks };
        for (position, entry) in record.entries() {
            let op = u16::from_le_bytes([entry[0], entry[1]]);
            if op == REQUEST_OP || op == Op::HoldReleased as u16 || entry[4] & CONTINUATION != 0 {
                continue;
            }
            // As it was sent: without what the bank filled in.
            let mut bytes = entry[..entry[3] as usize * 32].to_vec();
            bytes[5..8].fill(0);
            let written = Sent::new(&bytes);
            if self.sent.get(&written.command().id) != Some(&written) {
                return Err(format!("position {position} holds what was never sent: {written:?}"));
            }
        }
        Ok(())
    }
}

/// The bank just after an access that changed its disk.
pub struct Moment {
    /// The access; none at the end.
    pub access: Option<Access>,
    /// The disk.
    pub image: Image,
    /// What was known then.
    pub known: Arc<Known>,
}

type Asked = (Vec<Sent>, Ticket<Response<Reply>>);

/// Watches a bank.
pub struct Watched {
    segment_blocks: u64,
    before: Image,
    /// What is known now.
    pub known: Arc<Known>,
    /// All moments so far.
    pub moments: Vec<Moment>,
    asked: Vec<Asked>,
    questions: Vec<Ticket<Answer>>,
    /// How far the bank says that it is durable, once it runs.
    pub durable: Option<Arc<Durable>>,
    /// Requests to which the answer was that it is unknown.
    pub unknown: usize,
    /// What was wrong already while it ran.
    pub wrong: Vec<String>,
}

impl Watched {
    /// Watches a bank that begins on this disk.
    pub fn new(segment_blocks: u64, image: Image, known: Arc<Known>) -> Watched {
        Watched {
            segment_blocks,
            before: image,
            known,
            moments: Vec::new(),
            asked: Vec::new(),
            questions: Vec::new(),
            durable: None,
            unknown: 0,
            wrong: Vec::new(),
        }
    }

    /// These will be sent.
    pub fn sends(&mut self, sent: &[Sent]) {
        let known = Arc::make_mut(&mut self.known);
        known.sent.extend(sent.iter().map(|one| (one.command().id, one.clone())));
    }

    /// These were sent.
    pub fn asks(&mut self, sent: Vec<Sent>, ticket: Ticket<Response<Reply>>) {
        self.asked.push((sent, ticket));
    }

    /// A question was asked.
    pub fn questions(&mut self, ticket: Ticket<Answer>) {
        self.questions.push(ticket);
    }

    /// Hears whatever was answered meanwhile.
    fn hear(&mut self) {
        let durable = self.durable.as_ref().map_or(0, |durable| durable.sequence());
        if durable > self.known.durable {
            Arc::make_mut(&mut self.known).durable = durable;
        }
        for (sent, ticket) in std::mem::take(&mut self.asked) {
            match ticket.take() {
                None => self.asked.push((sent, ticket)),
                Some(Err(Unknown)) => self.unknown += 1,
                Some(Ok(response)) => {
                    let known = Arc::make_mut(&mut self.known);
                    known.durable = known.durable.max(response.sequence);
                    for (sent, reply) in sent.iter().zip(&response.replies) {
                        self.wrong.extend(known.answer(sent, reply).err());
                    }
                }
            }
        }
        let known = &mut self.known;
        self.questions.retain(|ticket| match ticket.take() {
            None => true,
            Some(Ok(Answer::Account(Some(view)))) if view.head.0 != 0 => {
                match known.entry(view.head.0) {
                    // Whoever saw the balance saw this entry.
                    Some((sequence, _)) if sequence > known.durable => {
                        Arc::make_mut(known).durable = sequence;
                    }
                    Some(_) => {}
                    None => {
                        self.wrong.push(format!("{view:?} was shown, but its newest entry was never written"))
                    }
                }
                false
            }
            Some(_) => false,
        });
    }

    /// The disk was changed by this access, or the bank ends.
    pub fn changed(&mut self, image: &Image, access: Option<Access>) {
        self.hear();
        if access == Some(Access::Write) {
            let written = self.record(image);
            if let Some(record) = written {
                self.wrong.extend(self.known.was_sent(&record).err());
                Arc::make_mut(&mut self.known).records.push(record);
            }
        }
        self.before = image.clone();
        self.moments.push(Moment { access, image: image.clone(), known: self.known.clone() });
    }

    /// The record that was just written, if one was: neither a segment being made, nor a torn record being cut, nor
    /// the last record once more.
    fn record(&self, image: &Image) -> Option<WrittenRecord> {
        let written = image.written_since(&self.before)?;
        let segment = segment(written.path)?;
        let mut blocks = Vec::with_capacity(written.blocks.len() * BLOCK);
        for (_, block) in written.blocks {
            blocks.extend_from_slice(&content(block)?[..]);
        }
        let start_block = segment * self.segment_blocks + written.blocks[0].0 as u64;
        let hash = *blake3::hash(&blocks).as_bytes();
        let again = self
            .known
            .records
            .last()
            .is_some_and(|last| last.hash == hash && last.start_block == start_block);
        (!again).then(|| WrittenRecord { hash, start_block, blocks: blocks.into() })
    }
}

fn content(block: &Block) -> Option<&[u8; BLOCK]> {
    block.as_deref()
}

/// The number in the name of a segment that is made.
fn segment(path: &Path) -> Option<u64> {
    (!is_unfinished(path)).then(|| path.file_stem()?.to_str()?.parse().ok())?
}
