//! Ingests across processes: one that is killed holds nothing, and its bytes are not lost.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use unlade_blobs::{Begin, BlobStore, hash};
use unlade_oci::{Algorithm, Digest};

use crate::{Fixture, content, owned};

const ROOT: &str = "UNLADE_TEST_STORE";
const SIZE: usize = 3_000_000;

/// Runs this test binary with nothing but the test `name`; returns once it has said that it is at work.
fn run_in_child(name: &str, root: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--ignored"])
        .env(ROOT, root)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    assert!(output.lines().any(|line| line.unwrap().contains("at work")));
    child
}

/// Appends small pieces without end in sight, until it is killed.
#[test]
#[ignore = "the other process of the tests in this module"]
#[expect(clippy::disallowed_methods, reason = "how the parent tells its child what to do")]
fn writer() {
    let Some(root) = std::env::var_os(ROOT) else { return };
    let bytes = content(SIZE);
    let mut ingest = owned(
        &BlobStore::open(Path::new(&root)).unwrap(),
        &Digest::sha256(&bytes),
        SIZE as u64,
    );
    let mut offset = usize::try_from(ingest.offset()).unwrap();
    println!("at work");
    // The last byte never comes.
    while offset < SIZE - 1 {
        let end = (offset + 1_009).min(SIZE - 1);
        ingest.append(&bytes[offset..end]).unwrap();
        offset = end;
        std::thread::sleep(Duration::from_micros(100));
    }
    std::thread::sleep(Duration::from_mins(1));
}

/// Writes every second piece first, without end in sight, until it is killed.
#[test]
#[ignore = "the other process of the tests in this module"]
#[expect(clippy::disallowed_methods, reason = "how the parent tells its child what to do")]
fn scattering_writer() {
    const PIECE: usize = 1 << 20;
    let Some(root) = std::env::var_os(ROOT) else { return };
    let bytes = content(SCATTERED);
    let store = BlobStore::open(Path::new(&root)).unwrap();
    let mut ingest = owned(&store, &Digest::sha256(&bytes), SCATTERED as u64);
    assert!(ingest.scatter().unwrap());
    let pieces = SCATTERED / PIECE;
    for piece in (1..pieces).step_by(2).chain((0..pieces - 2).step_by(2)) {
        let start = piece * PIECE;
        ingest.write_at(start as u64, &bytes[start..start + PIECE]).unwrap();
        if piece == 1 {
            println!("at work");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_mins(1));
}

const SCATTERED: usize = 24 << 20;

#[test]
fn a_killed_scattering_writer_is_continued_without_trusting_holes() {
    let fixture = Fixture::new();
    let bytes = content(SCATTERED);
    let digest = Digest::sha256(&bytes);
    let plain = fixture.store.root().join(format!("ingest/sha256-{}", digest.hex()));
    for round in 0..3 {
        let mut child = run_in_child("processes::scattering_writer", fixture.store.root());
        while fixture
            .store
            .ingest(&digest)
            .unwrap()
            .is_none_or(|ingest| ingest.bytes == 0)
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(40 * round));
        assert!(matches!(
            fixture.store.begin(&digest, SCATTERED as u64).unwrap(),
            Begin::Busy
        ));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(
            std::fs::metadata(&plain).unwrap().len(),
            0,
            "the plain form tells no lie"
        );
    }
    let mut ingest = owned(&fixture.store, &digest, SCATTERED as u64);
    assert!(ingest.resumed_at() > 0);
    let follower = ingest.follower().unwrap();
    let reader = std::thread::spawn(move || hash(follower, Algorithm::Sha256).unwrap());
    let missing: u64 = ingest.missing().iter().map(|range| range.end - range.start).sum();
    assert_eq!(missing + ingest.resumed_at(), SCATTERED as u64);
    for range in ingest.missing() {
        let part = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        ingest.write_at(range.start, &bytes[part]).unwrap();
    }
    ingest.complete().unwrap();
    assert_eq!(std::fs::metadata(&plain).unwrap().len(), SCATTERED as u64);
    let (found, size) = reader.join().unwrap();
    ingest.publish(&found, size).unwrap();
    fixture.store.verify(&digest).unwrap();
    assert!(crate::ingest_files(&fixture.store).is_empty());
}

#[test]
fn a_killed_writer_is_continued_from_its_last_byte() {
    let fixture = Fixture::new();
    let bytes = content(SIZE);
    let digest = Digest::sha256(&bytes);
    let mut before = 0;
    for round in 0..4 {
        let mut child = run_in_child("processes::writer", fixture.store.root());
        // On a busy machine it may take a while until it gets on.
        while fixture
            .store
            .ingest(&digest)
            .unwrap()
            .is_none_or(|ingest| ingest.bytes <= before)
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Another moment each time, so that it is killed at different points of its work.
        std::thread::sleep(Duration::from_millis(7 * round + 20));
        assert!(matches!(
            fixture.store.begin(&digest, SIZE as u64).unwrap(),
            Begin::Busy
        ));
        let info = fixture.store.ingest(&digest).unwrap().unwrap();
        assert!(info.busy);
        assert!(info.holder.is_none_or(|process| process == child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        let left = fixture.store.ingest(&digest).unwrap().unwrap();
        assert!(!left.busy);
        assert!(left.bytes > before, "{} bytes, {before} the round before", left.bytes);
        before = left.bytes;
    }
    let mut ingest = owned(&fixture.store, &digest, SIZE as u64);
    assert_eq!(ingest.offset(), before);
    assert_eq!(ingest.resumed_at(), before);
    let follower = ingest.follower().unwrap();
    let reader = std::thread::spawn(move || hash(follower, Algorithm::Sha256).unwrap());
    ingest.append(&bytes[usize::try_from(before).unwrap()..]).unwrap();
    ingest.complete().unwrap();
    let (actual, size) = reader.join().unwrap();
    assert_eq!(actual, digest, "not a byte is missing, and none came twice");
    ingest.publish(&actual, size).unwrap();
    fixture.store.verify(&digest).unwrap();
}

fn small_blobs() -> Vec<(Digest, Vec<u8>)> {
    (0..400_u32)
        .map(|number| number.to_le_bytes().repeat(300))
        .map(|bytes| (Digest::sha256(&bytes), bytes))
        .collect()
}

/// Fetches the small blobs one after another; whatever others hold is left for the next time round.
fn fetch_all(store: &BlobStore) -> bool {
    let mut all_present = true;
    for (digest, bytes) in &small_blobs() {
        match store.begin(digest, bytes.len() as u64).unwrap() {
            Begin::Present => {}
            Begin::Busy => all_present = false,
            Begin::Owned(mut ingest) => {
                for chunk in bytes[usize::try_from(ingest.offset()).unwrap()..].chunks(500) {
                    ingest.append(chunk).unwrap();
                }
                ingest.complete().unwrap();
                let (actual, size) = hash(ingest.follower().unwrap(), Algorithm::Sha256).unwrap();
                ingest.publish(&actual, size).unwrap();
            }
        }
        store
            .put(&Digest::sha256(digest.hex()), digest.hex().as_bytes())
            .unwrap();
    }
    all_present
}

#[test]
#[ignore = "the other process of the tests in this module"]
#[expect(clippy::disallowed_methods, reason = "how the parent tells its child what to do")]
fn fetcher() {
    let Some(root) = std::env::var_os(ROOT) else { return };
    let store = BlobStore::open(Path::new(&root)).unwrap();
    println!("at work");
    while !fetch_all(&store) {}
    std::thread::sleep(Duration::from_mins(1));
}

/// At whatever moment processes are killed: what is published is sound, and the next one gets the work done.
#[test]
fn killed_at_any_moment() {
    let fixture = Fixture::new();
    let blobs = small_blobs();
    for round in 0..12_u64 {
        let mut children = [(); 2].map(|()| run_in_child("processes::fetcher", fixture.store.root()));
        for child in &mut children {
            std::thread::sleep(Duration::from_micros(700 * round + 300));
            child.kill().unwrap();
        }
        for child in &mut children {
            child.wait().unwrap();
        }
        let store = fixture.another();
        for (digest, _) in store.list().unwrap() {
            store.verify(&digest).unwrap();
        }
        assert!(store.ingests().unwrap().iter().all(|ingest| !ingest.busy));
    }
    assert!(fetch_all(&fixture.store));
    for (digest, bytes) in &blobs {
        assert_eq!(&fixture.store.read(digest, 2_000).unwrap(), bytes);
    }
    assert_eq!(fixture.store.list().unwrap().len(), 2 * blobs.len());
    assert!(fixture.store.ingests().unwrap().is_empty());
}
