//! What has reached the disk, and since which boot.
//!
//! Until a sync, written data is in the page cache: every process sees it, and a crash of a process does not lose it;
//! a crash of the machine does. Who skips the sync can remember the [`boot_id`]: as long as it is the same, nothing was
//! lost.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::{Error, Result};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Returns the kernel's identifier of this boot: a UUID that changes with every boot.
pub fn boot_id() -> Result<String> {
    let path = Path::new(BOOT_ID);
    // One read gives all of it, and every pull begins with this.
    let mut buffer = [0; 64];
    let length = File::open(path)
        .and_then(|mut file| file.read(&mut buffer))
        .map_err(Error::on("read", path))?;
    let text = String::from_utf8_lossy(&buffer[..length]);
    let id = text.trim();
    if id.is_empty() {
        return Err(Error::new(
            "read",
            path,
            io::Error::new(io::ErrorKind::InvalidData, "the file is empty"),
        ));
    }
    Ok(id.to_owned())
}

/// Waits until everything written so far to the filesystem that holds `path` is on the disk (`syncfs`).
pub fn sync_filesystem(path: &Path) -> Result<()> {
    let file = open(path, OFlags::empty())?;
    rustix::fs::syncfs(&file).map_err(Error::on("sync the filesystem of", path))
}

/// Waits until the names in the directory at `path` are on the disk (`fsync`).
pub fn sync_directory(path: &Path) -> Result<()> {
    let file = open(path, OFlags::DIRECTORY)?;
    rustix::fs::fsync(&file).map_err(Error::on("sync", path))
}

/// Waits until the content of the file at `path` is on the disk (`fsync`).
pub fn sync_file(path: &Path) -> Result<()> {
    let file = open(path, OFlags::NOFOLLOW)?;
    rustix::fs::fsync(&file).map_err(Error::on("sync", path))
}

fn open(path: &Path, extra: OFlags) -> Result<File> {
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | extra, Mode::empty());
    Ok(File::from(fd.map_err(Error::on("open", path))?))
}
