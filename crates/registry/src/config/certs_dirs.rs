//! Trees of `<directory>/<registry>/hosts.toml`, and of docker's certificates without one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use unlade_reference::Registry;

use super::document::{self, Document};
use super::{
    ClientCertificate, ConfigError, EndpointFiles, EndpointSettings, EndpointSource, Origin, RegistriesConf, Role,
    TlsSettings, hosts_toml,
};

const FILE: &str = "hosts.toml";
const DEFAULT: &str = "_default";

/// containerd's `certs.d` directories, first to last.
///
/// In each, the directory of the registry is looked for as `host_port_`, as `host:port` and as `_default`; the first
/// `hosts.toml` found is the one that counts.
///
/// A server's directory, by its own name or that of the registry, may also hold docker's certificate files: each `*.crt` an
/// authority, each `*.cert` with the `*.key` of the same name a client certificate. They are for that server, wherever it
/// is listed, unless its `hosts.toml` names certificates itself. A registry on this machine that has such files
/// is spoken to with TLS, which it is not otherwise.
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

    /// Returns what the `hosts.toml` of a registry says; nothing if there is none.
    pub(super) fn hosts(&self, registry: &Registry) -> Result<Vec<EndpointSettings>, ConfigError> {
        let mut names = names(registry.as_str());
        names.push(DEFAULT.to_owned());
        for path in self.in_each(&names).map(|directory| directory.join(FILE)) {
            if let Some(text) = document::read(&path)?.filter(|text| !text.is_empty()) {
                let document = Document {
                    path: &path,
                    text: &text,
                };
                return hosts_toml::parse(document, registry);
            }
        }
        Ok(Vec::new())
    }

    /// Adds the certificate files for a server of `registry`, if its settings name no certificates. Returns the directory
    /// that they are in.
    pub(super) fn add_certificates(
        &self,
        registry: &Registry,
        server: &mut EndpointSettings,
    ) -> Result<Option<PathBuf>, ConfigError> {
        if !server.tls.ca.is_empty() || !server.tls.client.is_empty() {
            return Ok(None);
        }
        let mut names = names(&server.host());
        if server.role == Role::Registry {
            names.extend(self::names(registry.as_str()));
        }
        for directory in self.in_each(&names) {
            let found = certificate_files(&directory)?;
            if found != TlsSettings::default() {
                server.tls.ca = found.ca;
                server.tls.client = found.client;
                return Ok(Some(directory));
            }
        }
        Ok(None)
    }

    fn in_each(&self, names: &[String]) -> impl Iterator<Item = PathBuf> {
        self.directories
            .iter()
            .flat_map(|base| names.iter().map(|name| base.join(name)))
    }
}

impl EndpointSource for CertsDirs {
    fn endpoints(&self, registry: &Registry, path: &str) -> Result<Vec<EndpointSettings>, ConfigError> {
        let files = EndpointFiles::new(self.clone(), RegistriesConf::default());
        let mut found = files.endpoints(registry, path)?;
        // Without files for the registry there is nothing to say about it.
        found.retain(|server| server.origin != Origin::Default);
        Ok(found)
    }
}

/// Returns the directories that a server's settings may be in, without a leading path.
fn names(host: &str) -> Vec<String> {
    let mut names = Vec::new();
    if let Some((bare, port)) = host.rsplit_once(':')
        && port.bytes().all(|byte| byte.is_ascii_digit())
    {
        // For file systems that take no colon.
        names.push(format!("{bare}_{port}_"));
    }
    names.push(host.to_owned());
    names
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
    fn certificates_are_for_the_server_of_that_name() {
        let files = [
            ("a/m.example:5000/ca.crt", "x"),
            ("b/docker.io/ca.crt", "x"),
            (
                "a/docker.io/hosts.toml",
                "[host.'https://m.example:5000']\n[host.'https://n.example']\nca='own.pem'",
            ),
        ];
        let found = endpoints(&files, "docker.io").unwrap();
        let ca = |index: usize| found[index].tls.ca[0].clone();
        assert!(ca(0).ends_with("a/m.example:5000/ca.crt"));
        assert!(ca(1).ends_with("a/docker.io/own.pem"));
        assert_eq!(found[2].host(), "registry-1.docker.io");
        assert!(ca(2).ends_with("b/docker.io/ca.crt"));
    }

    #[test]
    fn a_certificate_for_this_machine_means_tls() {
        let found = endpoints(&[("a/localhost:5000/ca.crt", "x")], "localhost:5000").unwrap();
        assert_eq!(found[0].base.as_str(), "https://localhost:5000/v2/");
        let plain = "server = 'http://localhost:5000'";
        let files = [("a/localhost:5000/ca.crt", "x"), ("a/localhost:5000/hosts.toml", plain)];
        let found = endpoints(&files, "localhost:5000").unwrap();
        assert_eq!(
            found[0].base.as_str(),
            "http://localhost:5000/v2/",
            "who says http gets http"
        );
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
