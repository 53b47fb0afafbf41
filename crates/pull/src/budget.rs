//! One budget for all that a pull does at the same time.
//!
//! A connection permit is held while a blob is being received, a worker permit while a layer is being extracted. A layer
//! waits for a worker only after its bytes have begun to arrive, and holds its connection only until the last of them is in
//! its ingest file, so no permit is held while waiting for another of the same kind, and nobody waits in a circle: a holder
//! of a worker permit waits for bytes alone, and a holder of a connection permit for nothing but the network and the disk.
//!
//! Whoever has a worker may wait for memory, once, before it reads on: whoever has memory waits for bytes alone, too.
//!
//! A large blob uses further connections for ranges of it. Those are never waited for: it takes what is there, and goes on.

use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How much may happen at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Blobs received at the same time.
    pub connections: NonZeroUsize,
    /// Layers extracted at the same time. Each of them uses about three threads, which seldom are all busy.
    pub workers: NonZeroUsize,
    /// Connections for one blob at the same time, each with a range of it. All but the first are taken only while nobody else
    /// waits for a connection, and only if the server answers to ranges.
    pub ranges: NonZeroUsize,
    /// How many bytes a blob must lack for [`ranges`](Self::ranges) to count; a smaller one comes over one connection.
    pub ranges_from: u64,
}

impl Default for Limits {
    /// Six connections, which is where registries stop getting faster. Two layers for each processor, since what a layer will
    /// take is seen too late to begin with the longest; at least four, and at most 16, which is what memory is enough for. Four
    /// ranges for blobs that lack 64 MiB or more: below that the requests cost what the connections gain.
    fn default() -> Self {
        const SIX: NonZeroUsize = NonZeroUsize::new(6).expect("six is not zero");
        const FOUR: NonZeroUsize = NonZeroUsize::new(4).expect("four is not zero");
        const MOST: NonZeroUsize = NonZeroUsize::new(16).expect("16 is not zero");
        let processors = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self {
            connections: SIX,
            workers: processors.saturating_add(processors.get()).clamp(FOUR, MOST),
            ranges: FOUR,
            ranges_from: 64 << 20,
        }
    }
}

/// The permits. Cloning shares them: hand one budget to several pullers and they stay within it together.
#[derive(Clone, Debug)]
pub struct Budget {
    connections: Arc<Semaphore>,
    workers: Arc<Semaphore>,
    windows: Arc<Windows>,
    limits: Limits,
}

impl Budget {
    /// Makes a budget of its own.
    pub fn new(limits: Limits) -> Self {
        Self {
            connections: Arc::new(Semaphore::new(limits.connections.get())),
            workers: Arc::new(Semaphore::new(limits.workers.get())),
            windows: Arc::new(Windows::new(WINDOWS)),
            limits,
        }
    }

    pub(crate) async fn connection(&self) -> Permit {
        Permit::of(&self.connections).await
    }

    /// Returns a connection if there is one that nobody waits for.
    pub(crate) fn try_connection(&self) -> Option<Permit> {
        let permit = Arc::clone(&self.connections).try_acquire_owned().ok()?;
        Some(Permit { _permit: Some(permit) })
    }

    /// Returns what is to be held to for ranges.
    pub(crate) fn ranges(&self) -> Limits {
        self.limits
    }

    pub(crate) async fn worker(&self) -> Permit {
        Permit::of(&self.workers).await
    }

    /// Waits, on a thread that may block, until there is memory for a window of so many bytes, or until `is_over`.
    pub(crate) fn window(&self, bytes: u64, is_over: impl Fn() -> bool) -> Window {
        self.windows.take(bytes, is_over)
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

/// Bytes of memory for the windows of all decompressors together; a larger window has to be alone. zstd seldom uses more than
/// 8 MiB for one.
const WINDOWS: u64 = 16 << 20;

/// Memory for what decompressors remember.
#[derive(Debug)]
struct Windows {
    limit: u64,
    held: Mutex<u64>,
    freed: Condvar,
}

impl Windows {
    /// How often it is looked whether the wait is over.
    const TICK: Duration = Duration::from_millis(100);

    fn new(limit: u64) -> Self {
        Self {
            limit,
            held: Mutex::new(0),
            freed: Condvar::new(),
        }
    }

    fn take(self: &Arc<Self>, bytes: u64, is_over: impl Fn() -> bool) -> Window {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        while *held > 0 && held.saturating_add(bytes) > self.limit && !is_over() {
            let waited = self.freed.wait_timeout(held, Self::TICK);
            held = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *held = held.saturating_add(bytes);
        Window {
            windows: Arc::clone(self),
            bytes,
        }
    }
}

/// The memory of one decompressor, given back when dropped.
#[derive(Debug)]
pub(crate) struct Window {
    windows: Arc<Windows>,
    bytes: u64,
}

impl Drop for Window {
    fn drop(&mut self) {
        let mut held = self.windows.held.lock().unwrap_or_else(PoisonError::into_inner);
        *held = held.saturating_sub(self.bytes);
        self.windows.freed.notify_all();
    }
}

/// Room on the disk for blobs that do not stay: as much as the largest of them takes.
///
/// A layer takes its share before anything else, so whoever holds a connection or a worker never waits for room.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    units: Arc<Semaphore>,
    unit: u64,
    count: u32,
}

impl Room {
    /// How many shares there are at most: sizes are rounded up to a share.
    const SHARES: u64 = 1 << 20;

    pub(crate) fn for_the_largest_of(sizes: impl Iterator<Item = u64>) -> Self {
        let largest = sizes.max().unwrap_or(0).max(1);
        let unit = largest.div_ceil(Self::SHARES);
        let count = u32::try_from(largest.div_ceil(unit)).unwrap_or(u32::MAX);
        Self {
            units: Arc::new(Semaphore::new(count as usize)),
            unit,
            count,
        }
    }

    /// Waits until there is room for a blob.
    pub(crate) async fn take(&self, size: u64) -> Permit {
        let shares = u32::try_from(size.div_ceil(self.unit))
            .unwrap_or(u32::MAX)
            .min(self.count);
        Permit {
            _permit: Arc::clone(&self.units).acquire_many_owned(shares).await.ok(),
        }
    }
}

/// The right to do something, given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Permit {
    async fn of(semaphore: &Arc<Semaphore>) -> Self {
        // The semaphores are never closed, so there is always a permit in the end.
        Self {
            _permit: Arc::clone(semaphore).acquire_owned().await.ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn windows_stay_within_the_memory_or_are_alone() {
        let windows = Arc::new(Windows::new(10));
        let held = || *windows.held.lock().unwrap();
        let small = windows.take(4, || false);
        let other = windows.take(6, || false);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let large = scope.spawn(|| {
                let large = windows.take(100, || false);
                assert_eq!(held(), 100);
                drop(large);
            });
            drop(small);
            let none = scope.spawn(|| windows.take(100, || is_over.load(Ordering::Relaxed)));
            assert!(!large.is_finished() && !none.is_finished());
            is_over.store(true, Ordering::Relaxed);
            drop(none.join().unwrap());
            drop(other);
            large.join().unwrap();
        });
        assert_eq!(held(), 0);
    }

    #[tokio::test]
    async fn what_is_there_at_a_time_is_no_more_than_the_largest() {
        for sizes in [vec![10, 4, 4, 3], vec![5 << 30, 2 << 30, (2 << 30) + 1, 1 << 30]] {
            let room = Room::for_the_largest_of(sizes.iter().copied());
            let largest = room.take(sizes[0]).await;
            assert_eq!(room.units.available_permits(), 0);
            drop(largest);
            let mut held = Vec::new();
            let mut sum = 0;
            for size in &sizes[1..] {
                let take = tokio::time::timeout(std::time::Duration::from_millis(10), room.take(*size));
                if let Ok(permit) = take.await {
                    held.push(permit);
                    sum += size;
                }
            }
            assert!(sum <= sizes[0]);
            assert_eq!(held.len(), sizes.len().min(3) - 1);
        }
    }
}
