//! What can go wrong with the database, and how bad it is.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::ErrorCode;
use unlade_oci::{Digest, ErrorClass};

/// The result of every call here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the database could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be opened or made.
    #[error("could not open the database {path}", path = path.display())]
    Open {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// There is no database, and it was to be opened for reading only.
    #[error("there is no database at {path}", path = path.display())]
    Missing {
        /// The file that is not there.
        path: PathBuf,
    },
    /// A newer version of the program made the database. It was left as it is.
    #[error(
        "the database {path} has schema version {found}, this version of the program knows up to {supported}; \
         it was left as it is, use the version that made it",
        path = path.display()
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// The schema version in the file.
        found: i64,
        /// The newest schema version known here.
        supported: i64,
    },
    /// The database has an older schema and cannot be brought forward, since it is read-only.
    #[error(
        "the database {path} has schema version {found} and must be brought to {supported}, but it cannot be written",
        path = path.display()
    )]
    Older {
        /// The database file.
        path: PathBuf,
        /// The schema version in the file.
        found: i64,
        /// The schema version needed.
        supported: i64,
    },
    /// The file is an SQLite database of some other program.
    #[error("{path} is an SQLite database, but not one of a store; it was left as it is", path = path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file is not a database, or a damaged one.
    #[error("the database {path} is damaged, or no database: could not {operation}", path = path.display())]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// What was being done.
        operation: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A value in the database is not what the schema promises.
    #[error("the database {path} is damaged: {what} cannot be read, it is {value:?}", path = path.display())]
    BadValue {
        /// The database file.
        path: PathBuf,
        /// What the value is.
        what: &'static str,
        /// The value found, shortened.
        value: String,
    },
    /// Other processes held the database for longer than the patience here.
    #[error(
        "the database {path} stayed locked for {seconds} s: could not {operation}",
        path = path.display(), seconds = waited.as_secs()
    )]
    Locked {
        /// The database file.
        path: PathBuf,
        /// What was being done.
        operation: &'static str,
        /// How long it was tried.
        waited: Duration,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The database was to be changed, but can only be read.
    #[error("the database {path} is read-only: could not {operation}", path = path.display())]
    ReadOnly {
        /// The database file.
        path: PathBuf,
        /// What was to be done.
        operation: &'static str,
    },
    /// The disk is full, or failed.
    #[error("could not {operation} in the database {path}", path = path.display())]
    Storage {
        /// The database file.
        path: PathBuf,
        /// What was being done.
        operation: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// Any other failure of SQLite.
    #[error("could not {operation} in the database {path}", path = path.display())]
    Query {
        /// The database file.
        path: PathBuf,
        /// What was being done.
        operation: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The schema could not be brought forward. The database is as it was.
    #[error(
        "could not bring the database {path} from schema version {from} to {to}; it is as it was",
        path = path.display()
    )]
    Migrate {
        /// The database file.
        path: PathBuf,
        /// The schema version in the file.
        from: i64,
        /// The schema version wanted.
        to: i64,
        /// What failed.
        source: Box<rusqlite_migration::Error>,
    },
    /// No further connection to the database could be made.
    #[error("could not make another connection to the database {path}", path = path.display())]
    Connections {
        /// The database file.
        path: PathBuf,
        /// What the pool of connections said.
        source: r2d2::Error,
    },
    /// An image was to be recorded, but one of its layers is not.
    #[error("layer {position} of the manifest {manifest}, diff ID {diff_id}, is not recorded: the image is incomplete")]
    MissingLayer {
        /// The manifest.
        manifest: Digest,
        /// The layer's place in it, from 0.
        position: usize,
        /// The layer's diff ID.
        diff_id: Digest,
    },
    /// An image was to be recorded whose parts do not belong together.
    #[error("the parts of the image {manifest} do not belong together: {reason}")]
    Mismatch {
        /// The manifest.
        manifest: Digest,
        /// What does not fit.
        reason: &'static str,
    },
    /// A configuration is not the JSON object that it must be.
    #[error("the image configuration {digest} is not a JSON object")]
    Config {
        /// The configuration.
        digest: Digest,
        /// What the parser said, if it was the parser.
        source: Option<serde_json::Error>,
    },
    /// A file or directory beside the database could not be read.
    #[error("could not {operation} {path}", path = path.display())]
    Io {
        /// What was being done.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// Returns the class of the failure.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Migrate { source, .. } if is_failure_of_disk(source) => ErrorClass::Storage,
            Self::Newer { .. }
            | Self::Older { .. }
            | Self::Missing { .. }
            | Self::Foreign { .. }
            | Self::Damaged { .. }
            | Self::BadValue { .. }
            | Self::Locked { .. }
            | Self::Migrate { .. } => ErrorClass::Store,
            Self::Open { .. } | Self::ReadOnly { .. } | Self::Storage { .. } | Self::Io { .. } => ErrorClass::Storage,
            Self::Config { .. } => ErrorClass::Rejected,
            Self::Query { .. } | Self::Connections { .. } | Self::MissingLayer { .. } | Self::Mismatch { .. } => {
                ErrorClass::Other
            }
        }
    }

    /// Returns whether others held the database for too long, so that trying again later may work.
    pub const fn is_locked(&self) -> bool {
        matches!(self, Self::Locked { .. })
    }

    /// Returns whether a newer version of the program made the database.
    pub const fn is_newer(&self) -> bool {
        matches!(self, Self::Newer { .. })
    }

    /// Returns whether a layer that an image needs is not recorded.
    pub const fn is_missing_layer(&self) -> bool {
        matches!(self, Self::MissingLayer { .. })
    }

    /// Returns what could not be written since its disk, or the user's share of it, is full; `None` for other failures.
    pub fn full_disk(&self) -> Option<&Path> {
        match self {
            Self::Storage { path, .. } | Self::Open { path, .. } | Self::Io { path, .. } if self.is_disk_full() => {
                Some(path)
            }
            _ => None,
        }
    }

    /// Returns whether the disk, or the user's share of it, is full.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Storage { source, .. } | Self::Open { source, .. } => {
                source.sqlite_error_code() == Some(ErrorCode::DiskFull)
            }
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }

    /// Sorts an SQLite error by what it means for the database at `path`.
    pub(crate) fn sqlite(path: &Path, operation: &'static str, waited: Duration, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Self::Damaged {
                path,
                operation,
                source,
            },
            Some(_) if is_busy(&source) => Self::Locked {
                path,
                operation,
                waited,
                source,
            },
            Some(ErrorCode::ReadOnly) => Self::ReadOnly { path, operation },
            Some(
                ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::NoLargeFileSupport,
            ) => Self::Storage {
                path,
                operation,
                source,
            },
            _ => Self::Query {
                path,
                operation,
                source,
            },
        }
    }
}

/// Returns whether the schema could not be brought forward since the disk is full, or failed.
fn is_failure_of_disk(error: &rusqlite_migration::Error) -> bool {
    let rusqlite_migration::Error::RusqliteError { err, .. } = error else {
        return false;
    };
    matches!(
        err.sqlite_error_code(),
        Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure)
    )
}

/// Returns whether `error` says that another connection is in the way, for now.
///
/// A contended log ends in "locking protocol" after SQLite's own tries, which is no more than that either.
pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed)
    )
}

/// What stops the body of a transaction: SQLite, whose error still lacks path and operation, or a whole error.
#[derive(Debug)]
pub(crate) enum Failure {
    Sql(rusqlite::Error),
    Value { what: &'static str, value: String },
    Other(Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl Failure {
    /// Makes the whole error.
    pub(crate) fn at(self, path: &Path, operation: &'static str, waited: Duration) -> Error {
        match self {
            Self::Sql(source) => Error::sqlite(path, operation, waited, source),
            Self::Value { what, value } => Error::BadValue {
                path: path.to_owned(),
                what,
                value,
            },
            Self::Other(error) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use rusqlite::ffi;

    use super::*;

    #[test]
    fn what_sqlite_says_has_its_class() {
        for (code, class, full) in [
            (ffi::SQLITE_FULL, ErrorClass::Storage, true),
            (ffi::SQLITE_IOERR, ErrorClass::Storage, false),
            (ffi::SQLITE_READONLY, ErrorClass::Storage, false),
            (ffi::SQLITE_CANTOPEN, ErrorClass::Storage, false),
            (ffi::SQLITE_CORRUPT, ErrorClass::Store, false),
            (ffi::SQLITE_NOTADB, ErrorClass::Store, false),
            (ffi::SQLITE_BUSY, ErrorClass::Store, false),
            (ffi::SQLITE_BUSY_RECOVERY, ErrorClass::Store, false),
            (ffi::SQLITE_PROTOCOL, ErrorClass::Store, false),
            (ffi::SQLITE_CONSTRAINT, ErrorClass::Other, false),
        ] {
            let source = rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some("said by SQLite".to_owned()));
            let error = Error::sqlite(Path::new("/store/metadata.db"), "record a blob", Duration::ZERO, source);
            assert_eq!((error.class(), error.is_disk_full()), (class, full), "{code}: {error}");
            let text = error.to_string();
            assert!(
                text.contains("/store/metadata.db") && text.contains("record a blob"),
                "{text}"
            );
            assert!(!text.contains("said by SQLite"), "the source tells that: {text}");
            assert_eq!(error.source().is_some(), code != ffi::SQLITE_READONLY);
        }
    }
}
