//! How many threads of a process help to make files.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::available_parallelism;

/// Most helpers of a process by default. Each keeps a few dozen directories open.
const MOST: usize = 8;

/// Threads that help to make files: how many there may be at the same time, whatever the number of layers.
///
/// A layer gets one when its files are what all else waits for, more if that one has enough to do, and gives them back when it
/// has nothing for them to do. A clone shares the number.
#[derive(Clone)]
pub struct Helpers {
    shared: Arc<Shared>,
    eager: bool,
}

struct Shared {
    limit: usize,
    used: AtomicUsize,
}

impl Helpers {
    /// Returns a number of its own; 0 means that each layer makes its files by one thread.
    pub fn new(limit: usize) -> Self {
        let used = AtomicUsize::new(0);
        Self {
            shared: Arc::new(Shared { limit, used }),
            eager: false,
        }
    }

    /// Returns the number that a process shares: one less than its processors, at most 8.
    pub fn of_process() -> Self {
        static OF_PROCESS: LazyLock<Helpers> = LazyLock::new(|| {
            let processors = available_parallelism().map_or(1, usize::from);
            Helpers::new((processors - 1).min(MOST))
        });
        OF_PROCESS.clone()
    }

    /// Gives a layer a helper also when nothing waits for its files. That is seldom faster.
    #[must_use]
    pub fn eager(mut self) -> Self {
        self.eager = true;
        self
    }

    /// Returns how many there may be.
    pub fn limit(&self) -> usize {
        self.shared.limit
    }

    /// Returns how many there are at this moment.
    pub fn used(&self) -> usize {
        self.shared.used.load(Ordering::Relaxed)
    }

    pub(crate) const fn is_eager(&self) -> bool {
        self.eager
    }

    /// Returns the right to start one, if there is one left.
    pub(crate) fn take(&self) -> Option<Permit> {
        let limit = self.shared.limit;
        let more = |used| (used < limit).then_some(used + 1);
        let taken = self
            .shared
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok().then(|| Permit(Arc::clone(&self.shared)))
    }
}

impl Default for Helpers {
    fn default() -> Self {
        Self::of_process()
    }
}

impl fmt::Debug for Helpers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Helpers")
            .field("limit", &self.shared.limit)
            .field("used", &self.shared.used)
            .field("eager", &self.eager)
            .finish()
    }
}

impl PartialEq for Helpers {
    /// Says whether both share one number.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared) && self.eager == other.eager
    }
}

impl Eq for Helpers {}

/// The right to one helper, given back when it is dropped.
pub(crate) struct Permit(Arc<Shared>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_more_than_the_limit() {
        let helpers = Helpers::new(2);
        let same = helpers.clone();
        let first = helpers.take().unwrap();
        let second = same.take().unwrap();
        assert!(helpers.take().is_none() && same.take().is_none());
        drop(first);
        let third = helpers.take().unwrap();
        assert!(same.take().is_none());
        drop((second, third));
        assert_eq!(helpers.used(), 0);
        assert!(Helpers::new(0).take().is_none());
        assert_eq!(Helpers::of_process(), Helpers::of_process());
        assert_ne!(helpers, Helpers::new(2));
    }
}
