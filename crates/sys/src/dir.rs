//! Files below a directory descriptor.
//!
//! A [`Dir`] owns a descriptor of a directory and offers what a writer of trees needs, all relative to that descriptor.
//! There are two kinds of names:
//!
//! - a *component* (`&OsStr`): one name directly in the directory. Whatever holds a `/`, or is empty, `.` or `..`, is
//!   refused before the kernel sees it, and the last component is never followed when it is a symbolic link;
//! - a *path* (`&Path`): resolved by the kernel with the directory as its root (`openat2`, `RESOLVE_IN_ROOT` and
//!   `RESOLVE_NO_MAGICLINKS`), so that neither `..` nor an absolute link leads out of it.
//!
//! **Invariant:** no function here resolves a string against the working directory but [`Dir::open`].

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Stat, StatxFlags, StatxTimestamp, Timespec,
    Timestamps, Uid,
};
use rustix::io::Errno;

use crate::{Error, Result};

/// How often a lookup is tried again that the kernel gave up because the tree was being renamed meanwhile.
const MAX_LOOKUP_ATTEMPTS: u32 = 128;

/// Flags of every descriptor of a directory: fit for `*at` calls, reading the directory, `fchmod` and `fsync`.
const OPEN_DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Whether symbolic links in a path are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// A link is followed, with the directory as its root.
    Follow,
    /// A link anywhere in the path is an error (`ELOOP`).
    Refuse,
}

/// What kind of special file [`Dir::make_node`] makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// Names in a directory, with the types that the directory itself tells.
pub type Names = Vec<(OsString, FileType)>;

/// An owned descriptor of a directory, with the path it was opened by, which serves error messages only.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// Opens the directory at `path`, which may be a symbolic link to one.
    pub fn open(path: &Path) -> Result<Self> {
        let fd = retry(|| rustix::fs::open(path, OPEN_DIRECTORY, Mode::empty()))
            .map_err(Error::on("open the directory", path))?;
        Ok(Self {
            fd,
            path: path.to_owned(),
        })
    }

    /// Makes a directory of `path` with the permission bits `mode` (less the umask) and opens it; it must not exist.
    pub fn create(path: &Path, mode: u32) -> Result<Self> {
        rustix::fs::mkdir(path, Mode::from_raw_mode(mode)).map_err(Error::on("make the directory", path))?;
        Self::open(path)
    }

    /// Takes over a descriptor of a directory; `path` is what errors call it.
    pub fn from_fd(fd: OwnedFd, path: impl Into<PathBuf>) -> Self {
        Self { fd, path: path.into() }
    }

    /// Returns another descriptor of the same directory.
    pub fn try_clone(&self) -> Result<Self> {
        let fd = self
            .fd
            .try_clone()
            .map_err(Error::on("duplicate the descriptor of", &self.path))?;
        Ok(Self {
            fd,
            path: self.path.clone(),
        })
    }

    /// Returns the path that the directory was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns `/proc/self/fd/N`, a path by which the kernel reaches this directory whatever happens to its name.
    pub fn magic_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }

    /// Opens the directory `path` with this directory as its root.
    pub fn resolve(&self, path: &Path, links: Links) -> Result<Self> {
        let fd = self
            .openat2(path, OPEN_DIRECTORY, Mode::empty(), links)
            .map_err(|errno| self.error("open the directory", path, errno))?;
        Ok(Self {
            fd,
            path: self.path.join(path),
        })
    }

    /// Opens the directory `name` of this directory; a symbolic link is an error (`ELOOP` or `ENOTDIR`).
    pub fn open_dir(&self, name: &OsStr) -> Result<Self> {
        let flags = OPEN_DIRECTORY | OFlags::NOFOLLOW;
        let fd = component(name)
            .and_then(|name| retry(|| rustix::fs::openat(&self.fd, name, flags, Mode::empty())))
            .map_err(|errno| self.error("open the directory", name, errno))?;
        Ok(Self {
            fd,
            path: self.path.join(name),
        })
    }

    /// Makes the file `name` for writing; whatever stands there, even a dangling link, is an error (`EEXIST`).
    ///
    /// The mode is `mode` less the umask.
    pub fn create_file(&self, name: &OsStr, mode: u32) -> Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = component(name)
            .and_then(|name| retry(|| rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(mode))))
            .map_err(|errno| self.error("make the file", name, errno))?;
        Ok(File::from(fd))
    }

    /// Opens the regular file `name` for reading, without following a link and without blocking on a FIFO.
    pub fn open_file(&self, name: &OsStr) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = component(name)
            .and_then(|name| retry(|| rustix::fs::openat(&self.fd, name, flags, Mode::empty())))
            .map_err(|errno| self.error("open", name, errno))?;
        Ok(File::from(fd))
    }

    /// Makes the directory `name` with `mode` less the umask.
    pub fn make_dir(&self, name: &OsStr, mode: u32) -> Result<()> {
        component(name)
            .and_then(|name| rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(mode)))
            .map_err(|errno| self.error("make the directory", name, errno))
    }

    /// Makes the symbolic link `name` that holds `target` byte for byte.
    pub fn make_symlink(&self, name: &OsStr, target: &OsStr) -> Result<()> {
        component(name)
            .and_then(|name| rustix::fs::symlinkat(target, &self.fd, name))
            .map_err(|errno| self.error("make the symbolic link", name, errno))
    }

    /// Makes `name` another name of the file `from_name` in `from`; if that is a symbolic link, the link itself gets
    /// the name.
    pub fn make_hard_link(&self, name: &OsStr, from: &Self, from_name: &OsStr) -> Result<()> {
        component(name)
            .and_then(|name| Ok((name, component(from_name)?)))
            .and_then(|(name, from_name)| rustix::fs::linkat(&from.fd, from_name, &self.fd, name, AtFlags::empty()))
            .map_err(|errno| self.error("make the hard link", name, errno))
    }

    /// Makes the special file `name` with `mode` less the umask.
    pub fn make_node(&self, name: &OsStr, kind: NodeKind, mode: u32) -> Result<()> {
        let (file_type, device) = match kind {
            NodeKind::Fifo => (FileType::Fifo, 0),
            NodeKind::CharDevice { major, minor } => (FileType::CharacterDevice, rustix::fs::makedev(major, minor)),
            NodeKind::BlockDevice { major, minor } => (FileType::BlockDevice, rustix::fs::makedev(major, minor)),
        };
        component(name)
            .and_then(|name| rustix::fs::mknodat(&self.fd, name, file_type, Mode::from_raw_mode(mode), device))
            .map_err(|errno| self.error("make the special file", name, errno))
    }

    /// Returns what is known of `name`, or nothing if there is no such name. Links are not followed.
    pub fn stat(&self, name: &OsStr) -> Result<Option<Stat>> {
        match component(name).and_then(|name| rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error("read the attributes of", name, errno)),
        }
    }

    /// Returns what is known of the directory itself.
    pub fn stat_self(&self) -> Result<Stat> {
        rustix::fs::fstat(&self.fd).map_err(Error::on("read the attributes of", &self.path))
    }

    /// Returns the target of the symbolic link `name`.
    pub fn read_link(&self, name: &OsStr) -> Result<CString> {
        component(name)
            .and_then(|name| rustix::fs::readlinkat(&self.fd, name, Vec::new()))
            .map_err(|errno| self.error("read the symbolic link", name, errno))
    }

    /// Returns the names in the directory, without `.` and `..`, each with its type as the directory tells it
    /// ([`FileType::Unknown`] where it does not), in the filesystem's order.
    pub fn read(&self) -> Result<Names> {
        let error = |errno: Errno| Error::on("read the directory", &self.path)(errno);
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(error)? {
            let entry = entry.map_err(error)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push((OsStr::from_bytes(name).to_owned(), entry.file_type()));
            }
        }
        Ok(names)
    }

    /// Sets owner and group of `name` itself, also when it is a link.
    pub fn set_owner(&self, name: &OsStr, uid: u32, gid: u32) -> Result<()> {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        component(name)
            .and_then(|name| rustix::fs::chownat(&self.fd, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW))
            .map_err(|errno| self.error("set the owner of", name, errno))
    }

    /// Sets owner and group of the directory itself.
    pub fn set_own_owner(&self, uid: u32, gid: u32) -> Result<()> {
        rustix::fs::fchown(&self.fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .map_err(Error::on("set the owner of", &self.path))
    }

    /// Sets the permission bits of `name`; a symbolic link has none, and is an error (`EOPNOTSUPP`).
    ///
    /// Needs `/proc`: the kernel before 6.6 has no call that sets a mode by name without following links.
    pub fn set_mode(&self, name: &OsStr, mode: u32) -> Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        component(name)
            .and_then(|name| retry(|| rustix::fs::openat(&self.fd, name, flags, Mode::empty())))
            .and_then(|fd| rustix::fs::chmod(format!("/proc/self/fd/{}", fd.as_raw_fd()), Mode::from_raw_mode(mode)))
            .map_err(|errno| self.error("set the mode of", name, errno))
    }

    /// Sets the permission bits of the directory itself.
    pub fn set_own_mode(&self, mode: u32) -> Result<()> {
        rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(mode)).map_err(Error::on("set the mode of", &self.path))
    }

    /// Sets access and modification time of `name` itself, also when it is a link.
    pub fn set_times(&self, name: &OsStr, times: &Timestamps) -> Result<()> {
        component(name)
            .and_then(|name| rustix::fs::utimensat(&self.fd, name, times, AtFlags::SYMLINK_NOFOLLOW))
            .map_err(|errno| self.error("set the times of", name, errno))
    }

    /// Returns access and modification time of the directory itself.
    pub fn own_times(&self) -> Result<Timestamps> {
        let flags = StatxFlags::ATIME | StatxFlags::MTIME;
        let stat = rustix::fs::statx(&self.fd, "", AtFlags::EMPTY_PATH, flags)
            .map_err(Error::on("read the attributes of", &self.path))?;
        let time = |time: StatxTimestamp| Timespec {
            tv_sec: time.tv_sec,
            tv_nsec: time.tv_nsec.into(),
        };
        Ok(Timestamps {
            last_access: time(stat.stx_atime),
            last_modification: time(stat.stx_mtime),
        })
    }

    /// Sets access and modification time of the directory itself.
    pub fn set_own_times(&self, times: &Timestamps) -> Result<()> {
        rustix::fs::futimens(&self.fd, times).map_err(Error::on("set the times of", &self.path))
    }

    /// Removes the name `name` of something that is not a directory. Says whether there was such a name.
    pub fn remove_file(&self, name: &OsStr) -> Result<bool> {
        self.unlink(name, AtFlags::empty())
            .map_err(|errno| self.error("remove", name, errno))
    }

    /// Removes `name` and, when it is a directory, all that is below it, never following a link. Says whether there
    /// was such a name.
    ///
    /// Works by descriptor and without recursion, so that neither a rename by another process nor the depth of the tree
    /// can lead it astray; directories without permission bits are given some first.
    pub fn remove_all(&self, name: &OsStr) -> Result<bool> {
        match self.unlink(name, AtFlags::empty()) {
            // Linux says EISDIR for a directory, POSIX says EPERM.
            Err(Errno::ISDIR | Errno::PERM) => {}
            other => return other.map_err(|errno| self.error("remove", name, errno)),
        }
        self.remove_below(name)?;
        self.unlink(name, AtFlags::REMOVEDIR)
            .map_err(|errno| self.error("remove the directory", name, errno))
    }

    /// Renames `name` to `to_name` in `to`, replacing what is there as `rename(2)` does.
    pub fn rename(&self, name: &OsStr, to: &Self, to_name: &OsStr) -> Result<()> {
        self.rename_with(name, to, to_name, RenameFlags::empty())
            .map_err(|errno| to.error("rename to", to_name, errno))
    }

    /// Renames `name` to `to_name` in `to` unless that exists. Says whether it was renamed.
    pub fn rename_no_replace(&self, name: &OsStr, to: &Self, to_name: &OsStr) -> Result<bool> {
        match self.rename_with(name, to, to_name, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(to.error("rename to", to_name, errno)),
        }
    }

    fn rename_with(&self, name: &OsStr, to: &Self, to_name: &OsStr, flags: RenameFlags) -> Result<(), Errno> {
        rustix::fs::renameat_with(&self.fd, component(name)?, &to.fd, component(to_name)?, flags)
    }

    fn unlink(&self, name: &OsStr, flags: AtFlags) -> Result<bool, Errno> {
        match rustix::fs::unlinkat(&self.fd, component(name)?, flags) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Empties the directory `name`: one descriptor at a time, the way back up by `..` and checked by inode.
    fn remove_below(&self, name: &OsStr) -> Result<()> {
        let mut current = self.open_for_removal(name)?;
        let mut names = current.read()?;
        // Of every directory on the way down: what it is, the name we took, and what is left to do in it.
        let mut above: Vec<(Identity, OsString, Names)> = Vec::new();
        loop {
            let Some((child, _)) = names.pop() else {
                let Some((identity, own_name, rest)) = above.pop() else {
                    return Ok(());
                };
                current = current.parent()?;
                if identity_of(&current.stat_self()?) != identity {
                    return Err(current.error("remove the tree", own_name, Errno::STALE));
                }
                current
                    .unlink(&own_name, AtFlags::REMOVEDIR)
                    .map_err(|errno| current.error("remove the directory", &own_name, errno))?;
                names = rest;
                continue;
            };
            match current.unlink(&child, AtFlags::empty()) {
                Ok(_) => {}
                Err(Errno::ISDIR | Errno::PERM) => {
                    let identity = identity_of(&current.stat_self()?);
                    let next = current.open_for_removal(&child)?;
                    above.push((identity, child, std::mem::replace(&mut names, next.read()?)));
                    current = next;
                }
                Err(errno) => return Err(current.error("remove", &child, errno)),
            }
        }
    }

    /// Opens the directory `name` so that its names can be listed and removed, whatever its mode.
    fn open_for_removal(&self, name: &OsStr) -> Result<Self> {
        let dir = match self.open_dir(name) {
            Err(error) if error.raw_os_error() == Some(Errno::ACCESS.raw_os_error()) => {
                self.set_mode(name, 0o700)?;
                self.open_dir(name)?
            }
            other => other?,
        };
        if dir.stat_self()?.st_mode & 0o300 != 0o300 {
            dir.set_own_mode(0o700)?;
        }
        Ok(dir)
    }

    fn parent(&self) -> Result<Self> {
        let fd = retry(|| rustix::fs::openat(&self.fd, "..", OPEN_DIRECTORY, Mode::empty()))
            .map_err(Error::on("open the parent of", &self.path))?;
        Ok(Self {
            fd,
            path: self.path.parent().unwrap_or(&self.path).to_owned(),
        })
    }

    /// `openat2` with this directory as the root, tried again while the kernel says that the tree was moving.
    fn openat2(&self, path: &Path, flags: OFlags, mode: Mode, links: Links) -> Result<OwnedFd, Errno> {
        let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        if links == Links::Refuse {
            resolve |= ResolveFlags::NO_SYMLINKS;
        }
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let mut attempts = 0;
        loop {
            match rustix::fs::openat2(&self.fd, path, flags, mode, resolve) {
                Err(Errno::INTR | Errno::AGAIN) if attempts < MAX_LOOKUP_ATTEMPTS => attempts += 1,
                Err(Errno::NOSYS) if links == Links::Refuse => return self.open_step_by_step(path),
                other => return other,
            }
        }
    }

    /// Opens the directory `path`, one component after the other, none of which may be a link: what `openat2` does in one
    /// call, for where there is none (a sandbox in place of a kernel, a system call filter, valgrind).
    fn open_step_by_step(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let flags = OPEN_DIRECTORY | OFlags::NOFOLLOW;
        let mut current = retry(|| rustix::fs::openat(&self.fd, ".", flags, Mode::empty()))?;
        for part in path.components() {
            let name = match part {
                Component::Normal(name) => name,
                Component::CurDir => continue,
                // Nobody who refuses links asks for these, and the kernel alone knows how far up they may lead.
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(Errno::NOSYS),
            };
            current = match retry(|| rustix::fs::openat(&current, name, flags, Mode::empty())) {
                Err(Errno::NOTDIR) if is_link(&current, name) => return Err(Errno::LOOP),
                opened => opened?,
            };
        }
        Ok(current)
    }

    fn error(&self, operation: &'static str, name: impl AsRef<Path>, errno: Errno) -> Error {
        Error::new(operation, self.path.join(name), errno)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Device and inode: what a directory is, whatever it is called.
type Identity = (u64, u64);

fn identity_of(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

fn is_link(dir: &OwnedFd, name: &OsStr) -> bool {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

/// Lets through a name of one component.
pub(crate) fn component(name: &OsStr) -> Result<&OsStr, Errno> {
    match name.as_bytes() {
        b"" | b"." | b".." => Err(Errno::INVAL),
        bytes if bytes.contains(&b'/') => Err(Errno::INVAL),
        _ => Ok(name),
    }
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    rustix::io::retry_on_intr(&mut call)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    fn name(text: &str) -> &OsStr {
        OsStr::new(text)
    }

    #[test]
    fn a_component_is_one_name() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        for bad in ["", ".", "..", "a/b", "/", "a/", "../x"] {
            let error = dir.create_file(name(bad), 0o600).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()), "{bad:?}");
            assert!(dir.remove_all(name(bad)).is_err(), "{bad:?}");
            assert!(dir.rename(name("x"), &dir, name(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_path_stays_inside() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join("root/etc")).unwrap();
        fs::create_dir_all(temp.path().join("etc")).unwrap();
        symlink("/etc", temp.path().join("root/absolute")).unwrap();
        symlink("../../etc", temp.path().join("root/relative")).unwrap();
        let root = Dir::open(&temp.path().join("root")).unwrap();
        let inside = fs::metadata(temp.path().join("root/etc")).unwrap().ino();
        for path in ["etc", "absolute", "relative", "../etc", "/etc", "absolute/../etc"] {
            let dir = root.resolve(Path::new(path), Links::Follow).unwrap();
            assert_eq!(dir.stat_self().unwrap().st_ino, inside, "{path}");
        }
        for path in ["absolute", "relative"] {
            let error = root.resolve(Path::new(path), Links::Refuse).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(Errno::LOOP.raw_os_error()), "{path}");
        }
    }

    #[test]
    fn step_by_step_leads_where_one_call_leads() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join("a/b/c")).unwrap();
        fs::write(temp.path().join("a/file"), "").unwrap();
        symlink("b", temp.path().join("a/link")).unwrap();
        symlink("nowhere", temp.path().join("a/dangling")).unwrap();
        let root = Dir::open(temp.path()).unwrap();
        let inode = |fd: Result<OwnedFd, Errno>| fd.map(|fd| rustix::fs::fstat(&fd).unwrap().st_ino);
        for path in [
            "",
            ".",
            "a",
            "a/b/c",
            "./a/./b",
            "a//b/",
            "missing",
            "a/missing/b",
            "a/file",
            "a/file/b",
            "a/link",
            "a/link/c",
            "a/dangling",
        ] {
            let path = Path::new(path);
            let whole = inode(root.openat2(path, OPEN_DIRECTORY, Mode::empty(), Links::Refuse));
            assert_eq!(inode(root.open_step_by_step(path)), whole, "{}", path.display());
        }
        for path in ["..", "a/../a", "/a"] {
            assert_eq!(
                root.open_step_by_step(Path::new(path)).unwrap_err(),
                Errno::NOSYS,
                "{path}"
            );
        }
    }

    #[test]
    fn nothing_is_made_through_a_link() {
        let temp = tempfile::tempdir().unwrap();
        let outside = temp.path().join("outside");
        symlink(&outside, temp.path().join("link")).unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        assert_eq!(
            dir.create_file(name("link"), 0o600).unwrap_err().raw_os_error(),
            Some(17)
        );
        assert!(dir.open_dir(name("link")).is_err());
        assert!(!outside.exists());
    }

    #[test]
    fn a_hard_link_to_a_link_is_a_link() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        dir.make_symlink(name("link"), OsStr::new("nowhere")).unwrap();
        dir.make_hard_link(name("second"), &dir, name("link")).unwrap();
        assert_eq!(dir.read_link(name("second")).unwrap().to_bytes(), b"nowhere");
    }

    #[test]
    fn remove_all_spares_what_links_point_to_and_ignores_modes() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join("keep")).unwrap();
        fs::write(temp.path().join("keep/file"), "x").unwrap();
        fs::create_dir_all(temp.path().join("tree/a/b/c")).unwrap();
        fs::create_dir_all(temp.path().join("tree/a/d")).unwrap();
        fs::write(temp.path().join("tree/a/b/c/file"), "x").unwrap();
        symlink("../keep", temp.path().join("tree/link")).unwrap();
        symlink("../../../keep", temp.path().join("tree/a/b/link")).unwrap();
        fs::set_permissions(temp.path().join("tree/a/b"), fs::Permissions::from_mode(0o000)).unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        assert!(dir.remove_all(name("tree")).unwrap());
        assert!(!dir.remove_all(name("tree")).unwrap());
        assert!(temp.path().join("keep/file").exists());
        assert_eq!(dir.read().unwrap().len(), 1);
    }

    #[test]
    fn remove_all_goes_deeper_than_a_path_can_name() {
        let temp = tempfile::tempdir().unwrap();
        let mut dir = Dir::open(temp.path()).unwrap();
        for _ in 0..2_100 {
            dir.make_dir(name("d"), 0o700).unwrap();
            dir = dir.open_dir(name("d")).unwrap();
        }
        let dir = Dir::open(temp.path()).unwrap();
        assert!(dir.remove_all(name("d")).unwrap());
        assert!(dir.read().unwrap().is_empty());
    }

    #[test]
    fn modes_and_owners_by_name() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        dir.make_node(name("fifo"), NodeKind::Fifo, 0o600).unwrap();
        dir.set_mode(name("fifo"), 0o4755).unwrap();
        assert_eq!(dir.stat(name("fifo")).unwrap().unwrap().st_mode & 0o7777, 0o4755);
        dir.make_symlink(name("link"), OsStr::new("fifo")).unwrap();
        assert!(dir.set_mode(name("link"), 0o600).is_err());
        assert_eq!(dir.stat(name("fifo")).unwrap().unwrap().st_mode & 0o7777, 0o4755);
        assert!(dir.stat(name("none")).unwrap().is_none());
    }
}
