//! Collecting garbage: what no name leads to goes, whatever left it there.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use unlade_metadata::{Collect, Collection, LeaseTarget};
use unlade_oci::{Digest, MediaType};

use crate::support::{Store, any_platform, blob, diff_id, image, index, key, layer_blob, layer_commit};

fn set<const N: usize>(digests: [Digest; N]) -> BTreeSet<Digest> {
    digests.into()
}

fn last_used(store: &Store, id: i64) -> SystemTime {
    let images = store.database.images().unwrap();
    images.iter().find(|image| image.id == id).unwrap().last_used_at
}

#[test]
fn what_a_moved_name_has_left_goes() {
    let store = Store::new();
    let (old, new) = (
        image("app:1", "linux/amd64", &["base", "old"]),
        image("app:1", "linux/amd64", &["base", "new"]),
    );
    store.add(&old);
    store.add(&new);
    let tried = store.database.collect(&Collection::default(), Collect::Try).unwrap();
    assert_eq!(store.database.layer_directories().unwrap().len(), 3, "only tried");
    let collected = store.database.collect(&Collection::default(), Collect::Apply).unwrap();
    assert_eq!(tried, collected);
    assert!(collected.removed.names.is_empty());
    assert_eq!(collected.removed.diff_ids, [diff_id("old")]);
    assert_eq!(
        BTreeSet::from_iter(collected.removed.blobs),
        set([old.manifest.digest, old.config.digest, layer_blob("old")])
    );
    assert_eq!(
        collected.blobs,
        set([
            new.manifest.digest,
            new.config.digest,
            layer_blob("base"),
            layer_blob("new")
        ])
    );
    assert_eq!(collected.directories.len(), 2);
    let found = store.database.find_image(&any_platform("app:1"), Some(&store.place()));
    assert!(found.unwrap().unwrap().is_extracted());
    assert!(store.database.check().unwrap().is_empty());
    let again = store.database.collect(&Collection::default(), Collect::Apply).unwrap();
    assert_eq!(again.removed, unlade_metadata::Removed::default());
}

#[test]
fn an_image_that_was_used_meanwhile_stays() {
    let store = Store::new();
    let (one, two) = (
        store.add(&image("app:1", "linux/amd64", &["a"])),
        store.add(&image("app:2", "linux/amd64", &["b"])),
    );
    let collection = Collection {
        images: vec![
            (one, last_used(&store, one)),
            (two, last_used(&store, two) - Duration::from_secs(1)),
        ],
        ..Collection::default()
    };
    let collected = store.database.collect(&collection, Collect::Apply).unwrap();
    assert_eq!(collected.removed.names.len(), 1);
    assert_eq!(collected.layers, set([diff_id("b")]));
    assert!(
        store
            .database
            .find_image(&any_platform("app:1"), None)
            .unwrap()
            .is_none()
    );
    assert!(
        store
            .database
            .find_image(&any_platform("app:2"), None)
            .unwrap()
            .is_some()
    );
}

#[test]
fn what_is_leased_stays() {
    let store = Store::new();
    // A pull has finished these two layers and will record its image any moment.
    let pulled = image("app:1", "linux/amd64", &["a", "b"]);
    for layer in &pulled.layers {
        store
            .database
            .record_layer(&layer_commit(layer, &store.place()))
            .unwrap();
    }
    let targets = [
        LeaseTarget::Layer(diff_id("a")),
        LeaseTarget::Blob(layer_blob("a")),
        LeaseTarget::Blob(Digest::sha256("to come")),
    ];
    let lease = store.database.lease(&targets, Duration::from_mins(1)).unwrap();
    let collected = store.database.collect(&Collection::default(), Collect::Apply).unwrap();
    assert_eq!(collected.removed.diff_ids, [diff_id("b")]);
    assert_eq!(collected.removed.blobs, [layer_blob("b")]);
    assert_eq!(collected.blobs, set([layer_blob("a"), Digest::sha256("to come")]));
    assert_eq!(store.database.layers_of_blob(&layer_blob("a")).unwrap().len(), 1);
    lease.release().unwrap();
    let collected = store.database.collect(&Collection::default(), Collect::Apply).unwrap();
    assert_eq!(collected.removed.diff_ids, [diff_id("a")]);
    assert!(collected.blobs.is_empty() && collected.layers.is_empty());
}

#[test]
fn indexes_go_with_the_last_name_that_leads_through_them() {
    let store = Store::new();
    let mut commit = image("app:1", "linux/amd64", &["a"]);
    let inner = index(&[(MediaType::OCI_MANIFEST, &commit.manifest.digest, Some("linux/amd64"))]);
    let outer = index(&[(MediaType::OCI_INDEX, &inner.digest, None)]);
    commit.indexes = vec![outer.clone(), inner.clone()];
    let id = store.add(&commit);
    let contents = store.database.contents().unwrap();
    assert_eq!(
        contents[0].documents,
        set([
            outer.digest.clone(),
            inner.digest.clone(),
            commit.manifest.digest.clone(),
            commit.config.digest.clone()
        ])
    );
    assert_eq!(contents[0].layers, BTreeSet::from([(layer_blob("a"), diff_id("a"))]));
    assert_eq!(contents[0].directories.len(), 1);
    assert_eq!(store.database.document(&inner.digest).unwrap(), Some(inner.raw.clone()));
    assert_eq!(store.database.document(&layer_blob("a")).unwrap(), None);

    let kept = store.database.collect(&Collection::default(), Collect::Apply).unwrap();
    assert!(kept.blobs.contains(&outer.digest) && kept.blobs.contains(&inner.digest));
    let collection = Collection {
        images: vec![(id, last_used(&store, id))],
        ..Collection::default()
    };
    let collected = store.database.collect(&collection, Collect::Apply).unwrap();
    assert!(collected.blobs.is_empty());
    assert_eq!(store.database.blobs().unwrap(), []);
    assert!(store.database.check().unwrap().is_empty());
}

#[test]
fn layers_that_are_extracted_can_do_without_their_blobs() {
    let store = Store::new();
    store.add(&image("app:1", "linux/amd64", &["a", "b"]));
    let collection = Collection {
        without_blobs: set([diff_id("a")]),
        ..Collection::default()
    };
    let collected = store.database.collect(&collection, Collect::Apply).unwrap();
    assert_eq!(collected.removed.blobs, [layer_blob("a")]);
    assert!(collected.removed.diff_ids.is_empty());
    let found = store
        .database
        .find_image(&key("app:1", "linux/amd64"), Some(&store.place()))
        .unwrap()
        .unwrap();
    assert!(found.is_extracted());
    assert!(found.layers[0].blob_file.is_none());
    assert!(found.layers[1].blob_file.is_some());
    assert_eq!(
        store.database.layers_of_blob(&layer_blob("a")).unwrap().len(),
        1,
        "what it holds is still known"
    );
}

#[test]
fn what_was_verified_may_be_used_and_is_not_flushed() {
    let store = Store::new();
    store.add(&image("app:1", "linux/amd64", &["a"]));
    let (id, _) = store.database.layer_directories().unwrap()[0].clone();
    let mut flushed = blob(&Digest::sha256("flushed"), 1);
    flushed.durability.synced = true;
    store.database.record_blob(&flushed).unwrap();
    let blobs = [layer_blob("a"), flushed.digest.clone()];
    store.database.mark_verified(&blobs, &[id], "boot-2").unwrap();
    let unsynced = store.database.unsynced("boot-2").unwrap();
    assert_eq!((unsynced.blobs.len(), unsynced.directories.len()), (1, 1));
    assert_eq!(store.database.blob(&flushed.digest).unwrap(), Some(flushed));
}
