//! The tags of a repository (distribution-spec, *Listing Tags*).

use bytes::Bytes;
use serde::Deserialize;
use unlade_oci::MediaType;
use unlade_reference::{Repository, Tag};
use url::Url;

use crate::client::Shared;
use crate::pages::{self, Paged};
use crate::route::Target;
use crate::{Error, Warning};

/// How many tags are asked for at once: what most registries allow at most.
const PAGE_SIZE: u32 = 1000;

/// The tags of one repository.
struct Tags<'a> {
    shared: &'a Shared,
    repository: &'a Repository,
}

#[derive(Deserialize)]
struct Page {
    // Some servers write `null` for none.
    tags: Option<Vec<String>>,
}

pub(crate) async fn list(shared: &Shared, repository: &Repository) -> Result<Vec<Tag>, Error> {
    pages::list(shared, repository, &Tags { shared, repository }).await
}

impl Paged for Tags<'_> {
    type Item = Tag;

    const DOCUMENT: &'static str = "tag list";
    const DUE: &'static str = "a tag list";
    const ACCEPT: &'static str = "application/json";
    /// Some registries ignore the page size and send everything.
    const MAX_PAGE_BYTES: u64 = 16 << 20;
    /// Ten million tags, if a server gives what it is asked for.
    const MAX_PAGES: usize = 10_000;

    fn first(&self, target: &Target) -> Url {
        target.tags(PAGE_SIZE)
    }

    fn parse(&self, target: &Target, page: Bytes, _: Option<&MediaType>) -> Result<Vec<Tag>, String> {
        let page: Page = serde_json::from_slice(&page).map_err(|error| error.to_string())?;
        let mut tags = Vec::new();
        for text in page.tags.unwrap_or_default() {
            match text.parse() {
                Ok(tag) => tags.push(tag),
                Err(_) => self.shared.credentials.warn(&Warning::InvalidTag {
                    host: target.session.endpoint().host(),
                    repository: self.repository.to_string(),
                    tag: text,
                }),
            }
        }
        Ok(tags)
    }
}
