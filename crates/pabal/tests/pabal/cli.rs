//! What the commands print, and how they end: 0 good, 1 checked and wrong, 2 usage or input.

use crate::{kept, loaded, pabal, run, segment_of, text, walk};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// The fields of `verify --json`, whatever it found.
const VERIFY: [&str; 8] = [
    "records",
    "postings",
    "accounts",
    "chain",
    "digest",
    "debits_equal_credits",
    "outcomes_match",
    "seconds",
];

fn has(report: &Value, fields: &[&str]) {
    for field in fields {
        assert!(report.get(field).is_some(), "{field} is missing in {report}");
    }
}

/// What is shipped has no bug planted in it, and says so.
#[test]
fn the_version_says_that_nothing_is_planted() {
    let (out, errors, code) = run(&["--version"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    assert_eq!(out.lines().collect::<Vec<_>>()[1..], ["planted: false"], "{out}");
}

/// Whoever is given a seed sees what was seen before, in whatever process.
#[test]
fn a_seed_of_the_simulator_repeats_itself_in_another_process() {
    let trace = |seed: &str| {
        let (report, code, errors) = pabal(&["drill", "simulate", "--seed", seed]);
        assert_eq!((code, errors.as_str(), &report["failures"]), (0, "", &0.into()), "{report}");
        report["trace"].as_str().expect("a hash").to_string()
    };
    assert_eq!(trace("3"), trace("3"));
    assert_ne!(trace("3"), trace("4"));
}

/// A drill moves money without being anybody: that must not be had in a bank that has customers.
#[test]
fn drills_send_nothing_to_a_bank_that_is_not_their_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name| text(&folder.path().join(name));
    let (data, filler) = (path("data"), path("filler"));
    let on_books = |words: &[&str], sent, acked| {
        let files = ["--data", &data, "--sent", &path(sent), "--acked", &path(acked)];
        run(&[&["drill"], words, &files].concat())
    };
    let verified = || pabal(&["verify", "--data", &data]).0["postings"].clone();
    assert_eq!(on_books(&["load", "--requests", "2"], "sent", "acked").2, 0, "a new bank is its own");
    let before = verified();
    for words in [vec!["load", "--requests", "1"], vec!["full", "--filler", &filler]] {
        let (_, errors, code) = on_books(&words, "others", "theirs");
        assert!(code == 2 && errors.contains("not a bank of this drill's own"), "{code} {errors}");
    }
    assert_eq!(verified(), before);
    assert_eq!(on_books(&["load", "--requests", "2"], "sent", "acked").2, 0, "and stays so");
    assert_ne!(verified(), before);
}

/// With nothing tried nothing would be wrong, and it would pass.
#[test]
fn a_drill_that_tries_nothing_is_not_begun() {
    for words in
        ["simulate --seeds 0", "simulate --threads 0", "crashes --states 0", "crashes --threads 65535"]
    {
        let words: Vec<&str> = std::iter::once("drill").chain(words.split(' ')).collect();
        let (_, errors, code) = run(&words);
        assert!(code == 2 && errors.contains("invalid value"), "{words:?}: {code} {errors}");
    }
}

#[test]
fn verify_of_a_sound_journal() {
    let data = kept("rules-1-then-2.gz");
    let data = text(data.path());
    let (report, code, errors) = pabal(&["verify", "--data", &data]);
    assert_eq!((code, errors.as_str()), (0, ""));
    has(&report, &VERIFY);
    assert_eq!(report["chain"], "ok");
    assert_eq!(report["records"], report["up_to_record"]);
    for field in ["debits_equal_credits", "outcomes_match", "orderly_stop"] {
        assert_eq!(report[field], true, "{field}");
    }
    assert!(report["digest"].as_str().is_some_and(|d| d.len() == 32), "{report}");
    assert!(report["accounts"] == 7 && report["postings"] == 17, "{report}");

    let (out, errors, code) = run(&["verify", "--data", &data]);
    assert_eq!((code, errors.as_str()), (0, ""));
    assert_eq!(out.lines().last(), Some("good"), "{out}");
    assert!(out.lines().any(|l| l.starts_with(" accounts ") && l.ends_with(" 7")), "{out}");
}

#[test]
fn verify_of_a_rotten_journal_says_where_and_pretends_nothing() {
    let data = kept("rules-1-then-2.gz");
    let segment = segment_of(data.path(), 0);
    flip(&segment, 9 * 4096 + 300);
    let data = text(data.path());
    let (report, code, errors) = pabal(&["verify", "--data", &data]);
    assert_eq!((code, errors.as_str()), (1, ""));
    has(&report, &VERIFY);
    let chain = report["chain"].as_str().expect("where");
    assert!(chain.contains(&format!("{}, byte {}", segment.display(), 9 * 4096)), "{chain}");
    for unknown in ["records", "postings", "accounts", "digest", "debits_equal_credits", "outcomes_match"] {
        assert_eq!(report[unknown], Value::Null, "{unknown}");
    }
    assert_eq!(report["up_to_record"], 8);

    let (out, _, code) = run(&["verify", "--data", &data]);
    assert_eq!(code, 1);
    let last = out.lines().last().expect("a line");
    assert!(last.starts_with("WRONG: ") && last.contains("byte 36864") && last.contains("restore"), "{out}");
    assert!(out.lines().any(|l| l.starts_with(" right up to ") && l.ends_with(" record 8")), "{out}");

    for command in
        [&["statement", "101"][..], &["balance", "101"], &["balance", "101", "--as-of", "2026-01-05"]]
    {
        let arguments = [command, &["--data", &data]].concat();
        for arguments in [arguments.clone(), [&arguments[..], &["--json"]].concat()] {
            let (out, errors, code) = run(&arguments);
            assert_eq!((code, out.as_str()), (1, ""), "{arguments:?} shows figures of a rotten journal");
            assert!(errors.contains("byte 36864"), "{errors}");
        }
    }
}

#[test]
fn what_is_no_data_folder_is_an_error_of_input() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("letter.txt"), "x").expect("written");
    let (here, missing) = (text(folder.path()), text(&folder.path().join("no-such")));
    for command in [&["verify"][..], &["statement", "1"], &["balance", "1"]] {
        for (data, wanted) in [(&here, "is not a data folder"), (&missing, "no such folder")] {
            let (report, code, errors) = pabal(&[command, &["--data", data]].concat());
            assert_eq!((report, code), (Value::Null, 2), "{command:?} {data}");
            assert!(errors.contains(wanted) && errors.contains("--data"), "{errors}");
        }
    }
}

#[test]
fn statement_and_balance_have_their_fields() {
    let data = kept("rules-1-then-2.gz");
    let data = text(data.path());
    let (statement, code, _) = pabal(&["statement", "101", "--data", &data, "--last", "3"]);
    assert_eq!(code, 0);
    has(&statement, &["account", "currency", "entries", "up_to_record"]);
    assert_eq!((&statement["account"], &statement["currency"]), (&101.into(), &"KRW".into()));
    let entries = statement["entries"].as_array().expect("entries");
    assert_eq!(entries.len(), 3);
    for entry in entries {
        has(entry, &["position", "date", "kind", "amount", "balance"]);
    }
    let (balance, code, _) = pabal(&["balance", "101", "--data", &data]);
    assert_eq!(code, 0);
    has(&balance, &["account", "currency", "balance", "held", "available", "as_of", "up_to_record"]);
    assert_eq!(balance["balance"], entries[2]["balance"]);
    assert_eq!(balance["as_of"], "2026-01-07");
    // A day on which two holds were open, and the day before the bank was founded.
    let then = |day| pabal(&["balance", "102", "--data", &data, "--as-of", day]).0;
    assert_eq!(then("2026-01-05")["held"], 40_000);
    assert_eq!(then("2026-01-04")["balance"], 0);

    let (out, _, _) = run(&["balance", "101", "--data", &data, "--as-of", "2100-01-01"]);
    assert!(out.contains("The business date is 2026-01-07"), "{out}");
    let (out, _, _) = run(&["balance", "101", "--data", &data, "--as-of", "2000-01-01"]);
    assert!(out.contains("It was opened later, on 2026-01-05"), "{out}");
    let (out, _, _) = run(&["statement", "101", "--data", &data, "--from", "2030-01-01"]);
    assert_eq!(out, "Account 101 (KRW)\nNo entries.\n");
    let (out, _, _) = run(&["statement", "101", "--data", &data]);
    assert!(
        out.lines().nth(2).is_some_and(|l| l.contains("cash deposit") && l.contains(" 100,000 ")),
        "{out}"
    );
}

#[test]
fn wrong_arguments_say_what_to_do_next() {
    let data = kept("rules-1.gz");
    let data = text(data.path());
    let cases: &[(&[&str], &str)] = &[
        (&["statement", "55"], "no account 55 in"),
        (&["balance", "55"], "its first are 101, 102, 103, of 7"),
        (&["statement", "101", "--from", "2026-01-06", "--to", "2026-01-05"], "swap them"),
        (&["statement", "101", "--from", "2026-02-30"], "written like 1994-12-31"),
        (&["statement", "101", "--to", "6.1.2026"], "written like 1994-12-31"),
        (&["balance", "101", "--as-of", "1969-12-31"], "from 1970-01-01 to 2149-06-06"),
        (&["balance", "101", "--as-of", "2149-06-07"], "from 1970-01-01 to 2149-06-06"),
        (&["statement", "101", "--last", "0"], "--last"),
        (&["statement", "one"], "<ACCOUNT>"),
    ];
    for (arguments, wanted) in cases {
        let (report, code, errors) = pabal(&[arguments, &["--data", &data][..]].concat());
        assert_eq!((report, code), (Value::Null, 2), "{arguments:?}");
        assert!(errors.contains(wanted), "{arguments:?}: {errors}");
    }
}

/// What a first start that was killed leaves behind is not a journal that has lost its segments.
#[test]
fn a_journal_that_was_not_begun_is_not_a_broken_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = text(folder.path());
    std::fs::create_dir(folder.path().join("journal")).expect("a folder");
    for made in [false, true] {
        if made {
            std::fs::write(folder.path().join("journal/000000000000.tmp"), "").expect("written");
        }
        for command in [&["verify"][..], &["statement", "1"], &["balance", "1"]] {
            let (report, code, errors) = pabal(&[command, &["--data", &data]].concat());
            assert_eq!((report, code), (Value::Null, 2), "{errors}");
            assert!(errors.contains("nothing was written to it yet"), "{errors}");
        }
    }
    drop(Running::start(folder.path()));
    assert_eq!(pabal(&["verify", "--data", &data]).1, 0);
}

#[test]
fn a_bank_is_not_started_among_other_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let letter = folder.path().join("letter.txt");
    std::fs::write(&letter, "x").expect("written");
    for (data, wanted) in [(folder.path(), "neither empty nor a data folder"), (&letter, "letter.txt: ")] {
        let (out, errors, code) = run(&["--data", &text(data)]);
        assert_eq!((code, out.as_str()), (2, ""), "{errors}");
        assert!(errors.contains(wanted), "{errors}");
        let (out, errors, code) = run(&["serve", "--data", &text(data)]);
        assert_eq!((code, out.as_str()), (2, ""), "{errors}");
        assert!(errors.contains(wanted), "{errors}");
    }
    assert_eq!(walk(folder.path()), [letter]);
}

#[test]
fn a_data_folder_named_before_the_command_is_not_passed_over() {
    let data = kept("rules-1.gz");
    let data = text(data.path());
    for command in [&["verify"][..], &["statement", "101"], &["balance", "101"]] {
        let (out, errors, code) = run(&[&["--data", &data], command].concat());
        assert_eq!((code, out.as_str()), (2, ""), "{errors}");
        assert!(errors.contains("--data"), "{errors}");
    }
}

/// A running bank; closed in order when dropped.
struct Running {
    child: Child,
    _said: BufReader<ChildStdout>,
}

impl Running {
    fn start(data: &Path) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pabal"));
        command.arg("--data").arg(data).args(["--time-confirmed-by", "a", "--time-confirmed-by", "b"]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("run");
        let mut said = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        while !line.contains("The bank is open") {
            line.clear();
            assert!(said.read_line(&mut line).expect("said") > 0, "the bank did not open");
        }
        Running { child, _said: said }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

#[test]
fn a_running_bank_can_be_read_up_to_its_last_confirmed_record() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = text(folder.path());
    let running = Running::start(folder.path());
    let (report, code, errors) = loop {
        let found = pabal(&["verify", "--data", &data]);
        if found.0["records"].as_u64() > Some(0) {
            break found; // the closing record has come
        }
    };
    assert_eq!((code, errors.as_str()), (0, ""));
    assert_eq!((&report["being_written"], &report["up_to_record"]), (&true.into(), &report["records"]));
    for command in [&["verify"][..], &["statement", "110000001"], &["balance", "110000001"]] {
        let (out, errors, code) = run(&[command, &["--data", &data]].concat());
        assert_eq!((code, errors.as_str()), (0, ""));
        let last = format!("read up to record {}, the last one confirmed.", report["records"]);
        assert!(out.contains(&last), "{out}");
    }
    let (balance, code, _) = pabal(&["balance", "110000001", "--data", &data]);
    assert_eq!((code, &balance["being_written"], &balance["balance"]), (0, &true.into(), &345_000.into()));
    drop(running);
    let (report, code, _) = pabal(&["verify", "--data", &data]);
    assert_eq!((code, &report["being_written"], &report["orderly_stop"]), (0, &false.into(), &true.into()));
}

#[test]
fn rot_in_the_journal_of_a_running_bank_is_found() {
    let data = loaded(200);
    let before = pabal(&["verify", "--data", &text(data.path())]).0["records"].as_u64().expect("a number");
    let running = Running::start(data.path());
    let segment = segment_of(data.path(), 0);
    flip(&segment, 30 * 4096 + 1000);
    for command in [&["verify"][..], &["statement", "100000000"], &["balance", "100000000"]] {
        let (_, code, errors) = pabal(&[command, &["--data", &text(data.path())]].concat());
        assert_eq!(code, 1, "{errors}");
    }
    flip(&segment, 30 * 4096 + 1000);
    let (report, code, _) = pabal(&["verify", "--data", &text(data.path())]);
    // The record of the stop before has no successor yet.
    assert!(code == 0 && report["records"].as_u64() >= Some(before - 1), "{report}");
    drop(running);
}

#[test]
fn what_is_not_on_a_terminal_gets_no_bar() {
    let data = loaded(50);
    let (_, errors, code) = run(&["verify", "--data", &text(data.path())]);
    assert_eq!((code, errors.as_str()), (0, ""));
}

#[test]
fn reads_are_measured_on_a_journal_made_for_it() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let dir = text(folder.path());
    let small = ["bench", "reads", "--entries", "2000", "--accounts", "20", "--dir"];
    let (report, code, errors) = pabal(&[&small[..], &[&dir]].concat());
    // On a file system in memory nothing is ever cold, and that is said.
    if code == 2 && errors.contains("name a disk with --dir") {
        eprintln!("skipped: the target folder is in memory");
        return;
    }
    assert_eq!(code, 0, "{errors}");
    has(&report, &["statement_read_us", "statement_beyond_cache_us", "statement_cold_us", "as_of_us"]);
    assert_eq!(report["lines"], 50);
    for times in ["statement_read_us", "statement_cold_us", "as_of_us"] {
        let [p50, p99] = ["p50", "p99"].map(|q| report[times][q].as_f64().expect("a time"));
        assert!(0.0 < p50 && p50 <= p99, "{report}");
    }
    let as_of = |what: &str| report["as_of_us"][what].as_f64().expect("a time");
    assert!(as_of("max") >= as_of("p99") && as_of("max") >= as_of("slowest_day_median"), "{report}");
    assert!(report["statement_cold_ceiling_us"]["p50"].as_f64() > Some(0.0), "{report}");
    assert_eq!(std::fs::read_dir(&dir).expect("a folder").count(), 0, "nothing is left");
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() {
        let (_, errors, code) = run(&[&small[..], &["/dev/shm"]].concat());
        assert!(code == 2 && errors.contains("name a disk with --dir"), "{code} {errors}");
    }
}

#[test]
fn transfers_are_measured_from_a_second_process() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let dir = text(folder.path());
    let ledger = |more: &[&str]| {
        let common = ["bench", "ledger", "--accounts", "100", "--runs", "1", "--dir", &dir];
        run(&[&common[..], more].concat())
    };
    let cases: [&[&str]; 3] = [
        &["--transfers", "20000", "--batch", "500", "--json"],
        &["--transfers", "2000", "--batch", "1", "--connections", "8", "--bulk", "--json"],
        &["--transfers", "5000", "--batch", "500", "--hot", "--in-process", "--json"],
    ];
    for case in cases {
        let (out, errors, code) = ledger(case);
        assert_eq!(code, 0, "{case:?}: {errors}");
        let report: Value = serde_json::from_str(&out).expect("JSON");
        let told = ["transfers_per_second", "batch_ms", "core_cpu_seconds", "rss_mib"];
        has(&report, &told);
        has(&report, &["journal_bytes_per_transfer", "ceiling_per_second"]);
        for figure in ["transfers_per_second", "journal_bytes_per_transfer", "ceiling_per_second"] {
            assert!(report[figure].as_f64() > Some(0.0), "{case:?}, {figure}: {report}");
        }
        let [p50, p99, max] = ["p50", "p99", "max"].map(|q| report["batch_ms"][q].as_f64().expect("a time"));
        assert!(0.0 < p50 && p50 <= p99 && p99 <= max, "{report}");
        if !case.contains(&"--in-process") {
            assert!(report["statement_read_us"]["p50"].as_f64() > Some(0.0), "{report}");
        }
        if case.contains(&"--bulk") {
            assert!(report["bulk_commands_per_second"].as_f64() > Some(0.0), "{report}");
        }
        assert_eq!(std::fs::read_dir(&dir).expect("a folder").count(), 0, "nothing is left");
    }
    let (_, errors, code) = ledger(&["--transfers", "1000000000000000"]);
    assert!(code == 2 && errors.contains("GB free"), "{code} {errors}");
}

#[test]
fn a_killed_bank_is_measured_until_it_serves_again() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let dir = text(folder.path());
    let small = ["--accounts", "100", "--ids", "1000", "--tail", "3000", "--runs", "2", "--dir", &dir];
    let (report, code, errors) = pabal(&[&["bench", "start"][..], &small].concat());
    assert_eq!(code, 0, "{errors}");
    let of = |what: &str| report[what].as_f64().expect("a number");
    for what in ["core_serves_seconds", "core_peak_mib", "reader_peak_mib", "snapshot_seconds"] {
        assert!(of(what) > 0.0, "{what}: {report}");
    }
    assert!(
        of("reader_serves_seconds") >= of("core_serves_seconds"),
        "it answers at what the core did: {report}"
    );
    assert_eq!(report["each_run"].as_array().map(Vec::len), Some(2));
    assert_eq!(std::fs::read_dir(&dir).expect("a folder").count(), 0, "nothing is left");
}

/// A statement in the reader is its own time, without the socket that the core is asked over.
#[test]
fn the_ledger_is_measured_and_statements_as_a_reader_makes_them() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let dir = text(folder.path());
    let small = ["--accounts", "10", "--transfers", "2000", "--batch", "100", "--runs", "2", "--dir", &dir];
    let (report, code, errors) = pabal(&[&["bench", "ledger"][..], &small].concat());
    assert_eq!(code, 0, "{errors}");
    has(&report, &["transfers_per_second", "batch_ms", "core_cpu_seconds", "rss_mib", "ceiling_per_second"]);
    assert_eq!(report["statement_lines"], 50, "each account has far more");
    let time = |what: &str, q: &str| report[what][q].as_f64().expect("a time");
    for what in ["statement_read_us", "statement_round_trip_us"] {
        assert!(0.0 < time(what, "p50") && time(what, "p50") <= time(what, "p99"), "{report}");
    }
    assert!(time("statement_read_us", "p50") < time("statement_round_trip_us", "p50"), "{report}");
}

/// Turns a bit of this byte over.
pub fn flip(file: &Path, at: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(file).expect("a file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 1 << (at % 8)], at).expect("written");
}
