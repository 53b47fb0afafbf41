//! Artifacts: recorded, found, replaced, and removed with the blobs that only they had.

use std::time::SystemTime;

use unlade_metadata::{ArtifactRecord, Collect, Collection, Database, ImageKey, ImageName, Target};
use unlade_oci::{Descriptor, Digest, MediaType};

use crate::support::{Store, blob};

fn name(tag: &str) -> ImageName {
    ImageName {
        registry: "ghcr.io".into(),
        repository: "charts/app".into(),
        tag: Some(tag.into()),
        digest: None,
    }
}

fn descriptor(content: &str) -> Descriptor {
    let mut descriptor = Descriptor::new(
        "application/octet-stream".parse().unwrap(),
        Digest::sha256(content),
        content.len() as u64,
    );
    descriptor.annotations.insert("title".into(), content.into());
    descriptor
}

fn artifact(tag: &str, blobs: &[&str]) -> ArtifactRecord {
    let manifest = format!("{tag}{blobs:?}");
    ArtifactRecord {
        name: name(tag),
        manifest: Target {
            digest: Digest::sha256(&manifest),
            media_type: MediaType::OCI_MANIFEST,
            size: manifest.len() as u64,
        },
        artifact_type: "application/vnd.cncf.helm.config.v1+json".into(),
        annotations: [("a".to_owned(), "b".to_owned())].into(),
        config: descriptor("{}"),
        blobs: blobs.iter().map(|content| descriptor(content)).collect(),
        pulled_at: SystemTime::UNIX_EPOCH,
    }
}

fn put(database: &Database, artifact: &ArtifactRecord) {
    let all = artifact.blobs.iter().chain([&artifact.config]);
    for digest in all.map(|one| &one.digest).chain([&artifact.manifest.digest]) {
        database.record_blob(&blob(digest, 1)).unwrap();
    }
    database.commit_artifact(artifact).unwrap();
}

#[test]
fn found_by_name_and_by_digest_and_replaced() {
    let store = Store::new();
    let database = &store.database;
    let first = artifact("1", &["x", "y"]);
    put(database, &first);
    let found = database.find_artifact(&name("1")).unwrap().unwrap();
    assert!(found.pulled_at > SystemTime::UNIX_EPOCH);
    let expected = ArtifactRecord {
        pulled_at: found.pulled_at,
        ..first.clone()
    };
    assert_eq!(found, expected);
    let by_digest = ImageName {
        tag: None,
        digest: Some(first.manifest.digest.clone()),
        ..name("1")
    };
    assert_eq!(database.find_artifact(&by_digest).unwrap().unwrap(), expected);
    assert_eq!(database.find_artifact(&name("2")).unwrap(), None);

    let second = artifact("1", &["z"]);
    put(database, &second);
    let all = database.artifacts().unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].blobs, second.blobs);
    assert!(database.check().unwrap().is_empty());
}

#[test]
fn removed_with_what_nothing_else_needs() {
    let store = Store::new();
    let database = &store.database;
    let (one, two) = (artifact("1", &["x", "shared"]), artifact("2", &["shared"]));
    put(database, &one);
    put(database, &two);
    let key = |tag: &str| ImageKey {
        name: name(tag),
        platform: None,
    };
    let collected = database.collect(&Collection::default(), Collect::Apply).unwrap();
    assert!(
        collected.removed.blobs.is_empty(),
        "an artifact needs its blobs: {collected:?}"
    );
    let removed = database.remove_image(&key("1")).unwrap().unwrap();
    assert_eq!(removed.artifacts, [name("1")]);
    let mut expected = vec![one.manifest.digest.clone(), Digest::sha256("x")];
    expected.sort();
    let mut blobs = removed.blobs;
    blobs.sort();
    assert_eq!(blobs, expected);
    let removed = database.remove_image(&key("2")).unwrap().unwrap();
    assert_eq!(removed.blobs.len(), 3);
    assert_eq!(database.remove_image(&key("2")).unwrap(), None);
    assert!(database.blobs().unwrap().is_empty() && database.check().unwrap().is_empty());
}
