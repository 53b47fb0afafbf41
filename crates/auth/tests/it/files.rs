//! Which entry of which file counts.

use std::os::unix::fs::PermissionsExt as _;

use unlade_auth::{Anonymous, Chain, ConfigFiles, Credential, CredentialSource, Given, Lookup};
use unlade_oci::ErrorClass;

use crate::{Home, basic, repository};

fn user(source: &dyn CredentialSource, name: &str) -> Option<String> {
    let Lookup { found, warnings } = source.lookup(&repository(name));
    assert_eq!(warnings, []);
    found.map(|found| found.credential.username().unwrap().to_owned())
}

#[test]
fn the_longest_key_wins() {
    let home = Home::new();
    let files = home.config(
        r#"{"auths": {
            "ghcr.io": {"username": "host", "password": "p"},
            "ghcr.io/team": {"username": "team", "password": "p"},
            "ghcr.io/team/app": {"username": "app", "password": "p"}
        }}"#,
    );
    for (name, expected) in [
        ("ghcr.io/other/x", Some("host")),
        ("ghcr.io/team/x", Some("team")),
        ("ghcr.io/team/app", Some("app")),
        ("ghcr.io/team/app/sub", Some("app")),
        ("ghcr.io/team/application", Some("team")),
        ("quay.io/team/app", None),
    ] {
        assert_eq!(user(&files, name).as_deref(), expected, "{name}");
    }
}

#[test]
fn docker_hub_is_found_under_its_old_address() {
    let home = Home::new();
    let files = home.config(r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpw"}}}"#);
    let found = files.lookup(&repository("alpine")).found.unwrap();
    assert_eq!(found.credential, basic("u", "p"));
    let path = home.path("config.json");
    assert_eq!(
        found.source.to_string(),
        format!("{}, auths \"https://index.docker.io/v1/\"", path.display())
    );
}

#[test]
fn the_first_file_that_knows_something_is_believed() {
    let home = Home::new();
    let first = home.write(
        "auth.json",
        r#"{"auths": {"ghcr.io": {"username": "first", "password": "p"}}}"#,
    );
    let second = home.write(
        "config.json",
        r#"{"auths": {"ghcr.io": {"username": "second", "password": "p"}, "quay.io": {"username": "quay", "password": "p"}}}"#,
    );
    let files = ConfigFiles::new(vec![home.path("missing.json"), first.clone(), second.clone()]).unwrap();
    assert_eq!(user(&files, "ghcr.io/x").as_deref(), Some("first"));
    assert_eq!(user(&files, "quay.io/x").as_deref(), Some("quay"));
    assert_eq!(files.paths().collect::<Vec<_>>(), [first, second]);
}

#[test]
fn a_malformed_file_is_an_error_with_its_position() {
    let home = Home::new();
    let path = home.write("config.json", "{\n  \"auths\": [\n");
    let error = ConfigFiles::new(vec![path.clone()]).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Invalid);
    let text = error.to_string();
    assert!(
        text.contains(path.to_str().unwrap()) && text.contains("at line 2, column"),
        "{text}"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    let home = Home::new();
    let path = home.write("config.json", "{}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::read(&path).is_ok() {
        return; // root reads everything
    }
    let error = ConfigFiles::new(vec![path]).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Storage);
}

#[test]
fn an_unusable_entry_is_a_warning_and_the_next_key_counts() {
    let home = Home::new();
    let files = home.config(
        r#"{"auths": {"ghcr.io/team": {"auth": "hunter2 is not base64"}, "ghcr.io": {"username": "host", "password": "p"}}}"#,
    );
    let Lookup { found, warnings } = files.lookup(&repository("ghcr.io/team/app"));
    assert_eq!(found.unwrap().credential, basic("host", "p"));
    let text = warnings[0].to_string();
    assert!(
        text.contains("\"ghcr.io/team\"") && text.ends_with("auth is not base64"),
        "{text}"
    );
    assert!(!format!("{warnings:?}{text}{files:?}").contains("hunter2"));
}

#[test]
fn a_chain_asks_in_order() {
    let home = Home::new();
    let files = home.config(r#"{"auths": {"ghcr.io": {"auth": "dTpw"}, "quay.io": {"auth": "dTpw"}}}"#);
    let registry = repository("ghcr.io/x").registry().clone();
    let given = Given::new(registry, Credential::RegistryToken("r".into()), "the settings");
    let chain = Chain::new(vec![
        std::sync::Arc::new(Anonymous),
        std::sync::Arc::new(given),
        std::sync::Arc::new(files),
    ]);
    let found = chain.lookup(&repository("ghcr.io/x")).found.unwrap();
    assert_eq!(found.source.to_string(), "the settings");
    assert_eq!(user(&chain, "quay.io/x").as_deref(), Some("u"));
    assert_eq!(chain.lookup(&repository("alpine")), Lookup::default());
}
