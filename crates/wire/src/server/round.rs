//! The server's rounds.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use pabal_fault::{Bug, planted};

use super::connection::{Connection, Counter, End};
use super::listen::Listener;
use super::outbox::{Going, Outbox};
use super::places::Places;
use super::room::Common;
use super::stepped::Happened;
use super::transport::Transport;
use super::{Codes, Limits};
use crate::frame::Head;
use crate::service::{Asked, Service};

const WAKER: Token = Token(usize::MAX);
/// Listeners have the numbers below, downwards; connections those of their places.
const FIRST_LISTENER: usize = usize::MAX - 1;
/// Events taken from the system at a time.
const EVENTS: usize = 1024;
/// Bytes of the one buffer that all connections are read into.
pub const BUFFER_BYTES: usize = 64 << 10;
/// Clients let in at each door in a round; the next follow in the next.
const ACCEPTED_MAX: usize = 64;
/// Clients beyond the bound who are told so at a time; those beyond these are closed without a word.
pub const TURNED_AWAY_MAX: usize = 64;
/// Handshakes that are gone on with in a round: each takes the time of some hundred requests. The next follow in the
/// next.
const HANDSHAKES_MAX: usize = 4;
/// How long it waits when the system has no room for another client.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(100);

/// The thread's state.
pub struct Round {
    /// None where whoever steps it says what happened.
    poll: Option<Poll>,
    outbox: Arc<Outbox>,
    listeners: Vec<Listener>,
    limits: Limits,
    codes: Codes,
    service: Arc<dyn Service>,
    connections: Places,
    /// What they hold together.
    common: Common,
    /// Places of those that wait for room in it, in the order in which they came.
    short: Vec<usize>,
    /// Places of those that are to be read.
    turns: Vec<usize>,
    /// Places of those that are to be written.
    writing: Vec<usize>,
    asked: Vec<Asked>,
    going: Vec<Going>,
    buffer: Box<[u8]>,
    /// When somebody's patience may be over, at the earliest.
    look_at: Option<Instant>,
    drain_until: Option<Instant>,
    now: Instant,
}

impl Round {
    pub fn new(
        mut listeners: Vec<Listener>,
        limits: Limits,
        codes: Codes,
        service: Arc<dyn Service>,
    ) -> io::Result<Round> {
        let poll = Poll::new()?;
        let outbox = Outbox::new(Some(Waker::new(poll.registry(), WAKER)?));
        for (i, listener) in listeners.iter_mut().enumerate() {
            poll.registry().register(listener.source(), Token(FIRST_LISTENER - i), Interest::READABLE)?;
        }
        let mut round = Round::stepped(outbox, limits, codes, service, Instant::now());
        (round.poll, round.listeners) = (Some(poll), listeners);
        Ok(round)
    }

    /// One that waits for nothing and listens nowhere: whoever steps it lets clients in and says what happened.
    pub fn stepped(
        outbox: Outbox,
        limits: Limits,
        codes: Codes,
        service: Arc<dyn Service>,
        now: Instant,
    ) -> Round {
        Round {
            poll: None,
            outbox: Arc::new(outbox),
            listeners: Vec::new(),
            limits,
            codes,
            service,
            connections: Places::default(),
            common: Common::new(&limits),
            short: Vec::new(),
            turns: Vec::new(),
            writing: Vec::new(),
            asked: Vec::new(),
            going: Vec::new(),
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            look_at: None,
            drain_until: None,
            now,
        }
    }

    pub fn outbox(&self) -> Arc<Outbox> {
        self.outbox.clone()
    }

    /// Goes round until it is told to drain; whether all was answered and taken then.
    pub fn run(mut self) -> io::Result<bool> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            self.wait(&mut events)?;
            self.now = Instant::now();
            events.iter().for_each(|event| self.note_event(event));
            self.accept();
            self.go();
            if let Some(until) = self.drain_until {
                let drained = self.connections.len() == 0;
                if drained || self.now >= until {
                    return Ok(drained);
                }
            }
        }
    }

    /// The same of one that is stepped: once round at this time, with what happened to each connection since.
    pub fn step(&mut self, now: Instant) {
        self.now = now;
        let places: Vec<usize> = self.connections.taken().collect();
        for place in places {
            let happened = self.connections.at(place).and_then(|connection| match connection.transport() {
                Transport::Made(pipe) => Some(pipe.happened()),
                _ => None,
            });
            if let Some(happened) = happened {
                self.note(place, happened);
            }
        }
        self.go();
    }

    /// Connections that there are.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Reads, has executed, answers, writes.
    fn go(&mut self) {
        self.read();
        if !self.asked.is_empty() {
            let next = Vec::with_capacity(self.asked.len());
            self.service.asked(std::mem::replace(&mut self.asked, next));
        }
        self.answer();
        self.write();
        self.look();
        self.resume();
    }

    /// Sleeps until something comes, is to go, or somebody's patience is over; not at all when there is work.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let work = !self.turns.is_empty() || self.listeners.iter().any(|listener| listener.ready);
        let timeout = if work || !self.outbox.may_sleep() {
            Some(Duration::ZERO)
        } else {
            let agains = self.listeners.iter().map(|listener| listener.again);
            let next = agains.chain([self.look_at, self.drain_until]).flatten().min();
            // The system waits in whole milliseconds, rounded up: never too short.
            next.map(|at| at.saturating_duration_since(Instant::now()))
        };
        let Some(poll) = &mut self.poll else { return Ok(()) };
        match poll.poll(events, timeout) {
            Err(error) if error.kind() != ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    fn note_event(&mut self, event: &Event) {
        let place = event.token().0;
        if event.token() == WAKER {
            return;
        }
        if self.connections.at(place).is_none() {
            if let Some(listener) = self.listeners.get_mut(FIRST_LISTENER - place.min(FIRST_LISTENER)) {
                listener.ready = true;
            }
            return;
        }
        let gone = event.is_write_closed() || event.is_error();
        let closing = gone || event.is_read_closed();
        let (readable, writable) = (event.is_readable(), event.is_writable());
        self.note(place, Happened { readable, writable, closing, gone });
    }

    fn note(&mut self, place: usize, happened: Happened) {
        let Some(connection) = self.connections.at(place) else { return };
        connection.closing |= happened.closing;
        if happened.gone && !connection.may_ask(&self.limits, self.common.room(connection)) {
            // Nobody is there to take an answer, and what it still had to ask is not wanted now.
            return self.end(place, End::Gone);
        }
        if happened.readable || connection.closing {
            take_turn(&mut self.turns, place, connection);
        }
        if happened.writable && connection.blocked {
            connection.blocked = false;
            will_write(&mut self.writing, place, connection);
        }
    }

    fn accept(&mut self) {
        for at in 0..self.listeners.len() {
            if self.listeners[at].again.is_some_and(|again| again <= self.now) {
                self.listeners[at].again = None;
                self.listeners[at].ready = true;
            }
            for _ in 0..ACCEPTED_MAX {
                let listener = &mut self.listeners[at];
                if !listener.ready {
                    break;
                }
                match listener.accept() {
                    Ok(transport) => self.let_in(transport),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => listener.ready = false,
                    Err(error)
                        if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                    Err(_) => {
                        // No descriptors or no memory: who waits there is not announced again.
                        listener.ready = false;
                        listener.again = Some(self.now + NO_ROOM_PAUSE);
                    }
                }
            }
        }
    }

    /// Lets one in; or closes, where there are too many.
    pub fn let_in(&mut self, mut transport: Transport) {
        let there = self.connections.len();
        if there >= self.limits.connections + TURNED_AWAY_MAX {
            return;
        }
        let (place, number) = self.connections.reserve();
        let registered = transport.register(registry(&self.poll), Token(place)).is_ok();
        let until = self.now + self.limits.greeting;
        let too_many = there >= self.limits.connections;
        let connection = registered.then(|| Connection::new(transport, number, until, too_many));
        self.connections.fill(place, connection);
        self.look_at = earlier(self.look_at, Some(until));
    }

    /// Reads those whose turn it is, each a bounded piece.
    fn read(&mut self) {
        if self.drain_until.is_some() {
            self.turns.clear();
            return;
        }
        let mut handshakes = 0;
        for place in std::mem::take(&mut self.turns) {
            let Some(connection) = self.connections.at(place) else { continue };
            if connection.transport().is_handshaking() {
                handshakes += 1;
                if handshakes > HANDSHAKES_MAX {
                    self.turns.push(place);
                    continue;
                }
            }
            connection.in_turn = false;
            let mut counter = Counter {
                outbox: &self.outbox,
                service: &*self.service,
                limits: &self.limits,
                room: self.common.room(connection),
                codes: &self.codes,
                asked: &mut self.asked,
                now: self.now,
            };
            let read = connection.read(&mut counter, &mut self.buffer);
            self.common.count(connection);
            match read {
                Ok(more) => {
                    wait_for_room(&mut self.short, place, connection, &self.common);
                    if more {
                        take_turn(&mut self.turns, place, connection);
                    }
                    if connection.owes() || connection.follows().is_some() {
                        will_write(&mut self.writing, place, connection);
                    }
                    self.look_at = earlier(self.look_at, connection.deadline(&self.limits));
                }
                Err(end) => self.end(place, end),
            }
        }
    }

    /// Takes the answers that are there to their connections. The client may have gone meanwhile.
    fn answer(&mut self) {
        let mut going = std::mem::take(&mut self.going);
        let drain_until = self.outbox.take(&mut going);
        if drain_until.is_some() && self.drain_until.is_none() {
            self.drain();
        }
        self.drain_until = drain_until;
        if planted(Bug::TagsSwapped)
            && let [first, .., last] = &mut going[..]
            && first.connection == last.connection
        {
            std::mem::swap(&mut first.tag, &mut last.tag);
        }
        for going in going.drain(..) {
            let Some((place, connection)) = self.connections.find(going.connection) else { continue };
            connection.answer(going);
            self.common.count(connection);
            will_write(&mut self.writing, place, connection);
            if connection.untaken() > self.limits.untaken_bytes {
                // What the system takes at once is not counted against the client.
                let flushed = connection.flush(self.now);
                if flushed.is_err() || connection.untaken() > self.limits.untaken_bytes {
                    self.end(place, End::Gone);
                }
            }
            if self.common.is_exceeded() {
                self.make_room();
            }
        }
        self.going = going;
    }

    /// Disconnects those who have the most answers not taken, until no more is held than may be. Each may take what it
    /// takes at once before. What is held otherwise will be answered, and waits only for that.
    fn make_room(&mut self) {
        while self.common.is_exceeded() {
            let mut most = (self.limits.share_bytes as usize, None);
            for place in self.connections.taken().collect::<Vec<_>>() {
                let untaken = self.connections.at(place).map_or(0, |connection| connection.untaken());
                if untaken > most.0 {
                    most = (untaken, Some(place));
                }
            }
            let (before, Some(place)) = most else { return };
            let Some(connection) = self.connections.at(place) else { return };
            let flushed = connection.flush(self.now);
            self.common.count(connection);
            if flushed.is_err() || connection.untaken() == before {
                self.end(place, End::Gone);
            }
        }
    }

    /// Those who waited for room try again, once there is some.
    fn resume(&mut self) {
        if self.short.is_empty() || !self.common.is_open() {
            return;
        }
        for place in std::mem::take(&mut self.short) {
            let Some(connection) = self.connections.at(place) else { continue };
            connection.is_short = false;
            if connection.unread {
                take_turn(&mut self.turns, place, connection);
            }
        }
    }

    /// Writes once for each connection that has something to say.
    fn write(&mut self) {
        let mut writing = std::mem::take(&mut self.writing);
        for place in writing.drain(..) {
            let Some(connection) = self.connections.at(place) else { continue };
            connection.in_writing = false;
            let flushed = connection.flush(self.now);
            self.common.count(connection);
            let over = connection.has_ended() || self.drain_until.is_some() && connection.is_done();
            if flushed.is_err() || over {
                self.end(place, End::Gone);
                continue;
            }
            if let Some(head) = connection.follows() {
                self.hand_over(place, head);
                continue;
            }
            if connection.awaits_room != connection.blocked {
                connection.awaits_room = connection.blocked;
                let (registry, writable) = (registry(&self.poll), connection.blocked);
                if connection.transport().reregister(registry, Token(place), writable).is_err() {
                    self.end(place, End::Gone);
                    continue;
                }
            }
            if !connection.may_ask(&self.limits, self.common.room(connection)) {
                connection.unread = true;
                wait_for_room(&mut self.short, place, connection, &self.common);
            } else if connection.unread {
                take_turn(&mut self.turns, place, connection);
            }
            self.look_at = earlier(self.look_at, connection.deadline(&self.limits));
        }
        self.writing = writing;
    }

    /// Disconnects those whose patience is over.
    fn look(&mut self) {
        if self.look_at.is_none_or(|at| at > self.now) {
            return;
        }
        self.look_at = None;
        let places: Vec<usize> = self.connections.taken().collect();
        for place in places {
            let deadline =
                self.connections.at(place).and_then(|connection| connection.deadline(&self.limits));
            match deadline {
                Some(at) if at <= self.now => self.end(place, End::Gone),
                later => self.look_at = earlier(self.look_at, later),
            }
        }
    }

    /// Lets nobody in and reads nothing any more. Who waits for nothing is closed in this round.
    fn drain(&mut self) {
        self.listeners.clear();
        let places: Vec<usize> = self.connections.taken().collect();
        for place in places {
            if let Some(connection) = self.connections.at(place) {
                will_write(&mut self.writing, place, connection);
            }
        }
    }

    fn end(&mut self, place: usize, end: End) {
        match (end, self.connections.at(place)) {
            (End::Refused { tag, code }, Some(connection)) => {
                connection.refuse(tag, code);
                will_write(&mut self.writing, place, connection);
            }
            _ => {
                // Closing the socket takes it out of the poll.
                if let Some(connection) = self.connections.remove(place) {
                    self.common.forget(&connection);
                    if connection.is_short {
                        self.short.retain(|short| *short != place);
                    }
                    connection.into_transport().close();
                }
            }
        }
    }

    fn hand_over(&mut self, place: usize, head: Head) {
        let Some(mut connection) = self.connections.remove(place) else { return };
        self.common.forget(&connection);
        connection.transport().deregister(registry(&self.poll));
        if let Ok(stream) = connection.into_transport().into_blocking(self.limits.following) {
            self.service.follow(head, stream);
        }
    }
}

impl Drop for Round {
    /// However it ended, a panic of the service included: answers have nowhere to go.
    fn drop(&mut self) {
        self.outbox.close();
    }
}

fn registry(poll: &Option<Poll>) -> Option<&Registry> {
    poll.as_ref().map(Poll::registry)
}

fn take_turn(turns: &mut Vec<usize>, place: usize, connection: &mut Connection) {
    if !std::mem::replace(&mut connection.in_turn, true) {
        turns.push(place);
    }
}

fn wait_for_room(short: &mut Vec<usize>, place: usize, connection: &mut Connection, common: &Common) {
    let lacks = connection.unread && !connection.has_room(common.room(connection));
    if lacks && !std::mem::replace(&mut connection.is_short, true) {
        short.push(place);
    }
}

fn will_write(writing: &mut Vec<usize>, place: usize, connection: &mut Connection) {
    if !std::mem::replace(&mut connection.in_writing, true) {
        writing.push(place);
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    [one, other].into_iter().flatten().min()
}
