//! The store is a valid OCI image layout, from the first moment on, and touches nothing that is not one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::SystemTime;

use unlade_blobs::{BlobStore, Durability, Error};
use unlade_oci::{Digest, ErrorClass};
use unlade_sys::FileLock;

use crate::{Fixture, ingest_files};

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_new_store_is_an_empty_layout() {
    let fixture = Fixture::new();
    let root = fixture.store.root();
    assert_eq!(
        json(&root.join("oci-layout")),
        serde_json::json!({"imageLayoutVersion": "1.0.0"})
    );
    let index = json(&root.join("index.json"));
    assert_eq!(index["schemaVersion"], 2);
    assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json");
    assert_eq!(index["manifests"], serde_json::json!([]));
    assert!(root.join("blobs/sha256").is_dir());
    assert_eq!(mode(root), 0o700);
    assert_eq!(mode(&root.join("blobs")), 0o755);
    assert_eq!(mode(&root.join("ingest")), 0o700);
    assert_eq!(mode(&root.join("index.json")), 0o644);
    let mut names: Vec<_> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["blobs", "index.json", "ingest", "oci-layout"]);
    assert!(ingest_files(&fixture.store).is_empty());
}

#[test]
fn opening_again_changes_nothing() {
    let fixture = Fixture::new();
    let index = br#"{"schemaVersion":2,"manifests":[],"annotations":{"kept":"yes"}}"#;
    fixture.store.write_index(index).unwrap();
    let digest = Digest::sha256("x");
    fixture.store.put(&digest, b"x").unwrap();
    let again = fixture.another();
    assert_eq!(again.read_index().unwrap(), index);
    assert_eq!(again.list().unwrap(), [(digest, 1)]);
}

#[test]
fn a_layout_of_another_tool_is_a_store() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::write(root.join("oci-layout"), "{\n  \"imageLayoutVersion\": \"1.1.0\"\n}\n").unwrap();
    fs::write(root.join("index.json"), r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    fs::write(root.join("README"), "hello").unwrap();
    let digest = Digest::sha256("hello");
    fs::create_dir_all(root.join("blobs/sha256")).unwrap();
    fs::write(root.join("blobs/sha256").join(digest.hex()), "hello").unwrap();
    let store = BlobStore::open(root).unwrap();
    assert_eq!(store.read(&digest, 5).unwrap(), b"hello");
    assert_eq!(store.read_index().unwrap(), br#"{"schemaVersion":2,"manifests":[]}"#);
}

#[test]
fn anything_else_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::write(root.join("thesis.tex"), "").unwrap();
    let error = BlobStore::open(root).unwrap_err();
    assert!(matches!(&error, Error::NotALayout { path, reason } if path == root && reason.contains("thesis.tex")));
    assert_eq!(error.class(), ErrorClass::Store);
    assert_eq!(fs::read_dir(root).unwrap().count(), 1);

    fs::remove_file(root.join("thesis.tex")).unwrap();
    for document in [
        "not json",
        "{}",
        r#"{"imageLayoutVersion":"2.0.0"}"#,
        r#"{"imageLayoutVersion":1}"#,
    ] {
        fs::write(root.join("oci-layout"), document).unwrap();
        let error = BlobStore::open(root).unwrap_err();
        assert!(matches!(error, Error::NotALayout { .. }), "{document}: {error:?}");
        assert_eq!(fs::read_dir(root).unwrap().count(), 1);
    }
}

/// What an interrupted creation may leave, and what the other parts of a store may have put there first.
#[test]
fn a_store_in_the_making_is_finished() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for name in ["blobs", "layers", "staging", "locks", "lost+found"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    for name in ["metadata.db", "metadata.db-wal", "metadata.db-shm"] {
        fs::write(root.join(name), "").unwrap();
    }
    BlobStore::open(root).unwrap();
    assert!(root.join("oci-layout").is_file());
    assert!(root.join("index.json").is_file());
}

/// A power loss may leave documents that were not synced with their names, but without their content.
#[test]
fn empty_documents_are_made_again() {
    let fixture = Fixture::new();
    let root = fixture.store.root();
    fs::write(root.join("oci-layout"), "").unwrap();
    fs::write(root.join("index.json"), "").unwrap();
    fs::write(root.join("something-else"), "").unwrap();
    fs::remove_file(root.join("something-else")).unwrap();
    fixture.another();
    assert_eq!(json(&root.join("oci-layout"))["imageLayoutVersion"], "1.0.0");
    assert_eq!(json(&root.join("index.json"))["schemaVersion"], 2);
}

#[test]
fn many_may_create_the_store_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("a/store");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| BlobStore::open(&root).unwrap());
        }
    });
    assert_eq!(json(&root.join("index.json"))["manifests"], serde_json::json!([]));
    assert_eq!(fs::read_dir(root.join("ingest")).unwrap().count(), 0);
}

#[test]
fn only_an_index_replaces_the_index() {
    let fixture = Fixture::new();
    let before = fixture.store.read_index().unwrap();
    for wrong in [
        "",
        "[]",
        "{}",
        r#"{"schemaVersion":2}"#,
        r#"{"schemaVersion":1,"manifests":[]}"#,
        "<html>",
    ] {
        let error = fixture.store.write_index(wrong.as_bytes()).unwrap_err();
        assert!(matches!(error, Error::InvalidIndex { .. }), "{wrong}: {error:?}");
    }
    assert_eq!(fixture.store.read_index().unwrap(), before);
    let index = br#"{"schemaVersion":2,"manifests":[{"digest":"sha256:00"}]}"#;
    fixture.store.write_index(index).unwrap();
    assert_eq!(fixture.store.read_index().unwrap(), index);
    assert!(ingest_files(&fixture.store).is_empty());
}

#[test]
fn what_killed_writers_left_is_swept_and_what_is_being_written_stays() {
    let fixture = Fixture::new();
    let ingest = fixture.store.root().join("ingest");
    let (dead, alive) = (ingest.join(".unlade-tmp-1-1"), ingest.join(".unlade-tmp-1-2"));
    fs::write(&dead, "x").unwrap();
    fs::write(&alive, "x").unwrap();
    let writer = FileLock::try_exclusive(&alive).unwrap().unwrap();
    let partial = ingest.join(format!("sha256-{}", "0".repeat(64)));
    fs::File::create(&partial)
        .unwrap()
        .set_modified(SystemTime::UNIX_EPOCH)
        .unwrap();
    fixture.another();
    assert!(!dead.exists());
    assert!(alive.exists());
    assert!(partial.exists(), "a partial blob is no temporary file");
    drop(writer);
    fixture.another();
    assert!(!alive.exists());
}

#[test]
fn syncing_gives_the_same_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = BlobStore::open_with(&directory.path().join("store"), Durability::Sync).unwrap();
    assert_eq!(store.durability(), Durability::Sync);
    let (put, ingested) = (Digest::sha256("put"), Digest::sha256("ingested"));
    store.put(&put, b"put").unwrap();
    let mut ingest = crate::owned(&store, &ingested, 8);
    ingest.append(b"ingested").unwrap();
    ingest.publish(&ingested, 8).unwrap();
    store.write_index(br#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    store.verify(&put).unwrap();
    store.verify(&ingested).unwrap();
    assert!(ingest_files(&store).is_empty());
}
