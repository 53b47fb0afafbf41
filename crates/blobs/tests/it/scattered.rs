//! Blobs that arrive in several places at once.

use std::fs;
use std::io::Read as _;

use unlade_blobs::{Begin, Error, hash};
use unlade_oci::{Algorithm, Digest, ErrorClass};

use crate::{Fixture, content, ingest_files, owned};

const SIZE: u64 = 10_000;

#[test]
fn followers_see_what_has_no_gap_before_it() {
    let fixture = Fixture::new();
    let bytes = content(10_000);
    let digest = Digest::sha256(&bytes);
    let mut ingest = owned(&fixture.store, &digest, SIZE);
    // Opened before the blob takes its second form on disk, and after.
    let mut before = ingest.follower().unwrap();
    ingest.append(&bytes[..1000]).unwrap();
    assert!(ingest.scatter().unwrap());
    assert_eq!(ingest.write_at(4000, &bytes[4000..6000]).unwrap(), 1000);
    let mut after = ingest.follower().unwrap();
    let mut seen = [0; 1000];
    for follower in [&mut before, &mut after] {
        follower.read_exact(&mut seen).unwrap();
        assert_eq!(seen[..], bytes[..1000]);
    }
    assert_eq!(ingest.missing(), [1000..4000, 6000..10_000]);
    assert_eq!(ingest.write_at(1000, &bytes[1000..4000]).unwrap(), 6000);
    assert_eq!(ingest.append(&bytes[6000..]).unwrap(), 10_000);
    ingest.complete().unwrap();
    assert_eq!(ingest_files(&fixture.store).len(), 1, "the plain form again");
    for mut follower in [before, after] {
        let mut rest = Vec::new();
        follower.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, bytes[1000..]);
    }
    ingest.publish(&digest, SIZE).unwrap();
    fixture.store.verify(&digest).unwrap();
}

#[test]
fn what_was_read_is_never_written_again() {
    let fixture = Fixture::new();
    let bytes = content(10_000);
    let digest = Digest::sha256(&bytes);
    let mut ingest = owned(&fixture.store, &digest, SIZE);
    ingest.scatter().unwrap();
    ingest.write_at(2000, &bytes[2000..3000]).unwrap();
    // Another server's idea of the same blob.
    ingest.write_at(0, &[7; 5000]).unwrap();
    let follower = ingest.follower().unwrap();
    ingest.write_at(0, &bytes).unwrap();
    ingest.complete().unwrap();
    let (found, size) = hash(follower, Algorithm::Sha256).unwrap();
    assert_ne!(found, digest);
    assert!(matches!(ingest.publish(&found, size), Err(Error::Mismatch { .. })));
    assert!(ingest_files(&fixture.store).is_empty());
}

#[test]
fn an_abandoned_one_is_continued_with_its_gaps() {
    let fixture = Fixture::new();
    let bytes = content(10_000);
    let digest = Digest::sha256(&bytes);
    let mut ingest = owned(&fixture.store, &digest, SIZE);
    ingest.scatter().unwrap();
    ingest.write_at(5000, &bytes[5000..7000]).unwrap();
    assert!(matches!(fixture.another().begin(&digest, SIZE).unwrap(), Begin::Busy));
    drop(ingest);
    assert_eq!(fixture.store.ingest(&digest).unwrap().unwrap().bytes, 2000);
    let mut ingest = owned(&fixture.store, &digest, SIZE);
    assert_eq!((ingest.offset(), ingest.resumed_at()), (0, 2000));
    assert_eq!(ingest.missing(), [0..5000, 7000..10_000]);
    // Whoever only knows to append can finish it as well.
    let mut offset = 0;
    while offset < 10_000 {
        let end = (offset + 900).min(10_000);
        let appended = ingest.append(&bytes[offset..end]).unwrap();
        offset = usize::try_from(appended).unwrap();
    }
    ingest.complete().unwrap();
    ingest.publish(&digest, SIZE).unwrap();
    fixture.store.verify(&digest).unwrap();
    assert!(ingest_files(&fixture.store).is_empty());
}

/// A version that knows only the plain form finds an empty file, and its bytes go before those it does not know of.
#[test]
fn what_an_older_version_has_written_counts() {
    let fixture = Fixture::new();
    let bytes = content(10_000);
    let digest = Digest::sha256(&bytes);
    let mut ingest = owned(&fixture.store, &digest, SIZE);
    ingest.scatter().unwrap();
    ingest.write_at(5000, &bytes[5000..7000]).unwrap();
    drop(ingest);
    let plain = fixture.store.root().join(format!("ingest/sha256-{}", digest.hex()));
    fs::write(&plain, &bytes[..300]).unwrap();
    let ingest = owned(&fixture.store, &digest, SIZE);
    assert_eq!((ingest.offset(), ingest.resumed_at()), (300, 300));
    assert_eq!(ingest_files(&fixture.store).len(), 1);
}

#[test]
fn a_list_that_cannot_be_believed_costs_its_bytes_and_no_more() {
    for damage in ["", "unlade parts 1\n", "nonsense"] {
        let fixture = Fixture::new();
        let bytes = content(10_000);
        let digest = Digest::sha256(&bytes);
        let mut ingest = owned(&fixture.store, &digest, SIZE);
        ingest.append(&bytes[..100]).unwrap();
        ingest.scatter().unwrap();
        ingest.write_at(5000, &bytes[5000..7000]).unwrap();
        drop(ingest);
        let list = fixture
            .store
            .root()
            .join(format!("ingest/sha256-{}.have", digest.hex()));
        assert!(fs::read_to_string(&list).unwrap().contains("5000 7000"));
        fs::write(&list, damage).unwrap();
        let ingest = owned(&fixture.store, &digest, SIZE);
        assert_eq!((ingest.offset(), ingest.resumed_at()), (0, 0));
        drop(ingest);
        assert!(ingest_files(&fixture.store).is_empty());
    }
}

/// After a power loss bytes that were listed may not be there: only those that are read from the start are believed.
#[test]
fn after_another_boot_islands_are_not_believed() {
    let fixture = Fixture::new();
    let bytes = content(10_000);
    let digest = Digest::sha256(&bytes);
    let mut ingest = owned(&fixture.store, &digest, SIZE);
    ingest.append(&bytes[..100]).unwrap();
    ingest.scatter().unwrap();
    ingest.write_at(5000, &bytes[5000..7000]).unwrap();
    drop(ingest);
    let list = fixture
        .store
        .root()
        .join(format!("ingest/sha256-{}.have", digest.hex()));
    let text = fs::read_to_string(&list).unwrap();
    let boot = text.lines().nth(1).unwrap();
    fs::write(&list, text.replace(boot, "01234567-89ab-cdef-0123-456789abcdef")).unwrap();
    let ingest = owned(&fixture.store, &digest, SIZE);
    assert_eq!((ingest.offset(), ingest.resumed_at()), (100, 100));
}

#[test]
fn what_is_too_much_or_leaves_a_gap_is_refused() {
    let fixture = Fixture::new();
    let digest = Digest::sha256("x");
    let mut ingest = owned(&fixture.store, &digest, SIZE);
    let error = ingest.write_at(1, b"y").unwrap_err();
    assert!(matches!(&error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::InvalidInput));
    assert_eq!(ingest.write_at(0, b"abc").unwrap(), 3);
    assert_eq!(ingest.write_at(1, b"xy").unwrap(), 3, "it is there already");
    assert_eq!(ingest.write_at(2, b"cd").unwrap(), 4);
    ingest.scatter().unwrap();
    let error = ingest.write_at(SIZE - 1, b"zz").unwrap_err();
    assert!(matches!(error, Error::Oversize { .. }));
    assert_eq!(error.class(), ErrorClass::Integrity);
    drop(ingest);
    assert!(ingest_files(&fixture.store).is_empty());
}

#[test]
fn one_that_is_given_up_leaves_nothing() {
    let fixture = Fixture::new();
    let digest = Digest::sha256("x");
    let mut ingest = owned(&fixture.store, &digest, SIZE);
    ingest.scatter().unwrap();
    ingest.write_at(10, b"y").unwrap();
    ingest.discard().unwrap();
    assert!(ingest_files(&fixture.store).is_empty());
    let mut ingest = owned(&fixture.store, &digest, SIZE);
    ingest.scatter().unwrap();
    drop(ingest);
    assert!(ingest_files(&fixture.store).is_empty(), "nothing to continue");
    let mut ingest = owned(&fixture.store, &digest, SIZE);
    ingest.scatter().unwrap();
    ingest.write_at(10, b"y").unwrap();
    drop(ingest);
    assert_eq!(fixture.store.discard_ingest(&digest).unwrap(), Some(1));
    assert!(ingest_files(&fixture.store).is_empty());
}
