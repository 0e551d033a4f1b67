//! What the tests need beyond Rust, installed with apt-get when it is lacking, and never silently.
//!
//! Only what a step really uses stands in [`TOOLS`]: every entry costs each fresh machine a download.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A program the tests need.
struct Tool {
    program: &'static str,
    packages: &'static [&'static str],
    why: &'static str,
}

/// Rust itself links with `cc`, so xtask is rarely built without it; `.ci/run` installs it before xtask exists.
const TOOLS: &[Tool] = &[
    Tool {
        program: "cc",
        packages: &["gcc", "libc6-dev"],
        why: "compiles the assembly of blake3 and the C of mimalloc",
    },
    Tool {
        program: "strace",
        packages: &["strace"],
        why: "lets system calls fail, for `cargo xtask faults`",
    },
    Tool { program: "g++", packages: &["g++"], why: "compiles libFuzzer" },
];

/// Where Debian puts the programs of PostgreSQL: on nobody's path, since several versions may stand side by side.
pub const POSTGRESQL_PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

/// Only the bench needs it, so no test waits for its download.
const POSTGRESQL: Tool = Tool {
    program: "/usr/lib/postgresql/15/bin/postgres",
    packages: &["postgresql-15"],
    why: "makes the same transfers beside the bank, for `cargo xtask bench`",
};

/// Installs what the tests lack; an error, with the command to run, where it may not or cannot.
pub fn install() -> Result<()> {
    install_lacking(TOOLS)
}

/// The same for what only the bench needs. (Debian's package makes, and may start, a cluster `main` of its own; the
/// bench leaves it alone.)
pub fn install_postgresql() -> Result<()> {
    install_lacking(&[POSTGRESQL])
}

fn install_lacking(tools: &[Tool]) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let lacking: Vec<&Tool> = tools.iter().filter(|tool| !on_path(tool.program, &path)).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    for tool in &lacking {
        println!("lacking: {} ({}), which {}", tool.program, tool.packages.join(" "), tool.why);
    }
    let packages: Vec<&str> = lacking.iter().flat_map(|tool| tool.packages).copied().collect();
    if !on_path("apt-get", &path) {
        bail!("there is no apt-get here; install what Debian calls: {}", packages.join(" "));
    }
    if !is_root()? {
        bail!(
            "not root, so not installing; run: sudo apt-get update && sudo apt-get install {}",
            packages.join(" ")
        );
    }
    println!("installing with apt-get: {}", packages.join(" "));
    apt_get(&["update"])?;
    apt_get(&[&["install", "--yes", "--no-install-recommends"], packages.as_slice()].concat())
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let status = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .context("cannot start apt-get")?;
    if !status.success() {
        bail!("apt-get {} failed", arguments.join(" "));
    }
    Ok(())
}

/// Whether root runs this.
pub fn is_root() -> Result<bool> {
    let output = Command::new("id").arg("-u").output().context("cannot start id")?;
    Ok(output.status.success() && output.stdout.trim_ascii() == b"0")
}

/// Joined to a folder, an absolute path stays as it is: such a program is looked for where it says.
fn on_path(program: &str, path: &OsStr) -> bool {
    std::env::split_paths(path).any(|folder| is_executable(&folder.join(program)))
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};

    #[test]
    fn a_program_is_an_executable_file_on_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cc");
        let path = std::env::join_paths([Path::new("/nowhere"), folder.path()]).unwrap();
        assert!(!on_path("cc", &path), "there is none");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        assert!(!on_path("cc", &path), "it cannot be run");
        fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
        assert!(on_path("cc", &path));
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(!on_path("cc", &path), "it is a folder");
    }
}
