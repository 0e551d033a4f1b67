//! Blocks kept in memory: for histories, whose entries lie far apart, and because a journal that is written past the page
//! cache is in no other memory.
//!
//! Only blocks that were found sound and that never change again come here, so what is here needs no check. Bounded;
//! at the bound the one that came first goes.

use crate::block::BLOCK;
use crate::sync::{Mutex, PoisonError};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Parts of the cache, each with a lock of its own.
const PARTS: usize = 16;

#[derive(Default)]
struct Part {
    blocks: BTreeMap<u64, Arc<[u8; BLOCK]>>,
    order: VecDeque<u64>,
}

pub(crate) struct Cache {
    parts: Vec<Mutex<Part>>,
    /// Blocks of one part at most.
    each_max: usize,
}

impl Cache {
    /// For this many blocks.
    pub fn of(blocks: usize) -> Cache {
        let parts = (0..PARTS).map(|_| Mutex::new(Part::default())).collect();
        Cache { parts, each_max: blocks.div_ceil(PARTS).max(1) }
    }

    fn part(&self, number: u64) -> &Mutex<Part> {
        &self.parts[(number % PARTS as u64) as usize]
    }

    pub fn get(&self, number: u64) -> Option<Arc<[u8; BLOCK]>> {
        self.part(number).lock().unwrap_or_else(PoisonError::into_inner).blocks.get(&number).cloned()
    }

    pub fn put(&self, number: u64, block: [u8; BLOCK]) {
        let mut part = self.part(number).lock().unwrap_or_else(PoisonError::into_inner);
        if part.blocks.insert(number, Arc::new(block)).is_none() {
            part.order.push_back(number);
        }
        while part.order.len() > self.each_max
            && let Some(first) = part.order.pop_front()
        {
            part.blocks.remove(&first);
        }
    }
}
