//! One configuration file: docker's `config.json` or the containers tools' `auth.json`, which share a shape.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use unlade_reference::Repository;

use crate::key::{Fit, fit};
use crate::{Credential, Error, Secret};

/// Some tools write the padding and some do not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A file as parsed. Fields that have nothing to do with credentials are ignored.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) path: PathBuf,
    content: Content,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Content {
    auths: Option<BTreeMap<String, Option<Entry>>>,
    cred_helpers: Option<BTreeMap<String, String>>,
    creds_store: Option<String>,
}

/// One value below `auths`. Docker writes `{}` where the secret lies with a helper.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Reads a file; `None` if it is not there.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, Error> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(source) => {
                return Err(Error::Read {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        Self::parse(path, &bytes).map(Some)
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        let path = path.to_owned();
        // `touch config.json` makes an empty file, which docker takes for an empty configuration.
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self {
                path,
                content: Content::default(),
            });
        }
        match serde_json::from_slice(bytes) {
            Ok(content) => Ok(Self { path, content }),
            Err(error) => Err(Error::Malformed {
                path,
                line: error.line(),
                column: error.column(),
                problem: match error.classify() {
                    serde_json::error::Category::Eof => "the file ends too early",
                    serde_json::error::Category::Data => "a value has another type than expected",
                    serde_json::error::Category::Syntax | serde_json::error::Category::Io => "this is not JSON",
                },
            }),
        }
    }

    /// Returns the helper that `credHelpers` names for `repository`, by the key that fits it best.
    pub(crate) fn helper_for(&self, repository: &Repository) -> Option<&str> {
        let helpers = self.content.cred_helpers.as_ref()?;
        best(helpers, repository)
            .map(|(_, name)| name.as_str())
            .filter(|name| !name.is_empty())
    }

    /// Returns the helper that is asked for every registry, `credsStore`.
    pub(crate) fn store(&self) -> Option<&str> {
        self.content.creds_store.as_deref().filter(|name| !name.is_empty())
    }

    /// Returns the entries below `auths` that fit `repository` and hold something, the best first.
    pub(crate) fn entries_for(&self, repository: &Repository) -> Vec<(&str, &Entry)> {
        let mut entries: Vec<(Fit, &str, &Entry)> = self
            .content
            .auths
            .iter()
            .flatten()
            .filter_map(|(key, entry)| Some((fit(key, repository)?, key.as_str(), entry.as_ref()?)))
            .filter(|(_, _, entry)| !entry.is_empty())
            .collect();
        entries.sort_by_key(|&(fit, ..)| std::cmp::Reverse(fit));
        entries.into_iter().map(|(_, key, entry)| (key, entry)).collect()
    }
}

fn best<'a, V>(map: &'a BTreeMap<String, V>, repository: &Repository) -> Option<(&'a str, &'a V)> {
    map.iter()
        .filter_map(|(key, value)| Some((fit(key, repository)?, key.as_str(), value)))
        .max_by_key(|&(fit, ..)| fit)
        .map(|(_, key, value)| (key, value))
}

impl Entry {
    fn is_empty(&self) -> bool {
        [
            &self.auth,
            &self.username,
            &self.password,
            &self.identitytoken,
            &self.registrytoken,
        ]
        .into_iter()
        .all(|field| field.as_deref().unwrap_or_default().is_empty())
    }

    /// Makes a credential of the entry, or tells what is wrong with it.
    ///
    /// A token counts before a password: where docker writes both (`az acr login`), the password is a placeholder.
    pub(crate) fn credential(&self) -> Result<Credential, &'static str> {
        let filled = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        if let Some(token) = filled(&self.identitytoken) {
            return Ok(Credential::IdentityToken(token.into()));
        }
        if let Some(token) = filled(&self.registrytoken) {
            return Ok(Credential::RegistryToken(token.into()));
        }
        if let Some(auth) = filled(&self.auth) {
            return decode_pair(&auth);
        }
        match (filled(&self.username), filled(&self.password)) {
            (Some(username), Some(password)) => Ok(Credential::from_pair(username, password)),
            (Some(_), None) => Err("it has a username and no password"),
            (None, _) => Err("it has a password and no username"),
        }
    }
}

/// Decodes `auth`: base64 of `username:password`.
fn decode_pair(auth: &str) -> Result<Credential, &'static str> {
    let bytes = BASE64.decode(auth.trim()).map_err(|_| "auth is not base64")?;
    let text = String::from_utf8(bytes).map_err(|_| "auth is not UTF-8 once decoded")?;
    let (username, password) = text.split_once(':').ok_or("auth has no colon once decoded")?;
    if username.is_empty() {
        return Err("auth has no username once decoded");
    }
    // Old versions of docker padded the decoded text with NUL bytes.
    Ok(Credential::from_pair(
        username,
        Secret::new(password.trim_end_matches('\0')),
    ))
}

#[cfg(test)]
mod tests {
    use unlade_reference::Defaults;

    use super::*;

    fn parse(text: &str) -> Result<Config, Error> {
        Config::parse(Path::new("/c/config.json"), text.as_bytes())
    }

    fn credential(entry: &str) -> Result<Credential, &'static str> {
        let config = parse(&format!(r#"{{"auths": {{"ghcr.io": {entry}}}}}"#)).unwrap();
        let app = Repository::parse("ghcr.io/team/app", &Defaults::standard()).unwrap();
        config.entries_for(&app)[0].1.credential()
    }

    #[test]
    fn entries_become_credentials() {
        let basic = |username: &str, password: &str| Credential::from_pair(username, password);
        let table = [
            (r#"{"auth": "dTpw"}"#, Ok(basic("u", "p"))),
            (r#"{"auth": "dTpwOnE6"}"#, Ok(basic("u", "p:q:"))),
            (r#"{"auth": "dTpwAAA="}"#, Ok(basic("u", "p"))),
            (r#"{"auth": "dTpwcA"}"#, Ok(basic("u", "pp"))),
            (r#"{"username": "u", "password": "p"}"#, Ok(basic("u", "p"))),
            (
                r#"{"auth": "dTpw", "identitytoken": "i"}"#,
                Ok(Credential::IdentityToken("i".into())),
            ),
            (r#"{"registrytoken": "r"}"#, Ok(Credential::RegistryToken("r".into()))),
            (
                r#"{"username": "<token>", "password": "i"}"#,
                Ok(Credential::IdentityToken("i".into())),
            ),
            (r#"{"auth": "!"}"#, Err("auth is not base64")),
            (r#"{"auth": "dXA="}"#, Err("auth has no colon once decoded")),
            (r#"{"username": "u"}"#, Err("it has a username and no password")),
        ];
        for (entry, expected) in table {
            assert_eq!(credential(entry), expected, "{entry}");
        }
    }

    #[test]
    fn other_settings_and_nulls_are_ignored() {
        let config =
            parse(r#"{"auths": null, "HttpHeaders": {"a": "b"}, "plugins": {}, "credHelpers": null}"#).unwrap();
        assert!(config.store().is_none());
        assert!(parse("").is_ok());
        assert!(parse("{}").is_ok());
    }

    #[test]
    fn malformed_files_say_where_and_never_what() {
        let text = |json: &str| {
            let error = parse(json).unwrap_err();
            assert_eq!(error.class(), unlade_oci::ErrorClass::Invalid);
            error.to_string()
        };
        assert_eq!(
            text("{\n  \"auths\": {,}\n}"),
            "the credentials file /c/config.json is malformed at line 2, column 13: this is not JSON"
        );
        assert!(text(r#"{"auths""#).ends_with("the file ends too early"));
        let wrong_type = text(r#"{"auths": {"ghcr.io": "hunter2"}}"#);
        assert!(!wrong_type.contains("hunter2"), "{wrong_type}");
        assert!(wrong_type.ends_with("a value has another type than expected"));
    }

    #[test]
    fn debug_shows_no_secret() {
        let config = parse(r#"{"auths": {"a.b": {"auth": "aHVudGVyMg==", "password": "hunter2"}}}"#).unwrap();
        let text = format!("{config:?}");
        assert!(!text.contains("hunter2") && !text.contains("aHVudGVyMg"), "{text}");
    }
}
