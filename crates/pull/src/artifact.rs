//! Artifacts: what is in a registry and is no image is fetched, checked and kept as blobs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::task::JoinSet;
use unlade_blobs::{Begin, Ingest};
use unlade_images::{Artifact, Needed, Store, Supply};
use unlade_oci::{Descriptor, Digest, Document, Manifest};
use unlade_reference::{Reference, Repository};
use unlade_registry::Client;
use unlade_sys::Wait;

use crate::again::{Again, Attempt, Bytes};
use crate::budget::{Budget, Permit};
use crate::error::{Error, Stage};
use crate::fetch::Fetch;
use crate::observer::{Planned, Watch};
use crate::puller::{Arrival, Options, Policy, Puller, all_or_first_error};
use crate::resolve::Documents;
use crate::stages::{COMMIT, RECEIVE, timed};
use crate::supply;
use crate::threads::{Spawner, Threads};

/// The configuration of artifacts that have none (image-spec, *Guidance for an Empty Descriptor*).
const EMPTY: &[u8] = b"{}";

/// An artifact that is complete in the store now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PulledArtifact {
    /// The artifact as the store has it.
    pub artifact: Artifact,
    /// Whether the registry was asked for anything.
    pub asked_registry: bool,
}

impl Puller {
    /// Brings artifacts into the store and returns them in the same order.
    ///
    /// Whatever a manifest lists is fetched, checked against its digest and kept as a blob; nothing is extracted. A name that
    /// leads to an index is resolved by platform, as for images. Of `options`, the platform and the policy count.
    ///
    /// # Errors
    /// The first failure, see [`Error`]; [`Error::class`] sorts them.
    pub async fn pull_artifacts(
        &self,
        references: &[Reference],
        options: &Options,
    ) -> Result<Vec<PulledArtifact>, Error> {
        let threads = Threads::new();
        let result = self.artifacts_with(references, options, threads.spawner()).await;
        threads.ended().await;
        result
    }

    async fn artifacts_with(
        &self,
        references: &[Reference],
        options: &Options,
        spawner: Spawner,
    ) -> Result<Vec<PulledArtifact>, Error> {
        if options.policy != Policy::Always
            && let Some(found) = self.local_artifacts(references, &spawner).await?
        {
            return Ok(found);
        }
        let documents = Documents {
            store: Some(&self.store),
            client: (options.policy != Policy::Never).then_some(&self.client),
            supply: None,
            watch: &self.watch,
            spawner: &spawner,
        };
        let mut manifests = Vec::with_capacity(references.len());
        let track = documents.track();
        for reference in references {
            manifests.push(documents.artifact(reference, options.platform.as_ref()).await?);
        }
        drop(track);
        let blobs = blobs_of(references, &manifests);
        let (store, needed) = (self.store.clone(), needed(&manifests, &blobs));
        let _lease = spawner.run(move || store.lease(&needed)).await.map_err(Error::store)?;
        self.watch.planned(&Planned {
            layers: blobs.len(),
            layers_present: 0,
            bytes_to_fetch: blobs.values().map(|(blob, _)| blob.size).sum(),
        });
        let arrival = Arrival {
            store: &self.store,
            client: (options.policy != Policy::Never).then_some(&self.client),
            supply: None,
            budget: &self.budget,
            watch: &self.watch,
            spawner: &spawner,
        };
        arrival.bring_in_blobs(blobs.into_values()).await?;
        let (store, references) = (self.store.clone(), references.to_vec());
        spawner
            .run(move || {
                let pairs = references.iter().zip(&manifests);
                let commit = |(reference, manifest)| {
                    Ok::<_, unlade_images::Error>(PulledArtifact {
                        artifact: store.commit_artifact(reference, manifest)?,
                        asked_registry: true,
                    })
                };
                pairs.map(commit).collect::<Result<_, _>>()
            })
            .await
            .map_err(Error::store)
    }

    /// Returns the artifacts if the store has all of all of them.
    async fn local_artifacts(
        &self,
        references: &[Reference],
        spawner: &Spawner,
    ) -> Result<Option<Vec<PulledArtifact>>, Error> {
        let (store, references) = (self.store.clone(), references.to_vec());
        spawner
            .run(move || {
                let mut found = Vec::with_capacity(references.len());
                for reference in &references {
                    match store.artifact(reference)? {
                        Some(artifact) if store.has_all_of(&artifact)? => found.push(PulledArtifact {
                            artifact,
                            asked_registry: false,
                        }),
                        _ => return Ok::<_, unlade_images::Error>(None),
                    }
                }
                Ok(Some(found))
            })
            .await
            .map_err(Error::store)
    }
}

impl Arrival<'_> {
    /// Brings in blobs that are kept as they are, each from a repository that has it.
    pub(crate) async fn bring_in_blobs(
        &self,
        blobs: impl IntoIterator<Item = (Descriptor, Repository)>,
    ) -> Result<(), Error> {
        let mut jobs = JoinSet::new();
        for (blob, repository) in blobs {
            let job = Job {
                store: self.store.clone(),
                client: self.client.cloned(),
                supply: self.supply.cloned(),
                budget: self.budget.clone(),
                watch: self.watch.clone(),
                spawner: self.spawner.clone(),
                blob,
                repository,
            };
            jobs.spawn(async move { job.bring_in().await });
        }
        all_or_first_error(jobs).await
    }
}

/// Returns the blobs of all manifests, each once, with a repository that has it.
fn blobs_of(references: &[Reference], manifests: &[Document<Manifest>]) -> BTreeMap<Digest, (Descriptor, Repository)> {
    let mut blobs = BTreeMap::new();
    for (reference, manifest) in references.iter().zip(manifests) {
        let manifest = manifest.get();
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            let repository = || reference.repository().clone();
            blobs
                .entry(blob.digest.clone())
                .or_insert_with(|| (blob.clone(), repository()));
        }
    }
    blobs
}

fn needed(manifests: &[Document<Manifest>], blobs: &BTreeMap<Digest, (Descriptor, Repository)>) -> Needed {
    let mut needed = Needed::default();
    needed.blobs.extend(blobs.keys().cloned());
    needed
        .blobs
        .extend(manifests.iter().map(|manifest| manifest.digest().clone()));
    needed
}

/// One blob on its way.
struct Job {
    store: Store,
    /// `None`: the network is not to be used.
    client: Option<Client>,
    /// What stands in the registry's place.
    supply: Option<Arc<Supply>>,
    budget: Budget,
    watch: Watch,
    spawner: Spawner,
    blob: Descriptor,
    repository: Repository,
}

impl Job {
    async fn bring_in(&self) -> Result<(), Error> {
        if self.blob.digest == Digest::of(self.blob.digest.algorithm(), EMPTY) && self.blob.size == EMPTY.len() as u64 {
            let (store, blob) = (self.store.clone(), self.blob.clone());
            let put = self.spawner.run(move || store.put_blob(&blob, EMPTY)).await;
            return put.map_err(Error::layer(&self.blob.digest, Stage::Commit));
        }
        let again = Again {
            store: &self.store,
            client: self.client.as_ref(),
            repository: &self.repository,
            blob: &self.blob,
            watch: &self.watch,
            spawner: &self.spawner,
        };
        again.until_done(|| self.attempt()).await
    }

    async fn attempt(&self) -> Attempt {
        let mut track = self.watch.track(&self.blob.digest, "receive", 0);
        track.wait(RECEIVE, Wait::Permit);
        let permit = self.budget.connection().await;
        drop(track);
        let (store, blob) = (self.store.clone(), self.blob.clone());
        let begun = self
            .spawner
            .run(move || {
                if store.has_blob(&blob)? {
                    return Ok(None);
                }
                Ok::<_, unlade_images::Error>(Some(store.blobs().begin(&blob.digest, blob.size)?))
            })
            .await;
        match begun.map_err(Error::layer(&self.blob.digest, Stage::Claim)) {
            Ok(None) => Attempt::Done,
            Ok(Some(Begin::Busy)) => Attempt::Busy,
            Ok(Some(Begin::Owned(ingest))) => {
                let is_replaced = self.supply.as_ref().is_some_and(|supply| supply.is_staged());
                let pieced = AtomicBool::new(ingest.resumed_at() > 0 && !is_replaced);
                Attempt::fetched(self.fetch(ingest, permit, &pieced).await, &pieced)
            }
            // It is there and nothing is recorded of it, or a power loss may have changed it.
            Ok(Some(Begin::Present)) => match self.adopt().await {
                Ok(true) => Attempt::Done,
                // It was not whole and is gone, so the next look finds nothing.
                Ok(false) => Attempt::Busy,
                Err(error) => Attempt::Failed(error, Bytes::Fresh),
            },
            Err(error) => Attempt::Failed(error, Bytes::Fresh),
        }
    }

    async fn fetch(&self, ingest: Ingest, permit: Permit, pieced: &AtomicBool) -> Result<(), Error> {
        if let Some(supply) = &self.supply {
            let ingest = supply::take(supply, &self.blob, ingest, &self.watch, &self.spawner).await?;
            return self.keep(ingest).await;
        }
        let failed = |stage| Error::layer(&self.blob.digest, stage);
        let Some(client) = &self.client else {
            let digest = self.blob.digest.clone();
            return Err(failed(Stage::Download)(unlade_images::Error::BlobMissing { digest }));
        };
        let fetch = Fetch {
            client,
            repository: &self.repository,
            blob: &self.blob,
            budget: &self.budget,
            spawner: &self.spawner,
            watch: &self.watch,
            pieced,
        };
        let ingest = fetch.download(ingest, permit).await?;
        self.keep(ingest).await
    }

    async fn keep(&self, ingest: Ingest) -> Result<(), Error> {
        let (store, blob) = (self.store.clone(), self.blob.clone());
        let keep = timed(self.watch.part(&blob.digest), "layer", COMMIT, move || {
            store.keep_blob(&blob, ingest)
        });
        let kept = self.spawner.run(keep).await;
        kept.map_err(Error::layer(&self.blob.digest, Stage::Commit))
    }

    /// Reads a blob that lies in the store without being known, and takes it in if it is what it should be.
    async fn adopt(&self) -> Result<bool, Error> {
        let (store, blob) = (self.store.clone(), self.blob.clone());
        let adopted = self.spawner.run(move || store.adopt_blob(&blob)).await;
        adopted.map_err(Error::layer(&self.blob.digest, Stage::Commit))
    }
}
