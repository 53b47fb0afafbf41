//! Where registries are served and how they are spoken to: flags, variables, and the files of this machine.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use unlade_registry::{
    CertsDirs, ClientCertificate, ConfigError, EndpointFiles, EndpointSource, Hosts, Overrides, RegistriesConf,
};

use crate::environment::{self, Environment};
use crate::settings::{Setting, Source};

/// What concerns every command that asks a registry.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Registry options")]
pub(crate) struct RegistryFlags {
    /// Speak http without TLS, to the registry or to HOST; may be repeated
    #[arg(long, value_name = "HOST", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    plain_http: Vec<String>,
    /// Accept any certificate, of the registry or of HOST; may be repeated
    #[arg(long, value_name = "HOST", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    insecure_skip_verify: Vec<String>,
    /// Trust the certificate authorities in FILE (PEM), besides the others; may be repeated
    #[arg(long, value_name = "FILE")]
    ca_file: Vec<PathBuf>,
    /// Show the registry the client certificate in FILE (PEM)
    #[arg(long, value_name = "FILE")]
    client_cert: Option<PathBuf>,
    /// The key of --client-cert (PEM), if it is not in the same file
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
    /// Look for hosts.toml and certificates in DIR, instead of the usual directories; may be repeated
    #[arg(long, value_name = "DIR")]
    certs_dir: Vec<PathBuf>,
    /// Read mirrors from FILE, instead of the usual registries.conf
    #[arg(long, value_name = "FILE")]
    registries_conf: Option<PathBuf>,
}

/// What the configuration file sets.
#[derive(Debug, Default)]
pub(crate) struct RegistryTable {
    pub(crate) certs_dirs: Option<Setting<Vec<PathBuf>>>,
    pub(crate) registries_conf: Option<Setting<PathBuf>>,
}

/// Where registries are served: everything that decides it.
#[derive(Clone, Debug)]
pub(crate) struct Registries {
    /// Directories with `hosts.toml` and certificates, the first that knows the registry counts.
    pub(crate) certs_dirs: Setting<Vec<PathBuf>>,
    /// The file with mirrors, and its drop-in directories.
    pub(crate) mirrors: Setting<(PathBuf, Vec<PathBuf>)>,
    flags: RegistryFlags,
}

impl Registries {
    /// Resolves the settings. `config_home` is the user's directory for configuration.
    pub(crate) fn resolve(
        flags: &RegistryFlags,
        environment: &Environment,
        file: RegistryTable,
        config_home: Option<&Path>,
    ) -> Self {
        let flagged = (!flags.certs_dir.is_empty()).then(|| Setting {
            value: flags.certs_dir.clone(),
            source: Source::Flag("--certs-dir"),
        });
        let certs_dirs = flagged
            .or_else(|| {
                let list = environment.get(&environment::UNLADE_CERTS_DIRS)?;
                Some(Setting {
                    value: std::env::split_paths(list).collect(),
                    source: Source::Environment(environment::UNLADE_CERTS_DIRS.name),
                })
            })
            .or(file.certs_dirs)
            .unwrap_or_else(|| Setting {
                value: usual_certs_dirs(config_home),
                source: Source::Default,
            });
        let flagged = flags.registries_conf.clone().map(|value| Setting {
            value,
            source: Source::Flag("--registries-conf"),
        });
        let mirrors = flagged
            .or_else(|| {
                let file = environment.get(&environment::CONTAINERS_REGISTRIES_CONF)?;
                Some(Setting {
                    value: file.into(),
                    source: Source::Environment(environment::CONTAINERS_REGISTRIES_CONF.name),
                })
            })
            .or(file.registries_conf)
            .map_or_else(
                || Setting {
                    value: usual_registries_conf(config_home),
                    source: Source::Default,
                },
                |setting| setting.map(|file| (file, Vec::new())),
            );
        Self {
            certs_dirs,
            mirrors,
            flags: flags.clone(),
        }
    }

    /// Returns what says where a registry is served. Reads `registries.conf`.
    pub(crate) fn source(&self) -> Result<Arc<dyn EndpointSource>, ConfigError> {
        let (file, drop_ins) = &self.mirrors.value;
        // What somebody has just typed is not left out because it is misspelt.
        let typed = self.flags.certs_dir.iter().chain(&self.flags.registries_conf);
        if let Some(missing) = typed.into_iter().find(|path| !path.exists()) {
            return Err(ConfigError::Read {
                path: missing.clone(),
                source: Arc::new(io::ErrorKind::NotFound.into()),
            });
        }
        let conf = RegistriesConf::load(file, drop_ins)?;
        let files = EndpointFiles::new(CertsDirs::new(self.certs_dirs.value.clone()), conf);
        let mut source = Overrides::of(Arc::new(files));
        for file in &self.flags.ca_file {
            source = source.authority(file.clone());
        }
        for host in &self.flags.insecure_skip_verify {
            source = source.skip_verify(hosts(host));
        }
        if let Some(certificate) = &self.flags.client_cert {
            let certificate = ClientCertificate {
                certificate: certificate.clone(),
                key: self.flags.client_key.clone(),
            };
            source = source.client_certificate(Hosts::Registries, certificate);
        }
        for host in &self.flags.plain_http {
            source = source.plain_http(hosts(host));
        }
        Ok(Arc::new(source))
    }
}

fn hosts(flag: &str) -> Hosts {
    if flag.is_empty() {
        Hosts::Registries
    } else {
        Hosts::Named(flag.to_ascii_lowercase())
    }
}

/// The directories of unlade, containerd and docker, and podman's for certificates; the user's before the system's.
fn usual_certs_dirs(config_home: Option<&Path>) -> Vec<PathBuf> {
    let user = ["unlade/certs.d", "containers/certs.d"];
    let user = config_home
        .into_iter()
        .flat_map(|home| user.map(|name| home.join(name)));
    let system = ["unlade", "containerd", "docker", "containers"];
    user.chain(system.map(|name| PathBuf::from(format!("/etc/{name}/certs.d"))))
        .collect()
}

/// The user's file alone if there is one, else the system's; drop-ins of the user go with either
/// (containers-registries.conf.d(5)).
fn usual_registries_conf(config_home: Option<&Path>) -> (PathBuf, Vec<PathBuf>) {
    let user = config_home.map(|home| home.join("containers"));
    let user_drop_ins = user.as_ref().map(|user| user.join("registries.conf.d"));
    match user.map(|user| user.join("registries.conf")) {
        Some(file) if file.exists() => (file, user_drop_ins.into_iter().collect()),
        _ => {
            let system = PathBuf::from("/etc/containers/registries.conf.d");
            let drop_ins = std::iter::once(system).chain(user_drop_ins).collect();
            ("/etc/containers/registries.conf".into(), drop_ins)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::fs;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        flags: RegistryFlags,
    }

    fn resolve(line: &str, variables: &[(&'static str, &str)], file: RegistryTable, home: Option<&Path>) -> Registries {
        let flags = Line::try_parse_from(line.split(' ')).unwrap().flags;
        let variables = variables.iter().map(|(name, value)| (*name, OsString::from(value)));
        Registries::resolve(&flags, &Environment::of(variables), file, home)
    }

    #[test]
    fn who_says_where_the_files_are() {
        let variables = [
            ("UNLADE_CERTS_DIRS", "/e/1:/e/2"),
            ("CONTAINERS_REGISTRIES_CONF", "/e/registries.conf"),
        ];
        let setting = |directories: &[&str]| Setting {
            value: directories.iter().map(PathBuf::from).collect(),
            source: Source::Default,
        };
        let file = || RegistryTable {
            certs_dirs: Some(setting(&[])),
            registries_conf: Some(setting(&["/f/registries.conf"]).map(|mut paths: Vec<PathBuf>| paths.remove(0))),
        };
        let check = |registries: &Registries, directories: &[&str], conf: &str| {
            let expected: Vec<_> = directories.iter().map(PathBuf::from).collect();
            assert_eq!(registries.certs_dirs.value, expected);
            assert_eq!(registries.mirrors.value.0, Path::new(conf));
        };
        let flags = "x --certs-dir /g/1 --certs-dir /g/2 --registries-conf /g/registries.conf";
        let all = resolve(flags, &variables, file(), None);
        check(&all, &["/g/1", "/g/2"], "/g/registries.conf");
        check(
            &resolve("x", &variables, file(), None),
            &["/e/1", "/e/2"],
            "/e/registries.conf",
        );
        check(&resolve("x", &[], file(), None), &[], "/f/registries.conf");
    }

    #[test]
    fn the_usual_files() {
        let home = tempfile::tempdir().unwrap();
        let usual = || resolve("x", &[], RegistryTable::default(), Some(home.path()));
        let directories = usual().certs_dirs.value;
        assert_eq!(directories[0], home.path().join("unlade/certs.d"));
        assert_eq!(directories[2], Path::new("/etc/unlade/certs.d"));
        assert_eq!(directories.len(), 6);
        let (file, drop_ins) = usual().mirrors.value;
        assert_eq!(file, Path::new("/etc/containers/registries.conf"));
        assert_eq!(drop_ins.len(), 2);
        fs::create_dir(home.path().join("containers")).unwrap();
        fs::write(home.path().join("containers/registries.conf"), "").unwrap();
        let (file, drop_ins) = usual().mirrors.value;
        assert_eq!(file, home.path().join("containers/registries.conf"));
        assert_eq!(drop_ins, [home.path().join("containers/registries.conf.d")]);
    }

    #[test]
    fn flags_become_settings_of_servers() {
        let line =
            "x --plain-http=m.example --insecure-skip-verify --ca-file ca.pem --client-cert c.pem --client-key k.pem";
        let nowhere = RegistryTable {
            certs_dirs: Some(Setting {
                value: Vec::new(),
                source: Source::Default,
            }),
            registries_conf: Some(Setting {
                value: "/dev/null".into(),
                source: Source::Default,
            }),
        };
        let source = resolve(line, &[], nowhere, None).source().unwrap();
        let server = source.endpoints(&"r.example".parse().unwrap(), "x").unwrap().remove(0);
        assert_eq!(server.base.scheme(), "https");
        assert!(server.tls.skip_verify);
        assert_eq!(server.tls.ca, [Path::new("ca.pem")]);
        assert_eq!(server.tls.client[0].key.as_deref(), Some(Path::new("k.pem")));
        let mirror = source.endpoints(&"m.example".parse().unwrap(), "x").unwrap().remove(0);
        assert_eq!(mirror.base.scheme(), "http");
        assert!(Line::try_parse_from(["x", "--client-key", "k.pem"]).is_err());
    }
}
