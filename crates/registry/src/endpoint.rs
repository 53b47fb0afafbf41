//! Where the API of a registry lives.

use unlade_oci::Digest;
use unlade_reference::{Registry, Repository};
use url::Url;

use crate::Error;

/// A server that answers for a registry.
///
/// This is the one place that turns a registry's name into a scheme and a host. Plain http is for loopback hosts, which
/// speak nothing else; everywhere else it is https, with nothing to fall back to.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    registry: Registry,
    base: Url,
}

impl Endpoint {
    /// Returns the registry's own endpoint.
    pub(crate) fn upstream(registry: &Registry) -> Result<Self, Error> {
        let scheme = if registry.is_loopback() { "http" } else { "https" };
        let text = format!("{scheme}://{}/v2/", registry.api_host());
        let base = Url::parse(&text).map_err(|error| Error::Address {
            registry: registry.to_string(),
            reason: error.to_string(),
        })?;
        Ok(Self {
            registry: registry.clone(),
            base,
        })
    }

    /// Tells whether the endpoint is spoken to without TLS.
    pub(crate) fn is_plain(&self) -> bool {
        self.base.scheme() == "http"
    }

    /// Tells whether the endpoint is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        self.registry.is_loopback()
    }

    /// Tells whether a URL has the endpoint's scheme, host and port.
    pub(crate) fn is_origin_of(&self, url: &Url) -> bool {
        self.base.origin() == url.origin()
    }

    /// The URL that says whether this is a registry.
    pub(crate) fn base(&self) -> Url {
        self.base.clone()
    }

    /// The URL of a manifest by tag or digest.
    pub(crate) fn manifest(&self, repository: &Repository, reference: &str) -> Url {
        self.join(&format!("{}/manifests/{reference}", repository.path()))
    }

    /// The URL of a blob.
    pub(crate) fn blob(&self, repository: &Repository, digest: &Digest) -> Url {
        self.join(&format!("{}/blobs/{digest}", repository.path()))
    }

    /// The URL of the first page of a repository's tags.
    pub(crate) fn tags(&self, repository: &Repository, page_size: u32) -> Url {
        let mut url = self.join(&format!("{}/tags/list", repository.path()));
        url.set_query(Some(&format!("n={page_size}")));
        url
    }

    fn join(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path()));
        url
    }
}

#[cfg(test)]
mod tests {
    use unlade_reference::Defaults;

    use super::*;

    #[test]
    fn scheme_and_host() {
        let table = [
            ("alpine", "https://registry-1.docker.io/v2/library/alpine/manifests/3"),
            ("ghcr.io/a/b", "https://ghcr.io/v2/a/b/manifests/3"),
            ("ghcr.io:8443/a/b", "https://ghcr.io:8443/v2/a/b/manifests/3"),
            ("localhost:5000/a", "http://localhost:5000/v2/a/manifests/3"),
            ("127.8.8.8:5000/a", "http://127.8.8.8:5000/v2/a/manifests/3"),
            ("[::1]:5000/a", "http://[::1]:5000/v2/a/manifests/3"),
            ("10.0.0.1:5000/a", "https://10.0.0.1:5000/v2/a/manifests/3"),
            (
                "localhost.example:80/a",
                "https://localhost.example:80/v2/a/manifests/3",
            ),
        ];
        for (name, expected) in table {
            let repository = Repository::parse(name, &Defaults::standard()).unwrap();
            let endpoint = Endpoint::upstream(repository.registry()).unwrap();
            assert_eq!(endpoint.manifest(&repository, "3").as_str(), expected);
        }
    }

    #[test]
    fn the_other_urls() {
        let repository = Repository::parse("ghcr.io/a/b", &Defaults::standard()).unwrap();
        let endpoint = Endpoint::upstream(repository.registry()).unwrap();
        let digest = Digest::sha256("");
        assert_eq!(endpoint.base().as_str(), "https://ghcr.io/v2/");
        assert_eq!(
            endpoint.blob(&repository, &digest).as_str(),
            format!("https://ghcr.io/v2/a/b/blobs/{digest}")
        );
        assert_eq!(
            endpoint.tags(&repository, 7).as_str(),
            "https://ghcr.io/v2/a/b/tags/list?n=7"
        );
    }
}
