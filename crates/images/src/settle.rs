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
        let rows: Vec<i64> = images
            .iter()
            .filter(|image| is_use_due(image))
            .map(|image| image.row)
            .collect();
        if rows.is_empty() {
            return Ok(());
        }
        Ok(self.database.touch(&rows)?)
    }

    /// Returns whether [`touch`](Self::touch) or [`settle`](Self::settle) would write anything: what a store that was opened
    /// [at rest](Self::open_at_rest) can tell, and not do.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn has_to_settle(&self, used: &[Image], age: Duration) -> Result<bool, Error> {
        Ok(used.iter().any(is_use_due)
            || is_old(self.database.unsynced_since(&self.boot_id)?, age)
            || self.database.has_old_log(age))
    }

    /// Moves what pulls before have left in the log of the database out of it, if that is much. Waits for the disk: call it
    /// beside other work.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn shorten_log(&self) -> Result<(), Error> {
        Ok(self.database.shorten_log()?)
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
        if !is_old(self.database.unsynced_since(&self.boot_id)?, age) {
            // Uses that were noted, say.
            if self.database.has_old_log(age) {
                self.database.checkpoint()?;
            }
            return Ok(Settled::default());
        }
        let mut unsynced = self.database.unsynced(&self.boot_id)?;
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

fn is_use_due(image: &Image) -> bool {
    is_old(Some(image.last_used_at), USE_IS_NOTED_AFTER)
}

fn is_old(since: Option<SystemTime>, age: Duration) -> bool {
    let is_old = |since| {
        SystemTime::now()
            .duration_since(since)
            .map_or(true, |found| found >= age)
    };
    since.is_some_and(is_old)
}
