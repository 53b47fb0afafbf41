//! What was found damaged, brought into the store again: from what is whole there, or from the registry.

use std::future::Future;

use tokio::task::JoinSet;
use unlade_extract::{Limits, Total};
use unlade_images::{Lost, LostBlob, LostLayer, LostStack, Needed, Store};
use unlade_oci::Parsed;

use crate::Puller;
use crate::error::{Error, Stage};
use crate::layer::Context;
use crate::plan::Job;
use crate::puller::{Arrival, stack};
use crate::resolve::Documents;
use crate::threads::Threads;

impl Puller {
    /// Brings what is lost into its store again: a layer is made from the blob if that is whole, else the blob is fetched, and
    /// nothing but that.
    ///
    /// One that fails does not stop the others. Returns how each has ended, in their order. Runs as
    /// [`pull`](Self::pull) does.
    pub async fn bring_back(&self, lost: &[Lost], limits: &Limits) -> Vec<Result<(), Error>> {
        let threads = Threads::new();
        let spawner = threads.spawner();
        let total = Total::new();
        let context = |store: &Store| Context {
            store: store.clone(),
            client: Some(self.client.clone()),
            supply: None,
            budget: self.budget.clone(),
            options: store.extract_options(limits.clone()),
            total: total.clone(),
            #[cfg(feature = "bench-skip-verify")]
            unverified: false,
            watch: self.watch.clone(),
            spawner: spawner.clone(),
            room: None,
        };
        let mut results: Vec<Option<Result<(), Error>>> = lost.iter().map(|_| None).collect();
        let mut first = JoinSet::new();
        for (at, lost) in lost.iter().enumerate() {
            match lost {
                Lost::Layer(layer) => start(&mut first, at, bring_back_layer(context(&layer.store), layer.clone())),
                Lost::Blob(blob) => start(&mut first, at, bring_back_blob(context(&self.store), blob.clone())),
                _ => {}
            }
        }
        all(first, &mut results).await;
        // What lies on top of others needs them whole.
        let mut second = JoinSet::new();
        for (at, lost) in lost.iter().enumerate() {
            if let Lost::Stack(lost) = lost {
                let limits = limits.clone();
                start(
                    &mut second,
                    at,
                    bring_back_stack(context(&lost.store), lost.clone(), limits),
                );
            }
        }
        all(second, &mut results).await;
        drop(spawner);
        threads.ended().await;
        results.into_iter().flatten().collect()
    }
}

type Numbered = (usize, Result<(), Error>);

fn start(jobs: &mut JoinSet<Numbered>, at: usize, job: impl Future<Output = Result<(), Error>> + Send + 'static) {
    jobs.spawn(async move { (at, job.await) });
}

/// Waits for all of them, and notes how each has ended.
async fn all(mut jobs: JoinSet<Numbered>, results: &mut [Option<Result<(), Error>>]) {
    while let Some(ended) = jobs.join_next().await {
        match ended {
            Ok((at, result)) => results[at] = Some(result),
            Err(error) => {
                if let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
}

async fn lease(context: &Context, needed: Needed) -> Result<unlade_images::Lease, Error> {
    let store = context.store.clone();
    let lease = context.spawner.run(move || store.lease(&needed)).await;
    lease.map_err(Error::store)
}

async fn bring_back_layer(context: Context, layer: LostLayer) -> Result<(), Error> {
    let mut needed = Needed::default();
    needed.blobs.insert(layer.blob.digest.clone());
    needed.diff_ids.insert(layer.diff_id.clone());
    let _lease = lease(&context, needed).await?;
    let job = Job {
        blob: layer.blob,
        diff_id: layer.diff_id,
        repository: layer.repository,
        extract: layer.extract,
        keep_blob: true,
    };
    context.bring_in(&job).await
}

async fn bring_back_stack(context: Context, lost: LostStack, limits: Limits) -> Result<(), Error> {
    let mut needed = Needed::default();
    needed
        .blobs
        .extend(lost.layers.iter().map(|(blob, _)| blob.digest.clone()));
    needed
        .diff_ids
        .extend(lost.layers.iter().map(|(_, diff_id)| diff_id.clone()));
    let _lease = lease(&context, needed).await?;
    stack(&context, &lost.layers, &lost.repository, &limits).await?;
    Ok(())
}

async fn bring_back_blob(context: Context, lost: LostBlob) -> Result<(), Error> {
    let mut needed = Needed::default();
    needed.blobs.insert(lost.blob.digest.clone());
    let _lease = lease(&context, needed).await?;
    if lost.is_manifest {
        return bring_back_manifest(&context, lost).await;
    }
    let arrival = Arrival {
        store: &context.store,
        client: context.client.as_ref(),
        supply: None,
        budget: &context.budget,
        watch: &context.watch,
        spawner: &context.spawner,
    };
    let repository = lost.reference.repository().clone();
    arrival.bring_in_blobs([(lost.blob, repository)]).await
}

/// Registries have manifests elsewhere than blobs.
async fn bring_back_manifest(context: &Context, lost: LostBlob) -> Result<(), Error> {
    let documents = Documents {
        store: None,
        client: context.client.as_ref(),
        supply: None,
        watch: &context.watch,
        spawner: &context.spawner,
    };
    let digest = lost.blob.digest;
    let (descriptor, bytes) = match documents.manifest(&lost.reference, Some(&digest)).await? {
        Parsed::Manifest(manifest) => (manifest.descriptor(), manifest.bytes().to_vec()),
        Parsed::Index(index) => (index.descriptor(), index.bytes().to_vec()),
    };
    let store = context.store.clone();
    let kept = context.spawner.run(move || store.put_blob(&descriptor, &bytes)).await;
    kept.map_err(Error::layer(&digest, Stage::Commit))
}
