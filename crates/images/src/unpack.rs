//! An image's root filesystem as a directory: built beside its place, and put there in one step.
//!
//! There are two ways to the same tree. Where every layer has its directory, the merged view of them is copied, and data is
//! shared where the filesystem can. Where one is missing, the layers are applied one by one from their blobs; what the next
//! layer removes is read out of it while the one before is applied.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use unlade_extract::{Limits, Options, Privilege, Progress, Removals, Summary, Total, TreeWriter, Whiteouts};
use unlade_oci::Descriptor;
use unlade_sys::{Dir, Durability, FileLock};

use crate::claim::check_content;
use crate::store::{is_in_place, meant};
use crate::view::View;
use crate::{Error, Image, Layer, Needed, Store};

/// How the names of trees begin that are being made. One that nobody has locked is what a killed process has left; the next
/// that unpacks beside it removes it.
const STAGE_PREFIX: &str = ".unlade-unpack-";

/// How often it is looked whether to stop, while nothing else happens.
const PATIENCE: Duration = Duration::from_millis(50);

/// How a root filesystem is unpacked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnpackOptions {
    /// Whether a directory that is there and not empty is replaced, in one step.
    pub replace: bool,
    /// Whether a directory of a layer spares a symbolic link to a directory that is in its place, and goes where it leads.
    /// The layers are applied from their blobs then.
    pub keep_directory_links: bool,
    /// Whether files are hard links of those in the layer directories, where that can be done. They share data, mode, owner
    /// and times with the store, and with every other tree made like this: the tree is for reading only.
    pub link_files: bool,
    /// Limits for what a layer may contain, where layers are applied from their blobs.
    pub limits: Limits,
}

/// What a root filesystem was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnpackSource {
    /// The layer directories.
    Directories,
    /// The blobs.
    Blobs,
}

/// A root filesystem that was unpacked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Unpacked {
    /// Where it is: an absolute path.
    pub path: PathBuf,
    /// What it was made from.
    pub source: UnpackSource,
    /// How many entries were made, from layer directories; how many the layers have, from blobs.
    pub entries: u64,
    /// What was done other than the layers say. For layers that have directories, what was noted then is not noted again.
    pub summary: Summary,
}

/// Looks whether a root filesystem could be unpacked at `target`, before anything is fetched for it. Returns where it would
/// be.
///
/// # Errors
/// Something is there already, or it cannot be looked at.
pub fn check_unpack_target(target: &Path, replace: bool) -> Result<PathBuf, Error> {
    Ok(Target::check(target, replace)?.path)
}

impl Store {
    /// Returns the merged view of an image's layer directories; `None` if one of them is not there.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn view(&self, image: &Image) -> Result<Option<View>, Error> {
        let mut view = View::default();
        for layer in &image.layers {
            let Some(directory) = self.used_directory(layer)? else {
                return Ok(None);
            };
            self.push_layer(
                &mut view,
                &layer.diff_id,
                &directory,
                &self.place(),
                layer.chain_id.is_some(),
            )?;
        }
        Ok(Some(view))
    }

    /// Makes the root filesystem of an image at `target`, which must not exist or be an empty directory, unless it is to be
    /// replaced. Nothing that it is made from is removed meanwhile.
    ///
    /// The tree is built in a directory of its own in the directory of `target` and gets its name when it is whole. After an
    /// error, or when `progress` is cancelled, nothing is left of it.
    ///
    /// # Errors
    /// `target` is in use, a layer or its blob is missing or refused, the filesystem does not let us, or `progress` was
    /// cancelled.
    pub fn unpack(
        &self,
        image: &Image,
        target: &Path,
        options: &UnpackOptions,
        progress: &Progress,
    ) -> Result<Unpacked, Error> {
        let target = Target::check(target, options.replace)?;
        let _lease = self.lease(&Needed {
            blobs: image.layers.iter().map(|layer| layer.blob.clone()).collect(),
            diff_ids: image.layers.iter().map(|layer| layer.diff_id.clone()).collect(),
        })?;
        let stage = Stage::begin(&target)?;
        let extract = Options {
            whiteouts: Whiteouts::Overlay,
            ownership: meant(self.ownership),
            privilege: Privilege::of_process(),
            limits: options.limits.clone(),
            confine: false,
            helpers: self.helpers.clone().unwrap_or_default(),
        };
        let view = if options.keep_directory_links {
            None
        } else {
            self.view(image)?
        };
        let mut writer = TreeWriter::new(&stage.directory, &extract)?
            .keep_directory_links(options.keep_directory_links)
            .link_files(options.link_files);
        let mut summary = Summary::default();
        let (source, entries) = if let Some(view) = view {
            (UnpackSource::Directories, view.write_to(writer.sink(), progress)?)
        } else {
            let entries = self.apply(image, &mut writer, &mut summary, &options.limits, progress)?;
            (UnpackSource::Blobs, entries)
        };
        summary.absorb(writer.finish()?);
        stage.publish(&target, self.durability)?;
        Ok(Unpacked {
            path: target.path,
            source,
            entries,
            summary,
        })
    }

    /// Applies the layers one by one.
    fn apply(
        &self,
        image: &Image,
        writer: &mut TreeWriter<'_>,
        summary: &mut Summary,
        limits: &Limits,
        progress: &Progress,
    ) -> Result<u64, Error> {
        // What is missing is said before any work is done.
        for layer in &image.layers {
            drop(self.layer_blob(&layer.blob)?);
        }
        let ahead = Progress::new();
        let (found, removals) = sync_channel(1);
        thread::scope(|scope| {
            // Declared first, so that it is dropped last: by then nobody receives, which ends the thread.
            let stop = StopOnDrop(&ahead);
            let scanned = &ahead;
            scope.spawn(move || {
                for layer in image.layers.iter().skip(1) {
                    let result = self.removals(layer, limits, scanned);
                    let is_last = result.is_err();
                    if found.send(result).is_err() || is_last {
                        return;
                    }
                }
            });
            let mut entries = 0;
            let total = Total::new();
            for (at, layer) in image.layers.iter().enumerate() {
                let removals = if at == 0 {
                    Removals::default()
                } else {
                    next(&removals, progress)?
                };
                let (blob, diff) = (layer.blob.algorithm(), layer.diff_id.algorithm());
                let report = writer
                    .apply(
                        self.layer_blob(&layer.blob)?,
                        &removals,
                        blob,
                        diff,
                        &progress.next_within(&total),
                    )
                    .map_err(|source| failed(layer, source))?;
                check_content(&descriptor(layer), &layer.diff_id, &report)?;
                entries += report.entries;
                summary.absorb(report.summary);
            }
            drop(removals);
            drop(stop);
            Ok(entries)
        })
    }

    /// Reads what a layer removes.
    fn removals(&self, layer: &Layer, limits: &Limits, progress: &Progress) -> Result<Removals, Error> {
        let (blob, diff) = (layer.blob.algorithm(), layer.diff_id.algorithm());
        let input = self.layer_blob(&layer.blob)?;
        // What is read ahead is read again, and counted then.
        let progress = &progress.next_within(&Total::new());
        let (removals, report) = unlade_extract::read_removals(input, blob, diff, limits, progress)
            .map_err(|source| failed(layer, source))?;
        check_content(&descriptor(layer), &layer.diff_id, &report)?;
        Ok(removals)
    }

    /// Returns the directory that an image uses for a layer, if it is there.
    fn used_directory(&self, layer: &Layer) -> Result<Option<PathBuf>, Error> {
        let record = self
            .database
            .layer_directory(&layer.diff_id, layer.chain_id.as_ref(), &self.place())?;
        let Some(record) = record.filter(|record| layer.is_stacked && self.trusts(&record.durability)) else {
            return Ok(None);
        };
        let may_be_empty = match layer.chain_id {
            Some(_) => record.entries == 0,
            None => self.database.layer(&layer.diff_id)?.is_some_and(|layer| layer.is_empty),
        };
        Ok(is_in_place(&record.path, may_be_empty).then_some(record.path))
    }
}

/// Waits for what the next layer removes.
fn next(removals: &Receiver<Result<Removals, Error>>, progress: &Progress) -> Result<Removals, Error> {
    loop {
        match removals.recv_timeout(PATIENCE) {
            Ok(found) => return found,
            Err(RecvTimeoutError::Timeout) if !progress.is_cancelled() => {}
            // The thread ends early only after it has sent an error, or panics, which goes on when the scope ends.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                return Err(unlade_extract::Error::Cancelled.into());
            }
        }
    }
}

struct StopOnDrop<'a>(&'a Progress);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

fn descriptor(layer: &Layer) -> Descriptor {
    Descriptor::new(layer.media_type.clone(), layer.blob.clone(), layer.size)
}

fn failed(layer: &Layer, source: unlade_extract::Error) -> Error {
    match source {
        unlade_extract::Error::Cancelled => source.into(),
        source => Error::Layer {
            blob: layer.blob.clone(),
            source: Box::new(source),
        },
    }
}

/// The place of a tree.
struct Target {
    path: PathBuf,
    parent: PathBuf,
    /// The name, as far as a longer one made of it is a name that every filesystem takes.
    name: String,
    /// Whether something is there that is to be replaced.
    replaces: bool,
}

impl Target {
    /// Looks whether a tree can be put at `path`. A symbolic link to a directory means that directory.
    fn check(path: &Path, replace: bool) -> Result<Self, Error> {
        let absolute =
            std::path::absolute(path).map_err(|source| unlade_sys::Error::new("make absolute", path, source))?;
        let found = fs::canonicalize(&absolute);
        let path = match found {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => absolute,
            Err(source) => return Err(unlade_sys::Error::new("resolve", path, source).into()),
        };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::TargetInUse { path });
        };
        let is_used = match fs::read_dir(&path) {
            Ok(mut names) => names.next().is_some(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Err(Error::TargetInUse { path }),
            Err(source) => return Err(unlade_sys::Error::new("list", &path, source).into()),
        };
        if is_used && !replace {
            return Err(Error::TargetInUse { path });
        }
        Ok(Self {
            parent: parent.to_owned(),
            name: name.to_string_lossy().chars().take(40).collect(),
            replaces: is_used,
            path,
        })
    }
}

/// A tree that is being made, in the directory where it is to go. Dropping it removes it.
///
/// It has the lock itself, and no directory of its own around it: to be moved to another directory it would have to be
/// writable, which without root an image's root need not be.
struct Stage {
    path: PathBuf,
    directory: Dir,
    _lock: FileLock,
}

impl Stage {
    fn begin(target: &Target) -> Result<Self, Error> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        sweep(&target.parent);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{STAGE_PREFIX}{}-{}-{number}", target.name, std::process::id());
            let path = target.parent.join(name);
            if !unlade_sys::create_dir(&path, 0o700)? {
                continue;
            }
            // Another process may take it for a dead one's before it is locked.
            match FileLock::try_exclusive_existing(&path) {
                Ok(Some(lock)) => {
                    let directory = Dir::open(&path)?;
                    return Ok(Self {
                        path,
                        directory,
                        _lock: lock,
                    });
                }
                Ok(None) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Puts the tree at its place. What was there is removed after that.
    fn publish(self, target: &Target, durability: Durability) -> Result<(), Error> {
        if durability == Durability::Sync {
            unlade_sys::sync_filesystem(&self.path)?;
        }
        if target.replaces {
            unlade_sys::exchange(&self.path, &target.path)?;
        } else if let Err(source) = fs::rename(&self.path, &target.path) {
            let path = target.path.clone();
            return Err(match source.kind() {
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => Error::TargetInUse { path },
                _ => unlade_sys::Error::new("rename to", path, source).into(),
            });
        }
        if durability == Durability::Sync {
            unlade_sys::sync_directory(&target.parent)?;
        }
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        match unlade_sys::remove_tree(&self.path) {
            Err(error) if !error.is_not_found() => {
                tracing::warn!(%error, "a tree could not be removed; the next one that is unpacked beside it tries again");
            }
            _ => {}
        }
    }
}

/// Removes trees beside the target that killed processes have left. What cannot be removed stays.
fn sweep(parent: &Path) {
    let Ok(names) = fs::read_dir(parent) else { return };
    for entry in names.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(STAGE_PREFIX) {
            continue;
        }
        if let Ok(Some(_lock)) = FileLock::try_exclusive_existing(&entry.path())
            && let Err(error) = unlade_sys::remove_tree(&entry.path())
        {
            tracing::debug!(%error, "what a killed process has left stays");
        }
    }
}
