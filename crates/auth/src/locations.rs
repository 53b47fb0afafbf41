//! Where logins are on a machine, in the order in which they are believed.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::{ConfigFiles, Error};

/// The variable whose value is itself a configuration, as docker and CI systems use it.
const DOCKER_AUTH_CONFIG: &str = "DOCKER_AUTH_CONFIG";

/// Where logins are on a machine.
///
/// In order of precedence:
///
/// 1. a file that the caller names ([`Locations::with_file`]),
/// 2. the value of `DOCKER_AUTH_CONFIG`, which is JSON as it stands in docker's `config.json`,
/// 3. the file that `REGISTRY_AUTH_FILE` names,
/// 4. `$XDG_RUNTIME_DIR/containers/auth.json`; without that variable `/run/containers/UID/auth.json`,
/// 5. `$XDG_CONFIG_HOME/containers/auth.json`; without that variable `~/.config/containers/auth.json`,
/// 6. `$DOCKER_CONFIG/config.json`; without that variable `~/.docker/config.json`.
///
/// All that exist count, and the first that knows a registry is believed. Nothing here reads the environment by itself.
#[derive(Clone, Default)]
pub struct Locations {
    given: Option<PathBuf>,
    inline: Option<OsString>,
    registry_auth_file: Option<PathBuf>,
    runtime: Option<PathBuf>,
    config: Option<PathBuf>,
    docker: Option<PathBuf>,
}

impl Locations {
    /// The variables that [`Locations::from_environment`] has a use for.
    pub const VARIABLES: [&str; 6] = [
        DOCKER_AUTH_CONFIG,
        "REGISTRY_AUTH_FILE",
        "XDG_RUNTIME_DIR",
        "XDG_CONFIG_HOME",
        "DOCKER_CONFIG",
        "HOME",
    ];

    /// Knows no place at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// Takes the places from environment variables, such as those of `std::env::vars_os()`; a variable that is set to
    /// nothing counts as not set. `uid` is the user, as far as there are numbers for users.
    pub fn from_environment<K: AsRef<str>>(
        variables: impl IntoIterator<Item = (K, OsString)>,
        uid: Option<u32>,
    ) -> Self {
        let mut known: HashMap<&str, OsString> = HashMap::new();
        for (name, value) in variables {
            if let Some(name) = Self::VARIABLES.iter().find(|known| **known == name.as_ref())
                && !value.is_empty()
            {
                known.insert(name, value);
            }
        }
        let path = |name: &str| known.get(name).map(PathBuf::from);
        // One that is not absolute is to be ignored (XDG base directory specification).
        let directory = |name: &str| path(name).filter(|path| path.is_absolute());
        let home = path("HOME");
        let below_home = |rest: &str| home.as_ref().map(|home| home.join(rest));
        Self {
            given: None,
            inline: known.get(DOCKER_AUTH_CONFIG).cloned(),
            registry_auth_file: path("REGISTRY_AUTH_FILE"),
            runtime: directory("XDG_RUNTIME_DIR")
                .map(|runtime| runtime.join("containers/auth.json"))
                .or_else(|| Some(PathBuf::from(format!("/run/containers/{}/auth.json", uid?)))),
            config: directory("XDG_CONFIG_HOME")
                .or_else(|| below_home(".config"))
                .map(|config| config.join("containers/auth.json")),
            docker: path("DOCKER_CONFIG")
                .or_else(|| below_home(".docker"))
                .map(|docker| docker.join("config.json")),
        }
    }

    /// Puts a file before all others. One that is not there is an error, unlike the others.
    #[must_use]
    pub fn with_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.given = Some(path.into());
        self
    }

    /// Returns the files that may exist, in order of precedence.
    pub fn files(&self) -> Vec<&Path> {
        let all = [
            &self.given,
            &self.registry_auth_file,
            &self.runtime,
            &self.config,
            &self.docker,
        ];
        let mut files: Vec<&Path> = Vec::new();
        for path in all.into_iter().flatten() {
            if !files.contains(&path.as_path()) {
                files.push(path);
            }
        }
        files
    }

    /// Returns the file that a login is written to: the one given, else that of `REGISTRY_AUTH_FILE`, else docker's.
    ///
    /// Docker's, since it is the one that docker, podman and skopeo all read, and that stays when the session ends.
    pub fn login_file(&self) -> Option<&Path> {
        let files = [&self.given, &self.registry_auth_file, &self.docker];
        files.into_iter().find_map(|path| path.as_deref())
    }

    /// Reads all that is there.
    ///
    /// # Errors
    /// A place that cannot be read or is malformed; a file of [`Locations::with_file`] that is not there.
    pub fn read(&self) -> Result<ConfigFiles, Error> {
        let mut files = ConfigFiles::empty();
        if let Some(path) = &self.given {
            files.add_file_that_must_be(path)?;
        }
        if let Some(value) = &self.inline {
            files.add_variable(DOCKER_AUTH_CONFIG, value)?;
        }
        for path in self.files() {
            if self.given.as_deref() != Some(path) {
                files.add_file(path)?;
            }
        }
        Ok(files)
    }
}

impl std::fmt::Debug for Locations {
    /// Without the value of `DOCKER_AUTH_CONFIG`, which holds secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Locations")
            .field("has_inline", &self.inline.is_some())
            .field("files", &self.files())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locations(variables: &[(&str, &str)], uid: Option<u32>) -> Locations {
        Locations::from_environment(
            variables.iter().map(|(name, value)| (*name, OsString::from(value))),
            uid,
        )
    }

    fn files(locations: &Locations) -> Vec<&str> {
        locations.files().into_iter().filter_map(Path::to_str).collect()
    }

    #[test]
    fn the_order_of_the_files() {
        let all = [
            ("HOME", "/h"),
            ("XDG_RUNTIME_DIR", "/r"),
            ("REGISTRY_AUTH_FILE", "/a.json"),
            ("UNRELATED", "/u"),
        ];
        let places = locations(&all, Some(7)).with_file("/given.json");
        assert_eq!(
            files(&places),
            [
                "/given.json",
                "/a.json",
                "/r/containers/auth.json",
                "/h/.config/containers/auth.json",
                "/h/.docker/config.json"
            ]
        );
        let places = locations(
            &[
                ("XDG_RUNTIME_DIR", "relative"),
                ("XDG_CONFIG_HOME", "/c"),
                ("DOCKER_CONFIG", "/d"),
                ("HOME", ""),
            ],
            Some(0),
        );
        assert_eq!(
            files(&places),
            [
                "/run/containers/0/auth.json",
                "/c/containers/auth.json",
                "/d/config.json"
            ]
        );
        assert!(files(&locations(&[], None)).is_empty());
        assert!(files(&Locations::none()).is_empty());
    }

    #[test]
    fn a_login_is_written_where_docker_podman_and_skopeo_read_it() {
        let write = |variables: &[(&str, &str)]| locations(variables, None).login_file().map(Path::to_owned);
        assert_eq!(
            write(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/r")]),
            Some("/h/.docker/config.json".into())
        );
        assert_eq!(
            write(&[("HOME", "/h"), ("REGISTRY_AUTH_FILE", "/a.json")]),
            Some("/a.json".into())
        );
        assert_eq!(write(&[]), None);
    }

    #[test]
    fn debug_shows_no_secret() {
        let places = locations(
            &[(DOCKER_AUTH_CONFIG, r#"{"auths": {"x.io": {"auth": "aHVudGVyMg=="}}}"#)],
            None,
        );
        let shown = format!("{places:?} {:?}", places.read().unwrap());
        assert!(!shown.contains("aHVudGVyMg"), "{shown}");
    }
}
