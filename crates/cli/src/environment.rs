//! The environment variables that the command knows, read once.
//!
//! Nothing else in the workspace reads the environment: libraries are given values. A variable that is set to nothing
//! counts as not set.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;

/// An environment variable that has an effect.
#[derive(Debug)]
pub(crate) struct Variable {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it does, as it stands in the help.
    pub(crate) help: &'static str,
}

/// Where the store is.
pub(crate) const UNLADE_HOME: Variable = Variable {
    name: "UNLADE_HOME",
    help: "The store, like --home",
};
/// Which configuration file is read.
pub(crate) const UNLADE_CONFIG: Variable = Variable {
    name: "UNLADE_CONFIG",
    help: "The configuration file, like --config",
};
/// What is logged.
pub(crate) const UNLADE_LOG: Variable = Variable {
    name: "UNLADE_LOG",
    help: "What is logged to stderr, such as `unlade=debug`; overrides -v",
};
/// The registry of names without one.
pub(crate) const OCI_REGISTRY_DOMAIN: Variable = Variable {
    name: "OCI_REGISTRY_DOMAIN",
    help: "The registry of names that have none, docker.io by default",
};
/// Who logs in.
pub(crate) const UNLADE_USERNAME: Variable = Variable {
    name: "UNLADE_USERNAME",
    help: "With UNLADE_PASSWORD: the login for the registry that a command is about",
};
/// And how.
pub(crate) const UNLADE_PASSWORD: Variable = Variable {
    name: "UNLADE_PASSWORD",
    help: "The password or access token for UNLADE_USERNAME",
};
/// Logins themselves.
pub(crate) const DOCKER_AUTH_CONFIG: Variable = Variable {
    name: "DOCKER_AUTH_CONFIG",
    help: "Logins as JSON, in the form of docker's config.json",
};
/// Where containers tools keep logins.
pub(crate) const REGISTRY_AUTH_FILE: Variable = Variable {
    name: "REGISTRY_AUTH_FILE",
    help: "A file with logins, as podman and skopeo write it",
};
/// Where docker keeps logins.
pub(crate) const DOCKER_CONFIG: Variable = Variable {
    name: "DOCKER_CONFIG",
    help: "The directory of docker's config.json, ~/.docker by default",
};
/// Where servers and certificates of registries are described.
pub(crate) const UNLADE_CERTS_DIRS: Variable = Variable {
    name: "UNLADE_CERTS_DIRS",
    help: "Directories like --certs-dir, separated by colons",
};
/// Where containers tools describe mirrors.
pub(crate) const CONTAINERS_REGISTRIES_CONF: Variable = Variable {
    name: "CONTAINERS_REGISTRIES_CONF",
    help: "A file like --registries-conf",
};
/// Whom TLS trusts.
pub(crate) const SSL_CERT_FILE: Variable = Variable {
    name: "SSL_CERT_FILE",
    help: "Certificate authorities, instead of the system's",
};
/// Whom TLS trusts.
pub(crate) const SSL_CERT_DIR: Variable = Variable {
    name: "SSL_CERT_DIR",
    help: "A directory of certificate authorities, instead of the system's",
};
/// The proxy for plain http.
pub(crate) const HTTP_PROXY: Variable = Variable {
    name: "HTTP_PROXY",
    help: "The proxy for http; also in lower case, as the next three",
};
/// The proxy for https.
pub(crate) const HTTPS_PROXY: Variable = Variable {
    name: "HTTPS_PROXY",
    help: "The proxy for https: http://HOST:PORT, socks5h://HOST:PORT",
};
/// The proxy for both.
pub(crate) const ALL_PROXY: Variable = Variable {
    name: "ALL_PROXY",
    help: "The proxy for what has none of its own",
};
/// What is reached without a proxy.
pub(crate) const NO_PROXY: Variable = Variable {
    name: "NO_PROXY",
    help: "Hosts, domains, addresses and networks that are reached directly",
};
/// Where programs for logins are.
pub(crate) const PATH: Variable = Variable {
    name: "PATH",
    help: "Where credential helpers are looked for",
};
/// The home directory.
pub(crate) const HOME: Variable = Variable {
    name: "HOME",
    help: "The home directory, for the defaults of the others",
};
/// Data of the user.
pub(crate) const XDG_DATA_HOME: Variable = Variable {
    name: "XDG_DATA_HOME",
    help: "The store is $XDG_DATA_HOME/unlade by default, except for root",
};
/// Configuration of the user.
pub(crate) const XDG_CONFIG_HOME: Variable = Variable {
    name: "XDG_CONFIG_HOME",
    help: "The configuration is $XDG_CONFIG_HOME/unlade/config.toml by default",
};
/// Files of the session.
pub(crate) const XDG_RUNTIME_DIR: Variable = Variable {
    name: "XDG_RUNTIME_DIR",
    help: "Logins are also read from $XDG_RUNTIME_DIR/containers/auth.json",
};
/// No colour.
pub(crate) const NO_COLOR: Variable = Variable {
    name: "NO_COLOR",
    help: "Set to anything: no colour",
};
/// Colour in any case.
pub(crate) const CLICOLOR_FORCE: Variable = Variable {
    name: "CLICOLOR_FORCE",
    help: "Set to anything but 0: colour even if stderr is no terminal",
};
/// What the terminal can do.
pub(crate) const TERM: Variable = Variable {
    name: "TERM",
    help: "`dumb` means neither colour nor bars",
};

/// All of them, in the order of the help.
pub(crate) const ALL: &[Variable] = &[
    UNLADE_HOME,
    UNLADE_CONFIG,
    UNLADE_LOG,
    OCI_REGISTRY_DOMAIN,
    UNLADE_USERNAME,
    UNLADE_PASSWORD,
    DOCKER_AUTH_CONFIG,
    REGISTRY_AUTH_FILE,
    DOCKER_CONFIG,
    UNLADE_CERTS_DIRS,
    CONTAINERS_REGISTRIES_CONF,
    SSL_CERT_FILE,
    SSL_CERT_DIR,
    HTTP_PROXY,
    HTTPS_PROXY,
    ALL_PROXY,
    NO_PROXY,
    PATH,
    HOME,
    XDG_DATA_HOME,
    XDG_CONFIG_HOME,
    XDG_RUNTIME_DIR,
    NO_COLOR,
    CLICOLOR_FORCE,
    TERM,
];

/// What else is looked at where it concerns proxies: the lower case of their variables, and the sign of a CGI program, whose
/// `HTTP_PROXY` is a header of whoever called it.
const FOR_PROXIES: [&str; 5] = ["http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUEST_METHOD"];

/// The variables as they were when the command started.
#[derive(Default)]
pub(crate) struct Environment(BTreeMap<&'static str, OsString>);

impl fmt::Debug for Environment {
    /// Only which are set: some hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Environment {
    /// Reads the variables of this process.
    pub(crate) fn of_process() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the one place that reads the environment"
        )]
        let value = |name: &'static str| Some((name, std::env::var_os(name)?));
        Self::of(
            ALL.iter()
                .map(|variable| variable.name)
                .chain(FOR_PROXIES)
                .filter_map(value),
        )
    }

    /// Takes the variables from elsewhere.
    pub(crate) fn of(variables: impl IntoIterator<Item = (&'static str, OsString)>) -> Self {
        Self(variables.into_iter().filter(|(_, value)| !value.is_empty()).collect())
    }

    /// Returns all that are set to anything.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, OsString)> {
        self.0.iter().map(|(name, value)| (*name, value.clone()))
    }

    /// Returns the variables that concern proxies, those that are text.
    pub(crate) fn for_proxies(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let names = [HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY].map(|variable| variable.name);
        let value = |name: &'static str| Some((name, self.0.get(name)?.to_str()?));
        names.into_iter().chain(FOR_PROXIES).filter_map(value)
    }

    /// Returns the value, if it is set to anything.
    pub(crate) fn get(&self, variable: &Variable) -> Option<&OsStr> {
        self.0.get(variable.name).map(OsString::as_os_str)
    }
}

/// Returns the help's section about the variables.
pub(crate) fn help() -> String {
    let width = ALL.iter().map(|variable| variable.name.len()).max().unwrap_or_default();
    let lines = ALL
        .iter()
        .map(|Variable { name, help }| format!("  {name:width$}  {help}\n"));
    format!("Environment:\n{}", lines.collect::<String>().trim_end())
}
