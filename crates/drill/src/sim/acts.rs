//! What clients ask of the bank: drawn at random, the hard cases on purpose. Amounts lie at the edges of what is
//! available, ids at the edges of the window, holds at the edges of their time.

use crate::book::{KRW, USD, WAYS};
use crate::model::Model;
use crate::random::Random;
use crate::sent::Sent;
use pabal_bank::command;
use pabal_bank::ledger::account::UNLIMITED;
use pabal_bank::ledger::{Class, Command, Date, Id, Kind, Op, Status};
use pabal_journal::UNITS;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Money that every bank begins with: ways, each with a thousand.
pub const FIRST_WAYS: [usize; 5] = [0, 0, 1, 10, 15];

/// The id of a job.
pub fn job_id(job: u64) -> Id {
    Id::new(1, 0, (job + 1) << 2)
}

/// Makes commands.
pub struct Maker {
    pub random: Random,
    /// Where the next record begins, if nothing else comes.
    pub next_block: u64,
    ids: u64,
    /// Ids of holds asked for, done or not.
    holds: Vec<Id>,
}

impl Maker {
    pub fn new(random: Random) -> Maker {
        Maker { random, next_block: 1, ids: 0, holds: Vec::new() }
    }

    /// An id of its own made at this time.
    pub fn id_at(&mut self, time_ms: u64) -> Id {
        self.ids += 1;
        Id::new(time_ms & ((1 << 48) - 1), (self.ids % 4096) as u16, self.ids << 2)
    }

    /// An id made now, or at an edge of what the bank takes.
    fn id(&mut self, now_ms: u64) -> Id {
        let day = DAY_MS as i64;
        let beside = match self.random.below(24) {
            0 => -self.random.between(0, 2000),
            1 => self.random.of(&[-day, -day - 1, -day - 600, -day + 1, -day + 600]),
            2 => self.random.of(&[1, 1000, 299_999, 300_000, 300_001]),
            _ => 0,
        };
        self.id_at(now_ms.saturating_add_signed(beside))
    }

    /// The posting of one of the ways that every bank begins with.
    pub fn first_money(&mut self, now_ms: u64, number: usize) -> Sent {
        let (kind, debit, credit) = WAYS[FIRST_WAYS[number]];
        let currency = if credit == 7 { USD } else { KRW };
        let id = self.id_at(now_ms);
        command::post(id, kind, debit, credit, 1000 + number as i64, currency).into()
    }

    /// A command.
    pub fn any(&mut self, model: &Model) -> Sent {
        if self.random.below(5) < 4 { self.money(model) } else { self.managing(model) }
    }

    /// A command that moves or reserves money; some with what the bank keeps and does not look at.
    pub fn money(&mut self, model: &Model) -> Sent {
        let sent = self.movement(model);
        if !self.random.one_in(4) {
            return sent;
        }
        let (bits, reference) = (self.random.bits(), self.random.bits());
        sent.with(|c| {
            c.reference[..8].copy_from_slice(&reference.to_le_bytes());
            (c.nominal_date, c.value_date) = (Date(bits as u16), Date((bits >> 16) as u16));
        })
    }

    fn movement(&mut self, model: &Model) -> Sent {
        let id = self.id(model.now_ms);
        match self.random.weighted(&[8, 1, 5, 5, 2, 3]) {
            0 => {
                let way = self.random.of(&WAYS);
                let amount = self.amount(model, way.1, way.2);
                let currency = self.currency(way.1);
                command::post(id, way.0, way.1, way.2, amount, currency).into()
            }
            1 => {
                let kind = self.random.of(Kind::ALL);
                let (debit, credit) = (self.random.below(14), self.random.below(14));
                let amount = self.amount(model, debit, credit);
                command::post(id, kind, debit, credit, amount, KRW).into()
            }
            2 => self.hold(model, id),
            3 => {
                let hold = self.some_hold(model);
                let left = model.holds.get(&hold).map_or(10, |hold| hold.remaining);
                let part = left / 4 * self.random.between(0, 4) + self.random.of(&[0, 0, 0, 0, 1, -1]);
                command::post_hold(id, hold, part, self.random.one_in(2)).into()
            }
            4 => command::void_hold(id, self.some_hold(model)).into(),
            _ => self.reverse(model, id),
        }
    }

    fn currency(&mut self, debit: u64) -> u16 {
        let right = if debit == 7 || debit == 8 { USD } else { KRW };
        if self.random.one_in(20) { USD } else { right }
    }

    fn amount(&mut self, model: &Model, debit: u64, credit: u64) -> i64 {
        let fit = |n: i128| n.clamp(i64::MIN as i128, i64::MAX as i128) as i64;
        match self.random.weighted(&[16, 6, 2, 2]) {
            0 => self.random.between(1, 300),
            1 if model.accounts.contains_key(&debit) => {
                fit(model.available(debit) + self.random.between(-1, 1) as i128)
            }
            2 if model.accounts.contains_key(&credit) => {
                let room = model.accounts[&credit].ceiling as i128 - model.balance(credit);
                fit(room + self.random.between(-1, 1) as i128)
            }
            _ => self.random.of(&[0, -1, i64::MIN, i64::MAX, i64::MAX - 1, i64::MAX / 2, i64::MAX / 2 + 1]),
        }
    }

    fn hold(&mut self, model: &Model, id: Id) -> Sent {
        let way = self.random.of(&WAYS);
        let amount = self.amount(model, way.1, way.2);
        let currency = self.currency(way.1);
        let far = 400 * DAY_MS as i64;
        let ends = match self.random.weighted(&[3, 5, 2, 1]) {
            0 => None,
            1 => Some(self.random.between(1, 2000)),
            2 => Some(self.random.between(1, 3 * DAY_MS as i64)),
            _ => Some(self.random.of(&[-1, 0, 1, far, far + 1])),
        };
        let ends = ends.map(|after| model.now_ms.saturating_add_signed(after));
        self.holds.push(id);
        let hold = command::hold(command::post(id, way.0, way.1, way.2, amount, currency), ends);
        let both = self.random.one_in(25);
        Sent::from(hold).with(|c| {
            if both {
                c.header.flags |= pabal_bank::ledger::entry::flags::BACKED;
            }
        })
    }

    /// A hold asked for lately, or one whose time is nearest to now.
    fn some_hold(&mut self, model: &Model) -> Id {
        let ends = |hold: &&Id| model.holds[*hold].expires_ms.abs_diff(model.now_ms);
        if self.random.one_in(3)
            && let Some(hold) = model.holds.keys().min_by_key(ends)
        {
            return *hold;
        }
        let back = self.random.below(6) as usize;
        let last = self.holds.len().checked_sub(back + 1);
        last.map_or(job_id(9), |at| self.holds[at])
    }

    fn reverse(&mut self, model: &Model, id: Id) -> Sent {
        if self.random.one_in(6) {
            // What is posted in the same record, before this.
            let unit = 4 + 3 * self.random.below(8);
            let position = (self.next_block + self.random.below(2)) * UNITS as u64 + unit;
            return command::reverse(id, position, self.random.of(&[0, 1])).into();
        }
        let back = self.random.below(6) as usize;
        let booked = model.booked.len().checked_sub(back + 1).map(|at| &model.booked[at]);
        let beside = if self.random.one_in(12) { self.random.below(40) } else { 0 };
        let position = booked.map_or(0, |b| b.position) + beside;
        let open = booked.map_or(1, |b| b.amount as i128 - model.reversed(b.position)) as i64;
        let amount = match self.random.below(10) {
            0..6 => open / 4 * self.random.between(0, 4),
            6 => open.saturating_add(1),
            7 => -1,
            8 => i64::MAX,
            _ => 1,
        };
        command::reverse(id, position, amount).into()
    }

    fn managing(&mut self, model: &Model) -> Sent {
        let id = self.id(model.now_ms);
        match self.random.weighted(&[4, 2, 5, 3, 2, 2, 4, 2, 1]) {
            0 => {
                let n = self.random.of(&[1, 1, 2, 3, 8, 0, 1001, -1]);
                command::expire_holds(id, n).into()
            }
            1 => {
                let (number, class) = (1 + self.random.below(15), self.random.of(Class::ALL));
                let (overdraft, ceiling) = (self.limit(), self.limit());
                let open = command::open(id, number, class, KRW, 0, overdraft);
                command::with_ceiling(open, ceiling).into()
            }
            2 => self.change(model, id),
            3 => command::close(id, self.random.below(15)).into(),
            4 => {
                let days = self.random.of(&[-1, 0, 1, 1, 1, 2, 399, 400, 401]);
                let date = (model.date as i32 + days).clamp(0, u16::MAX as i32);
                command::advance_date(id, Date(date as u16)).into()
            }
            5 => command::activate_rules(id, self.random.below(5) as u32).into(),
            6 => {
                let length = self.random.of(&[0, 1, 60, 200, 1000, command::RECORD_BYTES_MAX]);
                let (kind, key) = (self.random.below(2) as u16, self.random.below(12));
                let bytes = command::keep_record(id, kind, key, &vec![0xab; length]);
                Sent::new(&bytes.expect("short enough"))
            }
            7 => command::end_job(id, job_id(self.random.below(3))).into(),
            _ => command::found(id, 5, 5, 1, Date(20_833)).into(),
        }
    }

    fn limit(&mut self) -> i64 {
        match self.random.below(6) {
            0 => self.random.of(&[UNLIMITED, UNLIMITED - 1, -1, 0]),
            _ => self.random.between(0, 500),
        }
    }

    fn change(&mut self, model: &Model, id: Id) -> Sent {
        // One of those that a hold waits for, or any.
        let hold = self.some_hold(model);
        let number = match model.holds.get(&hold) {
            Some(hold) if self.random.one_in(3) => self.random.of(&[hold.debit, hold.credit]),
            _ => 1 + self.random.below(14),
        };
        let used = |n: i128| n.clamp(i64::MIN as i128 / 2, i64::MAX as i128 / 2) as i64;
        let known = model.accounts.contains_key(&number);
        // At the edge of what is used of it, or anything.
        let edge = known && self.random.one_in(2);
        let beside = self.random.between(-1, 2);
        let overdraft = match edge {
            true => used(-model.free(number)).saturating_add(beside),
            false => self.limit(),
        };
        let ceiling = match edge {
            true => used(model.balance(number)).saturating_add(beside),
            false => self.limit(),
        };
        // Blocks seldom: what is blocked for ever moves nothing more.
        let status = match self.random.below(4) {
            0 => Some(Status(self.random.below(8) as u8)),
            1 | 2 => Some(Status(0)),
            _ => None,
        };
        let overdraft = self.random.one_in(2).then_some(overdraft);
        let ceiling = self.random.one_in(2).then_some(ceiling);
        command::change(id, number, overdraft, ceiling, status).into()
    }

    /// The same with something in it that no command may have; its length stays as it says.
    pub fn broken(&mut self, sent: &Sent) -> Sent {
        let how = self.random.below(6);
        sent.with(|c| match how {
            0 => c.header.version = 2,
            1 => c.header.code = 1,
            2 => c.header.entry_units = 3,
            3 => c.header.op = Op::HoldReleased as u16,
            4 => c.header.op = 15,
            _ => c.id.high &= !0xf000,
        })
    }

    /// The same id with another body.
    pub fn other_body(&mut self, sent: &Sent) -> Sent {
        // Of a record to keep, the amount is its length: with another it would be no command.
        let long = sent.command().header.op == Op::KeepRecord as u16;
        let mut bytes = sent.bytes().to_vec();
        if let Some(byte) = bytes.get_mut(size_of::<Command>())
            && self.random.one_in(2)
        {
            *byte ^= 1;
            return Sent::new(&bytes);
        }
        let which = if long { self.random.between(2, 3) as u64 } else { self.random.below(4) };
        sent.with(|c: &mut Command| match which {
            0 => c.amount = c.amount.wrapping_add(1),
            1 => c.credit = c.credit.wrapping_add(1),
            2 => c.kind ^= 1,
            _ => c.reference[15] ^= 1,
        })
    }
}
