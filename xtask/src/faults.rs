//! `cargo xtask faults`: real system calls of the real binary fail, one at a time.
//!
//! A first run without a fault tells which calls a bank makes on its files, and how often. Then each of the first of
//! them fails in a run of its own: with an error of the disk, with no room, with a signal that came between, or late.
//! Whatever failed, the bank must end by itself, saying what to do, or go on; never panic, never hang. What it had
//! acknowledged must be there exactly once, and a start without a fault must go on from it.
//!
//! Each call is tried on four kinds of files apart, in three states of a bank. The reason is strace's way of counting:
//! "the second `fdatasync`" is the second of *each thread*, so that a call which the start makes would hide the same
//! call of the writer after it. On the files that only the writer touches it has its own turn.

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::drill::{self, Bank, COUNTS};

/// Blocks of a segment: so few that a run of [`REQUESTS`] fills several.
const SEGMENT_BLOCKS: &str = "32";
/// Requests of a run in which something fails.
const REQUESTS: &str = "24";
/// Requests of the run after it: more than what it sends again, so that it also sends something new.
const REQUESTS_AFTER: &str = "20";
/// Runs at once: they wait more than they compute.
const AT_ONCE: usize = 3;
/// Seconds in which a run must have ended, or it hangs: a hundred times what it takes.
const SECONDS_MAX: &str = "20";
/// Tries to tear a record; one in a few fails.
const TEARS_MAX: usize = 30;
/// Segments beyond those that a run finds which it may make.
const SEGMENTS_MADE_MAX: u64 = 40;

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The disk does not do it.
    Error,
    /// There is no room.
    Full,
    /// A signal came between: to be called again, and nobody need know.
    Signal,
    /// It takes long.
    Late,
}

impl Fault {
    const ALL: [Fault; 4] = [Fault::Error, Fault::Full, Fault::Signal, Fault::Late];

    fn words(self) -> &'static str {
        match self {
            Fault::Error => "error=EIO",
            Fault::Full => "error=ENOSPC",
            Fault::Signal => "error=EINTR",
            Fault::Late => "delay_enter=200ms",
        }
    }
}

/// Calls that a bank's life does not hang on. All others that it makes on its files are tried, reads too: a call that
/// is new to a bank is so tried without being named here.
const LEFT_ALONE: &[&str] = &[
    "access",
    "close",
    "faccessat2",
    "fcntl",
    "fstat",
    "ioctl",
    "lseek",
    "madvise",
    "munmap",
    "newfstatat",
    "readlink",
    "statx",
];
/// Calls whose manual knows no signal that comes between, so that no program calls them again.
const NEVER_BROKEN_OFF: &[&str] = &["getdents64", "mkdir", "mmap", "rename", "unlink"];

/// The kinds of files, for each of which strace counts anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Files {
    /// The data folder, the journal's, and the one in which both are.
    Folders,
    /// Segments that are there, or that a start makes before anything else.
    There,
    /// Segments that are made meanwhile.
    Made,
    /// The crash ring.
    Ring,
}

impl Files {
    const ALL: [Files; 4] = [Files::Folders, Files::There, Files::Made, Files::Ring];

    fn name(self) -> &'static str {
        match self {
            Files::Folders => "folders",
            Files::There => "segments there",
            Files::Made => "segments made",
            Files::Ring => "ring",
        }
    }

    fn paths(self, data: &Path, there: u64) -> Vec<PathBuf> {
        let journal = data.join("journal");
        let segments = |numbers: std::ops::Range<u64>| {
            numbers.flat_map(|n| ["seg", "tmp"].map(|end| journal.join(format!("{n:012}.{end}")))).collect()
        };
        match self {
            Files::Folders => data.ancestors().take(2).map(Path::to_path_buf).chain([journal]).collect(),
            Files::There => segments(0..there),
            Files::Made => segments(there..there + SEGMENTS_MADE_MAX),
            Files::Ring => vec![data.join("ring")],
        }
    }
}

/// The bank on which something fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// There is none yet.
    New,
    /// It has records, and was stopped in order.
    Grown,
    /// Its last record is torn: the first block of it did not reach the disk when the bank ended.
    Torn,
}

impl State {
    const ALL: [State; 3] = [State::New, State::Grown, State::Torn];

    fn name(self) -> &'static str {
        match self {
            State::New => "new",
            State::Grown => "grown",
            State::Torn => "torn",
        }
    }
}

/// A bank in a state, to be copied for each case.
struct Before {
    state: State,
    folder: PathBuf,
    /// Segments that it has, the first one that a start makes included.
    there: u64,
}

/// A call, and how often one thread of a run makes it.
struct Used {
    before: usize,
    files: Files,
    call: String,
    times: u64,
}

/// One run in which one call fails.
struct Case<'b> {
    before: &'b Before,
    files: Files,
    call: String,
    time: u64,
    fault: Fault,
}

/// What the cases came to.
#[derive(Default)]
struct Sum {
    cases: u64,
    injections: u64,
    stopped: u64,
    went_on: u64,
    refused: u64,
    counts: [u64; COUNTS.len()],
    wrong: Vec<String>,
}

/// Runs the drill: each call's first `calls` times. True when nothing was wrong; nothing where no program may be
/// traced, which is said.
pub fn run(calls: u64, json: bool) -> anyhow::Result<Option<bool>> {
    if let Some(why) = untraceable("true")? {
        println!("skipped: strace cannot trace a program here: {why}");
        return Ok(None);
    }
    let pabal = drill::build()?;
    let begun = Instant::now();
    let folder = tempfile::tempdir()?;
    let root = folder.path().canonicalize()?;
    let befores: Vec<Before> =
        State::ALL.into_iter().map(|state| prepare(state, &root, &pabal)).collect::<anyhow::Result<_>>()?;
    let mut used = Vec::new();
    for (at, before) in befores.iter().enumerate() {
        for files in Files::ALL {
            used.extend(survey(before, files, &root, &pabal)?.into_iter().map(|(call, times)| Used {
                before: at,
                files,
                call,
                times,
            }));
        }
    }
    let mut cases: VecDeque<Case<'_>> = VecDeque::new();
    for Used { before, files, call, times } in &used {
        for time in 1..=calls.min(*times) {
            let tried = Fault::ALL
                .into_iter()
                .filter(|fault| *fault != Fault::Signal || !NEVER_BROKEN_OFF.contains(&call.as_str()));
            cases.extend(tried.map(|fault| Case {
                before: &befores[*before],
                files: *files,
                call: call.clone(),
                time,
                fault,
            }));
        }
    }
    let sum = all(cases, &root, &pabal, json)?;
    // A drill in which nothing failed, or nothing was acknowledged, has shown nothing.
    let passed = sum.wrong.is_empty() && sum.injections > 0 && sum.stopped > 0 && sum.went_on > 0;
    let mut report = json!({
        "calls": used.iter().map(|used| json!({
            "bank": befores[used.before].state.name(),
            "files": used.files.name(),
            "call": used.call,
            "times": used.times,
        })).collect::<Vec<_>>(),
        "cases": sum.cases,
        "injections": sum.injections,
        "stopped": sum.stopped,
        "went_on": sum.went_on,
        "refused": sum.refused,
        "seconds": begun.elapsed().as_secs(),
        "wrong": sum.wrong,
        "passed": passed,
    });
    for (name, count) in COUNTS.into_iter().zip(sum.counts) {
        report[name] = json!(count);
    }
    if json {
        println!("{report}");
    } else {
        show(&used, &befores);
        for wrong in &sum.wrong {
            println!("WRONG: {wrong}");
        }
        println!(
            "{} injections in {} runs: {} stopped, {} went on, {} with refusals; {} acknowledged, {} missing, {} \
             doubled, {} wrong ({} s)",
            sum.injections,
            sum.cases,
            sum.stopped,
            sum.went_on,
            sum.refused,
            sum.counts[1],
            sum.counts[3],
            sum.counts[4],
            sum.wrong.len(),
            begun.elapsed().as_secs()
        );
    }
    Ok(Some(passed))
}

fn show(used: &[Used], befores: &[Before]) {
    println!("calls that a bank makes on its files, and how often one thread of a run makes them:");
    for (at, before) in befores.iter().enumerate() {
        for files in Files::ALL {
            let calls: Vec<String> = used
                .iter()
                .filter(|used| used.before == at && used.files == files)
                .map(|used| format!("{} {}", used.call, used.times))
                .collect();
            println!("  {:6}{:16}{}", before.state.name(), files.name(), calls.join(", "));
        }
    }
}

/// Makes the bank that cases of this state begin with.
fn prepare(state: State, root: &Path, pabal: &Path) -> anyhow::Result<Before> {
    let folder = root.join(state.name());
    std::fs::create_dir(&folder)?;
    let bank = Bank::within(&folder, pabal);
    for file in [&bank.sent, &bank.acked] {
        std::fs::write(file, "")?;
    }
    match state {
        State::New => {}
        State::Grown => {
            let output = load(&bank, timeout(&bank), REQUESTS)?;
            ensure!(output.status.success(), "a run without a fault failed: {}", said(&output));
        }
        State::Torn => tear(&bank)?,
    }
    let there = std::fs::read_dir(bank.data.join("journal")).map_or(1, |entries| entries.count() as u64);
    Ok(Before { state, folder, there })
}

/// Lets a bank end with a torn record. The third write of each thread says that it wrote a block and did not, and the
/// third sync fails: for the thread that writes records that is its third record, which need only be longer than a
/// block. For one that makes segments it is mostly the filling of one with zeros, which is zero there anyway. Where large
/// records have them reserved rather than filled it is a header: a lost write, which is another fault than this one, and
/// is tried again.
fn tear(bank: &Bank) -> anyhow::Result<()> {
    let files = [Files::There, Files::Made].map(|files| files.paths(&bank.data, 1)).concat();
    for _ in 0..TEARS_MAX {
        if bank.data.exists() {
            std::fs::remove_dir_all(&bank.data)?;
        }
        for file in [&bank.sent, &bank.acked] {
            std::fs::write(file, "")?;
        }
        let injected = ["pwrite64:retval=4096:when=3", "fdatasync:error=EIO:when=3"];
        let (output, trace) = traced(bank, &files, "pwrite64,fdatasync", &injected)?;
        ensure!(output.status.code() == Some(2), "it was to end on a failed sync: {}", said(&output));
        let Some(failed) = trace.lines().find(|line| line.contains("fdatasync") && line.contains("INJECTED"))
        else {
            bail!("no sync failed: {}", said(&output));
        };
        let its =
            |line: &&str| begun(line).is_some_and(|(thread, _)| begun(failed).is_some_and(|f| f.0 == thread));
        let torn = trace.lines().filter(its).filter(|line| line.contains("pwrite64(")).count() > 3;
        if torn && all_begin(&bank.data.join("journal"))? {
            return Ok(());
        }
    }
    bail!("no record was torn: {TEARS_MAX} times the third one was a single block, or a header was lost too")
}

/// Whether every segment of the folder begins with something: one whose header was lost begins with zeros.
fn all_begin(folder: &Path) -> anyhow::Result<bool> {
    for entry in std::fs::read_dir(folder)? {
        let (path, mut beginning) = (entry?.path(), [0; 16]);
        // What was still being made has another name, and no header that counts.
        if path.extension().is_none_or(|extension| extension != "seg") {
            continue;
        }
        File::open(path)?.read_exact(&mut beginning)?;
        if beginning == [0; 16] {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The calls that a run without a fault makes on these files, and how often one thread makes each.
fn survey(before: &Before, files: Files, root: &Path, pabal: &Path) -> anyhow::Result<BTreeMap<String, u64>> {
    let folder = tempfile::tempdir_in(root)?;
    copy(&before.folder, folder.path())?;
    let bank = Bank::within(folder.path(), pabal);
    let (output, trace) = traced(&bank, &files.paths(&bank.data, before.there), "%file,%desc", &[])?;
    ensure!(output.status.success(), "a run without a fault failed: {}", said(&output));
    let mut times: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for line in trace.lines() {
        if let Some((thread, call)) = begun(line)
            && !LEFT_ALONE.contains(&call)
        {
            *times.entry((thread, call)).or_default() += 1;
        }
    }
    let mut most: BTreeMap<String, u64> = BTreeMap::new();
    for ((_, call), times) in times {
        let before = most.entry(call.to_string()).or_default();
        *before = (*before).max(times);
    }
    Ok(most)
}

/// The thread and the call of a line of strace's that begins one.
fn begun(line: &str) -> Option<(&str, &str)> {
    let (thread, rest) = line.split_once(char::is_whitespace)?;
    let (call, _) = rest.trim_start().split_once('(')?;
    call.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_').then_some((thread, call))
}

/// Runs all cases, some at once. An error is one of the drill itself.
fn all(cases: VecDeque<Case<'_>>, root: &Path, pabal: &Path, json: bool) -> anyhow::Result<Sum> {
    let (many, begun) = (cases.len(), Instant::now());
    let (queue, sum) = (Mutex::new(cases), Mutex::new(Sum::default()));
    let work = || -> anyhow::Result<()> {
        loop {
            let Some(case) = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front() else {
                return Ok(());
            };
            let mut own = Sum { cases: 1, ..Sum::default() };
            case.run(root, pabal, &mut own)?;
            let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
            sum.take(own);
            if !json && sum.cases.is_multiple_of(200) {
                let left = begun.elapsed().as_secs_f64() * (many as f64 / sum.cases as f64 - 1.0);
                eprintln!("{} of {many} cases, {} s left", sum.cases, left.ceil() as u64);
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(done) => done,
            Err(_) => bail!("a worker of the drill panicked"),
        })
    })?;
    Ok(sum.into_inner().unwrap_or_else(PoisonError::into_inner))
}

impl Sum {
    fn take(&mut self, other: Sum) {
        self.cases += other.cases;
        self.injections += other.injections;
        self.stopped += other.stopped;
        self.went_on += other.went_on;
        self.refused += other.refused;
        self.counts.iter_mut().zip(other.counts).for_each(|(sum, count)| *sum += count);
        self.wrong.extend(other.wrong);
    }
}

impl Case<'_> {
    fn name(&self) -> String {
        format!(
            "{} bank, {}, {} {}, {}",
            self.before.state.name(),
            self.files.name(),
            self.call,
            self.time,
            self.fault.words()
        )
    }

    fn run(&self, root: &Path, pabal: &Path, sum: &mut Sum) -> anyhow::Result<()> {
        let folder = tempfile::tempdir_in(root)?;
        copy(&self.before.folder, folder.path())?;
        let bank = Bank::within(folder.path(), pabal);
        if let Err(wrong) = self.hold(&bank, sum) {
            sum.wrong.push(format!("{}: {wrong:#}", self.name()));
        }
        Ok(())
    }

    /// What must hold; an error says what does not.
    fn hold(&self, bank: &Bank, sum: &mut Sum) -> anyhow::Result<()> {
        let inject = format!("{}:{}:when={}", self.call, self.fault.words(), self.time);
        let files = self.files.paths(&bank.data, self.before.there);
        let (output, trace) = traced(bank, &files, &self.call, &[&inject])?;
        let injections = trace.matches("(INJECTED)").count() + trace.matches("(DELAYED)").count();
        sum.injections += injections as u64;
        let ended = self.ended(&output, injections > 0, sum);
        // Whatever it said: what it had acknowledged is there.
        let before = counted(bank).context("after it")?;
        ended?;
        let again = load(bank, timeout(bank), REQUESTS_AFTER)?;
        ensure!(again.status.success(), "it does not start again: {}", said(&again));
        let after = counted(bank).context("after the next start")?;
        let more = |report: &Value| report["acknowledged"].as_u64().unwrap_or(0);
        ensure!(more(&after) > more(&before), "the next start acknowledged nothing");
        drill::add(&mut sum.counts, &after);
        Ok(())
    }

    /// Whether the call makes a record durable: after it failed nobody knows whether the record is, so that
    /// whatever else is answered may be taken back.
    fn must_stop(&self) -> bool {
        matches!(self.fault, Fault::Error | Fault::Full) && self.call == "fdatasync"
    }

    /// How the run ended, and whether it may have ended so.
    fn ended(&self, output: &Output, failed: bool, sum: &mut Sum) -> anyhow::Result<()> {
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(!text.contains("panicked"), "it panicked: {}", said(output));
        let unnoticed = !failed || matches!(self.fault, Fault::Signal | Fault::Late);
        match output.status.code() {
            Some(0) if failed && self.must_stop() => bail!("it went on after a record was not durable"),
            Some(0) => {
                let report: Value = serde_json::from_slice(&output.stdout).context("its report")?;
                sum.went_on += 1;
                sum.refused += u64::from(report["refused"] != 0);
                ensure!(report["refused"] == 0 || self.fault == Fault::Full, "it refused commands: {report}");
            }
            Some(2) if unnoticed => bail!("it was to go on and ended: {}", said(output)),
            Some(2) => {
                sum.stopped += 1;
                ensure!(text.starts_with("pabal: "), "it did not say why it ended: {}", said(output));
                ensure!(text.contains("start the bank again"), "it did not say what to do: {}", said(output));
            }
            Some(137) => bail!("it hung: not ended after {SECONDS_MAX} s"),
            _ => bail!("it ended with {}: {}", output.status, said(output)),
        }
        Ok(())
    }
}

/// What `pabal drill check` counts; an error where it finds something wrong. A bank that never came to be has
/// nothing to count, which is good as long as it had acknowledged nothing.
fn counted(bank: &Bank) -> anyhow::Result<Value> {
    match bank.check() {
        Ok(report) => {
            ensure!(report["passed"] == true, "{report}");
            Ok(report)
        }
        Err(_) if std::fs::metadata(&bank.acked)?.len() == 0 => Ok(json!({ "acknowledged": 0 })),
        Err(error) => Err(error),
    }
}

fn load(bank: &Bank, program: Command, requests: &str) -> anyhow::Result<Output> {
    let mut command = bank.behind(program, "load");
    command.args(["--requests", requests, "--segment-blocks", SEGMENT_BLOCKS]);
    command.stdin(Stdio::null()).output().context("cannot start the client")
}

/// Runs the client, tracing these calls on these files; the trace beside what it said.
fn traced(
    bank: &Bank,
    files: &[PathBuf],
    calls: &str,
    injected: &[&str],
) -> anyhow::Result<(Output, String)> {
    let trace = bank.data.with_file_name("trace");
    let mut strace = strace();
    strace.arg("--output").arg(&trace);
    for file in files {
        strace.arg("--trace-path").arg(file);
    }
    strace.arg(format!("--trace={calls}"));
    for inject in injected {
        strace.arg(format!("--inject={inject}"));
    }
    strace.args(["timeout", "--signal=KILL", SECONDS_MAX]).arg(&bank.pabal);
    let output = load(bank, strace, REQUESTS)?;
    let trace = std::fs::read_to_string(&trace)
        .with_context(|| format!("strace left no trace: {}", said(&output)))?;
    Ok((output, trace))
}

fn strace() -> Command {
    let mut strace = Command::new("strace");
    strace.args(["--follow-forks", "--seccomp-bpf", "-qq", "--signal=none"]);
    strace
}

/// Why this program cannot be run under strace, if it cannot: a container may forbid it, even root.
fn untraceable(program: &str) -> anyhow::Result<Option<String>> {
    let mut command = strace();
    command.args(["--trace=exit_group", "--output=/dev/null", program]).stdin(Stdio::null());
    let output = command.output().context("cannot start strace; install it")?;
    Ok((!output.status.success()).then(|| said(&output)))
}

/// Ends what follows when it hangs.
fn timeout(bank: &Bank) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", SECONDS_MAX]).arg(&bank.pabal);
    command
}

fn said(output: &Output) -> String {
    let signal = output.status.signal().map(|signal| format!("signal {signal}: ")).unwrap_or_default();
    format!("{signal}{}", String::from_utf8_lossy(&output.stderr).trim_end())
}

/// Copies a folder with what is in it.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let (entry, to) = (entry?.path(), to.to_path_buf());
        let Some(name) = entry.file_name() else { continue };
        let to = to.join(name);
        if entry.is_dir() {
            std::fs::create_dir(&to)?;
            copy(&entry, &to)?;
        } else {
            std::fs::copy(&entry, &to)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_header_is_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let write =
            |name: &str, byte: u8| std::fs::write(folder.path().join(name), [byte; 64]).expect("written");
        write("0.seg", 7);
        assert!(all_begin(folder.path()).expect("read"));
        write("1.tmp", 0);
        assert!(all_begin(folder.path()).expect("read"));
        write("1.seg", 0);
        assert!(!all_begin(folder.path()).expect("read"));
    }

    #[test]
    fn a_call_is_counted_where_it_begins() {
        assert_eq!(begun("31 fsync(4) = -1 EIO (INJECTED)"), Some(("31", "fsync")));
        assert_eq!(begun("7   pwrite64(5, \"a(b\", 4096, 0 <unfinished ...>"), Some(("7", "pwrite64")));
        assert_eq!(begun("31 <... fsync resumed>) = 0"), None);
        assert_eq!(begun("31 +++ exited with 0 +++"), None);
        assert_eq!(begun(""), None);
    }

    /// A drill that may not trace must not be taken for a bank that is wrong, nor for one that was tried.
    #[test]
    fn a_program_that_cannot_be_traced_is_said_to_be_so() {
        if !Command::new("strace").arg("--version").output().is_ok_and(|output| output.status.success()) {
            return println!("skipped: there is no strace");
        }
        let why = untraceable("/nowhere/to/be/found").expect("strace starts");
        assert!(why.is_some_and(|why| why.contains("strace")));
    }

    /// A segment that belongs to two kinds would be counted for both, one that belongs to none would never fail.
    #[test]
    fn each_file_is_of_one_kind() {
        let data = Path::new("/bank/data");
        let all: Vec<PathBuf> = Files::ALL.into_iter().flat_map(|files| files.paths(data, 2)).collect();
        for wanted in ["/bank", "/bank/data", "/bank/data/journal", "/bank/data/ring"] {
            assert_eq!(all.iter().filter(|path| **path == Path::new(wanted)).count(), 1, "{wanted}");
        }
        for segment in 0..2 + SEGMENTS_MADE_MAX {
            for end in ["seg", "tmp"] {
                let path = data.join(format!("journal/{segment:012}.{end}"));
                assert_eq!(all.iter().filter(|other| **other == path).count(), 1, "{}", path.display());
            }
        }
    }
}
