//! A core behind its socket: who may ask for what, and the way into the engine and back.
//!
//! *Who.* A frame's credential says the channel, and the channel's row of the table says which commands it may send
//! ([`crate::channel`]). Both are looked at before anything is let in; the channel that stands in the journal is the one
//! that the credential says, whatever the sender claims.
//!
//! *Where time is spent.* Nothing here waits. Requests go to the lanes; their answers are heard on the engine's threads,
//! where they are only handed on. A question whose answer takes reads of the journal goes from there to a few threads of its
//! own with a bounded queue: never is the core's thread, on which all money waits, kept by a reader.

use crate::channel::Channel;
use crate::credentials::Credentials;
use crate::machine::{Answer as State, BankMachine, Query};
use crate::question::Question;
use crate::walk::{Walk, Walkers};
use pabal_bank::Reply;
use pabal_bank::ledger::{Code, Command};
use pabal_engine::request::Response;
use pabal_engine::{Commands, Engine, Error, Follower, Hear, Lane, Request, RequestHeader, Seen};
use pabal_fault::{Bug, planted};
use pabal_journal::Durable;
use pabal_wire::frame::{REPLY_BYTES, ROLE_CORE};
use pabal_wire::service::Answered;
use pabal_wire::{Answer, Asked, Asking, Body, Head, Kind, Service, Welcome};
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Followers at a time at most; more are refused as overloaded.
const FOLLOWERS_MAX: usize = 8;
/// How long a follower's thread waits for a record before it looks whether the engine has ended.
const FOLLOW_WAIT: Duration = Duration::from_millis(500);

/// What stands behind a core's socket: an engine that runs a bank.
pub trait Behind: Send + Sync + 'static {
    /// See [`Engine::durable`].
    fn durable(&self) -> Arc<Durable>;
    /// See [`Engine::submit_all`].
    fn submit_all(&self, requests: impl IntoIterator<Item = (u64, Request, Hear<Response<Reply>>)>);
    /// See [`Engine::query_to`].
    fn query_to(&self, sender: u64, query: Query, to: Hear<Seen<State>>);
    /// See [`Engine::follow_from`].
    fn follow_from(&self, sequence: u64) -> Result<Follower, Error>;
    /// Has one who follows be served beside everything else, until it has ended: on a thread of its own.
    fn beside(&self, mut following: Following) -> io::Result<()> {
        let serve = move || while following(FOLLOW_WAIT) {};
        thread::Builder::new().name("pabal-follower".into()).spawn(serve).map(drop)
    }
}

/// Sends one who follows the next record, for which it waits so long at most. False when it has ended.
pub type Following = Box<dyn FnMut(Duration) -> bool + Send>;

/// A place among those who follow.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Behind for Engine<BankMachine> {
    fn durable(&self) -> Arc<Durable> {
        self.durable()
    }

    fn submit_all(&self, requests: impl IntoIterator<Item = (u64, Request, Hear<Response<Reply>>)>) {
        self.submit_all(requests);
    }

    fn query_to(&self, sender: u64, query: Query, to: Hear<Seen<State>>) {
        self.query_to(sender, query, to);
    }

    fn follow_from(&self, sequence: u64) -> Result<Follower, Error> {
        self.follow_from(sequence)
    }
}

/// A core's service.
pub struct CoreService<E = Engine<BankMachine>> {
    engine: Arc<E>,
    credentials: Credentials,
    walkers: Arc<Walkers>,
    journal_id: u64,
    followers: Arc<AtomicUsize>,
}

impl<E: Behind> CoreService<E> {
    /// In front of this engine, whose journal has this id.
    pub fn new(
        engine: Arc<E>,
        credentials: Credentials,
        walkers: Walkers,
        journal_id: u64,
    ) -> CoreService<E> {
        let walkers = Arc::new(walkers);
        CoreService { engine, credentials, walkers, journal_id, followers: Arc::default() }
    }

    /// What a frame asks of the engine, or why it is refused.
    fn request(&self, head: &Head, body: Body) -> Result<Request, Code> {
        let channel = self.credentials.channel(&head.credential).ok_or(Code::CredentialUnknown)?;
        let lane = match head.lane {
            1 => Lane::Online,
            2 => Lane::Bulk,
            _ => return Err(Code::Malformed),
        };
        permitted(channel, body.as_bytes())?;
        let commands = Commands::from_words(body.into_words(), head.count as usize).ok_or(Code::Malformed)?;
        let header = RequestHeader {
            channel: channel as u16,
            deadline_ms: if planted(Bug::DeadlineForgotten) { 0 } else { head.deadline_ms },
            attempt: head.attempt,
            principal: head.principal,
            item: head.item,
            ..RequestHeader::new(lane, head.class.min(4))
        };
        Ok(Request { header, commands })
    }

    fn question(&self, asked: Asked) -> Result<(), (Answer, Code)> {
        let Asked { connection, head, body, answer } = asked;
        if self.credentials.channel(&head.credential).is_none() {
            return Err((answer, Code::CredentialUnknown));
        }
        let Some((asks, question)) = Question::read(body.as_bytes()) else {
            return Err((answer, Code::Malformed));
        };
        let query = Walk::query(asks, &question);
        let (walkers, durable) = (self.walkers.clone(), self.engine.durable());
        let heard = move |seen: Seen<State>| {
            // The block may be that after a later record: what is asked for lies before it all the same.
            let walk = Walk::of(asks, question, seen.answer, (seen.sequence, durable.next_block()));
            match walk.reads() {
                true => walkers.send(Box::new(move |reader| walk.read(reader)), answer),
                false => answer.send(walk.stands()),
            }
        };
        self.engine.query_to(connection, query, Box::new(heard));
        Ok(())
    }
}

/// Whether this channel may send all of these commands.
fn permitted(channel: Channel, commands: &[u8]) -> Result<(), Code> {
    let mut rest = commands;
    while !rest.is_empty() {
        let length = pabal_bank::command::length(rest).ok_or(Code::Malformed)?;
        let (command, _) = Command::ref_from_prefix(rest).map_err(|_| Code::Malformed)?;
        if !channel.permits(command.header.op, command.kind) && !planted(Bug::ChannelUnchecked) {
            return Err(Code::ChannelNotPermitted);
        }
        rest = &rest[length..];
    }
    Ok(())
}

/// The answers on their way back.
pub(crate) fn replies(response: Response<Reply>) -> Answered {
    let (sequence, count) = (response.sequence, response.replies.len() as u32);
    let write = move |out: &mut Vec<u8>| {
        out.reserve(response.replies.len() * REPLY_BYTES);
        for reply in &response.replies {
            out.extend_from_slice(reply.to_wire().as_bytes());
        }
    };
    Answered { kind: Kind::Replies, code: 0, sequence, count, body: Some(Box::new(write)) }
}

impl<E: Behind> Service for CoreService<E> {
    fn welcome(&self) -> (Welcome, u64) {
        let welcome = Welcome { role: ROLE_CORE, journal_id: self.journal_id, ..Welcome::new_zeroed() };
        (welcome, self.engine.durable().sequence())
    }

    fn asked(&self, asked: Vec<Asked>) {
        let mut requests: Vec<(u64, Request, Answer)> = Vec::with_capacity(asked.len());
        for asked in asked {
            if asked.head.kind == Asking::Query as u16 {
                if let Err((answer, code)) = self.question(asked) {
                    answer.send(Answered::refused(code as u16));
                }
                continue;
            }
            let Asked { connection, head, body, answer } = asked;
            match self.request(&head, body) {
                Ok(request) => requests.push((connection, request, answer)),
                Err(code) => answer.send(Answered::refused(code as u16)),
            }
        }
        let heard = requests.into_iter().map(|(connection, request, answer)| {
            let hear: Hear<_> = Box::new(move |response| answer.send(replies(response)));
            (connection, request, hear)
        });
        self.engine.submit_all(heard);
    }

    fn follow(&self, head: Head, mut stream: Box<dyn Write + Send>) {
        let refuse = move |stream: &mut Box<dyn Write + Send>, code: Code| {
            let (kind, code) = (Kind::Refused as u16, code as u16);
            let refused = pabal_wire::Reply { kind, code, tag: head.tag, ..Default::default() };
            let _ = stream.write_all(refused.as_bytes());
        };
        if self.credentials.channel(&head.credential).is_none() {
            return refuse(&mut stream, Code::CredentialUnknown);
        }
        let place = Place(self.followers.clone());
        if self.followers.fetch_add(1, Ordering::SeqCst) >= FOLLOWERS_MAX {
            return refuse(&mut stream, Code::Overloaded);
        }
        let engine = Arc::downgrade(&self.engine);
        let mut follower = None;
        // Ends with the engine, or when the one who follows has gone or does not take what comes.
        let following = move |wait| {
            let _held = &place;
            // Whoever is stepped has not waited until what was sent before is taken.
            match stream.flush() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
                Ok(()) => {}
            }
            if follower.is_none() {
                let from = if planted(Bug::FollowedFromLater) { head.item.max(2) + 1 } else { head.item };
                match engine.upgrade().map(|engine| engine.follow_from(from)) {
                    Some(Ok(begun)) => follower = Some(begun),
                    // It has seen records that are not in this journal.
                    Some(Err(Error::Ahead { .. })) => refuse(&mut stream, Code::NotFresh),
                    // What it has seen is not known to be wrong: it comes again.
                    Some(Err(_)) | None => {}
                }
            }
            let Some(follower) = follower.as_mut().filter(|_| engine.strong_count() > 0) else {
                return false;
            };
            let mut sent = Ok(());
            let came = follower.next(wait, |record| {
                let (tag, sequence) = (head.tag, record.header.sequence);
                let (kind, length) = (Kind::Record as u16, record.blocks.len() as u32);
                let reply = pabal_wire::Reply { kind, length, tag, sequence, ..Default::default() };
                sent = stream.write_all(reply.as_bytes()).and_then(|()| stream.write_all(record.blocks));
            });
            came.is_ok() && sent.is_ok()
        };
        // Where the system gives no thread it is closed, and comes again.
        let _ = self.engine.beside(Box::new(following));
    }
}
