//! Shared locks on ranges of bytes, for the files of others whose format says what a lock on a byte means.
//!
//! These are *open file description* locks: they exclude, and are excluded by, the process-wide locks (`F_SETLK`) that most
//! programs take on ranges, and belong to the descriptor as those of [`FileLock`](crate::FileLock) do. But closing *any*
//! descriptor of a file ends the process-wide locks that this process has on it, so nothing here may be used on a file on
//! which a library in the same process may hold such locks.

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsFd as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::{Mode, OFlags};

use crate::{Error, Result};

/// A shared lock on a range of a file, held until this value is dropped or the process ends.
#[derive(Debug)]
#[must_use = "the lock is released when this value is dropped"]
pub struct RangeLock {
    file: File,
    range: Range<u32>,
}

impl RangeLock {
    /// Takes a shared lock on the bytes `range` of the file at `path`, which need not be there; `None` if somebody holds an
    /// exclusive one on any of them. Waits for nobody.
    ///
    /// # Errors
    /// There is no such file, it cannot be read, or its filesystem has no such locks.
    pub fn try_shared(path: &Path, range: &Range<u32>) -> Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(Error::on("open", path))?);
        match set(&file, libc::F_RDLCK, range) {
            Ok(()) => Ok(Some(Self {
                file,
                range: range.clone(),
            })),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(errno) => Err(Error::new("lock a range of", path, std::io::Error::from(errno))),
        }
    }

    /// Releases the lock and leaves the file open until the process ends.
    ///
    /// Closing it would end the process-wide locks that a library in this process may have taken on the file meanwhile.
    pub fn leak(self) {
        // A lock that cannot be released ends with the process.
        let _released = set(&self.file, libc::F_UNLCK, &self.range);
        std::mem::forget(self.file);
    }
}

fn set(file: &File, kind: libc::c_int, range: &Range<u32>) -> nix::Result<()> {
    let lock = libc::flock {
        l_type: short(kind),
        l_whence: short(libc::SEEK_SET),
        l_start: range.start.into(),
        l_len: range.end.saturating_sub(range.start).into(),
        l_pid: 0,
    };
    fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&lock)).map(|_| ())
}

fn short(constant: libc::c_int) -> libc::c_short {
    libc::c_short::try_from(constant).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_shared_and_excludes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        assert!(RangeLock::try_shared(&path, &(4..5)).unwrap_err().is_not_found());
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        let one = RangeLock::try_shared(&path, &(4..5)).unwrap().unwrap();
        let two = RangeLock::try_shared(&path, &(4..5)).unwrap().unwrap();
        let lock = |start| set(&file, libc::F_WRLCK, &(start..start + 1));
        assert_eq!(lock(4), Err(Errno::EAGAIN));
        drop(one);
        assert_eq!(lock(4), Err(Errno::EAGAIN));
        // A neighbour is free.
        assert!(lock(5).is_ok());
        drop(two);
        assert!(lock(4).is_ok());
        assert!(RangeLock::try_shared(&path, &(4..5)).unwrap().is_none());
    }
}
