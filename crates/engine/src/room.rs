//! How much room requests take in a record, known before anything is executed.

use crate::machine::Machine;
use crate::request::Commands;
use crate::walk::Walk;
use pabal_journal::{ENTRY_UNITS_MAX, UNITS};

/// How many blocks a record takes at most. Entries never straddle blocks, so each block may lose a little
/// less than the longest entry.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Room {
    units: usize,
    longest: usize,
}

impl Room {
    /// What this request takes. None when its bytes are not as many commands as it says.
    ///
    /// Asked for where a request is let in, by the one who sends it: the core, on which everybody waits,
    /// need not look.
    pub fn of<M: Machine>(commands: &Commands) -> Option<Room> {
        let mut walk = Walk::<M>::new(commands.as_bytes());
        let mut room = Room { units: 1, longest: 1 }; // the request's header
        let mut count = 0;
        for command in &mut walk {
            let units = M::units_max(command);
            room.units = room.units.saturating_add(units);
            // More than a block is several entries of the usual length.
            room.longest = room.longest.max(if units > ENTRY_UNITS_MAX { 3 } else { units });
            count += 1;
        }
        (walk.rest.is_empty() && count == commands.len()).then_some(room)
    }

    /// What both take.
    pub fn and(self, other: Room) -> Room {
        Room { units: self.units.saturating_add(other.units), longest: self.longest.max(other.longest) }
    }

    /// The blocks of a record.
    pub fn blocks(self) -> u32 {
        let units = self.units.saturating_add(2); // the record's header
        let blocks = if self.longest <= 32 {
            units.div_ceil(UNITS - self.longest.max(1))
        } else {
            1 + (units / ENTRY_UNITS_MAX + 1) * 2
        };
        u32::try_from(blocks).unwrap_or(u32::MAX)
    }
}
