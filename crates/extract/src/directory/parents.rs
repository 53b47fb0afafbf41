//! From the path of a directory to a descriptor of it, without ever leaving the root.
//!
//! First the kernel is asked for the whole path at once, with symbolic links refused (`RESOLVE_IN_ROOT` and
//! `RESOLVE_NO_SYMLINKS`): then the path as the archive spells it is the path on disk. Only if that fails are the components
//! walked one by one from the root, each opened below the descriptor of the one before and none followed; links are read and
//! their targets walked in turn, with the root as `/`. So it is always known where on disk a parent is, which is what the
//! records of directories go by, and no string is ever followed by the kernel.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::FileType;
use rustix::io::Errno;
use unlade_sys::{Dir, Links};

use super::attributes::Attributes;
use super::{DirectoryWriter, failed, is};
use crate::lower::{LowerKind, LowerNode};
use crate::{Error, RawPath};

/// Descriptors kept. The parents of consecutive entries are the ends of one path and its siblings.
const KEPT: usize = 16;

/// Links followed in one path before it is given up, as many as the kernel follows.
pub(super) const MAX_LINKS: usize = 40;

/// Longest path that the kernel takes, without its NUL.
const MAX_PATH: usize = 4095;

/// A directory that entries are made in.
#[derive(Clone, Debug)]
pub(super) struct Parent {
    pub(super) dir: Arc<Dir>,
    /// Its path on disk, relative to the root, with no link in it.
    pub(super) path: Arc<[u8]>,
}

impl Parent {
    /// Returns the path on disk of `name` in it.
    pub(super) fn child(&self, name: &OsStr) -> Vec<u8> {
        join(&self.path, name.as_bytes())
    }
}

/// What to do about a component that is not there, or is no directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Make {
    /// Make it, and replace what is no directory.
    Replacing,
    /// Make it, but spare what is no directory: then there is no such parent.
    Missing,
    /// Make it as the layers below have it, and if they do not have it there is no such parent.
    Copy,
    /// There is no such parent.
    Nothing,
}

/// Parents used lately, by the path that the archive spells.
#[derive(Debug)]
pub(super) struct Parents {
    root: Parent,
    kept: Vec<(Box<[u8]>, Parent)>,
    /// Index of the one used last.
    last: usize,
    /// Index of the one that is given up next.
    oldest: usize,
}

impl Parents {
    pub(super) fn new(root: Arc<Dir>) -> Self {
        Self {
            root: Parent {
                dir: root,
                path: Arc::from(&[][..]),
            },
            kept: Vec::with_capacity(KEPT),
            last: 0,
            oldest: 0,
        }
    }

    /// Gives up all descriptors: something on the way to one of them was removed or replaced.
    pub(super) fn forget(&mut self) {
        self.kept.clear();
        self.last = 0;
        self.oldest = 0;
    }

    fn find(&mut self, path: &[u8]) -> Option<Parent> {
        if path.is_empty() {
            return Some(self.root.clone());
        }
        if let Some((kept, parent)) = self.kept.get(self.last)
            && **kept == *path
        {
            return Some(parent.clone());
        }
        self.last = self.kept.iter().position(|(kept, _)| **kept == *path)?;
        Some(self.kept[self.last].1.clone())
    }

    fn keep(&mut self, path: &[u8], parent: &Parent) {
        let kept = (Box::from(path), parent.clone());
        if self.kept.len() < KEPT {
            self.last = self.kept.len();
            self.kept.push(kept);
        } else {
            self.last = self.oldest;
            self.kept[self.oldest] = kept;
            self.oldest = (self.oldest + 1) % KEPT;
        }
    }
}

impl DirectoryWriter<'_> {
    /// Returns the directory at `path`, or nothing if it is not there and `make` does not make it.
    pub(super) fn parent(&mut self, path: &[u8], make: Make) -> Result<Option<Parent>, Error> {
        if let Some(parent) = self.parents.find(path) {
            return Ok(Some(parent));
        }
        self.meet_all(path)?;
        let parent = match self.root.resolve(Path::new(OsStr::from_bytes(path)), Links::Refuse) {
            Ok(dir) => Parent {
                dir: Arc::new(dir),
                path: Arc::from(path),
            },
            Err(error)
                if [Errno::NOENT, Errno::NOTDIR, Errno::LOOP]
                    .iter()
                    .any(|errno| is(&error, *errno)) =>
            {
                match self.walk(path, make)? {
                    Some(parent) => parent,
                    None => return Ok(None),
                }
            }
            Err(error) => return Err(failed(path)(error)),
        };
        self.parents.keep(path, &parent);
        Ok(Some(parent))
    }

    /// Goes to `path` one component at a time.
    fn walk(&mut self, path: &[u8], make: Make) -> Result<Option<Parent>, Error> {
        let mut ahead: Vec<Vec<u8>> = Vec::new();
        push_components(&mut ahead, path);
        let mut spelled = Spelled::new(path, &ahead);
        let mut here = Parent {
            dir: Arc::clone(&self.root),
            path: Arc::from(&[][..]),
        };
        let mut links = 0;
        while let Some(component) = ahead.pop() {
            let so_far = spelled.step(&component, &ahead);
            if component == b".." {
                let up = here.path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                here = self.open_physical(&here.path[..up], path)?;
                continue;
            }
            let name = OsStr::from_bytes(&component);
            self.meet_child(&here, name)?;
            let found = here.dir.stat(name).map_err(failed(path))?;
            let below = if found.is_none() && make != Make::Nothing {
                self.look_below(&here.child(name), path)?
            } else {
                None
            };
            let lower_link = match &below {
                Some(LowerNode {
                    kind: LowerKind::Symlink { target },
                    ..
                }) => Some(target.clone()),
                _ => None,
            };
            match found.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
                Some(FileType::Directory) => {}
                kind if kind == Some(FileType::Symlink) || lower_link.is_some() => {
                    if so_far.is_some_and(|path| self.unfollowed.contains(path)) {
                        return Ok(None);
                    }
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Error::refused(
                            path,
                            "symbolic links on the way to it go round in a circle",
                        ));
                    }
                    let target = match lower_link {
                        Some(target) => target.into_vec(),
                        None => here.dir.read_link(name).map_err(failed(path))?.into_bytes(),
                    };
                    if kind.is_none()
                        && let Some(below) = &mut self.below
                    {
                        below.followed.insert(here.child(name));
                    }
                    if target.starts_with(b"/") {
                        here = Parent {
                            dir: Arc::clone(&self.root),
                            path: Arc::from(&[][..]),
                        };
                    }
                    push_components(&mut ahead, &target);
                    continue;
                }
                None => match below {
                    Some(node) if node.kind == LowerKind::Directory => self.copy_directory(&here, name, path, node)?,
                    Some(_) if make == Make::Replacing => self.make_implied(&here, name, path)?,
                    None if matches!(make, Make::Replacing | Make::Missing) => self.make_implied(&here, name, path)?,
                    _ => return Ok(None),
                },
                Some(_) if make == Make::Replacing => {
                    self.clear_way(&here, name, path)?;
                    self.make_implied(&here, name, path)?;
                    self.fresh.insert(here.child(name));
                }
                _ => return Ok(None),
            }
            let child = here.child(name);
            if child.len() > MAX_PATH {
                let value = self.options.limits.path_bytes.min(MAX_PATH as u64);
                return Err(Error::Limit {
                    limit: "path_bytes",
                    value,
                    path: Some(RawPath::from(path)),
                });
            }
            let dir = here.dir.open_dir(name).map_err(failed(path))?;
            here = Parent {
                dir: Arc::new(dir),
                path: Arc::from(child),
            };
        }
        Ok(Some(here))
    }

    fn make_implied(&mut self, parent: &Parent, name: &OsStr, path: &[u8]) -> Result<(), Error> {
        let attributes = Attributes::implied(self.first_time.unwrap_or_default());
        let made = self
            .finisher
            .make_directory(parent, name, attributes.mode)
            .map_err(failed(path))?;
        // In one tree for several layers each brings a time of its own.
        let attributes = self.is_tree.then_some(attributes);
        self.directories.imply(&parent.child(name), attributes, made);
        self.check_deferred(path)
    }

    /// Opens a directory by its path on disk.
    fn open_physical(&self, physical: &[u8], path: &[u8]) -> Result<Parent, Error> {
        let dir = self
            .root
            .resolve(Path::new(OsStr::from_bytes(physical)), Links::Refuse)
            .map_err(failed(path))?;
        Ok(Parent {
            dir: Arc::new(dir),
            path: Arc::from(physical),
        })
    }
}

/// How far a walk has come in the path that it began with, while targets of links are walked in between.
#[derive(Debug)]
pub(super) struct Spelled<'p> {
    path: &'p [u8],
    walked: usize,
    /// Components of the path that are still on the stack.
    left: usize,
}

impl<'p> Spelled<'p> {
    /// Begins with the components of `path` on the stack.
    pub(super) fn new(path: &'p [u8], ahead: &[Vec<u8>]) -> Self {
        Self {
            path,
            walked: 0,
            left: ahead.len(),
        }
    }

    /// Takes notice of a component that was taken from the stack, and returns the path up to it if it is one of the path.
    pub(super) fn step(&mut self, component: &[u8], ahead: &[Vec<u8>]) -> Option<&'p [u8]> {
        if ahead.len() >= self.left {
            return None;
        }
        self.left = ahead.len();
        self.walked += component.len() + usize::from(self.walked > 0);
        Some(&self.path[..self.walked])
    }
}

/// Puts the components of `path` on the stack, the first on top.
pub(super) fn push_components(ahead: &mut Vec<Vec<u8>>, path: &[u8]) {
    let components = path.split(|byte| *byte == b'/').rev();
    ahead.extend(
        components
            .filter(|component| !matches!(*component, b"" | b"."))
            .map(<[u8]>::to_vec),
    );
}

pub(crate) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(parent.len() + 1 + name.len());
    path.extend_from_slice(parent);
    if !parent.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}
