//! What is in the store, for people and programs to look at.

use std::time::SystemTime;

use unlade_extract::Summary;
use unlade_metadata::{ConfigRecord, ImageKey, ImageName};
use unlade_oci::{Digest, Platform};
use unlade_reference::Reference;

use crate::image::{self, Image};
use crate::{Error, Store};

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageSummary {
    /// The name.
    pub reference: Reference,
    /// The platform that was asked for.
    pub platform: Platform,
    /// The platform in the configuration.
    pub actual_platform: Platform,
    /// The index that the name led to, if it did.
    pub index: Option<Digest>,
    /// The manifest.
    pub manifest: Digest,
    /// The configuration; docker calls this the image ID.
    pub config: Digest,
    /// When the image was made, as its configuration says.
    pub created: Option<String>,
    /// When the name last led here.
    pub pulled_at: SystemTime,
    /// When the image was last used, as far as it was noted ([`Store::touch`]).
    pub last_used_at: SystemTime,
    /// How many layers it has.
    pub layers: u64,
    /// The size of its layers as blobs, in bytes.
    pub compressed_size: u64,
    /// The size of its layers uncompressed, in bytes.
    pub raw_size: u64,
}

/// Everything that is recorded of one image.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Inspection {
    /// The image and its layers, each with its directory if the store has one.
    pub image: Image,
    /// Every name that leads to the same manifest, this one included.
    pub names: Vec<Reference>,
    /// The configuration, field by field, and its bytes.
    pub config: ConfigRecord,
    /// The bytes of the manifest as they were received.
    pub manifest: Vec<u8>,
    /// The platform in the configuration.
    pub actual_platform: Platform,
    /// For each layer, what its extraction found, skipped or altered, see [`Store::summaries`].
    pub summaries: Vec<Summary>,
}

impl Store {
    /// Lists all images, by name and platform.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn images(&self) -> Result<Vec<ImageSummary>, Error> {
        let rows = self.database.images()?;
        let summary = |row: unlade_metadata::ImageSummary| {
            Some(ImageSummary {
                reference: image::reference(&row.name)?,
                platform: row.platform,
                actual_platform: row.actual_platform,
                index: row.index,
                manifest: row.manifest,
                config: row.config,
                created: row.created,
                pulled_at: row.pulled_at,
                last_used_at: row.last_used_at,
                layers: row.layers,
                compressed_size: row.compressed_size,
                raw_size: row.raw_size,
            })
        };
        Ok(rows.into_iter().filter_map(summary).collect())
    }

    /// Returns everything about an image: by its name, or by a digest in its repository. Without a platform, the one that
    /// was pulled last is meant.
    ///
    /// # Errors
    /// There is no such image, or the database cannot be read.
    pub fn inspect(&self, reference: &Reference, platform: Option<&Platform>) -> Result<Inspection, Error> {
        let key = ImageKey {
            name: image::name(reference),
            platform: platform.map(Platform::normalized),
        };
        let missing = || self.no_image(reference);
        let inspection = self.database.inspect(&key)?.ok_or_else(missing)?;
        let place = self.place();
        let mut image = Image::from_row(inspection.image).ok_or_else(missing)?;
        for layer in &mut image.layers {
            let here = |directory: &&unlade_metadata::LayerDirectoryRecord| {
                directory.diff_id == layer.diff_id
                    && directory.chain_id == layer.chain_id
                    && directory.place == place
                    && self.trusts(&directory.durability)
                    && directory.path().is_dir()
            };
            layer.directory = inspection
                .directories
                .iter()
                .find(here)
                .map(unlade_metadata::LayerDirectoryRecord::path);
        }
        Ok(Inspection {
            summaries: self.summaries(&image)?,
            image,
            names: inspection
                .names
                .iter()
                .filter_map(|name: &ImageName| image::reference(name))
                .collect(),
            actual_platform: inspection.config.platform(),
            config: inspection.config,
            manifest: inspection.manifest.raw,
        })
    }

    /// Returns for each layer of an image, the lowest first, what the extraction that made its directory here found, skipped
    /// or altered; where there is no directory, what was found when the layer was last extracted elsewhere, or read.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn summaries(&self, image: &Image) -> Result<Vec<Summary>, Error> {
        let summaries = self.database.layer_summaries(&image.manifest, &self.place())?;
        Ok(summaries.into_iter().map(summary).collect())
    }
}

/// Reads a summary as it is recorded. One that a newer version has written may hold what is not known here.
pub(crate) fn summary(recorded: serde_json::Value) -> Summary {
    serde_json::from_value(recorded).unwrap_or_default()
}
