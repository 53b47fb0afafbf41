//! What applying layers one by one gives: a small, slow model in memory, to hold the real thing against.
//!
//! A layer first removes, in the order of paths and through the links that are left, then its entries are made in the order
//! of the archive. A link where the layer brings a directory gives way to that, and is not followed to remove anything.
//! Nothing here knows overlayfs, directories on disk, or our code.

use std::collections::{BTreeMap, BTreeSet};

use super::generate::{Meta, Op};

type Path = Vec<String>;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    Dir,
    File(Vec<u8>),
    Link(String),
    Fifo,
}

#[derive(Clone, Debug)]
pub(super) struct Inode {
    pub(super) what: What,
    pub(super) meta: Meta,
    /// Whether no entry has set the time since a directory was made or got one that is merely implied. Others than us then
    /// have the time of day.
    pub(super) is_timeless: bool,
}

/// What is odd about an operation of the layer that was applied last: whoever knows less of links sees something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Odd {
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

#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) nodes: BTreeMap<Path, usize>,
    pub(super) inodes: Vec<Inode>,
    /// Directories that the layer which last needed them did not declare: a mount shows another time of theirs.
    pub(super) loose: BTreeSet<Path>,
    /// What was odd in the layer that was applied last: the operation, and the path that it is about.
    pub(super) odd: Vec<(usize, Odd, Path)>,
    touched: BTreeSet<Path>,
    declared: BTreeSet<Path>,
}

/// An entry that no layer may have.
struct Refused;

impl Model {
    pub(super) fn new() -> Self {
        Self {
            nodes: BTreeMap::new(),
            inodes: Vec::new(),
            loose: BTreeSet::new(),
            odd: Vec::new(),
            touched: BTreeSet::new(),
            declared: BTreeSet::new(),
        }
    }

    /// Applies a layer without the entries that would be refused, and returns it without them.
    pub(super) fn apply(&mut self, layer: &[Op]) -> Vec<Op> {
        let mut layer = layer.to_vec();
        loop {
            let mut next = self.clone();
            match next.try_apply(&layer) {
                Ok(()) => {
                    *self = next;
                    return layer;
                }
                Err(refused) => {
                    layer.remove(refused);
                }
            }
        }
    }

    /// Returns the directories whose time no entry sets.
    pub(super) fn timeless(&self) -> BTreeSet<Path> {
        let timeless = self.nodes.iter().filter(|(_, inode)| self.inodes[**inode].is_timeless);
        timeless.map(|(path, _)| path.clone()).collect()
    }

    fn try_apply(&mut self, layer: &[Op]) -> Result<(), usize> {
        let time = layer.first().map_or((0, 0), Op::time);
        self.touched = [Path::new()].into();
        self.declared.clear();
        self.odd.clear();
        if let (Some(_), None) = (layer.first(), self.nodes.get(&Path::new())) {
            self.insert_implied(Path::new(), time);
        }
        let mut removals: Vec<_> = layer
            .iter()
            .enumerate()
            .filter_map(|(at, op)| match op {
                Op::Whiteout(path, _) => Some((path.clone(), false, at)),
                Op::Opaque(path, _) => Some((path.clone(), true, at)),
                _ => None,
            })
            .collect();
        removals.sort();
        let brought = layer.iter().filter_map(|op| match op {
            Op::Dir(path, _) => Some(components(path)),
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
        for (at, op) in layer.iter().enumerate() {
            let known = self.odd.len();
            self.entry(op, time).map_err(|Refused| at)?;
            self.odd[known..].iter_mut().for_each(|(of, ..)| *of = at);
        }
        self.loose.extend(self.touched.iter().cloned());
        for declared in &self.declared {
            self.loose.remove(declared);
        }
        Ok(())
    }

    fn remove_for(&mut self, path: &str, is_opaque: bool, brought: &BTreeSet<Path>) {
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
    fn resolve_removal(&mut self, path: &[String], brought: &BTreeSet<Path>) -> Option<Path> {
        for length in 1..=path.len() {
            let above = &path[..length];
            let (name, parent) = above.split_last()?;
            if brought.contains(above) {
                let parent = self.resolve_or_loop(parent)?;
                if let Some(What::Link(_)) = self.what(&child(&parent, name)) {
                    self.odd.push((0, Odd::Spares, path.to_vec()));
                    return None;
                }
            }
        }
        self.resolve_or_loop(path)
    }

    fn resolve_or_loop(&mut self, path: &[String]) -> Option<Path> {
        self.resolve(path, None).unwrap_or_else(|Refused| {
            self.odd.push((0, Odd::Loops, path.to_vec()));
            None
        })
    }

    fn entry(&mut self, op: &Op, time: (i64, u32)) -> Result<(), Refused> {
        let (path, what, meta) = match op {
            Op::Whiteout(..) | Op::Opaque(..) => return Ok(()),
            Op::Hard(path, target) => return self.hard_link(&components(path), &components(target), time),
            Op::Dir(path, meta) => (path, What::Dir, meta),
            Op::File(path, meta, content) => (path, What::File(content.clone()), meta),
            Op::Link(path, meta, target) => (path, What::Link(target.clone()), meta),
            Op::Fifo(path, meta) => (path, What::Fifo, meta),
        };
        let place = self.place(&components(path), time)?;
        let is_dir = |what: Option<&What>| what == Some(&What::Dir);
        if what == What::Dir {
            self.declared.insert(place.clone());
            if is_dir(self.what(&place)) {
                let inode = self.nodes[&place];
                self.inodes[inode].meta = meta.clone();
                self.inodes[inode].is_timeless = false;
                return Ok(());
            }
        }
        self.remove(&place);
        self.insert(place, what, meta.clone());
        Ok(())
    }

    fn hard_link(&mut self, path: &[String], target: &[String], time: (i64, u32)) -> Result<(), Refused> {
        let find = |model: &mut Self| {
            let (name, parent) = target.split_last().ok_or(Refused)?;
            let found = child(&model.resolve(parent, None)?.ok_or(Refused)?, name);
            let inode = *model.nodes.get(&found).ok_or(Refused)?;
            if model.inodes[inode].what == What::Dir {
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
            if find(&mut self.clone()).ok() != Some((from.clone(), inode)) {
                self.odd.push((0, Odd::LinksThroughItself, from));
            }
            self.nodes.insert(to, inode);
        }
        Ok(())
    }

    /// Returns where the last component goes, with its parents made.
    fn place(&mut self, path: &[String], time: (i64, u32)) -> Result<Path, Refused> {
        let Some((name, parent)) = path.split_last() else {
            return Ok(Path::new());
        };
        let parent = self.resolve(parent, Some(time))?.ok_or(Refused)?;
        self.touch(&parent);
        Ok(child(&parent, name))
    }

    /// Follows a path to a directory, inside the root. With a time, what is not there is made, and what is no directory
    /// gives way to one.
    fn resolve(&mut self, path: &[String], make: Option<(i64, u32)>) -> Result<Option<Path>, Refused> {
        let mut ahead: Vec<String> = path.iter().rev().cloned().collect();
        let mut here = Path::new();
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            match name.as_str() {
                "" | "." => continue,
                ".." => {
                    here.pop();
                    continue;
                }
                _ => {}
            }
            let next = child(&here, &name);
            match (self.what(&next).cloned(), make) {
                (Some(What::Dir), _) => here = next,
                (Some(What::Link(target)), _) => {
                    links += 1;
                    if links > 40 {
                        return Err(Refused);
                    }
                    if target.starts_with('/') {
                        here.clear();
                    }
                    ahead.extend(target.split('/').rev().map(ToOwned::to_owned));
                }
                (_, None) => {
                    if links > 0 {
                        self.odd.push((0, Odd::Dangles, next));
                    }
                    return Ok(None);
                }
                (_, Some(time)) => {
                    self.touch(&here);
                    if self.what(&next).is_some() {
                        self.odd.push((0, Odd::ParentReplaced, next.clone()));
                    } else if links > 0 {
                        self.odd.push((0, Odd::ParentMadeThroughLink, next.clone()));
                    }
                    if self.inodes[self.nodes[&here]].meta.mode & 0o2000 != 0 {
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

    fn touch(&mut self, dir: &[String]) {
        for length in 0..=dir.len() {
            self.touched.insert(dir[..length].to_vec());
        }
    }

    fn what(&self, path: &Path) -> Option<&What> {
        self.nodes.get(path).map(|inode| &self.inodes[*inode].what)
    }

    fn insert(&mut self, path: Path, what: What, meta: Meta) {
        self.inodes.push(Inode {
            what,
            meta,
            is_timeless: false,
        });
        self.nodes.insert(path, self.inodes.len() - 1);
    }

    fn insert_implied(&mut self, path: Path, time: (i64, u32)) {
        if let Some(parent) = path.split_last().and_then(|(_, parent)| self.nodes.get(parent)) {
            self.inodes[*parent].is_timeless = true;
        }
        self.insert(path, What::Dir, Meta::implied(time));
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
fn made_anew(layer: &[Op]) -> BTreeSet<Path> {
    let mut others: BTreeMap<Path, bool> = BTreeMap::new();
    let mut anew = BTreeSet::new();
    for op in layer {
        let (path, is_dir, is_link) = match op {
            Op::Dir(path, _) => (path, true, false),
            Op::Link(path, ..) => (path, false, true),
            Op::File(path, ..) | Op::Fifo(path, _) | Op::Hard(path, _) => (path, false, false),
            Op::Whiteout(..) | Op::Opaque(..) => continue,
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
        if !is_dir {
            others.insert(path, is_link);
        } else if others.remove(&path).is_some() {
            anew.insert(path);
        }
    }
    anew
}

fn components(path: &str) -> Path {
    path.split('/')
        .filter(|name| !name.is_empty())
        .map(ToOwned::to_owned)
        .collect()
}

fn child(parent: &[String], name: &str) -> Path {
    let mut path = parent.to_vec();
    path.push(name.to_owned());
    path
}
