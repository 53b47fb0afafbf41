//! What is known of all registries, and what decides.

use unlade_auth::{CredentialSource, Locations, Place, Source};

use crate::{Home, repository};

fn names(logins: &unlade_auth::Logins) -> Vec<String> {
    logins
        .known
        .iter()
        .map(|login| {
            let places = std::iter::once(&login.used).chain(&login.shadowed);
            let users: Vec<_> = places.map(|found| found.credential.username().unwrap_or("-")).collect();
            format!("{}: {}", login.name(), users.join(" > "))
        })
        .collect()
}

#[test]
fn the_first_place_is_used_and_the_others_are_shadowed() {
    let home = Home::new();
    home.helper("works", r#"if [ "$1" = list ]; then echo '{"https://index.docker.io/v1/": "h"}'; else echo '{"Username": "h", "Secret": "hunter2"}'; fi"#);
    let first = home.write(
        "auth.json",
        r#"{"auths": {"docker.io": {"auth": "Zmlyc3Q6aHVudGVyMg=="}, "ghcr.io/team": {"auth": "dGVhbTpodW50ZXIy"}}}"#,
    );
    home.write(
        "config.json",
        r#"{"auths": {"https://index.docker.io/v1/": {"auth": "c2Vjb25kOmh1bnRlcjI="}, "ghcr.io": {"identitytoken": "hunter2"}, "bad.io": {"auth": "!"}, "empty.io": {}}, "credsStore": "works", "credHelpers": {"bad.io": "absent", "empty.io": "absent", "ghcr.io": "absent"}}"#,
    );
    let search_path = format!("{}:/usr/bin:/bin", home.path("").display());
    let locations = Locations::from_environment(
        [
            ("REGISTRY_AUTH_FILE", first.clone().into_os_string()),
            ("DOCKER_CONFIG", home.path("").into_os_string()),
        ],
        None,
    );
    let files = locations.read().unwrap().with_search_path(search_path);
    let logins = files.logins();
    assert_eq!(
        names(&logins),
        [
            "bad.io: h",
            "docker.io: first > second > h",
            "empty.io: h",
            "ghcr.io: - > h",
            "ghcr.io/team: team > - > h",
        ]
    );
    let warnings: Vec<_> = logins.warnings.iter().map(ToString::to_string).collect();
    assert!(
        warnings
            .iter()
            .any(|warning| warning.contains("docker-credential-absent")),
        "{warnings:?}"
    );
    assert!(
        warnings.iter().any(|warning| warning.contains("auth is not base64")),
        "{warnings:?}"
    );
    assert!(!format!("{logins:?}{warnings:?}").contains("hunter2"));
}

#[test]
fn a_hanging_store_is_waited_for_once() {
    let home = Home::new();
    home.helper("hangs", "sleep 60");
    let files = home
        .config(r#"{"auths": {"a.io": {"auth": "dTpw"}, "b.io": {}, "c.io": {}}, "credsStore": "hangs"}"#)
        .with_helper_timeout(std::time::Duration::from_millis(100));
    let logins = files.logins();
    assert_eq!(names(&logins), ["a.io: u"]);
    assert_eq!(logins.warnings.len(), 1);
    assert_eq!(home.calls().len(), 1, "{:?}", home.calls());
}

#[test]
fn the_variable_holds_what_a_file_would_and_goes_before_files() {
    let home = Home::new();
    let file = home.write(
        "config.json",
        r#"{"auths": {"ghcr.io": {"auth": "ZmlsZTpw"}, "quay.io": {"auth": "ZmlsZTpw"}}}"#,
    );
    let variables = |value: &str| {
        [
            ("DOCKER_AUTH_CONFIG", value.into()),
            ("DOCKER_CONFIG", home.path("").into_os_string()),
        ]
    };
    let locations = Locations::from_environment(variables(r#"{"auths": {"ghcr.io": {"auth": "dmFyOnA="}}}"#), None);
    let files = locations.read().unwrap();
    let found = files.lookup(&repository("ghcr.io/x")).found.unwrap();
    assert_eq!(found.credential.username(), Some("var"));
    assert_eq!(
        found.source.to_string(),
        r#"the variable DOCKER_AUTH_CONFIG, auths "ghcr.io""#
    );
    let found = files.lookup(&repository("quay.io/x")).found.unwrap();
    assert_eq!(
        found.source,
        Source::Entry {
            place: Place::File(file),
            key: "quay.io".into()
        }
    );

    let error = Locations::from_environment(variables("{\n nonsense"), None)
        .read()
        .unwrap_err();
    assert_eq!(error.class(), unlade_oci::ErrorClass::Invalid);
    assert!(
        error
            .to_string()
            .starts_with("the variable DOCKER_AUTH_CONFIG is malformed at line 2"),
        "{error}"
    );
}

#[test]
fn a_file_that_was_asked_for_must_be_there() {
    let home = Home::new();
    let error = Locations::none()
        .with_file(home.path("missing.json"))
        .read()
        .unwrap_err();
    assert_eq!(error.class(), unlade_oci::ErrorClass::Invalid);
    assert!(error.to_string().contains("missing.json"));
    let locations = Locations::from_environment(
        [("REGISTRY_AUTH_FILE", home.path("missing.json").into_os_string())],
        None,
    );
    assert_eq!(locations.read().unwrap().paths().count(), 0);
}
