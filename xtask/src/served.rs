//! `cargo xtask crash --served`: SIGKILL of the services of a bank that is served, at random moments, while customers send
//! and look. Whatever was acknowledged must be found in the journal exactly once, as it was acknowledged; what was
//! refused must not be there; what was unknown must have been resolved under the same id; and no account may ever be
//! shown as of an earlier record than was promised, or otherwise than the journal has it at that record.
//!
//! *What is killed*: the core, the reader, both, the supervisor alone (its services then end by themselves, while new ones
//! start), all of them, and the customers, who come back with their books and keeps. One kill in four does not wait for the bank to have
//! recovered from the one before. The reader makes a snapshot every some thousand commands, so that kills fall into the
//! making of snapshots and starts are from them; a drill in which none was has shown nothing.
//!
//! *How often*: a supervisor lets a service that dies again and again wait longer and longer. So it is itself killed
//! after a few kills of its services, and a new one knows of nothing.

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::crash::{Random, length};
use crate::drill::{self, Bank};

/// Kills on one data folder, so that judging stays short.
const CYCLES_A_FOLDER: u64 = 25;
/// Kills of services in one supervisor's life, after which it waits too long before it starts them.
const KILLS_A_SUPERVISOR: u64 = 3;
/// Blocks of a segment: some are made in each life.
const SEGMENT_BLOCKS: &str = "1024";
/// Commands after which the reader makes a snapshot.
const SNAPSHOT_COMMANDS: &str = "5000";
/// Microseconds between a bank that serves again, or the kill before, and a kill, at most.
const MOMENT_US: u64 = 250_000;
/// How long the bank may take to serve everybody after a kill.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is counted: of what `pabal drill check` says, and by [`Site`].
const COUNTS: [&str; 10] = [
    "sent",
    "acknowledged",
    "found",
    "missing",
    "doubled",
    "differing",
    "refused_but_done",
    "unresolved",
    "older",
    "unlike",
];
const MORE: [&str; 7] = [
    "shown",
    "refused",
    "were_open",
    "records",
    "snapshots_made",
    "core_starts_from_snapshots",
    "reader_starts_from_snapshots",
];

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Core,
    Reader,
    Both,
    Supervisor,
    All,
    Customers,
}

impl Target {
    /// In the order of the counters.
    const EACH: [Target; 6] =
        [Target::Core, Target::Reader, Target::Both, Target::Supervisor, Target::All, Target::Customers];

    fn name(self) -> &'static str {
        match self {
            Target::Core => "core",
            Target::Reader => "reader",
            Target::Both => "core_and_reader",
            Target::Supervisor => "supervisor",
            Target::All => "all",
            Target::Customers => "customers",
        }
    }

    fn draw(random: &mut Random, kills: u64) -> Target {
        let (from, choices) = if kills < KILLS_A_SUPERVISOR { (0, 12) } else { (9, 3) };
        match from + random.below(choices) {
            0..4 => Target::Core,
            4..7 => Target::Reader,
            7..9 => Target::Both,
            9 => Target::Supervisor,
            10 => Target::All,
            _ => Target::Customers,
        }
    }

    /// Services that it takes.
    fn services(self) -> &'static [&'static str] {
        match self {
            Target::Core => &["core"],
            Target::Reader => &["reader"],
            Target::Both | Target::All => &["core", "reader"],
            Target::Supervisor | Target::Customers => &[],
        }
    }
}

/// Runs the drill. True when nothing was lost, doubled, or shown older or otherwise than it was.
pub fn run(cycles: u64, seed: u64, json: bool) -> anyhow::Result<bool> {
    let pabal = drill::build()?;
    let (mut random, begun) = (Random(seed), Instant::now());
    let mut report = json!({ "seed": seed });
    let (mut done, mut passed) = (0, true);
    while done < cycles {
        let folder = tempfile::tempdir()?;
        let some = CYCLES_A_FOLDER.min(cycles - done);
        let counted = campaign(folder.path(), &pabal, some, &mut random, &mut report);
        done = Target::EACH.iter().filter_map(|target| report[target.name()].as_u64()).sum();
        let good = counted.as_ref().is_ok_and(|counted| counted["passed"] == true);
        if !good {
            passed = false;
            let said = counted.as_ref().map_or_else(|error| format!("{error:#}"), Value::to_string);
            eprintln!("WRONG (seed {seed}): {said}\nkept: {}", folder.keep().display());
        }
        let counted = counted.unwrap_or_default();
        COUNTS
            .iter()
            .chain(&MORE)
            .for_each(|name| add(&mut report, name, counted[*name].as_u64().unwrap_or(0)));
        if !json {
            let left = begun.elapsed().as_secs_f64() * (cycles - done) as f64 / done as f64;
            eprintln!("{done} of {cycles} kills, {} s left", left.ceil() as u64);
        }
        // What could not be gone through would not be gone through in the next folder either.
        if counted.is_null() {
            break;
        }
    }
    // A drill in which nothing was acknowledged or shown, or nothing began from a snapshot, has shown nothing.
    passed &= ["acknowledged", "shown", "core_starts_from_snapshots", "reader_starts_from_snapshots"]
        .iter()
        .all(|name| report[*name].as_u64() > Some(0));
    report["cycles"] = json!(done);
    report["passed"] = json!(passed);
    report["seconds"] = json!(begun.elapsed().as_secs());
    if json {
        println!("{report}");
    } else {
        let said = |names: &[&str]| {
            let one =
                |name: &&str| format!("{} {}", report[*name].as_u64().unwrap_or(0), name.replace('_', " "));
            names.iter().map(one).collect::<Vec<_>>().join(", ")
        };
        let killed = said(&Target::EACH.map(Target::name));
        println!("{done} kills ({killed}), seed {seed}, {} s", begun.elapsed().as_secs());
        println!("{}\n{}", said(&COUNTS), said(&MORE));
    }
    Ok(passed)
}

fn add(report: &mut Value, name: &str, more: u64) {
    report[name] = json!(report[name].as_u64().unwrap_or(0) + more);
}

/// So many kills on a bank in this folder; what its customers' books and its journal say.
fn campaign(
    folder: &Path,
    pabal: &Path,
    cycles: u64,
    random: &mut Random,
    report: &mut Value,
) -> anyhow::Result<Value> {
    let bank = Bank::within(folder, pabal);
    // Founds it, with its accounts.
    let founded =
        bank.words("load").args(["--requests", "8", "--segment-blocks", SEGMENT_BLOCKS]).output()?;
    ensure!(founded.status.success(), "{}", String::from_utf8_lossy(&founded.stderr));
    let mut site = Site::start(folder, bank)?;
    let (mut done, mut kills) = (0, 0);
    site.wait_until_served()?;
    while done < cycles {
        if random.below(4) > 0 {
            site.wait_until_served()?;
        }
        std::thread::sleep(Duration::from_micros(random.below(MOMENT_US)));
        let target = Target::draw(random, kills);
        if !site.kill(target)? {
            // Nobody was there: still waiting to be started.
            site.wait_until_served()?;
            continue;
        }
        kills = if [Target::Supervisor, Target::All].contains(&target) { 0 } else { kills + 1 };
        add(report, target.name(), 1);
        done += 1;
    }
    site.close()
}

/// A bank that is served, its customers, and all that they write.
struct Site {
    bank: Bank,
    /// The customers' books.
    books: PathBuf,
    /// What the supervisors said.
    log: PathBuf,
    supervisor: Child,
    customers: Child,
    /// How much was heard and shown just after the last kill.
    before: [u64; 2],
}

impl Site {
    fn start(folder: &Path, bank: Bank) -> anyhow::Result<Site> {
        let [books, log] = ["books", "log"].map(|name| folder.join(name));
        let supervisor = serve(&bank, &log)?;
        let customers = customers(&bank, &books, &log, false)?;
        Ok(Site { bank, books, log, supervisor, customers, before: [0, 0] })
    }

    /// Waits until customers were answered and were shown something since the last kill.
    fn wait_until_served(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while self.written().iter().zip(self.before).any(|(now, before)| *now <= before) {
            if let Some(status) = self.customers.try_wait()? {
                bail!(
                    "the customers ended by themselves: {status}; what they said is in {}",
                    self.log.display()
                );
            }
            if let Some(status) = self.supervisor.try_wait()? {
                bail!("the supervisor ended by itself: {status}");
            }
            let [heard, shown] = self.written();
            ensure!(
                begun.elapsed() < PATIENCE,
                "the bank did not serve for {} s: {heard} bytes heard and {shown} shown, before {:?}",
                PATIENCE.as_secs(),
                self.before
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Bytes of what customers heard, and of what they were shown.
    fn written(&self) -> [u64; 2] {
        let folders = std::fs::read_dir(&self.books).into_iter().flatten().flatten();
        folders.fold([0, 0], |[heard, shown], folder| {
            [heard + length(&folder.path().join("acked")), shown + length(&folder.path().join("shown"))]
        })
    }

    /// Kills this, and starts what nobody else would. False when there was nothing to kill.
    fn kill(&mut self, target: Target) -> anyhow::Result<bool> {
        let services: Vec<Pid> = target
            .services()
            .iter()
            .filter_map(|name| self.service(name).transpose())
            .collect::<Result<_, _>>()?;
        if matches!(target, Target::Supervisor | Target::All) {
            // First, so that it starts nothing anew.
            self.supervisor.kill()?;
        } else if services.is_empty() && target != Target::Customers {
            return Ok(false);
        }
        for service in services {
            // The supervisor's end ends it too, perhaps before this.
            let _ = kill_process(service, Signal::KILL);
        }
        match target {
            Target::Supervisor | Target::All => {
                self.supervisor.wait()?;
                self.supervisor = serve(&self.bank, &self.log)?;
            }
            Target::Customers => {
                self.customers.kill()?;
                self.customers.wait()?;
                self.customers = customers(&self.bank, &self.books, &self.log, false)?;
            }
            _ => {}
        }
        self.before = self.written();
        Ok(true)
    }

    /// The process of this service, if there is one: a child of the supervisor.
    fn service(&self, name: &str) -> anyhow::Result<Option<Pid>> {
        let parent = self.supervisor.id().to_string();
        for process in std::fs::read_dir("/proc").context("/proc")?.flatten() {
            let read = |file| std::fs::read_to_string(process.path().join(file)).unwrap_or_default();
            let stat = read("stat");
            let mut words = stat.rsplit(") ").next().unwrap_or_default().split(' ');
            let (state, its_parent) = (words.next(), words.next());
            if its_parent == Some(&parent)
                && state != Some("Z")
                && read("cmdline").split('\0').nth(1) == Some(name)
            {
                return Ok(process.file_name().to_str().and_then(|id| Pid::from_raw(id.parse().ok()?)));
            }
        }
        Ok(None)
    }

    /// Ends it: the customers are killed once more, ask for what is open, and see every account; the bank ends in
    /// order; the books are judged.
    fn close(mut self) -> anyhow::Result<Value> {
        self.customers.kill()?;
        self.customers.wait()?;
        let settled = customers(&self.bank, &self.books, &self.log, true)?.wait_with_output()?;
        ensure!(
            settled.status.success(),
            "not all could be settled; what was said is in {}",
            self.log.display()
        );
        let settled: Value = serde_json::from_slice(&settled.stdout)?;
        kill_process(Pid::from_child(&self.supervisor), Signal::TERM)?;
        let ended = self.supervisor.wait()?;
        ensure!(ended.success(), "the bank did not end in order: {ended}");
        let judged = self.bank.words("check").arg("--books").arg(&self.books).output()?;
        let mut counted: Value = serde_json::from_slice(&judged.stdout)
            .with_context(|| String::from_utf8_lossy(&judged.stderr).trim_end().to_string())?;
        eprint!("{}", String::from_utf8_lossy(&judged.stderr));
        counted["were_open"] = settled["were_open"].clone();
        let log = std::fs::read_to_string(&self.log)?;
        let lines = |has: &dyn Fn(&str) -> bool| log.lines().filter(|line| has(line)).count();
        counted["snapshots_made"] =
            json!(lines(&|line| line.starts_with("reader: snapshot ") && line.contains(" made, ")));
        counted["core_starts_from_snapshots"] =
            json!(lines(&|line| line.starts_with("core: began from the snapshot ")));
        counted["reader_starts_from_snapshots"] = json!(lines(&|line| {
            line.strip_prefix("reader: snapshot ")
                .and_then(|rest| rest.split_once(", then "))
                .is_some_and(|(sequence, _)| sequence != "0")
        }));
        Ok(counted)
    }
}

impl Drop for Site {
    /// Services end with their supervisor.
    fn drop(&mut self) {
        for child in [&mut self.supervisor, &mut self.customers] {
            // It may have ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn appended(log: &Path) -> anyhow::Result<File> {
    Ok(OpenOptions::new().create(true).append(true).open(log)?)
}

fn serve(bank: &Bank, log: &Path) -> anyhow::Result<Child> {
    let mut command = Command::new(&bank.pabal);
    command.args(["serve", "--snapshot-commands", SNAPSHOT_COMMANDS, "--data"]).arg(&bank.data);
    Ok(command.stdin(Stdio::null()).stdout(appended(log)?).stderr(appended(log)?).spawn()?)
}

fn customers(bank: &Bank, books: &Path, log: &Path, settle: bool) -> anyhow::Result<Child> {
    let mut command = Command::new(&bank.pabal);
    command.args(["drill", "customers", "--data"]).arg(&bank.data).arg("--books").arg(books);
    if settle {
        command.arg("--settle").stdout(Stdio::piped());
    } else {
        command.stdout(Stdio::null());
    }
    Ok(command.stdin(Stdio::null()).stderr(appended(log)?).spawn()?)
}
