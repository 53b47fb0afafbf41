//! The layers below while a layer is extracted against them: what it removes is not seen any more.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::ops::Bound;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use rustix::fs::FileType;

use super::attributes::Attributes;
use super::parents::{MAX_LINKS, Parent, Spelled, join, push_components};
use super::{DirectoryWriter, FileContent, failed, split};
use crate::entry::{Entry, EntrySink as _, Kind};
use crate::lower::{Lower, LowerKind, LowerNode, Removals};
use crate::{Error, Note, Whiteouts};

/// The tree below without what the layer removes. All paths are paths on disk: there is no link in them.
pub(crate) struct Below<'a> {
    lower: &'a dyn Lower,
    /// What whiteouts remove.
    removed: BTreeSet<Vec<u8>>,
    /// Directories of which the layer clears what is in them.
    cleared: BTreeSet<Vec<u8>>,
    /// Links of the layers below that were followed on the way to a parent.
    pub(super) followed: BTreeSet<Vec<u8>>,
}

impl fmt::Debug for Below<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Below")
            .field("removed", &self.removed.len())
            .field("cleared", &self.cleared.len())
            .finish_non_exhaustive()
    }
}

impl<'a> Below<'a> {
    /// Removes what `removals` say, in the order of paths, each found through the links that are left.
    pub(crate) fn new(lower: &'a dyn Lower, removals: &Removals) -> Result<Self, Error> {
        let mut below = Self {
            lower,
            removed: BTreeSet::new(),
            cleared: BTreeSet::new(),
            followed: BTreeSet::new(),
        };
        for (path, is_opaque) in removals.in_order() {
            if is_opaque {
                match below.directory(path, removals)? {
                    // The root of a layer is always merged, whatever its attributes say, so each name is removed.
                    Some(directory) if directory.is_empty() => {
                        let names = lower.names(b"").map_err(failed(path))?;
                        below.removed.extend(names);
                    }
                    Some(directory) => {
                        below.cleared.insert(directory);
                    }
                    None => {}
                }
                continue;
            }
            let (parent, name) = split(path);
            if let Some(parent) = below.directory(parent, removals)? {
                let found = join(&parent, name.as_bytes());
                if below.look_up(&found, path)?.is_some() {
                    below.removed.insert(found);
                }
            }
        }
        Ok(below)
    }

    /// Returns what is at `path`; `entry` is what an error is about.
    pub(crate) fn look_up(&self, path: &[u8], entry: &[u8]) -> Result<Option<LowerNode>, Error> {
        if self.is_hidden(path) {
            return Ok(None);
        }
        self.lower.look_up(path).map_err(failed(entry))
    }

    pub(crate) fn open(&self, path: &[u8], entry: &[u8]) -> Result<File, Error> {
        self.lower.open(path).map_err(failed(entry))
    }

    /// Takes what whiteouts remove, and the directories that are cleared. From then on the whole tree below is seen.
    pub(crate) fn take_removals(&mut self) -> (BTreeSet<Vec<u8>>, BTreeSet<Vec<u8>>) {
        (std::mem::take(&mut self.removed), std::mem::take(&mut self.cleared))
    }

    fn is_hidden(&self, path: &[u8]) -> bool {
        if self.removed.is_empty() && self.cleared.is_empty() {
            return false;
        }
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let mut above = slashes.map(|(at, _)| &path[..at]);
        self.removed.contains(path) || above.any(|above| self.removed.contains(above) || self.cleared.contains(above))
    }

    /// Returns where the directory `path` is that something is removed from, links followed, but none in the place of a
    /// directory of the layer. A circle of links leads nowhere.
    fn directory(&self, path: &[u8], removals: &Removals) -> Result<Option<Vec<u8>>, Error> {
        let mut ahead = Vec::new();
        push_components(&mut ahead, path);
        let mut spelled = Spelled::new(path, &ahead);
        let mut here = Vec::new();
        let mut links = 0;
        while let Some(component) = ahead.pop() {
            let is_own = spelled
                .step(&component, &ahead)
                .is_some_and(|path| removals.directories.contains(path));
            if component == b".." {
                let up = here.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                here.truncate(up);
                continue;
            }
            let child = join(&here, &component);
            match self.look_up(&child, path)?.map(|node| node.kind) {
                Some(LowerKind::Directory) => here = child,
                Some(LowerKind::Symlink { target }) if links < MAX_LINKS && !is_own => {
                    links += 1;
                    if target.starts_with(b"/") {
                        here.clear();
                    }
                    push_components(&mut ahead, &target);
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(here))
    }
}

impl DirectoryWriter<'_> {
    /// Returns what the layers below have at a path on disk, where this layer has nothing.
    pub(super) fn look_below(&self, physical: &[u8], path: &[u8]) -> Result<Option<LowerNode>, Error> {
        match &self.below {
            // What was replaced, and replaced again, hides what was there first.
            Some(below) if !is_below(physical, &self.fresh) => below.look_up(physical, path),
            _ => Ok(None),
        }
    }

    /// Makes a directory that is below as it is there.
    pub(super) fn copy_directory(
        &mut self,
        parent: &Parent,
        name: &OsStr,
        path: &[u8],
        node: LowerNode,
    ) -> Result<(), Error> {
        let made = self
            .finisher
            .make_directory(parent, name, node.mode)
            .map_err(failed(path))?;
        self.directories
            .copy(&parent.child(name), Attributes::of_lower(node), made);
        self.check_deferred(path)
    }

    /// Makes what is below at `name` in `parent`, which is no directory, as it is there.
    pub(super) fn copy_file(
        &mut self,
        parent: &Parent,
        name: &OsStr,
        node: &LowerNode,
        path: &[u8],
    ) -> Result<(), Error> {
        let physical = parent.child(name);
        self.notes.note(Note::LowerFileCopied, path);
        let copy = node.entry(&physical);
        if matches!(copy.kind, Kind::File { .. })
            && let Some(below) = &self.below
        {
            let mut content = FileContent::new(below.open(&physical, path)?);
            return self.entry(&copy, &mut content);
        }
        self.entry(&copy, &mut super::NoContent)
    }

    /// Says that something was made: a link of the layers below at this place does not lead anywhere any more.
    pub(super) fn made(&mut self, parent: &Parent, name: &OsStr) {
        if let Some(below) = &mut self.below
            && !below.followed.is_empty()
            && below.followed.remove(&parent.child(name))
        {
            self.parents.forget();
        }
    }

    /// Makes the whiteouts and opaque directories of a layer that was extracted against those below it.
    pub(super) fn apply_removals(&mut self) -> Result<(), Error> {
        let Some(below) = &mut self.below else { return Ok(()) };
        // Parents are taken from what the tree was; hidden ones are skipped.
        let (removed, cleared) = below.take_removals();
        let mut opaque = BTreeSet::new();
        let mut left = Vec::new();
        for path in &removed {
            let (parent_path, name) = split(path);
            match self.own_kind(parent_path, name)? {
                Some(FileType::Directory) => {
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
                && self.physical_parent(path, true)?.is_some()
            {
                opaque.insert(path.clone());
            }
        }
        for path in left {
            let (parent_path, name) = split(path);
            if is_below(path, &opaque) || is_below(path, &removed) || is_below(path, &cleared) {
                continue;
            }
            if let Some(parent) = self.physical_parent(parent_path, true)? {
                self.whiteout(&parent, name, path)?;
            }
        }
        self.make_all_opaque(opaque)
    }

    /// Makes opaque what is a directory by now.
    pub(super) fn make_all_opaque(&mut self, opaque: BTreeSet<Vec<u8>>) -> Result<(), Error> {
        for path in opaque {
            let Some(dir) = self.physical_parent(&path, false)? else {
                continue;
            };
            if self.options.whiteouts == Whiteouts::Overlay {
                self.make_opaque(&dir, &path, b"y")?;
            } else {
                self.plain_file(&join(&path, b".wh..wh..opq"))?;
            }
        }
        Ok(())
    }

    fn whiteout(&mut self, parent: &Parent, name: &OsStr, path: &[u8]) -> Result<(), Error> {
        match self.options.whiteouts {
            Whiteouts::Overlay => self.make_whiteout(parent, name, path),
            Whiteouts::Oci => self.plain_file(&join(&parent.path, &[b".wh.", name.as_bytes()].concat())),
        }
    }

    fn plain_file(&mut self, path: &[u8]) -> Result<(), Error> {
        let attributes = Attributes::implied(self.first_time.unwrap_or_default());
        let file = Entry {
            path,
            kind: Kind::File { size: 0 },
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: attributes.mtime,
            xattrs: &[],
        };
        self.entry(&file, &mut super::NoContent)
    }

    /// Returns what this layer itself has at a path on disk.
    fn own_kind(&self, parent: &[u8], name: &OsStr) -> Result<Option<FileType>, Error> {
        let mut dir = Arc::clone(&self.root);
        for component in parent.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let component = OsStr::from_bytes(component);
            match dir.stat(component).map_err(failed(parent))? {
                Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                    dir = Arc::new(dir.open_dir(component).map_err(failed(parent))?);
                }
                Some(stat) => return Ok(Some(FileType::from_raw_mode(stat.st_mode))),
                None => return Ok(None),
            }
        }
        let stat = dir.stat(name).map_err(failed(parent))?;
        Ok(stat.map(|stat| FileType::from_raw_mode(stat.st_mode)))
    }

    /// Returns the directory at a path on disk, following nothing; with `copy`, what is missing is made as it is below.
    fn physical_parent(&mut self, physical: &[u8], copy: bool) -> Result<Option<Parent>, Error> {
        let mut here = Parent {
            dir: Arc::clone(&self.root),
            path: Arc::from(&[][..]),
        };
        for component in physical.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let name = OsStr::from_bytes(component);
            let child = here.child(name);
            match here.dir.stat(name).map_err(failed(physical))? {
                Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {}
                None if copy => match self.look_below(&child, physical)? {
                    Some(node) if node.kind == LowerKind::Directory => {
                        self.copy_directory(&here, name, physical, node)?;
                    }
                    _ => return Ok(None),
                },
                _ => return Ok(None),
            }
            here = Parent {
                dir: Arc::new(here.dir.open_dir(name).map_err(failed(physical))?),
                path: Arc::from(child),
            };
        }
        Ok(Some(here))
    }
}

/// Says whether a directory above `path` is one of `paths`.
pub(crate) fn is_below(path: &[u8], paths: &BTreeSet<Vec<u8>>) -> bool {
    let mut above = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    above.any(|(at, _)| paths.contains(&path[..at]))
}

/// Returns those of `paths` that are below `path`.
pub(super) fn below_of<'p, T>(
    paths: &'p std::collections::BTreeMap<Vec<u8>, T>,
    path: &[u8],
) -> impl Iterator<Item = (&'p Vec<u8>, &'p T)> {
    let first = [path, b"/"].concat();
    let end = first.clone();
    paths
        .range::<[u8], _>((Bound::Included(&first[..]), Bound::Unbounded))
        .take_while(move |(below, _)| below.starts_with(&end))
}
