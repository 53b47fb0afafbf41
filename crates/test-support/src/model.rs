//! What applying layers one by one gives: a small, slow model in memory, to hold the real thing against.
//!
//! A layer first removes, in the order of paths and through the links that are left, then its entries are made in the order
//! of the archive. A link where the layer brings a directory gives way to that, and is not followed to remove anything.
//! Nothing here knows overlayfs, directories on disk, or the code that is tested.

use std::collections::{BTreeMap, BTreeSet};

use crate::snapshot::{Node, NodeKind, TreeSnapshot};

type Name = Vec<u8>;
type Path = Vec<Name>;
type Time = (i64, u32);

/// One entry of a layer, as the model takes it. Paths have no meaning but for their components; the empty one is the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A file, directory, symbolic link or special file, with all that the entry says of it.
    Entry {
        /// Where.
        path: Vec<u8>,
        /// What.
        node: Node,
    },
    /// A hard link.
    HardLink {
        /// Where.
        path: Vec<u8>,
        /// The path of the file.
        target: Vec<u8>,
        /// The entry's time, which the file does not get.
        time: (i64, u32),
    },
    /// The whiteout of a path of lower layers.
    Whiteout {
        /// What it removes: the path without `.wh.`.
        path: Vec<u8>,
        /// The entry's time.
        time: (i64, u32),
    },
    /// The marker that hides what lower layers have in a directory.
    Opaque {
        /// The directory.
        path: Vec<u8>,
        /// The entry's time.
        time: (i64, u32),
    },
}

/// What is odd about a change of the layer that was applied last: whoever knows less of links sees something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Odd {
    /// It removes nothing, since the layer brings a directory in the place of a link of a lower layer, or of something else
    /// of its own, above it.
    Spares,
    /// A parent of it that is no directory gives way to one.
    ParentReplaced,
    /// A symbolic link that leads to it goes through a directory that is not there, and is made.
    ParentMadeThroughLink,
    /// A parent of it is made in a directory with the set-group-ID bit.
    ParentMadeInSetGid,
    /// A symbolic link that leads to it goes through a directory that is not there.
    Dangles,
    /// A hard link to itself.
    LinksToItself,
    /// A hard link that takes the place of a symbolic link on the way to its target. The path is that of the file.
    LinksThroughItself,
    /// It removes nothing, since the links that lead there go round in a circle.
    Loops,
}

/// A tree to which layers are applied.
#[derive(Clone, Debug, Default)]
pub struct TreeModel {
    nodes: BTreeMap<Path, usize>,
    inodes: Vec<Inode>,
    loose: BTreeSet<Path>,
    odd: Vec<(usize, Odd, Path)>,
    touched: BTreeSet<Path>,
    declared: BTreeSet<Path>,
}

#[derive(Clone, Debug)]
struct Inode {
    node: Node,
    /// Whether no entry has set the time since a directory was made or got one that is merely implied.
    is_timeless: bool,
}

/// An entry that no layer may have.
struct Refused;

impl Change {
    fn time(&self) -> Time {
        match self {
            Self::Entry { node, .. } => node.mtime,
            Self::HardLink { time, .. } | Self::Whiteout { time, .. } | Self::Opaque { time, .. } => *time,
        }
    }
}

impl TreeModel {
    /// Makes one that has nothing, not even a root.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies a layer. If it has an entry that no layer may have, the tree stays as it was, and the place of that entry is
    /// the error.
    pub fn apply(&mut self, layer: &[Change]) -> Result<(), usize> {
        let mut next = self.clone();
        next.try_apply(layer)?;
        *self = next;
        Ok(())
    }

    /// Returns the tree.
    pub fn tree(&self) -> TreeSnapshot {
        let mut first: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        let nodes = self.nodes.iter().map(|(path, at)| (joined(path), *at));
        // In the order of the joined paths, in which a snapshot names the first of an inode.
        let nodes: BTreeMap<Vec<u8>, usize> = nodes.collect();
        nodes
            .into_iter()
            .map(|(path, at)| {
                let mut node = self.inodes[at].node.clone();
                let first = first.entry(at).or_insert_with(|| path.clone());
                node.same_inode_as = (*first != path).then(|| first.clone());
                (path, node)
            })
            .collect()
    }

    /// Returns the directories, as [`Self::tree`] names them, that the layer which last needed them did not declare: a mount
    /// shows another time of theirs.
    pub fn loose(&self) -> BTreeSet<Vec<u8>> {
        self.loose.iter().map(|path| joined(path)).collect()
    }

    /// Returns the directories, as [`Self::tree`] names them, whose time no entry sets. Others than us then have the time of
    /// day.
    pub fn timeless(&self) -> BTreeSet<Vec<u8>> {
        let timeless = self.nodes.iter().filter(|(_, inode)| self.inodes[**inode].is_timeless);
        timeless.map(|(path, _)| joined(path)).collect()
    }

    /// Returns what was odd in the layer that was applied last: which of its changes, and the path that it is about, which is
    /// empty for the root.
    pub fn odd(&self) -> impl Iterator<Item = (usize, Odd, Vec<u8>)> {
        self.odd.iter().map(|(at, odd, path)| (*at, *odd, path.join(&b'/')))
    }

    fn try_apply(&mut self, layer: &[Change]) -> Result<(), usize> {
        let time = layer.first().map_or((0, 0), Change::time);
        self.touched = [Path::new()].into();
        self.declared.clear();
        self.odd.clear();
        if let (Some(_), None) = (layer.first(), self.nodes.get(&Path::new())) {
            self.insert_implied(Path::new(), time);
        }
        let mut removals: Vec<_> = layer
            .iter()
            .enumerate()
            .filter_map(|(at, change)| match change {
                Change::Whiteout { path, .. } => Some((path.clone(), false, at)),
                Change::Opaque { path, .. } => Some((path.clone(), true, at)),
                _ => None,
            })
            .collect();
        removals.sort();
        let brought = layer.iter().filter_map(|change| match change {
            Change::Entry { path, node } if node.kind == NodeKind::Directory => Some(components(path)),
            _ => None,
        });
        let brought: BTreeSet<Path> = brought.collect();
        let anew = made_anew(layer);
        removals.retain(|(path, is_opaque, at)| {
            let path = components(path);
            let above = if *is_opaque { &path[..] } else { &path[..path.len() - 1] };
            let counts = (1..=above.len()).all(|length| !anew.contains(&above[..length]));
            if !counts {
                self.odd.push((*at, Odd::Spares, path));
            }
            counts
        });
        for (path, is_opaque, at) in removals {
            let known = self.odd.len();
            self.remove_for(&path, is_opaque, &brought);
            self.odd[known..].iter_mut().for_each(|(of, ..)| *of = at);
        }
        for (at, change) in layer.iter().enumerate() {
            let known = self.odd.len();
            self.entry(change, time).map_err(|Refused| at)?;
            self.odd[known..].iter_mut().for_each(|(of, ..)| *of = at);
        }
        self.loose.extend(self.touched.iter().cloned());
        for declared in &self.declared {
            self.loose.remove(declared);
        }
        Ok(())
    }

    fn remove_for(&mut self, path: &[u8], is_opaque: bool, brought: &BTreeSet<Path>) {
        let path = components(path);
        if is_opaque {
            if let Some(dir) = self.resolve_removal(&path, brought) {
                self.touch(&dir);
                self.remove_below(&dir);
            }
        } else if let Some((name, parent)) = path.split_last()
            && let Some(parent) = self.resolve_removal(parent, brought)
        {
            self.touch(&parent);
            self.remove(&child(&parent, name));
        }
    }

    /// Follows the path of a directory that something is removed from.
    fn resolve_removal(&mut self, path: &[Name], brought: &BTreeSet<Path>) -> Option<Path> {
        for length in 1..=path.len() {
            let above = &path[..length];
            let (name, parent) = above.split_last()?;
            if brought.contains(above) {
                let parent = self.resolve_or_loop(parent)?;
                if self.kind(&child(&parent, name)) == Some(NodeKind::Symlink) {
                    self.odd.push((0, Odd::Spares, path.to_vec()));
                    return None;
                }
            }
        }
        self.resolve_or_loop(path)
    }

    fn resolve_or_loop(&mut self, path: &[Name]) -> Option<Path> {
        self.resolve(path, None).unwrap_or_else(|Refused| {
            self.odd.push((0, Odd::Loops, path.to_vec()));
            None
        })
    }

    fn entry(&mut self, change: &Change, time: Time) -> Result<(), Refused> {
        let (path, node) = match change {
            Change::Whiteout { .. } | Change::Opaque { .. } => return Ok(()),
            Change::HardLink { path, target, .. } => {
                return self.hard_link(&components(path), &components(target), time);
            }
            Change::Entry { path, node } => (path, node),
        };
        let place = self.place(&components(path), time)?;
        if node.kind == NodeKind::Directory {
            self.declared.insert(place.clone());
            if self.kind(&place) == Some(NodeKind::Directory) {
                let inode = self.nodes[&place];
                self.inodes[inode] = Inode {
                    node: node.clone(),
                    is_timeless: false,
                };
                return Ok(());
            }
        }
        if place.is_empty() {
            return Err(Refused);
        }
        self.remove(&place);
        self.insert(place, node.clone());
        Ok(())
    }

    fn hard_link(&mut self, path: &[Name], target: &[Name], time: Time) -> Result<(), Refused> {
        let find = |model: &mut Self| {
            let (name, parent) = target.split_last().ok_or(Refused)?;
            let found = child(&model.resolve(parent, None)?.ok_or(Refused)?, name);
            let inode = *model.nodes.get(&found).ok_or(Refused)?;
            if model.inodes[inode].node.kind == NodeKind::Directory {
                return Err(Refused);
            }
            Ok((found, inode))
        };
        let (from, inode) = find(self)?;
        let to = self.place(path, time)?;
        if self.nodes.get(&from) != Some(&inode) || from.starts_with(&to) && from != to {
            return Err(Refused);
        }
        if from == to {
            self.odd.push((0, Odd::LinksToItself, to));
        } else {
            self.remove(&to);
            let known = self.odd.len();
            let again = find(self).ok();
            self.odd.truncate(known);
            if again != Some((from.clone(), inode)) {
                self.odd.push((0, Odd::LinksThroughItself, from));
            }
            self.nodes.insert(to, inode);
        }
        Ok(())
    }

    /// Returns where the last component goes, with its parents made.
    fn place(&mut self, path: &[Name], time: Time) -> Result<Path, Refused> {
        let Some((name, parent)) = path.split_last() else {
            return Ok(Path::new());
        };
        let parent = self.resolve(parent, Some(time))?.ok_or(Refused)?;
        self.touch(&parent);
        Ok(child(&parent, name))
    }

    /// Follows a path to a directory, inside the root. With a time, what is not there is made, and what is no directory
    /// gives way to one.
    fn resolve(&mut self, path: &[Name], make: Option<Time>) -> Result<Option<Path>, Refused> {
        let mut ahead: Path = path.iter().rev().cloned().collect();
        let mut here = Path::new();
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    here.pop();
                    continue;
                }
                _ => {}
            }
            let next = child(&here, &name);
            match (self.kind(&next), make) {
                (Some(NodeKind::Directory), _) => here = next,
                (Some(NodeKind::Symlink), _) => {
                    links += 1;
                    if links > 40 {
                        return Err(Refused);
                    }
                    let target = self.inodes[self.nodes[&next]].node.link_target.clone();
                    let target = target.unwrap_or_default();
                    if target.starts_with(b"/") {
                        here.clear();
                    }
                    let names = target.split(|byte| *byte == b'/');
                    ahead.extend(names.rev().map(<[u8]>::to_vec));
                }
                (_, None) => {
                    if links > 0 {
                        self.odd.push((0, Odd::Dangles, next));
                    }
                    return Ok(None);
                }
                (there, Some(time)) => {
                    self.touch(&here);
                    if there.is_some() {
                        self.odd.push((0, Odd::ParentReplaced, next.clone()));
                    } else if links > 0 {
                        self.odd.push((0, Odd::ParentMadeThroughLink, next.clone()));
                    }
                    if self.inodes[self.nodes[&here]].node.mode & 0o2000 != 0 {
                        self.odd.push((0, Odd::ParentMadeInSetGid, next.clone()));
                    }
                    self.remove(&next);
                    self.insert_implied(next.clone(), time);
                    here = next;
                }
            }
        }
        Ok(Some(here))
    }

    fn touch(&mut self, dir: &[Name]) {
        for length in 0..=dir.len() {
            self.touched.insert(dir[..length].to_vec());
        }
    }

    fn kind(&self, path: &Path) -> Option<NodeKind> {
        self.nodes.get(path).map(|inode| self.inodes[*inode].node.kind)
    }

    fn insert(&mut self, path: Path, node: Node) {
        self.inodes.push(Inode {
            node,
            is_timeless: false,
        });
        self.nodes.insert(path, self.inodes.len() - 1);
    }

    fn insert_implied(&mut self, path: Path, time: Time) {
        if let Some(parent) = path.split_last().and_then(|(_, parent)| self.nodes.get(parent)) {
            self.inodes[*parent].is_timeless = true;
        }
        let implied = Node {
            mode: 0o755,
            mtime: time,
            ..Node::new(NodeKind::Directory)
        };
        self.insert(path, implied);
        if let Some(inode) = self.inodes.last_mut() {
            inode.is_timeless = true;
        }
    }

    fn remove(&mut self, path: &Path) {
        if self.nodes.remove(path).is_some() {
            self.remove_below(path);
        }
    }

    fn remove_below(&mut self, path: &Path) {
        self.nodes.retain(|other, _| other == path || !other.starts_with(path));
    }
}

/// Returns the directories that take the place of something else of the same layer: nothing of the layers below is in them.
fn made_anew(layer: &[Change]) -> BTreeSet<Path> {
    let mut others: BTreeMap<Path, bool> = BTreeMap::new();
    let mut anew = BTreeSet::new();
    for change in layer {
        let (path, kind) = match change {
            Change::Entry { path, node } => (path, Some(node.kind)),
            Change::HardLink { path, .. } => (path, None),
            Change::Whiteout { .. } | Change::Opaque { .. } => continue,
        };
        let path = components(path);
        for length in 1..path.len() {
            match others.get(&path[..length]) {
                Some(true) => break,
                Some(false) => {
                    others.remove(&path[..length]);
                    anew.insert(path[..length].to_vec());
                }
                None => {}
            }
        }
        if kind != Some(NodeKind::Directory) {
            others.insert(path, kind == Some(NodeKind::Symlink));
        } else if others.remove(&path).is_some() {
            anew.insert(path);
        }
    }
    anew
}

fn components(path: &[u8]) -> Path {
    path.split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .map(<[u8]>::to_vec)
        .collect()
}

fn child(parent: &[Name], name: &[u8]) -> Path {
    let mut path = parent.to_vec();
    path.push(name.to_vec());
    path
}

/// Returns a path as a snapshot has it.
fn joined(path: &[Name]) -> Vec<u8> {
    if path.is_empty() {
        b".".to_vec()
    } else {
        path.join(&b'/')
    }
}
