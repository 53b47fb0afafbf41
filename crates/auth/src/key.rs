//! The keys of a configuration file: what they name and how closely they fit a repository.

use unlade_reference::Repository;

/// The key under which docker keeps Docker Hub's credentials, and the server address that helpers know it by.
pub(crate) const DOCKER_HUB_SERVER: &str = "https://index.docker.io/v1/";

/// How closely a key fits a repository: a greater one wins.
///
/// The longest path wins; of two keys that name the same thing, one that is written plainly wins over a legacy form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fit {
    path_length: usize,
    plain: bool,
}

/// Tells how `key` fits `repository`, or that it does not.
///
/// Keys are a host (`ghcr.io`), a host with a path (`ghcr.io/team/app`, containers tools only), or a legacy address
/// with a scheme or an API version (`https://index.docker.io/v1/`, `https://ghcr.io`, `ghcr.io/v2/`).
pub(crate) fn fit(key: &str, repository: &Repository) -> Option<Fit> {
    let (host, path, plain) = split(key);
    if !same_host(host, repository) {
        return None;
    }
    let wanted = repository.path();
    let inside = path.is_empty()
        || wanted
            .strip_prefix(path)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    inside.then_some(Fit {
        path_length: path.len(),
        plain,
    })
}

/// Returns the address by which a helper knows the registry of `repository`.
pub(crate) fn server_address(repository: &Repository) -> String {
    let registry = repository.registry();
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

fn same_host(host: &str, repository: &Repository) -> bool {
    let registry = repository.registry();
    if registry.is_docker_hub() {
        return ["docker.io", "index.docker.io", "registry-1.docker.io"]
            .iter()
            .any(|name| host.eq_ignore_ascii_case(name));
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
            assert_eq!(fit(key, &repository(name)).is_some(), expected, "{key} for {name}");
        }
    }

    #[test]
    fn longer_and_plainer_keys_win() {
        let app = repository("ghcr.io/team/app");
        let fit = |key| fit(key, &app).unwrap();
        assert!(fit("ghcr.io/team/app") > fit("ghcr.io/team"));
        assert!(fit("ghcr.io/team") > fit("ghcr.io"));
        assert!(fit("ghcr.io") > fit("https://ghcr.io/v1/"));
    }

    #[test]
    fn helpers_know_docker_hub_by_its_old_address() {
        assert_eq!(server_address(&repository("alpine")), DOCKER_HUB_SERVER);
        assert_eq!(server_address(&repository("localhost:5000/x")), "localhost:5000");
    }
}
