//! Removing images: all of what only they needed goes, and nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use unlade_metadata::{LeaseTarget, Removed};
use unlade_oci::{Digest, MediaType};

use crate::support::{
    Store, any_platform, diff_id, directory, image, index, key, layer_blob, layer_commit, name, platform,
};

fn set<'a>(digests: impl IntoIterator<Item = &'a Digest>) -> BTreeSet<Digest> {
    digests.into_iter().cloned().collect()
}

fn blobs(removed: &Removed) -> BTreeSet<Digest> {
    set(&removed.blobs)
}

#[test]
fn what_is_shared_stays() {
    let store = Store::new();
    let (one, two) = (
        image("one:1", "linux/amd64", &["base", "1"]),
        image("two:1", "linux/amd64", &["base", "2"]),
    );
    store.add(&one);
    store.add(&two);
    let removed = store
        .database
        .remove_image(&key("one:1", "linux/amd64"))
        .unwrap()
        .unwrap();
    assert_eq!(removed.names, [(name("one:1"), platform("linux/amd64"))]);
    assert_eq!(
        blobs(&removed),
        set([&one.manifest.digest, &one.config.digest, &layer_blob("1")])
    );
    assert_eq!(removed.diff_ids, [diff_id("1")]);
    assert_eq!(removed.directories, [directory(&diff_id("1"), &store.place())]);
    let left = store
        .database
        .find_image(&key("two:1", "linux/amd64"), Some(&store.place()))
        .unwrap()
        .unwrap();
    assert!(left.is_extracted());

    let removed = store
        .database
        .remove_image(&key("two:1", "linux/amd64"))
        .unwrap()
        .unwrap();
    assert_eq!(
        blobs(&removed),
        set([
            &two.manifest.digest,
            &two.config.digest,
            &layer_blob("base"),
            &layer_blob("2")
        ])
    );
    assert_eq!(set(&removed.diff_ids), set([&diff_id("base"), &diff_id("2")]));
    assert_eq!(store.database.blobs().unwrap(), []);
    assert_eq!(store.database.layer_directories().unwrap(), []);
    assert_eq!(store.database.remove_image(&key("two:1", "linux/amd64")).unwrap(), None);
    assert!(store.database.check().unwrap().is_empty());
}

#[test]
fn another_name_keeps_everything() {
    let store = Store::new();
    store.add(&image("app:1", "linux/amd64", &["a"]));
    store.add(&image("app:2", "linux/amd64", &["a"]));
    let removed = store
        .database
        .remove_image(&key("app:1", "linux/amd64"))
        .unwrap()
        .unwrap();
    assert_eq!(
        removed,
        Removed {
            names: vec![(name("app:1"), platform("linux/amd64"))],
            ..Removed::default()
        }
    );
    assert!(
        store
            .database
            .find_image(&any_platform("app:2"), Some(&store.place()))
            .unwrap()
            .unwrap()
            .is_extracted()
    );
}

#[test]
fn without_a_platform_all_of_them_go() {
    let store = Store::new();
    store.add(&image("app:1", "linux/amd64", &["a"]));
    store.add(&image("app:1", "linux/arm64", &["b"]));
    store.add(&image("app:1@x", "linux/amd64", &["c"]));
    let removed = store.database.remove_image(&any_platform("app:1")).unwrap().unwrap();
    assert_eq!(removed.names.len(), 2);
    assert_eq!(set(&removed.diff_ids), set([&diff_id("a"), &diff_id("b")]));
    assert_eq!(
        store.database.images().unwrap().len(),
        1,
        "the name with a digest is another one"
    );
}

#[test]
fn an_index_stays_while_one_of_its_platforms_does() {
    let store = Store::new();
    let (mut amd, mut arm) = (
        image("app:1", "linux/amd64", &["a"]),
        image("app:1", "linux/arm64", &["b"]),
    );
    let inner = index(&[
        (MediaType::OCI_MANIFEST, &amd.manifest.digest, Some("linux/amd64")),
        (MediaType::OCI_MANIFEST, &arm.manifest.digest, Some("linux/arm64")),
    ]);
    let outer = index(&[(MediaType::OCI_INDEX, &inner.digest, None)]);
    amd.indexes = vec![outer.clone(), inner.clone()];
    arm.indexes = amd.indexes.clone();
    store.add(&amd);
    store.add(&arm);
    let removed = store
        .database
        .remove_image(&key("app:1", "linux/amd64"))
        .unwrap()
        .unwrap();
    assert_eq!(
        blobs(&removed),
        set([&amd.manifest.digest, &amd.config.digest, &layer_blob("a")])
    );
    let removed = store
        .database
        .remove_image(&key("app:1", "linux/arm64"))
        .unwrap()
        .unwrap();
    assert_eq!(
        blobs(&removed),
        set([
            &arm.manifest.digest,
            &arm.config.digest,
            &layer_blob("b"),
            &outer.digest,
            &inner.digest
        ])
    );
}

#[test]
fn a_lease_protects_and_its_end_does_not_undo() {
    let store = Store::new();
    let commit = image("app:1", "linux/amd64", &["a", "b"]);
    store.add(&commit);
    let targets = [LeaseTarget::Layer(diff_id("a")), LeaseTarget::Blob(layer_blob("b"))];
    let lease = store.database.lease(&targets, Duration::from_mins(1)).unwrap();
    let removed = store.database.remove_image(&any_platform("app:1")).unwrap().unwrap();
    assert_eq!(removed.diff_ids, [diff_id("b")]);
    assert_eq!(
        blobs(&removed),
        set([&commit.manifest.digest, &commit.config.digest, &layer_blob("a")])
    );
    lease.release().unwrap();
    assert!(store.database.layer(&diff_id("a")).unwrap().is_some());
    assert!(
        store
            .database
            .layer_directory(&diff_id("a"), None, &store.place())
            .unwrap()
            .is_some()
    );
    assert!(store.database.blob(&layer_blob("b")).unwrap().is_some());
}

#[test]
fn layers_of_a_pull_under_way_are_left_alone() {
    let store = Store::new();
    store.add(&image("app:1", "linux/amd64", &["a"]));
    let coming = image("coming:1", "linux/amd64", &["x"]);
    store
        .database
        .record_layer(&layer_commit(&coming.layers[0], &store.place()))
        .unwrap();
    let removed = store.database.remove_image(&any_platform("app:1")).unwrap().unwrap();
    assert_eq!(removed.diff_ids, [diff_id("a")]);
    assert!(store.database.commit_image(&coming).is_ok());
}

#[test]
fn the_directory_of_a_stack_goes_with_the_last_image_of_that_stack() {
    let store = Store::new();
    let mut stacked = image("stacked:1", "linux/amd64", &["base", "top"]);
    let chain_id = Digest::sha256("chain");
    stacked.layers[1].chain_id = Some(chain_id.clone());
    store.add(&stacked);
    store.add(&image("alone:1", "linux/amd64", &["top"]));
    let mut record = directory(&diff_id("top"), &store.place());
    record.chain_id = Some(chain_id);
    record.name = "stacked".to_owned();
    store.database.record_layer_directory(&record, &json!({})).unwrap();
    let removed = store
        .database
        .remove_image(&any_platform("stacked:1"))
        .unwrap()
        .unwrap();
    assert_eq!(removed.diff_ids, [diff_id("base")]);
    assert_eq!(
        removed.directories,
        [directory(&diff_id("base"), &store.place()), record]
    );
    assert!(
        store
            .database
            .layer_directory(&diff_id("top"), None, &store.place())
            .unwrap()
            .is_some()
    );
}
