//! A new filesystem for every run.
//!
//! What a run leaves behind must not be found by the next: free space in pieces, a journal to be written, a directory index
//! that has grown. On some filesystems making files after a mass deletion is several times slower.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use serde::Serialize;
use tempfile::TempDir;

use super::{child, interrupt};

/// How large the filesystem is. The file behind it has holes, so only what is written takes space.
const BYTES: u64 = 12 << 30;

/// How long a filesystem may be in use after the program has ended that had it.
const PATIENCE: Duration = Duration::from_secs(5);

/// A kind of filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Filesystem {
    /// On a loop device
    Ext4,
    /// On a loop device
    Xfs,
    /// In memory
    Tmpfs,
}

impl fmt::Display for Filesystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Tmpfs => "tmpfs",
        })
    }
}

/// A mounted filesystem; unmounted and gone when dropped.
#[derive(Debug)]
pub(super) struct Disk {
    mount: PathBuf,
    _directory: TempDir,
}

impl Disk {
    /// Makes and mounts one below `work`.
    pub(super) fn make(filesystem: Filesystem, work: &Path) -> Result<Self> {
        Self::with_room_for(1, filesystem, work)
    }

    /// Makes one that is so many times as large.
    pub(super) fn with_room_for(trees: usize, filesystem: Filesystem, work: &Path) -> Result<Self> {
        interrupt::check()?;
        let bytes = BYTES * u64::try_from(trees)?;
        let directory = tempfile::Builder::new().prefix("disk-").tempdir_in(work)?;
        let mount = directory.path().join("mount");
        fs::create_dir(&mount)?;
        let (image, options) = (directory.path().join("image"), format!("size={bytes}"));
        let mut command = Command::new("mount");
        match filesystem {
            Filesystem::Tmpfs => command.args(["-t", "tmpfs", "-o", &options, "bench"]),
            Filesystem::Ext4 => {
                format(
                    &image,
                    bytes,
                    "mkfs.ext4",
                    &["-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1"],
                )?;
                // Without the thread that goes on with what mkfs has left for later, in the middle of a measurement.
                command.args(["-t", "ext4", "-o", "loop,noinit_itable"]).arg(&image)
            }
            Filesystem::Xfs => {
                format(&image, bytes, "mkfs.xfs", &["-q", "-f"])?;
                command.args(["-t", "xfs", "-o", "loop"]).arg(&image)
            }
        };
        // From here on dropping it unmounts what is mounted, even if somebody interrupts just now.
        let disk = Self {
            mount,
            _directory: directory,
        };
        child::time(command.arg(&disk.mount)).context("cannot mount a new filesystem, which takes root")?;
        Ok(disk)
    }

    /// Returns where it is mounted.
    pub(super) fn path(&self) -> &Path {
        &self.mount
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.mount) {
            println!("{} stays mounted: {error:#}", self.mount.display());
        }
    }
}

/// Unmounts what is mounted at `mount` and below, if anything is. With it goes its loop device.
///
/// A program that was killed may have children that still use it for a moment. If one of them goes on doing so, the
/// filesystem is at least gone for everybody else.
pub(super) fn unmount(mount: &Path) -> Result<()> {
    let since = Instant::now();
    while is_mounted(mount) {
        let how: &[&str] = if since.elapsed() < PATIENCE {
            &["--recursive"]
        } else {
            &["--recursive", "--lazy"]
        };
        let output = Command::new("umount")
            .args(how)
            .arg(mount)
            .stdin(Stdio::null())
            .output()
            .context("cannot run umount")?;
        let last = how.len() > 1;
        ensure!(
            output.status.success() || !last,
            "umount: {}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
        if !output.status.success() {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

/// Says whether a filesystem of its own is mounted there.
pub(super) fn is_mounted(path: &Path) -> bool {
    let device = |path: &Path| fs::symlink_metadata(path).map(|metadata| metadata.dev()).ok();
    device(path).is_some_and(|own| path.parent().and_then(device) != Some(own))
}

fn format(image: &Path, bytes: u64, program: &str, arguments: &[&str]) -> Result<()> {
    let file = File::create(image).with_context(|| format!("cannot create {}", image.display()))?;
    file.set_len(bytes)
        .with_context(|| format!("cannot enlarge {}", image.display()))?;
    child::time(Command::new(program).args(arguments).arg(image))
        .with_context(|| format!("cannot make a filesystem with {program}"))?;
    Ok(())
}

/// What lies below a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Census {
    /// Everything that has a name, directories included.
    pub(super) entries: u64,
    /// The length of all regular files; those with several names count once for each.
    pub(super) bytes: u64,
}

impl Census {
    /// Counts what is below `directory`.
    pub(super) fn of(directory: &Path) -> Result<Self> {
        let mut census = Self::default();
        let mut todo = vec![directory.to_owned()];
        while let Some(directory) = todo.pop() {
            for entry in fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))? {
                let entry = entry?;
                let metadata = entry.metadata()?;
                census.entries += 1;
                if metadata.is_file() {
                    census.bytes += metadata.len();
                } else if metadata.is_dir() {
                    todo.push(entry.path());
                }
            }
        }
        ensure!(census.entries > 0, "nothing was made below {}", directory.display());
        Ok(census)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_census_counts_names_and_bytes() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Census::of(directory.path()).is_err());
        fs::create_dir(directory.path().join("a")).unwrap();
        fs::write(directory.path().join("a/b"), "12345").unwrap();
        std::os::unix::fs::symlink("b", directory.path().join("a/c")).unwrap();
        assert_eq!(Census::of(directory.path()).unwrap(), Census { entries: 3, bytes: 5 });
    }
}
