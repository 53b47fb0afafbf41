//! What refers to a manifest, from the registry's list or from the tag that stands in for it.

use unlade_oci::{Digest, ErrorClass, MediaType};
use unlade_registry::{Error, Referrers, ReferrersOrigin};
use unlade_test_support::{Fault, ReferrersApi, TokenAuth};

use crate::{Fixture, IMAGE, MANIFEST, text};

const SBOM: &str = "application/spdx+json";
const SIGNATURE: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";

fn subject() -> Digest {
    Digest::sha256(MANIFEST)
}

fn referrer(artifact_type: &str, number: usize) -> String {
    let empty = Digest::sha256("{}");
    format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"{artifact_type}","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{empty}","size":2}},"layers":[],"subject":{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":{}}},"annotations":{{"number":"{number}"}}}}"#,
        subject(),
        MANIFEST.len()
    )
}

/// Attaches a bill of materials and `signatures` signatures.
fn attach(fixture: &Fixture, signatures: usize) {
    for number in 0..=signatures {
        let artifact_type = if number == 0 { SBOM } else { SIGNATURE };
        let manifest = referrer(artifact_type, number);
        fixture
            .registry
            .push_manifest(IMAGE, MediaType::OCI_MANIFEST.as_str(), manifest);
    }
}

async fn list(fixture: &Fixture, wanted: Option<&str>) -> Result<Referrers, Error> {
    fixture
        .client()
        .referrers(&fixture.repository(), &subject(), wanted)
        .await
}

fn types(referrers: &Referrers) -> Vec<&str> {
    let manifests = referrers.manifests.iter();
    manifests
        .filter_map(|manifest| manifest.artifact_type.as_deref())
        .collect()
}

#[tokio::test]
async fn all_and_of_one_type() {
    let fixture = Fixture::start();
    attach(&fixture, 1);
    fixture.registry.require_token(TokenAuth::new());
    let all = list(&fixture, None).await.unwrap();
    assert_eq!((all.manifests.len(), all.origin), (2, ReferrersOrigin::Api));
    assert!(all.manifests[0].annotations.contains_key("number"));
    for api in [ReferrersApi::Full, ReferrersApi::Unfiltered] {
        fixture.registry.referrers_api(api);
        assert_eq!(types(&list(&fixture, Some(SBOM)).await.unwrap()), [SBOM], "{api:?}");
        assert!(list(&fixture, Some("x/y")).await.unwrap().manifests.is_empty());
    }
    let asked = fixture.registry.requests();
    assert!(
        asked
            .iter()
            .any(|request| request.query.as_deref() == Some("artifactType=application%2Fspdx%2Bjson"))
    );
}

#[tokio::test]
async fn many_pages() {
    let fixture = Fixture::start();
    attach(&fixture, 24);
    fixture.registry.tags_page_size(10);
    assert_eq!(list(&fixture, None).await.unwrap().manifests.len(), 25);
    assert_eq!(fixture.log().len(), 3);
    assert_eq!(list(&fixture, Some(SIGNATURE)).await.unwrap().manifests.len(), 24);
    let elsewhere = "<http://127.0.0.1:1/v2/x/referrers/y>; rel=\"next\"";
    fixture.registry.fault(Fault::on_referrers().header("link", elsewhere));
    let error = list(&fixture, None).await.unwrap_err();
    assert!(
        text(&error).contains("its next page is on another server"),
        "{}",
        text(&error)
    );
    fixture.registry.clear_faults();
    let circle = format!("</v2/{IMAGE}/referrers/{}>; rel=\"next\"", subject());
    fixture.registry.fault(Fault::on_referrers().header("link", &circle));
    assert!(text(&list(&fixture, None).await.unwrap_err()).contains("no end"));
}

#[tokio::test]
async fn nothing_refers_to_what_is_not_there() {
    let fixture = Fixture::start();
    assert!(list(&fixture, None).await.unwrap().manifests.is_empty());
    fixture.registry.referrers_api(ReferrersApi::Missing);
    let none = list(&fixture, None).await.unwrap();
    assert!(none.manifests.is_empty());
    assert_eq!(none.origin, ReferrersOrigin::Tag);
}

#[tokio::test]
async fn without_the_api_the_tag_is_read() {
    let fixture = Fixture::start();
    let manifest = referrer(SBOM, 0);
    let digest = Digest::sha256(&manifest);
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":{},"artifactType":"{SBOM}"}}]}}"#,
        manifest.len()
    );
    let index = fixture
        .registry
        .push_manifest(IMAGE, MediaType::OCI_INDEX.as_str(), index);
    fixture
        .registry
        .tag(IMAGE, &format!("sha256-{}", subject().hex()), &index);
    for fault in [
        Fault::on_referrers().status(404),
        Fault::on_referrers().status(405),
        Fault::on_referrers().status(501),
    ] {
        fixture.registry.clear_faults();
        fixture.registry.fault(fault);
        let found = list(&fixture, None).await.unwrap();
        assert_eq!((types(&found), found.origin), (vec![SBOM], ReferrersOrigin::Tag));
        assert_eq!(found.manifests[0].digest, digest);
        assert!(list(&fixture, Some(SIGNATURE)).await.unwrap().manifests.is_empty());
    }
    // An ordinary image under that tag is nobody's list.
    fixture
        .registry
        .tag(IMAGE, &format!("sha256-{}", subject().hex()), &subject());
    assert_eq!(list(&fixture, None).await.unwrap_err().class(), ErrorClass::Network);
}

#[tokio::test]
async fn a_refusal_or_a_page_is_no_empty_list() {
    let fixture = Fixture::start();
    fixture.registry.fault(Fault::on_referrers().status(403));
    assert_eq!(list(&fixture, None).await.unwrap_err().class(), ErrorClass::Auth);
    fixture.registry.clear_faults();
    fixture.registry.fault(Fault::on_referrers().html());
    assert!(matches!(list(&fixture, None).await, Err(Error::Page { .. })));
    fixture.registry.clear_faults();
    fixture.registry.fault(Fault::on_referrers().body("{}"));
    assert!(matches!(list(&fixture, None).await, Err(Error::Malformed { .. })));
    fixture.registry.clear_faults();
    fixture.registry.fault(Fault::on_referrers().nth(1).status(503));
    assert!(list(&fixture, None).await.is_ok());
}
