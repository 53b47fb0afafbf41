//! What a failure looks like: its exit code, its text, its object.

use std::fs;

use unlade_test_support::{FakeRegistry, Fault};

use crate::sandbox::{Ran, Sandbox, image, registry};

/// Runs a pull of `x:1` that must fail, in both forms, and checks that they agree.
#[track_caller]
fn fails(sandbox: &Sandbox, registry: &FakeRegistry, options: &str, code: i32, class: &str) -> String {
    let line = format!("pull --progress none {options} {}/x:1", registry.host()).replace("  ", " ");
    let text = sandbox.run(&line);
    assert_eq!((text.code, text.stdout.as_str()), (Some(code), ""), "{}", text.stderr);
    assert!(text.stderr.starts_with("error: "), "{}", text.stderr);

    let json = sandbox.run(&format!("{line} --format json"));
    assert_eq!((json.code, json.stdout.as_str()), (Some(code), ""), "{}", json.stderr);
    let object: serde_json::Value = json.stderr.parse().unwrap();
    assert_eq!(object["class"], class);
    // Which of several layers is the first to fail may differ from run to run.
    assert!(!object["message"].as_str().unwrap().is_empty());
    assert_eq!(
        text.stderr.matches("\n  caused by: ").count(),
        object["causes"].as_array().unwrap().len()
    );
    assert_eq!(text.stderr.contains("\nhint: "), !object["hint"].is_null());
    assert!(object["retryable"].is_boolean());
    assert!(sandbox.entries("staging").is_empty());
    sandbox.steady(&text.stderr, registry)
}

#[test]
fn usage() {
    let sandbox = Sandbox::new();
    let both = sandbox.run("pull -i -G x");
    assert_eq!((both.code, both.stdout.as_str()), (Some(2), ""));
    assert!(
        both.stderr.contains("'--image' cannot be used with '--image-group'"),
        "{}",
        both.stderr
    );
    for line in [
        "pull --format=json -i -G x",
        "--format json nonsense",
        "pull --format json x --platform linux",
    ] {
        let ran = sandbox.run(line);
        assert_eq!(ran.code, Some(2), "{line}");
        let object: serde_json::Value = ran.stderr.parse().unwrap();
        assert_eq!(object["class"], "usage", "{line}");
        assert!(!object["message"].as_str().unwrap().starts_with("error"), "{object}");
    }
}

#[test]
fn an_invalid_reference_is_pointed_at() {
    let sandbox = Sandbox::new();
    let ran = sandbox.run("pull docker.io/Library/alpine:3");
    assert_eq!(ran.code, Some(6));
    insta::assert_snapshot!(ran.stderr, @r#"
    error: invalid reference "docker.io/Library/alpine:3": the repository has the upper-case letter 'L' at position 10; the name of a repository is all lower-case
    hint: docker.io/Library/alpine:3
                    ^
    "#);
    assert!(
        sandbox.entries(".").is_empty(),
        "nothing is made for a reference that is none"
    );
}

#[test]
fn an_argument_that_is_no_text() {
    use std::os::unix::ffi::OsStrExt as _;
    let sandbox = Sandbox::new();
    let name = std::ffi::OsStr::from_bytes(b"alp\xffine");
    let ran = Ran::of(&mut sandbox.command([std::ffi::OsStr::new("pull"), name]));
    assert_eq!(ran.code, Some(6));
    insta::assert_snapshot!(ran.stderr, @r#"error: the reference "alp�ine" is not valid UTF-8"#);
}

#[test]
fn not_found() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    registry.remove_tag("x", "1");
    insta::assert_snapshot!(fails(&sandbox, &registry, "", 3, "not-found"), @r#"
    error: cannot resolve REGISTRY/x:1
      caused by: GET http://REGISTRY/v2/x/manifests/1: does not exist or needs a login (status 404 Not Found, MANIFEST_UNKNOWN: manifest unknown; no credentials were sent)
    hint: check the spelling; `unlade tags REGISTRY/x` lists the tags there are; a private repository needs a login (`unlade login REGISTRY`)
    "#);
}

#[test]
fn not_in_the_store() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    insta::assert_snapshot!(fails(&sandbox, &registry, "--policy never", 3, "not-found"), @r#"
    error: REGISTRY/x:1 is not complete in the store: its manifest, and the network is not to be used
    hint: without --policy never it is fetched
    "#);
    assert!(registry.requests().is_empty());
    let ran = sandbox.run("inspect alpine");
    assert_eq!(ran.code, Some(3));
    insta::assert_snapshot!(ran.stderr, @r#"
    error: there is no image docker.io/library/alpine:latest in the store
    hint: `unlade images` lists what is in the store, `unlade pull` brings an image in
    "#);
}

#[test]
fn authentication() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    registry.require_basic("user", "secret");
    let shown = fails(&sandbox, &registry, "", 4, "auth");
    assert!(shown.contains("hint: log in (`unlade login REGISTRY`)"), "{shown}");
}

#[test]
fn a_web_page_is_a_failure_of_the_network() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    registry.fault(Fault::on_manifests().html());
    let shown = fails(&sandbox, &registry, "", 5, "network");
    assert!(shown.contains("web page"), "{shown}");
}

#[test]
fn integrity() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let image = image();
    let digest = image.layers[1].clone();
    registry.fault(Fault::on_blob(&digest).corrupt_at(12));
    let shown = fails(&sandbox, &registry, "", 7, "integrity");
    assert!(shown.contains(&digest.to_string()), "{shown}");
    // The failure stops the other layer wherever it is. What has come of it is kept, and is what it should be.
    let other = &image.layers[0];
    for path in sandbox.entries("ingest") {
        assert_eq!(
            path.file_name().unwrap().to_str().unwrap(),
            format!("sha256-{}", other.hex())
        );
        assert!(image.blobs[other].starts_with(&fs::read(&path).unwrap()));
    }
}

#[test]
fn a_limit_names_its_flag() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let shown = fails(&sandbox, &registry, "--max-raw-bytes 100", 8, "rejected");
    assert!(
        shown.contains("`raw_bytes` of 100") && shown.contains("--max-raw-bytes"),
        "{shown}"
    );
    assert!(sandbox.entries("layers").is_empty());
}

#[test]
fn a_store_that_cannot_be() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    fs::write(sandbox.path("file"), "").unwrap();
    insta::assert_snapshot!(fails(&sandbox, &registry, "--home file/store", 9, "storage"), @r#"
    error: cannot create the directory HOME/file/store
      caused by: Not a directory (os error 20)
    hint: choose a store that you can write to with --home DIR or the variable UNLADE_HOME
    "#);
}

#[test]
fn rate_limited() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    registry.fault(Fault::on_manifests().status(429).header("retry-after", "86400"));
    let shown = fails(&sandbox, &registry, "", 10, "rate-limited");
    assert!(
        shown.contains("86400 s") && shown.contains("hint: wait a while, use a mirror, or log in"),
        "{shown}"
    );
}

#[test]
fn a_damaged_store() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    sandbox.ok("images");
    for name in ["metadata.db-wal", "metadata.db-shm"] {
        fs::remove_file(sandbox.path("store").join(name)).ok();
    }
    fs::write(sandbox.path("store/metadata.db"), vec![b'x'; 8192]).unwrap();
    fails(&sandbox, &registry, "", 12, "store");
}
