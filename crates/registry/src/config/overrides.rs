//! Settings for servers that a person gives at the moment, before those of files.

use std::path::PathBuf;
use std::sync::Arc;

use unlade_reference::Registry;

use super::{ClientCertificate, ConfigError, EndpointSettings, EndpointSource, Origin, Role};

/// Which servers a setting is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// Each registry's own server, but no mirror.
    Registries,
    /// The server with this host, mirror or not: `host:port`, or `host` for all its ports. The name of a registry stands for
    /// its own server.
    Named(String),
}

/// Changes what another source says about how servers are spoken to.
///
/// Plain http counts over all that is about TLS. A registry on this machine, which is spoken to by plain http if nothing is
/// written about it, is spoken to with TLS when a setting about certificates is for it.
#[derive(Clone, Debug)]
pub struct Overrides {
    inner: Arc<dyn EndpointSource>,
    rules: Vec<(Hosts, Rule)>,
    authorities: Vec<PathBuf>,
}

#[derive(Clone, Debug)]
enum Rule {
    PlainHttp,
    SkipVerify,
    Client(ClientCertificate),
}

impl Overrides {
    /// Begins without a change to `inner`.
    pub fn of(inner: Arc<dyn EndpointSource>) -> Self {
        Self {
            inner,
            rules: Vec::new(),
            authorities: Vec::new(),
        }
    }

    /// Speaks http without TLS.
    #[must_use]
    pub fn plain_http(self, hosts: Hosts) -> Self {
        self.with(hosts, Rule::PlainHttp)
    }

    /// Accepts any certificate.
    #[must_use]
    pub fn skip_verify(self, hosts: Hosts) -> Self {
        self.with(hosts, Rule::SkipVerify)
    }

    /// Is known by a certificate.
    #[must_use]
    pub fn client_certificate(self, hosts: Hosts, certificate: ClientCertificate) -> Self {
        self.with(hosts, Rule::Client(certificate))
    }

    /// Trusts the authorities in a PEM file, for every server and whatever it leads to.
    #[must_use]
    pub fn authority(mut self, file: PathBuf) -> Self {
        self.authorities.push(file);
        self
    }

    fn with(mut self, hosts: Hosts, rule: Rule) -> Self {
        self.rules.push((hosts, rule));
        self
    }

    fn apply(&self, registry: &Registry, server: &mut EndpointSettings) {
        let rules = self.rules.iter().filter(|(hosts, _)| hosts.have(registry, server));
        let rules: Vec<_> = rules.map(|(_, rule)| rule).collect();
        let mut is_plain = false;
        let mut has_certificates = !self.authorities.is_empty();
        for rule in rules {
            match rule {
                Rule::PlainHttp => is_plain = true,
                Rule::SkipVerify => server.tls.skip_verify = true,
                Rule::Client(certificate) => server.tls.client = vec![certificate.clone()],
            }
            has_certificates |= !matches!(rule, Rule::PlainHttp);
        }
        server.tls.ca.extend(self.authorities.iter().cloned());
        let is_free = server.role == Role::Registry && server.origin == Origin::Default;
        let scheme = match (is_plain, has_certificates && is_free) {
            (true, _) => "http",
            (false, true) => "https",
            (false, false) => return,
        };
        if server.base.set_scheme(scheme).is_err() {
            unreachable!("http and https can stand for each other");
        }
    }
}

impl Hosts {
    fn have(&self, registry: &Registry, server: &EndpointSettings) -> bool {
        let is_own = server.role == Role::Registry;
        match self {
            Self::Registries => is_own,
            Self::Named(name) => {
                let host = server.host();
                let bare = host.rsplit_once(':').map_or(&*host, |(bare, _)| bare);
                *name == host || name == bare || (is_own && (name == registry.as_str() || name == registry.host()))
            }
        }
    }
}

impl EndpointSource for Overrides {
    fn endpoints(&self, registry: &Registry, path: &str) -> Result<Vec<EndpointSettings>, ConfigError> {
        let mut servers = self.inner.endpoints(registry, path)?;
        if servers.is_empty() {
            servers.push(EndpointSettings::standard(registry)?);
        }
        for server in &mut servers {
            self.apply(registry, server);
        }
        Ok(servers)
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::FirstOf;

    fn mirrored() -> Arc<dyn EndpointSource> {
        #[derive(Debug)]
        struct Mirrored;
        impl EndpointSource for Mirrored {
            fn endpoints(&self, registry: &Registry, _: &str) -> Result<Vec<EndpointSettings>, ConfigError> {
                let base = Url::parse("https://m.example:5000/v2/").unwrap();
                let mut mirror = EndpointSettings::new(base, Origin::Given("test".into()));
                mirror.role = Role::Mirror;
                Ok(vec![mirror, EndpointSettings::standard(registry)?])
            }
        }
        Arc::new(Mirrored)
    }

    fn list(overrides: &Overrides, registry: &str) -> String {
        let found = overrides.endpoints(&registry.parse().unwrap(), "x").unwrap();
        let server = |server: &EndpointSettings| {
            let skip = if server.tls.skip_verify { " any" } else { "" };
            format!("{}{skip}", server.base.origin().ascii_serialization())
        };
        found.iter().map(server).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn for_whom_a_setting_is() {
        let named = |name: &str| Hosts::Named(name.to_owned());
        let all = Overrides::of(mirrored());
        assert_eq!(list(&all, "r.example"), "https://m.example:5000, https://r.example");
        let plain = all.clone().plain_http(Hosts::Registries);
        assert_eq!(list(&plain, "r.example"), "https://m.example:5000, http://r.example");
        for name in ["m.example:5000", "m.example"] {
            let plain = all.clone().plain_http(named(name));
            assert_eq!(list(&plain, "r.example"), "http://m.example:5000, https://r.example");
        }
        let other = all.clone().plain_http(named("m.example:5001"));
        assert_eq!(list(&other, "r.example"), "https://m.example:5000, https://r.example");
        let skip = all.clone().skip_verify(named("docker.io"));
        assert_eq!(
            list(&skip, "docker.io"),
            "https://m.example:5000, https://registry-1.docker.io any"
        );
        let both = skip.plain_http(named("docker.io")).skip_verify(named("docker.io"));
        assert_eq!(
            list(&both, "docker.io"),
            "https://m.example:5000, http://registry-1.docker.io any"
        );
    }

    #[test]
    fn certificates_mean_tls_on_this_machine() {
        let nothing: Arc<dyn EndpointSource> = Arc::new(FirstOf::default());
        let all = Overrides::of(nothing);
        assert_eq!(list(&all, "localhost:5000"), "http://localhost:5000");
        let authority = all.clone().authority("ca.pem".into());
        assert_eq!(list(&authority, "localhost:5000"), "https://localhost:5000");
        let skip = all.clone().skip_verify(Hosts::Registries);
        assert_eq!(list(&skip, "localhost:5000"), "https://localhost:5000 any");
        let plain = skip.authority("ca.pem".into()).plain_http(Hosts::Registries);
        assert_eq!(list(&plain, "localhost:5000"), "http://localhost:5000 any");
    }
}
