//! Lives of a bank, drawn from a seed: what its customers ask, one request after the other, with nothing going wrong.
//!
//! For comparing two banks that should be one: both are sent the same, and hear the same. The model goes along only so
//! that what is asked lies at the edges of what the bank has: amounts at what is available, ids at the window's ends,
//! holds at their time. Beside what the simulator's clients ask there is what a bank must remember for long: requests of
//! any age sent once more, reversals of any posting ever made, floods that fill the id window, and accounts whose
//! histories are so long that their older roots are kept aside.

use crate::book::{ACCOUNTS, WAYS};
use crate::disk::SimDisk;
use crate::model::Model;
use crate::random::Random;
use crate::sent::{Sent, linked};
use crate::sim::acts::{FIRST_WAYS, Maker, job_id};
use pabal_bank::ledger::{Code, Date, Id};
use pabal_bank::{Bank, Reply, command};
use pabal_core::BankMachine;
use pabal_core::machine::context;
use pabal_engine::engine::JOURNAL;
use pabal_engine::{
    Commands, EngineConfig, Lane, Recovery, Request, RequestHeader, Response, Stepper, TimeSource,
};
use pabal_journal::JournalConfig;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The data folder.
pub const DATA: &str = "/bank";
/// Blocks of a segment.
const SEGMENT_BLOCKS: u32 = 64;
const START_MS: u64 = 1_800_000_000_000;
/// Postings of one account after which it has more roots than are kept in it: 1 + 3 + … + 1023.
const LONG: usize = 2036;
/// Postings of one request of a long history.
const TOGETHER: usize = 120;

/// Postings of a flood: more than one piece of the window's lists.
const FLOOD: usize = 300;

/// A request: who asks, and what.
pub type Asked = (RequestHeader, Vec<Sent>);

/// A life.
pub struct Life {
    /// What the bank should be.
    pub model: Model,
    random: Random,
    maker: Maker,
    now_ms: u64,
    sent: Vec<Asked>,
}

/// The folder of the journal.
pub fn journal() -> PathBuf {
    Path::new(DATA).join(JOURNAL)
}

/// Starts the bank of this disk, by a program that knows rules up to this version.
pub fn start(disk: &SimDisk, rules: u32) -> (Stepper<BankMachine>, Recovery) {
    let journal = JournalConfig {
        segment_blocks: SEGMENT_BLOCKS,
        direct: true,
        disk: Arc::new(disk.clone()),
        background: false,
    };
    let config = EngineConfig { journal, journal_id: 7, time: TimeSource::Carried };
    let machine = BankMachine(Bank::knowing(rules));
    Stepper::start(Path::new(DATA), machine, config, &mut |_| {})
        .expect("a bank that nothing happens to opens")
}

/// Asks the bank this, and hears its answer.
pub fn ask(bank: &mut Stepper<BankMachine>, asked: &Asked) -> Response<Reply> {
    let mut commands = Commands::new();
    asked.1.iter().for_each(|sent| commands.push(sent.bytes()));
    let ticket = bank.submit(Request { header: asked.0, commands });
    loop {
        if let Some(answer) = ticket.take() {
            return answer.expect("a bank that nothing happens to answers");
        }
        bank.execute().expect("it executes");
        while bank.write().expect("it writes") {}
    }
}

impl Life {
    /// Of this seed.
    pub fn new(seed: u64) -> Life {
        let mut random = Random::new(seed);
        let maker = Maker::new(Random::new(random.bits()));
        Life { model: Model::new(), random, maker, now_ms: START_MS, sent: Vec::new() }
    }

    /// 0 to n - 1.
    pub fn below(&mut self, n: u64) -> u64 {
        self.random.below(n)
    }

    /// What a bank is founded with: its accounts, and money in some of them. Some begin with a long history.
    pub fn founding(&mut self) -> Vec<Asked> {
        let capacity = self.random.of(&[8, 20, 30, 300, 10_000]);
        let rules = 1 + self.random.below(pabal_bank::RULES_CURRENT as u64) as u32;
        let id = self.maker.id_at(self.now_ms);
        let found = command::found(id, capacity, 99, rules, Date(20_833));
        let mut first = Vec::new();
        for (number, class, currency, overdraft, ceiling) in ACCOUNTS {
            let id = self.maker.id_at(self.now_ms);
            let open = command::open(id, number, class, currency, number * 10, overdraft);
            first.push(command::with_ceiling(open, ceiling).into());
        }
        first.extend((0..FIRST_WAYS.len()).map(|i| self.maker.first_money(self.now_ms, i)));
        let (mut item, mut asked) = (0, vec![(self.online(1), vec![found.into()])]);
        let long = if self.random.one_in(3) { LONG } else { 0 };
        let (kind, debit, credit) = WAYS[0];
        first.extend((0..long).map(|_| {
            let id = self.maker.id_at(self.now_ms);
            Sent::from(command::post(id, kind, debit, credit, 1, crate::book::KRW))
        }));
        // By a job of their own: the window is for what follows.
        for together in first.chunks(TOGETHER) {
            let mut header = self.header(Lane::Bulk, 4);
            let job = Id::new(0, 0, 4);
            (header.attempt, header.item) = ([job.high, job.low], item);
            item += together.len() as u64;
            asked.push((header, together.to_vec()));
        }
        asked
    }

    fn header(&self, lane: Lane, class: u8) -> RequestHeader {
        RequestHeader { time_ms: self.now_ms, ..RequestHeader::new(lane, class) }
    }

    fn online(&self, class: u8) -> RequestHeader {
        self.header(Lane::Online, class)
    }

    /// The next request.
    pub fn next_request(&mut self) -> Asked {
        if self.random.one_in(4) {
            const DAY_MS: u64 = 24 * 60 * 60 * 1000;
            self.now_ms += self.random.of(&[1, 511, 512, 1500, 60_000, 3_600_000, DAY_MS, DAY_MS + 513]);
        }
        let class = self.random.below(5) as u8;
        match self.random.weighted(&[12, 4, 4, 3, 2, 1]) {
            0 => {
                let n = self.random.of(&[1, 1, 2, 4]);
                let commands = (0..n).map(|_| self.maker.any(&self.model)).collect();
                (self.online(class), commands)
            }
            1 => {
                let n = self.random.of(&[2, 3, 5]);
                let parts = (0..n).map(|_| self.maker.money(&self.model)).collect();
                (self.online(class), linked(parts))
            }
            2 => {
                let job = job_id(self.random.below(3));
                let item = self.model.jobs.get(&job).map_or(0, |(next, _)| *next);
                let mut header = self.header(Lane::Bulk, 4);
                (header.attempt, header.item) = ([job.high, job.low], item);
                (header, vec![self.maker.any(&self.model)])
            }
            // Of any age.
            3 if !self.sent.is_empty() => {
                let (header, commands) = self.sent[self.random.index(self.sent.len())].clone();
                (RequestHeader { time_ms: self.now_ms, ..header }, commands)
            }
            4 if !self.model.booked.is_empty() => {
                let booked = &self.model.booked[self.random.index(self.model.booked.len())];
                let (position, amount) = (booked.position, self.random.of(&[0, 1, booked.amount / 2]));
                let id = self.maker.id_at(self.now_ms);
                (self.online(class), vec![command::reverse(id, position, amount).into()])
            }
            _ => {
                let n = self.random.of(&[5, 40, FLOOD]);
                let commands = (0..n).map(|_| self.maker.money(&self.model)).collect();
                (self.online(class), commands)
            }
        }
    }

    /// This was asked and answered.
    pub fn heard(&mut self, asked: &Asked, said: &Response<Reply>, bank: &Stepper<BankMachine>) {
        self.model.now_ms = bank.machine().0.moment().time_ms;
        self.maker.next_block = bank.durable().next_block();
        self.sent.push(asked.clone());
        if said.replies.iter().all(|reply| reply.code == Code::Malformed) {
            // It may take more room than a record has: the bank was never asked.
            return;
        }
        let mut its = context(&asked.0);
        let mut at = 0;
        while at < asked.1.len() {
            let more = asked.1[at..].iter().take_while(|sent| sent.is_linked()).count();
            let end = (at + more + 1).min(asked.1.len());
            let position = |part: usize| said.replies[at + part].position;
            let should = self.model.send(&its, &asked.1[at..end], false, false, &mut |part| position(part));
            let codes = |replies: &[Reply]| replies.iter().map(|reply| reply.code).collect::<Vec<_>>();
            assert_eq!(codes(&should), codes(&said.replies[at..end]), "{:?}", &asked.1[at..end]);
            its.item += (end - at) as u64;
            at = end;
        }
    }

    /// Asks the bank so many requests.
    pub fn live(&mut self, bank: &mut Stepper<BankMachine>, requests: usize) {
        for _ in 0..requests {
            let asked = self.next_request();
            let said = ask(bank, &asked);
            self.heard(&asked, &said, bank);
        }
    }
}
