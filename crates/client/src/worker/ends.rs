//! How requests and questions end: what is true of them then, and who hears it, when the keep has what it must have.

use super::{Job, To, Told, What, Why, Worker};
use crate::client::End;
use crate::connection::Lane;
use crate::parcel::{Name, Parcel};
use crate::proof;
use pabal_bank::Reply;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The end of a request of which nothing was heard.
pub(crate) fn nothing_known(parcel: &Parcel) -> End {
    End::Unknown { heard: Vec::new(), of: parcel.names().collect() }
}

/// What is true of a request now, after what was heard of it. `why` is why it was not sent, if it never was.
fn end_of(job: &Job, parcel: &Parcel, why: Why) -> End {
    let lane = parcel.envelope().lane;
    if job.heard.is_empty() {
        return match job.refused {
            _ if job.unheard => nothing_known(parcel),
            Some(code) => End::Refused(Why::Code(code)),
            None => End::Refused(why),
        };
    }
    let stands = |reply: &Option<Reply>| reply.is_some_and(|r| proof::stands(&r, lane, job.unheard));
    let of: Vec<Name> =
        parcel.names().zip(&job.heard).filter(|(_, reply)| !stands(reply)).map(|(name, _)| name).collect();
    if !of.is_empty() {
        return End::Unknown { heard: job.heard.clone(), of };
    }
    let replies: Vec<Reply> = job.heard.iter().copied().flatten().collect();
    match replies[0].code {
        code if proof::refuses(code) && replies.iter().all(|reply| reply.code == code) => {
            End::Refused(Why::Code(code as u16))
        }
        _ => End::Replies { sequence: job.sequence, replies },
    }
}

/// Whether a request that ended so would be done if it were sent again.
fn may_be_done_yet(end: &End, lane: Lane) -> bool {
    match end {
        End::Refused(_) => true,
        End::Replies { replies, .. } => !replies.iter().all(|reply| proof::stands(reply, lane, true)),
        End::Unknown { .. } => false,
    }
}

/// An end that is told once its mark is in the keep.
pub(super) struct Untold {
    kept: u64,
    parcel: Arc<Parcel>,
    to: To,
    end: End,
}

impl Worker {
    /// Ends a job with what is known of it.
    pub(super) fn end(&mut self, number: u64, why: Why) {
        let Some(mut job) = self.jobs.remove(&number) else { return };
        self.patience.remove(&(job.until, number));
        if let Some(due) = job.due.take() {
            self.again.remove(&(due, number));
        }
        let on_its_way = job.tag.is_some();
        let What::Request { parcel, to } = &mut job.what else {
            let job_sent = job.tries > 0;
            self.jobs.insert(number, job);
            let told = if job_sent { Told::Unheard } else { Told::Refused(why) };
            return self.tell(number, told);
        };
        let (parcel, to) = (parcel.clone(), std::mem::replace(to, To::Nobody));
        job.unheard |= on_its_way;
        let end = end_of(&job, &parcel, why);
        let first_end = !matches!(to, To::Nobody);
        match (job.kept, &mut self.keep) {
            (Some(kept), Some(_)) if may_be_done_yet(&end, parcel.envelope().lane) => {
                self.untold.push(Untold { kept, parcel, to, end });
            }
            (kept, keep) => {
                if let (Some(kept), Some(keep)) = (kept, keep)
                    && !matches!(end, End::Unknown { .. })
                {
                    keep.settled(kept);
                }
                self.tell_end(kept, parcel, to, end);
            }
        }
        if first_end {
            self.leave(job.bytes());
        }
        if on_its_way {
            self.jobs.insert(number, job);
        }
    }

    /// Tells what may be told once the keep has it, all with one write. What it does not have will be asked again by
    /// whoever opens it next, and may be done then.
    pub(super) fn tell_untold(&mut self) {
        let Some(keep) = &mut self.keep else { return };
        if self.untold.is_empty() {
            return;
        }
        let untold = std::mem::take(&mut self.untold);
        let marked: Vec<bool> = untold.iter().map(|untold| keep.settled(untold.kept)).collect();
        let written = keep.write().is_ok();
        for (Untold { kept, parcel, to, mut end }, marked) in untold.into_iter().zip(marked) {
            if !written && marked {
                if let Some(keep) = &mut self.keep {
                    keep.unsettle(kept, parcel.clone());
                }
                end = nothing_known(&parcel);
            }
            self.tell_end(Some(kept), parcel, to, end);
        }
    }

    fn tell_end(&mut self, kept: Option<u64>, parcel: Arc<Parcel>, to: To, end: End) {
        if let Some(kept) = kept
            && !matches!(to, To::Nobody)
        {
            self.asked.remove(&kept);
        }
        // Whoever asked may have gone away; that is its own affair.
        match to {
            To::Caller(to) => drop(to.send(end)),
            To::Resolver(to) => {
                self.resolving_now -= 1;
                drop(to.send((parcel, end)));
            }
            To::Nobody => {}
        }
    }

    pub(super) fn tell(&mut self, number: u64, told: Told) {
        let Some(job) = self.jobs.remove(&number) else { return };
        self.patience.remove(&(job.until, number));
        self.leave(job.bytes());
        if let What::Question { to, .. } = job.what {
            let _ = to.send(told);
        }
    }

    pub(super) fn leave(&self, bytes: usize) {
        let mut inbox = self.shared.inbox();
        inbox.waiting -= 1;
        inbox.waiting_bytes -= bytes;
    }

    pub(super) fn end_all(&mut self, why: Why) {
        let numbers: BTreeSet<u64> = self.jobs.keys().copied().collect();
        for number in numbers {
            self.end(number, why);
        }
        self.fresh.clear();
    }
}
