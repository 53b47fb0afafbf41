//! Which login a command uses: that of its options, then that of variables, then what files and helpers know.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Read as _;
use std::sync::Arc;

use unlade_auth::{Anonymous, Chain, ConfigFiles, Credential, CredentialSource, Given, Locations, LoginFile, Secret};
use unlade_reference::Registry;

use crate::arguments::Login;
use crate::environment::{self, Environment, Variable};
use crate::error::Error;
use crate::settings::SettingsError;

/// More than any password or token; less than would fill the memory.
const MAX_PASSWORD_BYTES: u64 = 1 << 20;

/// Where logins are and which is given.
#[derive(Debug)]
pub(crate) struct LoginSettings {
    /// Whether none is to be used.
    anonymous: bool,
    given: Option<GivenBy>,
    /// Where logins are kept.
    pub(crate) locations: Locations,
    /// Where credential helpers are.
    helper_path: Option<OsString>,
}

/// Who gives a login for the registry that the command is about.
enum GivenBy {
    /// An option; the password is on stdin.
    Options { username: String },
    /// Two variables.
    Variables { username: String, password: Secret },
}

impl fmt::Debug for GivenBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Options { .. } => "Options",
            Self::Variables { .. } => "Variables",
        })
    }
}

impl LoginSettings {
    /// Takes together what options and variables say.
    pub(crate) fn resolve(flags: &Login, environment: &Environment, uid: u32) -> Result<Self, SettingsError> {
        let mut locations = Locations::from_environment(environment.iter(), Some(uid));
        if let Some(path) = &flags.authfile.authfile {
            locations = locations.with_file(path);
        }
        let given = match &flags.username {
            Some(username) => Some(GivenBy::Options {
                username: username.clone(),
            }),
            None => variables(environment)?,
        };
        Ok(Self {
            anonymous: flags.no_creds,
            given,
            locations,
            helper_path: environment.get(&environment::PATH).map(OsStr::to_owned),
        })
    }

    /// Reads the files with logins.
    pub(crate) fn files(&self) -> Result<ConfigFiles, Error> {
        let files = self.locations.read()?;
        Ok(match &self.helper_path {
            Some(path) => files.with_search_path(path),
            None => files,
        })
    }

    /// Returns what is asked for credentials when these registries are used.
    pub(crate) fn source<'a>(
        &self,
        registries: impl IntoIterator<Item = &'a Registry>,
    ) -> Result<Arc<dyn CredentialSource>, Error> {
        if self.anonymous {
            return Ok(Arc::new(Anonymous));
        }
        let files = Arc::new(self.files()?);
        let Some(given) = &self.given else {
            return Ok(files);
        };
        let registry = given.only_one(registries)?;
        let (credential, by) = match given {
            GivenBy::Options { username } => {
                let password = password_of_stdin()?;
                let by = "--username and --password-stdin".to_owned();
                (Credential::from_pair(username, password), by)
            }
            GivenBy::Variables { username, password } => {
                let (user, word) = (environment::UNLADE_USERNAME.name, environment::UNLADE_PASSWORD.name);
                let by = format!("the variables {user} and {word}");
                (Credential::from_pair(username, password.clone()), by)
            }
        };
        let given = Arc::new(Given::new(registry, credential, by));
        Ok(Arc::new(Chain::new(vec![given, files])))
    }

    /// Returns the file that logins are written to.
    pub(crate) fn login_file(&self) -> Result<LoginFile, SettingsError> {
        let path = self.locations.login_file().ok_or(SettingsError::NoLoginFile)?;
        let file = LoginFile::new(path);
        Ok(match &self.helper_path {
            Some(path) => file.with_search_path(path),
            None => file,
        })
    }
}

impl GivenBy {
    /// Returns the registry that the login is for. It must not go to one that it was not meant for.
    fn only_one<'a>(&self, registries: impl IntoIterator<Item = &'a Registry>) -> Result<Registry, Error> {
        let mut registries: Vec<&Registry> = registries.into_iter().collect();
        registries.sort();
        registries.dedup();
        if let [registry] = registries.as_slice() {
            return Ok((*registry).clone());
        }
        let names: Vec<_> = registries.iter().map(|registry| registry.as_str()).collect();
        let registries = names.join(" and ");
        Err(match self {
            Self::Options { .. } => Error::Usage {
                message: format!("--username is for one registry, and this is about {registries}"),
                hint: Some("`unlade login` keeps a login for each".to_owned()),
            },
            Self::Variables { .. } => SettingsError::OneLoginForSeveral { registries }.into(),
        })
    }
}

fn variables(environment: &Environment) -> Result<Option<GivenBy>, SettingsError> {
    let text = |variable: &Variable| match environment.get(variable) {
        Some(value) => value
            .to_str()
            .map(|text| Some(text.to_owned()))
            .ok_or(SettingsError::NotUtf8 {
                variable: variable.name,
            }),
        None => Ok(None),
    };
    match (
        text(&environment::UNLADE_USERNAME)?,
        text(&environment::UNLADE_PASSWORD)?,
    ) {
        (Some(username), Some(password)) => Ok(Some(GivenBy::Variables {
            username,
            password: password.into(),
        })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(SettingsError::HalfALogin {
            set: environment::UNLADE_USERNAME.name,
            missing: environment::UNLADE_PASSWORD.name,
        }),
        (None, Some(_)) => Err(SettingsError::HalfALogin {
            set: environment::UNLADE_PASSWORD.name,
            missing: environment::UNLADE_USERNAME.name,
        }),
    }
}

/// Reads the password that was piped in; the line end that `echo` adds is no part of it.
pub(crate) fn password_of_stdin() -> Result<Secret, Error> {
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(MAX_PASSWORD_BYTES)
        .read_to_string(&mut text)
        .map_err(|source| Error::Input { source })?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() {
        return Err(Error::Usage {
            message: "there is no password on the standard input".to_owned(),
            hint: None,
        });
    }
    Ok(password.into())
}
