//! The client against a registry that behaves, and against all the ways in which registries do not.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod auth;
mod blobs;
mod login;
mod manifests;
mod mirrors;
mod performance;
mod proxies;
mod ranges;
mod redirects;
mod referrers;
mod refusals;
mod retries;
mod secrets;
mod stalls;
mod tags;
mod tls;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use unlade_auth::{Credential, CredentialSource, Given, Lookup};
use unlade_oci::{Descriptor, MediaType};
use unlade_reference::{Defaults, Repository, Tag};
use unlade_registry::{BlobStream, Client, ClientBuilder, Error, RetryPolicy, Timeouts, Warning};
use unlade_test_support::FakeRegistry;

const IMAGE: &str = "team/app";
const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[]}"#;

/// A registry with one repository, and what was warned about.
struct Fixture {
    registry: FakeRegistry,
    warnings: Arc<Mutex<Vec<Warning>>>,
}

impl Fixture {
    /// Starts a registry that serves [`MANIFEST`] as `team/app:1`.
    fn start() -> Self {
        let registry = FakeRegistry::start();
        let digest = registry.push_manifest(IMAGE, MediaType::OCI_MANIFEST.as_str(), MANIFEST);
        registry.tag(IMAGE, "1", &digest);
        Self {
            registry,
            warnings: Arc::default(),
        }
    }

    fn repository(&self) -> Repository {
        self.other_repository(IMAGE)
    }

    fn other_repository(&self, path: &str) -> Repository {
        Repository::parse(&format!("{}/{path}", self.registry.host()), &Defaults::standard()).unwrap()
    }

    /// Begins a client that retries quickly.
    fn builder(&self) -> ClientBuilder {
        let warnings = Arc::clone(&self.warnings);
        Client::builder()
            .retry(quick())
            .timeouts(Timeouts {
                response: Duration::from_secs(5),
                ..Timeouts::default()
            })
            .on_warning(Arc::new(move |warning| warnings.lock().unwrap().push(warning.clone())))
    }

    fn client(&self) -> Client {
        self.builder().build().unwrap()
    }

    fn client_with(&self, credential: Credential) -> Client {
        let registry = self.repository().registry().clone();
        self.builder()
            .credentials(Arc::new(Given::new(registry, credential, "the test")))
            .build()
            .unwrap()
    }

    /// Puts a blob into the repository.
    fn push(&self, bytes: &Bytes) -> Descriptor {
        let digest = self.registry.push_blob(IMAGE, bytes.clone());
        Descriptor::new(MediaType::OCI_LAYER_GZIP, digest, bytes.len() as u64)
    }

    fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap().iter().map(ToString::to_string).collect()
    }

    /// Lists the requests as `METHOD path-end status`.
    fn log(&self) -> Vec<String> {
        let requests = self.registry.requests().into_iter();
        requests
            .map(|request| {
                let end = request.path.rsplit('/').next().unwrap_or_default().to_owned();
                let end = if end.starts_with("sha256:") {
                    "blob".to_owned()
                } else {
                    end
                };
                format!("{} {end} {}", request.method, request.status)
            })
            .collect()
    }

    fn count(&self, entry: &str) -> usize {
        self.log().iter().filter(|line| *line == entry).count()
    }
}

/// Answers every question with one credential, and counts.
#[derive(Debug)]
struct Counting {
    credential: Credential,
    asked: std::sync::atomic::AtomicUsize,
}

impl CredentialSource for Counting {
    fn lookup(&self, repository: &Repository) -> Lookup {
        self.asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Given::new(repository.registry().clone(), self.credential.clone(), "the test").lookup(repository)
    }
}

fn quick() -> RetryPolicy {
    RetryPolicy {
        attempts: 4,
        backoff: Duration::from_millis(4),
        max_backoff: Duration::from_millis(20),
        max_wait: Duration::from_secs(5),
    }
}

fn tag() -> Tag {
    "1".parse().unwrap()
}

fn basic() -> Credential {
    Credential::from_pair("alice", "hunter2")
}

/// Bytes that do not repeat at any distance that a wrong offset could hit.
fn noise(length: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

/// Reads a stream to its end as a store would: chunks must follow one another, 0 begins anew.
async fn read(stream: &mut BlobStream, mut have: Vec<u8>) -> Result<Vec<u8>, Error> {
    while let Some(chunk) = stream.next().await? {
        assert!(!chunk.data.is_empty());
        if chunk.offset == 0 {
            have.clear();
        }
        assert_eq!(chunk.offset, have.len() as u64, "a gap");
        have.extend_from_slice(&chunk.data);
    }
    Ok(have)
}

/// Fetches a whole blob.
async fn fetch(client: &Client, repository: &Repository, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
    let mut stream = client.blob(repository, descriptor, 0).await?;
    read(&mut stream, Vec::new()).await
}

/// All levels of an error, as a person sees them.
fn text(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[test]
fn clients_streams_and_their_futures_may_move_between_threads() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    fn is_shared<T: Send + Sync + Clone>(value: T) -> T {
        value
    }
    let fixture = Fixture::start();
    let (client, repository) = (is_shared(fixture.client()), fixture.repository());
    let descriptor = fixture.push(&noise(10));
    drop(is_send(async move {
        let mut stream = is_send(client.blob(&repository, &descriptor, 0).await.map_err(is_shared)?);
        stream.next().await
    }));
}
