//! Walking the commands of a request, and ahead of them to the memory that they will touch.

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

/// How many commands before its turn a command's memory is asked for.
const NEAR: usize = 24;
/// How many commands before its turn what says where that memory stands is asked for.
const FAR: usize = 48;

/// Asks for the memory of the commands to come, one command's at each step. Asked for many at a time they wait for one
/// another: a processor has about a dozen lines under way, and the executing in between is the time they need.
pub(crate) struct Ahead<I> {
    far: I,
    near: I,
}

impl<'a, I: Iterator<Item = &'a [u8]> + Clone> Ahead<I> {
    /// Ahead of the first of these.
    #[inline]
    pub fn of(commands: I, machine: &impl Machine) -> Ahead<I> {
        let (mut far, mut near) = (commands.clone(), commands);
        far.by_ref().take(FAR).for_each(|command| machine.prefetch_index(command));
        near.by_ref().take(NEAR).for_each(|command| machine.prefetch(command));
        Ahead { far, near }
    }

    /// So many of them are now to be executed.
    #[inline]
    pub fn advance(&mut self, commands: usize, machine: &impl Machine) {
        self.far.by_ref().take(commands).for_each(|command| machine.prefetch_index(command));
        self.near.by_ref().take(commands).for_each(|command| machine.prefetch(command));
    }
}
