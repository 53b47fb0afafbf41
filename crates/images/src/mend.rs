//! What becomes of what was found damaged: it is taken out of use, and what can be made again without the network is.

use std::collections::BTreeMap;

use unlade_metadata::{BlobRecord, LayerBlobRecord, LayerPlace};
use unlade_oci::{Descriptor, Digest, MediaType};
use unlade_reference::{Reference, Repository};

use crate::layers::LayerRoot;
use crate::verify::{DamageKind, Verification};
use crate::{Error, Store};

/// A layer that has to be brought into the store again: its blob, its directory, or both.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LostLayer {
    /// The store, with the place where the layer's directory belongs.
    pub store: Store,
    /// The blob.
    pub blob: Descriptor,
    /// The layer.
    pub diff_id: Digest,
    /// A repository that has the blob.
    pub repository: Repository,
    /// Whether its directory is wanted, or the blob alone.
    pub extract: bool,
}

/// A layer directory that has to be made again on top of the layers below it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LostStack {
    /// The store, with the place where the directory belongs.
    pub store: Store,
    /// The layers up to that one, lowest first: the blob and the layer.
    pub layers: Vec<(Descriptor, Digest)>,
    /// A repository that has the blobs.
    pub repository: Repository,
}

/// Something that is kept as the blob that it is, and has to be fetched again: of an artifact, or of an index that is kept
/// whole.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LostBlob {
    /// The blob. Of a manifest the size is 0 where it is not known.
    pub blob: Descriptor,
    /// A name that needs it.
    pub reference: Reference,
    /// Whether registries have it as a manifest, and not as a blob.
    pub is_manifest: bool,
}

/// What has to be brought into the store again.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Lost {
    /// A layer.
    Layer(LostLayer),
    /// A layer directory that depends on those below it. What they need comes first.
    Stack(LostStack),
    /// Something else.
    Blob(LostBlob),
}

impl Lost {
    /// Returns a repository that has it.
    pub fn repository(&self) -> &Repository {
        match self {
            Self::Layer(layer) => &layer.repository,
            Self::Stack(stack) => &stack.repository,
            Self::Blob(blob) => blob.reference.repository(),
        }
    }
}

/// What has become of one damage.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Mending {
    /// It was made good, or is gone.
    Done,
    /// It is out of use, and is to be brought in again.
    BringIn(Box<Lost>),
    /// Nothing can be done about it here.
    Hopeless,
}

impl Store {
    /// Takes what is damaged out of use, so that nobody takes it for whole. Documents and `index.json` are made again from
    /// the database; for the rest, `BringIn` says what is to be brought in again: a layer through [`claim`](Self::claim), from
    /// the blob if that is whole, else from a registry; a directory on top of others through [`stack`](Self::stack).
    ///
    /// Returns what has become of each damage, in their order.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn set_aside(&self, verification: &Verification) -> Result<Vec<Mending>, Error> {
        let mut mendings = Vec::with_capacity(verification.damage.len());
        for damage in &verification.damage {
            let repository = damage.images.first().map(Reference::repository);
            mendings.push(match &damage.kind {
                DamageKind::Database { .. } => Mending::Hopeless,
                DamageKind::Index => {
                    self.write_index()?;
                    Mending::Done
                }
                DamageKind::Document { digest, .. } => self.mend_document(digest, damage.images.first())?,
                DamageKind::Blob { digest, .. } => {
                    self.blobs.remove(digest)?;
                    let sources = self.database.layers_of_blob(digest)?;
                    let known = self.database.blob(digest)?;
                    self.database.forget_blobs(std::slice::from_ref(digest))?;
                    // Nobody needs the blob if no image and no artifact has it.
                    match (sources.first(), repository) {
                        (Some(source), Some(repository)) => lost(self, source, repository, false),
                        _ => self.lost_of_artifact(digest, known.as_ref())?,
                    }
                }
                DamageKind::Directory { diff_id, row, .. } => {
                    let place = self
                        .database
                        .layer_directories()?
                        .into_iter()
                        .find(|(other, _)| other == row);
                    match (place, repository) {
                        (Some((_, record)), Some(repository)) => {
                            let root = self.root_of(&record)?;
                            self.database.forget_layer_directory(*row)?;
                            let store = self.at_place(root, &record.place);
                            match &record.chain_id {
                                Some(chain_id) => self.lost_stack(store, diff_id, chain_id, repository)?,
                                None => self.lost_directory(&store, diff_id, repository)?,
                            }
                        }
                        (Some(_), None) => {
                            self.database.forget_layer_directory(*row)?;
                            Mending::Done
                        }
                        (None, _) => Mending::Done,
                    }
                }
                DamageKind::Layer { diff_id } => match repository {
                    Some(repository) => self.lost_directory(self, diff_id, repository)?,
                    None => Mending::Done,
                },
            });
        }
        Ok(mendings)
    }

    /// Writes a document anew from its bytes in the database, if those are the right ones.
    fn mend_document(&self, digest: &Digest, needed_by: Option<&Reference>) -> Result<Mending, Error> {
        let Some(bytes) = self.database.document(digest)? else {
            if self.database.is_index_blob(digest)? {
                // What an index that is kept whole has beside its images. The index is not complete until it is back.
                let known = self.database.blob(digest)?;
                self.blobs.remove(digest)?;
                self.database.forget_blobs(std::slice::from_ref(digest))?;
                return Ok(match (known, needed_by) {
                    (Some(known), Some(reference)) => Mending::BringIn(Box::new(Lost::Blob(LostBlob {
                        is_manifest: known.media_type.is_manifest() || known.media_type.is_index(),
                        blob: descriptor(known.media_type, known.digest, known.size),
                        reference: reference.clone(),
                    }))),
                    _ => Mending::Hopeless,
                });
            }
            return Ok(Mending::Done);
        };
        if Digest::of(digest.algorithm(), &bytes) != *digest {
            return Ok(Mending::Hopeless);
        }
        let known = self.database.blob(digest)?;
        self.blobs.put(digest, &bytes)?;
        self.database.record_blob(&BlobRecord {
            digest: digest.clone(),
            media_type: known.map_or_else(|| MediaType::from("application/octet-stream"), |blob| blob.media_type),
            size: bytes.len() as u64,
            durability: self.written(),
        })?;
        Ok(Mending::Done)
    }

    fn lost_directory(&self, store: &Self, diff_id: &Digest, repository: &Repository) -> Result<Mending, Error> {
        let sources = self.database.blobs_of_layer(diff_id)?;
        // One that is there saves the network.
        let mut chosen = sources.first();
        for source in &sources {
            if self.database.blob(&source.blob)?.is_some() && self.blobs.contains(&source.blob)? {
                chosen = Some(source);
                break;
            }
        }
        Ok(chosen.map_or(Mending::Hopeless, |source| lost(store, source, repository, true)))
    }

    /// Says what is to be fetched again for an artifact that needs `digest`; nothing if there is none.
    fn lost_of_artifact(&self, digest: &Digest, known: Option<&BlobRecord>) -> Result<Mending, Error> {
        let artifacts = self.artifacts()?;
        let Some(artifact) = artifacts.iter().find(|artifact| artifact.needs(digest)) else {
            return Ok(Mending::Done);
        };
        let part = artifact.all().find(|part| part.digest == *digest);
        let manifest = || {
            let size = known.map_or(0, |known| known.size);
            descriptor(artifact.media_type.clone(), digest.clone(), size)
        };
        Ok(Mending::BringIn(Box::new(Lost::Blob(LostBlob {
            is_manifest: part.is_none(),
            blob: part.cloned().unwrap_or_else(manifest),
            reference: artifact.reference.clone(),
        }))))
    }

    /// Says what is needed to make the directory of a layer again on top of a stack.
    fn lost_stack(
        &self,
        store: Self,
        diff_id: &Digest,
        chain_id: &Digest,
        repository: &Repository,
    ) -> Result<Mending, Error> {
        let layers = self.database.stack(diff_id, chain_id)?;
        if layers.is_empty() {
            // No image has it any more.
            return Ok(Mending::Done);
        }
        let layers = layers.into_iter();
        let layers = layers.map(|layer| (descriptor(layer.media_type, layer.blob, layer.size), layer.diff_id));
        Ok(Mending::BringIn(Box::new(Lost::Stack(LostStack {
            store,
            layers: layers.collect(),
            repository: repository.clone(),
        }))))
    }

    /// Returns this store with another place for layer directories.
    fn at_place(&self, layers: LayerRoot, place: &LayerPlace) -> Self {
        Self {
            layers,
            form: place.form,
            ownership: place.ownership,
            ..self.clone()
        }
    }
}

fn lost(store: &Store, source: &LayerBlobRecord, repository: &Repository, extract: bool) -> Mending {
    Mending::BringIn(Box::new(Lost::Layer(LostLayer {
        store: store.clone(),
        blob: descriptor(source.media_type.clone(), source.blob.clone(), source.size),
        diff_id: source.diff_id.clone(),
        repository: repository.clone(),
        extract,
    })))
}

const fn descriptor(media_type: MediaType, digest: Digest, size: u64) -> Descriptor {
    Descriptor {
        media_type,
        digest,
        size,
        platform: None,
        annotations: BTreeMap::new(),
        artifact_type: None,
        urls: Vec::new(),
    }
}
