//! Repositories: a registry and a path on it.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use crate::error::{Fault, ParseError, Part, Problem};
use crate::grammar;
use crate::text::serde_as_text;
use crate::{Alias, Defaults, Registry};

/// The directory of docker's own images, implied where a path has one component.
const LIBRARY: &str = "library/";

/// A repository: a registry and a path on it, without tag or digest.
///
/// How the registry was named ([`aliased_from`](Self::aliased_from)) takes no part in comparison, hashing and text.
#[derive(Clone, Debug)]
pub struct Repository {
    registry: Registry,
    path: Box<str>,
    alias: Option<Alias>,
}

impl Repository {
    /// Reads a repository as a person types it, and completes it by `defaults`.
    ///
    /// `library/` is put before a path of one component on `docker.io`, and on another default registry if the registry
    /// was left out. On a registry that was named, a path is taken as it is: so every repository of the default registry
    /// can be named, and a full name means the same under all defaults.
    pub fn parse(text: &str, defaults: &Defaults) -> Result<Self, ParseError> {
        Self::read(text, defaults).map_err(|fault| fault.of(Part::Repository, text))
    }

    /// Makes a repository of its parts. On `docker.io`, `library/` is put before a path of one component.
    pub fn new(registry: Registry, path: &str) -> Result<Self, ParseError> {
        Self::complete(registry, path, 0, None, false).map_err(|fault| fault.of(Part::Repository, path))
    }

    /// Returns the registry.
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Returns the path on the registry, as it stands in API requests.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the name by which the registry was called, if that was an alias.
    pub const fn aliased_from(&self) -> Option<&Alias> {
        self.alias.as_ref()
    }

    /// Returns whether this is one of the images that docker itself curates, `docker.io/library/…`.
    pub fn is_official(&self) -> bool {
        self.registry.is_docker_hub() && self.path.starts_with(LIBRARY)
    }

    /// Returns the shortest name that means this repository without any configuration: what docker shows.
    pub fn familiar(&self) -> String {
        if !self.registry.is_docker_hub() {
            return self.to_string();
        }
        match self.path.strip_prefix(LIBRARY) {
            Some(name) if !name.contains('/') => name.to_owned(),
            // A directory with the looks of a host has to keep its registry.
            _ if self.path.split('/').next().is_some_and(grammar::is_registry) => self.to_string(),
            _ => self.path.to_string(),
        }
    }

    /// Reads `[registry/]path` from the start of a text.
    pub(crate) fn read(text: &str, defaults: &Defaults) -> Result<Self, Fault> {
        if text.is_empty() {
            return Err(Fault::new(Part::Repository, 0, Problem::Empty));
        }
        if let Some(colon) = text.find("://") {
            return Err(Fault::new(Part::Whole, colon, Problem::Scheme));
        }
        match text.split_once('/') {
            Some((first, path)) if grammar::is_registry(first) => {
                let (registry, alias) = defaults.resolve(Registry::read(first, 0)?);
                Self::complete(registry, path, first.len() + 1, alias, false)
            }
            _ => {
                let (registry, alias) = defaults.resolve(defaults.registry().clone());
                Self::complete(registry, text, 0, alias, true)
            }
        }
    }

    fn complete(
        registry: Registry,
        path: &str,
        start: usize,
        alias: Option<Alias>,
        is_default: bool,
    ) -> Result<Self, Fault> {
        let is_short = (is_default || registry.is_docker_hub()) && !path.contains('/');
        let implied = if is_short { LIBRARY } else { "" };
        grammar::check_path(path, start, implied.len())?;
        Ok(Self {
            registry,
            path: format!("{implied}{path}").into(),
            alias,
        })
    }

    fn key(&self) -> (&Registry, &str) {
        (&self.registry, &self.path)
    }
}

impl PartialEq for Repository {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Repository {}

impl PartialOrd for Repository {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Repository {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl Hash for Repository {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)
    }
}

impl FromStr for Repository {
    type Err = ParseError;

    /// Reads a repository with the [standard defaults](Defaults::standard).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text, &Defaults::standard())
    }
}

// What was written is canonical, and an alias of today must not change what was meant then.
serde_as_text!(Repository, |text| Repository::parse(text, &Defaults::without_aliases()));
