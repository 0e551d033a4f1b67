//! A PostgreSQL server for one bench: a cluster of its own in a folder of its own, reached over a Unix socket only.
//!
//! PostgreSQL refuses to run as root, so root hands the folder to the package's user `postgres` and starts it as that;
//! anybody else starts it as himself. The server is a child in a process group of its own: Ctrl-C in the terminal
//! reaches only the bench, which then ends its child in order, and a bench that is killed takes its child with it
//! (the kernel sends the child a signal when its parent dies). It touches no other cluster of the machine.

use anyhow::{Context as _, bail, ensure};
use postgres::{Client, NoTls};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Interrupted;
use crate::need;

/// What is set beside Debian's defaults, and why: in PostgreSQL's favour wherever durability allows it. `fsync` and
/// `full_page_writes` stay on, as they are by default; they are named so that nobody need look them up.
pub const TUNING: &[(&str, &str, &str)] = &[
    ("synchronous_commit", "on", "an answer means: durable"),
    ("fsync", "on", "the same"),
    (
        "full_page_writes",
        "on",
        "a torn page must not lose accounts; the journal's blocks carry checks of their own",
    ),
    ("shared_buffers", "1GB", "all accounts and the top of every index stay in memory"),
    ("max_wal_size", "64GB", "no checkpoint within a run"),
    ("min_wal_size", "4GB", "files of the log are used again rather than made"),
    ("checkpoint_timeout", "1h", "no checkpoint within a run"),
    ("wal_compression", "off", "no processor time for a disk that is not the limit"),
    ("wal_buffers", "64MB", "a batch's log fits"),
    ("wal_level", "minimal", "no log beyond what a crash needs"),
    ("max_wal_senders", "0", "the same"),
    ("work_mem", "256MB", "every sort and hash of a batch stays in memory"),
    (
        "plan_cache_mode",
        "force_custom_plan",
        "it plans for as many transfers as a batch has; else for ten, in loops",
    ),
    ("jit", "off", "compiling costs more than a batch"),
    ("listen_addresses", "", "a Unix socket only"),
    ("unix_socket_permissions", "0700", "nobody else can reach it"),
];

/// The user whom Debian's package makes.
const USER: &str = "postgres";
/// Name of the one superuser in the cluster, whoever runs it.
const ROLE: &str = "bench";
/// How long a server may take to start, and to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server. Dropped, it is stopped; its folder is its maker's to remove.
pub struct Cluster {
    server: Child,
    sockets: PathBuf,
}

impl Cluster {
    /// Makes a cluster in `folder`, which exists and is empty but for what others keep there, and starts it.
    pub fn start(folder: &Path) -> anyhow::Result<Cluster> {
        let [data, sockets, log] = ["postgresql", "sockets", "postgresql.log"].map(|name| folder.join(name));
        let owner = need::is_root()?.then(owner).transpose()?;
        for path in [&data, &sockets] {
            fs::create_dir(path)?;
            fs::set_permissions(path, Permissions::from_mode(0o700))?;
            if let Some((user, group)) = owner {
                chown(path, Some(user), Some(group))?;
            }
        }
        // The folders in it are closed to others; it is only passed through.
        fs::set_permissions(folder, Permissions::from_mode(0o711))?;

        let mut initdb = program("initdb", owner.is_some());
        initdb.args(["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--username", ROLE]);
        let made = initdb.arg("--pgdata").arg(&data).stdin(Stdio::null()).output().context("setpriv")?;
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr);
            bail!(
                "initdb: {}\n(the user `{USER}` must be able to enter every folder above; choose another with --dir)",
                said.trim_end()
            );
        }
        let mut server = program("postgres", owner.is_some());
        server.arg("-D").arg(&data).arg("-c").arg(format!("unix_socket_directories={}", sockets.display()));
        for (name, value, _) in TUNING {
            server.arg("-c").arg(format!("{name}={value}"));
        }
        let said = File::create(&log)?;
        server.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        let mut cluster = Cluster { server: server.spawn().context("setpriv")?, sockets };
        cluster.wait_until_ready().with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        Ok(cluster)
    }

    /// A connection of its own.
    pub fn connect(&self) -> anyhow::Result<Client> {
        let mut config = postgres::Config::new();
        config.host_path(&self.sockets).user(ROLE).dbname("postgres").application_name("pabal bench");
        Ok(config.connect(NoTls)?)
    }

    /// Does what asks the server, and ends the server when somebody asks the bench to end: whoever waits for an answer
    /// that does not come then hears that there will be none.
    pub fn attend<T: Send>(
        &self,
        interrupted: &Interrupted,
        work: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        std::thread::scope(|scope| {
            let work = scope.spawn(work);
            while !work.is_finished() && interrupted.check().is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
            interrupted.check().inspect_err(|_| self.end())?;
            work.join().expect("what asks the server does not panic")
        })
    }

    /// At once and without a checkpoint: what it has is thrown away. The server kills what does not hear it.
    fn end(&self) {
        if let Some(pid) = i32::try_from(self.server.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::QUIT);
        }
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let Err(error) = self.connect() else { return Ok(()) };
            if let Some(status) = self.server.try_wait()? {
                bail!("PostgreSQL ended by itself: {status}");
            }
            ensure!(begun.elapsed() < PATIENCE, "PostgreSQL cannot be reached: {error:#}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Once it has been waited for, its id may be another's.
        if !matches!(self.server.try_wait(), Ok(None)) {
            return;
        }
        self.end();
        let begun = Instant::now();
        while matches!(self.server.try_wait(), Ok(None)) {
            if begun.elapsed() > PATIENCE {
                let _ = self.server.kill();
                let _ = self.server.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// `setpriv` becomes the program in place, so that the child's id is the server's.
fn program(name: &str, as_user: bool) -> Command {
    let mut command = Command::new("setpriv");
    if as_user {
        command.args(["--reuid", USER, "--regid", USER, "--init-groups"]);
    }
    command
        .args(["--pdeathsig", "QUIT"])
        .arg(Path::new(need::POSTGRESQL_PROGRAMS).join(name))
        .process_group(0);
    // Where it is called from may be closed to the user.
    command.current_dir("/");
    command
}

/// User and group that own the files where root starts the bench.
fn owner() -> anyhow::Result<(u32, u32)> {
    let number = |flag: &str| {
        let output = Command::new("id").args([flag, USER]).output().context("cannot start id")?;
        let said = String::from_utf8_lossy(&output.stdout);
        said.trim().parse().with_context(|| format!("there is no user `{USER}`"))
    };
    Ok((number("-u")?, number("-g")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// A server that does not answer kept the bench from ending until its answer came.
    #[test]
    fn who_waits_for_a_stuck_server_can_be_interrupted() {
        if !Path::new(need::POSTGRESQL_PROGRAMS).join("postgres").exists() {
            println!("skipped: there is no PostgreSQL 15 here; `cargo xtask bench` installs it");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let cluster = Cluster::start(folder.path()).unwrap();
        let asked = Arc::new(AtomicBool::new(false));
        let answer = cluster.attend(&Interrupted(Arc::clone(&asked)), || {
            let mut client = cluster.connect()?;
            asked.store(true, Ordering::Relaxed);
            // A day: without the interruption the test does not end.
            Ok(client.execute("SELECT pg_sleep(86400)", &[])?)
        });
        assert!(format!("{:#}", answer.unwrap_err()).contains("interrupted"));
    }
}
