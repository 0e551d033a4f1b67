//! What is on its way on one connection, by tag.
//!
//! A tag is a slot's number in its low half and, above it, how often the slot was used: so an answer finds what it
//! answers without a search, and one that comes twice, late or for nothing is known for what it is.

use pabal_wire::Asking;

/// What was asked under a tag.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub asking: Asking,
    pub count: u32,
    pub bytes: u32,
}

struct Place {
    /// How often it was used.
    uses: u32,
    open: Option<Slot>,
}

#[derive(Default)]
pub(crate) struct Slots {
    places: Vec<Place>,
    free: Vec<u32>,
    bytes: u64,
}

impl Slots {
    /// How many are on their way.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Bytes of their bodies.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn open(&mut self, slot: Slot) -> u64 {
        self.bytes += slot.bytes as u64;
        let number = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { uses: 0, open: None });
            self.places.len() as u32 - 1
        });
        let place = &mut self.places[number as usize];
        place.uses = place.uses.wrapping_add(1);
        place.open = Some(slot);
        (place.uses as u64) << 32 | number as u64
    }

    pub fn get(&self, tag: u64) -> Option<Slot> {
        let place = self.places.get(tag as u32 as usize)?;
        place.open.filter(|_| place.uses == (tag >> 32) as u32)
    }

    pub fn close(&mut self, tag: u64) {
        if let Some(slot) = self.get(tag) {
            self.places[tag as u32 as usize].open = None;
            self.bytes -= slot.bytes as u64;
            self.free.push(tag as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_good_for_one_answer() {
        let mut slots = Slots::default();
        let slot = |bytes| Slot { asking: Asking::Submit, count: 1, bytes };
        let (first, second) = (slots.open(slot(96)), slots.open(slot(8)));
        assert_eq!((first as u32, second as u32), (0, 1), "the low half is the slot's number");
        assert_eq!((slots.len(), slots.bytes()), (2, 104));
        slots.close(first);
        slots.close(first);
        assert_eq!((slots.len(), slots.bytes()), (1, 8), "closed once");
        assert!(slots.get(first).is_none());
        let third = slots.open(slot(16));
        assert_eq!(third as u32, 0, "the slot is used again");
        assert!(third != first && slots.get(first).is_none(), "under another tag");
        assert_eq!(slots.get(third).map(|slot| slot.bytes), Some(16));
        assert!(slots.get(7).is_none(), "never opened");
    }
}
