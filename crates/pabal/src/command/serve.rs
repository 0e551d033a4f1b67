//! `pabal serve`: the supervisor. It starts each service as a process of its own, starts anew what dies, and stands in no
//! request's way.
//!
//! A service that dies is started again after a pause that doubles from [`Pace::pause_min`] to [`Pace::pause_max`], and
//! begins anew once it has lived for [`Pace::lived`]. That goes on for ever: a full disk may have room again while nobody
//! looks. But of one that says before it is ready that it cannot begin with what it finds, it is said that a person is
//! needed, and what for: trying again mends no folder and no clock. Services end when their supervisor does, however it ended. SIGTERM or SIGINT: each
//! is told to end, readers before the core; one that does not within [`Pace::patience`] is killed. What they say goes
//! through [`Lines`], bounded, and to its end.

use super::lines::Lines;
use super::verify;
use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// The services, in the order in which they are started; they are ended in the other.
const SERVICES: [&str; 2] = ["core", "reader"];
/// How often in a row a service may say that it cannot begin before a person is asked for: about a minute, longer than
/// one that was left over from an earlier supervisor takes to end.
const TRIES: u32 = 12;
/// How long the last words of a service that has ended are waited for.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long whoever reads what is said may take for the rest of it at the end.
const PRINTING: Duration = Duration::from_secs(5);
/// What has happened and was not looked at, at most: the end of each service, and a signal.
const NEWS_MAX: usize = 16;

/// How long things may take.
#[derive(Clone, Copy)]
struct Pace {
    pause_min: Duration,
    pause_max: Duration,
    /// After so long a life a service begins with the shortest pause again.
    lived: Duration,
    /// For an orderly end.
    patience: Duration,
}

const PACE: Pace = Pace {
    pause_min: Duration::from_millis(100),
    pause_max: Duration::from_secs(10),
    lived: Duration::from_secs(60),
    patience: Duration::from_secs(30),
};

/// Runs the bank of this folder until told to stop.
pub fn run(
    data: &Path,
    confirmed_by: &[String],
    memory_mib: u32,
    snapshot_commands: u64,
) -> anyhow::Result<()> {
    verify::holds_a_journal(data)?;
    verify::make_folder(data)?;
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let program = std::env::current_exe()?;
    let services = SERVICES.map(|name| {
        let (program, data, confirmed_by) = (program.clone(), data.to_path_buf(), confirmed_by.to_vec());
        let make = move || {
            let mut command = Command::new(&program);
            command.arg(name).arg("--data").arg(&data);
            match name {
                "core" => {
                    command.args(["--memory-ahead", &memory_mib.to_string()]);
                    command.args(confirmed_by.iter().flat_map(|person| ["--time-confirmed-by", person]))
                }
                _ => command.args(["--snapshot-commands", &snapshot_commands.to_string()]),
            };
            command
        };
        Service::new(name, make)
    });
    let supervisor = Supervisor::of(services.into(), PACE);
    let told = supervisor.news.0.clone();
    thread::spawn(move || signals.forever().next().map(|_| told.send(News::Stop)));
    supervisor.run(std::io::stdout())
}

/// What has happened.
enum News {
    /// The process of this service has ended.
    Ended(usize),
    /// It is to stop.
    Stop,
}

struct Supervisor {
    services: Vec<Service>,
    pace: Pace,
    lines: Arc<Lines>,
    news: (SyncSender<News>, Receiver<News>),
}

impl Supervisor {
    fn of(services: Vec<Service>, pace: Pace) -> Supervisor {
        let lines = Arc::new(Lines::of(services.len()));
        Supervisor { services, pace, lines, news: sync_channel(NEWS_MAX) }
    }

    /// Runs until it is told to stop.
    fn run(mut self, mut out: impl Write + Send + 'static) -> anyhow::Result<()> {
        let lines = self.lines.clone();
        thread::spawn(move || lines.print(&mut out));
        let run = self.supervise();
        let in_order = self.end();
        self.lines.close(PRINTING);
        run?;
        ensure!(in_order, "not every service ended in order");
        Ok(())
    }

    fn supervise(&mut self) -> anyhow::Result<()> {
        loop {
            let now = Instant::now();
            for number in 0..self.services.len() {
                if self.services[number].due.is_some_and(|due| due <= now) {
                    self.start(number)?;
                }
            }
            let due = self.services.iter().filter_map(|service| service.due).min();
            let news = match due {
                Some(due) => self.news.1.recv_timeout(due.saturating_duration_since(Instant::now())),
                None => self.news.1.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match news {
                Ok(News::Ended(number)) => self.ended(number)?,
                Err(RecvTimeoutError::Timeout) => {}
                Ok(News::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    fn start(&mut self, number: usize) -> anyhow::Result<()> {
        let service = &mut self.services[number];
        let name = service.name;
        let mut command = (service.make)();
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
        let mut child = command.spawn().with_context(|| format!("{name} could not be started"))?;
        let out = child.stdout.take().map(|out| Box::new(out) as Box<dyn std::io::Read + Send>);
        let errors = child.stderr.take().map(|errors| Box::new(errors) as _);
        let streams: Vec<_> = [out, errors].into_iter().flatten().collect();
        self.lines.begun(number, streams.len());
        for stream in streams {
            let lines = self.lines.clone();
            thread::spawn(move || lines.forward(number, &format!("{name}: "), stream));
        }
        // It is only looked at here: its number stays its own until it is waited for below.
        let (pid, news) = (Pid::from_child(&child), self.news.0.clone());
        thread::spawn(move || {
            while waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).is_err_and(again) {}
            let _ = news.send(News::Ended(number));
        });
        (service.started, service.due, service.child) = (Instant::now(), None, Some(child));
        Ok(())
    }

    /// Hears that a service has ended: says so after its last words, and when it is started again.
    fn ended(&mut self, number: usize) -> anyhow::Result<()> {
        let (service, lines) = (&mut self.services[number], &self.lines);
        let Some(mut child) = service.child.take() else { return Ok(()) };
        let status = child.wait()?;
        lines.wait_for_end(number, LAST_WORDS);
        let next = service.next(status, service.started.elapsed(), lines.was_ready(number), &self.pace);
        service.due = Some(Instant::now() + next);
        lines.say(number, format!("{}: {}", service.name, service.told(status, next)));
        Ok(())
    }

    /// Tells each to end, and waits. True when all did so in order.
    fn end(&mut self) -> bool {
        let mut in_order = true;
        for number in (0..self.services.len()).rev() {
            let service = &mut self.services[number];
            // One that waits to be started anew has ended, but not in order.
            in_order &= service.child.is_some();
            let Some(mut child) = service.child.take() else { continue };
            // It may have ended by itself just now.
            let _ = kill_process(Pid::from_child(&child), Signal::TERM);
            let until = Instant::now() + self.pace.patience;
            let is_in_time = loop {
                match self.news.1.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(News::Ended(ended)) if ended == number => break true,
                    // The others are waited for in their turn; a second signal says nothing new.
                    Ok(News::Ended(ended)) => self.services[ended].has_ended = true,
                    Ok(News::Stop) => {}
                    Err(_) => break false,
                }
                if self.services[number].has_ended {
                    break true;
                }
            };
            if !is_in_time {
                let _ = child.kill();
            }
            let status = child.wait();
            self.lines.wait_for_end(number, LAST_WORDS);
            let name = self.services[number].name;
            let said = match &status {
                Ok(status) if status.success() => "ended in order".into(),
                Ok(status) => format!("ended: {status}"),
                Err(error) => format!("ended, and nobody knows how: {error}"),
            };
            self.lines.say(number, format!("{name}: {said}"));
            in_order &= status.is_ok_and(|status| status.success());
        }
        in_order
    }
}

/// Whether a wait that was interrupted is to be gone on with.
fn again(error: rustix::io::Errno) -> bool {
    error == rustix::io::Errno::INTR
}

struct Service {
    name: &'static str,
    /// Makes its command line.
    make: Box<dyn Fn() -> Command>,
    child: Option<Child>,
    started: Instant,
    /// Heard while another was waited for.
    has_ended: bool,
    pause: Option<Duration>,
    /// When it is to be started; none while it runs.
    due: Option<Instant>,
    /// How often in a row it said that it cannot begin.
    cannot: u32,
}

impl Service {
    fn new(name: &'static str, make: impl Fn() -> Command + 'static) -> Service {
        let (make, now) = (Box::new(make), Instant::now());
        let (child, pause, due) = (None, None, Some(now));
        Service { name, make, child, started: now, has_ended: false, pause, due, cannot: 0 }
    }

    /// After which pause it is started again, once it has ended so.
    fn next(&mut self, status: ExitStatus, lived: Duration, was_ready: bool, pace: &Pace) -> Duration {
        // Once it was ready it had all that it needs: what it ends with then may pass.
        let cannot = cannot_begin(status) && !was_ready;
        self.cannot = if cannot { self.cannot.saturating_add(1) } else { 0 };
        let pause = self.pause.filter(|_| lived < pace.lived).unwrap_or(pace.pause_min);
        self.pause = Some((pause * 2).min(pace.pause_max));
        pause
    }

    /// What is said of that.
    fn told(&self, status: ExitStatus, pause: Duration) -> String {
        let again = format!("started again in {} ms", pause.as_millis());
        match self.cannot {
            0 => format!("ended ({status}); {again}"),
            1..TRIES => {
                format!(
                    "cannot begin with what it finds or was told ({status}), its lines above say why; {again}"
                )
            }
            times => format!(
                "could not begin {times} times ({status}) and needs a person: mend what its lines above say; where they \
                 name an option, end this with SIGTERM and start `pabal serve` with it; {again}"
            ),
        }
    }
}

/// Whether a service that ended so has looked at what it was given and found it unfit: 1, what it read is wrong; 2, usage
/// or input.
fn cannot_begin(status: ExitStatus) -> bool {
    matches!(status.code(), Some(1 | 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::os::unix::process::ExitStatusExt;
    use std::sync::Mutex;

    const QUICK: Pace = Pace {
        pause_min: Duration::from_millis(1),
        pause_max: Duration::from_millis(2),
        lived: Duration::from_secs(3600),
        patience: Duration::from_secs(60),
    };

    /// Keeps what is said, and stops the supervisor once this was.
    struct Out {
        said: Arc<Mutex<Vec<u8>>>,
        until: &'static str,
        stop: SyncSender<News>,
    }

    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut said = self.said.lock().expect("nobody panics");
            let has = |said: &[u8], until: &str| String::from_utf8_lossy(said).contains(until);
            let before = has(&said, self.until);
            said.extend_from_slice(bytes);
            if !before && has(&said, self.until) {
                let _ = self.stop.try_send(News::Stop);
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn shell(name: &'static str, script: &'static str) -> Service {
        Service::new(name, move || {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        })
    }

    /// Supervises these until this is said: what was said in all, and how it ended.
    fn supervised(services: Vec<Service>, until: &'static str) -> (String, anyhow::Result<()>) {
        let supervisor = Supervisor::of(services, QUICK);
        let said = Arc::new(Mutex::default());
        let ended = supervisor_run(supervisor, &said, until);
        let said = said.lock().expect("nobody panics").clone();
        (String::from_utf8(said).expect("text"), ended)
    }

    fn supervisor_run(
        supervisor: Supervisor,
        said: &Arc<Mutex<Vec<u8>>>,
        until: &'static str,
    ) -> anyhow::Result<()> {
        let stop = supervisor.news.0.clone();
        supervisor.run(Out { said: said.clone(), until, stop })
    }

    /// Says that it is ready, and ends in order, with many last words, when it is told to.
    const ORDERLY: &str = "trap 'for i in $(seq 500); do echo last word $i; done; exit 0' TERM; echo ready now; \
        while :; do :; done";

    #[test]
    fn last_words_are_all_said_before_the_supervisor_ends() {
        let (said, ended) = supervised(vec![shell("core", ORDERLY)], "core: ready now");
        assert!(ended.is_ok(), "{ended:?}: {said}");
        let words = said.lines().filter(|line| line.starts_with("core: last word")).count();
        assert_eq!(words, 500);
        assert_eq!(said.lines().last(), Some("core: ended in order"));
    }

    #[test]
    fn for_what_cannot_begin_a_person_is_asked_and_the_others_go_on() {
        let unfit = shell("core", "echo no such clock >&2; exit 2");
        let (said, ended) = supervised(vec![unfit, shell("reader", ORDERLY)], "needs a person");
        let count = |what: &str| said.lines().filter(|line| line.contains(what)).count();
        assert!(count("core: no such clock") >= TRIES as usize, "{said}");
        assert_eq!(count("core: cannot begin with what it finds or was told"), TRIES as usize - 1, "{said}");
        // What it said last stands before what is said of it.
        let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("core: ")).collect();
        assert!(lines.chunks_exact(2).all(|two| two[0] == "core: no such clock"), "{said}");
        assert!(said.contains("reader: ended in order"), "it was running until the end: {said}");
        assert!(ended.is_err_and(|error| error.to_string().contains("in order")));
    }

    #[test]
    fn whatever_ends_is_started_for_ever() {
        let ended = |code: i32| ExitStatus::from_raw(code << 8);
        let killed = ExitStatus::from_raw(9);
        let mut service = shell("core", "");
        for _ in 0..100 {
            service.next(ended(2), Duration::ZERO, true, &PACE);
            assert_eq!(service.cannot, 0, "it was ready once");
            service.next(killed, Duration::ZERO, false, &PACE);
            service.next(ended(3), Duration::ZERO, false, &PACE);
            assert_eq!(service.cannot, 0, "it did not say so");
        }
        assert_eq!(service.next(killed, Duration::ZERO, false, &PACE), PACE.pause_max);
        assert_eq!(service.next(killed, PACE.lived, false, &PACE), PACE.pause_min, "it had lived");
        for _ in 0..=TRIES {
            service.next(ended(2), Duration::ZERO, false, &PACE);
        }
        assert!(service.told(ended(2), PACE.pause_max).contains("needs a person"));
        service.next(killed, Duration::ZERO, false, &PACE);
        assert!(!service.told(killed, PACE.pause_max).contains("person"), "it may have been mended");
    }
}
