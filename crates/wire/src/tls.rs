//! Mutual TLS: who a process is, whom it believes, and nothing else.
//!
//! Both sides show a certificate that the bank's own authority signed, and believe no other. TLS 1.3 only: every
//! process is of this program. No session is resumed, so that whoever comes has shown now who it is.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

/// Files of a process, PEM all three.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Certificates of the authority that signs those of everybody.
    pub authority: PathBuf,
    /// The process's own certificate, and those between it and the authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is not there, or not PEM.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// No certificate of the authority can be used.
    #[error("the certificates of the authority: {0}")]
    Authority(#[from] VerifierBuilderError),
    /// The certificate and the key cannot be used, or the other side is not believed.
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    /// The name of a server is none.
    #[error("`{0}` is no name that a server can have")]
    Name(String),
    /// The connection.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A connection that waits. Its parts can be taken apart, for one that is polled.
pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Connects to the server of this name, and waits so long at most for each step of it.
///
/// That the server does not believe *us* is found out by the first read only: it is the last to speak.
pub fn connect(
    address: SocketAddr,
    name: &str,
    identity: &Identity,
    patience: Duration,
) -> Result<Stream, Error> {
    let session = session(name, client(identity)?)?;
    let socket = TcpStream::connect_timeout(&address, patience)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(patience))?;
    socket.set_write_timeout(Some(patience))?;
    let mut stream = StreamOwned::new(session, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    stream.sock.set_read_timeout(None)?;
    stream.sock.set_write_timeout(None)?;
    Ok(stream)
}

/// A client's side of a session with the server of this name: for one who polls the socket itself.
pub fn session(name: &str, config: Arc<ClientConfig>) -> Result<ClientConnection, Error> {
    let server = ServerName::try_from(name.to_owned()).map_err(|_| Error::Name(name.into()))?;
    Ok(ClientConnection::new(config, server)?)
}

/// How a client of this identity speaks.
pub fn client(identity: &Identity) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiServerVerifier::builder_with_provider(identity.authorities()?, provider.clone()).build()?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_webpki_verifier(verifier)
        .with_client_auth_cert(identity.certificates()?, identity.key()?)?;
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// How a server of this identity speaks.
pub fn server(identity: &Identity) -> Result<Arc<ServerConfig>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(identity.authorities()?, provider.clone()).build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.certificates()?, identity.key()?)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

impl Identity {
    fn authorities(&self) -> Result<Arc<RootCertStore>, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.authority)? {
            roots.add(certificate)?;
        }
        Ok(Arc::new(roots))
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        certificates(&self.certificate)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, Error> {
        PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|source| Error::File { path: self.key.clone(), source })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|source| Error::File { path: path.into(), source })
}
