//! Generated stacks in the model that the test support has.

use std::collections::BTreeSet;

use unlade_oci::Digest;
use unlade_test_support::{Change, Node, NodeKind, Odd, TreeModel, TreeSnapshot};

use super::generate::{Meta, Op};

/// A [`TreeModel`] that takes the operations of generated layers.
#[derive(Clone, Debug, Default)]
pub(super) struct Model(TreeModel);

impl Model {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Applies a layer without the entries that would be refused, and returns it without them.
    pub(super) fn apply(&mut self, layer: &[Op]) -> Vec<Op> {
        let mut layer = layer.to_vec();
        loop {
            let changes: Vec<_> = layer.iter().map(change).collect();
            match self.0.apply(&changes) {
                Ok(()) => return layer,
                Err(refused) => {
                    layer.remove(refused);
                }
            }
        }
    }

    pub(super) fn tree(&self) -> TreeSnapshot {
        self.0.tree()
    }

    /// Returns the directories of which a mount shows another time.
    pub(super) fn loose(&self) -> BTreeSet<Vec<u8>> {
        self.0.loose()
    }

    /// Returns the directories whose time no entry sets.
    pub(super) fn timeless(&self) -> BTreeSet<Vec<u8>> {
        self.0.timeless()
    }

    /// Returns what was odd in the layer that was applied last: the operation, and the path that it is about.
    pub(super) fn odd(&self) -> Vec<(usize, Odd, String)> {
        let text = |path: Vec<u8>| String::from_utf8(path).unwrap();
        self.0.odd().map(|(at, odd, path)| (at, odd, text(path))).collect()
    }
}

fn change(op: &Op) -> Change {
    let bytes = |path: &String| path.clone().into_bytes();
    let entry = |path: &String, meta: &Meta, kind| {
        let xattr = meta.xattr.map(|value| (b"user.unlade".to_vec(), vec![value]));
        let node = Node {
            mode: if kind == NodeKind::Symlink { 0 } else { meta.mode },
            uid: meta.owner.0,
            gid: meta.owner.1,
            mtime: meta.time,
            xattrs: xattr.into_iter().collect(),
            ..Node::new(kind)
        };
        (bytes(path), node)
    };
    let (path, node) = match op {
        Op::Dir(path, meta) => entry(path, meta, NodeKind::Directory),
        Op::Fifo(path, meta) => entry(path, meta, NodeKind::Fifo),
        Op::File(path, meta, content) => {
            let (path, mut node) = entry(path, meta, NodeKind::File);
            node.size = content.len() as u64;
            node.content = Some(Digest::sha256(content));
            (path, node)
        }
        Op::Link(path, meta, target) => {
            let (path, mut node) = entry(path, meta, NodeKind::Symlink);
            node.link_target = Some(bytes(target));
            (path, node)
        }
        Op::Hard(path, target) => {
            return Change::HardLink {
                path: bytes(path),
                target: bytes(target),
                time: op.time(),
            };
        }
        Op::Whiteout(path, _) => {
            return Change::Whiteout {
                path: bytes(path),
                time: op.time(),
            };
        }
        Op::Opaque(path, _) => {
            return Change::Opaque {
                path: bytes(path),
                time: op.time(),
            };
        }
    };
    Change::Entry { path, node }
}
