//! Buffers that the layers of a process share: how many there may be beyond the few that each layer always has, and those that
//! one layer leaves to the next.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Buffers of all layers at work beyond those that each has anyway: 8 MiB together.
pub(crate) static OF_PROCESS: Spare = Spare::new(32);

/// Buffers that no layer has, of all sizes.
static KEPT: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// How many are kept: for images of many small layers, of which each would otherwise have its buffers filled with zeros.
const KEPT_BUFFERS: usize = 6;

/// Returns a buffer of `bytes`, with anything in it.
pub(crate) fn buffer(bytes: usize) -> Box<[u8]> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(at) = kept.iter().position(|buffer| buffer.len() == bytes) {
        return kept.swap_remove(at);
    }
    drop(kept);
    vec![0; bytes].into_boxed_slice()
}

/// Keeps a buffer for another layer, or frees it.
pub(crate) fn keep(buffer: Box<[u8]>) {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() < KEPT_BUFFERS {
        kept.push(buffer);
    }
}

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
