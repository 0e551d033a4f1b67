//! The door: where requests and questions come in, and followers begin.

use crate::core::Ask;
use crate::engine::Error;
use crate::follow::Follower;
use crate::machine::Machine;
use crate::queue::{Queue, Waiting};
use crate::request::{
    BULK_BLOCKS_MAX, BULK_COMMANDS_MAX, BYTES_MAX, COMMANDS_MAX, Hear, Refusal, Request, Response, Seen,
    Ticket, hear,
};
use crate::room::Room;
use pabal_fault::{Point, reached};
use pabal_journal::sync::mpsc::sync_channel;
use pabal_journal::{Disk, Durable, Reader};
use std::path::PathBuf;
use std::sync::Arc;

/// The door of an engine, for those who are to be let in and do not own it. Behind an engine that has ended, whoever
/// comes hears that nobody knows.
pub struct Door<M: Machine> {
    pub(crate) queue: Arc<Queue<Ask<M>>>,
    /// Blocks of a record at most.
    pub(crate) blocks_max: u32,
    pub(crate) durable: Arc<Durable>,
    pub(crate) disk: Arc<dyn Disk>,
    /// The journal's folder.
    pub(crate) dir: PathBuf,
}

impl<M: Machine> Clone for Door<M> {
    fn clone(&self) -> Door<M> {
        let Door { queue, blocks_max, durable, disk, dir } = self;
        let (queue, durable, disk) = (queue.clone(), durable.clone(), disk.clone());
        Door { queue, blocks_max: *blocks_max, durable, disk, dir: dir.clone() }
    }
}

impl<M: Machine> Door<M> {
    /// As [`crate::Engine::submit`].
    pub fn submit(&self, request: Request) -> Ticket<Response<M::Reply>> {
        let (to, answer) = sync_channel(1);
        self.let_in(0, request, hear(to));
        Ticket(answer)
    }

    /// Lets requests in, each of a sender: these take turns, each with its own in order.
    pub fn submit_all(&self, requests: impl IntoIterator<Item = (u64, Request, Hear<Response<M::Reply>>)>) {
        for (sender, request, to) in requests {
            self.let_in(sender, request, to);
        }
    }

    fn let_in(&self, sender: u64, mut request: Request, to: Hear<Response<M::Reply>>) {
        let (commands, weight) = (request.commands.len(), request.commands.as_bytes().len());
        request.header = request.header.in_form(commands as u32);
        let bulk = request.header.is_bulk();
        let refused = |point, refusal| {
            reached(point);
            Response { sequence: self.durable.sequence(), replies: vec![M::refused(refusal); commands] }
        };
        let (most, blocks) = match bulk {
            true => (BULK_COMMANDS_MAX, self.blocks_max.min(BULK_BLOCKS_MAX)),
            false => (COMMANDS_MAX, self.blocks_max),
        };
        let bounded = commands > 0 && commands <= most && weight <= BYTES_MAX;
        let room = if bounded { Room::of::<M>(&request.commands) } else { None };
        let Some(room) = room.filter(|room| room.blocks() <= blocks) else {
            return to(refused(Point::SubmitMalformed, Refusal::Malformed));
        };
        let waiting = Waiting { item: Ask::Execute(request, room, to), weight, commands };
        if let Err(Ask::Execute(_, _, to)) = self.queue.push(sender, bulk, waiting) {
            to(refused(Point::SubmitOverloaded, Refusal::Overloaded));
        }
    }

    /// As [`crate::Engine::query`].
    pub fn query(&self, query: M::Query) -> Ticket<M::Answer> {
        let (to, answer) = sync_channel(1);
        let to = hear(to);
        self.query_to(0, query, Box::new(move |seen| to(seen.answer)));
        Ticket(answer)
    }

    /// The acknowledged point.
    pub fn durable(&self) -> Arc<Durable> {
        self.durable.clone()
    }

    /// When the lane is full `to` is dropped, and the asker hears "unknown".
    pub fn query_to(&self, sender: u64, query: M::Query, to: Hear<Seen<M::Answer>>) {
        let waiting = Waiting { item: Ask::Query(query, to), weight: 64, commands: 1 };
        if self.queue.push(sender, false, waiting).is_err() {
            reached(Point::QueryOverloaded);
        }
    }

    /// As [`crate::Engine::follow_from`].
    pub fn follow_from(&self, sequence: u64) -> Result<Follower, Error> {
        let reader = Reader::open_on(self.disk.clone(), &self.dir)?;
        let next_sequence = sequence.max(1);
        // Asked before the block is, so that the record before lies before the block.
        let last = self.durable.sequence();
        let next_block = match next_sequence - 1 {
            0 => 1,
            before if before > last => {
                reached(Point::FollowAhead);
                return Err(Error::Ahead { sequence, last });
            }
            before => reader
                .end_of(before, self.durable.next_block())
                .inspect_err(|_| reached(Point::FollowFrom))?,
        };
        Ok(Follower { reader, durable: self.durable.clone(), next_block, next_sequence })
    }
}
