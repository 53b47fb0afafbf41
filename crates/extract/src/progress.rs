//! How far an extraction is, and the way to stop it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::Error;

/// Counters that an extraction advances and anybody samples, and the switch that stops it.
///
/// A clone shares the counters. They are statistics: one may run ahead of another by a buffer.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Shared>);

/// The uncompressed bytes of several layers together, for [`Limits::total_raw_bytes`](crate::Limits::total_raw_bytes).
///
/// A clone shares the counter.
#[derive(Clone, Debug, Default)]
pub struct Total(Arc<AtomicU64>);

impl Total {
    /// Returns a counter at 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns how many bytes there are.
    pub fn raw(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes away the bytes of an extraction that failed and will be begun again.
    pub fn give_back(&self, progress: &Progress) {
        self.0.fetch_sub(progress.raw(), Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Shared {
    total: Total,
    compressed: AtomicU64,
    raw: AtomicU64,
    entries: AtomicU64,
    cancelled: Arc<AtomicBool>,
}

impl Progress {
    /// Returns counters at 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns counters at 0 whose uncompressed bytes count in `total`, too.
    pub fn within(total: &Total) -> Self {
        Self(Arc::new(Shared {
            total: total.clone(),
            ..Shared::default()
        }))
    }

    /// Returns counters at 0 that count in `total`, and that the same switch stops: for the next of several extractions.
    #[must_use]
    pub fn next_within(&self, total: &Total) -> Self {
        Self(Arc::new(Shared {
            total: total.clone(),
            cancelled: Arc::clone(&self.0.cancelled),
            ..Shared::default()
        }))
    }

    /// Returns how many compressed bytes were read.
    pub fn compressed(&self) -> u64 {
        self.0.compressed.load(Ordering::Relaxed)
    }

    /// Returns how many bytes came out of the decompressor.
    pub fn raw(&self) -> u64 {
        self.0.raw.load(Ordering::Relaxed)
    }

    /// Returns how many entries were begun.
    pub fn entries(&self) -> u64 {
        self.0.entries.load(Ordering::Relaxed)
    }

    /// Makes the extraction end with [`Error::Cancelled`] at its next entry or buffer.
    ///
    /// A reader that blocks must be woken by its owner: extraction cannot interrupt it.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }

    /// Says whether [`Progress::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Relaxed)
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.is_cancelled() {
            Err(Error::Cancelled)
        } else {
            Ok(())
        }
    }

    pub(crate) fn set_compressed(&self, bytes: u64) {
        self.0.compressed.store(bytes, Ordering::Relaxed);
    }

    /// Adds to the uncompressed bytes. Returns the layer's and the total's.
    pub(crate) fn add_raw(&self, bytes: u64) -> (u64, u64) {
        let add = |counter: &AtomicU64| counter.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (add(&self.0.raw), add(&self.0.total.0))
    }

    pub(crate) fn set_entries(&self, entries: u64) {
        self.0.entries.store(entries, Ordering::Relaxed);
    }
}
