//! The client against the real server, on one machine and over TLS.

use pabal_bank::Reply;
use pabal_client::{Address, Connection, Envelope, Error, Unsent};
use pabal_ledger::Code;
use pabal_wire::service::Answered;
use pabal_wire::tls::Identity;
use pabal_wire::{Asked, Codes, Config, Head, Kind, Limits, Listen, Server, Service, Welcome};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use zerocopy::IntoBytes;

const PATIENCE: Duration = Duration::from_secs(30);
const NAME: &str = "core.bank.internal";

/// Answers each command with the word that it begins with, as a position.
struct Echo;

impl Service for Echo {
    fn welcome(&self) -> (Welcome, u64) {
        (Welcome { role: 1, journal_id: 7, ..Welcome::default() }, 5)
    }

    fn asked(&self, asked: Vec<Asked>) {
        // The last first: answers come in whatever order.
        for Asked { head, body, answer, .. } in asked.into_iter().rev() {
            let each = body.as_bytes().len() / head.count.max(1) as usize;
            let write = move |out: &mut Vec<u8>| {
                for command in body.as_bytes().chunks_exact(each) {
                    let position = u64::from_le_bytes(command[..8].try_into().expect("eight bytes"));
                    let reply = Reply { position, ..Reply::refused(Code::Done) };
                    out.extend_from_slice(reply.to_wire().as_bytes());
                }
            };
            let (kind, count) = (Kind::Replies, head.count);
            answer.send(Answered { kind, code: 0, sequence: 9, count, body: Some(Box::new(write)) });
        }
    }

    fn follow(&self, _: Head, _: Box<dyn std::io::Write + Send>) {}
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed")
}

/// A certificate for this name, in files.
fn identity(folder: &Path, who: &str, by: &CertifiedIssuer<'_, KeyPair>) -> Identity {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![who.to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, by).expect("signed");
    let put = |what: &str, text: String| {
        let path = folder.join(format!("{who}.{what}.pem"));
        std::fs::write(&path, text).expect("written");
        path
    };
    Identity {
        authority: put("authority", by.pem()),
        certificate: put("certificate", certificate.pem()),
        key: put("key", key.serialize_pem()),
    }
}

/// A server, and the two ways to it.
fn serve(limits: Limits) -> (TempDir, Server, [Address; 2]) {
    let folder = tempfile::tempdir().expect("a folder");
    let (unix, by) = (folder.path().join("socket"), authority());
    let address = "127.0.0.1:0".parse().expect("an address");
    let its = identity(folder.path(), NAME, &by);
    let listen = vec![Listen::Unix(unix.clone()), Listen::Tls { address, identity: its }];
    let codes = Codes { malformed: 256, overloaded: 264, version_unknown: 269 };
    let server = Server::start(Config { listen, limits, codes }, Arc::new(Echo)).expect("listens");
    let address = server.addresses()[0];
    let identity = identity(folder.path(), "web", &by);
    let tls = Address::Tls { address, name: NAME.into(), identity };
    (folder, server, [Address::Unix(unix), tls])
}

/// As many requests as may be on their way, of all lengths, for a while: each is answered once, and rightly.
#[test]
fn many_requests_of_all_lengths_are_answered_by_either_way() {
    let (_folder, server, ways) = serve(Limits { in_flight: 64, ..Limits::default() });
    for way in &ways {
        let mut connection = Connection::connect(way, [3; 16], PATIENCE).expect("welcomed");
        assert_eq!((connection.welcome().journal_id, connection.sequence()), (7, 5), "{way}");
        let mut on_their_way = BTreeMap::new();
        let (mut next, mut answered) = (0u64, 0u64);
        while answered < 2000 {
            let count = if next % 97 == 0 { 8190 } else { 1 + (next % 5) as usize };
            let mut body = vec![0u8; count * 96];
            for (i, command) in body.chunks_exact_mut(96).enumerate() {
                command[..8].copy_from_slice(&(next * 10_000 + i as u64).to_le_bytes());
            }
            match connection.submit(&Envelope::default(), count as u32, &body) {
                Ok(tag) => {
                    assert!(on_their_way.insert(tag, (next, count)).is_none(), "a tag of its own");
                    next += 1;
                }
                Err(Unsent::Full) => {
                    connection.poll(PATIENCE).expect("it lives");
                    while let Some(a) = connection.take().expect("it lives") {
                        let (n, count) = on_their_way.remove(&a.tag).expect("asked for");
                        let right = |(i, reply): (usize, Option<Reply>)| {
                            reply.is_some_and(|reply| reply.position == n * 10_000 + i as u64)
                        };
                        assert_eq!(a.replies().len(), count);
                        assert!(a.replies().enumerate().all(right), "request {n} by {way}");
                        answered += 1;
                    }
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
    drop(server);
}

#[test]
fn over_tls_neither_side_believes_a_stranger() {
    let (folder, server, [_, known]) = serve(Limits::default());
    let Address::Tls { address, identity: its, .. } = known.clone() else { panic!("tls") };
    let strange = tempfile::tempdir().expect("a folder");
    let stranger = identity(strange.path(), "web", &authority());
    let refused = |name: &str, identity: Identity| {
        let way = Address::Tls { address, name: name.into(), identity };
        let error = Connection::connect(&way, [3; 16], PATIENCE).map(drop).expect_err("a stranger");
        assert!(matches!(error, Error::Io(_) | Error::Closed), "{error}");
    };
    refused(NAME, stranger.clone());
    // Of another's word for the right certificate, and of the right server under another name.
    refused(NAME, Identity { authority: stranger.authority.clone(), ..its.clone() });
    refused(NAME, Identity { authority: its.authority.clone(), ..stranger });
    refused("web", its);
    Connection::connect(&known, [3; 16], PATIENCE).expect("the others are served");
    drop((server, folder));
}
