//! A bank and the model of it, side by side: every answer and the whole state are compared after every sending.

use crate::sink::{Replay, Teller};
use pabal_bank::ledger::account::UNLIMITED;
use pabal_bank::ledger::{Digest, Op, Status};
use pabal_bank::{Context, Reply};
use pabal_drill::model::Model;
use pabal_drill::sent::Sent;
use std::collections::BTreeMap;

/// Units of an entry that nothing follows; where a command is longer, its entry is.
const ENTRY_UNITS_MIN: u64 = 3;

/// A bank and the model of it, kept side by side.
pub struct Pair {
    pub teller: Teller,
    pub model: Model,
    /// Everything sent so far, how, whether it was broken on purpose, and what was answered.
    pub sent: Vec<(Context, Vec<Sent>, bool, Vec<Reply>)>,
}

impl Pair {
    pub fn new() -> Pair {
        Pair { teller: Teller::new(), model: Model::new(), sent: Vec::new() }
    }

    pub fn send(
        &mut self,
        context: &Context,
        sent: &[Sent],
        quarantined: bool,
        malformed: bool,
    ) -> Vec<Reply> {
        self.model.now_ms = self.teller.now_ms;
        let before = self.teller.journal.next();
        // Nothing stands between the entries of a journal in memory, so where each will stand is known before.
        let mut end = before;
        let released = self.model.released;
        let expected = self.model.send(context, sent, quarantined, malformed, &mut |part| {
            let units = (sent[part].bytes().len() as u64).div_ceil(64).max(ENTRY_UNITS_MIN);
            end += units;
            end - units
        });
        // The holds that a command released stand behind it; such a command comes alone.
        end += (self.model.released - released) * ENTRY_UNITS_MIN;
        // `job_not_open` is final as an outcome, but leaves nothing when the door itself gives it.
        let let_in = self.teller.bank.admit(context).is_ok();
        let replies = self.teller.send_as(context, sent, quarantined);
        assert_eq!(replies, expected, "sent {context:?} {sent:#?}");
        assert_eq!(self.teller.journal.next(), end, "length of the journal after {sent:#?}");
        let decided = let_in && replies.iter().any(|r| r.code.uses_id() && !r.again);
        assert_eq!(decided, self.teller.journal.next() > before, "an entry stands for what was decided only");
        self.compare_entries(context, sent, before, &replies);
        self.sent.push((*context, sent.to_vec(), malformed, replies.clone()));
        self.compare();
        replies
    }

    /// The entries from this position on, and the positions that were answered, against what the model remembers.
    fn compare_entries(&self, context: &Context, sent: &[Sent], from: u64, replies: &[Reply]) {
        for (at, entry) in self.teller.journal.entries(from) {
            let found = self.teller.journal.posting(at).expect("an entry is as long as a posting");
            if found.command.header.op == Op::HoldReleased as u16 {
                assert!(self.model.first(at).is_none(), "nobody sent what stands at {at}");
                continue;
            }
            let (first, code, balances) = self.model.first(at).expect("each entry was decided");
            let length = pabal_bank::command::length(entry).expect("an entry begins with its command");
            let asked = Sent::new(&entry[..length]).with(|c| (c.header.entry_units, c.header.code) = (0, 0));
            assert_eq!(*first, asked, "the command at {at}");
            let answer = Reply::of(&found, at);
            assert_eq!((code, balances), (answer.code, (answer.debit_balance, answer.credit_balance)));
        }
        for (reply, sent) in replies.iter().zip(sent).filter(|_| context.job.is_none()) {
            let is_known = reply.again || reply.position >= from;
            if is_known {
                assert_eq!(self.model.position_of(sent.command().id), Some(reply.position), "{sent:?}");
            }
        }
        let entries = self.teller.journal.entries(1).count() as u64;
        assert_eq!(self.model.decided + self.model.released, entries, "entries in the journal");
    }

    /// The whole state against the model's, and the invariants.
    fn compare(&self) {
        let (model, bank) = (&self.model, &self.teller.bank);
        let (ledger, moment) = (bank.ledger(), bank.moment());
        assert_eq!(ledger.accounts().len(), model.accounts.len());
        let mut sums: BTreeMap<u16, i128> = BTreeMap::new();
        for (&number, expected) in &model.accounts {
            let found = ledger.account(number).expect("an account that was opened");
            assert_eq!(found.balance as i128, model.balance(number), "balance of {number}");
            assert_eq!(found.held as i128, model.held(number), "held of {number}");
            let holds = model.holds.values().filter(|h| h.debit == number).count();
            assert_eq!(found.holds as usize, holds, "number of holds of {number}");
            let available = model.available(number).clamp(i64::MIN as i128, i64::MAX as i128);
            assert_eq!(ledger.available(found, &moment) as i128, available, "available of {number}");
            let status = found.status;
            assert_eq!(status.has(Status::CLOSED), expected.closed);
            assert_eq!(status.has(Status::DEBIT_BLOCKED), expected.debit_blocked);
            assert_eq!(status.has(Status::CREDIT_BLOCKED), expected.credit_blocked);
            assert_eq!((found.overdraft, found.ceiling), (expected.overdraft, expected.ceiling));
            assert_eq!(found.head(), model.head(number), "newest posting of {number}");
            assert!(expected.overdraft == UNLIMITED || available >= 0, "{number} is below its limit");
            assert!(found.balance <= found.ceiling, "{number} is above its greatest balance");
            *sums.entry(found.currency).or_default() += found.balance as i128;
        }
        assert!(sums.values().all(|sum| *sum == 0), "debits equal credits: {sums:?}");
        assert_eq!(ledger.holds().len(), model.holds.len(), "open holds");
        for (id, hold) in ledger.holds().iter() {
            let expected = &model.holds[id];
            let found = (hold.debit, hold.credit, hold.remaining, hold.expires_ms, hold.position);
            let wanted =
                (expected.debit, expected.credit, expected.remaining, expected.expires_ms, expected.position);
            assert_eq!(found, wanted, "hold {id}");
            assert_eq!((hold.currency, hold.kind), (expected.currency, expected.kind), "hold {id}");
        }
        for booked in model.booked.iter().filter(|b| b.date as u32 + 400 >= model.date as u32) {
            let reversed = ledger.reversed().amount(booked.position) as i128;
            assert_eq!(reversed, model.reversed(booked.position), "reversed of {}", booked.position);
        }
        assert_eq!(bank.ids() as usize, model.window.len(), "ids in the window");
        assert_eq!((moment.date.0, moment.rules), (model.date, model.rules));
        assert!(bank.records().map(|(kind, key, at)| ((kind, key), at)).eq(model.records.clone()));
        assert!(bank.jobs().map(|(id, next, ended)| (id, (next, ended))).eq(model.jobs.clone()));
    }

    /// The digest that is kept against the one worked out anew: the ledger's from its objects, the rest
    /// from the model's.
    pub fn check_digest(&mut self) -> Digest {
        self.teller.bank.begin(self.teller.now_ms);
        self.model.now_ms = self.teller.now_ms;
        let kept = self.teller.bank.digest();
        let anew = self.teller.bank.ledger().digest_anew().plus(self.model.digest_above_ledger());
        assert_eq!(kept, anew, "the digest kept is not the one worked out anew");
        kept
    }

    /// Everything sent so far twice more: what was decided before and is known still must be answered as
    /// the first time and change nothing.
    pub fn send_all_again(&mut self) {
        let sent = std::mem::take(&mut self.sent);
        let online = || sent.iter().filter(|(context, ..)| context.job.is_none());
        for (context, commands, malformed, _) in online() {
            self.send(context, commands, false, *malformed);
        }
        for (context, commands, malformed, _) in online() {
            let (digest, length) = (self.check_digest(), self.teller.journal.next());
            let replies = self.send(context, commands, false, *malformed);
            if replies.iter().all(|r| r.again) {
                assert_eq!(self.teller.journal.next(), length);
                assert_eq!(self.check_digest(), digest, "a repeated command changed something");
            }
        }
    }

    pub fn check_replays(&mut self) {
        for how in [Replay::Decide, Replay::Fold, Replay::Knowing(2)] {
            self.teller.check_replay(how);
        }
    }
}
