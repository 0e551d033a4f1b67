//! What a channel uses: requests and questions by many threads over one connection that comes back.
//!
//! *How a request ends.* With its replies; refused, which means that no try of it did anything and that the same ids
//! are safe to send again; or unknown. Which it is, [`proof`](crate::proof) says. Unknown is never turned into one of
//! the others: it is tried again, and when the caller's patience ends before an answer that counts, the end is
//! [`End::Unknown`] with the names of what it concerns, and the [`Keep`] still has it.
//!
//! *What is sent again.* What went unheard, always: with the same bytes, so under the same ids, and so without effect
//! where the first try had one. What was refused, only where the caller asked for it. Both under one budget
//! ([`RETRY_BURST`](crate::RETRY_BURST)): what went unheard waits for it as long as its caller does, what was refused
//! ends as refused when it is spent.
//!
//! *Whose bank it is.* The journal's id in the welcome. A server with another one than was known before is another
//! bank, to which ids sent to the first would be new: nothing is sent to it, and what waits ends.
//!
//! *What bounds it.* What is on its way, by the welcome; what waits, in number and bytes, by [`ClientConfig`]: beyond
//! it [`Client::submit`] says so at once. Nothing waits longer than its caller's patience.
//!
//! *What it cannot see.* Tries by others. Whoever sends what a browser or another process may have sent before says
//! [`Ask::sent_before`]; and so does who asks the same twice at one time.

use crate::address::Address;
use crate::connection::Envelope;
use crate::keep::Keep;
use crate::parcel::{Name, Parcel};
use crate::worker::{self, Job, What};
use pabal_bank::Reply;
use pabal_wire::frame::{ASKED_BYTES_MAX, CLASS_MAX};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How a [`Client`] reaches its server, and its bounds.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Where the server is.
    pub address: Address,
    /// Credential of the channel.
    pub credential: [u8; 16],
    /// The journal that is expected. Where it is not given the keep's counts, and else that of the first welcome.
    pub journal_id: Option<u64>,
    /// Requests and questions that have not ended, at most.
    pub waiting_max: usize,
    /// Bytes of them at most.
    pub waiting_bytes_max: usize,
    /// How long a server may say nothing while something is on its way. Then the connection counts as lost.
    pub silence_max: Duration,
}

impl ClientConfig {
    /// To this address, with the usual bounds.
    pub fn to(address: Address, credential: [u8; 16]) -> ClientConfig {
        ClientConfig {
            address,
            credential,
            journal_id: None,
            waiting_max: 65_536,
            waiting_bytes_max: 64 << 20,
            silence_max: Duration::from_secs(10),
        }
    }
}

/// A request.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// What it carries beside its commands.
    pub envelope: Envelope,
    /// The commands, one after the other. Their ids were made before this, and are never made anew.
    pub commands: Vec<u8>,
    /// How long the caller waits for an end.
    pub patience: Duration,
    /// Whether a try of it by somebody else, or by this process before, may have reached the bank.
    pub sent_before: bool,
    /// Whether it is tried again when it is refused for a reason that passes.
    pub again_when_refused: bool,
}

/// Why nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The bank said this code, which may be of a later program's vocabulary.
    Code(u16),
    /// The bank could not be reached, and nothing was sent.
    Unreachable,
    /// The server stands before another journal.
    OtherBank,
    /// The file of what is sent could not be written, so nothing was.
    NotKept,
    /// More than this server takes at once.
    TooLong,
    /// This client was closed before anything was sent.
    Closed,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The bank said what became of each command. Durable at this record.
    Replies {
        /// The record.
        sequence: u64,
        /// One for each command, in their order.
        replies: Vec<Reply>,
    },
    /// Nothing was done, by no try; the same ids are safe to send again.
    Refused(Why),
    /// Of some commands nobody can say yet whether they were done. The same ids are to be sent again.
    Unknown {
        /// What was heard last of each command; empty when nothing was. Only of commands that are not in `of` is it the
        /// truth.
        heard: Vec<Option<Reply>>,
        /// The commands that it concerns.
        of: Vec<Name>,
    },
}

/// How a question ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The answer.
    Answer {
        /// A record that is durable: it shows the bank after it, or, asked of a core, within it.
        sequence: u64,
        /// The answer's bytes.
        body: Vec<u8>,
    },
    /// There is none.
    Refused(Why),
    /// None came in time.
    Unheard,
}

/// Why something was not taken. Nothing of it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// As much waits as may wait.
    #[error("as much waits as may wait; not sent, the same ids are safe")]
    Overloaded,
    /// No commands, or more than one request takes.
    #[error("not commands")]
    Malformed,
    /// The client has ended.
    #[error("the client has ended")]
    Closed,
}

/// An end that is awaited.
pub struct Pending<T> {
    receiver: Receiver<T>,
    /// What is true when nobody is left to say it.
    otherwise: Box<dyn FnOnce() -> T + Send>,
}

impl<T> Pending<T> {
    /// Waits for the end; it comes when the patience of who asked is over, if not before.
    pub fn wait(self) -> T {
        self.receiver.recv().unwrap_or_else(|_| (self.otherwise)())
    }

    /// The end, if it has come.
    pub fn look(self) -> Result<T, Pending<T>> {
        match self.receiver.try_recv() {
            Ok(end) => Ok(end),
            Err(TryRecvError::Empty) => Err(self),
            Err(TryRecvError::Disconnected) => Ok((self.otherwise)()),
        }
    }

    /// Waits until this moment at most, and can be waited for again.
    pub fn wait_until(self, moment: Instant) -> Result<T, Pending<T>> {
        match self.receiver.recv_timeout(moment.saturating_duration_since(Instant::now())) {
            Ok(end) => Ok(end),
            Err(RecvTimeoutError::Timeout) => Err(self),
            Err(RecvTimeoutError::Disconnected) => Ok((self.otherwise)()),
        }
    }
}

/// A request that was resolved, and how it ended.
pub(crate) type Resolved = (Arc<Parcel>, End);

/// What the client's thread is given.
pub(crate) struct Inbox {
    pub jobs: Vec<Job>,
    pub resolve: Vec<(Duration, Sender<Resolved>)>,
    /// What has not ended.
    pub waiting: usize,
    pub waiting_bytes: usize,
    pub closing: bool,
}

pub(crate) struct Shared {
    inbox: Mutex<Inbox>,
    /// Written to when the inbox was empty. None where nobody sleeps.
    pub wake: Option<OwnedFd>,
    moments: Moments,
}

/// Where the time comes from.
pub(crate) enum Moments {
    System,
    /// Whoever steps the client says what time it is.
    Said(Mutex<Instant>),
}

impl Shared {
    pub fn inbox(&self) -> MutexGuard<'_, Inbox> {
        // What is in it is whole after each statement.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What time it is.
    pub fn now(&self) -> Instant {
        match &self.moments {
            Moments::System => Instant::now(),
            Moments::Said(now) => *now.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Says what time it is, where that is said.
    pub fn say_now(&self, moment: Instant) {
        if let Moments::Said(now) = &self.moments {
            *now.lock().unwrap_or_else(PoisonError::into_inner) = moment;
        }
    }

    fn wake(&self) {
        // The counter cannot be full: whoever is woken takes it to zero.
        if let Some(wake) = &self.wake {
            let _ = rustix::io::write(wake, &1u64.to_ne_bytes());
        }
    }
}

/// See the module.
pub struct Client {
    shared: Arc<Shared>,
    config: ClientConfig,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    /// Begins. The server need not be there yet. Without a keep, what is unknown when this process ends is forgotten:
    /// right for whoever's own clients hold the ids.
    pub fn start(config: ClientConfig, keep: Option<Keep>) -> std::io::Result<Client> {
        use rustix::event::{EventfdFlags, eventfd};
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let mut client = Client::still(config, Some(wake), Moments::System);
        let chance = getrandom::u64().map_err(std::io::Error::other)?;
        let address = client.config.address.clone();
        let reach = Box::new(move || address.reach());
        let run = worker::Worker::new(client.config.clone(), keep, client.shared.clone(), reach, chance);
        client.thread = Some(std::thread::Builder::new().name("client".into()).spawn(move || run.run())?);
        Ok(client)
    }

    /// One whose work somebody else does.
    pub(crate) fn still(config: ClientConfig, wake: Option<OwnedFd>, moments: Moments) -> Client {
        let inbox =
            Inbox { jobs: Vec::new(), resolve: Vec::new(), waiting: 0, waiting_bytes: 0, closing: false };
        let shared = Arc::new(Shared { inbox: Mutex::new(inbox), wake, moments });
        Client { shared, config, thread: None }
    }

    /// What is shared with whoever does the work.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Takes a request.
    pub fn submit(&self, ask: Ask) -> Result<Pending<End>, NotTaken> {
        let parcel = Arc::new(Parcel::of(ask.envelope, ask.commands).ok_or(NotTaken::Malformed)?);
        let (to, receiver) = sync_channel(1);
        let bytes = parcel.commands().len();
        let what = What::Request { parcel: parcel.clone(), to: worker::To::Caller(to) };
        self.give(what, ask.patience, ask.sent_before, ask.again_when_refused, bytes)?;
        Ok(Pending { receiver, otherwise: Box::new(move || worker::nothing_known(&parcel)) })
    }

    /// Takes a question. Its answer has seen the record of this sequence at least; zero for any.
    pub fn query(
        &self,
        envelope: Envelope,
        question: Vec<u8>,
        at_least: u64,
        patience: Duration,
    ) -> Result<Pending<Told>, NotTaken> {
        let in_form = question.len().is_multiple_of(8)
            && question.len() <= ASKED_BYTES_MAX
            && envelope.class <= CLASS_MAX;
        if !in_form {
            return Err(NotTaken::Malformed);
        }
        let (to, receiver): (SyncSender<Told>, _) = sync_channel(1);
        let bytes = question.len();
        let what = What::Question { envelope, question, at_least, to };
        self.give(what, patience, false, false, bytes)?;
        Ok(Pending { receiver, otherwise: Box::new(|| Told::Unheard) })
    }

    /// Asks again, under the same ids, whatever the keep has that is not settled and not being asked: what an earlier
    /// process left, and what ended as unknown. Each gets so much patience; all have ended when the iterator has.
    pub fn resolve(&self, patience: Duration) -> impl Iterator<Item = (Arc<Parcel>, End)> + use<> {
        let (to, ends) = std::sync::mpsc::channel();
        let mut inbox = self.shared.inbox();
        if !inbox.closing {
            inbox.resolve.push((patience, to));
        }
        drop(inbox);
        self.shared.wake();
        ends.into_iter()
    }

    fn give(
        &self,
        what: What,
        patience: Duration,
        unheard: bool,
        again_when_refused: bool,
        bytes: usize,
    ) -> Result<(), NotTaken> {
        let until = self.shared.now() + patience;
        let mut inbox = self.shared.inbox();
        if inbox.closing {
            return Err(NotTaken::Closed);
        }
        if inbox.waiting >= self.config.waiting_max
            || inbox.waiting_bytes + bytes > self.config.waiting_bytes_max
        {
            return Err(NotTaken::Overloaded);
        }
        inbox.waiting += 1;
        inbox.waiting_bytes += bytes;
        let first = inbox.jobs.is_empty();
        inbox.jobs.push(Job::new(what, until, unheard, again_when_refused));
        drop(inbox);
        if first {
            self.shared.wake();
        }
        Ok(())
    }
}

impl Drop for Client {
    /// Ends: what was sent and not answered ends as unknown.
    fn drop(&mut self) {
        self.shared.inbox().closing = true;
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // If it has panicked, everybody who waited has heard "unknown".
            let _ = thread.join();
        }
    }
}
