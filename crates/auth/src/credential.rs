//! What can be known for a registry, and where it was found.

use std::fmt;

use crate::{Place, Secret};

/// Something that proves who is asking.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Credential {
    /// A name and a password (or an access token in its place): sent as HTTP Basic to the registry, or to its token server
    /// if the registry asks for Bearer tokens.
    Basic {
        /// The account.
        username: String,
        /// Its password.
        password: Secret,
    },
    /// An OAuth 2 refresh token, traded at the token server for short-lived access tokens.
    IdentityToken(Secret),
    /// A Bearer token for the registry itself: sent as it is, nothing is asked of a token server.
    RegistryToken(Secret),
}

impl Credential {
    /// The user name by which a helper or a file says that the password is an identity token.
    pub const IDENTITY_TOKEN_USER: &'static str = "<token>";

    /// Makes a credential of a name and a password; the name `<token>` makes it an identity token.
    pub fn from_pair(username: impl Into<String>, password: impl Into<Secret>) -> Self {
        let username = username.into();
        if username == Self::IDENTITY_TOKEN_USER {
            Self::IdentityToken(password.into())
        } else {
            Self::Basic {
                username,
                password: password.into(),
            }
        }
    }

    /// Returns the name and the secret as helpers and files keep them: the name of a token is `<token>`.
    pub(crate) fn pair(&self) -> (&str, &Secret) {
        match self {
            Self::Basic { username, password } => (username, password),
            Self::IdentityToken(token) | Self::RegistryToken(token) => (Self::IDENTITY_TOKEN_USER, token),
        }
    }

    /// Returns the account's name, if the credential has one.
    pub fn username(&self) -> Option<&str> {
        match self {
            Self::Basic { username, .. } => Some(username),
            Self::IdentityToken(_) | Self::RegistryToken(_) => None,
        }
    }

    /// Names the kind, for people: `password`, `identity token`, `registry token`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Basic { .. } => "password",
            Self::IdentityToken(_) => "identity token",
            Self::RegistryToken(_) => "registry token",
        }
    }
}

/// A credential and the place that it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The credential.
    pub credential: Credential,
    /// Where it was found, for messages.
    pub source: Source,
}

/// Where a credential was found.
///
/// `Display` is meant for people: `/home/u/.docker/config.json, auths "ghcr.io"`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The caller gave it.
    Given {
        /// By what means, in the caller's words.
        by: String,
    },
    /// It stands in a file or a variable.
    Entry {
        /// The file or variable.
        place: Place,
        /// The key below `auths`, as written there.
        key: String,
    },
    /// A credential helper gave it.
    Helper {
        /// What names the helper.
        place: Place,
        /// The setting that does: `credHelpers` or `credsStore`.
        setting: &'static str,
        /// The helper's program, `docker-credential-…`.
        helper: String,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given { by } => f.write_str(by),
            Self::Entry { place, key } => write!(f, "{place}, auths {key:?}"),
            Self::Helper { place, setting, helper } => write!(f, "{place}, {setting} {helper}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_user_makes_an_identity_token() {
        assert_eq!(
            Credential::from_pair("<token>", "t"),
            Credential::IdentityToken("t".into())
        );
        assert_eq!(Credential::from_pair("u", "p").username(), Some("u"));
    }

    #[test]
    fn debug_shows_no_secret() {
        let found = Found {
            credential: Credential::from_pair("u", "hunter2"),
            source: Source::Entry {
                place: Place::File("/c/config.json".into()),
                key: "ghcr.io".into(),
            },
        };
        assert!(!format!("{found:?}").contains("hunter2"));
        assert_eq!(found.source.to_string(), r#"/c/config.json, auths "ghcr.io""#);
    }
}
