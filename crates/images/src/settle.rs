//! What a command does when its answer is given: what was used is noted, and what was written reaches the disk.
//!
//! A pull waits for neither. Until a file or directory was flushed its row carries the boot that it was written under, and
//! under another boot it is not trusted ([`Store::look_up`]): it is read again, from the blob or from the registry.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime};

use crate::{Error, Image, Store};

/// A use is noted again only after this time, so that a loop over one image does not write at every turn.
const USE_IS_NOTED_AFTER: Duration = Duration::from_mins(5);

/// What was found to be flushed, or was flushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settled {
    /// How many blobs.
    pub blobs: u64,
    /// How many layer directories.
    pub directories: u64,
}

impl Store {
    /// Notes that images were used now, as exactly as five minutes.
    ///
    /// Writes to the database if it was not noted lately, so it belongs after the answer. An image that is gone meanwhile is
    /// not an error.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn touch(&self, images: &[Image]) -> Result<(), Error> {
        let now = SystemTime::now();
        let is_due = |image: &&Image| {
            now.duration_since(image.last_used_at)
                .map_or(true, |age| age >= USE_IS_NOTED_AFTER)
        };
        let rows: Vec<i64> = images.iter().filter(is_due).map(|image| image.row).collect();
        if rows.is_empty() {
            return Ok(());
        }
        Ok(self.database.touch(&rows)?)
    }

    /// Gives back the room of the database's log. That it cannot be done now undoes nothing.
    pub(crate) fn empty_log(&self) {
        if let Err(error) = self.database.checkpoint() {
            tracing::debug!(%error, "the log of the database stays");
        }
    }

    /// Flushes what was written under this boot and not flushed yet, records that it was, and empties the database's log.
    ///
    /// Does nothing, at the price of one query, unless some of it is at least `age` old: by then the kernel has written
    /// most of it, and waiting for the rest is short. Takes no lock but the database's, and belongs after the answer.
    ///
    /// # Errors
    /// A filesystem cannot be flushed, or the database not be written. Then nothing is recorded.
    pub fn settle(&self, age: Duration) -> Result<Settled, Error> {
        let mut unsynced = self.database.unsynced(&self.boot_id)?;
        let is_old = |since: SystemTime| {
            SystemTime::now()
                .duration_since(since)
                .map_or(true, |found| found >= age)
        };
        if !unsynced.since.is_some_and(is_old) {
            return Ok(Settled::default());
        }
        // Layer directories may be on a disk that is not there at the moment.
        unsynced
            .directories
            .retain(|(_, directory)| directory.place.root.is_dir());
        let mut flushed = BTreeSet::new();
        for place in std::iter::once(self.root.as_path()).chain(unsynced.roots()) {
            let device = std::fs::metadata(place)
                .map_err(|source| unlade_sys::Error::new("look at", place, source))?
                .dev();
            if flushed.insert(device) {
                unlade_sys::sync_filesystem(place)?;
            }
        }
        self.database.mark_synced(&unsynced)?;
        self.database.checkpoint()?;
        Ok(Settled {
            blobs: unsynced.blobs.len() as u64,
            directories: unsynced.directories.len() as u64,
        })
    }
}
