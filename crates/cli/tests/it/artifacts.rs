//! What is in a registry and is no image: pulled, listed, shown, removed.

use serde_json::{Value, json};
use unlade_oci::Digest;
use unlade_test_support::{FakeRegistry, Fault};

use crate::sandbox::{Sandbox, image, registry};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &[u8] = br#"{"name": "app", "version": "1"}"#;
const CHART: &[u8] = b"not a tar archive at all";

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::sha256(bytes).to_string(), "size": bytes.len()})
}

/// Pushes a chart as helm does: a configuration of its own type and one archive. Returns the manifest's digest.
fn push_chart(registry: &FakeRegistry) -> Digest {
    registry.push_blob("charts/app", CONFIG);
    registry.push_blob("charts/app", CHART);
    let mut layer = descriptor("application/vnd.cncf.helm.chart.content.v1.tar+gzip", CHART);
    layer["annotations"] = json!({"org.opencontainers.image.title": "app-1.tgz"});
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("application/vnd.cncf.helm.config.v1+json", CONFIG),
        "layers": [layer],
        "annotations": {"who": "somebody"},
    });
    let digest = registry.push_manifest("charts/app", MANIFEST, manifest.to_string());
    registry.tag("charts/app", "1", &digest);
    digest
}

/// Pushes an artifact with the empty configuration, which the registry does not even have.
fn push_empty(registry: &FakeRegistry) -> Digest {
    registry.push_blob("models/m", &b"weights"[..]);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": "application/vnd.example.model",
        "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [descriptor("application/octet-stream", b"weights"), descriptor("application/octet-stream", b"weights")],
    });
    let digest = registry.push_manifest("models/m", MANIFEST, manifest.to_string());
    registry.tag("models/m", "1", &digest);
    digest
}

#[test]
fn a_chart_is_kept_as_blobs() {
    let (sandbox, registry) = (Sandbox::new(), FakeRegistry::start());
    let digest = push_chart(&registry);
    let reference = registry.reference("charts/app", "1");

    let ran = sandbox.run(&format!("pull {reference} --progress none"));
    assert_eq!(ran.code, Some(8), "{}", ran.stderr);
    insta::assert_snapshot!(sandbox.steady(&ran.stderr, &registry), @r#"
    error: REGISTRY/charts/app:1 is not an image that can be used
      caused by: this is not a container image but an artifact of type "application/vnd.cncf.helm.config.v1+json"
    hint: `unlade pull --artifact` keeps the blobs of an artifact
    "#);

    let pulled = sandbox.json(&format!("pull --artifact {reference} --format json"));
    assert_eq!(pulled[0]["digest"], digest.to_string());
    assert_eq!(pulled[0]["artifact_type"], "application/vnd.cncf.helm.config.v1+json");
    assert_eq!(
        (&pulled[0]["annotations"]["who"], &pulled[0]["asked_registry"]),
        (&"somebody".into(), &true.into())
    );
    let blob = &pulled[0]["blobs"][0];
    assert_eq!(blob["title"], "app-1.tgz");
    assert_eq!(std::fs::read(blob["path"].as_str().unwrap()).unwrap(), CHART);
    assert!(sandbox.entries("layers").is_empty() && sandbox.entries("ingest").is_empty());

    // It is complete now, so nobody is asked.
    registry.clear();
    let text = sandbox.ok(&format!("pull --artifact {reference}"));
    assert_eq!(text.lines().next().unwrap(), format!("{reference}@{digest}"));
    assert_eq!(text.lines().count(), 2);
    assert!(registry.requests().is_empty());
    sandbox.ok(&format!("pull --artifact --policy always {reference}"));
    assert_eq!(registry.requests().len(), 1, "only what the name stands for");

    let shown = sandbox.ok("images");
    let cells: Vec<_> = shown.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(cells[1..4], ["1", &digest.hex()[..12], "artifact"]);
    let listed = sandbox.json("images --format json");
    assert_eq!(listed[0]["artifact_type"], "application/vnd.cncf.helm.config.v1+json");
    assert_eq!(
        (&listed[0]["platform"], &listed[0]["layers"]),
        (&Value::Null, &1.into())
    );
    let inspected = sandbox.json(&format!("inspect {reference}"));
    assert_eq!(inspected[0]["Unlade"]["Artifact"]["blobs"][0]["title"], "app-1.tgz");
    let by_digest = sandbox.json(&format!("inspect {}/charts/app@{digest}", registry.host()));
    assert_eq!(by_digest[0]["Id"], digest.to_string());
    let ran = sandbox.run(&format!("inspect --platform linux/amd64 {reference}"));
    assert_eq!(ran.code, Some(8));
    assert!(
        ran.stderr
            .contains("is an artifact of type application/vnd.cncf.helm.config.v1+json, not an image"),
        "{}",
        ran.stderr
    );

    let index: Value = std::fs::read_to_string(sandbox.path("store/index.json"))
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(index["manifests"][0]["digest"], digest.to_string());

    sandbox.ok("verify --deep");
    let path = blob["path"].as_str().unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::write(path, vec![b'x'; CHART.len()]).unwrap();
    assert_eq!(
        sandbox.run("verify --deep").code,
        Some(12),
        "what the blobs are is checked"
    );
    sandbox.ok("verify --deep --repair");
    assert_eq!(std::fs::read(path).unwrap(), CHART, "it was fetched again");
    std::fs::remove_file(path).unwrap();
    let glance = sandbox.run("verify");
    assert_eq!(glance.code, Some(12), "{glance:?}");
    assert!(glance.stdout.contains("is missing (in "), "{glance:?}");
    assert!(glance.stderr.contains("`unlade pull --artifact`"), "{glance:?}");
    sandbox.ok(&format!("pull --artifact {reference}"));
    assert_eq!(std::fs::read(path).unwrap(), CHART);

    let removed = sandbox.json(&format!("rm {reference} --format json"));
    assert_eq!(removed[0]["artifacts"], json!([reference]));
    assert_eq!(removed[0]["blobs"].as_array().unwrap().len(), 3);
    assert!(sandbox.entries("blobs/sha256").is_empty());
    assert_eq!(sandbox.run(&format!("rm {reference}")).code, Some(3));
}

#[test]
fn the_empty_configuration_needs_no_registry() {
    let (sandbox, registry) = (Sandbox::new(), FakeRegistry::start());
    push_empty(&registry);
    let reference = registry.reference("models/m", "1");
    let pulled = sandbox.json(&format!("pull --artifact {reference} --format json"));
    assert_eq!(pulled[0]["artifact_type"], "application/vnd.example.model");
    let path = pulled[0]["config"]["path"].as_str().unwrap();
    assert_eq!(std::fs::read_to_string(path).unwrap(), "{}");
    assert_eq!(
        registry.requests().len(),
        2,
        "the manifest, and one blob that is listed twice"
    );
}

#[test]
fn wrong_bytes_are_not_kept_and_a_cut_is_continued() {
    let (sandbox, registry) = (Sandbox::new(), FakeRegistry::start());
    push_chart(&registry);
    let reference = registry.reference("charts/app", "1");
    let blob = Digest::sha256(CHART);
    registry.fault(Fault::on_blob(&blob).corrupt_at(3));
    let ran = sandbox.run(&format!("pull --artifact {reference}"));
    assert_eq!(ran.code, Some(7), "{}", ran.stderr);
    // The failure stops the other download, and what that has received by then is kept to be continued.
    for path in sandbox.entries("ingest") {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(name, format!("sha256-{}", Digest::sha256(CONFIG).hex()));
        assert!(CONFIG.starts_with(&std::fs::read(&path).unwrap()));
    }
    assert_eq!(sandbox.json("images --format json"), json!([]));
    registry.clear_faults();
    registry.fault(Fault::on_blob(&blob).nth(1).cut_after(5));
    sandbox.ok(&format!("pull --artifact {reference}"));
    assert_eq!(
        sandbox
            .run(&format!(
                "pull --artifact --policy never {}",
                registry.reference("charts/app", "2")
            ))
            .code,
        Some(3)
    );
}

#[test]
fn an_image_may_be_kept_as_blobs_too() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let reference = registry.reference("x", "1");
    let pulled = sandbox.json(&format!("pull --artifact {reference} --format json"));
    assert_eq!(pulled[0]["digest"], image().digest.to_string());
    assert_eq!(pulled[0]["blobs"].as_array().unwrap().len(), 2);
    // And pulled as what it is: the blobs are there.
    sandbox.ok(&format!("pull {reference}"));
    assert_eq!(sandbox.ok("images").lines().count(), 3);
    sandbox.ok(&format!("rm {reference}"));
    assert!(sandbox.entries("blobs/sha256").is_empty(), "both go by their name");
}
