//! Trees of `<directory>/<registry>/hosts.toml`, and of docker's certificates without one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use unlade_reference::Registry;

use super::document::{self, Document};
use super::{ClientCertificate, ConfigError, EndpointSettings, EndpointSource, Origin, TlsSettings, hosts_toml};

const FILE: &str = "hosts.toml";
const DEFAULT: &str = "_default";

/// containerd's `certs.d` directories, first to last.
///
/// In each, the directory of the registry is looked for as `host_port_`, as `host:port` and as `_default`; the first
/// `hosts.toml` found is the one that counts. A registry's directory without one may hold docker's certificate files
/// instead: each `*.crt` an authority, each `*.cert` with the `*.key` of the same name a client certificate. They are for
/// the registry's own server, also if a `hosts.toml` further down says who its mirrors are.
///
/// What is read: a `hosts.toml` with an unknown key, or one that does not parse, is an error, and so is a directory that
/// may not be read. A missing directory is not.
#[derive(Clone, Debug, Default)]
pub struct CertsDirs {
    directories: Vec<PathBuf>,
}

impl CertsDirs {
    /// Looks in `directories`, first to last.
    pub fn new(directories: Vec<PathBuf>) -> Self {
        Self { directories }
    }
}

impl EndpointSource for CertsDirs {
    fn endpoints(&self, registry: &Registry, _path: &str) -> Result<Vec<EndpointSettings>, ConfigError> {
        let mut certificates: Option<(PathBuf, TlsSettings)> = None;
        for directory in self.directories.iter().flat_map(|base| candidates(base, registry)) {
            let path = directory.join(FILE);
            if let Some(text) = document::read(&path)?.filter(|text| !text.is_empty()) {
                let document = Document {
                    path: &path,
                    text: &text,
                };
                let mut endpoints = hosts_toml::parse(document, registry)?;
                if let Some((_, found)) = certificates
                    && let Some(own) = endpoints.last_mut().filter(|last| last.namespace.is_none())
                {
                    own.tls.ca.extend(found.ca);
                    own.tls.client.extend(found.client);
                }
                return Ok(endpoints);
            }
            let found = certificate_files(&directory)?;
            if certificates.is_none() && found != TlsSettings::default() {
                certificates = Some((directory, found));
            }
        }
        let Some((path, tls)) = certificates else {
            return Ok(Vec::new());
        };
        let mut own = EndpointSettings::standard(registry)?;
        own.tls = tls;
        own.origin = Origin::File { path, line: 0 };
        Ok(vec![own])
    }
}

/// Returns where in a directory the settings of a registry may be.
fn candidates(base: &Path, registry: &Registry) -> Vec<PathBuf> {
    let mut names = Vec::new();
    if let Some(port) = registry.port() {
        // For file systems that take no colon.
        names.push(format!("{}_{port}_", registry.host()));
    }
    names.push(registry.to_string());
    names.push(DEFAULT.to_owned());
    names.into_iter().map(|name| base.join(name)).collect()
}

fn certificate_files(directory: &Path) -> Result<TlsSettings, ConfigError> {
    let mut tls = TlsSettings::default();
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(tls),
        Err(error) => return Err(document::unreadable(directory, error)),
    };
    let paths: Result<Vec<_>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(|error| document::unreadable(directory, error))?;
    paths.sort();
    for path in &paths {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => tls.ca.push(path.clone()),
            Some("cert") => {
                let key = path.with_extension("key");
                if !paths.contains(&key) {
                    let message = format!("its key is missing, {}", key.display());
                    return Err(ConfigError::Pem {
                        path: path.clone(),
                        message,
                    });
                }
                tls.client.push(ClientCertificate {
                    certificate: path.clone(),
                    key: Some(key),
                });
            }
            _ => {}
        }
    }
    Ok(tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes files into two base directories `a` and `b` and asks for a registry.
    fn endpoints(files: &[(&str, &str)], registry: &str) -> Result<Vec<EndpointSettings>, String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let source = CertsDirs::new(vec![dir.path().join("a"), dir.path().join("b")]);
        source
            .endpoints(&registry.parse().unwrap(), "x/y")
            .map_err(|error| error.to_string())
    }

    fn hosts(files: &[(&str, &str)], registry: &str) -> Vec<String> {
        endpoints(files, registry)
            .unwrap()
            .iter()
            .map(EndpointSettings::host)
            .collect()
    }

    const SERVER_1: &str = "server = 'https://one.example'";
    const SERVER_2: &str = "server = 'https://two.example'";

    #[test]
    fn which_file_counts() {
        assert_eq!(hosts(&[], "ghcr.io"), [""; 0]);
        assert_eq!(hosts(&[("a/quay.io/hosts.toml", SERVER_1)], "ghcr.io"), [""; 0]);
        let both = [("a/ghcr.io/hosts.toml", SERVER_1), ("b/ghcr.io/hosts.toml", SERVER_2)];
        assert_eq!(hosts(&both, "ghcr.io"), ["one.example"]);
        let default = [("a/_default/hosts.toml", SERVER_1), ("b/ghcr.io/hosts.toml", SERVER_2)];
        assert_eq!(hosts(&default, "ghcr.io"), ["one.example"]);
        let default = [("a/_default/hosts.toml", SERVER_1), ("a/ghcr.io/hosts.toml", SERVER_2)];
        assert_eq!(hosts(&default, "ghcr.io"), ["two.example"]);
        let ports = [
            ("a/h.example:5000/hosts.toml", SERVER_1),
            ("a/h.example_5000_/hosts.toml", SERVER_2),
        ];
        assert_eq!(hosts(&ports, "h.example:5000"), ["two.example"]);
        assert_eq!(hosts(&ports[..1], "h.example:5000"), ["one.example"]);
        assert_eq!(hosts(&ports, "h.example"), [""; 0]);
    }

    #[test]
    fn an_empty_directory_hides_nothing() {
        let files = [("a/ghcr.io/notes.txt", ""), ("a/_default/hosts.toml", SERVER_1)];
        assert_eq!(hosts(&files, "ghcr.io"), ["one.example"]);
    }

    #[test]
    fn certificates_as_docker_keeps_them() {
        let files = [
            ("b/ghcr.io/ca.crt", "x"),
            ("b/ghcr.io/client.cert", "x"),
            ("b/ghcr.io/client.key", "x"),
        ];
        let own = endpoints(&files, "ghcr.io").unwrap().remove(0);
        assert_eq!(own.base.as_str(), "https://ghcr.io/v2/");
        assert!(own.tls.ca[0].ends_with("b/ghcr.io/ca.crt"));
        assert!(
            own.tls.client[0]
                .key
                .as_ref()
                .unwrap()
                .ends_with("b/ghcr.io/client.key")
        );
        assert!(own.origin.to_string().ends_with("b/ghcr.io"));
        let error = endpoints(&files[..2], "ghcr.io").unwrap_err();
        assert!(error.contains("client.cert: its key is missing, "), "{error}");
    }

    #[test]
    fn certificates_do_not_hide_mirrors() {
        let files = [
            ("a/ghcr.io/ca.crt", "x"),
            ("a/_default/hosts.toml", "[host.'https://m.example']"),
        ];
        let found = endpoints(&files, "ghcr.io").unwrap();
        assert_eq!(found[0].host(), "m.example");
        assert!(found[0].tls.ca.is_empty());
        assert!(found[1].tls.ca[0].ends_with("a/ghcr.io/ca.crt"));
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let error = endpoints(&[("a/ghcr.io/hosts.toml/x", "")], "ghcr.io").unwrap_err();
        assert!(
            error.starts_with("cannot read ") && error.ends_with("/a/ghcr.io/hosts.toml"),
            "{error}"
        );
    }
}
