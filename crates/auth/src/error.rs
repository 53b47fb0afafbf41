//! Why configuration could not be used or changed.

use std::io;
use std::path::PathBuf;

use unlade_oci::ErrorClass;

use crate::{Place, Warning};

/// Configuration that is there and cannot be used, or that could not be changed.
///
/// A file that is not there is no error, unless the caller has named that very file. One that cannot be read or
/// understood is: to go on without it would turn into anonymous requests that nobody asked for.
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
    /// The file or variable is not the JSON that it should be.
    ///
    /// The parser's own message is left out, since it may quote a value, and values are secrets here.
    #[error("{} is malformed at line {line}, column {column}: {problem}", named(place))]
    Malformed {
        /// The file or variable.
        place: Place,
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 1 (0: the line's end).
        column: usize,
        /// What kind of problem stands there.
        problem: &'static str,
    },
    /// The file could not be written. It is as it was.
    #[error("cannot write the credentials file {path}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A credential helper did not keep or forget a login.
    #[error("the login was not {}", if *keeping { "kept" } else { "removed" })]
    Helper {
        /// Whether the helper was to keep it (else it was to forget it).
        keeping: bool,
        /// What went wrong.
        source: Warning,
    },
    /// The credential is of a kind that cannot be kept there.
    #[error("a {kind} cannot be kept by a credential helper")]
    Kind {
        /// The kind.
        kind: &'static str,
    },
}

fn named(place: &Place) -> String {
    match place {
        Place::File(_) => format!("the credentials file {place}"),
        Place::Variable(_) => place.to_string(),
    }
}

impl Error {
    /// Returns the class.
    pub fn class(&self) -> ErrorClass {
        match self {
            // Files that are not there are passed over, but for one that was asked for by name.
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => ErrorClass::Invalid,
            Self::Read { .. } | Self::Write { .. } => ErrorClass::Storage,
            Self::Malformed { .. } => ErrorClass::Invalid,
            Self::Helper { .. } | Self::Kind { .. } => ErrorClass::Other,
        }
    }
}
