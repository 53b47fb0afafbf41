//! A tree in the form in which all ways are compared.

use std::collections::{BTreeMap, BTreeSet};

use unlade_extract::{Entry, EntryContent, EntrySink, Error, Kind};
use unlade_test_support::{NodeKind, TreeSnapshot};

use super::is_root;
use super::model::Model;
use unlade_oci::Digest;

/// Where owner and mode are without root.
const OVERRIDE_STAT: &[u8] = b"user.containers.override_stat";

/// Which hard links must be there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Links {
    /// Those of the model.
    All,
    /// At most those of the model: a link to a file of a lower layer may be one to a copy.
    Some,
}

/// One path. What is not known is none.
#[derive(Clone, Debug, PartialEq)]
struct Node {
    kind: &'static str,
    mode: Option<u32>,
    owner: Option<(u32, u32)>,
    time: (i64, u32),
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    content: Option<Digest>,
    target: Option<Vec<u8>>,
    inode: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Shown(BTreeMap<Vec<u8>, Node>);

impl Shown {
    pub(super) fn of_model(model: &Model) -> Self {
        let tree = model.tree();
        let nodes = tree.iter().map(|(path, meant)| {
            let node = Node {
                kind: word(meant.kind),
                mode: (meant.kind != NodeKind::Symlink).then_some(meant.mode),
                owner: Some((meant.uid, meant.gid)),
                time: meant.mtime,
                xattrs: meant.xattrs.clone(),
                content: meant.content.clone(),
                target: meant.link_target.clone(),
                inode: meant.same_inode_as.clone().unwrap_or_else(|| path.to_vec()),
            };
            (path.to_vec(), node)
        });
        Self(nodes.collect())
    }

    pub(super) fn of_snapshot(snapshot: &TreeSnapshot) -> Self {
        let nodes = snapshot.iter().map(|(path, found)| {
            let mut xattrs = found.xattrs.clone();
            let recorded = xattrs.remove(OVERRIDE_STAT).filter(|_| !is_root());
            let recorded = recorded.map(|value| String::from_utf8(value).unwrap());
            let mut owner = is_root().then_some((found.uid, found.gid));
            // Without root an empty file stands for a FIFO, and the record says so.
            let mut is_pipe = false;
            if let Some(text) = &recorded {
                let mut parts = text.split(':');
                let mut number = || parts.next().unwrap().parse().unwrap();
                owner = Some((number(), number()));
                assert_eq!(
                    u32::from_str_radix(parts.next().unwrap(), 8).unwrap(),
                    found.mode,
                    "{text}"
                );
                is_pipe = parts.next() == Some("pipe");
            }
            let node = Node {
                kind: if is_pipe { "fifo" } else { word(found.kind) },
                mode: (found.kind != NodeKind::Symlink).then_some(found.mode),
                owner,
                time: found.mtime,
                xattrs,
                content: found.content.clone().filter(|_| !is_pipe),
                target: found.link_target.clone(),
                inode: found.same_inode_as.clone().unwrap_or_else(|| path.to_vec()),
            };
            (path.to_vec(), node)
        });
        Self(nodes.collect())
    }

    /// Says what is different in `actual`. Times of `loose` directories are not compared.
    pub(super) fn differences(&self, actual: &Self, links: Links, loose: Option<&BTreeSet<Vec<u8>>>) -> Vec<String> {
        let mut lines = Vec::new();
        if self.0.is_empty() {
            // Nothing says when the root of a tree without entries was made.
            let others = actual.0.keys().filter(|path| **path != b".");
            return others.map(|path| format!("+ {}", path.escape_ascii())).collect();
        }
        for path in self.0.keys().chain(actual.0.keys()).collect::<BTreeSet<_>>() {
            match (self.0.get(path), actual.0.get(path)) {
                (Some(expected), Some(actual)) => {
                    let mut actual = actual.clone();
                    actual.inode.clone_from(&expected.inode);
                    actual.owner = actual.owner.or(expected.owner);
                    actual.content = actual.content.or_else(|| expected.content.clone());
                    if loose.is_some_and(|loose| loose.contains(path)) {
                        actual.time = expected.time;
                    }
                    if *expected != actual {
                        lines.push(format!(
                            "~ {}:\n   expected {expected:?}\n     actual {actual:?}",
                            path.escape_ascii()
                        ));
                    }
                }
                (Some(expected), None) => lines.push(format!("- {}: {expected:?}", path.escape_ascii())),
                (_, Some(actual)) => lines.push(format!("+ {}: {actual:?}", path.escape_ascii())),
                (None, None) => {}
            }
        }
        if lines.is_empty() {
            let (mine, theirs) = (self.pairs(), actual.pairs());
            lines.extend(theirs.difference(&mine).map(|pair| format!("linked: {pair:?}")));
            if links == Links::All {
                lines.extend(mine.difference(&theirs).map(|pair| format!("not linked: {pair:?}")));
            }
        }
        lines
    }

    /// Returns all pairs of paths that are one file.
    fn pairs(&self) -> BTreeSet<(String, String)> {
        let mut pairs = BTreeSet::new();
        let text = |path: &[u8]| path.escape_ascii().to_string();
        for (a, one) in &self.0 {
            for (b, other) in self.0.range(a.clone()..).skip(1) {
                if one.inode == other.inode {
                    pairs.insert((text(a), text(b)));
                }
            }
        }
        pairs
    }
}

/// Takes the entries of a view.
#[derive(Debug, Default)]
pub(super) struct Collect(Shown);

impl Collect {
    pub(super) fn shown(self) -> Shown {
        self.0
    }
}

impl EntrySink for Collect {
    fn entry(&mut self, entry: &Entry<'_>, content: &mut dyn EntryContent) -> Result<(), Error> {
        let path = name(&String::from_utf8_lossy(entry.path));
        let mut data = Vec::new();
        while let Some(extent) = content.next()? {
            data.resize(usize::try_from(extent.offset).unwrap(), 0);
            data.extend_from_slice(extent.data);
        }
        let kind = match entry.kind {
            Kind::Directory => "directory",
            Kind::File { .. } => "file",
            Kind::Symlink { .. } => "symlink",
            Kind::Fifo => "fifo",
            Kind::HardLink { target } => {
                let node = self.0.0[target].clone();
                self.0.0.insert(path, node);
                return Ok(());
            }
            _ => "something else",
        };
        let is_special = matches!(entry.kind, Kind::Symlink { .. } | Kind::Fifo);
        let node = Node {
            kind,
            mode: (!matches!(entry.kind, Kind::Symlink { .. })).then_some(entry.mode),
            // Without root, links and special files do not tell.
            owner: (is_root() || !is_special).then_some((entry.uid, entry.gid)),
            time: (entry.mtime.seconds, entry.mtime.nanoseconds),
            xattrs: entry
                .xattrs
                .iter()
                .map(|xattr| (xattr.name.to_vec(), xattr.value.to_vec()))
                .collect(),
            content: matches!(entry.kind, Kind::File { .. }).then(|| Digest::sha256(&data)),
            target: match entry.kind {
                Kind::Symlink { target } => Some(target.to_vec()),
                _ => None,
            },
            inode: path.clone(),
        };
        self.0.0.insert(path, node);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

fn word(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::Directory => "directory",
        NodeKind::File => "file",
        NodeKind::Symlink => "symlink",
        NodeKind::Fifo => "fifo",
        _ => "something else",
    }
}

fn name(path: &str) -> Vec<u8> {
    if path.is_empty() {
        b".".to_vec()
    } else {
        path.as_bytes().to_vec()
    }
}
