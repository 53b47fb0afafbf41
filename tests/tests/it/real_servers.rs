//! Real servers as people run them: TLS with an authority of their own, caches of other registries, blobs elsewhere.

use std::fs;

use unlade_oci::Digest;
use unlade_test_support::{Artifact as _, Authority, Image, Layer, fixtures};
use unlade_tests::{Command, Home, Nginx, Pulled, RealRegistry, Valve};

use crate::support::{SOON, fat_layer, image_of, ingested, noise, wait_until};

/// The size of a layer: what may be on its way in the buffers of sockets is less.
const FAT: usize = 48 << 20;
/// How much of it a connection gets before the test goes on.
const HELD: u64 = 2 << 20;

/// A pull as `alice`.
fn as_alice(home: &Home, reference: &str, password: &str) -> Command {
    home.unlade(["--format", "json", "pull", reference])
        .args(["--username", "alice", "--password-stdin"])
        .stdin(password)
}

#[test]
fn real_registry_with_tls_and_a_password() {
    let authority = Authority::new();
    let registry = RealRegistry::start_with_password_and_tls(&authority.server(&["127.0.0.1"]));
    let image = fixtures::web();
    let reference = registry.push("team/app", "1", &image);
    let home = Home::new();
    let ca = authority.write(&home.path("ca.pem")).display().to_string();
    let ca = ["--ca-file", ca.as_str()];
    let logins = home.path("logins.json");
    // `alice:hunter2` and `alice:wrong`.
    let login = |secret: &str| {
        let text = format!("{{\"auths\": {{{:?}: {{\"auth\": \"{secret}\"}}}}}}", registry.host());
        fs::write(&logins, text).unwrap();
    };
    let authfile = logins.display().to_string();
    let pull = |options: &[&str]| {
        home.unlade(["--format", "json", "pull", &reference, "--authfile", &authfile])
            .args(options)
    };

    login("YWxpY2U6d3Jvbmc=");
    let wrong = pull(&ca).run().failure(4);
    assert_eq!(wrong.error()["class"], "auth", "{wrong}");

    login("YWxpY2U6aHVudGVyMg==");
    // On this machine it is https only if something says so.
    fs::create_dir_all(home.path("certs.d").join(registry.host())).unwrap();
    let unrelated = home.path("certs.d").join(registry.host()).join("other.crt");
    Authority::new().write(&unrelated);
    let unknown = pull(&["--retries", "1"]).run().failure(5);
    let error = unknown.error();
    assert_eq!(error["class"], "network", "{unknown}");
    assert!(
        error["message"].as_str().unwrap().contains(&registry.host()),
        "{unknown}"
    );
    assert!(unknown.stderr.contains("certificate"), "{unknown}");
    fs::remove_file(&unrelated).unwrap();

    let pulled = home.pull_with(&reference, &["--authfile", &authfile, ca[0], ca[1]]);
    assert_eq!(pulled.manifest, image.digest().to_string());
    let again = as_alice(&home, &reference, "hunter2").args(["--policy", "always"]);
    again.args(ca).run().success();
}

/// Lets the pulls of this home ask a mirror before the registry itself.
fn use_mirror(home: &Home, registry: &str, mirror: &str) {
    let directory = home.path("certs.d").join(registry);
    fs::create_dir_all(&directory).unwrap();
    let text = format!("server = \"http://{registry}\"\n\n[host.\"http://{mirror}\"]\n");
    fs::write(directory.join("hosts.toml"), text).unwrap();
}

/// An image with one layer that no pull gets through before the test has had its say, as a cache has it.
fn fat_image() -> (Layer, Image) {
    let layer = fat_layer("fat", FAT);
    let image = image_of(&layer);
    (layer, image)
}

fn assert_has_fat_file(pulled: &Pulled) {
    let file = fs::read(pulled.directories[0].join("fat")).unwrap();
    assert!(file == noise("fat", FAT), "the file is another one");
}

#[test]
fn real_cache_serves_what_it_has_when_the_registry_is_gone() {
    let mut registry = RealRegistry::start();
    let image = fixtures::web();
    let reference = registry.push("app", "1", &image);
    let cache = RealRegistry::start_cache_of(&registry.host());
    let first = Home::new();
    use_mirror(&first, &registry.host(), &cache.host());
    let pulled = first.pull(&reference);
    // The cache keeps what it passes on a moment later than the client has it.
    wait_until("the cache has every blob", || {
        image.blobs().keys().all(|digest| cache.has_blob(digest))
    });

    registry.stop();
    let second = Home::new();
    use_mirror(&second, &registry.host(), &cache.host());
    let from_cache = second.pull(&reference);
    assert_eq!(from_cache.manifest, image.digest().to_string());
    assert_eq!(from_cache.merged(), pulled.merged());
    let nowhere = Home::new().unlade(["--format", "json", "pull", &reference, "--retries", "1"]);
    assert_eq!(nowhere.run().failure(5).error()["class"], "network");
}

#[test]
fn real_cache_that_goes_away_within_a_blob_is_replaced_by_the_registry() {
    let registry = RealRegistry::start();
    let (layer, image) = fat_image();
    let reference = registry.push("app", "1", &image);
    let mut cache = RealRegistry::start_cache_of(&registry.host());
    let valve = Valve::start(&cache.host());
    let first = Home::new();
    use_mirror(&first, &registry.host(), &cache.host());
    first.pull(&reference);
    wait_until("the cache has the layer", || cache.has_blob(&layer.digest));

    let home = Home::new();
    use_mirror(&home, &registry.host(), &valve.host());
    valve.hold_after(HELD);
    let pull = home.unlade(["--format", "json", "pull", &reference]).start();
    wait_until("some of the layer is there", || ingested(&home) >= HELD / 2);
    cache.stop();
    valve.open();
    let finished = pull.wait_within(SOON).success();
    let passed_over = format!("{} is passed over for {}", valve.host(), registry.host());
    assert!(finished.stderr.contains(&passed_over), "{finished}");
    assert!(valve.passed() < layer.size(), "the registry had nothing to add");
    let pulled = Pulled::of(&finished.json());
    assert_eq!(pulled.manifest, image.digest().to_string());
    assert_has_fat_file(&pulled);
    home.leftovers().assert_nothing_half_done();
}

#[test]
fn real_cache_whose_registry_goes_away_within_a_blob() {
    let mut registry = RealRegistry::start();
    let (layer, image) = fat_image();
    let reference = registry.push("app", "1", &image);
    let behind = Valve::start(&registry.host());
    let cache = RealRegistry::start_cache_of(&behind.host());
    let before = Valve::start(&cache.host());
    let home = Home::new();
    use_mirror(&home, &registry.host(), &before.host());

    behind.hold_after(HELD);
    let options = ["--format", "json", "pull", &reference, "--retries", "1"];
    let pull = home.unlade(options).start();
    wait_until("some of the layer is there", || ingested(&home) >= HELD / 2);
    registry.stop();
    behind.open();
    let failed = pull.wait_within(SOON).failure(5);
    let error = failed.error();
    assert_eq!(error["class"], "network", "{failed}");
    // Both servers, each with what it did.
    let cause = error["causes"][0].as_str().unwrap();
    let expected = format!(
        "none of the 2 servers for {} could give it: {}: ",
        registry.host(),
        before.host()
    );
    assert!(cause.starts_with(&expected), "{failed}");
    assert!(cause.contains("no connection could be made"), "{failed}");
    assert!(home.images().is_empty() && !home.has_blob(&layer.digest));
    // What has come is kept, but for the error that the cache has written into the blob in place of the rest of it.
    let kept = ingested(&home);
    assert!(kept >= HELD / 2, "{kept}");
    let ingest = home.store().join("ingest").join(&home.leftovers().ingest[0]);
    assert!(layer.bytes.starts_with(&fs::read(ingest).unwrap()), "{}", cache.log());
    let before_that = before.passed();

    registry.start_again();
    let pulled = home.pull(&reference);
    assert_eq!(pulled.manifest, image.digest().to_string());
    assert_has_fat_file(&pulled);
    home.leftovers().assert_nothing_half_done();
    // A cache sends what it does not have from its first byte on, whatever is asked for; and nobody asks it twice.
    let moved = before.passed() - before_that;
    assert!(
        moved <= layer.size() * 105 / 100,
        "{moved} bytes of {}: {}",
        layer.size(),
        cache.log()
    );
}

#[test]
fn real_cache_continues_a_blob_that_it_has() {
    let registry = RealRegistry::start();
    let (layer, image) = fat_image();
    let reference = registry.push("app", "1", &image);
    let cache = RealRegistry::start_cache_of(&registry.host());
    let first = Home::new();
    use_mirror(&first, &registry.host(), &cache.host());
    first.pull(&reference);
    wait_until("the cache has the layer", || cache.has_blob(&layer.digest));

    let valve = Valve::start(&cache.host());
    let home = Home::new();
    use_mirror(&home, &registry.host(), &valve.host());
    valve.hold_after(HELD);
    let pull = home.unlade(["pull", &reference]).start();
    wait_until("some of the layer is there", || ingested(&home) >= HELD / 2);
    pull.kill().killed();
    valve.open();
    let pulled = home.pull(&reference);
    assert_eq!(pulled.manifest, image.digest().to_string());
    assert_has_fat_file(&pulled);
    home.leftovers().assert_nothing_half_done();
    let (passed, size) = (valve.passed(), layer.size());
    assert!(passed <= size * 105 / 100, "{passed} bytes of {size}: {}", cache.log());
    assert!(cache.log().contains("HTTP/1.1\" 206 "), "{}", cache.log());
}

#[test]
fn real_registry_that_sends_its_clients_to_nginx_for_blobs() {
    let nginx = Nginx::start();
    let valve = Valve::start(&nginx.host());
    let registry = RealRegistry::start_with_password_and_blobs_at(&valve.host());
    nginx.serve(&registry.data());
    let (layer, image) = fat_image();
    let reference = registry.push("team/app", "1", &image);
    let path = |digest: &Digest| {
        let hex = digest.hex();
        format!("/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2])
    };
    let of_layer = || {
        let mut served = nginx.served();
        served.retain(|request| request.path == path(&layer.digest));
        served
    };
    let pushed = nginx.served().len();

    let home = Home::new();
    valve.hold_after(HELD);
    let pull = as_alice(&home, &reference, "hunter2").args(["--ranges", "1"]).start();
    wait_until("some of the layer is there", || ingested(&home) >= HELD / 2);
    pull.kill().killed();
    valve.open();
    wait_until("nginx has told of it", || !of_layer().is_empty());
    assert!(
        of_layer().iter().all(|request| request.range.is_none()),
        "{:?}",
        of_layer()
    );
    let before = of_layer().len();
    let kept = ingested(&home);

    let finished = as_alice(&home, &reference, "hunter2").args(["--ranges", "1"]).run();
    let pulled = Pulled::of(&finished.success().json());
    assert_eq!(pulled.manifest, image.digest().to_string());
    assert_has_fat_file(&pulled);
    wait_until("nginx has told of the rest", || of_layer().len() > before);
    let rest = of_layer().split_off(before);
    assert_eq!(rest.len(), 1, "{rest:?}");
    assert_eq!(rest[0].status, "206");
    assert_eq!(rest[0].range, Some(format!("bytes={kept}-")), "{rest:?}");

    let served = nginx.served();
    assert!(
        served.len() > pushed + 2,
        "the configuration comes from there, too: {served:?}"
    );
    assert!(
        served
            .iter()
            .any(|request| request.path == path(&image.config_descriptor().digest))
    );
    assert!(
        served[pushed..].iter().all(|request| request.authorization.is_none()),
        "{served:?}"
    );
}

#[test]
fn real_nginx_gives_a_large_blob_in_ranges() {
    let nginx = Nginx::start();
    let registry = RealRegistry::start_with_password_and_blobs_at(&nginx.host());
    nginx.serve(&registry.data());
    // As much as ranges are worth it for.
    let layer = fat_layer("fat", 72 << 20);
    let image = image_of(&layer);
    let reference = registry.push("team/app", "1", &image);
    let pushed = nginx.served().len();

    let home = Home::new();
    let pulled = as_alice(&home, &reference, "hunter2").run().success();
    assert_eq!(Pulled::of(&pulled.json()).manifest, image.digest().to_string());
    home.leftovers().assert_nothing_half_done();
    let hex = layer.digest.hex();
    let parts = || {
        let mut served = nginx.served().split_off(pushed);
        served.retain(|request| request.path.contains(hex));
        served
    };
    let bytes = || parts().iter().map(|part| part.bytes).sum::<u64>();
    wait_until("nginx has told of all", || bytes() >= layer.size());
    assert!(bytes() <= layer.size() * 105 / 100, "{:?}", parts());
    assert!(parts().len() > 4, "{:?}", parts());
    for part in parts() {
        assert!(part.status == "206" && part.range.is_some(), "{part:?}");
        assert_eq!(part.authorization, None);
    }
}
