//! The life of an ingest within one process: begin, append, resume, publish, and everything that may go wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};

use unlade_blobs::{Begin, BlobStore, Error};
use unlade_oci::{Algorithm, Digest, ErrorClass};

use crate::{Fixture, content, ingest_files, owned};

fn partial_path(store: &BlobStore, digest: &Digest) -> PathBuf {
    store
        .root()
        .join("ingest")
        .join(format!("{}-{}", digest.algorithm(), digest.hex()))
}

#[test]
fn begin_append_publish() {
    let fixture = Fixture::new();
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let bytes = content(10_000);
        let digest = Digest::of(algorithm, &bytes);
        let mut ingest = owned(&fixture.store, &digest, 10_000);
        assert_eq!(
            (ingest.digest(), ingest.size(), ingest.offset(), ingest.resumed_at()),
            (&digest, 10_000, 0, 0)
        );
        assert_eq!(ingest.append(&bytes[..4_000]).unwrap(), 4_000);
        assert_eq!(ingest.append(&[]).unwrap(), 4_000);
        assert!(
            !fixture.store.contains(&digest).unwrap(),
            "not visible before it is published"
        );
        assert!(!fixture.store.path(&digest).exists());
        assert_eq!(ingest.append(&bytes[4_000..]).unwrap(), 10_000);
        ingest.complete().unwrap();
        ingest.complete().unwrap();
        ingest.publish(&digest, 10_000).unwrap();
        fixture.store.verify(&digest).unwrap();
        let mode = fs::metadata(fixture.store.path(&digest)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o444);
        assert!(matches!(
            fixture.another().begin(&digest, 10_000).unwrap(),
            Begin::Present
        ));
    }
    assert!(ingest_files(&fixture.store).is_empty());
    assert_eq!(fixture.store.list().unwrap().len(), 2);
}

#[test]
fn one_owns_and_the_others_find_it_busy_and_then_present() {
    let fixture = Fixture::new();
    let digest = Digest::sha256("bytes");
    let mut ingest = owned(&fixture.store, &digest, 5);
    for store in [fixture.store.clone(), fixture.another()] {
        assert!(matches!(store.begin(&digest, 5).unwrap(), Begin::Busy));
    }
    ingest.append(b"bytes").unwrap();
    ingest.publish(&digest, 5).unwrap();
    for store in [fixture.store.clone(), fixture.another()] {
        assert!(matches!(store.begin(&digest, 5).unwrap(), Begin::Present));
    }
}

/// Threads race for the same blobs. Exactly one fetches each, whatever the moment at which the others come.
#[test]
fn a_race_has_one_winner() {
    let fixture = Fixture::new();
    let blobs: Vec<_> = (0..60_u8)
        .map(|number| (Digest::sha256([number; 9]), [number; 9]))
        .collect();
    let (fetched, barrier) = (AtomicU32::new(0), Barrier::new(4));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let store = fixture.another();
                for (digest, bytes) in &blobs {
                    barrier.wait();
                    loop {
                        match store.begin(digest, 9).unwrap() {
                            Begin::Present => break,
                            Begin::Busy => std::thread::yield_now(),
                            Begin::Owned(mut ingest) => {
                                fetched.fetch_add(1, Ordering::Relaxed);
                                ingest.append(bytes).unwrap();
                                ingest.publish(digest, 9).unwrap();
                            }
                        }
                    }
                    store.verify(digest).unwrap();
                }
            });
        }
    });
    assert_eq!(fetched.load(Ordering::Relaxed), 60);
    assert!(
        ingest_files(&fixture.store).is_empty(),
        "{:?}",
        ingest_files(&fixture.store)
    );
}

#[test]
fn a_dropped_ingest_is_continued() {
    let fixture = Fixture::new();
    let bytes = content(9_000);
    let digest = Digest::sha256(&bytes);
    for (number, chunk) in bytes.chunks(3_000).enumerate() {
        let mut ingest = owned(&fixture.another(), &digest, 9_000);
        assert_eq!(ingest.offset(), number as u64 * 3_000);
        assert_eq!(ingest.resumed_at(), ingest.offset());
        ingest.append(chunk).unwrap();
    }
    // Everything is there, but nobody has said so yet.
    let mut ingest = owned(&fixture.store, &digest, 9_000);
    assert_eq!(ingest.offset(), 9_000);
    ingest.complete().unwrap();
    ingest.publish(&digest, 9_000).unwrap();
    fixture.store.verify(&digest).unwrap();
}

#[test]
fn a_failed_ingest_is_continued_by_the_next_holder_only() {
    let fixture = Fixture::new();
    let digest = Digest::sha256("bytes");
    let mut ingest = owned(&fixture.store, &digest, 5);
    ingest.append(b"by").unwrap();
    ingest.fail("the line is dead");
    for error in [ingest.append(b"tes").unwrap_err(), ingest.complete().unwrap_err()] {
        assert!(
            matches!(&error, Error::Failed { message, .. } if message == "the line is dead"),
            "{error:?}"
        );
    }
    assert!(matches!(ingest.publish(&digest, 5).unwrap_err(), Error::Failed { .. }));
    assert_eq!(owned(&fixture.store, &digest, 5).offset(), 2);
}

#[test]
fn an_untouched_ingest_leaves_nothing() {
    let fixture = Fixture::new();
    drop(owned(&fixture.store, &Digest::sha256("bytes"), 5));
    assert!(ingest_files(&fixture.store).is_empty());
}

#[test]
fn a_partial_that_is_too_long_is_dropped() {
    let fixture = Fixture::new();
    let digest = Digest::sha256("bytes");
    fs::write(partial_path(&fixture.store, &digest), "something longer").unwrap();
    let mut ingest = owned(&fixture.store, &digest, 5);
    assert_eq!(ingest.offset(), 0);
    ingest.append(b"bytes").unwrap();
    ingest.publish(&digest, 5).unwrap();
    fixture.store.verify(&digest).unwrap();
}

#[test]
fn the_wrong_content_is_not_published_and_not_kept() {
    let fixture = Fixture::new();
    let digest = Digest::sha256("bytes");
    let other = Digest::sha256("BYTES");
    let cases = [(&other, 5), (&digest, 4), (&other, 6)];
    for (actual_digest, size) in cases {
        let mut ingest = owned(&fixture.store, &digest, 5);
        ingest.append(b"BYTES").unwrap();
        ingest.complete().unwrap();
        let error = ingest.publish(actual_digest, size).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Integrity);
        let (text, expected_text, actual_text) = (error.to_string(), digest.to_string(), actual_digest.to_string());
        assert!(text.contains(&expected_text) && text.contains(&actual_text), "{text}");
        assert!(
            matches!(error, Error::Mismatch { expected, expected_size: 5, actual, actual_size }
            if expected == digest && actual == *actual_digest && actual_size == size)
        );
        assert!(ingest_files(&fixture.store).is_empty());
        assert!(!fixture.store.contains(&digest).unwrap());
    }
    assert_eq!(
        owned(&fixture.store, &digest, 5).offset(),
        0,
        "the next one starts anew"
    );
}

#[test]
fn more_than_the_blob_has_is_refused() {
    let fixture = Fixture::new();
    let digest = Digest::sha256("bytes");
    let mut ingest = owned(&fixture.store, &digest, 5);
    ingest.append(b"byte").unwrap();
    let error = ingest.append(b"s and more").unwrap_err();
    assert_eq!(error.class(), ErrorClass::Integrity);
    assert!(matches!(
        error,
        Error::Oversize {
            size: 5,
            arrived: 14,
            ..
        }
    ));
    assert!(ingest_files(&fixture.store).is_empty());
    assert!(matches!(ingest.append(b"s").unwrap_err(), Error::Failed { .. }));
    assert!(matches!(ingest.publish(&digest, 5).unwrap_err(), Error::Failed { .. }));
    assert!(!fixture.store.contains(&digest).unwrap());
}

#[test]
fn less_than_the_blob_has_is_kept() {
    let fixture = Fixture::new();
    let digest = Digest::sha256("bytes");
    let mut ingest = owned(&fixture.store, &digest, 5);
    ingest.append(b"byte").unwrap();
    let error = ingest.complete().unwrap_err();
    assert_eq!(error.class(), ErrorClass::Integrity);
    assert!(matches!(
        error,
        Error::Incomplete {
            size: 5,
            arrived: 4,
            ..
        }
    ));
    // A reader that says it saw everything does not change that.
    assert!(matches!(
        ingest.publish(&digest, 5).unwrap_err(),
        Error::Incomplete { .. }
    ));
    let mut ingest = owned(&fixture.store, &digest, 5);
    assert_eq!(ingest.append(b"s").unwrap(), 5);
    ingest.publish(&digest, 5).unwrap();
}

#[test]
fn publishing_over_what_was_published_meanwhile() {
    let fixture = Fixture::new();
    let digest = Digest::sha256("bytes");
    let mut ingest = owned(&fixture.store, &digest, 5);
    ingest.append(b"bytes").unwrap();
    fixture.another().put(&digest, b"bytes").unwrap();
    ingest.publish(&digest, 5).unwrap();
    fixture.store.verify(&digest).unwrap();
    assert_eq!(fixture.store.list().unwrap().len(), 1);
}

#[test]
fn the_partial_of_a_published_blob_is_removed() {
    let fixture = Fixture::new();
    let digest = Digest::sha256("bytes");
    fixture.store.put(&digest, b"bytes").unwrap();
    fs::write(partial_path(&fixture.store, &digest), "by").unwrap();
    assert!(matches!(fixture.store.begin(&digest, 5).unwrap(), Begin::Present));
    assert!(ingest_files(&fixture.store).is_empty());
}

/// A crash of the machine may leave a published blob without its content, since publishing does not sync.
#[test]
fn a_published_blob_of_the_wrong_size_is_fetched_again() {
    let fixture = Fixture::new();
    let digest = Digest::sha256("bytes");
    fs::write(fixture.store.path(&digest), "").unwrap();
    let mut ingest = owned(&fixture.store, &digest, 5);
    ingest.append(b"bytes").unwrap();
    ingest.publish(&digest, 5).unwrap();
    fixture.store.verify(&digest).unwrap();
}

#[test]
fn a_descriptor_with_the_wrong_size_is_refused() {
    let fixture = Fixture::new();
    let digest = Digest::sha256("bytes");
    fixture.store.put(&digest, b"bytes").unwrap();
    let error = fixture.store.begin(&digest, 7).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Integrity);
    assert!(matches!(
        error,
        Error::Mismatch {
            expected_size: 7,
            actual_size: 5,
            ..
        }
    ));
    fixture.store.verify(&digest).unwrap();
    assert!(ingest_files(&fixture.store).is_empty());
}

#[test]
fn ingests_are_listed_and_discarded() {
    let fixture = Fixture::new();
    assert!(fixture.store.ingests().unwrap().is_empty());
    let (held, left) = (Digest::sha256("held"), Digest::of(Algorithm::Sha512, "left"));
    let mut ingest = owned(&fixture.store, &held, 4);
    ingest.append(b"he").unwrap();
    owned(&fixture.store, &left, 4).append(b"lef").unwrap();
    for foreign in ["README", "sha256-abc", ".unlade-tmp-1-1", "md5-00"] {
        fs::write(fixture.store.root().join("ingest").join(foreign), "").unwrap();
    }
    let infos = fixture.store.ingests().unwrap();
    let seen: Vec<_> = infos.iter().map(|info| (&info.digest, info.bytes, info.busy)).collect();
    assert_eq!(seen, [(&held, 2, true), (&left, 3, false)]);
    // The kernel may not tell who holds a lock, but it tells no lies.
    assert!(infos[0].holder.is_none_or(|process| process == std::process::id()));
    assert_eq!(infos[1].holder, None);

    assert!(matches!(
        fixture.store.discard_ingest(&held).unwrap_err(),
        Error::Busy { .. }
    ));
    assert_eq!(fixture.store.discard_ingest(&left).unwrap(), Some(3));
    assert_eq!(fixture.store.discard_ingest(&left).unwrap(), None);
    assert!(fixture.store.ingest(&left).unwrap().is_none());
    ingest.discard().unwrap();
    assert!(fixture.store.ingests().unwrap().is_empty());
}
