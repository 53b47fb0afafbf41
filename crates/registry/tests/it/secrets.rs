//! Nothing that proves who we are is ever printed.

use std::io;
use std::sync::{Arc, Mutex};

use tracing_subscriber::fmt::MakeWriter;
use unlade_auth::{Credential, Given};
use unlade_registry::{Client, Proxy, ProxySettings, Selector};
use unlade_test_support::{FakeProxy, FakeRegistry, Fault, TokenAuth};

use crate::{Fixture, IMAGE, basic, noise, read, tag, text};

/// Keeps all that is logged.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Goes through a token, a presigned redirect, a retry and a failure; returns all that could be seen of it.
async fn everything(credential: Credential, auth: TokenAuth) -> (String, Vec<String>) {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::TRACE);
    let guard = tracing::subscriber::set_default(subscriber.with_ansi(false).with_writer(log.clone()).finish());

    let fixture = Fixture::start();
    let storage = FakeRegistry::start();
    fixture.registry.require_token(auth);
    storage.require_signature(None);
    let bytes = noise(10_000);
    let descriptor = fixture.push(&bytes);
    storage.push_blob(IMAGE, bytes.clone());
    fixture
        .registry
        .fault(Fault::on_blobs().redirect_presigned(307, &storage));
    storage.fault(Fault::on_blobs().nth(1).cut_after(5000));
    fixture.registry.fault(Fault::on_manifests().nth(1).status(503));

    // The proxy leads to the registry alone.
    let proxy = FakeProxy::http(fixture.registry.host());
    proxy.require_login("me", "hunter2");
    let proxies = ProxySettings::none()
        .with_all(proxy.url_with("me:hunter2").parse().unwrap())
        .with_exceptions(&storage.host())
        .with_loopback(true);
    let shown = format!(
        "{proxies:?} {proxies:#?} {}",
        proxy.url_with("me:hunter2").parse::<Proxy>().unwrap()
    );
    let given = Given::new(fixture.repository().registry().clone(), credential, "the test");
    let client: Client = fixture
        .builder()
        .credentials(Arc::new(given))
        .proxies(proxies.clone())
        .build()
        .unwrap();
    client
        .manifest(&fixture.repository(), &Selector::Tag(&tag()))
        .await
        .unwrap();
    let mut stream = client.blob(&fixture.repository(), &descriptor, 0).await.unwrap();
    let mut seen = vec![
        shown,
        format!(
            "{client:?} {client:#?} {stream:?} {:?}",
            fixture.builder().proxies(proxies)
        ),
    ];
    assert_eq!(read(&mut stream, Vec::new()).await.unwrap(), bytes);
    storage.clear_faults();
    storage.fault(Fault::on_anything().status(403));
    let error = client.blob(&fixture.repository(), &descriptor, 0).await.unwrap_err();
    seen.push(format!("{error:?} {error:#?} {}", text(&error)));
    let missing = "nope".parse().unwrap();
    let error = client
        .manifest(&fixture.repository(), &Selector::Tag(&missing))
        .await
        .unwrap_err();
    seen.push(format!("{error:?} {}", text(&error)));
    proxy.require_login("me", "another one");
    let error = client
        .manifest(&fixture.repository(), &Selector::Tag(&missing))
        .await
        .unwrap_err();
    assert!(text(&error).contains("wants a login"), "{error:?}");
    seen.push(format!("{error:?} {error:#?} {}", text(&error)));
    drop(guard);
    assert!(!proxy.seen().is_empty());
    let logged = log.text();
    assert!(
        logged.contains("answered") && logged.contains("trying again"),
        "something was logged: {logged}"
    );
    assert!(
        logged.contains("REDACTED"),
        "the presigned URL was logged without its signature"
    );

    // What must not be seen: what was sent as authorization, and every signature.
    let mut secrets: Vec<String> = Vec::new();
    for request in fixture.registry.requests().iter().chain(&storage.requests()) {
        if let Some((_, value)) = request.header("authorization").and_then(|value| value.split_once(' ')) {
            secrets.push(value.to_owned());
        }
        if request.path.contains("/blobs/") {
            let pairs = request.query.iter().flat_map(|query| query.split('&'));
            secrets.extend(pairs.map(str::to_owned));
        }
    }
    (logged + &seen.concat(), secrets)
}

#[tokio::test]
async fn passwords_tokens_and_signatures_are_never_printed() {
    for (credential, auth) in [
        (basic(), TokenAuth::new().user("alice", "hunter2")),
        (
            Credential::IdentityToken("hunter2".into()),
            TokenAuth::new().refresh_token("hunter2"),
        ),
        (
            Credential::IdentityToken("hunter2".into()),
            TokenAuth::new().refresh_token("hunter2").post_status(404),
        ),
    ] {
        let (seen, secrets) = everything(credential, auth).await;
        assert!(secrets.len() > 5, "{secrets:?}");
        assert!(
            secrets.iter().any(|secret| secret.starts_with("fake-token-")),
            "{secrets:?}"
        );
        for secret in secrets.iter().map(String::as_str).chain(["hunter2", "bWU6aHVudGVyMg"]) {
            assert!(!seen.contains(secret), "{secret} is seen in {seen}");
        }
    }
}
