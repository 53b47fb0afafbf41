//! Images and registries that several modules use.

use std::time::{Duration, Instant};

use unlade_test_support::{Artifact, Compression, FakeRegistry, Image, ImageBuilder, Layer, LayerBuilder};
use unlade_tests::Home;

/// How long a test waits for what must happen soon.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Starts a fake registry that has `artifact` as `app:latest`. Returns it, and the reference.
pub(crate) fn serve(artifact: &dyn Artifact) -> (FakeRegistry, String) {
    let registry = FakeRegistry::start();
    registry.push("app", "latest", artifact);
    let reference = registry.reference("app", "latest");
    (registry, reference)
}

/// An image of one layer.
pub(crate) fn image_of(layer: &Layer) -> Image {
    ImageBuilder::new().layer(layer.clone()).build()
}

/// A gzip layer with one file that does not compress, of that many bytes.
pub(crate) fn fat_layer(name: &str, bytes: usize) -> Layer {
    LayerBuilder::new()
        .file(name, noise(name, bytes))
        .build(Compression::Gzip)
}

/// Bytes that do not compress, the same for the same name (Marsaglia's xorshift).
pub(crate) fn noise(name: &str, bytes: usize) -> Vec<u8> {
    let seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut state = name
        .bytes()
        .fold(seed, |state, byte| state.rotate_left(7) ^ u64::from(byte));
    let mut content = Vec::with_capacity(bytes + 8);
    while content.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        content.extend_from_slice(&state.to_le_bytes());
    }
    content.truncate(bytes);
    content
}

/// Counts the requests for each blob, most first.
pub(crate) fn blob_requests(registry: &FakeRegistry) -> Vec<(String, usize)> {
    let mut paths: Vec<String> = registry
        .requests()
        .into_iter()
        .map(|request| request.path)
        .filter(|path| path.contains("/blobs/"))
        .collect();
    paths.sort();
    let mut counts: Vec<(String, usize)> = paths
        .chunk_by(|one, other| one == other)
        .map(|same| (same[0].clone(), same.len()))
        .collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}

/// Returns how many bytes of blobs are in the store so far.
pub(crate) fn ingested(home: &Home) -> u64 {
    let path = |name: &String| home.store().join("ingest").join(name);
    let size = |name: &String| path(name).metadata().map_or(0, |metadata| metadata.len());
    home.leftovers().ingest.iter().map(size).sum()
}

/// Waits until something is so, and fails the test if that takes too long.
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let since = Instant::now();
    while !condition() {
        assert!(since.elapsed() < SOON, "it takes too long until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
