//! Advisory file locks that die with their holder.
//!
//! # Which kind of lock
//! These are `flock(2)` locks. One belongs to an *open file description*, not to a process, and every [`FileLock`]
//! opens the file anew. So two locks exclude each other within one process just as they do between processes, whatever
//! the threads, and the kernel releases one when its holder is killed: there are no stale locks.
//!
//! # The file
//! The file that carries the lock is created when it is missing (mode 0600) and stays when the lock is released:
//! deleting it would let a third party lock a new file of the same name while a second still waits for the old one.
//! Whoever does delete or rename a locked file (it must hold the exclusive lock) does no harm either: after locking,
//! the file that was locked is compared with the file that is at the path, and if they differ, locking starts again.
//!
//! # Blocking
//! [`exclusive`](FileLock::exclusive) and [`shared`](FileLock::shared) block the thread for as long as it takes. They
//! have no place on the threads of an async executor.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::{Error, Result};

/// A lock on a file, held until this value is dropped or the process ends.
#[derive(Debug)]
#[must_use = "the lock is released when this value is dropped"]
pub struct FileLock {
    file: File,
    path: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Shared,
    Exclusive,
}

#[derive(Clone, Copy)]
enum Wait {
    Forever,
    Never,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Create,
    Fail,
}

impl FileLock {
    /// Takes the exclusive lock, waiting for every other holder.
    pub fn exclusive(path: &Path) -> Result<Self> {
        loop {
            if let Some(lock) = Self::at_path(path, Kind::Exclusive, Wait::Forever, Missing::Create)? {
                return Ok(lock);
            }
        }
    }

    /// Takes the exclusive lock if nobody holds one; `None` if somebody does.
    pub fn try_exclusive(path: &Path) -> Result<Option<Self>> {
        Self::at_path(path, Kind::Exclusive, Wait::Never, Missing::Create)
    }

    /// Takes the exclusive lock of a file or directory that must exist; `None` if somebody holds one.
    ///
    /// Fails with [`io::ErrorKind::NotFound`] if there is nothing at the path.
    pub fn try_exclusive_existing(path: &Path) -> Result<Option<Self>> {
        Self::at_path(path, Kind::Exclusive, Wait::Never, Missing::Fail)
    }

    /// Takes a shared lock, waiting for an exclusive holder.
    pub fn shared(path: &Path) -> Result<Self> {
        loop {
            if let Some(lock) = Self::at_path(path, Kind::Shared, Wait::Forever, Missing::Create)? {
                return Ok(lock);
            }
        }
    }

    /// Takes a shared lock if nobody holds the exclusive one; `None` if somebody does.
    pub fn try_shared(path: &Path) -> Result<Option<Self>> {
        Self::at_path(path, Kind::Shared, Wait::Never, Missing::Create)
    }

    /// Takes a shared lock of a file or directory that must exist; `None` if somebody holds the exclusive one.
    ///
    /// Fails with [`io::ErrorKind::NotFound`] if there is nothing at the path.
    pub fn try_shared_existing(path: &Path) -> Result<Option<Self>> {
        Self::at_path(path, Kind::Shared, Wait::Never, Missing::Fail)
    }

    /// Takes the exclusive lock of an open file if nobody else holds one.
    ///
    /// `path` is for messages: that the file is still there is not checked. Whoever shares the open file description
    /// (by `dup` or `fork`) shares the lock.
    pub fn try_exclusive_file(file: File, path: &Path) -> Result<Option<Self>> {
        Self::on_file(file, path, Kind::Exclusive, Wait::Never)
    }

    /// Takes a shared lock of an open file if nobody else holds the exclusive one; see
    /// [`try_exclusive_file`](Self::try_exclusive_file).
    pub fn try_shared_file(file: File, path: &Path) -> Result<Option<Self>> {
        Self::on_file(file, path, Kind::Shared, Wait::Never)
    }

    /// Returns the locked file. It is open for reading and writing; after a shared lock, or one of what must exist, for
    /// reading only if it is a directory or may not be written to.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Takes note that the file was renamed, by the holder. The path is for messages; the lock is on the file.
    pub fn renamed(&mut self, path: PathBuf) {
        self.path = path;
    }

    /// Returns the path that was locked.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns `None` only if it would have to wait and may not.
    fn at_path(path: &Path, kind: Kind, wait: Wait, missing: Missing) -> Result<Option<Self>> {
        loop {
            let file = open(path, kind, missing)?;
            let Some(lock) = Self::on_file(file, path, kind, wait)? else {
                return Ok(None);
            };
            if lock.is_still_at_path()? {
                return Ok(Some(lock));
            }
        }
    }

    fn on_file(file: File, path: &Path, kind: Kind, wait: Wait) -> Result<Option<Self>> {
        let operation = match (kind, wait) {
            (Kind::Shared, Wait::Forever) => FlockOperation::LockShared,
            (Kind::Shared, Wait::Never) => FlockOperation::NonBlockingLockShared,
            (Kind::Exclusive, Wait::Forever) => FlockOperation::LockExclusive,
            (Kind::Exclusive, Wait::Never) => FlockOperation::NonBlockingLockExclusive,
        };
        match rustix::io::retry_on_intr(|| rustix::fs::flock(&file, operation)) {
            Ok(()) => Ok(Some(Self {
                file,
                path: path.to_owned(),
            })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(Error::new("lock", path, errno)),
        }
    }

    /// Says whether the file that is locked is the one that others will find at the path.
    pub(crate) fn is_still_at_path(&self) -> Result<bool> {
        let locked = rustix::fs::fstat(&self.file).map_err(Error::on("look at", &self.path))?;
        match rustix::fs::lstat(&self.path) {
            Ok(there) => Ok((locked.st_dev, locked.st_ino) == (there.st_dev, there.st_ino)),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(Error::new("look at", &self.path, errno)),
        }
    }
}

impl AsFd for FileLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for FileLock {
    /// Unlocks explicitly: closing would not do while a child that was just forked still has a copy of the descriptor.
    fn drop(&mut self) {
        if let Err(errno) = rustix::fs::flock(&self.file, FlockOperation::Unlock) {
            tracing::debug!(path = %self.path.display(), %errno, "cannot unlock, closing releases the lock");
        }
    }
}

/// Returns the process that holds a lock on the file at `path`, as `/proc/locks` tells it.
///
/// `None` if nobody does, and also if the kernel does not tell: the holder is in another PID namespace, `/proc` is not
/// mounted, or the filesystem reports device numbers of its own (btrfs does). This is for messages, never for decisions.
pub fn lock_holder(path: &Path) -> Option<u32> {
    let stat = rustix::fs::lstat(path).ok()?;
    let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
    let wanted = format!("{major:02x}:{minor:02x}:{}", stat.st_ino);
    holder_in(&std::fs::read_to_string("/proc/locks").ok()?, &wanted)
}

/// Finds the holder in a text like `7: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF`; lines with `->` are waiters.
fn holder_in(locks: &str, wanted: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let kind = fields.nth(1)?;
        let process = fields.nth(2)?;
        let file = fields.next()?;
        (kind == "FLOCK" && file == wanted)
            .then(|| process.parse().ok())
            .flatten()
            .filter(|process| *process > 0)
    })
}

/// Opens the file for reading and writing; for reading if that is all that is possible and enough.
fn open(path: &Path, kind: Kind, missing: Missing) -> Result<File> {
    let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY;
    let create = match missing {
        Missing::Create => OFlags::CREATE,
        Missing::Fail => OFlags::empty(),
    };
    let reading_is_enough = kind == Kind::Shared || missing == Missing::Fail;
    match rustix::fs::open(path, flags | OFlags::RDWR | create, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => Ok(File::from(fd)),
        // Directories and files of a read-only store can be locked as well, if they exist.
        Err(Errno::ISDIR | Errno::ROFS | Errno::ACCESS) if reading_is_enough => {
            let fd = rustix::fs::open(path, flags | OFlags::RDONLY, Mode::empty()).map_err(Error::on("open", path))?;
            Ok(File::from(fd))
        }
        Err(errno) => Err(Error::new("open", path, io::Error::from(errno))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_read_from_the_list_of_locks() {
        let locks = "1: POSIX  ADVISORY  WRITE 10 08:01:7 0 EOF\n2: FLOCK  ADVISORY  WRITE 11 08:01:8 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 12 08:01:8 0 EOF\n3: FLOCK  ADVISORY  READ  -1 08:01:9 0 EOF\n";
        assert_eq!(holder_in(locks, "08:01:8"), Some(11));
        assert_eq!(holder_in(locks, "08:01:7"), None, "another kind of lock");
        assert_eq!(holder_in(locks, "08:01:9"), None, "the holder is in another namespace");
    }
}
