//! What an answer proves.
//!
//! The first try of a request is simple: its answer says what became of it. It is otherwise once a try went *unheard*:
//! the connection was lost before its answer came, the server said [`Kind::Unknown`](pabal_wire::Kind), or this process
//! ended and found the request in its [`Keep`](crate::Keep). Such a try may have been executed, or it may be executed
//! yet: its bytes lie in the socket of a server that is slow, in a lane of the core behind others, or in the ring of a
//! core that crashed on it and tries it once more at its next start. A later try overtakes it easily. So the answer to
//! a later try counts only when it says what **no other try can change any more**:
//!
//! | answer | first try | after one that went unheard | why |
//! |---|---|---|---|
//! | an outcome that uses the id | stands | stands | one id has one effect: every other try hears the same |
//! | `id_conflict` | stands | stands | the id belongs to another body; this one was and will be decided by no try |
//! | `bundle_mixed` | stands | stands | had the bundle been decided, all of its parts' ids would be known; one that was set aside had no effect |
//! | `deadline_passed` | stands | stands | looked up: not done before; and the bank's time never goes back, so that a try with the same deadline that comes later is refused too |
//! | `disk_full`, `state_full`, `not_founded`, `id_ahead` | stands | **unknown** | looked up: not done before; but one that still waits is decided when there is room, or when its time has come |
//! | `overloaded`, `malformed`, `channel_not_permitted` and their like, any refusal of the whole frame | stands | **unknown** | not looked up |
//! | `id_too_old` | **unknown** | **unknown** | the window cannot say, and another process may have sent it |
//! | `job_out_of_order` (bulk) | stands | **unknown** | items before the one that is wanted were decided, and how is not said; those after may yet be |
//! | `job_not_open` (bulk) | stands | **unknown** | the job may have been ended by the try that went unheard, its items done |
//! | a code that this program does not know | **unknown** | **unknown** | it may mean anything |
//!
//! In the bulk lane items have no ids of their own; that (job, item) is decided once does the same for them.

use crate::connection::Lane;
use pabal_bank::Reply;
use pabal_fault::{Bug, planted};
use pabal_ledger::Code;

/// Whether this reply is the truth of its command, `unheard` saying whether an earlier try of it went unheard.
pub fn stands(reply: &Reply, lane: Lane, unheard: bool) -> bool {
    match reply.code {
        Code::IdTooOld => false,
        _ if !unheard || planted(Bug::RefusalBelieved) => true,
        Code::IdConflict | Code::BundleMixed | Code::DeadlinePassed => true,
        Code::JobNotOpen => lane == Lane::Online,
        code => code.uses_id(),
    }
}

/// Whether the same bytes may get another answer later: worth another try. `item` is the number of the command in its
/// job.
pub fn passes(reply: &Reply, lane: Lane, item: u64) -> bool {
    match reply.code {
        // Those before it have not come yet. When its own turn has passed it never comes again.
        Code::JobOutOfOrder => lane == Lane::Bulk && reply.position < item,
        code => code_passes(code),
    }
}

/// The same of a refusal of the whole request.
pub fn code_passes(code: Code) -> bool {
    matches!(code, Code::Overloaded | Code::DiskFull | Code::StateFull | Code::NotFounded | Code::IdAhead)
}

/// Whether this code, said of every command, refuses the request as a whole.
pub fn refuses(code: Code) -> bool {
    code_passes(code) || matches!(code, Code::DeadlinePassed | Code::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every cell of the table, for every code there is: a new one is put into a row by somebody who thought about it.
    #[test]
    fn the_table_holds_for_every_code() {
        for &code in Code::ALL {
            let row = match code {
                Code::IdTooOld => [false; 4],
                Code::IdConflict | Code::BundleMixed | Code::DeadlinePassed => [true; 4],
                Code::DiskFull | Code::StateFull | Code::NotFounded | Code::IdAhead => {
                    [true, true, false, false]
                }
                Code::Overloaded | Code::Malformed | Code::JobOutOfOrder => [true, true, false, false],
                Code::ChannelNotPermitted
                | Code::CredentialUnknown
                | Code::VersionUnknown
                | Code::NotFresh => [true, true, false, false],
                Code::JobNotOpen => [true, true, true, false],
                outcome => {
                    assert!(outcome.uses_id(), "{outcome} has no row");
                    [true; 4]
                }
            };
            let reply = Reply::refused(code);
            let of = |lane, unheard| stands(&reply, lane, unheard);
            let is = [
                of(Lane::Online, false),
                of(Lane::Bulk, false),
                of(Lane::Online, true),
                of(Lane::Bulk, true),
            ];
            assert_eq!(is, row, "{code}");
        }
    }

    #[test]
    fn what_is_worth_another_try_never_used_its_id() {
        for &code in Code::ALL {
            let reply = Reply { position: 5, ..Reply::refused(code) };
            for lane in [Lane::Online, Lane::Bulk] {
                assert!(!(passes(&reply, lane, 6) && code.uses_id()), "{code}");
            }
            assert!(!code_passes(code) || refuses(code), "{code}");
            assert!(!refuses(code) || !code.uses_id(), "{code}");
        }
        let out_of_order = Reply { position: 5, ..Reply::refused(Code::JobOutOfOrder) };
        assert!(passes(&out_of_order, Lane::Bulk, 6), "item 5 is still to come");
        assert!(!passes(&out_of_order, Lane::Bulk, 5) && !passes(&out_of_order, Lane::Bulk, 4));
    }
}
