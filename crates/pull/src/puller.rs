//! The pull itself: look locally, resolve, plan, bring in what is missing, record the images.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use unlade_images::{Image, ImageCommit, Lookup, Stack, Store, Supply, WholeLookup};
use unlade_oci::{Descriptor, Digest, Platform};
use unlade_reference::{Reference, Repository};
use unlade_registry::Client;
use unlade_sys::{Stage as TimedStage, Timings, Track};

use crate::budget::{Budget, Room};
use crate::error::Error;
use crate::explain::{self, Explanation};
use crate::layer::Context;
use crate::observer::{Observer, Silent, Watch};
use crate::plan::{Job, disk_full, plan};
use crate::resolve::{Documents, Resolution};
use crate::stages::{self, timed};
use crate::threads::{Spawner, Threads};
use crate::unpack::StopOnDrop;

/// What was written so long ago is flushed beside a pull: the kernel has written most of it by then.
const SETTLE_AFTER: Duration = Duration::from_mins(1);

/// When to ask the registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Only for what the store does not have. A tag that the store knows is not asked for again.
    #[default]
    Missing,
    /// Always ask what the name stands for now; fetch only what is missing.
    Always,
    /// Never. What is not complete in the store is an error.
    Never,
}

/// How to pull.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a question of its own, asked by its name"
)]
pub struct Options {
    /// The platform wanted; `None` is this machine's, and then a lone image for another one is only warned of.
    pub platform: Option<Platform>,
    /// All platforms instead of one: the index is kept whole, byte for byte, with every image that it leads to and with what is no
    /// image, such as attestations. There are then several results for a reference, one for each image.
    pub all_platforms: bool,
    /// When to ask the registry.
    pub policy: Policy,
    /// Whether layer directories are made, or only blobs kept.
    pub extract: bool,
    /// Whether the blobs of layers are thrown away once they are extracted. At any time, those that are there take no more
    /// room than the largest of them. Needs `extract`.
    pub discard_blobs: bool,
    /// Whether a pull that fails removes what has arrived of layers that are not complete. Otherwise it is kept, for the next
    /// pull to go on from there. What a pull leaves whose future is dropped is kept in any case.
    pub discard_partial: bool,
    /// Limits for what a layer may contain.
    pub limits: unlade_extract::Limits,
    /// Whether layers are believed to be what they should be, to measure what it costs to check them.
    #[cfg(feature = "bench-skip-verify")]
    pub unverified: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            platform: None,
            all_platforms: false,
            policy: Policy::default(),
            extract: true,
            discard_blobs: false,
            discard_partial: false,
            limits: unlade_extract::Limits::default(),
            #[cfg(feature = "bench-skip-verify")]
            unverified: false,
        }
    }
}

/// An image that is complete in the store now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pulled {
    /// The image as the store has it.
    pub image: Image,
    /// Whether the registry was asked for anything.
    pub asked_registry: bool,
}

/// Pulls images into one store from the registries that one client reaches. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Puller {
    pub(crate) store: Store,
    pub(crate) client: Client,
    pub(crate) budget: Budget,
    pub(crate) watch: Watch,
}

impl Puller {
    /// Makes a puller with a budget of its own and nobody watching.
    pub fn new(store: Store, client: Client) -> Self {
        Self {
            store,
            client,
            budget: Budget::default(),
            watch: Watch::new(Arc::new(Silent)),
        }
    }

    /// Shares `budget` with others.
    #[must_use]
    pub fn with_budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// Tells `observer` what happens.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.watch = self.watch.observed_by(observer);
        self
    }

    /// Measures where the time of a pull goes; see [`stages`]. What `timings` reports is whole when the pull has
    /// returned.
    ///
    /// Without it no clock is read for that.
    #[must_use]
    pub fn with_timings(mut self, timings: Timings) -> Self {
        self.watch = self.watch.timed_by(timings);
        self
    }

    /// Brings all of `references` into the store and returns them in the same order.
    ///
    /// With all platforms asked for there are several results for one reference.
    ///
    /// What they share is fetched and extracted once. Layers are downloaded and extracted at the same time, within the
    /// budget. When one layer fails the others are stopped and the first failure is returned; what is complete by then
    /// stays in the store, and so do partial downloads, which a later pull continues. No image becomes visible in part.
    ///
    /// Must run on a tokio runtime with time and I/O enabled. Dropping the future stops the pull in the same way, so
    /// `tokio::time::timeout` is what limits its time; the threads that it has started end soon after, and the runtime waits for
    /// them when it is dropped.
    ///
    /// # Errors
    /// The first failure, see [`Error`]; [`Error::class`] sorts them.
    pub async fn pull(&self, references: &[Reference], options: &Options) -> Result<Vec<Pulled>, Error> {
        let threads = Threads::new();
        let mut resolved = Vec::new();
        let result = self
            .pull_with(references, options, threads.spawner(), &mut resolved)
            .await;
        threads.ended().await;
        match result {
            Ok(pulled) => Ok(pulled),
            Err(error) => Err(clean_up(&self.store, error, resolved, options, false).await),
        }
    }

    async fn pull_with(
        &self,
        references: &[Reference],
        options: &Options,
        spawner: Spawner,
        resolved: &mut Vec<Resolution>,
    ) -> Result<Vec<Pulled>, Error> {
        if options.all_platforms {
            return Box::pin(self.pull_whole(references, options, &spawner, resolved)).await;
        }
        let mut lookups = Vec::with_capacity(references.len());
        for reference in references {
            let (store, reference, options) = (self.store.clone(), reference.clone(), options.clone());
            let look_up = timed(self.watch.whole(), "pull", stages::LOOK_UP, move || {
                look_up(&store, &reference, &options)
            });
            lookups.push(spawner.run(look_up).await?);
        }
        if options.policy != Policy::Always && lookups.iter().all(Lookup::is_complete) {
            return Ok(lookups
                .into_iter()
                .filter_map(Lookup::into_image)
                .map(Pulled::from_store)
                .collect());
        }

        self.tidy_up_aside(&spawner);
        let mut resolutions = Vec::with_capacity(references.len());
        let documents = Documents {
            store: Some(&self.store),
            client: (options.policy != Policy::Never).then_some(&self.client),
            supply: None,
            watch: &self.watch,
            spawner: &spawner,
        };
        let track = documents.track();
        for (reference, lookup) in references.iter().zip(&lookups) {
            let known = match lookup.target() {
                Some(recorded) if options.policy == Policy::Always => {
                    documents.still_leads_to(reference, recorded).await?.then_some(recorded)
                }
                recorded => recorded,
            };
            resolutions.push(documents.resolve(reference, options.platform.as_ref(), known).await?);
        }

        drop(track);
        resolved.clone_from(&resolutions);
        let arrival = Arrival {
            store: &self.store,
            client: (options.policy != Policy::Never).then_some(&self.client),
            supply: None,
            budget: &self.budget,
            watch: &self.watch,
            spawner: &spawner,
        };
        arrival.complete(resolutions, options).await
    }

    pub(crate) fn tidy_up_aside(&self, spawner: &Spawner) {
        // What dead processes have left is removed beside the work, and what earlier ones have written is flushed; only that
        // it failed is worth a word.
        let (store, part) = (self.store.clone(), self.watch.whole());
        spawner.start_aside(move || {
            let mut track = Track::of(part.as_ref(), "aside");
            track.busy(stages::SWEEP);
            if let Err(error) = store.sweep() {
                tracing::warn!(%error, "what a dead process has left could not be removed");
            }
            track.busy(stages::FLUSH);
            if let Err(error) = store.settle(SETTLE_AFTER) {
                tracing::warn!(%error, "what was pulled earlier could not be flushed to the disk");
            }
            if let Err(error) = store.shorten_log() {
                tracing::debug!(%error, "the log of the database stays long");
            }
        });
    }

    /// Tells what a pull of `reference` would do, without pulling: who would be asked and how, what the name stands for, what of
    /// it the store has, and what would be fetched.
    ///
    /// Documents that the store lacks are fetched for this, under the policy of `options`, and not kept. That they cannot be
    /// had is part of the answer.
    ///
    /// # Errors
    /// The configuration of the registry cannot be used, or the store cannot be read.
    pub async fn explain(&self, reference: &Reference, options: &Options) -> Result<Explanation, Error> {
        let threads = Threads::new();
        let spawner = threads.spawner();
        let described = self.client.describe(reference.repository()).await;
        let endpoints = described.map_err(|source| Error::Resolve {
            reference: Box::new(reference.clone()),
            source: Box::new(source),
        })?;
        let (store, wanted, how) = (self.store.clone(), reference.clone(), options.clone());
        let lookup = spawner.run(move || look_up(&store, &wanted, &how)).await?;
        let documents = Documents {
            store: Some(&self.store),
            client: (options.policy != Policy::Never).then_some(&self.client),
            supply: None,
            watch: &self.watch,
            spawner: &spawner,
        };
        explain::explain(&documents, &self.store, reference, options, lookup, endpoints).await
    }

    /// Finds out what `reference` stands for, for `platform` or this machine, without pulling. Documents that the store has
    /// are not asked for again; a tag always is.
    ///
    /// # Errors
    /// As [`pull`](Self::pull).
    pub async fn resolve(&self, reference: &Reference, platform: Option<&Platform>) -> Result<Resolution, Error> {
        let threads = Threads::new();
        let spawner = threads.spawner();
        let documents = Documents {
            store: Some(&self.store),
            client: Some(&self.client),
            supply: None,
            watch: &self.watch,
            spawner: &spawner,
        };
        documents.resolve(reference, platform, None).await
    }
}

/// Does what is to be done after a failure, when nothing of the pull or the import writes any more. Returns the error to
/// report. `staged` says whether blobs were on the disk of the store before.
pub(crate) async fn clean_up(
    store: &Store,
    error: Error,
    resolved: Vec<Resolution>,
    options: &Options,
    staged: bool,
) -> Error {
    let threads = Threads::new();
    let (store, options) = (store.clone(), options.clone());
    let clean_up = move || {
        if options.discard_partial {
            for (blob, _) in resolved.iter().flat_map(Resolution::layers) {
                if let Err(error) = store.discard_partial(&blob.digest) {
                    tracing::warn!(%error, "a partial download stays");
                }
            }
        }
        disk_full(error, &store, &resolved, &options, staged)
    };
    let error = threads.spawner().run(clean_up).await;
    threads.ended().await;
    error
}

/// The second half of a pull, from documents to images in the store; of an import likewise.
#[derive(Debug)]
pub(crate) struct Arrival<'a> {
    pub(crate) store: &'a Store,
    /// `None`: the network is not to be used.
    pub(crate) client: Option<&'a Client>,
    /// What stands in the registry's place.
    pub(crate) supply: Option<&'a Arc<Supply>>,
    pub(crate) budget: &'a Budget,
    pub(crate) watch: &'a Watch,
    pub(crate) spawner: &'a Spawner,
}

impl Arrival<'_> {
    /// Brings in what the images lack, and records them.
    pub(crate) async fn complete(&self, resolutions: Vec<Resolution>, options: &Options) -> Result<Vec<Pulled>, Error> {
        // From here on nothing that these images need is removed from under the pull.
        let (store, needed) = (self.store.clone(), needed(&resolutions));
        let _lease = self
            .spawner
            .run(self.timed(stages::PLAN, move || store.lease(&needed)))
            .await
            .map_err(Error::store)?;

        let (store, resolved, planning) = (self.store.clone(), resolutions.clone(), options.clone());
        let staged = self.supply.is_some_and(|supply| supply.is_staged());
        let plan = self
            .spawner
            .run(self.timed(stages::PLAN, move || plan(&store, &resolved, &planning, staged)))
            .await?;
        if let (Some((reference, digest)), None, None) = (plan.absent, self.client, self.supply) {
            return Err(Error::NotLocal {
                reference: Box::new(reference),
                missing: format!("the blob {digest} is missing"),
            });
        }
        // A report lists layers in the order in which they begin to be measured: let it be their own.
        for (blob, _) in resolutions.iter().flat_map(Resolution::layers) {
            if plan.jobs.iter().any(|job| job.blob.digest == blob.digest) {
                drop(self.watch.part(&blob.digest));
            }
        }
        self.watch.planned(&plan.planned);
        let context = Context {
            store: self.store.clone(),
            client: self.client.cloned(),
            supply: self.supply.cloned(),
            budget: self.budget.clone(),
            options: self.store.extract_options(options.limits.clone()),
            total: unlade_extract::Total::new(),
            #[cfg(feature = "bench-skip-verify")]
            unverified: options.unverified,
            watch: self.watch.clone(),
            spawner: self.spawner.clone(),
            room: options
                .discard_blobs
                .then(|| Room::for_the_largest_of(plan.jobs.iter().map(|job| job.blob.size))),
        };
        let mut layers = JoinSet::new();
        for job in plan.jobs {
            let context = context.clone();
            layers.spawn(async move { context.bring_in(&job).await });
        }
        all_or_first_error(layers).await?;

        let mut stacks = Vec::with_capacity(resolutions.len());
        for resolution in &resolutions {
            stacks.push(if options.extract {
                let layers: Vec<_> = resolution
                    .layers()
                    .map(|(blob, diff_id)| (blob.clone(), diff_id.clone()))
                    .collect();
                let repository = resolution.reference.repository();
                Some(stack(&context, &layers, repository, &options.limits).await?)
            } else {
                None
            });
        }
        let store = self.store.clone();
        let asked_registry = options.policy != Policy::Never;
        self.spawner
            .run(self.timed(stages::RECORD, move || {
                commit(&store, &resolutions, &stacks, asked_registry)
            }))
            .await
    }

    fn timed<T, W: FnOnce() -> T>(&self, stage: TimedStage, work: W) -> impl FnOnce() -> T + use<T, W> {
        timed(self.watch.whole(), "pull", stage, work)
    }
}

/// Looks for all of `references` in the store, without a runtime and without the network.
///
/// Returns `None` unless the policy allows to answer from the store and every image is complete there: recorded, with a
/// layer list, every layer recorded, and every layer directory in place.
///
/// # Errors
/// The store cannot be read.
pub fn find_local(store: &Store, references: &[Reference], options: &Options) -> Result<Option<Vec<Pulled>>, Error> {
    if options.policy == Policy::Always {
        return Ok(None);
    }
    let mut found = Vec::with_capacity(references.len());
    for reference in references {
        if options.all_platforms {
            let WholeLookup::Complete(images) =
                store.look_up_whole(reference, options.extract).map_err(Error::store)?
            else {
                return Ok(None);
            };
            found.extend(images.into_iter().map(Pulled::from_store));
            continue;
        }
        match look_up(store, reference, options)? {
            Lookup::Complete(image) => found.push(Pulled::from_store(*image)),
            Lookup::Incomplete { .. } | Lookup::Absent => return Ok(None),
        }
    }
    Ok(Some(found))
}

impl Pulled {
    pub(crate) fn from_store(image: Image) -> Self {
        Self {
            image,
            asked_registry: false,
        }
    }
}

fn look_up(store: &Store, reference: &Reference, options: &Options) -> Result<Lookup, Error> {
    let platform = options
        .platform
        .as_ref()
        .map_or_else(Platform::host, Platform::normalized);
    store
        .look_up(reference, &platform, options.extract)
        .map_err(Error::store)
}

/// Everything that a pull relies on: documents and layers.
fn needed(resolutions: &[Resolution]) -> unlade_images::Needed {
    let mut needed = unlade_images::Needed::default();
    for resolution in resolutions {
        let documents = [resolution.manifest.digest().clone(), resolution.config.digest().clone()];
        needed.blobs.extend(documents);
        needed
            .blobs
            .extend(resolution.indexes.iter().map(|index| index.digest().clone()));
        for (blob, diff_id) in resolution.layers() {
            needed.blobs.insert(blob.digest.clone());
            needed.diff_ids.insert(Digest::clone(diff_id));
        }
    }
    needed
}

/// Waits for all layers. The first failure stops the others and is what is returned.
pub(crate) async fn all_or_first_error(mut layers: JoinSet<Result<(), Error>>) -> Result<(), Error> {
    let mut first = Ok(());
    while let Some(ended) = layers.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                if first.is_ok() {
                    first = Err(error);
                    layers.abort_all();
                }
            }
            Err(error) => {
                if let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
    first
}

/// Makes sure that the directories of `layers`, the lowest first, can be stacked.
///
/// The blob of a layer that has to be extracted once more, on top of those below it, may be gone by now: thrown away as it
/// was extracted, or long before. It is fetched for that, and stays, as the directory depends on it.
pub(crate) async fn stack(
    context: &Context,
    layers: &[(Descriptor, Digest)],
    repository: &Repository,
    limits: &unlade_extract::Limits,
) -> Result<Stack, Error> {
    let progress = unlade_extract::Progress::new();
    let _stop = StopOnDrop(progress.clone());
    let mut fetched = BTreeSet::new();
    loop {
        let (store, owned, limits, progress) =
            (context.store.clone(), layers.to_vec(), limits.clone(), progress.clone());
        let stack = timed(context.watch.whole(), "pull", stages::STACK, move || {
            let layers: Vec<_> = owned.iter().map(|(blob, diff_id)| (blob, diff_id)).collect();
            store.stack(&layers, &limits, &progress)
        });
        let digest = match context.spawner.run(stack).await {
            Err(unlade_images::Error::BlobMissing { digest }) if !fetched.contains(&digest) => digest,
            other => return other.map_err(Error::store),
        };
        for (blob, diff_id) in layers.iter().filter(|(blob, _)| blob.digest == digest) {
            let job = Job {
                blob: blob.clone(),
                diff_id: diff_id.clone(),
                repository: repository.clone(),
                extract: false,
                keep_blob: true,
            };
            context.bring_in(&job).await?;
        }
        fetched.insert(digest);
    }
}

/// Records the images.
fn commit(
    store: &Store,
    resolutions: &[Resolution],
    stacks: &[Option<Stack>],
    asked_registry: bool,
) -> Result<Vec<Pulled>, Error> {
    let mut pulled = Vec::with_capacity(resolutions.len());
    for (resolution, stack) in resolutions.iter().zip(stacks) {
        let commit = ImageCommit {
            reference: &resolution.reference,
            platform: &resolution.wanted,
            indexes: &resolution.indexes,
            manifest: &resolution.manifest,
            config: &resolution.config,
        };
        pulled.push(Pulled {
            image: store.commit(&commit, stack.as_ref()).map_err(Error::store)?,
            asked_registry,
        });
    }
    Ok(pulled)
}
