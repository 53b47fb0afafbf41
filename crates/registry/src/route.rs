//! The way from a repository to the servers that hold it.

use std::sync::Arc;

use unlade_oci::Digest;
use unlade_reference::{Registry, Repository};
use url::Url;

use crate::attempt::To;
use crate::session::Session;
use crate::{Capabilities, ConfigError, EndpointSettings, Role};

/// The servers of one repository, in the order in which they are asked.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) registry: Registry,
    pub(crate) targets: Vec<Arc<Target>>,
}

/// A repository at one server.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) session: Arc<Session>,
    /// Whose credentials and token scope it is: the repository by the name of this server, so that what is meant for the
    /// registry never reaches a mirror of another host.
    pub(crate) repository: Repository,
    pub(crate) role: Role,
    pub(crate) capabilities: Capabilities,
    path: String,
    namespace: Option<String>,
}

impl Target {
    pub(crate) fn new(
        session: Arc<Session>,
        repository: &Repository,
        settings: &EndpointSettings,
    ) -> Result<Self, ConfigError> {
        let path = settings.path.clone().unwrap_or_else(|| repository.path().to_owned());
        Ok(Self {
            session,
            repository: known_as(repository, settings, &path)?,
            role: settings.role,
            capabilities: settings.capabilities,
            path,
            namespace: settings.namespace.clone(),
        })
    }

    /// Who is asked, and on whose behalf.
    pub(crate) fn to(&self) -> To<'_> {
        To::Registry {
            session: &self.session,
            repository: &self.repository,
        }
    }

    /// What the URLs of the repository begin with, with a slash at its end.
    pub(crate) fn base(&self) -> Url {
        let mut url = self.session.endpoint().base().clone();
        url.set_path(&format!("{}{}/", url.path(), self.path));
        url
    }

    /// The URL of a manifest by tag or digest.
    pub(crate) fn manifest(&self, reference: &str) -> Url {
        self.url(&format!("manifests/{reference}"))
    }

    /// The URL of a blob.
    pub(crate) fn blob(&self, digest: &Digest) -> Url {
        self.url(&format!("blobs/{digest}"))
    }

    /// The URL of the first page of the tags.
    pub(crate) fn tags(&self, page_size: u32) -> Url {
        let mut url = self.url("tags/list");
        url.query_pairs_mut().append_pair("n", &page_size.to_string());
        url
    }

    /// The URL of the first page of what refers to a manifest, all or of one type.
    pub(crate) fn referrers(&self, digest: &Digest, artifact_type: Option<&str>) -> Url {
        let mut url = self.url(&format!("referrers/{digest}"));
        if let Some(artifact_type) = artifact_type {
            url.query_pairs_mut().append_pair("artifactType", artifact_type);
        }
        url
    }

    fn url(&self, end: &str) -> Url {
        let mut url = self.base();
        url.set_path(&format!("{}{end}", url.path()));
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        url
    }
}

/// Returns the name by which a server knows the repository.
fn known_as(repository: &Repository, settings: &EndpointSettings, path: &str) -> Result<Repository, ConfigError> {
    let registry = repository.registry();
    let host = settings.host();
    let is_own = [registry.api_host(), registry.as_str()]
        .iter()
        .any(|name| bare(name, settings) == bare(&host, settings));
    let prefix = settings.base.path().split_once("/v2/").map_or("", |(_, prefix)| prefix);
    if is_own && prefix.is_empty() && path == repository.path() {
        return Ok(repository.clone());
    }
    let host = if is_own { registry.to_string() } else { host };
    // A host of one word is a host only with a port; without one it would be a directory of the default registry.
    let with_port = format!(
        "{}:{}",
        settings.base.host_str().unwrap_or_default(),
        settings.base.port_or_known_default().unwrap_or_default()
    );
    let wrong = |reason: String| ConfigError::Address {
        registry: host.clone(),
        reason,
    };
    let registry = [&host, &with_port]
        .iter()
        .find_map(|host| host.parse::<Registry>().ok())
        .ok_or_else(|| wrong("it cannot stand for a registry".to_owned()))?;
    // A prefix that cannot be part of a repository's name takes no part in the choice of credentials.
    let paths = [format!("{prefix}{path}"), path.to_owned()];
    paths
        .iter()
        .find_map(|path| Repository::new(registry.clone(), path).ok())
        .ok_or_else(|| wrong(format!("{path:?} is no repository there")))
}

/// Leaves out the port that the scheme implies.
fn bare<'a>(host: &'a str, settings: &EndpointSettings) -> &'a str {
    let implied = if settings.base.scheme() == "http" {
        ":80"
    } else {
        ":443"
    };
    host.strip_suffix(implied).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use unlade_reference::Defaults;

    use crate::endpoint::Endpoint;
    use crate::transport::Transport;
    use crate::{Origin, Roots, Timeouts};

    use super::*;

    fn settings(base: &str) -> EndpointSettings {
        EndpointSettings::new(Url::parse(base).unwrap(), Origin::Default)
    }

    fn target_of(name: &str, settings: &EndpointSettings) -> Target {
        let repository = Repository::parse(name, &Defaults::standard()).unwrap();
        let transport = Transport::new(
            Timeouts::default(),
            http::HeaderValue::from_static("x"),
            Roots::BuiltIn,
            crate::ProxySettings::none(),
        );
        let lines = transport.lines(&settings.tls, None);
        let session = Session::new(Endpoint::new(settings), lines);
        Target::new(Arc::new(session), &repository, settings).unwrap()
    }

    #[test]
    fn urls_of_the_registry_itself() {
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
            let target = target_of(name, &EndpointSettings::standard(repository.registry()).unwrap());
            assert_eq!(target.manifest("3").as_str(), expected);
            assert_eq!(target.repository, repository);
        }
    }

    #[test]
    fn urls_of_a_mirror() {
        let mut mirror = settings("https://m.example/cache/v2/");
        mirror.namespace = Some("ghcr.io".to_owned());
        let mirrored = target_of("ghcr.io/a/b", &mirror);
        let digest = Digest::sha256("");
        assert_eq!(
            mirrored.blob(&digest).as_str(),
            format!("https://m.example/cache/v2/a/b/blobs/{digest}?ns=ghcr.io")
        );
        assert_eq!(
            mirrored.tags(7).as_str(),
            "https://m.example/cache/v2/a/b/tags/list?ns=ghcr.io&n=7"
        );
        assert_eq!(
            mirrored.referrers(&digest, Some("a/b+c")).as_str(),
            format!("https://m.example/cache/v2/a/b/referrers/{digest}?ns=ghcr.io&artifactType=a%2Fb%2Bc")
        );
        mirror.path = Some("copy/b".to_owned());
        let elsewhere = target_of("ghcr.io/a/b", &mirror);
        assert_eq!(elsewhere.manifest("3").path(), "/cache/v2/copy/b/manifests/3");
    }

    #[test]
    fn whose_credentials_are_sent() {
        let table = [
            ("alpine", "https://registry-1.docker.io/v2/", "docker.io/library/alpine"),
            ("alpine", "https://docker.io/v2/", "docker.io/library/alpine"),
            ("alpine", "https://m.example/v2/", "m.example/library/alpine"),
            ("alpine", "https://m.example/v2/hub/", "m.example/hub/library/alpine"),
            ("alpine", "https://m.example/v2/HUB/", "m.example/library/alpine"),
            ("alpine", "http://mirror/v2/", "mirror:80/library/alpine"),
            ("ghcr.io/a", "https://ghcr.io:8443/v2/", "ghcr.io:8443/a"),
            ("ghcr.io/a", "https://ghcr.io/v2/", "ghcr.io/a"),
            ("ghcr.io:443/a", "https://ghcr.io/v2/", "ghcr.io:443/a"),
            ("ghcr.io/a", "http://[::1]:5000/v2/", "[::1]:5000/a"),
        ];
        for (name, base, expected) in table {
            assert_eq!(
                target_of(name, &settings(base)).repository.to_string(),
                expected,
                "{base}"
            );
        }
    }
}
