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
}

#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) nodes: BTreeMap<Path, usize>,
    pub(super) inodes: Vec<Inode>,
    /// Directories that the layer which last needed them did not declare: a mount shows another time of theirs.
    pub(super) loose: BTreeSet<Path>,
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

    fn try_apply(&mut self, layer: &[Op]) -> Result<(), usize> {
        let time = layer.first().map_or((0, 0), Op::time);
        self.touched = [Path::new()].into();
        self.declared.clear();
        if let (Some(_), None) = (layer.first(), self.nodes.get(&Path::new())) {
            self.insert(Path::new(), What::Dir, Meta::implied(time));
        }
        let mut removals: Vec<_> = layer
            .iter()
            .filter_map(|op| match op {
                Op::Whiteout(path, _) => Some((path.clone(), false)),
                Op::Opaque(path, _) => Some((path.clone(), true)),
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
        removals.retain(|(path, is_opaque)| {
            let path = components(path);
            let above = if *is_opaque { &path[..] } else { &path[..path.len() - 1] };
            (1..=above.len()).all(|length| !anew.contains(&above[..length]))
        });
        for (path, is_opaque) in removals {
            self.remove_for(&path, is_opaque, &brought);
        }
        for (at, op) in layer.iter().enumerate() {
            self.entry(op, time).map_err(|Refused| at)?;
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
                let parent = self.resolve(parent, None).ok()??;
                if let Some(What::Link(_)) = self.what(&child(&parent, name)) {
                    return None;
                }
            }
        }
        self.resolve(path, None).ok()?
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
        if from != to {
            self.remove(&to);
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
                (_, None) => return Ok(None),
                (_, Some(time)) => {
                    self.touch(&here);
                    self.remove(&next);
                    self.insert(next.clone(), What::Dir, Meta::implied(time));
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
        self.inodes.push(Inode { what, meta });
        self.nodes.insert(path, self.inodes.len() - 1);
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
