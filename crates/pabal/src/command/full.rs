//! A disk that fills up under a running bank, as the bank's customers see it; `cargo xtask full` runs it on a small
//! file system of its own.
//!
//! Whoever sends must hear `disk_full` while nothing has failed yet, must hear what was decided before as it was, and
//! must be able to send the refused ids again when there is room. Whoever reads, in the bank or beside it, must
//! notice nothing. An error names the first of these that does not hold.

use super::drill::{Books, FIRST, start, submit, transfers};
use crate::ids;
use anyhow::{Context as _, bail, ensure};
use pabal_bank::Reply;
use pabal_bank::ledger::{Code, Command};
use pabal_core::{Answer, BankMachine, Query};
use pabal_engine::Engine;
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::Instant;

const SEGMENT_BLOCKS: u32 = 64;
/// Transfers in a request.
const TRANSFERS: u64 = 50;
/// Requests that go on after the disk is full at most: more than what three segments, all that can be there by then,
/// take.
const REQUESTS_MAX: u64 = 200;
/// Requests sent while there is room, each time.
const REQUESTS: u64 = 50;
/// Requests that are refused one after the other: the refusal is not a moment's.
const REFUSED: u64 = 5;

/// A running bank on a disk that is filled, and its client.
struct Drill<'d> {
    data: &'d Path,
    filler: &'d Path,
    engine: Engine<BankMachine>,
    books: Books,
    /// What was decided, with its answer.
    decided: Vec<(Command, Reply)>,
    /// What was refused and not sent again yet.
    refused: Vec<Command>,
}

/// Runs the drill; says what was counted.
pub fn run(data: &Path, filler: &Path, sent: &Path, acked: &Path) -> anyhow::Result<Value> {
    let (books, before) = Books::open(sent, acked)?;
    ensure!(before.is_empty(), "begin with a new bank and new books");
    std::fs::create_dir_all(data)?;
    let engine = start(data, SEGMENT_BLOCKS, false)?;
    let mut drill = Drill { data, filler, engine, books, decided: Vec::new(), refused: Vec::new() };
    let first = super::drill::founding();
    drill.done(&first).context("with room")?;
    for _ in 0..REQUESTS {
        drill.done(&transfers(TRANSFERS)).context("with room")?;
    }
    let (after, answer_us) = drill.fill()?;
    drill.holds().context("on the full disk")?;
    std::fs::remove_file(filler)?;
    let resumed = drill.resume().context("once there is room")?;

    // The same again, but stopped and started while the disk is full.
    drill.fill()?;
    drill = drill.restart().context("a stop and a start on the full disk")?;
    drill.refuses().context("started on the full disk")?;
    drill.holds().context("started on the full disk")?;
    std::fs::remove_file(filler)?;
    let resumed = resumed + drill.resume().context("once there is room")?;
    drill.holds().context("at the end")?;
    let decided = drill.decided.len();
    drill.engine.stop()?;
    Ok(json!({
        "decided": decided,
        "requests_after_full": after,
        "refusal_us": answer_us,
        "refused_then_done": resumed,
    }))
}

impl Drill<'_> {
    fn send(&mut self, made: &[Command]) -> anyhow::Result<Vec<Reply>> {
        let sent = self.books.send(&self.engine, made)?;
        self.books.hear(sent)
    }

    /// Sends what must be decided now.
    fn done(&mut self, made: &[Command]) -> anyhow::Result<()> {
        let replies = self.send(made)?;
        for (command, reply) in made.iter().zip(replies) {
            ensure!(reply.code == Code::Done && !reply.again, "heard {} for done", reply.code);
            self.decided.push((*command, reply));
        }
        Ok(())
    }

    /// Takes the room, and sends until the bank refuses. The requests that it still took, and how long a refusal
    /// takes, microseconds.
    fn fill(&mut self) -> anyhow::Result<(u64, u64)> {
        for request in 0..REQUESTS_MAX {
            // Each time, as a segment that could not be made has given its room back.
            take_all(self.filler).context("the filler")?;
            let made = transfers(TRANSFERS);
            let begun = Instant::now();
            let replies = self.send(&made)?;
            let refused = replies.iter().filter(|reply| reply.code == Code::DiskFull).count();
            if refused == made.len() {
                let answer_us = begun.elapsed().as_micros() as u64;
                self.refused.extend(made);
                self.refuses()?;
                return Ok((request, answer_us));
            }
            for (command, reply) in made.into_iter().zip(replies) {
                ensure!(reply.code == Code::Done, "heard {} for done or disk_full", reply.code);
                self.decided.push((command, reply));
            }
        }
        bail!("the disk is full and {REQUESTS_MAX} requests were taken: nothing refuses")
    }

    /// New commands are refused, all of them.
    fn refuses(&mut self) -> anyhow::Result<()> {
        for _ in 0..REFUSED {
            let made = transfers(TRANSFERS);
            let replies = self.send(&made)?;
            if let Some(reply) = replies.iter().find(|reply| reply.code != Code::DiskFull) {
                bail!("heard {} for disk_full", reply.code);
            }
            self.refused.extend(made);
        }
        Ok(())
    }

    /// What was decided is answered as it was, also among what is refused; questions are answered; other processes
    /// read.
    fn holds(&mut self) -> anyhow::Result<()> {
        for piece in self.decided.chunks(100) {
            let known = piece.iter().map(|(command, _)| *command);
            let sent: Vec<Command> = known.chain(self.refused.first().copied()).collect();
            let replies = submit(&self.engine, &sent).1.wait()?.replies;
            for ((_, first), reply) in piece.iter().zip(&replies) {
                ensure!(
                    *reply == Reply { again: true, ..*first },
                    "heard {reply:?}, before it was {first:?}"
                );
            }
            if !self.refused.is_empty() {
                let last = replies.last().context("an answer to each")?;
                ensure!(last.code == Code::DiskFull, "heard {} for disk_full", last.code);
            }
        }
        ensure!(self.ask(Query::Job(ids::fresh()))? == Answer::Job(None), "a job that nobody began");
        let Answer::Account(Some(account)) = self.ask(Query::Account(FIRST))? else { bail!("no account") };
        let balance = self.decided.iter().rev().find_map(|(command, reply)| {
            let payer = (command.debit == FIRST).then_some(reply.debit_balance);
            payer.or((command.credit == FIRST).then_some(reply.credit_balance))
        });
        ensure!(
            Some(account.balance) == balance,
            "the account stands at {}, last heard {balance:?}",
            account.balance
        );
        let account = FIRST.to_string();
        for words in [vec!["verify"], vec!["statement", &account], vec!["balance", &account]] {
            let output = std::process::Command::new(std::env::current_exe()?)
                .args(&words)
                .arg("--data")
                .arg(self.data)
                .arg("--json")
                .output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{} beside it: {}: {said}", words[0], output.status);
        }
        Ok(())
    }

    fn ask(&self, query: Query) -> anyhow::Result<Answer> {
        Ok(self.engine.query(query).wait()?)
    }

    /// Sends the refused ids again: each must be done now.
    fn resume(&mut self) -> anyhow::Result<usize> {
        let refused = std::mem::take(&mut self.refused);
        for piece in refused.chunks(TRANSFERS as usize) {
            self.done(piece)?;
        }
        for _ in 0..REQUESTS {
            self.done(&transfers(TRANSFERS))?;
        }
        Ok(refused.len())
    }

    fn restart(self) -> anyhow::Result<Self> {
        self.engine.stop()?;
        Ok(Drill { engine: start(self.data, SEGMENT_BLOCKS, true)?, ..self })
    }
}

/// Lets a file take all the room that there is.
fn take_all(filler: &Path) -> anyhow::Result<()> {
    let mut file: File = OpenOptions::new().create(true).append(true).open(filler)?;
    // The last of it in small pieces.
    for piece in [64 * 1024, 4096, 1] {
        loop {
            match file.write_all(&vec![0; piece]) {
                Ok(()) => {}
                Err(error) if matches!(error.kind(), ErrorKind::StorageFull) => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}
