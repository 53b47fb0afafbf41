//! How far an extraction is, and the way to stop it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use unlade_sys::{Part, Track};

use crate::Error;

/// Counters that an extraction advances and anybody samples, and the switch that stops it.
///
/// A clone shares the counters. They are statistics: one may run ahead of another by a buffer.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    shared: Arc<Shared>,
    timed: Option<Timed>,
    unverified: bool,
}

/// Where times go.
#[derive(Clone, Debug)]
struct Timed {
    part: Part,
    /// Nanoseconds for which reads of the input have waited.
    input_waits: Option<Arc<AtomicU64>>,
}

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
        let shared = Shared {
            total: total.clone(),
            ..Shared::default()
        };
        Self {
            shared: Arc::new(shared),
            timed: None,
            unverified: false,
        }
    }

    /// Returns counters at 0 that count in `total`, and that the same switch stops: for the next of several extractions.
    #[must_use]
    pub fn next_within(&self, total: &Total) -> Self {
        let shared = Shared {
            total: total.clone(),
            cancelled: Arc::clone(&self.shared.cancelled),
            ..Shared::default()
        };
        Self {
            shared: Arc::new(shared),
            timed: None,
            unverified: false,
        }
    }

    /// Lets the extraction measure where its time goes, as stages of `part`; see [`stages`](crate::stages).
    ///
    /// Reading blocks where the input does. If it can tell for how long, `input_waits` is where it adds the nanoseconds, from
    /// within its reads; that time counts as waiting then, not as reading.
    #[must_use]
    pub fn timed(mut self, part: Part, input_waits: Option<Arc<AtomicU64>>) -> Self {
        self.timed = Some(Timed { part, input_waits });
        self
    }

    /// Returns how many compressed bytes were read.
    pub fn compressed(&self) -> u64 {
        self.shared.compressed.load(Ordering::Relaxed)
    }

    /// Returns how many bytes came out of the decompressor.
    pub fn raw(&self) -> u64 {
        self.shared.raw.load(Ordering::Relaxed)
    }

    /// Returns how many entries were begun.
    pub fn entries(&self) -> u64 {
        self.shared.entries.load(Ordering::Relaxed)
    }

    /// Makes the extraction end with [`Error::Cancelled`] at its next entry or buffer.
    ///
    /// A reader that blocks must be woken by its owner: extraction cannot interrupt it.
    pub fn cancel(&self) {
        self.shared.cancelled.store(true, Ordering::Relaxed);
    }

    /// Says whether [`Progress::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.shared.cancelled.load(Ordering::Relaxed)
    }

    /// Lets the extraction compute no digest, to measure what digests cost. Those of the report are of nothing then.
    #[cfg(feature = "bench-skip-verify")]
    #[must_use]
    pub fn unverified(mut self) -> Self {
        self.unverified = true;
        self
    }

    /// Says whether no digest is computed, which is never so but in a build for that measurement.
    pub(crate) const fn is_unverified(&self) -> bool {
        cfg!(feature = "bench-skip-verify") && self.unverified
    }

    /// Begins a track of what is measured, or one that measures nothing.
    pub(crate) fn track(&self, name: &'static str) -> Track {
        Track::of(self.timed.as_ref().map(|timed| &timed.part), name)
    }

    /// Returns for how long reads of the input have waited until now, as far as that is told.
    pub(crate) fn input_waited(&self) -> Duration {
        let waits = self.timed.as_ref().and_then(|timed| timed.input_waits.as_ref());
        waits.map_or(Duration::ZERO, |waits| {
            Duration::from_nanos(waits.load(Ordering::Relaxed))
        })
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.is_cancelled() {
            Err(Error::Cancelled)
        } else {
            Ok(())
        }
    }

    pub(crate) fn set_compressed(&self, bytes: u64) {
        self.shared.compressed.store(bytes, Ordering::Relaxed);
    }

    /// Adds to the uncompressed bytes. Returns the layer's and the total's.
    pub(crate) fn add_raw(&self, bytes: u64) -> (u64, u64) {
        let add = |counter: &AtomicU64| counter.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (add(&self.shared.raw), add(&self.shared.total.0))
    }

    pub(crate) fn set_entries(&self, entries: u64) {
        self.shared.entries.store(entries, Ordering::Relaxed);
    }
}
