//! Lists of tags, on one page and on many.

use unlade_oci::ErrorClass;
use unlade_reference::Tag;
use unlade_test_support::{Fault, TokenAuth};

use crate::{Fixture, IMAGE, MANIFEST, text};

fn tagged(fixture: &Fixture, count: usize) -> Vec<String> {
    let digest = unlade_oci::Digest::sha256(MANIFEST);
    let tags: Vec<_> = (0..count).map(|i| format!("v{i:03}")).collect();
    fixture.registry.remove_tag(IMAGE, "1");
    for tag in &tags {
        fixture.registry.tag(IMAGE, tag, &digest);
    }
    tags
}

async fn list(fixture: &Fixture) -> Result<Vec<String>, unlade_registry::Error> {
    let tags = fixture.client().tags(&fixture.repository()).await?;
    Ok(tags.iter().map(Tag::as_str).map(str::to_owned).collect())
}

#[tokio::test]
async fn one_page() {
    let fixture = Fixture::start();
    let tags = tagged(&fixture, 5);
    assert_eq!(list(&fixture).await.unwrap(), tags);
    assert_eq!(fixture.log().len(), 1);
}

#[tokio::test]
async fn many_pages_with_a_token() {
    let fixture = Fixture::start();
    let tags = tagged(&fixture, 25);
    fixture.registry.tags_page_size(10);
    fixture.registry.require_token(TokenAuth::new());
    assert_eq!(list(&fixture).await.unwrap(), tags);
    assert_eq!(fixture.count("GET list 200"), 3);
    assert_eq!(fixture.count("GET list 401"), 1);
}

#[tokio::test]
async fn an_absolute_link_to_the_same_server_is_followed() {
    let fixture = Fixture::start();
    let next = format!(
        "<{}/v2/team/app/tags/list?last=x>; rel=\"next\"",
        fixture.registry.url()
    );
    fixture.registry.fault(Fault::on_tags().nth(1).header("link", &next));
    assert_eq!(
        list(&fixture).await.unwrap(),
        ["1"],
        "after x there is nothing more in the second page"
    );
    assert_eq!(fixture.log().len(), 2);
}

#[tokio::test]
async fn a_link_to_another_server_is_refused() {
    let fixture = Fixture::start();
    fixture
        .registry
        .fault(Fault::on_tags().header("link", "<http://127.0.0.1:1/x>; rel=\"next\""));
    let error = list(&fixture).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Network);
    assert!(text(&error).ends_with("its next page is on another server"), "{error}");
}

#[tokio::test]
async fn pages_in_a_circle_are_refused() {
    let fixture = Fixture::start();
    fixture
        .registry
        .fault(Fault::on_tags().header("link", "</v2/team/app/tags/list?n=1000>; rel=\"next\""));
    let error = list(&fixture).await.unwrap_err();
    assert!(text(&error).contains("its pages have no end"), "{error}");
    assert_eq!(fixture.log().len(), 1);
}

#[tokio::test]
async fn what_is_no_tag_is_left_out_and_told() {
    let fixture = Fixture::start();
    fixture.registry.fault(
        Fault::on_tags()
            .nth(1)
            .body(r#"{"name": "team/app", "tags": ["a", "-b", "c"]}"#),
    );
    assert_eq!(list(&fixture).await.unwrap(), ["a", "c"]);
    assert!(fixture.warnings()[0].contains("\"-b\""), "{:?}", fixture.warnings());
    fixture
        .registry
        .fault(Fault::on_tags().body(r#"{"name": "team/app", "tags": null}"#));
    assert_eq!(list(&fixture).await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn what_is_no_list_is_an_error() {
    let fixture = Fixture::start();
    fixture.registry.fault(Fault::on_tags().nth(1).body("[1]"));
    fixture.registry.fault(Fault::on_tags().nth(2).html());
    fixture.registry.fault(Fault::on_tags().nth(3).status(404));
    assert!(text(&list(&fixture).await.unwrap_err()).contains("a tag list that cannot be read"));
    assert!(text(&list(&fixture).await.unwrap_err()).contains("a web page (text/html) where a tag list was due"));
    assert!(list(&fixture).await.unwrap_err().is_not_found());
}
