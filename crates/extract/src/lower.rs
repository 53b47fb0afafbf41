//! What lies below a layer, as far as extracting the layer depends on it.
//!
//! A layer alone does not say everything about its files: a parent that it does not declare may be a symbolic link, or a
//! directory with attributes of its own, in a layer below; a hard link may name a file that only a lower layer has; and
//! what a whiteout removes is found through the links that were there before. [`Lower`] answers such questions.
//!
//! **The order.** A layer first removes, then adds. All its whiteouts and opaque markers act on the tree as it was before
//! the layer, in the order of their paths; then its entries are made in the order of the archive. So a whiteout never
//! hides what its own layer brings, wherever in the archive it stands. [`Removals`] are what the first step needs; they are
//! collected by reading the layer once before ([`read_removals`](crate::read_removals)).
//!
//! **Directories of the layer's own.** A removal below a path that the layer brings as a directory is about that directory.
//! Where a lower layer has a symbolic link at that path, the directory takes its place, and so the removal does not reach
//! what the link leads to: a layer that replaces `lib -> usr/lib` by an opaque `lib` must not clear `usr/lib`. A directory that
//! takes the place of something else of its own layer is made anew: nothing of the layers below is in it, so nothing is
//! removed there.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};

use crate::entry::{Content, Entry, EntrySink, Kind, Time, Xattr};
use crate::{Error, RawPath};

/// The merged tree of the layers below, as it is before the layer is applied.
pub trait Lower: Sync {
    /// Returns what is at `path`, relative to the root; the empty path is the root itself.
    ///
    /// Nothing is followed: a path that leads through a symbolic link, or through something else that is no directory, has
    /// nothing at its end.
    fn look_up(&self, path: &[u8]) -> unlade_sys::Result<Option<LowerNode>>;

    /// Returns the names in the directory `path`, in any order; none if it is no directory.
    fn names(&self, path: &[u8]) -> unlade_sys::Result<Vec<Vec<u8>>>;

    /// Opens the regular file at `path`.
    fn open(&self, path: &[u8]) -> unlade_sys::Result<File>;
}

/// Something in the layers below, with the attributes that it is meant to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LowerNode {
    /// What it is.
    pub kind: LowerKind,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last modification.
    pub mtime: Time,
    /// Extended attributes, as an archive would give them.
    pub xattrs: Box<[Xattr]>,
}

/// What a [`LowerNode`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LowerKind {
    /// A directory.
    Directory,
    /// A regular file of that many bytes.
    File {
        /// Length of the file.
        size: u64,
    },
    /// A symbolic link to that target.
    Symlink {
        /// The target, byte for byte.
        target: Box<[u8]>,
    },
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

impl LowerNode {
    /// Returns the entry by which an archive would bring it to `path`.
    pub fn entry<'a>(&'a self, path: &'a [u8]) -> Entry<'a> {
        Entry {
            path,
            kind: match &self.kind {
                LowerKind::Directory => Kind::Directory,
                LowerKind::File { size } => Kind::File { size: *size },
                LowerKind::Symlink { target } => Kind::Symlink { target },
                LowerKind::CharDevice { major, minor } => Kind::CharDevice {
                    major: *major,
                    minor: *minor,
                },
                LowerKind::BlockDevice { major, minor } => Kind::BlockDevice {
                    major: *major,
                    minor: *minor,
                },
                LowerKind::Fifo => Kind::Fifo,
            },
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime,
            xattrs: &self.xattrs,
        }
    }
}

/// What a layer removes from the layers below: its whiteouts and opaque markers, by path as the archive spells it; and which
/// directories on the way to them are its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removals {
    pub(crate) whiteouts: BTreeSet<Vec<u8>>,
    pub(crate) opaques: BTreeSet<Vec<u8>>,
    /// Paths that the layer brings as directories, of those on the way to what is removed. A link that a lower layer has in
    /// the place of one is not followed.
    pub(crate) directories: BTreeSet<Vec<u8>>,
    bytes: u64,
}

impl Removals {
    /// Says whether the layer removes nothing.
    pub fn is_empty(&self) -> bool {
        self.whiteouts.is_empty() && self.opaques.is_empty()
    }

    /// Returns all paths in order, each with whether it is an opaque marker. Of two for one path the whiteout is first.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = (&Vec<u8>, bool)> {
        let mut all: Vec<_> = self.whiteouts.iter().map(|path| (path, false)).collect();
        all.extend(self.opaques.iter().map(|path| (path, true)));
        all.sort_unstable();
        all.into_iter()
    }

    fn insert(&mut self, entry: &Entry<'_>) {
        let set = match entry.kind {
            Kind::Whiteout => &mut self.whiteouts,
            Kind::Opaque => &mut self.opaques,
            Kind::Directory => &mut self.directories,
            _ => return,
        };
        if set.insert(entry.path.to_vec()) {
            self.bytes += entry.path.len() as u64 + 64;
        }
    }

    /// Forgets what is removed in directories that the layer makes anew: nothing of the layers below is in them.
    fn forget_below(&mut self, anew: &BTreeSet<Vec<u8>>) {
        if anew.is_empty() {
            return;
        }
        let is_elsewhere = |path: &[u8]| ancestors(path).all(|above| !anew.contains(above));
        self.opaques.retain(|path| is_elsewhere(path));
        self.whiteouts.retain(|path| is_elsewhere(parent(path)));
    }

    /// Forgets the directories that are not on the way to anything that is removed.
    fn keep_ways(&mut self) {
        let all = std::mem::take(&mut self.directories);
        for path in self.whiteouts.iter().chain(&self.opaques) {
            let ways = ancestors(path).filter(|above| all.contains(*above));
            self.directories.extend(ways.map(<[u8]>::to_vec));
        }
    }
}

fn parent(path: &[u8]) -> &[u8] {
    &path[..path.iter().rposition(|byte| *byte == b'/').unwrap_or(0)]
}

/// Returns `path` and the directories above it without the root, the uppermost first.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.map(|(at, _)| at).chain([path.len()]).map(|end| &path[..end])
}

/// Takes the removals out of a layer, and lets the rest pass by.
#[derive(Debug)]
pub(crate) struct RemovalSink {
    pub(crate) removals: Removals,
    limit: u64,
    /// What the layer has brought that is no directory, by a hash of the path, since it may be all of the layer; and whether
    /// it is a symbolic link.
    others: HashMap<u64, bool>,
    hasher: RandomState,
    /// Directories that took the place of something else of this layer.
    anew: BTreeSet<Vec<u8>>,
}

impl RemovalSink {
    /// Returns a sink that keeps at most so many bytes of paths.
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            removals: Removals::default(),
            limit,
            others: HashMap::new(),
            hasher: RandomState::new(),
            anew: BTreeSet::new(),
        }
    }

    /// Finds directories that this entry makes in the place of something else: itself, or its parents.
    fn note_anew(&mut self, entry: &Entry<'_>) {
        if matches!(entry.kind, Kind::Whiteout | Kind::Opaque) {
            return;
        }
        let is_directory = entry.kind == Kind::Directory;
        for above in ancestors(entry.path) {
            let is_self = above.len() == entry.path.len();
            let hash = self.hasher.hash_one(above);
            match self.others.get(&hash) {
                Some(_) if is_self && !is_directory => {}
                // A link is followed, unless the directory itself takes its place.
                Some(true) if !is_self => break,
                Some(_) => {
                    self.others.remove(&hash);
                    self.anew.insert(above.to_vec());
                }
                None => {}
            }
        }
        if !is_directory {
            let is_link = matches!(entry.kind, Kind::Symlink { .. });
            self.others.insert(self.hasher.hash_one(entry.path), is_link);
        }
    }
}

impl EntrySink for RemovalSink {
    fn entry(&mut self, entry: &Entry<'_>, _: &mut dyn Content) -> Result<(), Error> {
        self.removals.insert(entry);
        self.note_anew(entry);
        if self.removals.bytes > self.limit {
            return Err(Error::Limit {
                limit: "deferred_bytes",
                value: self.limit,
                path: Some(RawPath::from(entry.path)),
            });
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.removals.forget_below(&self.anew);
        self.removals.keep_ways();
        Ok(())
    }
}
