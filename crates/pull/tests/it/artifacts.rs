//! Artifacts: what is left of a pull that failed, and wrong bytes.

use std::time::Duration;

use unlade_blobs::Begin;
use unlade_oci::{Digest, ErrorClass};
use unlade_pull::{Error, Options, PulledArtifact};
use unlade_reference::Reference;
use unlade_test_support::{FakeRegistry, Fault, Gate};

use crate::support::Home;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &[u8] = br#"{"name": "app", "version": "1"}"#;
pub(crate) const CHART: &[u8] = b"not a tar archive at all";

/// Pushes an artifact of two blobs. Returns the reference.
pub(crate) fn push_chart(registry: &FakeRegistry) -> Reference {
    let descriptor = |bytes: &[u8]| {
        let (digest, size) = (Digest::sha256(bytes), bytes.len());
        format!(r#"{{"mediaType": "application/x", "digest": "{digest}", "size": {size}}}"#)
    };
    registry.push_blob("app", CONFIG);
    registry.push_blob("app", CHART);
    let (config, chart) = (descriptor(CONFIG), descriptor(CHART));
    let manifest =
        format!(r#"{{"schemaVersion": 2, "mediaType": "{MANIFEST}", "config": {config}, "layers": [{chart}]}}"#);
    let digest = registry.push_manifest("app", MANIFEST, manifest);
    registry.tag("app", "1", &digest);
    registry.reference("app", "1").parse().unwrap()
}

async fn pull(home: &Home, reference: &Reference) -> Result<Vec<PulledArtifact>, Error> {
    let references = std::slice::from_ref(reference);
    home.puller().pull_artifacts(references, &Options::default()).await
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Lets the chart be wrong, but not before `condition`.
async fn fail_after(home: &Home, registry: &FakeRegistry, reference: &Reference, condition: impl Fn() -> bool) {
    let gate = Gate::new();
    let chart = Fault::on_blob(&Digest::sha256(CHART));
    registry.fault(chart.corrupt_at(3).hold_after(3, &gate));
    let met = async {
        until(condition).await;
        gate.open();
    };
    let (pulled, ()) = tokio::join!(pull(home, reference), met);
    assert_eq!(pulled.unwrap_err().class(), ErrorClass::Integrity);
    registry.clear_faults();
    registry.clear();
}

#[tokio::test]
async fn wrong_bytes_are_not_kept_and_nothing_else_is_left() {
    let (home, registry) = (Home::new(), FakeRegistry::start());
    let reference = push_chart(&registry);
    let config = Digest::sha256(CONFIG);
    fail_after(&home, &registry, &reference, || {
        home.store.blobs().contains(&config).unwrap()
    })
    .await;
    assert!(home.partial_downloads().is_empty() && home.stray_files().is_empty());
    assert_eq!(home.store.artifacts().unwrap(), []);

    pull(&home, &reference).await.unwrap();
    let asked: Vec<_> = registry.requests().into_iter().map(|request| request.path).collect();
    assert!(
        asked.iter().all(|path| !path.ends_with(&config.to_string())),
        "{asked:?}"
    );
    assert!(home.partial_downloads().is_empty());
}

#[tokio::test]
async fn what_other_blobs_have_received_by_then_is_continued() {
    let (home, registry) = (Home::new(), FakeRegistry::start());
    let reference = push_chart(&registry);
    let config = Digest::sha256(CONFIG);
    let gate = Gate::new();
    registry.fault(Fault::on_blob(&config).hold_after(10, &gate));
    let received = || home.store.blobs().ingest(&config).unwrap().map(|ingest| ingest.bytes);
    fail_after(&home, &registry, &reference, || received() == Some(10)).await;
    gate.open();
    assert_eq!(home.partial_downloads().len(), 1, "{:?}", home.partial_downloads());
    assert_eq!(received(), Some(10));

    pull(&home, &reference).await.unwrap();
    let requests = registry.requests();
    let rest = requests
        .iter()
        .find(|request| request.path.ends_with(&config.to_string()));
    assert_eq!(rest.unwrap().range.as_deref(), Some("bytes=10-"));
    assert!(home.partial_downloads().is_empty());
}

#[tokio::test]
async fn a_bad_partial_blob_is_fetched_again_once() {
    let (home, registry) = (Home::new(), FakeRegistry::start());
    let reference = push_chart(&registry);
    let digest = Digest::sha256(CHART);
    let spoil = || {
        let begun = home.store.blobs().begin(&digest, CHART.len() as u64).unwrap();
        let Begin::Owned(mut ingest) = begun else {
            panic!("nobody else has the blob: {begun:?}");
        };
        ingest.append(b"not what").unwrap();
        ingest.append(b" it was").unwrap();
    };
    spoil();
    pull(&home, &reference).await.unwrap();
    let warnings = home.recorder.seen().warnings;
    assert!(
        warnings.len() == 1 && warnings[0].contains("fetched again"),
        "{warnings:?}"
    );
    home.store.blobs().verify(&digest).unwrap();

    // A registry that has nothing better is not asked without end.
    let (home, registry) = (Home::new(), FakeRegistry::start());
    let reference = push_chart(&registry);
    registry.fault(Fault::on_blob(&digest).corrupt_at(3));
    assert_eq!(
        pull(&home, &reference).await.unwrap_err().class(),
        ErrorClass::Integrity
    );
    let asked = registry.requests().into_iter();
    assert_eq!(
        asked
            .filter(|request| request.path.ends_with(&digest.to_string()))
            .count(),
        1
    );
}
