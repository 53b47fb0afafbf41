//! Removing what nothing needs, and images that have not been used for long, or more than fits.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use unlade_metadata::{Collect, Collected, Collection, ImageContent, LayerDirectoryRecord};
use unlade_oci::{Digest, Platform};
use unlade_reference::Reference;
use unlade_sys::DiskUsage;

use crate::layers::{LayerName, LayerRoot, StagedLayer};
use crate::store::{LAYER_LOCK, is_in_place};
use crate::usage::Parts;
use crate::{Error, Store, image};

/// A download that was cut off is kept for so long, to be continued.
const KEEP_PARTIAL: Duration = Duration::from_hours(24);

/// What goes beside what nothing needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct PruneOptions {
    /// All images and artifacts, and downloads that were cut off.
    pub all: bool,
    /// Images that were not used for so long.
    pub max_age: Option<Duration>,
    /// Images, those first that were not used for longest, until the others take no more bytes of disk than this.
    pub max_size: Option<u64>,
    /// The blobs of layers whose directories are there.
    pub blobs: bool,
    /// Nothing in fact: it is only found out what would go.
    pub dry_run: bool,
}

/// What went, or would go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pruned {
    /// The names, each with its platform.
    pub names: Vec<(Reference, Platform)>,
    /// The artifacts.
    pub artifacts: Vec<Reference>,
    /// The blobs.
    pub blobs: Vec<Digest>,
    /// The layer directories.
    pub directories: Vec<PathBuf>,
    /// The blobs of which a part had arrived.
    pub partial: Vec<Digest>,
    /// The room that all this took, in bytes of disk.
    pub bytes: u64,
}

impl Store {
    /// Removes images by their age or size, and all that no image needs: what names have moved away from, what killed
    /// processes have left, files that the database does not know.
    ///
    /// Safe beside anything: content that a running pull has leased stays, and so does an image that was used since it was
    /// chosen. Names go first, so that no image is left in part.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn prune(&self, options: &PruneOptions) -> Result<Pruned, Error> {
        let contents = self.database.contents()?;
        let collection = Collection {
            images: self.chosen(options, &contents)?,
            artifacts: options.all,
            without_blobs: if options.blobs {
                self.extracted_layers()?
            } else {
                BTreeSet::new()
            },
        };
        let collect = if options.dry_run { Collect::Try } else { Collect::Apply };
        let mut sweep = Sweep {
            store: self,
            dry_run: options.dry_run,
            trees: DiskUsage::new(),
            files: 0,
            pruned: Pruned::default(),
            retired: Vec::new(),
            elsewhere: vec![self.layers.clone()],
        };
        {
            let _alone = self.lock_removal()?;
            let _mounted = self.lease_mounted()?;
            let index = (!options.dry_run).then(|| self.change_index()).transpose()?;
            let collected = self.database.collect(&collection, collect)?;
            if let Some(index) = index {
                index.write()?;
            }
            sweep.names(&collected);
            sweep.directories(&collected)?;
            sweep.blobs(&collected)?;
            sweep.partial_downloads(&collected, options.all)?;
        }
        let Sweep {
            trees,
            files,
            mut pruned,
            retired,
            elsewhere,
            ..
        } = sweep;
        // The trees are out of the way already; deleting them may take a while and holds nobody up.
        drop(retired);
        if !options.dry_run {
            for root in elsewhere {
                root.remove_unused_locks()?;
                root.sweep()?;
                root.remove_frame();
            }
            self.empty_log();
        }
        pruned.bytes = trees.bytes() + files;
        Ok(pruned)
    }

    /// Chooses images, each with the time that it was last used, as far as that is known now.
    fn chosen(&self, options: &PruneOptions, contents: &[ImageContent]) -> Result<Vec<(i64, SystemTime)>, Error> {
        let now = SystemTime::now();
        let mut parts = match options.max_size {
            Some(_) => Some(Parts::of(self, contents)?),
            None => None,
        };
        let mut size = parts.as_ref().map_or(0, Parts::total);
        let mut order: Vec<usize> = (0..contents.len()).collect();
        order.sort_by_key(|at| contents[*at].last_used_at);
        let mut chosen = Vec::new();
        for at in order {
            let image = &contents[at];
            let age = now.duration_since(image.last_used_at).unwrap_or_default();
            let too_old = options.max_age.is_some_and(|max| age > max);
            let too_much = options.max_size.is_some_and(|max| size > max);
            if options.all || too_old || too_much {
                chosen.push((image.id, image.last_used_at));
                if let Some(parts) = &mut parts {
                    size -= parts.take(at);
                }
            }
        }
        Ok(chosen)
    }

    /// Returns the layers that can do without their blobs: each has a directory that is there and can be trusted.
    fn extracted_layers(&self) -> Result<BTreeSet<Digest>, Error> {
        let mut layers = BTreeSet::new();
        for (_, record) in self.database.layer_directories()? {
            if record.chain_id.is_none() && self.trusts(&record.durability) {
                let layer = self.database.layer(&record.diff_id)?;
                if is_in_place(&record.path(), layer.is_some_and(|layer| layer.is_empty)) {
                    layers.insert(record.diff_id);
                }
            }
        }
        Ok(layers)
    }
}

/// The removal of files after the rows are gone.
struct Sweep<'a> {
    store: &'a Store,
    dry_run: bool,
    trees: DiskUsage,
    files: u64,
    pruned: Pruned,
    retired: Vec<StagedLayer>,
    /// The places of layer directories that were looked at.
    elsewhere: Vec<LayerRoot>,
}

impl Sweep<'_> {
    fn names(&mut self, collected: &Collected) {
        let names = collected.removed.names.iter();
        self.pruned.names = names
            .filter_map(|(name, platform)| Some((image::reference(name)?, platform.clone())))
            .collect();
        let artifacts = collected.removed.artifacts.iter();
        self.pruned.artifacts = artifacts.filter_map(image::reference).collect();
    }

    fn directories(&mut self, collected: &Collected) -> Result<(), Error> {
        for record in &collected.removed.directories {
            let root = self.store.root_of(record)?;
            self.directory(
                &root,
                record.chain_id.as_ref().unwrap_or(&record.diff_id),
                record.path(),
            )?;
        }
        // What has no row is not known to anybody; who is making it holds its lock.
        let known: BTreeSet<PathBuf> = collected.directories.iter().map(LayerDirectoryRecord::path).collect();
        let root = self.store.layers.clone();
        for LayerName { path, id } in root.directories()? {
            if !known.contains(&path) && !collected.leased_layers.contains(&id) {
                self.directory(&root, &id, path)?;
            }
        }
        Ok(())
    }

    fn directory(&mut self, root: &LayerRoot, id: &Digest, path: PathBuf) -> Result<(), Error> {
        if self.pruned.directories.contains(&path) {
            return Ok(());
        }
        if self.dry_run {
            if path.exists() {
                self.trees.add(&path)?;
                self.pruned.directories.push(path);
            }
            return Ok(());
        }
        if !self.elsewhere.iter().any(|other| other.path() == root.path()) {
            self.elsewhere.push(root.clone());
        }
        // Who is at work on it holds its lock, and then it stays.
        let _order = unlade_sys::enter(LAYER_LOCK);
        let Some(_lock) = root.try_lock(id)? else {
            return Ok(());
        };
        if let Some(retired) = root.retire(&path)? {
            self.trees.add(&retired.retired())?;
            self.pruned.directories.push(path);
            self.retired.push(retired);
        }
        Ok(())
    }

    fn blobs(&mut self, collected: &Collected) -> Result<(), Error> {
        for (digest, _) in self.store.blobs.list()? {
            if !collected.blobs.contains(&digest) {
                let bytes = DiskUsage::new().add(&self.store.blobs.path(&digest))?;
                if self.dry_run || self.store.blobs.remove(&digest)?.is_some() {
                    self.pruned.blobs.push(digest);
                    self.files += bytes;
                }
            }
        }
        Ok(())
    }

    fn partial_downloads(&mut self, collected: &Collected, all: bool) -> Result<(), Error> {
        for ingest in self.store.blobs.ingests()? {
            let path = self.store.blobs.ingest_path(&ingest.digest);
            let is_old = std::fs::metadata(&path)
                .and_then(|metadata| metadata.modified())
                .is_ok_and(|time| time.elapsed().is_ok_and(|age| age > KEEP_PARTIAL));
            if ingest.busy || collected.blobs.contains(&ingest.digest) || !(all || is_old) {
                continue;
            }
            let bytes = DiskUsage::new().add(&path)?;
            let gone = self.dry_run
                || match self.store.blobs.discard_ingest(&ingest.digest) {
                    Ok(gone) => gone.is_some(),
                    // Somebody has begun to continue it.
                    Err(unlade_blobs::Error::Busy { .. }) => false,
                    Err(error) => return Err(error.into()),
                };
            if gone {
                self.pruned.partial.push(ingest.digest);
                self.files += bytes;
            }
        }
        Ok(())
    }
}
