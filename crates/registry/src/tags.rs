//! The tags of a repository, page by page.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use serde::Deserialize;
use unlade_reference::{Repository, Tag};
use url::Url;

use crate::attempt::{Call, attempt, broken};
use crate::body::{Body, ReadError};
use crate::client::Shared;
use crate::endpoint::Endpoint;
use crate::fallback::{Fallback, Need};
use crate::response::{content_type, is_page, looks_like_page};
use crate::retry::Failure;
use crate::route::Target;
use crate::{Error, Exchange, Warning};

/// How many tags are asked for at once: what most registries allow at most.
const PAGE_SIZE: u32 = 1000;
/// How many pages are read: ten million tags, if a server gives what it is asked for.
const MAX_PAGES: usize = 10_000;
/// How large a page may be: some registries ignore the page size and send everything.
const MAX_PAGE_BYTES: u64 = 16 << 20;

#[derive(Deserialize)]
struct Page {
    // Some servers write `null` for none.
    tags: Option<Vec<String>>,
}

pub(crate) async fn list(shared: &Shared, repository: &Repository) -> Result<Vec<Tag>, Error> {
    let route = shared.route(repository).await?;
    let mut fallback = Fallback::new(shared.policy, &route, Need::Resolve, |_| true)?;
    let mut listing = Listing::new(fallback.target());
    loop {
        match listing.page(shared, repository).await {
            Ok(Some(tags)) => return Ok(tags),
            Ok(None) => fallback.progressed(),
            Err(failure) => fallback.failed(shared, failure).await?,
        }
        // Another server may cut its pages elsewhere, so it begins anew.
        if !Arc::ptr_eq(&listing.target, &fallback.target()) {
            listing = Listing::new(fallback.target());
        }
    }
}

/// The pages of one server, so far.
struct Listing {
    target: Arc<Target>,
    url: Url,
    seen: HashSet<Url>,
    tags: Vec<Tag>,
}

impl Listing {
    fn new(target: Arc<Target>) -> Self {
        Self {
            url: target.tags(PAGE_SIZE),
            target,
            seen: HashSet::new(),
            tags: Vec::new(),
        }
    }

    /// Reads the next page; returns all tags if it was the last.
    async fn page(&mut self, shared: &Shared, repository: &Repository) -> Result<Option<Vec<Tag>>, Failure> {
        let (page, next) = fetch(shared, &self.target, &self.url).await?;
        self.seen.insert(self.url.clone());
        for text in page.tags.unwrap_or_default() {
            if let Ok(tag) = text.parse() {
                self.tags.push(tag);
            } else {
                let (host, repository) = (self.target.session.endpoint().host(), repository.to_string());
                shared.credentials.warn(&Warning::InvalidTag {
                    host,
                    repository,
                    tag: text,
                });
            }
        }
        let Some(next) = next else {
            return Ok(Some(std::mem::take(&mut self.tags)));
        };
        if self.seen.contains(&next) || self.seen.len() >= MAX_PAGES {
            let reason = format!(
                "its pages have no end (page {} links to one that was there already)",
                self.seen.len()
            );
            return Err(Failure::last(Error::Malformed {
                exchange: Exchange::new(&Method::GET, &self.url),
                document: "tag list",
                reason,
            }));
        }
        self.url = next;
        Ok(None)
    }
}

async fn fetch(shared: &Shared, target: &Target, url: &Url) -> Result<(Page, Option<Url>), Failure> {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let call = Call {
        method: Method::GET,
        url: url.clone(),
        headers,
        to: target.to(),
    };
    try_fetch(shared, &call, target.session.endpoint()).await
}

async fn try_fetch(shared: &Shared, call: &Call<'_>, endpoint: &Endpoint) -> Result<(Page, Option<Url>), Failure> {
    let reply = attempt(shared, call).await?;
    let exchange = reply.exchange();
    let headers = reply.response.headers().clone();
    let body = Body::new(reply.response.into_body(), shared.transport.timeouts());
    let body: Bytes = body.read_all(MAX_PAGE_BYTES).await.map_err(|error| match error {
        ReadError::Transport(source) => broken(exchange.clone(), source, 0),
        ReadError::TooLarge => {
            let (document, limit) = ("tag list", MAX_PAGE_BYTES);
            Failure::last(Error::TooLarge {
                exchange: exchange.clone(),
                document,
                limit,
            })
        }
    })?;
    let content_type = content_type(&headers);
    if is_page(&content_type) || looks_like_page(&body) {
        return Err(Failure::last(Error::Page {
            exchange,
            content_type,
            due: "a tag list",
        }));
    }
    let malformed = |reason: String| {
        Failure::last(Error::Malformed {
            exchange: exchange.clone(),
            document: "tag list",
            reason,
        })
    };
    let page = serde_json::from_slice(&body).map_err(|error| malformed(error.to_string()))?;
    let next = next_link(&reply.url, &headers);
    if next.as_ref().is_some_and(|next| !endpoint.is_origin_of(next)) {
        // It would be asked with the registry's proof.
        return Err(malformed("its next page is on another server".to_owned()));
    }
    Ok((page, next))
}

/// Reads the target of `Link: <…>; rel="next"` (RFC 8288), absolute or relative to `url`.
pub(crate) fn next_link(url: &Url, headers: &HeaderMap) -> Option<Url> {
    let values = headers
        .get_all(header::LINK)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(links)
        .find(|(_, parameters)| is_next(parameters))
        .and_then(|(target, _)| url.join(target).ok())
}

/// Splits a header into targets and what follows each. Commas within a target are its own.
fn links(value: &str) -> Vec<(&str, &str)> {
    let mut links = Vec::new();
    let mut rest = value;
    while let Some((target, after)) = rest.split_once('<').and_then(|(_, start)| start.split_once('>')) {
        let end = after.find('<').unwrap_or(after.len());
        let (parameters, next) = after.split_at(end);
        links.push((target, parameters));
        rest = next;
    }
    links
}

fn is_next(parameters: &str) -> bool {
    parameters.split([';', ',']).any(|parameter| {
        parameter.split_once('=').is_some_and(|(name, value)| {
            let relations = value.trim().trim_matches('"');
            name.trim().eq_ignore_ascii_case("rel")
                && relations
                    .split_whitespace()
                    .any(|relation| relation.eq_ignore_ascii_case("next"))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_links() {
        let url = Url::parse("https://r.example/v2/a/tags/list?n=2").unwrap();
        let table = [
            (
                r#"</v2/a/tags/list?n=2&last=b>; rel="next""#,
                Some("https://r.example/v2/a/tags/list?n=2&last=b"),
            ),
            (
                "<https://r.example/x?last=a,b>; rel=next",
                Some("https://r.example/x?last=a,b"),
            ),
            (
                r#"<?last=b>; title="x"; REL="last next""#,
                Some("https://r.example/v2/a/tags/list?last=b"),
            ),
            (r#"</p>; rel="prev", </n>; rel="next""#, Some("https://r.example/n")),
            (r#"</p>; rel="prev""#, None),
            ("nonsense", None),
        ];
        for (value, expected) in table {
            let mut headers = HeaderMap::new();
            headers.insert(header::LINK, value.parse().unwrap());
            assert_eq!(
                next_link(&url, &headers).map(String::from).as_deref(),
                expected,
                "{value}"
            );
        }
    }
}
