//! Artifacts: content of registries that is no image, kept as the blobs that it is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use unlade_blobs::Ingest;
use unlade_metadata::{ArtifactRecord, BlobRecord, Target};
use unlade_oci::{Descriptor, Digest, Document, Manifest, MediaType};
use unlade_reference::Reference;

use crate::image;
use crate::{Error, Store};

/// An artifact that is in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Artifact {
    /// The name that it is recorded under.
    pub reference: Reference,
    /// The manifest.
    pub manifest: Digest,
    /// The manifest's media type.
    pub media_type: MediaType,
    /// What it is: `artifactType` of the manifest, or else the media type of its configuration.
    pub artifact_type: String,
    /// The manifest's annotations.
    pub annotations: BTreeMap<String, String>,
    /// The configuration; of many artifacts it is empty, `{}`.
    pub config: Descriptor,
    /// The blobs, in the manifest's order.
    pub blobs: Vec<Descriptor>,
    /// When the name last led here.
    pub pulled_at: SystemTime,
}

impl Artifact {
    /// Returns the size of the configuration and the blobs together, in bytes.
    pub fn size(&self) -> u64 {
        let sizes = self.all().map(|blob| blob.size);
        sizes.fold(0, u64::saturating_add)
    }

    /// Returns the configuration and the blobs.
    pub fn all(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.config).chain(&self.blobs)
    }

    /// Returns the digests of all that it is made of: the manifest, the configuration and the blobs.
    pub(crate) fn digests(&self) -> impl Iterator<Item = &Digest> {
        std::iter::once(&self.manifest).chain(self.all().map(|part| &part.digest))
    }

    /// Tells whether it is made of this blob, or has it for a manifest.
    pub(crate) fn needs(&self, blob: &Digest) -> bool {
        self.digests().any(|digest| digest == blob)
    }

    fn from_record(record: ArtifactRecord) -> Option<Self> {
        Some(Self {
            reference: image::reference(&record.name)?,
            manifest: record.manifest.digest,
            media_type: record.manifest.media_type,
            artifact_type: record.artifact_type,
            annotations: record.annotations,
            config: record.config,
            blobs: record.blobs,
            pulled_at: record.pulled_at,
        })
    }
}

/// Returns what a manifest says that it is.
pub fn artifact_type(manifest: &Manifest) -> String {
    let stated = manifest.artifact_type.clone().filter(|stated| !stated.is_empty());
    stated.unwrap_or_else(|| manifest.config.media_type.to_string())
}

impl Store {
    /// Lists the artifacts, by name.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn artifacts(&self) -> Result<Vec<Artifact>, Error> {
        let records = self.database.artifacts()?;
        Ok(records.into_iter().filter_map(Artifact::from_record).collect())
    }

    /// Finds an artifact by its name, or by a digest in its repository.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn artifact(&self, reference: &Reference) -> Result<Option<Artifact>, Error> {
        let record = self.database.find_artifact(&image::name(reference))?;
        Ok(record.and_then(Artifact::from_record))
    }

    /// Tells whether every blob of the artifact is in the store, as far as its files tell.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn has_all_of(&self, artifact: &Artifact) -> Result<bool, Error> {
        for blob in artifact.all() {
            if !self.has_blob(blob)? {
                return Ok(false);
            }
        }
        self.blobs.contains(&artifact.manifest).map_err(Error::from)
    }

    /// Tells whether a blob is in the store, of the size that its descriptor says, and not doubtful after a power loss.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn has_blob(&self, blob: &Descriptor) -> Result<bool, Error> {
        let recorded = self.database.blob(&blob.digest)?;
        let trusted = recorded.is_some_and(|record| self.trusts(&record.durability));
        Ok(trusted && self.blobs.size(&blob.digest)? == Some(blob.size))
    }

    /// Tells whether some artifact is made of this blob, or has it for a manifest.
    pub(crate) fn is_of_artifact(&self, blob: &Digest) -> Result<bool, Error> {
        Ok(self.artifacts()?.iter().any(|artifact| artifact.needs(blob)))
    }

    /// Returns where the file of a blob is, or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs.path(digest)
    }

    /// Checks a blob that has arrived, all of it, and publishes it.
    ///
    /// # Errors
    /// The digest or size is not the descriptor's; then the bytes are removed. The store cannot be written.
    pub fn keep_blob(&self, blob: &Descriptor, ingest: Ingest) -> Result<(), Error> {
        let path = self.blobs.ingest_path(&blob.digest);
        let (actual, actual_size) = unlade_blobs::hash(ingest.follower()?, blob.digest.algorithm())
            .map_err(|source| unlade_sys::Error::new("read", path, source))?;
        if actual != blob.digest || actual_size != blob.size {
            ingest.discard()?;
            return Err(Error::WrongBlob {
                expected: blob.digest.clone(),
                expected_size: blob.size,
                actual,
                actual_size,
            });
        }
        ingest.publish(&actual, actual_size)?;
        self.record_blob(blob)
    }

    /// Takes in a blob whose file is there without being known. One with wrong bytes is removed; returns whether it was kept.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn adopt_blob(&self, blob: &Descriptor) -> Result<bool, Error> {
        match self.blobs.verify(&blob.digest) {
            Ok(()) if self.blobs.size(&blob.digest)? == Some(blob.size) => self.record_blob(blob).map(|()| true),
            Ok(()) | Err(unlade_blobs::Error::Damaged { .. } | unlade_blobs::Error::NotFound { .. }) => {
                self.discard_blob(&blob.digest).map(|()| false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Says why there is no image of that name.
    pub(crate) fn no_image(&self, reference: &Reference) -> Error {
        let name = reference.to_string();
        match self.artifact(reference) {
            Ok(Some(artifact)) => Error::NotAnImage {
                name,
                artifact_type: artifact.artifact_type,
            },
            _ => Error::NoImage { name },
        }
    }

    /// Puts a blob into the store whose bytes are known, as those of the empty configuration are.
    ///
    /// # Errors
    /// The bytes are not those of the digest, or the store cannot be written.
    pub fn put_blob(&self, blob: &Descriptor, bytes: &[u8]) -> Result<(), Error> {
        self.blobs.put(&blob.digest, bytes)?;
        self.record_blob(blob)
    }

    fn record_blob(&self, blob: &Descriptor) -> Result<(), Error> {
        self.database.record_blob(&BlobRecord {
            digest: blob.digest.clone(),
            media_type: blob.media_type.clone(),
            size: blob.size,
            durability: self.written(),
        })?;
        Ok(())
    }

    /// Records an artifact whose blobs are all in the store. From here on it can be found, and not before.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn commit_artifact(&self, reference: &Reference, manifest: &Document<Manifest>) -> Result<Artifact, Error> {
        let descriptor = manifest.descriptor();
        self.put_blob(&descriptor, manifest.bytes())?;
        let record = ArtifactRecord {
            name: image::name(reference),
            manifest: Target {
                digest: descriptor.digest,
                media_type: descriptor.media_type,
                size: descriptor.size,
            },
            artifact_type: artifact_type(manifest.get()),
            annotations: manifest.get().annotations.clone(),
            config: manifest.get().config.clone(),
            blobs: manifest.get().layers.clone(),
            pulled_at: SystemTime::now(),
        };
        let index = self.change_index()?;
        self.database.commit_artifact(&record)?;
        index.write()?;
        Artifact::from_record(record).ok_or_else(|| Error::Vanished {
            name: reference.to_string(),
        })
    }
}
