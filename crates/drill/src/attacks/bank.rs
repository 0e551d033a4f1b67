//! A bank to attack: a small one on a simulated disk, and all that it has acknowledged.

use crate::disk::SimDisk;
use crate::disk::image::Loss;
use crate::sent::Sent;
use pabal_bank::ledger::{Class, Code, Command, Date, Id, Kind, Posting};
use pabal_bank::{RULES_CURRENT, Reply, command};
use pabal_core::BankMachine;
use pabal_engine::engine::JOURNAL;
use pabal_engine::{
    Commands, EngineConfig, Error, Lane, Request, RequestHeader, Response, Stepper, TimeSource, Unknown,
};
use pabal_journal::{JournalConfig, Position, Reader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zerocopy::FromBytes;

/// The data folder.
pub const DATA: &str = "/bank";
/// Blocks of a segment.
pub const SEGMENT_BLOCKS: u64 = 16;
pub const CASH: u64 = 1;
pub const CUSTOMER: u64 = 2;
const WON: u16 = 410;
const START_MS: u64 = 1_800_000_000_000;
/// Ids that the bank remembers: more than any attack sends.
const IDS: u32 = 8192;

/// A bank, and what it has said.
pub struct BankBed {
    pub disk: SimDisk,
    /// The time that requests carry, milliseconds since 1970.
    pub now_ms: u64,
    ids: u64,
    /// What was decided, and acknowledged.
    acknowledged: Vec<(Sent, Reply)>,
    /// The same of jobs, whose ids are not kept: where the entries stand.
    of_jobs: Vec<(Sent, Reply)>,
}

/// The file of a segment of the bank's journal.
pub fn segment(number: u64) -> PathBuf {
    Path::new(DATA).join(JOURNAL).join(format!("{number:012}.seg"))
}

/// The folder of its journal.
pub fn folder() -> PathBuf {
    Path::new(DATA).join(JOURNAL)
}

/// How the bank is run on this disk.
pub fn config(disk: &SimDisk) -> EngineConfig {
    let segment_blocks = SEGMENT_BLOCKS as u32;
    let journal =
        JournalConfig { segment_blocks, direct: true, disk: Arc::new(disk.clone()), background: false };
    EngineConfig { journal, journal_id: 7, time: TimeSource::Carried }
}

/// Starts the bank of this disk. What stopped the one before it is still to be tried.
pub fn start(disk: &SimDisk) -> Result<Stepper<BankMachine>, Error> {
    Stepper::start(Path::new(DATA), BankMachine::default(), config(disk), &mut |_| {}).map(|(bank, _)| bank)
}

/// Lets core and writer work until this is answered.
pub fn answer<T>(
    bank: &mut Stepper<BankMachine>,
    ticket: &pabal_engine::Ticket<T>,
) -> Result<Result<T, Unknown>, Error> {
    loop {
        if let Some(answer) = ticket.take() {
            return Ok(answer);
        }
        bank.execute()?;
        while bank.write()? {}
    }
}

/// A request of these commands.
pub fn request(header: RequestHeader, sent: &[Sent]) -> Request {
    let mut commands = Commands::new();
    sent.iter().for_each(|sent| commands.push(sent.bytes()));
    Request { header, commands }
}

impl BankBed {
    /// A bank that was just founded, and the running bank.
    pub fn founded() -> (BankBed, Stepper<BankMachine>) {
        let mut bed = BankBed {
            disk: SimDisk::new(1),
            now_ms: START_MS,
            ids: 0,
            acknowledged: Vec::new(),
            of_jobs: Vec::new(),
        };
        let mut bank = start(&bed.disk).expect("made");
        let founding = bed.founding();
        let replies = bed.ask(&mut bank, &founding).expect("it runs");
        assert!(replies.iter().all(|reply| reply.code == Code::Done), "{replies:?}");
        (bed, bank)
    }

    /// With no bank on this disk yet.
    pub fn on(disk: SimDisk) -> BankBed {
        BankBed { disk, now_ms: START_MS, ids: 0, acknowledged: Vec::new(), of_jobs: Vec::new() }
    }

    /// The first commands of a bank.
    pub fn founding(&mut self) -> Vec<Sent> {
        let found = command::found(self.id(), IDS, 7, RULES_CURRENT, Date(20_000));
        let cash = command::open(self.id(), CASH, Class::Cash, WON, 0, i64::MAX);
        let customer = command::open(self.id(), CUSTOMER, Class::CustomerDeposit, WON, 1, 0);
        [found, cash, customer].map(Sent::from).to_vec()
    }

    pub fn id(&mut self) -> Id {
        self.ids += 1;
        Id::new(self.now_ms, 0, self.ids << 2)
    }

    fn paid_in(&mut self) -> Command {
        let amount = 1000 + self.ids as i64;
        command::post(self.id(), Kind::CashDeposit, CASH, CUSTOMER, amount, WON)
    }

    /// Cash that is paid in.
    pub fn deposit(&mut self) -> Sent {
        self.paid_in().into()
    }

    /// A reservation that ends after so many milliseconds.
    pub fn hold(&mut self, after_ms: u64) -> Sent {
        command::hold(self.paid_in(), Some(self.now_ms + after_ms)).into()
    }

    /// A reversal of what stands at this position.
    pub fn reversal(&mut self, position: u64) -> Sent {
        command::reverse(self.id(), position, 0).into()
    }

    /// The release of holds whose time has passed, so many at most.
    pub fn expiry(&mut self, most: i64) -> Sent {
        command::expire_holds(self.id(), most).into()
    }

    /// The header of an online request.
    pub fn online(&self) -> RequestHeader {
        RequestHeader { time_ms: self.now_ms, ..RequestHeader::new(Lane::Online, 1) }
    }

    /// The header of an item of a job.
    pub fn bulk(&self, job: u64, item: u64) -> RequestHeader {
        let attempt = [0x7000, job | 1 << 63];
        RequestHeader { time_ms: self.now_ms, attempt, item, ..RequestHeader::new(Lane::Bulk, 4) }
    }

    /// Sends this and hears what came of it.
    pub fn ask(&mut self, bank: &mut Stepper<BankMachine>, sent: &[Sent]) -> Result<Vec<Reply>, Error> {
        let ticket = bank.submit(request(self.online(), sent));
        let response = answer(bank, &ticket)?.expect("a bank that runs answers");
        self.heard(sent, &response);
        Ok(response.replies)
    }

    /// This was answered.
    pub fn heard(&mut self, sent: &[Sent], response: &Response<Reply>) {
        assert_eq!(sent.len(), response.replies.len());
        for (sent, reply) in sent.iter().zip(&response.replies) {
            if !reply.again && reply.code.uses_id() {
                self.acknowledged.push((sent.clone(), *reply));
            }
        }
    }

    /// This was answered to items of a job.
    pub fn heard_of_job(&mut self, sent: &[Sent], response: &Response<Reply>) {
        assert_eq!(sent.len(), response.replies.len());
        let decided = sent.iter().cloned().zip(response.replies.iter().copied());
        self.of_jobs.extend(decided.filter(|(_, reply)| reply.code == Code::Done));
    }

    /// Sends this and hears that it was done.
    pub fn does(&mut self, bank: &mut Stepper<BankMachine>, sent: &[Sent]) -> Vec<Reply> {
        let replies = self.ask(bank, sent).expect("it runs");
        assert!(replies.iter().all(|reply| reply.code == Code::Done && !reply.again), "{replies:?}");
        replies
    }

    /// Pays in, a record each, until the next one begins at this block of a segment or after it. Gives what was heard
    /// of the last.
    pub fn fill(&mut self, bank: &mut Stepper<BankMachine>, within: u64) -> Reply {
        loop {
            let sent = self.deposit();
            let reply = self.does(bank, &[sent])[0];
            if bank.durable().next_block() % SEGMENT_BLOCKS >= within {
                return reply;
            }
        }
    }

    /// Nothing that was acknowledged is missing, neither after the process is gone nor after a loss of power: all of
    /// it, sent once more, was decided before and as it was.
    pub fn is_whole(&self) {
        self.disk.disarm();
        self.disk.set_free(None);
        for (draw, loss) in [(0, Loss::Process), (1, Loss::Power), (2, Loss::Power)] {
            let disk = SimDisk::with(self.disk.image(), draw);
            disk.crash(loss);
            let mut bank = start(&disk).unwrap_or_else(|error| panic!("{loss:?}: {error}"));
            for (sent, first) in &self.acknowledged {
                let ticket = bank.submit(request(self.online(), std::slice::from_ref(sent)));
                let response = answer(&mut bank, &ticket).expect("nothing fails").expect("answered");
                let again = Reply { again: true, ..*first };
                assert_eq!(response.replies, [again], "{loss:?}: {sent:?} was acknowledged");
            }
            let reader = Reader::open_on(Arc::new(disk.clone()), &folder()).expect("a reader");
            for (sent, reply) in &self.of_jobs {
                let entry = reader.entry(Position(reply.position)).expect("an entry that was acknowledged");
                let posting = Posting::read_from_bytes(&entry).expect("as long as a posting");
                let said = Reply::of(&posting, reply.position);
                assert_eq!((posting.command.id, said), (sent.command().id, *reply), "{loss:?}");
            }
        }
    }
}
