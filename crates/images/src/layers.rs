//! Where layer directories live, how one is staged, and what becomes of the stages of the dead.
//!
//! A layer directory is made in a stage and renamed into place when it is whole. A stage is a directory that its owner keeps
//! locked; when the owner dies the kernel releases the lock, and the next one who sweeps removes it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, io, process};

use unlade_metadata::{LayerDirectoryRecord, LayerForm, LayerOwnership, LayerPlace};
use unlade_oci::Digest;
use unlade_sys::{Dir, Durability, FileLock};

use crate::Error;

/// The name of a tree that is being removed, in its stage.
const RETIRED: &str = "retired";

/// The file that says that layers were extracted here in a user namespace.
const USER_NAMESPACE: &str = "user-namespace";

/// The directory that holds stages and locks beside layer directories outside of the store.
const FRAME: &str = ".unlade";

/// How the names of lock files of layers begin.
const LOCK_PREFIX: &str = "layer-";

/// A directory of layer directories, with its stages and locks.
///
/// Stages must be on the filesystem that the layers are on, and the locks must be where everyone who writes there looks,
/// so a directory outside of the store brings its own.
#[derive(Clone, Debug)]
pub(crate) struct LayerRoot {
    layers: PathBuf,
    staging: PathBuf,
    locks: PathBuf,
    /// The ownership whose directories have no word for it in their names: what is the default for whom this belongs to.
    usual: LayerOwnership,
}

impl LayerRoot {
    /// The one inside the store.
    pub(crate) fn of_store(root: &Path) -> Result<Self, Error> {
        Self::create(root.join("layers"), root.join("staging"), root.join("locks"))
    }

    /// The one inside the store, for its stages alone: the directory of layers may not be there.
    pub(crate) fn stages_of_store(root: &Path) -> Result<Self, Error> {
        let root = Self {
            layers: root.join("layers"),
            staging: root.join("staging"),
            locks: root.join("locks"),
            usual: LayerOwnership::Preserve,
        };
        unlade_sys::create_private_dir(&root.staging)?;
        Ok(root)
    }

    /// One that a user has named. What is recorded is its real path, so that it is the same one by whatever way it is named.
    pub(crate) fn outside(path: &Path) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(|source| unlade_sys::Error::new("create the directory", path, source))?;
        let layers = fs::canonicalize(path).map_err(|source| unlade_sys::Error::new("resolve", path, source))?;
        let own = layers.join(FRAME);
        Self::create(layers, own.join("staging"), own.join("locks"))
    }

    /// Returns the one inside the store if it is there, and makes nothing.
    pub(crate) fn existing_of_store(root: &Path) -> Option<Self> {
        Self::existing(root.join("layers"), root.join("staging"), root.join("locks"))
    }

    /// Returns one that a user has named, if it is there, and makes nothing.
    pub(crate) fn existing_outside(path: &Path) -> Option<Self> {
        let layers = fs::canonicalize(path).ok()?;
        let own = layers.join(FRAME);
        Self::existing(layers, own.join("staging"), own.join("locks"))
    }

    fn existing(layers: PathBuf, staging: PathBuf, locks: PathBuf) -> Option<Self> {
        let usual = usual_ownership(&layers).ok()?;
        Some(Self {
            layers,
            staging,
            locks,
            usual,
        })
    }

    /// Makes the directories. The layer directory itself may be shared with others, so only what is ours is private.
    fn create(layers: PathBuf, staging: PathBuf, locks: PathBuf) -> Result<Self, Error> {
        fs::create_dir_all(&layers)
            .map_err(|source| unlade_sys::Error::new("create the directory", &layers, source))?;
        let usual = usual_ownership(&layers).map_err(|source| unlade_sys::Error::new("look at", &layers, source))?;
        let root = Self {
            layers,
            staging,
            locks,
            usual,
        };
        root.make_working_directories()?;
        Ok(root)
    }

    fn make_working_directories(&self) -> Result<(), Error> {
        unlade_sys::create_private_dir(&self.staging)?;
        unlade_sys::create_private_dir(&self.locks)?;
        Ok(())
    }

    /// Returns what holds the working directories where the layers are outside of the store.
    fn frame(&self) -> Option<&Path> {
        self.staging
            .parent()
            .filter(|frame| frame.parent() == Some(&self.layers))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.layers
    }

    /// Returns the name of a layer's directory. It has no colon, which would end a path in mount options. Directories of
    /// another form or ownership have names of their own, so that one never stands where the other is expected.
    pub(crate) fn name(&self, diff_id: &Digest, place: &LayerPlace) -> String {
        self.name_of(diff_id, "", place)
    }

    /// Returns the name of the directory of a layer that was extracted on top of those below it. That of the lowest layer
    /// differs from the layer's own, although its chain ID is its diff ID.
    pub(crate) fn chain_name(&self, chain_id: &Digest, place: &LayerPlace) -> String {
        self.name_of(chain_id, "chain.", place)
    }

    fn name_of(&self, id: &Digest, kind: &str, place: &LayerPlace) -> String {
        let form = match place.form {
            LayerForm::Overlay => "",
            LayerForm::Oci => "oci.",
        };
        let ownership = if place.ownership == self.usual {
            String::new()
        } else {
            format!("{}.", place.ownership)
        };
        format!("{}-{}.{kind}{form}{ownership}extracted", id.algorithm(), id.hex())
    }

    pub(crate) fn directory(&self, diff_id: &Digest, place: &LayerPlace) -> PathBuf {
        self.layers.join(self.name(diff_id, place))
    }

    /// Locks a layer by its diff ID, or a layer on top of a stack by the chain ID; or says that somebody else has it.
    pub(crate) fn try_lock(&self, id: &Digest) -> Result<Option<LayerLock>, Error> {
        let path = self.locks.join(format!("{LOCK_PREFIX}{}-{}", id.algorithm(), id.hex()));
        let lock = match FileLock::try_exclusive(&path) {
            // A removal has taken the frame away meanwhile.
            Err(error) if error.is_not_found() && self.frame().is_some() => {
                self.make_working_directories()?;
                FileLock::try_exclusive(&path)
            }
            lock => lock,
        };
        Ok(lock?.map(LayerLock))
    }

    /// Removes what was made outside of the store for working there, unless somebody is at work there, or has left something.
    pub(crate) fn remove_frame(&self) {
        if let Some(frame) = self.frame() {
            for directory in [self.staging.as_path(), self.locks.as_path(), frame] {
                if let Err(error) = fs::remove_dir(directory) {
                    tracing::debug!(%error, path = %directory.display(), "a directory stays");
                }
            }
        }
    }

    /// Locks what a recorded directory is made under: its chain ID, or its diff ID.
    pub(crate) fn try_lock_directory(&self, record: &LayerDirectoryRecord) -> Result<Option<LayerLock>, Error> {
        self.try_lock(record.chain_id.as_ref().unwrap_or(&record.diff_id))
    }

    /// Begins a stage.
    pub(crate) fn stage(&self) -> Result<StagedLayer, Error> {
        let mut lost = 0;
        loop {
            match self.try_stage() {
                Ok(Some(staged)) => return Ok(staged),
                Ok(None) => {}
                // A sweep took the new directory for a dead one's before it was locked. Or the place itself is gone.
                Err(error) if error.is_not_found() && lost < 100 => {
                    lost += 1;
                    self.make_working_directories()?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn try_stage(&self) -> Result<Option<StagedLayer>, unlade_sys::Error> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let stage = self.staging.join(name);
        // A stage of that name may be left from an earlier process of the same number; it is not ours to look at.
        if !unlade_sys::create_dir(&stage, 0o700)? {
            return Ok(None);
        }
        let Some(lock) = FileLock::try_exclusive_existing(&stage)? else {
            return Ok(None);
        };
        let tree = stage.join("tree");
        unlade_sys::create_dir(&tree, 0o755)?;
        let directory = Dir::open(&tree)?;
        Ok(Some(StagedLayer {
            directory,
            tree,
            stage,
            is_flushed: false,
            _lock: lock,
        }))
    }

    /// Moves `path` away into a stage of its own, so that it is gone at once and its removal can take its time.
    pub(crate) fn retire(&self, path: &Path) -> Result<Option<StagedLayer>, Error> {
        let staged = self.stage()?;
        let retired = staged.retired();
        let mut renamed = fs::rename(path, &retired);
        if renamed.as_ref().is_err_and(is_denied) && unlade_sys::Dir::open(path)?.set_own_mode(0o700).is_ok() {
            // Without root, a directory that may not be written cannot be moved to another one.
            renamed = fs::rename(path, &retired);
        }
        match renamed {
            Ok(()) => Ok(Some(staged)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(unlade_sys::Error::new("rename", path, source).into()),
        }
    }

    /// Notes that what is here may belong to ids of a user namespace.
    pub(crate) fn mark_user_namespace(&self) -> Result<(), Error> {
        let path = self.locks.join(USER_NAMESPACE);
        fs::write(&path, "").map_err(|source| unlade_sys::Error::new("write", path, source))?;
        Ok(())
    }

    /// Returns whether what is here may belong to ids of a user namespace.
    pub(crate) fn has_user_namespace(&self) -> bool {
        self.locks.join(USER_NAMESPACE).exists()
    }

    /// Lists the layer directories that are here, whether they are recorded or not; what has another name is not ours.
    pub(crate) fn directories(&self) -> Result<Vec<LayerName>, Error> {
        let mut found = Vec::new();
        let failed = |source| unlade_sys::Error::new("list", &self.layers, source);
        for entry in fs::read_dir(&self.layers).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some((stem, suffix)) = name.split_once('.') else {
                continue;
            };
            if let Some((algorithm, hex)) = stem.split_once('-')
                && suffix.ends_with("extracted")
                && let Ok(id) = format!("{algorithm}:{hex}").parse()
            {
                found.push(LayerName { path, id });
            }
        }
        found.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(found)
    }

    /// Removes lock files that nobody holds, which processes that were killed have left.
    pub(crate) fn remove_unused_locks(&self) -> Result<(), Error> {
        let failed = |source| unlade_sys::Error::new("list", &self.locks, source);
        let entries = match fs::read_dir(&self.locks) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            if entry.file_name().as_encoded_bytes().starts_with(LOCK_PREFIX.as_bytes()) {
                match FileLock::try_exclusive_existing(&entry.path()) {
                    // Dropping it removes the file.
                    Ok(lock) => drop(lock.map(LayerLock)),
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Removes the stages whose owners are gone. Costs one directory listing when there are none.
    pub(crate) fn sweep(&self) -> Result<u64, Error> {
        let mut removed = 0;
        let entries = match fs::read_dir(&self.staging) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(source) => return Err(unlade_sys::Error::new("list", &self.staging, source).into()),
        };
        for entry in entries {
            let path = entry
                .map_err(|source| unlade_sys::Error::new("list", &self.staging, source))?
                .path();
            match FileLock::try_exclusive_existing(&path) {
                Ok(Some(_lock)) => {
                    unlade_sys::remove_tree(&path)?;
                    removed += 1;
                }
                Ok(None) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(removed)
    }
}

/// A layer directory, as its name tells.
#[derive(Debug)]
pub(crate) struct LayerName {
    pub(crate) path: PathBuf,
    /// The diff ID or the chain ID.
    pub(crate) id: Digest,
}

/// The lock of one layer. Its file goes with it: whoever has opened that meanwhile finds, after locking, that it is not at
/// its path any more, and starts again.
#[derive(Debug)]
#[must_use = "the lock is released when this value is dropped"]
pub(crate) struct LayerLock(FileLock);

impl Drop for LayerLock {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(self.0.path()) {
            tracing::debug!(%error, path = %self.0.path().display(), "a lock file stays");
        }
    }
}

/// A layer directory that is being made. Dropping it removes it.
#[derive(Debug)]
pub struct StagedLayer {
    directory: Dir,
    tree: PathBuf,
    stage: PathBuf,
    is_flushed: bool,
    _lock: FileLock,
}

impl StagedLayer {
    /// Returns the directory to make the files in.
    pub fn directory(&self) -> &Dir {
        &self.directory
    }

    /// Returns where a tree is that was moved here to be removed.
    pub(crate) fn retired(&self) -> PathBuf {
        self.stage.join(RETIRED)
    }

    /// Returns whether nothing was made.
    pub(crate) fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.directory.read()?.is_empty())
    }

    /// Waits until the tree is on the disk, if `durability` asks for that; nothing is to be made in it afterwards.
    pub(crate) fn flush(&mut self, durability: Durability) -> Result<(), Error> {
        if durability == Durability::Sync && !self.is_flushed {
            unlade_sys::sync_filesystem(&self.tree)?;
            self.is_flushed = true;
        }
        Ok(())
    }

    /// Puts the tree at `target`. Whatever stood there gives way in the same instant; it has no row, so nobody knows it.
    ///
    /// A durable publication waits until the tree is on the disk before it gets its name, and for the name after.
    pub(crate) fn publish(mut self, target: &Path, durability: Durability) -> Result<(), Error> {
        self.flush(durability)?;
        let mode = self.directory.stat_self()?.st_mode & 0o7777;
        // Without root, a directory that may not be written cannot be moved to another one.
        let is_locked = mode & 0o200 == 0 && !unlade_sys::is_root();
        if is_locked {
            self.directory.set_own_mode(mode | 0o200)?;
        }
        if !unlade_sys::rename_no_replace(&self.tree, target)? {
            self.exchange(target, durability)?;
        }
        if is_locked {
            self.directory.set_own_mode(mode)?;
        }
        if let (Durability::Sync, Some(layers)) = (durability, target.parent()) {
            unlade_sys::sync_directory(layers)?;
        }
        Ok(())
    }

    /// Lets what stands at `target` and the tree change places. On xfs both get new times by that: the entry for the
    /// directory above is written in each.
    fn exchange(&self, target: &Path, durability: Durability) -> Result<(), Error> {
        let times = self.directory.own_times()?;
        unlade_sys::exchange(&self.tree, target)?;
        if self.directory.own_times()?.last_modification != times.last_modification {
            self.directory.set_own_times(&times)?;
            if durability == Durability::Sync {
                unlade_sys::sync_directory(target)?;
            }
        }
        Ok(())
    }
}

impl Drop for StagedLayer {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next sweep: the lock goes with this value.
        if let Err(error) = unlade_sys::remove_tree(&self.stage) {
            tracing::warn!(%error, "a stage could not be removed, the next pull will try again");
        }
    }
}

/// Returns the ownership that is the default for whom a directory belongs to.
fn usual_ownership(layers: &Path) -> io::Result<LayerOwnership> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(match fs::metadata(layers)?.uid() {
        0 => LayerOwnership::Preserve,
        _ => LayerOwnership::Record,
    })
}

fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> (tempfile::TempDir, LayerRoot) {
        let directory = tempfile::tempdir().unwrap();
        let root = LayerRoot::of_store(directory.path()).unwrap();
        (directory, root)
    }

    fn place(root: &LayerRoot, ownership: LayerOwnership) -> LayerPlace {
        LayerPlace {
            root: root.layers.clone(),
            form: LayerForm::Overlay,
            ownership,
        }
    }

    #[test]
    fn every_form_and_ownership_has_a_name_of_its_own() {
        let (_directory, root) = root();
        let digest = Digest::sha256("x");
        let mut names = std::collections::BTreeSet::new();
        for form in [LayerForm::Overlay, LayerForm::Oci] {
            for ownership in [
                LayerOwnership::Preserve,
                LayerOwnership::Record,
                LayerOwnership::Squash,
                LayerOwnership::Userns,
            ] {
                let place = LayerPlace {
                    form,
                    ..place(&root, ownership)
                };
                for name in [root.name(&digest, &place), root.chain_name(&digest, &place)] {
                    fs::create_dir(root.layers.join(&name)).unwrap();
                    names.insert(name);
                }
            }
        }
        assert_eq!(names.len(), 16, "{names:?}");
        assert!(names.contains(&format!("sha256-{}.extracted", digest.hex())));
        assert_eq!(
            root.directories().unwrap().len(),
            16,
            "all are found by who looks for what is left over"
        );
    }

    fn stages(root: &LayerRoot) -> usize {
        fs::read_dir(&root.staging).unwrap().count()
    }

    #[test]
    fn a_dropped_stage_is_removed_and_a_published_one_stays() {
        let (_directory, root) = root();
        drop(root.stage().unwrap());
        assert_eq!(stages(&root), 0);

        let staged = root.stage().unwrap();
        fs::write(staged.tree.join("file"), "new").unwrap();
        let target = root.directory(&Digest::sha256("x"), &place(&root, root.usual));
        staged.publish(&target, Durability::Sync).unwrap();
        assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "new");
        assert_eq!(stages(&root), 0);
    }

    #[test]
    fn publishing_replaces_what_nobody_has_recorded() {
        let (_directory, root) = root();
        let target = root.directory(&Digest::sha256("x"), &place(&root, root.usual));
        fs::create_dir(&target).unwrap();
        fs::write(target.join("left over"), "").unwrap();
        root.stage().unwrap().publish(&target, Durability::Lazy).unwrap();
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
        assert_eq!(stages(&root), 0);
    }

    #[test]
    fn a_sweep_takes_the_dead_and_spares_the_living() {
        let (_directory, root) = root();
        let living = root.stage().unwrap();
        fs::create_dir_all(root.staging.join("4711-0/tree/etc")).unwrap();
        assert_eq!(root.sweep().unwrap(), 1);
        assert!(living.tree.is_dir());
        assert_eq!(stages(&root), 1);
    }

    #[test]
    fn only_one_holds_a_layer() {
        let (_directory, root) = root();
        let digest = Digest::sha256("x");
        let lock = root.try_lock(&digest).unwrap().unwrap();
        assert!(root.try_lock(&digest).unwrap().is_none());
        assert!(root.try_lock(&Digest::sha256("y")).unwrap().is_some());
        drop(lock);
        assert!(root.try_lock(&digest).unwrap().is_some());
    }
}
