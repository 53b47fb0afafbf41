//! What can be wrong with a document.

use crate::{Digest, DigestError, ErrorClass, MediaType};

/// Why bytes are not the manifest, index or image configuration that they should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// The document is larger than this project reads.
    #[error("the {document} has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// What it should be: `manifest or index`, `image configuration`.
        document: &'static str,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The bytes have another digest than the one asked for.
    #[error("the {document} has the digest {actual}, {expected} was expected")]
    DigestMismatch {
        /// What it should be.
        document: &'static str,
        /// The digest asked for.
        expected: Digest,
        /// The digest of the bytes.
        actual: Digest,
    },
    /// The bytes are more or fewer than their descriptor says.
    #[error("the {document} has {actual} bytes, its descriptor says {expected}")]
    SizeMismatch {
        /// What it should be.
        document: &'static str,
        /// The size in the descriptor, in bytes.
        expected: u64,
        /// The size of the bytes.
        actual: u64,
    },
    /// A web page came instead.
    #[error(
        "a web page came where a {document} was due; a proxy or a login portal may stand between here and the registry"
    )]
    Html {
        /// What was due.
        document: &'static str,
    },
    /// The bytes are not JSON, or not of the form that the specification gives.
    #[error("the {document} is malformed")]
    Json {
        /// What it should be.
        document: &'static str,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The document has neither the members of a manifest nor those of an index.
    #[error("the document is neither a manifest (it has no config) nor an index (it has no manifests)")]
    UnknownShape,
    /// A manifest has layers and no configuration.
    #[error("the manifest has layers but no config")]
    NoConfig,
    /// The document has members of both a manifest and an index, so that two clients could see two images in it.
    #[error("the document has both {first:?} and {second:?}, so it could be read in two ways")]
    Ambiguous {
        /// A member of one kind of document.
        first: &'static str,
        /// A member of the other.
        second: &'static str,
    },
    /// Two statements about the type of the document differ.
    #[error("the {first} says {says} and the {second} says {contradicts}")]
    TypeMismatch {
        /// Where the first statement stands.
        first: &'static str,
        /// The first statement.
        says: String,
        /// Where the second statement stands.
        second: &'static str,
        /// The second statement.
        contradicts: String,
    },
    /// A docker manifest of schema 1, which names its layers by no verifiable content.
    #[error(
        "the manifest is docker schema 1, which is obsolete and not supported; it has to be pushed again by a client of today"
    )]
    Schema1,
    /// A schema version other than 2.
    #[error("the document has schema version {version}, only 2 is supported")]
    SchemaVersion {
        /// The version found.
        version: u64,
    },
    /// The type of the document is not one that can be read.
    #[error("the document has the type {:?}, which is neither a manifest nor an index", media_type.as_str())]
    UnsupportedType {
        /// The type.
        media_type: MediaType,
    },
    /// A digest in the document is not one.
    #[error("{place} has an invalid digest")]
    Digest {
        /// Where in the document, as `layers[3]`.
        place: String,
        /// What is wrong with it.
        source: DigestError,
    },
    /// A size in the document is beyond what a file can have.
    #[error("{place} has the size {size}, no file can be that large")]
    Size {
        /// Where in the document, as `layers[3]`.
        place: String,
        /// The size in bytes.
        size: u64,
    },
    /// The root filesystem of an image configuration is not made of layers.
    #[error("the image configuration has a root filesystem of type {found:?}, only \"layers\" is known")]
    RootfsType {
        /// The type found.
        found: String,
    },
    /// The manifest belongs to something that is no container image.
    #[error("this is not a container image but an artifact of type {artifact_type:?}")]
    NotAnImage {
        /// What it is: its artifact type, the type of its configuration or of a layer.
        artifact_type: String,
    },
    /// A layer is encrypted.
    #[error("layer {position} is encrypted ({media_type}), which is not supported")]
    Encrypted {
        /// Position of the layer in the manifest, from 0.
        position: usize,
        /// Its media type.
        media_type: MediaType,
    },
    /// The manifest and the image configuration disagree on the number of layers.
    #[error("the manifest has {layers} layers and the image configuration has {diff_ids} diff IDs")]
    LayerCount {
        /// How many layers the manifest has.
        layers: usize,
        /// How many diff IDs the image configuration has.
        diff_ids: usize,
    },
}

impl DocumentError {
    /// Returns the class of the failure.
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::DigestMismatch { .. } | Self::SizeMismatch { .. } => ErrorClass::Integrity,
            // Whatever answered, it was not the registry.
            Self::Html { .. } => ErrorClass::Network,
            Self::TooLarge { .. }
            | Self::Json { .. }
            | Self::UnknownShape
            | Self::NoConfig
            | Self::Ambiguous { .. }
            | Self::TypeMismatch { .. }
            | Self::Schema1
            | Self::SchemaVersion { .. }
            | Self::UnsupportedType { .. }
            | Self::Digest { .. }
            | Self::Size { .. }
            | Self::RootfsType { .. }
            | Self::NotAnImage { .. }
            | Self::Encrypted { .. }
            | Self::LayerCount { .. } => ErrorClass::Rejected,
        }
    }
}
