//! A folded copy behind its socket: answers questions, and says as of which record.
//!
//! It executes nothing. A question that wants a fresher state than the copy has is refused at once (`not_fresh`): who
//! asked goes to the core, or comes again. The state is looked at on the threads that read histories, never on the
//! server's, as the copy may be taking a record just then.

use crate::credentials::Credentials;
use crate::machine::{Answer as State, BankMachine, Query};
use crate::question::{Asks, Question};
use crate::read::ReadError;
use crate::walk::{Walk, Walkers};
use pabal_bank::ledger::Code;
use pabal_engine::{Fold, Machine};
use pabal_fault::{Bug, planted};
use pabal_journal::Reader;
use pabal_wire::frame::ROLE_READER;
use pabal_wire::service::Answered;
use pabal_wire::{Asked, Asking, Head, Kind, Service, Welcome};
use std::io::Write;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use zerocopy::{FromZeros, IntoBytes};

/// A copy that one thread writes to and many read.
pub struct Copy<M: Machine = BankMachine>(Arc<RwLock<Fold<M>>>);

impl<M: Machine> Clone for Copy<M> {
    fn clone(&self) -> Copy<M> {
        Copy(self.0.clone())
    }
}

impl<M: Machine<Query = Query, Answer = State>> Copy<M> {
    /// Of this fold.
    pub fn new(fold: Fold<M>) -> Copy<M> {
        Copy(Arc::new(RwLock::new(fold)))
    }

    /// To look at. Waits while a record is being taken.
    pub fn read(&self) -> RwLockReadGuard<'_, Fold<M>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// To take a record.
    pub fn write(&self) -> RwLockWriteGuard<'_, Fold<M>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a question that wants to have seen this record at least: the state is looked at, then the history is
    /// read, while the copy may go on.
    pub fn answer(
        &self,
        reader: &Reader,
        (asks, question): (Asks, Question),
        at_least: u64,
    ) -> Result<Answered, ReadError> {
        let walk = {
            let fold = self.read();
            let is_older = fold.sequence() < at_least && !planted(Bug::ReadOlder);
            if fold.is_spoiled() || is_older {
                return Ok(Answered::refused(Code::NotFresh as u16));
            }
            let state = fold.machine().query(&Walk::query(asks, &question));
            let sequence = fold.sequence() + u64::from(planted(Bug::CopyAhead));
            Walk::of(asks, question, state, (sequence, fold.next_block()))
        };
        if walk.reads() { walk.read(reader) } else { Ok(walk.stands()) }
    }
}

/// The service of a reader.
pub struct ReaderService<M: Machine = BankMachine> {
    copy: Copy<M>,
    credentials: Credentials,
    walkers: Walkers,
    journal_id: u64,
}

impl<M: Machine> ReaderService<M> {
    /// In front of this copy of the journal with this id.
    pub fn new(
        copy: Copy<M>,
        credentials: Credentials,
        walkers: Walkers,
        journal_id: u64,
    ) -> ReaderService<M> {
        ReaderService { copy, credentials, walkers, journal_id }
    }
}

impl<M> Service for ReaderService<M>
where
    M: Machine<Query = Query, Answer = State> + 'static,
    Fold<M>: Send + Sync,
{
    fn welcome(&self) -> (Welcome, u64) {
        let welcome = Welcome { role: ROLE_READER, journal_id: self.journal_id, ..Welcome::new_zeroed() };
        // Where it stands each answer says; to look now might wait.
        (welcome, 0)
    }

    fn asked(&self, asked: Vec<Asked>) {
        for Asked { head, body, answer, .. } in asked {
            let code = match (self.credentials.channel(&head.credential), Question::read(body.as_bytes())) {
                (None, _) => Code::CredentialUnknown,
                (Some(_), _) if head.kind == Asking::Submit as u16 => Code::ChannelNotPermitted,
                (Some(_), None) => Code::Malformed,
                (Some(_), Some(question)) => {
                    let copy = self.copy.clone();
                    let work = move |reader: &Reader| copy.answer(reader, question, head.item);
                    self.walkers.send(Box::new(work), answer);
                    continue;
                }
            };
            answer.send(Answered::refused(code as u16));
        }
    }

    fn follow(&self, head: Head, mut stream: Box<dyn Write + Send>) {
        // The core's affair. It is one frame into an empty socket, so it does not wait.
        let (kind, code) = (Kind::Refused as u16, Code::ChannelNotPermitted as u16);
        let refused = pabal_wire::Reply { kind, code, tag: head.tag, ..Default::default() };
        let _ = stream.write_all(refused.as_bytes());
    }
}
