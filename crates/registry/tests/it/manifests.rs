//! Documents by tag and digest, their headers and limits.

use unlade_oci::{Algorithm, Digest, ErrorClass, MediaType};
use unlade_reference::{Defaults, Reference};
use unlade_registry::{Authentication, Selector};
use unlade_test_support::Fault;

use crate::{Fixture, IMAGE, MANIFEST, tag, text};

#[tokio::test]
async fn by_tag_and_by_digest() {
    let fixture = Fixture::start();
    let client = fixture.client();
    let digest = Digest::sha256(MANIFEST);
    let by_tag = client
        .manifest(&fixture.repository(), &Selector::Tag(&tag()))
        .await
        .unwrap();
    assert_eq!(by_tag.bytes, MANIFEST);
    assert_eq!(by_tag.digest, digest);
    assert_eq!(by_tag.media_type, Some(MediaType::OCI_MANIFEST));

    let name = format!("{}@{digest}", fixture.registry.reference(IMAGE, "other"));
    let reference = Reference::parse(&name, &Defaults::standard()).unwrap();
    let by_digest = client
        .manifest(&fixture.repository(), &Selector::from(&reference))
        .await
        .unwrap();
    assert_eq!(by_digest.bytes, MANIFEST, "the digest decides");

    let requests = fixture.registry.requests();
    assert_eq!(requests.len(), 2);
    let accept = requests[0].accept.as_deref().unwrap();
    for wanted in [
        "oci.image.index.v1",
        "oci.image.manifest.v1",
        "manifest.list.v2",
        "distribution.manifest.v2",
    ] {
        assert!(accept.contains(wanted), "{accept}");
    }
    assert!(
        !accept.contains("distribution.manifest.v1"),
        "schema 1 is not wanted: {accept}"
    );
    assert_eq!(fixture.registry.connections(), 1, "the connection is used again");
}

#[tokio::test]
async fn head_tells_without_fetching() {
    let fixture = Fixture::start();
    let head = fixture
        .client()
        .head_manifest(&fixture.repository(), &Selector::Tag(&tag()))
        .await
        .unwrap();
    assert_eq!(head.digest, Some(Digest::sha256(MANIFEST)));
    assert_eq!(head.size, Some(MANIFEST.len() as u64));
    assert_eq!(head.media_type, Some(MediaType::OCI_MANIFEST));
    assert_eq!(fixture.log(), ["HEAD 1 200"]);
}

#[tokio::test]
async fn head_refused_becomes_get() {
    let fixture = Fixture::start();
    fixture.registry.fault(Fault::on_manifests().method("HEAD").status(405));
    let head = fixture
        .client()
        .head_manifest(&fixture.repository(), &Selector::Tag(&tag()))
        .await
        .unwrap();
    assert_eq!(head.digest, Some(Digest::sha256(MANIFEST)));
    assert_eq!(fixture.log(), ["HEAD 1 405", "GET 1 200"]);
}

#[tokio::test]
async fn a_missing_content_digest_is_computed() {
    let fixture = Fixture::start();
    fixture
        .registry
        .fault(Fault::on_manifests().without_header("docker-content-digest"));
    let client = fixture.client();
    let manifest = client
        .manifest(&fixture.repository(), &Selector::Tag(&tag()))
        .await
        .unwrap();
    assert_eq!(manifest.digest, Digest::sha256(MANIFEST));
    let head = client
        .head_manifest(&fixture.repository(), &Selector::Tag(&tag()))
        .await
        .unwrap();
    assert_eq!(head.digest, None);
}

#[tokio::test]
async fn a_wrong_content_digest_is_refused() {
    let fixture = Fixture::start();
    let wrong = Digest::sha256("other").to_string();
    fixture
        .registry
        .fault(Fault::on_manifests().header("docker-content-digest", &wrong));
    let error = fixture
        .client()
        .manifest(&fixture.repository(), &Selector::Tag(&tag()))
        .await
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::Integrity);
    assert!(
        text(&error).ends_with(&format!(", {wrong} is what the registry's header says")),
        "{error}"
    );
    assert_eq!(fixture.log().len(), 1, "not tried again");
}

#[tokio::test]
async fn a_content_digest_of_the_other_algorithm_is_checked_by_it() {
    let fixture = Fixture::start();
    let sha512 = Digest::of(Algorithm::Sha512, MANIFEST).to_string();
    fixture
        .registry
        .fault(Fault::on_manifests().nth(1).header("docker-content-digest", &sha512));
    fixture
        .registry
        .fault(Fault::on_manifests().nth(2).header("docker-content-digest", "md5:abc"));
    let client = fixture.client();
    for _ in 0..2 {
        let manifest = client
            .manifest(&fixture.repository(), &Selector::Tag(&tag()))
            .await
            .unwrap();
        assert_eq!(manifest.digest, Digest::sha256(MANIFEST));
    }
}

#[tokio::test]
async fn other_bytes_than_the_digest_asked_for_are_refused() {
    let fixture = Fixture::start();
    let digest = Digest::sha256(MANIFEST);
    fixture.registry.fault(
        Fault::on_manifests()
            .corrupt_at(3)
            .without_header("docker-content-digest"),
    );
    let error = fixture
        .client()
        .manifest(&fixture.repository(), &Selector::Digest(&digest))
        .await
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::Integrity);
    assert!(text(&error).contains(&format!(", {digest} was asked for")), "{error}");
}

#[tokio::test]
async fn a_manifest_that_is_too_large_is_not_read() {
    let fixture = Fixture::start();
    let large = vec![b' '; (4 << 20) + 1];
    let digest = fixture
        .registry
        .push_manifest(IMAGE, MediaType::OCI_MANIFEST.as_str(), large);
    let selector = Selector::Digest(&digest);
    let error = fixture
        .client()
        .manifest(&fixture.repository(), &selector)
        .await
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::Rejected);
    assert!(
        text(&error).ends_with("the manifest is larger than the limit of 4194304 bytes"),
        "{error}"
    );

    // Without a length the limit strikes while reading.
    fixture
        .registry
        .fault(Fault::on_manifests().without_header("content-length"));
    let error = fixture
        .client()
        .manifest(&fixture.repository(), &selector)
        .await
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::Rejected);
}

#[tokio::test]
async fn a_web_page_is_named_for_what_it_is() {
    let fixture = Fixture::start();
    fixture.registry.fault(Fault::on_manifests().html());
    let client = fixture.client();
    let error = client
        .manifest(&fixture.repository(), &Selector::Tag(&tag()))
        .await
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::Network);
    let host = fixture.registry.host();
    let expected = format!("{host} answered with a web page (text/html) where a manifest was due (a proxy or portal?)");
    assert!(text(&error).ends_with(&expected), "{error}");
    assert!(
        client
            .head_manifest(&fixture.repository(), &Selector::Tag(&tag()))
            .await
            .is_err()
    );

    // A page that calls itself JSON is still a page.
    fixture.registry.clear_faults();
    fixture
        .registry
        .fault(Fault::on_manifests().html().header("content-type", "application/json"));
    let error = client
        .manifest(&fixture.repository(), &Selector::Tag(&tag()))
        .await
        .unwrap_err();
    assert!(text(&error).contains("a web page"), "{error}");
}

#[tokio::test]
async fn not_found_says_what_may_be_the_matter() {
    let fixture = Fixture::start();
    let missing = "nope".parse().unwrap();
    let error = fixture
        .client()
        .manifest(&fixture.repository(), &Selector::Tag(&missing))
        .await
        .unwrap_err();
    assert!(error.is_not_found() && error.class() == ErrorClass::NotFound);
    assert_eq!(error.response().unwrap().errors.len(), 1);
    let text = text(&error);
    assert!(
        text.starts_with(&format!(
            "GET http://{}/v2/team/app/manifests/nope: ",
            fixture.registry.host()
        )),
        "{text}"
    );
    assert!(
        text.contains("does not exist or needs a login (status 404 Not Found, "),
        "{text}"
    );
    assert!(text.ends_with("; no credentials were sent)"), "{text}");
    assert_eq!(fixture.log().len(), 1, "a 404 is not tried again");
}

#[tokio::test]
async fn a_cut_document_is_fetched_again() {
    let fixture = Fixture::start();
    fixture.registry.fault(Fault::on_manifests().first(2).cut_after(10));
    let manifest = fixture
        .client()
        .manifest(&fixture.repository(), &Selector::Tag(&tag()))
        .await
        .unwrap();
    assert_eq!(manifest.bytes, MANIFEST);
    assert_eq!(fixture.log().len(), 3);
}

#[tokio::test]
async fn ping_tells_which_login_is_wanted() {
    let fixture = Fixture::start();
    let (client, repository) = (fixture.client(), fixture.repository());
    let registry = repository.registry();
    assert_eq!(
        client.ping(registry).await.unwrap().authentication,
        Authentication::Open
    );
    fixture.registry.require_basic("alice", "hunter2");
    assert_eq!(
        client.ping(registry).await.unwrap().authentication,
        Authentication::Basic
    );
    fixture.registry.require_token(unlade_test_support::TokenAuth::new());
    let realm = fixture.registry.token_url();
    assert_eq!(
        client.ping(registry).await.unwrap().authentication,
        Authentication::Bearer { realm }
    );
    fixture.registry.require_nothing();
    fixture.registry.fault(Fault::on_ping().nth(1).html());
    fixture.registry.fault(Fault::on_ping().nth(2).status(404));
    assert!(text(&client.ping(registry).await.unwrap_err()).contains("a registry's greeting was due"));
    assert!(client.ping(registry).await.unwrap_err().is_not_found());
}
