//! `registries.conf`, version 2 (containers-registries.conf(5)).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use unlade_reference::Registry;
use url::Url;

use super::document::{self, Document, Table};
use super::{Capabilities, ConfigError, EndpointSettings, EndpointSource, Origin, Role};

/// What may stand at the top besides `[[registry]]`: settings for short names and helpers, which are not for here.
const ELSEWHERE: [&str; 5] = [
    "additional-layer-store-auth-helper",
    "aliases",
    "credential-helpers",
    "short-name-mode",
    "unqualified-search-registries",
];
const REGISTRY_KEYS: [&str; 6] = [
    "blocked",
    "insecure",
    "location",
    "mirror",
    "mirror-by-digest-only",
    "prefix",
];
const MIRROR_KEYS: [&str; 3] = ["insecure", "location", "pull-from-mirror"];

/// The `[[registry]]` tables of `registries.conf` and its drop-in directory.
///
/// The table with the longest `prefix` that fits a repository counts. Its mirrors come first, in the order of the file,
/// then its `location`; what `prefix` matched is replaced by it. `insecure` means what it means to podman: a certificate
/// that is not trusted will do, and so will plain http, which is tried when https is refused.
#[derive(Clone, Debug, Default)]
pub struct RegistriesConf {
    // By prefix.
    tables: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    origin: Origin,
    blocked: bool,
    location: Location,
    mirrors: Vec<(Location, Capabilities)>,
}

#[derive(Clone, Debug)]
struct Location {
    /// Host and path; empty for a wildcard prefix, which stays as it is.
    text: String,
    insecure: bool,
    origin: Origin,
}

impl RegistriesConf {
    /// Reads `file` and then, in the order of their names, the `*.conf` files in each of the directories `drop_ins`. A table of
    /// a later file replaces one with the same prefix. Any of them may be missing.
    ///
    /// # Errors
    /// A file that cannot be read, does not parse, has an unknown key, or is of version 1.
    pub fn load(file: &Path, drop_ins: &[PathBuf]) -> Result<Self, ConfigError> {
        let mut all = Self::default();
        let mut files = vec![file.to_owned()];
        for directory in drop_ins {
            files.extend(conf_files(directory)?);
        }
        for path in files {
            if let Some(text) = document::read(&path)? {
                all.tables.extend(parse(Document {
                    path: &path,
                    text: &text,
                })?);
            }
        }
        Ok(all)
    }

    /// Returns the table for a repository and how much of its name the prefix is.
    fn find(&self, name: &str) -> Option<(usize, &Entry)> {
        let fits = self
            .tables
            .iter()
            .filter_map(|(prefix, entry)| Some((prefix.len(), matched(prefix, name)?, entry)));
        // The most specific prefix wins. A wildcard is weighed by its own length, not by that of what it stands for.
        let (_, length, entry) = fits.max_by_key(|(prefix, _, _)| *prefix)?;
        Some((length, entry))
    }
}

fn conf_files(directory: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(document::unreadable(directory, error)),
    };
    let paths: Result<Vec<_>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(|error| document::unreadable(directory, error))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    paths.sort();
    Ok(paths)
}

/// Returns how many bytes of `name` a prefix matches: whole components only, or any subdomain for `*.`.
fn matched(prefix: &str, name: &str) -> Option<usize> {
    let end = if let Some(domain) = prefix.strip_prefix('*') {
        let host = name.split('/').next()?;
        let bare = host.rsplit_once(':').map_or(host, |(bare, _)| bare);
        if bare.len() <= domain.len() || !bare.ends_with(domain) {
            return None;
        }
        bare.len()
    } else {
        name.strip_prefix(prefix)?;
        prefix.len()
    };
    let rest = &name[end..];
    (rest.is_empty() || rest.starts_with('/') || (prefix.starts_with('*') && rest.starts_with(':'))).then_some(end)
}

fn parse(document: Document<'_>) -> Result<Vec<(String, Entry)>, ConfigError> {
    let mut root = document.parse()?;
    let mut known = ELSEWHERE.to_vec();
    for key in ELSEWHERE {
        drop(root.take(key));
    }
    if let Some(old) = root.take("registries") {
        return Err(old.invalid("this is version 1 of the format; version 2 has [[registry]] tables"));
    }
    let registries = root.take("registry");
    known.push("registry");
    root.finish(&known)?;
    let Some(registries) = registries else {
        return Ok(Vec::new());
    };
    let tables = registries.tables()?.into_iter();
    tables
        .map(|(span, table)| entry(&document.origin(&span), table))
        .collect()
}

fn entry(origin: &Origin, mut table: Table<'_>) -> Result<(String, Entry), ConfigError> {
    let document = table.document();
    let prefix = table.take("prefix");
    let blocked = table.take("blocked").map_or(Ok(false), |value| value.boolean())?;
    let by_digest_only = table
        .take("mirror-by-digest-only")
        .map_or(Ok(false), |value| value.boolean())?;
    let mut mirrors = Vec::new();
    if let Some(list) = table.take("mirror") {
        for (span, table) in list.tables()? {
            mirrors.push(mirror(&document.origin(&span), table, by_digest_only)?);
        }
    }
    let location = location(origin, &mut table)?;
    table.finish(&REGISTRY_KEYS)?;
    let invalid = |message: &str| {
        let Origin::File { path, line } = origin else {
            unreachable!("it was read from a file")
        };
        ConfigError::Invalid {
            path: path.clone(),
            line: *line,
            message: message.to_owned(),
        }
    };
    let prefix = match &prefix {
        Some(value) => value.string()?.trim_end_matches('/').to_owned(),
        None => location.text.clone(),
    };
    if prefix.is_empty() {
        return Err(invalid("a registry needs a prefix or a location"));
    }
    if location.text.is_empty() && !prefix.starts_with("*.") && !blocked {
        return Err(invalid("a registry whose prefix is no wildcard needs a location"));
    }
    let entry = Entry {
        origin: origin.clone(),
        blocked,
        location,
        mirrors,
    };
    Ok((prefix, entry))
}

fn mirror(
    origin: &Origin,
    mut table: Table<'_>,
    by_digest_only: bool,
) -> Result<(Location, Capabilities), ConfigError> {
    let document = table.document();
    let place = location(origin, &mut table)?;
    let mut capabilities = Capabilities {
        pull: true,
        resolve: !by_digest_only,
    };
    if let Some(value) = table.take("pull-from-mirror") {
        capabilities = match value.string()?.as_str() {
            "all" => Capabilities::default(),
            "digest-only" => Capabilities {
                pull: true,
                resolve: false,
            },
            "tag-only" => Capabilities {
                pull: false,
                resolve: true,
            },
            other => return Err(value.invalid(format_args!("{other:?} is not one of all, digest-only, tag-only"))),
        };
    }
    table.finish(&MIRROR_KEYS)?;
    if place.text.is_empty() {
        let Origin::File { line, .. } = origin else {
            unreachable!("it was read from a file")
        };
        return Err(ConfigError::Invalid {
            path: document.path.to_owned(),
            line: *line,
            message: "a mirror needs a location".to_owned(),
        });
    }
    Ok((place, capabilities))
}

fn location(origin: &Origin, table: &mut Table<'_>) -> Result<Location, ConfigError> {
    let text = match table.take("location") {
        None => String::new(),
        Some(value) => {
            let text = value.string()?.trim_end_matches('/').to_owned();
            if text.contains("://") {
                return Err(value.invalid("a location is a host and perhaps a path, not a URL"));
            }
            if Url::parse(&format!("https://{text}")).is_err() || text.contains(['@', '?', '#']) {
                return Err(value.invalid(format_args!("{text:?} is not a host and perhaps a path")));
            }
            text
        }
    };
    let insecure = table.take("insecure").map_or(Ok(false), |value| value.boolean())?;
    Ok(Location {
        text,
        insecure,
        origin: origin.clone(),
    })
}

impl EndpointSource for RegistriesConf {
    fn endpoints(&self, registry: &Registry, path: &str) -> Result<Vec<EndpointSettings>, ConfigError> {
        let name = if path.is_empty() {
            registry.to_string()
        } else {
            format!("{registry}/{path}")
        };
        let Some((length, entry)) = self.find(&name) else {
            return Ok(Vec::new());
        };
        if entry.blocked {
            let (path, line) = match &entry.origin {
                Origin::File { path, line } => (path.clone(), *line),
                Origin::Default | Origin::Given(_) => (PathBuf::new(), 0),
            };
            return Err(ConfigError::Blocked { path, line, name });
        }
        let mut endpoints = Vec::new();
        for (location, capabilities) in &entry.mirrors {
            let found = servers(location, &name, length, path)?;
            endpoints.extend(found.into_iter().map(|mut server| {
                server.role = Role::Mirror;
                server.capabilities = *capabilities;
                server
            }));
        }
        endpoints.extend(servers(&entry.location, &name, length, path)?);
        Ok(endpoints)
    }
}

/// Returns the servers of one location: one, or with `insecure` two, since either protocol will do.
fn servers(location: &Location, name: &str, matched: usize, path: &str) -> Result<Vec<EndpointSettings>, ConfigError> {
    let full = if location.text.is_empty() {
        name.to_owned()
    } else {
        format!("{}{}", location.text, &name[matched..])
    };
    let (host, new_path) = full.split_once('/').unwrap_or((&full, ""));
    let registry: Registry = host
        .parse()
        .map_err(|error: unlade_reference::ParseError| ConfigError::Address {
            registry: host.to_owned(),
            reason: error.to_string(),
        })?;
    let mut endpoint = EndpointSettings::standard(&registry)?;
    endpoint.path = (new_path != path).then(|| new_path.to_owned());
    endpoint.origin = location.origin.clone();
    if !location.insecure {
        return Ok(vec![endpoint]);
    }
    let mut secure = endpoint.clone();
    secure.tls.skip_verify = true;
    // Between these two, a scheme can always be set.
    let (Ok(()), Ok(())) = (secure.base.set_scheme("https"), endpoint.base.set_scheme("http")) else {
        return Ok(vec![endpoint]);
    };
    Ok(vec![secure, endpoint])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(files: &[(&str, &str)]) -> Result<RegistriesConf, String> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        RegistriesConf::load(&dir.path().join("r.conf"), &[dir.path().join("d")])
            .map_err(|error| error.to_string().replace(&format!("{}/", dir.path().display()), ""))
    }

    /// Lists the servers as `base path capabilities`.
    fn list(text: &str, registry: &str, path: &str) -> Vec<String> {
        let conf = load(&[("r.conf", text)]).unwrap();
        let endpoints = conf.endpoints(&registry.parse().unwrap(), path).unwrap().into_iter();
        endpoints
            .map(|endpoint| {
                let path = endpoint.path.as_deref().unwrap_or("=");
                let Capabilities { pull, resolve } = endpoint.capabilities;
                let flags = [
                    (pull, " pull"),
                    (resolve, " resolve"),
                    (endpoint.tls.skip_verify, " skip"),
                ];
                let flags: String = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
                format!("{} {path}{flags}", endpoint.base)
            })
            .collect()
    }

    const MIRRORS: &str = r#"
unqualified-search-registries = ["docker.io"]
short-name-mode = "enforcing"
[aliases]
"x" = "docker.io/library/x"
[[registry]]
prefix = "docker.io/library"
location = "registry.example/hub"
[[registry.mirror]]
location = "m1.example:5000"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "m2.example/cache"
insecure = true
[[registry]]
location = "docker.io"
"#;

    #[test]
    fn mirrors_then_the_location() {
        let expected = [
            "https://m1.example:5000/v2/ alpine pull",
            "https://m2.example/v2/ cache/alpine pull resolve skip",
            "http://m2.example/v2/ cache/alpine pull resolve",
            "https://registry.example/v2/ hub/alpine pull resolve",
        ];
        assert_eq!(list(MIRRORS, "docker.io", "library/alpine"), expected);
        let plain = ["https://registry-1.docker.io/v2/ = pull resolve"];
        assert_eq!(list(MIRRORS, "docker.io", "grafana/grafana"), plain);
        assert_eq!(
            list(MIRRORS, "docker.io", "library2/x"),
            plain,
            "components are matched whole"
        );
        assert_eq!(list(MIRRORS, "ghcr.io", "a/b"), [""; 0]);
        assert_eq!(list(MIRRORS, "docker.io", ""), plain);
    }

    #[test]
    fn wildcards() {
        let text = "[[registry]]\nprefix = '*.example.com'\n[[registry.mirror]]\nlocation = 'm.example/x'\n";
        let expected = [
            "https://m.example/v2/ x/a/b pull resolve",
            "https://r.example.com/v2/ = pull resolve",
        ];
        assert_eq!(list(text, "r.example.com", "a/b"), expected);
        assert_eq!(list(text, "example.com", "a/b"), [""; 0]);
        assert_eq!(list(text, "badexample.com", "a/b"), [""; 0]);

        let near = "[[registry]]\nprefix = '*.a.example'\n[[registry.mirror]]\nlocation = 'near.example'\n";
        let far = "[[registry]]\nprefix = '*.example'\n[[registry.mirror]]\nlocation = 'far.example'\n";
        for text in [format!("{near}{far}"), format!("{far}{near}")] {
            assert_eq!(
                list(&text, "x.a.example", "b")[0],
                "https://near.example/v2/ = pull resolve"
            );
            assert_eq!(
                list(&text, "x.b.example", "b")[0],
                "https://far.example/v2/ = pull resolve"
            );
        }
    }

    #[test]
    fn mirrors_for_tags_or_digests_only() {
        let text = "[[registry]]\nlocation='r.example'\nmirror-by-digest-only=true\n\
                    [[registry.mirror]]\nlocation='m.example'\n\
                    [[registry.mirror]]\nlocation='n.example'\npull-from-mirror='tag-only'";
        let expected = [
            "https://m.example/v2/ = pull",
            "https://n.example/v2/ = resolve",
            "https://r.example/v2/ = pull resolve",
        ];
        assert_eq!(list(text, "r.example", "a"), expected);
    }

    #[test]
    fn drop_ins_replace_by_prefix() {
        let conf = load(&[
            ("r.conf", "[[registry]]\nlocation = 'a.example'\ninsecure = true"),
            ("d/20.conf", "[[registry]]\nlocation = 'a.example'\nblocked = true"),
            ("d/10.conf", "[[registry]]\nlocation = 'a.example'"),
            ("d/30.txt", "nonsense"),
        ])
        .unwrap();
        let error = conf
            .endpoints(&"a.example".parse().unwrap(), "x")
            .unwrap_err()
            .to_string();
        assert!(
            error.ends_with("/d/20.conf:1: a.example/x is blocked by configuration"),
            "{error}"
        );
        assert!(load(&[]).unwrap().tables.is_empty());
    }

    #[test]
    fn what_is_wrong_has_a_line() {
        let table = [
            ("[[registry]", 1, ""),
            ("\n[[registrys]]\nlocation='a'", 2, "unknown key \"registrys\""),
            (
                "[[registry]]\nlocation='a.example'\nblock = true",
                3,
                "unknown key \"block\"",
            ),
            ("[[registry]]\nlocation='https://a.example'", 2, "not a URL"),
            ("\n[[registry]]\nprefix='a.example'", 2, "needs a location"),
            ("[[registry]]\ninsecure=true", 1, "needs a prefix or a location"),
            (
                "[[registry]]\nlocation='a.example'\n[[registry.mirror]]\ninsecure=true",
                3,
                "a mirror needs a location",
            ),
            (
                "[[registry]]\nlocation='a.example'\n[[registry.mirror]]\nlocation='b.example'\npull-from-mirror='no'",
                5,
                "not one of all, digest-only, tag-only",
            ),
            ("[registries.search]\nregistries=['a']", 1, "version 1"),
        ];
        for (text, line, part) in table {
            let error = load(&[("r.conf", text)]).unwrap_err();
            assert!(error.starts_with(&format!("r.conf:{line}: ")), "{text}: {error}");
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
