//! A bank as its services: reached through sockets, started anew when it dies, ended in order.

use crate::{run, text};
use pabal_bank::ledger::{Class, Code, Date, Id, Kind};
use pabal_bank::{Reply, command};
use pabal_client::{Address, Connection, Envelope};
use pabal_core::question::{BankStanding, Line, Standing, read_answer};
use pabal_core::{Channel, Credentials, Question};
use pabal_wire::Kind as Frame;
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use zerocopy::IntoBytes;

const WON: u16 = 410;
const CASH: u64 = 2;
const CUSTOMER: u64 = 100;
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A bank that is served.
struct Bank {
    data: TempDir,
    supervisor: Child,
    ids: u64,
}

impl Bank {
    fn start() -> Bank {
        let data = tempfile::tempdir().expect("a folder");
        let supervisor = serve(data.path());
        let mut bank = Bank { data, supervisor, ids: 0 };
        let (found, cash, customer) = (bank.id(), bank.id(), bank.id());
        let found = command::found(found, 1000, 7, pabal_bank::RULES_CURRENT, Date(20_000));
        assert_eq!(bank.ask(Channel::Operator, &found).code, Code::Done);
        for open in [
            command::open(cash, CASH, Class::Cash, WON, 0, i64::MAX),
            command::open(customer, CUSTOMER, Class::CustomerDeposit, WON, 1, 0),
        ] {
            assert_eq!(bank.ask(Channel::Staff, &open).code, Code::Done);
        }
        bank
    }

    fn id(&mut self) -> Id {
        self.ids += 1;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
        Id::new(now, 0, self.ids << 2)
    }

    /// Sends this until it is answered: a core that is gone comes back.
    fn ask(&self, channel: Channel, command: &pabal_bank::ledger::Command) -> Reply {
        self.until(|| {
            let mut core = self.connect(channel, "core.sock")?;
            core.submit(&Envelope { class: 1, ..Envelope::default() }, 1, command.as_bytes()).ok()?;
            let (kind, code, body, _) = answer(&mut core)?;
            match kind {
                Frame::Replies => Some(Reply::from_wire(zerocopy::FromBytes::ref_from_bytes(&body).ok()?)?),
                Frame::Refused => Some(Reply::refused(Code::from_u16(code)?)),
                _ => None,
            }
        })
    }

    /// Asks one of the two, until it answers from a record not before this one.
    fn look(&self, socket: &str, at_least: u64, question: &Question) -> (Standing, Vec<Line>, u64) {
        self.until(|| {
            let mut connection = self.connect(Channel::Staff, socket)?;
            connection.query(&Envelope::default(), at_least, question.as_bytes()).ok()?;
            let (kind, _, body, sequence) = answer(&mut connection)?;
            let (standing, lines) = read_answer(&body).filter(|_| kind == Frame::Answer)?;
            assert!(sequence >= at_least, "older than was asked for");
            Some((standing, lines, sequence))
        })
    }

    fn connect(&self, channel: Channel, socket: &str) -> Option<Connection> {
        let credential = Credentials::of(self.data.path(), channel).ok()?;
        Connection::connect(&Address::Unix(self.data.path().join(socket)), credential.0, PATIENCE).ok()
    }

    fn until<T>(&self, mut tried: impl FnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = tried() {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "nothing came of it");
            std::thread::yield_now();
        }
    }

    /// The process of this service, once there is one.
    fn service(&self, name: &str) -> Pid {
        let parent = self.supervisor.id().to_string();
        self.until(|| {
            let found = std::fs::read_dir("/proc").ok()?.flatten().find(|process| {
                let read = |file| std::fs::read_to_string(process.path().join(file)).unwrap_or_default();
                let stat = read("stat");
                let its_parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1));
                its_parent == Some(&parent) && read("cmdline").split('\0').nth(1) == Some(name)
            });
            Pid::from_raw(found?.file_name().to_str()?.parse().ok()?)
        })
    }

    fn kill(&self, name: &str) {
        kill_process(self.service(name), Signal::KILL).expect("it runs");
    }

    /// Ends in order; what `verify` says then.
    fn stop(mut self) -> serde_json::Value {
        kill_process(Pid::from_child(&self.supervisor), Signal::TERM).expect("it runs");
        assert!(self.supervisor.wait().expect("ended").success(), "exit 0");
        let (report, code, errors) = crate::pabal(&["verify", "--data", &text(self.data.path())]);
        assert_eq!(code, 0, "{errors}{report}");
        report
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
        let _ = self.supervisor.kill();
        let _ = self.supervisor.wait();
    }
}

fn serve(data: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pabal"));
    command
        .arg("serve")
        .arg("--data")
        .arg(data)
        .args(["--memory-ahead", "16"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().expect("started")
}

/// The next answer: kind, code, body, sequence.
fn answer(connection: &mut Connection) -> Option<(Frame, u16, Vec<u8>, u64)> {
    loop {
        connection.poll(PATIENCE).ok()?;
        if let Some(a) = connection.take().ok()? {
            return Some((a.kind, a.code, a.body.to_vec(), a.sequence));
        }
    }
}

#[test]
fn money_moves_through_the_socket_and_outlives_the_core() {
    let mut bank = Bank::start();
    let pays: Vec<_> = (0..3)
        .map(|n| {
            let id = bank.id();
            command::post(id, Kind::CashDeposit, CASH, CUSTOMER, 100 + n, WON)
        })
        .collect();
    let mut first = Vec::new();
    for pay in &pays {
        first.push(bank.ask(Channel::Staff, pay));
        bank.kill("core");
    }
    // The same again: each was done once, and says what it said.
    for (pay, was) in pays.iter().zip(&first) {
        let again = bank.ask(Channel::Staff, pay);
        assert_eq!((again.code, again.position), (Code::Done, was.position));
        assert_eq!(again.credit_balance, was.credit_balance);
    }
    let (standing, lines, sequence) = bank.look("core.sock", 0, &Question::statement(CUSTOMER, 50));
    assert_eq!((standing.balance, lines.len()), (303, 3));
    // The reader says the same of the same record or a later one.
    let (copy, its, _) = bank.look("reader.sock", sequence, &Question::statement(CUSTOMER, 2));
    assert_eq!((copy.balance, its.as_slice()), (303, &lines[..2]));
    assert_eq!(copy.next, lines[1].position, "there is more before that");
    let rest = Question { before: copy.next, ..Question::statement(CUSTOMER, 2) };
    assert_eq!(bank.look("reader.sock", sequence, &rest).1, lines[2..]);
    let as_of = |day| bank.look("reader.sock", sequence, &Question::as_of(CUSTOMER, Date(day))).0.balance;
    assert_eq!([as_of(19_999), as_of(20_000)], [0, 303]);
    let report = bank.stop();
    assert_eq!((&report["postings"], &report["orderly_stop"]), (&3.into(), &true.into()));
}

#[test]
fn a_channel_sends_what_it_may_and_a_stranger_nothing() {
    let mut bank = Bank::start();
    let (id, other) = (bank.id(), bank.id());
    let open = command::open(id, 7, Class::CustomerDeposit, WON, 1, 0);
    assert_eq!(bank.ask(Channel::Customers, &open).code, Code::ChannelNotPermitted);
    assert_eq!(bank.ask(Channel::Watch, &open).code, Code::ChannelNotPermitted);
    assert_eq!(bank.ask(Channel::Staff, &open).code, Code::Done, "its id was not used up");
    // What a web face is for, and no cash that nobody paid in, be it at once or later.
    let ids: Vec<Id> = (0..3).map(|_| bank.id()).collect();
    let cash = |id| command::post(id, Kind::CashDeposit, CASH, 7, 5, WON);
    assert_eq!(bank.ask(Channel::Customers, &cash(ids[0])).code, Code::ChannelNotPermitted);
    let held = command::hold(cash(ids[1]), None);
    assert_eq!(bank.ask(Channel::Customers, &held).code, Code::ChannelNotPermitted);
    let transfer = command::post(ids[2], Kind::Transfer, 7, CUSTOMER, 5, WON);
    assert_eq!(bank.ask(Channel::Customers, &transfer).code, Code::InsufficientFunds, "the bank decides");
    let address = Address::Unix(bank.data.path().join("core.sock"));
    let mut stranger = Connection::connect(&address, [7; 16], PATIENCE).expect("welcomed");
    let pay = command::post(other, Kind::CashDeposit, CASH, 7, 5, WON);
    stranger.submit(&Envelope::default(), 1, pay.as_bytes()).expect("sent");
    let (kind, code, ..) = answer(&mut stranger).expect("answered");
    assert_eq!((kind, code), (Frame::Refused, Code::CredentialUnknown as u16));
    stranger.query(&Envelope::default(), 0, Question::account(7).as_bytes()).expect("sent");
    assert_eq!(answer(&mut stranger).expect("answered").1, Code::CredentialUnknown as u16);
    // The reader and the core say the same of the bank.
    for socket in ["core.sock", "reader.sock"] {
        let standing = bank.until(|| {
            let mut connection = bank.connect(Channel::Watch, socket)?;
            connection.query(&Envelope::default(), 0, Question::status().as_bytes()).ok()?;
            let (kind, _, body, _) = answer(&mut connection)?;
            let standing = BankStanding::read(&body).filter(|_| kind == Frame::Answer)?;
            (standing.accounts == 3).then_some(standing)
        });
        assert_eq!((standing.founded, standing.business_date), (1, Date(20_000)));
        assert_eq!(standing.rules, pabal_bank::RULES_CURRENT);
    }
    // A copy executes nothing.
    let mut reader = bank.until(|| bank.connect(Channel::Staff, "reader.sock"));
    reader.submit(&Envelope::default(), 1, pay.as_bytes()).expect("sent");
    assert_eq!(answer(&mut reader).expect("answered").1, Code::ChannelNotPermitted as u16);
    // Nor does it say what it has not seen.
    reader.query(&Envelope::default(), 1 << 40, Question::account(7).as_bytes()).expect("sent");
    assert_eq!(answer(&mut reader).expect("answered").1, Code::NotFresh as u16);
    assert_eq!(bank.stop()["postings"], 0);
}

#[test]
fn a_reader_goes_on_without_the_core_and_comes_back_from_a_snapshot() {
    let mut bank = Bank::start();
    let id = bank.id();
    let pay = command::post(id, Kind::CashDeposit, CASH, CUSTOMER, 500, WON);
    assert_eq!(bank.ask(Channel::Staff, &pay).code, Code::Done);
    let (.., sequence) = bank.look("core.sock", 0, &Question::account(CUSTOMER));
    bank.look("reader.sock", sequence, &Question::account(CUSTOMER));
    // Stopped, not killed: it neither answers nor is started anew.
    let core = bank.service("core");
    kill_process(core, Signal::STOP).expect("it runs");
    let data = text(bank.data.path());
    let (made, code, errors) = crate::pabal(&["snapshot", "--data", &data]);
    assert_eq!((code, &made["made"]), (0, &true.into()), "{errors}{made}");
    let (again, ..) = crate::pabal(&["snapshot", "--data", &data]);
    assert_eq!((&again["made"], &again["sequence"]), (&false.into(), &made["sequence"]), "nothing is new");
    // The command line begins there too, beside a core that has the journal open.
    let (said, code, errors) = crate::pabal(&["balance", &CUSTOMER.to_string(), "--data", &data]);
    assert_eq!((code, &said["balance"], &said["being_written"]), (0, &500.into(), &true.into()), "{errors}");
    assert_eq!(said["from_snapshot"], made["sequence"]);
    bank.kill("reader");
    let (standing, _, at) = bank.look("reader.sock", 1, &Question::account(CUSTOMER));
    assert_eq!(standing.balance, 500);
    assert!(at >= made["sequence"].as_u64().expect("a number"));
    kill_process(core, Signal::CONT).expect("it runs");
    // A core that begins from the snapshot decides as one that did not.
    bank.kill("core");
    let again = bank.ask(Channel::Staff, &pay);
    assert_eq!((again.code, again.again, again.credit_balance), (Code::Done, true, 500));
    assert_eq!(bank.stop()["postings"], 1);
}

#[test]
fn services_end_when_their_supervisor_is_killed() {
    let mut bank = Bank::start();
    let (core, reader) = (bank.service("core"), bank.service("reader"));
    let told = std::fs::read_to_string(format!("/proc/{}/cmdline", core.as_raw_nonzero())).expect("it runs");
    assert!(told.contains("--memory-ahead\u{0}16\u{0}"), "{told:?}");
    bank.supervisor.kill().expect("it runs");
    bank.supervisor.wait().expect("ended");
    let gone = |pid| (kill_process(pid, Signal::CONT).is_err() || is_dead(pid)).then_some(());
    bank.until(|| gone(core));
    bank.until(|| gone(reader));
    // What was there is opened anew.
    bank.supervisor = serve(bank.data.path());
    assert_eq!(bank.look("core.sock", 0, &Question::account(CUSTOMER)).0.found, 1);
    bank.stop();
}

/// Ended, and not yet waited for.
fn is_dead(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('Z'))
}

#[test]
fn one_data_folder_has_one_core() {
    let bank = Bank::start();
    let (_, errors, code) = run(&["core", "--data", &text(bank.data.path())]);
    assert!(code == 2 && errors.contains("another process"), "{code} {errors}");
    bank.stop();
}
