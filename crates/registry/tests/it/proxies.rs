//! Proxies: what goes through them, and how their failures are told.

use std::net::TcpListener;
use std::time::Duration;

use unlade_oci::{Descriptor, ErrorClass, MediaType};
use unlade_reference::{Defaults, Repository};
use unlade_registry::{Client, Error, ProxySettings, RawManifest, Selector, Timeouts};
use unlade_test_support::{FakeProxy, Fault, TokenAuth};

use crate::{Fixture, IMAGE, basic, fetch, noise, tag, text};

/// A name that is plain http by default and at which nothing listens.
const PLAIN: &str = "localhost:1";
/// A name that nobody can look up.
const SECURE: &str = "registry.invalid";

fn repository(host: &str) -> Repository {
    Repository::parse(&format!("{host}/{IMAGE}"), &Defaults::standard()).unwrap()
}

fn client(fixture: &Fixture, proxy: &str) -> Client {
    let proxies = ProxySettings::none()
        .with_all(proxy.parse().unwrap())
        .with_loopback(true);
    fixture.builder().proxies(proxies).build().unwrap()
}

async fn manifest(client: &Client, host: &str) -> Result<RawManifest, Error> {
    client.manifest(&repository(host), &Selector::Tag(&tag())).await
}

#[tokio::test]
async fn registry_token_server_and_cdn_are_reached_through_it() {
    for socks in [false, true] {
        let fixture = Fixture::start();
        fixture
            .registry
            .require_token(TokenAuth::new().realm("http://auth.invalid/token"));
        let bytes = noise(100_000);
        let descriptor = fixture.push(&bytes);
        fixture.registry.serve_at("/storage/x", bytes.clone());
        fixture
            .registry
            .fault(Fault::on_blobs().redirect(307, "http://cdn.invalid/storage/x"));
        let host = fixture.registry.host();
        let proxy = if socks {
            FakeProxy::socks(host)
        } else {
            FakeProxy::http(host)
        };
        let client = client(&fixture, &proxy.url());
        manifest(&client, PLAIN).await.unwrap();
        assert_eq!(fetch(&client, &repository(PLAIN), &descriptor).await.unwrap(), bytes);
        let seen = proxy.seen();
        let asked = |start: &str| seen.iter().filter(|line| line.starts_with(start)).count();
        if socks {
            for target in ["localhost:1", "auth.invalid:80", "cdn.invalid:80"] {
                assert_eq!(asked(&format!("CONNECT {target}")), 1, "{target} in {seen:?}");
            }
        } else {
            assert_eq!(asked("GET http://localhost:1/v2/"), 3, "{seen:?}");
            assert_eq!(asked("GET http://auth.invalid/token?"), 1, "{seen:?}");
            assert_eq!(asked("GET http://cdn.invalid/storage/x"), 1, "{seen:?}");
            assert_eq!(seen.len(), 5, "{seen:?}");
        }
        let last = fixture.registry.requests().pop().unwrap();
        assert_eq!((last.host.as_deref(), last.authorization), (Some("cdn.invalid"), None));
    }
}

#[tokio::test]
async fn exceptions_and_loopback_are_reached_directly() {
    let fixture = Fixture::start();
    let proxy = FakeProxy::http(fixture.registry.host());
    let all = ProxySettings::none().with_all(proxy.url().parse().unwrap());
    let direct = fixture.registry.host();
    for proxies in [all.clone(), all.with_loopback(true).with_exceptions("127.0.0.0/8")] {
        let client = fixture.builder().proxies(proxies).build().unwrap();
        manifest(&client, &direct).await.unwrap();
    }
    assert_eq!(proxy.seen(), [""; 0]);
}

#[tokio::test]
async fn a_login_is_sent_to_the_proxy_alone() {
    for socks in [false, true] {
        let fixture = Fixture::start();
        fixture.registry.require_basic("alice", "hunter2");
        let host = fixture.registry.host();
        let proxy = if socks {
            FakeProxy::socks(host)
        } else {
            FakeProxy::http(host)
        };
        proxy.require_login("me@corp", "p:w");
        let proxies = ProxySettings::none()
            .with_all(proxy.url_with("me%40corp:p%3Aw").parse().unwrap())
            .with_loopback(true);
        let repository = repository(PLAIN);
        let given = unlade_auth::Given::new(repository.registry().clone(), basic(), "the test");
        let client = fixture
            .builder()
            .proxies(proxies)
            .credentials(std::sync::Arc::new(given))
            .build()
            .unwrap();
        manifest(&client, PLAIN).await.unwrap();
        let last = fixture.registry.requests().pop().unwrap();
        assert_eq!(last.authorization.as_deref(), Some("Basic"), "the registry's own login");
        assert_eq!(last.header("proxy-authorization"), None);
    }
}

#[tokio::test]
async fn a_proxy_that_wants_a_login_is_an_error_of_authentication() {
    for (socks, host) in [(false, PLAIN), (false, SECURE), (true, PLAIN), (true, SECURE)] {
        for login in ["", "me:hunter3@"] {
            let fixture = Fixture::start();
            let target = fixture.registry.host();
            let proxy = if socks {
                FakeProxy::socks(target)
            } else {
                FakeProxy::http(target)
            };
            proxy.require_login("me", "hunter2");
            let client = client(&fixture, &proxy.url().replace("://", &format!("://{login}")));
            let error = manifest(&client, host).await.unwrap_err();
            assert_eq!(error.class(), ErrorClass::Auth, "{error:?}");
            let text = text(&error);
            assert!(
                text.contains(&format!("the proxy {} wants a login, or another one", proxy.url())),
                "{text}"
            );
            assert!(
                !text.contains("hunter") && !format!("{error:?}").contains("hunter"),
                "{text}"
            );
            assert!(!error.is_retryable());
            assert!(!text.contains("attempts"), "{text}");
        }
    }
}

#[tokio::test]
async fn what_a_proxy_refuses_is_told_and_retried_only_if_that_may_help() {
    for (socks, code, reason, attempts) in [
        (false, 403, "403 Forbidden", 1),
        (false, 503, "503 Service Unavailable", 4),
        (true, 2, "connection not allowed", 1),
        (true, 4, "host unreachable", 4),
    ] {
        let fixture = Fixture::start();
        let target = fixture.registry.host();
        let proxy = if socks {
            FakeProxy::socks(target)
        } else {
            FakeProxy::http(target)
        };
        proxy.refuse(code);
        let error = manifest(&client(&fixture, &proxy.url()), SECURE).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Network);
        let text = text(&error);
        let expected = format!("the proxy {} does not connect to {SECURE}:443: {reason}", proxy.url());
        assert!(text.contains(&expected), "{text}");
        assert!(
            text.starts_with(&format!(
                "GET https://{SECURE}/v2/{IMAGE}/manifests/1 through the proxy {} failed",
                proxy.url()
            )),
            "{text}"
        );
        assert_eq!(
            proxy.seen(),
            vec![format!("CONNECT {SECURE}:443"); attempts],
            "{reason}"
        );
    }
}

#[tokio::test]
async fn a_server_behind_a_tunnel_has_to_speak_tls() {
    let fixture = Fixture::start();
    let proxy = FakeProxy::http(fixture.registry.host());
    let error = manifest(&client(&fixture, &proxy.url()), SECURE).await.unwrap_err();
    assert!(
        text(&error).contains("no TLS connection could be made"),
        "{}",
        text(&error)
    );
    assert_eq!(proxy.seen(), [format!("CONNECT {SECURE}:443")]);
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named() {
    let fixture = Fixture::start();
    for scheme in ["http", "socks5h", "socks5"] {
        for host in [PLAIN, SECURE] {
            let proxy = format!("{scheme}://127.0.0.1:1");
            let error = manifest(&client(&fixture, &proxy), host).await.unwrap_err();
            assert_eq!(error.class(), ErrorClass::Network);
            let text = text(&error);
            // With `socks5` the name comes first, and this one cannot be looked up.
            if (scheme, host) != ("socks5", SECURE) {
                assert!(text.contains(&format!("the proxy {proxy} cannot be reached")), "{text}");
                assert!(text.contains("refused"), "{text}");
            }
            assert!(text.contains("after 4 attempts"), "{text}");
        }
    }
}

#[tokio::test]
async fn a_silent_proxy_times_out_and_is_named() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = format!("http://{}", silent.local_addr().unwrap());
    let fixture = Fixture::start();
    let proxies = ProxySettings::none().with_all(proxy.parse().unwrap());
    let timeouts = Timeouts {
        connect: Duration::from_millis(200),
        ..Timeouts::default()
    };
    let client = fixture.builder().proxies(proxies).timeouts(timeouts).build().unwrap();
    let error = manifest(&client, SECURE).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Timeout);
    let text = text(&error);
    assert!(
        text.contains(&format!("through the proxy {proxy} could not connect within 0.2 s")),
        "{text}"
    );
}

#[tokio::test]
async fn socks5_looks_names_up_here_and_socks5h_at_the_proxy() {
    let fixture = Fixture::start();
    let proxy = FakeProxy::socks(fixture.registry.host());
    let local = proxy.url().replace("socks5h:", "socks5:");
    manifest(&client(&fixture, &local), PLAIN).await.unwrap();
    manifest(&client(&fixture, &proxy.url()), PLAIN).await.unwrap();
    let seen = proxy.seen();
    assert!(
        ["CONNECT 127.0.0.1:1", "CONNECT [::1]:1"].contains(&&*seen[0]),
        "{seen:?}"
    );
    assert_eq!(seen[1], "CONNECT localhost:1");
}

#[tokio::test]
async fn link_local_addresses_are_refused_through_a_proxy_too() {
    let fixture = Fixture::start();
    fixture
        .registry
        .require_token(TokenAuth::new().realm("http://169.254.169.254/token"));
    let proxy = FakeProxy::http(fixture.registry.host());
    let error = manifest(&client(&fixture, &proxy.url()), PLAIN).await.unwrap_err();
    assert!(text(&error).contains("link-local"), "{}", text(&error));
    assert_eq!(proxy.seen().len(), 1, "nobody was asked for a token");
}

#[tokio::test]
async fn the_proxy_is_named_where_the_answer_may_be_its_own() {
    let fixture = Fixture::start();
    fixture.registry.fault(Fault::on_blobs().html());
    let proxy = FakeProxy::http(fixture.registry.host());
    let descriptor = Descriptor::new(MediaType::OCI_LAYER, unlade_oci::Digest::sha256("x"), 1000);
    let error = fetch(&client(&fixture, &proxy.url()), &repository(PLAIN), &descriptor)
        .await
        .unwrap_err();
    let text = text(&error);
    assert!(text.contains("answered with a web page"), "{text}");
    assert!(text.contains(&format!("through the proxy {}", proxy.url())), "{text}");
}
