//! One layer on its way into the store: who works on it, from where its bytes come, and the one door to commit it.

use std::fs::File;

use unlade_blobs::{Begin, Ingest};
use unlade_extract::LayerReport;
use unlade_metadata::{BlobRecord, LayerBlobRecord, LayerCommit, LayerDirectoryRecord, LayerRecord};
use unlade_oci::{Descriptor, Digest};
use unlade_sys::FileLock;

use crate::layers::{LayerRoot, StagedLayer};
use crate::{Error, Store};

/// What is to be done for a layer.
#[derive(Debug)]
pub enum Claim {
    /// Nothing: it is all there.
    Present,
    /// Somebody else is at it. Try again in a moment, holding nothing meanwhile.
    Busy,
    /// The work is the caller's, and the bytes come from the source.
    Work(LayerWork, Source),
}

/// Where a layer's bytes come from.
#[derive(Debug)]
pub enum Source {
    /// The blob is in the store.
    Local(File),
    /// The blob has to be fetched into this ingest.
    Remote(Ingest),
}

/// The right, and the duty, to bring one layer in. Dropping it without [`commit`](Self::commit) changes nothing.
#[derive(Debug)]
pub struct LayerWork {
    store: Store,
    blob: Descriptor,
    diff_id: Digest,
    /// Whether a layer directory has to be made. If not, its content is only checked.
    write: bool,
    _lock: FileLock,
}

/// Begins stages for one [`LayerWork`], on whatever thread.
#[derive(Clone, Debug)]
pub struct Stager(LayerRoot);

impl Stager {
    /// Makes an empty directory to extract into.
    ///
    /// # Errors
    /// The filesystem does not let us.
    pub fn stage(&self) -> Result<StagedLayer, Error> {
        self.0.stage()
    }
}

impl Store {
    /// Claims a layer. With `extract` its directory is wanted, else only its blob, checked.
    ///
    /// Takes the layer's lock, then the blob's, and waits for neither.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn claim(&self, blob: &Descriptor, diff_id: &Digest, extract: bool) -> Result<Claim, Error> {
        let Some(lock) = self.layers.try_lock(diff_id)? else {
            return Ok(Claim::Busy);
        };
        let write = extract && !self.has_layer_directory(diff_id)?;
        let begun = self.blobs.begin(&blob.digest, blob.size)?;
        let checked = self.is_checked(&blob.digest, diff_id)?;
        let source = match begun {
            Begin::Present if !write && checked => return Ok(Claim::Present),
            Begin::Present => Source::Local(self.blobs.open_blob(&blob.digest)?),
            Begin::Busy => return Ok(Claim::Busy),
            Begin::Owned(ingest) => Source::Remote(ingest),
        };
        let work = LayerWork {
            store: self.clone(),
            blob: blob.clone(),
            diff_id: diff_id.clone(),
            write,
            _lock: lock,
        };
        Ok(Claim::Work(work, source))
    }
}

impl LayerWork {
    /// Returns the diff ID that the layer's content must have.
    pub fn diff_id(&self) -> &Digest {
        &self.diff_id
    }

    /// Returns what begins a stage, or `None` if the layer's files are not wanted or are there already.
    pub fn stager(&self) -> Option<Stager> {
        self.write.then(|| Stager(self.store.layers.clone()))
    }

    /// Publishes the layer: blob, then directory, then row, so that at every moment what a row names is there.
    ///
    /// `report` is what reading the layer to its end has given. Nothing is published unless it matches the manifest and
    /// the configuration; then an ingest with wrong bytes is removed.
    ///
    /// # Errors
    /// A digest, size or diff ID does not match, or the store cannot be written.
    pub fn commit(
        self,
        ingest: Option<Ingest>,
        staged: Option<StagedLayer>,
        report: &LayerReport,
    ) -> Result<(), Error> {
        if report.blob.digest != self.blob.digest || report.blob.size != self.blob.size {
            if let Some(ingest) = ingest {
                ingest.discard()?;
            }
            return Err(Error::WrongBlob {
                expected: self.blob.digest.clone(),
                expected_size: self.blob.size,
                actual: report.blob.digest.clone(),
                actual_size: report.blob.size,
            });
        }
        if report.raw.digest != self.diff_id {
            // The blob is what the manifest says, and still not what the configuration says: fetching it again would not
            // change that, and a blob that no good image refers to is of no use.
            if let Some(ingest) = ingest {
                ingest.discard()?;
            }
            return Err(Error::WrongDiffId {
                blob: self.blob.digest.clone(),
                expected: self.diff_id.clone(),
                actual: report.raw.digest.clone(),
            });
        }
        if let Some(ingest) = ingest {
            ingest.publish(&report.blob.digest, report.blob.size)?;
        }
        let mut is_empty = report.is_empty;
        let mut directory = None;
        if let Some(staged) = staged {
            is_empty = staged.is_empty()?;
            staged.publish(&self.store.layers.directory(&self.diff_id))?;
            directory = Some(LayerDirectoryRecord {
                diff_id: self.diff_id.clone(),
                chain_id: None,
                place: self.store.place(),
                name: LayerRoot::name(&self.diff_id),
                entries: report.entries,
                durability: self.store.written(),
            });
        }
        self.record(report, directory, is_empty)
    }

    fn record(
        &self,
        report: &LayerReport,
        directory: Option<LayerDirectoryRecord>,
        is_empty: bool,
    ) -> Result<(), Error> {
        let durability = self.store.written();
        self.store.database.record_layer(&LayerCommit {
            layer: LayerRecord {
                diff_id: self.diff_id.clone(),
                raw_size: report.raw.size,
                entries: report.entries,
                is_empty,
                summary: serde_json::to_value(&report.summary).unwrap_or_default(),
            },
            source: LayerBlobRecord {
                blob: self.blob.digest.clone(),
                diff_id: self.diff_id.clone(),
                compression: report.compression,
                media_type: self.blob.media_type.clone(),
                size: self.blob.size,
            },
            blob: Some(BlobRecord {
                digest: self.blob.digest.clone(),
                media_type: self.blob.media_type.clone(),
                size: self.blob.size,
                durability,
            }),
            directory,
        })?;
        Ok(())
    }
}
