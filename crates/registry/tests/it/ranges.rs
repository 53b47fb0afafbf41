//! The answers to a request for the rest of a blob.

use bytes::Bytes;
use unlade_oci::{Descriptor, ErrorClass};
use unlade_registry::Error;
use unlade_test_support::Fault;

use crate::{Fixture, noise, read, text};

/// Reads a blob of 100,000 bytes whose first connection is cut at 40,000.
async fn cut(fixture: &Fixture) -> (Bytes, Descriptor, Result<Vec<u8>, Error>, bool) {
    let bytes = noise(100_000);
    let descriptor = fixture.push(&bytes);
    fixture.registry.fault(Fault::on_blobs().nth(1).cut_after(40_000));
    let mut stream = fixture
        .client()
        .blob(&fixture.repository(), &descriptor, 0)
        .await
        .unwrap();
    let result = read(&mut stream, Vec::new()).await;
    (bytes, descriptor, result, stream.restarted())
}

#[tokio::test]
async fn a_200_means_the_whole_again() {
    let fixture = Fixture::start();
    fixture.registry.fault(Fault::on_blobs().ignore_range());
    let (bytes, descriptor, result, restarted) = cut(&fixture).await;
    assert_eq!(result.unwrap(), bytes);
    assert!(restarted);
    assert_eq!(fixture.log(), ["GET blob 200", "GET blob 200"]);
    let expected = format!(
        "{} cannot continue {} at byte 40000, it is fetched again from the start: it answered with the whole blob",
        fixture.registry.host(),
        descriptor.digest
    );
    assert_eq!(fixture.warnings(), [expected]);
}

#[tokio::test]
async fn a_200_restarts_once_only() {
    let fixture = Fixture::start();
    fixture.registry.fault(Fault::on_blobs().ignore_range());
    fixture.registry.fault(Fault::on_blobs().nth(2).cut_after(60_000));
    let (_, _, result, _) = cut(&fixture).await;
    let error = result.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Network);
    assert!(
        text(&error).contains("does not give the blob from byte 60000 on"),
        "{}",
        text(&error)
    );
    assert_eq!(fixture.log().len(), 3);
}

#[tokio::test]
async fn a_206_of_another_part_is_not_used() {
    for wrong in ["bytes 0-99999/100000", "bytes 40001-99999/100000", "nonsense"] {
        let fixture = Fixture::start();
        fixture.registry.fault(Fault::on_blobs().nth(2).content_range(wrong));
        let (bytes, _, result, restarted) = cut(&fixture).await;
        assert_eq!(result.unwrap(), bytes, "{wrong}");
        assert!(restarted, "{wrong}");
        assert_eq!(
            fixture.log(),
            ["GET blob 200", "GET blob 206", "GET blob 200"],
            "{wrong}"
        );
        assert_eq!(fixture.registry.requests()[2].range, None, "{wrong}");
    }
}

#[tokio::test]
async fn a_206_without_content_range_is_not_used() {
    let fixture = Fixture::start();
    fixture
        .registry
        .fault(Fault::on_blobs().nth(2).without_header("content-range"));
    let (bytes, _, result, restarted) = cut(&fixture).await;
    assert_eq!(result.unwrap(), bytes);
    assert!(restarted);
}

#[tokio::test]
async fn a_206_of_a_larger_blob_is_refused() {
    let fixture = Fixture::start();
    fixture
        .registry
        .fault(Fault::on_blobs().nth(2).content_range("bytes 40000-99999/100001"));
    let (_, _, result, _) = cut(&fixture).await;
    assert_eq!(result.unwrap_err().class(), ErrorClass::Integrity);
}

#[tokio::test]
async fn a_416_within_the_blob_starts_again() {
    let fixture = Fixture::start();
    fixture.registry.fault(Fault::on_blobs().nth(2).status(416));
    let (bytes, _, result, restarted) = cut(&fixture).await;
    assert_eq!(result.unwrap(), bytes);
    assert!(restarted);
    assert_eq!(fixture.log(), ["GET blob 200", "GET blob 416", "GET blob 200"]);
}

#[tokio::test]
async fn a_416_that_names_another_size_is_refused() {
    let fixture = Fixture::start();
    fixture.registry.fault(
        Fault::on_blobs()
            .nth(2)
            .status(416)
            .header("content-range", "bytes */39000"),
    );
    let (_, _, result, _) = cut(&fixture).await;
    let error = result.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Integrity);
    assert!(text(&error).contains("the blob has 39000 bytes"), "{}", text(&error));
}

#[tokio::test]
async fn a_cut_after_the_last_byte_needs_no_other_request() {
    let fixture = Fixture::start();
    let bytes = noise(50_000);
    let descriptor = fixture.push(&bytes);
    fixture
        .registry
        .fault(Fault::on_blobs().without_header("content-length").cut_after(50_000));
    let mut stream = fixture
        .client()
        .blob(&fixture.repository(), &descriptor, 0)
        .await
        .unwrap();
    assert_eq!(read(&mut stream, Vec::new()).await.unwrap(), bytes);
    assert_eq!(fixture.log().len(), 1);
}
