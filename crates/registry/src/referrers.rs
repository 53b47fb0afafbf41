//! What refers to a manifest: signatures, attestations, bills of materials (distribution-spec, *Listing Referrers*).

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use unlade_oci::{Descriptor, Digest, Index, MediaType, Parsed, parse_manifest};
use unlade_reference::{Repository, Tag};
use url::Url;

use crate::attempt::{Call, attempt, broken};
use crate::body::{Body, ReadError};
use crate::client::Shared;
use crate::endpoint::Endpoint;
use crate::fallback::{Fallback, Need};
use crate::manifest::{self, RawManifest, Selector};
use crate::response::{content_type, is_page, looks_like_page};
use crate::retry::Failure;
use crate::route::Target;
use crate::tags::next_link;
use crate::{Error, Exchange};

/// How large a page may be: as large as any index.
const MAX_PAGE_BYTES: u64 = unlade_oci::MAX_MANIFEST_BYTES;
/// How many pages are read. Few things are referred to by more than a handful.
const MAX_PAGES: usize = 1000;
/// What the document is called in errors.
const DOCUMENT: &str = "list of referrers";

/// The manifests that refer to one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Referrers {
    /// The manifests, in the registry's order; the `artifact_type` of each says what it is.
    pub manifests: Vec<Descriptor>,
    /// Where the list came from.
    pub origin: ReferrersOrigin,
}

/// Where a registry keeps who refers to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReferrersOrigin {
    /// The registry lists it.
    #[default]
    Api,
    /// The registry does not, and clients keep an index under a tag that is made of the digest.
    Tag,
}

/// Lists what refers to `digest`, of one type or of all.
pub(crate) async fn list(
    shared: &Shared,
    repository: &Repository,
    digest: &Digest,
    artifact_type: Option<&str>,
) -> Result<Referrers, Error> {
    let (mut manifests, origin) = match by_api(shared, repository, digest, artifact_type).await {
        Ok(manifests) => (manifests, ReferrersOrigin::Api),
        Err(error) if is_unsupported(&error) => (by_tag(shared, repository, digest).await?, ReferrersOrigin::Tag),
        Err(error) => return Err(error),
    };
    // A registry may leave the filter to its clients.
    if let Some(wanted) = artifact_type {
        manifests.retain(|manifest| manifest.artifact_type.as_deref() == Some(wanted));
    }
    Ok(Referrers { manifests, origin })
}

/// Tells whether an answer means that the registry has no such list. It has one for a digest that it does not know.
fn is_unsupported(error: &Error) -> bool {
    error.is_not_found()
        || error
            .response()
            .is_some_and(|response| matches!(response.status.as_u16(), 405 | 501))
}

async fn by_api(
    shared: &Shared,
    repository: &Repository,
    digest: &Digest,
    artifact_type: Option<&str>,
) -> Result<Vec<Descriptor>, Error> {
    let route = shared.route(repository).await?;
    // A mirror can lie about a list as it can about a tag.
    let mut fallback = Fallback::new(shared.policy, &route, Need::Resolve, |_| true)?;
    let begin = |target: Arc<Target>| Listing {
        url: target.referrers(digest, artifact_type),
        target,
        seen: HashSet::new(),
        manifests: Vec::new(),
    };
    let mut listing = begin(fallback.target());
    loop {
        match listing.page(shared).await {
            Ok(Some(manifests)) => return Ok(manifests),
            Ok(None) => fallback.progressed(),
            Err(failure) => fallback.failed(shared, failure).await?,
        }
        // Another server may cut its pages elsewhere, so it begins anew.
        if !Arc::ptr_eq(&listing.target, &fallback.target()) {
            listing = begin(fallback.target());
        }
    }
}

/// The pages of one server, so far.
struct Listing {
    target: Arc<Target>,
    url: Url,
    seen: HashSet<Url>,
    manifests: Vec<Descriptor>,
}

impl Listing {
    /// Reads the next page; returns all manifests if it was the last.
    async fn page(&mut self, shared: &Shared) -> Result<Option<Vec<Descriptor>>, Failure> {
        let (page, next) = fetch(shared, &self.target, &self.url).await?;
        self.seen.insert(self.url.clone());
        self.manifests.extend(page.manifests);
        let Some(next) = next else {
            return Ok(Some(std::mem::take(&mut self.manifests)));
        };
        if self.seen.contains(&next) || self.seen.len() >= MAX_PAGES {
            return Err(Failure::last(Error::Malformed {
                exchange: Exchange::new(&Method::GET, &self.url),
                document: DOCUMENT,
                reason: format!("its pages have no end (after {})", self.seen.len()),
            }));
        }
        self.url = next;
        Ok(None)
    }
}

/// Reads the index that clients keep under a tag where the registry has no list.
async fn by_tag(shared: &Shared, repository: &Repository, digest: &Digest) -> Result<Vec<Descriptor>, Error> {
    let Some(tag) = tag_of(digest) else {
        return Ok(Vec::new());
    };
    match manifest::get(shared, repository, &Selector::Tag(&tag)).await {
        Ok(RawManifest { bytes, media_type, .. }) => {
            let route = shared.route(repository).await?;
            let url = route.targets.last().map(|target| target.manifest(tag.as_str()));
            let Some(url) = url else { return Ok(Vec::new()) };
            Ok(parse(bytes, media_type.as_ref(), &Exchange::new(&Method::GET, &url))?.manifests)
        }
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Returns the tag of the referrers of a digest (distribution-spec, *Referrers Tag Schema*).
fn tag_of(digest: &Digest) -> Option<Tag> {
    let algorithm = digest.algorithm().as_str();
    let algorithm = algorithm.get(..32).unwrap_or(algorithm);
    let hex = digest.hex();
    let hex = hex.get(..64).unwrap_or(hex);
    format!("{algorithm}-{hex}").parse().ok()
}

async fn fetch(shared: &Shared, target: &Target, url: &Url) -> Result<(Index, Option<Url>), Failure> {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::ACCEPT,
        HeaderValue::from_static("application/vnd.oci.image.index.v1+json"),
    );
    let call = Call {
        method: Method::GET,
        url: url.clone(),
        headers,
        to: target.to(),
    };
    try_fetch(shared, &call, target.session.endpoint()).await
}

async fn try_fetch(shared: &Shared, call: &Call<'_>, endpoint: &Endpoint) -> Result<(Index, Option<Url>), Failure> {
    let reply = attempt(shared, call).await?;
    let exchange = reply.exchange();
    let headers = reply.response.headers().clone();
    let body = Body::new(reply.response.into_body(), shared.transport.timeouts());
    let body: Bytes = body.read_all(MAX_PAGE_BYTES).await.map_err(|error| match error {
        ReadError::Transport(source) => broken(exchange.clone(), source, 0),
        ReadError::TooLarge => Failure::last(Error::TooLarge {
            exchange: exchange.clone(),
            document: DOCUMENT,
            limit: MAX_PAGE_BYTES,
        }),
    })?;
    let content_type = content_type(&headers);
    if is_page(&content_type) || looks_like_page(&body) {
        return Err(Failure::last(Error::Page {
            exchange,
            content_type,
            due: "a list of referrers",
        }));
    }
    let media_type: Option<MediaType> = content_type.parse().ok();
    let page = parse(body, media_type.as_ref(), &exchange)?;
    let next = next_link(&reply.url, &headers);
    if next.as_ref().is_some_and(|next| !endpoint.is_origin_of(next)) {
        // It would be asked with the registry's proof.
        return Err(Failure::last(Error::Malformed {
            exchange,
            document: DOCUMENT,
            reason: "its next page is on another server".to_owned(),
        }));
    }
    Ok((page, next))
}

fn parse(bytes: Bytes, media_type: Option<&MediaType>, exchange: &Exchange) -> Result<Index, Error> {
    let malformed = |reason: String| Error::Malformed {
        exchange: Box::new(exchange.clone()),
        document: DOCUMENT,
        reason,
    };
    match parse_manifest(bytes, media_type, None) {
        Ok(Parsed::Index(index)) => Ok(index.get().clone()),
        Ok(Parsed::Manifest(_)) => Err(malformed("it is a manifest, not an index".to_owned())),
        Err(error) => Err(malformed(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_of_a_digest() {
        let digest = Digest::sha256("");
        assert_eq!(tag_of(&digest).unwrap().as_str(), format!("sha256-{}", digest.hex()));
        let digest = Digest::of(unlade_oci::Algorithm::Sha512, b"");
        assert_eq!(
            tag_of(&digest).unwrap().as_str(),
            format!("sha512-{}", &digest.hex()[..64])
        );
    }
}
