//! An image as it is in the store.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use unlade_metadata::{ImageName, StoredImage, StoredLayer};
use unlade_oci::{Digest, MediaType, Platform};
use unlade_reference::{Reference, Registry, Repository};

/// An image that is in the store, with its layers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Image {
    /// The name that it is recorded under.
    pub reference: Reference,
    /// The platform that was asked for.
    pub platform: Platform,
    /// The index that the name led to, if it did.
    pub index: Option<Digest>,
    /// The manifest.
    pub manifest: Digest,
    /// The configuration; docker calls this the image ID.
    pub config: Digest,
    /// When the name last led here.
    pub pulled_at: SystemTime,
    /// When the image was last used, as far as it was noted ([`crate::Store::touch`]).
    pub last_used_at: SystemTime,
    /// The layers, the lowest first.
    pub layers: Vec<Layer>,
    /// The row in the database.
    pub(crate) row: i64,
}

/// A layer of an image that is in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Layer {
    /// The blob that the manifest lists.
    pub blob: Digest,
    /// The digest of the uncompressed content.
    pub diff_id: Digest,
    /// The blob's media type, as the manifest has it.
    pub media_type: MediaType,
    /// The blob's size in bytes.
    pub size: u64,
    /// The size of the uncompressed tar stream in bytes.
    pub raw_size: u64,
    /// The chain ID of the layer and those below it, if its own directory would not do and it was extracted on top of them.
    pub chain_id: Option<Digest>,
    /// Whether that is known: an image that was pulled without extraction was not looked at.
    pub is_stacked: bool,
    /// The layer directory, if there is one where the store keeps them: the one to use in this image.
    pub directory: Option<PathBuf>,
}

impl Image {
    /// Returns the digest that the name itself stands for: the index's, or the manifest's where there is no index.
    pub fn digest(&self) -> &Digest {
        self.index.as_ref().unwrap_or(&self.manifest)
    }

    /// Returns the layer directories as an overlay mount takes them: the highest first, and each once. `None` if one is not
    /// there.
    ///
    /// Of a layer that an image has twice the upper place alone counts: where that has a name, the lower one is hidden by it,
    /// and where it has not, the lower one has not either.
    pub fn overlay_directories(&self) -> Option<Vec<&Path>> {
        let mut directories: Vec<&Path> = Vec::with_capacity(self.layers.len());
        for layer in self.layers.iter().rev() {
            let directory = layer.directory.as_deref()?;
            if !directories.contains(&directory) {
                directories.push(directory);
            }
        }
        Some(directories)
    }

    pub(crate) fn from_row(row: StoredImage) -> Option<Self> {
        Some(Self {
            reference: reference(&row.name)?,
            platform: row.platform,
            index: row.index,
            manifest: row.manifest,
            config: row.config,
            pulled_at: row.pulled_at,
            last_used_at: row.last_used_at,
            row: row.id,
            layers: row.layers.into_iter().map(Layer::from_row).collect(),
        })
    }
}

impl Layer {
    fn from_row(row: StoredLayer) -> Self {
        Self {
            blob: row.layer.blob,
            diff_id: row.layer.diff_id,
            media_type: row.layer.media_type,
            size: row.layer.size,
            raw_size: row.raw_size,
            chain_id: row.layer.chain_id,
            is_stacked: row.layer.is_stacked,
            directory: row.directory.map(|directory| directory.path),
        }
    }
}

/// The name of an image in the database.
pub(crate) fn name(reference: &Reference) -> ImageName {
    ImageName {
        registry: reference.registry().as_str().to_owned(),
        repository: reference.repository().path().to_owned(),
        tag: reference.tag().map(|tag| tag.as_str().to_owned()),
        digest: reference.digest().cloned(),
    }
}

/// The reference that a name in the database was made from. `None` if somebody else has written it.
pub(crate) fn reference(name: &ImageName) -> Option<Reference> {
    let registry: Registry = name.registry.parse().ok()?;
    let repository = Repository::new(registry, &name.repository).ok()?;
    let tag = match &name.tag {
        Some(tag) => Some(tag.parse().ok()?),
        None => None,
    };
    match (tag, name.digest.clone()) {
        (Some(tag), None) => Some(Reference::tagged(repository, tag)),
        (None, Some(digest)) => Some(Reference::digested(repository, digest)),
        (Some(tag), Some(digest)) => Some(Reference::tagged(repository, tag).with_digest(digest)),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_survives_the_database() {
        let digest = Digest::sha256("x");
        for text in ["alpine", "localhost:5000/a/b:c", "[::1]:5000/a", "ghcr.io/o/i:v1"] {
            for text in [text.to_owned(), format!("{text}@{digest}")] {
                let before: Reference = text.parse().unwrap();
                assert_eq!(reference(&name(&before)), Some(before));
            }
        }
    }
}
