//! Removing images, and the files that only they needed.

use std::path::PathBuf;

use unlade_metadata::{ImageKey, ImageName, LayerDirectoryRecord, LayerPlace, Removed};
use unlade_oci::{Digest, Platform};
use unlade_reference::Reference;
use unlade_sys::DiskUsage;

use crate::image;
use crate::layers::LayerRoot;
use crate::store::LAYER_LOCK;
use crate::{Error, Store};

/// What a removal has removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removal {
    /// The names that are gone, each with its platform.
    pub names: Vec<(Reference, Platform)>,
    /// The artifacts that are gone.
    pub artifacts: Vec<Reference>,
    /// The blobs that are gone, with their sizes in bytes.
    pub blobs: Vec<(Digest, u64)>,
    /// The layer directories that are gone.
    pub directories: Vec<PathBuf>,
    /// The room that all this took, in bytes of disk.
    pub bytes: u64,
}

impl Store {
    /// Removes an image or an artifact by its name, an image on one platform or on all, with everything that nothing else needs.
    ///
    /// The name goes first: whatever happens then, no image is left in part. Content that a running pull has leased stays, and so do layers that are mounted.
    /// Other names that lead to the same content keep it.
    ///
    /// # Errors
    /// There is no such image, or the store cannot be written.
    pub fn remove(&self, reference: &Reference, platform: Option<&Platform>) -> Result<Removal, Error> {
        let key = ImageKey {
            name: image::name(reference),
            platform: platform.map(Platform::normalized),
        };
        let mut retired = Vec::new();
        let removal = {
            let _alone = self.lock_removal()?;
            let _mounted = self.lease_mounted()?;
            let index = self.change_index()?;
            let removed = self.database.remove_image(&key)?;
            // Also where nothing was removed: a process before may have ended before it came to it.
            index.write()?;
            let Some(removed) = removed else {
                return Err(self.no_image(reference));
            };
            self.remove_files(removed, &mut retired)?
        };
        // The trees are out of the way already; deleting them may take a while and holds nobody up.
        drop(retired);
        self.sweep()?;
        self.empty_log();
        Ok(removal)
    }

    /// Removes the files of what the database does not know any more. Nobody takes a lease meanwhile, so nobody is about to
    /// rely on them; who is at work on one of them holds its lock, and then it stays.
    fn remove_files(&self, removed: Removed, retired: &mut Vec<crate::StagedLayer>) -> Result<Removal, Error> {
        let names = removed
            .names
            .iter()
            .filter_map(|(name, platform): &(ImageName, _)| Some((image::reference(name)?, platform.clone())));
        let mut removal = Removal {
            names: names.collect(),
            artifacts: removed.artifacts.iter().filter_map(image::reference).collect(),
            ..Removal::default()
        };
        let mut trees = DiskUsage::new();
        for record in removed.directories {
            let root = self.root_of(&record)?;
            let _order = unlade_sys::enter(LAYER_LOCK);
            let Some(_lock) = root.try_lock_directory(&record)? else {
                continue;
            };
            if let Some(stage) = root.retire(&record.path())? {
                trees.add(&stage.retired())?;
                removal.directories.push(record.path());
                retired.push(stage);
            }
        }
        for digest in removed.blobs {
            let bytes = DiskUsage::new().add(&self.blobs.path(&digest))?;
            if let Some(size) = self.blobs.remove(&digest)? {
                removal.bytes += bytes;
                removal.blobs.push((digest, size));
            }
        }
        removal.bytes += trees.bytes();
        Ok(removal)
    }

    /// A layer directory may be where an earlier command was told to put it.
    pub(crate) fn root_of(&self, record: &LayerDirectoryRecord) -> Result<LayerRoot, Error> {
        let LayerPlace { root, .. } = &record.place;
        if root == self.layers.path() {
            Ok(self.layers.clone())
        } else if *root == self.root.join("layers") {
            LayerRoot::of_store(&self.root)
        } else {
            LayerRoot::outside(root)
        }
    }
}
