//! The tree that a layer makes, in memory: the rules of the writer ([`crate::directory`]) without a filesystem.

use std::collections::{BTreeMap, BTreeSet};

use unlade_oci::Digest;

use super::content::ContentHasher;
use crate::directory::{has_opaque, join, split_bytes};
use crate::entry::{Content, Entry, EntrySink, Kind, Time, Xattr};
use crate::{Error, Options, Whiteouts};

/// Links followed in one path before it is given up, as the writer does.
const MAX_LINKS: usize = 40;

/// A node's place in [`Expected::nodes`].
pub(super) type NodeId = usize;

pub(super) const ROOT: NodeId = 0;

/// One file, directory or other thing, which may have several names.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: NodeKind,
    /// None for a directory that no entry describes, and for a whiteout.
    pub(super) attributes: Option<Attributes>,
}

#[derive(Debug)]
pub(super) enum NodeKind {
    Directory {
        children: BTreeMap<Box<[u8]>, NodeId>,
        opaque: bool,
    },
    File {
        size: u64,
        content: Digest,
    },
    Symlink {
        target: Box<[u8]>,
    },
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
    Whiteout,
}

#[derive(Clone, Debug)]
pub(super) struct Attributes {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u32,
    pub(super) mtime: Time,
    pub(super) xattrs: Box<[Xattr]>,
}

impl Attributes {
    fn of(entry: &Entry<'_>) -> Self {
        Self {
            uid: entry.uid,
            gid: entry.gid,
            mode: entry.mode,
            mtime: entry.mtime,
            xattrs: entry.xattrs.into(),
        }
    }
}

/// What to do about a component that is not there, or is no directory: as the writer's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Make {
    Replacing,
    Missing,
    Nothing,
}

/// The tree.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) nodes: Vec<Node>,
    whiteout_form: Whiteouts,
    whiteouts: BTreeSet<Vec<u8>>,
    opaques: BTreeSet<Vec<u8>>,
    first_time: Option<Time>,
}

impl Expected {
    pub(super) fn new(options: &Options) -> Self {
        let mut expected = Self {
            nodes: Vec::new(),
            whiteout_form: options.whiteouts,
            whiteouts: BTreeSet::new(),
            opaques: BTreeSet::new(),
            first_time: None,
        };
        expected.add(new_directory(), None);
        expected
    }

    /// Returns the attributes of a directory that no entry describes.
    pub(super) fn implied(&self) -> Attributes {
        Attributes {
            uid: 0,
            gid: 0,
            mode: 0o755,
            mtime: self.first_time.unwrap_or_default(),
            xattrs: Box::default(),
        }
    }

    fn add(&mut self, kind: NodeKind, attributes: Option<Attributes>) -> NodeId {
        self.nodes.push(Node { kind, attributes });
        self.nodes.len() - 1
    }

    fn child(&self, directory: NodeId, name: &[u8]) -> Option<NodeId> {
        match &self.nodes[directory].kind {
            NodeKind::Directory { children, .. } => children.get(name).copied(),
            _ => None,
        }
    }

    fn set_child(&mut self, directory: NodeId, name: &[u8], node: NodeId) {
        if let NodeKind::Directory { children, .. } = &mut self.nodes[directory].kind {
            children.insert(name.into(), node);
        }
    }

    fn remove_child(&mut self, directory: NodeId, name: &[u8]) {
        if let NodeKind::Directory { children, .. } = &mut self.nodes[directory].kind {
            children.remove(name);
        }
    }

    fn is_directory(&self, node: NodeId) -> bool {
        matches!(self.nodes[node].kind, NodeKind::Directory { .. })
    }

    /// Goes to the directory `path`; returns it with its path on disk.
    fn directory(&mut self, path: &[u8], make: Make) -> Option<(NodeId, Vec<u8>)> {
        let mut ahead = Vec::new();
        push_components(&mut ahead, path);
        let (mut here, mut physical) = (ROOT, Vec::new());
        let mut links = 0;
        while let Some(component) = ahead.pop() {
            if component == b".." {
                let up = physical.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                physical.truncate(up);
                here = self.physical(&physical)?;
                continue;
            }
            let child = match self.child(here, &component) {
                Some(child) => match &self.nodes[child].kind {
                    NodeKind::Directory { .. } => child,
                    NodeKind::Symlink { target } => {
                        links += 1;
                        if links > MAX_LINKS {
                            return None;
                        }
                        let target = target.clone();
                        if target.starts_with(b"/") {
                            (here, physical) = (ROOT, Vec::new());
                        }
                        push_components(&mut ahead, &target);
                        continue;
                    }
                    _ if make == Make::Replacing => self.make_implied(here, &component),
                    _ => return None,
                },
                None if make == Make::Nothing => return None,
                None => self.make_implied(here, &component),
            };
            physical = join(&physical, &component);
            here = child;
        }
        Some((here, physical))
    }

    fn make_implied(&mut self, parent: NodeId, name: &[u8]) -> NodeId {
        let replaces = self.child(parent, name).is_some();
        let node = self.add(new_directory(), None);
        self.set_child(parent, name, node);
        if replaces {
            self.hide_below(node);
        }
        node
    }

    /// Marks a directory that took the place of something else of the layer.
    fn hide_below(&mut self, directory: NodeId) {
        if self.whiteout_form == Whiteouts::Oci {
            let empty = NodeKind::File {
                size: 0,
                content: ContentHasher::new().finish(),
            };
            let attributes = Attributes {
                mode: 0o644,
                ..self.implied()
            };
            let marker = self.add(empty, Some(attributes));
            self.set_child(directory, b".wh..wh..opq", marker);
        } else if let NodeKind::Directory { opaque, .. } = &mut self.nodes[directory].kind {
            *opaque = true;
        }
    }

    /// Goes to a path on disk, in which nothing is a link.
    fn physical(&self, path: &[u8]) -> Option<NodeId> {
        path.split(|byte| *byte == b'/')
            .filter(|component| !component.is_empty())
            .try_fold(ROOT, |here, component| self.child(here, component))
    }

    fn put(&mut self, path: &[u8], kind: NodeKind, attributes: Attributes) {
        let (parent, name) = split_bytes(path);
        let node = self.add(kind, Some(attributes));
        if let Some((parent, _)) = self.directory(parent, Make::Replacing) {
            self.set_child(parent, name, node);
        }
    }

    fn put_directory(&mut self, entry: &Entry<'_>) {
        let attributes = Some(Attributes::of(entry));
        if entry.path.is_empty() {
            self.nodes[ROOT].attributes = attributes;
            return;
        }
        let (parent, name) = split_bytes(entry.path);
        let Some((parent, _)) = self.directory(parent, Make::Replacing) else {
            return;
        };
        if let Some(child) = self.child(parent, name).filter(|child| self.is_directory(*child)) {
            self.nodes[child].attributes = attributes;
        } else {
            let replaces = self.child(parent, name).is_some();
            let node = self.add(new_directory(), attributes);
            self.set_child(parent, name, node);
            if replaces {
                self.hide_below(node);
            }
        }
    }

    fn put_hard_link(&mut self, path: &[u8], target: &[u8]) {
        let (target_parent, target_name) = split_bytes(target);
        let source = self
            .directory(target_parent, Make::Nothing)
            .and_then(|(parent, _)| self.child(parent, target_name));
        let (parent, name) = split_bytes(path);
        match source {
            Some(node) => {
                if let Some((parent, _)) = self.directory(parent, Make::Replacing) {
                    self.set_child(parent, name, node);
                }
            }
            // What it names is in a layer below; what this layer had there is gone all the same.
            None => {
                if let Some((parent, _)) = self.directory(parent, Make::Nothing) {
                    self.remove_child(parent, name);
                }
            }
        }
    }

    /// Keeps a whiteout as the file that it is in the archive.
    fn put_plain_whiteout(&mut self, entry: &Entry<'_>) {
        let parent = match entry.kind {
            Kind::Opaque => entry.path,
            _ => split_bytes(entry.path).0,
        };
        if self.directory(parent, Make::Missing).is_none() {
            return;
        }
        let path = if entry.kind == Kind::Opaque {
            join(entry.path, b".wh..wh..opq")
        } else {
            let (parent, name) = split_bytes(entry.path);
            join(parent, &[b".wh.", name].concat())
        };
        let attributes = Attributes {
            xattrs: Box::default(),
            ..Attributes::of(entry)
        };
        let empty = NodeKind::File {
            size: 0,
            content: ContentHasher::new().finish(),
        };
        self.put(&path, empty, attributes);
    }

    /// Returns the paths on disk of the directories that are opaque so far.
    fn opaque_directories(&self) -> BTreeSet<Vec<u8>> {
        let mut found = BTreeSet::new();
        let mut ahead = vec![(Vec::new(), ROOT)];
        while let Some((path, node)) = ahead.pop() {
            if let NodeKind::Directory { opaque, children } = &self.nodes[node].kind {
                ahead.extend(children.iter().map(|(name, child)| (join(&path, name), *child)));
                if *opaque {
                    found.insert(path);
                }
            }
        }
        found
    }

    fn apply_whiteouts(&mut self) {
        let whiteouts = std::mem::take(&mut self.whiteouts);
        let markers = std::mem::take(&mut self.opaques);
        let mut opaque = self.opaque_directories();
        let mut missing = Vec::new();
        for path in &markers {
            match self.directory(path, Make::Nothing) {
                Some((_, physical)) => {
                    opaque.insert(physical);
                }
                None => missing.push(path),
            }
        }
        let mut left = Vec::new();
        for path in &whiteouts {
            let (parent, name) = split_bytes(path);
            let found = self
                .directory(parent, Make::Nothing)
                .and_then(|(parent, physical)| Some((self.child(parent, name)?, physical)));
            match found {
                Some((node, physical)) if self.is_directory(node) => {
                    opaque.insert(join(&physical, name));
                }
                Some(_) => {}
                None => left.push(path),
            }
        }
        for path in left {
            let (parent, name) = split_bytes(path);
            if has_opaque(parent, &markers) || has_opaque(parent, &opaque) {
                continue;
            }
            if let Some((parent, physical)) = self.directory(parent, Make::Missing)
                && !has_opaque(&physical, &opaque)
                && self.child(parent, name).is_none()
            {
                let node = self.add(NodeKind::Whiteout, None);
                self.set_child(parent, name, node);
            }
        }
        for path in missing {
            let (parent, _) = split_bytes(path);
            if has_opaque(parent, &markers) || has_opaque(parent, &opaque) {
                continue;
            }
            if let Some((_, physical)) = self.directory(path, Make::Missing)
                && !has_opaque(&physical, &opaque)
            {
                opaque.insert(physical);
            }
        }
        for path in opaque {
            if let Some((node, _)) = self.directory(&path, Make::Nothing)
                && let NodeKind::Directory { opaque, .. } = &mut self.nodes[node].kind
            {
                *opaque = true;
            }
        }
    }
}

impl EntrySink for Expected {
    fn entry(&mut self, entry: &Entry<'_>, content: &mut dyn Content) -> Result<(), Error> {
        self.first_time.get_or_insert(entry.mtime);
        let kind = match entry.kind {
            Kind::Directory => {
                self.put_directory(entry);
                return Ok(());
            }
            Kind::HardLink { target } => {
                self.put_hard_link(entry.path, target);
                return Ok(());
            }
            Kind::Whiteout | Kind::Opaque if self.whiteout_form == Whiteouts::Oci => {
                self.put_plain_whiteout(entry);
                return Ok(());
            }
            Kind::Whiteout => {
                self.whiteouts.insert(entry.path.to_vec());
                return Ok(());
            }
            Kind::Opaque => {
                self.opaques.insert(entry.path.to_vec());
                return Ok(());
            }
            Kind::File { size } => {
                let mut hasher = ContentHasher::new();
                while let Some(extent) = content.next()? {
                    hasher.write(extent.offset, extent.data);
                }
                NodeKind::File {
                    size,
                    content: hasher.finish(),
                }
            }
            Kind::Symlink { target } => NodeKind::Symlink { target: target.into() },
            Kind::CharDevice { major, minor } => NodeKind::CharDevice { major, minor },
            Kind::BlockDevice { major, minor } => NodeKind::BlockDevice { major, minor },
            Kind::Fifo => NodeKind::Fifo,
        };
        self.put(entry.path, kind, Attributes::of(entry));
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.apply_whiteouts();
        Ok(())
    }
}

fn new_directory() -> NodeKind {
    NodeKind::Directory {
        children: BTreeMap::new(),
        opaque: false,
    }
}

/// Puts the components of `path` on the stack, the first on top.
fn push_components(ahead: &mut Vec<Vec<u8>>, path: &[u8]) {
    let components = path.split(|byte| *byte == b'/').rev();
    ahead.extend(
        components
            .filter(|component| !matches!(*component, b"" | b"."))
            .map(<[u8]>::to_vec),
    );
}
