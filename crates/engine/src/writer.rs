//! The writer: makes records durable, then releases what was answered with them.

use crate::machine::{Machine, read_entry};
use crate::request::{Commands, Response};
use pabal_journal::{Journal, Reader, RecordBuffer};
use std::sync::mpsc::{Receiver, Sender, SyncSender};

/// What the core hands to the writer, in order.
pub(crate) enum Work<M: Machine> {
    /// Write this record, then release the answers.
    Record(RecordBuffer, Vec<Release<M>>),
    /// Release these once everything before is durable, which it is when their turn comes.
    Release(Vec<Release<M>>),
}

/// An answer that waits for its batch to be durable.
pub(crate) enum Release<M: Machine> {
    Response { to: SyncSender<Response<M::Reply>>, replies: Vec<M::Reply>, commands: Commands },
    Answer { to: SyncSender<M::Answer>, answer: M::Answer },
}

/// Runs until the core hangs up; gives the journal back, or the error that ended it.
pub(crate) fn run<M: Machine>(
    mut journal: Journal,
    reader: &Reader,
    work: Receiver<Work<M>>,
    spent: &Sender<RecordBuffer>,
) -> Result<Journal, pabal_journal::Error> {
    for work in work {
        let mut done = None;
        let releases = match work {
            Work::Record(mut buffer, releases) => {
                // An error ends this loop; the answers are dropped, and whoever waits hears "unknown".
                journal.append(&mut buffer)?;
                done = Some(buffer);
                releases
            }
            Work::Release(releases) => releases,
        };
        for release in releases {
            match release {
                // Whoever asked may have gone away; that is its own affair.
                Release::Answer { to, answer } => drop(to.send(answer)),
                Release::Response { to, mut replies, commands } => {
                    repeat::<M>(reader, &mut replies, &commands);
                    let _ = to.send(Response { sequence: journal.sequence(), replies });
                }
            }
        }
        if let Some(buffer) = done {
            let _ = spent.send(buffer);
        }
    }
    Ok(journal)
}

/// Replaces each reply that repeats an earlier outcome by that outcome, read from its entry.
fn repeat<M: Machine>(reader: &Reader, replies: &mut [M::Reply], commands: &Commands) {
    if replies.iter().all(|reply| M::repeats(reply).is_none()) {
        return;
    }
    let mut rest = commands.as_bytes();
    for reply in replies {
        let Some(length) = M::length(rest) else { return };
        let (command, after) = rest.split_at(length);
        rest = after;
        if let Some(position) = M::repeats(reply) {
            let entry = read_entry(reader, position).expect("the window names entries that are durable");
            *reply = M::again(command, &entry, position);
        }
    }
}
