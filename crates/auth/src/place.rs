//! Where configuration was read.

use std::fmt;
use std::path::{Path, PathBuf};

/// A file or an environment variable that holds logins.
///
/// `Display` is meant for people: `/home/u/.docker/config.json`, `the variable DOCKER_AUTH_CONFIG`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Place {
    /// A file.
    File(PathBuf),
    /// A variable whose value is what the file would hold.
    Variable(String),
}

impl Place {
    /// Returns the file, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Variable(_) => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Variable(name) => write!(f, "the variable {name}"),
        }
    }
}
