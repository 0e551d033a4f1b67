//! `pabal reader`: a folded copy of the bank that serves reads and makes snapshots.
//!
//! It begins with what stands in the files, so it serves also when no core runs. Then it follows the core, from the record
//! after its last; when the core is gone it goes on serving where it stands, and tries again. The thread that follows
//! also makes the snapshots: reads go on meanwhile, the copy stands still.

use super::core::{HISTORY_BLOCKS, SOCKET, codes, say};
use super::ending::Ending;
use super::verify;
use crate::progress::Bar;
use anyhow::{bail, ensure};
use pabal_bank::ledger::Code;
use pabal_client::{Address, Connection};
use pabal_core::{BankMachine, Channel, Copy, Credentials, ReaderService, Walkers};
use pabal_engine::Fold;
use pabal_engine::engine::JOURNAL;
use pabal_journal::{Reader, Record, SystemDisk};
use pabal_wire::{Config, Kind, Server};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use zerocopy::IntoBytes;

/// The reader's socket, in the data folder.
pub const READER_SOCKET: &str = "reader.sock";
/// Commands after which a new snapshot is made unless it is told otherwise: some seconds of replaying at a start.
pub const SNAPSHOT_COMMANDS: u64 = 4_000_000;
/// The priority with which the journal is read at the start.
const FOLD_NICE: i32 = 10;
/// How long it waits before it tries to reach the core again.
const AGAIN: Duration = Duration::from_millis(200);
/// How long it waits for a record at a time; that it is to end wakes it.
const QUIET: Duration = Duration::from_secs(60);
/// How long an orderly stop waits for answers to be taken.
const DRAIN: Duration = Duration::from_secs(10);

/// Runs until SIGINT or SIGTERM.
pub fn run(data: &Path, snapshot_commands: u64) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let ending = Arc::new(Ending::new()?);
    let (handle, ends) = (signals.handle(), ending.clone());
    let told = thread::spawn(move || {
        if signals.forever().next().is_some() {
            ends.say(true);
        }
    });
    let read = read(data, snapshot_commands, &ending);
    handle.close();
    let _ = told.join();
    read
}

fn read(data: &Path, snapshot_commands: u64, ending: &Arc<Ending>) -> anyhow::Result<()> {
    // A bank that is being made now has no journal yet.
    while Reader::open(&data.join(JOURNAL)).is_err() || Credentials::of(data, Channel::Reader).is_err() {
        if ending.wait(AGAIN) {
            return Ok(());
        }
    }
    let end = Reader::open(&data.join(JOURNAL)).and_then(|reader| reader.extent()).unwrap_or(0);
    let fold = thread::scope(|scope| {
        let open = || {
            // After a loss of power core and reader read the same journal at once: the core goes first. Of this thread
            // alone, and of those that it starts; where it may not be so, both take longer.
            let _ = rustix::process::setpriority_process(None, FOLD_NICE);
            let bar = Bar::new(true);
            bar.begin("reading the journal");
            Fold::open(Arc::new(SystemDisk), data, BankMachine::default(), &mut |block| bar.at(block, end))
        };
        scope.spawn(open).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let (from, commands) = (fold.snapshot_sequence(), fold.commands());
    let copy = Copy::new(fold);
    let reader = || Reader::open(&data.join(JOURNAL));
    let (journal_id, walkers) =
        (reader()?.journal_id(), Walkers::start(reader()?.with_cache(HISTORY_BLOCKS))?);
    let service = ReaderService::new(copy.clone(), Credentials::open(data)?, walkers, journal_id);
    let socket = data.join(READER_SOCKET);
    let server = Server::start(Config::unix(socket.clone(), codes()), Arc::new(service))?;
    say!("snapshot {from}, then {commands} commands replayed, to record {}", copy.read().sequence());
    say!("ready {}", socket.display());
    let mut due = snapshot_commands;
    serving(server, ending, || {
        let mut followed = || {
            if copy.read().commands() >= due {
                due = copy.read().commands() + snapshot_commands;
                snapshot(&copy);
            }
        };
        if let Err(lost) = follow(data, journal_id, &copy, ending, &mut followed) {
            match lost {
                Lost::Core(error) => {
                    say!("not following: {error:#}; serving record {}", copy.read().sequence())
                }
                // What was seen is not what is there: it begins again from the files.
                Lost::Copy(error) => return Err(error),
            }
        }
        Ok(())
    })
}

/// Follows again and again, with a pause between, until it is told to end; then drains. That the server has ended by
/// itself, so that nobody is served any more, is an error.
fn serving(
    server: Server,
    ending: &Arc<Ending>,
    mut follow: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let gone = ending.clone();
    server.when_ended(move || gone.say(false));
    while !ending.is_said() {
        follow()?;
        ending.wait(AGAIN);
    }
    let in_order = ending.is_in_order();
    server.drain(if in_order { DRAIN } else { Duration::ZERO });
    ensure!(in_order, "the server ended by itself");
    Ok(())
}

/// Why it does not follow.
enum Lost {
    /// The core cannot be reached.
    Core(anyhow::Error),
    /// The copy is no copy of what the core has.
    Copy(anyhow::Error),
}

impl From<pabal_client::Error> for Lost {
    fn from(error: pabal_client::Error) -> Lost {
        Lost::Core(error.into())
    }
}

/// Follows the core until it is gone. `followed` is called after each time that something may have come.
fn follow(
    data: &Path,
    journal_id: u64,
    copy: &Copy,
    ending: &Ending,
    followed: &mut dyn FnMut(),
) -> Result<(), Lost> {
    let credential = Credentials::of(data, Channel::Reader).map_err(|error| Lost::Core(error.into()))?;
    let address = Address::Unix(data.join(SOCKET));
    let mut core = Connection::connect(&address, credential.0, Duration::from_secs(5))?;
    if core.welcome().journal_id != journal_id {
        return Err(Lost::Copy(anyhow::anyhow!(
            "the core has another journal than the files that were read"
        )));
    }
    let next = copy.read().sequence() + 1;
    core.follow(next).map_err(|unsent| Lost::Core(unsent.into()))?;
    let mut words: Vec<u64> = Vec::new();
    while !ending.is_said() {
        core.poll_or(Some(ending.as_fd()), QUIET)?;
        while let Some(answered) = core.take()? {
            match answered.kind {
                Kind::Record => {}
                Kind::Refused if answered.code == Code::NotFresh as u16 => {
                    let what = format!("the core has no record {next}: it is older than what was read here");
                    return Err(Lost::Copy(anyhow::anyhow!(what)));
                }
                kind => return Err(Lost::Core(anyhow::anyhow!("{kind:?}, code {}", answered.code))),
            }
            words.resize(answered.body.len().div_ceil(8), 0);
            words.as_mut_bytes()[..answered.body.len()].copy_from_slice(answered.body);
            let blocks = &words.as_bytes()[..answered.body.len()];
            let Some(record) = Record::checked(blocks) else {
                return Err(Lost::Core(anyhow::anyhow!("what came is no record")));
            };
            copy.write().take(&record).map_err(|error| Lost::Copy(error.into()))?;
        }
        followed();
    }
    Ok(())
}

/// Makes a snapshot. One that cannot be made is said, and no reason to stop serving.
fn snapshot(copy: &Copy) {
    let made = copy.read().snapshot();
    match made {
        Ok(Some(made)) => {
            copy.write().snapshot_made(made.sequence);
            say!("snapshot {} made, {} MiB", made.sequence, made.bytes >> 20);
        }
        Ok(None) => {}
        Err(error) => say!("no snapshot could be made: {error}"),
    }
}

/// `pabal snapshot`: reads the journal from the newest good snapshot on, and makes one of what it says now.
pub fn snapshot_now(data: &Path, bar: &Bar) -> anyhow::Result<serde_json::Value> {
    verify::holds_a_journal(data)?;
    ensure!(data.join(JOURNAL).is_dir(), "no journal in {}", data.display());
    bar.begin("reading the journal");
    let end = Reader::open(&data.join(JOURNAL)).and_then(|reader| reader.extent()).unwrap_or(0);
    let disk = Arc::new(SystemDisk);
    let fold = Fold::open(disk, data, BankMachine::default(), &mut |block| bar.at(block, end))?;
    let from = fold.snapshot_sequence();
    bar.begin("making the snapshot");
    let Some(made) = fold.snapshot()? else {
        if fold.sequence() == 0 {
            bail!("nothing stands in the journal yet");
        }
        return Ok(
            serde_json::json!({ "made": false, "sequence": from, "replayed_commands": fold.commands() }),
        );
    };
    let digest: String = made.digest.iter().rev().map(|byte| format!("{byte:02x}")).collect();
    Ok(serde_json::json!({
        "made": true,
        "file": made.path.display().to_string(),
        "sequence": made.sequence,
        "digest": digest,
        "bytes": made.bytes,
        "from_snapshot": from,
        "replayed_commands": fold.commands(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pabal_client::Envelope;
    use pabal_core::Question;
    use pabal_wire::frame::ROLE_READER;
    use pabal_wire::{Asked, Head, Service, Welcome};

    /// A service that is not to be trusted.
    struct Panics;

    impl Service for Panics {
        fn welcome(&self) -> (Welcome, u64) {
            (Welcome { role: ROLE_READER, ..Welcome::default() }, 0)
        }

        fn asked(&self, _: Vec<Asked>) {
            panic!("as it is to, in a test");
        }

        fn follow(&self, _: Head, _: Box<dyn std::io::Write + Send>) {}
    }

    /// A reader that nobody can reach is no reader: it must end, so that it is started anew.
    #[test]
    fn a_reader_whose_server_has_ended_ends_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("socket");
        let server =
            Server::start(Config::unix(&socket, codes()), Arc::new(Panics)).expect("a server starts");
        let ending = Arc::new(Ending::new().expect("a pair"));
        let ask = || {
            let patience = Duration::from_secs(60);
            let mut client = Connection::connect(&Address::Unix(socket.clone()), [0; 16], patience)?;
            client.query(&Envelope::default(), 0, Question::status().as_bytes())?;
            client.flush();
            // As while nothing comes of the core.
            assert!(ending.wait(patience), "it did not hear of it");
            Ok(())
        };
        let ended = serving(server, &ending, ask).map_err(|error| error.to_string());
        assert_eq!(ended, Err("the server ended by itself".into()));
    }
}
