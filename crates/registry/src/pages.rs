//! Lists that come page by page, each linked to the next (`Link: <…>; rel="next"`, RFC 8288).

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use unlade_oci::MediaType;
use unlade_reference::Repository;
use url::Url;

use crate::attempt::{Call, attempt, broken};
use crate::body::{Body, ReadError};
use crate::client::Shared;
use crate::fallback::{Fallback, Need};
use crate::response::{content_type, is_page, looks_like_page};
use crate::retry::Failure;
use crate::route::Target;
use crate::{Error, Exchange};

/// A kind of list.
pub(crate) trait Paged {
    /// What is listed.
    type Item;

    /// What a page is called in errors: `tag list`,
    const DOCUMENT: &'static str;
    /// and with its article.
    const DUE: &'static str;
    /// The media type that is asked for.
    const ACCEPT: &'static str;
    /// How large a page may be.
    const MAX_PAGE_BYTES: u64;
    /// How many pages are read.
    const MAX_PAGES: usize;

    /// Returns where a server has the first page.
    fn first(&self, target: &Target) -> Url;

    /// Reads what is on a page; the error is what is wrong with it.
    fn parse(&self, target: &Target, page: Bytes, media_type: Option<&MediaType>) -> Result<Vec<Self::Item>, String>;
}

/// Reads all pages, in the order of the server.
///
/// A list is no more than what a server says, as a tag is, so only those are asked that may say what a tag means.
pub(crate) async fn list<P: Paged>(shared: &Shared, repository: &Repository, paged: &P) -> Result<Vec<P::Item>, Error> {
    let route = shared.route(repository).await?;
    let mut fallback = Fallback::new(shared.policy, &route, Need::Resolve, |_| true)?;
    let mut listing = Listing::new(paged, fallback.target());
    loop {
        match listing.page(shared).await {
            Ok(Some(items)) => return Ok(items),
            Ok(None) => fallback.progressed(),
            Err(failure) => fallback.failed(shared, failure).await?,
        }
        // Another server may cut its pages elsewhere, so it begins anew.
        if !Arc::ptr_eq(&listing.target, &fallback.target()) {
            listing = Listing::new(paged, fallback.target());
        }
    }
}

/// The pages of one server, so far.
struct Listing<'a, P: Paged> {
    paged: &'a P,
    target: Arc<Target>,
    url: Url,
    seen: HashSet<Url>,
    items: Vec<P::Item>,
}

impl<'a, P: Paged> Listing<'a, P> {
    fn new(paged: &'a P, target: Arc<Target>) -> Self {
        Self {
            url: paged.first(&target),
            paged,
            target,
            seen: HashSet::new(),
            items: Vec::new(),
        }
    }

    /// Reads the next page; returns all items if it was the last.
    async fn page(&mut self, shared: &Shared) -> Result<Option<Vec<P::Item>>, Failure> {
        let (items, next) = self.fetch(shared).await?;
        self.seen.insert(self.url.clone());
        self.items.extend(items);
        let Some(next) = next else {
            return Ok(Some(std::mem::take(&mut self.items)));
        };
        if self.seen.contains(&next) || self.seen.len() >= P::MAX_PAGES {
            let exchange = Exchange::new(&Method::GET, &self.url);
            let reason = format!("its pages have no end (after {})", self.seen.len());
            return Err(malformed::<P>(exchange, reason));
        }
        self.url = next;
        Ok(None)
    }

    async fn fetch(&self, shared: &Shared) -> Result<(Vec<P::Item>, Option<Url>), Failure> {
        let accept = (header::ACCEPT, HeaderValue::from_static(P::ACCEPT));
        let call = Call {
            method: Method::GET,
            url: self.url.clone(),
            headers: HeaderMap::from_iter([accept]),
            to: self.target.to(),
        };
        let reply = attempt(shared, &call).await?;
        let exchange = reply.exchange();
        let headers = reply.response.headers().clone();
        let body = Body::new(reply.response.into_body(), shared.transport.timeouts());
        let page = body.read_all(P::MAX_PAGE_BYTES).await.map_err(|error| match error {
            ReadError::Transport(source) => broken(exchange.clone(), source, 0),
            ReadError::TooLarge => Failure::last(Error::TooLarge {
                exchange: exchange.clone(),
                document: P::DOCUMENT,
                limit: P::MAX_PAGE_BYTES,
            }),
        })?;
        let content_type = content_type(&headers);
        if is_page(&content_type) || looks_like_page(&page) {
            return Err(Failure::last(Error::Page {
                exchange,
                content_type,
                due: P::DUE,
            }));
        }
        let media_type = content_type.parse().ok();
        let items = self.paged.parse(&self.target, page, media_type.as_ref());
        let items = items.map_err(|reason| malformed::<P>(exchange.clone(), reason))?;
        let next = next_link(&reply.url, &headers);
        if next
            .as_ref()
            .is_some_and(|next| !self.target.session.endpoint().is_origin_of(next))
        {
            // It would be asked with the registry's proof.
            return Err(malformed::<P>(
                exchange,
                "its next page is on another server".to_owned(),
            ));
        }
        Ok((items, next))
    }
}

fn malformed<P: Paged>(exchange: Box<Exchange>, reason: String) -> Failure {
    Failure::last(Error::Malformed {
        exchange,
        document: P::DOCUMENT,
        reason,
    })
}

/// Reads the target of `Link: <…>; rel="next"`, absolute or relative to `url`.
fn next_link(url: &Url, headers: &HeaderMap) -> Option<Url> {
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
