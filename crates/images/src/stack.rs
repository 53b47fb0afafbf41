//! Layers whose directory alone does not say what they do to the layers below.
//!
//! Layers are extracted independently, each into its own directory. That is exact as long as a layer declares the parents of
//! its entries and removes only what is there. A parent that it merely implies is made as a plain directory, and a lower
//! layer may have a symbolic link there, or a directory with other attributes; a hard link may name a file that only a lower
//! layer has; a whiteout may be found only through a link below, or hide nothing, and then overlayfs shows its ghost.
//!
//! When all layers of an image are there, each is held against those below it ([`Store::stack`]). One that would give
//! another result on its own is extracted once more, from its blob, against the merged view of the layers below, into a
//! directory that is named by the *chain ID*, since it holds for that stack alone. So the directories of an image, stacked,
//! always give what applying its layers one by one gives. The one exception are times of directories that a layer merely
//! implies: a stack shows those of the layer, [unpacking](Store::unpack) gives those of the directory below.

use std::path::{Path, PathBuf};
use std::time::Duration;

use unlade_extract::{Limits, Lower as _, LowerKind, LowerNode, Progress, RawPath, Summary, Total};
use unlade_metadata::{LayerDirectoryRecord, LayerForm, LayerPlace};
use unlade_oci::{Descriptor, Digest, chain_id_on};

use crate::store::{LAYER_LOCK, is_in_place};
use crate::view::{View, ViewLayer};
use crate::{Error, Store};

/// How long to wait before looking again at a directory that somebody else is making.
const BUSY: Duration = Duration::from_millis(25);

/// Which directory each layer of an image needs, the lowest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stack {
    /// For each layer the chain ID that names its directory, if the layer's own directory would not do.
    pub chain_ids: Vec<Option<Digest>>,
}

impl Store {
    /// Finds out which directory each of `layers` needs, given as blob and diff ID, the lowest first, and makes those that
    /// are missing. The layers' own directories must be there, and a lease must keep them and the blobs.
    ///
    /// Costs a lookup for each directory that a layer implies, and next to nothing for layers that declare theirs.
    ///
    /// # Errors
    /// The store cannot be read or written; a blob that is needed once more is missing; a layer is refused, for a hard link
    /// that leads nowhere for example; or `progress` was cancelled.
    pub fn stack(
        &self,
        layers: &[(&Descriptor, &Digest)],
        limits: &Limits,
        progress: &Progress,
    ) -> Result<Stack, Error> {
        let mut stack = Stack::default();
        let mut below = View::default();
        let mut named: Vec<(Digest, Digest)> = Vec::with_capacity(layers.len());
        for (_, diff_id) in layers {
            let chain_id = chain_id_on(named.last().map(|(_, chain_id)| chain_id), diff_id);
            named.push((Digest::clone(diff_id), chain_id));
        }
        let known = self.database.stack_layers(&named, &self.place())?;
        for (((blob, diff_id), (_, chain_id)), known) in layers.iter().zip(named).zip(known) {
            let own = self.layers.directory(diff_id, &self.place());
            let summary = known.summary.map(crate::listing::summary).unwrap_or_default();
            // The record of an image holds for every form and ownership, and some show less of a difference than others.
            let is_needed = known.is_needed || (summary.depends_on_lower() && self.depends(&own, &summary, &below)?);
            let (directory, summary) = if is_needed {
                tracing::info!(%diff_id, %chain_id, "the layer is extracted on top of those below it");
                let directory = self.make_chain_directory(blob, diff_id, &chain_id, &below, limits, progress)?;
                (directory, None)
            } else {
                (own, Some(summary))
            };
            if !known.has_no_entries {
                push_directory(&mut below, &directory, &self.place(), summary)?;
            }
            stack.chain_ids.push(is_needed.then_some(chain_id));
        }
        Ok(stack)
    }

    /// Puts a layer directory, which is at `place`, on top of a view. A layer without entries says nothing, not even of its root.
    pub(crate) fn push_layer(
        &self,
        view: &mut View,
        diff_id: &Digest,
        directory: &Path,
        place: &LayerPlace,
        in_chain: bool,
    ) -> Result<(), Error> {
        // What is known of it on top of others is not looked at.
        let alone = [(diff_id.clone(), diff_id.clone())];
        let Some(known) = self.database.stack_layers(&alone, place)?.pop() else {
            return Ok(());
        };
        if known.has_no_entries {
            return Ok(());
        }
        let summary = known.summary.map(crate::listing::summary).unwrap_or_default();
        push_directory(view, directory, place, (!in_chain).then_some(summary))
    }

    /// Says whether a layer gives something else on top of `below` than its own directory, put there, shows.
    fn depends(&self, own: &Path, summary: &Summary, below: &View) -> Result<bool, Error> {
        if !summary.lower_hard_links.is_empty()
            || !summary.undecided.is_empty()
            || !summary.removals_through_links.is_empty()
        {
            return Ok(true);
        }
        if below.is_empty() {
            // There is nothing to remove, so every whiteout is a ghost to overlayfs. In plain form it is just without effect,
            // unless a directory was made for it.
            let mut directories = summary.removal_directories.iter();
            return Ok(
                directories.any(|path| self.form == LayerForm::Overlay || summary.implied_parents.contains(path))
            );
        }
        let look_up = |path: &RawPath| below.look_up(path.as_bytes()).map_err(Error::from);
        for path in &summary.replaced_parents {
            if look_up(path)?.is_some_and(|node| is_link(&node)) {
                return Ok(true);
            }
        }
        for path in &summary.removal_directories {
            if look_up(path)?.is_none_or(|node| node.kind != LowerKind::Directory) {
                return Ok(true);
            }
        }
        let mut alone = View::default();
        alone.push(ViewLayer::open(
            own,
            &self.place(),
            std::collections::HashSet::default(),
        )?);
        if alone.is_opaque_at(b"")? {
            // Overlayfs merges the roots of all layers in any case.
            return Ok(true);
        }
        let root = (!summary.root_declared).then(RawPath::default);
        for path in summary.implied_parents.iter().chain(root.as_ref()) {
            let Some(theirs) = look_up(path)? else { continue };
            if is_link(&theirs) {
                return Ok(true);
            }
            if theirs.kind == LowerKind::Directory
                && (alone
                    .look_up(path.as_bytes())?
                    .is_none_or(|ours| !same_attributes(&ours, &theirs))
                    // It may be cleared and stay, or be removed and made again.
                    || alone.is_opaque_at(path.as_bytes())?)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn make_chain_directory(
        &self,
        blob: &Descriptor,
        diff_id: &Digest,
        chain_id: &Digest,
        below: &View,
        limits: &Limits,
        progress: &Progress,
    ) -> Result<PathBuf, Error> {
        let _lock = loop {
            if let Some(directory) = self.chain_directory(diff_id, chain_id)? {
                return Ok(directory);
            }
            if let Some(lock) = self.layers.try_lock(chain_id)? {
                break lock;
            }
            if progress.is_cancelled() {
                return Err(unlade_extract::Error::Cancelled.into());
            }
            std::thread::sleep(BUSY);
        };
        let _order = unlade_sys::enter(LAYER_LOCK);
        // Whoever had the lock until now may have made it.
        if let Some(directory) = self.chain_directory(diff_id, chain_id)? {
            return Ok(directory);
        }
        let algorithms = (blob.digest.algorithm(), diff_id.algorithm());
        let failed = |source| Error::Layer {
            blob: blob.digest.clone(),
            source: Box::new(source),
        };
        let (removals, report) = unlade_extract::read_removals(
            self.layer_blob(&blob.digest)?,
            algorithms.0,
            algorithms.1,
            limits,
            &progress.next_within(&Total::new()),
        )
        .map_err(failed)?;
        crate::claim::check_content(blob, diff_id, &report)?;
        let staged = self.layers.stage()?;
        let report = unlade_extract::extract_layer_on(
            self.layer_blob(&blob.digest)?,
            staged.directory(),
            below,
            &removals,
            algorithms.0,
            algorithms.1,
            &self.extract_options(limits.clone()),
            &progress.next_within(&Total::new()),
        )
        .map_err(failed)?;
        crate::claim::check_content(blob, diff_id, &report)?;
        // A layer of whiteouts that hide nothing leaves an empty directory here.
        let entries = if staged.is_empty()? { 0 } else { report.entries };
        let name = self.layers.chain_name(chain_id, &self.place());
        let directory = self.layers.path().join(&name);
        staged.publish(&directory, self.durability)?;
        let record = LayerDirectoryRecord {
            diff_id: diff_id.clone(),
            chain_id: Some(chain_id.clone()),
            place: self.place(),
            name,
            entries,
            durability: self.written(),
        };
        let summary = serde_json::to_value(&report.summary).unwrap_or_default();
        self.database.record_layer_directory(&record, &summary)?;
        Ok(directory)
    }

    /// Opens the blob of a layer.
    pub(crate) fn layer_blob(&self, digest: &Digest) -> Result<std::fs::File, Error> {
        match self.blobs.open_blob(digest) {
            Err(unlade_blobs::Error::NotFound { .. }) => Err(Error::BlobMissing { digest: digest.clone() }),
            opened => Ok(opened?),
        }
    }

    /// Returns the directory of a layer on top of a stack, if it is there and can be trusted.
    fn chain_directory(&self, diff_id: &Digest, chain_id: &Digest) -> Result<Option<PathBuf>, Error> {
        let found = self.database.layer_directory(diff_id, Some(chain_id), &self.place())?;
        Ok(found
            .filter(|found| self.trusts(&found.durability) && is_in_place(&found.path, found.entries == 0))
            .map(|found| found.path))
    }
}

/// Puts a layer directory with the summary of its extraction on top of a view, or one of a stack, in which nothing is merely
/// implied.
fn push_directory(
    view: &mut View,
    directory: &Path,
    place: &LayerPlace,
    summary: Option<Summary>,
) -> Result<(), Error> {
    let mut implied = std::collections::HashSet::new();
    if let Some(summary) = summary {
        implied.extend((!summary.root_declared).then(Vec::new));
        implied.extend(summary.implied_parents.iter().map(|path| path.as_bytes().to_vec()));
    }
    view.push(ViewLayer::open(directory, place, implied)?);
    Ok(())
}

fn is_link(node: &LowerNode) -> bool {
    matches!(node.kind, LowerKind::Symlink { .. })
}

/// Times are left out: a directory that a layer merely implies has one of its own in every tool.
fn same_attributes(a: &LowerNode, b: &LowerNode) -> bool {
    a.kind == b.kind && (a.mode, a.uid, a.gid, &a.xattrs) == (b.mode, b.uid, b.gid, &b.xattrs)
}
