//! The core: takes batches from the lanes, executes them, hands their records to the writer.

use crate::machine::{Machine, Mode, Sink, read_entry};
use crate::queue::{GROUP_MIN, Next, Queue};
use crate::request::{
    BYTES_MAX, COMMANDS_MAX, Commands, Hear, Refusal, Request, RequestHeader, Response, Seen,
};
use crate::ring::{Ring, Suspect};
use crate::room::Room;
use crate::time::Time;
use crate::walk::{Ahead, Walk};
use crate::writer::{Line, Release, Work, WriterGone};
use pabal_fault::{Bug, Point, planted, reached};
use pabal_journal::{Layout, Position, Reader, RecordBuffer, RecordKind, RecordMeta, Supply};
use std::sync::Arc;
use std::time::Duration;
use zerocopy::IntoBytes;

/// After so long without work a closing record confirms the last one.
const IDLE: Duration = Duration::from_millis(5);
/// How long the core then sleeps between looks; work wakes it at once.
const ASLEEP: Duration = Duration::from_secs(60);

/// What waits in the lanes.
pub(crate) enum Ask<M: Machine> {
    Execute(Request, Room, Hear<Response<M::Reply>>),
    Query(M::Query, Hear<Seen<M::Answer>>),
}

pub(crate) struct Core<M: Machine, L> {
    pub machine: M,
    pub queue: Arc<Queue<Ask<M>>>,
    pub time: Time,
    pub ring: Ring,
    pub layout: Layout,
    pub supply: Arc<Supply>,
    pub reader: Reader,
    pub writer: L,
    pub buffers: Vec<RecordBuffer>,
    pub next_block: u64,
    /// Works handed to the writer and not heard of since.
    pub outstanding: usize,
    /// Blocks of a record at most; no request alone takes more.
    pub blocks_max: u32,
    /// Whether the last record was a batch, which a closing record should confirm.
    pub unconfirmed: bool,
    /// Whether the disk had no room for a closing record; it is tried again at each look.
    pub put_off: bool,
    pub last_ms: u64,
}

/// What one step of the core came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A batch was executed.
    Executed,
    /// Nothing waited; the last record was confirmed if it was not before.
    Idle,
    /// Nothing more will come.
    Stopped,
}

impl<M: Machine, L: Line<M>> Core<M, L> {
    /// Runs until told to stop; gives the machine back.
    pub fn run(mut self) -> Result<M, WriterGone> {
        loop {
            let wait = if self.unconfirmed { IDLE } else { ASLEEP };
            if self.step(wait)? == Step::Stopped {
                return Ok(self.machine);
            }
        }
    }

    /// Waits at most so long for work, and does what is to be done next.
    pub fn step(&mut self, wait: Duration) -> Result<Step, WriterGone> {
        match self.queue.next(wait, COMMANDS_MAX, BYTES_MAX) {
            Next::Online(asks) => self.batch(asks)?,
            Next::Bulk(ask) => {
                // Begun only when nothing is on its way: bulk adds one small batch to a wait, not two.
                self.drain()?;
                self.batch(vec![ask])?;
            }
            Next::Idle => {
                if self.unconfirmed || self.put_off {
                    self.confirm(RecordKind::Closing)?;
                }
                return Ok(Step::Idle);
            }
            Next::Stop => {
                self.confirm(RecordKind::Stop)?;
                self.drain()?;
                return Ok(Step::Stopped);
            }
        }
        Ok(Step::Executed)
    }

    /// Executes these together and hands over their record and answers. What one record may not have the
    /// room for, and where time is carried requests of different times, do not share a record.
    fn batch(&mut self, asks: Vec<Ask<M>>) -> Result<(), WriterGone> {
        let mut together: Vec<Ask<M>> = Vec::with_capacity(asks.len());
        let (mut carried, mut room) = (None, Room::default());
        for ask in asks {
            if let Ask::Execute(request, its, _) = &ask {
                let time = matches!(self.time, Time::Carried { .. }).then_some(request.header.time_ms);
                let too_much = room.and(*its).blocks() > self.blocks_max;
                let other_time = carried.is_some_and(|before| Some(before) != time);
                if !together.is_empty() && (too_much || other_time) {
                    self.execute_all(std::mem::take(&mut together), room)?;
                    room = Room::default();
                }
                room = room.and(*its);
                carried = time;
            }
            together.push(ask);
        }
        self.execute_all(together, room)
    }

    /// Executes these, which take this room, in one record.
    fn execute_all(&mut self, asks: Vec<Ask<M>>, room: Room) -> Result<(), WriterGone> {
        let carried = asks.iter().find_map(|ask| match ask {
            Ask::Execute(request, ..) => Some(request.header.time_ms),
            Ask::Query(..) => None,
        });
        let mut buffer = self.begin(carried.unwrap_or(0), room.blocks())?;
        let full = carried.is_some() && !self.has_room(&buffer);
        let mut releases = Vec::with_capacity(asks.len());
        let mut commands = 0;
        for ask in asks {
            match ask {
                Ask::Query(query, to) if planted(Bug::ReadEarly) => {
                    to(Seen { sequence: 0, answer: self.machine.query(&query) })
                }
                Ask::Query(query, to) => {
                    releases.push(Release::Answer { to, answer: self.machine.query(&query) });
                }
                Ask::Execute(request, _, to) => {
                    commands += request.commands.len();
                    let replies = self.request(&request, full, &mut buffer);
                    releases.push(Release::Response { to, replies, commands: request.commands });
                }
            }
        }
        self.hand_over(buffer, RecordKind::Batch, commands, releases)
    }

    /// Begins a record that takes at most so many blocks.
    fn begin(&mut self, carried_ms: u64, blocks: u32) -> Result<RecordBuffer, WriterGone> {
        self.last_ms = self.time.now_ms(carried_ms).max(self.last_ms);
        self.machine.begin(self.last_ms);
        let mut buffer = self.buffer()?;
        buffer.begin(self.layout.place(self.next_block, blocks));
        Ok(buffer)
    }

    /// Whether the record that was begun may be written. Asked before anything is decided: what is decided must
    /// get its place in the journal.
    fn has_room(&self, buffer: &RecordBuffer) -> bool {
        self.supply.room_for(self.layout.segment_of(buffer.start_block()))
    }

    /// Executes a request into the record. `full` says that the disk has no room for it.
    fn request(&mut self, request: &Request, full: bool, buffer: &mut RecordBuffer) -> Vec<M::Reply> {
        let header = RequestHeader { count: request.commands.len() as u32, ..request.header };
        let bytes = request.commands.as_bytes();
        if let Err(reply) = self.machine.admit(&header) {
            reached(Point::NotAdmitted);
            return vec![reply; request.commands.len()];
        }
        if header.deadline_ms != 0 && header.deadline_ms < self.last_ms && !planted(Bug::DeadlineIgnored) {
            reached(Point::DeadlinePassed);
            return self.recall(&header, bytes, Refusal::DeadlinePassed);
        }
        if full {
            reached(Point::DiskFull);
            return self.recall(&header, bytes, Refusal::DiskFull);
        }
        self.ring.begin(&header, bytes, 0);
        if planted(Bug::RingCleared) {
            self.ring.end();
        }
        let replies = self.execute(&header, bytes, Mode::New, buffer);
        self.ring.end();
        replies
    }

    /// The answers to commands of which nothing can be decided now: what was decided before stays so, as an earlier
    /// try of them may have been heard by nobody; only what is new is refused.
    fn recall(&self, header: &RequestHeader, bytes: &[u8], refusal: Refusal) -> Vec<M::Reply> {
        let mut replies = Vec::with_capacity(header.count as usize);
        let mut walk = Walk::<M>::new(bytes);
        while let Some(command) = walk.next() {
            let together = bundle(command, &mut walk);
            match self.machine.recall(header, &together) {
                Some(known) => replies.extend(known),
                None => replies.extend(std::iter::repeat_n(M::refused(refusal), together.len())),
            }
        }
        replies
    }

    /// Executes commands, one after the other in `bytes`; there are as many as the header says.
    fn execute(
        &mut self,
        header: &RequestHeader,
        bytes: &[u8],
        mode: Mode,
        buffer: &mut RecordBuffer,
    ) -> Vec<M::Reply> {
        let mut replies = Vec::with_capacity(header.count as usize);
        let before = buffer.mark();
        let (_, place) = buffer.entry(1);
        place.copy_from_slice(header.as_bytes());
        let empty = buffer.count();
        let (writer, reader, end) = (&mut self.writer, &self.reader, self.next_block);
        let mut earlier = |position: Position| {
            if position.block() >= end {
                // Skipped before this record, at a segment's end: nobody will ever write there.
                reached(Point::FindSkipped);
                return None;
            }
            // An entry of a record on its way to the disk: it is there when its block is durable.
            if !writer.wait_for(position.block() + 1) {
                // It could not be written, so nothing that is decided now will be either: the writer is gone.
                reached(Point::FindUnwritten);
                return None;
            }
            read_entry(reader, position, end)
        };
        let mut sink = Sink { buffer, earlier: &mut earlier };
        let mut walk = Walk::<M>::new(bytes);
        let mut ahead = Ahead::of(walk.clone(), &self.machine);
        let mut piece = *header;
        loop {
            let cursor = bytes.len() - walk.rest.len();
            let Some(command) = walk.next() else { break };
            self.ring.at(cursor);
            if M::linked(command) {
                let bundle = bundle(command, &mut walk);
                ahead.advance(bundle.len(), &self.machine);
                self.machine.apply(&piece, &bundle, mode, &mut sink, &mut replies);
                piece.advance(bundle.len());
            } else {
                ahead.advance(1, &self.machine);
                self.machine.apply(&piece, &[command], mode, &mut sink, &mut replies);
                piece.advance(1);
            }
        }
        if buffer.count() == empty {
            // Nothing was decided now: nothing to record.
            buffer.rewind(before);
        }
        replies
    }

    fn hand_over(
        &mut self,
        mut buffer: RecordBuffer,
        kind: RecordKind,
        commands: usize,
        releases: Vec<Release<M>>,
    ) -> Result<(), WriterGone> {
        if kind == RecordKind::Batch && buffer.is_empty() {
            self.buffers.push(buffer);
            return self.send(Work::Release(releases), commands);
        }
        buffer.finish(RecordMeta {
            kind,
            rules: self.machine.rules(),
            time_ms: self.last_ms,
            business_date: self.machine.business_date(),
            digest: self.machine.digest(),
        });
        self.next_block = buffer.end_block();
        (self.unconfirmed, self.put_off) = (kind == RecordKind::Batch, false);
        self.queue.writes();
        self.send(Work::Record(buffer, releases), commands)
    }

    /// Hands the writer this, which was made of so many commands. While a small record is written small requests wait for
    /// one another anyway, so it is written on this thread, and no other has to be woken. But it overtakes nothing: an
    /// answer on its way names the last record, and what it shows must have that one in it.
    fn send(&mut self, work: Work<M>, commands: usize) -> Result<(), WriterGone> {
        while self.take_back(false)? {}
        let alone = self.outstanding == 0 && commands < GROUP_MIN;
        self.outstanding += 1;
        if alone { self.writer.send_and_wait(work) } else { self.writer.send(work) }
    }

    fn confirm(&mut self, kind: RecordKind) -> Result<(), WriterGone> {
        let mut buffer = self.buffer()?;
        buffer.begin(self.layout.place(self.next_block, 1));
        if !self.has_room(&buffer) {
            reached(Point::ConfirmDiskFull);
            (self.unconfirmed, self.put_off) = (false, true);
            self.buffers.push(buffer);
            return Ok(());
        }
        self.hand_over(buffer, kind, 0, Vec::new())
    }

    /// A free buffer; waits for one when all are on their way.
    fn buffer(&mut self) -> Result<RecordBuffer, WriterGone> {
        while self.take_back(self.buffers.is_empty())? {}
        Ok(self.buffers.pop().expect("waited for"))
    }

    /// Waits until nothing is on its way to the disk.
    fn drain(&mut self) -> Result<(), WriterGone> {
        while self.outstanding > 0 {
            self.take_back(true)?;
        }
        Ok(())
    }

    /// Takes back what a work left that is done. False when none is now.
    fn take_back(&mut self, wait: bool) -> Result<bool, WriterGone> {
        let Some(spent) = self.writer.spent(wait)? else { return Ok(false) };
        self.outstanding -= 1;
        self.buffers.extend(spent);
        Ok(true)
    }

    /// Tries what was being executed at the last crash: what came before it in its request, then itself,
    /// each in a record of its own. At its second crash it is set aside. True when that was done.
    pub fn try_alone(&mut self, suspect: &Suspect) -> Result<bool, WriterGone> {
        let mut words = vec![0u64; suspect.commands.len().div_ceil(8)];
        words.as_mut_bytes()[..suspect.commands.len()].copy_from_slice(&suspect.commands);
        let bytes = &words.as_bytes()[..suspect.commands.len()];
        let mut walk = Walk::<M>::new(bytes);
        // What only the engine may say is not believed of a file either.
        let mut piece = suspect.header.in_form(0);
        loop {
            let offset = bytes.len() - walk.rest.len();
            let Some(command) = walk.next() else { break };
            let together = bundle(command, &mut walk);
            let itself = offset == suspect.cursor;
            let set_aside = itself && suspect.crashes >= 2 && !planted(Bug::PoisonRetried);
            let mode = if set_aside { Mode::Quarantine } else { Mode::New };
            let header = RequestHeader {
                count: together.len() as u32,
                flags: piece.flags | if set_aside { RequestHeader::QUARANTINED } else { 0 },
                ..piece
            };
            piece.advance(together.len());
            let mut commands = Commands::new();
            together.iter().for_each(|command| commands.push(command));
            // It was let in, so it has the room: else this is no request of ours.
            let room = Room::of::<M>(&commands).filter(|room| room.blocks() <= self.blocks_max);
            let Some(room) = room else {
                reached(Point::AloneNoRoom);
                return Ok(false);
            };
            let mut buffer = self.begin(header.time_ms, room.blocks())?;
            if !self.has_room(&buffer) {
                // The next start tries it again, unless there is room before and something else is executed. What came
                // before it in its request has taken its place in the ring.
                self.ring.begin(&suspect.header, &suspect.commands, suspect.crashes - 1);
                self.ring.at(suspect.cursor);
                reached(Point::AloneDiskFull);
                return Ok(false);
            }
            let late = header.deadline_ms != 0 && header.deadline_ms < self.last_ms;
            if late {
                // A later try may have heard so: then no earlier one is done any more.
                reached(Point::AloneLate);
            } else if self.machine.admit(&header).is_err() {
                reached(Point::AloneNotAdmitted);
            } else {
                let crashes = if itself { suspect.crashes } else { 0 };
                self.ring.begin(&header, commands.as_bytes(), crashes);
                self.execute(&header, commands.as_bytes(), mode, &mut buffer);
                self.ring.end();
            }
            self.hand_over(buffer, RecordKind::Batch, 0, Vec::new())?;
            self.drain()?;
            if itself {
                if set_aside {
                    reached(Point::AloneSetAside);
                }
                return Ok(set_aside);
            }
        }
        reached(Point::AloneCutShort);
        Ok(false)
    }
}

/// A command, and those that happen together with it.
fn bundle<'a, M: Machine>(first: &'a [u8], walk: &mut Walk<'a, M>) -> Vec<&'a [u8]> {
    let mut together = vec![first];
    while let Some(last) = together.last()
        && M::linked(last)
        && let Some(next) = walk.next()
    {
        together.push(next);
    }
    together
}
