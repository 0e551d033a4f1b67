//! `cargo xtask fuzz`: hostile bytes for every decoder. No panic, no unbounded allocation, no loop without end.
//!
//! The targets are a workspace of their own (`fuzz/`), built once with cargo-fuzz and libFuzzer on the stable
//! toolchain (no sanitizer: that needs a nightly one), optimised, with every assertion and overflow check. Each
//! seeds its corpus itself from records of a bank that it makes, goes on from the corpus of earlier runs, which is
//! kept under the target folder, and takes the inputs that once found something (`fuzz/regressions/TARGET`) first.
//!
//! *What bounds it.* Each target has so many seconds, two run at a time, and one input may take so long and so much
//! memory and no more: beyond that it counts as a crash.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::sum::Tally;
use crate::{cargo, need};

/// Seconds of each target unless another number is given; the full form is 3600.
pub const SECONDS: u64 = 30;
/// Targets that run at a time.
const AT_A_TIME: usize = 2;
/// The version of cargo-fuzz that is installed where there is none.
const CARGO_FUZZ: &str = "0.13.2";
/// Seconds that one input may take.
const INPUT_SECONDS_MAX: u64 = 10;
/// Bytes of an input at most: some blocks of a journal.
const INPUT_BYTES_MAX: usize = 16 * 1024;
/// Memory that a target may take, MiB.
const MEMORY_MB_MAX: u64 = 1024;
/// One allocation at most, MiB. Without a sanitizer libFuzzer cannot see it; the targets' own allocator does.
const ALLOCATION_MB_MAX: u64 = 64;

/// Fuzzes these targets, or all. True if none crashed.
pub fn run(root: &Path, seconds: u64, targets: &[String], json: bool) -> Result<bool> {
    let outcomes = all(root, seconds, targets, json)?;
    let crashes = outcomes.iter().filter(|outcome| outcome.crash.is_some()).count();
    if json {
        println!("{}", report(&outcomes, crashes));
    } else {
        print(&outcomes);
    }
    Ok(crashes == 0)
}

/// The step of `cargo xtask test`: each target counts as one test.
pub fn step(root: &Path) -> Result<Tally> {
    println!("\n== cargo xtask fuzz --seconds {SECONDS}");
    let outcomes = all(root, SECONDS, &[], false)?;
    print(&outcomes);
    let failed = outcomes.iter().filter(|outcome| outcome.crash.is_some()).count() as u64;
    Ok(Tally { passed: outcomes.len() as u64 - failed, failed, ignored: 0 })
}

/// What became of a target.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    name: String,
    seconds: u64,
    executions: u64,
    /// Inputs kept because each reaches something that no other does.
    corpus: u64,
    peak_mb: u64,
    crash: Option<Crash>,
}

#[derive(Debug, PartialEq, Eq)]
struct Crash {
    /// What was said last.
    what: String,
    /// The input that did it.
    input: String,
}

fn all(root: &Path, seconds: u64, targets: &[String], quiet: bool) -> Result<Vec<Outcome>> {
    let known = targets_of(&fs::read_to_string(root.join("fuzz/Cargo.toml")).context("fuzz/Cargo.toml")?)?;
    if let Some(strange) = targets.iter().find(|name| !known.contains(name)) {
        bail!("there is no target `{strange}`; there are: {}", known.join(", "));
    }
    let names = if targets.is_empty() { known } else { targets.to_vec() };
    need::install()?;
    install()?;
    let place = Place::of(root);
    let built = cargo()
        .args(["fuzz", "build", "--sanitizer", "none", "--target-dir"])
        .arg(&place.target)
        .stdout(std::io::stderr())
        .status()
        .context("cannot start cargo fuzz")?;
    if !built.success() {
        bail!("the fuzz targets do not build");
    }
    let mut waiting = names.iter();
    let mut running: Vec<Run> = Vec::new();
    let mut outcomes = Vec::new();
    let mut progress = Progress::new(seconds, names.len(), quiet);
    loop {
        while running.len() < AT_A_TIME
            && let Some(name) = waiting.next()
        {
            running.push(place.start(name, seconds)?);
        }
        if running.is_empty() {
            break;
        }
        let mut left = Vec::with_capacity(running.len());
        for mut run in running {
            match run.child.try_wait().context("cannot wait for a target")? {
                Some(status) => outcomes.push(run.outcome(status.success())?),
                None => left.push(run),
            }
        }
        running = left;
        progress.say(&running, outcomes.len());
        std::thread::sleep(Duration::from_millis(100));
    }
    outcomes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(outcomes)
}

/// The targets that the fuzz workspace names.
fn targets_of(manifest: &str) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Manifest {
        bin: Vec<Bin>,
    }
    #[derive(Deserialize)]
    struct Bin {
        name: String,
    }
    let manifest: Manifest = toml::from_str(manifest).context("fuzz/Cargo.toml")?;
    Ok(manifest.bin.into_iter().map(|bin| bin.name).collect())
}

/// Installs cargo-fuzz where there is none: about a minute.
fn install() -> Result<()> {
    let there = cargo().args(["fuzz", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if there.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    eprintln!("lacking: cargo-fuzz, which builds and runs the fuzz targets; installing version {CARGO_FUZZ}");
    let status = cargo()
        .args(["install", "--locked", "cargo-fuzz", "--version", CARGO_FUZZ])
        .stdout(std::io::stderr())
        .status()
        .context("cannot start cargo install")?;
    if !status.success() {
        bail!("cargo install --locked cargo-fuzz --version {CARGO_FUZZ} failed");
    }
    Ok(())
}

/// Where everything is that fuzzing makes.
struct Place {
    regressions: PathBuf,
    target: PathBuf,
}

impl Place {
    fn of(root: &Path) -> Place {
        Place { regressions: root.join("fuzz/regressions"), target: crate::target().join("fuzz") }
    }

    /// An empty or a filled folder of this target.
    fn folder(&self, what: &str, name: &str) -> Result<PathBuf> {
        let folder = self.target.join(what).join(name);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(folder)
    }

    fn start(&self, name: &str, seconds: u64) -> Result<Run> {
        let corpus = self.folder("corpus", name)?;
        let crashes = self.folder("crashes", name)?;
        let log = self.folder("log", name)?.join("last.txt");
        let said = File::create(&log).with_context(|| log.display().to_string())?;
        let mut command = cargo();
        command.args(["fuzz", "run", "--sanitizer", "none", "--target-dir"]).arg(&self.target);
        command.arg(name).arg(&corpus);
        let regressions = self.regressions.join(name);
        if regressions.is_dir() {
            command.arg(regressions);
        }
        command.arg("--").args([
            format!("-max_total_time={seconds}"),
            format!("-timeout={INPUT_SECONDS_MAX}"),
            format!("-max_len={INPUT_BYTES_MAX}"),
            format!("-rss_limit_mb={MEMORY_MB_MAX}"),
            format!("-malloc_limit_mb={ALLOCATION_MB_MAX}"),
            format!("-artifact_prefix={}/", crashes.display()),
            "-print_final_stats=1".into(),
        ]);
        command.env("PABAL_FUZZ_SEEDS", &corpus);
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        let child = command.spawn().context("cannot start cargo fuzz")?;
        Ok(Run { name: name.into(), child, log, begun: Instant::now() })
    }
}

/// A target that runs.
struct Run {
    name: String,
    child: Child,
    log: PathBuf,
    begun: Instant,
}

impl Run {
    fn outcome(self, success: bool) -> Result<Outcome> {
        let said = fs::read(&self.log).with_context(|| self.log.display().to_string())?;
        let seconds = self.begun.elapsed().as_secs();
        read(&self.name, seconds, success, &String::from_utf8_lossy(&said))
            .with_context(|| format!("{}: see {}", self.name, self.log.display()))
    }
}

/// What a target's words say of it.
fn read(name: &str, seconds: u64, success: bool, said: &str) -> Result<Outcome> {
    let stat = |what: &str| {
        let mut values = said.lines().filter_map(|line| line.strip_prefix("stat::")?.strip_prefix(what));
        values.next().and_then(|value| value.trim_start_matches(':').trim().parse::<u64>().ok())
    };
    // `#123  DONE  cov: 5 ft: 6 corp: 7/89Kb …`, on the last of the lines that say it.
    let mut sizes =
        said.lines().filter_map(|line| line.split_once(" corp: ")?.1.split('/').next()?.parse().ok());
    let crash = if success { None } else { Some(crash_of(said).context("it ended without having run")?) };
    let executions = stat("number_of_executed_units").unwrap_or(0);
    if executions == 0 && crash.is_none() {
        bail!("it executed nothing");
    }
    Ok(Outcome {
        name: name.into(),
        seconds,
        executions,
        corpus: sizes.next_back().unwrap_or(0),
        peak_mb: stat("peak_rss_mb").unwrap_or(0),
        crash,
    })
}

fn crash_of(said: &str) -> Option<Crash> {
    let input = said.lines().filter_map(|line| line.split_once("Test unit written to ")).next_back()?.1;
    let mut lines = said.lines().skip_while(|line| !line.contains("panicked at"));
    let what = match (lines.next(), lines.next()) {
        (Some(place), Some(why)) => {
            let place = place.split_once("panicked at ").map_or(place, |(_, place)| place);
            format!("{} ({})", why.trim(), place.trim_end_matches(':'))
        }
        _ => {
            let error = said.lines().find_map(|line| line.split_once("ERROR: ")).map(|(_, error)| error);
            error.unwrap_or("see its log").into()
        }
    };
    Some(Crash { what, input: input.trim().into() })
}

/// Says now and then what runs and how long it will still take.
struct Progress {
    seconds: u64,
    targets: usize,
    quiet: bool,
    begun: Instant,
    said: Instant,
}

impl Progress {
    fn new(seconds: u64, targets: usize, quiet: bool) -> Progress {
        let now = Instant::now();
        Progress { seconds, targets, quiet, begun: now, said: now }
    }

    fn say(&mut self, running: &[Run], done: usize) {
        let pause = Duration::from_secs((self.seconds / 6).clamp(5, 60));
        if self.quiet || running.is_empty() || self.said.elapsed() < pause {
            return;
        }
        self.said = Instant::now();
        let all = self.seconds * self.targets.div_ceil(AT_A_TIME) as u64;
        let left = all.saturating_sub(self.begun.elapsed().as_secs());
        let names: Vec<&str> = running.iter().map(|run| run.name.as_str()).collect();
        eprintln!("fuzzing {}: {done} of {} targets done, {left} s left", names.join(", "), self.targets);
    }
}

fn print(outcomes: &[Outcome]) {
    println!(
        "{:10}{:>14}{:>14}{:>10}{:>12}  result",
        "target", "executions", "a second", "corpus", "peak MiB"
    );
    for o in outcomes {
        let result = if o.crash.is_some() { "CRASHED" } else { "passed" };
        let rate = o.executions / o.seconds.max(1);
        println!("{:10}{:>14}{rate:>14}{:>10}{:>12}  {result}", o.name, o.executions, o.corpus, o.peak_mb);
    }
    for o in outcomes {
        if let Some(crash) = &o.crash {
            println!("{}: {}\n  input: {}\n  again: {}", o.name, crash.what, crash.input, again(o, crash));
        }
    }
}

/// The command that does it again, with what is built.
fn again(outcome: &Outcome, crash: &Crash) -> String {
    let target = Place::of(crate::root()).target;
    format!(
        "cargo fuzz run --sanitizer none --target-dir {} {} {}",
        target.display(),
        outcome.name,
        crash.input
    )
}

fn report(outcomes: &[Outcome], crashes: usize) -> Value {
    let targets: Vec<Value> = outcomes
        .iter()
        .map(|o| {
            let mut target = json!({
                "name": o.name,
                "executions": o.executions,
                "seconds": o.seconds,
                "crashes": u64::from(o.crash.is_some()),
                "corpus": o.corpus,
                "peak_mb": o.peak_mb,
            });
            if let Some(crash) = &o.crash {
                target["what"] = json!(crash.what);
                target["input"] = json!(crash.input);
                target["again"] = json!(again(o, crash));
            }
            target
        })
        .collect();
    json!({ "targets": targets, "crashes": crashes, "passed": crashes == 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "#3\tINITED cov: 5 ft: 5 corp: 2/4850b exec/s: 0 rss: 29Mb\n\
                        #9\tDONE   cov: 7 ft: 9 corp: 332/305Kb lim: 4 exec/s: 3 rss: 31Mb\n\
                        stat::number_of_executed_units: 31432\nstat::peak_rss_mb:              31\n";
    const BAD: &str = "thread '<unnamed>' (7) panicked at crates/x.rs:49:9:\nattempt to multiply with overflow\n\
                       ==7== ERROR: libFuzzer: deadly signal\n\
                       artifact_prefix='c/'; Test unit written to c/crash-f1\n\
                       stat::number_of_executed_units: 571\n";
    const SLOW: &str = "==7== ERROR: libFuzzer: timeout after 10 seconds\n\
                        artifact_prefix='c/'; Test unit written to c/timeout-a\n";

    #[test]
    fn what_a_target_says_is_read() {
        let good = read("csv", 30, true, GOOD).unwrap();
        assert_eq!((good.executions, good.corpus, good.peak_mb, good.crash), (31432, 332, 31, None));
        let bad = read("journal", 1, false, BAD).unwrap();
        let crash = bad.crash.as_ref().unwrap();
        assert_eq!(crash.what, "attempt to multiply with overflow (crates/x.rs:49:9)");
        assert_eq!((bad.executions, crash.input.as_str()), (571, "c/crash-f1"));
        let slow = read("ring", 1, false, SLOW).unwrap().crash.unwrap();
        assert_eq!(
            (slow.what.as_str(), slow.input.as_str()),
            ("libFuzzer: timeout after 10 seconds", "c/timeout-a")
        );
        let report = report(&[bad, read("csv", 30, true, GOOD).unwrap()], 1);
        assert_eq!((report["passed"].as_bool(), report["crashes"].as_u64()), (Some(false), Some(1)));
        let again = report["targets"][0]["again"].as_str().unwrap();
        assert!(again.starts_with("cargo fuzz run ") && again.ends_with(" journal c/crash-f1"), "{again}");
    }

    /// Neither a good run nor a crash: what was not run must not count as passed.
    #[test]
    fn a_target_that_did_not_run_has_not_passed() {
        assert!(read("csv", 0, false, "error: no such command: `fuzz`").is_err());
        assert!(read("csv", 0, true, "").is_err());
    }

    #[test]
    fn every_target_is_known_by_its_manifest() {
        let manifest = fs::read_to_string(crate::root().join("fuzz/Cargo.toml")).unwrap();
        let mut files: Vec<String> = fs::read_dir(crate::root().join("fuzz/fuzz_targets"))
            .unwrap()
            .map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        files.sort();
        assert_eq!(targets_of(&manifest).unwrap(), files);
    }
}
