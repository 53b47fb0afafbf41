//! Takes a snapshot: every path by descriptor, no link followed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use unlade_oci::{Algorithm, Digest, Hasher};

use super::{Node, NodeKind, TreeSnapshot};

/// Takes the tree below `dir`.
pub(super) fn walk(dir: &Path) -> io::Result<TreeSnapshot> {
    let root = rustix::fs::openat(
        CWD,
        dir,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|error| failed("open", dir.as_os_str().as_encoded_bytes(), error))?;
    walk_from(&root)
}

/// Takes the tree below an open directory.
pub(super) fn walk_from(root: &OwnedFd) -> io::Result<TreeSnapshot> {
    let mut nodes = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    // Directories are opened anew from the root, so that a deep tree costs no more descriptors than a flat one.
    let mut todo = vec![b".".to_vec()];
    nodes.insert(b".".to_vec(), node(root, b".", &mut inodes)?);
    while let Some(path) = todo.pop() {
        for name in names(root, &path)? {
            let child = if path == b"." {
                name.clone()
            } else {
                [path.as_slice(), b"/", &name].concat()
            };
            let seen = node(root, &child, &mut inodes)?;
            if seen.kind == NodeKind::Directory {
                todo.push(child.clone());
            }
            nodes.insert(child, seen);
        }
    }
    // The order of the walk is the directory's; the first path of an inode is the first in order of bytes.
    for paths in inodes.values_mut() {
        paths.sort();
        for other in &paths[1..] {
            if let Some(node) = nodes.get_mut(other) {
                node.same_inode_as = Some(paths[0].clone());
            }
        }
    }
    Ok(TreeSnapshot { nodes })
}

type Inodes = BTreeMap<(u64, u64), Vec<Vec<u8>>>;

fn names(root: &OwnedFd, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let read = || {
        let dir = rustix::fs::openat(root, path, flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in Dir::new(dir)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.to_vec());
            }
        }
        Ok(names)
    };
    read().map_err(|error| failed("read directory", path, error))
}

fn node(root: &OwnedFd, path: &[u8], inodes: &mut Inodes) -> io::Result<Node> {
    let stat =
        rustix::fs::statat(root, path, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| failed("stat", path, error))?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => NodeKind::File,
        FileType::Directory => NodeKind::Directory,
        FileType::Symlink => NodeKind::Symlink,
        FileType::CharacterDevice => NodeKind::CharDevice,
        FileType::BlockDevice => NodeKind::BlockDevice,
        FileType::Fifo => NodeKind::Fifo,
        FileType::Socket => NodeKind::Socket,
        FileType::Unknown => return Err(failed("stat", path, Errno::INVAL)),
    };
    if kind != NodeKind::Directory {
        inodes
            .entry((stat.st_dev, stat.st_ino))
            .or_default()
            .push(path.to_vec());
    }
    let is_device = matches!(kind, NodeKind::CharDevice | NodeKind::BlockDevice);
    let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    Ok(Node {
        kind,
        mode: if kind == NodeKind::Symlink {
            0
        } else {
            stat.st_mode & 0o7777
        },
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: mtime(&stat),
        size: if kind == NodeKind::File {
            u64::try_from(stat.st_size).unwrap_or_default()
        } else {
            0
        },
        content: if kind == NodeKind::File {
            content(root, path)?
        } else {
            None
        },
        link_target: if kind == NodeKind::Symlink {
            Some(link_target(root, path)?)
        } else {
            None
        },
        device: is_device.then_some(device),
        xattrs: xattrs(root, path)?,
        same_inode_as: None,
    })
}

fn mtime(stat: &Stat) -> (i64, u32) {
    (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or_default())
}

fn content(root: &OwnedFd, path: &[u8]) -> io::Result<Option<Digest>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = match rustix::fs::openat(root, path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        // Without root a file of mode 0 is there all the same.
        Err(Errno::ACCESS) => return Ok(None),
        Err(error) => return Err(failed("open", path, error)),
    };
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(Some(hasher.finish()));
        }
        hasher.update(&buffer[..read]);
    }
}

fn link_target(root: &OwnedFd, path: &[u8]) -> io::Result<Vec<u8>> {
    let target = rustix::fs::readlinkat(root, path, Vec::new()).map_err(|error| failed("read link", path, error))?;
    Ok(target.into_bytes())
}

/// Reads extended attributes without following a link: by the descriptor's name in `/proc`, since there is no call
/// that takes a directory descriptor.
fn xattrs(root: &OwnedFd, path: &[u8]) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let by_proc = [format!("/proc/self/fd/{}/", root.as_raw_fd()).as_bytes(), path].concat();
    let list = || {
        let mut names = vec![0_u8; 64 * 1024];
        let length = rustix::fs::llistxattr(by_proc.as_slice(), names.as_mut_slice())?;
        let mut found = BTreeMap::new();
        for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let mut value = vec![0_u8; 64 * 1024];
            let length = rustix::fs::lgetxattr(by_proc.as_slice(), name, value.as_mut_slice())?;
            value.truncate(length);
            found.insert(name.to_vec(), value);
        }
        Ok(found)
    };
    match list() {
        // No such attributes on this filesystem or this kind of file, or not for this user to see.
        Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS) => Ok(BTreeMap::new()),
        other => other.map_err(|error| failed("read attributes of", path, error)),
    }
}

fn failed(operation: &str, path: &[u8], error: Errno) -> io::Error {
    let error = io::Error::from(error);
    io::Error::new(
        error.kind(),
        format!("cannot {operation} {}: {error}", path.escape_ascii()),
    )
}
