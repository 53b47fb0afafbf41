//! Stacks of layers, made to meet each other: few names, links everywhere, every kind over every other.

use proptest::collection::vec;
use proptest::prelude::*;
use unlade_test_support::{Compression, Entry, Layer, LayerBuilder};

/// What an entry says of itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Meta {
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) time: (i64, u32),
    pub(crate) xattr: Option<u8>,
}

impl Meta {
    pub(super) fn implied(time: (i64, u32)) -> Self {
        Self {
            mode: 0o755,
            owner: (0, 0),
            time,
            xattr: None,
        }
    }
}

/// One entry of a layer. Paths have no leading slash; the empty one is the root.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Dir(String, Meta),
    File(String, Meta, Vec<u8>),
    Link(String, Meta, String),
    Fifo(String, Meta),
    Hard(String, String),
    Whiteout(String, i64),
    Opaque(String, i64),
}

impl Op {
    pub(super) fn time(&self) -> (i64, u32) {
        match self {
            Self::Dir(_, meta) | Self::File(_, meta, _) | Self::Link(_, meta, _) | Self::Fifo(_, meta) => meta.time,
            Self::Hard(..) => (0, 0),
            Self::Whiteout(_, time) | Self::Opaque(_, time) => (*time, 0),
        }
    }

    fn entry(&self) -> Entry {
        let with = |entry: Entry, meta: &Meta| {
            let entry = entry
                .mode(meta.mode)
                .owner(meta.owner.0.into(), meta.owner.1.into())
                .mtime_nanos(meta.time.0, meta.time.1);
            match meta.xattr {
                Some(value) => entry.xattr("user.unlade", [value]),
                None => entry,
            }
        };
        match self {
            Self::Dir(path, meta) if path.is_empty() => with(Entry::dir("./", meta.mode), meta),
            Self::Dir(path, meta) => with(Entry::dir(path, meta.mode), meta),
            Self::File(path, meta, content) => with(Entry::file(path, content), meta),
            Self::Link(path, meta, target) => with(Entry::symlink(path, target), meta),
            Self::Fifo(path, meta) => with(Entry::fifo(path), meta),
            Self::Hard(path, target) => Entry::hardlink(path, target),
            Self::Whiteout(path, time) => {
                let (parent, name) = path
                    .rsplit_once('/')
                    .map_or(("", path.as_str()), |(parent, name)| (parent, name));
                let slash = if parent.is_empty() { "" } else { "/" };
                Entry::file(format!("{parent}{slash}.wh.{name}"), "").mtime(*time)
            }
            Self::Opaque(path, time) => {
                let slash = if path.is_empty() { "" } else { "/" };
                Entry::file(format!("{path}{slash}.wh..wh..opq"), "").mtime(*time)
            }
        }
    }
}

/// Packs a layer. The first bytes make sure that equal entries of different stacks are different layers where it matters
/// not, and the same where it does.
pub(crate) fn pack(layer: &[Op]) -> Layer {
    let mut builder = LayerBuilder::new();
    for op in layer {
        builder.push(&op.entry());
    }
    builder.build(Compression::None)
}

/// What the stacks have most of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bias {
    Anything,
    Links,
    Removals,
    HardLinks,
}

pub(crate) fn stacks(bias: Bias, is_root: bool) -> impl Strategy<Value = Vec<Vec<Op>>> {
    vec(vec(op(bias, is_root), 0..9), 1..=6)
}

fn name() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("a"), Just("b"), Just("c")]
}

fn path() -> impl Strategy<Value = String> {
    vec(name(), 1..=3).prop_map(|names| names.join("/"))
}

fn directory() -> impl Strategy<Value = String> {
    prop_oneof![8 => path(), 1 => Just(String::new())]
}

fn target() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => path(),
        3 => path().prop_map(|path| format!("/{path}")),
        2 => path().prop_map(|path| format!("../{path}")),
        1 => path().prop_map(|path| format!("{path}/..")),
        1 => Just("..".to_owned()),
        1 => Just("nowhere".to_owned()),
    ]
}

fn meta(is_root: bool, has_xattr: bool) -> impl Strategy<Value = Meta> {
    // Without root, some things cannot even be read back.
    let modes: &[u32] = if is_root {
        &[0o755, 0o700, 0o555, 0o644, 0o000, 0o4711, 0o2755, 0o1777]
    } else {
        &[0o755, 0o700, 0o555, 0o744]
    };
    let xattr = if has_xattr {
        prop_oneof![3 => Just(None), 1 => (0u8..3).prop_map(Some)].boxed()
    } else {
        Just(None).boxed()
    };
    (
        prop::sample::select(modes),
        prop::sample::select(&[(0, 0), (0, 0), (1000, 1001), (7, 0)][..]),
        (1i64..100, prop::sample::select(&[0u32, 1, 999_999_999][..])),
        xattr,
    )
        .prop_map(|(mode, owner, time, xattr)| Meta {
            mode,
            owner,
            time,
            xattr,
        })
}

fn op(bias: Bias, is_root: bool) -> impl Strategy<Value = Op> {
    let (links, removals, hard) = match bias {
        Bias::Anything => (3, 3, 2),
        Bias::Links => (8, 3, 1),
        Bias::Removals => (2, 10, 1),
        Bias::HardLinks => (4, 2, 8),
    };
    prop_oneof![
        4 => (directory(), meta(is_root, true)).prop_map(|(path, meta)| Op::Dir(path, meta)),
        5 => (path(), meta(is_root, true), vec(any::<u8>(), 0..4))
            .prop_map(|(path, meta, content)| Op::File(path, meta, content)),
        links => (path(), meta(is_root, false), target()).prop_map(|(path, meta, target)| Op::Link(path, meta, target)),
        1 => (path(), meta(is_root, false)).prop_map(|(path, meta)| Op::Fifo(path, meta)),
        hard => (path(), path()).prop_map(|(path, target)| Op::Hard(path, target)),
        removals => (path(), 1i64..100).prop_map(|(path, time)| Op::Whiteout(path, time)),
        1 => (directory(), 1i64..100).prop_map(|(path, time)| Op::Opaque(path, time)),
    ]
}
