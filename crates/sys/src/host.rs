//! Small questions to the host and the filesystem, and directories with a mode that no umask changes.

use std::fs::File;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::{Error, Result};

/// Says whether this process runs with the effective user id 0.
///
/// It may be the root of a user namespace: that chown and mknod will work does not follow.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What is left on a filesystem for a process without privileges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FreeSpace {
    /// Bytes that can still be written; [`u64::MAX`] where the filesystem does not count them (ramfs).
    pub bytes: u64,
    /// Bytes that the filesystem has in all.
    pub total_bytes: u64,
    /// Files that can still be made; `None` where the filesystem makes inodes as they are needed (btrfs).
    pub inodes: Option<u64>,
}

/// Returns what is left on the filesystem that holds `path`, which must exist.
pub fn free_space(path: &Path) -> Result<FreeSpace> {
    let stat = rustix::fs::statvfs(path).map_err(Error::on("ask for the free space at", path))?;
    Ok(FreeSpace {
        bytes: if stat.f_blocks == 0 {
            u64::MAX
        } else {
            stat.f_bavail.saturating_mul(stat.f_frsize)
        },
        total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        inodes: (stat.f_files > 0).then_some(stat.f_favail),
    })
}

/// Says whether `path` is on a network filesystem, where locks and memory maps may not do what a database needs.
///
/// Filesystems in user space (FUSE) are not counted: what is behind them cannot be seen.
pub fn is_network_filesystem(path: &Path) -> Result<bool> {
    let stat = rustix::fs::statfs(path).map_err(Error::on("ask for the filesystem of", path))?;
    // The type of the field differs between architectures; the magic numbers have 32 bits.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the numbers have 32 bits"
    )]
    let magic = stat.f_type as u32;
    Ok(NETWORK_FILESYSTEMS.iter().any(|(_, number)| *number == magic))
}

/// Magic numbers, from `statfs(2)`.
const NETWORK_FILESYSTEMS: &[(&str, u32)] = &[
    ("9p", 0x0102_1997),
    ("afs", 0x5346_414f),
    ("ceph", 0x00c3_6400),
    ("cifs", 0xff53_4d42),
    ("coda", 0x7375_7245),
    ("lustre", 0x0bd0_0bd0),
    ("ncp", 0x564c),
    ("nfs", 0x6969),
    ("smb", 0x517b),
    ("smb2", 0xfe53_4d42),
];

/// Makes a directory with exactly this mode; returns false if a directory is there already, and leaves that as it is.
///
/// A symbolic link to a directory counts as one.
pub fn create_dir(path: &Path, mode: u32) -> Result<bool> {
    match rustix::fs::mkdir(path, Mode::RWXU) {
        Ok(()) => {}
        Err(Errno::EXIST) if path.is_dir() => return Ok(false),
        Err(errno) => return Err(Error::new("create the directory", path, errno)),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(Error::on("open", path))?);
    rustix::fs::fchmod(&directory, Mode::from_raw_mode(mode)).map_err(Error::on("set the mode of", path))?;
    Ok(true)
}

/// Makes a directory that only its owner may use (mode 0700), and the directories above it where they are missing.
///
/// Those above get the usual mode of a new directory. One that exists keeps its mode.
pub fn create_private_dir(path: &Path) -> Result<()> {
    match create_dir(path, 0o700) {
        Err(error) if error.is_not_found() => {}
        done => return done.map(|_| ()),
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(Error::on("create the directory", parent))?;
    }
    create_dir(path, 0o700).map(|_| ())
}
