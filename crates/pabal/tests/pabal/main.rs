//! The real binary, as its users meet it.

mod berka;
mod cli;
mod listen;
mod rot;
mod serve;
mod snapshots;

use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

const BLOCK: usize = 4096;

/// Runs the binary: what it prints on standard output and on standard error, and its exit code.
fn run(arguments: &[&str]) -> (String, String, i32) {
    let output = Command::new(env!("CARGO_BIN_EXE_pabal")).args(arguments).output().expect("run");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap_or(-1))
}

/// The same with `--json`: standard output must be one JSON object, or nothing.
fn pabal(arguments: &[&str]) -> (Value, i32, String) {
    let (out, errors, code) = run(&[arguments, &["--json"]].concat());
    let value = if out.is_empty() { Value::Null } else { serde_json::from_str(&out).expect("JSON alone") };
    assert!(value.is_null() || value.is_object(), "{out}");
    (value, code, errors)
}

/// A data folder with the journal kept in this file, stopped in order; 64 blocks a segment.
fn kept(name: &str) -> TempDir {
    const SEGMENT: usize = 64 * BLOCK;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let (file, mut bytes) = (std::fs::File::open(path).expect("a kept journal"), Vec::new());
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).expect("packed with gzip");
    let data = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(data.path().join("journal")).expect("a folder");
    for (i, segment) in bytes.chunks(SEGMENT).enumerate() {
        std::fs::write(segment_of(data.path(), i), segment).expect("written");
    }
    data
}

/// A data folder of a bank with some load on it, stopped in order; 1,024 blocks a segment.
fn loaded(requests: u64) -> TempDir {
    let (data, aside) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let status = Command::new(env!("CARGO_BIN_EXE_pabal"))
        .args(["drill", "load", "--requests", &requests.to_string(), "--data"])
        .arg(data.path())
        .arg("--sent")
        .arg(aside.path().join("sent"))
        .arg("--acked")
        .arg(aside.path().join("acked"))
        .stdout(Stdio::null())
        .status()
        .expect("run");
    assert!(status.success());
    data
}

fn segment_of(data: &Path, number: usize) -> PathBuf {
    data.join(format!("journal/{number:012}.seg"))
}

fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_string()
}

/// All files below a folder, in order.
fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a folder").flatten() {
        if entry.path().is_dir() {
            files.extend(walk(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files.sort();
    files
}
