//! What can go wrong with blobs, as one enum.

use std::io;
use std::path::{Path, PathBuf};

use unlade_oci::{Digest, ErrorClass};

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on the blob store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The filesystem refused.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried, as it reads after "cannot".
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The directory is something else than a store.
    #[error("{} is not a store: {reason}; use an empty directory or one that holds an OCI image layout", path.display())]
    NotALayout {
        /// The directory.
        path: PathBuf,
        /// What was found that should not be there, or not so.
        reason: String,
    },
    /// The store has no such blob.
    #[error("the store has no blob {digest}")]
    NotFound {
        /// The blob that was asked for.
        digest: Digest,
    },
    /// The content that arrived is not the one asked for. What had arrived has been removed.
    #[error("asked for blob {expected} of {expected_size} bytes, got {actual} of {actual_size} bytes")]
    Mismatch {
        /// The digest asked for.
        expected: Digest,
        /// The size asked for, in bytes.
        expected_size: u64,
        /// The digest of the content.
        actual: Digest,
        /// The size of the content, in bytes.
        actual_size: u64,
    },
    /// More bytes arrived than the blob has. What had arrived has been removed.
    #[error("blob {digest} has {size} bytes, but at least {arrived} arrived")]
    Oversize {
        /// The blob.
        digest: Digest,
        /// Its size, in bytes.
        size: u64,
        /// How many bytes there would have been, in all.
        arrived: u64,
    },
    /// Fewer bytes have arrived than the blob has. They are kept, and the ingest can go on.
    #[error("blob {digest} has {size} bytes, of which only {arrived} arrived")]
    Incomplete {
        /// The blob.
        digest: Digest,
        /// Its size, in bytes.
        size: u64,
        /// How many bytes there are.
        arrived: u64,
    },
    /// The ingest has failed before, so nothing can be appended to it or published from it.
    #[error("the ingest of blob {digest} has failed: {message}")]
    Failed {
        /// The blob.
        digest: Digest,
        /// What the ingest was told, or found, when it failed.
        message: String,
    },
    /// Somebody else holds the ingest of this blob.
    #[error("blob {digest} is being fetched by another holder")]
    Busy {
        /// The blob.
        digest: Digest,
    },
    /// A published blob is not what its name says. It needs to be removed and fetched again.
    #[error("the stored blob {digest} is damaged: its {actual_size} bytes have the digest {actual}")]
    Damaged {
        /// The name of the blob.
        digest: Digest,
        /// The digest of what is there.
        actual: Digest,
        /// The size of what is there, in bytes.
        actual_size: u64,
    },
    /// A blob that was to be read into memory is larger than the caller allows.
    #[error("blob {digest} has {size} bytes, and the limit here is {limit}")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its size, in bytes.
        size: u64,
        /// The largest size allowed, in bytes.
        limit: u64,
    },
    /// The bytes given for `index.json` are not an image index.
    #[error("the new index.json is not an image index")]
    InvalidIndex {
        /// What the parser says.
        source: serde_json::Error,
    },
}

impl Error {
    /// Returns a function for `map_err` that makes an I/O error from its cause.
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            operation,
            path: path.to_owned(),
            source,
        }
    }

    /// Returns the class, which decides the exit code.
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::Io { .. } => ErrorClass::Storage,
            Self::NotALayout { .. } | Self::Busy { .. } | Self::Damaged { .. } => ErrorClass::Store,
            Self::NotFound { .. } => ErrorClass::NotFound,
            Self::Mismatch { .. } | Self::Oversize { .. } | Self::Incomplete { .. } => ErrorClass::Integrity,
            Self::TooLarge { .. } => ErrorClass::Rejected,
            Self::Failed { .. } | Self::InvalidIndex { .. } => ErrorClass::Other,
        }
    }

    /// Says whether the store just does not have the blob.
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Returns what could not be written since its disk, or the user's share of it, is full; `None` for other failures.
    pub fn full_disk(&self) -> Option<&Path> {
        match self {
            Self::Io { path, .. } if self.is_disk_full() => Some(path),
            _ => None,
        }
    }

    /// Says whether the filesystem has no space or no inodes left, or the quota is used up.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

impl From<unlade_sys::Error> for Error {
    fn from(error: unlade_sys::Error) -> Self {
        Self::Io {
            operation: error.operation,
            path: error.path,
            source: error.source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_storage_and_recognisable() {
        let full = Error::io("write", Path::new("/x"))(io::Error::from(io::ErrorKind::StorageFull));
        assert!(full.is_disk_full());
        assert_eq!(full.class(), ErrorClass::Storage);
        assert_eq!(full.to_string(), "cannot write /x");
        let other = Error::io("write", Path::new("/x"))(io::Error::from(io::ErrorKind::PermissionDenied));
        assert!(!other.is_disk_full());
    }
}
