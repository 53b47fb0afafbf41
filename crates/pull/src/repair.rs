//! Layers that were found damaged, brought into the store again: from their blobs, or from the registry.

use tokio::task::JoinSet;
use unlade_images::{LostLayer, Needed};

use crate::Puller;
use crate::error::Error;
use crate::layer::Context;
use crate::plan::Job;
use crate::threads::Threads;

impl Puller {
    /// Brings layers into their stores again: what is damaged is made from the blob if that is whole, else the blob is
    /// fetched, and nothing but that.
    ///
    /// One that fails does not stop the others. Returns how each has ended, in their order. Runs as
    /// [`pull`](Self::pull) does.
    pub async fn bring_back(&self, lost: &[LostLayer], limits: &unlade_extract::Limits) -> Vec<Result<(), Error>> {
        let threads = Threads::new();
        let spawner = threads.spawner();
        let total = unlade_extract::Total::new();
        let mut layers = JoinSet::new();
        for (at, layer) in lost.iter().enumerate() {
            let context = Context {
                store: layer.store.clone(),
                client: Some(self.client.clone()),
                supply: None,
                budget: self.budget.clone(),
                options: layer.store.extract_options(limits.clone()),
                total: total.clone(),
                watch: self.watch.clone(),
                spawner: spawner.clone(),
                room: None,
            };
            let job = Job {
                blob: layer.blob.clone(),
                diff_id: layer.diff_id.clone(),
                repository: layer.repository.clone(),
                extract: layer.extract,
                keep_blob: true,
            };
            layers.spawn(async move { (at, bring_back_one(&context, &job).await) });
        }
        drop(spawner);
        let mut results: Vec<Option<Result<(), Error>>> = lost.iter().map(|_| None).collect();
        while let Some(ended) = layers.join_next().await {
            match ended {
                Ok((at, result)) => results[at] = Some(result),
                Err(error) => {
                    if let Ok(panic) = error.try_into_panic() {
                        std::panic::resume_unwind(panic);
                    }
                }
            }
        }
        threads.ended().await;
        results.into_iter().flatten().collect()
    }
}

async fn bring_back_one(context: &Context, job: &Job) -> Result<(), Error> {
    let mut needed = Needed::default();
    needed.blobs.insert(job.blob.digest.clone());
    needed.diff_ids.insert(job.diff_id.clone());
    let store = context.store.clone();
    let _lease = context
        .spawner
        .run(move || store.lease(&needed))
        .await
        .map_err(Error::store)?;
    context.bring_in(job).await
}
