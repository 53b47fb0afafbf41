//! Logins that are written, and what is in the file beside them.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use unlade_auth::{ConfigFiles, Credential, CredentialSource, Error, LoginFile};
use unlade_reference::Registry;

use crate::{Home, basic, repository};

/// A helper that keeps what it is told in files, one for each server.
const KEEPS: &str = r#"
dir="$(dirname "$0")/kept"; mkdir -p "$dir"
case "$1" in
store)
    server=$(printf '%s' "$server" | sed 's/.*"ServerURL":"\([^"]*\)".*/\1/')
    printf '%s' "$line" > "$dir/$(printf '%s' "$server" | tr / _)" ;;
get)
    file="$dir/$(printf '%s' "$server" | tr / _)"
    [ -f "$file" ] || { echo 'credentials not found in native keychain'; exit 1; }
    cat "$file" ;;
erase)
    rm -f "$dir/$(printf '%s' "$server" | tr / _)" ;;
list)
    printf '{'; sep=
    for file in "$dir"/*; do [ -f "$file" ] || continue; printf '%s"%s": "u"' "$sep" "$(basename "$file" | tr _ /)"; sep=,; done
    printf '}' ;;
esac"#;

fn hub() -> Registry {
    Registry::docker_hub()
}

fn ghcr() -> Registry {
    "ghcr.io".parse().unwrap()
}

fn file(home: &Home, name: &str) -> LoginFile {
    let search_path = format!("{}:/usr/bin:/bin", home.path("").display());
    LoginFile::new(home.path(name)).with_search_path(search_path)
}

/// Writes a helper that keeps what it is told.
fn helper(home: &Home) {
    // `store` gets one line of JSON, the others an address.
    home.helper("keeps", &format!("line=$server\n{KEEPS}"));
}

fn read(home: &Home, name: &str) -> ConfigFiles {
    let search_path = format!("{}:/usr/bin:/bin", home.path("").display());
    ConfigFiles::new(vec![home.path(name)])
        .unwrap()
        .with_search_path(search_path)
}

#[test]
fn a_new_file_is_private_and_read_again() {
    let home = Home::new();
    let login = file(&home, "new/deep/config.json");
    let source = login.store(&hub(), &basic("u", "p:ä\"\\")).unwrap();
    let path = home.path("new/deep/config.json");
    assert_eq!(
        source.to_string(),
        format!(r#"{}, auths "https://index.docker.io/v1/""#, path.display())
    );
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let directory = std::fs::metadata(home.path("new")).unwrap();
    assert_eq!(directory.permissions().mode() & 0o7777, 0o700);
    let found = read(&home, "new/deep/config.json")
        .lookup(&repository("alpine"))
        .found
        .unwrap();
    assert_eq!(found.credential, basic("u", "p:ä\"\\"));
    assert_eq!(found.source, source);
}

#[test]
fn the_rest_of_the_file_stays_to_the_letter() {
    let home = Home::new();
    let before = "{\n\t\"HttpHeaders\": { \"X\":\"1\" },\n\t\"auths\": {\n\t\t\"quay.io\": { \"auth\":\"dTpw\" , \"n\": 1e400 },\n\t\t\"https://index.docker.io/v1/\": {\"auth\": \"b2xkOm9sZA==\"},\n\t\t\"docker.io\": {\"auth\": \"b2xkOm9sZA==\"}\n\t},\n\t\"detachKeys\": \"ctrl-e,e\",\n\t\"big\": 123456789012345678901234567890\n}";
    home.write("config.json", before);
    std::fs::set_permissions(home.path("config.json"), std::fs::Permissions::from_mode(0o644)).unwrap();
    file(&home, "config.json").store(&hub(), &basic("u", "p")).unwrap();
    let after = std::fs::read_to_string(home.path("config.json")).unwrap();
    let expected = before.replace(
        "{\"auth\": \"b2xkOm9sZA==\"},\n\t\t\"docker.io\": {\"auth\": \"b2xkOm9sZA==\"}",
        "{\n\t\t\t\"auth\": \"dTpw\"\n\t\t}",
    );
    assert_eq!(after, expected);
    let mode = std::fs::metadata(home.path("config.json"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o600);

    let removed = file(&home, "config.json").erase(&hub()).unwrap();
    assert_eq!(removed.len(), 1);
    assert_eq!(removed[0].key, "https://index.docker.io/v1/");
    let left = std::fs::read_to_string(home.path("config.json")).unwrap();
    assert!(
        left.contains("1e400") && left.contains("quay.io") && !left.contains("docker.io/v1"),
        "{left}"
    );
    assert!(file(&home, "config.json").erase(&hub()).unwrap().is_empty());
}

#[test]
fn containers_files_have_plain_names() {
    let home = Home::new();
    file(&home, "auth.json").store(&hub(), &basic("u", "p")).unwrap();
    let text = std::fs::read_to_string(home.path("auth.json")).unwrap();
    assert!(text.contains(r#""docker.io": {"#), "{text}");
}

#[test]
fn tokens_are_kept_beside_a_name() {
    let home = Home::new();
    for (credential, member) in [
        (Credential::IdentityToken("i".into()), "identitytoken"),
        (Credential::RegistryToken("r".into()), "registrytoken"),
    ] {
        file(&home, "auth.json").store(&ghcr(), &credential).unwrap();
        let text = std::fs::read_to_string(home.path("auth.json")).unwrap();
        assert!(text.contains(member) && text.contains("\"auth\""), "{text}");
        let found = read(&home, "auth.json").lookup(&repository("ghcr.io/x")).found.unwrap();
        assert_eq!(found.credential, credential);
    }
}

#[test]
fn parts_of_a_registry_and_everything() {
    let home = Home::new();
    home.write(
        "auth.json",
        r#"{"auths": {"ghcr.io/team": {"auth": "dTpw"}, "ghcr.io": {"auth": "dTpw"}, "quay.io": {"auth": "dTpw"}, "x.io": {}}}"#,
    );
    let keys = |removed: Vec<unlade_auth::Removed>| removed.into_iter().map(|one| one.key).collect::<Vec<_>>();
    assert_eq!(
        keys(file(&home, "auth.json").erase(&ghcr()).unwrap()),
        ["ghcr.io/team", "ghcr.io"]
    );
    assert_eq!(keys(file(&home, "auth.json").erase_all().unwrap()), ["quay.io"]);
    assert_eq!(
        std::fs::read_to_string(home.path("auth.json")).unwrap(),
        "{\n\t\"auths\": {}\n}"
    );
    assert!(file(&home, "missing.json").erase_all().unwrap().is_empty());
    assert!(!home.path("missing.json").exists());
}

#[test]
fn a_helper_keeps_the_secret_and_the_file_a_note() {
    let home = Home::new();
    helper(&home);
    home.write(
        "config.json",
        r#"{"auths": {"ghcr.io": {"auth": "b2xkOm9sZA=="}}, "credsStore": "keeps"}"#,
    );
    let source = file(&home, "config.json")
        .store(&ghcr(), &basic("u", "hunter2"))
        .unwrap();
    assert!(
        source.to_string().ends_with("credsStore docker-credential-keeps"),
        "{source}"
    );
    let text = std::fs::read_to_string(home.path("config.json")).unwrap();
    assert!(
        text.contains("\"ghcr.io\": {}") && !text.contains("b2xkOm9sZA"),
        "{text}"
    );
    let found = read(&home, "config.json")
        .lookup(&repository("ghcr.io/x"))
        .found
        .unwrap();
    assert_eq!(found.credential, basic("u", "hunter2"));

    let logins = read(&home, "config.json").logins();
    assert_eq!(logins.known.len(), 1, "{logins:?}");
    assert_eq!(logins.known[0].name(), "ghcr.io");

    let removed = file(&home, "config.json").erase(&ghcr()).unwrap();
    assert_eq!(removed.len(), 1);
    assert_eq!(read(&home, "config.json").lookup(&repository("ghcr.io/x")).found, None);
    file(&home, "config.json").store(&hub(), &basic("u", "p")).unwrap();
    file(&home, "config.json").store(&ghcr(), &basic("u", "p")).unwrap();
    assert_eq!(file(&home, "config.json").erase_all().unwrap().len(), 2);
}

#[test]
fn a_helper_that_fails_is_an_error_without_the_secret() {
    let home = Home::new();
    home.helper("fails", "echo \"cannot keep $server\" >&2; exit 3");
    home.write(
        "config.json",
        r#"{"credHelpers": {"ghcr.io": "fails", "quay.io": "absent"}}"#,
    );
    let error = file(&home, "config.json")
        .store(&ghcr(), &basic("u", "hunter2"))
        .unwrap_err();
    let Error::Helper { keeping: true, source } = &error else {
        panic!("{error:?}")
    };
    let text = format!("{error} {source} {error:?}");
    assert!(text.contains("cannot keep") && !text.contains("hunter2"), "{text}");
    let error = file(&home, "config.json")
        .store(&"quay.io".parse().unwrap(), &basic("u", "p"))
        .unwrap_err();
    assert!(matches!(error, Error::Helper { .. }));
    let token = Credential::RegistryToken("r".into());
    let error = file(&home, "config.json").store(&ghcr(), &token).unwrap_err();
    assert!(matches!(error, Error::Kind { .. }));
    assert!(
        !std::fs::read_to_string(home.path("config.json"))
            .unwrap()
            .contains("auths")
    );
}

#[test]
fn a_malformed_file_is_not_touched() {
    let home = Home::new();
    for text in ["{\"auths\": [", "{\"auths\": []}", "[]"] {
        home.write("config.json", text);
        let error = file(&home, "config.json").store(&ghcr(), &basic("u", "p")).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{text}: {error}");
        assert_eq!(std::fs::read_to_string(home.path("config.json")).unwrap(), text);
    }
    assert_eq!(
        std::fs::read_dir(home.path("")).unwrap().count(),
        1,
        "no temporary file is left"
    );
}

#[test]
fn a_link_stays_a_link() {
    let home = Home::new();
    home.write("real.json", "{}");
    std::os::unix::fs::symlink("real.json", home.path("config.json")).unwrap();
    file(&home, "config.json").store(&ghcr(), &basic("u", "p")).unwrap();
    assert!(home.path("config.json").symlink_metadata().unwrap().is_symlink());
    assert!(
        std::fs::read_to_string(home.path("real.json"))
            .unwrap()
            .contains("ghcr.io")
    );
}

#[test]
fn logins_at_the_same_time_all_stay() {
    let home = Arc::new(Home::new());
    std::thread::scope(|scope| {
        for number in 0..16 {
            let home = Arc::clone(&home);
            scope.spawn(move || {
                let registry = format!("r{number}.example").parse().unwrap();
                file(&home, "config.json").store(&registry, &basic("u", "p")).unwrap();
            });
        }
    });
    let logins = ConfigFiles::new(vec![home.path("config.json")]).unwrap().logins();
    assert_eq!(logins.known.len(), 16);
}
