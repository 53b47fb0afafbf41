//! What went wrong on the way to a credential without being a reason to stop.

use std::time::Duration;

use crate::Place;

/// A credential could not be had; the registry is asked without it.
///
/// A public image must not fail because a helper on this machine is broken, and a private one must say why nothing was
/// sent. So these travel beside the result of a lookup.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// The helper's program is not on the search path.
    #[error("the credential helper {helper} for {server} is not installed (named by {place})")]
    HelperMissing {
        /// The program.
        helper: String,
        /// The server it was to be asked for.
        server: String,
        /// What names it.
        place: Place,
    },
    /// The helper ran and failed.
    #[error("the credential helper {helper} failed for {server} ({status}): {output}")]
    HelperFailed {
        /// The program.
        helper: String,
        /// The server it was asked for.
        server: String,
        /// How it ended.
        status: String,
        /// What it wrote to its standard error, shortened.
        output: String,
    },
    /// The helper did not answer in time and was killed.
    #[error("the credential helper {helper} gave no answer for {server} within {} s", limit.as_secs_f64())]
    HelperTimedOut {
        /// The program.
        helper: String,
        /// The server it was asked for.
        server: String,
        /// The time it had.
        limit: Duration,
    },
    /// The helper answered something that is not the protocol.
    #[error("the credential helper {helper} answered for {server} with something that is not a credential ({reason})")]
    HelperAnswer {
        /// The program.
        helper: String,
        /// The server it was asked for.
        server: String,
        /// What is wrong with the answer; never the answer itself.
        reason: String,
    },
    /// An entry of a configuration file cannot be used.
    #[error("the entry {key:?} of {place} cannot be used: {reason}")]
    UnusableEntry {
        /// Where the entry is.
        place: Place,
        /// The key below `auths`.
        key: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}
