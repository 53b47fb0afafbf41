//! The configuration file: TOML, strictly read, every value with the place it stands at.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{fs, io};

use serde::Deserialize;
use serde::de::{self, Deserializer};
use toml::Spanned;
use unlade_oci::Platform;
use unlade_reference::Registry;

use crate::arguments::{Durability, Ownership, Whiteouts};
use crate::network::{NetworkTable, ProxyTable};
use crate::quantity::ByteSize;
use crate::registries::RegistryTable;
use crate::settings::{Setting, Source};

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{}:{line}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, one sentence.
        problem: String,
    },
}

/// What a configuration file sets, or several together.
#[derive(Debug, Default)]
pub(crate) struct ConfigFile {
    pub(crate) home: Option<Setting<PathBuf>>,
    pub(crate) default_registry: Option<Setting<Registry>>,
    pub(crate) layer_path: Option<Setting<PathBuf>>,
    pub(crate) platform: Option<Setting<Platform>>,
    pub(crate) whiteouts: Option<Setting<Whiteouts>>,
    pub(crate) ownership: Option<Setting<Ownership>>,
    pub(crate) durability: Option<Setting<Durability>>,
    pub(crate) connections: Option<Setting<NonZeroUsize>>,
    pub(crate) workers: Option<Setting<NonZeroUsize>>,
    /// From name to registry.
    pub(crate) aliases: BTreeMap<Registry, Setting<Registry>>,
    /// From the group's name to its references, as they are written.
    pub(crate) image_groups: BTreeMap<String, Setting<Vec<String>>>,
    pub(crate) limits: LimitsTable,
    pub(crate) registries: RegistryTable,
    pub(crate) network: NetworkTable,
    pub(crate) proxy: ProxyTable,
}

/// The table `limits`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct LimitsTable {
    pub(crate) raw_bytes: Option<ByteSize>,
    pub(crate) total_raw_bytes: Option<ByteSize>,
    pub(crate) ratio: Option<u64>,
    pub(crate) file_bytes: Option<ByteSize>,
    pub(crate) entries: Option<u64>,
    pub(crate) path_bytes: Option<ByteSize>,
    pub(crate) depth: Option<u64>,
    pub(crate) xattr_bytes: Option<ByteSize>,
    pub(crate) extension_bytes: Option<ByteSize>,
    pub(crate) deferred_bytes: Option<ByteSize>,
    #[serde(deserialize_with = "window_log")]
    pub(crate) zstd_window_log: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Wire {
    home: Option<Spanned<AbsolutePath>>,
    default_registry: Option<Spanned<Text<Registry>>>,
    layer_path: Option<Spanned<AbsolutePath>>,
    platform: Option<Spanned<Text<Platform>>>,
    whiteouts: Option<Spanned<WireWhiteouts>>,
    ownership: Option<Spanned<WireOwnership>>,
    durability: Option<Spanned<WireDurability>>,
    connections: Option<Spanned<NonZeroUsize>>,
    workers: Option<Spanned<NonZeroUsize>>,
    certs_dirs: Option<Spanned<Vec<AbsolutePath>>>,
    registries_conf: Option<Spanned<AbsolutePath>>,
    #[serde(default)]
    aliases: BTreeMap<Spanned<String>, Spanned<Text<Registry>>>,
    #[serde(default)]
    image_groups: BTreeMap<String, Spanned<Vec<String>>>,
    #[serde(default)]
    limits: LimitsTable,
    #[serde(default)]
    network: NetworkTable,
    #[serde(default)]
    proxy: ProxyTable,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WireWhiteouts {
    Overlay,
    Oci,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WireOwnership {
    Preserve,
    Record,
    Squash,
    Userns,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WireDurability {
    Lazy,
    Sync,
}

/// A value that is read from a text by its own rules.
#[derive(Debug)]
pub(crate) struct Text<T>(pub(crate) T);

impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map(Self)
            .map_err(de::Error::custom)
    }
}

/// A path that means the same wherever the command is started.
struct AbsolutePath(PathBuf);

impl<'de> Deserialize<'de> for AbsolutePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let path = PathBuf::deserialize(deserializer)?;
        if path.is_absolute() {
            Ok(Self(path))
        } else {
            Err(de::Error::custom(format_args!(
                "the path {:?} is not absolute, it has to begin with a slash",
                path.display()
            )))
        }
    }
}

fn window_log<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let log = u32::deserialize(deserializer)?;
    if (10..=31).contains(&log) {
        Ok(Some(log))
    } else {
        Err(de::Error::custom("the logarithm is from 10 to 31"))
    }
}

impl ConfigFile {
    /// Reads a file that must exist.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, &text)
    }

    /// Reads a file that may be missing.
    pub(crate) fn read_if_there(path: &Path) -> Result<Self, ConfigError> {
        match Self::read(path) {
            Err(ConfigError::Read { source, .. })
                if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
            {
                Ok(Self::default())
            }
            read => read,
        }
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let line_of = |position: usize| {
            text.as_bytes()
                .iter()
                .take(position)
                .filter(|byte| **byte == b'\n')
                .count()
                + 1
        };
        let content = |position: usize, problem: String| ConfigError::Content {
            path: path.to_owned(),
            line: line_of(position),
            problem,
        };
        let wire: Wire = toml::from_str(text).map_err(|error| {
            content(
                error.span().map_or(0, |span| span.start),
                error.message().replace('\n', ", "),
            )
        })?;
        let place = |position: usize| Source::File {
            path: path.to_owned(),
            line: line_of(position),
        };
        let mut aliases = BTreeMap::new();
        for (name, target) in wire.aliases {
            let position = name.span().start;
            let name = name
                .get_ref()
                .parse()
                .map_err(|error: unlade_reference::ParseError| content(position, error.to_string()))?;
            aliases.insert(
                name,
                Setting {
                    value: target.into_inner().0,
                    source: place(position),
                },
            );
        }
        let image_groups = wire.image_groups.into_iter().map(|(name, references)| {
            let source = place(references.span().start);
            (
                name,
                Setting {
                    value: references.into_inner(),
                    source,
                },
            )
        });
        Ok(Self {
            home: placed(wire.home, place).map(|setting| setting.map(|path| path.0)),
            default_registry: placed(wire.default_registry, place).map(|setting| setting.map(|text| text.0)),
            layer_path: placed(wire.layer_path, place).map(|setting| setting.map(|path| path.0)),
            platform: placed(wire.platform, place).map(|setting| setting.map(|text| text.0)),
            whiteouts: placed(wire.whiteouts, place).map(|setting| {
                setting.map(|form| match form {
                    WireWhiteouts::Overlay => Whiteouts::Overlay,
                    WireWhiteouts::Oci => Whiteouts::Oci,
                })
            }),
            ownership: placed(wire.ownership, place).map(|setting| {
                setting.map(|ownership| match ownership {
                    WireOwnership::Preserve => Ownership::Preserve,
                    WireOwnership::Record => Ownership::Record,
                    WireOwnership::Squash => Ownership::Squash,
                    WireOwnership::Userns => Ownership::Userns,
                })
            }),
            durability: placed(wire.durability, place).map(|setting| {
                setting.map(|durability| match durability {
                    WireDurability::Lazy => Durability::Lazy,
                    WireDurability::Sync => Durability::Sync,
                })
            }),
            connections: placed(wire.connections, place),
            workers: placed(wire.workers, place),
            aliases,
            image_groups: image_groups.collect(),
            limits: wire.limits,
            registries: RegistryTable {
                certs_dirs: placed(wire.certs_dirs, place)
                    .map(|setting| setting.map(|paths| paths.into_iter().map(|path| path.0).collect())),
                registries_conf: placed(wire.registries_conf, place).map(|setting| setting.map(|path| path.0)),
            },
            network: wire.network,
            proxy: wire.proxy,
        })
    }

    /// Completes what this file leaves open with what another one sets. Tables are completed entry by entry.
    #[must_use]
    pub(crate) fn over(mut self, mut lower: Self) -> Self {
        lower.aliases.append(&mut self.aliases);
        lower.image_groups.append(&mut self.image_groups);
        Self {
            home: self.home.or(lower.home),
            default_registry: self.default_registry.or(lower.default_registry),
            layer_path: self.layer_path.or(lower.layer_path),
            platform: self.platform.or(lower.platform),
            whiteouts: self.whiteouts.or(lower.whiteouts),
            ownership: self.ownership.or(lower.ownership),
            durability: self.durability.or(lower.durability),
            connections: self.connections.or(lower.connections),
            workers: self.workers.or(lower.workers),
            aliases: lower.aliases,
            image_groups: lower.image_groups,
            limits: self.limits.over(&lower.limits),
            registries: RegistryTable {
                certs_dirs: self.registries.certs_dirs.or(lower.registries.certs_dirs),
                registries_conf: self.registries.registries_conf.or(lower.registries.registries_conf),
            },
            network: self.network.over(&lower.network),
            proxy: self.proxy.over(lower.proxy),
        }
    }
}

impl LimitsTable {
    fn over(&self, lower: &Self) -> Self {
        Self {
            raw_bytes: self.raw_bytes.or(lower.raw_bytes),
            total_raw_bytes: self.total_raw_bytes.or(lower.total_raw_bytes),
            ratio: self.ratio.or(lower.ratio),
            file_bytes: self.file_bytes.or(lower.file_bytes),
            entries: self.entries.or(lower.entries),
            path_bytes: self.path_bytes.or(lower.path_bytes),
            depth: self.depth.or(lower.depth),
            xattr_bytes: self.xattr_bytes.or(lower.xattr_bytes),
            extension_bytes: self.extension_bytes.or(lower.extension_bytes),
            deferred_bytes: self.deferred_bytes.or(lower.deferred_bytes),
            zstd_window_log: self.zstd_window_log.or(lower.zstd_window_log),
        }
    }
}

fn placed<T>(value: Option<Spanned<T>>, place: impl Fn(usize) -> Source) -> Option<Setting<T>> {
    value.map(|value| {
        let source = place(value.span().start);
        Setting {
            value: value.into_inner(),
            source,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ConfigFile, ConfigError> {
        ConfigFile::parse(Path::new("/c.toml"), text)
    }

    #[test]
    fn everything() {
        let config = parse(
            r#"home = "/srv/unlade"
default-registry = "registry.example.com"
layer-path = "/layers"
platform = "linux/aarch64"
whiteouts = "oci"
ownership = "squash"
durability = "sync"
connections = 3
workers = 2
certs-dirs = ["/c/1", "/c/2"]
registries-conf = "/dev/null"

[aliases]
"short.example" = "registry.example.com"

[image-groups]
web = ["nginx:1", "php"]

[limits]
raw-bytes = "10GiB"
entries = 9

[network]
retries = 2
max-wait = "2m"
stall-timeout = 20
limit-rate = "10M"
ranges = 2

[proxy]
all = "proxy:3128"
no-proxy = ["10.0.0.0/8", ".corp.example"]
"#,
        )
        .unwrap();
        assert_eq!(config.home.unwrap().value, Path::new("/srv/unlade"));
        assert_eq!(config.default_registry.unwrap().value.as_str(), "registry.example.com");
        assert_eq!(config.platform.unwrap().value.to_string(), "linux/arm64");
        assert_eq!(config.whiteouts.unwrap().value, Whiteouts::Oci);
        assert_eq!(config.ownership.unwrap().value, Ownership::Squash);
        let directories = config.registries.certs_dirs.unwrap().value;
        assert_eq!(directories, ["/c/1", "/c/2"].map(PathBuf::from));
        assert_eq!(config.registries.registries_conf.unwrap().value, Path::new("/dev/null"));
        assert_eq!(config.durability.unwrap().value, Durability::Sync);
        assert_eq!(config.connections.unwrap().value.get(), 3);
        let alias = config.aliases.first_key_value().unwrap();
        assert_eq!(
            (alias.0.as_str(), alias.1.value.as_str()),
            ("short.example", "registry.example.com")
        );
        let group = &config.image_groups["web"];
        assert_eq!(group.value, ["nginx:1", "php"]);
        assert_eq!(
            group.source,
            Source::File {
                path: "/c.toml".into(),
                line: 17
            }
        );
        assert_eq!(
            (config.limits.raw_bytes, config.limits.entries),
            (Some(ByteSize(10 << 30)), Some(9))
        );
        assert!(parse("").unwrap().home.is_none());
    }

    #[test]
    fn an_error_has_file_and_line() {
        for (text, line, word) in [
            ("\nhomer = \"/x\"", 2, "unknown field `homer`"),
            ("home = \"x\"", 1, "not absolute"),
            ("connections = 0", 1, "nonzero"),
            ("\n\nplatform = \"linux\"", 3, "invalid platform"),
            ("[limits]\nraw-bytes = \"much\"", 2, "not a number of bytes"),
            ("[limits]\nzstd-window-log = 40", 2, "from 10 to 31"),
            ("[aliases]\n\"a b\" = \"docker.io\"", 2, "registry"),
            ("[image-groups]\nweb = \"nginx\"", 2, "expected a sequence"),
            ("whiteouts = \"aufs\"", 1, "unknown variant `aufs`"),
            ("ownership = \"mine\"", 1, "unknown variant `mine`"),
            ("durability = \"none\"", 1, "unknown variant `none`"),
            (
                "[proxy]\nhttps = \"ftp://me:hunter2@p\"",
                2,
                "not the address of a proxy",
            ),
            ("home = ", 1, ""),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("/c.toml:{line}: ")), "{error}");
            assert!(error.contains(word), "{error}");
            assert!(!error.contains('\n') && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_upper_file_wins_entry_by_entry() {
        let upper = parse("workers = 1\n[image-groups]\na = [\"upper\"]\n[limits]\nentries = 1").unwrap();
        let lower = parse(
            "workers = 2\nconnections = 2\n[image-groups]\na = [\"lower\"]\nb = [\"lower\"]\n[limits]\nentries = 2\npath-bytes = 2",
        );
        let both = upper.over(lower.unwrap());
        assert_eq!(
            (both.workers.unwrap().value.get(), both.connections.unwrap().value.get()),
            (1, 2)
        );
        assert_eq!(
            (&both.image_groups["a"].value[0], &both.image_groups["b"].value[0]),
            (&"upper".into(), &"lower".into())
        );
        assert_eq!(
            (both.limits.entries, both.limits.path_bytes),
            (Some(1), Some(ByteSize(2)))
        );
    }
}
