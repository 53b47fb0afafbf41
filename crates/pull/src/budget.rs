//! One budget for all that a pull does at the same time.
//!
//! A connection permit is held while a blob is being received, a worker permit while a layer is being extracted. A layer
//! waits for a worker only after its bytes have begun to arrive, and holds its connection only until the last of them is in
//! its ingest file, so no permit is held while waiting for another of the same kind, and nobody waits in a circle: a holder
//! of a worker permit waits for bytes alone, and a holder of a connection permit for nothing but the network and the disk.

use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How much may happen at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Blobs received at the same time.
    pub connections: NonZeroUsize,
    /// Layers extracted at the same time. Each of them uses about three threads.
    pub workers: NonZeroUsize,
}

impl Default for Limits {
    /// Six connections, which is where registries stop getting faster, and a layer for each processor, at least two.
    fn default() -> Self {
        const SIX: NonZeroUsize = NonZeroUsize::new(6).expect("six is not zero");
        const TWO: NonZeroUsize = NonZeroUsize::new(2).expect("two is not zero");
        let processors = std::thread::available_parallelism().unwrap_or(TWO);
        Self {
            connections: SIX,
            workers: processors.max(TWO),
        }
    }
}

/// The permits. Cloning shares them: hand one budget to several pullers and they stay within it together.
#[derive(Clone, Debug)]
pub struct Budget {
    connections: Arc<Semaphore>,
    workers: Arc<Semaphore>,
}

impl Budget {
    /// Makes a budget of its own.
    pub fn new(limits: Limits) -> Self {
        Self {
            connections: Arc::new(Semaphore::new(limits.connections.get())),
            workers: Arc::new(Semaphore::new(limits.workers.get())),
        }
    }

    pub(crate) async fn connection(&self) -> Permit {
        Permit::of(&self.connections).await
    }

    pub(crate) async fn worker(&self) -> Permit {
        Permit::of(&self.workers).await
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(Limits::default())
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
