//! The question with which every pull begins: is it all there?

use unlade_metadata::ImageKey;
use unlade_oci::{Digest, Platform};
use unlade_reference::Reference;

use crate::image::{self, Image};
use crate::store::is_in_place;
use crate::{Error, Store};

/// What the store has of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// All of it.
    Complete(Box<Image>),
    /// The name is known, but something that it needs is missing.
    Incomplete {
        /// The digest that the name stood for when it was recorded: an index's or a manifest's.
        target: Digest,
    },
    /// Nothing under that name, for that platform.
    Absent,
}

impl Lookup {
    /// Returns whether all is there.
    pub fn is_complete(&self) -> bool {
        matches!(self, Self::Complete(_))
    }

    /// Returns the image if it is complete.
    pub fn into_image(self) -> Option<Image> {
        match self {
            Self::Complete(image) => Some(*image),
            Self::Incomplete { .. } | Self::Absent => None,
        }
    }

    /// Returns the digest that the name is known to stand for.
    pub fn target(&self) -> Option<&Digest> {
        match self {
            Self::Complete(image) => Some(image.digest()),
            Self::Incomplete { target } => Some(target),
            Self::Absent => None,
        }
    }
}

impl Store {
    /// Looks an image up. With `extracted` it is complete if every layer has its directory, else if every blob is there.
    ///
    /// Complete means: recorded under that name and platform, with a layer list that is not empty, every layer recorded,
    /// and every layer directory in its place; an empty directory counts for an empty layer only. Of a layer that
    /// was extracted on top of those below it, the directory for that stack is what counts. What a power loss can
    /// have changed counts as missing. The database answers with one query, the filesystem with one listing a layer.
    /// Nothing is locked and nothing is written.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn look_up(&self, reference: &Reference, platform: &Platform, extracted: bool) -> Result<Lookup, Error> {
        let key = ImageKey {
            name: image::name(reference),
            platform: Some(platform.clone()),
        };
        let Some(mut row) = self.database.find_image(&key, Some(&self.place()))? else {
            return Ok(Lookup::Absent);
        };
        let target = row.index.clone().unwrap_or_else(|| row.manifest.clone());
        let mut complete = !row.layers.is_empty();
        for layer in &mut row.layers {
            layer.directory = layer
                .directory
                .take()
                .filter(|directory| self.trusts(&directory.durability));
            complete = complete
                && if extracted {
                    layer.layer.is_stacked
                        && layer.directory.as_ref().is_some_and(|directory| {
                            let may_be_empty = match layer.layer.chain_id {
                                Some(_) => directory.entries == 0,
                                None => layer.is_empty,
                            };
                            is_in_place(&directory.path, may_be_empty)
                        })
                } else {
                    layer.blob_file.as_ref().is_some_and(|file| self.trusts(file))
                        && self.blobs.size(&layer.layer.blob)? == Some(layer.layer.size)
                };
        }
        match Image::from_row(row).filter(|_| complete) {
            // A digest leads to an image that may be recorded under another name.
            Some(image) => Ok(Lookup::Complete(Box::new(Image {
                reference: reference.clone(),
                ..image
            }))),
            None => Ok(Lookup::Incomplete { target }),
        }
    }
}
