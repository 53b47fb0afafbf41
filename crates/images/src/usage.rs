//! How much room images take, and what of it each has for itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use unlade_metadata::ImageContent;
use unlade_oci::{Digest, Platform};
use unlade_reference::Reference;
use unlade_sys::DiskUsage;

use crate::image;
use crate::{Error, Store};

/// The room that a store takes, in bytes of disk.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// The images, by name and platform.
    pub images: Vec<ImageUsage>,
    /// Blobs that images need.
    pub blobs: u64,
    /// Layer directories that images need, wherever they are.
    pub directories: u64,
    /// Blobs that are arriving, or whose download was cut off.
    pub partial: u64,
    /// Everything else: artifacts, the database, what no image needs any more, what is being made.
    pub other: u64,
    /// All of it.
    pub total: u64,
}

/// The room that one image takes, in bytes of disk.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageUsage {
    /// The name.
    pub reference: Reference,
    /// The platform that was asked for.
    pub platform: Platform,
    /// When it was last used.
    pub last_used_at: SystemTime,
    /// What no other image needs: what its removal gives back.
    pub own: u64,
    /// What other images need as well.
    pub shared: u64,
}

/// Something that images consist of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// A blob.
    Blob(Digest),
    /// A layer directory.
    Directory(PathBuf),
}

/// What each image consists of, how large it is, and how many images need it.
#[derive(Debug)]
pub(crate) struct Parts {
    of_images: Vec<BTreeSet<Part>>,
    sizes: BTreeMap<Part, u64>,
    uses: BTreeMap<Part, usize>,
}

impl Parts {
    pub(crate) fn of(store: &Store, contents: &[ImageContent]) -> Result<Self, Error> {
        let mut parts = Self {
            of_images: Vec::with_capacity(contents.len()),
            sizes: BTreeMap::new(),
            uses: BTreeMap::new(),
        };
        for image in contents {
            let blobs = image.documents.iter().chain(image.layers.iter().map(|(blob, _)| blob));
            let directories = image.directories.iter().cloned().map(Part::Directory);
            let of_image: BTreeSet<Part> = blobs.cloned().map(Part::Blob).chain(directories).collect();
            for part in &of_image {
                *parts.uses.entry(part.clone()).or_default() += 1;
                if !parts.sizes.contains_key(part) {
                    let bytes = match part {
                        Part::Blob(digest) => DiskUsage::new().add(&store.blobs().path(digest))?,
                        Part::Directory(path) => DiskUsage::new().add(path)?,
                    };
                    parts.sizes.insert(part.clone(), bytes);
                }
            }
            parts.of_images.push(of_image);
        }
        Ok(parts)
    }

    /// Returns what all images together take.
    pub(crate) fn total(&self) -> u64 {
        self.sizes.values().sum()
    }

    fn size(&self, part: &Part) -> u64 {
        self.sizes.get(part).copied().unwrap_or_default()
    }

    /// Takes the image at `at` away; returns what that gives back.
    pub(crate) fn take(&mut self, at: usize) -> u64 {
        let mut freed = 0;
        for part in std::mem::take(&mut self.of_images[at]) {
            if let Some(uses) = self.uses.get_mut(&part) {
                *uses -= 1;
                if *uses == 0 {
                    freed += self.sizes.remove(&part).unwrap_or_default();
                }
            }
        }
        freed
    }

    /// Returns what the image at `at` has for itself, and what it shares.
    fn own_and_shared(&self, at: usize) -> (u64, u64) {
        let (mut own, mut shared) = (0, 0);
        for part in &self.of_images[at] {
            let sum = if self.uses.get(part) == Some(&1) {
                &mut own
            } else {
                &mut shared
            };
            *sum += self.size(part);
        }
        (own, shared)
    }
}

impl Store {
    /// Adds up what is on the disk. Looks at every file once.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn usage(&self) -> Result<Usage, Error> {
        let contents = self.database.contents()?;
        let parts = Parts::of(self, &contents)?;
        let mut usage = Usage {
            images: Vec::with_capacity(contents.len()),
            blobs: 0,
            directories: 0,
            partial: 0,
            other: 0,
            total: 0,
        };
        for (at, image) in contents.into_iter().enumerate() {
            let (own, shared) = parts.own_and_shared(at);
            if let Some(reference) = image::reference(&image.name) {
                usage.images.push(ImageUsage {
                    reference,
                    platform: image.platform,
                    last_used_at: image.last_used_at,
                    own,
                    shared,
                });
            }
        }
        for (part, bytes) in &parts.sizes {
            match part {
                Part::Blob(_) => usage.blobs += bytes,
                Part::Directory(_) => usage.directories += bytes,
            }
        }
        for ingest in self.blobs.ingests()? {
            usage.partial += DiskUsage::new().add(&self.blobs.ingest_path(&ingest.digest))?;
        }
        usage.total = self.total(&parts)?;
        usage.other = usage
            .total
            .saturating_sub(usage.blobs + usage.directories + usage.partial);
        Ok(usage)
    }

    /// The store's own directory, and what of layers lies outside of it.
    fn total(&self, parts: &Parts) -> Result<u64, Error> {
        let mut usage = DiskUsage::new();
        usage.add(&self.root)?;
        let outside = |path: &Path| !path.starts_with(&self.root);
        for part in parts.sizes.keys() {
            if let Part::Directory(path) = part
                && outside(path)
            {
                usage.add(path)?;
            }
        }
        Ok(usage.bytes())
    }
}
