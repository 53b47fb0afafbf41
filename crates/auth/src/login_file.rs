//! Keeping and removing logins: in a file of docker's form, or with the helper that it names.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use serde_json::value::RawValue;
use unlade_reference::Registry;

use crate::config::{Config, encode_pair, malformed};
use crate::helper::Helper;
use crate::key::{names_registry, parse, server_address, written};
use crate::members::Members;
use crate::{ConfigFiles, Credential, Error, Place, Source};

/// A file that logins are written to.
///
/// If the file names a helper for the registry (`credHelpers`, else `credsStore`), the login is kept there and the file
/// only notes that there is one, as docker does. Otherwise it stands in the file itself.
///
/// What else is in the file stays as it is, to the letter. The file is replaced in one step, readable by its owner only.
/// A symbolic link stays a link. Processes that use this type take turns.
#[derive(Clone, Debug)]
pub struct LoginFile {
    path: PathBuf,
    helper_timeout: Duration,
    search_path: Option<OsString>,
}

/// A login that was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removed {
    /// What it was for, as it was written: `ghcr.io`, `https://index.docker.io/v1/`.
    pub key: String,
    /// Where it was.
    pub source: Source,
}

/// The file's content, and what of it is to be changed.
struct Content {
    config: Config,
    members: Members,
    auths: Members,
}

impl LoginFile {
    /// Writes to the file `path`, which need not be there.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            helper_timeout: ConfigFiles::DEFAULT_HELPER_TIMEOUT,
            search_path: None,
        }
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

    /// Returns the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the login for a registry, in place of an earlier one, and returns where it is now.
    ///
    /// # Errors
    /// The file cannot be read, is malformed or cannot be written; the helper fails.
    pub fn store(&self, registry: &Registry, credential: &Credential) -> Result<Source, Error> {
        let _turn = self.take_turns()?;
        let mut content = self.read()?;
        let key = written(registry, self.is_dockers());
        let (source, entry) = if let Some((setting, helper)) = self.helper_for(&content.config, registry) {
            if matches!(credential, Credential::RegistryToken(_)) {
                return Err(Error::Kind {
                    kind: credential.kind(),
                });
            }
            helper
                .store(&server_address(registry), credential, self.helper_timeout)
                .map_err(|source| Error::Helper { keeping: true, source })?;
            let source = Source::Helper {
                place: self.place(),
                setting,
                helper: helper.program(),
            };
            (source, json!({}))
        } else {
            let (place, key) = (self.place(), key.clone());
            (Source::Entry { place, key }, entry(credential))
        };
        content.auths.remove(|own| own != key && names_registry(own, registry));
        content.auths.set(&key, raw(&entry));
        self.write(content)?;
        Ok(source)
    }

    /// Removes the login for a registry and those for parts of it, and returns what was removed.
    ///
    /// # Errors
    /// As [`LoginFile::store`].
    pub fn erase(&self, registry: &Registry) -> Result<Vec<Removed>, Error> {
        let _turn = self.take_turns()?;
        let content = self.read()?;
        let helper = self.helper_for(&content.config, registry);
        let servers = helper
            .into_iter()
            .map(|(setting, helper)| (setting, helper.name.to_owned(), server_address(registry)));
        self.erase_these(servers.collect(), content, |key| {
            parse(key).is_some_and(|(own, _)| own == *registry)
        })
    }

    /// Removes all logins that the file holds, and those of the helpers that it names, and returns what was removed.
    ///
    /// # Errors
    /// As [`LoginFile::store`].
    pub fn erase_all(&self) -> Result<Vec<Removed>, Error> {
        let _turn = self.take_turns()?;
        let content = self.read()?;
        let mut servers = Vec::new();
        for (name, keys) in content.config.helpers() {
            let known = keys.iter().filter_map(|key| parse(key));
            servers.extend(known.map(|(registry, _)| ("credHelpers", name.to_owned(), server_address(&registry))));
            if content.config.store() == Some(name) {
                let list = self.helper(&content.config, name).list(self.helper_timeout);
                let list = list.map_err(|source| Error::Helper { keeping: false, source })?;
                servers.extend(list.into_iter().map(|server| ("credsStore", name.to_owned(), server)));
            }
        }
        self.erase_these(servers, content, |_| true)
    }

    /// Removes what helpers keep for some servers, and entries of the file.
    fn erase_these(
        &self,
        servers: Vec<(&'static str, String, String)>,
        mut content: Content,
        doomed: impl Fn(&str) -> bool,
    ) -> Result<Vec<Removed>, Error> {
        let mut removed = Vec::new();
        for (setting, name, server) in servers {
            let helper = self.helper(&content.config, &name);
            let knew = helper
                .erase(&server, self.helper_timeout)
                .map_err(|source| Error::Helper { keeping: false, source })?;
            if knew {
                let source = Source::Helper {
                    place: self.place(),
                    setting,
                    helper: helper.program(),
                };
                removed.push(Removed { key: server, source });
            }
        }
        let filled: Vec<String> = content.config.filled_keys().map(str::to_owned).collect();
        let keys = content.auths.remove(doomed);
        if keys.is_empty() {
            return Ok(removed);
        }
        self.write(content)?;
        // What held nothing was a note of docker's that a helper has the login.
        removed.extend(keys.into_iter().filter(|key| filled.contains(key)).map(|key| Removed {
            source: Source::Entry {
                place: self.place(),
                key: key.clone(),
            },
            key,
        }));
        Ok(removed)
    }

    fn place(&self) -> Place {
        Place::File(self.path.clone())
    }

    /// Whether this is a file that docker itself reads.
    fn is_dockers(&self) -> bool {
        self.path.file_name() == Some(OsStr::new("config.json"))
    }

    fn helper_for<'a>(&'a self, config: &'a Config, registry: &Registry) -> Option<(&'static str, Helper<'a>)> {
        let named = config.helper_for(registry.into()).map(|name| ("credHelpers", name));
        let (setting, name) = named.or_else(|| Some(("credsStore", config.store()?)))?;
        Some((setting, self.helper(config, name)))
    }

    fn helper<'a>(&'a self, config: &'a Config, name: &'a str) -> Helper<'a> {
        Helper {
            name,
            named_by: &config.place,
            search_path: self.search_path.as_deref(),
        }
    }

    fn read(&self) -> Result<Content, Error> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => {
                let path = self.path.clone();
                return Err(Error::Read { path, source });
            }
        };
        let config = Config::parse(self.place(), &text)?;
        let malformed = |error| malformed(self.place(), &error);
        let members: Members = if text.trim_ascii().is_empty() {
            Members::default()
        } else {
            serde_json::from_slice(&text).map_err(malformed)?
        };
        let auths: Option<Members> = match members.get("auths") {
            Some(auths) => serde_json::from_str(auths.get()).map_err(malformed)?,
            None => None,
        };
        Ok(Content {
            config,
            members,
            auths: auths.unwrap_or_default(),
        })
    }

    fn write(&self, mut content: Content) -> Result<(), Error> {
        if content.auths.is_empty() && content.members.get("auths").is_none() {
            return Ok(());
        }
        let auths = RawValue::from_string(content.auths.text(1)).unwrap_or_default();
        content.members.set("auths", auths);
        self.replace(&content.members.text(0))
            .map_err(|source| self.not_written(source))
    }

    fn not_written(&self, source: io::Error) -> Error {
        let path = self.path.clone();
        Error::Write { path, source }
    }

    /// Puts a new file in place of the old one; a file that is new has no moment in which others could read it.
    fn replace(&self, text: &str) -> io::Result<()> {
        let target = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let mut file = tempfile::Builder::new()
            .prefix(".unlade-login-")
            .tempfile_in(directory_of(&target))?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&target).map_err(|error| error.error)?;
        Ok(())
    }

    /// Makes the directory if need be, and waits until no other process of ours changes a file in it.
    fn take_turns(&self) -> Result<Option<File>, Error> {
        let directory = directory_of(&self.path);
        make_private(directory).map_err(|source| self.not_written(source))?;
        // Where directories cannot be locked, turns are not taken.
        let lock = File::open(directory).and_then(|directory| directory.lock().map(|()| directory));
        Ok(lock.ok())
    }
}

/// Returns an entry that docker, podman and skopeo understand.
fn entry(credential: &Credential) -> serde_json::Value {
    match credential {
        Credential::Basic { username, password } => json!({"auth": encode_pair(username, password.expose())}),
        // A name without a password stands beside a token, since some readers take nothing without one.
        Credential::IdentityToken(token) => {
            json!({"auth": encode_pair(Credential::IDENTITY_TOKEN_USER, ""), "identitytoken": token.expose()})
        }
        Credential::RegistryToken(token) => {
            json!({"auth": encode_pair(Credential::IDENTITY_TOKEN_USER, ""), "registrytoken": token.expose()})
        }
    }
}

/// Returns a value of `auths`, written as docker writes it.
fn raw(entry: &serde_json::Value) -> Box<RawValue> {
    let members = entry.as_object().into_iter().flatten();
    let lines: Vec<_> = members
        .map(|(name, value)| format!("\t\t\t\"{name}\": {value}"))
        .collect();
    let text = if lines.is_empty() {
        "{}".to_owned()
    } else {
        format!("{{\n{}\n\t\t}}", lines.join(",\n"))
    };
    RawValue::from_string(text).unwrap_or_default()
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn make_private(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(directory)
}
