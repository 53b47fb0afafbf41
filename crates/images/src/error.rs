//! Why something in the store failed.

use std::path::Path;

use unlade_oci::{Digest, ErrorClass};

/// A failure of the image store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The filesystem did not do what it was asked to.
    #[error(transparent)]
    Files {
        /// What was tried, on which path.
        source: unlade_sys::Error,
    },
    /// The blob files failed.
    #[error(transparent)]
    Blobs {
        /// How.
        source: unlade_blobs::Error,
    },
    /// The database failed.
    #[error(transparent)]
    Database {
        /// How.
        source: Box<unlade_metadata::Error>,
    },
    /// The uncompressed content of a layer is not what the image's configuration promises.
    #[error("the layer {blob} has the diff ID {actual}, the image's configuration says {expected}")]
    WrongDiffId {
        /// The layer's blob.
        blob: Digest,
        /// What the configuration says.
        expected: Digest,
        /// What was computed.
        actual: Digest,
    },
    /// The bytes of a layer's blob are not those that the manifest names.
    #[error("the blob {expected} of {expected_size} bytes has the digest {actual} and {actual_size} bytes")]
    WrongBlob {
        /// What the manifest says.
        expected: Digest,
        /// What the manifest says, in bytes.
        expected_size: u64,
        /// What was computed.
        actual: Digest,
        /// What was counted.
        actual_size: u64,
    },
    /// A blob is not in the store and cannot be had.
    #[error("the blob {digest} is not in the store")]
    BlobMissing {
        /// Which.
        digest: Digest,
    },
    /// A blob is not among what was imported.
    #[error("what was imported has no blob {digest}")]
    NotSupplied {
        /// Which.
        digest: Digest,
    },
    /// Not all that an index leads to is in the store.
    #[error("the store does not have all platforms of {name}")]
    NotWhole {
        /// The name.
        name: String,
    },
    /// A layer of an image has no directory here.
    #[error("the layers of {name} are not all extracted here, and its root filesystem is made of them; pull it first")]
    NotExtracted {
        /// The name.
        name: String,
    },
    /// A form that holds one image was to hold all of an index.
    #[error("this form holds one image, and {name} is an index of several")]
    OneImageOnly {
        /// The name.
        name: String,
    },
    /// An archive could not be written.
    #[error("the archive cannot be written")]
    Export {
        /// What the system said.
        source: std::io::Error,
    },
    /// A layer could not be made into files.
    #[error("layer {blob} cannot be made into files")]
    Layer {
        /// The layer's blob.
        blob: Digest,
        /// Why.
        source: Box<unlade_extract::Error>,
    },
    /// Files could not be made of layers.
    #[error(transparent)]
    Extract {
        /// Why.
        source: Box<unlade_extract::Error>,
    },
    /// An image cannot be mounted.
    #[error("the image cannot be mounted: {reason}")]
    NotMountable {
        /// Why not.
        reason: &'static str,
    },
    /// A root filesystem is to go where something is already.
    #[error("{} is there already and is not an empty directory", path.display())]
    TargetInUse {
        /// Where.
        path: std::path::PathBuf,
    },
    /// The user namespace could not be entered in which files can have their real owners.
    #[error(transparent)]
    UserNamespace {
        /// Why not.
        source: unlade_sys::UserNamespaceError,
    },
    /// What was to be imported is nothing that images can come from.
    #[error("{problem}")]
    NotImportable {
        /// What is wrong with it, or missing.
        problem: String,
    },
    /// An archive could not be read to its end.
    #[error("the archive cannot be read")]
    Archive {
        /// Why.
        source: Box<unlade_extract::Error>,
    },
    /// The index of an image layout is not as it has to be.
    #[error("the index.json of the image layout cannot be used")]
    Index {
        /// What is wrong with it.
        source: Box<unlade_oci::DocumentError>,
    },
    /// No image of that name is in the store.
    #[error("there is no image {name} in the store")]
    NoImage {
        /// What was asked for.
        name: String,
    },
    /// What has that name is no image.
    #[error("{name} is an artifact of type {artifact_type}, not an image")]
    NotAnImage {
        /// What was asked for.
        name: String,
        /// What it is.
        artifact_type: String,
    },
    /// What was just recorded is not there any more.
    #[error("{name} was recorded, and something that it needs was removed from the store at once; pull it again")]
    Vanished {
        /// The image.
        name: String,
    },
}

impl Error {
    /// Returns what could not be written since its disk, or the user's share of it, is full; `None` for other failures.
    pub fn full_disk(&self) -> Option<&Path> {
        match self {
            Self::Files { source } if source.is_disk_full() => Some(&source.path),
            Self::Blobs { source } => source.full_disk(),
            Self::Database { source } => source.full_disk(),
            Self::Layer { source, .. } | Self::Extract { source } => source.full_disk(),
            _ => None,
        }
    }

    /// Returns the class of the failure.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Files { .. } | Self::TargetInUse { .. } | Self::Export { .. } => ErrorClass::Storage,
            Self::Blobs { source } => source.class(),
            Self::Database { source } => source.class(),
            Self::WrongDiffId { .. } | Self::WrongBlob { .. } => ErrorClass::Integrity,
            Self::BlobMissing { .. }
            | Self::NotSupplied { .. }
            | Self::NotWhole { .. }
            | Self::NotExtracted { .. }
            | Self::NoImage { .. } => ErrorClass::NotFound,
            Self::OneImageOnly { .. } => ErrorClass::Usage,
            Self::NotAnImage { .. } | Self::NotImportable { .. } => ErrorClass::Rejected,
            Self::Layer { source, .. } | Self::Extract { source } | Self::Archive { source } => source.class(),
            Self::Index { source } => source.class(),
            Self::NotMountable { .. } | Self::UserNamespace { .. } => ErrorClass::Invalid,
            Self::Vanished { .. } => ErrorClass::Store,
        }
    }
}

impl From<unlade_sys::Error> for Error {
    fn from(source: unlade_sys::Error) -> Self {
        Self::Files { source }
    }
}

impl From<unlade_extract::Error> for Error {
    fn from(source: unlade_extract::Error) -> Self {
        Self::Extract {
            source: Box::new(source),
        }
    }
}

impl From<unlade_blobs::Error> for Error {
    fn from(source: unlade_blobs::Error) -> Self {
        Self::Blobs { source }
    }
}

impl From<unlade_metadata::Error> for Error {
    fn from(source: unlade_metadata::Error) -> Self {
        Self::Database {
            source: Box::new(source),
        }
    }
}
