//! Walking the commands of a request.

use crate::machine::Machine;
use std::marker::PhantomData;

/// Commands one after the other, split by the length that each one says. Ends where none begins.
pub(crate) struct Walk<'a, M> {
    /// What was not walked yet.
    pub rest: &'a [u8],
    machine: PhantomData<M>,
}

impl<'a, M: Machine> Walk<'a, M> {
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Walk<'a, M> {
        Walk { rest: bytes, machine: PhantomData }
    }
}

impl<M> Clone for Walk<'_, M> {
    #[inline]
    fn clone(&self) -> Self {
        Walk { rest: self.rest, machine: PhantomData }
    }
}

impl<'a, M: Machine> Iterator for Walk<'a, M> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (command, rest) = self.rest.split_at_checked(M::length(self.rest)?)?;
        self.rest = rest;
        Some(command)
    }
}
