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

/// What has become of one damage.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Mending {
    /// It was made good, or is gone.
    Done,
    /// It is out of use, and the layer is to be brought in again.
    BringIn(Box<LostLayer>),
    /// Nothing can be done about it here.
    Hopeless,
}

impl Store {
    /// Takes what is damaged out of use, so that nobody takes it for whole. Documents and `index.json` are made again from
    /// the database; of a layer, `BringIn` says what is to be brought in again: through [`claim`](Self::claim), from the
    /// blob if that is whole, else from a registry.
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
                DamageKind::Document { digest, .. } => self.mend_document(digest)?,
                DamageKind::Blob { digest, .. } => {
                    self.blobs.remove(digest)?;
                    let sources = self.database.layers_of_blob(digest)?;
                    self.database.forget_blobs(std::slice::from_ref(digest))?;
                    // Nobody needs the blob if no image has it.
                    match (sources.first(), repository) {
                        (Some(source), Some(repository)) => lost(self, source, repository, false),
                        // The artifact is incomplete now, and the next pull of it brings the blob in.
                        _ if self.is_of_artifact(digest)? => Mending::Hopeless,
                        _ => Mending::Done,
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
                            if record.chain_id.is_some() {
                                Mending::Hopeless
                            } else {
                                let store = self.at_place(root, &record.place);
                                self.lost_directory(&store, diff_id, repository)?
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
    fn mend_document(&self, digest: &Digest) -> Result<Mending, Error> {
        let Some(bytes) = self.database.document(digest)? else {
            if self.database.is_index_blob(digest)? {
                // The index is not complete now, and the next pull of all of it brings the blob in.
                self.blobs.remove(digest)?;
                self.database.forget_blobs(std::slice::from_ref(digest))?;
                return Ok(Mending::Hopeless);
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
    Mending::BringIn(Box::new(LostLayer {
        store: store.clone(),
        blob: Descriptor {
            media_type: source.media_type.clone(),
            digest: source.blob.clone(),
            size: source.size,
            platform: None,
            annotations: BTreeMap::new(),
            artifact_type: None,
            urls: Vec::new(),
        },
        diff_id: source.diff_id.clone(),
        repository: repository.clone(),
        extract,
    }))
}
