//! A life of a bank: from an opening to an end, with requests between them, on a disk that is watched.

use super::judge::Place;
use super::seen::{Known, Moment, Watched};
use crate::disk::SimDisk;
use crate::disk::image::Image;
use crate::random::Random;
use crate::sent::{Sent, linked};
use pabal_bank::command::{self, RECORD_BYTES_MAX};
use pabal_bank::ledger::entry::COMMAND_BYTES;
use pabal_bank::ledger::{Class, Command, Date, Id, Kind};
use pabal_core::{BankMachine, Query};
use pabal_engine::{Commands, Lane, Request, RequestHeader, Stepper};
use pabal_journal::Reader;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const WON: u16 = 410;
const CASH: u64 = 1;
const CUSTOMERS: [u64; 2] = [2, 3];
const START_MS: u64 = 1_800_000_000_000;
const DATE: Date = Date(20_000);
/// Ids that the bank remembers: more than a history sends.
const IDS: u32 = 512;
/// Bytes of a kept record whose entry has 32 of the 63 units that a block has for entries: no two share a block, and
/// no more room is asked for than is taken. So records get as long as their segments allow.
const HALF_BLOCK_BYTES: usize = 32 * 64 - COMMAND_BYTES;
/// Commands of a request at most.
const COMMANDS_MAX: usize = 6;

/// Sends requests to one bank through all its lives.
pub struct Sender {
    draw: Random,
    ids: u64,
    founding: Vec<Sent>,
    sent: Vec<Vec<Sent>>,
    last_hold: Id,
    last_position: u64,
}

impl Sender {
    /// Sends what follows from this number.
    pub fn new(seed: u64) -> Sender {
        let nothing = Id::default();
        let mut sender = Sender {
            draw: Random::new(seed),
            ids: 0,
            founding: Vec::new(),
            sent: Vec::new(),
            last_hold: nothing,
            last_position: 0,
        };
        let mut founding = vec![command::found(sender.id(), IDS, 7, pabal_bank::RULES_CURRENT, DATE)];
        founding.push(command::open(sender.id(), CASH, Class::Cash, WON, 0, i64::MAX));
        for number in CUSTOMERS {
            founding.push(command::open(sender.id(), number, Class::CustomerDeposit, WON, number, 0));
        }
        sender.founding = founding.into_iter().map(Sent::from).collect();
        sender
    }

    fn now_ms(&self) -> u64 {
        START_MS + self.ids
    }

    fn id(&mut self) -> Id {
        self.ids += 1;
        Id::new(self.now_ms(), 0, self.ids << 2)
    }

    fn money(&mut self) -> Command {
        let (id, customer) = (self.id(), CUSTOMERS[self.draw.index(2)]);
        let amount = 1 + self.draw.index(1000) as i64;
        let other = CUSTOMERS[0] + CUSTOMERS[1] - customer;
        match self.draw.index(9) {
            0..3 => command::post(id, Kind::CashDeposit, CASH, customer, amount, WON),
            3 => command::post(id, Kind::CashWithdrawal, customer, CASH, amount, WON),
            4 => command::post(id, Kind::Transfer, customer, other, amount, WON),
            5 => {
                self.last_hold = id;
                let expires_ms = self.draw.one_in(2).then(|| self.now_ms() + 20);
                command::hold(command::post(id, Kind::Transfer, customer, other, amount, WON), expires_ms)
            }
            6 => command::post_hold(id, self.last_hold, amount / 2, self.draw.one_in(2)),
            7 => command::void_hold(id, self.last_hold),
            _ => command::reverse(id, self.last_position, 0),
        }
    }

    /// Keeps a record: what makes the journal's records long.
    fn keep(&mut self, bytes: usize) -> Sent {
        let (id, key, byte) = (self.id(), self.draw.index(100) as u64, self.draw.index(255) as u8 + 1);
        let bytes = command::keep_record(id, 1, key, &vec![byte; bytes]).expect("not longer than may be");
        Sent::new(&bytes)
    }

    /// A request of one command to six, most of them with the room that they need in a segment of so many blocks.
    fn request(&mut self, segment_blocks: usize) -> Vec<Sent> {
        let mut request = Vec::new();
        let commands = 1 + self.draw.index(COMMANDS_MAX.min(segment_blocks - 2));
        let is_long = self.draw.one_in(2);
        if self.draw.one_in(16) {
            return vec![self.keep(RECORD_BYTES_MAX)];
        }
        while request.len() < commands {
            let left = commands - request.len();
            match self.draw.index(10) {
                0..9 if is_long => request.push(self.keep(HALF_BLOCK_BYTES)),
                0 => {
                    let bytes = 1 + self.draw.index(HALF_BLOCK_BYTES);
                    request.push(self.keep(bytes));
                }
                1..4 if left > 1 => {
                    let parts = 2 + self.draw.index(left - 1);
                    request.extend(linked((0..parts).map(|_| self.money().into()).collect()));
                }
                4 => request.push(command::expire_holds(self.id(), 2).into()),
                _ => request.push(self.money().into()),
            }
        }
        request
    }
}

/// What a bank does in a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Days {
    /// Whatever is drawn, until it stops in order or is ended.
    Many,
    /// One request that is made durable: what any recovery must leave possible.
    One,
}

/// A life.
pub struct Life {
    /// The disk on which it began.
    pub begin: Image,
    /// Each state of its disk since then.
    pub moments: Vec<Moment>,
    /// What was wrong already while it lasted.
    pub wrong: Vec<String>,
}

/// Lives on this disk, of which this much is known.
pub fn live(place: &Place, begin: Image, known: Arc<Known>, sender: &mut Sender, days: Days) -> Life {
    let disk = SimDisk::with(begin.clone(), 1);
    let watched = Watched::new(place.segment_blocks as u64, begin.clone(), known);
    let watched = Arc::new(Mutex::new(watched));
    let watch = watched.clone();
    disk.watch(move |image, access| lock(&watch).changed(image, Some(access)));
    let lived = Lived { place, disk: &disk, watched: &watched, sender }.run(days);
    let end = disk.image();
    let mut watched = lock(&watched);
    watched.changed(&end, None);
    let mut wrong = std::mem::take(&mut watched.wrong);
    match lived {
        Err(what) => wrong.push(what),
        Ok(End::Answered) if watched.unknown > 0 => {
            wrong.push(format!("{} requests were not answered", watched.unknown));
        }
        Ok(_) => {}
    }
    Life { begin, moments: std::mem::take(&mut watched.moments), wrong }
}

fn lock(watched: &Mutex<Watched>) -> MutexGuard<'_, Watched> {
    watched.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a life came to its end.
enum End {
    /// Whatever was sent must have been answered.
    Answered,
    /// It was ended whatever it was doing.
    Killed,
}

struct Lived<'l> {
    place: &'l Place,
    disk: &'l SimDisk,
    watched: &'l Mutex<Watched>,
    sender: &'l mut Sender,
}

impl Lived<'_> {
    fn run(&mut self, days: Days) -> Result<End, String> {
        let engine = self.place.engine(self.disk);
        let started = Stepper::start(&self.place.data, BankMachine::default(), engine, &mut |_| {});
        let (mut bank, found) = started.map_err(|error| format!("it does not start: {error}"))?;
        let known = lock(self.watched).known.records.len();
        if found.journal.records != known as u64 {
            return Err(format!(
                "it starts with {} records, {known} were found before",
                found.journal.records
            ));
        }
        lock(self.watched).durable = Some(bank.durable());
        bank.try_suspect().map_err(failed)?;
        let founding = self.sender.founding.clone();
        self.submit(&bank, founding);
        match days {
            Days::One => {
                let request = vec![self.sender.money().into()];
                self.submit(&bank, request);
                bank.execute().map_err(failed)?;
                while bank.write().map_err(failed)? {}
                Ok(End::Answered)
            }
            Days::Many => self.many(bank),
        }
    }

    fn submit(&mut self, bank: &Stepper<BankMachine>, request: Vec<Sent>) {
        lock(self.watched).sends(&request);
        let mut commands = Commands::new();
        request.iter().for_each(|sent| commands.push(sent.bytes()));
        let mut header = RequestHeader::new(Lane::Online, 1);
        header.time_ms = self.sender.now_ms();
        let ticket = bank.submit(Request { header, commands });
        lock(self.watched).asks(request, ticket);
    }

    fn many(&mut self, mut bank: Stepper<BankMachine>) -> Result<End, String> {
        let steps = 10 + self.sender.draw.index(10);
        for _ in 0..steps {
            match self.sender.draw.index(16) {
                0..7 => {
                    let request = self.sender.request(self.place.segment_blocks as usize);
                    self.sender.sent.push(request.clone());
                    self.submit(&bank, request);
                }
                // What was sent before, in this life or in an earlier one.
                7 if !self.sender.sent.is_empty() => {
                    let again = self.sender.draw.index(self.sender.sent.len());
                    let request = self.sender.sent[again].clone();
                    self.submit(&bank, request);
                }
                8 => {
                    let account = CUSTOMERS[self.sender.draw.index(2)];
                    let ticket = bank.query(Query::Account(account));
                    lock(self.watched).questions(ticket);
                }
                9..12 => bank.execute().map_err(failed)?,
                12 => drop(bank.make_segment()),
                _ => drop(bank.write().map_err(failed)?),
            }
            // A reversal names something of late.
            let known = lock(self.watched).known.clone();
            if let Some(record) = known.records.last() {
                self.sender.last_position = record.start_block * 64 + 4;
            }
        }
        self.read_beside()?;
        if self.sender.draw.one_in(3) {
            bank.stop().map_err(failed)?;
            return Ok(End::Answered);
        }
        drop(bank);
        Ok(End::Killed)
    }

    /// Reads beside the bank, which lives: the last record may not be durable, so all but that one are read.
    fn read_beside(&self) -> Result<(), String> {
        let written = lock(self.watched).known.records.len() as u64;
        let reader = Reader::open_on(Arc::new(self.disk.clone()), &self.place.folder());
        let found = reader.and_then(|reader| reader.scan(&mut |_| Ok(())));
        let found = found.map_err(|error| format!("it is not read while it lives: {error}"))?;
        match found.writer_lives && found.records == written.saturating_sub(1) && found.cut.is_none() {
            true => Ok(()),
            false => {
                Err(format!("of {written} records {} are read while it lives: {found:?}", found.records))
            }
        }
    }
}

fn failed(error: pabal_engine::Error) -> String {
    format!("it ends, though no access fails: {error}")
}
