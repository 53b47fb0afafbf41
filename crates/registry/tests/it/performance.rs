//! Blobs come in large pieces: the cost of a piece is the same whatever its size.

use crate::{Fixture, noise};

#[tokio::test]
async fn a_fast_line_gives_large_chunks() {
    let fixture = Fixture::start();
    let bytes = noise(32 << 20);
    let descriptor = fixture.push(&bytes);
    let mut stream = fixture
        .client()
        .blob(&fixture.repository(), &descriptor, 0)
        .await
        .unwrap();
    let mut chunks = 0_u64;
    while stream.next().await.unwrap().is_some() {
        chunks += 1;
    }
    let average = descriptor.size / chunks;
    assert!(average >= 32 << 10, "{chunks} chunks of {average} bytes");
}
