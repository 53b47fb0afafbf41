//! What a layer removes, in the tree that it makes: whiteouts and opaque directories, for a layer alone and on top of others.

use std::collections::BTreeSet;

use super::content::hash_file;
use super::expected::{Attributes, Expected, Make, NodeId, NodeKind, OPAQUE_MARKER, ROOT, new_directory};
use crate::directory::{failed, has_opaque, is_below, join, split_bytes};
use crate::lower::{LowerKind, LowerNode};
use crate::{Error, Whiteouts};

impl Expected<'_> {
    /// Makes the whiteouts and opaque directories of a layer that stands alone, by its paths.
    pub(super) fn apply_whiteouts(&mut self) -> Result<(), Error> {
        let whiteouts = std::mem::take(&mut self.whiteouts);
        let markers = std::mem::take(&mut self.opaques);
        let mut opaque = std::mem::take(&mut self.fresh);
        let mut missing = Vec::new();
        for path in &markers {
            match self.directory(path, Make::Nothing)? {
                Some((_, physical)) => {
                    opaque.insert(physical);
                }
                None => missing.push(path),
            }
        }
        let mut left = Vec::new();
        for path in &whiteouts {
            let (parent, name) = split_bytes(path);
            let found = self.directory(parent, Make::Nothing)?;
            let found = found.and_then(|(parent, physical)| Some((self.child(parent, name)?, physical)));
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
            if let Some((parent, physical)) = self.directory(parent, Make::Missing)?
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
            if let Some((_, physical)) = self.directory(path, Make::Missing)?
                && !has_opaque(&physical, &opaque)
            {
                opaque.insert(physical);
            }
        }
        self.make_all_opaque(&opaque)
    }

    /// Marks as opaque what is a directory by now; paths are those on disk.
    pub(super) fn make_all_opaque(&mut self, paths: &BTreeSet<Vec<u8>>) -> Result<(), Error> {
        for path in paths {
            let Some(node) = self.physical(path).filter(|node| self.is_directory(*node)) else {
                continue;
            };
            if self.whiteout_form == Whiteouts::Oci {
                self.put_marker(&join(path, OPAQUE_MARKER))?;
            } else if let NodeKind::Directory { opaque, .. } = &mut self.nodes[node].kind {
                *opaque = true;
            }
        }
        Ok(())
    }

    /// Returns what the layers below have at a path on disk, where this layer has nothing.
    pub(super) fn look_below(&self, physical: &[u8], path: &[u8]) -> Result<Option<LowerNode>, Error> {
        match &self.below {
            Some(below) if !is_below(physical, &self.fresh) => below.look_up(physical, path),
            _ => Ok(None),
        }
    }

    /// Puts a directory that is below as it is there.
    pub(super) fn copy_directory(&mut self, parent: NodeId, name: &[u8], node: &LowerNode) -> NodeId {
        let copy = self.add(new_directory(), Some(Attributes::of(&node.entry(name))));
        self.set_child(parent, name, copy);
        copy
    }

    /// Puts what is below at `name` in `parent` as it is there, unless that is nothing or a directory.
    pub(super) fn copy_file(
        &mut self,
        parent: NodeId,
        name: &[u8],
        physical: &[u8],
        path: &[u8],
    ) -> Result<Option<NodeId>, Error> {
        let place = join(physical, name);
        let Some(node) = self.look_below(&place, path)? else {
            return Ok(None);
        };
        let attributes = Attributes::of(&node.entry(&place));
        let kind = match node.kind {
            LowerKind::Directory => return Ok(None),
            LowerKind::File { size } => {
                let Some(below) = &self.below else { return Ok(None) };
                let file = below.open(&place, path)?;
                let read = |source| failed(path)(unlade_sys::Error::new("read", display(&place), source));
                let content = hash_file(&file, size).map_err(read)?;
                NodeKind::File { size, content }
            }
            LowerKind::Symlink { target } => NodeKind::Symlink { target },
            LowerKind::CharDevice { major, minor } => NodeKind::CharDevice { major, minor },
            LowerKind::BlockDevice { major, minor } => NodeKind::BlockDevice { major, minor },
            LowerKind::Fifo => NodeKind::Fifo,
        };
        let copy = self.add(kind, Some(attributes));
        self.set_child(parent, name, copy);
        Ok(Some(copy))
    }

    /// Makes the whiteouts and opaque directories of a layer on top of those below it, and the root as they have it.
    pub(super) fn apply_removals(&mut self) -> Result<(), Error> {
        let Some(below) = &mut self.below else { return Ok(()) };
        if self.nodes[ROOT].attributes.is_none()
            && let Some(root) = below.look_up(b"", b"")?
        {
            self.nodes[ROOT].attributes = Some(Attributes::of(&root.entry(b"")));
        }
        let (removed, cleared) = below.take_removals();
        let mut opaque = BTreeSet::new();
        let mut left = Vec::new();
        for path in &removed {
            match self.own(path) {
                Some(node) if self.is_directory(node) => {
                    opaque.insert(path.clone());
                }
                Some(_) => {}
                None => left.push(path),
            }
        }
        opaque.extend(std::mem::take(&mut self.fresh));
        let hidden = opaque.clone();
        for path in &cleared {
            if !is_below(path, &removed)
                && !is_below(path, &cleared)
                && !is_below(path, &hidden)
                && !removed.contains(path)
                && self.physical_or_copy(path)?.is_some()
            {
                opaque.insert(path.clone());
            }
        }
        for path in left {
            if is_below(path, &opaque) || is_below(path, &removed) || is_below(path, &cleared) {
                continue;
            }
            let (parent, name) = split_bytes(path);
            let Some(node) = self.physical_or_copy(parent)? else {
                continue;
            };
            if self.whiteout_form == Whiteouts::Oci {
                self.put_marker(&join(parent, &[b".wh.", name].concat()))?;
            } else if self.child(node, name).is_none() {
                let whiteout = self.add(NodeKind::Whiteout, None);
                self.set_child(node, name, whiteout);
            }
        }
        self.make_all_opaque(&opaque)
    }

    /// Returns what the layer itself has at a path on disk, or what is in the way to it.
    fn own(&self, path: &[u8]) -> Option<NodeId> {
        let mut here = ROOT;
        for component in path.split(|byte| *byte == b'/') {
            here = self.child(here, component)?;
            if !self.is_directory(here) {
                break;
            }
        }
        Some(here)
    }

    /// Goes to the directory at a path on disk, following nothing; what is missing is put as it is below.
    fn physical_or_copy(&mut self, physical: &[u8]) -> Result<Option<NodeId>, Error> {
        let (mut here, mut place) = (ROOT, Vec::new());
        for component in physical.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            place = join(&place, component);
            here = match self.child(here, component) {
                Some(child) if self.is_directory(child) => child,
                Some(_) => return Ok(None),
                None => match self.look_below(&place, physical)? {
                    Some(node) if node.kind == LowerKind::Directory => self.copy_directory(here, component, &node),
                    _ => return Ok(None),
                },
            };
        }
        Ok(Some(here))
    }
}

fn display(path: &[u8]) -> &std::path::Path {
    use std::os::unix::ffi::OsStrExt as _;
    std::path::Path::new(std::ffi::OsStr::from_bytes(path))
}
