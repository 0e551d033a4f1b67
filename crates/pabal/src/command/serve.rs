//! `pabal serve`: the supervisor. It starts each service as a process of its own, starts anew what dies, and stands in no
//! request's way.
//!
//! A service that dies is started again after a pause that doubles from [`PAUSE_MIN`] to [`PAUSE_MAX`], and begins anew
//! once it has lived for [`LIVED`]. Services end when their supervisor does, however it ended. SIGTERM or SIGINT: each is
//! told to end, readers before the core; one that does not within [`PATIENCE`] is killed.

use super::core::say;
use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
const LIVED: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked who has ended.
const LOOK: Duration = Duration::from_millis(50);

/// The services, in the order in which they are started; they are ended in the other.
const SERVICES: [&str; 2] = ["core", "reader"];

struct Service {
    name: &'static str,
    child: Option<Child>,
    started: Instant,
    pause: Duration,
    /// When it is to be started.
    due: Instant,
    restarts: u64,
}

/// Runs the bank of this folder until told to stop.
pub fn run(data: &Path, confirmed_by: &[String], snapshot_commands: u64) -> anyhow::Result<()> {
    super::verify::make_folder(data)?;
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGCHLD])?;
    let (said, lines) = channel::<String>();
    thread::spawn(move || lines.iter().for_each(|line| say!("{line}")));
    let begun = Instant::now();
    let mut services = SERVICES.map(|name| Service {
        name,
        child: None,
        started: begun,
        pause: PAUSE_MIN,
        due: begun,
        restarts: 0,
    });
    let program = std::env::current_exe()?;
    let words = |name: &str| match name {
        "core" => confirmed_by.iter().flat_map(|by| ["--time-confirmed-by".into(), by.clone()]).collect(),
        _ => vec!["--snapshot-commands".into(), snapshot_commands.to_string()],
    };
    loop {
        for service in &mut services {
            service.look(&said)?;
            if service.child.is_none() && Instant::now() >= service.due {
                service.start(&program, data, words(service.name), &said)?;
            }
        }
        if signals.pending().any(|signal| signal != SIGCHLD) {
            break;
        }
        thread::sleep(LOOK);
    }
    let mut in_order = true;
    for service in services.iter_mut().rev() {
        in_order &= service.end(&said)?;
    }
    ensure!(in_order, "not every service ended in order");
    Ok(())
}

impl Service {
    fn start(
        &mut self,
        program: &PathBuf,
        data: &Path,
        words: Vec<String>,
        said: &Sender<String>,
    ) -> anyhow::Result<()> {
        let mut command = Command::new(program);
        command.arg(self.name).arg("--data").arg(data).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A signal from a terminal is for the supervisor alone, which ends the services in their order.
        command.process_group(0);
        let supervisor = rustix::process::getpid();
        // SAFETY: only calls of the system between fork and exec.
        unsafe {
            command.pre_exec(move || {
                rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
                // It may have ended just before.
                match rustix::process::getppid() == Some(supervisor) {
                    true => Ok(()),
                    false => Err(std::io::ErrorKind::BrokenPipe.into()),
                }
            });
        }
        let mut child = command.spawn().with_context(|| format!("{} could not be started", self.name))?;
        let (name, out, error) = (self.name, child.stdout.take(), child.stderr.take());
        if let Some(out) = out {
            forward(name, out, said.clone());
        }
        if let Some(error) = error {
            forward(name, error, said.clone());
        }
        self.started = Instant::now();
        self.child = Some(child);
        Ok(())
    }

    /// Whether it has ended; when it is to be started again.
    fn look(&mut self, said: &Sender<String>) -> anyhow::Result<()> {
        let Some(status) = self.child.as_mut().map(Child::try_wait).transpose()?.flatten() else {
            return Ok(());
        };
        self.child = None;
        if self.started.elapsed() >= LIVED {
            self.pause = PAUSE_MIN;
        }
        self.due = Instant::now() + self.pause;
        self.restarts += 1;
        let (name, pause) = (self.name, self.pause.as_millis());
        let _ = said.send(format!("{name}: ended ({status}); started again in {pause} ms"));
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }

    /// Tells it to end, and waits. True when it did so in order.
    fn end(&mut self, said: &Sender<String>) -> anyhow::Result<bool> {
        let Some(mut child) = self.child.take() else { return Ok(true) };
        // It may have ended by itself just now.
        let _ = kill_process(Pid::from_child(&child), Signal::TERM);
        let until = Instant::now() + PATIENCE;
        let status = loop {
            match child.try_wait()? {
                Some(status) => break status,
                None if Instant::now() >= until => {
                    child.kill()?;
                    break child.wait()?;
                }
                None => thread::sleep(LOOK / 10),
            }
        };
        let _ = said.send(format!("{}: {}", self.name, ended(status)));
        Ok(status.success())
    }
}

fn ended(status: ExitStatus) -> String {
    if status.success() { "ended in order".into() } else { format!("ended: {status}") }
}

/// Says each line of a service with its name before it.
fn forward(name: &'static str, from: impl std::io::Read + Send + 'static, said: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            let Ok(line) = line else { return };
            if said.send(format!("{name}: {line}")).is_err() {
                return;
            }
        }
    });
}
