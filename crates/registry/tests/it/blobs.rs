//! Blobs as streams: whole, resumed, cut, and of the wrong size.

use std::time::Duration;

use unlade_oci::{Descriptor, Digest, ErrorClass, MediaType};
use unlade_test_support::{FakeRegistry, Fault};

use crate::{Fixture, fetch, noise, read, text};

#[tokio::test]
async fn a_blob_arrives_as_it_is() {
    let fixture = Fixture::start();
    let bytes = noise(3 << 20);
    let descriptor = fixture.push(&bytes);
    let client = fixture.client();
    let mut stream = client.blob(&fixture.repository(), &descriptor, 0).await.unwrap();
    assert_eq!(read(&mut stream, Vec::new()).await.unwrap(), bytes);
    assert_eq!(stream.next().await.unwrap(), None, "the end stays the end");
    assert_eq!((stream.attempts(), stream.restarted()), (1, false));
    let request = &fixture.registry.requests()[0];
    assert_eq!(request.header("accept-encoding"), Some("identity"));
    assert_eq!(request.range, None);

    assert_eq!(fetch(&client, &fixture.repository(), &descriptor).await.unwrap(), bytes);
    assert_eq!(fixture.registry.connections(), 1, "the connection is used again");
}

#[tokio::test]
async fn a_blob_without_a_declared_length() {
    let fixture = Fixture::start();
    let bytes = noise(300_000);
    let descriptor = fixture.push(&bytes);
    fixture
        .registry
        .fault(Fault::on_blobs().without_header("content-length"));
    assert_eq!(
        fetch(&fixture.client(), &fixture.repository(), &descriptor)
            .await
            .unwrap(),
        bytes
    );
    assert_eq!(fixture.log(), ["GET blob 200"]);
}

#[tokio::test]
async fn a_content_encoding_changes_nothing() {
    let fixture = Fixture::start();
    let bytes = noise(10_000);
    let descriptor = fixture.push(&bytes);
    fixture
        .registry
        .fault(Fault::on_blobs().header("content-encoding", "x-gzip"));
    assert_eq!(
        fetch(&fixture.client(), &fixture.repository(), &descriptor)
            .await
            .unwrap(),
        bytes
    );
}

#[tokio::test]
async fn an_empty_blob() {
    let fixture = Fixture::start();
    let descriptor = fixture.push(&noise(0));
    assert!(
        fetch(&fixture.client(), &fixture.repository(), &descriptor)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn an_error_written_into_a_blob_is_no_part_of_it() {
    const ERROR: &[u8] = b"{\"errors\":[{\"code\":\"UNKNOWN\",\"message\":\"unknown error\",\"detail\":{}}]}\n";
    for declares in [true, false] {
        let fixture = Fixture::start();
        let bytes = noise(300_000);
        let descriptor = fixture.push(&bytes);
        let spoilt = [&bytes[..100_000], ERROR].concat();
        let fault = Fault::on_blobs().nth(1).content(spoilt);
        fixture.registry.fault(if declares {
            fault.declare_length(300_000)
        } else {
            fault.without_header("content-length")
        });
        let client = fixture.client();
        assert_eq!(fetch(&client, &fixture.repository(), &descriptor).await.unwrap(), bytes);
        let ranges: Vec<_> = fixture
            .registry
            .requests()
            .into_iter()
            .map(|request| request.range)
            .collect();
        assert_eq!(ranges, [None, Some("bytes=100000-".to_owned())]);
    }
}

#[tokio::test]
async fn what_looks_like_an_error_in_a_blob_is_content_all_the_same() {
    let error = r#"{"errors":[{"code":"UNKNOWN","message":"unknown error"}]}"#;
    // One alone, many after one another, and one at the end.
    for content in [
        error.to_owned(),
        error.repeat(20_000),
        format!("{}{error}", "x".repeat(100_000)),
    ] {
        let fixture = Fixture::start();
        let descriptor = fixture.push(&content.clone().into());
        let client = fixture.client();
        let trickle = Fault::on_blobs().trickle(content.len() / 40 + 1, Duration::from_millis(1));
        fixture.registry.fault(trickle);
        let fetched = fetch(&client, &fixture.repository(), &descriptor).await.unwrap();
        assert_eq!(fetched, content.as_bytes());
        assert_eq!(fixture.log().len(), 1);
    }
}

#[tokio::test]
async fn a_cut_connection_is_continued_with_a_range() {
    let fixture = Fixture::start();
    let bytes = noise(1_000_000);
    let descriptor = fixture.push(&bytes);
    for (nth, at) in [(1, 300_000), (2, 300_000), (3, 300_000)] {
        fixture.registry.fault(Fault::on_blobs().nth(nth).cut_after(at));
    }
    let mut stream = fixture
        .client()
        .blob(&fixture.repository(), &descriptor, 0)
        .await
        .unwrap();
    assert_eq!(read(&mut stream, Vec::new()).await.unwrap(), bytes);
    assert_eq!(stream.attempts(), 4);
    let ranges: Vec<_> = fixture
        .registry
        .requests()
        .into_iter()
        .map(|request| request.range)
        .collect();
    let expected = [
        None,
        Some("bytes=300000-"),
        Some("bytes=600000-"),
        Some("bytes=900000-"),
    ];
    assert_eq!(ranges, expected.map(|range| range.map(str::to_owned)));
    let served = fixture.registry.blob_bytes_served(&descriptor.digest);
    assert!(served <= descriptor.size * 105 / 100, "{served} bytes were served");
    assert_eq!(fixture.warnings(), [""; 0]);
}

#[tokio::test]
async fn a_blob_that_keeps_moving_outlives_the_budget() {
    let fixture = Fixture::start();
    let bytes = noise(12 << 20);
    let descriptor = fixture.push(&bytes);
    // Ten cuts, with four attempts in a row allowed.
    fixture
        .registry
        .fault(Fault::on_blobs().first(10).cut_after((1 << 20) + 1));
    assert_eq!(
        fetch(&fixture.client(), &fixture.repository(), &descriptor)
            .await
            .unwrap(),
        bytes
    );
}

#[tokio::test]
async fn a_connection_that_is_always_cut_at_the_same_place_fails() {
    let fixture = Fixture::start();
    let descriptor = fixture.push(&noise(100_000));
    fixture.registry.fault(Fault::on_blobs().nth(1).cut_after(40_000));
    fixture.registry.fault(Fault::on_blobs().from(2).cut_after(0));
    let error = fetch(&fixture.client(), &fixture.repository(), &descriptor)
        .await
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::Network);
    assert!(error.is_retryable());
    let text = text(&error);
    assert!(text.contains("failed at byte 40000 (after 4 attempts and "), "{text}");
    assert_eq!(fixture.log().len(), 4);
}

#[tokio::test]
async fn a_stream_may_begin_in_the_middle() {
    let fixture = Fixture::start();
    let bytes = noise(100_000);
    let descriptor = fixture.push(&bytes);
    let mut stream = fixture
        .client()
        .blob(&fixture.repository(), &descriptor, 60_000)
        .await
        .unwrap();
    assert_eq!(read(&mut stream, bytes[..60_000].to_vec()).await.unwrap(), bytes);
    assert_eq!(fixture.registry.blob_bytes_served(&descriptor.digest), 40_000);
    assert_eq!(fixture.registry.requests()[0].range.as_deref(), Some("bytes=60000-"));
}

#[tokio::test]
async fn a_complete_blob_is_not_asked_for() {
    let fixture = Fixture::start();
    let descriptor = fixture.push(&noise(1000));
    let mut stream = fixture
        .client()
        .blob(&fixture.repository(), &descriptor, 1000)
        .await
        .unwrap();
    assert_eq!(stream.next().await.unwrap(), None);
    assert_eq!(fixture.log(), [""; 0]);
    let error = fixture
        .client()
        .blob(&fixture.repository(), &descriptor, 1001)
        .await
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::Integrity);
}

#[tokio::test]
async fn another_size_than_the_descriptor_says_is_refused() {
    let fixture = Fixture::start();
    let bytes = noise(1000);
    for size in [999, 1001] {
        for chunked in [false, true] {
            fixture.registry.clear_faults();
            if chunked {
                fixture
                    .registry
                    .fault(Fault::on_blobs().without_header("content-length"));
            }
            let descriptor = Descriptor {
                size,
                ..fixture.push(&bytes)
            };
            let error = fetch(&fixture.client(), &fixture.repository(), &descriptor)
                .await
                .unwrap_err();
            assert_eq!(
                error.class(),
                ErrorClass::Integrity,
                "{size} {chunked}: {}",
                text(&error)
            );
            let expected = format!("the blob has 1000 bytes, its descriptor says {size}");
            assert!(text(&error).ends_with(&expected), "{size} {chunked}: {}", text(&error));
        }
    }
}

#[tokio::test]
async fn a_web_page_is_not_a_blob() {
    let fixture = Fixture::start();
    let descriptor = fixture.push(&noise(1000));
    fixture.registry.fault(Fault::on_blobs().html());
    let error = fetch(&fixture.client(), &fixture.repository(), &descriptor)
        .await
        .unwrap_err();
    assert!(
        text(&error).ends_with("(text/html) where a blob was due (a proxy or portal?)"),
        "{error}"
    );

    // Storage that guesses types is forgiven if the size is right.
    fixture.registry.clear_faults();
    fixture
        .registry
        .fault(Fault::on_blobs().header("content-type", "text/html"));
    assert_eq!(
        fetch(&fixture.client(), &fixture.repository(), &descriptor)
            .await
            .unwrap(),
        noise(1000)
    );
}

#[tokio::test]
async fn small_blobs_come_whole_and_checked() {
    let fixture = Fixture::start();
    let bytes = noise(10_000);
    let descriptor = fixture.push(&bytes);
    let (client, repository) = (fixture.client(), fixture.repository());
    assert_eq!(
        client.blob_bytes(&repository, &descriptor, 10_000).await.unwrap(),
        bytes
    );
    assert_eq!(
        client
            .blob_bytes(&repository, &descriptor, 9_999)
            .await
            .unwrap_err()
            .class(),
        ErrorClass::Rejected
    );
    assert_eq!(fixture.log().len(), 1, "what is too large is not asked for");

    fixture.registry.fault(Fault::on_blobs().corrupt_at(5000));
    let error = client.blob_bytes(&repository, &descriptor, 10_000).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Integrity);
    assert!(text(&error).contains(&descriptor.digest.to_string()), "{error}");
}

#[tokio::test]
async fn dropping_the_future_of_next_loses_nothing() {
    let fixture = Fixture::start();
    let bytes = noise(200_000);
    let descriptor = fixture.push(&bytes);
    fixture
        .registry
        .fault(Fault::on_blobs().trickle(20_000, std::time::Duration::from_millis(3)));
    let mut stream = fixture
        .client()
        .blob(&fixture.repository(), &descriptor, 0)
        .await
        .unwrap();
    let mut have = Vec::new();
    loop {
        let next = tokio::time::timeout(std::time::Duration::from_millis(1), stream.next()).await;
        match next {
            Err(_elapsed) => {}
            Ok(chunk) => match chunk.unwrap() {
                Some(chunk) => have.extend_from_slice(&chunk.data),
                None => break,
            },
        }
    }
    assert_eq!(have, bytes);
    assert_eq!(fixture.log().len(), 1);
}

#[tokio::test]
async fn a_foreign_layer_comes_from_its_url_without_credentials_once_the_registry_said_no() {
    let fixture = Fixture::start();
    fixture.registry.require_basic("alice", "hunter2");
    let elsewhere = FakeRegistry::start();
    let bytes = noise(50_000);
    let url = elsewhere.serve_at("/layer", bytes.clone());
    let gone = format!("{}/gone", elsewhere.url());
    let mut descriptor = Descriptor::new(MediaType::OCI_FOREIGN_LAYER, Digest::sha256(&bytes), bytes.len() as u64);
    descriptor.urls = vec!["ftp://elsewhere.example/x".to_owned(), gone, url];
    let client = fixture.client_with(crate::basic());
    assert_eq!(fetch(&client, &fixture.repository(), &descriptor).await.unwrap(), bytes);
    assert_eq!(fixture.log(), ["GET blob 401", "GET blob 404"]);
    let paths: Vec<_> = elsewhere
        .requests()
        .into_iter()
        .map(|request| (request.path, request.authorization))
        .collect();
    assert_eq!(paths, [("/gone".to_owned(), None), ("/layer".to_owned(), None)]);

    // What the registry has comes from there, and its refusal is the error to tell.
    elsewhere.clear();
    let mut own = fixture.push(&bytes);
    own.urls.clone_from(&descriptor.urls);
    assert_eq!(fetch(&client, &fixture.repository(), &own).await.unwrap(), bytes);
    assert!(elsewhere.requests().is_empty());
    descriptor.digest = Digest::sha256("nowhere");
    descriptor.urls.pop();
    let error = fetch(&client, &fixture.repository(), &descriptor).await.unwrap_err();
    assert!(
        error.is_not_found() && text(&error).contains(&fixture.registry.host()),
        "{error}"
    );
}

#[tokio::test]
async fn a_foreign_layer_is_not_fetched_from_a_link_local_address() {
    let fixture = Fixture::start();
    let mut descriptor = Descriptor::new(MediaType::OCI_FOREIGN_LAYER, Digest::sha256("x"), 1);
    descriptor.urls = vec!["https://169.254.169.254/x".to_owned()];
    let started = std::time::Instant::now();
    let error = fetch(&fixture.client(), &fixture.repository(), &descriptor)
        .await
        .unwrap_err();
    assert!(error.is_not_found(), "the registry's answer is what is told: {error}");
    assert!(
        started.elapsed() < std::time::Duration::from_secs(1),
        "nothing was connected to"
    );
}
