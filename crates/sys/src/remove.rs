//! Deleting a tree, however deep it is and whatever its modes are.
//!
//! # Safety of the walk
//! Every step is relative to a descriptor and never follows a symbolic link, so a tree that somebody else changes
//! meanwhile cannot lead out of itself. The way up is `..`, and what is found there is compared with the directory that
//! was left on the way down; if it is another one, the walk ends with an error.
//!
//! # Cost
//! Two or three descriptors are open at a time and nothing recurses, so depth is bounded by memory only: a directory on
//! the way costs its name and those of its subdirectories that are still to do.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;

use crate::atomic::split;
use crate::{Error, Result};

/// How often a directory is read again because it was not empty after everything found in it was deleted.
///
/// Some filesystems skip entries when others are deleted during the reading; each further pass finds those.
const PASSES: u32 = 64;

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Deletes what is at `path`, a file, a symbolic link (not what it points to) or a whole tree.
///
/// That nothing is there is fine. Directories that their owner may not read, write or search get those rights first.
/// The tree may be changed or deleted by others at the same time.
pub fn remove_tree(path: &Path) -> Result<()> {
    let (directory, name) = split(path)?;
    match rustix::fs::open(
        directory,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Ok(parent) => remove_tree_at(parent.as_fd(), name, path),
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(Error::new("open", directory, errno)),
    }
}

/// Deletes what is called `name` in the directory `parent`; as [`remove_tree`].
///
/// `name` is a single name. `path` is what messages call it.
pub fn remove_tree_at(parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<()> {
    let invalid = || Error::new("remove", path, io::Error::from(io::ErrorKind::InvalidInput));
    if name.is_empty() || name == "." || name == ".." || name.as_bytes().contains(&b'/') {
        return Err(invalid());
    }
    let name = CString::new(name.as_bytes()).map_err(|_| invalid())?;
    Walk {
        top: parent,
        path,
        stack: Vec::new(),
    }
    .run(&name)
}

/// A directory that is being emptied.
struct Frame {
    /// Its name in the directory above.
    name: CString,
    /// Device and inode.
    identity: (u64, u64),
    /// Subdirectories that are still to do.
    pending: Vec<CString>,
    passes: u32,
}

struct Walk<'a> {
    top: BorrowedFd<'a>,
    path: &'a Path,
    stack: Vec<Frame>,
}

/// How a step of a walk ended.
enum Step {
    /// The walk goes on in this directory.
    Into(OwnedFd),
    /// The walk goes on where it is.
    Stay,
    /// The directory that the walk was in has been deleted by someone else, and there is no way up from it.
    Lost,
}

impl Walk<'_> {
    fn run(mut self, name: &CStr) -> Result<()> {
        for _ in 0..PASSES {
            self.stack.clear();
            if self.walk_down_from(name)? {
                return Ok(());
            }
        }
        let busy = io::Error::other("others keep changing the tree while it is being removed");
        Err(Error::new("remove", self.path, busy))
    }

    /// Removes the tree; returns false if the way was lost.
    fn walk_down_from(&mut self, name: &CStr) -> Result<bool> {
        let Step::Into(mut current) = self.enter(self.top, name.to_owned())? else {
            return Ok(true);
        };
        while let Some(frame) = self.stack.last_mut() {
            let step = match frame.pending.pop() {
                Some(name) => self.enter(current.as_fd(), name)?,
                None => self.leave(&current)?,
            };
            match step {
                Step::Into(directory) => current = directory,
                Step::Stay => {}
                Step::Lost => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Deletes `name` if it is not a directory; else opens it, deletes the files in it and puts it on the stack.
    fn enter(&mut self, parent: BorrowedFd<'_>, name: CString) -> Result<Step> {
        let directory = match open_directory(parent, &name) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Ok(Step::Stay),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return match rustix::fs::unlinkat(parent, &name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => Ok(Step::Stay),
                    Err(errno) => Err(self.error("remove", Some(&name), errno)),
                };
            }
            Err(errno) => return Err(self.error("open", Some(&name), errno)),
        };
        let stat = rustix::fs::fstat(&directory).map_err(|errno| self.error("look at", Some(&name), errno))?;
        let mode = Mode::from_raw_mode(stat.st_mode);
        // If it cannot be changed (the owner is someone else), the first deletion tells a better error, or works.
        if !mode.contains(Mode::RWXU)
            && let Err(errno) = rustix::fs::fchmod(&directory, Mode::RWXU)
        {
            tracing::trace!(%errno, "cannot widen the mode of a directory that is to be removed");
        }
        self.stack.push(Frame {
            name,
            identity: (stat.st_dev, stat.st_ino),
            pending: Vec::new(),
            passes: 0,
        });
        self.sweep(directory.as_fd())?;
        Ok(Step::Into(directory))
    }

    /// Deletes the directory on top of the stack, which should be empty by now, and goes to the one above it.
    ///
    /// Stays if it was not empty, and was swept again, or if it was the last one.
    fn leave(&mut self, current: &OwnedFd) -> Result<Step> {
        let above = match self.stack.len().checked_sub(2).and_then(|index| self.stack.get(index)) {
            Some(frame) => match self.open_above(current, frame.identity)? {
                Some(above) => Some(above),
                None => return Ok(Step::Lost),
            },
            None => None,
        };
        let Some(frame) = self.stack.last_mut() else {
            return Ok(Step::Stay);
        };
        let parent = above.as_ref().map_or(self.top, AsFd::as_fd);
        match rustix::fs::unlinkat(parent, &frame.name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {
                self.stack.pop();
                Ok(above.map_or(Step::Stay, Step::Into))
            }
            Err(Errno::NOTEMPTY | Errno::EXIST) if frame.passes < PASSES => {
                frame.passes += 1;
                rustix::fs::seek(current, rustix::fs::SeekFrom::Start(0))
                    .map_err(|errno| self.error("read", None, errno))?;
                self.sweep(current.as_fd())?;
                Ok(Step::Stay)
            }
            Err(errno) => Err(self.error("remove", None, errno)),
        }
    }

    /// Opens the directory above, and checks that it is the one that the walk came from; `None` if there is none.
    fn open_above(&self, current: &OwnedFd, expected: (u64, u64)) -> Result<Option<OwnedFd>> {
        let above = match rustix::fs::openat(current, c"..", OFlags::RDONLY | DIRECTORY, Mode::empty()) {
            Ok(above) => above,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(self.error("leave", None, errno)),
        };
        let stat = rustix::fs::fstat(&above).map_err(|errno| self.error("leave", None, errno))?;
        if (stat.st_dev, stat.st_ino) == expected {
            Ok(Some(above))
        } else {
            let moved = io::Error::other("the directory was moved while its tree was being removed");
            Err(Error::new("leave", self.path_of(None), moved))
        }
    }

    /// Deletes everything in the directory that is not a directory, and notes the rest as pending on top of the stack.
    fn sweep(&mut self, directory: BorrowedFd<'_>) -> Result<()> {
        let mut buffer = [MaybeUninit::<u8>::uninit(); 16 * 1024];
        let mut entries = RawDir::new(directory, &mut buffer);
        let mut pending = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                // Someone else has deleted the directory.
                Err(Errno::NOENT) => break,
                Err(errno) => return Err(self.error("read", None, errno)),
            };
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if entry.file_type() == FileType::Directory {
                pending.push(name.to_owned());
                continue;
            }
            match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                // The filesystem did not tell its type, or it has changed.
                Err(Errno::ISDIR) => pending.push(name.to_owned()),
                Err(errno) => return Err(self.error("remove", Some(name), errno)),
            }
        }
        if let Some(frame) = self.stack.last_mut() {
            frame.pending = pending;
        }
        Ok(())
    }

    fn error(&self, operation: &'static str, name: Option<&CStr>, errno: Errno) -> Error {
        Error::new(operation, self.path_of(name), errno)
    }

    /// Returns the path of the directory on top of the stack, or of `name` in it.
    fn path_of(&self, name: Option<&CStr>) -> PathBuf {
        let mut path = self.path.to_owned();
        // The first name, on the stack or not, is the last one of `self.path`.
        path.extend(
            self.stack
                .iter()
                .map(|frame| frame.name.as_c_str())
                .chain(name)
                .skip(1)
                .map(|name| OsStr::from_bytes(name.to_bytes())),
        );
        path
    }
}

/// Opens a directory for reading; one that its owner may not read or search becomes 0700 first.
fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    match rustix::fs::openat(parent, name, OFlags::RDONLY | DIRECTORY, Mode::empty()) {
        Err(Errno::ACCESS) => {}
        done => return done,
    }
    // A descriptor that needs no rights on the directory pins it; changing the mode by name could follow a link that
    // has just been put there.
    let pinned = rustix::fs::openat(parent, name, OFlags::PATH | DIRECTORY, Mode::empty())?;
    rustix::fs::chmod(format!("/proc/self/fd/{}", pinned.as_raw_fd()), Mode::RWXU)?;
    rustix::fs::openat(&pinned, c".", OFlags::RDONLY | DIRECTORY, Mode::empty())
}
