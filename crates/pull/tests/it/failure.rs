//! Pulls that fail, how they say so, and that nothing stays behind.

use std::time::Duration;

use unlade_oci::ErrorClass;
use unlade_pull::{Error, Options, Outcome, Stage};
use unlade_reference::Reference;
use unlade_test_support::{Compression, FakeRegistry, Fault, Gate, ImageBuilder, LayerBuilder};

use crate::support::{Home, fat_layer, serve, small_image};

/// Fails unless the store is as clean as before the pull, but for partial downloads.
fn assert_clean(home: &Home) {
    assert!(home.stray_files().is_empty(), "{:?}", home.stray_files());
    assert!(home.store.images().unwrap().is_empty());
    home.recorder.assert_balanced();
}

#[tokio::test]
async fn an_unknown_name_is_not_found() {
    let (registry, _) = serve(&small_image());
    let home = Home::new();
    for reference in [registry.reference("app", "none"), registry.reference("none", "latest")] {
        let error = home.pull(&reference).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::NotFound, "{error:?}");
        assert!(error.to_string().contains(&reference));
    }
    assert_clean(&home);
}

#[tokio::test]
async fn wrong_bytes_are_not_published() {
    let layer = fat_layer("file", 200_000);
    let (registry, reference) = serve(&ImageBuilder::new().layer(layer.clone()).build());
    registry.fault(Fault::on_blob(&layer.digest).corrupt_at(150_000));
    let home = Home::new();
    let error = home.pull(&reference).await.unwrap_err();
    assert!(
        matches!(error.class(), ErrorClass::Integrity | ErrorClass::Rejected),
        "{error:?}"
    );
    assert!(!home.store.blobs().contains(&layer.digest).unwrap());
    assert!(home.layer_directories().is_empty());
    assert!(
        home.partial_downloads().is_empty(),
        "bytes known to be wrong are not resumed"
    );
    assert_clean(&home);
}

#[tokio::test]
async fn wrong_bytes_of_an_uncompressed_layer_are_an_integrity_error() {
    let layer = LayerBuilder::new()
        .file("file", vec![7; 200_000])
        .build(Compression::None);
    let (registry, reference) = serve(&ImageBuilder::new().layer(layer.clone()).build());
    registry.fault(Fault::on_blob(&layer.digest).corrupt_at(150_000));
    let home = Home::new();
    let error = home.pull(&reference).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Integrity, "{error:?}");
    assert!(
        matches!(
            error,
            Error::Layer {
                stage: Stage::Commit,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(home.partial_downloads().is_empty());
    assert_clean(&home);
}

#[tokio::test]
async fn a_wrong_diff_id_is_an_integrity_error() {
    let layer = fat_layer("file", 1000);
    let other = fat_layer("other", 1000);
    let image = ImageBuilder::new()
        .layer(layer.clone())
        .diff_ids(&[other.diff_id])
        .build();
    let (_registry, reference) = serve(&image);
    let home = Home::new();
    let error = home.pull(&reference).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Integrity, "{error:?}");
    assert!(!home.store.blobs().contains(&layer.digest).unwrap());
    assert!(home.layer_directories().is_empty());
    assert_clean(&home);
}

#[tokio::test]
async fn one_blob_cannot_be_two_layers() {
    let layer = fat_layer("file", 1000);
    let other = fat_layer("other", 1000);
    let diff_ids = [layer.diff_id.clone(), other.diff_id];
    let image = ImageBuilder::new()
        .layers([layer.clone(), layer])
        .diff_ids(&diff_ids)
        .build();
    let (_registry, reference) = serve(&image);
    let home = Home::new();
    let error = home.pull(&reference).await.unwrap_err();
    assert!(matches!(error, Error::TwoContents { .. }), "{error:?}");
    assert_eq!(error.class(), ErrorClass::Integrity);
}

#[tokio::test]
async fn a_hostile_layer_stops_the_pull() {
    let home = Home::new();
    let hostile = LayerBuilder::new()
        .file("ok", "x")
        .file("../../escaped", "x")
        .build(Compression::Gzip);
    let image = ImageBuilder::new()
        .layer(fat_layer("good", 1000))
        .layer(hostile)
        .build();
    let (_registry, reference) = serve(&image);
    // A name with `..` is resolved inside the root: whatever becomes of it, it is not outside.
    let _outcome = home.pull(&reference).await;
    assert!(!home.directory.path().join("escaped").exists());
    assert!(!home.directory.path().join("staging/escaped").exists());

    let garbage = LayerBuilder::new().raw_bytes([b'x'; 1024]).build(Compression::Gzip);
    let (_registry, reference) = serve(&ImageBuilder::new().layer(garbage).build());
    let home = Home::new();
    let error = home.pull(&reference).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Rejected, "{error:?}");
    assert!(
        matches!(
            error,
            Error::Layer {
                stage: Stage::Extract,
                ..
            }
        ),
        "{error:?}"
    );
    assert_clean(&home);
}

#[tokio::test]
async fn the_layers_of_a_pull_have_a_limit_together() {
    let image = (0..3).fold(ImageBuilder::new(), |image, number| {
        image.layer(fat_layer(&format!("file{number}"), 100_000))
    });
    let (_registry, reference) = serve(&image.build());
    let pull = async |total| {
        let home = Home::new();
        let mut options = Options::default();
        options.limits.total_raw_bytes = Some(total);
        let outcome = home.pull_with(&reference, &options).await;
        (home, outcome)
    };
    // Three archives of a header, 100,000 bytes filled up to a block, and the end marker.
    let raw = 3 * (512 + 100_352 + 1024);
    pull(raw).await.1.unwrap();
    let (home, outcome) = pull(raw - 1).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Rejected, "{error:?}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("`total_raw_bytes` of 305663"), "{cause}");
    home.recorder.assert_balanced();
}

#[tokio::test]
async fn one_failure_stops_the_other_layers() {
    let bad = LayerBuilder::new().raw_bytes([b'x'; 1024]).build(Compression::None);
    let slow = fat_layer("slow", 500_000);
    let (registry, reference) = serve(&ImageBuilder::new().layer(bad.clone()).layer(slow.clone()).build());
    let (slow_gate, bad_gate) = (Gate::new(), Gate::new());
    registry.fault(Fault::on_blob(&slow.digest).hold_after(100_000, &slow_gate));
    registry.fault(Fault::on_blob(&bad.digest).hold_after(0, &bad_gate));
    let home = Home::new();
    // The bad layer arrives when part of the slow one is on the disk.
    let let_go = async {
        while home
            .store
            .blobs()
            .ingest(&slow.digest)
            .unwrap()
            .is_none_or(|ingest| ingest.bytes == 0)
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bad_gate.open();
    };
    let both = async { tokio::join!(home.pull(&reference), let_go) };
    let (pulled, ()) = tokio::time::timeout(Duration::from_mins(1), both).await.unwrap();
    let error = pulled.unwrap_err();
    assert!(
        matches!(&error, Error::Layer { digest, .. } if *digest == bad.digest),
        "{error:?}"
    );
    assert_clean(&home);
    let finished = home.recorder.seen().finished;
    assert!(finished.iter().any(|(_, outcome)| *outcome == Outcome::Stopped));
    assert_eq!(
        home.partial_downloads().len(),
        1,
        "what arrived of the slow layer is kept"
    );
    slow_gate.open();
}

#[tokio::test]
async fn what_is_complete_stays_though_another_layer_fails() {
    let (good, bad) = (fat_layer("good", 200_000), fat_layer("bad", 100_000));
    let (registry, reference) = serve(&ImageBuilder::new().layer(good.clone()).layer(bad.clone()).build());
    let home = Home::new();
    let gate = Gate::new();
    registry.fault(Fault::on_blob(&bad.digest).corrupt_at(50_000).hold_after(10, &gate));
    let good_is_there = async {
        while home.layer_directories().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        gate.open();
    };
    let (pulled, ()) = tokio::join!(home.pull(&reference), good_is_there);
    assert_eq!(pulled.unwrap_err().class(), ErrorClass::Integrity);
    assert!(home.partial_downloads().is_empty());
    home.store.blobs().verify(&good.digest).unwrap();

    registry.clear_faults();
    registry.clear();
    home.pull(&reference).await.unwrap();
    assert_eq!(registry.blob_bytes_served(&good.digest), 0);
    assert_eq!(registry.blob_bytes_served(&bad.digest), bad.size());
}

#[tokio::test]
async fn a_dropped_pull_is_resumed_where_it_was() {
    let layer = fat_layer("file", 1_000_000);
    let (registry, reference) = serve(&ImageBuilder::new().layer(layer.clone()).build());
    let gate = Gate::new();
    let sixty_percent = layer.size() * 6 / 10;
    registry.fault(Fault::on_blob(&layer.digest).nth(1).hold_after(sixty_percent, &gate));
    let home = Home::new();
    let partial = |home: &Home| {
        home.store
            .blobs()
            .ingest(&layer.digest)
            .unwrap()
            .map_or(0, |ingest| ingest.bytes)
    };
    {
        let pull = home.pull(&reference);
        tokio::pin!(pull);
        loop {
            assert!(
                tokio::time::timeout(Duration::from_millis(10), &mut pull)
                    .await
                    .is_err()
            );
            if partial(&home) >= sixty_percent {
                break;
            }
        }
    }
    gate.open();
    registry.clear();
    home.pull(&reference).await.unwrap();
    let resumed = registry.requests();
    let range = resumed.iter().find_map(|request| request.range.clone());
    assert_eq!(range, Some(format!("bytes={sixty_percent}-")), "{resumed:?}");
    let served = registry.blob_bytes_served(&layer.digest);
    assert!(
        served < layer.size() * 45 / 100,
        "{served} of {} bytes were served again",
        layer.size()
    );
    assert!(home.stray_files().is_empty());
}

#[tokio::test]
async fn a_cut_connection_does_not_disturb_the_extraction() {
    let layer = fat_layer("file", 1_000_000);
    let (registry, reference) = serve(&ImageBuilder::new().layer(layer.clone()).build());
    registry.fault(Fault::on_blob(&layer.digest).nth(1).cut_after(300_000));
    registry.fault(Fault::on_blob(&layer.digest).nth(2).cut_after(300_000));
    let home = Home::new();
    home.pull(&reference).await.unwrap();
    let served = registry.blob_bytes_served(&layer.digest);
    assert!(
        served <= layer.size() * 105 / 100,
        "{served} of {} bytes were served",
        layer.size()
    );
}

#[tokio::test]
async fn a_registry_without_ranges_sends_the_blob_again_and_that_is_fine() {
    let layer = fat_layer("file", 1_000_000);
    let (registry, reference) = serve(&ImageBuilder::new().layer(layer.clone()).build());
    registry.fault(Fault::on_blob(&layer.digest).nth(1).cut_after(300_000));
    registry.fault(Fault::on_blob(&layer.digest).from(2).ignore_range());
    let home = Home::new();
    home.pull(&reference).await.unwrap();
    assert!(registry.blob_bytes_served(&layer.digest) <= layer.size() + 310_000);
}

#[tokio::test]
async fn a_bad_partial_download_is_fetched_again_once() {
    let layer = fat_layer("file", 100_000);
    let (registry, reference) = serve(&ImageBuilder::new().layer(layer.clone()).build());
    let home = Home::new();
    let unlade_blobs::Begin::Owned(mut ingest) = home.store.blobs().begin(&layer.digest, layer.size()).unwrap() else {
        panic!("nobody else has the blob");
    };
    ingest.append(&vec![0; 40_000]).unwrap();
    drop(ingest);
    home.pull(&reference).await.unwrap();
    let warnings = home.recorder.seen().warnings;
    assert!(
        warnings.iter().any(|warning| warning.contains("fetched again")),
        "{warnings:?}"
    );
    assert!(registry.blob_bytes_served(&layer.digest) <= 2 * layer.size());
}

#[tokio::test]
async fn an_answer_that_ends_with_something_else_is_fetched_again_once() {
    let layer = fat_layer("file", 1_000_000);
    let (registry, reference) = serve(&ImageBuilder::new().layer(layer.clone()).build());
    let home = Home::new();
    // A part of the blob, then bytes of somebody else, then nothing.
    let spoilt = [&layer.bytes[..400_000], b"the upstream went away"].concat();
    let fault = Fault::on_blob(&layer.digest).nth(1).content(spoilt);
    registry.fault(fault.declare_length(layer.size()));
    home.pull(&reference).await.unwrap();
    let warnings = home.recorder.seen().warnings;
    assert!(
        warnings.len() == 1 && warnings[0].contains("fetched again"),
        "{warnings:?}"
    );
    assert_eq!(registry.blob_bytes_served(&layer.digest) / layer.size(), 2);

    // A server that says so in its own words costs nothing.
    let home = Home::new();
    registry.clear();
    registry.clear_faults();
    let error: &[u8] = br#"{"errors":[{"code":"UNKNOWN","message":"unknown error","detail":{}}]}"#;
    let spoilt = [&layer.bytes[..400_000], error].concat();
    let fault = Fault::on_blob(&layer.digest).nth(1).content(spoilt);
    registry.fault(fault.declare_length(layer.size()));
    home.pull(&reference).await.unwrap();
    assert_eq!(home.recorder.seen().warnings, [""; 0]);
    let served = registry.blob_bytes_served(&layer.digest);
    assert_eq!(served, layer.size() + error.len() as u64);
}

#[tokio::test]
async fn a_damaged_blob_in_the_store_is_fetched_again() {
    let layer = fat_layer("file", 100_000);
    let (_registry, reference) = serve(&ImageBuilder::new().layer(layer.clone()).build());
    let home = Home::new();
    let image = home.pull(&reference).await.unwrap().image;
    let path = home.store.blobs().path(&layer.digest);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[50_000] ^= 1;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    std::fs::remove_dir_all(image.layers[0].directory.as_ref().unwrap()).unwrap();
    home.pull(&reference).await.unwrap();
    home.store.blobs().verify(&layer.digest).unwrap();
}

#[tokio::test]
async fn a_pull_that_cannot_fit_is_refused_before_it_begins() {
    let layer = fat_layer("file", 1000);
    let image = ImageBuilder::new().layer_elsewhere(
        layer.digest.clone(),
        1 << 60,
        layer.diff_id.clone(),
        "application/vnd.oci.image.layer.v1.tar+gzip",
    );
    let (registry, reference) = serve(&image.build());
    let home = Home::new();
    let error = home.pull(&reference).await.unwrap_err();
    assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
    assert_eq!(error.class(), ErrorClass::Storage);
    assert_eq!(registry.blob_bytes_served(&layer.digest), 0);
}

#[tokio::test]
async fn documents_that_are_no_images_say_what_they_are() {
    let registry = FakeRegistry::start();
    let chart = ImageBuilder::new()
        .artifact_type("application/vnd.cncf.helm.config.v1+json")
        .edit_manifest(|manifest| {
            manifest["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json".into();
        });
    registry.push("chart", "latest", &chart.build());
    let home = Home::new();
    let error = home.pull(&registry.reference("chart", "latest")).await.unwrap_err();
    assert!(matches!(error, Error::Document { .. }), "{error:?}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("helm"), "{cause}");
}

#[tokio::test]
async fn the_first_of_several_names_that_fails_is_named() {
    let (registry, good) = serve(&small_image());
    let references = [good, registry.reference("app", "none")].map(|text| text.parse::<Reference>().unwrap());
    let home = Home::new();
    let error = home.puller().pull(&references, &Options::default()).await.unwrap_err();
    assert!(error.to_string().contains("app:none"), "{error}");
    assert_clean(&home);
}
