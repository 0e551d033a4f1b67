//! `cargo xtask full`: a disk that fills up under a running bank, and has room again.
//!
//! The disk is a small file system in memory, mounted in a namespace of its own: it is gone with the process that
//! has it, however that ends, and nobody else sees it. What is held there is `pabal drill full`; here its bank is
//! taken out of the namespace and everything acknowledged is looked for.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use crate::drill::{self, Bank, COUNTS};

/// The size of the disk: the ring, some segments, and what the filler takes.
const DISK: &str = "size=16m";
/// Seconds in which it must have ended, or something waits for room for ever: a hundred times what it takes.
const SECONDS_MAX: &str = "60";
/// Mounts the disk on the folder that is its first word, runs the rest, and takes the bank out.
const SCRIPT: &str = r#"set -e
disk=$1 out=$2; shift 2
mount -t tmpfs -o "$SIZE" tmpfs "$disk"
code=0
"$@" || code=$?
cp -a "$disk/data" "$out"
exit $code"#;

/// Runs the drill. True when all holds; nothing where no file system may be mounted, which is said.
pub fn run(json: bool) -> anyhow::Result<Option<bool>> {
    let Some(unshare) = unshare()? else {
        println!("skipped: no file system can be mounted here, neither as root nor in a namespace of users");
        return Ok(None);
    };
    let pabal = drill::build()?;
    let begun = Instant::now();
    let folder = tempfile::tempdir()?;
    let [disk, out] = ["disk", "out"].map(|name| folder.path().join(name));
    std::fs::create_dir(&disk)?;
    std::fs::create_dir(&out)?;
    let bank = Bank::within(folder.path(), &pabal);
    let mut command = Command::new("unshare");
    command.args(unshare).args(["sh", "-c", SCRIPT, "full"]).arg(&disk).arg(&out).env("SIZE", DISK);
    command.args(["timeout", "--signal=KILL", SECONDS_MAX]).arg(&pabal).args(["drill", "full"]);
    for (flag, path) in [
        ("--data", &disk.join("data")),
        ("--filler", &disk.join("filler")),
        ("--sent", &bank.sent),
        ("--acked", &bank.acked),
    ] {
        command.arg(flag).arg(path);
    }
    let output = command.stdin(Stdio::null()).output().context("cannot start unshare")?;
    let taken_out = Bank { data: out.join("data"), ..bank };
    let (held, counted) = match judge(&output, &taken_out) {
        Ok(judged) => judged,
        Err(wrong) => {
            let kept = folder.keep();
            eprintln!("WRONG: {wrong:#}\nkept: {}", kept.display());
            return Ok(Some(false));
        }
    };
    let mut report = json!({ "passed": true, "seconds": begun.elapsed().as_secs_f64() });
    for name in COUNTS {
        report[name] = counted[name].clone();
    }
    for name in ["requests_after_full", "refusal_us", "refused_then_done"] {
        report[name] = held[name].clone();
    }
    if json {
        println!("{report}");
    } else {
        println!(
            "a full disk: {} requests were still taken, then refused in {} us; {} commands refused and done later; \
             {} acknowledged, {} missing, {} doubled",
            held["requests_after_full"],
            held["refusal_us"],
            held["refused_then_done"],
            counted["acknowledged"],
            counted["missing"],
            counted["doubled"]
        );
    }
    Ok(Some(true))
}

/// What the drill held and what its bank has; an error says what is wrong.
fn judge(output: &Output, taken_out: &Bank) -> anyhow::Result<(Value, Value)> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} ({})", said.trim_end(), output.status);
    let held: Value = serde_json::from_slice(&output.stdout)?;
    let counted = taken_out.check()?;
    ensure!(counted["passed"] == true, "not all that was acknowledged is there, once: {counted}");
    ensure!(counted["acknowledged"] == held["decided"], "other answers were kept than were heard: {counted}");
    ensure!(held["refused_then_done"].as_u64().is_some_and(|refused| refused > 0), "nothing was refused");
    Ok((held, counted))
}

/// What `unshare` must be told so that a file system can be mounted: root needs only a namespace of mounts.
fn unshare() -> anyhow::Result<Option<&'static [&'static str]>> {
    let ways: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];
    let folder = tempfile::tempdir()?;
    for way in ways {
        if mounts(way, folder.path())? {
            return Ok(Some(way));
        }
    }
    Ok(None)
}

fn mounts(way: &[&str], folder: &Path) -> anyhow::Result<bool> {
    let mut command = Command::new("unshare");
    command.args(way).args(["mount", "-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(folder);
    let status = command.stderr(Stdio::null()).status().context("cannot start unshare")?;
    Ok(status.success())
}
