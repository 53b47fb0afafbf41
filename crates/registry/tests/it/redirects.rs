//! Where redirects lead, and what goes along.

use unlade_oci::ErrorClass;
use unlade_registry::Selector;
use unlade_test_support::{FakeRegistry, Fault, TokenAuth};

use crate::{Fixture, basic, fetch, noise, read, tag, text};

const KINDS: [u16; 5] = [301, 302, 303, 307, 308];

#[tokio::test]
async fn another_origin_never_sees_the_authorization() {
    for status in KINDS {
        let fixture = Fixture::start();
        let storage = FakeRegistry::start();
        fixture.registry.require_basic("alice", "hunter2");
        let bytes = noise(10_000);
        let descriptor = fixture.push(&bytes);
        let url = storage.serve_at("/storage/x", bytes.clone());
        fixture.registry.fault(Fault::on_blobs().redirect(status, url));
        assert_eq!(
            fetch(&fixture.client_with(basic()), &fixture.repository(), &descriptor)
                .await
                .unwrap(),
            bytes
        );
        let seen = &storage.requests()[0];
        for header in ["authorization", "cookie", "proxy-authorization"] {
            assert_eq!(seen.header(header), None, "{status}");
        }
        assert_eq!(seen.header("accept-encoding"), Some("identity"));
        assert!(!seen.host.as_deref().unwrap().contains(&fixture.registry.host()));
    }
}

#[tokio::test]
async fn the_same_origin_keeps_the_authorization() {
    for status in KINDS {
        let fixture = Fixture::start();
        fixture.registry.require_basic("alice", "hunter2");
        let bytes = noise(10_000);
        let descriptor = fixture.push(&bytes);
        fixture.registry.serve_at("/storage/x", bytes.clone());
        fixture.registry.fault(Fault::on_blobs().redirect(status, "/storage/x"));
        assert_eq!(
            fetch(&fixture.client_with(basic()), &fixture.repository(), &descriptor)
                .await
                .unwrap(),
            bytes
        );
        assert_eq!(
            fixture.registry.requests()[2].authorization.as_deref(),
            Some("Basic"),
            "{status}"
        );
        assert_eq!(fixture.registry.connections(), 1, "the connection is used again");
    }
}

#[tokio::test]
async fn there_and_back_does_not_bring_the_authorization_back() {
    let fixture = Fixture::start();
    let storage = FakeRegistry::start();
    fixture.registry.require_token(TokenAuth::new());
    let bytes = noise(100);
    let descriptor = fixture.push(&bytes);
    let back = fixture.registry.serve_at("/back", bytes.clone());
    storage.fault(Fault::on_path("/there").redirect(302, back));
    fixture
        .registry
        .fault(Fault::on_blobs().redirect(302, format!("{}/there", storage.url())));
    assert_eq!(
        fetch(&fixture.client(), &fixture.repository(), &descriptor)
            .await
            .unwrap(),
        bytes
    );
    let last = fixture.registry.requests().pop().unwrap();
    assert_eq!((last.path.as_str(), last.authorization), ("/back", None));
}

#[tokio::test]
async fn a_range_goes_along() {
    let fixture = Fixture::start();
    let storage = FakeRegistry::start();
    let bytes = noise(100_000);
    let descriptor = fixture.push(&bytes);
    let url = storage.serve_at("/x", bytes.clone());
    fixture.registry.fault(Fault::on_blobs().redirect(307, url));
    storage.fault(Fault::on_path("/x").nth(1).cut_after(30_000));
    assert_eq!(
        fetch(&fixture.client(), &fixture.repository(), &descriptor)
            .await
            .unwrap(),
        bytes
    );
    assert_eq!(storage.requests()[1].range.as_deref(), Some("bytes=30000-"));
    assert_eq!(
        fixture.log().len(),
        2,
        "the registry is asked again: its URL may have run out"
    );
}

#[tokio::test]
async fn redirects_without_end_are_refused() {
    let fixture = Fixture::start();
    fixture
        .registry
        .fault(Fault::on_anything().redirect(302, "/v2/team/app/blobs/around"));
    let descriptor = fixture.push(&noise(10));
    let error = fetch(&fixture.client(), &fixture.repository(), &descriptor)
        .await
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::Network);
    assert!(
        text(&error).ends_with("is not followed: there were 5 redirects already"),
        "{error}"
    );
    assert_eq!(fixture.log().len(), 6, "not tried again");
}

#[tokio::test]
async fn five_redirects_are_followed() {
    let fixture = Fixture::start();
    let bytes = noise(10);
    let descriptor = fixture.push(&bytes);
    fixture.registry.serve_at("/5", bytes.clone());
    fixture.registry.fault(Fault::on_blobs().redirect(302, "/1"));
    for hop in 1..5 {
        fixture
            .registry
            .fault(Fault::on_path(&format!("/{hop}")).redirect(302, format!("/{}", hop + 1)));
    }
    assert_eq!(
        fetch(&fixture.client(), &fixture.repository(), &descriptor)
            .await
            .unwrap(),
        bytes
    );
}

#[tokio::test]
async fn a_location_that_is_none_is_an_error() {
    let fixture = Fixture::start();
    let descriptor = fixture.push(&noise(10));
    fixture.registry.fault(Fault::on_blobs().nth(1).status(302));
    fixture
        .registry
        .fault(Fault::on_blobs().nth(2).redirect(302, "file:///etc/passwd"));
    for _ in 0..2 {
        let error = fetch(&fixture.client(), &fixture.repository(), &descriptor)
            .await
            .unwrap_err();
        assert!(text(&error).ends_with("the redirect has no usable Location"), "{error}");
    }
}

#[tokio::test]
async fn manifests_are_redirected_too() {
    let fixture = Fixture::start();
    let storage = FakeRegistry::start();
    let url = storage.serve_at("/m", crate::MANIFEST);
    fixture.registry.fault(Fault::on_manifests().redirect(307, url));
    fixture
        .client()
        .manifest(&fixture.repository(), &Selector::Tag(&tag()))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_presigned_url_that_runs_out_in_mid_blob_is_asked_for_again() {
    let fixture = Fixture::start();
    let storage = FakeRegistry::start();
    storage.require_signature(None);
    fixture.registry.require_token(TokenAuth::new());
    let bytes = noise(100_000);
    let descriptor = fixture.push(&bytes);
    storage.push_blob(crate::IMAGE, bytes.clone());
    fixture
        .registry
        .fault(Fault::on_blobs().redirect_presigned(307, &storage));
    storage.fault(Fault::on_blobs().nth(1).cut_after(50_000));
    storage.fault(Fault::on_blobs().nth(2).status(403));
    let mut stream = fixture
        .client()
        .blob(&fixture.repository(), &descriptor, 0)
        .await
        .unwrap();
    let first = stream.next().await.unwrap().unwrap();
    storage.expire_signatures();
    assert_eq!(read(&mut stream, first.data.to_vec()).await.unwrap(), bytes);
    let statuses: Vec<_> = storage.requests().into_iter().map(|request| request.status).collect();
    assert_eq!(statuses, [200, 403, 206]);
    assert_eq!(fixture.count("GET blob 307"), 3);
}

#[tokio::test]
async fn storage_that_always_says_403_is_asked_twice() {
    let fixture = Fixture::start();
    let storage = FakeRegistry::start();
    storage.fault(Fault::on_anything().status(403));
    let descriptor = fixture.push(&noise(10));
    fixture
        .registry
        .fault(Fault::on_blobs().redirect_presigned(307, &storage));
    let error = fetch(&fixture.client(), &fixture.repository(), &descriptor)
        .await
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::Network);
    assert!(
        text(&error).contains(&storage.host()) && text(&error).contains("status 403"),
        "{error}"
    );
    assert_eq!(storage.requests().len(), 2);
}

#[tokio::test]
async fn a_challenge_of_storage_is_not_answered() {
    let fixture = Fixture::start();
    let storage = FakeRegistry::start();
    storage.require_basic("alice", "hunter2");
    let descriptor = fixture.push(&noise(10));
    fixture
        .registry
        .fault(Fault::on_blobs().redirect_presigned(307, &storage));
    let error = fetch(&fixture.client_with(basic()), &fixture.repository(), &descriptor)
        .await
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::Network);
    assert!(storage.requests().iter().all(|request| request.authorization.is_none()));
}
