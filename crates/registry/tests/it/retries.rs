//! When a request is made again, and how long after.

use std::time::{Duration, Instant, SystemTime};

use unlade_oci::ErrorClass;
use unlade_registry::{Error, RetryPolicy, Selector};
use unlade_test_support::Fault;

use crate::{Fixture, MANIFEST, quick, tag, text};

async fn pull(fixture: &Fixture) -> Result<(), Error> {
    let manifest = fixture
        .client()
        .manifest(&fixture.repository(), &Selector::Tag(&tag()))
        .await?;
    assert_eq!(manifest.bytes, MANIFEST);
    Ok(())
}

/// Returns the time between the first two requests.
fn gap(fixture: &Fixture) -> Duration {
    let requests = fixture.registry.requests();
    requests[1].at.saturating_sub(requests[0].at)
}

#[tokio::test]
async fn retry_after_in_seconds() {
    let fixture = Fixture::start();
    fixture
        .registry
        .fault(Fault::on_manifests().nth(1).status(429).header("retry-after", "2"));
    pull(&fixture).await.unwrap();
    let gap = gap(&fixture);
    assert!(gap >= Duration::from_secs(2) && gap < Duration::from_secs(4), "{gap:?}");
}

#[tokio::test]
async fn retry_after_as_a_date() {
    let fixture = Fixture::start();
    // Dates have whole seconds, so this is between one and two seconds away.
    let due = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2));
    fixture
        .registry
        .fault(Fault::on_manifests().nth(1).status(503).header("retry-after", &due));
    pull(&fixture).await.unwrap();
    let gap = gap(&fixture);
    assert!(
        gap >= Duration::from_millis(700) && gap < Duration::from_secs(4),
        "{gap:?}"
    );
}

#[tokio::test]
async fn rate_limited_without_a_header_backs_off() {
    let fixture = Fixture::start();
    fixture.registry.fault(Fault::on_manifests().first(2).status(429));
    pull(&fixture).await.unwrap();
    assert_eq!(fixture.log(), ["GET 1 429", "GET 1 429", "GET 1 200"]);
}

#[tokio::test]
async fn a_wait_beyond_the_limit_fails_at_once() {
    let fixture = Fixture::start();
    let fault = Fault::on_manifests().status(429).header("retry-after", "21600");
    fixture.registry.fault(
        fault
            .header("ratelimit-limit", "100;w=21600")
            .header("ratelimit-remaining", "0;w=21600"),
    );
    let started = Instant::now();
    let error = pull(&fixture).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(error.class(), ErrorClass::RateLimited);
    assert!(error.is_retryable());
    let text = text(&error);
    let expected = "which wants a wait of 21600 s, ratelimit-limit 100;w=21600, ratelimit-remaining 0;w=21600";
    assert!(text.contains(expected), "{text}");
    assert_eq!(fixture.log().len(), 1);
}

#[tokio::test]
async fn a_rate_limit_that_stays_is_told_with_its_attempts() {
    let fixture = Fixture::start();
    fixture.registry.fault(Fault::on_manifests().status(429).html());
    let error = pull(&fixture).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::RateLimited);
    let text = text(&error);
    // Three waits of at most 20 ms each, which is rounded to tenths of a second.
    let told = |waited: &str| text.contains(&format!("(after 4 attempts and {waited} s of waiting)"));
    assert!(told("0.0") || told("0.1"), "{text}");
    assert!(!text.contains('<'), "no raw page: {text}");
}

#[tokio::test]
async fn server_errors_are_tried_again_and_others_are_not() {
    for (status, attempts) in [
        (500, 4),
        (502, 4),
        (503, 4),
        (504, 4),
        (408, 4),
        (501, 1),
        (400, 1),
        (410, 1),
        (418, 1),
    ] {
        let fixture = Fixture::start();
        fixture.registry.fault(Fault::on_manifests().status(status));
        let error = pull(&fixture).await.unwrap_err();
        assert_eq!(fixture.log().len(), attempts, "{status}");
        assert_eq!(error.class(), ErrorClass::Network);
        assert_eq!(error.response().unwrap().status.as_u16(), status);
        let shown = format!("(after {attempts} attempts");
        assert_eq!(text(&error).contains(&shown), attempts > 1, "{error}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_answer_is_tried_again() {
    let fixture = Fixture::start();
    fixture.registry.fault(Fault::on_manifests().first(2).no_response());
    pull(&fixture).await.unwrap();
    assert!(fixture.log().len() >= 3);
}

#[tokio::test]
async fn a_refused_connection_is_told_with_its_cause() {
    let fixture = Fixture::start();
    let repository = fixture.repository();
    let client = fixture.client();
    drop(fixture.registry);
    let error = client.tags(&repository).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Network);
    let text = text(&error);
    assert!(text.contains("failed (after 4 attempts"), "{text}");
    assert!(
        text.contains(": no connection could be made: ") && text.contains("refused"),
        "{text}"
    );
}

#[tokio::test]
async fn the_policy_is_settable() {
    let fixture = Fixture::start();
    fixture.registry.fault(Fault::on_manifests().status(500));
    let client = fixture
        .builder()
        .retry(RetryPolicy { attempts: 1, ..quick() })
        .build()
        .unwrap();
    let error = client
        .manifest(&fixture.repository(), &Selector::Tag(&tag()))
        .await
        .unwrap_err();
    assert_eq!(fixture.log().len(), 1);
    assert!(!text(&error).contains("attempts"), "{error}");
}

#[tokio::test]
async fn a_broken_pooled_connection_costs_no_attempt_that_shows() {
    let fixture = Fixture::start();
    let client = fixture.client();
    client.tags(&fixture.repository()).await.unwrap();
    fixture.registry.fault(Fault::on_tags().nth(1).no_response());
    client.tags(&fixture.repository()).await.unwrap();
}

#[tokio::test]
async fn a_server_that_does_not_speak_tls_is_asked_once() {
    let fixture = Fixture::start();
    let secure = format!("https://{}/x", fixture.registry.host());
    fixture.registry.fault(Fault::on_manifests().redirect(302, secure));
    let error = pull(&fixture).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Network);
    assert!(!error.is_retryable());
    assert!(
        text(&error).contains(": no TLS connection could be made, the server does not speak TLS: "),
        "{}",
        text(&error)
    );
    assert_eq!(fixture.count("GET 1 302"), 1);
}

#[tokio::test]
async fn one_connection_a_host_is_enough_for_tokens_redirects_and_blobs_at_once() {
    let fixture = Fixture::start();
    fixture.registry.require_token(unlade_test_support::TokenAuth::new());
    let bytes = crate::noise(300_000);
    let descriptor = fixture.push(&bytes);
    fixture.registry.serve_at("/storage/x", bytes.clone());
    fixture.registry.fault(Fault::on_blobs().redirect(307, "/storage/x"));
    let client = fixture
        .builder()
        .connections_per_host(std::num::NonZeroUsize::new(1))
        .build()
        .unwrap();
    let repository = fixture.repository();
    let three = tokio::join!(
        crate::fetch(&client, &repository, &descriptor),
        crate::fetch(&client, &repository, &descriptor),
        crate::fetch(&client, &repository, &descriptor)
    );
    for fetched in [three.0, three.1, three.2] {
        assert_eq!(fetched.unwrap(), bytes);
    }
}

#[tokio::test]
async fn a_limited_rate_takes_its_time() {
    let fixture = Fixture::start();
    let bytes = crate::noise(600_000);
    let descriptor = fixture.push(&bytes);
    let client = fixture
        .builder()
        .limit_rate(std::num::NonZeroU64::new(1_000_000))
        .build()
        .unwrap();
    let (started, repository) = (std::time::Instant::now(), fixture.repository());
    let two = tokio::join!(
        crate::fetch(&client, &repository, &descriptor),
        crate::fetch(&client, &repository, &descriptor)
    );
    assert_eq!((two.0.unwrap(), two.1.unwrap()), (bytes.to_vec(), bytes.to_vec()));
    // 1.2 MB at 1 MB/s; the last chunk of each is not waited for, nor the burst. There is no upper bound on a busy machine.
    assert!(started.elapsed().as_millis() >= 500, "{:?}", started.elapsed());
}
