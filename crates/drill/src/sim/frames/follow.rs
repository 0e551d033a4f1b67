//! One who follows the journal over frames: where it is cut it comes again, and goes on after the last record that it
//! has. It must have each record once, in their order, as the journal has it, and none that is not durable.

use super::super::judge::wrong;
use super::super::tap::Bench;
use super::{SharedNet, credential, reach};
use crate::random::Random;
use pabal_bank::ledger::Code;
use pabal_client::Error;
use pabal_client::follow::Record as Came;
use pabal_client::stepped::Following;
use pabal_core::Channel;
use pabal_journal::Record;
use zerocopy::IntoBytes;

/// See the module.
#[derive(Default)]
pub struct Followed {
    following: Option<Following>,
    /// Where it begins again.
    next: u64,
    /// The last record that it has, and its hash.
    last: (u64, Option<[u8; 32]>),
    /// Records that came.
    pub heard: u64,
}

impl Followed {
    /// Goes on. Gives what came, for the trace.
    pub fn step(&mut self, net: &SharedNet, bench: &Bench, random: &mut Random, is_quiet: bool) -> u64 {
        if self.following.is_none() {
            let Ok(end) = reach(net) else { return 0 };
            if self.next == 0 || random.one_in(20) {
                // It was killed, and has forgotten the last of what it had.
                self.next = 1 + random.below(self.last.0 + 1);
                self.last = (self.next - 1, None);
            }
            let credential = credential(Some(Channel::Reader));
            self.following = Some(Following::from(Box::new(end), credential, self.next));
        }
        let Some(following) = &mut self.following else { return 0 };
        let mut came = 0_u64;
        loop {
            match following.step() {
                Ok(Some(record)) => {
                    let (at, hash) = self.last;
                    self.last = judge(&record, at, hash, bench);
                    came = came.wrapping_mul(31) ^ record.sequence;
                    self.heard += 1;
                }
                Ok(None) => break,
                Err(Error::Broken(rule)) => wrong("server breaks the protocol", format!("following: {rule}")),
                // Too many are there.
                Err(Error::Refused(code)) if code != Code::Overloaded as u16 => {
                    wrong("refused without a reason", format!("code {code} to one who follows"));
                }
                Err(_) => return came ^ self.ends(),
            }
        }
        // It has waited long enough.
        if !is_quiet && random.one_in(150) { came ^ self.ends() } else { came }
    }

    /// Its connection is gone, or itself.
    pub fn ends(&mut self) -> u64 {
        if let Some(following) = self.following.take() {
            self.next = following.next_sequence();
        }
        self.next
    }

    /// It has lost all that it had, and comes again.
    pub fn forgets(&mut self) {
        self.ends();
        (self.next, self.last) = (1, (0, None));
    }

    /// The last record that it has.
    pub fn has(&self) -> u64 {
        self.last.0
    }
}

/// A record came after this one.
fn judge(came: &Came, at: u64, hash: Option<[u8; 32]>, bench: &Bench) -> (u64, Option<[u8; 32]>) {
    if came.sequence != at + 1 {
        wrong("followed out of order", format!("record {} after record {at}", came.sequence));
    }
    let mut words = vec![0_u64; came.blocks.len().div_ceil(8)];
    words.as_mut_bytes()[..came.blocks.len()].copy_from_slice(&came.blocks);
    let Some(record) = Record::checked(&words.as_bytes()[..came.blocks.len()]) else {
        wrong("followed what is no record", format!("as record {}", came.sequence));
    };
    if record.header.sequence != came.sequence || hash.is_some_and(|hash| record.header.previous_hash != hash)
    {
        wrong("followed another record", format!("{:?} as record {}", record.header, came.sequence));
    }
    bench.judge().hears_record(&record);
    (came.sequence, Some(record.hash))
}
