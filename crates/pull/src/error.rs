//! Why a pull failed, by stage and by layer.

use std::fmt;

use unlade_oci::{Digest, DocumentError, ErrorClass, Platform};
use unlade_reference::Reference;

/// The stage of a layer's way into the store in which something failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Claiming the layer: its lock, its row, its blob.
    Claim,
    /// Receiving the blob.
    Download,
    /// Inflating, hashing, reading the tar stream and making files.
    Extract,
    /// Publishing the blob and the layer directory and recording them.
    Commit,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Claim => "preparing",
            Self::Download => "downloading",
            Self::Extract => "extracting",
            Self::Commit => "storing",
        })
    }
}

/// The failure of one crate below, kept whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The registry, or the way to it.
    #[error(transparent)]
    Registry(#[from] unlade_registry::Error),
    /// The blob files.
    #[error(transparent)]
    Blobs(#[from] unlade_blobs::Error),
    /// The layer's content.
    #[error(transparent)]
    Extract(#[from] unlade_extract::Error),
    /// The store.
    #[error(transparent)]
    Images(#[from] unlade_images::Error),
}

impl Cause {
    /// Returns the class of the failure.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Registry(error) => error.class(),
            Self::Blobs(error) => error.class(),
            Self::Extract(error) => error.class(),
            Self::Images(error) => error.class(),
        }
    }
}

/// Why a pull failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The registry did not give the document that a name stands for.
    #[error("cannot resolve {reference}")]
    Resolve {
        /// What was asked for.
        reference: Box<Reference>,
        /// What the registry or the network said.
        source: Box<unlade_registry::Error>,
    },
    /// A document is not what it has to be.
    #[error("{reference} is not an image that can be used")]
    Document {
        /// What was asked for.
        reference: Box<Reference>,
        /// What is wrong with it.
        source: Box<DocumentError>,
    },
    /// The image has no variant for the platform.
    #[error("{reference} has no image for {wanted}, it has {}", list(available))]
    NoPlatform {
        /// What was asked for.
        reference: Box<Reference>,
        /// The platform looked for.
        wanted: Box<Platform>,
        /// The platforms that the index offers.
        available: Vec<Platform>,
    },
    /// There is only one image, and it is for another platform than the one that was asked for.
    #[error("{reference} is an image for {actual} alone, {wanted} was asked for")]
    WrongPlatform {
        /// What was asked for.
        reference: Box<Reference>,
        /// The platform asked for.
        wanted: Box<Platform>,
        /// The platform in the image's configuration.
        actual: Box<Platform>,
    },
    /// Indexes lead to indexes deeper than the limit.
    #[error("{reference} leads through more than {limit} indexes inside each other")]
    TooDeep {
        /// What was asked for.
        reference: Box<Reference>,
        /// How many are followed.
        limit: usize,
    },
    /// An index leads to more documents than are read for one name.
    #[error("the documents of {reference} have more than {limit} bytes together")]
    TooLarge {
        /// What was asked for.
        reference: Box<Reference>,
        /// How many bytes are read.
        limit: u64,
    },
    /// The network was not to be used, and the store does not have all that is needed.
    #[error("{reference} is not complete in the store: {missing}, and the network is not to be used")]
    NotLocal {
        /// What was asked for.
        reference: Box<Reference>,
        /// What is missing.
        missing: String,
    },
    /// What was to be imported cannot be used.
    #[error("cannot import images from this")]
    Supply {
        /// Why.
        source: Box<unlade_images::Error>,
    },
    /// What was imported does not have all that one of its images needs.
    #[error("{reference} is not complete: {missing} is not there")]
    NotSupplied {
        /// The image.
        reference: Box<Reference>,
        /// What is missing.
        missing: String,
    },
    /// What was imported has images and does not say what they are called.
    #[error("there is an image without a name{}; it has to be given one", hint(tags))]
    Nameless {
        /// The tags that it has without saying of what.
        tags: Vec<String>,
    },
    /// One name was given for several images.
    #[error("one name was given, and there are {} images: {}", names.len(), names.join(", "))]
    OneNameForMany {
        /// What the images are called.
        names: Vec<String>,
    },
    /// There is nothing to import.
    #[error("there is no image in it")]
    NothingSupplied,
    /// An image has a name in an archive that is no reference.
    #[error("an image is called {name:?} in the archive")]
    SuppliedName {
        /// The name.
        name: String,
        /// Why it is no reference.
        source: unlade_reference::ParseError,
    },
    /// One layer could not be brought into the store; it stopped the others.
    #[error("{stage} layer {digest} failed")]
    Layer {
        /// The layer's blob.
        digest: Digest,
        /// Where it failed.
        stage: Stage,
        /// Why.
        source: Box<Cause>,
    },
    /// The images' manifests contradict each other or themselves about a layer.
    #[error("blob {digest} is given as the layer {first} and as the layer {second}; one blob has one content")]
    TwoContents {
        /// The blob.
        digest: Digest,
        /// The one diff ID.
        first: Digest,
        /// The other diff ID.
        second: Digest,
    },
    /// There is not enough room for what has to be written.
    #[error("{path} has {free} bytes free, and an estimated {needed} are needed; make room or use another place")]
    NoSpace {
        /// The directory whose filesystem is too full.
        path: std::path::PathBuf,
        /// What is needed, in bytes: blobs by their sizes, compressed layers as much again once they are extracted.
        needed: u64,
        /// What is free for this user, in bytes.
        free: u64,
    },
    /// The disk has become full on the way.
    #[error("the disk of {path} is full: {free} bytes are free, and an estimated {needed} more are needed")]
    DiskFull {
        /// The directory whose filesystem is full.
        path: std::path::PathBuf,
        /// What is still to be written, in bytes, estimated in the same way.
        needed: u64,
        /// What is free for this user after staged files are removed, in bytes.
        free: u64,
        /// What could not be written.
        source: Box<Error>,
    },
    /// The store failed outside of a layer.
    #[error("the store failed")]
    Store {
        /// How.
        source: Box<Cause>,
    },
}

fn list(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "none at all".to_owned();
    }
    platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn hint(tags: &[String]) -> String {
    if tags.is_empty() {
        return String::new();
    }
    format!(" (only the tag {} without a repository)", tags.join(", "))
}

impl Error {
    pub(crate) fn layer<E: Into<Cause>>(digest: &Digest, stage: Stage) -> impl FnOnce(E) -> Self {
        let digest = digest.clone();
        move |error| Self::Layer {
            digest,
            stage,
            source: Box::new(error.into()),
        }
    }

    pub(crate) fn supply(error: impl Into<unlade_images::Error>) -> Self {
        Self::Supply {
            source: Box::new(error.into()),
        }
    }

    pub(crate) fn store(error: impl Into<Cause>) -> Self {
        Self::Store {
            source: Box::new(error.into()),
        }
    }

    /// Returns the class of the failure, as its first cause has it.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Resolve { source, .. } => source.class(),
            Self::Document { source, .. } => source.class(),
            Self::NoPlatform { .. } | Self::WrongPlatform { .. } | Self::NotLocal { .. } | Self::NotSupplied { .. } => {
                ErrorClass::NotFound
            }
            Self::Supply { source } => source.class(),
            Self::Nameless { .. } | Self::OneNameForMany { .. } => ErrorClass::Usage,
            Self::SuppliedName { .. } => ErrorClass::Invalid,
            Self::TooDeep { .. } | Self::TooLarge { .. } | Self::NothingSupplied => ErrorClass::Rejected,
            Self::Layer { source, .. } | Self::Store { source } => source.class(),
            Self::TwoContents { .. } => ErrorClass::Integrity,
            Self::NoSpace { .. } => ErrorClass::Storage,
            Self::DiskFull { source, .. } => source.class(),
        }
    }

    /// Returns what could not be written since its disk is full.
    pub(crate) fn full_disk(&self) -> Option<&std::path::Path> {
        match self {
            Self::Layer { source, .. } | Self::Store { source } => match &**source {
                Cause::Registry(_) => None,
                Cause::Blobs(error) => error.full_disk(),
                Cause::Extract(error) => error.full_disk(),
                Cause::Images(error) => error.full_disk(),
            },
            _ => None,
        }
    }

    /// Tells whether a blob is not the one that its digest promises. A diff ID that does not match is another matter: it
    /// is the image itself that is wrong then.
    pub(crate) fn is_wrong_blob(&self) -> bool {
        let Self::Layer { source, .. } = self else {
            return false;
        };
        match &**source {
            Cause::Blobs(error) => error.class() == ErrorClass::Integrity,
            Cause::Images(unlade_images::Error::Blobs { source }) => source.class() == ErrorClass::Integrity,
            Cause::Images(unlade_images::Error::WrongBlob { .. }) => true,
            Cause::Registry(_) | Cause::Extract(_) | Cause::Images(_) => false,
        }
    }

    /// Tells whether the same pull may succeed when it is tried again without any change.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.class(),
            ErrorClass::Network | ErrorClass::RateLimited | ErrorClass::Timeout
        )
    }
}
