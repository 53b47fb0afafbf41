//! The last step of a pull: the documents, the image's rows, `index.json`.

use std::collections::BTreeSet;
use std::time::Duration;

use unlade_metadata::{BlobRecord, ConfigRecord, ImageLayer, IndexRecord, Lease, LeaseTarget, ManifestRecord};
use unlade_oci::{Digest, Document, ImageConfig, Index, Manifest, Platform};
use unlade_reference::Reference;

use crate::image;
use crate::{Error, Image, Lookup, Stack, Store};

/// How long a lease protects its content from processes that cannot see whether its holder lives.
pub(crate) const LEASE: Duration = Duration::from_hours(24);

/// What is to be kept from being removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needed {
    /// Blobs, by digest: documents and layers.
    pub blobs: BTreeSet<Digest>,
    /// Layers, by diff ID.
    pub diff_ids: BTreeSet<Digest>,
}

/// An image whose layers are all in the store, to be recorded.
#[derive(Clone, Copy, Debug)]
pub struct ImageCommit<'a> {
    /// The name to record it under.
    pub reference: &'a Reference,
    /// The platform that was asked for.
    pub platform: &'a Platform,
    /// The indexes between the name and the manifest, the outermost first.
    pub indexes: &'a [Document<Index>],
    /// The manifest.
    pub manifest: &'a Document<Manifest>,
    /// The configuration.
    pub config: &'a Document<ImageConfig>,
}

impl Store {
    /// Protects `needed`, whether it is there yet or not, until the lease is dropped. Waits for a removal to end.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn lease(&self, needed: &Needed) -> Result<Lease, Error> {
        let blobs = needed.blobs.iter().cloned().map(LeaseTarget::Blob);
        let layers = needed.diff_ids.iter().cloned().map(LeaseTarget::Layer);
        let targets: Vec<_> = blobs.chain(layers).collect();
        let _no_removal = self.no_removal()?;
        Ok(self.database.lease(&targets, LEASE)?)
    }

    /// Records an image. From here on it can be found, and not before.
    ///
    /// `stack` says which directories its layers need; `None` if its layers are not extracted.
    ///
    /// # Errors
    /// A layer is not there, or the store cannot be written; then nothing is recorded.
    pub fn commit(&self, commit: &ImageCommit<'_>, stack: Option<&Stack>) -> Result<Image, Error> {
        let config = &commit.manifest.get().config;
        let mut documents = Vec::new();
        for index in commit.indexes {
            documents.push(self.put_document(index)?);
        }
        documents.push(self.put_document(commit.config)?);
        documents.push(self.put_document(commit.manifest)?);
        self.database.record_blobs(&documents)?;
        let layers = commit.manifest.get().layers.iter().zip(&commit.config.get().diff_ids);
        // Who removes the very name that is recorded here comes before, or after all of it.
        let _no_removal = self.no_removal()?;
        let config = ConfigRecord::parse(&config.digest, &config.media_type, commit.config.bytes())?;
        let index = self.change_index()?;
        self.database.commit_image(&unlade_metadata::ImageCommit {
            name: image::name(commit.reference),
            platform: commit.platform.clone(),
            indexes: commit.indexes.iter().map(IndexRecord::from).collect(),
            manifest: ManifestRecord::from(commit.manifest),
            config,
            layers: layers
                .enumerate()
                .map(|(at, (blob, diff_id))| ImageLayer {
                    blob: blob.digest.clone(),
                    diff_id: diff_id.clone(),
                    media_type: blob.media_type.clone(),
                    size: blob.size,
                    chain_id: stack.and_then(|stack| stack.chain_ids.get(at)?.clone()),
                    is_stacked: stack.is_some(),
                })
                .collect(),
        })?;
        index.write()?;
        match self.look_up(commit.reference, commit.platform, stack.is_some())? {
            Lookup::Complete(image) => Ok(*image),
            Lookup::Incomplete { .. } | Lookup::Absent => Err(Error::Vanished {
                name: commit.reference.to_string(),
            }),
        }
    }

    pub(crate) fn keep_document<T>(&self, document: &Document<T>) -> Result<(), Error> {
        Ok(self.database.record_blob(&self.put_document(document)?)?)
    }

    /// Publishes a document and returns the row to record for it.
    fn put_document<T>(&self, document: &Document<T>) -> Result<BlobRecord, Error> {
        self.blobs.put(document.digest(), document.bytes())?;
        Ok(BlobRecord {
            digest: document.digest().clone(),
            media_type: document.media_type().clone(),
            size: document.size(),
            durability: self.written(),
        })
    }
}
