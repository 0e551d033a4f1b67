//! The server's rounds.

use super::connection::{Connection, End, Frame};
use super::outbox::{Going, Outbox};
use super::{Codes, Limits, Listener};
use crate::frame::{Kind, VERSION};
use crate::service::{Answered, Asked, Service};
use mio::{Events, Interest, Poll, Token, Waker};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use zerocopy::IntoBytes;

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
/// The first connection's number.
const FIRST: u64 = 2;
/// How often it is looked whose patience is over.
const LOOK: Duration = Duration::from_millis(500);
const EVENTS: usize = 1024;

pub fn poll() -> io::Result<(Poll, Arc<Outbox>)> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKER)?;
    Ok((poll, Arc::new(Outbox::new(waker))))
}

pub struct Round {
    poll: Poll,
    outbox: Arc<Outbox>,
    listener: Option<Listener>,
    limits: Limits,
    codes: Codes,
    service: Arc<dyn Service>,
    connections: BTreeMap<u64, Connection>,
    next: u64,
    /// Connections with something to do in this round.
    busy: Vec<u64>,
    /// What was asked in this round.
    asked: Vec<Asked>,
    going: Vec<Going>,
    looked: Instant,
}

impl Round {
    pub fn new(
        poll: Poll,
        outbox: Arc<Outbox>,
        mut listener: Listener,
        limits: Limits,
        codes: Codes,
        service: Arc<dyn Service>,
    ) -> io::Result<Round> {
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Round {
            poll,
            outbox,
            listener: Some(listener),
            limits,
            codes,
            service,
            connections: BTreeMap::new(),
            next: FIRST,
            busy: Vec::new(),
            asked: Vec::new(),
            going: Vec::new(),
            looked: Instant::now(),
        })
    }

    pub fn run(&mut self) {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let sleeps = self.busy.is_empty() && self.outbox.may_sleep();
            let wait = if sleeps { LOOK } else { Duration::ZERO };
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return,
                _ => {}
            }
            self.outbox.woke();
            let now = Instant::now();
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(now),
                    WAKER => {}
                    Token(number) => {
                        let number = number as u64;
                        if let Some(connection) = self.connections.get_mut(&number) {
                            connection.readable |=
                                event.is_readable() || event.is_read_closed() || event.is_error();
                            connection.writable |= event.is_writable();
                            self.busy.push(number);
                        }
                    }
                }
            }
            self.answers(now);
            self.busy.sort_unstable();
            self.busy.dedup();
            let busy = std::mem::take(&mut self.busy);
            for &number in &busy {
                self.serve(number, now);
            }
            if !self.asked.is_empty() {
                self.service.asked(std::mem::take(&mut self.asked));
            }
            if now.duration_since(self.looked) >= LOOK {
                self.look(now);
            }
            if let Some(until) = self.outbox.draining() {
                if let Some(mut listener) = self.listener.take() {
                    let _ = self.poll.registry().deregister(&mut listener);
                }
                let left = self.connections.values().any(|c| c.in_flight > 0 || c.untaken() > 0);
                if !left {
                    self.outbox.drained();
                }
                if !left || now >= until {
                    return;
                }
            }
        }
    }

    fn accept(&mut self, now: Instant) {
        while let Some(listener) = &self.listener {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let number = self.next;
            let interest = Interest::READABLE | Interest::WRITABLE;
            if self.poll.registry().register(&mut stream, Token(number as usize), interest).is_err() {
                continue;
            }
            self.next += 1;
            let mut connection = Connection::new(stream, now);
            if self.connections.len() >= self.limits.connections {
                connection.refuse(0, self.codes.overloaded);
                let _ = connection.flush(now);
                continue;
            }
            self.connections.insert(number, connection);
            self.busy.push(number);
        }
    }

    /// Takes the answers that are there to their connections.
    fn answers(&mut self, now: Instant) {
        let mut going = std::mem::take(&mut self.going);
        self.outbox.take(&mut going);
        for going in going.drain(..) {
            let number = going.connection;
            // The client may have gone meanwhile.
            if let Some(connection) = self.connections.get_mut(&number) {
                connection.in_flight -= 1;
                connection.in_flight_bytes -= going.weight;
                connection.put(going, now);
                self.busy.push(number);
            }
        }
        self.going = going;
    }

    /// Writes and reads a connection.
    fn serve(&mut self, number: u64, now: Instant) {
        let Some(mut connection) = self.connections.remove(&number) else { return };
        let served = self.serve_one(number, &mut connection, now);
        let gone = match served {
            Ok(()) => false,
            Err(end) => {
                let code = match end {
                    End::Gone => None,
                    End::Malformed => Some(self.codes.malformed),
                    End::Version => Some(self.codes.version_unknown),
                };
                if let Some(code) = code {
                    connection.refuse(0, code);
                    let _ = connection.flush(now);
                }
                true
            }
        };
        let idle = connection.in_flight == 0 && connection.untaken() == 0;
        if gone || connection.untaken() > self.limits.untaken_bytes {
            let _ = self.poll.registry().deregister(&mut connection.stream);
        } else if let Some(head) = connection.follow.take_if(|_| idle) {
            let _ = self.poll.registry().deregister(&mut connection.stream);
            if let Ok(stream) = connection.into_blocking() {
                self.service.follow(head, Box::new(stream));
            }
        } else {
            // Bounds of a round were reached, or its own: the first goes on in the next, the second when answered.
            if connection.readable && self.may_ask(&connection) {
                self.busy.push(number);
            }
            self.connections.insert(number, connection);
        }
    }

    fn may_ask(&self, connection: &Connection) -> bool {
        connection.in_flight < self.limits.in_flight
            && connection.in_flight_bytes < self.limits.in_flight_bytes
            && connection.follow.is_none()
            && self.outbox.draining().is_none()
    }

    fn serve_one(&mut self, number: u64, connection: &mut Connection, now: Instant) -> Result<(), End> {
        connection.flush(now)?;
        if !self.may_ask(connection) {
            return Ok(());
        }
        let (limits, outbox, service, asked) = (self.limits, &self.outbox, &self.service, &mut self.asked);
        connection.read(now, &mut |connection, frame| {
            match frame {
                Frame::Hello { tag } => {
                    let (mut welcome, sequence) = service.welcome();
                    welcome.version = VERSION;
                    welcome.in_flight_max = limits.in_flight;
                    welcome.in_flight_bytes_max = limits.in_flight_bytes;
                    let body = move |out: &mut Vec<u8>| out.extend_from_slice(welcome.as_bytes());
                    let kind = Kind::Welcome;
                    let answered = Answered { kind, code: 0, sequence, count: 0, body: Some(Box::new(body)) };
                    connection.put(Going { connection: number, tag, weight: 0, answered }, now);
                }
                Frame::Asked(head, body) => {
                    let weight = body.as_bytes().len() as u64;
                    connection.in_flight += 1;
                    connection.in_flight_bytes += weight;
                    let answer = outbox.answer(number, head.tag, weight);
                    asked.push(Asked { connection: number, head, body, answer });
                }
                Frame::Follow(head) => connection.follow = Some(head),
            }
            connection.in_flight < limits.in_flight
                && connection.in_flight_bytes < limits.in_flight_bytes
                && connection.follow.is_none()
        })?;
        connection.flush(now)
    }

    /// Disconnects those whose patience is over.
    fn look(&mut self, now: Instant) {
        self.looked = now;
        let patience = self.limits.patience;
        self.connections.retain(|_, connection| {
            // One that is not read, as it has too much on its way, is waited for: the answers are ours to give.
            let ours = connection.in_flight > 0 && connection.untaken() == 0;
            ours || !connection.is_amid() || now.duration_since(connection.progress) < patience
        });
    }
}
