//! What a person should know about a pull that went on all the same.

use std::fmt;

use unlade_oci::{Compression, Digest, MediaType, Platform};
use unlade_reference::{Alias, Reference};

/// A warning. `Display` is one sentence.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Warning {
    /// The registry that was named is another name for the one that is asked.
    Alias {
        /// The image.
        reference: Box<Reference>,
        /// The registry as it was named.
        alias: Box<Alias>,
    },
    /// The image is for another platform than this machine's, and there is no other.
    OtherPlatform {
        /// The image.
        reference: Box<Reference>,
        /// The platform in its configuration.
        actual: Box<Platform>,
        /// The platform looked for.
        wanted: Box<Platform>,
    },
    /// A blob did not have the content that its digest promises and is fetched once more from the start.
    FetchedAgain {
        /// The blob.
        digest: Digest,
        /// What did not match.
        reason: String,
    },
    /// A layer is compressed in another way than its media type says. What its bytes say counts.
    Compression {
        /// The layer's blob.
        digest: Digest,
        /// What the manifest says.
        media_type: MediaType,
        /// What the bytes say.
        found: Compression,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alias { reference, alias } => {
                write!(
                    f,
                    "{} is an alias of {}: this image is {reference}",
                    alias.named, alias.used
                )
            }
            Self::OtherPlatform {
                reference,
                actual,
                wanted,
            } => {
                write!(
                    f,
                    "{reference} is an image for {actual} alone, this machine is {wanted}"
                )
            }
            Self::FetchedAgain { digest, reason } => {
                write!(
                    f,
                    "the blob {digest} had wrong bytes and is fetched again from the start: {reason}"
                )
            }
            Self::Compression {
                digest,
                media_type,
                found,
            } => match found {
                Compression::None => write!(
                    f,
                    "the layer {digest} is not compressed, though it is said to be {media_type}"
                ),
                found => write!(
                    f,
                    "the layer {digest} is compressed with {found}, though it is said to be {media_type}"
                ),
            },
        }
    }
}
