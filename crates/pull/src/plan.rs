//! Which layers have to be brought into the store, each content once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use unlade_images::Store;
use unlade_oci::{Compression, Descriptor, Digest};
use unlade_reference::{Reference, Repository};

use crate::error::Error;
use crate::observer::Planned;
use crate::puller::Options;
use crate::resolve::Resolution;

/// One layer to bring in.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) blob: Descriptor,
    pub(crate) diff_id: Digest,
    /// A repository that has the blob.
    pub(crate) repository: Repository,
    /// Whether its files are wanted, or the blob alone.
    pub(crate) extract: bool,
    /// Whether a blob that is fetched stays in the store.
    pub(crate) keep_blob: bool,
}

#[derive(Debug)]
pub(crate) struct Plan {
    /// The largest first: what takes longest must not begin last.
    pub(crate) jobs: Vec<Job>,
    pub(crate) planned: Planned,
    /// How many bytes are needed by an estimate that is low, and where: for blobs, then for layer directories if those are elsewhere.
    pub(crate) room: Vec<(PathBuf, u64)>,
    /// A layer's blob that is not in the store, and the image that needs it.
    pub(crate) absent: Option<(Reference, Digest)>,
}

/// Finds out what is missing for all `resolutions` together, and whether there is room for it.
///
/// `staged` says that the blobs are on the disk of the store already and have only to be given their names.
pub(crate) fn plan(store: &Store, resolutions: &[Resolution], options: &Options, staged: bool) -> Result<Plan, Error> {
    let plan = missing(store, resolutions, options, staged)?;
    for (path, needed) in &plan.room {
        let free = free(path)?;
        if *needed > free {
            return Err(Error::NoSpace {
                path: path.clone(),
                needed: *needed,
                free,
            });
        }
    }
    Ok(plan)
}

/// Says of a pull or an import that has met a full disk what it still needs, and what is free now; `staged` as for [`plan`].
pub(crate) fn disk_full(
    error: Error,
    store: &Store,
    resolutions: &[Resolution],
    options: &Options,
    staged: bool,
) -> Error {
    let written = match error.full_disk() {
        Some(written) if !resolutions.is_empty() => written,
        _ => return error,
    };
    let is_of_layers = !store.layers_beside_blobs() && written.starts_with(store.layer_root());
    let Ok(plan) = missing(store, resolutions, options, staged) else {
        return error;
    };
    let Some((path, needed)) = plan.room.into_iter().nth(usize::from(is_of_layers)) else {
        return error;
    };
    let Ok(free) = free(&path) else { return error };
    Error::DiskFull {
        path,
        needed,
        free,
        source: Box::new(error),
    }
}

fn free(path: &Path) -> Result<u64, Error> {
    let free = unlade_sys::free_space(path).map_err(unlade_images::Error::from);
    Ok(free.map_err(Error::store)?.bytes)
}

fn missing(store: &Store, resolutions: &[Resolution], options: &Options, staged: bool) -> Result<Plan, Error> {
    let extract = options.extract;
    let mut seen: HashMap<&Digest, &Digest> = HashMap::new();
    let mut layers = Vec::new();
    for resolution in resolutions {
        for (blob, diff_id) in resolution.layers() {
            match seen.insert(&blob.digest, diff_id) {
                None => layers.push((resolution, blob, diff_id)),
                Some(first) if first == diff_id => {}
                Some(first) => {
                    let (digest, first, second) = (blob.digest.clone(), first.clone(), diff_id.clone());
                    return Err(Error::TwoContents { digest, first, second });
                }
            }
        }
    }
    let named: Vec<_> = layers
        .iter()
        .map(|(_, blob, diff_id)| (blob.digest.clone(), Digest::clone(diff_id)))
        .collect();
    let states = store.layer_states(&named).map_err(Error::store)?;
    let mut jobs = Vec::new();
    let mut bytes_to_fetch = 0;
    let mut bytes_to_extract = 0;
    let mut absent = None;
    for ((resolution, blob, diff_id), state) in layers.into_iter().zip(states) {
        // A layer that has its directory can do without its blob.
        let is_there = if extract {
            state.directory && state.known
        } else {
            state.blob
        };
        if is_there {
            continue;
        }
        if !state.blob {
            bytes_to_fetch += blob.size.saturating_sub(state.partial);
            // One that was not checked since the machine started may do as well.
            if absent.is_none()
                && state.partial < blob.size
                && !store.blobs().contains(&blob.digest).map_err(Error::store)?
            {
                absent = Some((resolution.reference.clone(), blob.digest.clone()));
            }
        }
        // How large a layer is once extracted is not known before it is. Compression makes nothing larger that is worth
        // it; of a plain archive not even that can be said, since its headers may be all of it.
        if extract && !state.directory && blob.media_type.compression_hint() != Some(Compression::None) {
            bytes_to_extract += blob.size;
        }
        jobs.push(Job {
            blob: blob.clone(),
            diff_id: diff_id.clone(),
            repository: resolution.reference.repository().clone(),
            extract,
            keep_blob: !options.discard_blobs,
        });
    }
    jobs.sort_by_key(|job| std::cmp::Reverse(job.blob.size));
    // Blobs that do not stay make room for the next; no more than the largest is there at a time.
    let largest = jobs.first().map_or(0, |job| job.blob.size);
    let room_for_blobs = if staged {
        0
    } else if options.discard_blobs {
        bytes_to_fetch.min(largest)
    } else {
        bytes_to_fetch
    };
    let (blobs, layers) = (store.root().to_path_buf(), store.layer_root().to_path_buf());
    let room = if store.layers_beside_blobs() {
        vec![(blobs, room_for_blobs.saturating_add(bytes_to_extract))]
    } else {
        vec![(blobs, room_for_blobs), (layers, bytes_to_extract)]
    };
    let planned = Planned {
        layers: seen.len(),
        layers_present: seen.len() - jobs.len(),
        bytes_to_fetch,
    };
    Ok(Plan {
        jobs,
        planned,
        room,
        absent,
    })
}
