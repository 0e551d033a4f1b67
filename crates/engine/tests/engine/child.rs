//! A process of its own for an engine that is to crash: this very test binary, told by its environment to act
//! as the child instead of testing.

use crate::gate::Gate;
use crate::setup::{ask, bulk, heard, online, start};
use crate::toy::{Command, Toy, add, poison};
use pabal_engine::Engine;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::{Mutex, PoisonError};

const ROLE: &str = "PABAL_ENGINE_TEST_CHILD";
const DATA: &str = "PABAL_ENGINE_TEST_DATA";

/// What the child does with its engine.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    /// Starts, and does nothing.
    Start,
    /// Sends a request with poison in its middle.
    Poison,
    /// The same as a piece of a job.
    PoisonInBulk,
    /// The same with the poison in a bundle.
    PoisonInBundle,
    /// Stops for ever in the middle of an innocent request.
    Held,
    /// Sends without end, and says what was answered.
    Load,
}

/// The request with poison: two before it, two after it.
pub fn poisoned() -> [Command; 5] {
    [add(11, 1), add(12, 10), poison(13), add(14, 100), add(15, 1000)]
}

/// The same, in which poison and what follows it happen together.
pub fn poisoned_bundle() -> [Command; 5] {
    [add(11, 1), add(12, 10).linked(), poison(13).linked(), add(14, 100), add(15, 1000)]
}

/// The innocent request; its second command is held.
pub fn innocent() -> [Command; 3] {
    [add(21, 1), add(22, 10), add(23, 100)]
}

/// Not a test: what the child does. In the test binary's own run it has nothing to do.
#[test]
fn act() {
    let (Ok(role), Some(data)) = (std::env::var(ROLE), std::env::var_os(DATA)) else { return };
    let (engine, recovery) = start(Path::new(&data), Toy { lethal: true, ..Toy::default() });
    // Something before it that is answered.
    if recovery.journal.records == 0 {
        ask(&engine, &[add(1, 5)]);
    }
    match role.as_str() {
        "Start" => {}
        "Poison" => drop(heard(engine.submit(online(&poisoned())))),
        "PoisonInBulk" => {
            let mut request = bulk(&poisoned());
            (request.header.item, request.header.attempt) = (70, [1, 2]);
            drop(heard(engine.submit(request)));
        }
        "PoisonInBundle" => drop(heard(engine.submit(online(&poisoned_bundle())))),
        "Held" => held(&engine),
        "Load" => load(&engine),
        other => panic!("{other} is no role"),
    }
    engine.stop().expect("stopped");
}

fn held(engine: &Engine<Toy>) {
    let gate = Gate::closed();
    let [first, second, third] = innocent();
    let mut request = online(&[first, second.at(&gate), third]);
    // Means nothing online: whoever tries the request alone must not count on from it.
    request.header.item = u64::MAX;
    let ticket = engine.submit(request);
    gate.reached();
    println!("\nheld");
    let _ = ticket.wait();
}

fn load(engine: &Engine<Toy>) {
    for id in 1000.. {
        let sequence = ask(engine, &[add(id, 1), add(id + 1_000_000, 1)]).sequence;
        println!("\nanswered {id} {sequence}");
    }
}

/// Held while a child is made: until it runs its own program it has our files open, and so our locks.
static MAKING: Mutex<()> = Mutex::new(());

/// Waits until no child has files of ours. What this process closed before is then closed for all.
pub fn none_in_the_making() {
    drop(MAKING.lock().unwrap_or_else(PoisonError::into_inner));
}

fn spawn(role: Role, data: &Path) -> (Child, BufReader<ChildStdout>) {
    let mut command = std::process::Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", "child::act", "--nocapture", "--test-threads=1"]);
    command.env(ROLE, format!("{role:?}")).env(DATA, data);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut child = command.spawn().expect("a child");
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    // Its first byte shows that it runs its own program.
    assert!(!lines.fill_buf().expect("read").is_empty(), "the child said nothing");
    (child, lines)
}

/// Runs a child to its end. True when it was the process that died, and not the engine that stopped.
pub fn crashes(role: Role, data: &Path) -> bool {
    const SIGABRT: i32 = 6;
    let (mut child, mut lines) = spawn(role, data);
    std::io::copy(&mut lines, &mut std::io::sink()).expect("read");
    child.wait().expect("it ends").signal() == Some(SIGABRT)
}

/// A child that is killed in the middle of its work.
pub struct Killed {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Killed {
    pub fn spawn(role: Role, data: &Path) -> Killed {
        let (child, lines) = spawn(role, data);
        Killed { child, lines }
    }

    /// The numbers in the next line that begins with this word. Panics when the child ends without one.
    pub fn says(&mut self, word: &str) -> Vec<u64> {
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).expect("read") > 0, "the child ended without {word}");
            if let Some(rest) = line.strip_prefix(word) {
                return rest.split_whitespace().map(|n| n.parse().expect("a number")).collect();
            }
        }
    }

    /// Kills it and gives the numbers of all lines with this word that it had still said.
    pub fn kill(mut self, word: &str) -> Vec<Vec<u64>> {
        self.child.kill().expect("killed"); // SIGKILL
        self.child.wait().expect("it ends");
        let lines = self.lines.lines().map_while(Result::ok);
        // The last line may have been cut.
        let said = lines.filter_map(|line| {
            let numbers =
                line.strip_prefix(word)?.split_whitespace().map(str::parse).collect::<Result<_, _>>();
            numbers.ok()
        });
        said.collect()
    }
}
