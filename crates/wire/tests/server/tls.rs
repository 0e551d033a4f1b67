//! TCP under TLS: who gets in, and who does not.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::house::*;
use pabal_wire::frame::{ANSWERED_BYTES_MAX, ASKED_BYTES_MAX};
use pabal_wire::tls::{self, Identity};
use pabal_wire::{Asking, Limits, Listen};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use zerocopy::IntoBytes;

const NAME: &str = "core.bank.internal";

/// An authority and the certificate that it signed for `who`, in files.
fn identity(folder: &Path, who: &str, authority: &CertifiedIssuer<'_, KeyPair>) -> Identity {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![who.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let path = |what: &str| folder.join(format!("{who}.{what}.pem"));
    fs::write(path("authority"), authority.pem()).unwrap();
    fs::write(path("certificate"), certificate.pem()).unwrap();
    fs::write(path("key"), key.serialize_pem()).unwrap();
    Identity { authority: path("authority"), certificate: path("certificate"), key: path("key") }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

struct Bank {
    house: House,
    address: SocketAddr,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Bank {
    fn open(limits: Limits) -> Bank {
        let authority = authority();
        let house = House::open_at(limits, |folder| {
            let identity = identity(&folder, NAME, &authority);
            let address = "127.0.0.1:0".parse().unwrap();
            vec![Listen::Unix(folder.join("socket")), Listen::Tls { address, identity }]
        });
        let address = house.server.as_ref().unwrap().addresses()[0];
        Bank { house, address, authority }
    }

    fn client(&self, who: &str) -> Client<tls::Stream> {
        let identity = identity(self.house.folder.path(), who, &self.authority);
        let stream = tls::connect(self.address, NAME, &identity, PATIENCE).expect("it is believed");
        stream.sock.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Client::new(stream);
        client.hello();
        client
    }

    /// Others are served as before.
    fn goes_on(&self) {
        self.house.client().round_trip(1);
        self.client("witness").round_trip(1);
    }
}

#[test]
fn whom_the_authority_has_named_is_served() {
    let mut bank = Bank::open(Limits::default());
    let mut client = bank.client("reader");
    client.round_trip(1);
    let body = bytes(3, ASKED_BYTES_MAX);
    for tag in 0..5 {
        client.submit(tag, &body);
        let asked = bank.house.request();
        assert!(asked.body.as_bytes() == body);
        asked.answer.send(long(ANSWERED_BYTES_MAX));
        let (reply, answer) = client.next().unwrap();
        assert_eq!((reply.tag, answer.as_bytes().len()), (tag, ANSWERED_BYTES_MAX));
    }
    let many: Vec<u8> = (0..1000).flat_map(|tag| frame(Asking::Query, tag, &bytes(tag, 64))).collect();
    client.send(&many);
    for tag in 0..1000 {
        let (reply, body) = client.next().unwrap();
        assert_eq!((reply.tag, body.as_bytes()), (tag, &bytes(tag, 64)[..]));
    }
    client.submit(7, &[0; 8]);
    let asked = bank.house.request();
    let server = bank.house.server();
    let draining = std::thread::spawn(move || server.drain(PATIENCE));
    asked.answer.send(long(1 << 20));
    assert_eq!(client.next().unwrap().1.as_bytes().len(), 1 << 20);
    // An end that is said, not a cut.
    assert_eq!(client.stream.read(&mut [0; 8]).unwrap(), 0);
    assert!(draining.join().unwrap());
}

#[test]
fn one_follows_under_tls() {
    let bank = Bank::open(Limits::default());
    let mut client = bank.client("reader");
    client.send(&[&frame(Asking::Query, 1, &[5; 8])[..], head(Asking::Follow, 9, 0).as_bytes()].concat());
    assert_eq!(client.next().unwrap().0.tag, 1);
    let (_, mut stream) = bank.house.follows.recv_timeout(PATIENCE).unwrap();
    let sent = bytes(4, 3 << 20);
    let sending = std::thread::spawn({
        let sent = sent.clone();
        move || stream.write_all(&sent).unwrap()
    });
    let mut came = Vec::new();
    client.stream.read_to_end(&mut came).unwrap();
    assert!(came == sent);
    sending.join().unwrap();
}

#[test]
fn one_who_follows_under_tls_and_takes_nothing_fails_the_sending_in_time() {
    let bank = Bank::open(Limits { following: Duration::from_millis(50), ..Limits::default() });
    let mut client = bank.client("reader");
    client.send(head(Asking::Follow, 9, 0).as_bytes());
    let (_, mut stream) = bank.house.follows.recv_timeout(PATIENCE).unwrap();
    assert!(stream.write_all(&[0; 32 << 20]).is_err());
    bank.goes_on();
}

#[test]
fn one_who_follows_under_tls_and_goes_is_missed_though_nothing_is_sent() {
    let bank = Bank::open(Limits::default());
    let mut client = bank.client("reader");
    client.send(head(Asking::Follow, 9, 0).as_bytes());
    let (_, mut stream) = bank.house.follows.recv_timeout(PATIENCE).unwrap();
    stream.flush().expect("it is there");
    drop(client);
    let until = std::time::Instant::now() + PATIENCE;
    while stream.flush().is_ok() {
        assert!(std::time::Instant::now() < until, "it has gone, and is not missed");
        std::thread::yield_now();
    }
}

#[test]
fn whom_another_authority_has_named_is_not_served_and_does_not_believe_us() {
    let bank = Bank::open(Limits::default());
    let folder = tempfile::tempdir().unwrap();
    let strange = identity(folder.path(), "stranger", &authority());
    assert!(tls::connect(bank.address, NAME, &strange, PATIENCE).is_err(), "it does not believe the server");
    // It believes the server, but was named by another.
    let ours = identity(folder.path(), "ours", &bank.authority);
    let strange = Identity { authority: ours.authority, ..strange };
    is_cut(tls::connect(bank.address, NAME, &strange, PATIENCE).map(Client::new).ok());
    bank.goes_on();
}

#[test]
fn a_server_of_another_name_is_not_believed() {
    let bank = Bank::open(Limits::default());
    let folder = tempfile::tempdir().unwrap();
    let ours = identity(folder.path(), "ours", &bank.authority);
    assert!(tls::connect(bank.address, "other.bank.internal", &ours, PATIENCE).is_err());
    assert!(matches!(tls::connect(bank.address, "no name", &ours, PATIENCE), Err(tls::Error::Name(_))));
    bank.goes_on();
}

#[test]
fn one_without_a_certificate_is_not_served() {
    let bank = Bank::open(Limits::default());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(bank.authority.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let session = ClientConnection::new(Arc::new(config), ServerName::try_from(NAME).unwrap()).unwrap();
    let socket = TcpStream::connect(bank.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    is_cut(Some(Client::new(StreamOwned::new(session, socket))));
    bank.goes_on();
}

/// Nothing that it asks is answered.
fn is_cut<S: Read + Write>(client: Option<Client<S>>) {
    let Some(mut client) = client else { return };
    let _ = client.stream.write_all(hello(1, 1).as_bytes());
    let _ = client.stream.flush();
    assert!(client.next().is_none(), "it is not welcomed");
}

#[test]
fn plain_frames_on_the_door_for_tls_are_not_answered() {
    let bank = Bank::open(Limits::default());
    let socket = TcpStream::connect(bank.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut client = socket;
    client.write_all(hello(1, 1).as_bytes()).unwrap();
    // What comes is an alert of TLS, if anything, and the end.
    let mut came = Vec::new();
    let _ = client.read_to_end(&mut came);
    assert!(came.len() < 16 && came.first().is_none_or(|kind| *kind == 21), "{came:?}");
    bank.goes_on();
}

#[test]
fn half_a_handshake_ends_by_itself() {
    let bank = Bank::open(Limits { greeting: Duration::from_secs(1), ..Limits::default() });
    let folder = tempfile::tempdir().unwrap();
    let ours = identity(folder.path(), "ours", &bank.authority);
    let mut session = tls::session(NAME, tls::client(&ours).unwrap()).unwrap();
    let mut first = Vec::new();
    session.write_tls(&mut first).unwrap();
    for bytes in [0, 1, first.len() / 2, first.len()] {
        let mut socket = TcpStream::connect(bank.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(&first[..bytes]).unwrap();
        let mut came = Vec::new();
        // Its end, or a reset: in any case before our patience is over.
        if let Err(error) = socket.read_to_end(&mut came) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }
    bank.goes_on();
}

/// More come at a time than a round goes on with: all get in.
#[test]
fn many_handshakes_at_a_time_all_come_to_their_end() {
    let bank = Bank::open(Limits::default());
    let mut local = bank.house.client();
    let folder = tempfile::tempdir().unwrap();
    let ours = tls::client(&identity(folder.path(), "ours", &bank.authority)).unwrap();
    let mut clients: Vec<_> = (0..40)
        .map(|_| {
            let socket = TcpStream::connect(bank.address).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut stream = StreamOwned::new(tls::session(NAME, ours.clone()).unwrap(), socket);
            stream.conn.write_tls(&mut stream.sock).unwrap();
            Client::new(stream)
        })
        .collect();
    local.round_trip(1);
    clients.iter_mut().for_each(Client::hello);
    clients.iter_mut().for_each(|client| client.round_trip(2));
}

#[test]
fn beyond_the_bound_of_connections_one_is_told_so_under_tls_too() {
    let bank = Bank::open(Limits { connections: 1, ..Limits::default() });
    let mut there = bank.client("reader");
    let folder = tempfile::tempdir().unwrap();
    let ours = identity(folder.path(), "ours", &bank.authority);
    let mut more = Client::new(tls::connect(bank.address, NAME, &ours, PATIENCE).unwrap());
    more.send(hello(1, 1).as_bytes());
    more.is_refused(1, OVERLOADED);
    there.round_trip(1);
}

#[test]
fn files_that_are_not_there_or_are_none_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let ours = identity(folder.path(), "ours", &authority());
    let missing = Identity { key: folder.path().join("missing"), ..ours.clone() };
    assert!(tls::server(&missing).unwrap_err().to_string().contains("missing"));
    let empty = folder.path().join("empty");
    fs::write(&empty, "").unwrap();
    assert!(tls::server(&Identity { authority: empty.clone(), ..ours.clone() }).is_err());
    assert!(tls::client(&Identity { certificate: empty, ..ours }).is_err());
}
