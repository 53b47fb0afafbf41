//! Certificates of an authority of the test's own, and TLS in front of a server that speaks none.

use std::convert::Infallible;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// An authority that nobody knows but the test.
#[derive(Debug)]
pub struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, both PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

impl Authority {
    /// Makes an authority with a new key.
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "an authority of a test");
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).expect("a certificate of the authority");
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    /// Returns the authority's certificate, PEM.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// Writes the authority's certificate to a file and returns its path.
    pub fn write(&self, path: &Path) -> PathBuf {
        fs::write(path, self.pem()).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        path.to_owned()
    }

    /// Makes a certificate for a server with these names or addresses.
    pub fn server(&self, names: &[&str]) -> Identity {
        self.sign(names, ExtendedKeyUsagePurpose::ServerAuth, |_| {})
    }

    /// Makes one that was valid once.
    pub fn expired_server(&self, names: &[&str]) -> Identity {
        self.sign(names, ExtendedKeyUsagePurpose::ServerAuth, |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2020, 2, 1);
        })
    }

    /// Makes a certificate for a client.
    pub fn client(&self, name: &str) -> Identity {
        self.sign(&[name], ExtendedKeyUsagePurpose::ClientAuth, |_| {})
    }

    fn sign(
        &self,
        names: &[&str],
        usage: ExtendedKeyUsagePurpose,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names for a certificate");
        params.extended_key_usages = vec![usage];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Identity {
    /// Writes `NAME.cert` and `NAME.key` into a directory and returns their paths.
    pub fn write(&self, directory: &Path, name: &str) -> (PathBuf, PathBuf) {
        let write = |extension: &str, text: &str| {
            let path = directory.join(format!("{name}.{extension}"));
            fs::write(&path, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
            path
        };
        (write("cert", &self.certificate), write("key", &self.key))
    }
}

/// A port that speaks TLS and passes on to one that does not; it ends when dropped.
#[derive(Debug)]
pub struct TlsFront {
    address: SocketAddr,
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl TlsFront {
    /// Starts before the server at `host:port`. With `clients`, only clients with a certificate of that authority get through.
    pub fn start(host: &str, identity: &Identity, clients: Option<&Authority>) -> Self {
        let target: SocketAddr = host.parse().unwrap_or_else(|_| panic!("{host} is no address"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a socket that does not block");
        let address = listener.local_addr().expect("an address");
        let acceptor = TlsAcceptor::from(Arc::new(config(identity, clients)));
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(accept(listener, acceptor, target, stopped));
        };
        let thread = thread::Builder::new().name("tls-front".into()).spawn(run);
        Self {
            address,
            stop: Some(stop),
            thread: Some(thread.expect("a thread")),
        }
    }

    /// Returns `127.0.0.1:PORT`, as it stands in a reference.
    pub fn host(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed, and the test has failed by what came of it.
            drop(thread.join());
        }
    }
}

fn config(identity: &Identity, clients: Option<&Authority>) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the protocol versions of the provider");
    let builder = if let Some(authority) = clients {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate.der().clone()).expect("an authority");
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
    } else {
        builder.with_no_client_auth()
    };
    let chain = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("a key");
    builder
        .with_single_cert(vec![chain], key)
        .expect("a certificate and its key")
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    target: SocketAddr,
    mut stopped: oneshot::Receiver<Infallible>,
) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listening socket");
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                connections.spawn(pass_on(stream, acceptor.clone(), target));
            }
        }
    }
}

/// Errors are clients that do not like the certificate, which is what tests are about.
async fn pass_on(stream: TcpStream, acceptor: TlsAcceptor, target: SocketAddr) -> std::io::Result<()> {
    let mut client = acceptor.accept(stream).await?;
    let mut server = TcpStream::connect(target).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
