//! Logins with other people's programs: a real registry that asks, and files that others write and read.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use serde_json::Value;
use unlade_test_support::{FakeRegistry, TokenAuth, TokenSigner, fixtures};
use unlade_tests::{Command, Finished, Home, RealRegistry, real};

const SERVICE: &str = "registry.test";

/// A real registry, and the token server that it sends its clients to.
fn with_tokens(auth: TokenAuth) -> (FakeRegistry, TokenAuth, RealRegistry) {
    let signer = Arc::new(TokenSigner::new("issuer.test"));
    let tokens = FakeRegistry::start();
    let auth = auth.service(SERVICE).signed_by(Arc::clone(&signer));
    tokens.serve_tokens(auth.clone());
    let registry = RealRegistry::start_with_tokens(&tokens.token_url(), SERVICE, &signer);
    (tokens, auth, registry)
}

fn login(home: &Home, host: &str, password: &str) -> Finished {
    let command = home.unlade(["login", host, "--username", "alice", "--password-stdin"]);
    command.stdin(password).run()
}

fn with_authfile(home: &Home, arguments: &[&str], file: &str) -> Command {
    home.unlade(arguments.iter().copied())
        .env("REGISTRY_AUTH_FILE", home.path(file))
}

#[test]
fn real_registry_checks_our_tokens_and_their_scopes() {
    let (tokens, _, registry) = with_tokens(TokenAuth::new().user("alice", "hunter2"));
    let image = fixtures::web();
    let reference = registry.push("team/app", "1", &image);
    registry.push("team/other", "1", &image);
    let home = Home::new();

    let refused = home.unlade(["pull", &reference]).run().failure(4);
    assert!(refused.stderr.contains("no credentials were sent"), "{refused}");
    let wrong = login(&home, &registry.host(), "wrong").failure(4);
    assert!(wrong.stderr.contains("incorrect username or password"), "{wrong}");
    login(&home, &registry.host(), "hunter2").success();

    tokens.clear();
    let pulled = home.pull(&reference);
    assert_eq!(
        pulled.manifest,
        unlade_test_support::Artifact::digest(&image).to_string()
    );
    let asked: Vec<_> = tokens
        .requests()
        .into_iter()
        .filter_map(|request| request.query)
        .collect();
    assert_eq!(asked.len(), 1, "one token for everything: {asked:?}");
    assert!(asked[0].contains("scope=repository%3Ateam%2Fapp%3Apull"), "{asked:?}");
    // Another repository needs another token, which the registry insists on itself.
    home.pull(&registry.reference("team/other", "1"));
    let missing = home
        .unlade(["pull", &registry.reference("team/app", "2")])
        .run()
        .failure(3);
    assert!(missing.stderr.contains("the password from"), "{missing}");
    home.unlade(["tags", &format!("{}/team/app", registry.host())])
        .run()
        .success();
}

#[test]
fn real_registry_refuses_a_token_without_the_scope() {
    let (_tokens, auth, registry) = with_tokens(
        TokenAuth::new()
            .without_access_to("team/secret")
            .user("alice", "hunter2"),
    );
    let home = Home::new();
    login(&home, &registry.host(), "hunter2").success();
    let before = auth.tokens_issued();
    let refused = home
        .unlade(["pull", &registry.reference("team/secret", "1")])
        .run()
        .failure(4);
    assert!(
        refused.stderr.contains("it needs another login or does not exist"),
        "{refused}"
    );
    assert!(
        refused.stderr.contains(&format!("auths {:?}", registry.host())),
        "{refused}"
    );
    assert!(auth.tokens_issued() - before <= 2, "asked again once at most");
}

#[test]
fn real_registry_takes_an_identity_token() {
    let (_tokens, _, registry) = with_tokens(TokenAuth::new().user("alice", "hunter2").refresh_token("refresh-me"));
    let reference = registry.push("team/app", "1", &fixtures::web());
    let home = Home::new();
    let login = home.unlade(["login", &registry.host(), "--username", "<token>", "--password-stdin"]);
    login.stdin("refresh-me").run().success();
    home.pull(&reference);
}

#[test]
fn real_skopeo_login_is_read() {
    let registry = RealRegistry::start_with_password();
    let reference = registry.push("app", "1", &fixtures::web());
    let home = Home::new();
    with_authfile(&home, &["pull", &reference], "auth.json")
        .run()
        .failure(4);
    real::skopeo_login(&home, "auth.json", &registry.host(), "alice", "hunter2");
    with_authfile(&home, &["pull", &reference], "auth.json").run().success();
    let status = with_authfile(&home, &["auth", "status", "--format", "json"], "auth.json")
        .run()
        .success()
        .json();
    assert_eq!(status[0]["name"], registry.host());
    assert_eq!(status[0]["username"], "alice");
    with_authfile(&home, &["logout", &registry.host()], "auth.json")
        .run()
        .success();
    with_authfile(&home, &["pull", "--policy", "always", &reference], "auth.json")
        .run()
        .failure(4);
}

#[test]
fn real_skopeo_reads_our_logins() {
    let registry = RealRegistry::start_with_password();
    let reference = registry.push("app", "1", &fixtures::web());
    let home = Home::new();
    let file = home.path("auth.json");
    assert!(!real::skopeo_may_read(&home, &file, &reference));
    let wrong = login(&home, &registry.host(), "wrong").failure(4);
    assert!(wrong.stderr.contains("--username and --password-stdin"), "{wrong}");

    // The file of the containers tools, and docker's.
    with_authfile(
        &home,
        &["login", &registry.host(), "-u", "alice", "--password-stdin"],
        "auth.json",
    )
    .stdin("hunter2\n")
    .run()
    .success();
    assert!(real::skopeo_may_read(&home, &file, &reference));
    login(&home, &registry.host(), "hunter2").success();
    let docker = home.path("home/.docker/config.json");
    assert!(real::skopeo_may_read(&home, &docker, &reference));
    assert_eq!(
        real::skopeo_logged_in(&docker, &registry.host()).as_deref(),
        Some("alice")
    );

    home.unlade(["logout", &registry.host()]).run().success();
    assert!(!real::skopeo_may_read(&home, &docker, &reference));
}

#[test]
fn real_file_of_dockers_form_is_read_and_kept_as_it_is() {
    let registry = RealRegistry::start_with_password();
    let reference = registry.push("app", "1", &fixtures::web());
    let host = registry.host();
    // As docker 20.10 writes it, byte for byte but for the host, in the order that it has: `login` into an empty file, and into
    // one with all sorts of things.
    let entry = format!("\"auths\": {{\n\t\t\"{host}\": {{\n\t\t\t\"auth\": \"YWxpY2U6aHVudGVyMg==\"\n\t\t}}\n\t}}");
    let more = "\"HttpHeaders\": {\n\t\t\"X-Meta-Source-Type\": \"Registry\"\n\t},\n\t\"psFormat\": \"table\",\n\t\
                \"credHelpers\": {\n\t\t\"gcr.io\": \"gcloud\"\n\t},\n\t\
                \"plugins\": {\n\t\t\"a\": {\n\t\t\t\"b\": \"c\"\n\t\t}\n\t}";
    for docker in [format!("{{\n\t{entry}\n}}"), format!("{{\n\t{entry},\n\t{more}\n}}")] {
        check_docker_file(&host, &reference, &docker);
    }
    // After `docker logout`, with nothing else to keep.
    let home = Home::new();
    let file = home.path("home/.docker/config.json");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "{\n\t\"auths\": {}\n}").unwrap();
    home.unlade(["pull", &reference]).run().failure(4);
}

/// Pulls with the login of docker's file, and logs in again.
fn check_docker_file(host: &str, reference: &str, docker: &str) {
    let home = Home::new();
    let file = home.path("home/.docker/config.json");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, docker).unwrap();
    home.pull(reference);
    // Logging in again gives the very same file.
    login(&home, host, "hunter2").success();
    assert_eq!(fs::read_to_string(&file).unwrap(), docker);
    let status: Value = home
        .unlade(["--format", "json", "auth", "status"])
        .run()
        .success()
        .json();
    assert_eq!(status[0]["source"]["key"], host);
}

#[test]
fn real_file_of_docker_with_a_store_leads_to_the_store() {
    let registry = RealRegistry::start_with_password();
    let reference = registry.push("app", "1", &fixtures::web());
    let host = registry.host();
    let home = Home::new();
    // What docker 20.10 leaves in the file, byte for byte, when the store has the login, and what it gave to the store.
    let docker = format!(
        "{{\n\t\"auths\": {{\n\t\t\"{host}\": {{}}\n\t}},\n\t\"HttpHeaders\": {{\n\t\t\"X-Meta-Source-Type\": \
         \"Registry\"\n\t}},\n\t\"psFormat\": \"table\",\n\t\"credsStore\": \"x\",\n\t\"credHelpers\": {{\n\t\t\
         \"gcr.io\": \"gcloud\"\n\t}}\n}}"
    );
    let kept = format!("{{\"ServerURL\":\"{host}\",\"Username\":\"alice\",\"Secret\":\"hunter2\"}}");
    let file = home.path("home/.docker/config.json");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, &docker).unwrap();
    fs::write(home.path("kept"), &kept).unwrap();
    let script = "#!/bin/sh\nkept=$(dirname \"$0\")/kept\ncase \"$1\" in\nget) cat \"$kept\";;\nstore) cat > \"$kept\";;\n\
                  list) echo '{}';;\nerase) rm \"$kept\";;\nesac\n";
    let helper = home.path("docker-credential-x");
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", home.path("").display());

    home.unlade(["pull", &reference]).env("PATH", &path).run().success();
    let login = home.unlade(["login", &host, "--username", "alice", "--password-stdin"]);
    login.stdin("hunter2").env("PATH", &path).run().success();
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        docker,
        "the secret is the store's alone"
    );
    let kept_again: Value = fs::read_to_string(home.path("kept")).unwrap().parse().unwrap();
    assert_eq!(kept_again, kept.parse::<Value>().unwrap());
}

#[test]
fn real_skopeo_finds_our_login_for_docker_hub() {
    let registry = RealRegistry::start_with_password();
    let home = Home::new();
    // Docker Hub itself cannot be asked here; its configuration says where else it is.
    let hosts = home.path("certs.d/docker.io");
    fs::create_dir_all(&hosts).unwrap();
    fs::write(
        hosts.join("hosts.toml"),
        format!("server = \"http://{}\"\n", registry.host()),
    )
    .unwrap();
    for (file, name) in [
        ("home/.docker/config.json", "https://index.docker.io/v1/"),
        ("auth.json", "docker.io"),
    ] {
        let mut command = home
            .unlade(["login", "docker.io", "-u", "alice", "--password-stdin"])
            .stdin("hunter2");
        if file == "auth.json" {
            command = command.args(["--authfile"]).args([home.path(file)]);
        }
        command.run().success();
        let written: Value = fs::read_to_string(home.path(file)).unwrap().parse().unwrap();
        assert!(written["auths"][name]["auth"].is_string(), "{written}");
        assert_eq!(
            real::skopeo_logged_in(&home.path(file), "docker.io").as_deref(),
            Some("alice")
        );
    }
}
