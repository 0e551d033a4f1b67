//! Customers of a bank that is served, as the drill of killed services has them: each sends transfers to the core, asks
//! the reader, and now and then the core, for accounts and statements, and keeps books of all that it was told.
//!
//! *What each promises itself.* No answer is older than anything that any of them has heard or seen: a question asks
//! for the newest record of which one of them knows, also of those before a restart.
//!
//! *What it does about what it does not know.* What ended as unknown stays in its keep. It goes away in the middle of
//! what it asked, again and again, comes back with the keep, and asks for the rest under the same ids. A keep that has
//! forgotten such a request is found here, at once; what came of everything else [`judge`](super::judge) says.

use super::core::SOCKET;
use super::drill::{ACCOUNTS, ACK_BYTES, Books, FIRST, NOT_DONE, transfers, whole};
use super::judge::{Kept, SHOWN_BYTES, Shown, mark};
use super::reader::READER_SOCKET;
use crate::ids;
use anyhow::{Context as _, bail, ensure};
use pabal_bank::ledger::entry::COMMAND_BYTES;
use pabal_bank::ledger::{Code, Command, Id};
use pabal_client::{
    Address, Ask, Client, ClientConfig, End, Envelope, Keep, KeepConfig, Name, Parcel, Pending, Told, Why,
};
use pabal_core::question::read_answer;
use pabal_core::{Channel, Credentials, Question};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use zerocopy::{FromBytes, IntoBytes};

/// How many.
const CUSTOMERS: usize = 4;
/// Requests of each on their way.
const ON_THEIR_WAY: usize = 3;
/// How long a customer waits for an end or an answer. Short enough that a core that is started anew leaves some unknown.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How long it waits for a reader that is gone, or behind, to show what was asked.
const LOOKING: Duration = Duration::from_millis(300);
/// How long one who only asks for what is open goes on with it.
const SETTLING: Duration = Duration::from_secs(60);
/// Rounds of a visit at most, after which a customer goes away and comes back.
const ROUNDS: u64 = 2000;
/// Lines of a statement.
const LINES: u16 = 10;
/// Answered commands that are sent once more in the end: each must be answered as it was.
const AGAIN: usize = 500;
/// Commands that are sent again at a time.
const PIECE: usize = 50;

/// Sends and asks until killed; with `settle`, until nothing is open.
pub fn run(data: &Path, books: &Path, settle: bool) -> anyhow::Result<Value> {
    let newest = Arc::new(AtomicU64::new(0));
    let customers = (0..CUSTOMERS)
        .map(|number| Customer::open(data, &books.join(number.to_string()), newest.clone()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let (to, ends) = channel();
    for mut customer in customers {
        let to = to.clone();
        std::thread::spawn(move || {
            let end = if settle { customer.settle() } else { customer.live() };
            // Whoever waited has ended already when another failed before.
            let _ = to.send(end);
        });
    }
    drop(to);
    let mut open = 0;
    for _ in 0..CUSTOMERS {
        open += ends.recv().context("a customer panicked")??;
    }
    Ok(json!({ "customers": CUSTOMERS, "were_open": open, "newest": newest.load(Ordering::SeqCst) }))
}

/// The books that they keep there.
pub fn kept(books: &Path) -> Vec<Kept> {
    (0..CUSTOMERS).map(|number| Kept::within(&books.join(number.to_string()))).collect()
}

struct Customer {
    data: PathBuf,
    keep: PathBuf,
    books: Books,
    /// What was sent, by its id, and of which no end is known.
    open: BTreeMap<Id, Command>,
    /// What this process heard to be unknown: the keep must have it.
    unknown: BTreeSet<Id>,
    answered: VecDeque<Command>,
    shown: File,
    /// The newest record that any of them was told of.
    newest: Arc<AtomicU64>,
}

/// A request on its way.
type Asked = (Vec<Command>, Pending<End>);

impl Customer {
    fn open(data: &Path, folder: &Path, newest: Arc<AtomicU64>) -> anyhow::Result<Customer> {
        std::fs::create_dir_all(folder)?;
        let kept = Kept::within(folder);
        let (books, sent) = Books::open(&kept.sent, &kept.acked)?;
        let mut open: BTreeMap<Id, Command> = sent.into_iter().map(|command| (command.id, command)).collect();
        let mut answered = VecDeque::new();
        for ended in std::fs::read(&kept.acked)?.chunks_exact(ACK_BYTES) {
            let (id, rest) = Id::read_from_prefix(ended).ok().context("an id")?;
            let command = open.remove(&id);
            if !rest.ends_with(&NOT_DONE.to_le_bytes()) {
                answered.extend(command);
            }
        }
        let (shown, bytes) = whole(&kept.shown.context("a customer keeps it")?, SHOWN_BYTES)?;
        let seen = bytes.chunks_exact(SHOWN_BYTES).filter_map(|bytes| Shown::read_from_bytes(bytes).ok());
        newest.fetch_max(seen.map(|shown| shown.sequence).max().unwrap_or(0), Ordering::SeqCst);
        let keep = folder.join("keep");
        let unknown = BTreeSet::new();
        Ok(Customer { data: data.to_path_buf(), keep, books, open, unknown, answered, shown, newest })
    }

    /// Visits, one after the other, until killed.
    fn live(&mut self) -> anyhow::Result<usize> {
        loop {
            let bank = self.come()?;
            self.ask_open(&bank)?;
            self.visit(bank, 1 + ids::random() % ROUNDS)?;
        }
    }

    /// Asks until nothing is open, then for every account.
    fn settle(&mut self) -> anyhow::Result<usize> {
        let were_open = self.open.len();
        let (bank, until) = (self.come()?, Instant::now() + SETTLING);
        while !self.open.is_empty() {
            ensure!(Instant::now() < until, "{} commands have no answer", self.open.len());
            self.ask_open(&bank)?;
        }
        let from = self.answered.len().saturating_sub(AGAIN);
        let again: Vec<Command> = self.answered.range(from..).copied().collect();
        for piece in again.chunks(PIECE) {
            self.send_again(&bank, piece)?;
        }
        for account in FIRST..FIRST + ACCOUNTS {
            for by_core in [false, true] {
                while !self.look(&bank, by_core, account, LINES)? {
                    let newest = self.newest.load(Ordering::SeqCst);
                    ensure!(Instant::now() < until, "account {account} is not shown as of record {newest}");
                }
            }
        }
        Ok(were_open)
    }

    /// Opens the keep, which must have what is unknown, and reaches for the bank.
    fn come(&self) -> anyhow::Result<Bank> {
        let until = Instant::now() + SETTLING;
        let credential = loop {
            match Credentials::of(&self.data, Channel::Customers) {
                Ok(credential) => break credential.0,
                Err(error) if Instant::now() >= until => return Err(error.into()),
                Err(_) => std::thread::yield_now(),
            }
        };
        let keep = Keep::open(&self.keep, KeepConfig::default())?;
        let names: BTreeSet<Name> = keep.unsettled().values().flat_map(|parcel| parcel.names()).collect();
        if let Some(id) = self.unknown.iter().find(|id| !names.contains(&Name::Id(**id))) {
            bail!("{}: has forgotten {id}, which is unknown", self.keep.display());
        }
        let to = |socket| ClientConfig::to(Address::Unix(self.data.join(socket)), credential);
        let core = Client::start(to(SOCKET), Some(keep))?;
        Ok(Bank { core, reader: Client::start(to(READER_SOCKET), None)? })
    }

    /// Asks again for what the keep has, then for what else has no answer in the books.
    fn ask_open(&mut self, bank: &Bank) -> anyhow::Result<()> {
        let ends: Vec<_> = bank.core.resolve(PATIENCE).collect();
        for (parcel, end) in ends {
            self.hear(&commands(&parcel)?, end)?;
        }
        // Heard by the keep, and not yet in the books when the process was killed; or never sent.
        let open: Vec<Command> = self.open.values().copied().collect();
        for piece in open.chunks(PIECE) {
            self.send_again(bank, piece)?;
        }
        Ok(())
    }

    fn send_again(&mut self, bank: &Bank, made: &[Command]) -> anyhow::Result<()> {
        let ask = Ask { sent_before: true, again_when_refused: true, ..ask(made) };
        let end = bank.core.submit(ask)?.wait();
        self.hear(made, end)
    }

    /// So many rounds of sending, hearing and looking; goes away while some of what it asked is on its way.
    fn visit(&mut self, bank: Bank, rounds: u64) -> anyhow::Result<()> {
        let mut waiting: VecDeque<Asked> = VecDeque::new();
        for _ in 0..rounds {
            while waiting.len() < ON_THEIR_WAY {
                let random = ids::random();
                let made = transfers(1 + if random & 15 == 0 { random >> 8 & 127 } else { random >> 8 & 7 });
                self.books.keep(&made)?;
                self.open.extend(made.iter().map(|command| (command.id, *command)));
                waiting.push_back((made.clone(), bank.core.submit(ask(&made))?));
            }
            let (made, pending) = waiting.pop_front().context("some are waiting")?;
            self.hear(&made, pending.wait())?;
            let random = ids::random();
            let limit = if random & 8 == 0 { LINES } else { 0 };
            self.look(&bank, random & 7 == 0, FIRST + (random >> 8) % ACCOUNTS, limit)?;
        }
        self.leave(bank, waiting)
    }

    /// Goes away. What was on its way ends, as far as nothing was heard of it, as unknown.
    fn leave(&mut self, bank: Bank, waiting: VecDeque<Asked>) -> anyhow::Result<()> {
        drop(bank);
        for (made, pending) in waiting {
            self.hear(&made, pending.wait())?;
        }
        Ok(())
    }

    /// Notes how a request ended.
    fn hear(&mut self, made: &[Command], end: End) -> anyhow::Result<()> {
        match end {
            End::Replies { sequence, replies } => {
                ensure!(replies.len() == made.len(), "{} answers to {}", replies.len(), made.len());
                let heard = made.iter().zip(&replies).map(|(made, reply)| {
                    let code = if reply.code.uses_id() { reply.code as u64 } else { NOT_DONE };
                    (made, reply.position, code)
                });
                self.books.heard(heard)?;
                self.newest.fetch_max(sequence, Ordering::SeqCst);
                self.answered.extend(made);
            }
            End::Refused(_) => self.books.heard(made.iter().map(|made| (made, 0, NOT_DONE)))?,
            End::Unknown { .. } => {
                self.unknown.extend(made.iter().map(|made| made.id));
                return Ok(());
            }
        }
        for command in made {
            self.open.remove(&command.id);
            self.unknown.remove(&command.id);
        }
        let surplus = self.answered.len().saturating_sub(AGAIN);
        self.answered.drain(..surplus);
        Ok(())
    }

    /// Asks how an account stands, with so many lines, no older than what is known. False when nobody said it in time:
    /// a reader that is behind says so at once, and is asked again.
    fn look(&mut self, bank: &Bank, by_core: bool, account: u64, limit: u16) -> anyhow::Result<bool> {
        let at_least = self.newest.load(Ordering::SeqCst);
        let until = Instant::now() + LOOKING;
        let client = if by_core { &bank.core } else { &bank.reader };
        let question = match limit {
            0 => Question::account(account),
            lines => Question::statement(account, lines),
        };
        let (sequence, body) = loop {
            let left = until.saturating_duration_since(Instant::now());
            let asked = client.query(Envelope::default(), question.as_bytes().to_vec(), at_least, left)?;
            match asked.wait() {
                Told::Answer { sequence, body } => break (sequence, body),
                Told::Refused(Why::Code(code)) if code != Code::NotFresh as u16 => {
                    bail!("account {account}: refused with code {code}")
                }
                _ if Instant::now() >= until => return Ok(false),
                _ => std::thread::yield_now(),
            }
        };
        let (standing, lines) = read_answer(&body).context("no answer about an account")?;
        ensure!(standing.found == 1, "account {account} is not there as of record {sequence}");
        let shown = Shown {
            account,
            at_least,
            sequence,
            balance: standing.balance,
            head: standing.head,
            limit: limit.into(),
            mark: mark(lines.iter().map(|line| (line.position, line.amount, line.balance))),
            by_core: by_core.into(),
        };
        self.shown.write_all(shown.as_bytes())?;
        self.newest.fetch_max(sequence, Ordering::SeqCst);
        Ok(true)
    }
}

fn ask(made: &[Command]) -> Ask {
    Ask {
        envelope: Envelope { class: 1, ..Envelope::default() },
        commands: made.as_bytes().to_vec(),
        patience: PATIENCE,
        ..Ask::default()
    }
}

/// The commands of a request of transfers.
fn commands(parcel: &Parcel) -> anyhow::Result<Vec<Command>> {
    let read = |bytes: &[u8]| Command::read_from_bytes(bytes).ok().context("a transfer");
    parcel.commands().chunks_exact(COMMAND_BYTES).map(read).collect()
}

/// The two that a customer talks to.
struct Bank {
    core: Client,
    reader: Client,
}
