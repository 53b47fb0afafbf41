//! Filesystems of their own, made and mounted by a test. They take root.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::real;

/// What a [`Filesystem`] is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ext4 in a file, over a loop device.
    Ext4,
    /// ext2, as old ones are: times are whole seconds, up to 2038, and an inode's attributes have one small block.
    Ext2,
    /// xfs in a file, over a loop device.
    Xfs,
    /// Memory.
    Tmpfs,
    /// Memory, without extended attributes.
    Ramfs,
}

/// A filesystem that is mounted; it is unmounted when dropped.
#[derive(Debug)]
pub struct Filesystem {
    kind: Kind,
    directory: TempDir,
    mounted: bool,
}

impl Filesystem {
    /// Makes a filesystem of `bytes` and mounts it.
    pub fn new(kind: Kind, bytes: u64) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the filesystem");
        fs::create_dir(directory.path().join("mount")).expect("a place to mount at");
        let mut filesystem = Self {
            kind,
            directory,
            mounted: false,
        };
        let image = filesystem.image();
        match kind {
            Kind::Tmpfs | Kind::Ramfs => {}
            Kind::Ext4 => {
                File::create(&image)
                    .and_then(|file| file.set_len(bytes))
                    .expect("a file for the filesystem");
                real::run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image));
            }
            Kind::Ext2 => {
                File::create(&image)
                    .and_then(|file| file.set_len(bytes))
                    .expect("a file for the filesystem");
                let arguments = ["-q", "-t", "ext2", "-I", "128", "-b", "1024", "-O", "^ext_attr"];
                real::run(Command::new("mkfs.ext4").args(arguments).arg(&image));
            }
            Kind::Xfs => {
                File::create(&image)
                    .and_then(|file| file.set_len(bytes))
                    .expect("a file for the filesystem");
                real::run(Command::new("mkfs.xfs").arg("-q").arg(&image));
            }
        }
        filesystem.mount_sized(bytes);
        filesystem
    }

    /// Returns where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("mount")
    }

    /// Returns how many bytes are free, after all is written out. xfs frees what was removed a moment later, so this waits
    /// until the number stays.
    pub fn free(&self) -> u64 {
        let root = File::open(self.path()).expect("a mounted filesystem");
        let free = || {
            rustix::fs::syncfs(&root).expect("a filesystem that can be flushed");
            let stat = rustix::fs::fstatvfs(&root).expect("a mounted filesystem");
            stat.f_bfree * stat.f_frsize
        };
        let mut last = free();
        let mut same = 0;
        while same < 5 {
            std::thread::sleep(Duration::from_millis(100));
            let now = free();
            same = if now == last { same + 1 } else { 0 };
            last = now;
        }
        last
    }

    /// Gives one in memory another size.
    pub fn resize(&self, bytes: u64) {
        assert_eq!(
            self.kind,
            Kind::Tmpfs,
            "only what is in memory has another size at once"
        );
        real::run(
            Command::new("mount")
                .args(["-o", &format!("remount,size={bytes}")])
                .arg(self.path()),
        );
    }

    /// Lets nothing be written to it any more, or lets it again.
    pub fn set_read_only(&self, read_only: bool) {
        let option = if read_only { "remount,ro" } else { "remount,rw" };
        real::run(Command::new("mount").args(["-o", option]).arg(self.path()));
    }

    /// Mounts it again, after it was unmounted.
    pub fn mount(&mut self) {
        self.mount_sized(0);
    }

    fn mount_sized(&mut self, bytes: u64) {
        let mut mount = Command::new("mount");
        match self.kind {
            Kind::Tmpfs => mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]),
            Kind::Ramfs => mount.args(["-t", "ramfs", "ramfs"]),
            Kind::Ext4 | Kind::Ext2 | Kind::Xfs => mount.args(["-o", "loop"]).arg(self.image()),
        };
        real::run(mount.arg(self.path()));
        self.mounted = true;
    }

    /// Unmounts it.
    pub fn unmount(&mut self) {
        real::run(Command::new("umount").arg(self.path()));
        self.mounted = false;
    }

    /// Stops it as a power loss does: what is not on the disk is lost, and nothing is written any more.
    pub fn cut_power(&self) {
        // Without `-f`, which would flush the log: FSOP_GOING_FLAGS_NOLOGFLUSH, which ext4 understands as well.
        real::run(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(self.path()));
    }

    /// Mounts it anew after a power loss, which replays its journal. No process may be in it.
    pub fn mount_again(&mut self) {
        for _ in 0..100 {
            self.unmount();
            self.mount();
            let probe = self.path().join("probe");
            if fs::write(&probe, "").and_then(|()| fs::remove_file(&probe)).is_ok() {
                return;
            }
            // The mount namespace of a process that has just died still had it, so it is the stopped one that came back.
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{} stays stopped", self.path().display());
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }
}

impl Drop for Filesystem {
    fn drop(&mut self) {
        if self.mounted {
            // Lazily: a process of a test that has failed may still be in it.
            drop(Command::new("umount").arg("-l").arg(self.path()).status());
        }
    }
}
