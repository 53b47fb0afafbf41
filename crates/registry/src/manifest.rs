//! Manifests and indexes: the documents that names lead to.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use unlade_oci::{Digest, MAX_MANIFEST_BYTES, MediaType};
use unlade_reference::{Reference, Repository, Tag};

use crate::Error;
use crate::attempt::{Call, Reply, attempt, broken};
use crate::body::{Body, ReadError};
use crate::client::Shared;
use crate::fallback::{Fallback, Need};
use crate::response::{content_type, is_page, looks_like_page};
use crate::retry::Failure;
use crate::route::Target;

const CONTENT_DIGEST: &str = "docker-content-digest";

/// Which manifest of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector<'a> {
    /// The one that a tag names now.
    Tag(&'a Tag),
    /// The one with a digest.
    Digest(&'a Digest),
}

impl<'a> From<&'a Reference> for Selector<'a> {
    /// The digest if there is one, else the tag.
    fn from(reference: &'a Reference) -> Self {
        match (reference.digest(), reference.tag()) {
            (Some(digest), _) => Self::Digest(digest),
            (None, Some(tag)) => Self::Tag(tag),
            (None, None) => unreachable!("a reference has a tag or a digest"),
        }
    }
}

impl fmt::Display for Selector<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// A manifest as received; nothing of it has been parsed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RawManifest {
    /// The very bytes.
    pub bytes: Bytes,
    /// What the registry says that it is.
    pub media_type: Option<MediaType>,
    /// Computed from the bytes; of the algorithm that was asked for, else SHA-256.
    pub digest: Digest,
}

/// What a registry says of a manifest without sending it. All of it is hearsay until the bytes are there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ManifestHead {
    /// The digest. The header is optional, so it may be missing.
    pub digest: Option<Digest>,
    /// Bytes.
    pub size: Option<u64>,
    /// What it is.
    pub media_type: Option<MediaType>,
}

pub(crate) async fn get(
    shared: &Shared,
    repository: &Repository,
    selector: &Selector<'_>,
) -> Result<RawManifest, Error> {
    let mut fallback = servers(shared, repository, selector).await?;
    loop {
        let target = fallback.target();
        match try_get(shared, &call(Method::GET, &target, selector), selector).await {
            Ok(manifest) => return Ok(manifest),
            Err(failure) => fallback.failed(shared, failure).await?,
        }
    }
}

pub(crate) async fn head(
    shared: &Shared,
    repository: &Repository,
    selector: &Selector<'_>,
) -> Result<ManifestHead, Error> {
    let mut fallback = servers(shared, repository, selector).await?;
    loop {
        let target = fallback.target();
        let answer = attempt(shared, &call(Method::HEAD, &target, selector)).await;
        match answer.and_then(|reply| judge_head(&reply).map_err(Failure::last)) {
            Ok(head) => return Ok(head),
            Err(Failure { error, .. }) if error.response().is_some_and(|response| response.status.as_u16() == 405) => {
                let RawManifest {
                    bytes,
                    media_type,
                    digest,
                } = get(shared, repository, selector).await?;
                return Ok(ManifestHead {
                    digest: Some(digest),
                    size: Some(bytes.len() as u64),
                    media_type,
                });
            }
            Err(failure) => fallback.failed(shared, failure).await?,
        }
    }
}

/// Returns who may be asked: what a tag means, not every server may say.
async fn servers(shared: &Shared, repository: &Repository, selector: &Selector<'_>) -> Result<Fallback, Error> {
    let route = shared.route(repository).await?;
    let need = match selector {
        Selector::Tag(_) => Need::Resolve,
        Selector::Digest(_) => Need::Pull,
    };
    Fallback::new(shared.policy, &route, need, |_| true)
}

fn call<'a>(method: Method, target: &'a Target, selector: &Selector<'_>) -> Call<'a> {
    let mut headers = HeaderMap::new();
    headers.extend(accept().map(|accept| (header::ACCEPT, accept)));
    Call {
        method,
        url: target.manifest(&selector.to_string()),
        headers,
        to: target.to(),
    }
}

async fn try_get(shared: &Shared, call: &Call<'_>, selector: &Selector<'_>) -> Result<RawManifest, Failure> {
    let reply = attempt(shared, call).await?;
    let exchange = reply.exchange();
    let headers = reply.response.headers().clone();
    let body = Body::new(reply.response.into_body(), shared.transport.timeouts());
    let bytes = body.read_all(MAX_MANIFEST_BYTES).await.map_err(|error| match error {
        ReadError::Transport(source) => broken(exchange.clone(), source, 0),
        ReadError::TooLarge => {
            let (document, limit) = ("manifest", MAX_MANIFEST_BYTES);
            Failure::last(Error::TooLarge {
                exchange: exchange.clone(),
                document,
                limit,
            })
        }
    })?;
    let content_type = content_type(&headers);
    if is_page(&content_type) || looks_like_page(&bytes) {
        return Err(Failure::last(Error::Page {
            exchange,
            content_type,
            due: "a manifest",
        }));
    }
    let mut digest = None;
    let expectations = [(asked(selector), false), (header_digest(&headers), true)];
    for (expected, by_header) in expectations.into_iter().filter_map(|(digest, by)| Some((digest?, by))) {
        let actual = Digest::of(expected.algorithm(), &bytes);
        if actual != expected {
            return Err(Failure::last(Error::DigestMismatch {
                exchange,
                expected,
                actual,
                by_header,
            }));
        }
        if !by_header {
            digest = Some(actual);
        }
    }
    let digest = digest.unwrap_or_else(|| Digest::sha256(&bytes));
    Ok(RawManifest {
        bytes,
        media_type: media_type(&content_type),
        digest,
    })
}

fn judge_head(reply: &Reply) -> Result<ManifestHead, Error> {
    let headers = reply.response.headers();
    let content_type = content_type(headers);
    if is_page(&content_type) {
        return Err(Error::Page {
            exchange: reply.exchange(),
            content_type,
            due: "a manifest",
        });
    }
    let size = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    Ok(ManifestHead {
        digest: header_digest(headers),
        size,
        media_type: media_type(&content_type),
    })
}

/// Names what is understood. Schema 1 is not, so that registries which can still convert do not.
fn accept() -> Option<HeaderValue> {
    let types = MediaType::ACCEPTED_MANIFESTS;
    let list: Vec<_> = types.iter().map(MediaType::as_str).collect();
    HeaderValue::from_str(&list.join(", ")).ok()
}

fn asked(selector: &Selector<'_>) -> Option<Digest> {
    match selector {
        Selector::Tag(_) => None,
        Selector::Digest(digest) => Some((*digest).clone()),
    }
}

/// Reads the registry's own idea of the digest. One of an unknown algorithm cannot be checked and says nothing.
fn header_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get(CONTENT_DIGEST)?.to_str().ok()?.trim().parse().ok()
}

fn media_type(content_type: &str) -> Option<MediaType> {
    if content_type.is_empty() {
        None
    } else {
        content_type.parse().ok()
    }
}
