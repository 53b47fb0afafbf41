//! Making a name appear, change or move in one step: readers see the old state or the new one, never a part.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::{Error, FileLock, Result};

/// How the names of the temporary files of [`write_atomic`] and its sisters begin.
///
/// Its writer keeps such a file locked ([`FileLock`]). One that nobody holds was left by a process that was killed while it
/// wrote, and may be deleted by whoever gets its lock.
pub const TEMPORARY_PREFIX: &str = ".unlade-tmp-";

/// Whether a write waits until the disk has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// Do not wait: the kernel writes in its own time. A crash of the process loses nothing; after a power loss a file
    /// may be empty, or missing.
    #[default]
    Lazy,
    /// Wait: content is synced before it gets its name, and the directory after.
    Sync,
}

/// Writes a whole file, replacing the one that may be there, so that no reader ever sees a part of it.
///
/// The bytes go to a temporary file in the same directory, which then takes the name. If anything fails, the temporary
/// file is removed and what was at `path` is untouched. `mode` holds whatever the umask is. Nothing is synced.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let (directory, _) = split(path)?;
    write_atomic_in(directory, path, bytes, mode, Durability::Lazy)
}

/// Does as [`write_atomic`] does, with the temporary file in `directory`, which must be on the filesystem of `path`.
///
/// This is for directories that other programs read, where a left-over would be taken for content.
pub fn write_atomic_in(directory: &Path, path: &Path, bytes: &[u8], mode: u32, durability: Durability) -> Result<()> {
    let temporary = Temporary::with_content(directory, bytes, mode, durability)?;
    rustix::fs::rename(&temporary.path, path).map_err(Error::on("write", path))?;
    temporary.moved();
    sync_name(path, durability)
}

/// Does as [`write_atomic_in`] does, unless something is at `path` already: then returns false and changes nothing.
pub fn create_atomic_in(
    directory: &Path,
    path: &Path,
    bytes: &[u8],
    mode: u32,
    durability: Durability,
) -> Result<bool> {
    let temporary = Temporary::with_content(directory, bytes, mode, durability)?;
    let created = rename_no_replace(&temporary.path, path)?;
    if created {
        temporary.moved();
        sync_name(path, durability)?;
    }
    Ok(created)
}

fn sync_name(path: &Path, durability: Durability) -> Result<()> {
    match durability {
        Durability::Lazy => Ok(()),
        Durability::Sync => crate::sync_directory(split(path)?.0),
    }
}

/// Renames `from` to `to` unless something is at `to` already.
///
/// Returns false, and changes nothing, if there is. The check and the rename are one step. On a filesystem that cannot
/// do that, a file is linked and unlinked instead, and a directory is renamed, which there replaces an empty
/// directory, but nothing else.
pub fn rename_no_replace(from: &Path, to: &Path) -> Result<bool> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => rename_without_flag(from, to),
        Err(errno) => Err(Error::new("rename to", to, errno)),
    }
}

/// The fallback of [`rename_no_replace`] where the filesystem does not know the flag.
fn rename_without_flag(from: &Path, to: &Path) -> Result<bool> {
    let stat = rustix::fs::lstat(from).map_err(Error::on("look at", from))?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
        return match rustix::fs::rename(from, to) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => Ok(false),
            Err(errno) => Err(Error::new("rename to", to, errno)),
        };
    }
    match rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty()) {
        Ok(()) => {
            rustix::fs::unlink(from).map_err(Error::on("remove", from))?;
            Ok(true)
        }
        Err(Errno::EXIST) => Ok(false),
        Err(errno) => Err(Error::new("link to", to, errno)),
    }
}

/// Exchanges what is at two paths in one step; both must exist and be on one filesystem.
pub fn exchange(a: &Path, b: &Path) -> Result<()> {
    rustix::fs::renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).map_err(Error::on("exchange", b))
}

/// Splits a path into the directory and the last name in it.
pub(crate) fn split(path: &Path) -> Result<(&Path, &std::ffi::OsStr)> {
    let no_name = || io::Error::new(io::ErrorKind::InvalidInput, "the path does not end in a name");
    let name = path.file_name().ok_or_else(|| Error::new("use", path, no_name()))?;
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    Ok((directory, name))
}

/// A temporary file that is removed when it is dropped, unless it has been renamed.
struct Temporary {
    path: PathBuf,
    /// Says that its writer lives.
    lock: FileLock,
    owned: bool,
}

impl Temporary {
    fn with_content(directory: &Path, bytes: &[u8], mode: u32, durability: Durability) -> Result<Self> {
        let temporary = Self::create(directory)?;
        let mut file = temporary.lock.file();
        file.write_all(bytes).map_err(Error::on("write", &temporary.path))?;
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode)).map_err(Error::on("set the mode of", &temporary.path))?;
        if durability == Durability::Sync {
            rustix::fs::fsync(file).map_err(Error::on("sync", &temporary.path))?;
        }
        Ok(temporary)
    }

    fn create(directory: &Path) -> Result<Self> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let count = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = directory.join(format!("{TEMPORARY_PREFIX}{}-{count}", std::process::id()));
            match rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR) {
                Ok(fd) => {
                    // Somebody who looks for what the dead have left may have come before the lock; then that file is lost.
                    let lock = FileLock::try_exclusive_file(File::from(fd), &path)?;
                    if let Some(lock) = lock
                        && lock.is_still_at_path()?
                    {
                        let owned = true;
                        return Ok(Self { path, lock, owned });
                    }
                }
                // Process ids repeat: across restarts, and across PID namespaces that share the directory.
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(Error::new("create", path, errno)),
            }
        }
    }

    fn moved(mut self) {
        self.owned = false;
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.owned
            && let Err(errno) = rustix::fs::unlink(&self.path)
        {
            tracing::debug!(path = %self.path.display(), %errno, "a temporary file stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No filesystem at hand refuses the flag, so the fallback is called directly.
    #[test]
    fn rename_without_the_flag_keeps_what_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("a"), "a").unwrap();
        std::fs::write(at("b"), "b").unwrap();
        assert!(!rename_without_flag(&at("a"), &at("b")).unwrap());
        assert_eq!(std::fs::read(at("b")).unwrap(), b"b");
        assert!(rename_without_flag(&at("a"), &at("c")).unwrap());
        assert!(!at("a").exists());

        std::fs::create_dir_all(at("d/sub")).unwrap();
        std::fs::create_dir_all(at("e/full")).unwrap();
        assert!(!rename_without_flag(&at("d"), &at("e")).unwrap());
        assert!(!rename_without_flag(&at("d"), &at("b")).unwrap());
        assert!(rename_without_flag(&at("d"), &at("f")).unwrap());
        assert!(at("f/sub").is_dir());
    }
}
