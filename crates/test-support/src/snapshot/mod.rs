//! Directory trees as data: taken once, compared as readable lines.

mod overlay;
mod walk;

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io;
use std::path::Path;

use unlade_oci::Digest;

/// A tree: every path below a directory (itself as `.`) with all that `lstat`, the extended attributes and the
/// content tell, but for access and change times and inode numbers.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct TreeSnapshot {
    nodes: BTreeMap<Vec<u8>, Node>,
}

/// One path of a [`TreeSnapshot`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The type.
    pub kind: NodeKind,
    /// The permission bits with set-id and sticky bits; 0 for symbolic links, which have none.
    pub mode: u32,
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
    /// The modification time: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// The size in bytes of a regular file; 0 for everything else.
    pub size: u64,
    /// The digest of a regular file's content; [`None`] also where the file may not be read.
    pub content: Option<Digest>,
    /// The target of a symbolic link.
    pub link_target: Option<Vec<u8>>,
    /// Major and minor number of a device.
    pub device: Option<(u32, u32)>,
    /// The extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first other path (in order of bytes) with the same inode, if that comes before this one.
    pub same_inode_as: Option<Vec<u8>>,
}

/// The type of a [`Node`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
}

impl fmt::Display for NodeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
            Self::CharDevice => "character device",
            Self::BlockDevice => "block device",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
        })
    }
}

impl TreeSnapshot {
    /// Takes the tree below `dir`.
    pub fn of(dir: impl AsRef<Path>) -> Self {
        Self::try_of(dir.as_ref()).expect("a readable tree")
    }

    /// Takes the tree below `dir`, or says what could not be read.
    pub fn try_of(dir: &Path) -> io::Result<Self> {
        walk::walk(dir)
    }

    /// Merges layer directories in overlay form, the lowest first, as the kernel's overlayfs would.
    ///
    /// Character devices 0:0 are whiteouts; directories with the `overlay.opaque` attribute (`trusted.` or `user.`)
    /// hide what is below. Neither the devices nor the attributes are part of the result.
    pub fn merged(layers: &[impl AsRef<Path>]) -> Self {
        Self::try_merged(layers).expect("readable layer directories")
    }

    /// Like [`Self::merged`], or says what could not be read.
    pub fn try_merged(layers: &[impl AsRef<Path>]) -> io::Result<Self> {
        let snapshots: Vec<_> = layers
            .iter()
            .map(|layer| Self::try_of(layer.as_ref()))
            .collect::<io::Result<_>>()?;
        Ok(overlay::merge(&snapshots))
    }

    /// Lets the kernel merge layer directories, the lowest first, and takes the tree that it shows.
    ///
    /// The mount is read-only and attached nowhere. It takes root (or `CAP_SYS_ADMIN`) and Linux 6.5 or newer: where
    /// that is missing the error says so, with a kind of `PermissionDenied` or `Unsupported`, and a test can say that
    /// it was left out.
    pub fn overlay_merged(layers: &[impl AsRef<Path>]) -> io::Result<Self> {
        let layers: Vec<_> = layers.iter().map(AsRef::as_ref).collect();
        overlay::mount_and_walk(&layers)
    }

    /// Returns one path.
    pub fn get(&self, path: impl AsRef<[u8]>) -> Option<&Node> {
        self.nodes.get(path.as_ref())
    }

    /// Returns all paths in order of bytes, with what is there.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_slice(), node))
    }

    /// Returns how many paths there are, the directory itself included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Returns whether there is nothing at all, which no directory gives.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Changes every node, for comparisons that must not see everything.
    #[must_use]
    pub fn map(mut self, change: impl Fn(&[u8], &mut Node)) -> Self {
        for (path, node) in &mut self.nodes {
            change(path, node);
        }
        self
    }

    /// Forgets the modification times of directories.
    #[must_use]
    pub fn without_dir_mtimes(self) -> Self {
        self.map(|_, node| {
            if node.kind == NodeKind::Directory {
                node.mtime = (0, 0);
            }
        })
    }

    /// Forgets all modification times.
    #[must_use]
    pub fn without_mtimes(self) -> Self {
        self.map(|_, node| node.mtime = (0, 0))
    }

    /// Cuts modification times to whole seconds.
    #[must_use]
    pub fn with_whole_seconds(self) -> Self {
        self.map(|_, node| node.mtime.1 = 0)
    }

    /// Forgets owners.
    #[must_use]
    pub fn without_owners(self) -> Self {
        self.map(|_, node| (node.uid, node.gid) = (0, 0))
    }

    /// Forgets extended attributes whose name begins with `prefix`; `""` forgets all.
    #[must_use]
    pub fn without_xattrs(self, prefix: &str) -> Self {
        self.map(|_, node| node.xattrs.retain(|name, _| !name.starts_with(prefix.as_bytes())))
    }

    /// Forgets mode, owner and time of the directory itself, which an image need not say anything about.
    #[must_use]
    pub fn without_root(mut self) -> Self {
        self.nodes.remove(b".".as_slice());
        self
    }

    /// Returns what differs, one line a path: `-` only here, `+` only in `other`, `~` different.
    ///
    /// Comparing with nothing is the way to print a tree.
    pub fn diff(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        let paths: std::collections::BTreeSet<_> = self.nodes.keys().chain(other.nodes.keys()).collect();
        for path in paths {
            let name = path.escape_ascii();
            match (self.nodes.get(path), other.nodes.get(path)) {
                (Some(mine), None) => lines.push(format!("- {name}: {}", mine.describe())),
                (None, Some(theirs)) => lines.push(format!("+ {name}: {}", theirs.describe())),
                (Some(mine), Some(theirs)) if mine != theirs => {
                    lines.push(format!("~ {name}: {}", mine.differences(theirs).join("; ")));
                }
                _ => {}
            }
        }
        lines
    }

    /// Panics with the differences if there are any.
    pub fn assert_same(&self, other: &Self) {
        let lines = self.diff(other);
        assert!(lines.is_empty(), "{} paths differ:\n{}", lines.len(), lines.join("\n"));
    }
}

/// A tree made up rather than taken.
impl FromIterator<(Vec<u8>, Node)> for TreeSnapshot {
    fn from_iter<T: IntoIterator<Item = (Vec<u8>, Node)>>(nodes: T) -> Self {
        Self {
            nodes: nodes.into_iter().collect(),
        }
    }
}

impl fmt::Debug for TreeSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, node) in &self.nodes {
            writeln!(f, "{}: {}", path.escape_ascii(), node.describe())?;
        }
        Ok(())
    }
}

impl Node {
    /// Makes one of which nothing is known but the type: mode 0, owner root, 1970.
    pub fn new(kind: NodeKind) -> Self {
        Self {
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            size: 0,
            content: None,
            link_target: None,
            device: None,
            xattrs: BTreeMap::new(),
            same_inode_as: None,
        }
    }

    /// Returns the fields as name and text, in the order in which people look at them.
    fn fields(&self) -> Vec<(String, String)> {
        let mut fields = vec![
            ("type".to_owned(), self.kind.to_string()),
            ("mode".to_owned(), format!("{:04o}", self.mode)),
            ("owner".to_owned(), format!("{}:{}", self.uid, self.gid)),
            ("mtime".to_owned(), format!("{}.{:09}", self.mtime.0, self.mtime.1)),
        ];
        if self.kind == NodeKind::File {
            let content = self.content.as_ref().map_or("unreadable", Digest::short);
            fields.push(("content".to_owned(), format!("{} bytes {content}", self.size)));
        }
        if let Some(target) = &self.link_target {
            fields.push(("target".to_owned(), target.escape_ascii().to_string()));
        }
        if let Some((major, minor)) = self.device {
            fields.push(("device".to_owned(), format!("{major}:{minor}")));
        }
        if let Some(first) = &self.same_inode_as {
            fields.push(("same inode as".to_owned(), first.escape_ascii().to_string()));
        }
        for (name, value) in &self.xattrs {
            fields.push((
                format!("xattr {}", name.escape_ascii()),
                format!("\"{}\"", value.escape_ascii()),
            ));
        }
        fields
    }

    fn describe(&self) -> String {
        let mut text = String::new();
        for (number, (name, value)) in self.fields().iter().enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            // Writing to a string cannot fail.
            let _infallible = match name.as_str() {
                "type" | "mode" | "owner" => write!(text, "{separator}{value}"),
                _ => write!(text, "{separator}{name} {value}"),
            };
        }
        text
    }

    fn differences(&self, other: &Self) -> Vec<String> {
        let (mine, theirs) = (self.fields(), other.fields());
        let mut names: Vec<&String> = Vec::new();
        for (name, _) in mine.iter().chain(&theirs) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let value = |fields: &[(String, String)], wanted: &String| {
            let found = fields.iter().find(|(name, _)| name == wanted);
            found.map_or_else(|| "none".to_owned(), |(_, value)| value.clone())
        };
        names
            .into_iter()
            .map(|name| (name, value(&mine, name), value(&theirs, name)))
            .filter(|(_, mine, theirs)| mine != theirs)
            .map(|(name, mine, theirs)| format!("{name} {mine} ≠ {theirs}"))
            .collect()
    }
}
