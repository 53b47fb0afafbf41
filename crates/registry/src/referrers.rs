//! What refers to a manifest: signatures, attestations, bills of materials (distribution-spec, *Listing Referrers*).

use bytes::Bytes;
use http::Method;
use unlade_oci::{Descriptor, Digest, MediaType, Parsed, parse_manifest};
use unlade_reference::{Repository, Tag};
use url::Url;

use crate::client::Shared;
use crate::manifest::{self, RawManifest, Selector};
use crate::pages::{self, Paged};
use crate::route::Target;
use crate::{Error, Exchange};

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
    let api = Api { digest, artifact_type };
    let (mut manifests, origin) = match pages::list(shared, repository, &api).await {
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

/// What refers to one digest, as the registry lists it.
struct Api<'a> {
    digest: &'a Digest,
    artifact_type: Option<&'a str>,
}

impl Paged for Api<'_> {
    type Item = Descriptor;

    const DOCUMENT: &'static str = DOCUMENT;
    const DUE: &'static str = "a list of referrers";
    const ACCEPT: &'static str = "application/vnd.oci.image.index.v1+json";
    /// A page is an index, and no larger than any.
    const MAX_PAGE_BYTES: u64 = unlade_oci::MAX_MANIFEST_BYTES;
    /// Few things are referred to by more than a handful.
    const MAX_PAGES: usize = 1000;

    fn first(&self, target: &Target) -> Url {
        target.referrers(self.digest, self.artifact_type)
    }

    fn parse(&self, _: &Target, page: Bytes, media_type: Option<&MediaType>) -> Result<Vec<Descriptor>, String> {
        parse(page, media_type)
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
            parse(bytes, media_type.as_ref()).map_err(|reason| Error::Malformed {
                exchange: Exchange::new(&Method::GET, &url),
                document: DOCUMENT,
                reason,
            })
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

fn parse(bytes: Bytes, media_type: Option<&MediaType>) -> Result<Vec<Descriptor>, String> {
    match parse_manifest(bytes, media_type, None) {
        Ok(Parsed::Index(index)) => Ok(index.get().manifests.clone()),
        Ok(Parsed::Manifest(_)) => Err("it is a manifest, not an index".to_owned()),
        Err(error) => Err(error.to_string()),
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
