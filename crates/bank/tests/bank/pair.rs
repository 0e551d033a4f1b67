//! A bank and the model of it, side by side: every answer and the whole state are compared after every sending.

use crate::sink::{Replay, Teller};
use pabal_bank::ledger::{Digest, Op};
use pabal_bank::{Context, RULES_CURRENT, Reply};
use pabal_drill::model::{Model, check_digest, compare};
use pabal_drill::sent::Sent;

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
        compare(&self.teller.bank, &self.model);
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

    /// The digest that is kept against the one worked out anew: the ledger's from its objects, the rest
    /// from the model's.
    pub fn check_digest(&mut self) -> Digest {
        self.teller.bank.begin(self.teller.now_ms);
        self.model.now_ms = self.teller.now_ms;
        check_digest(&mut self.teller.bank, &self.model)
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
        for how in [Replay::Decide, Replay::Fold, Replay::Knowing(RULES_CURRENT)] {
            self.teller.check_replay(how);
        }
        let rules = self.teller.bank.moment().rules;
        if rules > 0 {
            self.teller.check_replay(Replay::Knowing(rules));
        }
    }
}
