//! Opening what the caller owns and may not open: without root, a layer's modes bind its owner, too.
//!
//! A directory that may not be searched or listed gets the permission for as long as the view lives, a file that may not be
//! read gets it for the moment of opening it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use unlade_sys::Dir;

use super::SysResult;

/// Directories that were given permissions, with the modes that they had; those come back when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Unlocked(Mutex<HashMap<(u64, u64), (Dir, u32)>>);

impl Unlocked {
    /// Opens a directory so that it can be listed and searched.
    pub(super) fn open_dir(&self, parent: &Dir, name: &OsStr, stat: &Stat) -> SysResult<Dir> {
        let is_open = rustix::process::geteuid().is_root() || stat.st_mode & 0o500 == 0o500;
        if is_open || self.known().contains_key(&(stat.st_dev, stat.st_ino)) {
            return parent.open_dir(name);
        }
        parent.set_mode(name, stat.st_mode & 0o7777 | 0o500)?;
        let dir = parent.open_dir(name)?;
        let kept = (dir.try_clone()?, stat.st_mode & 0o7777);
        self.known().insert((stat.st_dev, stat.st_ino), kept);
        Ok(dir)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<(u64, u64), (Dir, u32)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the mode that a directory had into `stat`.
    pub(super) fn restore(&self, stat: &mut Stat) {
        if let Some((_, mode)) = self.known().get(&(stat.st_dev, stat.st_ino)) {
            stat.st_mode = stat.st_mode & !0o7777 | mode;
        }
    }
}

impl Drop for Unlocked {
    fn drop(&mut self) {
        for (dir, mode) in self.known().values() {
            if let Err(error) = dir.set_own_mode(*mode) {
                tracing::warn!(%error, "a layer directory keeps a mode that it had for a while");
            }
        }
    }
}

/// Opens a regular file for reading.
pub(super) fn file(dir: &Dir, name: &OsStr, stat: &Stat) -> SysResult<File> {
    readable(dir, name, stat, || dir.open_file(name))
}

/// Does something that needs the permission to read a regular file.
pub(super) fn readable<T>(dir: &Dir, name: &OsStr, stat: &Stat, read: impl Fn() -> SysResult<T>) -> SysResult<T> {
    match read() {
        Err(error)
            if error.raw_os_error() == Some(Errno::ACCESS.raw_os_error())
                && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile =>
        {
            dir.set_mode(name, stat.st_mode & 0o7777 | 0o400)?;
            let done = read();
            dir.set_mode(name, stat.st_mode & 0o7777)?;
            done
        }
        done => done,
    }
}
