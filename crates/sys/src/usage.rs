//! How much room files take on the disk.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use crate::{Dir, Error, Links, Result};

/// Adds up the room that files take: blocks, not lengths, and a file that has several names once.
#[derive(Clone, Debug, Default)]
pub struct DiskUsage {
    bytes: u64,
    linked: HashSet<(u64, u64)>,
}

impl DiskUsage {
    /// Begins with nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns how many bytes of disk all that was added takes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds what is at `path`, a directory with all that is in it; links are not followed. Returns how much it added, which
    /// is nothing if there is nothing at the path.
    ///
    /// A directory that may not be read counts for itself alone, and what vanishes meanwhile does not count.
    pub fn add(&mut self, path: &Path) -> Result<u64> {
        let before = self.bytes;
        let stat = match rustix::fs::lstat(path) {
            Ok(stat) => stat,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(0),
            Err(errno) => return Err(Error::new("read the attributes of", path, errno)),
        };
        self.count(&stat);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            match Dir::open(path) {
                Ok(root) => self.add_below(&root)?,
                Err(error) if is_passed_over(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.bytes - before)
    }

    /// Directories are reached from the root by their paths, so depth costs no descriptors.
    fn add_below(&mut self, root: &Dir) -> Result<()> {
        let mut ahead = vec![PathBuf::new()];
        while let Some(path) = ahead.pop() {
            let opened = if path.as_os_str().is_empty() {
                root.try_clone()
            } else {
                root.resolve(&path, Links::Refuse)
            };
            let (dir, names) = match opened.and_then(|dir| dir.read().map(|names| (dir, names))) {
                Ok(opened) => opened,
                Err(error) if is_passed_over(&error) => continue,
                Err(error) => return Err(error),
            };
            for (name, _) in names {
                let Some(stat) = dir.stat(&name)? else { continue };
                self.count(&stat);
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    ahead.push(join(&path, &name));
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, stat: &Stat) {
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_directory || stat.st_nlink < 2 || self.linked.insert((stat.st_dev, stat.st_ino)) {
            // `stat(2)` counts in units of 512 bytes, whatever the filesystem's own are.
            self.bytes += u64::try_from(stat.st_blocks).unwrap_or_default() * 512;
        }
    }
}

fn is_passed_over(error: &Error) -> bool {
    let errnos = [Errno::ACCESS, Errno::NOENT, Errno::NOTDIR, Errno::LOOP];
    errnos
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn join(path: &Path, name: &OsString) -> PathBuf {
    if path.as_os_str().is_empty() {
        PathBuf::from(OsStr::from_bytes(name.as_bytes()))
    } else {
        path.join(name)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn links_count_once_and_holes_not_at_all() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        let empty = DiskUsage::new().add(temp.path()).unwrap();
        fs::write(at("a/b/file"), vec![1; 100_000]).unwrap();
        let with_file = DiskUsage::new().add(temp.path()).unwrap();
        assert!(with_file >= empty + 100_000, "{empty} {with_file}");
        fs::hard_link(at("a/b/file"), at("a/link")).unwrap();
        fs::File::create(at("hole")).unwrap().set_len(1 << 30).unwrap();
        let mut usage = DiskUsage::new();
        assert!(usage.add(temp.path()).unwrap() <= with_file + 8192);
        assert_eq!(usage.add(&at("a/link")).unwrap(), 0, "it was counted");
        assert_eq!(usage.add(&at("none")).unwrap(), 0);
        assert_eq!(usage.add(&at("a/b/file/none")).unwrap(), 0);
    }
}
