//! Every way of being let in.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use unlade_auth::Credential;
use unlade_oci::ErrorClass;
use unlade_registry::{Client, Error, Selector};
use unlade_test_support::{FakeRegistry, Fault, TokenAuth, TokenFields};

use crate::{Counting, Fixture, MANIFEST, basic, fetch, noise, read, tag, text};

pub(crate) async fn pull(fixture: &Fixture, client: &Client) -> Result<(), Error> {
    let manifest = client.manifest(&fixture.repository(), &Selector::Tag(&tag())).await?;
    assert_eq!(manifest.bytes, MANIFEST);
    Ok(())
}

#[tokio::test]
async fn anonymous_token() {
    let fixture = Fixture::start();
    let auth = TokenAuth::new();
    fixture.registry.require_token(auth.clone());
    let client = fixture.client();
    pull(&fixture, &client).await.unwrap();
    assert_eq!(fixture.log(), ["GET 1 401", "GET token 200", "GET 1 200"]);
    let asked = &fixture.registry.requests()[1];
    let query = asked.query.as_deref().unwrap();
    assert_eq!(query, "service=fake-registry&scope=repository%3Ateam%2Fapp%3Apull");
    assert_eq!(asked.authorization, None);

    // The token is kept.
    pull(&fixture, &client).await.unwrap();
    assert_eq!(fixture.log().len(), 4);
    assert_eq!(auth.tokens_issued(), 1);
    assert_eq!(fixture.registry.connections(), 1);
}

#[tokio::test]
async fn access_token_in_place_of_token() {
    for fields in [TokenFields::Token, TokenFields::AccessToken, TokenFields::Both] {
        let fixture = Fixture::start();
        fixture.registry.require_token(TokenAuth::new().fields(fields));
        pull(&fixture, &fixture.client()).await.unwrap();
    }
}

#[tokio::test]
async fn token_by_name_and_password() {
    let fixture = Fixture::start();
    fixture
        .registry
        .require_token(TokenAuth::new().user("alice", "hunter2"));
    pull(&fixture, &fixture.client_with(basic())).await.unwrap();
    let asked = &fixture.registry.requests()[1];
    assert_eq!(asked.authorization.as_deref(), Some("Basic"));
    assert!(asked.query.as_deref().unwrap().ends_with("&account=alice"));
    let requests = fixture.registry.requests();
    let schemes: Vec<_> = requests
        .iter()
        .map(|request| request.authorization.as_deref())
        .collect();
    assert_eq!(schemes, [None, Some("Basic"), Some("Bearer")]);
}

#[tokio::test]
async fn basic_only() {
    let fixture = Fixture::start();
    fixture.registry.require_basic("alice", "hunter2");
    let client = fixture.client_with(basic());
    pull(&fixture, &client).await.unwrap();
    pull(&fixture, &client).await.unwrap();
    assert_eq!(
        fixture.log(),
        ["GET 1 401", "GET 1 200", "GET 1 200"],
        "what the registry wants is remembered"
    );
}

#[tokio::test]
async fn identity_token_by_post() {
    let fixture = Fixture::start();
    fixture
        .registry
        .require_token(TokenAuth::new().refresh_token("hunter2"));
    pull(
        &fixture,
        &fixture.client_with(Credential::IdentityToken("hunter2".into())),
    )
    .await
    .unwrap();
    assert_eq!(fixture.log(), ["GET 1 401", "POST token 200", "GET 1 200"]);
    let asked = &fixture.registry.requests()[1];
    assert_eq!(asked.query, None, "the token is in no URL");
    assert_eq!(
        std::str::from_utf8(&asked.body).unwrap(),
        "grant_type=refresh_token&client_id=unlade&service=fake-registry\
         &scope=repository%3Ateam%2Fapp%3Apull&refresh_token=hunter2"
    );
}

#[tokio::test]
async fn identity_token_by_get_where_post_is_unknown() {
    for status in [400, 404, 405] {
        let fixture = Fixture::start();
        fixture
            .registry
            .require_token(TokenAuth::new().refresh_token("hunter2").post_status(status));
        pull(
            &fixture,
            &fixture.client_with(Credential::IdentityToken("hunter2".into())),
        )
        .await
        .unwrap();
        let expected = [
            "GET 1 401".to_owned(),
            format!("POST token {status}"),
            "GET token 200".to_owned(),
            "GET 1 200".to_owned(),
        ];
        assert_eq!(fixture.log(), expected);
    }
}

#[tokio::test]
async fn identity_token_refused_is_final() {
    let fixture = Fixture::start();
    fixture.registry.require_token(TokenAuth::new().refresh_token("other"));
    let client = fixture.client_with(Credential::IdentityToken("hunter2".into()));
    let error = pull(&fixture, &client).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Auth);
    assert_eq!(fixture.log(), ["GET 1 401", "POST token 401"]);
}

#[tokio::test]
async fn registry_token_goes_to_the_registry_itself() {
    let fixture = Fixture::start();
    fixture.registry.require_token(TokenAuth::new());
    let client = fixture.client_with(Credential::RegistryToken("hunter2".into()));
    let error = pull(&fixture, &client).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Auth);
    assert_eq!(
        fixture.log(),
        ["GET 1 401", "GET 1 401"],
        "no token server is asked, and it is tried once"
    );
    assert_eq!(
        fixture.registry.requests()[1].header("authorization"),
        Some("Bearer hunter2")
    );
    assert!(
        text(&error).contains("the registry token from the test was sent"),
        "{error}"
    );
}

#[tokio::test]
async fn challenge_without_service_and_scope() {
    let fixture = Fixture::start();
    let elsewhere = FakeRegistry::start();
    elsewhere.serve_tokens(TokenAuth::new());
    let challenge = format!("Bearer realm=\"{}\"", elsewhere.token_url());
    fixture.registry.fault(
        Fault::on_tags()
            .nth(1)
            .status(401)
            .header("www-authenticate", &challenge),
    );
    fixture.client().tags(&fixture.repository()).await.unwrap();
    let asked = &elsewhere.requests()[0];
    assert_eq!(asked.query.as_deref(), Some("scope=repository%3Ateam%2Fapp%3Apull"));
}

#[tokio::test]
async fn two_challenges_in_one_header_and_in_two() {
    for one_header in [true, false] {
        for other in ["Basic realm=\"a, Bearer b\"", "Negotiate", "NTLM abc=="] {
            let fixture = Fixture::start();
            let auth = TokenAuth::new().extra_challenge(other);
            let auth = if one_header {
                auth.challenges_in_one_header()
            } else {
                auth
            };
            fixture.registry.require_token(auth);
            pull(&fixture, &fixture.client()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_scope_of_the_challenge_is_merged_with_ours() {
    let fixture = Fixture::start();
    fixture
        .registry
        .require_token(TokenAuth::new().scope("repository:team/app:pull,push other:thing:read"));
    pull(&fixture, &fixture.client()).await.unwrap();
    let query = fixture.registry.requests()[1].query.clone().unwrap();
    assert!(
        query.contains("scope=other%3Athing%3Aread&scope=repository%3Ateam%2Fapp%3Apull%2Cpush"),
        "{query}"
    );
}

#[tokio::test]
async fn a_token_that_is_too_narrow_is_widened_once() {
    let fixture = Fixture::start();
    let auth = TokenAuth::new();
    fixture.registry.require_token(auth.clone());
    let bytes = noise(10_000);
    let descriptor = fixture.push(&bytes);
    let client = fixture.client();
    pull(&fixture, &client).await.unwrap();
    let challenge = format!(
        "Bearer realm=\"{}\",service=\"fake-registry\",scope=\"repository:team/base:pull\",error=\"insufficient_scope\"",
        fixture.registry.token_url()
    );
    let narrow = Fault::on_blobs().nth(1).status(403);
    fixture.registry.fault(narrow.header("www-authenticate", &challenge));
    assert_eq!(fetch(&client, &fixture.repository(), &descriptor).await.unwrap(), bytes);
    assert_eq!(fixture.log()[3..], ["GET blob 403", "GET token 200", "GET blob 200"]);
    let query = fixture.registry.requests()[4].query.clone().unwrap();
    assert!(
        query.contains("scope=repository%3Ateam%2Fapp%3Apull&scope=repository%3Ateam%2Fbase%3Apull"),
        "{query}"
    );
    assert_eq!(auth.tokens_issued(), 2);
}

#[tokio::test]
async fn another_repository_gets_its_token_without_being_refused_first() {
    let fixture = Fixture::start();
    fixture.registry.require_token(TokenAuth::new());
    let digest = fixture
        .registry
        .push_manifest("team/other", "application/vnd.oci.image.manifest.v1+json", MANIFEST);
    let client = fixture.client();
    pull(&fixture, &client).await.unwrap();
    fixture.registry.clear();
    let other = fixture.other_repository("team/other");
    client.manifest(&other, &Selector::Digest(&digest)).await.unwrap();
    assert_eq!(fixture.count("GET token 200"), 1);
    assert_eq!(fixture.log().len(), 2, "{:?}", fixture.log());
}

#[tokio::test]
async fn many_requests_share_one_token() {
    let fixture = Fixture::start();
    let auth = TokenAuth::new().user("alice", "hunter2");
    fixture.registry.require_token(auth.clone());
    fixture
        .registry
        .fault(Fault::on_token().delay(Duration::from_millis(50)));
    let source = Arc::new(Counting {
        credential: basic(),
        asked: AtomicUsize::new(0),
    });
    let client = fixture.builder().credentials(source.clone()).build().unwrap();
    let bytes = noise(10_000);
    let descriptor = fixture.push(&bytes);
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (client, repository, descriptor) = (client.clone(), fixture.repository(), descriptor.clone());
        all.spawn(async move { fetch(&client, &repository, &descriptor).await.unwrap().len() });
    }
    assert_eq!(all.join_all().await.iter().sum::<usize>(), 200_000);
    assert_eq!(auth.tokens_issued(), 1);
    assert_eq!(source.asked.load(Ordering::SeqCst), 1, "credentials are looked up once");
}

#[tokio::test]
async fn a_token_that_expires_among_many_requests_is_refreshed_once() {
    let fixture = Fixture::start();
    let auth = TokenAuth::new();
    fixture.registry.require_token(auth.clone());
    let client = fixture.client();
    let descriptor = fixture.push(&noise(10_000));
    pull(&fixture, &client).await.unwrap();
    auth.revoke();
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let (client, repository, descriptor) = (client.clone(), fixture.repository(), descriptor.clone());
        all.spawn(async move { fetch(&client, &repository, &descriptor).await.unwrap().len() });
    }
    all.join_all().await;
    assert_eq!(auth.tokens_issued(), 2);
}

#[tokio::test]
async fn a_token_that_expires_in_mid_blob_is_refreshed() {
    let fixture = Fixture::start();
    let auth = TokenAuth::new();
    fixture.registry.require_token(auth.clone());
    let bytes = noise(100_000);
    let descriptor = fixture.push(&bytes);
    fixture.registry.fault(Fault::on_blobs().nth(1).cut_after(50_000));
    let mut stream = fixture
        .client()
        .blob(&fixture.repository(), &descriptor, 0)
        .await
        .unwrap();
    let first = stream.next().await.unwrap().unwrap();
    auth.revoke();
    assert_eq!(read(&mut stream, first.data.to_vec()).await.unwrap(), bytes);
    let expected = [
        "GET blob 401",
        "GET token 200",
        "GET blob 200",
        "GET blob 401",
        "GET token 200",
        "GET blob 206",
    ];
    assert_eq!(fixture.log(), expected);
}

#[tokio::test]
async fn a_token_of_known_age_is_replaced_in_time() {
    let fixture = Fixture::start();
    let auth = TokenAuth::new().expires_in(Some(1));
    fixture.registry.require_token(auth.clone());
    let client = fixture.client();
    pull(&fixture, &client).await.unwrap();
    pull(&fixture, &client).await.unwrap();
    assert_eq!(auth.tokens_issued(), 1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    pull(&fixture, &client).await.unwrap();
    assert_eq!(auth.tokens_issued(), 2);
    assert_eq!(fixture.count("GET 1 401"), 1, "no request went out with the old one");
}

#[tokio::test]
async fn expires_in_missing_is_a_minute() {
    let fixture = Fixture::start();
    let auth = TokenAuth::new().expires_in(None);
    fixture.registry.require_token(auth.clone());
    let client = fixture.client();
    for _ in 0..3 {
        pull(&fixture, &client).await.unwrap();
    }
    assert_eq!(auth.tokens_issued(), 1);
}
