//! The writer that makes a layer directory: entries → files below a directory descriptor.
//!
//! Nothing is resolved as a string. The parent of an entry is a descriptor ([`parents`]), got with symbolic links resolved
//! inside the root and kept for the entries that follow, which in a tar stream mostly share it; the entry itself is one name
//! below that descriptor, and never followed. A regular file costs four system calls if its owner and mode are what the
//! kernel gives by itself: open, write, set times, close.
//!
//! Two things wait for the end of the stream: attributes of directories ([`directories`]), since making an entry changes the
//! times of its parent and a mode may forbid to make any; and whiteouts ([`whiteouts`]), since a path that the layer itself
//! brings is not hidden, whatever the order of entries.

mod attributes;
mod below;
mod content;
mod directories;
mod helper;
mod names;
mod nodes;
mod notes;
mod parents;
mod tree;
mod whiteouts;
mod xattrs;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::fs::FileType;
use rustix::io::Errno;
use unlade_sys::Dir;

use self::attributes::{Attributes, Environment, Finisher};
pub(crate) use self::attributes::{OVERRIDE_STAT, device_name};
pub(crate) use self::below::{Below, is_below};
pub use self::content::FileContent;
use self::directories::Directories;
use self::helper::Helper;
use self::names::NameHash;
use self::notes::Notes;
pub(crate) use self::parents::join;
use self::parents::{Make, Parent, Parents};
pub use self::tree::TreeWriter;
pub(crate) use self::whiteouts::{OPAQUE_FILE, has_opaque};
pub(crate) use self::xattrs::{Decision as XattrDecision, decide as decide_xattr};
use crate::entry::{Content, Entry, EntrySink, Kind, Time};
use crate::lower::{Lower, LowerKind, Removals};
use crate::summary::LowerHardLink;
use crate::{Error, Note, Options, Progress, RawPath, Summary, Whiteouts};

/// Writes entries below a directory.
#[derive(Debug)]
pub(crate) struct DirectoryWriter<'a> {
    root: Arc<Dir>,
    options: &'a Options,
    finisher: Arc<Finisher>,
    helper: Helper,
    parents: Parents,
    directories: Directories,
    whiteouts: BTreeSet<Vec<u8>>,
    opaques: BTreeSet<Vec<u8>>,
    /// Directories on disk that took the place of something else of this layer: what is below them is hidden.
    fresh: BTreeSet<Vec<u8>>,
    /// Directories on disk that hold whiteouts, or that are there for an opaque marker alone.
    removal_directories: BTreeSet<Vec<u8>>,
    /// The layers below, if they are to be looked at.
    below: Option<Below<'a>>,
    /// Paths, as an archive spells them, at which a link is not followed.
    unfollowed: BTreeSet<Vec<u8>>,
    /// Whether several layers are made into one tree.
    is_tree: bool,
    /// Whether a directory spares a link to a directory.
    keep_links: bool,
    /// Whether files that are at hand as files are linked.
    link_files: bool,
    /// Memory that whiteouts take.
    whiteout_bytes: u64,
    /// Time of the first entry: what directories get that no entry describes.
    first_time: Option<Time>,
    /// Differences by kind, until they are part of the summary.
    notes: Notes,
    summary: Summary,
}

impl<'a> DirectoryWriter<'a> {
    /// Makes a writer into `target`.
    pub(crate) fn new(target: &Dir, options: &'a Options) -> Result<Self, Error> {
        let at_root = |source| Error::Write {
            path: RawPath::default(),
            source,
        };
        let root = Arc::new(target.try_clone().map_err(at_root)?);
        attributes::probe(&root)?;
        let finisher = Arc::new(Finisher {
            root: Arc::clone(&root),
            environment: Environment::of(&root).map_err(at_root)?,
            ownership: options.ownership,
            privilege: options.privilege,
            keeps_nanoseconds: AtomicBool::new(false),
        });
        Ok(Self {
            parents: Parents::new(Arc::clone(&root)),
            root,
            options,
            helper: Helper::new(&options.helpers, &finisher),
            finisher,
            directories: Directories::default(),
            whiteouts: BTreeSet::new(),
            opaques: BTreeSet::new(),
            fresh: BTreeSet::new(),
            removal_directories: BTreeSet::new(),
            below: None,
            unfollowed: BTreeSet::new(),
            is_tree: false,
            keep_links: false,
            link_files: false,
            whiteout_bytes: 0,
            first_time: None,
            notes: Notes::default(),
            summary: Summary::default(),
        })
    }

    /// Lets what a helper does be measured as `progress` says.
    pub(crate) fn timed(mut self, progress: &Progress) -> Self {
        self.helper.timed(progress);
        self
    }

    /// Makes a writer into `target` of a layer that removes `removals` from what is in `lower`, and goes on top of it.
    pub(crate) fn on_top(
        target: &Dir,
        options: &'a Options,
        lower: &'a dyn Lower,
        removals: &Removals,
    ) -> Result<Self, Error> {
        let mut writer = Self::new(target, options)?;
        writer.below = Some(Below::new(lower, removals)?);
        Ok(writer)
    }

    /// Returns what was noted.
    pub(crate) fn into_summary(mut self) -> Summary {
        self.take_summary()
    }

    fn take_summary(&mut self) -> Summary {
        self.notes.move_to(&mut self.summary);
        std::mem::take(&mut self.summary)
    }

    fn directory(&mut self, entry: &Entry<'_>) -> Result<(), Error> {
        let attributes = Attributes::of(entry);
        if entry.path.is_empty() {
            self.summary.root_declared = true;
            self.directories.declare(b"", attributes, None);
            return self.check_deferred(entry.path);
        }
        let (parent, name) = self.place(entry.path)?;
        let physical = parent.child(name);
        let mode = match self.finisher.make_directory(&parent, name, entry.mode) {
            Ok(mode) => {
                self.made(&parent, name);
                mode
            }
            Err(error) if is(&error, Errno::EXIST) => {
                let found = parent.dir.stat(name).map_err(failed(entry.path))?;
                match found.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
                    Some(FileType::Directory) => {
                        if self.directories.is_declared(&physical) && !self.is_tree {
                            self.notes.note(Note::Duplicate, entry.path);
                        }
                        None
                    }
                    kind => {
                        if kind == Some(FileType::Symlink)
                            && self.keep_links
                            && let Some(target) = self.directory_at(entry.path)?
                        {
                            self.directories.declare(&target.path, attributes, None);
                            return self.check_deferred(entry.path);
                        }
                        self.clear_way(&parent, name, entry.path)?;
                        let mode = self.finisher.make_directory(&parent, name, entry.mode);
                        self.fresh.insert(physical.clone());
                        mode.map_err(failed(entry.path))?
                    }
                }
            }
            Err(error) => return Err(failed(entry.path)(error)),
        };
        if self.directories.is_implied(&physical) && !self.is_tree {
            // Until now what is below could be seen here, a link for one.
            self.summary.replaced_parents.push(RawPath::new(&physical[..]));
        }
        self.directories.declare(&physical, attributes, mode);
        self.check_deferred(entry.path)
    }

    fn symlink(&mut self, entry: &Entry<'_>, target: &[u8]) -> Result<(), Error> {
        let (parent, name) = self.place(entry.path)?;
        let target = OsStr::from_bytes(target);
        self.create(&parent, name, entry.path, |_, dir| dir.make_symlink(name, target))?;
        self.finisher.finish_name(&mut self.notes, &parent, name, entry, None)
    }

    fn hard_link(&mut self, entry: &Entry<'_>, target: &[u8]) -> Result<(), Error> {
        let refused = |problem: &str| {
            Error::refused(
                entry.path,
                format!("it is a hard link to {}, {problem}", RawPath::from(target)),
            )
        };
        if target.is_empty() {
            return Err(refused("which is the root"));
        }
        let (target_parent, target_name) = split(target);
        let Some(source) = self.parent(target_parent, Make::Copy)? else {
            return self.lower_hard_link(entry, target);
        };
        self.meet_child(&source, target_name)?;
        match source.dir.stat(target_name).map_err(failed(entry.path))? {
            None => match self.look_below(&source.child(target_name), entry.path)? {
                Some(node) if node.kind == LowerKind::Directory => return Err(refused("which is a directory")),
                Some(node) => self.copy_file(&source, target_name, &node, entry.path)?,
                None => return self.lower_hard_link(entry, target),
            },
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                return Err(refused("which is a directory"));
            }
            Some(_) => {}
        }
        let (parent, name) = self.place(entry.path)?;
        let (from, to) = (source.child(target_name), parent.child(name));
        if from == to {
            self.notes.note(Note::Duplicate, entry.path);
            return Ok(());
        }
        if from.strip_prefix(&to[..]).is_some_and(|rest| rest.starts_with(b"/")) {
            return Err(refused("which it would remove"));
        }
        let link = |_: &Self, dir: &Dir| dir.make_hard_link(name, &source.dir, target_name);
        self.create(&parent, name, entry.path, link).or_else(|error| {
            // Making the parent may have replaced the target, if that was on the way.
            match source.dir.stat(target_name).map_err(failed(entry.path))? {
                Some(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Directory => Err(error),
                _ => Err(refused("which its own parent replaces")),
            }
        })
    }

    fn lower_hard_link(&mut self, entry: &Entry<'_>, target: &[u8]) -> Result<(), Error> {
        if self.below.is_some() || self.is_tree {
            let target = RawPath::from(target);
            let problem = format!("it is a hard link to {target}, which neither this layer nor one below has");
            return Err(Error::refused(entry.path, problem));
        }
        let (parent_path, name) = split(entry.path);
        if let Some(parent) = self.parent(parent_path, Make::Nothing)? {
            self.clear_way(&parent, name, entry.path)?;
        }
        self.notes.note(Note::HardLinkToLower, entry.path);
        self.whiteout_bytes += (entry.path.len() + target.len() + 64) as u64;
        self.summary.lower_hard_links.push(LowerHardLink {
            path: entry.path.into(),
            target: target.into(),
        });
        self.check_deferred(entry.path)
    }

    /// Keeps a whiteout as the file that it is in the archive.
    fn plain_whiteout(&mut self, entry: &Entry<'_>) -> Result<(), Error> {
        match entry.kind {
            Kind::Opaque => self.defer_opaque(entry.path)?,
            _ => self.defer_whiteout(entry.path)?,
        }
        let parent = if entry.kind == Kind::Opaque {
            entry.path
        } else {
            split(entry.path).0
        };
        if self.removal_parent(parent, entry.path, Make::Missing)?.is_none() {
            self.summary.removals_through_links.push(RawPath::from(entry.path));
            self.notes.note(Note::WhiteoutWithoutEffect, entry.path);
            return Ok(());
        }
        let mut path = Vec::with_capacity(entry.path.len() + 16);
        if entry.kind == Kind::Opaque {
            path.extend_from_slice(entry.path);
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(b".wh..wh..opq");
        } else {
            let (parent, name) = split(entry.path);
            path.extend_from_slice(parent);
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(b".wh.");
            path.extend_from_slice(name.as_bytes());
        }
        let file = Entry {
            path: &path,
            kind: Kind::File { size: 0 },
            xattrs: &[],
            ..entry.clone()
        };
        self.file(&file, 0, &mut NoContent)
    }

    /// Returns the parent of `path`, which is made if need be, and its last name, at which nothing is under way.
    fn place<'p>(&mut self, path: &'p [u8]) -> Result<(Parent, &'p OsStr), Error> {
        let (parent, name, _) = self.new_place(path)?;
        Ok((parent, name))
    }

    /// Returns what [`place`](Self::place) does, and what the name is known by if it is new.
    fn new_place<'p>(&mut self, path: &'p [u8]) -> Result<(Parent, &'p OsStr, Option<NameHash>), Error> {
        let (parent, name) = split(path);
        let parent = self.parent(parent, Make::Replacing)?;
        // `Replacing` always ends in a directory.
        let parent = parent.ok_or_else(|| Error::refused(path, "its parent cannot be made"))?;
        let new = self.meet_child(&parent, name)?;
        Ok((parent, name, new))
    }

    /// Makes something with `make`, and again after removing what is in its way.
    fn create<T>(
        &mut self,
        parent: &Parent,
        name: &OsStr,
        path: &[u8],
        make: impl Fn(&Self, &Dir) -> unlade_sys::Result<T>,
    ) -> Result<T, Error> {
        let made = match make(self, &parent.dir) {
            Err(error) if is(&error, Errno::EXIST) => {
                self.clear_way(parent, name, path)?;
                make(self, &parent.dir).map_err(failed(path))?
            }
            other => other.map_err(failed(path))?,
        };
        self.made(parent, name);
        Ok(made)
    }

    /// Removes what is at `name`, a directory with all that is in it.
    fn clear_way(&mut self, parent: &Parent, name: &OsStr, path: &[u8]) -> Result<(), Error> {
        // What is under way may be in the directory that is removed.
        self.catch_up()?;
        let Some(stat) = parent.dir.stat(name).map_err(failed(path))? else {
            return Ok(());
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                if !self.is_tree {
                    self.notes.note(Note::TreeReplaced, path);
                    let implied = self.directories.implied_in(&parent.child(name));
                    self.summary
                        .replaced_parents
                        .extend(implied.into_iter().map(RawPath::new));
                }
                // Descriptors of what is removed must not be used again, and no attributes wait for it.
                self.parents.forget();
                self.directories.remove(&parent.child(name));
                parent.dir.remove_all(name).map_err(failed(path))?;
            }
            file_type => {
                if !self.is_tree {
                    self.notes.note(Note::Duplicate, path);
                }
                if file_type == FileType::Symlink {
                    // It may have been on the way to a parent.
                    self.parents.forget();
                }
                parent.dir.remove_file(name).map_err(failed(path))?;
            }
        }
        Ok(())
    }

    /// Says whether an entry that is refused might not be if the layers below were known: a directory that is only implied
    /// may be a link there, and then entries are elsewhere.
    fn is_uncertain(&self, entry: &Entry<'_>) -> bool {
        let knows_below = self.below.is_some() || self.is_tree;
        let never = matches!(entry.kind, Kind::CharDevice { .. })
            || matches!(entry.kind, Kind::HardLink { target } if target.is_empty());
        let depends = self.directories.has_implied()
            || !self.summary.replaced_parents.is_empty()
            || !self.summary.lower_hard_links.is_empty();
        !knows_below && !never && depends
    }

    fn check_deferred(&self, path: &[u8]) -> Result<(), Error> {
        let value = self.options.limits.deferred_bytes;
        if self.directories.bytes() + self.whiteout_bytes > value {
            return Err(Error::Limit {
                limit: "deferred_bytes",
                value,
                path: Some(RawPath::from(path)),
            });
        }
        Ok(())
    }
}

impl EntrySink for DirectoryWriter<'_> {
    fn entry(&mut self, entry: &Entry<'_>, content: &mut dyn Content) -> Result<(), Error> {
        if self.helper.has_failed() {
            self.settle()?;
        }
        self.first_time.get_or_insert(entry.mtime);
        self.notes.set_entry(self.notes.entry() + 1);
        let is_uncertain = self.is_uncertain(entry);
        let made = match entry.kind {
            Kind::Directory => self.directory(entry),
            Kind::File { size } => self.file(entry, size, content),
            Kind::Symlink { target } => self.symlink(entry, target),
            Kind::HardLink { target } => self.hard_link(entry, target),
            Kind::CharDevice { .. } | Kind::BlockDevice { .. } | Kind::Fifo => self.node(entry),
            // These were taken into account before the first entry.
            Kind::Whiteout | Kind::Opaque if self.below.is_some() || self.is_tree => Ok(()),
            Kind::Whiteout | Kind::Opaque if self.options.whiteouts == Whiteouts::Oci => self.plain_whiteout(entry),
            Kind::Whiteout => self.defer_whiteout(entry.path),
            Kind::Opaque => self.defer_opaque(entry.path),
        };
        match made {
            Err(Error::Refused { .. }) if is_uncertain => {
                self.notes.note(Note::DecidedByLower, entry.path);
                self.whiteout_bytes += (entry.path.len() + 64) as u64;
                self.summary.undecided.push(RawPath::from(entry.path));
                self.check_deferred(entry.path)
            }
            made => made,
        }
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.settle()?;
        self.helper.dismiss();
        if self.is_tree {
            self.end_layer();
            return Ok(());
        }
        if let Some(below) = &self.below {
            if !self.directories.is_known(b"")
                && let Some(root) = below.look_up(b"", b"")?
            {
                self.directories.copy(b"", Attributes::of_lower(root), None);
            }
            self.apply_removals()?;
        } else if self.options.whiteouts == Whiteouts::Oci {
            self.note_plain_removals()?;
        } else {
            self.apply_whiteouts()?;
        }
        let directories = std::mem::take(&mut self.removal_directories);
        self.summary.removal_directories = directories.into_iter().map(RawPath::new).collect();
        self.apply_directories()
    }
}

/// The data of an entry that has none.
struct NoContent;

impl Content for NoContent {
    fn next(&mut self) -> Result<Option<crate::entry::Extent<'_>>, Error> {
        Ok(None)
    }
}

/// Splits a path into its parent and its last component.
fn split(path: &[u8]) -> (&[u8], &OsStr) {
    let (parent, name) = split_bytes(path);
    (parent, OsStr::from_bytes(name))
}

/// Splits a path into its parent and its last component.
pub(crate) fn split_bytes(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

fn is(error: &unlade_sys::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

/// Returns what makes an error of a failed operation at the entry `path`.
pub(crate) fn failed(path: &[u8]) -> impl FnOnce(unlade_sys::Error) -> Error + Copy + '_ {
    move |source| Error::Write {
        path: RawPath::from(path),
        source,
    }
}
