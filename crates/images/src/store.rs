//! The store: its options, its parts, and how they are opened.

use std::fs::File;
use std::path::{Path, PathBuf};

use unlade_blobs::BlobStore;
use unlade_extract::{Helpers, Limits, Options, Ownership, Privilege, Whiteouts};
use unlade_metadata::{
    Database, Durability as Recorded, LayerForm, LayerOwnership, LayerPlace, LayerState as KnownLayer,
};
use unlade_oci::Digest;
use unlade_sys::{Durability, Entered, FileLock, LockRank};

use crate::Error;
use crate::layers::LayerRoot;
use crate::record::Recorder;

/// Where a store is and how it keeps layers.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The store's directory. It is created, private to the user, if it does not exist.
    pub root: PathBuf,
    /// The directory for layer directories; `None` is the store's own. It may be on another filesystem.
    pub layer_path: Option<PathBuf>,
    /// The form in which layer directories keep removals.
    pub whiteouts: Whiteouts,
    /// Whom the files of layers belong to; `None` is what goes with the user: root preserves owners, anybody else records
    /// them. With [`Ownership::Userns`], [`enter_user_namespace`] has to be called before anything is extracted.
    pub ownership: Option<Ownership>,
    /// Whether a pull waits until what it has written is on the disk.
    pub durability: Durability,
    /// How many threads may help to make files, beside those that each layer has; `None` is the number that a process shares.
    pub helpers: Option<Helpers>,
}

impl StoreOptions {
    /// The store at `root` with all else as it is by default.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            layer_path: None,
            whiteouts: Whiteouts::Overlay,
            ownership: None,
            durability: Durability::Lazy,
            helpers: None,
        }
    }
}

/// The places of the locks in their order; those of ingests are between layers and `index.json`.
const REMOVAL_LOCK: LockRank = LockRank::waited_for(1, "removal");
pub(crate) const LAYER_LOCK: LockRank = LockRank::tried(2, "layer");
const INDEX_LOCK: LockRank = LockRank::waited_for(4, "index");

/// A lock that stays on the thread that has taken it.
#[derive(Debug)]
pub(crate) struct OrderedLock {
    lock: FileLock,
    _entered: Entered,
}

impl OrderedLock {
    fn new(lock: FileLock, entered: Entered) -> Self {
        Self {
            lock,
            _entered: entered,
        }
    }

    /// Returns the file that carries the lock.
    pub(crate) fn file(&self) -> &File {
        self.lock.file()
    }
}

/// A local image store. Cloning gives another handle on the same one.
///
/// All calls block: on an async executor they belong on a blocking thread.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) root: PathBuf,
    pub(crate) blobs: BlobStore,
    pub(crate) database: Database,
    pub(crate) recorder: Recorder,
    pub(crate) layers: LayerRoot,
    pub(crate) form: LayerForm,
    pub(crate) ownership: LayerOwnership,
    pub(crate) durability: Durability,
    pub(crate) helpers: Option<Helpers>,
    pub(crate) boot_id: String,
    pub(crate) layers_beside_blobs: bool,
}

/// What the store has of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerState {
    /// Whether its blob is there and was checked against this diff ID, and no power loss can have changed it since.
    pub blob: bool,
    /// Whether its directory is there, and no power loss can have changed it.
    pub directory: bool,
    /// Whether the blob was read once and found to hold this layer, be it there or not.
    pub known: bool,
    /// How many bytes of the blob are there from an earlier download that did not finish.
    pub partial: u64,
}

impl Store {
    /// Opens a store and creates what is missing.
    ///
    /// # Errors
    /// The directory cannot be made or written, is something else than a store, or its database is damaged or newer than
    /// this program.
    pub fn open(options: &StoreOptions) -> Result<Self, Error> {
        Self::open_under_boot(options, unlade_sys::boot_id()?)
    }

    /// Opens a store as if the machine had been started with this boot ID. For tests of what a power loss leaves.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    #[doc(hidden)]
    pub fn open_under_boot(options: &StoreOptions, boot_id: String) -> Result<Self, Error> {
        let root = std::path::absolute(&options.root)
            .map_err(|source| unlade_sys::Error::new("make absolute", &options.root, source))?;
        unlade_sys::create_private_dir(&root)?;
        // Layers that live elsewhere bring locks of their own; these are for the store as a whole.
        unlade_sys::create_private_dir(&root.join("locks"))?;
        let blobs = BlobStore::open_with(&root, options.durability)?;
        let database = Database::open(root.join("metadata.db"))?;
        if options.durability == Durability::Sync {
            database.flush_commits()?;
        }
        let layers = match &options.layer_path {
            Some(path) => LayerRoot::outside(path)?,
            None => LayerRoot::of_store(&root)?,
        };
        let store = Self::of_parts(root, blobs, database, layers, options, boot_id)?;
        if store.ownership == LayerOwnership::Userns {
            store.layers.mark_user_namespace()?;
        }
        if store.blobs.made_index() && !store.database.names()?.is_empty() {
            store.write_index()?;
        }
        Ok(store)
    }

    /// Opens a store that is there for [`look_up`](Self::look_up), and makes and writes nothing. `None` if something would have
    /// to be made or mended first, or if another process is at work in the database or was lately: then [`open`](Self::open)
    /// is for it.
    ///
    /// While this one lives, the log of the database cannot be emptied: drop it soon, and use no other of this process
    /// meanwhile. Recording anything in it fails.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn open_at_rest(options: &StoreOptions) -> Result<Option<Self>, Error> {
        let boot_id = unlade_sys::boot_id()?;
        let root = std::path::absolute(&options.root)
            .map_err(|source| unlade_sys::Error::new("make absolute", &options.root, source))?;
        let Some(database) = Database::at_rest(root.join("metadata.db")) else {
            return Ok(None);
        };
        let layers = match &options.layer_path {
            Some(path) => LayerRoot::existing_outside(path),
            None => LayerRoot::existing_of_store(&root),
        };
        let (Some(blobs), Some(layers)) = (BlobStore::existing(&root, options.durability)?, layers) else {
            return Ok(None);
        };
        Self::of_parts(root, blobs, database, layers, options, boot_id).map(Some)
    }

    fn of_parts(
        root: PathBuf,
        blobs: BlobStore,
        database: Database,
        layers: LayerRoot,
        options: &StoreOptions,
        boot_id: String,
    ) -> Result<Self, Error> {
        let layers_beside_blobs = options.layer_path.is_none() || same_filesystem(&root, layers.path())?;
        let form = match options.whiteouts {
            Whiteouts::Overlay => LayerForm::Overlay,
            Whiteouts::Oci => LayerForm::Oci,
        };
        Ok(Self {
            root,
            blobs,
            database,
            recorder: Recorder::default(),
            layers,
            form,
            ownership: recorded(options.ownership.unwrap_or(Privilege::of_process().ownership())),
            durability: options.durability,
            helpers: options.helpers.clone(),
            boot_id,
            layers_beside_blobs,
        })
    }

    /// Returns the store's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns whether layers are extracted in a user namespace, see [`Ownership::Userns`].
    pub fn uses_user_namespace(&self) -> bool {
        self.ownership == LayerOwnership::Userns
    }

    /// Returns whether something may be here that only a process in the user's namespace ([`enter_user_namespace`]) can read
    /// and remove: layers that were extracted in it, or what is left of such an extraction. For root there is no such thing.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn needs_user_namespace(&self) -> Result<bool, Error> {
        if unlade_sys::is_root() {
            return Ok(false);
        }
        if self.layers.has_user_namespace() {
            return Ok(true);
        }
        let directories = self.database.layer_directories()?;
        Ok(directories
            .iter()
            .any(|(_, record)| record.place.ownership == LayerOwnership::Userns))
    }

    /// Returns the directory that holds the layer directories.
    pub fn layer_root(&self) -> &Path {
        self.layers.path()
    }

    /// Returns whether layer directories and blobs share a filesystem, and so its free space.
    pub fn layers_beside_blobs(&self) -> bool {
        self.layers_beside_blobs
    }

    /// Returns the blob files.
    pub fn blobs(&self) -> &BlobStore {
        &self.blobs
    }

    /// Returns how layers of this store are extracted.
    pub fn extract_options(&self, limits: Limits) -> Options {
        let whiteouts = match self.form {
            LayerForm::Overlay => Whiteouts::Overlay,
            LayerForm::Oci => Whiteouts::Oci,
        };
        Options {
            whiteouts,
            ownership: meant(self.ownership),
            privilege: Privilege::of_process(),
            limits,
            confine: true,
            helpers: self.helpers.clone().unwrap_or_default(),
        }
    }

    /// Reads a document. `None` if it is not there or its bytes are not those of its digest.
    ///
    /// # Errors
    /// The blob is larger than `limit`, in bytes, or cannot be read.
    pub fn document(&self, digest: &Digest, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        match self.blobs.read(digest, limit) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(unlade_blobs::Error::NotFound { .. } | unlade_blobs::Error::Damaged { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Finds out what is there of each of `layers`, given as blob digest and diff ID, in their order, without claiming any.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn layer_states(&self, layers: &[(Digest, Digest)]) -> Result<Vec<LayerState>, Error> {
        let known = self.database.layer_states(layers, Some(&self.place()))?;
        let states = layers.iter().zip(known).map(|((blob, _), known)| {
            Ok(LayerState {
                blob: self.is_checked(&known) && self.blobs.contains(blob)?,
                directory: self.has_directory(&known),
                known: known.is_linked,
                partial: self.blobs.ingest(blob)?.map_or(0, |ingest| ingest.bytes),
            })
        });
        states.collect()
    }

    /// Removes a blob whose content is wrong, and what has arrived of it, so that it is fetched anew. One that somebody else is
    /// fetching, or has put right meanwhile, stays.
    ///
    /// # Errors
    /// The files cannot be read or removed.
    pub fn discard_blob(&self, digest: &Digest) -> Result<(), Error> {
        self.blobs.discard(digest)?;
        Ok(())
    }

    /// Removes what has arrived of a blob, unless somebody is fetching it.
    ///
    /// # Errors
    /// The files cannot be removed.
    pub fn discard_partial(&self, digest: &Digest) -> Result<(), Error> {
        match self.blobs.discard_ingest(digest) {
            Ok(_) | Err(unlade_blobs::Error::Busy { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes what dead processes have left half done, and writes the `index.json` that one of them has not come to. A pull
    /// begins with it; it costs a directory listing.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn sweep(&self) -> Result<u64, Error> {
        let mut removed = self.layers.sweep()?;
        if self.layers.path() != self.root.join("layers") {
            // Archives are staged beside the blobs, wherever the layers are.
            removed += LayerRoot::stages_of_store(&self.root)?.sweep()?;
        }
        self.finish_index()?;
        Ok(removed)
    }

    /// Returns what is recorded of one layer.
    pub(crate) fn known(&self, blob: &Digest, diff_id: &Digest) -> Result<KnownLayer, Error> {
        let layer = [(blob.clone(), diff_id.clone())];
        let mut known = self.database.layer_states(&layer, Some(&self.place()))?;
        Ok(known.remove(0))
    }

    /// Returns whether the blob was once read to its end and found to hold this layer, and no power loss can have changed
    /// it since.
    pub(crate) fn is_checked(&self, known: &KnownLayer) -> bool {
        known.is_linked && known.blob.as_ref().is_some_and(|file| self.trusts(&file.durability))
    }

    /// Returns whether a power loss cannot have changed what was written like this.
    pub(crate) fn trusts(&self, durability: &Recorded) -> bool {
        durability.is_trusted(&self.boot_id)
    }

    /// Returns whether the layer's directory is recorded, is there, and can be trusted.
    pub(crate) fn has_directory(&self, known: &KnownLayer) -> bool {
        let is_empty = known.layer.as_ref().is_some_and(|layer| layer.is_empty);
        let directory = known.directory.as_ref();
        directory.is_some_and(|found| self.trusts(&found.durability) && is_in_place(&found.path, is_empty))
    }

    pub(crate) fn place(&self) -> LayerPlace {
        LayerPlace {
            root: self.layers.path().to_owned(),
            form: self.form,
            ownership: self.ownership,
        }
    }

    /// What is recorded of a file that was just written.
    pub(crate) fn written(&self) -> Recorded {
        Recorded {
            synced: self.durability == Durability::Sync,
            boot_id: self.boot_id.clone(),
        }
    }

    /// Serialises the rewriting of `index.json`: what is written must not be older than what is there.
    pub(crate) fn lock_index(&self) -> Result<OrderedLock, Error> {
        let order = unlade_sys::enter(INDEX_LOCK);
        Ok(OrderedLock::new(FileLock::exclusive(&self.index_lock())?, order))
    }

    pub(crate) fn index_lock(&self) -> PathBuf {
        self.root.join("locks").join("index")
    }

    /// Keeps removals, and the taking of leases and the recording of images, apart. Who removes holds it alone.
    pub(crate) fn lock_removal(&self) -> Result<OrderedLock, Error> {
        let order = unlade_sys::enter(REMOVAL_LOCK);
        Ok(OrderedLock::new(FileLock::exclusive(&self.removal_lock())?, order))
    }

    /// Keeps removals out for as long as a lease is taken or an image is recorded; others may do that too.
    pub(crate) fn no_removal(&self) -> Result<OrderedLock, Error> {
        let order = unlade_sys::enter(REMOVAL_LOCK);
        Ok(OrderedLock::new(FileLock::shared(&self.removal_lock())?, order))
    }

    fn removal_lock(&self) -> PathBuf {
        self.root.join("locks").join("removal")
    }
}

/// Moves this process into a user namespace of its own, in which files of layers can have their real owners
/// ([`Ownership::Userns`]): its user is root there, and the ids of the image from 1 on are the user's subordinate ids.
///
/// The process must not have other threads: call it at the start, or after [`Store::open`] and a look-up, which start none.
///
/// # Errors
/// The user is root or has no subordinate ids, `newuidmap` or `newgidmap` is missing, or the kernel refuses it.
pub fn enter_user_namespace() -> Result<(), Error> {
    unlade_sys::enter_user_namespace().map_err(|source| Error::UserNamespace { source })
}

/// Returns how an ownership is recorded.
const fn recorded(ownership: Ownership) -> LayerOwnership {
    match ownership {
        Ownership::Preserve => LayerOwnership::Preserve,
        Ownership::Record => LayerOwnership::Record,
        Ownership::Squash => LayerOwnership::Squash,
        Ownership::Userns => LayerOwnership::Userns,
    }
}

/// Returns what a recorded ownership means to extraction.
pub(crate) const fn meant(ownership: LayerOwnership) -> Ownership {
    match ownership {
        LayerOwnership::Preserve => Ownership::Preserve,
        LayerOwnership::Record => Ownership::Record,
        LayerOwnership::Squash => Ownership::Squash,
        LayerOwnership::Userns => Ownership::Userns,
    }
}

/// Returns whether a layer directory is there. Only a layer that is empty may have an empty one.
pub(crate) fn is_in_place(directory: &Path, is_empty: bool) -> bool {
    use std::os::unix::fs::MetadataExt;
    // On most filesystems a directory of more than two links has directories in it, as all but odd layers do, and one call
    // says so. Where links of directories are not counted, it has to be read.
    match std::fs::symlink_metadata(directory) {
        Ok(found) if !found.is_dir() => return false,
        Ok(found) if is_empty || found.nlink() > 2 => return true,
        Ok(_) => {}
        Err(_) => return false,
    }
    std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some())
}

fn same_filesystem(a: &Path, b: &Path) -> Result<bool, Error> {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| {
        std::fs::metadata(path)
            .map(|metadata| metadata.dev())
            .map_err(|source| Error::from(unlade_sys::Error::new("look at", path, source)))
    };
    Ok(device(a)? == device(b)?)
}
