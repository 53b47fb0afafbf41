//! Reading a blob while it arrives.
//!
//! The ingest and its followers share a small piece of memory: how many bytes are there (the *watermark*), and how the
//! ingest ended, if it has. Bytes themselves go through the file.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A reader of a blob that is still arriving.
///
/// [`read`](Read::read) blocks until there are bytes that were not read yet, and returns 0 only when the ingest is
/// complete and everything was read. It fails with a [`FollowError`] inside an [`io::Error`] as soon as the ingest fails,
/// is dropped before it is complete, or the follower is cancelled, even if there are bytes left to read.
///
/// Every follower starts at the first byte and has a file descriptor of its own. It is meant for a thread of its own:
/// the appending side must not be on the same one.
#[derive(Debug)]
pub struct Follower {
    file: File,
    position: u64,
    cancelled: Arc<AtomicBool>,
    /// Nanoseconds for which reads have waited, if somebody wants to know.
    waits: Option<Arc<AtomicU64>>,
    shared: Arc<Shared>,
}

impl Follower {
    pub(crate) fn new(file: File, shared: Arc<Shared>) -> Self {
        Self {
            file,
            position: 0,
            cancelled: Arc::default(),
            waits: None,
            shared,
        }
    }

    /// Counts for how long reads wait for bytes to arrive, from now on. Returns the counter, in nanoseconds.
    pub fn count_waits(&mut self) -> Arc<AtomicU64> {
        Arc::clone(self.waits.get_or_insert_default())
    }

    /// Returns how many bytes were read.
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// Returns a handle by which any thread can make the reading fail.
    pub fn cancel_handle(&self) -> CancelHandle {
        CancelHandle {
            cancelled: Arc::clone(&self.cancelled),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl Read for Follower {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let began = self
            .waits
            .as_ref()
            .filter(|_| self.shared.watermark() <= self.position)
            .map(|_| Instant::now());
        let watermark = self.shared.wait_beyond(self.position, &self.cancelled)?;
        if let (Some(waits), Some(began)) = (&self.waits, began) {
            let waited = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            waits.fetch_add(waited, Ordering::Relaxed);
        }
        let available = usize::try_from(watermark.saturating_sub(self.position)).unwrap_or(usize::MAX);
        if available == 0 {
            return Ok(0);
        }
        let wanted = buffer.len().min(available);
        let count = self.file.read_at(&mut buffer[..wanted], self.position)?;
        if count == 0 {
            let shrunk = format!(
                "the file of an ingest ends at {}, before its watermark {watermark}",
                self.position
            );
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, shrunk));
        }
        self.position += count as u64;
        Ok(count)
    }
}

/// Makes the reading of one [`Follower`] fail, from any thread.
#[derive(Clone, Debug)]
pub struct CancelHandle {
    cancelled: Arc<AtomicBool>,
    shared: Arc<Shared>,
}

impl CancelHandle {
    /// Cancels: the read that may be waiting, and every later one, fails with [`FollowError::Cancelled`].
    pub fn cancel(&self) {
        // Under the lock, so that the follower either sees the flag before it waits, or is woken.
        let _guard = self.shared.lock();
        self.cancelled.store(true, Ordering::Relaxed);
        self.shared.changed.notify_all();
    }
}

/// How many bytes of an ingest have arrived; cheap to clone and to ask, for showing progress.
#[derive(Clone, Debug)]
pub struct Watermark {
    shared: Arc<Shared>,
}

impl Watermark {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Returns the number of bytes in the file, those of earlier runs included.
    pub fn bytes(&self) -> u64 {
        self.shared.watermark()
    }
}

/// Why a follower will see no more bytes. It is inside the [`io::Error`] that its `read` returns.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FollowError {
    /// The appending side said that it failed.
    #[error("the download failed: {message}")]
    Failed {
        /// What the appending side said.
        message: String,
    },
    /// The appending side went away before the blob was complete.
    #[error("the download was given up before it was complete")]
    Abandoned,
    /// The follower itself was cancelled.
    #[error("the reading was cancelled")]
    Cancelled,
}

impl FollowError {
    /// Finds the reason in an error that came from a follower, through whatever readers are around it.
    ///
    /// `None` if the error is something else: an I/O error of the file, or one of those readers' own.
    pub fn find(error: &io::Error) -> Option<&Self> {
        let mut current: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(this) = current {
            if let Some(found) = this.downcast_ref::<Self>() {
                return Some(found);
            }
            // The source of an `io::Error` is that of the error inside it, which would skip the inner one itself.
            current = match this.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(inner) => Some(inner),
                None => this.source(),
            };
        }
        None
    }
}

impl From<FollowError> for io::Error {
    /// The kind is never `Interrupted`, which readers take for an invitation to try again.
    fn from(error: FollowError) -> Self {
        Self::other(error)
    }
}

/// What an ingest and its followers share.
pub(crate) struct Shared {
    /// Only ever grows; written under the lock, read also without.
    watermark: AtomicU64,
    phase: Mutex<Phase>,
    changed: Condvar,
}

/// How far an ingest is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Bytes may still come.
    Receiving,
    /// All bytes are there.
    Complete,
    /// No more bytes will come.
    Ended(FollowError),
}

impl Shared {
    pub(crate) fn new(watermark: u64) -> Self {
        Self {
            watermark: AtomicU64::new(watermark),
            phase: Mutex::new(Phase::Receiving),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn watermark(&self) -> u64 {
        self.watermark.load(Ordering::Acquire)
    }

    /// Makes bytes that are in the file by now visible to the followers.
    pub(crate) fn advance_to(&self, watermark: u64) {
        let _guard = self.lock();
        self.watermark.store(watermark, Ordering::Release);
        self.changed.notify_all();
    }

    pub(crate) fn phase(&self) -> Phase {
        self.lock().clone()
    }

    /// Leaves [`Phase::Receiving`]. Any other phase is final and stays.
    pub(crate) fn end(&self, phase: Phase) {
        let mut current = self.lock();
        if *current == Phase::Receiving {
            *current = phase;
        }
        self.changed.notify_all();
    }

    /// Waits until there is something beyond `position`, and returns the watermark; at the end of a complete ingest,
    /// the watermark is not beyond.
    fn wait_beyond(&self, position: u64, cancelled: &AtomicBool) -> Result<u64, FollowError> {
        let mut phase = self.lock();
        loop {
            if cancelled.load(Ordering::Relaxed) {
                return Err(FollowError::Cancelled);
            }
            if let Phase::Ended(error) = &*phase {
                return Err(error.clone());
            }
            let watermark = self.watermark();
            if watermark > position || *phase == Phase::Complete {
                return Ok(watermark);
            }
            phase = self.changed.wait(phase).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// No code panics while it holds the lock, and a phase is valid at any moment, so poison means nothing here.
    fn lock(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("watermark", &self.watermark())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_found_through_wrappers() {
        let inner = io::Error::from(FollowError::Abandoned);
        assert_eq!(FollowError::find(&inner), Some(&FollowError::Abandoned));
        let wrapped = io::Error::new(io::ErrorKind::InvalidData, inner);
        assert_eq!(FollowError::find(&wrapped), Some(&FollowError::Abandoned));
        assert_eq!(FollowError::find(&io::Error::from(io::ErrorKind::NotFound)), None);
    }

    #[test]
    fn the_first_end_is_the_one_that_counts() {
        let shared = Shared::new(0);
        shared.end(Phase::Ended(FollowError::Failed {
            message: "first".into(),
        }));
        shared.end(Phase::Complete);
        shared.end(Phase::Ended(FollowError::Abandoned));
        assert_eq!(
            shared.phase(),
            Phase::Ended(FollowError::Failed {
                message: "first".into()
            })
        );
    }
}
