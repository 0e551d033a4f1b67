//! The client's thread: one round after the other, it takes what is new, keeps it, sends what may be sent, hears
//! answers, and ends what can be ended. See [`crate::client`] for what it promises.

mod ends;

use crate::address::Stream;
use crate::budget::{Budget, back_off};
use crate::client::{ClientConfig, End, Shared, Told, Why};
use crate::connection::{Connection, Envelope, Unsent};
use crate::keep::{Keep, KeepError};
use crate::parcel::{Name, Parcel};
use crate::proof;
use ends::Untold;
pub(crate) use ends::nothing_known;
use pabal_bank::Reply;
use pabal_fault::{Bug, planted};
use pabal_ledger::Code;
use pabal_wire::Kind;
use rustix::event::{PollFd, PollFlags, Timespec};
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender};
use std::time::{Duration, Instant};

/// How long one try to reach the server takes at most.
const CONNECT_WAIT: Duration = Duration::from_secs(1);
/// How long a round waits at most when nothing is due.
const ROUND_WAIT: Duration = Duration::from_secs(60);
/// Requests that are being resolved at one time.
const RESOLVING_MAX: usize = 64;

/// Who hears a request's end.
pub(crate) enum To {
    Caller(SyncSender<End>),
    Resolver(Sender<(Arc<Parcel>, End)>),
    /// Its caller has heard that it is unknown; an answer that comes after all settles it in the keep.
    Nobody,
}

pub(crate) enum What {
    Request { parcel: Arc<Parcel>, to: To },
    Question { envelope: Envelope, question: Vec<u8>, at_least: u64, to: SyncSender<Told> },
}

/// A request or a question that has not ended.
pub(crate) struct Job {
    what: What,
    until: Instant,
    again_when_refused: bool,
    /// Whether a try of it went unheard.
    unheard: bool,
    tries: u32,
    /// The tag of the try that is on its way.
    tag: Option<u64>,
    /// When it is tried again.
    due: Option<Instant>,
    /// Its number in the keep.
    kept: Option<u64>,
    /// What was heard last of each command, and the record that came with it.
    heard: Vec<Option<Reply>>,
    sequence: u64,
    /// The whole was refused.
    refused: Option<u16>,
}

impl Job {
    pub fn new(what: What, until: Instant, unheard: bool, again_when_refused: bool) -> Job {
        Job {
            what,
            until,
            again_when_refused,
            unheard,
            tries: 0,
            tag: None,
            due: None,
            kept: None,
            heard: Vec::new(),
            sequence: 0,
            refused: None,
        }
    }

    fn bytes(&self) -> usize {
        match &self.what {
            What::Request { parcel, .. } => parcel.commands().len(),
            What::Question { question, .. } => question.len(),
        }
    }
}

/// What a resolver waits for.
struct Resolving {
    left: VecDeque<u64>,
    patience: Duration,
    to: Sender<(Arc<Parcel>, End)>,
}

/// Opens a stream to the server.
pub(crate) type Reach = Box<dyn FnMut() -> std::io::Result<Stream> + Send>;

pub(crate) struct Worker {
    config: ClientConfig,
    keep: Option<Keep>,
    shared: Arc<Shared>,
    jobs: HashMap<u64, Job>,
    next: u64,
    /// Not sent yet.
    fresh: VecDeque<u64>,
    /// To be tried again, in the order in which they are due.
    again: BTreeSet<(Instant, u64)>,
    /// What was due then has been seen to.
    seen_to: Instant,
    patience: BTreeSet<(Instant, u64)>,
    by_tag: HashMap<u64, u64>,
    /// Numbers in the keep that a job has.
    asked: HashSet<u64>,
    untold: Vec<Untold>,
    resolving: Vec<Resolving>,
    resolving_now: usize,
    /// How the server is reached.
    reach: Reach,
    connection: Option<Connection>,
    /// One on which no welcome came yet, and until when it is waited for.
    greeting: Option<(Connection, Instant)>,
    journal_id: Option<u64>,
    /// Before this nobody tries to reach the server.
    reach_at: Instant,
    reaches: u32,
    heard_at: Instant,
    budget: Budget,
    chance: u64,
}

impl Worker {
    pub fn new(
        config: ClientConfig,
        keep: Option<Keep>,
        shared: Arc<Shared>,
        reach: Reach,
        chance: u64,
    ) -> Worker {
        let now = shared.now();
        let known = keep.as_ref().and_then(Keep::bank_known);
        Worker {
            journal_id: config.journal_id.or(known),
            config,
            keep,
            shared,
            jobs: HashMap::new(),
            next: 0,
            fresh: VecDeque::new(),
            again: BTreeSet::new(),
            seen_to: now,
            patience: BTreeSet::new(),
            by_tag: HashMap::new(),
            asked: HashSet::new(),
            untold: Vec::new(),
            resolving: Vec::new(),
            resolving_now: 0,
            reach,
            connection: None,
            greeting: None,
            reach_at: now,
            reaches: 0,
            heard_at: now,
            budget: Budget::full(),
            chance: chance | 1,
        }
    }

    pub fn run(mut self) {
        while !self.take_in() {
            self.go_out();
            self.wait();
            self.come_in();
        }
        self.close();
    }

    /// One round that waits for nothing: for whoever says what time it is.
    pub fn step(&mut self) {
        self.take_in();
        self.go_out();
        let greeting = self.greeting.as_mut().map(|(connection, _)| connection);
        self.connection.as_mut().or(greeting).into_iter().for_each(Connection::pump);
        self.come_in();
    }

    fn go_out(&mut self) {
        self.lose_patience();
        self.resolve();
        self.reach();
        self.send();
        self.tell_untold();
    }

    fn come_in(&mut self) {
        self.greet();
        self.hear();
        self.tell_untold();
    }

    /// Takes what is new. True when this is to end.
    fn take_in(&mut self) -> bool {
        let mut inbox = self.shared.inbox();
        let (jobs, resolve) = (std::mem::take(&mut inbox.jobs), std::mem::take(&mut inbox.resolve));
        let closing = inbox.closing;
        drop(inbox);
        for job in jobs {
            self.take(job);
        }
        for (patience, to) in resolve {
            let unsettled = self.keep.iter().flat_map(|keep| keep.unsettled().keys().copied());
            let left = unsettled.filter(|number| !self.asked.contains(number)).collect();
            self.resolving.push(Resolving { left, patience, to });
        }
        closing
    }

    fn take(&mut self, mut job: Job) {
        self.next += 1;
        if let What::Request { parcel, .. } = &job.what {
            job.unheard |= self.left_unknown(parcel);
        }
        self.patience.insert((job.until, self.next));
        self.fresh.push_back(self.next);
        self.jobs.insert(self.next, job);
    }

    /// Whether one of its commands stands in a request that ended as unknown.
    fn left_unknown(&self, parcel: &Parcel) -> bool {
        let Some(keep) = &self.keep else { return false };
        if keep.unsettled().len() == self.asked.len() {
            return false;
        }
        let names: HashSet<Name> = parcel.names().collect();
        let left = keep.unsettled().iter().filter(|(number, _)| !self.asked.contains(number));
        left.flat_map(|(_, parcel)| parcel.names()).any(|name| names.contains(&name))
    }

    fn lose_patience(&mut self) {
        let now = self.shared.now();
        while let Some(&(until, number)) = self.patience.first()
            && until <= now
        {
            self.patience.pop_first();
            self.end(number, Why::Unreachable);
        }
        // While the server is away nothing else takes those out that have ended.
        if self.fresh.len() > 2 * self.jobs.len() + 64 {
            self.fresh.retain(|number| self.jobs.contains_key(number));
        }
    }

    /// Asks the next of what is to be resolved.
    fn resolve(&mut self) {
        let mut resolving = std::mem::take(&mut self.resolving);
        for resolver in &mut resolving {
            while self.resolving_now < RESOLVING_MAX
                && let Some(kept) = resolver.left.pop_front()
            {
                let Some(keep) = &self.keep else { continue };
                let Some(parcel) = keep.unsettled().get(&kept).cloned() else { continue };
                if !keep.is_sure() {
                    // It may be in the file or not, so it is not sent. Whoever asked may have gone away.
                    drop(resolver.to.send((parcel.clone(), nothing_known(&parcel))));
                    continue;
                }
                if !self.asked.insert(kept) {
                    continue;
                }
                self.resolving_now += 1;
                let mut inbox = self.shared.inbox();
                inbox.waiting += 1;
                inbox.waiting_bytes += parcel.commands().len();
                drop(inbox);
                let what = What::Request { parcel, to: To::Resolver(resolver.to.clone()) };
                let mut job = Job::new(what, self.shared.now() + resolver.patience, true, false);
                job.kept = Some(kept);
                self.take(job);
            }
        }
        resolving.retain(|resolver| !resolver.left.is_empty());
        self.resolving = resolving;
    }

    /// Reaches the server, when there is something to send and it is time.
    fn reach(&mut self) {
        let now = self.shared.now();
        let idle = self.fresh.is_empty() && self.again.is_empty();
        let has_one = self.connection.is_some() || self.greeting.is_some();
        if has_one || idle || now < self.reach_at {
            return;
        }
        let patience = self.patience.first().map_or(CONNECT_WAIT, |(until, _)| *until - now);
        match (self.reach)() {
            Ok(stream) => {
                let until = self.shared.now() + patience.clamp(Duration::from_millis(1), CONNECT_WAIT);
                self.greeting = Some((Connection::begin(stream, self.config.credential), until));
            }
            Err(_) => self.reach_later(),
        }
    }

    /// It was not reached: the next try comes after a while.
    fn reach_later(&mut self) {
        self.reach_at = self.shared.now() + back_off(self.reaches, self.chance());
        self.reaches = self.reaches.saturating_add(1);
    }

    /// Takes the welcome, if it is here.
    fn greet(&mut self) {
        let Some((mut connection, until)) = self.greeting.take() else { return };
        match connection.greeted() {
            Ok(true) => {}
            Ok(false) if self.shared.now() < until => {
                self.greeting = Some((connection, until));
                return;
            }
            Ok(false) | Err(_) => return self.reach_later(),
        }
        self.reach_later();
        let journal_id = connection.welcome().journal_id;
        if *self.journal_id.get_or_insert(journal_id) != journal_id {
            return self.end_all(Why::OtherBank);
        }
        if let Some(keep) = &mut self.keep
            && keep.bank_known() != Some(journal_id)
        {
            keep.bank(journal_id);
            if keep.write().is_err() {
                return self.end_all(Why::NotKept);
            }
        }
        self.heard_at = self.shared.now();
        self.connection = Some(connection);
    }

    fn send(&mut self) {
        if self.connection.is_none() {
            return;
        }
        self.send_again();
        // Each is in the keep before any of it is sent, all that is new with one write.
        let room = self
            .connection
            .as_ref()
            .map_or(0, |c| (c.welcome().in_flight_max as usize).saturating_sub(c.in_flight()));
        let now: Vec<u64> = self.fresh.drain(..self.fresh.len().min(room)).collect();
        let kept = self.put_into_keep(&now);
        for (at, &number) in now.iter().enumerate() {
            if !kept.contains(&number) || !self.jobs.contains_key(&number) {
                continue;
            }
            if !self.send_one(number) {
                now[at..].iter().rev().for_each(|&left| self.fresh.push_front(left));
                break;
            }
            // What others may have sent before is no first try.
            if self.jobs.get(&number).is_some_and(|job| !job.unheard) {
                self.budget.earn();
            }
        }
    }

    /// Sends again what is due, as far as the budget goes. What was refused does not wait for more of it.
    fn send_again(&mut self) {
        let now = self.shared.now();
        self.seen_to = now;
        let due: Vec<(Instant, u64)> = self.again.range(..=(now, u64::MAX)).copied().collect();
        for entry in due {
            let number = entry.1;
            if self.budget.is_spent() {
                if self.jobs.get(&number).is_some_and(|job| !job.unheard) {
                    self.end(number, Why::Unreachable);
                }
            } else if self.send_one(number) {
                self.again.remove(&entry);
                self.budget.spend();
            } else {
                return;
            }
        }
    }

    /// Those that may be sent. What could not be kept has ended.
    fn put_into_keep(&mut self, numbers: &[u64]) -> HashSet<u64> {
        let mut may: HashSet<u64> = numbers.iter().copied().collect();
        let Some(keep) = &mut self.keep else { return may };
        let mut entered = Vec::new();
        for number in numbers {
            let Some(job) = self.jobs.get_mut(number) else { continue };
            let What::Request { parcel, .. } = &job.what else { continue };
            if job.kept.is_some() {
                continue;
            }
            match keep.sent(parcel.clone()) {
                Ok(kept) => {
                    job.kept = Some(kept);
                    self.asked.insert(kept);
                    entered.push(*number);
                }
                Err(_) => {
                    may.remove(number);
                }
            }
        }
        if let Err(error) = keep.write() {
            for number in entered {
                may.remove(&number);
                let Some(job) = self.jobs.get_mut(&number) else { continue };
                if let KeepError::Unknown(_) = error {
                    // Another process may find it in the file, and send it.
                    job.unheard = true;
                } else if let Some(kept) = job.kept.take() {
                    keep.forget(kept);
                    self.asked.remove(&kept);
                }
            }
        }
        for number in numbers {
            if !may.contains(number) {
                self.end(*number, Why::NotKept);
            }
        }
        may
    }

    /// False when there is no room for it on the connection now.
    fn send_one(&mut self, number: u64) -> bool {
        let (Some(connection), Some(job)) = (&mut self.connection, self.jobs.get_mut(&number)) else {
            return true;
        };
        let collected = match &job.what {
            What::Request { parcel, .. } => {
                connection.submit(parcel.envelope(), parcel.count(), parcel.commands())
            }
            What::Question { envelope, question, at_least, .. } => {
                connection.query(envelope, *at_least, question)
            }
        };
        match collected {
            Ok(tag) => {
                if self.by_tag.is_empty() {
                    self.heard_at = self.shared.now();
                }
                (job.tag, job.due) = (Some(tag), None);
                job.tries += 1;
                self.by_tag.insert(tag, number);
                true
            }
            Err(Unsent::Full | Unsent::Ended) => false,
            Err(Unsent::TooLong | Unsent::Malformed) => {
                self.end(number, Why::TooLong);
                true
            }
        }
    }

    /// Waits until there is something to do.
    fn wait(&mut self) {
        let now = self.shared.now();
        let mut until = now + ROUND_WAIT;
        if let Some((patience, _)) = self.patience.first() {
            until = until.min(*patience);
        }
        match &self.connection {
            Some(_) => {
                // What was due and was not sent waits for room or for the budget: for answers, or new requests. What
                // has become due since is seen to in the next round, which is now.
                if let Some((due, _)) = self.again.range((self.seen_to, u64::MAX)..).next() {
                    until = until.min(*due);
                }
                if !self.by_tag.is_empty() {
                    until = until.min(self.heard_at + self.config.silence_max);
                }
            }
            None if self.greeting.is_some() || self.fresh.is_empty() && self.again.is_empty() => {}
            None => until = until.min(self.reach_at),
        }
        if let Some((_, welcome)) = &self.greeting {
            until = until.min(*welcome);
        }
        let timeout = until.saturating_duration_since(now);
        let wake = self.shared.wake.as_ref().map(AsFd::as_fd);
        let greeting = self.greeting.as_mut().map(|(connection, _)| connection);
        match self.connection.as_mut().or(greeting) {
            Some(connection) => {
                // What ends the connection is found when its answers are taken.
                let _ = connection.poll_or(wake, timeout);
            }
            None => {
                let timeout = Timespec::try_from(timeout).ok();
                let waited = wake.map(|wake| PollFd::from_borrowed_fd(wake, PollFlags::IN));
                let _ = rustix::event::poll(&mut Vec::from_iter(waited), timeout.as_ref());
            }
        }
        if let Some(wake) = wake {
            let _ = rustix::io::read(wake, &mut [0u8; 8]);
        }
    }

    /// Takes the answers that are here.
    fn hear(&mut self) {
        loop {
            let Some(connection) = &mut self.connection else { return };
            let answered = match connection.take() {
                Ok(Some(answered)) => answered,
                Ok(None) if self.by_tag.is_empty() => return,
                Ok(None) if self.shared.now() < self.heard_at + self.config.silence_max => return,
                Ok(None) | Err(_) => return self.lose_connection(),
            };
            (self.heard_at, self.reaches) = (self.shared.now(), 0);
            let Some(number) = self.by_tag.remove(&answered.tag) else { continue };
            let Some(job) = self.jobs.get_mut(&number) else { continue };
            job.tag = None;
            let (kind, code) = (answered.kind, answered.code);
            if let What::Question { .. } = job.what {
                let told = match kind {
                    Kind::Answer => {
                        Told::Answer { sequence: answered.sequence, body: answered.body.to_vec() }
                    }
                    Kind::Refused => Told::Refused(Why::Code(code)),
                    _ => {
                        self.rest(number);
                        continue;
                    }
                };
                self.tell(number, told);
                continue;
            }
            match kind {
                Kind::Replies => {
                    let (replies, sequence) = (answered.replies().collect(), answered.sequence);
                    self.replied(number, replies, sequence);
                }
                Kind::Refused => self.refused(number, code),
                _ => {
                    job.unheard = true;
                    self.rest(number);
                }
            }
        }
    }

    fn replied(&mut self, number: u64, replies: Vec<Option<Reply>>, sequence: u64) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        let What::Request { parcel, .. } = &job.what else { return };
        let (lane, item) = (parcel.envelope().lane, parcel.envelope().item);
        let before = std::mem::replace(&mut job.heard, replies);
        (job.sequence, job.refused) = (job.sequence.max(sequence), None);
        // What was decided stays decided, whatever a later try says of it.
        for (now, before) in job.heard.iter_mut().zip(before) {
            let decided = |r: &Reply| r.code.uses_id() && proof::stands(r, lane, true);
            if before.as_ref().is_some_and(decided) && !now.as_ref().is_some_and(decided) {
                *now = before;
            }
        }
        let worth_a_try = job.heard.iter().flatten().zip(0..).any(|(reply, n)| {
            let wanted = job.again_when_refused || !proof::stands(reply, lane, job.unheard);
            wanted && proof::passes(reply, lane, item.wrapping_add(n))
        });
        if worth_a_try { self.rest_or_end(number) } else { self.end(number, Why::Unreachable) }
    }

    fn refused(&mut self, number: u64, code: u16) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        job.refused = Some(code);
        let passes = Code::from_u16(code).is_some_and(proof::code_passes);
        if passes && (job.again_when_refused || job.unheard) {
            self.rest_or_end(number);
        } else {
            self.end(number, Why::Code(code));
        }
    }

    /// What was refused is not tried again when the budget is spent. What went unheard waits for it.
    fn rest_or_end(&mut self, number: u64) {
        let unheard = self.jobs.get(&number).is_some_and(|job| job.unheard);
        if self.budget.is_spent() && !unheard {
            self.end(number, Why::Unreachable);
        } else {
            self.rest(number);
        }
    }

    /// It is tried again after a while.
    fn rest(&mut self, number: u64) {
        let chance = self.chance();
        let Some(job) = self.jobs.get_mut(&number) else { return };
        if let What::Request { to: To::Nobody, .. } = job.what {
            self.jobs.remove(&number);
            return;
        }
        let due = self.shared.now() + back_off(job.tries.saturating_sub(1), chance);
        job.due = Some(due);
        self.again.insert((due, number));
    }

    /// What was on its way went unheard, and is tried again, in the order in which it was sent.
    fn lose_connection(&mut self) {
        self.connection = None;
        self.reach_at = self.reach_at.max(self.shared.now() + back_off(self.reaches, self.chance()));
        self.reaches = self.reaches.saturating_add(1);
        let mut lost: Vec<u64> = self.by_tag.drain().map(|(_, number)| number).collect();
        lost.sort_unstable();
        for number in lost {
            let Some(job) = self.jobs.get_mut(&number) else { continue };
            (job.unheard, job.tag) = (job.unheard || !planted(Bug::CutTakenForFailure), None);
            if let What::Request { to: To::Nobody, .. } = job.what {
                self.jobs.remove(&number);
                continue;
            }
            job.due = Some(self.reach_at);
            self.again.insert((self.reach_at, number));
        }
    }

    fn close(mut self) {
        self.connection = None;
        self.take_in();
        self.end_all(Why::Closed);
        self.tell_untold();
        if let Some(keep) = &mut self.keep {
            // Marks that are missing are made up for by asking again.
            let _ = keep.write();
        }
    }

    /// Numbers by chance: xorshift is enough to spread the tries of many clients.
    fn chance(&mut self) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance
    }
}
