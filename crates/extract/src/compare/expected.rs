//! The tree that a layer makes, in memory: the rules of the writer ([`crate::directory`]) without a filesystem.

use std::collections::{BTreeMap, BTreeSet};

use unlade_oci::Digest;

use super::content::ContentHasher;
use crate::directory::{Below, join, split_bytes};
use crate::entry::{Content, Entry, EntrySink, Kind, Time, Xattr};
use crate::lower::{Lower, LowerKind, Removals};
use crate::{Error, Options, Whiteouts};

/// Links followed in one path before it is given up, as the writer does.
const MAX_LINKS: usize = 40;

/// A node's place in [`Expected::nodes`].
pub(super) type NodeId = usize;

pub(super) const ROOT: NodeId = 0;

/// What makes a directory opaque in OCI form.
pub(super) const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";

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
    pub(super) fn of(entry: &Entry<'_>) -> Self {
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
pub(super) enum Make {
    Replacing,
    Missing,
    Copy,
    Nothing,
}

/// The tree.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    pub(super) nodes: Vec<Node>,
    pub(super) whiteout_form: Whiteouts,
    pub(super) whiteouts: BTreeSet<Vec<u8>>,
    pub(super) opaques: BTreeSet<Vec<u8>>,
    /// Directories that took the place of something else of the layer: what is below them is hidden.
    pub(super) fresh: BTreeSet<Vec<u8>>,
    /// The layers below, if the layer goes on top of them.
    pub(super) below: Option<Below<'a>>,
    first_time: Option<Time>,
}

impl<'a> Expected<'a> {
    pub(super) fn new(options: &Options) -> Self {
        let mut expected = Self {
            nodes: Vec::new(),
            whiteout_form: options.whiteouts,
            whiteouts: BTreeSet::new(),
            opaques: BTreeSet::new(),
            fresh: BTreeSet::new(),
            below: None,
            first_time: None,
        };
        expected.add(new_directory(), None);
        expected
    }

    /// Begins the tree of a layer that removes `removals` from what is in `lower`, and goes on top of it.
    pub(super) fn on_top(options: &Options, lower: &'a dyn Lower, removals: &Removals) -> Result<Self, Error> {
        Ok(Self {
            below: Some(Below::new(lower, removals)?),
            ..Self::new(options)
        })
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

    pub(super) fn add(&mut self, kind: NodeKind, attributes: Option<Attributes>) -> NodeId {
        self.nodes.push(Node { kind, attributes });
        self.nodes.len() - 1
    }

    pub(super) fn child(&self, directory: NodeId, name: &[u8]) -> Option<NodeId> {
        match &self.nodes[directory].kind {
            NodeKind::Directory { children, .. } => children.get(name).copied(),
            _ => None,
        }
    }

    pub(super) fn set_child(&mut self, directory: NodeId, name: &[u8], node: NodeId) {
        if let NodeKind::Directory { children, .. } = &mut self.nodes[directory].kind {
            children.insert(name.into(), node);
        }
    }

    fn remove_child(&mut self, directory: NodeId, name: &[u8]) {
        if let NodeKind::Directory { children, .. } = &mut self.nodes[directory].kind {
            children.remove(name);
        }
    }

    pub(super) fn is_directory(&self, node: NodeId) -> bool {
        matches!(self.nodes[node].kind, NodeKind::Directory { .. })
    }

    /// Goes to the directory `path`; returns it with its path on disk.
    pub(super) fn directory(&mut self, path: &[u8], make: Make) -> Result<Option<(NodeId, Vec<u8>)>, Error> {
        let mut ahead = Vec::new();
        push_components(&mut ahead, path);
        let (mut here, mut physical) = (ROOT, Vec::new());
        let mut links = 0;
        while let Some(component) = ahead.pop() {
            if component == b".." {
                let up = physical.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                physical.truncate(up);
                match self.physical(&physical) {
                    Some(parent) => here = parent,
                    None => return Ok(None),
                }
                continue;
            }
            let place = join(&physical, &component);
            let own = self.child(here, &component);
            let below = if own.is_none() && make != Make::Nothing {
                self.look_below(&place, path)?
            } else {
                None
            };
            let link = match (
                own.map(|own| &self.nodes[own].kind),
                below.as_ref().map(|node| &node.kind),
            ) {
                (Some(NodeKind::Symlink { target }), _) | (None, Some(LowerKind::Symlink { target })) => {
                    Some(target.clone())
                }
                _ => None,
            };
            if let Some(target) = link {
                links += 1;
                if links > MAX_LINKS {
                    return Ok(None);
                }
                if target.starts_with(b"/") {
                    (here, physical) = (ROOT, Vec::new());
                }
                push_components(&mut ahead, &target);
                continue;
            }
            here = match (own, below) {
                (Some(own), _) if self.is_directory(own) => own,
                (Some(_), _) if make == Make::Replacing => {
                    self.fresh.insert(place.clone());
                    self.make_implied(here, &component)
                }
                (None, Some(node)) if node.kind == LowerKind::Directory => self.copy_directory(here, &component, &node),
                (None, Some(_)) if make == Make::Replacing => self.make_implied(here, &component),
                (None, None) if matches!(make, Make::Replacing | Make::Missing) => self.make_implied(here, &component),
                _ => return Ok(None),
            };
            physical = place;
        }
        Ok(Some((here, physical)))
    }

    fn make_implied(&mut self, parent: NodeId, name: &[u8]) -> NodeId {
        let node = self.add(new_directory(), None);
        self.set_child(parent, name, node);
        node
    }

    /// Goes to a path on disk, in which nothing is a link.
    pub(super) fn physical(&self, path: &[u8]) -> Option<NodeId> {
        path.split(|byte| *byte == b'/')
            .filter(|component| !component.is_empty())
            .try_fold(ROOT, |here, component| self.child(here, component))
    }

    pub(super) fn put(&mut self, path: &[u8], kind: NodeKind, attributes: Attributes) -> Result<(), Error> {
        let (parent, name) = split_bytes(path);
        let node = self.add(kind, Some(attributes));
        if let Some((parent, _)) = self.directory(parent, Make::Replacing)? {
            self.set_child(parent, name, node);
        }
        Ok(())
    }

    /// Puts an empty file of nobody in particular.
    pub(super) fn put_marker(&mut self, path: &[u8]) -> Result<(), Error> {
        let attributes = Attributes {
            mode: 0o644,
            ..self.implied()
        };
        self.put(path, empty_file(), attributes)
    }

    fn put_directory(&mut self, entry: &Entry<'_>) -> Result<(), Error> {
        let attributes = Some(Attributes::of(entry));
        if entry.path.is_empty() {
            self.nodes[ROOT].attributes = attributes;
            return Ok(());
        }
        let (parent, name) = split_bytes(entry.path);
        let Some((parent, physical)) = self.directory(parent, Make::Replacing)? else {
            return Ok(());
        };
        match self.child(parent, name) {
            Some(child) if self.is_directory(child) => self.nodes[child].attributes = attributes,
            other => {
                if other.is_some() {
                    self.fresh.insert(join(&physical, name));
                }
                let node = self.add(new_directory(), attributes);
                self.set_child(parent, name, node);
            }
        }
        Ok(())
    }

    fn put_hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), Error> {
        let (target_parent, target_name) = split_bytes(target);
        let mut source = None;
        if let Some((parent, physical)) = self.directory(target_parent, Make::Copy)? {
            source = match self.child(parent, target_name) {
                Some(own) => Some(own),
                None => self.copy_file(parent, target_name, &physical, path)?,
            };
        }
        let (parent, name) = split_bytes(path);
        match source {
            Some(node) => {
                if let Some((parent, _)) = self.directory(parent, Make::Replacing)? {
                    self.set_child(parent, name, node);
                }
            }
            // What it names is in a layer below; what this layer had there is gone all the same.
            None => {
                if let Some((parent, _)) = self.directory(parent, Make::Nothing)? {
                    self.remove_child(parent, name);
                }
            }
        }
        Ok(())
    }

    /// Keeps a whiteout as the file that it is in the archive.
    fn put_plain_whiteout(&mut self, entry: &Entry<'_>) -> Result<(), Error> {
        let parent = match entry.kind {
            Kind::Opaque => entry.path,
            _ => split_bytes(entry.path).0,
        };
        if self.directory(parent, Make::Missing)?.is_none() {
            return Ok(());
        }
        let path = if entry.kind == Kind::Opaque {
            join(entry.path, OPAQUE_MARKER)
        } else {
            let (parent, name) = split_bytes(entry.path);
            join(parent, &[b".wh.", name].concat())
        };
        let attributes = Attributes {
            xattrs: Box::default(),
            ..Attributes::of(entry)
        };
        self.put(&path, empty_file(), attributes)
    }
}

impl EntrySink for Expected<'_> {
    fn entry(&mut self, entry: &Entry<'_>, content: &mut dyn Content) -> Result<(), Error> {
        self.first_time.get_or_insert(entry.mtime);
        let kind = match entry.kind {
            Kind::Directory => {
                return self.put_directory(entry);
            }
            Kind::HardLink { target } => {
                return self.put_hard_link(entry.path, target);
            }
            // These were taken into account before the first entry.
            Kind::Whiteout | Kind::Opaque if self.below.is_some() => return Ok(()),
            Kind::Whiteout | Kind::Opaque if self.whiteout_form == Whiteouts::Oci => {
                return self.put_plain_whiteout(entry);
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
        self.put(entry.path, kind, Attributes::of(entry))
    }

    fn finish(&mut self) -> Result<(), Error> {
        if self.below.is_some() {
            self.apply_removals()
        } else if self.whiteout_form == Whiteouts::Oci {
            let fresh = std::mem::take(&mut self.fresh);
            self.make_all_opaque(&fresh)
        } else {
            self.apply_whiteouts()
        }
    }
}

fn empty_file() -> NodeKind {
    NodeKind::File {
        size: 0,
        content: ContentHasher::new().finish(),
    }
}

pub(super) fn new_directory() -> NodeKind {
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
