//! What a caller should know though nothing failed.

use unlade_oci::Digest;

/// Something noteworthy that did not stop the work.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// Credentials could not be had; the request went out without.
    #[error(transparent)]
    Credentials(#[from] unlade_auth::Warning),
    /// The server cannot continue a blob where it broke off, so it is fetched from its start again.
    #[error("{host} cannot continue {digest} at byte {offset}, it is fetched again from the start: {reason}")]
    Restarted {
        /// Who cannot.
        host: String,
        /// The blob.
        digest: Digest,
        /// Where it was to be continued.
        offset: u64,
        /// What the server answered.
        reason: String,
    },
    /// A server did not answer as it should, and another is asked.
    #[error("{host} is passed over for {registry}: {reason}")]
    PassedOver {
        /// Who.
        host: String,
        /// The registry that it stands for.
        registry: String,
        /// What it did.
        reason: String,
    },
    /// A mirror served a blob whose digest is another; it is not asked for that blob again.
    #[error("{host} served something else as {digest}, it is fetched elsewhere")]
    WrongContent {
        /// Who.
        host: String,
        /// The blob that was asked for.
        digest: Digest,
    },
    /// A tag list holds something that is not a tag; it is left out.
    #[error("{host} lists the tag {tag:?} of {repository}, which is not a valid tag")]
    InvalidTag {
        /// Who lists it.
        host: String,
        /// The repository.
        repository: String,
        /// The text.
        tag: String,
    },
}
