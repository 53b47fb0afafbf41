//! Looking at a store: what is damaged is found, named, and taken out of use; what is whole is left alone.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use unlade_images::{Damage, DamageKind, Depth, Lost, LostLayer, Mending, Verification};

use crate::support::{Fixture, bring_in, bring_in_layer, image, layer, manifest_of, overwrite, platform, reference};

fn told(verification: &Verification) -> Vec<String> {
    let told = |damage: &Damage| {
        let images: Vec<_> = damage.images.iter().map(ToString::to_string).collect();
        format!("{} ({})", damage.kind, images.join(", "))
    };
    verification.damage.iter().map(told).collect()
}

/// Puts other bytes of the same number into a file, which may be read-only.
fn garble(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
}

fn lost_layer(lost: &Lost) -> &LostLayer {
    match lost {
        Lost::Layer(layer) => layer,
        other => panic!("no layer: {other:?}"),
    }
}

#[test]
fn a_whole_store_has_nothing_to_complain_about() {
    let fixture = Fixture::new();
    bring_in(&fixture.store, "app", &image(&[layer("a"), layer("b")]), true);
    bring_in(&fixture.store, "blobs", &image(&[layer("c")]), false);
    for depth in [Depth::Quick, Depth::Deep] {
        let verification = fixture.store.verify(depth).unwrap();
        assert_eq!(told(&verification), [""; 0]);
        assert_eq!((verification.blobs, verification.directories), (7, 2));
        assert_eq!(verification.not_compared, 0);
        assert_eq!(verification.entries > 0, depth == Depth::Deep);
    }
}

#[test]
fn what_is_missing_or_has_another_size_is_found_at_a_glance() {
    let fixture = Fixture::new();
    let (a, b) = (layer("a"), layer("b"));
    let image = image(&[a.clone(), b.clone()]);
    bring_in(&fixture.store, "app", &image, true);
    bring_in(&fixture.store, "same", &image, true);
    let blobs = fixture.store.blobs();
    fs::remove_file(blobs.path(&a.digest)).unwrap();
    overwrite(&blobs.path(&image.config_digest), b"{}");
    fs::remove_dir_all(fixture.layer_directory(&b)).unwrap();
    overwrite(
        &fixture.store.root().join("index.json"),
        br#"{"schemaVersion":2,"manifests":[]}"#,
    );
    let names = "docker.io/library/app:latest, docker.io/library/same:latest";
    let mut expected = vec![
        "index.json is not what the database gives ()".to_owned(),
        format!("the blob {} is missing ({names})", a.digest),
        format!(
            "the document {} has 2 bytes instead of {} ({names})",
            image.config_digest,
            image.config.len()
        ),
        format!(
            "the layer directory {} is missing or empty ({names})",
            fixture.layer_directory(&b).display()
        ),
    ];
    let mut found = told(&fixture.store.verify(Depth::Quick).unwrap());
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn other_content_is_found_by_reading_it() {
    let fixture = Fixture::new();
    let (a, b) = (layer("a"), layer("b"));
    let image = image(&[a.clone(), b.clone()]);
    bring_in(&fixture.store, "app", &image, true);
    garble(&fixture.store.blobs().path(&a.digest));
    garble(&fixture.store.blobs().path(&image.digest));
    fs::write(fixture.layer_directory(&b).join("etc/name"), "x").unwrap();
    assert_eq!(told(&fixture.store.verify(Depth::Quick).unwrap()), [""; 0]);

    let verification = fixture.store.verify(Depth::Deep).unwrap();
    let mut found = told(&verification);
    found.sort();
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(
        found[0].starts_with(&format!("the blob {} has content with", a.digest)),
        "{found:?}"
    );
    assert!(
        found[1].starts_with(&format!("the document {} has content with", image.digest)),
        "{found:?}"
    );
    assert!(
        found[2].contains("etc/name has other content, and 1 more difference"),
        "{found:?}"
    );
    assert_eq!(verification.not_compared, 1, "the directory whose blob is no good");
}

#[test]
fn what_is_damaged_is_not_used_and_can_be_brought_in_again() {
    let fixture = Fixture::new();
    let (a, b) = (layer("a"), layer("b"));
    let image = image(&[a.clone(), b.clone()]);
    bring_in(&fixture.store, "app", &image, true);
    garble(&fixture.store.blobs().path(&a.digest));
    garble(&fixture.store.blobs().path(&image.digest));
    fs::remove_file(fixture.layer_directory(&b).join("etc/name")).unwrap();
    let verification = fixture.store.verify(Depth::Deep).unwrap();
    let mendings = fixture.store.set_aside(&verification).unwrap();
    assert!(
        !fixture
            .store
            .look_up(&reference("app"), &platform(), true)
            .unwrap()
            .is_complete()
    );

    let manifest = manifest_of(&image);
    for (damage, mending) in verification.damage.iter().zip(&mendings) {
        match (&damage.kind, mending) {
            (DamageKind::Document { digest, .. }, Mending::Done) => fixture.store.blobs().verify(digest).unwrap(),
            (DamageKind::Blob { digest, .. }, Mending::BringIn(lost)) => {
                let lost = lost_layer(lost);
                assert!(!lost.extract && lost.blob.digest == *digest && lost.diff_id == a.diff_id);
                assert!(!fixture.store.blobs().contains(digest).unwrap());
                assert!(bring_in_layer(
                    &lost.store,
                    &manifest.get().layers[0],
                    &lost.diff_id,
                    &a.bytes,
                    false
                ));
            }
            (DamageKind::Directory { .. }, Mending::BringIn(lost)) => {
                let lost = lost_layer(lost);
                assert!(lost.extract && lost.blob.digest == b.digest && lost.blob.size == b.bytes.len() as u64);
                assert!(bring_in_layer(&lost.store, &lost.blob, &lost.diff_id, &[], true));
            }
            other => panic!("unexpected: {other:?}"),
        }
    }
    assert_eq!(told(&fixture.store.verify(Depth::Deep).unwrap()), [""; 0]);
    assert!(
        fixture
            .store
            .look_up(&reference("app"), &platform(), true)
            .unwrap()
            .is_complete()
    );
}

#[test]
fn what_was_found_whole_after_a_power_loss_is_used_again() {
    let fixture = Fixture::new();
    bring_in(&fixture.store, "app", &image(&[layer("a"), layer("b")]), true);
    let later = fixture.under_boot("another boot");
    let complete = || {
        later
            .look_up(&reference("app"), &platform(), true)
            .unwrap()
            .is_complete()
    };
    let quick = later.verify(Depth::Quick).unwrap();
    assert_eq!((quick.doubtful, told(&quick).len()), (6, 0));
    assert!(!complete());
    assert_eq!(later.verify(Depth::Deep).unwrap().doubtful, 0);
    assert!(complete());
    assert_eq!(later.verify(Depth::Quick).unwrap().doubtful, 0);
}

#[test]
fn what_an_artifact_lacks_is_found_at_a_glance() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let layer = layer("a");
    let image = image(std::slice::from_ref(&layer));
    let manifest = manifest_of(&image);
    // An image kept as an artifact is blobs alone.
    for blob in std::iter::once(&manifest.get().config).chain(&manifest.get().layers) {
        store.put_blob(blob, &image.blobs[&blob.digest]).unwrap();
    }
    store.commit_artifact(&reference("chart"), &manifest).unwrap();
    assert_eq!(told(&store.verify(Depth::Quick).unwrap()), [""; 0]);

    fs::remove_file(store.blobs().path(&layer.digest)).unwrap();
    let missing = [format!(
        "the blob {} is missing (docker.io/library/chart:latest)",
        layer.digest
    )];
    for depth in [Depth::Quick, Depth::Deep, Depth::Quick] {
        let verification = store.verify(depth).unwrap();
        assert_eq!(told(&verification), missing, "{depth:?}");
        // Taken out of use, it is missing all the same.
        let mendings = store.set_aside(&verification).unwrap();
        let [Mending::BringIn(lost)] = &mendings[..] else {
            panic!("{mendings:?}")
        };
        assert!(
            matches!(&**lost, Lost::Blob(blob) if blob.blob.digest == layer.digest && !blob.is_manifest),
            "{lost:?}"
        );
    }
    store.put_blob(&manifest.get().layers[0], &layer.bytes).unwrap();
    assert_eq!(told(&store.verify(Depth::Deep).unwrap()), [""; 0]);

    // The manifest itself counts, too.
    fs::remove_file(store.blobs().path(&image.digest)).unwrap();
    assert_eq!(told(&store.verify(Depth::Quick).unwrap()).len(), 1);
}
