//! From a file of a layer directory to what the layer meant it to be.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;

use rustix::fs::{FileType, Stat};
use unlade_extract::{EntryContent, Extent, LowerKind, LowerNode, Time, Xattr};
use unlade_metadata::LayerOwnership;
use unlade_sys::Dir;

use super::SysResult;

/// Where extraction without root keeps owner, mode and device.
const OVERRIDE_STAT: &[u8] = b"user.containers.override_stat";

/// Attributes that the system sets by itself.
const OF_THE_SYSTEM: [&[u8]; 2] = [b"security.selinux", b"system.nfs4_acl"];

/// Namespaces in which extraction escapes what a layer brings, and overlayfs keeps its own.
const OVERLAY: [(&[u8], &[u8]); 2] = [
    (b"trusted.overlay.", b"trusted.overlay.overlay."),
    (b"user.overlay.", b"user.overlay.overlay."),
];

/// The data of what has none.
pub(super) struct NoContent;

impl EntryContent for NoContent {
    fn next(&mut self) -> Result<Option<Extent<'_>>, unlade_extract::Error> {
        Ok(None)
    }
}

/// What the root is where there are no layers.
pub(super) fn default_root() -> LowerNode {
    LowerNode {
        kind: LowerKind::Directory,
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        xattrs: Box::default(),
    }
}

pub(super) fn of_directory(dir: &Dir, stat: &Stat, ownership: LayerOwnership) -> SysResult<LowerNode> {
    let xattrs = read(dir.own_xattr_names()?, |name| dir.own_xattr(name))?;
    Ok(node(LowerKind::Directory, stat, xattrs, ownership))
}

/// Returns what `name` is; nothing for a socket, which no layer can have.
pub(super) fn of_other(
    dir: &Dir,
    name: &OsStr,
    stat: &Stat,
    ownership: LayerOwnership,
) -> SysResult<Option<LowerNode>> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => LowerKind::File {
            size: u64::try_from(stat.st_size).unwrap_or(0),
        },
        FileType::Symlink => LowerKind::Symlink {
            target: dir.read_link(name)?.into_bytes().into(),
        },
        FileType::CharacterDevice => LowerKind::CharDevice {
            major: rustix::fs::major(stat.st_rdev),
            minor: rustix::fs::minor(stat.st_rdev),
        },
        FileType::BlockDevice => LowerKind::BlockDevice {
            major: rustix::fs::major(stat.st_rdev),
            minor: rustix::fs::minor(stat.st_rdev),
        },
        FileType::Fifo => LowerKind::Fifo,
        FileType::Directory | FileType::Socket | FileType::Unknown => return Ok(None),
    };
    let names = dir.xattr_names(name)?;
    let xattrs = super::open::readable(dir, name, stat, || {
        read(names.clone(), |attribute| dir.xattr(name, attribute))
    })?;
    Ok(Some(node(kind, stat, xattrs, ownership)))
}

fn read(
    names: Vec<OsString>,
    value: impl Fn(&OsStr) -> SysResult<Option<Vec<u8>>>,
) -> SysResult<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut xattrs = Vec::with_capacity(names.len());
    for name in names {
        if let Some(value) = value(&name)? {
            xattrs.push((name.into_vec(), value));
        }
    }
    Ok(xattrs)
}

fn node(kind: LowerKind, stat: &Stat, xattrs: Vec<(Vec<u8>, Vec<u8>)>, ownership: LayerOwnership) -> LowerNode {
    let mut node = LowerNode {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Time {
            seconds: stat.st_mtime,
            nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        },
        xattrs: Box::default(),
    };
    if node.kind != LowerKind::Directory && matches!(node.kind, LowerKind::Symlink { .. }) {
        node.mode = 0o777;
    }
    let mut kept = Vec::new();
    for (name, value) in xattrs {
        if name == OVERRIDE_STAT && is_ours(&node, &value, ownership) {
            apply(&mut node, &value);
        } else if let Some(name) = meant(&name) {
            kept.push(Xattr {
                name: name.into(),
                value: value.into(),
            });
        }
    }
    kept.sort_by(|a, b| a.name.cmp(&b.name));
    node.xattrs = kept.into();
    node
}

/// Where owners are set the attribute is the layer's own, unless it stands for a device that could not be made.
fn is_ours(node: &LowerNode, value: &[u8], ownership: LayerOwnership) -> bool {
    match ownership {
        LayerOwnership::Record => true,
        LayerOwnership::Squash => false,
        LayerOwnership::Preserve | LayerOwnership::Userns => {
            node.kind == LowerKind::File { size: 0 } && value.split(|byte| *byte == b':').count() == 4
        }
    }
}

/// Returns the name that the layer gave; nothing for what is overlayfs' or the system's.
fn meant(name: &[u8]) -> Option<Vec<u8>> {
    if OF_THE_SYSTEM.contains(&name) {
        return None;
    }
    for (prefix, escaped) in OVERLAY {
        if let Some(rest) = name.strip_prefix(escaped) {
            return Some([prefix, rest].concat());
        }
        if name.starts_with(prefix) {
            return None;
        }
    }
    Some(name.to_vec())
}

/// Applies `uid:gid:mode`, `uid:gid:mode:char-MAJOR-MINOR` or `uid:gid:mode:pipe`. What is not of that form is left alone.
fn apply(node: &mut LowerNode, value: &[u8]) {
    let Ok(text) = std::str::from_utf8(value) else { return };
    let mut parts = text.split(':');
    let (Some(uid), Some(gid), Some(mode)) = (parts.next(), parts.next(), parts.next()) else {
        return;
    };
    let (Ok(uid), Ok(gid), Ok(mode)) = (uid.parse(), gid.parse(), u32::from_str_radix(mode, 8)) else {
        return;
    };
    (node.uid, node.gid, node.mode) = (uid, gid, mode & 0o7777);
    let what = parts.next().unwrap_or_default();
    if what == "pipe" {
        node.kind = LowerKind::Fifo;
    }
    let mut device = what.split('-');
    let (kind, major, minor) = (device.next(), device.next(), device.next());
    if let (Some(kind), Some(Ok(major)), Some(Ok(minor))) = (kind, major.map(str::parse), minor.map(str::parse)) {
        match kind {
            "char" => node.kind = LowerKind::CharDevice { major, minor },
            "block" => node.kind = LowerKind::BlockDevice { major, minor },
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_the_layer_gave_them() {
        let text = |name: &str| meant(name.as_bytes()).map(|name| String::from_utf8(name).unwrap());
        assert_eq!(text("user.x").as_deref(), Some("user.x"));
        assert_eq!(text("trusted.overlay.opaque"), None);
        assert_eq!(text("user.overlay.origin"), None);
        assert_eq!(text("security.selinux"), None);
        assert_eq!(
            text("trusted.overlay.overlay.opaque").as_deref(),
            Some("trusted.overlay.opaque")
        );
    }

    #[test]
    fn what_was_recorded_is_what_was_meant() {
        let mut node = default_root();
        node.kind = LowerKind::File { size: 0 };
        apply(&mut node, b"7:8:4755:char-1-3");
        assert_eq!((node.uid, node.gid, node.mode), (7, 8, 0o4755));
        assert_eq!(node.kind, LowerKind::CharDevice { major: 1, minor: 3 });
        node.kind = LowerKind::File { size: 0 };
        apply(&mut node, b"7:8:0644:pipe");
        assert_eq!((node.mode, node.kind.clone()), (0o644, LowerKind::Fifo));
        apply(&mut node, b"nonsense");
        assert_eq!(node.uid, 7);
    }
}
