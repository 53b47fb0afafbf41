//! The one error of this crate: which operation failed, on which path, and why.

use std::io;
use std::path::{Path, PathBuf};

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A system call that failed.
///
/// `Display` tells the operation and the path; the reason is the [`source`](std::error::Error::source), an
/// [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}", path.display())]
#[non_exhaustive]
pub struct Error {
    /// What was tried, as it reads after "cannot": "open", "rename", "set the extended attributes of".
    pub operation: &'static str,
    /// On what. For an operation on two paths, the one that was to come into being.
    pub path: PathBuf,
    /// What the kernel said.
    pub source: io::Error,
}

impl Error {
    /// Makes an error; `operation` reads after "cannot" and before the path.
    pub fn new(operation: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self {
            operation,
            path: path.into(),
            source: source.into(),
        }
    }

    /// Returns a function for `map_err` that makes such an error from its cause.
    pub(crate) fn on<E: Into<io::Error>>(operation: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |source| Self::new(operation, path, source)
    }

    /// Returns the kind that the standard library sorts the reason into.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// Returns the `errno`, if the reason has one.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// Says whether there was nothing at the path.
    pub fn is_not_found(&self) -> bool {
        self.kind() == io::ErrorKind::NotFound
    }

    /// Says whether the filesystem has no space or no inodes left, or the quota is used up.
    pub fn is_disk_full(&self) -> bool {
        matches!(self.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn display_tells_this_level_only() {
        let error = Error::new("open", "/a/b", rustix::io::Errno::NOENT);
        assert_eq!(error.to_string(), "cannot open /a/b");
        assert!(error.is_not_found());
        assert!(error.source().is_some());
    }

    #[test]
    fn disk_full_is_recognised() {
        for errno in [rustix::io::Errno::NOSPC, rustix::io::Errno::DQUOT] {
            assert!(Error::new("write", "x", errno).is_disk_full(), "{errno}");
        }
        assert!(!Error::new("write", "x", rustix::io::Errno::ACCESS).is_disk_full());
    }
}
