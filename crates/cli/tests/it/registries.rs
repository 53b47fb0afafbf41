//! Where registries are served: files, flags, and what is said when TLS fails.

use std::fs;

use unlade_test_support::{Authority, FakeRegistry, Fault, TlsFront};

use crate::sandbox::{Sandbox, image, registry};

fn write(sandbox: &Sandbox, name: &str, text: &str) {
    let path = sandbox.path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn mirrors_of_hosts_toml_are_asked_first() {
    let (sandbox, mirror) = (Sandbox::new(), registry());
    let text = format!("server = 'http://127.0.0.1:1'\n[host.'{}']\n", mirror.url());
    write(&sandbox, "certs.d/registry.example/hosts.toml", &text);
    sandbox.ok("pull registry.example/x:1");
    assert_eq!(mirror.requests()[0].query.as_deref(), Some("ns=registry.example"));
    assert_eq!(sandbox.json("--format json images").as_array().unwrap().len(), 1);
}

#[test]
fn mirrors_of_registries_conf_are_asked_first() {
    let (sandbox, mirror) = (Sandbox::new(), FakeRegistry::start());
    mirror.push("cache/x", "1", &image());
    let text = format!(
        "[[registry]]\nlocation = 'registry.example'\n[[registry.mirror]]\nlocation = '{}/cache'\n",
        mirror.host()
    );
    write(&sandbox, "registries.conf", &text);
    sandbox.ok("pull registry.example/x:1");
}

#[test]
fn a_mirror_that_fails_is_a_warning() {
    let (sandbox, mirror, registry) = (Sandbox::new(), registry(), registry());
    mirror.fault(Fault::on_anything().status(503));
    let text = format!("[host.'{}']\n", mirror.url());
    write(&sandbox, &format!("certs.d/{}/hosts.toml", registry.host()), &text);
    let ran = sandbox.run(&format!("pull {}", registry.reference("x", "1")));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let expected = format!("warning: {} is passed over for {}: ", mirror.host(), registry.host());
    assert_eq!(ran.stderr.matches(&expected).count(), 1, "{}", ran.stderr);
}

#[test]
fn files_that_cannot_be_read_are_told_with_their_line() {
    let sandbox = Sandbox::new();
    for (file, text, expected) in [
        (
            "certs.d/registry.example/hosts.toml",
            "\n[host.'https://m.example']\ncapabilites = ['pull']\n",
            "certs.d/registry.example/hosts.toml:3: unknown key \"capabilites\"",
        ),
        (
            "registries.conf",
            "[[registry]]\nlocation = 'registry.example'\nblocked = true\n",
            "registries.conf:1: registry.example/x is blocked by configuration",
        ),
    ] {
        write(&sandbox, file, text);
        let ran = sandbox.run("pull registry.example/x:1");
        assert_eq!(ran.code, Some(6), "{}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    }
    for flag in ["--certs-dir", "--registries-conf"] {
        let ran = sandbox.run(&format!("tags registry.example/x {flag} nowhere"));
        assert_eq!(ran.code, Some(6), "{}", ran.stderr);
        assert!(ran.stderr.contains("cannot read nowhere"), "{}", ran.stderr);
    }
}

#[test]
fn both_can_be_switched_off() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    write(&sandbox, "registries.conf", "nonsense");
    let host = registry.host();
    write(&sandbox, &format!("certs.d/{host}/hosts.toml"), "nonsense");
    let ran = sandbox.run(&format!("tags {host}/x"));
    assert_eq!(ran.code, Some(6));
    sandbox.ok(&format!(
        "tags {host}/x --certs-dir /dev/null --registries-conf /dev/null"
    ));
}

#[test]
fn tls_by_flags_and_by_files() {
    let (sandbox, registry, authority) = (Sandbox::new(), registry(), Authority::new());
    let front = TlsFront::start(&registry.host(), &authority.server(&["127.0.0.1"]), None);
    let host = front.host();
    let other = Authority::new().write(&sandbox.path("other.pem"));
    authority.write(&sandbox.path("ca.pem"));
    sandbox.ok(&format!("tags {host}/x --ca-file ca.pem"));
    sandbox.ok(&format!("tags {host}/x --insecure-skip-verify"));
    sandbox.ok(&format!("tags {host}/x --insecure-skip-verify={host}"));

    let ran = sandbox.run(&format!("tags {host}/x --ca-file {}", other.display()));
    assert_eq!(ran.code, Some(5));
    for part in [
        format!("https://{host}/v2/x/tags/list"),
        "the server's certificate is of no authority that is trusted here".to_owned(),
        "name it with --ca-file FILE".to_owned(),
        format!("--insecure-skip-verify={host}"),
    ] {
        assert!(ran.stderr.contains(&part), "{part}: {}", ran.stderr);
    }

    fs::create_dir_all(sandbox.path(&format!("certs.d/{host}"))).unwrap();
    authority.write(&sandbox.path(&format!("certs.d/{host}/ca.crt")));
    sandbox.ok(&format!("pull {host}/x:1"));
}

#[test]
fn a_client_certificate_by_flags() {
    let (sandbox, registry, authority) = (Sandbox::new(), registry(), Authority::new());
    let identity = authority.server(&["127.0.0.1"]);
    let front = TlsFront::start(&registry.host(), &identity, Some(&authority));
    authority.write(&sandbox.path("ca.pem"));
    authority.client("me").write(&sandbox.path(""), "me");
    let line = format!("tags {}/x --ca-file ca.pem", front.host());
    sandbox.ok(&format!("{line} --client-cert me.cert --client-key me.key"));
    let ran = sandbox.run(&line);
    assert_eq!(ran.code, Some(5));
    assert!(
        ran.stderr.contains("give one with --client-cert FILE"),
        "{}",
        ran.stderr
    );
}

#[test]
fn plain_http_is_only_for_whom_it_is_said() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let host = registry.host();
    let ran = sandbox.run(&format!("tags {host}/x --insecure-skip-verify"));
    assert_eq!(ran.code, Some(5));
    assert!(ran.stderr.contains(&format!("--plain-http={host}")), "{}", ran.stderr);
    let both = format!("--insecure-skip-verify --plain-http={host}");
    sandbox.ok(&format!("tags {host}/x {both}"));
}
