//! Credentials out of configuration files and the helpers that they name.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use unlade_reference::Repository;

use crate::config::Config;
use crate::helper::{Answer, Helper};
use crate::key::server_address;
use crate::{CredentialSource, Error, Found, Lookup, Source, Warning};

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
    configs: Vec<Config>,
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
        let mut configs = Vec::new();
        for path in paths {
            configs.extend(Config::read(&path)?);
        }
        Ok(Self {
            configs,
            helper_timeout: Self::DEFAULT_HELPER_TIMEOUT,
            search_path: None,
            answers: Mutex::default(),
        })
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
        self.configs.iter().map(|config| config.path.as_path())
    }

    fn lookup_in(&self, config: &Config, repository: &Repository, warnings: &mut Vec<Warning>) -> Option<Found> {
        if let Some(name) = config.helper_for(repository)
            && let Some(found) = self.ask(config, "credHelpers", name, repository, warnings)
        {
            return Some(found);
        }
        for (key, entry) in config.entries_for(repository) {
            match entry.credential() {
                Ok(credential) => {
                    let source = Source::File {
                        path: config.path.clone(),
                        key: key.to_owned(),
                    };
                    return Some(Found { credential, source });
                }
                Err(reason) => {
                    warnings.push(Warning::UnusableEntry {
                        path: config.path.clone(),
                        key: key.to_owned(),
                        reason,
                    });
                }
            }
        }
        self.ask(config, "credsStore", config.store()?, repository, warnings)
    }

    fn ask(
        &self,
        config: &Config,
        setting: &'static str,
        name: &str,
        repository: &Repository,
        warnings: &mut Vec<Warning>,
    ) -> Option<Found> {
        let server = server_address(repository);
        let helper = Helper {
            name,
            named_by: &config.path,
            search_path: self.search_path.as_deref(),
        };
        let slot = {
            // The map is only ever added to, so a panic elsewhere cannot have left it half-changed.
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(answers.entry((name.to_owned(), server.clone())).or_default())
        };
        match slot.get_or_init(|| helper.get(&server, self.helper_timeout)) {
            Answer::Found(credential) => Some(Found {
                credential: credential.clone(),
                source: Source::Helper {
                    path: config.path.clone(),
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
}

impl CredentialSource for ConfigFiles {
    fn lookup(&self, repository: &Repository) -> Lookup {
        let mut warnings = Vec::new();
        let found = self
            .configs
            .iter()
            .find_map(|config| self.lookup_in(config, repository, &mut warnings));
        tracing::debug!(
            repository = %repository,
            source = found.as_ref().map(|found| found.source.to_string()),
            warnings = warnings.len(),
            "looked for credentials"
        );
        Lookup { found, warnings }
    }
}
