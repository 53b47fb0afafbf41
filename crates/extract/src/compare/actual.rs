//! The walk through a layer directory, each name held against the tree that is expected.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use unlade_sys::{Dir, Links};

use super::content::hash_file;
use super::expected::{Attributes, Expected, Node, NodeId, NodeKind, ROOT};
use super::{Comparison, Deviation};
use crate::directory::{OPAQUE_FILE, OVERRIDE_STAT, XattrDecision, decide_xattr, device_name, failed, join};
use crate::{Error, Kind, Note, Ownership, Progress, RawPath, Summary};

/// Attributes by which overlayfs marks directories and whiteouts, one of each for root and for users.
const OPAQUE: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];
const WHITEOUT: [&str; 2] = ["trusted.overlay.whiteout", "user.overlay.whiteout"];

/// Attributes that the machine gives by itself.
const OF_THE_MACHINE: [&str; 3] = ["security.selinux", "security.ima", "security.evm"];

/// What extraction could not do, so that it is not expected.
#[expect(clippy::struct_excessive_bools, reason = "each is a kind of thing of its own")]
struct Tolerance {
    owners: bool,
    xattrs: bool,
    devices: bool,
    opaques: bool,
    nanoseconds: bool,
}

/// One walk.
pub(super) struct Walk<'a> {
    expected: &'a Expected<'a>,
    ownership: Ownership,
    tolerance: Tolerance,
    progress: &'a Progress,
    comparison: Comparison,
    /// Which inode each node was found as, and the other way round.
    inodes: HashMap<NodeId, u64>,
    taken: HashSet<u64>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        expected: &'a Expected<'a>,
        ownership: Ownership,
        recorded: &Summary,
        progress: &'a Progress,
    ) -> Self {
        let happened = |notes: &[Note]| notes.iter().any(|note| recorded.count(*note) > 0);
        Self {
            expected,
            ownership,
            tolerance: Tolerance {
                owners: happened(&[Note::OwnerLost]),
                xattrs: happened(&[Note::XattrUnsupported, Note::XattrRefused, Note::XattrTooLarge]),
                devices: happened(&[Note::DeviceAsFile]),
                opaques: happened(&[Note::OpaqueAsFile]),
                nanoseconds: happened(&[Note::TimeClamped]),
            },
            progress,
            comparison: Comparison::default(),
            inodes: HashMap::new(),
            taken: HashSet::new(),
        }
    }

    /// Walks through `root`. Directories are reached from there by their paths, so depth costs no descriptors.
    pub(super) fn run(mut self, root: &Dir) -> Result<Comparison, Error> {
        let stat = root.stat_self().map_err(failed(b""))?;
        let read = |name: &OsStr| root.own_xattr(name);
        let names = root.own_xattr_names().map_err(failed(b""))?;
        self.attributes(b"", &self.expected.nodes[ROOT], &stat, &names, read)?;
        let mut ahead = vec![(Vec::new(), ROOT)];
        while let Some((path, node)) = ahead.pop() {
            self.progress.check()?;
            let opened = if path.is_empty() {
                root.try_clone()
            } else {
                root.resolve(Path::new(OsStr::from_bytes(&path)), Links::Refuse)
            };
            let names = opened.and_then(|dir| Ok((dir.read()?, dir)));
            match names {
                Ok((names, dir)) => {
                    let names = names.into_iter().map(|(name, _)| name.as_bytes().to_vec()).collect();
                    self.directory(&path, node, &dir, &names, &mut ahead)?;
                }
                Err(error) if error.raw_os_error() == Some(Errno::ACCESS.raw_os_error()) => {
                    self.comparison.unreadable += 1;
                }
                Err(error) => return Err(failed(&path)(error)),
            }
        }
        Ok(self.comparison)
    }

    fn directory(
        &mut self,
        path: &[u8],
        node: NodeId,
        dir: &Dir,
        names: &BTreeSet<Vec<u8>>,
        ahead: &mut Vec<(Vec<u8>, NodeId)>,
    ) -> Result<(), Error> {
        let NodeKind::Directory { children, .. } = &self.expected.nodes[node].kind else {
            return Ok(());
        };
        for name in names {
            let is_mark = self.tolerance.opaques && name == OPAQUE_FILE.as_bytes();
            if !children.contains_key(&name[..]) && !is_mark {
                self.comparison.note(&join(path, name), Deviation::Unexpected);
            }
        }
        for (name, child) in children {
            let path = join(path, name);
            let name = OsStr::from_bytes(name);
            let stat = dir.stat(name).map_err(failed(&path))?;
            let Some(stat) = stat else {
                self.comparison.note(&path, Deviation::Missing);
                continue;
            };
            self.comparison.entries += 1;
            self.one(&path, *child, dir, name, &stat)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory
                && matches!(self.expected.nodes[*child].kind, NodeKind::Directory { .. })
            {
                ahead.push((path, *child));
            }
        }
        Ok(())
    }

    /// Holds one name against its node.
    fn one(&mut self, path: &[u8], id: NodeId, dir: &Dir, name: &OsStr, stat: &Stat) -> Result<(), Error> {
        let node = &self.expected.nodes[id];
        let names = dir.xattr_names(name).map_err(failed(path))?;
        let read = |attribute: &OsStr| dir.xattr(name, attribute);
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        let wrong = match (&node.kind, file_type) {
            (NodeKind::Whiteout, FileType::CharacterDevice) if device == (0, 0) => return Ok(()),
            (NodeKind::Whiteout, FileType::RegularFile) if names.iter().any(|name| is_one_of(name, &WHITEOUT)) => {
                return Ok(());
            }
            (NodeKind::Directory { .. }, FileType::Directory) | (NodeKind::Fifo, FileType::Fifo) => None,
            (NodeKind::File { size, content }, FileType::RegularFile) => {
                if !self.is_first_name(path, id, stat) {
                    return Ok(());
                }
                self.content(path, dir, name, stat, *size, content)?
            }
            (NodeKind::Symlink { target }, FileType::Symlink) => {
                let found = dir.read_link(name).map_err(failed(path))?;
                (found.to_bytes() != &**target).then_some(Deviation::LinkTarget)
            }
            (NodeKind::CharDevice { major, minor }, FileType::CharacterDevice)
            | (NodeKind::BlockDevice { major, minor }, FileType::BlockDevice) => {
                (device != (*major, *minor)).then_some(Deviation::Device)
            }
            (NodeKind::CharDevice { .. } | NodeKind::BlockDevice { .. }, FileType::RegularFile)
                if self.tolerance.devices || self.ownership == Ownership::Record =>
            {
                (stat.st_size != 0).then_some(Deviation::Content)
            }
            (NodeKind::Fifo, FileType::RegularFile) if self.ownership == Ownership::Record => {
                (stat.st_size != 0).then_some(Deviation::Content)
            }
            _ => Some(Deviation::Type),
        };
        match wrong {
            Some(deviation @ (Deviation::Type | Deviation::LinkTarget)) => {
                self.comparison.note(path, deviation);
                return Ok(());
            }
            Some(deviation) => self.comparison.note(path, deviation),
            None => {}
        }
        self.attributes(path, node, stat, &names, read)
    }

    /// Notes under which inode a file is found. What it is like is looked at once, under its first name.
    fn is_first_name(&mut self, path: &[u8], id: NodeId, stat: &Stat) -> bool {
        match self.inodes.get(&id) {
            None => {
                self.inodes.insert(id, stat.st_ino);
                if stat.st_nlink > 1 && !self.taken.insert(stat.st_ino) {
                    self.comparison.note(path, Deviation::HardLink);
                }
                true
            }
            Some(inode) if *inode == stat.st_ino => false,
            Some(_) => {
                self.comparison.note(path, Deviation::HardLink);
                true
            }
        }
    }

    fn content(
        &mut self,
        path: &[u8],
        dir: &Dir,
        name: &OsStr,
        stat: &Stat,
        size: u64,
        content: &unlade_oci::Digest,
    ) -> Result<Option<Deviation>, Error> {
        self.progress.check()?;
        if u64::try_from(stat.st_size) != Ok(size) {
            return Ok(Some(Deviation::Content));
        }
        let file = match dir.open_file(name) {
            Ok(file) => file,
            Err(error) if error.raw_os_error() == Some(Errno::ACCESS.raw_os_error()) => {
                self.comparison.unreadable += 1;
                return Ok(None);
            }
            Err(error) => return Err(failed(path)(error)),
        };
        match hash_file(&file, size) {
            Ok(found) => Ok((found != *content).then_some(Deviation::Content)),
            // A disk that cannot give a file back has lost it.
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => Ok(Some(Deviation::Content)),
            Err(source) => Err(failed(path)(unlade_sys::Error::new(
                "read",
                dir.path().join(name),
                source,
            ))),
        }
    }

    fn attributes(
        &mut self,
        path: &[u8],
        node: &Node,
        stat: &Stat,
        names: &[std::ffi::OsString],
        read: impl Fn(&OsStr) -> unlade_sys::Result<Option<Vec<u8>>>,
    ) -> Result<(), Error> {
        let implied;
        let wanted = if let Some(attributes) = &node.attributes {
            attributes
        } else {
            implied = self.expected.implied();
            &implied
        };
        let is_link = matches!(node.kind, NodeKind::Symlink { .. });
        let is_ours = (stat.st_uid, stat.st_gid) == (wanted.uid, wanted.gid);
        if self.ownership.sets_owners() && !self.tolerance.owners && !is_ours {
            self.comparison.note(path, Deviation::Owner);
        }
        if !is_link && stat.st_mode & 0o7777 != wanted.mode {
            self.comparison.note(path, Deviation::Mode);
        }
        let time = wanted.mtime;
        let is_cut = self.tolerance.nanoseconds && stat.st_mtime_nsec == 0;
        let same_nanoseconds = is_cut || i128::from(stat.st_mtime_nsec) == i128::from(time.nanoseconds);
        let differs = stat.st_mtime != time.seconds || !same_nanoseconds;
        // Of a time that the filesystem cannot hold it keeps the nearest.
        if differs && i32::try_from(time.seconds).is_ok() {
            self.comparison.note(path, Deviation::Time);
        }
        match self.xattrs(path, node, wanted, stat, names, read) {
            // An owner who may not read a file may not read its `user.` attributes either.
            Err(Error::Write { source, .. }) if source.raw_os_error() == Some(Errno::ACCESS.raw_os_error()) => {
                self.comparison.unreadable += 1;
                Ok(())
            }
            done => done,
        }
    }

    fn xattrs(
        &mut self,
        path: &[u8],
        node: &Node,
        wanted: &Attributes,
        stat: &Stat,
        names: &[std::ffi::OsString],
        read: impl Fn(&OsStr) -> unlade_sys::Result<Option<Vec<u8>>>,
    ) -> Result<(), Error> {
        let mut known: BTreeSet<Vec<u8>> = BTreeSet::new();
        for xattr in &wanted.xattrs {
            let name = match decide_xattr(&xattr.name, self.ownership) {
                XattrDecision::Drop => continue,
                XattrDecision::Keep => xattr.name.to_vec(),
                XattrDecision::Escape(name) => name,
            };
            let found = read(OsStr::from_bytes(&name)).map_err(failed(path))?;
            let same = match found {
                // The kernel keeps access-control lists in step with the mode, so they need not come back as they went in.
                Some(_) if name.starts_with(b"system.posix_acl") => true,
                Some(found) => found == *xattr.value,
                None => self.tolerance.xattrs,
            };
            if !same {
                self.comparison.note(path, differing(&name));
            }
            known.insert(name);
        }
        for name in names {
            let ours = is_one_of(name, &OPAQUE)
                || is_one_of(name, &OF_THE_MACHINE)
                || name.as_bytes() == OVERRIDE_STAT.as_bytes()
                || name.as_bytes().starts_with(b"system.");
            if !ours && !known.contains(name.as_bytes()) {
                self.comparison.note(path, differing(name.as_bytes()));
            }
        }
        self.marks(path, node, wanted, stat, read)
    }

    /// Looks at the attributes that extraction itself sets.
    fn marks(
        &mut self,
        path: &[u8],
        node: &Node,
        wanted: &Attributes,
        stat: &Stat,
        read: impl Fn(&OsStr) -> unlade_sys::Result<Option<Vec<u8>>>,
    ) -> Result<(), Error> {
        if let NodeKind::Directory { opaque, .. } = node.kind {
            let mut found = false;
            for name in OPAQUE {
                found |= read(OsStr::new(name)).map_err(failed(path))?.as_deref() == Some(b"y");
            }
            if found != opaque && !(opaque && self.tolerance.opaques) {
                self.comparison.note(path, differing(OPAQUE[0].as_bytes()));
            }
        }
        // Links and special files cannot have such an attribute.
        let can_have = [FileType::RegularFile, FileType::Directory].contains(&FileType::from_raw_mode(stat.st_mode));
        if !can_have {
            return Ok(());
        }
        let device = match node.kind {
            NodeKind::CharDevice { major, minor } => device_name(Kind::CharDevice { major, minor }),
            NodeKind::BlockDevice { major, minor } => device_name(Kind::BlockDevice { major, minor }),
            NodeKind::Fifo => device_name(Kind::Fifo),
            _ => None,
        };
        let Attributes { uid, gid, mode, .. } = wanted;
        let mut value = format!("{uid}:{gid}:{mode:04o}");
        if let Some(device) = &device {
            value = format!("{value}:{device}");
        }
        let found = read(OsStr::new(OVERRIDE_STAT)).map_err(failed(path))?;
        let is_ours = (stat.st_uid, stat.st_gid) == (*uid, *gid);
        let same = match (&found, self.ownership) {
            (Some(found), Ownership::Record) => found == value.as_bytes(),
            (None, Ownership::Record) => self.tolerance.owners || is_ours,
            (found, Ownership::Squash) => found.is_none(),
            // It is set for a device that could not be made, and by a layer that brings it.
            (Some(found), _) if device.is_some() => found == value.as_bytes(),
            (Some(_), _) => wanted
                .xattrs
                .iter()
                .any(|xattr| *xattr.name == *OVERRIDE_STAT.as_bytes()),
            (None, _) => true,
        };
        if !same {
            self.comparison.note(path, differing(OVERRIDE_STAT.as_bytes()));
        }
        Ok(())
    }
}

fn differing(name: &[u8]) -> Deviation {
    Deviation::Xattr {
        name: RawPath::from(name),
    }
}

fn is_one_of(name: &OsStr, names: &[&str]) -> bool {
    names.iter().any(|known| name.as_bytes() == known.as_bytes())
}
