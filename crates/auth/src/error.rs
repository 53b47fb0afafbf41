//! Why a configuration file could not be used.

use std::io;
use std::path::PathBuf;

use unlade_oci::ErrorClass;

/// A configuration file that is there and cannot be used.
///
/// A file that is not there is no error. One that cannot be read or understood is: to go on without it would turn into
/// anonymous requests that nobody asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be read.
    #[error("cannot read the credentials file {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not the JSON that it should be.
    ///
    /// The parser's own message is left out, since it may quote a value, and values are secrets here.
    #[error("the credentials file {path} is malformed at line {line}, column {column}: {problem}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 1 (0: the line's end).
        column: usize,
        /// What kind of problem stands there.
        problem: &'static str,
    },
}

impl Error {
    /// Returns the class.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Read { .. } => ErrorClass::Storage,
            Self::Malformed { .. } => ErrorClass::Invalid,
        }
    }
}
