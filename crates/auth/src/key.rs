//! The keys of a configuration file: what they name and how closely they fit a repository.

use unlade_reference::{Registry, Repository};

/// The key under which docker keeps Docker Hub's credentials, and the server address that helpers know it by.
pub(crate) const DOCKER_HUB_SERVER: &str = "https://index.docker.io/v1/";

/// The names that Docker Hub goes by.
const DOCKER_HUB_HOSTS: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// How closely a key fits a repository: a greater one wins.
///
/// The longest path wins; of two keys that name the same thing, one that is written plainly wins over a legacy form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fit {
    path_length: usize,
    plain: bool,
}

/// What a key may fit: a registry, or a repository of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) registry: &'a Registry,
    /// The repository's path, empty for the registry as such; may be the beginning of one.
    pub(crate) path: &'a str,
}

impl<'a> From<&'a Repository> for Target<'a> {
    fn from(repository: &'a Repository) -> Self {
        Self {
            registry: repository.registry(),
            path: repository.path(),
        }
    }
}

impl<'a> From<&'a Registry> for Target<'a> {
    fn from(registry: &'a Registry) -> Self {
        Self { registry, path: "" }
    }
}

/// Tells how `key` fits `target`, or that it does not.
///
/// Keys are a host (`ghcr.io`), a host with a path (`ghcr.io/team/app`, containers tools only), or a legacy address
/// with a scheme or an API version (`https://index.docker.io/v1/`, `https://ghcr.io`, `ghcr.io/v2/`).
pub(crate) fn fit(key: &str, Target { registry, path: wanted }: Target<'_>) -> Option<Fit> {
    let (host, path, plain) = split(key);
    if !same_host(host, registry) {
        return None;
    }
    let inside = path.is_empty()
        || wanted
            .strip_prefix(path)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    inside.then_some(Fit {
        path_length: path.len(),
        plain,
    })
}

/// Tells whether `key` names the registry as a whole, in whatever form.
pub(crate) fn names_registry(key: &str, registry: &Registry) -> bool {
    fit(key, registry.into()).is_some()
}

/// Returns the registry that a key is for, and the path if it is for a part of it; `None` if it is no key.
pub(crate) fn parse(key: &str) -> Option<(Registry, &str)> {
    let (host, path, _) = split(key);
    let registry = if DOCKER_HUB_HOSTS.iter().any(|name| host.eq_ignore_ascii_case(name)) {
        Registry::docker_hub()
    } else {
        host.parse().ok()?
    };
    Some((registry, path))
}

/// Returns the key by which a registry's login is written into a file.
///
/// Docker reads nothing but `config.json`, and in it knows Docker Hub by its old address only. The containers tools,
/// which read both forms, write the registry's name into theirs.
pub(crate) fn written(registry: &Registry, is_docker_file: bool) -> String {
    if is_docker_file {
        server_address(registry)
    } else {
        registry.as_str().to_owned()
    }
}

/// Returns the address by which a helper knows a registry.
pub(crate) fn server_address(registry: &Registry) -> String {
    if registry.is_docker_hub() {
        DOCKER_HUB_SERVER.to_owned()
    } else {
        registry.as_str().to_owned()
    }
}

/// Splits a key into host, path and whether it is written plainly.
fn split(key: &str) -> (&str, &str, bool) {
    let without_scheme = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let rest = without_scheme.unwrap_or(key);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let is_api_version = matches!(path, "v1/" | "v2/");
    if without_scheme.is_some() || is_api_version {
        return (host, "", false);
    }
    (host, path.trim_end_matches('/'), true)
}

fn same_host(host: &str, registry: &Registry) -> bool {
    if registry.is_docker_hub() {
        return DOCKER_HUB_HOSTS.iter().any(|name| host.eq_ignore_ascii_case(name));
    }
    host.eq_ignore_ascii_case(registry.as_str())
}

#[cfg(test)]
mod tests {
    use unlade_reference::Defaults;

    use super::*;

    fn repository(text: &str) -> Repository {
        Repository::parse(text, &Defaults::standard()).unwrap()
    }

    #[test]
    fn keys_that_fit_and_keys_that_do_not() {
        let table = [
            ("ghcr.io", "ghcr.io/team/app", true),
            ("GHCR.io", "ghcr.io/team/app", true),
            ("https://ghcr.io", "ghcr.io/team/app", true),
            ("http://ghcr.io/v1/", "ghcr.io/team/app", true),
            ("ghcr.io/v2/", "ghcr.io/team/app", true),
            ("ghcr.io/team", "ghcr.io/team/app", true),
            ("ghcr.io/team/app", "ghcr.io/team/app", true),
            ("ghcr.io/team/ap", "ghcr.io/team/app", false),
            ("ghcr.io/other", "ghcr.io/team/app", false),
            ("ghcr.io:443", "ghcr.io/team/app", false),
            ("evil.ghcr.io", "ghcr.io/team/app", false),
            ("localhost:5000", "localhost:5000/x", true),
            ("localhost", "localhost:5000/x", false),
            (DOCKER_HUB_SERVER, "alpine", true),
            ("index.docker.io/v1/", "alpine", true),
            ("docker.io", "alpine", true),
            ("registry-1.docker.io", "alpine", true),
            ("docker.io/library", "alpine", true),
            ("docker.io/me", "alpine", false),
            (DOCKER_HUB_SERVER, "ghcr.io/team/app", false),
        ];
        for (key, name, expected) in table {
            assert_eq!(
                fit(key, (&repository(name)).into()).is_some(),
                expected,
                "{key} for {name}"
            );
        }
    }

    #[test]
    fn longer_and_plainer_keys_win() {
        let app = repository("ghcr.io/team/app");
        let fit = |key| fit(key, (&app).into()).unwrap();
        assert!(fit("ghcr.io/team/app") > fit("ghcr.io/team"));
        assert!(fit("ghcr.io/team") > fit("ghcr.io"));
        assert!(fit("ghcr.io") > fit("https://ghcr.io/v1/"));
    }

    #[test]
    fn helpers_know_docker_hub_by_its_old_address() {
        assert_eq!(server_address(repository("alpine").registry()), DOCKER_HUB_SERVER);
        assert_eq!(
            server_address(repository("localhost:5000/x").registry()),
            "localhost:5000"
        );
    }

    #[test]
    fn keys_of_a_registry_and_of_its_parts() {
        let ghcr = "ghcr.io".parse().unwrap();
        assert!(names_registry("ghcr.io", &ghcr) && names_registry("https://ghcr.io/v2/", &ghcr));
        assert!(!names_registry("ghcr.io/team", &ghcr));
        assert_eq!(parse("ghcr.io/team/"), Some((ghcr, "team")));
        assert_eq!(parse(DOCKER_HUB_SERVER), Some((Registry::docker_hub(), "")));
        assert_eq!(parse("not a host"), None);
    }

    #[test]
    fn docker_hub_is_written_as_each_kind_of_file_has_it() {
        assert_eq!(written(&Registry::docker_hub(), true), DOCKER_HUB_SERVER);
        assert_eq!(written(&Registry::docker_hub(), false), "docker.io");
        assert_eq!(written(&"ghcr.io".parse().unwrap(), true), "ghcr.io");
    }
}
