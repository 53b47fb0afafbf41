//! What is accepted, and what it means.

use std::collections::BTreeSet;

use unlade_oci::{Algorithm, Digest};
use unlade_reference::{Alias, Defaults, Reference, Registry, Repository, Tag};

use crate::{HEX_64, SHA256};

#[track_caller]
fn parse(text: &str) -> Reference {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn registry(text: &str) -> Registry {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// Text typed, canonical form, and the form that docker shows.
#[test]
fn canonical_and_familiar() {
    for (text, canonical, familiar) in [
        // Names without a registry.
        ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"),
        ("library/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        (
            "grafana/grafana",
            "docker.io/grafana/grafana:latest",
            "grafana/grafana:latest",
        ),
        ("a/b/c/d:e", "docker.io/a/b/c/d:e", "a/b/c/d:e"),
        ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        // Docker's registry under its names.
        ("docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        (
            "docker.io/library/alpine",
            "docker.io/library/alpine:latest",
            "alpine:latest",
        ),
        (
            "index.docker.io/alpine",
            "docker.io/library/alpine:latest",
            "alpine:latest",
        ),
        ("index.docker.io/a/b:c", "docker.io/a/b:c", "a/b:c"),
        ("Docker.IO/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        (
            "registry-1.docker.io/a/b",
            "registry-1.docker.io/a/b:latest",
            "registry-1.docker.io/a/b:latest",
        ),
        // Hosts: a dot, a colon, localhost, an upper-case letter.
        ("ghcr.io/a/b", "ghcr.io/a/b:latest", "ghcr.io/a/b:latest"),
        ("quay.io/alpine", "quay.io/alpine:latest", "quay.io/alpine:latest"),
        ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
        ("localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x:latest"),
        ("localhost:5000/x:y", "localhost:5000/x:y", "localhost:5000/x:y"),
        ("registry:5000/x", "registry:5000/x:latest", "registry:5000/x:latest"),
        ("127.0.0.1:5000/x/y:z", "127.0.0.1:5000/x/y:z", "127.0.0.1:5000/x/y:z"),
        ("FOO/x", "FOO/x:latest", "FOO/x:latest"),
        (
            "Example.COM:443/x",
            "example.com:443/x:latest",
            "example.com:443/x:latest",
        ),
        ("LocalHost/x", "localhost/x:latest", "localhost/x:latest"),
        (
            "xn--7o8h.com/myimage:xn--7o8h.com",
            "xn--7o8h.com/myimage:xn--7o8h.com",
            "xn--7o8h.com/myimage:xn--7o8h.com",
        ),
        (
            "a-b.c--d.example/x",
            "a-b.c--d.example/x:latest",
            "a-b.c--d.example/x:latest",
        ),
        // IPv6.
        ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
        ("[2001:DB8::1]/x/y:z", "[2001:db8::1]/x/y:z", "[2001:db8::1]/x/y:z"),
        // A host needs a path: these are repositories.
        ("localhost", "docker.io/library/localhost:latest", "localhost:latest"),
        ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
        (
            "example.com",
            "docker.io/library/example.com:latest",
            "example.com:latest",
        ),
        ("foo.bar:8080", "docker.io/library/foo.bar:8080", "foo.bar:8080"),
        (
            "docker.io/localhost/x",
            "docker.io/localhost/x:latest",
            "docker.io/localhost/x:latest",
        ),
        (
            "docker.io/foo.bar/x",
            "docker.io/foo.bar/x:latest",
            "docker.io/foo.bar/x:latest",
        ),
        // Separators.
        (
            "a.b_c__d-e---f",
            "docker.io/library/a.b_c__d-e---f:latest",
            "a.b_c__d-e---f:latest",
        ),
        ("0/1_2/3__4", "docker.io/0/1_2/3__4:latest", "0/1_2/3__4:latest"),
        // Tags.
        ("x:_.-", "docker.io/library/x:_.-", "x:_.-"),
        ("x:V1.0_RC-1", "docker.io/library/x:V1.0_RC-1", "x:V1.0_RC-1"),
    ] {
        let reference = parse(text);
        assert_eq!(reference.to_string(), canonical, "{text}");
        assert_eq!(reference.familiar(), familiar, "{text}");
        assert_eq!(reference.aliased_from(), None, "{text}");
    }
}

#[test]
fn digests() {
    let digest: Digest = SHA256.parse().unwrap();

    let bare = parse(&format!("alpine@{SHA256}"));
    assert_eq!((bare.tag(), bare.digest()), (None, Some(&digest)));
    assert_eq!(bare.to_string(), format!("docker.io/library/alpine@{SHA256}"));

    let both = parse(&format!("localhost:5000/a/b:c@{SHA256}"));
    assert_eq!((both.tag().map(Tag::as_str), both.digest()), (Some("c"), Some(&digest)));
    assert_eq!(both.to_string(), format!("localhost:5000/a/b:c@{SHA256}"));
    assert_eq!(parse("localhost:5000/a/b:c").with_digest(digest.clone()), both);

    let long = Digest::of(Algorithm::Sha512, "x");
    assert_eq!(parse(&format!("x@{long}")).digest(), Some(&long));
    assert_eq!(Reference::digested(bare.repository().clone(), digest.clone()), bare);
    assert_eq!(
        parse("alpine:3").with_digest(digest),
        parse(&format!("alpine:3@{SHA256}"))
    );
}

#[test]
fn limits() {
    let path = |length: usize| format!("a/{}", "b".repeat(length - 2));
    assert_eq!(parse(&path(255)).repository().path().len(), 255);
    assert_eq!(
        parse(&format!("example.com/{}", path(255))).repository().path().len(),
        255
    );
    // The implied directory counts.
    assert_eq!(
        parse(&"b".repeat(255 - "library/".len())).repository().path().len(),
        255
    );
    assert_eq!(
        parse(&format!("x:{}", "t".repeat(128))).tag().unwrap().as_str().len(),
        128
    );
}

#[test]
fn hexadecimal_names_that_are_no_image_ids() {
    assert_eq!(
        parse(&HEX_64[1..]).repository().path(),
        format!("library/{}", &HEX_64[1..])
    );
    assert_eq!(
        parse(&format!("{HEX_64}a")).repository().path().len(),
        "library/".len() + 65
    );
    assert_eq!(parse(&format!("{HEX_64}:x")).familiar(), format!("{HEX_64}:x"));
    assert_eq!(parse(&format!("a/{HEX_64}")).repository().path(), format!("a/{HEX_64}"));
}

#[test]
fn another_default_registry() {
    let defaults = Defaults::standard().with_default_registry(registry("registry.example:5000"));
    let canonical = |text: &str| Reference::parse(text, &defaults).unwrap().to_string();
    assert_eq!(canonical("alpine"), "registry.example:5000/library/alpine:latest");
    assert_eq!(canonical("a/b"), "registry.example:5000/a/b:latest");
    // The registry was named, so the path is taken as it is.
    assert_eq!(
        canonical("registry.example:5000/alpine"),
        "registry.example:5000/alpine:latest"
    );
    // Docker's registry has its directory whatever the default is, others never.
    assert_eq!(canonical("docker.io/alpine"), "docker.io/library/alpine:latest");
    assert_eq!(canonical("quay.io/alpine"), "quay.io/alpine:latest");
    // The familiar form means the same without the configuration.
    assert_eq!(
        Reference::parse("a/b", &defaults).unwrap().familiar(),
        "registry.example:5000/a/b:latest"
    );
}

#[test]
fn aliases() {
    let alias = Alias {
        named: registry("sandboxes.io"),
        used: Registry::docker_hub(),
    };

    let official = parse("sandboxes.io/alpine:3");
    assert_eq!(official.to_string(), "docker.io/library/alpine:3");
    assert_eq!(official.aliased_from(), Some(&alias));
    assert!(official.repository().is_official());

    let anybodys = parse("Sandboxes.io/somebody/thing");
    assert_eq!(anybodys.to_string(), "docker.io/somebody/thing:latest");
    assert_eq!(anybodys.aliased_from(), Some(&alias));
    assert!(!anybodys.repository().is_official());

    // How it was named is no part of what is meant.
    let plain = parse("somebody/thing");
    assert_eq!((&plain, plain.cmp(&anybodys)), (&anybodys, std::cmp::Ordering::Equal));
    assert_eq!(BTreeSet::from([plain, anybodys]).len(), 1);

    // The default registry may be an alias, too.
    let defaults = Defaults::standard().with_default_registry(registry("sandboxes.io"));
    let reference = Reference::parse("alpine", &defaults).unwrap();
    assert_eq!(reference.to_string(), "docker.io/library/alpine:latest");
    assert_eq!(reference.aliased_from(), Some(&alias));

    let plain = Reference::parse("sandboxes.io/x", &Defaults::without_aliases()).unwrap();
    assert_eq!(
        (plain.to_string().as_str(), plain.aliased_from()),
        ("sandboxes.io/x:latest", None)
    );
}

/// Text, host, port, host of the API, loopback.
#[test]
fn registries() {
    for (text, host, port, api_host, is_loopback) in [
        ("docker.io", "docker.io", None, "registry-1.docker.io", false),
        ("index.docker.io", "docker.io", None, "registry-1.docker.io", false),
        ("ghcr.io", "ghcr.io", None, "ghcr.io", false),
        ("ghcr.io:443", "ghcr.io", Some(443), "ghcr.io:443", false),
        ("localhost", "localhost", None, "localhost", true),
        ("localhost:5000", "localhost", Some(5000), "localhost:5000", true),
        ("127.1.2.3:1", "127.1.2.3", Some(1), "127.1.2.3:1", true),
        ("128.0.0.1", "128.0.0.1", None, "128.0.0.1", false),
        (
            "127.0.0.1.example.com",
            "127.0.0.1.example.com",
            None,
            "127.0.0.1.example.com",
            false,
        ),
        ("[::1]:65535", "[::1]", Some(65535), "[::1]:65535", true),
        ("[::1]", "[::1]", None, "[::1]", true),
        ("[2001:db8::1]:80", "[2001:db8::1]", Some(80), "[2001:db8::1]:80", false),
    ] {
        let registry = registry(text);
        assert_eq!(
            (
                registry.host(),
                registry.port(),
                registry.api_host(),
                registry.is_loopback()
            ),
            (host, port, api_host, is_loopback),
            "{text}"
        );
        assert_eq!(registry.is_docker_hub(), host == "docker.io", "{text}");
    }
}

#[test]
fn repositories() {
    let repository = Repository::parse("alpine", &Defaults::standard()).unwrap();
    assert_eq!(repository.to_string(), "docker.io/library/alpine");
    assert_eq!(
        (repository.registry(), repository.path()),
        (&Registry::docker_hub(), "library/alpine")
    );
    assert_eq!(repository.familiar(), "alpine");
    assert_eq!(Repository::new(Registry::docker_hub(), "alpine").unwrap(), repository);
    let local = Repository::new(registry("localhost:5000"), "alpine").unwrap();
    assert_eq!(local.to_string(), "localhost:5000/alpine");
    assert_eq!(Reference::tagged(local, Tag::latest()), parse("localhost:5000/alpine"));
}

#[test]
fn serde_is_the_text() {
    let reference = parse(&format!("alpine:3@{SHA256}"));
    let text = serde_json::to_value(&reference).unwrap();
    assert_eq!(text, format!("docker.io/library/alpine:3@{SHA256}"));
    assert_eq!(serde_json::from_value::<Reference>(text).unwrap(), reference);

    // What was stored is meant as it was written.
    let stored: Repository = serde_json::from_str("\"sandboxes.io/x\"").unwrap();
    assert_eq!(stored.to_string(), "sandboxes.io/x");

    assert_eq!(serde_json::to_value(registry("[::1]:5000")).unwrap(), "[::1]:5000");
    assert_eq!(serde_json::from_str::<Tag>("\"v1\"").unwrap(), "v1".parse().unwrap());
    let error = serde_json::from_str::<Tag>("\"-\"").unwrap_err();
    assert!(error.to_string().contains("invalid tag \"-\""), "{error}");
}
