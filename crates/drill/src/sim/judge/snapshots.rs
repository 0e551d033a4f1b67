//! What was true when a snapshot was made, for whoever begins with it.

use super::{Judge, Kept, require};
use crate::model::Model;
use std::sync::PoisonError;

impl Judge {
    /// Keeps what is true now, for whoever begins with this state; gives the number that it has.
    pub fn keeps(&self) -> u64 {
        let history = self.history[..self.replayed].to_vec();
        let kept = Kept { model: self.model.clone(), history, by_record: self.by_record.clone() };
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.push(kept);
        shelf.len() as u64 - 1
    }

    /// Whether there is such a number.
    pub fn has_kept(&self, number: u64) -> bool {
        number < self.shelf.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    /// A bank begins with nothing: every record is read.
    pub fn begins_with_nothing(&mut self) {
        if self.replaying {
            self.model = Model::new();
            self.replayed = 0;
            self.by_record.clear();
            self.folded.clear();
        }
    }

    /// A bank begins with the state that was kept under this number.
    pub fn begins_with(&mut self, number: u64) {
        let kept = self.shelf.lock().unwrap_or_else(PoisonError::into_inner)[number as usize].clone();
        let is_beginning = self.history.starts_with(&kept.history);
        require(is_beginning, "the snapshot is not what was done", || format!("number {number}"));
        self.replayed = kept.history.len();
        (self.model, self.by_record) = (kept.model, kept.by_record);
        self.folded.clear();
    }
}
