//! The classes of failure that all crates share, and the exit code of each.

use std::fmt;

use serde::{Serialize, Serializer};

/// What kind of failure an error is, as far as its receiver can act on it.
///
/// Every library error answers `class()`. The command turns the class into its exit code, programs that embed the
/// crates branch on it instead of on the variants of a dozen enums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ErrorClass {
    /// None of the classes below.
    Other,
    /// The command line is wrong.
    Usage,
    /// An image, tag or platform does not exist.
    NotFound,
    /// Authentication or authorisation failed.
    Auth,
    /// The network or the registry failed.
    Network,
    /// A reference or a configuration is invalid.
    Invalid,
    /// A digest, a size or a diff ID does not match.
    Integrity,
    /// The input is hostile, malformed or beyond a limit.
    Rejected,
    /// The disk is full, read-only or does not permit the operation.
    Storage,
    /// The registry limits the rate of requests.
    RateLimited,
    /// Something timed out or stalled.
    Timeout,
    /// The store is locked or damaged.
    Store,
    /// The user or the caller interrupted the work.
    Interrupted,
}

impl ErrorClass {
    /// Every class, in the order of the exit codes.
    pub const ALL: [Self; 13] = [
        Self::Other,
        Self::Usage,
        Self::NotFound,
        Self::Auth,
        Self::Network,
        Self::Invalid,
        Self::Integrity,
        Self::Rejected,
        Self::Storage,
        Self::RateLimited,
        Self::Timeout,
        Self::Store,
        Self::Interrupted,
    ];

    /// Returns the exit code of a process that fails with this class; never 0.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Other => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Auth => 4,
            Self::Network => 5,
            Self::Invalid => 6,
            Self::Integrity => 7,
            Self::Rejected => 8,
            Self::Storage => 9,
            Self::RateLimited => 10,
            Self::Timeout => 11,
            Self::Store => 12,
            Self::Interrupted => 130,
        }
    }

    /// Returns the name used in machine-readable output; it never changes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Usage => "usage",
            Self::NotFound => "not-found",
            Self::Auth => "auth",
            Self::Network => "network",
            Self::Invalid => "invalid",
            Self::Integrity => "integrity",
            Self::Rejected => "rejected",
            Self::Storage => "storage",
            Self::RateLimited => "rate-limited",
            Self::Timeout => "timeout",
            Self::Store => "store",
            Self::Interrupted => "interrupted",
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ErrorClass {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_and_names_tell_classes_apart() {
        let codes: BTreeSet<_> = ErrorClass::ALL.map(ErrorClass::exit_code).into();
        let names: BTreeSet<_> = ErrorClass::ALL.map(ErrorClass::as_str).into();
        assert_eq!(codes, (1..=12).chain([130]).collect());
        assert_eq!(names.len(), ErrorClass::ALL.len());
    }
}
