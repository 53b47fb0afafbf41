//! Where registries are served: the settings of endpoints, and the files that people keep them in.
//!
//! An [`EndpointSource`] answers for one repository with an ordered list of [`EndpointSettings`]: mirrors first, the
//! registry's own server last. [`CertsDirs`] reads containerd's and docker's `certs.d` directories, [`RegistriesConf`] the
//! file of podman, skopeo and CRI-O, [`EndpointFiles`] puts the two together, [`FirstOf`] asks several sources in turn, and
//! [`Overrides`] changes what they say. All of them are plain values: nothing here looks at the environment or chooses
//! a path.

mod certs_dirs;
pub(crate) mod document;
mod error;
mod files;
mod hosts_toml;
mod overrides;
mod registries_conf;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use unlade_reference::Registry;
use url::Url;

pub use self::certs_dirs::CertsDirs;
pub use self::error::ConfigError;
pub use self::files::EndpointFiles;
pub use self::overrides::{Hosts, Overrides};
pub use self::registries_conf::RegistriesConf;

/// Knows which servers answer for a registry.
pub trait EndpointSource: Send + Sync + fmt::Debug {
    /// Returns the servers that hold the repository `path` of `registry`, in the order in which they are to be asked; none if
    /// the source says nothing about them. An empty `path` asks about the registry as such.
    ///
    /// Files may be read here. A client asks once for each repository.
    ///
    /// # Errors
    /// The configuration cannot be read, or forbids the registry.
    fn endpoints(&self, registry: &Registry, path: &str) -> Result<Vec<EndpointSettings>, ConfigError>;
}

/// A server that answers for a registry, and how to speak to it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointSettings {
    /// Whether it is the registry's own server or stands in for it.
    pub role: Role,
    /// What repository paths are appended to, with a slash at its end: `https://mirror.example/v2/`. Its scheme decides
    /// whether TLS is spoken.
    pub base: Url,
    /// The repository's path there, if it is another than at the registry.
    pub path: Option<String>,
    /// The registry's name for a mirror that serves several, sent as `?ns=`.
    pub namespace: Option<String>,
    /// What it is asked for.
    pub capabilities: Capabilities,
    /// Whom to trust and how to be known.
    pub tls: TlsSettings,
    /// Headers for every request, marked so that their values do not print. They do not go along on a redirect to another
    /// server.
    pub headers: HeaderMap<HeaderValue>,
    /// The time to connect, instead of the client's.
    pub connect_timeout: Option<Duration>,
    /// Where this was written.
    pub origin: Origin,
}

impl EndpointSettings {
    /// Returns the settings of a registry's own server at `base` without anything special.
    pub fn new(base: Url, origin: Origin) -> Self {
        Self {
            role: Role::Registry,
            base,
            path: None,
            namespace: None,
            capabilities: Capabilities::default(),
            tls: TlsSettings::default(),
            headers: HeaderMap::new(),
            connect_timeout: None,
            origin,
        }
    }

    /// Returns what a registry has when nothing is configured: its API host, by plain http only if that is this machine.
    ///
    /// # Errors
    /// The registry's name makes no URL.
    pub fn standard(registry: &Registry) -> Result<Self, ConfigError> {
        let scheme = if registry.is_loopback() { "http" } else { "https" };
        let text = format!("{scheme}://{}/v2/", registry.api_host());
        let base = Url::parse(&text).map_err(|error| ConfigError::Address {
            registry: registry.to_string(),
            reason: error.to_string(),
        })?;
        Ok(Self::new(base, Origin::Default))
    }

    /// Returns `host` or `host:port` of the server.
    pub fn host(&self) -> String {
        crate::SafeUrl::from(&self.base).host()
    }
}

/// What a server is to a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is asked first, and what it does not have or does not give is asked for elsewhere.
    Mirror,
    /// The registry's own server, or what stands for it. What it denies is denied.
    Registry,
}

/// What a server is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Content by digest. A server cannot lie about it unnoticed.
    pub pull: bool,
    /// What a tag means now, and which tags there are. A server can lie about it.
    pub resolve: bool,
}

impl Default for Capabilities {
    /// Both.
    fn default() -> Self {
        Self {
            pull: true,
            resolve: true,
        }
    }
}

/// How TLS is done with one server. Files are PEM and are read when the server is first needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// Certificate authorities that are trusted besides those of the system; also for servers that this one redirects to.
    pub ca: Vec<PathBuf>,
    /// The client's own certificate. Of several, the first whose key type the server takes is used.
    pub client: Vec<ClientCertificate>,
    /// Whether to accept any certificate. It is for this server alone, not for those that it redirects to.
    pub skip_verify: bool,
}

/// A certificate by which a client is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate and its chain.
    pub certificate: PathBuf,
    /// The private key; in the certificate's own file if there is none here.
    pub key: Option<PathBuf>,
}

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// Nothing says otherwise.
    Default,
    /// A file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1; 0 if it is the file's being there.
        line: usize,
    },
    /// Settings that a program passed in, by the name that it gave them.
    Given(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: 0 } => write!(f, "{}", path.display()),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Given(name) => f.write_str(name),
        }
    }
}

/// Asks several sources; the first that knows the registry answers.
#[derive(Clone, Debug, Default)]
pub struct FirstOf(pub Vec<Arc<dyn EndpointSource>>);

impl EndpointSource for FirstOf {
    fn endpoints(&self, registry: &Registry, path: &str) -> Result<Vec<EndpointSettings>, ConfigError> {
        for source in &self.0 {
            let endpoints = source.endpoints(registry, path)?;
            if !endpoints.is_empty() {
                return Ok(endpoints);
            }
        }
        Ok(Vec::new())
    }
}
