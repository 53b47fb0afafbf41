//! Overlay mounts: many directories shown as one.

use std::ffi::CString;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, move_mount, unmount,
};

use crate::{Error, Result};

/// Longest value of a mount option, without its NUL.
const VALUE_BYTES: usize = 255;

/// Longest list of options that the old call takes: a page.
const OPTIONS_BYTES: usize = 4095;

/// What an overlay mount shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    /// The directories, the highest first; at least two, or one and an upper one.
    pub lower: Vec<PathBuf>,
    /// Where changes go: a directory, and an empty one on the same filesystem that the kernel works with. Without them the
    /// mount is read-only.
    pub upper: Option<(PathBuf, PathBuf)>,
    /// Whether the attributes that overlayfs reads are `user.overlay.*` instead of `trusted.overlay.*`.
    pub user_xattrs: bool,
}

/// Mounts an overlay at the directory `target`.
///
/// Directories are given to the kernel one by one (Linux 6.5), so that there may be as many as it takes, 500, whatever
/// their names. Where that is not known they go in one list by short names, which has room for over 200.
///
/// # Errors
/// The kernel does not let us, for want of privilege (`EPERM`) for one, or there are too many directories.
pub fn mount_overlay(target: &Path, overlay: &Overlay) -> Result<()> {
    let directories = Directories::open(overlay)?;
    match mount_by_parts(target, overlay, &directories) {
        Err(Errno::INVAL | Errno::NOSYS) => mount_by_list(target, overlay, &directories),
        other => other,
    }
    .map_err(Error::on("mount an overlay at", target))
}

/// Ends the mount at `target`.
///
/// # Errors
/// Nothing is mounted there, it is in use, or the kernel does not let us.
pub fn unmount_at(target: &Path) -> Result<()> {
    unmount(target, UnmountFlags::NOFOLLOW).map_err(Error::on("unmount", target))
}

/// Returns what names the mount namespace of this process among all that there are.
///
/// # Errors
/// `/proc` is not there.
pub fn mount_namespace() -> Result<String> {
    let path = Path::new("/proc/self/ns/mnt");
    let target = std::fs::read_link(path).map_err(Error::on("read the link", path))?;
    Ok(target.to_string_lossy().into_owned())
}

/// Says whether this process is outside of all user namespaces but the first.
pub fn is_initial_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let mut numbers = map.split_ascii_whitespace();
    matches!(
        (numbers.next(), numbers.next(), numbers.next(), numbers.next()),
        (Some("0"), Some("0"), Some("4294967295"), None)
    )
}

/// The directories of an overlay, opened: by their descriptors they have short names, without commas and colons.
struct Directories {
    lower: Vec<OwnedFd>,
    upper: Option<(OwnedFd, OwnedFd)>,
}

impl Directories {
    fn open(overlay: &Overlay) -> Result<Self> {
        let open = |path: &Path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty()).map_err(Error::on("open the directory", path))
        };
        Ok(Self {
            lower: overlay.lower.iter().map(|path| open(path)).collect::<Result<_>>()?,
            upper: match &overlay.upper {
                Some((upper, work)) => Some((open(upper)?, open(work)?)),
                None => None,
            },
        })
    }
}

fn short(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Returns the path where it fits, since it shows up in the list of mounts, else the name of the descriptor.
fn name(path: &Path, fd: &OwnedFd) -> CString {
    let bytes = path.as_os_str().as_bytes();
    if path.is_absolute()
        && bytes.len() <= VALUE_BYTES
        && let Ok(name) = CString::new(bytes)
    {
        return name;
    }
    CString::new(short(fd)).unwrap_or_default()
}

fn mount_by_parts(target: &Path, overlay: &Overlay, directories: &Directories) -> Result<(), Errno> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (path, fd) in overlay.lower.iter().zip(&directories.lower) {
        fsconfig_set_string(&context, "lowerdir+", name(path, fd).as_c_str())?;
    }
    let mut attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
    if let (Some((upper, work)), Some((upper_fd, work_fd))) = (&overlay.upper, &directories.upper) {
        fsconfig_set_string(&context, "upperdir", name(upper, upper_fd).as_c_str())?;
        fsconfig_set_string(&context, "workdir", name(work, work_fd).as_c_str())?;
        attributes = MountAttrFlags::empty();
    }
    if overlay.user_xattrs {
        fsconfig_set_flag(&context, "userxattr")?;
    }
    fsconfig_create(&context)?;
    let mounted = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let target = rustix::fs::open(target, flags, Mode::empty())?;
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&mounted, "", &target, "", empty)
}

fn mount_by_list(target: &Path, overlay: &Overlay, directories: &Directories) -> Result<(), Errno> {
    let lower: Vec<_> = directories.lower.iter().map(short).collect();
    let mut options = format!("lowerdir={}", lower.join(":"));
    let mut flags = MountFlags::RDONLY;
    if let Some((upper, work)) = &directories.upper {
        options = format!("{options},upperdir={},workdir={}", short(upper), short(work));
        flags = MountFlags::empty();
    }
    if overlay.user_xattrs {
        options += ",userxattr";
    }
    if options.len() > OPTIONS_BYTES {
        return Err(Errno::TOOBIG);
    }
    let options = CString::new(options).map_err(|_| Errno::INVAL)?;
    mount("overlay", target, "overlay", flags, options.as_c_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes `count` directories with a file each, and one with nothing, and lets `show` mount them.
    fn shown(count: usize, show: impl Fn(&Path, &Overlay, &Directories) -> Result<(), Errno>) -> usize {
        let temp = tempfile::tempdir().unwrap();
        let long = "n".repeat(100);
        let paths: Vec<_> = (0..count)
            .map(|number| temp.path().join(format!("{long}{number}")))
            .collect();
        for (number, path) in paths.iter().enumerate() {
            std::fs::create_dir(path).unwrap();
            std::fs::write(path.join(format!("file{number}")), "").unwrap();
        }
        let target = temp.path().join("target");
        std::fs::create_dir(&target).unwrap();
        let overlay = Overlay {
            lower: paths,
            upper: None,
            user_xattrs: false,
        };
        show(&target, &overlay, &Directories::open(&overlay).unwrap()).unwrap();
        let found = std::fs::read_dir(&target).unwrap().count();
        assert!(std::fs::write(target.join("new"), "").is_err(), "it is read-only");
        unmount_at(&target).unwrap();
        assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
        found
    }

    #[test]
    fn privileged_more_directories_than_a_page_names() {
        assert_eq!(shown(150, mount_by_parts), 150);
    }

    #[test]
    fn privileged_more_directories_than_a_page_names_as_on_an_old_kernel() {
        assert_eq!(shown(150, mount_by_list), 150);
    }

    #[test]
    fn unprivileged_users_are_told_that_they_may_not() {
        let temp = tempfile::tempdir().unwrap();
        let overlay = Overlay {
            lower: vec![temp.path().to_owned(), temp.path().to_owned()],
            upper: None,
            user_xattrs: true,
        };
        let error = mount_overlay(temp.path(), &overlay).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::PERM.raw_os_error()));
    }
}
