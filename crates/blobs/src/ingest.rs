//! A blob that is arriving: the one that appends to it, and the one door to `blobs/`.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use unlade_oci::Digest;
use unlade_sys::{Durability, FileLock};

use crate::follower::{FollowError, Follower, Phase, Shared, Watermark};
use crate::scattered::{self, Scattered};
use crate::store::{BlobStore, INGEST_LOCK};
use crate::{Error, Result};

/// The mode of a published blob.
///
/// Its content will never change, so nobody gets the right to write, its owner included: a tool that opens it for
/// writing by mistake is refused, while renaming and removing need rights on the directory only. That all may read it
/// does no harm, since the root of the store is 0700, and is right once the owner decides to open the store up.
pub(crate) const BLOB_MODE: u32 = 0o444;

/// What [`BlobStore::begin`] found.
#[derive(Debug)]
pub enum Begin {
    /// The blob is published already.
    Present,
    /// The caller holds the ingest, and is the only one to append to it.
    Owned(Ingest),
    /// Somebody else holds the ingest, in this process or in another. Try again later: by then the blob is published,
    /// or the holder is gone and the ingest can be continued.
    Busy,
}

/// A blob that is arriving, held by one holder at a time.
///
/// Dropping it keeps the bytes that have arrived for the next holder, releases the lock, and makes the followers of an
/// ingest that was not complete fail.
#[derive(Debug)]
pub struct Ingest {
    store: BlobStore,
    digest: Digest,
    size: u64,
    resumed_at: u64,
    /// On the file of the plain form, which is empty while the blob is scattered.
    lock: FileLock,
    scattered: Option<Scattered>,
    shared: Arc<Shared>,
    is_flushed: bool,
    /// What is to happen to the file when this is dropped.
    file_state: FileState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileState {
    /// It is in `ingest/`.
    Partial,
    /// It is in `blobs/`, or nowhere.
    Gone,
}

impl Ingest {
    /// Takes over the locked file, and continues where it ends, or with what a scattered blob lacks.
    pub(crate) fn resume(store: BlobStore, digest: Digest, size: u64, lock: FileLock) -> Result<Self> {
        let mut length = lock.file().metadata().map_err(Error::io("look at", lock.path()))?.len();
        if length > size {
            tracing::debug!(%digest, length, size, "a partial blob is longer than the blob, starting again");
            lock.file().set_len(0).map_err(Error::io("truncate", lock.path()))?;
            length = 0;
        }
        let scattered = if length == 0 {
            Scattered::find(lock.path(), size)?
        } else {
            None
        };
        let (prefix, total) = match &scattered {
            Some(scattered) => (scattered.have().prefix(), scattered.have().total()),
            None => (length, length),
        };
        if scattered.is_none() {
            // Another version may have continued the plain file.
            scattered::remove(lock.path())?;
        }
        let shared = Arc::new(Shared::new(prefix));
        Ok(Self {
            store,
            digest,
            size,
            resumed_at: total,
            lock,
            scattered,
            shared,
            is_flushed: false,
            file_state: FileState::Partial,
        })
    }

    /// Returns the digest that the blob is to have.
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Returns the size that the blob is to have, in bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Returns how many bytes are there without a gap, those of earlier runs included: the offset at which
    /// [`append`](Self::append) goes on.
    pub fn offset(&self) -> u64 {
        self.shared.watermark()
    }

    /// Returns how many bytes were there when this holder took over.
    ///
    /// If the content turns out to be wrong and this is not 0, bytes of an earlier run may be at fault (a power loss
    /// can leave any), and it is worth fetching the whole blob once more.
    pub const fn resumed_at(&self) -> u64 {
        self.resumed_at
    }

    /// Returns a handle that tells how many bytes have arrived, for showing progress.
    pub fn progress(&self) -> Watermark {
        Watermark::new(Arc::clone(&self.shared))
    }

    /// Returns a new reader of the whole blob, from its first byte.
    pub fn follower(&self) -> Result<Follower> {
        let path = self.data().1;
        let file = File::open(path).map_err(Error::io("open", path))?;
        Ok(Follower::new(file, Arc::clone(&self.shared)))
    }

    /// Appends bytes and lets the followers see them. Returns the new offset.
    ///
    /// If the bytes go beyond the size of the blob, the partial blob is removed and the followers fail: what sent them
    /// did not send this blob. If the filesystem refuses, nothing was appended, and the call can be repeated.
    pub fn append(&mut self, bytes: &[u8]) -> Result<u64> {
        self.check_not_failed()?;
        let offset = self.offset();
        let end = self.check_size(offset, bytes)?;
        if self.scattered.is_some() {
            return self.write_at(offset, bytes);
        }
        if let Err(source) = self.lock.file().write_all_at(bytes, offset) {
            // The length of the file is what a later run takes for the watermark. (Even if this fails: whatever was
            // written are the first bytes of those that belong here.)
            if let Err(error) = self.lock.file().set_len(offset) {
                tracing::debug!(digest = %self.digest, %error, "cannot cut off a partial write");
            }
            return Err(Error::Io {
                operation: "write",
                path: self.path().to_owned(),
                source,
            });
        }
        self.shared.advance_to(end);
        Ok(end)
    }

    /// Makes it possible to [`write_at`](Self::write_at) any place. Returns false, and changes nothing, if the filesystem
    /// does not allow it.
    ///
    /// From here on until all bytes are there the blob lies in a second form on disk. Other processes see by the lock that it
    /// is taken; when this one is killed, the next one continues with what has arrived, gaps or not, but for the last
    /// 4 MiB. Versions that do not know the form begin anew.
    pub fn scatter(&mut self) -> Result<bool> {
        self.check_not_failed()?;
        if self.scattered.is_none() {
            let length = self.offset();
            self.scattered = Scattered::begin(&mut self.lock, self.size, length)?;
        }
        Ok(self.scattered.is_some())
    }

    /// Writes bytes to where they belong, after [`scatter`](Self::scatter). Followers see them once there is no gap before
    /// them. Returns up to where there is none.
    ///
    /// Bytes that are there already stay as they are: they may have been read. Without `scatter` only the bytes at the
    /// present [`offset`](Self::offset) can be written, and more is an [`io::ErrorKind::InvalidInput`]. As
    /// [`append`](Self::append) otherwise.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<u64> {
        self.check_not_failed()?;
        self.check_size(offset, bytes)?;
        let Some(scattered) = &mut self.scattered else {
            let there = self.offset();
            if offset > there {
                let source = io::Error::new(io::ErrorKind::InvalidInput, "there would be a gap");
                return Err(Error::io("write", self.path())(source));
            }
            let known = usize::try_from(there - offset).unwrap_or(usize::MAX);
            return match bytes.get(known..) {
                Some(new) if !new.is_empty() => self.append(new),
                _ => Ok(there),
            };
        };
        scattered.write_at(offset, bytes)?;
        let prefix = scattered.have().prefix();
        if prefix > self.offset() {
            self.shared.advance_to(prefix);
        }
        Ok(prefix)
    }

    /// Returns how many bytes are there, wherever they belong.
    pub fn arrived(&self) -> u64 {
        self.scattered
            .as_ref()
            .map_or_else(|| self.offset(), |scattered| scattered.have().total())
    }

    /// Returns what is missing, in order.
    pub fn missing(&self) -> Vec<Range<u64>> {
        match &self.scattered {
            Some(scattered) => scattered.have().missing(0..self.size),
            None => Some(self.offset()..self.size)
                .filter(|range| !range.is_empty())
                .into_iter()
                .collect(),
        }
    }

    /// Declares that all bytes are there: followers see the end. May be called again.
    ///
    /// Fails with [`Error::Incomplete`], and changes nothing, if they are not.
    pub fn complete(&mut self) -> Result<()> {
        self.check_not_failed()?;
        let arrived = self.offset();
        if arrived != self.size {
            return Err(Error::Incomplete {
                digest: self.digest.clone(),
                size: self.size,
                arrived,
            });
        }
        if let Some(scattered) = self.scattered.take() {
            scattered.gather(&mut self.lock)?;
        }
        self.shared.end(Phase::Complete);
        Ok(())
    }

    /// Declares that all bytes are there, as [`complete`](Self::complete) does, and waits until they are on the disk if the
    /// durability of the store asks for that. [`publish`](Self::publish) does it if it was not done.
    pub fn flush(&mut self) -> Result<()> {
        self.complete()?;
        if self.store.durability() == Durability::Sync && !self.is_flushed {
            self.lock.file().sync_all().map_err(Error::io("sync", self.path()))?;
            self.is_flushed = true;
        }
        Ok(())
    }

    /// Takes a file that holds the whole blob in the place of what has arrived so far, without reading or writing it: it is
    /// renamed. Nobody else may be about to write to it, it must be on the filesystem of the store, and this ingest must not
    /// have followers yet.
    ///
    /// The content is not looked at: that is for the followers, as with every other way by which bytes arrive. A file of
    /// another size than the blob is [`Error::Oversize`] or [`Error::Incomplete`], and stays
    /// where it is.
    pub fn take_file(&mut self, from: &Path) -> Result<()> {
        self.check_not_failed()?;
        let Some(mut lock) = FileLock::try_exclusive_existing(from)? else {
            return Err(Error::Busy {
                digest: self.digest.clone(),
            });
        };
        let length = lock.file().metadata().map_err(Error::io("look at", from))?.len();
        let (digest, size, arrived) = (self.digest.clone(), self.size, length);
        if length > size {
            return Err(Error::Oversize { digest, size, arrived });
        }
        if length < size {
            return Err(Error::Incomplete { digest, size, arrived });
        }
        // The new file is locked before it has the name, and the old one stays locked until it has lost it: at no moment can
        // somebody else take the ingest for free.
        let path = self.path().to_owned();
        std::fs::rename(from, &path).map_err(Error::io("rename to", &path))?;
        lock.renamed(path);
        self.lock = lock;
        self.is_flushed = false;
        self.scattered = None;
        scattered::remove(self.path())?;
        self.shared.advance_to(size);
        Ok(())
    }

    /// Declares that no more bytes will come: followers fail with this message. The bytes that arrived are kept.
    ///
    /// Does nothing if the ingest is complete or has failed before.
    pub fn fail(&mut self, message: impl Into<String>) {
        self.shared.end(Phase::Ended(FollowError::Failed {
            message: message.into(),
        }));
    }

    /// Gives the blob its name in `blobs/`, if it is what was asked for.
    ///
    /// `digest` and `size` are what the reader of the bytes has found, not what it was told. If they differ from those
    /// of this ingest, what has arrived is removed, and the error is [`Error::Mismatch`]. If not all bytes have arrived,
    /// they are kept, and the error is [`Error::Incomplete`].
    ///
    /// That the blob is published already does no harm. With [`Durability::Lazy`] nothing is synced: this is the place
    /// where a power loss is traded for time, and [`Durability::Sync`] decides otherwise.
    pub fn publish(mut self, digest: &Digest, size: u64) -> Result<()> {
        let _order = unlade_sys::enter(INGEST_LOCK);
        if let Phase::Ended(FollowError::Failed { message }) = self.shared.phase() {
            return Err(Error::Failed {
                digest: self.digest.clone(),
                message,
            });
        }
        if (digest, size) != (&self.digest, self.size) {
            self.remove_file()?;
            return Err(Error::Mismatch {
                expected: self.digest.clone(),
                expected_size: self.size,
                actual: digest.clone(),
                actual_size: size,
            });
        }
        self.flush()?;
        let target = self.store.prepare_path(&self.digest)?;
        let file = self.lock.file();
        std::fs::rename(self.path(), &target).map_err(Error::io("publish a blob as", &target))?;
        self.file_state = FileState::Gone;
        // Not before: if it ended here, the next holder could not open the partial blob for writing.
        file.set_permissions(std::fs::Permissions::from_mode(BLOB_MODE))
            .map_err(Error::io("set the mode of", &target))?;
        if self.store.durability() == Durability::Sync
            && let Some(directory) = target.parent()
        {
            unlade_sys::sync_directory(directory)?;
        }
        Ok(())
    }

    /// Removes what has arrived.
    pub fn discard(mut self) -> Result<()> {
        self.remove_file()
    }

    fn check_not_failed(&self) -> Result<()> {
        match self.shared.phase() {
            Phase::Ended(error) => {
                let message = match error {
                    FollowError::Failed { message } => message,
                    other => other.to_string(),
                };
                Err(Error::Failed {
                    digest: self.digest.clone(),
                    message,
                })
            }
            Phase::Receiving | Phase::Complete => Ok(()),
        }
    }

    /// Removes the file in `ingest/`. The lock on it is held, so nobody else removes or renames it.
    fn remove_file(&mut self) -> Result<()> {
        if self.file_state == FileState::Partial {
            self.file_state = FileState::Gone;
            remove_ingest(self.path())?;
        }
        Ok(())
    }

    /// Returns where `bytes` end. If that is beyond the blob, what sent them did not send this blob.
    fn check_size(&mut self, offset: u64, bytes: &[u8]) -> Result<u64> {
        let end = offset.saturating_add(bytes.len() as u64);
        if end > self.size {
            let error = Error::Oversize {
                digest: self.digest.clone(),
                size: self.size,
                arrived: end,
            };
            self.fail(error.to_string());
            self.remove_file()?;
            return Err(error);
        }
        Ok(end)
    }

    /// Returns the file that has the bytes, and its path.
    fn data(&self) -> (&File, &Path) {
        match &self.scattered {
            Some(scattered) => (scattered.file(), scattered.path()),
            None => (self.lock.file(), self.lock.path()),
        }
    }

    fn path(&self) -> &Path {
        self.lock.path()
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        self.shared.end(Phase::Ended(FollowError::Abandoned));
        // What this one knows the next one may know as well; the list in the file may lag behind.
        if let Some(scattered) = self
            .scattered
            .as_mut()
            .filter(|_| self.file_state == FileState::Partial)
            && let Err(error) = scattered.record()
        {
            tracing::debug!(digest = %self.digest, %error, "some of what has arrived will be fetched again");
        }
        // An empty file is nothing that could be continued.
        let total = self
            .scattered
            .as_ref()
            .map_or(self.offset(), |scattered| scattered.have().total());
        if total == 0
            && let Err(error) = self.remove_file()
        {
            tracing::debug!(digest = %self.digest, %error, "an empty partial blob stays");
        }
    }
}

/// Removes the files of a partial blob, whose plain one is at `path` and locked.
pub(crate) fn remove_ingest(path: &Path) -> Result<bool> {
    scattered::remove(path)?;
    remove_if_there(path)
}

/// Removes a file; returns false if there was none.
pub(crate) fn remove_if_there(path: &Path) -> Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(Error::Io {
            operation: "remove",
            path: PathBuf::from(path),
            source,
        }),
    }
}
