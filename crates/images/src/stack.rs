//! Layers whose directory alone does not say what they do to the layers below.
//!
//! Layers are extracted independently, each into its own directory. That is exact as long as a layer declares the parents of
//! its entries. A parent that it only implies is made as a plain directory, and if a lower layer has a symbolic link, a
//! file, or a directory with other attributes there, the stacked directories show the implied one instead. A hard link
//! whose target only a lower layer has cannot be made at all. Such layers are found here, so that nobody takes the stack
//! for what applying the layers one by one would give.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};
use unlade_extract::{RawPath, Summary};
use unlade_oci::Digest;
use unlade_sys::{Dir, Links};

use crate::{Error, Image, Store};

/// A layer that gives another result on its own than on top of the layers below it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DependentLayer {
    /// The layer's blob.
    pub blob: Digest,
    /// Directories that the layer only implies, and that a lower layer has as something else.
    pub implied_parents: Vec<RawPath>,
    /// Hard links that are missing, since their target is in a lower layer.
    pub missing_hard_links: Vec<RawPath>,
}

impl Store {
    /// Finds the layers of an image whose directories, stacked, are not what applying the layers one by one gives.
    ///
    /// Costs one lookup for each implied parent and lower layer, and nothing for layers that declare theirs. Layers
    /// without a directory are passed over.
    ///
    /// # Errors
    /// The database or a layer directory cannot be read.
    pub fn dependent_layers(&self, image: &Image) -> Result<Vec<DependentLayer>, Error> {
        let mut dependent = Vec::new();
        let mut below: Vec<PathBuf> = Vec::new();
        for layer in &image.layers {
            let Some(directory) = &layer.directory else { continue };
            let record = self.database.layer(&layer.diff_id)?;
            let summary: Summary = record.map_or_else(Summary::default, |record| {
                serde_json::from_value(record.summary).unwrap_or_default()
            });
            if !below.is_empty() && summary.depends_on_lower() {
                let found = DependentLayer {
                    blob: layer.blob.clone(),
                    implied_parents: hidden(directory, &below, summary.implied_parents)?,
                    missing_hard_links: summary.lower_hard_links.into_iter().map(|link| link.path).collect(),
                };
                if !found.implied_parents.is_empty() || !found.missing_hard_links.is_empty() {
                    dependent.push(found);
                }
            }
            below.push(directory.clone());
        }
        Ok(dependent)
    }
}

/// Returns those of `parents` that the topmost of the layers below which has them has as something else.
fn hidden(directory: &Path, below: &[PathBuf], parents: Vec<RawPath>) -> Result<Vec<RawPath>, Error> {
    let upper = Dir::open(directory)?;
    let lower = below
        .iter()
        .rev()
        .map(|path| Dir::open(path))
        .collect::<Result<Vec<_>, _>>()?;
    let mut hidden = Vec::new();
    for parent in parents {
        let path = Path::new(OsStr::from_bytes(parent.as_bytes()));
        let Some(mine) = stat(&upper, path) else { continue };
        let theirs = lower.iter().find_map(|layer| stat(layer, path));
        if theirs.is_some_and(|theirs| !is_whiteout(&theirs) && !same_directory(&mine, &theirs)) {
            hidden.push(parent);
        }
    }
    Ok(hidden)
}

/// Looks at a path without following links. A link on the way is an implied parent of its own.
fn stat(root: &Dir, path: &Path) -> Option<Stat> {
    let name = path.file_name()?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    match parent {
        Some(parent) => root.resolve(parent, Links::Refuse).ok()?.stat(name).ok()?,
        None => root.stat(name).ok()?,
    }
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Times are left out: an implied parent has one of its own in every tool.
fn same_directory(a: &Stat, b: &Stat) -> bool {
    (a.st_mode, a.st_uid, a.st_gid) == (b.st_mode, b.st_uid, b.st_gid)
}
