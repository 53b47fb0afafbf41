//! Published blobs: put, read, verify, list, remove.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rustix::fs::{CWD, FileType, Mode};
use unlade_blobs::{Error, hash};
use unlade_oci::{Algorithm, Digest, ErrorClass};

use crate::{Fixture, content, ingest_files};

#[test]
fn put_and_read() {
    let fixture = Fixture::new();
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let digest = Digest::of(algorithm, "document");
        assert!(!fixture.store.contains(&digest).unwrap());
        fixture.store.put(&digest, b"document").unwrap();
        fixture.store.put(&digest, b"document").unwrap();
        assert_eq!(fixture.store.size(&digest).unwrap(), Some(8));
        assert_eq!(fixture.store.read(&digest, 8).unwrap(), b"document");
        let path = fixture
            .store
            .root()
            .join("blobs")
            .join(algorithm.as_str())
            .join(digest.hex());
        assert_eq!(fixture.store.path(&digest), path);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o444);
    }
    assert!(ingest_files(&fixture.store).is_empty());
}

#[test]
fn put_checks_the_digest() {
    let fixture = Fixture::new();
    let digest = Digest::sha256("one");
    let error = fixture.store.put(&digest, b"two").unwrap_err();
    assert_eq!(error.class(), ErrorClass::Integrity);
    assert!(matches!(error, Error::Mismatch { expected, actual, .. }
        if expected == digest && actual == Digest::sha256("two")));
    assert!(fixture.store.list().unwrap().is_empty());
}

#[test]
fn put_heals() {
    let fixture = Fixture::new();
    let digest = Digest::sha256("document");
    for damaged in ["", "documenX", "a longer document"] {
        fs::write(fixture.store.path(&digest), damaged).unwrap();
        fixture.store.put(&digest, b"document").unwrap();
        assert_eq!(fixture.store.read(&digest, 8).unwrap(), b"document");
        fixture.store.remove(&digest).unwrap();
    }
}

#[test]
fn what_is_missing_is_not_found() {
    let fixture = Fixture::new();
    let digest = Digest::sha256("missing");
    let errors = [
        fixture.store.open_blob(&digest).unwrap_err(),
        fixture.store.read(&digest, 10).unwrap_err(),
        fixture.store.verify(&digest).unwrap_err(),
    ];
    for error in errors {
        assert!(error.is_not_found(), "{error:?}");
        assert_eq!(error.class(), ErrorClass::NotFound);
        assert!(error.to_string().contains(&digest.to_string()));
    }
    assert_eq!(fixture.store.size(&digest).unwrap(), None);
    assert_eq!(fixture.store.remove(&digest).unwrap(), None);
}

#[test]
fn reading_has_a_limit() {
    let fixture = Fixture::new();
    let digest = Digest::sha256("0123456789");
    fixture.store.put(&digest, b"0123456789").unwrap();
    assert_eq!(fixture.store.read(&digest, 10).unwrap().len(), 10);
    let error = fixture.store.read(&digest, 9).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Rejected);
    assert!(matches!(error, Error::TooLarge { size: 10, limit: 9, .. }));
}

#[test]
fn damage_is_found() {
    let fixture = Fixture::new();
    let digest = Digest::sha256("sound");
    fixture.store.put(&digest, b"sound").unwrap();
    fixture.store.verify(&digest).unwrap();
    let path = fixture.store.path(&digest);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "rotten").unwrap();
    for error in [
        fixture.store.verify(&digest).unwrap_err(),
        fixture.store.read(&digest, 100).unwrap_err(),
    ] {
        assert_eq!(error.class(), ErrorClass::Store);
        assert!(matches!(error, Error::Damaged { actual, actual_size: 6, .. } if actual == Digest::sha256("rotten")));
    }
    assert!(path.exists(), "looking does not remove");
}

#[test]
fn list_and_remove() {
    let fixture = Fixture::new();
    assert!(fixture.store.list().unwrap().is_empty());
    let mut expected: Vec<_> = (0..20_u8).map(|byte| (Digest::sha256([byte]), 1)).collect();
    expected.push((Digest::of(Algorithm::Sha512, "xy"), 2));
    expected.sort();
    for byte in 0..20_u8 {
        fixture.store.put(&Digest::sha256([byte]), &[byte]).unwrap();
    }
    fixture.store.put(&Digest::of(Algorithm::Sha512, "xy"), b"xy").unwrap();
    // Nothing of this is a blob: wrong names, and a directory of a right name.
    let blobs = fixture.store.root().join("blobs");
    for name in ["sha256/README", "sha256/.hidden", "sha256/ABCDEF"] {
        fs::write(blobs.join(name), "").unwrap();
    }
    fs::write(blobs.join("sha256").join("A".repeat(64)), "").unwrap();
    fs::create_dir(blobs.join("sha256").join("f".repeat(64))).unwrap();
    fs::create_dir(blobs.join("md5")).unwrap();
    assert_eq!(fixture.store.list().unwrap(), expected);

    let (digest, size) = expected.remove(7);
    assert_eq!(fixture.store.remove(&digest).unwrap(), Some(size));
    assert_eq!(fixture.store.remove(&digest).unwrap(), None);
    assert_eq!(fixture.store.list().unwrap(), expected);
}

#[test]
fn hashing_a_stream() {
    let bytes = content(300_000);
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        assert_eq!(
            hash(&bytes[..], algorithm).unwrap(),
            (Digest::of(algorithm, &bytes), 300_000)
        );
    }
    assert_eq!(
        hash(std::io::empty(), Algorithm::Sha256).unwrap(),
        (Digest::sha256(""), 0)
    );
}

#[test]
fn errors_name_the_path() {
    let fixture = Fixture::new();
    let digest = Digest::sha256("x");
    fs::remove_dir_all(fixture.store.root().join("ingest")).unwrap();
    let error = fixture.store.put(&digest, b"x").unwrap_err();
    assert_eq!(error.class(), ErrorClass::Storage);
    assert!(error.to_string().contains("ingest"), "{error}");
    assert!(std::error::Error::source(&error).is_some());
    assert!(!error.is_disk_full());
}

/// A node of the device `/dev/full` stands in for a file on a full disk: every write to it fails the same way.
#[test]
fn a_full_disk_is_recognised() {
    let fixture = Fixture::new();
    let digest = Digest::sha256("bytes");
    let path = fixture
        .store
        .root()
        .join("ingest")
        .join(format!("sha256-{}", digest.hex()));
    let full = rustix::fs::makedev(1, 7);
    let made = rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::RUSR | Mode::WUSR, full);
    if made.is_err() || fs::File::options().write(true).open(&path).is_err() {
        println!("skipped: device nodes cannot be made or used here");
        return;
    }
    let mut ingest = crate::owned(&fixture.store, &digest, 5);
    let progress = ingest.progress();
    let error = ingest.append(b"bytes").unwrap_err();
    assert!(error.is_disk_full(), "{error:?}");
    assert_eq!(error.class(), ErrorClass::Storage);
    assert!(error.to_string().contains(digest.hex()));
    assert_eq!(progress.bytes(), 0, "followers see nothing of it");
}
