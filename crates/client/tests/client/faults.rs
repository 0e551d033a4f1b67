//! Each call that a keep makes on its files fails once, in each way that it can, beneath a client and a bank that are
//! both made up: and once more while the first failure is being seen to.
//!
//! What must hold, whatever failed and whoever came back after it: what reaches the bank is in the file at that moment,
//! in a file that outlives what it is to outlive; what reached it and has no end that was told is found by the next
//! process; what was refused, or could not be kept, is never done, neither then nor later; what is told is what the bank
//! did; and the failure is told.

use crate::server::{CREDENTIAL, JOURNAL_ID, bytes, commands, frame, welcome};
use pabal_bank::{Reply, command};
use pabal_client::files::{Files, KeptFile};
use pabal_client::stepped::{Pipe, Stepped};
use pabal_client::{Address, Ask, ClientConfig, End, Envelope, Keep, KeepConfig, KeepError, Pending, Why};
use pabal_ledger::{Code, Id};
use pabal_wire::frame::ASKED_BYTES_MAX;
use pabal_wire::{Asking, Head, Kind, Reply as ReplyHead};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, Read, Result, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use zerocopy::{FromBytes, IntoBytes};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
/// How long each request is waited for, by a clock that is made up.
const PATIENCE: Duration = Duration::from_secs(1);

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Nothing happens, and it says so.
    Fails,
    /// There is no room, and nothing happens.
    Full,
    /// Of a write one half is made, then there is no room. Anything else is done, and says that it was not.
    Half,
    /// All of it is done, and it says that it was not.
    DoneAndFails,
    /// The process ends in it: of a write one half is made.
    DiesIn,
    /// The process ends after it.
    DiesAfter,
}

const FAULTS: [Fault; 6] =
    [Fault::Fails, Fault::Full, Fault::Half, Fault::DoneAndFails, Fault::DiesIn, Fault::DiesAfter];

/// The process has ended: thrown, and caught by whoever lets it live.
struct Killed;

#[derive(Clone, Default)]
struct Content {
    seen: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
}

#[derive(Clone, Default)]
struct Image {
    files: Vec<Content>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    calls: usize,
    /// By the number of the call.
    faults: BTreeMap<usize, Fault>,
    struck: Vec<(&'static str, Fault)>,
}

/// A file system in memory, that fails as it is told. Clones are the same one.
#[derive(Clone, Default)]
struct Made(Arc<Mutex<Image>>);

impl Made {
    fn lock(&self) -> MutexGuard<'_, Image> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another one, as this is now and without faults; after a cut of power, if that comes.
    fn copy(&self, power_lost: bool) -> Made {
        let mut image = self.lock().clone();
        image.faults.clear();
        if power_lost {
            image.names = image.durable_names.clone();
            image.files.iter_mut().for_each(|file| file.seen = file.durable.clone());
        }
        Made(Arc::new(Mutex::new(image)))
    }

    /// A call: `half` does as much of it as a failure leaves, `done` all.
    fn call<T>(
        &self,
        name: &'static str,
        half: impl FnOnce(&mut Image),
        done: impl FnOnce(&mut Image) -> Result<T>,
    ) -> Result<T> {
        let mut image = self.lock();
        image.calls += 1;
        let number = image.calls;
        let Some(fault) = image.faults.remove(&number) else { return done(&mut image) };
        image.struck.push((name, fault));
        match fault {
            Fault::Fails | Fault::Full => {}
            Fault::Half | Fault::DiesIn => half(&mut image),
            Fault::DoneAndFails | Fault::DiesAfter => drop(done(&mut image)),
        }
        drop(image);
        match fault {
            Fault::DiesIn | Fault::DiesAfter => resume_unwind(Box::new(Killed)),
            Fault::Full | Fault::Half => Err(io::Error::from_raw_os_error(ENOSPC)),
            Fault::Fails | Fault::DoneAndFails => Err(io::Error::from_raw_os_error(EIO)),
        }
    }

    fn file(&self, number: usize) -> Box<dyn KeptFile> {
        Box::new(MadeFile { made: self.clone(), number })
    }
}

fn nothing(_: &mut Image) {}

impl Files for Made {
    fn lock(&self, _: &Path) -> Result<Option<Box<dyn Send>>> {
        self.call("lock", nothing, |_| Ok(Some(Box::new(()) as Box<dyn Send>)))
    }

    fn open(&self, path: &Path) -> Result<Option<Box<dyn KeptFile>>> {
        let number = self.call("open", nothing, |image| Ok(image.names.get(path).copied()))?;
        Ok(number.map(|number| self.file(number)))
    }

    fn create(&self, path: &Path) -> Result<Box<dyn KeptFile>> {
        let make = |image: &mut Image| {
            let new = image.files.len();
            let number = *image.names.entry(path.into()).or_insert(new);
            match number == new {
                true => image.files.push(Content::default()),
                false => image.files[number].seen = Arc::default(),
            }
            Ok(number)
        };
        Ok(self.file(self.call("create", |image| drop(make(image)), make)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let rename = |image: &mut Image| {
            let number = image.names.remove(from).ok_or(ErrorKind::NotFound)?;
            image.names.insert(to.into(), number);
            Ok(())
        };
        self.call("rename", |image| drop(rename(image)), rename)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let remove = |image: &mut Image| {
            image.names.remove(path).ok_or(ErrorKind::NotFound)?;
            Ok(())
        };
        self.call("remove", |image| drop(remove(image)), remove)
    }

    fn sync_folder(&self, _: &Path) -> Result<()> {
        self.call("sync_folder", nothing, |image| {
            image.durable_names = image.names.clone();
            Ok(())
        })
    }
}

struct MadeFile {
    made: Made,
    number: usize,
}

impl KeptFile for MadeFile {
    fn read(&self) -> Result<Vec<u8>> {
        self.made.call("read", nothing, |image| Ok(image.files[self.number].seen.to_vec()))
    }

    fn write(&self, written: &[u8], offset: u64) -> Result<()> {
        let write = |image: &mut Image, written: &[u8]| {
            let (seen, from) = (Arc::make_mut(&mut image.files[self.number].seen), offset as usize);
            seen.resize(seen.len().max(from + written.len()), 0);
            seen[from..from + written.len()].copy_from_slice(written);
        };
        self.made.call(
            "write",
            |image| write(image, &written[..written.len() / 2]),
            |image| {
                write(image, written);
                Ok(())
            },
        )
    }

    fn cut(&self, length: u64) -> Result<()> {
        let cut =
            |image: &mut Image| Arc::make_mut(&mut image.files[self.number].seen).resize(length as usize, 0);
        self.made.call("cut", cut, |image| {
            cut(image);
            Ok(())
        })
    }

    fn sync(&self) -> Result<()> {
        // After one that failed the next one says nothing of what was written before it.
        self.made.call("sync", nothing, |image| {
            let file = &mut image.files[self.number];
            file.durable = file.seen.clone();
            Ok(())
        })
    }
}

/// What a request is, by its number: some are long, so that the file is soon written anew.
fn ask(n: u64) -> Ask {
    let id = Id::new(n, 0, n << 2);
    let one = command::void_hold(id, id);
    let count = if matches!(n, 2 | 5 | 8) { ASKED_BYTES_MAX / 96 / 2 } else { 2 };
    let envelope = Envelope { principal: n, ..Envelope::default() };
    Ask { envelope, commands: one.as_bytes().repeat(count), patience: PATIENCE, ..Ask::default() }
}

/// The bank, which executes each request once.
struct Bank {
    files: Made,
    config: KeepConfig,
    /// Requests that reached it.
    reached: BTreeSet<u64>,
    /// Those that it did.
    done: BTreeSet<u64>,
    /// Whether it does all and answers all: else it is silent of each third one, which it did, and refuses another.
    answers_all: bool,
}

impl Bank {
    /// The number of a request that this keep has.
    fn has(files: &Made, power_lost: bool, config: KeepConfig, n: u64) -> bool {
        let keep = Keep::open_on(Box::new(files.copy(power_lost)), &path(), config).expect("opened");
        let bank = keep.bank_known();
        bank == Some(JOURNAL_ID) && keep.unsettled().values().any(|parcel| parcel.envelope().principal == n)
    }

    /// What it says to a frame.
    fn hear(&mut self, head: &Head, body: &[u8]) -> Vec<u8> {
        let said = ReplyHead { tag: head.tag, ..ReplyHead::default() };
        if head.kind == Asking::Hello as u16 {
            return frame(Kind::Welcome, &said, welcome().as_bytes());
        }
        let n = head.principal;
        assert!(Bank::has(&self.files, false, self.config, n), "{n} reached the bank and was not kept");
        if self.config.synced {
            assert!(
                Bank::has(&self.files, true, self.config, n),
                "{n} reached the bank and was not on the disk"
            );
        }
        self.reached.insert(n);
        if !self.answers_all && n.is_multiple_of(3) {
            self.done.insert(n);
            return Vec::new();
        }
        if !self.answers_all && n % 3 == 1 {
            let said = ReplyHead { code: Code::Overloaded as u16, ..said };
            return frame(Kind::Refused, &said, &[]);
        }
        self.done.insert(n);
        let replies: Vec<Reply> =
            commands(body).iter().map(|_| Reply { position: n, ..Reply::refused(Code::Done) }).collect();
        let said = ReplyHead { sequence: 1, count: replies.len() as u32, ..said };
        frame(Kind::Replies, &said, &bytes(&replies))
    }
}

/// The client's end of a stream to the bank.
struct ToBank {
    bank: Arc<Mutex<Bank>>,
    sent: Vec<u8>,
    said: Vec<u8>,
}

impl Write for ToBank {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.sent.extend(bytes);
        while let Ok((head, rest)) = Head::read_from_prefix(&self.sent)
            && let Some(body) = rest.get(..head.length as usize)
        {
            self.said.extend(self.bank.lock().expect("it stands").hear(&head, body));
            self.sent.drain(..size_of::<Head>() + head.length as usize);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Read for ToBank {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let bytes = self.said.len().min(into.len());
        if bytes == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        into.iter_mut().zip(self.said.drain(..bytes)).for_each(|(to, byte)| *to = byte);
        Ok(bytes)
    }
}

fn path() -> PathBuf {
    PathBuf::from("/channel/sent")
}

/// What was told of each request, the last at its end.
type Ends = BTreeMap<u64, Vec<End>>;

fn is_unknown(end: &End) -> bool {
    matches!(end, End::Unknown { .. })
}

/// A process: resolves what it finds, and asks these, some at once. An error where its keep cannot be opened.
fn live(
    files: &Made,
    bank: &Arc<Mutex<Bank>>,
    asks: &[&[u64]],
    ends: &mut Ends,
) -> std::result::Result<(), KeepError> {
    let config = bank.lock().expect("it stands").config;
    let keep = Keep::open_on(Box::new(files.clone()), &path(), config)?;
    let reached = bank.clone();
    let reach =
        move || Ok(Box::new(ToBank { bank: reached.clone(), sent: vec![], said: vec![] }) as Box<dyn Pipe>);
    let mut now = Instant::now();
    let to = ClientConfig::to(Address::Unix(PathBuf::new()), CREDENTIAL);
    let mut stepped = Stepped::new(to, Some(keep), reach, 1, now);
    let mut waiting: Vec<(u64, Pending<End>)> = Vec::new();
    let mut step = |stepped: &mut Stepped, waiting: &mut Vec<(u64, Pending<End>)>| {
        now += PATIENCE / 20;
        stepped.step(now);
        for (n, pending) in std::mem::take(waiting) {
            match pending.look() {
                Ok(end) => ends.entry(n).or_default().push(end),
                Err(pending) => waiting.push((n, pending)),
            }
        }
    };
    let resolved = stepped.client().resolve(PATIENCE);
    for asked in asks {
        for &n in *asked {
            waiting.push((n, stepped.client().submit(ask(n)).expect("taken")));
        }
        (0..3).for_each(|_| step(&mut stepped, &mut waiting));
    }
    (0..25).for_each(|_| step(&mut stepped, &mut waiting));
    // What has ended as unknown is asked again, as far as that may be.
    let resolved = resolved.chain(stepped.client().resolve(PATIENCE));
    (0..25).for_each(|_| step(&mut stepped, &mut waiting));
    assert!(waiting.is_empty(), "each ends when its patience does");
    drop(stepped);
    for (parcel, end) in resolved {
        ends.entry(parcel.envelope().principal).or_default().push(end);
    }
    Ok(())
}

/// What came of it.
struct Held {
    struck: Vec<(&'static str, Fault)>,
    calls: usize,
    /// Whether somebody heard of it: the process ended, a keep was not opened, or a request was not kept.
    told: bool,
}

/// Lets processes live, one after the other, while calls fail.
fn hold(faults: BTreeMap<usize, Fault>, synced: bool, power_lost: bool) -> Held {
    let what = format!("{faults:?}, synced: {synced}, power lost: {power_lost}");
    let mut files = Made::default();
    let config = KeepConfig { synced, ..KeepConfig::default() };
    let bank = Bank {
        files: files.clone(),
        config,
        reached: BTreeSet::new(),
        done: BTreeSet::new(),
        answers_all: false,
    };
    let bank = Arc::new(Mutex::new(bank));
    let (mut ends, mut told) = (Ends::new(), false);
    files.lock().faults = faults;
    for asks in [&[&[1][..], &[2], &[3, 4], &[5], &[8], &[6], &[7, 9]][..], &[&[10, 12], &[11], &[13]]] {
        let lived = catch_unwind(AssertUnwindSafe(|| live(&files, &bank, asks, &mut ends)));
        match lived {
            Ok(lived) => told |= lived.is_err(),
            Err(thrown) if thrown.is::<Killed>() => told = true,
            Err(thrown) => {
                eprintln!("{what}");
                resume_unwind(thrown)
            }
        }
        // The machine ends with the process, or only the process does.
        let next = files.copy(power_lost);
        next.lock().faults = files.lock().faults.clone();
        files = next;
        bank.lock().expect("it stands").files = files.clone();
    }
    let image = files.copy(false);
    let Image { struck, calls, .. } = image.lock().clone();
    // What needed it and did not get it says so. A mark that could not be written needs nobody.
    let each = |ends: &Ends| -> Vec<(u64, End)> {
        ends.iter().flat_map(|(n, ends)| ends.iter().map(|end| (*n, end.clone()))).collect()
    };
    told |= each(&ends).iter().any(|(n, end)| match end {
        End::Unknown { .. } => !n.is_multiple_of(3),
        end => *end == End::Refused(Why::NotKept),
    });
    let matters = struck.iter().any(|(call, _)| matches!(*call, "lock" | "open" | "read"));
    assert!(told || !matters, "nobody heard of it: {what}, {struck:?}");
    bank.lock().expect("it stands").answers_all = true;
    // What was refused was not done: that its mark is there and nobody has heard of it yet loses nothing.
    let done = bank.lock().expect("it stands").done.clone();
    for n in &done {
        let is_open = ends.get(n).and_then(|ends| ends.last()).is_none_or(is_unknown);
        assert!(!is_open || Bank::has(&image, false, config, *n), "{n} was forgotten: {what}, {struck:?}");
    }
    // Everything is well again, and all of it is resolved.
    files.lock().faults.clear();
    live(&files, &bank, &[&[20]], &mut ends).expect("opened");
    let bank = bank.lock().expect("it stands");
    assert!(matches!(ends[&20][..], [End::Replies { .. }]), "it goes on: {what}");
    for n in &done {
        let end = ends.get(n).and_then(|ends| ends.last());
        assert!(end.is_some_and(|end| !is_unknown(end)), "{n} has no end: {what}");
    }
    for (n, end) in each(&ends) {
        match &end {
            End::Replies { replies, .. } => {
                let all = replies.iter().all(|reply| reply.code == Code::Done && reply.position == n);
                assert!(all && bank.done.contains(&n), "{n} was not done: {what}, {end:?}");
            }
            End::Refused(why) => {
                assert!(!bank.done.contains(&n), "{n} was refused and is done: {what}, {end:?}, {struck:?}");
                let unsent = matches!(why, Why::NotKept | Why::Unreachable);
                assert_ne!(unsent, bank.reached.contains(&n), "{n} was sent, or not: {what}, {end:?}");
            }
            End::Unknown { .. } => {}
        }
    }
    Held { struck, calls, told }
}

/// Which ends of a machine its keep is to outlive.
const WAYS: [(bool, bool); 3] = [(false, false), (true, false), (true, true)];

#[test]
fn each_call_of_a_keep_fails_once_and_the_client_stays_right() {
    let mut heard: BTreeSet<&'static str> = BTreeSet::new();
    for (synced, power_lost) in WAYS {
        let calls = hold(BTreeMap::new(), synced, power_lost).calls;
        for number in 1..=calls {
            for fault in FAULTS {
                let held = hold(BTreeMap::from([(number, fault)]), synced, power_lost);
                assert_eq!(held.struck.len(), 1, "{number} {fault:?}");
                if held.told && !matches!(fault, Fault::DiesIn | Fault::DiesAfter) {
                    heard.insert(held.struck[0].0);
                }
            }
        }
    }
    let all = ["create", "cut", "lock", "open", "read", "rename", "sync", "sync_folder", "write"];
    assert!(heard.into_iter().eq(all), "each call is made, and somebody hears when it fails");
}

/// While one failure is being seen to, the disk fails again.
#[test]
fn a_second_failure_while_the_first_is_seen_to_changes_nothing() {
    let mut seen: BTreeSet<&'static str> = BTreeSet::new();
    for (synced, power_lost) in WAYS {
        let calls = hold(BTreeMap::new(), synced, power_lost).calls;
        for number in 1..=calls {
            for first in [Fault::Half, Fault::DoneAndFails] {
                for (after, second) in
                    [(1, Fault::Fails), (2, Fault::Fails), (1, Fault::DiesIn), (2, Fault::DiesIn)]
                {
                    let faults = BTreeMap::from([(number, first), (number + after, second)]);
                    seen.extend(hold(faults, synced, power_lost).struck.iter().map(|(call, _)| *call));
                }
            }
        }
    }
    assert!(seen.contains("remove"), "what is left of a file that could not be made is removed: {seen:?}");
}
