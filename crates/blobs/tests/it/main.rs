//! What the blob store promises, on a real filesystem, across threads and processes.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod follow;
mod ingest;
mod layout;
mod processes;
mod scattered;
mod store;

use unlade_blobs::{Begin, BlobStore, Ingest};
use unlade_oci::Digest;

/// A store in a directory that goes away with it.
struct Fixture {
    store: BlobStore,
    _directory: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = BlobStore::open(&directory.path().join("store")).unwrap();
        Self {
            store,
            _directory: directory,
        }
    }

    /// Opens the same directory once more, as another part of a program would.
    fn another(&self) -> BlobStore {
        BlobStore::open(self.store.root()).unwrap()
    }
}

/// Begins an ingest that must be free.
fn owned(store: &BlobStore, digest: &Digest, size: u64) -> Ingest {
    match store.begin(digest, size).unwrap() {
        Begin::Owned(ingest) => ingest,
        other => panic!("expected to own the ingest, got {other:?}"),
    }
}

/// Bytes that differ everywhere, so that any shift shows.
fn content(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The names of the files in the ingest directory, sorted.
fn ingest_files(store: &BlobStore) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(store.root().join("ingest"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// What a pull hands to other threads can go there. The compiler checks it.
const _: () = {
    const fn send<T: Send>() {}
    const fn sync<T: Sync>() {}
    send::<Ingest>();
    send::<unlade_blobs::Follower>();
    send::<BlobStore>();
    sync::<BlobStore>();
    send::<unlade_blobs::CancelHandle>();
    sync::<unlade_blobs::CancelHandle>();
    send::<unlade_blobs::Watermark>();
    sync::<unlade_blobs::Watermark>();
    send::<unlade_blobs::Error>();
    sync::<unlade_blobs::Error>();
};
