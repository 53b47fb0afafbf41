//! A login is checked before it is kept.

use unlade_auth::{Credential, Found, Source};
use unlade_oci::ErrorClass;
use unlade_registry::{Authentication, Error};
use unlade_test_support::{Fault, TokenAuth};

use crate::{Fixture, basic, text};

fn found(credential: Credential) -> Found {
    let by = "the prompt".to_owned();
    Found {
        credential,
        source: Source::Given { by },
    }
}

async fn check(fixture: &Fixture, credential: Credential) -> Result<Authentication, Error> {
    let registry = fixture.repository().registry().clone();
    fixture.client().check_login(&registry, &found(credential)).await
}

#[tokio::test]
async fn a_name_and_a_password() {
    let fixture = Fixture::start();
    fixture.registry.require_basic("alice", "hunter2");
    assert_eq!(check(&fixture, basic()).await.unwrap(), Authentication::Basic);
    let error = check(&fixture, Credential::from_pair("alice", "wrong"))
        .await
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::Auth);
    assert!(
        text(&error).contains("the password from the prompt was sent"),
        "{}",
        text(&error)
    );
    let error = check(&fixture, Credential::IdentityToken("i".into()))
        .await
        .unwrap_err();
    assert!(text(&error).contains("wants a name and a password"), "{}", text(&error));
}

#[tokio::test]
async fn a_token_server_is_asked_about_the_account_alone() {
    let fixture = Fixture::start();
    fixture
        .registry
        .require_token(TokenAuth::new().user("alice", "hunter2").refresh_token("i"));
    let realm = fixture.registry.token_url();
    assert_eq!(
        check(&fixture, basic()).await.unwrap(),
        Authentication::Bearer { realm }
    );
    assert_eq!(fixture.log(), ["GET  401", "GET token 200", "GET  200"]);
    let asked = &fixture.registry.requests()[1];
    assert_eq!(asked.query.as_deref(), Some("service=fake-registry&account=alice"));

    assert!(check(&fixture, Credential::IdentityToken("i".into())).await.is_ok());
    let error = check(&fixture, Credential::from_pair("alice", "wrong"))
        .await
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::Auth);
    assert!(
        text(&error).contains("incorrect username or password"),
        "{}",
        text(&error)
    );
    assert!(
        text(&error).contains("the password from the prompt was sent"),
        "{}",
        text(&error)
    );
}

#[tokio::test]
async fn an_open_registry_does_not_look() {
    let fixture = Fixture::start();
    assert_eq!(check(&fixture, basic()).await.unwrap(), Authentication::Open);
    assert_eq!(fixture.registry.requests()[0].authorization, None);
    fixture.registry.fault(Fault::on_ping().html());
    assert!(matches!(check(&fixture, basic()).await, Err(Error::Page { .. })));
}

#[tokio::test]
async fn what_passes_is_waited_for() {
    let fixture = Fixture::start();
    fixture.registry.require_basic("alice", "hunter2");
    fixture.registry.fault(Fault::on_ping().nth(1).status(503));
    assert_eq!(check(&fixture, basic()).await.unwrap(), Authentication::Basic);
}
