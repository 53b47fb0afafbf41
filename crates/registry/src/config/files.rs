//! The files of a machine, put together.

use unlade_reference::Registry;

use super::{CertsDirs, ConfigError, EndpointSettings, EndpointSource, Origin, RegistriesConf};

/// What the files of a machine say about registries, in one order.
///
/// 1. A registry that `registries.conf` blocks is blocked.
/// 2. A `hosts.toml` for the registry says which servers there are.
/// 3. Else a `[[registry]]` table of `registries.conf` does.
/// 4. Else it is the registry's own server.
///
/// Certificate files of docker's `certs.d` are for the server of that name in any case, see [`CertsDirs`].
#[derive(Clone, Debug, Default)]
pub struct EndpointFiles {
    certs_dirs: CertsDirs,
    registries_conf: RegistriesConf,
}

impl EndpointFiles {
    /// Puts the two together.
    pub fn new(certs_dirs: CertsDirs, registries_conf: RegistriesConf) -> Self {
        Self {
            certs_dirs,
            registries_conf,
        }
    }
}

impl EndpointSource for EndpointFiles {
    fn endpoints(&self, registry: &Registry, path: &str) -> Result<Vec<EndpointSettings>, ConfigError> {
        let by_table = self.registries_conf.endpoints(registry, path)?;
        let by_hosts = self.certs_dirs.hosts(registry)?;
        let says_scheme = !by_hosts.is_empty() || by_table.iter().any(|server| server.tls.skip_verify);
        let mut servers = if by_hosts.is_empty() { by_table } else { by_hosts };
        if servers.is_empty() {
            servers.push(EndpointSettings::standard(registry)?);
        }
        for server in &mut servers {
            let Some(directory) = self.certs_dirs.add_certificates(registry, server)? else {
                continue;
            };
            if server.origin == Origin::Default {
                server.origin = Origin::File {
                    path: directory,
                    line: 0,
                };
            }
            if !says_scheme && server.base.set_scheme("https").is_err() {
                unreachable!("http and https can stand for each other");
            }
        }
        Ok(servers)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_order_of_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let servers = |registry: &str| {
            let certs_dirs = CertsDirs::new(vec![dir.path().join("certs.d")]);
            let registries_conf = RegistriesConf::load(&dir.path().join("registries.conf"), &[]).unwrap();
            let found = EndpointFiles::new(certs_dirs, registries_conf).endpoints(&registry.parse().unwrap(), "x/y");
            found
                .map(|found| found.iter().map(EndpointSettings::host).collect::<Vec<_>>().join(" "))
                .map_err(|error| error.to_string())
        };
        assert_eq!(servers("ghcr.io").unwrap(), "ghcr.io");
        write(
            "registries.conf",
            "[[registry]]\nlocation='ghcr.io'\n[[registry.mirror]]\nlocation='m.example'\n\
             [[registry]]\nlocation='quay.io'\nblocked=true",
        );
        assert_eq!(servers("ghcr.io").unwrap(), "m.example ghcr.io");
        write("certs.d/m.example/ca.crt", "x");
        assert_eq!(servers("ghcr.io").unwrap(), "m.example ghcr.io");
        for registry in ["ghcr.io", "quay.io"] {
            write(&format!("certs.d/{registry}/hosts.toml"), "[host.'https://n.example']");
        }
        assert_eq!(servers("ghcr.io").unwrap(), "n.example ghcr.io");
        let error = servers("quay.io").unwrap_err();
        assert!(error.ends_with("quay.io/x/y is blocked by configuration"), "{error}");
    }
}
