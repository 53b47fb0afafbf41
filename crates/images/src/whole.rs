//! Names that are kept with all their platforms: the index as it came, each image of it, and what of it is no image.

use std::collections::BTreeSet;

use unlade_metadata::{IndexRecord, NameRecord};
use unlade_oci::{Descriptor, Digest, Document, Index, Manifest};
use unlade_reference::Reference;

use crate::{Error, Image, Lookup, Store, image};

/// What the store has of all the platforms of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WholeLookup {
    /// All of it.
    Complete(Vec<Image>),
    /// The name is known, but something is missing.
    Incomplete {
        /// The digest that the name stood for when it was recorded last: an index's or a manifest's.
        target: Digest,
    },
    /// Nothing under that name.
    Absent,
}

impl WholeLookup {
    /// Returns the digest that the name is known to stand for.
    pub fn target(&self) -> Option<&Digest> {
        match self {
            Self::Complete(images) => images.first().map(Image::digest),
            Self::Incomplete { target } => Some(target),
            Self::Absent => None,
        }
    }
}

impl Store {
    /// Looks for all that a name stands for: every image of its index and what of it is no image, or the one image where there
    /// is no index. As [`look_up`](Self::look_up) for each image.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn look_up_whole(&self, reference: &Reference, extracted: bool) -> Result<WholeLookup, Error> {
        let name = image::name(reference);
        let names: Vec<NameRecord> = self
            .database
            .names()?
            .into_iter()
            .filter(|record| record.name == name)
            .collect();
        let Some(record) = names.iter().find(|record| record.is_whole).or_else(|| names.first()) else {
            return Ok(WholeLookup::Absent);
        };
        let target = match &record.index {
            Some(index) => index.digest.clone(),
            None => record.manifest.digest.clone(),
        };
        let incomplete = WholeLookup::Incomplete { target };
        if let Some(index) = &record.index
            && !(record.is_whole && self.has_all_of_index(&index.digest, &names)?)
        {
            return Ok(incomplete);
        }
        let mut images = Vec::new();
        for sibling in names.iter().filter(|other| other.index == record.index) {
            match self.look_up(reference, &sibling.platform, extracted)? {
                Lookup::Complete(image) => images.push(*image),
                Lookup::Incomplete { .. } | Lookup::Absent => return Ok(incomplete),
            }
        }
        Ok(WholeLookup::Complete(images))
    }

    /// Returns the index that a name stands for, if all of it is in the store.
    pub(crate) fn whole_index(&self, reference: &Reference) -> Result<Option<Descriptor>, Error> {
        let name = image::name(reference);
        let names = self.database.names()?;
        let whole = names.into_iter().find(|record| record.name == name && record.is_whole);
        Ok(whole
            .and_then(|record| record.index)
            .map(|index| Descriptor::new(index.media_type, index.digest, index.size)))
    }

    /// Tells whether every image of the index has this name, and all else that the index needs is there.
    fn has_all_of_index(&self, index: &Digest, names: &[NameRecord]) -> Result<bool, Error> {
        let named: BTreeSet<&Digest> = names.iter().map(|record| &record.manifest.digest).collect();
        let images = self.database.images_of_index(index)?;
        if !images.iter().all(|manifest| named.contains(manifest)) {
            return Ok(false);
        }
        for digest in self.database.index_blobs(index)? {
            let Some(record) = self.database.blob(&digest)? else {
                return Ok(false);
            };
            if !self.trusts(&record.durability) || self.blobs.size(&digest)? != Some(record.size) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Records that an index is kept whole. Its images are recorded already, and the blobs of `others`, the manifests that are no
    /// images, are in the store. The first of `indexes` is the one that the name stands for.
    ///
    /// From here on `index.json` leads to the index itself.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn commit_whole(&self, indexes: &[Document<Index>], others: &[Document<Manifest>]) -> Result<(), Error> {
        let mut blobs = BTreeSet::new();
        for manifest in others {
            self.keep_document(manifest)?;
            blobs.insert(manifest.digest().clone());
            blobs.extend(parts(manifest.get()).map(|part| part.digest.clone()));
        }
        for index in indexes {
            self.keep_document(index)?;
        }
        let records: Vec<IndexRecord> = indexes.iter().map(IndexRecord::from).collect();
        let index = self.change_index()?;
        self.database.record_whole_index(&records, &blobs)?;
        index.write()
    }
}

/// Returns what a manifest lists.
fn parts(manifest: &Manifest) -> impl Iterator<Item = &Descriptor> {
    std::iter::once(&manifest.config).chain(&manifest.layers)
}
