//! Debian's `docker-registry`, started and ended by a test.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use unlade_oci::Digest;
use unlade_test_support::{Artifact, Identity, TokenSigner};

use crate::{network, real};

/// The name `alice` with the password `hunter2`, as htpasswd writes it (bcrypt).
const HTPASSWD: &str = "alice:$2y$05$MdIqXgcuNb2BYlpZzobg7.PIEwhyv67W4Kl51Nti/EksMAGJNEDZS\n";
/// How long the registry may take until it answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// A registry server on a free loopback port, with its data in a temporary directory; it ends when dropped.
#[derive(Debug)]
pub struct RealRegistry {
    server: Child,
    address: SocketAddr,
    directory: TempDir,
    namespace: Option<String>,
}

impl RealRegistry {
    /// Starts an empty registry on the loopback interface of another network namespace.
    pub fn start_in(namespace: &str) -> Self {
        Self::start_in_with(namespace, 5000, |_| String::new())
    }

    /// Starts one there that speaks TLS, and wants that name and password.
    pub fn start_with_password_and_tls_in(namespace: &str, identity: &Identity) -> Self {
        Self::start_in_with(namespace, 5443, |directory| password_and_tls(directory, identity))
    }

    fn start_in_with(namespace: &str, port: u16, configure: impl FnOnce(&Path) -> String) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the registry");
        // Nobody else is in there who could have the port.
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let more = configure(directory.path());
        let mut command = command(directory.path(), address, &more);
        command = network::inside(namespace, &command);
        let server = run(command, directory.path());
        network::wait_for_listener(namespace, address.port(), PATIENCE);
        Self {
            server,
            address,
            directory,
            namespace: Some(namespace.to_owned()),
        }
    }

    /// Starts an empty registry and waits until it answers.
    pub fn start() -> Self {
        Self::start_with(|_| String::new())
    }

    /// Starts an empty registry that wants this name and password, which are fixed.
    pub fn start_with_password() -> Self {
        Self::start_with(password)
    }

    /// Starts an empty registry that speaks TLS, and wants that name and password.
    pub fn start_with_password_and_tls(identity: &Identity) -> Self {
        Self::start_with(|directory| password_and_tls(directory, identity))
    }

    /// Starts an empty registry that wants that name and password, and sends its clients to another server for blobs.
    pub fn start_with_password_and_blobs_at(host: &str) -> Self {
        let elsewhere =
            format!("middleware:\n  storage:\n  - name: redirect\n    options:\n      baseurl: http://{host}/\n");
        Self::start_with(|directory| format!("{elsewhere}{}", password(directory)))
    }

    /// Starts a cache that fetches what it does not have from the registry at `host`.
    pub fn start_cache_of(host: &str) -> Self {
        Self::start_with(|_| format!("proxy:\n  remoteurl: http://{host}\n"))
    }

    /// Starts an empty registry that wants the tokens of a token server.
    pub fn start_with_tokens(realm: &str, service: &str, signer: &TokenSigner) -> Self {
        Self::start_with(|directory| {
            let bundle = directory.join("tokens.pem");
            fs::write(&bundle, signer.certificate()).expect("a certificate for the registry");
            format!(
                "auth:\n  token:\n    realm: {realm}\n    service: {service}\n    issuer: {}\n    rootcertbundle: {}\n",
                signer.issuer(),
                bundle.display()
            )
        })
    }

    /// Starts a registry with more in its configuration file, which may need files in its directory.
    fn start_with(configure: impl Fn(&Path) -> String) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the registry");
        // Between finding a free port and the server's taking it somebody else may take it; then there is another.
        for _ in 0..5 {
            let address = free_address();
            let more = configure(directory.path());
            let mut server = run(command(directory.path(), address, &more), directory.path());
            if wait_until_it_answers(&mut server, address) {
                return Self {
                    server,
                    address,
                    directory,
                    namespace: None,
                };
            }
            drop(server.kill());
            drop(server.wait());
        }
        let log = fs::read_to_string(directory.path().join("log")).unwrap_or_default();
        panic!("docker-registry does not start:\n{log}");
    }

    /// Kills the server. Its data and its port are kept for [`Self::start_again`].
    pub fn stop(&mut self) {
        self.server.kill().expect("the registry is there");
        self.server.wait().expect("a child can be waited for");
    }

    /// Starts the server that was stopped, and waits until it answers.
    pub fn start_again(&mut self) {
        // Somebody else may have the port for a moment, for a connection of its own.
        for _ in 0..5 {
            let mut command = Command::new("docker-registry");
            command.arg("serve").arg(self.directory.path().join("config.yml"));
            self.server = run(command, self.directory.path());
            if wait_until_it_answers(&mut self.server, self.address) {
                return;
            }
        }
        panic!("docker-registry does not start again on {}", self.address);
    }

    /// Returns the directory of its data.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Returns what it has logged: a line for each request, among others.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).expect("the registry keeps a log")
    }

    /// Tells whether it has the blob itself, whole.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        let hex = digest.hex();
        let blobs = self
            .data()
            .join("docker/registry/v2/blobs")
            .join(digest.algorithm().as_str());
        blobs.join(&hex[..2]).join(hex).join("data").is_file()
    }

    /// Returns `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Returns the reference `127.0.0.1:PORT/repository:tag`.
    pub fn reference(&self, repository: &str, tag: &str) -> String {
        format!("{}/{repository}:{tag}", self.address)
    }

    /// Pushes an image or an index with skopeo, bytes unchanged. Returns the reference.
    pub fn push(&self, repository: &str, tag: &str, artifact: &dyn Artifact) -> String {
        let work = self.work();
        let source = real::skopeo_source(work.path(), artifact);
        self.push_from(&source, repository, tag)
    }

    /// Pushes one tag of an OCI layout with skopeo, bytes unchanged. Returns the reference.
    pub fn push_layout(&self, layout: &Path, tag: &str, repository: &str) -> String {
        self.push_from(&format!("oci:{}:{tag}", layout.display()), repository, tag)
    }

    fn push_from(&self, source: &str, repository: &str, tag: &str) -> String {
        let reference = self.reference(repository, tag);
        let mut skopeo = real::skopeo(self.directory.path());
        // A registry that asks for no login never sees this one.
        skopeo.args(["copy", "--dest-creds", "alice:hunter2"]);
        skopeo.args(["--all", "--preserve-digests", "--dest-tls-verify=false", source]);
        skopeo.arg(format!("docker://{reference}"));
        match &self.namespace {
            Some(namespace) => real::run(&mut network::inside(namespace, &skopeo)),
            None => real::run(&mut skopeo),
        };
        reference
    }

    fn work(&self) -> TempDir {
        tempfile::tempdir_in(self.directory.path()).expect("a directory for what is pushed")
    }
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

/// Writes files for TLS and passwords and returns what the configuration says of them.
fn password_and_tls(directory: &Path, identity: &Identity) -> String {
    let (certificate, key) = identity.write(directory, "tls");
    format!(
        "  tls:\n    certificate: {}\n    key: {}\n{}",
        certificate.display(),
        key.display(),
        password(directory)
    )
}

/// Writes the file of passwords and returns what the configuration says of it.
fn password(directory: &Path) -> String {
    let file = directory.join("htpasswd");
    fs::write(&file, HTPASSWD).expect("a file of passwords for the registry");
    format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", file.display())
}

pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("an address")
}

fn command(directory: &Path, address: SocketAddr, more: &str) -> Command {
    let config = directory.join("config.yml");
    let text = format!(
        "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n{more}",
        directory.join("data").display()
    );
    fs::write(&config, text).expect("a configuration for the registry");
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(config);
    command
}

fn run(mut command: Command, directory: &Path) -> Child {
    let log = File::create(directory.join("log")).expect("a log for the registry");
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("the log twice"))
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| real::cannot_run("docker-registry", &error))
}

/// Returns false if the server ends or does not answer in time.
fn wait_until_it_answers(server: &mut Child, address: SocketAddr) -> bool {
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        if server.try_wait().expect("a child can be waited for").is_some() {
            return false;
        }
        if answers(address).unwrap_or(false) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

fn answers(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(format!("GET /v2/ HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    // One that wants a login says so, and so does one that wants TLS.
    Ok([b" 200", b" 401", b" 400"].iter().any(|code| answer.ends_with(*code)))
}
