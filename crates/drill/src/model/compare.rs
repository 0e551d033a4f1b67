//! A bank's whole state against the model's.

use super::{Model, UNLIMITED};
use pabal_bank::Bank;
use pabal_bank::ledger::{Digest, Status};
use std::collections::BTreeMap;

/// The whole state against the model's, and the invariants. Panics on what differs, saying so.
pub fn compare(bank: &Bank, model: &Model) {
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

/// The digest that is kept against the one worked out anew: the ledger's from its objects, the rest from the
/// model's. Panics when they differ.
pub fn check_digest(bank: &mut Bank, model: &Model) -> Digest {
    let kept = bank.digest();
    let anew = bank.ledger().digest_anew().plus(model.digest_above_ledger());
    assert_eq!(kept, anew, "the digest kept is not the one worked out anew");
    kept
}
