//! What can go wrong with a layer, told so that the caller knows whose fault it is.

use std::io;
use std::path::PathBuf;

use unlade_oci::{Compression, ErrorClass};

use crate::RawPath;

/// Why a layer could not be read or extracted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input itself failed: the layer was never seen whole. Its cause is the caller's own reader.
    #[error("the layer cannot be read beyond byte {offset}")]
    Input {
        /// How many compressed bytes had been read.
        offset: u64,
        /// What the reader said.
        source: io::Error,
    },
    /// A thread for the layer could not be started.
    #[error("a thread for the layer cannot be started")]
    Thread {
        /// What the system said.
        source: io::Error,
    },
    /// The decompressor refused the bytes.
    #[error("the {compression} stream is malformed near its byte {offset}: {problem}")]
    Compressed {
        /// What the stream was taken for.
        compression: Compression,
        /// Where in the compressed bytes, roughly.
        offset: u64,
        /// What the decompressor said.
        problem: String,
    },
    /// The compressed bytes end before the stream does.
    #[error("the {compression} stream ends after {offset} bytes, in the middle of its data")]
    CompressedTruncated {
        /// What the stream was taken for.
        compression: Compression,
        /// How many bytes there were.
        offset: u64,
    },
    /// The archive breaks the tar format.
    #[error("the archive is malformed at byte {offset}: {problem}")]
    Archive {
        /// Where in the uncompressed bytes.
        offset: u64,
        /// What is wrong.
        problem: String,
    },
    /// The archive ends in the middle of a header or of a file.
    #[error("the archive ends at byte {offset}, in the middle of {what}")]
    ArchiveTruncated {
        /// How many uncompressed bytes there were.
        offset: u64,
        /// Of what.
        what: &'static str,
    },
    /// A well-formed entry asks for what no layer may do.
    #[error("the entry {path} is refused: {problem}")]
    Refused {
        /// The entry's name as the archive spells it.
        path: RawPath,
        /// Why.
        problem: String,
    },
    /// A limit was reached.
    #[error("the limit `{limit}` of {value} is exceeded{}", place(path.as_ref()))]
    Limit {
        /// The field of [`Limits`](crate::Limits).
        limit: &'static str,
        /// Its value.
        value: u64,
        /// At which entry, if at one.
        path: Option<RawPath>,
    },
    /// The target could not be written.
    #[error("the entry {path} cannot be extracted")]
    Write {
        /// The entry's path.
        path: RawPath,
        /// The operation that failed.
        source: unlade_sys::Error,
    },
    /// A user who is not root was to give a file to another.
    #[error("the entry {path} cannot be given to its owner {uid}:{gid}, which takes root")]
    OwnerRefused {
        /// The entry's path.
        path: RawPath,
        /// The owner's user id.
        uid: u32,
        /// The owner's group id.
        gid: u32,
        /// The operation that failed.
        source: unlade_sys::Error,
    },
    /// The target is on a filesystem that cannot hold what layers have.
    #[error(
        "the filesystem of {} has no symbolic links, so it cannot hold a layer; ext4, xfs, btrfs and tmpfs can",
        directory.display()
    )]
    NoLinks {
        /// The target.
        directory: PathBuf,
        /// The operation that failed.
        source: unlade_sys::Error,
    },
    /// The target is where names that differ in case alone are one.
    #[error(
        "the filesystem of {} does not tell names apart that differ in case alone, so files of a layer would replace others; choose \
         a directory where it does",
        directory.display()
    )]
    CaseInsensitive {
        /// The target.
        directory: PathBuf,
    },
    /// [`Progress::cancel`](crate::Progress::cancel) was called.
    #[error("the extraction was cancelled")]
    Cancelled,
}

impl Error {
    /// Returns the class that decides about exit code and hint.
    ///
    /// The class of [`Error::Input`] is [`ErrorClass::Storage`] if the kernel says that reading failed, and
    /// [`ErrorClass::Other`] else: only the owner of the reader knows what its own failure means.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Input { source, .. } if source.raw_os_error().is_some() => ErrorClass::Storage,
            Self::Input { .. } | Self::Thread { .. } => ErrorClass::Other,
            Self::Compressed { .. }
            | Self::CompressedTruncated { .. }
            | Self::Archive { .. }
            | Self::ArchiveTruncated { .. }
            | Self::Refused { .. }
            | Self::Limit { .. } => ErrorClass::Rejected,
            Self::Write { .. } | Self::OwnerRefused { .. } | Self::NoLinks { .. } | Self::CaseInsensitive { .. } => {
                ErrorClass::Storage
            }
            Self::Cancelled => ErrorClass::Interrupted,
        }
    }

    /// Says whether the reader given by the caller failed, so that its own error is the cause to report.
    pub const fn is_input(&self) -> bool {
        matches!(self, Self::Input { .. })
    }

    /// Returns what could not be written since its disk, or the user's share of it, is full; `None` for other failures.
    pub fn full_disk(&self) -> Option<&std::path::Path> {
        match self {
            Self::Write { source, .. } if source.is_disk_full() => Some(&source.path),
            _ => None,
        }
    }

    /// Says whether the filesystem is full or the quota used up.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Write { source, .. } if source.is_disk_full())
    }

    pub(crate) fn archive(offset: u64, problem: impl Into<String>) -> Self {
        Self::Archive {
            offset,
            problem: problem.into(),
        }
    }

    pub(crate) fn refused(path: impl Into<Vec<u8>>, problem: impl Into<String>) -> Self {
        Self::Refused {
            path: RawPath::new(path),
            problem: problem.into(),
        }
    }
}

fn place(path: Option<&RawPath>) -> String {
    path.map(|path| format!(" at the entry {path}")).unwrap_or_default()
}
