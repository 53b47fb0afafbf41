//! The fake registry: the protocol, its faults, its authentication.

use std::thread;
use std::time::{Duration, Instant};

use unlade_oci::{Compression, Digest};
use unlade_test_support::{
    FakeRegistry, Fault, Gate, Image, ImageBuilder, LayerBuilder, TokenAuth, TokenFields, write_layout,
};

use crate::client::{get, get_with, send};

fn image() -> Image {
    ImageBuilder::new()
        .layer(LayerBuilder::new().file("a", "a").build(Compression::Gzip))
        .build()
}

/// A registry with one blob of 100,000 different bytes.
fn with_blob() -> (FakeRegistry, Digest, String, Vec<u8>) {
    let registry = FakeRegistry::start();
    let bytes: Vec<u8> = (0..100_000_u32).flat_map(|number| [number.to_le_bytes()[0]]).collect();
    let digest = registry.push_blob("r", bytes.clone());
    let path = format!("/v2/r/blobs/{digest}");
    (registry, digest, path, bytes)
}

#[test]
fn manifests_and_tags() {
    let registry = FakeRegistry::start();
    let image = image();
    for tag in ["a", "b", "c"] {
        registry.push("team/app", tag, &image);
    }
    let host = registry.host();

    assert_eq!(get(&host, "/v2/").status, 200);
    let manifest = get(&host, "/v2/team/app/manifests/a");
    assert_eq!(manifest.body, image.manifest);
    assert_eq!(
        manifest.header("docker-content-digest"),
        Some(image.digest.to_string().as_str())
    );
    assert_eq!(manifest.header("content-type"), Some(image.media_type.as_str()));
    let head = send(
        &host,
        "HEAD",
        &format!("/v2/team/app/manifests/{}", image.digest),
        &[],
        "",
    )
    .unwrap();
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(
        head.header("content-length"),
        Some(image.manifest.len().to_string().as_str())
    );
    let refused = get_with(&host, "/v2/team/app/manifests/a", &[("accept", "application/json")]);
    assert_eq!(
        (refused.status, &refused.json()["errors"][0]["code"]),
        (404, &"MANIFEST_UNKNOWN".into())
    );
    assert_eq!(
        get(&host, "/v2/other/manifests/a").json()["errors"][0]["code"],
        "NAME_UNKNOWN"
    );

    let page = get(&host, "/v2/team/app/tags/list?n=2");
    assert_eq!(page.json()["tags"], serde_json::json!(["a", "b"]));
    let link = page.header("link").unwrap();
    assert_eq!(link, "</v2/team/app/tags/list?n=2&last=b>; rel=\"next\"");
    let last = get(&host, "/v2/team/app/tags/list?n=2&last=b");
    assert_eq!(last.json()["tags"], serde_json::json!(["c"]));
    assert_eq!(last.header("link"), None);
}

#[test]
fn ranges_and_records() {
    let (registry, digest, path, bytes) = with_blob();
    let host = registry.host();
    let whole = get(&host, &path);
    assert_eq!((whole.status, &whole.body), (200, &bytes));
    let part = get_with(&host, &path, &[("range", "bytes=99990-")]);
    assert_eq!((part.status, part.body.as_slice()), (206, &bytes[99_990..]));
    assert_eq!(part.header("content-range"), Some("bytes 99990-99999/100000"));
    assert_eq!(get_with(&host, &path, &[("range", "bytes=5-8")]).body, &bytes[5..9]);
    assert_eq!(get_with(&host, &path, &[("range", "bytes=-3")]).body, &bytes[99_997..]);
    assert_eq!(get_with(&host, &path, &[("range", "bytes=100000-")]).status, 416);

    let seen = registry.requests();
    assert_eq!(seen.len(), 5);
    assert_eq!((seen[0].range.as_deref(), seen[0].body_bytes_sent), (None, 100_000));
    assert_eq!(
        (seen[1].range.as_deref(), seen[1].status, seen[1].body_bytes_sent),
        (Some("bytes=99990-"), 206, 10)
    );
    assert_eq!(seen[0].host.as_deref(), Some(host.as_str()));
    assert_eq!(registry.blob_bytes_served(&digest), 100_017);
    registry.clear();
    assert!(registry.requests().is_empty());
}

#[test]
fn a_layout_is_served_from_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let image = image();
    write_layout(dir.path(), &[("v1", &image)]).unwrap();
    let registry = FakeRegistry::start();
    registry.serve_layout(dir.path(), "app").unwrap();
    assert_eq!(get(&registry.host(), "/v2/app/manifests/v1").body, image.manifest);
    let layer = &image.layers[0];
    let part = get_with(
        &registry.host(),
        &format!("/v2/app/blobs/{layer}"),
        &[("range", "bytes=3-")],
    );
    assert_eq!(part.body, image.blobs[layer][3..]);
}

#[test]
fn faults_on_the_body() {
    let (registry, digest, path, bytes) = with_blob();
    let host = registry.host();
    let fetch = |fault: Fault| {
        registry.clear_faults();
        registry.fault(fault);
        get_with(&host, &path, &[("range", "bytes=10-")])
    };
    let blob = || Fault::on_blob(&digest);

    let cut = fetch(blob().cut_after(1000));
    assert_eq!(cut.body, &bytes[10..1010]);
    assert_eq!(cut.header("content-length"), Some("99990"));
    assert_eq!(fetch(blob().cut_after(0)).body, b"");
    let flipped = fetch(blob().corrupt_at(12)).body;
    assert_eq!(
        (flipped[1], flipped[2], flipped[3]),
        (bytes[11], bytes[12] ^ 1, bytes[13])
    );
    let whole = fetch(blob().ignore_range());
    assert_eq!((whole.status, whole.body.len()), (200, 100_000));
    let lying = fetch(blob().content_range("bytes 0-5/6"));
    assert_eq!(
        (lying.status, lying.header("content-range")),
        (206, Some("bytes 0-5/6"))
    );
    assert_eq!(fetch(blob().declare_length(7)).body, &bytes[10..17]);
    let long = fetch(blob().declare_length(200_000));
    assert_eq!(
        (long.header("content-length"), long.body.len()),
        (Some("200000"), 99_990)
    );
    let chunked = fetch(blob().without_header("content-length"));
    assert_eq!(
        (chunked.header("content-length"), chunked.header("transfer-encoding")),
        (None, Some("chunked"))
    );
    assert_eq!(fetch(blob().content("0123456789abc")).body, b"abc");
    let page = fetch(blob().html());
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, Some("text/html; charset=utf-8"))
    );
    let started = Instant::now();
    assert_eq!(
        fetch(blob().trickle(50_000, Duration::from_millis(30))).body.len(),
        99_990
    );
    assert!(started.elapsed() >= Duration::from_millis(60));
}

#[test]
fn faults_strike_when_told() {
    let (registry, digest, path, _) = with_blob();
    let host = registry.host();
    registry.fault(Fault::on_blob(&digest).nth(2).status(429).header("retry-after", "7"));
    registry.fault(Fault::on_blobs().from(4).no_response());
    registry.fault(Fault::on_manifests().status(500));
    assert_eq!(get(&host, &path).status, 200);
    let limited = get(&host, &path);
    assert_eq!((limited.status, limited.header("retry-after")), (429, Some("7")));
    assert_eq!(limited.json()["errors"][0]["code"], "TOOMANYREQUESTS");
    assert_eq!(get(&host, &path).status, 200);
    assert!(send(&host, "GET", &path, &[], "").is_none());
    registry.clear_faults();
    registry.fault(Fault::on_blobs().method("HEAD").status(405));
    assert_eq!(send(&host, "HEAD", &path, &[], "").unwrap().status, 405);
    assert_eq!(get(&host, &path).status, 200);
}

#[test]
fn a_gate_holds_exactly_until_it_opens() {
    let (registry, digest, path, bytes) = with_blob();
    let gate = Gate::new();
    registry.fault(Fault::on_blob(&digest).hold_after(60_000, &gate));
    let host = registry.host();
    let client = thread::spawn(move || get(&host, &path).body);
    assert!(gate.wait_reached(Duration::from_secs(10)));
    assert_eq!(registry.blob_bytes_served(&digest), 60_000);
    gate.open();
    assert_eq!(client.join().unwrap(), bytes);
}

#[test]
fn a_stall_does_not_outlive_the_registry() {
    let (registry, digest, path, bytes) = with_blob();
    registry.fault(Fault::on_blob(&digest).stall_after(10));
    let host = registry.host();
    let client = thread::spawn(move || get(&host, &path).body);
    while registry.blob_bytes_served(&digest) < 10 {
        thread::sleep(Duration::from_millis(1));
    }
    drop(registry);
    assert_eq!(client.join().unwrap(), &bytes[..10]);
}

#[test]
fn redirects_with_signatures_that_expire() {
    let (storage, digest, path, bytes) = with_blob();
    storage.require_signature(Some(1));
    assert_eq!(get(&storage.host(), &path).status, 403);
    let registry = FakeRegistry::start();
    registry.fault(Fault::on_blob(&digest).redirect_presigned(307, &storage));
    let locate = || {
        let answer = get(&registry.host(), &path);
        assert_eq!(answer.status, 307);
        answer
            .header("location")
            .unwrap()
            .strip_prefix(&storage.url())
            .unwrap()
            .to_owned()
    };
    let first = locate();
    assert_eq!(get(&storage.host(), &first).body, bytes);
    assert_eq!(get(&storage.host(), &first).status, 403);
    let second = locate();
    assert_ne!(first, second);
    storage.expire_signatures();
    assert_eq!(get(&storage.host(), &second).status, 403);
    assert_eq!(get(&storage.host(), &locate()).status, 200);
}

#[test]
fn tokens() {
    let (registry, digest, path, _) = with_blob();
    let host = registry.host();
    let auth = TokenAuth::new()
        .user("alice", "secret")
        .refresh_token("identity")
        .fields(TokenFields::AccessToken);
    registry.require_token(auth.clone());
    let challenge = get(&host, &path);
    assert_eq!(challenge.status, 401);
    let expected =
        format!("Bearer realm=\"http://{host}/token\",service=\"fake-registry\",scope=\"repository:r:pull\"");
    assert_eq!(challenge.header("www-authenticate"), Some(expected.as_str()));

    let asked = "/token?service=fake-registry&scope=repository:r:pull";
    assert_eq!(get(&host, asked).status, 401);
    // "alice:secret"
    let granted = get_with(&host, asked, &[("authorization", "Basic YWxpY2U6c2VjcmV0")]).json();
    assert_eq!(
        (&granted["expires_in"], &granted["token"]),
        (&300.into(), &serde_json::Value::Null)
    );
    let bearer = format!("Bearer {}", granted["access_token"].as_str().unwrap());
    assert_eq!(get_with(&host, &path, &[("authorization", &bearer)]).status, 200);

    let form = "grant_type=refresh_token&refresh_token=identity&scope=repository%3Aother%3Apull";
    let other = send(&host, "POST", "/token", &[], form).unwrap().json();
    let other = format!("Bearer {}", other["access_token"].as_str().unwrap());
    let refused = get_with(&host, &path, &[("authorization", &other)]);
    assert!(
        refused
            .header("www-authenticate")
            .unwrap()
            .ends_with("error=\"insufficient_scope\"")
    );

    registry.fault(Fault::on_blob(&digest).nth(1).unauthorized());
    assert_eq!(get_with(&host, &path, &[("authorization", &bearer)]).status, 401);
    assert_eq!(get_with(&host, &path, &[("authorization", &bearer)]).status, 200);
    auth.revoke();
    assert_eq!(get_with(&host, &path, &[("authorization", &bearer)]).status, 401);
    assert_eq!(auth.tokens_issued(), 2);
    assert_eq!(
        registry.requests().last().unwrap().authorization.as_deref(),
        Some("Bearer")
    );
}

#[test]
fn a_realm_elsewhere_and_many_challenges() {
    let (registry, _, path, _) = with_blob();
    let issuer = FakeRegistry::start();
    let auth = TokenAuth::new()
        .valid_uses(1)
        .extra_challenge("Basic realm=\"b\"")
        .realm(&issuer.token_url());
    registry.require_token(auth.clone());
    issuer.serve_tokens(auth);
    let token = get(&issuer.host(), "/token?scope=repository:r:pull").json()["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let bearer = [("authorization", &*format!("Bearer {token}"))];
    assert_eq!(get_with(&registry.host(), &path, &bearer).status, 200);
    let spent = get_with(&registry.host(), &path, &bearer);
    assert_eq!(
        (spent.status, spent.header("www-authenticate")),
        (401, Some("Basic realm=\"b\""))
    );
}

#[test]
fn basic() {
    let (registry, _, path, _) = with_blob();
    registry.require_basic("alice", "secret");
    assert_eq!(
        get(&registry.host(), "/v2/").header("www-authenticate"),
        Some("Basic realm=\"fake-registry\"")
    );
    let allowed = get_with(&registry.host(), &path, &[("authorization", "Basic YWxpY2U6c2VjcmV0")]);
    assert_eq!(allowed.status, 200);
}
