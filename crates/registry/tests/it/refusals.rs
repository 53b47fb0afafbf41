//! Every way of not being let in, and what is said then.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use unlade_auth::{Credential, CredentialSource, Lookup};
use unlade_oci::ErrorClass;
use unlade_reference::Repository;
use unlade_registry::Error;
use unlade_test_support::{FakeRegistry, Fault, TokenAuth};

use crate::auth::pull;
use crate::{Counting, Fixture, IMAGE, basic, text};

#[tokio::test]
async fn a_second_401_is_an_authentication_error() {
    let fixture = Fixture::start();
    fixture.registry.require_token(TokenAuth::new());
    fixture.registry.fault(Fault::on_manifests().unauthorized());
    let error = pull(&fixture, &fixture.client()).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Auth);
    assert!(matches!(error, Error::Denied { .. }));
    assert!(fixture.log().len() <= 5, "{:?}", fixture.log());
}

#[tokio::test]
async fn a_400_for_an_expired_token_refreshes_it() {
    let fixture = Fixture::start();
    let auth = TokenAuth::new();
    fixture.registry.require_token(auth.clone());
    let client = fixture.client();
    pull(&fixture, &client).await.unwrap();
    let body = r#"{"errors":[{"code":"DENIED","message":"Your authorization token has expired. Reauthenticate"}]}"#;
    fixture
        .registry
        .fault(Fault::on_manifests().nth(1).status(400).body(body));
    pull(&fixture, &client).await.unwrap();
    assert_eq!(auth.tokens_issued(), 2);

    fixture
        .registry
        .fault(Fault::on_manifests().status(400).body("no such thing"));
    let error = pull(&fixture, &client).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Network);
    assert_eq!(auth.tokens_issued(), 2, "another 400 does not refresh");
}

#[tokio::test]
async fn a_400_for_an_expired_token_that_is_new_is_an_authentication_error() {
    let fixture = Fixture::start();
    fixture.registry.require_token(TokenAuth::new());
    let client = fixture.client();
    pull(&fixture, &client).await.unwrap();
    fixture.registry.fault(
        Fault::on_manifests()
            .status(400)
            .body(r#"{"errors":[{"code":"DENIED","message":"Your authorization token has expired."}]}"#),
    );
    let before = fixture.count("GET token 200");
    let error = pull(&fixture, &client).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Auth);
    assert!(text(&error).contains("has expired"), "{}", text(&error));
    assert_eq!(fixture.count("GET token 200"), before + 1, "one new token, not more");
}

#[tokio::test]
async fn a_failed_token_request_tells_what_the_server_said() {
    let fixture = Fixture::start();
    fixture
        .registry
        .require_token(TokenAuth::new().fail(403, "the subscription has run out"));
    let error = pull(&fixture, &fixture.client_with(basic())).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Auth);
    let text = text(&error);
    assert!(
        text.contains("/token?") && text.contains("the subscription has run out"),
        "{text}"
    );
    assert!(text.contains("the password from the test was sent"), "{text}");
    assert_eq!(
        fixture.log(),
        ["GET 1 401", "GET token 403"],
        "no anonymous attempt follows"
    );
}

#[tokio::test]
async fn many_requests_share_one_refusal() {
    let fixture = Fixture::start();
    fixture.registry.require_token(TokenAuth::new().fail(401, "no"));
    fixture
        .registry
        .fault(Fault::on_token().delay(Duration::from_millis(100)));
    let client = fixture.client();
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let (client, repository) = (client.clone(), fixture.repository());
        all.spawn(async move { client.tags(&repository).await.unwrap_err().class() });
    }
    assert!(all.join_all().await.iter().all(|class| *class == ErrorClass::Auth));
    assert_eq!(fixture.count("GET token 401"), 1);
}

#[tokio::test]
async fn a_rate_limited_token_server_is_waited_for() {
    let fixture = Fixture::start();
    fixture.registry.require_token(TokenAuth::new());
    fixture
        .registry
        .fault(Fault::on_token().nth(1).status(429).header("retry-after", "1"));
    let started = std::time::Instant::now();
    pull(&fixture, &fixture.client()).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));

    fixture
        .registry
        .fault(Fault::on_token().status(429).header("retry-after", "900"));
    let error = pull(&fixture, &fixture.client()).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::RateLimited);
}

#[tokio::test]
async fn a_token_answer_that_is_none() {
    for (body, content_type, expected) in [
        (
            "{}",
            "application/json",
            "a token answer that cannot be read: it holds no token",
        ),
        (
            "{\"token\": hunter2",
            "application/json",
            "not the expected JSON, line 1, column 11",
        ),
        (
            "<html>hunter2</html>",
            "text/html",
            "a web page (text/html) where a token was due",
        ),
    ] {
        let fixture = Fixture::start();
        fixture.registry.require_token(TokenAuth::new());
        fixture
            .registry
            .fault(Fault::on_token().body(body).header("content-type", content_type));
        let error = pull(&fixture, &fixture.client()).await.unwrap_err();
        assert!(text(&error).contains(expected), "{}", text(&error));
        assert!(!format!("{error:?} {}", text(&error)).contains("hunter2"));
    }
}

#[tokio::test]
async fn a_realm_on_another_host_gets_the_credentials() {
    let fixture = Fixture::start();
    let elsewhere = FakeRegistry::start();
    let auth = TokenAuth::new().user("alice", "hunter2").realm(&elsewhere.token_url());
    elsewhere.serve_tokens(auth.clone());
    fixture.registry.require_token(auth);
    pull(&fixture, &fixture.client_with(basic())).await.unwrap();
    assert_eq!(elsewhere.requests()[0].authorization.as_deref(), Some("Basic"));
    assert_eq!(fixture.log(), ["GET 1 401", "GET 1 200"]);
}

#[tokio::test]
async fn a_link_local_realm_is_refused() {
    for realm in [
        "http://169.254.169.254/token",
        "http://[fe80::1]/token",
        "http://0xa9fea9fe/token",
    ] {
        let fixture = Fixture::start();
        fixture.registry.require_token(TokenAuth::new().realm(realm));
        let error = pull(&fixture, &fixture.client_with(basic())).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Auth);
        assert!(
            text(&error).ends_with("the token server's address is link-local"),
            "{error}"
        );
        assert_eq!(fixture.log().len(), 1);
    }
}

#[tokio::test]
async fn a_challenge_that_cannot_be_answered() {
    for (challenge, expected) in [
        (
            "Negotiate",
            "it offers only negotiate, and Bearer and Basic are what can be done",
        ),
        ("Bearer service=\"x\"", "it names no token server"),
        ("Bearer realm=\"/token\"", "the token server's address is no URL"),
        ("Bearer realm=\"ftp://x/token\"", "begins with ftp:, which is not safe"),
    ] {
        let fixture = Fixture::start();
        fixture
            .registry
            .fault(Fault::on_manifests().status(401).header("www-authenticate", challenge));
        let error = pull(&fixture, &fixture.client()).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Auth);
        assert!(text(&error).contains(expected), "{}", text(&error));
        assert_eq!(fixture.log().len(), 1);
    }
}

#[tokio::test]
async fn a_token_for_a_registry_that_wants_a_password() {
    let fixture = Fixture::start();
    fixture.registry.require_basic("alice", "hunter2");
    let client = fixture.client_with(Credential::IdentityToken("t".into()));
    let error = pull(&fixture, &client).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Auth);
    assert!(
        text(&error).contains("it wants a name and a password, but the identity token from the test"),
        "{error}"
    );
}

#[tokio::test]
async fn a_wrong_password_is_sent_once_and_named() {
    let fixture = Fixture::start();
    fixture.registry.require_basic("alice", "other");
    let error = pull(&fixture, &fixture.client_with(basic())).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Auth);
    let text = text(&error);
    assert!(
        text.contains("access denied, it needs another login or does not exist"),
        "{text}"
    );
    assert!(text.contains("the password from the test was sent"), "{text}");
    assert_eq!(fixture.log(), ["GET 1 401", "GET 1 401"]);
}

#[tokio::test]
async fn a_narrow_token_is_an_authentication_error() {
    let fixture = Fixture::start();
    fixture
        .registry
        .require_token(TokenAuth::new().without_access_to(IMAGE));
    let error = pull(&fixture, &fixture.client()).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Auth);
    assert!(text(&error).contains("no credentials were sent"), "{error}");
    assert!(fixture.log().len() <= 4, "{:?}", fixture.log());
}

/// Knows nothing, for a reason.
#[derive(Debug)]
struct Broken;

impl CredentialSource for Broken {
    fn lookup(&self, _repository: &Repository) -> Lookup {
        let (helper, server) = ("docker-credential-x".to_owned(), "r".to_owned());
        let warning = unlade_auth::Warning::HelperMissing {
            helper,
            server,
            place: unlade_auth::Place::File("/c/config.json".into()),
        };
        Lookup {
            found: None,
            warnings: vec![warning],
        }
    }
}

#[tokio::test]
async fn a_broken_helper_is_a_warning_and_an_anonymous_attempt() {
    let fixture = Fixture::start();
    fixture.registry.require_token(TokenAuth::new());
    let client = fixture.builder().credentials(Arc::new(Broken)).build().unwrap();
    pull(&fixture, &client).await.unwrap();
    pull(&fixture, &client).await.unwrap();
    assert_eq!(fixture.warnings().len(), 1);
    assert!(fixture.warnings()[0].contains("docker-credential-x for r is not installed"));

    // Where anonymous is not enough, the error says why there was nothing else.
    fixture
        .registry
        .require_token(TokenAuth::new().user("alice", "hunter2"));
    let client = fixture.builder().credentials(Arc::new(Broken)).build().unwrap();
    let error = pull(&fixture, &client).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Auth);
    assert!(text(&error).contains("docker-credential-x"), "{}", text(&error));
}

#[tokio::test]
async fn an_open_registry_never_sees_credentials_nor_makes_us_look_for_them() {
    let fixture = Fixture::start();
    let source = Arc::new(Counting {
        credential: basic(),
        asked: AtomicUsize::new(0),
    });
    let client = fixture.builder().credentials(source.clone()).build().unwrap();
    pull(&fixture, &client).await.unwrap();
    assert_eq!(source.asked.load(Ordering::SeqCst), 0);
    assert!(
        fixture
            .registry
            .requests()
            .iter()
            .all(|request| request.authorization.is_none())
    );
}
