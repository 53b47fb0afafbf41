//! Buffers that the layers of a process share: how many there may be beyond the few that each layer always has.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Buffers of all layers at work beyond those that each has anyway: 8 MiB together.
pub(crate) static OF_PROCESS: Spare = Spare::new(32);

/// So many more buffers may be made.
#[derive(Debug)]
pub(crate) struct Spare(AtomicUsize);

impl Spare {
    pub(crate) const fn new(buffers: usize) -> Self {
        Self(AtomicUsize::new(buffers))
    }

    /// Takes one, if one is left.
    fn take(&self) -> bool {
        let less = |left: usize| left.checked_sub(1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    #[cfg(test)]
    pub(crate) fn left(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one layer has taken, given back with the layer.
#[derive(Debug)]
pub(crate) struct Taken<'a> {
    spare: &'a Spare,
    count: usize,
}

impl<'a> Taken<'a> {
    pub(crate) const fn none(spare: &'a Spare) -> Self {
        Self { spare, count: 0 }
    }

    /// Takes one more, if one is left.
    pub(crate) fn more(&mut self) -> bool {
        let taken = self.spare.take();
        self.count += usize::from(taken);
        taken
    }

    #[cfg(test)]
    pub(crate) fn left(&self) -> usize {
        self.spare.left()
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.spare.0.fetch_add(self.count, Ordering::Relaxed);
    }
}
