//! A client without a thread, a socket or a clock of its own: whoever owns it opens its streams, says what time it is,
//! and when it goes round. The same rounds, frames and proofs as a [`Client`]'s own; only what the system and chance do
//! comes from outside, so that a simulator can try all of it and repeat each.

use crate::address::Stream;
use crate::client::{Client, ClientConfig, Moments};
use crate::connection::{Connection, Error};
use crate::follow::{Follow, Record};
use crate::keep::Keep;
use crate::worker::Worker;
use std::io::{self, Read, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A made-up stream, the client's side. It behaves as a stream socket that never waits: it takes less than it is given
/// only when it is full, gives less than there is room for only when it is empty, and closes when it is dropped.
pub trait Pipe: Read + Write + Send {}

impl<P: Read + Write + Send> Pipe for P {}

/// See the module. Dropped, it ends as a process does that is killed.
pub struct Stepped {
    client: Client,
    worker: Worker,
}

impl Stepped {
    /// Begins at this time. `reach` opens a stream to the server; `chance` is any number.
    pub fn new(
        config: ClientConfig,
        keep: Option<Keep>,
        mut reach: impl FnMut() -> io::Result<Box<dyn Pipe>> + Send + 'static,
        chance: u64,
        now: Instant,
    ) -> Stepped {
        let client = Client::still(config.clone(), None, Moments::Said(Mutex::new(now)));
        let reach = Box::new(move || reach().map(Stream::Made));
        let worker = Worker::new(config, keep, client.shared().clone(), reach, chance);
        Stepped { client, worker }
    }

    /// Where requests and questions are given. Their ends come while it goes round.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Goes round once, at this time.
    pub fn step(&mut self, now: Instant) {
        self.client.shared().say_now(now);
        self.worker.step();
    }
}

/// One who follows, in the same way: see [`Follow`].
pub struct Following {
    sequence: u64,
    /// Until its welcome is here.
    greeting: Option<Connection>,
    follow: Option<Follow>,
}

impl Following {
    /// Begins with the record of this sequence, over this stream.
    pub fn from(pipe: Box<dyn Pipe>, credential: [u8; 16], sequence: u64) -> Following {
        let greeting = Some(Connection::begin(Stream::Made(pipe), credential));
        Following { sequence, greeting, follow: None }
    }

    /// The sequence of the record that comes next.
    pub fn next_sequence(&self) -> u64 {
        self.follow.as_ref().map_or(self.sequence, Follow::next_sequence)
    }

    /// The next record, if it is here. After an error nothing comes any more.
    pub fn step(&mut self) -> Result<Option<Record>, Error> {
        if let Some(mut connection) = self.greeting.take() {
            connection.pump();
            if !connection.greeted()? {
                self.greeting = Some(connection);
                return Ok(None);
            }
            self.follow = Some(Follow::on(connection, self.sequence, Duration::ZERO)?);
        }
        self.follow.as_mut().map_or(Err(Error::Closed), Follow::look)
    }
}
