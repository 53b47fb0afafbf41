//! A layer directory held against the blob of its layer.

use std::path::Path;

use unlade_extract::{
    Comparison, Helpers, Limits, Options, Privilege, Progress, Summary, Whiteouts, compare_layer, compare_layer_on,
    read_removals,
};
use unlade_metadata::{ImageLayer, LayerDirectoryRecord, LayerForm};
use unlade_oci::Digest;
use unlade_sys::Dir;

use super::{Check, Compared, DirectoryProblem};
use crate::store::{is_in_place, meant};
use crate::{Error, View};

impl Check<'_> {
    /// Holds a directory against one of the blobs that its layer comes as, and hashes that blob on the way.
    ///
    /// One that was extracted on top of others is held against what the layer makes on top of them; `stack` are its layers.
    pub(super) fn compare(
        &mut self,
        record: &LayerDirectoryRecord,
        path: &Path,
        summary: &Summary,
        stack: Option<&[ImageLayer]>,
    ) -> Result<Compared, Error> {
        let below = match stack {
            None => None,
            Some(layers) => {
                let Some(below) = self.below(record, layers)? else {
                    self.result.not_compared += 1;
                    return Ok(Compared::NotAtAll);
                };
                Some(below)
            }
        };
        for source in self.store.database.blobs_of_layer(&record.diff_id)? {
            if !self.blobs.contains_key(&source.blob) || self.hashed.get(&source.blob) == Some(&false) {
                continue;
            }
            match self.compare_with(&source.blob, record, path, summary, below.as_ref()) {
                Ok(comparison) => {
                    self.hashed.insert(source.blob, true);
                    self.result.entries += comparison.entries;
                    self.result.unreadable += comparison.unreadable;
                    return Ok(match comparison.count {
                        0 => Compared::Whole,
                        count => Compared::Problem(DirectoryProblem::Differs {
                            differences: comparison.differences,
                            count,
                        }),
                    });
                }
                Err(failure) => {
                    // Either the blob is bad, or the directory cannot be read.
                    let size = self.blobs.get(&source.blob).map_or(0, |blob| blob.size);
                    match self.blob_problem(&source.blob, size, true)? {
                        Some(problem) => self.blob_damage(&source.blob, problem)?,
                        None => return Ok(Compared::Problem(DirectoryProblem::Unreadable { reason: failure })),
                    }
                }
            }
        }
        self.result.not_compared += 1;
        Ok(Compared::NotAtAll)
    }

    fn compare_with(
        &self,
        blob: &Digest,
        record: &LayerDirectoryRecord,
        path: &Path,
        summary: &Summary,
        below: Option<&View>,
    ) -> Result<Comparison, String> {
        let told = |error: &dyn std::error::Error| {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            text
        };
        let open = || self.store.blobs().open_blob(blob).map_err(|error| told(&error));
        let directory = Dir::open(path).map_err(|error| told(&error))?;
        let options = Options {
            whiteouts: match record.place.form {
                LayerForm::Overlay => Whiteouts::Overlay,
                LayerForm::Oci => Whiteouts::Oci,
            },
            ownership: meant(record.place.ownership),
            privilege: Privilege::of_process(),
            limits: no_limits(),
            confine: true,
            helpers: Helpers::of_process(),
        };
        let (limits, progress) = (&options.limits, Progress::new());
        let (blob_algorithm, diff_algorithm) = (blob.algorithm(), record.diff_id.algorithm());
        let compared = match below {
            None => compare_layer(
                open()?,
                &directory,
                blob_algorithm,
                diff_algorithm,
                &options,
                summary,
                &progress,
            ),
            Some(below) => {
                let removals = read_removals(open()?, blob_algorithm, diff_algorithm, limits, &progress);
                let (removals, _) = removals.map_err(|error| told(&error))?;
                compare_layer_on(
                    open()?,
                    &directory,
                    below,
                    &removals,
                    blob_algorithm,
                    diff_algorithm,
                    &options,
                    summary,
                    &progress,
                )
            }
        };
        let (report, comparison) = compared.map_err(|error| told(&error))?;
        if report.blob.digest != *blob || report.raw.digest != record.diff_id {
            return Err(format!("the blob {blob} does not hold the layer {}", record.diff_id));
        }
        Ok(comparison)
    }

    /// Returns what the layers of a stack show below the topmost, in directories at the place of `record`. `None` if that
    /// cannot be told: no image has the stack, or a directory of it is missing or damaged.
    fn below(&self, record: &LayerDirectoryRecord, layers: &[ImageLayer]) -> Result<Option<View>, Error> {
        let Some((_, lower)) = layers.split_last() else {
            return Ok(None);
        };
        let (store, place) = (self.store, &record.place);
        let mut view = View::default();
        for layer in lower {
            let chain_id = layer.chain_id.as_ref();
            let found = store.database.layer_directory(&layer.diff_id, chain_id, place)?;
            let Some(found) =
                found.filter(|found| is_in_place(&found.path, true) && !self.damaged_directories.contains(&found.path))
            else {
                return Ok(None);
            };
            store.push_layer(&mut view, &layer.diff_id, &found.path, place, chain_id.is_some())?;
        }
        Ok(Some(view))
    }
}

/// What is in the store was within somebody's limits once.
fn no_limits() -> Limits {
    Limits {
        raw_bytes: None,
        total_raw_bytes: None,
        ratio: None,
        file_bytes: None,
        entries: u64::MAX,
        path_bytes: u64::MAX,
        depth: u64::MAX,
        xattr_bytes: u64::MAX,
        extension_bytes: u64::MAX,
        deferred_bytes: u64::MAX,
        zstd_window_log: 31,
    }
}
