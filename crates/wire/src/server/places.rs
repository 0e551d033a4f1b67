//! Where connections are kept: by a number that no other connection ever has, found without a search.

use super::connection::Connection;

/// Numbers have the place in their low half and, above it, how often the place was used: so an answer to a client that
/// has gone does not find the next one.
#[derive(Default)]
pub struct Places {
    places: Vec<Place>,
    free: Vec<u32>,
}

struct Place {
    uses: u32,
    /// On its own: it stays where it is while others come and go.
    connection: Option<Box<Connection>>,
}

impl Places {
    /// Connections that there are.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// A free place, and the number that a connection has there.
    pub fn reserve(&mut self) -> (usize, u64) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { uses: 0, connection: None });
            u32::try_from(self.places.len() - 1).expect("connections are bounded")
        });
        let uses = &mut self.places[place as usize].uses;
        *uses = uses.wrapping_add(1);
        (place as usize, u64::from(*uses) << 32 | u64::from(place))
    }

    /// Puts a connection into a reserved place; none leaves it free.
    pub fn fill(&mut self, place: usize, connection: Option<Connection>) {
        self.places[place].connection = connection.map(Box::new);
        if self.places[place].connection.is_none() {
            self.free.push(place as u32);
        }
    }

    pub fn at(&mut self, place: usize) -> Option<&mut Connection> {
        self.places.get_mut(place)?.connection.as_deref_mut()
    }

    /// The connection with this number, and its place.
    pub fn find(&mut self, number: u64) -> Option<(usize, &mut Connection)> {
        let place = number as u32 as usize;
        let Place { uses, connection } = self.places.get_mut(place)?;
        let its = u64::from(*uses) == number >> 32;
        connection.as_deref_mut().filter(|_| its).map(|connection| (place, connection))
    }

    pub fn remove(&mut self, place: usize) -> Option<Connection> {
        let connection = self.places.get_mut(place)?.connection.take()?;
        self.free.push(place as u32);
        Some(*connection)
    }

    /// The places that are taken.
    pub fn taken(&self) -> impl Iterator<Item = usize> {
        self.places.iter().enumerate().filter(|(_, place)| place.connection.is_some()).map(|(at, _)| at)
    }
}
