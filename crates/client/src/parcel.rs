//! What is sent, and the names of what is in it.

use crate::connection::{Envelope, Lane};
use pabal_ledger::{Command, Id};
use pabal_wire::frame::{ASKED_BYTES_MAX, CLASS_MAX};
use zerocopy::FromBytes;

/// What a command is known by, whatever try of it: the same for every try, made before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// Online: its own id.
    Id(Id),
    /// Bulk: its number in its job.
    Item(Id, u64),
}

/// A request as it is sent, and sent again: the same bytes under the same names every time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    envelope: Envelope,
    count: u32,
    commands: Vec<u8>,
}

impl Parcel {
    /// A request of these commands. None when they are none, or more than one request takes, or of no class: a server
    /// would end the connection, on which others wait too.
    pub fn of(envelope: Envelope, commands: Vec<u8>) -> Option<Parcel> {
        if commands.is_empty() || commands.len() > ASKED_BYTES_MAX || envelope.class > CLASS_MAX {
            return None;
        }
        let mut count = 0;
        let mut rest = &commands[..];
        while !rest.is_empty() {
            rest = &rest[pabal_bank::command::length(rest)?..];
            count += 1;
        }
        Some(Parcel { envelope, count, commands })
    }

    /// What it carries beside its commands.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// How many commands.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Their bytes.
    pub fn commands(&self) -> &[u8] {
        &self.commands
    }

    /// Their names, in their order.
    pub fn names(&self) -> impl Iterator<Item = Name> {
        let mut rest = &self.commands[..];
        (0..self.count as u64).map(move |n| {
            let (command, after) = rest.split_at(pabal_bank::command::length(rest).unwrap_or(rest.len()));
            rest = after;
            match self.envelope.lane {
                Lane::Online => {
                    Name::Id(Command::read_from_prefix(command).map_or(Id::default(), |(c, _)| c.id))
                }
                Lane::Bulk => Name::Item(self.envelope.attempt, self.envelope.item.wrapping_add(n)),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pabal_bank::command;
    use zerocopy::IntoBytes;

    #[test]
    fn names_are_those_of_the_commands_whatever_their_lengths() {
        let id = |n| Id::new(n, 0, n);
        let mut bytes = command::void_hold(id(1), id(9)).as_bytes().to_vec();
        bytes.extend(command::keep_record(id(2), 1, 5, &[7; 40]).expect("short"));
        bytes.extend(command::void_hold(id(3), id(9)).as_bytes());
        let online = Parcel::of(Envelope::default(), bytes.clone()).expect("commands");
        assert_eq!(online.names().collect::<Vec<_>>(), [1, 2, 3].map(|n| Name::Id(id(n))));
        let envelope = Envelope { lane: Lane::Bulk, attempt: id(7), item: 40, ..Envelope::default() };
        let bulk = Parcel::of(envelope, bytes.clone()).expect("commands");
        assert_eq!(bulk.names().collect::<Vec<_>>(), [40, 41, 42].map(|n| Name::Item(id(7), n)));
        assert_eq!(bulk.count(), 3);
        assert_eq!(Parcel::of(envelope, Vec::new()), None);
        assert_eq!(Parcel::of(envelope, bytes[..bytes.len() - 8].to_vec()), None, "cut short");
        assert_eq!(Parcel::of(envelope, bytes.repeat(4000)), None, "longer than a request");
    }
}
