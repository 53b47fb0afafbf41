//! All platforms of a name: the index whole, every image of it, and what of it is no image.

use std::collections::{BTreeMap, BTreeSet};

use unlade_images::{Needed, WholeLookup};
use unlade_oci::{Descriptor, Digest, Document, DocumentError, Index, MAX_INDEX_DEPTH, Manifest, Parsed, Platform};
use unlade_reference::{Reference, Repository};

use crate::Puller;
use crate::error::Error;
use crate::puller::{Arrival, Options, Policy, Pulled};
use crate::resolve::{Documents, Resolution};
use crate::stages::{LOOK_UP, timed};
use crate::threads::Spawner;

/// How many bytes of documents are held for one name: room for a thousand platforms, and an end for an index that leads to
/// manifests without end.
const MAX_BYTES: u64 = 64 << 20;

/// All that a name stands for.
#[derive(Debug)]
pub(crate) struct Whole {
    /// The index that the name stands for, then those below it; none if the name is a manifest's.
    indexes: Vec<Document<Index>>,
    /// The images, each for a platform of its own.
    pub(crate) images: Vec<Resolution>,
    /// Manifests that are no images, or a second one for a platform.
    others: Vec<Document<Manifest>>,
}

impl Whole {
    /// Returns what is kept as it is, each blob once.
    fn other_blobs(&self) -> BTreeMap<Digest, Descriptor> {
        let lists = self.others.iter().map(Document::get);
        lists
            .flat_map(|manifest| std::iter::once(&manifest.config).chain(&manifest.layers))
            .map(|blob| (blob.digest.clone(), blob.clone()))
            .collect()
    }
}

impl Puller {
    pub(crate) async fn pull_whole(
        &self,
        references: &[Reference],
        options: &Options,
        spawner: &Spawner,
        resolved: &mut Vec<Resolution>,
    ) -> Result<Vec<Pulled>, Error> {
        let mut lookups = Vec::with_capacity(references.len());
        for reference in references {
            let (store, reference, extract) = (self.store.clone(), reference.clone(), options.extract);
            let look_up = timed(self.watch.whole(), "pull", LOOK_UP, move || {
                store.look_up_whole(&reference, extract)
            });
            lookups.push(spawner.run(look_up).await.map_err(Error::store)?);
        }
        if options.policy != Policy::Always && lookups.iter().all(|found| matches!(found, WholeLookup::Complete(_))) {
            let images = lookups.into_iter().flat_map(|found| match found {
                WholeLookup::Complete(images) => images,
                WholeLookup::Incomplete { .. } | WholeLookup::Absent => Vec::new(),
            });
            return Ok(images.map(Pulled::from_store).collect());
        }
        self.tidy_up_aside(spawner);
        let client = (options.policy != Policy::Never).then_some(&self.client);
        let documents = Documents {
            store: Some(&self.store),
            client,
            supply: None,
            watch: &self.watch,
            spawner,
        };
        let mut wholes = Vec::with_capacity(references.len());
        let track = documents.track();
        for (reference, lookup) in references.iter().zip(&lookups) {
            let known = lookup.target().filter(|_| options.policy != Policy::Always);
            wholes.push(documents.whole(reference, known).await?);
        }
        drop(track);
        resolved.extend(wholes.iter().flat_map(|whole| whole.images.iter().cloned()));
        let arrival = Arrival {
            store: &self.store,
            client,
            supply: None,
            budget: &self.budget,
            watch: &self.watch,
            spawner,
        };
        arrival.complete_whole(references, wholes, options).await
    }
}

impl Arrival<'_> {
    /// Brings in what the names lack, and records their images, then their indexes as whole ones.
    pub(crate) async fn complete_whole(
        &self,
        references: &[Reference],
        mut wholes: Vec<Whole>,
        options: &Options,
    ) -> Result<Vec<Pulled>, Error> {
        let mut others: BTreeMap<Digest, (Descriptor, Repository)> = BTreeMap::new();
        let mut needed = Needed::default();
        for (reference, whole) in references.iter().zip(&wholes) {
            for (digest, blob) in whole.other_blobs() {
                others.insert(digest, (blob, reference.repository().clone()));
            }
            needed
                .blobs
                .extend(whole.others.iter().map(|other| other.digest().clone()));
            needed
                .blobs
                .extend(whole.indexes.iter().map(|index| index.digest().clone()));
        }
        needed.blobs.extend(others.keys().cloned());
        let store = self.store.clone();
        let lease = self.spawner.run(move || store.lease(&needed)).await;
        let _lease = lease.map_err(Error::store)?;
        self.bring_in_blobs(others.into_values()).await?;
        let images = wholes
            .iter_mut()
            .flat_map(|whole| std::mem::take(&mut whole.images))
            .collect();
        let pulled = self.complete(images, options).await?;
        let store = self.store.clone();
        let recorded = self.spawner.run(move || {
            let mut wholes = wholes.iter().filter(|whole| !whole.indexes.is_empty());
            wholes.try_for_each(|whole| store.commit_whole(&whole.indexes, &whole.others))
        });
        recorded.await.map_err(Error::store)?;
        Ok(pulled)
    }
}

impl Documents<'_> {
    /// Finds out all that `reference` stands for. `known` is the digest that is recorded for the name; with it the name itself is
    /// not asked for.
    pub(crate) async fn whole(&self, reference: &Reference, known: Option<&Digest>) -> Result<Whole, Error> {
        let task = self.watch.resolve(reference);
        let mut whole = Whole {
            indexes: Vec::new(),
            images: Vec::new(),
            others: Vec::new(),
        };
        let mut seen: BTreeSet<Digest> = BTreeSet::new();
        let mut platforms: BTreeSet<String> = BTreeSet::new();
        let first = self.manifest(reference, reference.digest().or(known)).await?;
        let mut bytes = first.bytes().len() as u64;
        // Each with the indexes that lead to it, the outermost first, and with the entry that names it.
        let mut ahead: Vec<(Parsed, Vec<Document<Index>>, Option<Descriptor>)> = vec![(first, Vec::new(), None)];
        while let Some((parsed, path, entry)) = ahead.pop() {
            match parsed {
                Parsed::Index(index) => {
                    let below = [&path[..], std::slice::from_ref(&index)].concat();
                    if below.len() > MAX_INDEX_DEPTH {
                        return Err(Error::TooDeep {
                            reference: Box::new(reference.clone()),
                            limit: MAX_INDEX_DEPTH,
                        });
                    }
                    for entry in &index.get().manifests {
                        if seen.insert(entry.digest.clone()) {
                            let found = self.manifest(reference, Some(&entry.digest)).await?;
                            check_size(reference, entry, &found)?;
                            count(reference, &mut bytes, found.bytes().len() as u64)?;
                            ahead.push((found, below.clone(), Some(entry.clone())));
                        }
                    }
                    whole.indexes.push(index);
                }
                Parsed::Manifest(manifest) => {
                    let is_image = entry.as_ref().is_none_or(|entry| !entry.is_attestation());
                    // What the name itself stands for has to be an image; of what an index lists there is other content, too.
                    let is_image = match manifest.is_image() {
                        Ok(()) => is_image,
                        Err(_) if entry.is_some() => false,
                        Err(source) => return Err(document(reference)(source)),
                    };
                    if !is_image {
                        whole.others.push(manifest);
                        continue;
                    }
                    let config = self.config(reference, &manifest.get().config).await?;
                    count(reference, &mut bytes, config.size())?;
                    manifest
                        .check_against_config(config.get())
                        .map_err(document(reference))?;
                    let stated = entry.and_then(|entry| entry.platform);
                    let wanted = stated.unwrap_or_else(|| config.get().platform()).normalized();
                    if !platforms.insert(wanted.to_string()) {
                        whole.others.push(manifest);
                        continue;
                    }
                    whole.images.push(Resolution {
                        reference: reference.clone(),
                        wanted,
                        indexes: path,
                        manifest,
                        config,
                    });
                }
            }
        }
        if whole.images.is_empty() {
            return Err(Error::NoPlatform {
                reference: Box::new(reference.clone()),
                wanted: Box::new(Platform::host()),
                available: Vec::new(),
            });
        }
        whole.images.sort_by_key(|image| image.wanted.to_string());
        task.done();
        Ok(whole)
    }
}

fn document(reference: &Reference) -> impl Fn(DocumentError) -> Error {
    |source| Error::Document {
        reference: Box::new(reference.clone()),
        source: Box::new(source),
    }
}

/// Counts bytes of documents that are held until the end.
fn count(reference: &Reference, sum: &mut u64, bytes: u64) -> Result<(), Error> {
    *sum += bytes;
    if *sum <= MAX_BYTES {
        return Ok(());
    }
    Err(Error::TooLarge {
        reference: Box::new(reference.clone()),
        limit: MAX_BYTES,
    })
}

fn check_size(reference: &Reference, entry: &Descriptor, found: &Parsed) -> Result<(), Error> {
    let actual = found.bytes().len() as u64;
    if actual == entry.size {
        return Ok(());
    }
    Err(document(reference)(DocumentError::SizeMismatch {
        document: "manifest",
        expected: entry.size,
        actual,
    }))
}
