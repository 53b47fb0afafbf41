//! Several servers for one registry: in which order, what each is asked for, and who comes next when one fails.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use unlade_auth::{CredentialSource, Given, Lookup};
use unlade_oci::{Descriptor, Digest, ErrorClass, MediaType};
use unlade_reference::{Registry, Repository};
use unlade_registry::{
    Capabilities, Client, ConfigError, EndpointSettings, EndpointSource, Error, Origin, Role, Selector, Timeouts,
};
use unlade_test_support::{FakeRegistry, Fault, TokenAuth};
use url::Url;

use crate::{Fixture, IMAGE, MANIFEST, basic, fetch, noise, quick, read, tag, text};

/// Answers with the same servers for every repository.
#[derive(Debug)]
struct Fixed(Vec<EndpointSettings>);

impl EndpointSource for Fixed {
    fn endpoints(&self, _: &Registry, _: &str) -> Result<Vec<EndpointSettings>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// The server at `url`, as a mirror.
fn mirror(url: &str) -> EndpointSettings {
    let base = Url::parse(&format!("{url}/v2/")).unwrap();
    let mut settings = EndpointSettings::new(base, Origin::Given("the test".to_owned()));
    settings.role = Role::Mirror;
    settings
}

/// A registry, and a mirror with the same content.
struct Pair {
    fixture: Fixture,
    mirror: FakeRegistry,
    blob: Bytes,
    descriptor: Descriptor,
}

impl Pair {
    fn start() -> Self {
        let (fixture, mirror, blob) = (Fixture::start(), FakeRegistry::start(), noise(3_000_000));
        let digest = mirror.push_manifest(IMAGE, MediaType::OCI_MANIFEST.as_str(), MANIFEST);
        mirror.tag(IMAGE, "1", &digest);
        mirror.push_blob(IMAGE, blob.clone());
        let descriptor = fixture.push(&blob);
        Self {
            fixture,
            mirror,
            blob,
            descriptor,
        }
    }

    fn servers(&self) -> Vec<EndpointSettings> {
        let own = EndpointSettings::standard(self.fixture.repository().registry()).unwrap();
        vec![mirror(&self.mirror.url()), own]
    }

    fn client(&self) -> Client {
        self.client_of(self.servers())
    }

    fn client_of(&self, servers: Vec<EndpointSettings>) -> Client {
        let times = Timeouts {
            connect: Duration::from_millis(500),
            response: Duration::from_millis(500),
            ..Timeouts::default()
        };
        let builder = self.fixture.builder().timeouts(times);
        builder.endpoints(Arc::new(Fixed(servers))).build().unwrap()
    }

    /// Asks for everything once.
    async fn everything(&self, client: &Client) {
        let repository = self.fixture.repository();
        let manifest = client.manifest(&repository, &Selector::Tag(&tag())).await.unwrap();
        assert_eq!(manifest.bytes, MANIFEST);
        let head = client
            .head_manifest(&repository, &Selector::Digest(&manifest.digest))
            .await;
        assert_eq!(head.unwrap().digest, Some(manifest.digest));
        assert_eq!(client.tags(&repository).await.unwrap(), [tag()]);
        assert_eq!(fetch(client, &repository, &self.descriptor).await.unwrap(), self.blob);
        let bytes = client.blob_bytes(&repository, &self.descriptor, 4_000_000).await;
        assert_eq!(bytes.unwrap(), self.blob);
    }

    fn asked_registry(&self) -> usize {
        self.fixture.registry.requests().len()
    }
}

/// An address where nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn a_mirror_that_works_is_all_that_is_asked() {
    let pair = Pair::start();
    pair.everything(&pair.client()).await;
    assert_eq!(pair.asked_registry(), 0);
    assert_eq!(pair.mirror.requests().len(), 5);
    assert_eq!(pair.fixture.warnings(), [""; 0]);
}

#[tokio::test]
async fn a_mirror_that_is_not_there_is_passed_over() {
    let pair = Pair::start();
    let own = pair.servers().remove(1);
    let unknown = "http://mirror.invalid".to_owned();
    for (url, reason) in [(nobody(), "refused"), (unknown, "mirror.invalid")] {
        let client = pair.client_of(vec![mirror(&url), own.clone()]);
        pair.everything(&client).await;
        let warnings = pair.fixture.warnings();
        let last = warnings.last().unwrap();
        assert!(
            last.contains(" is passed over for 127.0.0.1:") && last.contains(reason),
            "{last}"
        );
    }
    assert_eq!(pair.fixture.warnings().len(), 2, "once for each, not for each request");
}

#[tokio::test]
async fn whatever_a_mirror_answers_the_registry_is_asked() {
    for status in [400, 401, 403, 404, 429, 500, 502, 503, 504] {
        let pair = Pair::start();
        pair.mirror.fault(Fault::on_anything().status(status));
        pair.everything(&pair.client()).await;
        let told = pair.fixture.warnings();
        assert_eq!(told.len(), usize::from(status != 404), "{status}: {told:?}");
        assert_eq!(pair.mirror.requests().len(), 5, "{status}: asked once for each thing");
    }
}

#[tokio::test]
async fn a_mirror_whose_storage_fails_is_passed_over() {
    // The mirror itself works, and sends its clients elsewhere for blobs.
    for status in [None, Some(403), Some(404), Some(429), Some(500)] {
        let (pair, storage) = (Pair::start(), FakeRegistry::start());
        let url = match status {
            None => nobody(),
            Some(status) => {
                storage.fault(Fault::on_anything().status(status));
                storage.url()
            }
        };
        let blob = format!("{url}/blob");
        pair.mirror.fault(Fault::on_blobs().redirect(307, blob));
        pair.everything(&pair.client()).await;
        let asked = pair.fixture.registry.requests();
        assert!(!asked.is_empty(), "{status:?}");
        assert!(
            asked.iter().all(|request| request.path.contains("/blobs/")),
            "{status:?}: {asked:?}"
        );
    }
    // Or sends a part of it.
    let (pair, storage) = (Pair::start(), FakeRegistry::start());
    let target = storage.serve_at("/blob", pair.blob.clone());
    storage.fault(Fault::on_path("/blob").nth(1).cut_after(1000));
    storage.fault(Fault::on_path("/blob").from(2).status(500));
    pair.mirror.fault(Fault::on_blobs().redirect(307, target));
    let fetched = fetch(&pair.client(), &pair.fixture.repository(), &pair.descriptor).await;
    assert_eq!(fetched.unwrap(), pair.blob);
    let asked = pair.fixture.registry.requests();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].range.as_deref(), Some("bytes=1000-"));
}

#[tokio::test]
async fn a_mirror_that_hangs_is_passed_over() {
    let pair = Pair::start();
    pair.mirror.fault(Fault::on_anything().delay(Duration::from_mins(1)));
    pair.everything(&pair.client()).await;
    assert_eq!(
        pair.mirror.requests().len(),
        1,
        "once out of reach, it comes after the others for a while"
    );
}

#[tokio::test]
async fn a_mirror_that_speaks_no_tls_is_passed_over() {
    let pair = Pair::start();
    let mut servers = pair.servers();
    servers[0].base.set_scheme("https").unwrap();
    pair.everything(&pair.client_of(servers)).await;
    assert!(pair.fixture.warnings()[0].contains("no TLS connection could be made"));
    assert_eq!(pair.mirror.requests().len(), 0, "https never becomes http by itself");
}

#[tokio::test]
async fn a_blob_goes_on_elsewhere_where_it_broke_off() {
    let pair = Pair::start();
    pair.mirror.fault(Fault::on_blobs().cut_after(1_000_000));
    let fetched = fetch(&pair.client(), &pair.fixture.repository(), &pair.descriptor).await;
    assert_eq!(fetched.unwrap(), pair.blob);
    let rest = &pair.fixture.registry.requests()[0];
    assert_eq!(rest.range.as_deref(), Some("bytes=1000000-"));
    let served = pair.fixture.registry.blob_bytes_served(&pair.descriptor.digest);
    assert_eq!(served, 2_000_000);
}

#[tokio::test]
async fn a_mirror_that_is_all_there_is_keeps_being_asked() {
    let pair = Pair::start();
    pair.fixture.registry.fault(Fault::on_anything().status(401));
    pair.mirror.fault(Fault::on_blobs().first(2).cut_after(500_000));
    let fetched = fetch(&pair.client(), &pair.fixture.repository(), &pair.descriptor).await;
    assert_eq!(fetched.unwrap(), pair.blob);
}

#[tokio::test]
async fn wrong_documents_are_refused_and_asked_for_elsewhere() {
    let pair = Pair::start();
    pair.mirror
        .fault(Fault::on_manifests().content(MANIFEST.replace("layers", "Layers")));
    pair.mirror.fault(Fault::on_blobs().corrupt_at(7));
    let (client, repository) = (pair.client(), pair.fixture.repository());
    let digest = Digest::sha256(MANIFEST);
    let manifest = client.manifest(&repository, &Selector::Digest(&digest)).await.unwrap();
    assert_eq!(manifest.bytes, MANIFEST);
    let warning = &pair.fixture.warnings()[0];
    assert!(warning.contains("the bytes received have the digest"), "{warning}");
    let config = client.blob_bytes(&repository, &pair.descriptor, 4_000_000).await;
    assert_eq!(config.unwrap(), pair.blob);
    let warning = &pair.fixture.warnings()[1];
    assert!(warning.contains(&format!("served something else as {}", pair.descriptor.digest)));
}

#[tokio::test]
async fn who_served_a_wrong_blob_is_not_asked_for_it_again() {
    let pair = Pair::start();
    pair.mirror.fault(Fault::on_blobs().corrupt_at(7));
    let (client, repository, digest) = (pair.client(), pair.fixture.repository(), &pair.descriptor.digest);
    let lie = fetch(&client, &repository, &pair.descriptor).await.unwrap();
    assert_ne!(lie, pair.blob);
    assert!(client.distrust(&repository, digest), "the registry is left");
    assert_eq!(fetch(&client, &repository, &pair.descriptor).await.unwrap(), pair.blob);
    assert!(!client.distrust(&repository, digest), "the last is never left out");
    let other = pair.fixture.push(&noise(10));
    pair.mirror.clear_faults();
    pair.mirror.push_blob(IMAGE, noise(10));
    fetch(&client, &repository, &other).await.unwrap();
    assert_eq!(pair.asked_registry(), 1, "for other blobs it is asked as before");
}

#[tokio::test]
async fn a_blob_of_another_size_is_refused() {
    let pair = Pair::start();
    pair.mirror.fault(Fault::on_blobs().content(noise(1000)));
    let fetched = fetch(&pair.client(), &pair.fixture.repository(), &pair.descriptor).await;
    assert_eq!(fetched.unwrap(), pair.blob);
}

#[tokio::test]
async fn what_a_mirror_is_asked_for() {
    let pair = Pair::start();
    let mut servers = pair.servers();
    servers[0].capabilities = Capabilities {
        pull: true,
        resolve: false,
    };
    pair.everything(&pair.client_of(servers.clone())).await;
    let paths: Vec<_> = pair.mirror.requests().into_iter().map(|request| request.path).collect();
    assert!(
        !paths.iter().any(|path| path.contains("/tags/") || path.ends_with("/1")),
        "{paths:?}"
    );
    assert_eq!(paths.len(), 3);

    servers.truncate(1);
    let error = pair
        .client_of(servers)
        .manifest(&pair.fixture.repository(), &Selector::Tag(&tag()))
        .await
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::Invalid);
    assert!(error.to_string().contains("may be asked for tags"), "{error}");
}

#[tokio::test]
async fn names_paths_and_headers_of_a_mirror() {
    let pair = Pair::start();
    let mut servers = pair.servers();
    let repository = Repository::parse("registry.example/team/app", &unlade_reference::Defaults::standard()).unwrap();
    servers[0].path = Some("cache/app".to_owned());
    servers[0].namespace = Some("registry.example".to_owned());
    servers[0].headers.insert("x-token", "hunter2".parse().unwrap());
    pair.mirror.push_blob("cache/app", pair.blob.clone());
    let storage = FakeRegistry::start();
    let url = storage.serve_at("/x", pair.blob.clone());
    pair.mirror.fault(Fault::on_blobs().redirect(307, url));
    let client = pair.client_of(servers);
    assert_eq!(fetch(&client, &repository, &pair.descriptor).await.unwrap(), pair.blob);
    let seen = &pair.mirror.requests()[0];
    let expected = format!("/v2/cache/app/blobs/{}", pair.descriptor.digest);
    assert_eq!(
        (seen.path.as_str(), seen.query.as_deref()),
        (&*expected, Some("ns=registry.example"))
    );
    assert_eq!(seen.header("x-token"), Some("hunter2"));
    assert_eq!(storage.requests()[0].header("x-token"), None, "not to another origin");
}

/// Gives each registry credentials of its own, and remembers who was asked about.
#[derive(Debug)]
struct PerHost(Vec<Given>);

impl CredentialSource for PerHost {
    fn lookup(&self, repository: &Repository) -> Lookup {
        let found = self.0.iter().map(|given| given.lookup(repository));
        found
            .into_iter()
            .find(|lookup| lookup.found.is_some())
            .unwrap_or_default()
    }
}

#[tokio::test]
async fn each_server_gets_its_own_credentials_only() {
    let pair = Pair::start();
    pair.fixture.registry.require_basic("alice", "hunter2");
    pair.mirror.require_token(TokenAuth::new().user("bob", "hunter3"));
    let host = |name: String| name.parse::<Registry>().unwrap();
    let own = Given::new(host(pair.fixture.registry.host()), basic(), "the test");
    let builder = |givens: Vec<Given>| {
        let builder = pair
            .fixture
            .builder()
            .retry(quick())
            .credentials(Arc::new(PerHost(givens)));
        builder.endpoints(Arc::new(Fixed(pair.servers()))).build().unwrap()
    };
    // The mirror wants a login that nobody has: it is passed over, and never sees the registry's.
    pair.everything(&builder(vec![own.clone()])).await;
    let sent = pair.mirror.requests();
    assert!(
        sent.iter()
            .all(|request| request.authorization.as_deref() != Some("Basic"))
    );

    let credential = unlade_auth::Credential::from_pair("bob", "hunter3");
    let theirs = Given::new(host(pair.mirror.host()), credential, "the test");
    pair.fixture.registry.clear();
    pair.everything(&builder(vec![own, theirs])).await;
    assert_eq!(pair.asked_registry(), 0, "with its own login the mirror serves");
}

#[tokio::test]
async fn the_error_names_each_server_and_its_reason() {
    let pair = Pair::start();
    pair.mirror.fault(Fault::on_anything().status(503));
    let own = pair.servers().remove(1);
    let (away, mirror_url) = (nobody(), pair.mirror.url());
    let client = pair.client_of(vec![mirror(&away), mirror(&mirror_url), own]);
    let missing = "nothing".parse().unwrap();
    let error = client
        .manifest(&pair.fixture.repository(), &Selector::Tag(&missing))
        .await
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::NotFound, "the registry's own word counts");
    assert!(error.is_not_found());
    let Error::Endpoints { failures, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(failures.len(), 3);
    let text = text(&error);
    let host = pair.fixture.registry.host();
    assert!(
        text.starts_with(&format!("none of the 3 servers for {host} could give it: ")),
        "{text}"
    );
    for part in ["refused", "status 503", "does not exist or needs a login"] {
        assert_eq!(text.matches(part).count(), 1, "{part}: {text}");
    }
    assert!(
        pair.mirror.requests().len() <= 1,
        "nobody waits for mirrors when the registry has said no"
    );
}

#[tokio::test]
async fn configuration_that_cannot_be_used_is_an_error_and_no_missing_mirror() {
    let pair = Pair::start();
    let mut servers = pair.servers();
    servers[0].base.set_scheme("https").unwrap();
    servers[0].tls.ca.push("/nonexistent/ca.pem".into());
    let error = fetch(&pair.client_of(servers), &pair.fixture.repository(), &pair.descriptor)
        .await
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::Invalid);
    assert!(
        text(&error).contains("cannot read /nonexistent/ca.pem"),
        "{}",
        text(&error)
    );
}

#[tokio::test]
async fn a_stream_that_began_in_the_middle_moves_on_too() {
    let pair = Pair::start();
    pair.mirror.fault(Fault::on_blobs().status(500));
    let mut stream = pair
        .client()
        .blob(&pair.fixture.repository(), &pair.descriptor, 2_000_000)
        .await
        .unwrap();
    let start = pair.blob[..2_000_000].to_vec();
    assert_eq!(read(&mut stream, start).await.unwrap(), pair.blob);
    assert_eq!(stream.attempts(), 2);
}

#[tokio::test]
async fn a_registry_is_greeted_itself() {
    let pair = Pair::start();
    pair.client().ping(pair.fixture.repository().registry()).await.unwrap();
    assert_eq!(pair.mirror.requests().len(), 0);
}
