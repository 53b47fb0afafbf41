//! Layer directories in overlay form, merged: by the kernel, and by the rules written out.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::{Node, NodeKind, TreeSnapshot, walk};

/// Merges snapshots of layer directories, the lowest first.
pub(super) fn merge(layers: &[TreeSnapshot]) -> TreeSnapshot {
    let mut merged: BTreeMap<Vec<u8>, Merged> = BTreeMap::new();
    for (number, layer) in layers.iter().enumerate() {
        for (path, node) in &layer.nodes {
            if is_whiteout(node) {
                remove(&mut merged, path);
                continue;
            }
            let replaces = match merged.get(path) {
                Some(below) => below.node.kind != NodeKind::Directory || node.kind != NodeKind::Directory,
                None => false,
            };
            if replaces || is_opaque(node) {
                remove(&mut merged, path);
            }
            let mut node = node.clone();
            node.xattrs.retain(|name, _| !is_overlay_attribute(name));
            let group = node.same_inode_as.take().unwrap_or_else(|| path.clone());
            merged.insert(
                path.clone(),
                Merged {
                    node,
                    inode: (number, group),
                },
            );
        }
    }
    let mut first_of_inode = BTreeMap::new();
    let nodes = merged
        .into_iter()
        .map(|(path, Merged { mut node, inode })| {
            let first = first_of_inode.entry(inode).or_insert_with(|| path.clone());
            node.same_inode_as = (*first != path).then(|| first.clone());
            (path, node)
        })
        .collect();
    TreeSnapshot { nodes }
}

struct Merged {
    node: Node,
    /// Inodes are those of one layer: its number, and the first path there.
    inode: (usize, Vec<u8>),
}

fn is_whiteout(node: &Node) -> bool {
    node.kind == NodeKind::CharDevice && node.device == Some((0, 0))
}

fn is_opaque(node: &Node) -> bool {
    let names = [b"trusted.overlay.opaque".as_slice(), b"user.overlay.opaque"];
    node.kind == NodeKind::Directory
        && names
            .iter()
            .any(|name| node.xattrs.get(*name).is_some_and(|value| value == b"y"))
}

fn is_overlay_attribute(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// Removes a path and all below it.
fn remove<T>(merged: &mut BTreeMap<Vec<u8>, T>, path: &[u8]) {
    let below = if path == b"." {
        Vec::new()
    } else {
        [path, b"/"].concat()
    };
    merged.retain(|other, _| other != path && !other.starts_with(&below));
}

/// Mounts the layers, the lowest first, at no place, and walks what the mount shows.
pub(super) fn mount_and_walk(layers: &[&Path]) -> io::Result<TreeSnapshot> {
    // An overlay without a writable part needs two lower directories at least.
    let empty = tempfile::tempdir()?;
    let mut opened = Vec::new();
    for layer in layers.iter().rev().copied().chain([empty.path()]) {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        opened.push(rustix::fs::openat(CWD, layer, flags, Mode::empty())?);
    }
    let root = mount(&opened).map_err(|error| {
        let error = io::Error::from(error);
        let message = format!("cannot mount an overlay here (it takes root and Linux 6.5 or newer): {error}");
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied => io::ErrorKind::PermissionDenied,
            _ => io::ErrorKind::Unsupported,
        };
        io::Error::new(kind, message)
    })?;
    walk::walk_from(&root)
}

/// Makes a mount of the directories, the top one first, that ends when its descriptor closes.
fn mount(layers: &[OwnedFd]) -> Result<OwnedFd, Errno> {
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for layer in layers {
        // A value may have 256 bytes, which a real path can exceed.
        let path = format!("/proc/self/fd/{}", layer.as_raw_fd());
        rustix::mount::fsconfig_set_string(&context, "lowerdir+", path)?;
    }
    rustix::mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
    let mount = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    // The mount's descriptor is a mere path; reading the directory takes a real one.
    rustix::fs::openat(
        &mount,
        ".",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}
