//! A core alone, where it is told to listen: on a socket elsewhere, and over TLS for those whom the authority named.

use crate::{run, text};
use pabal_core::question::BankStanding;
use pabal_core::{Channel, Credentials, Question};
use pabal_wire::tls::{self, Identity};
use pabal_wire::{Asking, Body, Head, Kind, Replies, Reply};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use zerocopy::IntoBytes;

const NAME: &str = "core.bank.internal";
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed")
}

/// Files of one whom the second authority has named, and who believes the first.
fn identity(folder: &Path, who: &str, believed: &Authority, signer: &Authority) -> Identity {
    let key = KeyPair::generate().expect("a key");
    let named = CertificateParams::new(vec![who.to_string()]).expect("a name");
    let certificate = named.signed_by(&key, signer).expect("signed");
    let write = |what: &str, pem: String| {
        let path = folder.join(format!("{who}.{what}.pem"));
        std::fs::write(&path, pem).expect("written");
        path
    };
    Identity {
        authority: write("authority", believed.pem()),
        certificate: write("certificate", certificate.pem()),
        key: write("key", key.serialize_pem()),
    }
}

/// A core that runs, and what it said before it was ready.
struct Core {
    child: Child,
    said: Vec<String>,
}

impl Core {
    fn start(arguments: &[&str]) -> Core {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pabal"));
        command.arg("core").args(arguments).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("started");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut said: Vec<String> = Vec::new();
        while !said.last().is_some_and(|line| line.starts_with("ready ")) {
            said.push(lines.next().expect("it is ready before it ends").expect("text"));
        }
        Core { child, said }
    }

    fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it runs");
        assert!(self.child.wait().expect("ended").success(), "exit 0");
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says hello, asks how the bank stands, and hears it. None when the other side does not want to speak.
fn ask<S: Read + Write>(mut stream: S, credential: [u8; 16]) -> Option<BankStanding> {
    let question = Question::status();
    let hello = Head { kind: Asking::Hello as u16, count: 1, item: 1, ..Head::default() };
    let length = question.as_bytes().len() as u32;
    let head =
        Head { length, kind: Asking::Query as u16, version: 1, credential, lane: 1, ..Head::default() };
    let all = [hello.as_bytes(), head.as_bytes(), question.as_bytes()].concat();
    stream.write_all(&all).and_then(|()| stream.flush()).ok()?;
    let mut replies = Replies::default();
    let (welcome, _) = next(&mut replies, &mut stream)?;
    assert_eq!(welcome.kind, Kind::Welcome as u16);
    let (answer, body) = next(&mut replies, &mut stream)?;
    assert_eq!(answer.kind, Kind::Answer as u16, "code {}", answer.code);
    Some(BankStanding::read(body.as_bytes()).expect("how the bank stands"))
}

/// The next frame, a byte at a time: what comes after it is left.
fn next(replies: &mut Replies, stream: &mut impl Read) -> Option<(Reply, Body)> {
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        let frame = replies.take(&mut &byte[..]).expect("the server keeps the rules");
        if frame.is_some() {
            return frame;
        }
    }
}

#[test]
fn a_core_listens_where_it_is_told_to() {
    let (data, elsewhere) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let (ours, others) = (authority(), authority());
    let its = identity(elsewhere.path(), NAME, &ours, &ours);
    let socket = text(&elsewhere.path().join("s"));
    let core = Core::start(&[
        "--data",
        &text(data.path()),
        "--socket",
        &socket,
        "--listen-tls",
        "127.0.0.1:0",
        "--tls-authority",
        &text(&its.authority),
        "--tls-certificate",
        &text(&its.certificate),
        "--tls-key",
        &text(&its.key),
    ]);
    assert_eq!(core.said.last(), Some(&format!("ready {socket}")));
    let address = core.said.iter().find_map(|line| line.strip_prefix("listening on tls "));
    let address: SocketAddr = address.expect("it says where").parse().expect("an address");
    assert!(!data.path().join("core.sock").exists(), "its socket is elsewhere");

    let credential = Credentials::of(data.path(), Channel::Watch).expect("made").0;
    let here = ask(UnixStream::connect(&socket).expect("it listens"), credential).expect("an answer");
    assert_eq!((here.founded, here.accounts), (0, 0), "a new bank");
    let reader = identity(elsewhere.path(), "reader", &ours, &ours);
    let stream = tls::connect(address, NAME, &reader, PATIENCE).expect("it is believed");
    assert_eq!(ask(stream, credential).expect("an answer").accounts, 0);
    // Right credential or not: who is not named is not heard.
    let stranger = identity(elsewhere.path(), "stranger", &ours, &others);
    let heard = tls::connect(address, NAME, &stranger, PATIENCE).ok().and_then(|s| ask(s, credential));
    assert_eq!(heard, None);
    core.stop();
}

#[test]
fn tls_is_told_whole_or_not_at_all() {
    let data = tempfile::tempdir().expect("a folder");
    let data = text(data.path());
    for some in [
        &["--listen-tls", "127.0.0.1:0"][..],
        &["--tls-authority", "authority.pem"],
        &["--listen-tls", "here"],
    ] {
        let (_, errors, code) = run(&[&["core", "--data", &data], some].concat());
        assert!(code == 2 && errors.contains("--listen-tls"), "{some:?}: {code} {errors}");
    }
    let given = [
        "--listen-tls",
        "127.0.0.1:0",
        "--tls-authority",
        "no",
        "--tls-certificate",
        "no",
        "--tls-key",
        "no",
    ];
    let (_, errors, code) = run(&[&["core", "--data", &data], &given[..]].concat());
    assert!(code == 2 && errors.contains("no: "), "the file is named: {code} {errors}");
}

/// Memory is taken before it is ready, of a new bank and of one with a journal; more than there is keeps nobody from
/// starting, and is said.
#[test]
fn memory_is_taken_before_it_serves() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path().to_str().expect("UTF-8");
    let start = |mib: &str| Core::start(&["--data", data, "--memory-ahead", mib]);
    let resident_kib = |core: &Core| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", core.child.id())).expect("it runs");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        resident.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
    };
    let core = start("0");
    let without = resident_kib(&core);
    core.stop();
    for _ in ["new", "with a journal"] {
        let core = start("128");
        let with = resident_kib(&core);
        assert!(with > without + (100 << 10), "{without} KiB, then {with}");
        assert!(!core.said.iter().any(|line| line.contains("MiB")), "{:?}", core.said);
        core.stop();
    }
}
