//! One layer's way into the store: claim, download and extract at once, commit.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use unlade_blobs::Ingest;
use unlade_images::{Claim, LayerWork, Source, Store, Supply};
use unlade_oci::{Compression, Descriptor, ErrorClass};
use unlade_registry::Client;
use unlade_sys::Wait;

use crate::again::{Again, Attempt, Bytes};
use crate::budget::{Budget, Permit, Room};
use crate::error::{Error, Stage};
use crate::fetch::Fetch;
use crate::observer::Watch;
use crate::plan::Job;
use crate::stages::{self, timed};
use crate::threads::Spawner;
use crate::{Warning, supply, unpack};

/// What every layer of a pull needs. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) store: Store,
    /// `None`: the network is not to be used.
    pub(crate) client: Option<Client>,
    /// What stands in the registry's place.
    pub(crate) supply: Option<Arc<Supply>>,
    pub(crate) budget: Budget,
    pub(crate) options: unlade_extract::Options,
    /// What all layers of the pull count together.
    pub(crate) total: unlade_extract::Total,
    /// Whether layers are believed to be what they should be.
    #[cfg(feature = "bench-skip-verify")]
    pub(crate) unverified: bool,
    pub(crate) watch: Watch,
    pub(crate) spawner: Spawner,
    /// Room for blobs that do not stay.
    pub(crate) room: Option<Room>,
}

impl Context {
    /// Brings the layer into the store, or waits until somebody else has.
    pub(crate) async fn bring_in(&self, job: &Job) -> Result<(), Error> {
        let again = Again {
            store: &self.store,
            client: self.client.as_ref(),
            repository: &job.repository,
            blob: &job.blob,
            watch: &self.watch,
            spawner: &self.spawner,
        };
        again.until_done(|| self.attempt(job)).await
    }

    async fn attempt(&self, job: &Job) -> Attempt {
        let mut track = self.watch.track(&job.blob.digest, "receive", 0);
        track.wait(stages::RECEIVE, Wait::Permit);
        let _room = match &self.room {
            Some(room) if !job.keep_blob => Some(room.take(job.blob.size).await),
            _ => None,
        };
        // The permit comes first: a layer that cannot start yet must not keep another process from starting it.
        let permit = self.budget.connection().await;
        drop(track);
        let (store, wanted) = (self.store.clone(), job.clone());
        let claim = timed(self.watch.part(&job.blob.digest), "layer", stages::CLAIM, move || {
            store.claim(&wanted.blob, &wanted.diff_id, wanted.extract)
        });
        let claim = self.spawner.run(claim).await;
        match claim.map_err(Error::layer(&job.blob.digest, Stage::Claim)) {
            Ok(Claim::Present) => Attempt::Done,
            Ok(Claim::Busy) => Attempt::Busy,
            Ok(Claim::Work(mut work, Source::Local(file))) => {
                drop(permit);
                work.measure(self.watch.part(&job.blob.digest));
                Attempt::ended(self.extract_local(job, work, file).await, Bytes::Doubtful)
            }
            Ok(Claim::Work(mut work, Source::Remote(ingest))) => {
                work.measure(self.watch.part(&job.blob.digest));
                if !job.keep_blob {
                    work.discard_blob();
                }
                let is_replaced = self.supply.as_ref().is_some_and(|supply| supply.is_staged());
                let pieced = AtomicBool::new(ingest.resumed_at() > 0 && !is_replaced);
                let result = self.fetch_and_extract(job, work, ingest, permit, &pieced).await;
                Attempt::fetched(result, &pieced)
            }
            Err(error) => Attempt::Failed(error, Bytes::Fresh),
        }
    }

    async fn extract_local(&self, job: &Job, work: Box<LayerWork>, file: std::fs::File) -> Result<(), Error> {
        let input: Box<dyn Read + Send> = Box::new(file);
        match unpack::consume(input, None, &work, &job.blob, self).await {
            Ok((report, staged)) => {
                let compression = report.compression;
                self.commit(job, move || work.commit(None, staged, &report)).await?;
                self.compare_compression(&job.blob, compression);
                Ok(())
            }
            Err(error) if error.class() == ErrorClass::Rejected => {
                self.commit(job, move || work.reject(None)).await?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    async fn fetch_and_extract(
        &self,
        job: &Job,
        work: Box<LayerWork>,
        ingest: Ingest,
        permit: Permit,
        pieced: &AtomicBool,
    ) -> Result<(), Error> {
        let ingest = match &self.supply {
            // A file that is renamed into the ingest's place has to be there before anybody follows.
            Some(supply) if supply.is_staged() => self.supplied(supply, job, ingest).await?,
            _ => ingest,
        };
        let mut follower = ingest
            .follower()
            .map_err(Error::layer(&job.blob.digest, Stage::Claim))?;
        let waits = self.watch.is_timed().then(|| follower.count_waits());
        // Whichever fails first drops the other. The download is named first: when it fails its follower fails, too, and
        // the download's error is the cause. Content that cannot be read does not stop the download: only the whole
        // blob's digest tells whether the registry sent something else or the layer is like that.
        let consume = async {
            match unpack::consume(Box::new(follower), waits, &work, &job.blob, self).await {
                Err(error) if error.class() != ErrorClass::Rejected => Err(error),
                consumed => Ok(consumed),
            }
        };
        let (ingest, consumed) = tokio::try_join!(self.download(job, ingest, permit, pieced), consume)?;
        match consumed {
            Ok((report, staged)) => {
                let compression = report.compression;
                self.commit(job, move || work.commit(Some(ingest), staged, &report))
                    .await?;
                self.compare_compression(&job.blob, compression);
                Ok(())
            }
            Err(error) => {
                self.commit(job, move || work.reject(Some(ingest))).await?;
                Err(error)
            }
        }
    }

    /// Warns if a layer is compressed in another way than its media type says.
    fn compare_compression(&self, blob: &Descriptor, found: Compression) {
        let claimed = blob.media_type.compression_hint();
        // No bytes are compressed in no way.
        if claimed.is_some_and(|claimed| claimed != found) && blob.size > 0 {
            self.watch.warn(&Warning::Compression {
                digest: blob.digest.clone(),
                media_type: blob.media_type.clone(),
                found,
            });
        }
    }

    async fn download(&self, job: &Job, ingest: Ingest, permit: Permit, pieced: &AtomicBool) -> Result<Ingest, Error> {
        match &self.supply {
            Some(supply) if supply.is_staged() => return Ok(ingest),
            Some(supply) => return self.supplied(supply, job, ingest).await,
            None => {}
        }
        let Some(client) = &self.client else {
            let error = unlade_images::Error::BlobMissing {
                digest: job.blob.digest.clone(),
            };
            return Err(Error::layer(&job.blob.digest, Stage::Download)(error));
        };
        let fetch = Fetch {
            client,
            repository: &job.repository,
            blob: &job.blob,
            budget: &self.budget,
            spawner: &self.spawner,
            watch: &self.watch,
            pieced,
        };
        fetch.download(ingest, permit).await
    }

    /// Takes the blob from where it lies instead of from a registry.
    async fn supplied(&self, supply: &Arc<Supply>, job: &Job, ingest: Ingest) -> Result<Ingest, Error> {
        supply::take(supply, &job.blob, ingest, &self.watch, &self.spawner).await
    }

    async fn commit(
        &self,
        job: &Job,
        commit: impl FnOnce() -> Result<(), unlade_images::Error> + Send + 'static,
    ) -> Result<(), Error> {
        self.spawner
            .run(commit)
            .await
            .map_err(Error::layer(&job.blob.digest, Stage::Commit))
    }
}
