//! `pabal` alone: the core on the embedded journal, with a small demonstration book the first time.

use super::verify;
use crate::ids;
use crate::memory;
use crate::progress::Bar;
use anyhow::{bail, ensure};
use jiff::Timestamp;
use pabal_bank::command;
use pabal_bank::ledger::window::CAPACITY_DEFAULT;
use pabal_bank::ledger::{Class, Code, Command, Kind};
use pabal_core::{BankMachine, CoreService, Credentials, Walkers};
use pabal_engine::engine::JOURNAL;
use pabal_engine::{
    Commands, Engine, EngineConfig, Lane, Recovery, Request, RequestHeader, SystemClock, TimeGap, TimeSource,
};
use pabal_journal::{JournalConfig, Reader};
use pabal_wire::server::Listen;
use pabal_wire::{Codes, Config, Server};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use zerocopy::IntoBytes;

/// Says something on standard output. A bank does not end because nobody listens there any more.
macro_rules! say {
    ($($text:tt)*) => {{
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, $($text)*).and_then(|()| out.flush());
    }};
}
pub(crate) use say;

const WON: u16 = 410;
const CASH: u64 = 9_000_000_000_000_002;
/// Demonstration accounts; the people and the money are made up.
const DEMO: [u64; 3] = [110_000_001, 110_000_002, 110_000_003];

/// The core's socket, in the data folder.
pub const SOCKET: &str = "core.sock";
/// How long an orderly stop waits for what is on its way to be answered and taken.
const DRAIN: Duration = Duration::from_secs(20);
/// Blocks of histories that are kept in memory: 64 MiB.
pub const HISTORY_BLOCKS: usize = 16 << 10;

/// How to run it.
pub struct Options<'a> {
    /// Two people who vouch for the time.
    pub confirmed_by: &'a [String],
    /// Whether a new bank gets the demonstration book, and whoever started it is told what to do next.
    pub demonstration: bool,
    /// Blocks of a segment, when the journal is made.
    pub segment_blocks: u32,
    /// MiB of memory to take before it serves, beyond what the replay took; 0: as they are needed.
    pub memory_mib: u32,
    /// Where its socket is to be; none: in the data folder.
    pub socket: Option<&'a Path>,
    /// Where it listens for other machines, if it does.
    pub tls: Option<Listen>,
}

/// Runs until SIGINT or SIGTERM, then stops in order.
pub fn run(data: &Path, options: &Options<'_>) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    verify::holds_a_journal(data)?;
    verify::make_folder(data)?;
    let mut two = options.confirmed_by.to_vec();
    two.sort();
    two.dedup();
    let confirmed_ms = if two.len() >= 2 { Some(ids::now_ms()) } else { hardware_clock_ms() };
    let config = EngineConfig {
        journal: JournalConfig { segment_blocks: options.segment_blocks, ..JournalConfig::default() },
        journal_id: ids::random(),
        time: TimeSource::Clock { clock: Box::<SystemClock>::default(), confirmed_ms },
    };
    let bar = Bar::new(true);
    bar.begin("replaying the journal");
    // Only for the bar: a journal that is not there yet, or is wrong, the start says better.
    let end = Reader::open(&data.join(JOURNAL)).and_then(|reader| reader.extent()).unwrap_or(0);
    let (engine, recovery) =
        Engine::start(data, BankMachine::default(), config, &mut |block| bar.at(block, end)).map_err(
            |error| match error {
                pabal_engine::Error::Time(gap) => anyhow::anyhow!(gap_text(&gap)),
                other => other.into(),
            },
        )?;
    drop(bar);
    let engine = Arc::new(engine);
    // A signal, or the end of the core, which closes the waiting for one.
    let waiting = signals.handle();
    engine.when_ended(move || waiting.close());
    told(&recovery);
    if recovery.journal.last.is_none() && options.demonstration {
        demonstration(&engine)?;
        say!("A new bank, with a small demonstration book: {} accounts in won, all made up.", DEMO.len());
    }
    if !take_ahead(options.memory_mib, &mut signals) {
        engine.end()?;
        say!("Closed in order; everything is in the journal.");
        return Ok(());
    }
    let socket = options.socket.map_or_else(|| data.join(SOCKET), Path::to_path_buf);
    let server = serve(data, &socket, options, &engine)?;
    let waiting = signals.handle();
    server.when_ended(move || waiting.close());
    if options.demonstration {
        guide(data, recovery.journal.records);
    }
    say!("ready {}", socket.display());
    let told = signals.forever().next().is_some();
    // When the core has ended by itself nobody will answer any more.
    let drained = server.drain(if told { DRAIN } else { Duration::ZERO });
    // A follower's thread may have it for a moment yet.
    engine.end()?;
    ensure!(told, "the core ended by itself");
    if !drained {
        say!("Some clients had not taken their answers; what they asked for is in the journal.");
    }
    say!("Closed in order; everything is in the journal.");
    Ok(())
}

/// Takes memory before anybody is served. Whether to go on: not when it was told to stop meanwhile.
fn take_ahead(mib: u32, signals: &mut Signals) -> bool {
    if mib == 0 {
        return true;
    }
    let bytes = (mib as usize) << 20;
    let bar = Bar::new(true);
    bar.begin("taking memory");
    let mut told = false;
    let taken = memory::take_ahead(bytes, &mut |so_far| {
        bar.at(so_far as u64 >> 20, u64::from(mib));
        told = signals.pending().next().is_some();
        !told
    });
    drop(bar);
    if taken < bytes && !told {
        let taken = taken >> 20;
        say!(
            "Took {taken} of {mib} MiB ahead: a quarter of what is available stays so. More comes as it is needed."
        );
    }
    !told
}

/// Opens the socket.
fn serve(
    data: &Path,
    socket: &Path,
    options: &Options<'_>,
    engine: &Arc<Engine<BankMachine>>,
) -> anyhow::Result<Server> {
    let reader = || Reader::open(&data.join(JOURNAL));
    let (journal_id, walkers) =
        (reader()?.journal_id(), Walkers::start(reader()?.with_cache(HISTORY_BLOCKS))?);
    let service = CoreService::new(engine.clone(), Credentials::open(data)?, walkers, journal_id);
    let mut config = Config::unix(socket, codes());
    config.listen.extend(options.tls.clone());
    let server = Server::start(config, Arc::new(service))?;
    server.addresses().iter().for_each(|address| say!("listening on tls {address}"));
    Ok(server)
}

/// What a server refuses by itself, in the bank's words.
pub fn codes() -> Codes {
    Codes {
        malformed: Code::Malformed as u16,
        overloaded: Code::Overloaded as u16,
        version_unknown: Code::VersionUnknown as u16,
    }
}

/// Says what the start found.
fn told(recovery: &Recovery) {
    if let Some(cut) = recovery.journal.cut {
        say!(
            "cut a torn record that was never acknowledged: sequence {}, {} blocks",
            cut.sequence,
            cut.blocks
        );
    }
    if recovery.quarantined {
        say!("ALARM: a command stopped the core twice and was set aside; look for code quarantined");
    }
    if let Some(sequence) = recovery.snapshot {
        say!("began from the snapshot after record {sequence}, replayed {} commands", recovery.commands);
    }
}

/// Says what can be done next.
fn guide(data: &Path, records: u64) {
    let data = data.display();
    say!("The bank is open on {data} ({records} records replayed). Ctrl-C closes it.");
    say!("In another terminal, from this folder:");
    for line in [
        format!("cargo run --release -- statement {} --data {data}", DEMO[0]),
        format!("cargo run --release -- balance {} --data {data}", DEMO[1]),
        format!("cargo run --release -- verify --data {data}"),
        "cargo run --release -- bench ledger".to_string(),
    ] {
        say!("  {line}");
    }
}

/// What keeps a bank from starting after a long stop, and what to do about it.
fn gap_text(gap: &TimeGap) -> String {
    let at = |ms: u64| {
        let time = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        time.map_or_else(|| format!("{ms} ms since 1970"), |time| format!("{time:.0}"))
    };
    let second = match hardware_clock_ms() {
        None => "this machine has no hardware clock to compare with".to_string(),
        Some(ms) => format!("the hardware clock says {}", at(ms)),
    };
    format!(
        "the clock says {}, the last record is of {}: more than ten minutes apart, and {second}.\nTwo people \
         who have looked at another clock may vouch: --time-confirmed-by NAME --time-confirmed-by NAME",
        at(gap.wall_ms),
        at(gap.last_ms)
    )
}

/// The second source of time: the hardware clock, where there is one.
fn hardware_clock_ms() -> Option<u64> {
    let text = std::fs::read_to_string("/sys/class/rtc/rtc0/since_epoch").ok()?;
    text.trim().parse::<u64>().ok()?.checked_mul(1000)
}

fn demonstration(engine: &Engine<BankMachine>) -> anyhow::Result<()> {
    let mut made = vec![command::found(
        ids::fresh(),
        CAPACITY_DEFAULT,
        ids::random(),
        pabal_bank::RULES_CURRENT,
        ids::today(),
    )];
    made.push(command::open(ids::fresh(), CASH, Class::Cash, WON, 0, i64::MAX));
    for (i, number) in DEMO.into_iter().enumerate() {
        made.push(command::open(ids::fresh(), number, Class::CustomerDeposit, WON, i as u64 + 1, 0));
        let amount = 300_000 * (i as i64 + 1);
        made.push(command::post(ids::fresh(), Kind::CashDeposit, CASH, number, amount, WON));
    }
    made.push(command::post(ids::fresh(), Kind::Transfer, DEMO[2], DEMO[0], 45_000, WON));
    let rent = command::post(ids::fresh(), Kind::Transfer, DEMO[1], DEMO[0], 120_000, WON);
    made.push(command::hold(rent, Some(ids::now_ms() + 7 * 86_400_000)));
    send(engine, &made)
}

fn send(engine: &Engine<BankMachine>, made: &[Command]) -> anyhow::Result<()> {
    let mut commands = Commands::new();
    made.iter().for_each(|command| commands.push(command.as_bytes()));
    let response = engine.submit(Request { header: RequestHeader::new(Lane::Online, 1), commands }).wait()?;
    match response.replies.iter().find(|reply| reply.code != Code::Done) {
        Some(reply) => bail!("the demonstration book was refused: {}", reply.code),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without waiting for the rest of it.
    #[test]
    fn who_is_told_to_stop_takes_no_more_memory() {
        let mut signals = Signals::new([signal_hook::consts::SIGUSR1]).expect("a signal");
        assert!(take_ahead(1, &mut signals), "nobody has said anything");
        signal_hook::low_level::raise(signal_hook::consts::SIGUSR1).expect("raised");
        assert!(!take_ahead(64, &mut signals));
        assert!(take_ahead(1, &mut signals), "it was said once");
    }

    #[test]
    fn a_gap_of_time_is_told_in_times_that_people_read() {
        let said = gap_text(&TimeGap { wall_ms: 1_795_572_630_785, last_ms: 912_643_200_000 });
        let wanted = "the clock says 2026-11-25T02:10:30Z, the last record is of 1998-12-03T00:00:00Z";
        assert!(said.starts_with(wanted), "{said}");
        assert!(said.contains("--time-confirmed-by NAME --time-confirmed-by NAME"), "{said}");
        // A time that no calendar has is still told.
        assert!(gap_text(&TimeGap { wall_ms: u64::MAX, last_ms: 0 }).contains("18446744073709551615 ms"));
    }
}
