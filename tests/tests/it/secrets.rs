//! Nothing that proves who we are is printed, logged, an argument of a process, or sent to whom it is not meant for.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use unlade_oci::Digest;
use unlade_test_support::{Artifact as _, FakeProxy, FakeRegistry, Fault, Recorded, TokenAuth, fixtures};
use unlade_tests::{Command, Home};

const PASSWORD: &str = "hunter2-correct";
const WRONG: &str = "hunter2-mistyped";
const REFRESH: &str = "hunter2-refresh-token";

/// What a flow has shown: to people, in logs, and to the servers that must not learn anything.
#[derive(Default)]
struct Seen {
    text: String,
    runs: usize,
}

impl Seen {
    /// Runs a command with all logging there is, and keeps what it prints.
    fn run(&mut self, command: Command) -> bool {
        let finished = command.env("UNLADE_LOG", "trace").run();
        self.text += &finished.to_string();
        self.runs += 1;
        finished.succeeded()
    }
}

/// Returns everything that a request carried.
fn all_of(request: &Recorded) -> String {
    format!("{request:?} {}", String::from_utf8_lossy(&request.body))
}

/// Writes a helper that keeps its logins in a file, and notes its arguments.
fn helper(home: &Home) {
    let script = "#!/bin/sh\ndir=$(dirname \"$0\")\necho \"$@\" >> \"$dir/arguments\"\ntr '\\0' ' ' < /proc/$PPID/cmdline >> \"$dir/arguments\"\ncase \"$1\" in\nstore) cat > \"$dir/kept\";;\nget) cat \"$dir/kept\" 2>/dev/null || { echo 'credentials not found in native keychain'; exit 1; };;\nerase) rm -f \"$dir/kept\";;\nlist) echo '{}';;\nesac\n";
    let path = home.path("docker-credential-test");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let config = home.path("helped/config.json");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::write(config, r#"{"credsStore": "test"}"#).unwrap();
}

fn with_helper(home: &Home, command: Command) -> Command {
    command
        .env("DOCKER_CONFIG", home.path("helped"))
        .env("PATH", format!("{}:/usr/bin:/bin", home.path("").display()))
}

/// A mirror of another host, asked first, that has nothing.
fn mirror(home: &Home, registry: &FakeRegistry, mirror: &FakeRegistry) {
    let hosts = home.path("certs.d").join(registry.host());
    fs::create_dir_all(&hosts).unwrap();
    let text = format!(
        "server = {:?}\n[host.{:?}]\ncapabilities = [\"pull\", \"resolve\"]\n",
        registry.url(),
        mirror.url()
    );
    fs::write(hosts.join("hosts.toml"), text).unwrap();
}

/// Returns the secrets that the registry's side has seen: what came as `Authorization`, in whatever form.
fn sent_to(registry: &FakeRegistry) -> BTreeSet<String> {
    let requests = registry.requests();
    let values = requests.iter().filter_map(|request| request.header("authorization"));
    values
        .filter_map(|value| value.split_once(' '))
        .map(|(_, secret)| secret.to_owned())
        .collect()
}

/// Everything that a command does with a registry that wants a login.
fn flows(seen: &mut Seen, home: &Home, registry: &FakeRegistry, host: &str) {
    let reference = registry.reference("app", "1");
    let login = |password: &str, options: &[&str]| {
        let command = home.unlade(["login", host, "--username", "alice", "--password-stdin"]);
        command.args(options).stdin(password)
    };
    let run = |line: &[&str]| home.unlade(line.iter().copied());
    assert!(!seen.run(login(WRONG, &[])));
    assert!(!seen.run(login(WRONG, &["--format", "json"])));
    assert!(!seen.run(run(&["pull", &reference])), "nobody gets in without a login");
    assert!(seen.run(login(PASSWORD, &[])));
    assert!(seen.run(run(&["auth", "status"])));
    assert!(seen.run(run(&["auth", "status", "--format", "json"])));
    assert!(seen.run(run(&["pull", "--progress", "json", &reference])));
    assert!(seen.run(run(&["resolve", "--format", "json", &reference])));
    assert!(seen.run(run(&["tags", &format!("{host}/app")])));
    assert!(seen.run(run(&["referrers", &reference])));
    assert!(!seen.run(run(&["pull", &registry.reference("app", "missing")])));
    assert!(!seen.run(run(&["pull", &registry.reference("other", "1"), "--format", "json"])));
    let given = run(&["resolve", &reference, "-u", "alice", "--password-stdin"]);
    assert!(!seen.run(given.stdin(WRONG)));
    let variables = run(&["resolve", &reference]).env("UNLADE_USERNAME", "alice");
    assert!(seen.run(variables.env("UNLADE_PASSWORD", PASSWORD)));
    let inline = run(&["resolve", &reference]);
    let entry = format!("{{\"auths\": {{\"{host}\": {{\"username\": \"alice\", \"password\": \"{WRONG}\"}}}}}}");
    assert!(!seen.run(inline.env("DOCKER_AUTH_CONFIG", entry)));
    let broken = run(&["resolve", &reference]).env(
        "DOCKER_AUTH_CONFIG",
        format!("{{\"auths\": {{\"{host}\": {{\"auth\": \"{PASSWORD}\",}}"),
    );
    assert!(!seen.run(broken));
    assert!(seen.run(run(&["logout", host])));

    assert!(seen.run(with_helper(home, login(PASSWORD, &[]))));
    assert!(seen.run(with_helper(home, run(&["resolve", &reference]))));
    assert!(seen.run(with_helper(home, run(&["auth", "status", host]))));
    assert!(seen.run(with_helper(home, run(&["logout", host]))));
}

#[test]
fn no_secret_is_seen_where_it_does_not_belong() {
    let home = Home::new();
    helper(&home);
    let (registry, storage, stranger) = (FakeRegistry::start(), FakeRegistry::start(), FakeRegistry::start());
    mirror(&home, &registry, &stranger);
    let image = fixtures::web();
    registry.push("app", "1", &image);
    // Blobs are elsewhere, behind signed URLs, and one breaks off on the way.
    storage.push("app", "1", &image);
    storage.require_signature(None);
    registry.fault(Fault::on_blobs().redirect_presigned(307, &storage));
    storage.fault(Fault::on_blobs().nth(2).cut_after(10));
    registry.fault(Fault::on_manifests().nth(1).status(503));

    let host = registry.host();
    let mut seen = Seen::default();
    let mut secrets: BTreeSet<String> = [PASSWORD, WRONG, REFRESH].map(str::to_owned).into();
    let auth = TokenAuth::new().user("alice", PASSWORD).refresh_token(REFRESH);
    registry.require_token(auth.clone());
    flows(&mut seen, &home, &registry, &host);
    // An identity token, taken by POST and by GET.
    for auth in [auth.clone(), auth.post_status(404)] {
        registry.require_token(auth);
        let login = home.unlade(["login", &host, "--username", "<token>", "--password-stdin"]);
        assert!(seen.run(login.stdin(REFRESH)));
        assert!(seen.run(home.unlade(["resolve", &registry.reference("app", "1")])));
        assert!(seen.run(home.unlade(["logout", &host])));
    }
    let of_tokens = sent_to(&registry);
    assert!(
        of_tokens.iter().any(|secret| secret.starts_with("fake-token-")),
        "{of_tokens:?}"
    );
    secrets.extend(of_tokens);
    // Tokens go to the registry, names and passwords to the token server alone.
    for request in registry.requests() {
        let is_basic = request.authorization.as_deref() == Some("Basic");
        assert!(!is_basic || request.path == "/token", "{request:?}");
    }
    registry.clear();

    home.unlade(["rm", &registry.reference("app", "1")]).run().success();
    registry.require_basic("alice", PASSWORD);
    flows(&mut seen, &home, &registry, &host);
    secrets.extend(sent_to(&registry));

    // Signatures of presigned URLs are as good as a password for what they are for.
    let signatures = storage.requests().into_iter().filter_map(|request| request.query);
    let signatures: Vec<String> = signatures
        .flat_map(|query| query.split('&').map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert!(!signatures.is_empty());

    assert!(seen.runs > 40 && seen.text.contains("TRACE"), "{} runs", seen.runs);
    for secret in secrets.iter().chain(&signatures) {
        assert!(
            !seen.text.contains(secret.as_str()),
            "{secret} is seen in {}",
            around(&seen.text, secret)
        );
    }
    assert!(
        !seen.text.to_ascii_lowercase().contains("authorization: b"),
        "no such header is shown"
    );

    // Neither storage nor a mirror of another host is told who asks.
    let (storage, stranger) = (storage.requests(), stranger.requests());
    assert!(
        storage.len() > 2 && stranger.len() > 2,
        "{} and {} requests",
        storage.len(),
        stranger.len()
    );
    for request in storage.iter().chain(&stranger) {
        let all = all_of(request);
        for name in ["authorization", "proxy-authorization", "cookie"] {
            assert_eq!(request.header(name), None, "{all}");
        }
        for secret in &secrets {
            assert!(!all.contains(secret.as_str()), "{secret} in {all}");
        }
    }

    // The helper has the password from its standard input, and no process has it as an argument.
    let arguments = fs::read_to_string(home.path("arguments")).unwrap();
    assert!(
        arguments.contains("store") && arguments.contains("unlade"),
        "{arguments}"
    );
    for secret in &secrets {
        assert!(!arguments.contains(secret.as_str()), "{arguments}");
    }
    assert_eq!(
        leaked(home.store(), &secrets),
        Vec::<String>::new(),
        "the store knows nothing"
    );
}

#[test]
fn no_login_for_a_proxy_is_seen() {
    const LOGIN: &str = "hunter2-of-the-proxy";
    const MISTYPED: &str = "hunter2-of-no-proxy";
    let (home, registry) = (Home::new(), FakeRegistry::start());
    registry.push("app", "1", &fixtures::web());
    let http = FakeProxy::http(registry.host());
    let socks = FakeProxy::socks(registry.host());
    let configure = |more: &str| {
        let config = home.path("home/.config/unlade");
        fs::create_dir_all(&config).unwrap();
        fs::write(config.join("config.toml"), format!("[proxy]\nloopback = true\n{more}")).unwrap();
    };
    let mut seen = Seen::default();
    // Plain http goes to the proxy itself, https through a tunnel, which the registry then does not speak.
    let secure = format!("registry.invalid:{}/app:1", registry.host().rsplit(':').next().unwrap());
    let reference = registry.reference("app", "1");
    for proxy in [&http, &socks] {
        proxy.require_login("me", LOGIN);
        for (password, is_right) in [(LOGIN, true), (MISTYPED, false)] {
            let url = proxy.url_with(&format!("me:{password}"));
            let with = |arguments: &[&str]| {
                let command = home.unlade(arguments.iter().copied()).args(["--retries", "1"]);
                command.env("http_proxy", &url).env("https_proxy", &url)
            };
            configure("");
            assert_eq!(seen.run(with(&["resolve", &reference])), is_right);
            assert_eq!(seen.run(with(&["pull", "--policy", "always", &reference])), is_right);
            assert_eq!(
                seen.run(with(&["tags", "--format", "json", &format!("{}/app", registry.host())])),
                is_right
            );
            assert!(!seen.run(with(&["pull", &secure])));
            assert!(!seen.run(with(&["resolve", "--format", "json", &secure])));
            assert_eq!(seen.run(with(&["explain", "--policy", "always", &reference])), is_right);
            assert!(!seen.run(with(&["explain", "--format", "json", &secure])));
            configure(&format!("all = {url:?}\n"));
            assert_eq!(seen.run(home.unlade(["resolve", &reference])), is_right);
            // What cannot be understood is not shown either.
            configure(&format!("all = {url:?}\nhttps = \"{url}\n"));
            assert!(!seen.run(home.unlade(["resolve", &reference])));
            configure(&format!("all = \"ftp://me:{password}@proxy.example\"\n"));
            assert!(!seen.run(home.unlade(["resolve", &reference])));
            configure(&format!("all = [{url:?}]\n"));
            assert!(!seen.run(home.unlade(["resolve", &reference])));
            configure("");
            for wrong in ["[::1", "proxy.example:port", "proxy example"] {
                let url = format!("http://me:{password}@{wrong}");
                assert!(!seen.run(home.unlade(["resolve", &reference]).env("ALL_PROXY", url)));
            }
            proxy.refuse(if proxy.url().starts_with("http:") { 403 } else { 2 });
            assert!(!seen.run(with(&["resolve", &secure])));
            proxy.allow();
        }
    }
    assert!(!http.seen().is_empty() && !socks.seen().is_empty());
    assert!(seen.runs > 50 && seen.text.contains("TRACE"), "{} runs", seen.runs);
    // `me:LOGIN` and `me:MISTYPED` as they are sent.
    let encoded = ["bWU6aHVudGVyMi1vZi10aGUtcHJveHk", "bWU6aHVudGVyMi1vZi1uby1wcm94eQ"];
    for secret in [LOGIN, MISTYPED].into_iter().chain(encoded) {
        assert!(
            !seen.text.contains(secret),
            "{secret} is seen in {}",
            around(&seen.text, secret)
        );
    }
    // The registry is told nothing of it.
    for request in registry.requests() {
        assert_eq!(request.header("proxy-authorization"), None, "{request:?}");
    }
}

/// Shows where in a long text something is.
fn around(text: &str, part: &str) -> String {
    let at = text.find(part).unwrap_or_default();
    text.lines()
        .find(|line| line.contains(part))
        .map_or_else(|| format!("byte {at}"), str::to_owned)
}

/// Lists the files below a directory that hold a secret.
fn leaked(directory: &Path, secrets: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(leaked(&path, secrets));
        } else if kind.is_file() {
            // Not pipes: reading one waits for a writer.
            let bytes = fs::read(&path).unwrap();
            let text = String::from_utf8_lossy(&bytes);
            found.extend(
                secrets
                    .iter()
                    .filter(|secret| text.contains(secret.as_str()))
                    .map(|secret| format!("{}: {secret}", path.display())),
            );
        }
    }
    found
}

#[test]
fn a_foreign_layer_is_fetched_without_a_login() {
    let (home, registry, elsewhere) = (Home::new(), FakeRegistry::start(), FakeRegistry::start());
    let image = fixtures::web();
    let layer = image.layers[0].clone();
    let url = elsewhere.serve_at("/layer.tar.gz", image.blobs()[&layer].clone());
    let mut manifest: serde_json::Value = serde_json::from_slice(&image.manifests()[image.digest()].bytes).unwrap();
    manifest["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into();
    manifest["layers"][0]["urls"] = serde_json::json!([url, "http://169.254.169.254/layer"]);
    registry.push("app", "1", &image);
    let media_type = image.manifests()[image.digest()].media_type.clone();
    let digest: Digest = registry.push_manifest("app", &media_type, manifest.to_string());
    registry.tag("app", "1", &digest);
    registry.require_token(TokenAuth::new().user("alice", PASSWORD));
    let login = home.unlade(["login", &registry.host(), "-u", "alice", "--password-stdin"]);
    login.stdin(PASSWORD).run().success();

    // As long as the registry has it, nobody else is asked.
    home.pull(&registry.reference("app", "1"));
    assert!(elsewhere.requests().is_empty());
    home.unlade(["rm", &registry.reference("app", "1")]).run().success();
    registry.remove_blob("app", &layer);
    home.pull(&registry.reference("app", "1"));
    let asked = elsewhere.requests();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].header("authorization"), None);
}
