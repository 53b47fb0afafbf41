//! Credentials out of configuration files and the helpers that they name.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use unlade_reference::{Registry, Repository};

use crate::config::{Config, Entry};
use crate::helper::{Answer, Helper};
use crate::key::{Target, server_address};
use crate::{CredentialSource, Error, Found, Lookup, Place, Source, Warning};

/// Knows what docker's `config.json` and the containers tools' `auth.json` know.
///
/// The files are asked in the order given and the first that holds a credential is believed. Within a file:
///
/// 1. the helper that `credHelpers` names for the registry,
/// 2. the entries of `auths` that hold something; a key with the longest path wins,
/// 3. the helper that `credsStore` names for everything.
///
/// (Docker would not look at `auths` when there is a `credsStore`, but empties the entry when it moves the secret to the
/// helper: an entry that holds something was put there on purpose.)
///
/// A helper is asked once for each server in the lifetime of this value, also when several threads need it at the same
/// time. A helper that is missing, fails or hangs makes a [`Warning`], and the search goes on.
#[derive(Debug)]
pub struct ConfigFiles {
    pub(crate) configs: Vec<Config>,
    helper_timeout: Duration,
    search_path: Option<OsString>,
    answers: Mutex<HashMap<Question, Arc<OnceLock<Answer>>>>,
}

/// A helper's name and the server it is asked for.
type Question = (String, String);

impl ConfigFiles {
    /// How long a helper may take unless told otherwise.
    pub const DEFAULT_HELPER_TIMEOUT: Duration = Duration::from_secs(10);

    /// Reads `paths`, in order of precedence. A file that is not there is passed over.
    ///
    /// # Errors
    /// A file that is there and cannot be read or is malformed.
    pub fn new(paths: Vec<PathBuf>) -> Result<Self, Error> {
        let mut files = Self::empty();
        for path in paths {
            files.add_file(&path)?;
        }
        Ok(files)
    }

    /// Knows nothing yet.
    pub(crate) fn empty() -> Self {
        Self {
            configs: Vec::new(),
            helper_timeout: Self::DEFAULT_HELPER_TIMEOUT,
            search_path: None,
            answers: Mutex::default(),
        }
    }

    pub(crate) fn add_file(&mut self, path: &Path) -> Result<(), Error> {
        self.configs.extend(Config::read(path)?);
        Ok(())
    }

    pub(crate) fn add_file_that_must_be(&mut self, path: &Path) -> Result<(), Error> {
        let config = Config::read(path)?.ok_or_else(|| Error::Read {
            path: path.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        })?;
        self.configs.push(config);
        Ok(())
    }

    pub(crate) fn add_variable(&mut self, name: &str, value: &OsStr) -> Result<(), Error> {
        let place = Place::Variable(name.to_owned());
        self.configs.push(Config::parse(place, value.as_encoded_bytes())?);
        Ok(())
    }

    /// Kills a helper that has not answered after `limit`.
    #[must_use]
    pub fn with_helper_timeout(mut self, limit: Duration) -> Self {
        self.helper_timeout = limit;
        self
    }

    /// Looks for helpers in the directories of `path` (in the form of `$PATH`, which is what counts without this call).
    #[must_use]
    pub fn with_search_path(mut self, path: impl Into<OsString>) -> Self {
        self.search_path = Some(path.into());
        self
    }

    /// Returns the files that exist, in order of precedence.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.configs.iter().filter_map(|config| config.place.path())
    }

    /// Returns what is known for a registry as a whole, apart from what is for some of its repositories.
    pub fn lookup_registry(&self, registry: &Registry) -> Lookup {
        self.find(registry.into())
    }

    /// Returns what is known for `target`, and what went wrong on the way to it.
    fn find(&self, target: Target<'_>) -> Lookup {
        let mut warnings = Vec::new();
        let mut steps = self.steps(target);
        let found = steps.find_map(|step| self.take(&step, target, &mut warnings));
        Lookup { found, warnings }
    }

    /// Returns everything that may know `target`, in the order in which it is asked.
    pub(crate) fn steps<'a>(&'a self, target: Target<'a>) -> impl Iterator<Item = Step<'a>> {
        self.configs.iter().flat_map(move |config| {
            let helper = |setting, name| Step::Helper(config, setting, name);
            let named = config.helper_for(target).map(|name| helper("credHelpers", name));
            let entries = config.entries_for(target).into_iter();
            let entries = entries.map(move |(key, entry)| Step::Entry(config, key, entry));
            let store = config.store().map(|name| helper("credsStore", name));
            named.into_iter().chain(entries).chain(store)
        })
    }

    /// Takes what one step of a search gives.
    pub(crate) fn take(&self, step: &Step<'_>, target: Target<'_>, warnings: &mut Vec<Warning>) -> Option<Found> {
        match *step {
            Step::Entry(config, key, entry) => {
                let (place, key) = (config.place.clone(), key.to_owned());
                match entry.credential() {
                    Ok(credential) => Some(Found {
                        credential,
                        source: Source::Entry { place, key },
                    }),
                    Err(reason) => {
                        warnings.push(Warning::UnusableEntry { place, key, reason });
                        None
                    }
                }
            }
            Step::Helper(config, setting, name) => self.ask(config, setting, name, target, warnings),
        }
    }

    fn ask(
        &self,
        config: &Config,
        setting: &'static str,
        name: &str,
        target: Target<'_>,
        warnings: &mut Vec<Warning>,
    ) -> Option<Found> {
        let server = server_address(target.registry);
        let helper = self.helper(config, name);
        let slot = {
            // The map is only ever added to, so a panic elsewhere cannot have left it half-changed.
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(answers.entry((name.to_owned(), server.clone())).or_default())
        };
        match slot.get_or_init(|| helper.get(&server, self.helper_timeout)) {
            Answer::Found(credential) => Some(Found {
                credential: credential.clone(),
                source: Source::Helper {
                    place: config.place.clone(),
                    setting,
                    helper: helper.program(),
                },
            }),
            Answer::NotFound => None,
            Answer::Failed(warning) => {
                warnings.push(warning.clone());
                None
            }
        }
    }

    /// Returns a helper that `config` names.
    pub(crate) fn helper<'a>(&'a self, config: &'a Config, name: &'a str) -> Helper<'a> {
        Helper {
            name,
            named_by: &config.place,
            search_path: self.search_path.as_deref(),
        }
    }

    pub(crate) fn helper_timeout(&self) -> Duration {
        self.helper_timeout
    }
}

/// Something that may know a credential.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step<'a> {
    /// A helper: what names it, by which setting, and the name.
    Helper(&'a Config, &'static str, &'a str),
    /// An entry: where it is, its key, and what it holds.
    Entry(&'a Config, &'a str, &'a Entry),
}

impl CredentialSource for ConfigFiles {
    fn lookup(&self, repository: &Repository) -> Lookup {
        let Lookup { found, warnings } = self.find(repository.into());
        tracing::debug!(
            repository = %repository,
            source = found.as_ref().map(|found| found.source.to_string()),
            warnings = warnings.len(),
            "looked for credentials"
        );
        Lookup { found, warnings }
    }
}
