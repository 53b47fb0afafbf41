//! Servers that fall silent or nearly so.

use std::time::{Duration, Instant};

use unlade_oci::ErrorClass;
use unlade_registry::{Client, ProxySettings, Selector, Timeouts};
use unlade_test_support::{FakeProxy, Fault};

use crate::{Fixture, fetch, noise, read, tag, text};

fn impatient(fixture: &Fixture) -> Client {
    let timeouts = Timeouts {
        connect: Duration::from_millis(500),
        response: Duration::from_millis(200),
        idle: Duration::from_millis(200),
        min_progress: 10_000,
    };
    fixture.builder().timeouts(timeouts).build().unwrap()
}

#[tokio::test]
async fn a_stall_is_continued() {
    let fixture = Fixture::start();
    let bytes = noise(500_000);
    let descriptor = fixture.push(&bytes);
    fixture.registry.fault(Fault::on_blobs().nth(1).stall_after(200_000));
    let mut stream = impatient(&fixture)
        .blob(&fixture.repository(), &descriptor, 0)
        .await
        .unwrap();
    assert_eq!(read(&mut stream, Vec::new()).await.unwrap(), bytes);
    assert_eq!(fixture.registry.requests()[1].range.as_deref(), Some("bytes=200000-"));
}

#[tokio::test]
async fn a_server_that_always_stalls_times_out_with_what_there_is() {
    let fixture = Fixture::start();
    let descriptor = fixture.push(&noise(500_000));
    fixture.registry.fault(Fault::on_blobs().nth(1).stall_after(200_000));
    fixture.registry.fault(Fault::on_blobs().from(2).stall_after(0));
    let error = fetch(&impatient(&fixture), &fixture.repository(), &descriptor)
        .await
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::Timeout);
    let text = text(&error);
    assert!(
        text.contains("stalled: too little arrived within 0.2 s at byte 200000 (after 4 attempts"),
        "{text}"
    );
    assert!(
        text.contains(&fixture.registry.host()) && text.contains(&descriptor.digest.to_string()),
        "{text}"
    );
}

#[tokio::test]
async fn a_trickle_is_a_stall() {
    let fixture = Fixture::start();
    let bytes = noise(500_000);
    let descriptor = fixture.push(&bytes);
    fixture
        .registry
        .fault(Fault::on_blobs().nth(1).trickle(10, Duration::from_millis(10)));
    let started = Instant::now();
    assert_eq!(
        fetch(&impatient(&fixture), &fixture.repository(), &descriptor)
            .await
            .unwrap(),
        bytes
    );
    assert_eq!(fixture.log().len(), 2);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_slow_reader_is_not_a_slow_server() {
    let fixture = Fixture::start();
    let bytes = noise(3 << 20);
    let descriptor = fixture.push(&bytes);
    let mut stream = impatient(&fixture)
        .blob(&fixture.repository(), &descriptor, 0)
        .await
        .unwrap();
    let first = stream.next().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(read(&mut stream, first.data.to_vec()).await.unwrap(), bytes);
    assert_eq!(fixture.log().len(), 1);
}

#[tokio::test]
async fn silence_before_the_answer_is_tried_again() {
    let fixture = Fixture::start();
    fixture
        .registry
        .fault(Fault::on_manifests().nth(1).delay(Duration::from_secs(30)));
    let client = impatient(&fixture);
    client
        .manifest(&fixture.repository(), &Selector::Tag(&tag()))
        .await
        .unwrap();
    fixture
        .registry
        .fault(Fault::on_manifests().delay(Duration::from_secs(30)));
    let error = client
        .manifest(&fixture.repository(), &Selector::Tag(&tag()))
        .await
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::Timeout);
    assert!(
        text(&error).contains("got no answer within 0.2 s (after 4 attempts"),
        "{}",
        text(&error)
    );
}

#[tokio::test]
async fn the_time_to_connect_is_none_of_the_time_for_the_answer() {
    let fixture = Fixture::start();
    let proxy = FakeProxy::socks(fixture.registry.host());
    proxy.delay(Duration::from_secs(2));
    let proxies = ProxySettings::none()
        .with_all(proxy.url().parse().unwrap())
        .with_loopback(true);
    let timeouts = Timeouts {
        connect: Duration::from_mins(1),
        response: Duration::from_secs(1),
        ..Timeouts::default()
    };
    let client = fixture.builder().proxies(proxies).timeouts(timeouts).build().unwrap();
    client
        .manifest(&fixture.repository(), &Selector::Tag(&tag()))
        .await
        .unwrap();
    assert_eq!(proxy.seen().len(), 1, "{:?}", proxy.seen());
}
