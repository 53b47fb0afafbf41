//! One layer on its way into the store: who works on it, from where its bytes come, and the one door to commit it.

use std::fs::File;

use unlade_blobs::{Begin, Ingest};
use unlade_extract::LayerReport;
use unlade_metadata::{BlobRecord, LayerBlobRecord, LayerCommit, LayerDirectoryRecord, LayerRecord};
use unlade_oci::{Descriptor, Digest};
use unlade_sys::{Durability, Part, Stage, Track};

use crate::layers::{LayerLock, LayerRoot, StagedLayer};
use crate::record::UnderWay;
use crate::store::LAYER_LOCK;
use crate::{Error, Store};

/// What is measured of a commit: the checks, the renames, the rows.
pub const COMMIT: Stage = Stage::new(50, "commit");

/// What is measured of the waiting for a disk.
pub const FLUSH: Stage = Stage::new(51, "flush");

/// What is to be done for a layer.
#[derive(Debug)]
pub enum Claim {
    /// Nothing: it is all there.
    Present,
    /// Somebody else is at it. Try again in a moment, holding nothing meanwhile.
    Busy,
    /// The work is the caller's, and the bytes come from the source.
    Work(Box<LayerWork>, Source),
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
    /// Whether a blob that was fetched is published.
    keep_blob: bool,
    /// Where the times of the commit go.
    part: Option<Part>,
    _lock: LayerLock,
    _under_way: UnderWay,
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
    /// Claims a layer. With `extract` its directory is wanted, else only its blob, checked. A layer that has its directory
    /// can do without its blob, once that was read and found to hold it.
    ///
    /// Takes the layer's lock, then the blob's, and waits for neither.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn claim(&self, blob: &Descriptor, diff_id: &Digest, extract: bool) -> Result<Claim, Error> {
        let _order = unlade_sys::enter(LAYER_LOCK);
        let Some(lock) = self.layers.try_lock(diff_id)? else {
            return Ok(Claim::Busy);
        };
        let known = self.known(&blob.digest, diff_id)?;
        let write = extract && !self.has_directory(&known);
        if extract && !write && known.is_linked {
            return Ok(Claim::Present);
        }
        let source = match self.blobs.begin(&blob.digest, blob.size)? {
            // Whoever held the layer's lock before has recorded what it checked before it let go.
            Begin::Present if !extract && self.is_checked(&known) => return Ok(Claim::Present),
            Begin::Present => Source::Local(self.blobs.open_blob(&blob.digest)?),
            Begin::Busy => return Ok(Claim::Busy),
            Begin::Owned(ingest) => Source::Remote(ingest),
        };
        let work = LayerWork {
            store: self.clone(),
            blob: blob.clone(),
            diff_id: diff_id.clone(),
            write,
            keep_blob: true,
            part: None,
            _lock: lock,
            _under_way: self.recorder.begin(),
        };
        Ok(Claim::Work(Box::new(work), source))
    }
}

impl LayerWork {
    /// Returns the diff ID that the layer's content must have.
    pub fn diff_id(&self) -> &Digest {
        &self.diff_id
    }

    /// Lets the store keep no blob that is fetched for this work: only the directory stays, and what the blob held.
    pub fn discard_blob(&mut self) {
        self.keep_blob = false;
    }

    /// Measures the commit, in `part`: as [`COMMIT`], and as [`FLUSH`] where it waits for the disk.
    pub fn measure(&mut self, part: Option<Part>) {
        self.part = part;
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
        let mut track = Track::of(self.part.as_ref(), "layer");
        track.busy(COMMIT);
        if let Err(error) = check_content(&self.blob, &self.diff_id, report) {
            // Where only the diff ID is wrong the bytes are those of the manifest: to fetch them again would change nothing.
            if let Some(ingest) = ingest {
                ingest.discard()?;
            }
            return Err(error);
        }
        let _order = unlade_sys::enter(LAYER_LOCK);
        let has_blob = self.keep_blob || ingest.is_none();
        let arrived = match ingest {
            Some(mut ingest) if self.keep_blob => {
                if self.store.durability == Durability::Sync {
                    track.busy(FLUSH);
                    ingest.flush()?;
                    track.busy(COMMIT);
                }
                ingest.publish(&report.blob.digest, report.blob.size)?;
                None
            }
            // It goes when its layer is there: until then it is what a later pull continues with.
            arrived => arrived,
        };
        let mut is_empty = report.is_empty;
        let mut directory = None;
        if let Some(mut staged) = staged {
            is_empty = staged.is_empty()?;
            let place = self.store.place();
            let target = self.store.layers.directory(&self.diff_id, &place);
            if self.store.durability == Durability::Sync {
                track.busy(FLUSH);
                staged.flush(self.store.durability)?;
                track.busy(COMMIT);
            }
            staged.publish(&target, self.store.durability)?;
            directory = Some(LayerDirectoryRecord {
                diff_id: self.diff_id.clone(),
                chain_id: None,
                name: self.store.layers.name(&self.diff_id, &place),
                place,
                entries: report.entries,
                durability: self.store.written(),
            });
        }
        self.record(report, directory, is_empty, has_blob)?;
        if let Some(ingest) = arrived {
            ingest.discard()?;
        }
        Ok(())
    }

    /// Gives up on a layer whose content cannot be read. Removes its ingest, of which every byte must have arrived.
    ///
    /// # Errors
    /// The blob is not the one that the manifest names, which explains why it cannot be read; or the files cannot be read
    /// or removed.
    pub fn reject(self, ingest: Option<Ingest>) -> Result<(), Error> {
        let algorithm = self.blob.digest.algorithm();
        let content = match &ingest {
            Some(ingest) => unlade_blobs::hash(ingest.follower()?, algorithm),
            None => unlade_blobs::hash(self.store.blobs.open_blob(&self.blob.digest)?, algorithm),
        };
        let path = self.store.blobs.path(&self.blob.digest);
        let (actual, actual_size) = content.map_err(|source| unlade_sys::Error::new("read", path, source))?;
        if let Some(ingest) = ingest {
            ingest.discard()?;
        }
        check_blob(&self.blob, &actual, actual_size)
    }

    fn record(
        &self,
        report: &LayerReport,
        directory: Option<LayerDirectoryRecord>,
        is_empty: bool,
        has_blob: bool,
    ) -> Result<(), Error> {
        let durability = self.store.written();
        let commit = LayerCommit {
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
            blob: has_blob.then(|| BlobRecord {
                digest: self.blob.digest.clone(),
                media_type: self.blob.media_type.clone(),
                size: self.blob.size,
                durability,
            }),
            directory,
        };
        Ok(self.store.recorder.record(&self.store.database, commit)?)
    }
}

/// Checks that what was read is the blob that a manifest names, and holds the layer that the configuration names.
pub(crate) fn check_content(blob: &Descriptor, diff_id: &Digest, report: &LayerReport) -> Result<(), Error> {
    check_blob(blob, &report.blob.digest, report.blob.size)?;
    if report.raw.digest == *diff_id {
        return Ok(());
    }
    Err(Error::WrongDiffId {
        blob: blob.digest.clone(),
        expected: diff_id.clone(),
        actual: report.raw.digest.clone(),
    })
}

fn check_blob(blob: &Descriptor, actual: &Digest, actual_size: u64) -> Result<(), Error> {
    if *actual == blob.digest && actual_size == blob.size {
        return Ok(());
    }
    Err(Error::WrongBlob {
        expected: blob.digest.clone(),
        expected_size: blob.size,
        actual: actual.clone(),
        actual_size,
    })
}
