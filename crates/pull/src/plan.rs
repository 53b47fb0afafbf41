//! Which layers have to be brought into the store, each content once.

use std::collections::HashMap;

use unlade_images::Store;
use unlade_oci::{Descriptor, Digest};
use unlade_reference::Repository;

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
}

/// Finds out what is missing for all `resolutions` together, and whether there is room for it.
///
/// `staged` says that the blobs are on the disk of the store already and have only to be given their names.
pub(crate) fn plan(store: &Store, resolutions: &[Resolution], options: &Options, staged: bool) -> Result<Plan, Error> {
    let extract = options.extract;
    let mut seen: HashMap<&Digest, &Digest> = HashMap::new();
    let mut jobs = Vec::new();
    let mut bytes_to_fetch = 0;
    let mut bytes_to_extract = 0;
    for resolution in resolutions {
        for (blob, diff_id) in resolution.layers() {
            if let Some(first) = seen.insert(&blob.digest, diff_id) {
                if first != diff_id {
                    let (digest, first, second) = (blob.digest.clone(), first.clone(), diff_id.clone());
                    return Err(Error::TwoContents { digest, first, second });
                }
                continue;
            }
            let state = store.layer_state(&blob.digest, diff_id).map_err(Error::store)?;
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
            }
            if extract && !state.directory {
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
    check_room(store, room_for_blobs, bytes_to_extract)?;
    let planned = Planned {
        layers: seen.len(),
        layers_present: seen.len() - jobs.len(),
        bytes_to_fetch,
    };
    Ok(Plan { jobs, planned })
}

/// Fails where the pull cannot fit.
///
/// How large a layer is once extracted is not known before it is; that it is no smaller than its blob is a bound that only
/// refuses what would fail in any case.
fn check_room(store: &Store, to_fetch: u64, to_extract: u64) -> Result<(), Error> {
    let blobs = store.root();
    let layers = store.layer_root();
    let free = |path| unlade_sys::free_space(path).map_err(|error| Error::store(unlade_images::Error::from(error)));
    let needs = if store.layers_beside_blobs() {
        vec![(blobs, to_fetch.saturating_add(to_extract))]
    } else {
        vec![(blobs, to_fetch), (layers, to_extract)]
    };
    for (path, needed) in needs {
        let free = free(path)?.bytes;
        if needed > free {
            return Err(Error::NoSpace {
                path: path.to_path_buf(),
                needed,
                free,
            });
        }
    }
    Ok(())
}
