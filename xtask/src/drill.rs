//! What the drills share: the release binary, and a bank's folder beside the books of its client.
//!
//! The client is `pabal drill load`: it keeps each command before it is sent and each answer once it has come, so
//! that `pabal drill check` can say, whatever happened to the bank, what is missing and what is there twice.

use anyhow::{Context as _, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cargo;

/// What the sums of every drill are called, in `pabal drill check` and in what the drills say.
pub const COUNTS: [&str; 5] = ["sent", "acknowledged", "found", "missing", "doubled"];

/// Builds the binary that customers would run, and says where it is.
pub fn build() -> anyhow::Result<PathBuf> {
    let built = cargo().args(["build", "--quiet", "--release", "--locked", "--package", "pabal"]).status()?;
    if !built.success() {
        bail!("the release build failed");
    }
    Ok(crate::target().join("release/pabal"))
}

/// A bank and its client, in one folder.
pub struct Bank {
    pub pabal: PathBuf,
    /// The data folder.
    pub data: PathBuf,
    /// What the client sent, and what it was answered.
    pub sent: PathBuf,
    pub acked: PathBuf,
}

impl Bank {
    pub fn within(folder: &Path, pabal: &Path) -> Bank {
        let [data, sent, acked] = ["data", "sent", "acked"].map(|name| folder.join(name));
        Bank { pabal: pabal.to_path_buf(), data, sent, acked }
    }

    /// The words of `pabal drill NAME` on this bank.
    pub fn words(&self, name: &str) -> Command {
        self.behind(Command::new(&self.pabal), name)
    }

    /// The same behind a program that runs it.
    pub fn behind(&self, mut program: Command, name: &str) -> Command {
        program.args(["drill", name]);
        for (flag, path) in [("--data", &self.data), ("--sent", &self.sent), ("--acked", &self.acked)] {
            program.arg(flag).arg(path);
        }
        program
    }

    /// What `pabal drill check` counts.
    pub fn check(&self) -> anyhow::Result<Value> {
        let output = self.words("check").output()?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).trim_end().to_string())
    }
}

/// Adds what a check counted.
pub fn add(sums: &mut [u64; COUNTS.len()], report: &Value) {
    for (sum, name) in sums.iter_mut().zip(COUNTS) {
        *sum += report[name].as_u64().unwrap_or(0);
    }
}
