//! A process of the bank that was started to be measured.

use anyhow::{Context as _, bail, ensure};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A process that was started; ended when dropped.
pub struct Served {
    child: Child,
    name: &'static str,
}

impl Served {
    /// Starts this command on a data folder, and waits until it says that it is ready.
    pub fn start(name: &'static str, arguments: &[&str], data: &Path) -> anyhow::Result<Served> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(name).args(arguments).arg("--data").arg(data);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
        let mut served = Served { child, name };
        let mut lines = BufReader::new(served.child.stdout.take().context("piped")?).lines();
        while let Some(line) = lines.next() {
            if line?.starts_with("ready ") {
                // What it says later is of no interest, but is taken.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(served);
            }
        }
        bail!("the {name} ended before it was ready")
    }

    /// Of all its threads, or of one: processor time so far, seconds.
    pub fn cpu_seconds(&self, thread: &str) -> f64 {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{}/task", self.child.id())) else { return 0.0 };
        let spent = tasks.flatten().filter_map(|task| {
            let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
            let spent = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            let nanoseconds: u64 = spent.split(' ').next()?.parse().ok()?;
            (name.trim() == thread).then_some(nanoseconds as f64 / 1e9)
        });
        spent.sum()
    }

    /// Memory that it has, MiB.
    pub fn resident_mib(&self) -> f64 {
        self.memory_mib("VmRSS:")
    }

    /// The most memory that it has had, MiB.
    pub fn peak_mib(&self) -> f64 {
        self.memory_mib("VmHWM:")
    }

    fn memory_mib(&self, what: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(what));
        line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
    }

    /// Ends it in order.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        ensure!(self.child.wait()?.success(), "the {} did not end in order", self.name);
        Ok(())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
