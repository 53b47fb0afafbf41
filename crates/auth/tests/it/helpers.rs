//! Helpers that work, and all the ways in which they do not.

use std::time::{Duration, Instant};

use unlade_auth::{Credential, CredentialSource, Lookup, Warning};

use crate::{Home, basic, repository};

const WORKS: &str = r#"echo '{"ServerURL": "'"$server"'", "Username": "u", "Secret": "p"}'"#;

fn only_warning(lookup: &Lookup) -> &Warning {
    assert_eq!(lookup.found, None);
    assert_eq!(lookup.warnings.len(), 1, "{lookup:?}");
    &lookup.warnings[0]
}

#[test]
fn the_helper_of_a_registry_is_asked_once() {
    let home = Home::new();
    home.helper("works", WORKS);
    let files = home.config(r#"{"credHelpers": {"ghcr.io": "works"}}"#);
    let found = files.lookup(&repository("ghcr.io/a/b")).found.unwrap();
    assert_eq!(found.credential, basic("u", "p"));
    let path = home.path("config.json");
    assert_eq!(
        found.source.to_string(),
        format!("{}, credHelpers docker-credential-works", path.display())
    );

    assert!(files.lookup(&repository("ghcr.io/c/d")).found.is_some());
    assert_eq!(files.lookup(&repository("quay.io/a/b")), Lookup::default());
    assert_eq!(home.calls(), ["get ghcr.io"]);
}

#[test]
fn many_threads_ask_a_slow_helper_once() {
    let home = Home::new();
    home.helper("slow", &format!("sleep 0.2\n{WORKS}"));
    let files = home.config(r#"{"credsStore": "slow"}"#);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!(files.lookup(&repository("ghcr.io/a/b")).found.is_some()));
        }
    });
    assert_eq!(home.calls(), ["get ghcr.io"]);
}

#[test]
fn docker_hub_is_asked_for_by_its_old_address() {
    let home = Home::new();
    home.helper("works", WORKS);
    let files = home.config(r#"{"auths": {"https://index.docker.io/v1/": {}}, "credsStore": "works"}"#);
    let found = files.lookup(&repository("alpine")).found.unwrap();
    assert_eq!(found.credential, basic("u", "p"));
    assert_eq!(home.calls(), ["get https://index.docker.io/v1/"]);
}

#[test]
fn an_entry_that_holds_something_goes_before_the_store() {
    let home = Home::new();
    home.helper("works", WORKS);
    let files = home.config(r#"{"auths": {"ghcr.io": {"auth": "eDp5"}}, "credsStore": "works"}"#);
    assert_eq!(
        files.lookup(&repository("ghcr.io/a")).found.unwrap().credential,
        basic("x", "y")
    );
    assert_eq!(home.calls(), [""; 0]);
}

#[test]
fn the_user_token_makes_an_identity_token() {
    let home = Home::new();
    home.helper("acr", r#"echo '{"Username": "<token>", "Secret": "refresh"}'"#);
    let files = home.config(r#"{"credHelpers": {"x.azurecr.io": "acr"}}"#);
    let found = files.lookup(&repository("x.azurecr.io/app")).found.unwrap();
    assert_eq!(found.credential, Credential::IdentityToken("refresh".into()));
}

#[test]
fn not_found_is_anonymous_without_a_warning() {
    let home = Home::new();
    home.helper("empty", "echo 'credentials not found in native keychain'; exit 1");
    let files = home.config(r#"{"credsStore": "empty"}"#);
    assert_eq!(files.lookup(&repository("ghcr.io/a")), Lookup::default());
    assert_eq!(home.calls().len(), 1);
}

#[test]
fn a_missing_helper_is_a_warning() {
    let home = Home::new();
    let files = home.config(r#"{"credsStore": "desktop"}"#);
    let lookup = files.lookup(&repository("ghcr.io/a"));
    assert!(
        matches!(only_warning(&lookup), Warning::HelperMissing { helper, .. } if helper == "docker-credential-desktop")
    );
}

#[test]
fn a_helper_outside_the_search_path_is_never_run() {
    let home = Home::new();
    home.helper("works", WORKS);
    let files = home.config(r#"{"credsStore": "x/../../docker-credential-works"}"#);
    let lookup = files.lookup(&repository("ghcr.io/a"));
    assert!(matches!(only_warning(&lookup), Warning::HelperMissing { .. }));
    assert_eq!(home.calls(), [""; 0]);
}

#[test]
fn a_failing_helper_is_a_warning_with_what_it_said() {
    let home = Home::new();
    home.helper("broken", "echo 'no session:' >&2; echo '  log in first' >&2; exit 3");
    let files = home.config(r#"{"credsStore": "broken"}"#);
    let lookup = files.lookup(&repository("ghcr.io/a"));
    assert_eq!(
        only_warning(&lookup).to_string(),
        "the credential helper docker-credential-broken failed for ghcr.io (exit status: 3): no session: log in first"
    );
}

#[test]
fn a_reply_of_a_failed_helper_is_not_shown() {
    let home = Home::new();
    home.helper("broken", r#"echo '{"Username": "u", "Secret": "hunter2"}'; exit 1"#);
    let files = home.config(r#"{"credsStore": "broken"}"#);
    let lookup = files.lookup(&repository("ghcr.io/a"));
    assert!(!format!("{lookup:?}").contains("hunter2"));
    assert!(matches!(only_warning(&lookup), Warning::HelperFailed { .. }));
}

#[test]
fn an_answer_that_is_not_the_protocol_is_a_warning() {
    let home = Home::new();
    home.helper("odd", "echo 'Username: hunter2'");
    let files = home.config(r#"{"credsStore": "odd"}"#);
    let lookup = files.lookup(&repository("ghcr.io/a"));
    let text = only_warning(&lookup).to_string();
    assert!(
        text.contains("not the expected JSON") && !text.contains("hunter2"),
        "{text}"
    );
}

#[test]
fn a_hanging_helper_is_killed_with_its_children() {
    let home = Home::new();
    let alive = home.path("alive");
    home.helper("hangs", &format!("(sleep 1; touch '{}') & sleep 60", alive.display()));
    let files = home
        .config(r#"{"credsStore": "hangs"}"#)
        .with_helper_timeout(Duration::from_millis(300));
    let started = Instant::now();
    let lookup = files.lookup(&repository("ghcr.io/a"));
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(
        only_warning(&lookup)
            .to_string()
            .ends_with("gave no answer for ghcr.io within 0.3 s")
    );
    assert_eq!(
        only_warning(&files.lookup(&repository("ghcr.io/b"))),
        only_warning(&lookup)
    );
    assert_eq!(home.calls().len(), 1, "a helper that hangs is not asked again");
    std::thread::sleep(Duration::from_millis(1200).saturating_sub(started.elapsed()));
    assert!(!alive.exists(), "what the helper started outlived it");
}

#[test]
fn much_output_does_not_block() {
    let home = Home::new();
    home.helper("chatty", &format!("head -c 300000 /dev/zero >&2\n{WORKS}"));
    let files = home.config(r#"{"credsStore": "chatty"}"#);
    assert!(files.lookup(&repository("ghcr.io/a")).found.is_some());
}
