//! One configuration: docker's `config.json` or the containers tools' `auth.json`, which share a shape.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use crate::key::{Fit, Target, fit};
use crate::{Credential, Error, Place, Secret};

/// Some tools write the padding and some do not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A file or variable as parsed. Fields that have nothing to do with credentials are ignored.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) place: Place,
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
        match std::fs::read(path) {
            Ok(bytes) => Self::parse(Place::File(path.to_owned()), &bytes).map(Some),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(source) => Err(Error::Read {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Parses the content of a file or variable.
    pub(crate) fn parse(place: Place, bytes: &[u8]) -> Result<Self, Error> {
        // `touch config.json` makes an empty file, which docker takes for an empty configuration.
        if bytes.iter().all(u8::is_ascii_whitespace) {
            let content = Content::default();
            return Ok(Self { place, content });
        }
        match serde_json::from_slice(bytes) {
            Ok(content) => Ok(Self { place, content }),
            Err(error) => Err(malformed(place, &error)),
        }
    }

    /// Returns the helper that `credHelpers` names for `target`, by the key that fits it best.
    pub(crate) fn helper_for(&self, target: Target<'_>) -> Option<&str> {
        let helpers = self.content.cred_helpers.as_ref()?;
        best(helpers, target)
            .map(|(_, name)| name.as_str())
            .filter(|name| !name.is_empty())
    }

    /// Returns the helper that is asked for every registry, `credsStore`.
    pub(crate) fn store(&self) -> Option<&str> {
        self.content.creds_store.as_deref().filter(|name| !name.is_empty())
    }

    /// Returns the helpers that the configuration names: each with the keys of `credHelpers` that name it.
    pub(crate) fn helpers(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut helpers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (key, name) in self.content.cred_helpers.iter().flatten() {
            if !name.is_empty() {
                helpers.entry(name).or_default().push(key);
            }
        }
        if let Some(store) = self.store() {
            helpers.entry(store).or_default();
        }
        helpers
    }

    /// Returns the keys below `auths` whose entries hold something.
    pub(crate) fn filled_keys(&self) -> impl Iterator<Item = &str> {
        let entries = self.content.auths.iter().flatten();
        entries
            .filter(|(_, entry)| entry.as_ref().is_some_and(|entry| !entry.is_empty()))
            .map(|(key, _)| key.as_str())
    }

    /// Returns all keys below `auths`; some may hold nothing.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.content.auths.iter().flatten().map(|(key, _)| key.as_str())
    }

    /// Returns the entries below `auths` that fit `target` and hold something, the best first.
    pub(crate) fn entries_for(&self, target: Target<'_>) -> Vec<(&str, &Entry)> {
        let mut entries: Vec<(Fit, &str, &Entry)> = self
            .content
            .auths
            .iter()
            .flatten()
            .filter_map(|(key, entry)| Some((fit(key, target)?, key.as_str(), entry.as_ref()?)))
            .filter(|(_, _, entry)| !entry.is_empty())
            .collect();
        entries.sort_by_key(|&(fit, ..)| std::cmp::Reverse(fit));
        entries.into_iter().map(|(_, key, entry)| (key, entry)).collect()
    }
}

/// Makes an error of the parser's, without its text.
pub(crate) fn malformed(place: Place, error: &serde_json::Error) -> Error {
    Error::Malformed {
        place,
        line: error.line(),
        column: error.column(),
        problem: match error.classify() {
            serde_json::error::Category::Eof => "it ends too early",
            serde_json::error::Category::Data => "a value has another type than expected",
            serde_json::error::Category::Syntax | serde_json::error::Category::Io => "this is not JSON",
        },
    }
}

fn best<'a, V>(map: &'a BTreeMap<String, V>, target: Target<'_>) -> Option<(&'a str, &'a V)> {
    map.iter()
        .filter_map(|(key, value)| Some((fit(key, target)?, key.as_str(), value)))
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

/// Encodes a name and a password as `auth` has them.
pub(crate) fn encode_pair(username: &str, password: &str) -> String {
    BASE64.encode(format!("{username}:{password}"))
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
    use unlade_reference::{Defaults, Repository};

    use super::*;

    fn parse(text: &str) -> Result<Config, Error> {
        Config::parse(Place::File("/c/config.json".into()), text.as_bytes())
    }

    fn credential(entry: &str) -> Result<Credential, &'static str> {
        let config = parse(&format!(r#"{{"auths": {{"ghcr.io": {entry}}}}}"#)).unwrap();
        let app = Repository::parse("ghcr.io/team/app", &Defaults::standard()).unwrap();
        config.entries_for((&app).into())[0].1.credential()
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
        assert!(text(r#"{"auths""#).ends_with("it ends too early"));
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
