//! What bad input gets: the exit code, the class, and a store in which nothing of it stays.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use unlade_test_support::{
    Compression, Entry, FakeRegistry, Fault, Image, ImageBuilder, LayerBuilder, TokenAuth, fixtures,
};
use unlade_tests::{Home, NOBODY};

use crate::support::{fat_layer, image_of, noise, serve};

/// Runs a command that must fail, checks code and class, and returns message and causes as one text.
fn failure(home: &Home, arguments: &[&str], code: i32, class: &str) -> String {
    let command = home.unlade(["--format", "json"]).args(arguments);
    let error = command.run().failure(code).error();
    assert_eq!(error["class"], class, "{error}");
    assert!(error["message"].is_string() && error["causes"].is_array(), "{error}");
    let causes = error["causes"].as_array().unwrap().iter();
    let texts: Vec<_> = std::iter::once(&error["message"])
        .chain(causes)
        .map(|text| text.as_str().unwrap_or_default())
        .collect();
    texts.join("; ")
}

#[test]
fn wrong_usage_is_2() {
    let home = Home::new();
    for arguments in [
        &["pull", "-i", "-G", "alpine"][..],
        &["pull", "--image", "--image-group", "alpine"],
        &["pull"],
        &["no-such-command"],
        &["pull", "alpine", "--policy", "sometimes"],
    ] {
        failure(&home, arguments, 2, "usage");
    }
    assert!(!home.store().exists(), "nothing is created by a command that cannot be");
}

#[test]
fn what_is_not_there_is_3_and_the_error_says_what_is() {
    let (registry, reference) = serve(&fixtures::platforms());
    let home = Home::new();
    let unknown = registry.reference("app", "none");
    let said = failure(&home, &["pull", &unknown], 3, "not-found");
    assert!(said.contains(&unknown), "{said}");
    failure(
        &home,
        &["pull", &registry.reference("nobody/nothing", "latest")],
        3,
        "not-found",
    );
    let said = failure(
        &home,
        &["pull", &reference, "--platform", "windows/amd64"],
        3,
        "not-found",
    );
    assert!(said.contains("linux/arm64"), "{said}");
    failure(&home, &["pull", &reference, "--policy", "never"], 3, "not-found");
    failure(&home, &["inspect", &reference], 3, "not-found");
    failure(&home, &["rm", &reference], 3, "not-found");
    let left = home.leftovers();
    assert!(left.layers.is_empty(), "{left:?}");
    left.assert_nothing_half_done();
}

#[test]
fn who_may_not_read_gets_4() {
    let (registry, reference) = serve(&fixtures::web());
    let home = Home::new();
    registry.require_basic("anna", "secret");
    failure(&home, &["pull", &reference], 4, "auth");
    registry.require_token(TokenAuth::new().user("anna", "secret"));
    failure(&home, &["pull", &reference], 4, "auth");
    // "anna:wrong"
    let login = format!(
        r#"{{"auths": {{"{}": {{"auth": "YW5uYTp3cm9uZw=="}}}}}}"#,
        registry.host()
    );
    fs::create_dir_all(home.path("home/.docker")).unwrap();
    fs::write(home.path("home/.docker/config.json"), login).unwrap();
    let said = failure(&home, &["pull", &reference], 4, "auth");
    assert!(
        !said.contains("wrong") && !said.contains("YW5uYTp3cm9uZw"),
        "a secret is printed: {said}"
    );
    let file = home.path("home/.docker/config.json");
    assert!(
        said.contains(&format!("the password from {}", file.display())),
        "{said}"
    );
    home.leftovers().assert_nothing();

    // "anna:secret"
    let login = format!(
        r#"{{"auths": {{"{}": {{"auth": "YW5uYTpzZWNyZXQ="}}}}}}"#,
        registry.host()
    );
    fs::write(home.path("home/.docker/config.json"), login).unwrap();
    assert_eq!(home.pull(&reference).directories.len(), 3);
}

#[test]
fn a_registry_that_does_not_work_is_5() {
    let (registry, reference) = serve(&fixtures::web());
    let home = Home::new();
    // One that is asked again would take its time until it is given up.
    registry.fault(Fault::on_manifests().status(400));
    let said = failure(&home, &["pull", &reference], 5, "network");
    assert!(said.contains("400"), "{said}");
    registry.clear_faults();
    // A page of a portal names who answered, and with what.
    for fault in [Fault::on_manifests(), Fault::on_blobs()] {
        registry.fault(fault.html());
        let said = failure(&home, &["pull", &reference], 5, "network");
        let expected = format!("{} answered with a web page (text/html)", registry.host());
        assert!(said.contains(&expected), "{said}");
        registry.clear_faults();
    }
    home.leftovers().assert_nothing();
}

#[test]
fn an_invalid_reference_is_6_and_the_error_says_where() {
    let home = Home::new();
    for (reference, part) in [
        ("localhost/UPPER/case", "repository"),
        ("alpine:-x", "tag"),
        ("alpine@sha256:beef", "digest"),
        ("host:port:5/x/y", ""),
    ] {
        let said = failure(&home, &["pull", reference], 6, "invalid");
        assert!(said.contains(part), "{reference}: {said}");
    }
    assert!(!home.store().exists());
}

/// An image whose only layer comes with wrong bytes.
fn served_wrongly(compression: Compression) -> (FakeRegistry, String, Image) {
    let layer = LayerBuilder::new().file("file", vec![7; 300_000]).build(compression);
    let image = image_of(&layer);
    let (registry, reference) = serve(&image);
    registry.fault(Fault::on_blob(&layer.digest).corrupt_at(layer.size() / 2));
    (registry, reference, image)
}

#[test]
fn bytes_that_do_not_match_are_7_and_nothing_of_them_stays() {
    let home = Home::new();
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let (_registry, reference, image) = served_wrongly(compression);
        failure(&home, &["pull", &reference], 7, "integrity");
        assert!(!home.has_blob(&image.layers[0]), "{compression:?}");
        let left = home.leftovers();
        left.assert_nothing_half_done();
        assert!(
            left.layers.is_empty() && home.images().is_empty(),
            "{compression:?}: {left:?}"
        );
    }
}

#[test]
fn a_size_a_diff_id_or_a_manifest_that_does_not_match_is_7() {
    let home = Home::new();
    let layer = fat_layer("file", 10_000);
    let other = fat_layer("other", 10_000);

    let image = ImageBuilder::new()
        .layer(layer.clone())
        .diff_ids(&[other.diff_id])
        .build();
    let (_registry, reference) = serve(&image);
    failure(&home, &["pull", &reference], 7, "integrity");

    let longer = [layer.bytes.as_ref(), b"more"].concat();
    let (registry, reference) = serve(&image_of(&layer));
    registry.fault(Fault::on_blob(&layer.digest).content(longer));
    failure(&home, &["pull", &reference], 7, "integrity");

    let (registry, reference) = serve(&image_of(&layer));
    let by_digest = format!("{reference}@{}", other.digest);
    let bytes = image_of(&layer).manifest;
    registry.fault(
        Fault::on_manifest(&other.digest)
            .body(bytes)
            .header("content-type", OCI_MANIFEST),
    );
    failure(&home, &["pull", &by_digest], 7, "integrity");

    let left = home.leftovers();
    left.assert_nothing_half_done();
    assert!(left.layers.is_empty() && !home.has_blob(&layer.digest), "{left:?}");
}

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

#[test]
fn a_hostile_layer_is_8_and_touches_nothing() {
    let device = LayerBuilder::new().char_device("device", 0, 0);
    for (what, layer) in [
        ("no tar at all", LayerBuilder::new().raw_bytes([0x55; 4096])),
        ("a device that would act as a whiteout", device),
        ("a whiteout of the parent", LayerBuilder::new().file(".wh...", "")),
        (
            "a hard link to what is no file",
            LayerBuilder::new().hardlink("link", "../.."),
        ),
        ("a root that is a link", LayerBuilder::new().symlink("./", "/etc")),
    ] {
        let home = Home::new();
        let good = fat_layer("good", 1000);
        let hostile = layer.build(Compression::Gzip);
        let (_registry, reference) = serve(&ImageBuilder::new().layers([good, hostile.clone()]).build());
        let said = failure(&home, &["pull", &reference], 8, "rejected");
        assert!(
            said.contains(&hostile.digest.to_string()),
            "{what}: the layer is named: {said}"
        );
        assert!(home.images().is_empty() && !home.has_blob(&hostile.digest), "{what}");
        // The other layer may be there, whole or in part: nothing is wrong with it.
        let left = home.leftovers();
        assert!(left.staging.is_empty() && left.layers.len() <= 1, "{what}: {left:?}");
    }
}

#[test]
fn a_layer_that_leads_out_stays_inside() {
    let layer = LayerBuilder::new()
        .file("../../../../outside", "x")
        .symlink("up", "../../..")
        .file("up/outside-by-link", "x")
        .symlink("way", "/etc")
        .file("way/outside-by-path", "x")
        .build(Compression::Gzip);
    let (_registry, reference) = serve(&image_of(&layer));
    let home = Home::new();
    let pulled = home.pull(&reference);
    let tree = pulled.merged();
    for inside in ["outside", "outside-by-link", "etc/outside-by-path"] {
        assert!(tree.get(inside).is_some(), "{inside}: {tree:?}");
    }
    let mut beside: Vec<_> = fs::read_dir(home.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    beside.sort();
    assert_eq!(beside, ["home", "store"]);
}

/// Every limit, set as low as to be met, by its option and in the configuration file; the error names it and both ways.
#[test]
fn every_limit_is_8_and_the_hint_says_how_to_raise_it() {
    let layer = |layer: LayerBuilder| layer.build(Compression::Zstd);
    let plain = layer(
        LayerBuilder::new()
            .dir("a", 0o755)
            .dir("a/b", 0o755)
            .entry(&Entry::file("a/b/file", [7; 5000]).xattr("user.name", "value")),
    );
    let zeros = layer(LayerBuilder::new().file("zeros", vec![0; 20 << 20]));
    // What a window of a kilobyte does not hold, and no buffer either: a frame that fits one needs no window.
    let wide = layer(LayerBuilder::new().file("noise", noise("wide", 1 << 20)));
    for (limit, low, high, layer) in [
        ("raw-bytes", "2KiB", "1MiB", &plain),
        ("total-raw-bytes", "2KiB", "1MiB", &plain),
        ("ratio", "2", "1000000", &zeros),
        ("file-bytes", "4999", "5000", &plain),
        ("entries", "2", "3", &plain),
        ("path-bytes", "7", "8", &plain),
        ("depth", "2", "3", &plain),
        ("xattr-bytes", "13", "14", &plain),
        ("extension-bytes", "10", "1MiB", &plain),
        ("deferred-bytes", "10", "1MiB", &plain),
        ("zstd-window-log", "10", "31", &wide),
    ] {
        let (_registry, reference) = serve(&image_of(layer));
        let home = Home::new();
        let flag = format!("--max-{limit}");
        let pull = || home.unlade(["--format", "json", "pull", &reference]);
        let is_number = ["ratio", "entries", "depth", "zstd-window-log"].contains(&limit);
        let value = |text: &str| {
            if is_number {
                text.to_owned()
            } else {
                format!("{text:?}")
            }
        };
        let config = home.path("config.toml");
        fs::write(&config, format!("[limits]\n{limit} = {}\n", value(low))).unwrap();
        let configured = || pull().env("UNLADE_CONFIG", config.to_str().unwrap());
        for command in [pull().args([&flag, low]), configured()] {
            let error = command.run().failure(8).error();
            assert_eq!(error["class"], "rejected", "{error}");
            let said = format!("{} {}", error["message"], error["causes"]);
            assert!(said.contains(&format!("`{}`", limit.replace('-', "_"))), "{error}");
            let hint = error["hint"].as_str().unwrap();
            assert!(hint.contains(&flag) && hint.contains(&format!("`{limit}`")), "{error}");
            home.leftovers().assert_nothing_half_done();
        }
        // The option comes before the file.
        configured().args([&flag, high]).run().success();
    }
}

#[test]
fn privileged_a_store_that_may_not_be_written_is_9() {
    let (_registry, reference) = serve(&fixtures::web());
    let home = Home::of_nobody();
    let closed = home.path("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();
    let inside = closed.join("store");
    let said = failure(
        &home,
        &["--home", inside.to_str().unwrap(), "pull", &reference],
        9,
        "storage",
    );
    assert!(said.contains(closed.to_str().unwrap()), "{said} (as user {NOBODY})");
    assert!(!inside.exists());
}

#[test]
fn unprivileged_a_store_that_may_not_be_written_is_9() {
    let (_registry, reference) = serve(&fixtures::web());
    let home = Home::new();
    let closed = home.path("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    let inside = closed.join("store");
    failure(
        &home,
        &["--home", inside.to_str().unwrap(), "pull", &reference],
        9,
        "storage",
    );
}

#[test]
fn a_store_below_a_file_is_9() {
    let (_registry, reference) = serve(&fixtures::web());
    let home = Home::new();
    let file = home.path("file");
    fs::write(&file, "").unwrap();
    let inside = file.join("store");
    failure(
        &home,
        &["--home", inside.to_str().unwrap(), "pull", &reference],
        9,
        "storage",
    );
}

#[test]
fn a_registry_that_has_had_enough_is_10() {
    let (registry, reference) = serve(&fixtures::web());
    let home = Home::new();
    let limited = Fault::on_manifests().status(429).header("retry-after", "3600");
    registry.fault(
        limited
            .header("ratelimit-limit", "100;w=21600")
            .header("ratelimit-remaining", "0;w=21600"),
    );
    let command = home.unlade(["--format", "json", "pull", &reference, "--max-wait", "10s"]);
    let error = command.run().failure(10).error();
    assert_eq!(
        (&error["class"], &error["retryable"]),
        (&"rate-limited".into(), &true.into())
    );
    let said = error.to_string();
    for part in [
        registry.host().as_str(),
        "3600 s",
        "ratelimit-limit",
        "100;w=21600",
        "ratelimit-remaining",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let hint = error["hint"].as_str().unwrap();
    assert!(hint.contains("log in") && hint.contains("use a mirror"), "{hint}");
    assert_eq!(
        registry.requests().len(),
        1,
        "a wait that is too long is not waited for"
    );
    home.leftovers().assert_nothing();
}

#[test]
fn a_registry_that_falls_silent_is_11() {
    let layer = fat_layer("fat", 1 << 20);
    let (registry, reference) = serve(&image_of(&layer));
    let home = Home::new();
    registry.fault(Fault::on_blob(&layer.digest).nth(1).stall_after(100_000));
    registry.fault(Fault::on_blob(&layer.digest).from(2).stall_after(0));
    let impatient = ["--stall-timeout", "1s", "--retries", "1"];
    let said = failure(
        &home,
        &[&["pull", reference.as_str()][..], &impatient].concat(),
        11,
        "timeout",
    );
    for part in [
        registry.host().as_str(),
        &layer.digest.to_string(),
        "stalled",
        "at byte 100000",
        "2 attempts",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert_eq!(home.leftovers().ingest.len(), 1, "what has come is kept");
    // One that only trickles is no better.
    registry.clear_faults();
    let second = std::time::Duration::from_secs(1);
    registry.fault(Fault::on_blobs().trickle(10, second / 10));
    let slow = ["--stall-timeout", "2s", "--min-speed", "1000", "--retries", "0"];
    failure(
        &Home::new(),
        &[&["pull", reference.as_str()][..], &slow].concat(),
        11,
        "timeout",
    );

    // Nor is one that is quick enough, but has more to say than there is time for.
    registry.clear_faults();
    registry.fault(Fault::on_blobs().stall_after(500_000));
    let said = failure(&Home::new(), &["pull", &reference, "--timeout", "2s"], 11, "timeout");
    assert!(said.contains("2 s"), "{said}");
    let config = home.path("home/.config/unlade");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("config.toml"), "[network]\ntimeout = \"1500ms\"\n").unwrap();
    let said = failure(&home, &["pull", &reference], 11, "timeout");
    assert!(said.contains("1.5 s"), "{said}");
    let left = home.leftovers();
    assert!(left.staging.is_empty() && left.layers.is_empty(), "{left:?}");
    assert_eq!(left.ingest.len(), 1, "what has come is kept");

    registry.clear_faults();
    home.pull_with(&reference, &["--timeout", "4m"]);
    home.leftovers().assert_nothing_half_done();
}
