//! Names that come again, as the same or as something else.

use unlade_extract::Note;
use unlade_test_support::{Entry, LayerBuilder, NodeKind};

use crate::sandbox::{extracted, is_root};

fn of_kind(kind: NodeKind, path: &str) -> LayerBuilder {
    let layer = LayerBuilder::new().file("other", "x");
    match kind {
        NodeKind::File => layer.file(path, "content"),
        NodeKind::Directory => layer.dir(path, 0o755).file(format!("{path}/below/it"), "x"),
        NodeKind::Symlink => layer.symlink(path, "other"),
        _ => layer.fifo(path),
    }
}

#[test]
fn any_kind_replaces_any_other() {
    let kinds = [NodeKind::File, NodeKind::Directory, NodeKind::Symlink, NodeKind::Fifo];
    for first in kinds {
        for second in kinds {
            let layer = of_kind(first, "x").raw_bytes(of_kind(second, "x").no_end_marker().tar());
            let (_, tree) = extracted(&layer);
            let made = match second {
                // Where owners are recorded, FIFOs are files that say so.
                NodeKind::Fifo if !is_root() => NodeKind::File,
                other => other,
            };
            assert_eq!(tree.node("x").kind, made, "{first} then {second}");
            assert_eq!(
                tree.has("x/below/it"),
                second == NodeKind::Directory,
                "{first} then {second}"
            );
            assert_eq!(tree.node("other").size, 1, "{first} then {second}");
        }
    }
}

#[test]
fn the_last_of_two_files_wins() {
    let (report, tree) = extracted(
        &LayerBuilder::new()
            .file_with("f", "first", |entry| entry.mode(0o777).xattr("user.first", "x"))
            .file_with("./f", "second", |entry| entry.mode(0o600)),
    );
    let node = tree.node("f");
    assert_eq!((node.size, node.mode), (6, 0o600));
    assert!(!node.xattrs.contains_key(&b"user.first"[..]));
    assert_eq!(report.summary.count(Note::Duplicate), 1);
}

#[test]
fn attributes_of_a_directory_that_is_met_again_are_replaced() {
    let (_, tree) = extracted(
        &LayerBuilder::new()
            .dir_with("d", 0o777, |entry| entry.mtime(5).xattr("user.first", "x"))
            .file("d/f", "x")
            .dir_with("d/", 0o711, |entry| entry.mtime(9)),
    );
    let node = tree.node("d");
    assert_eq!((node.mode, node.mtime), (0o711, (9, 0)));
    assert!(!node.xattrs.contains_key(&b"user.first"[..]));
    assert_eq!(tree.node("d/f").size, 1);
}

#[test]
fn a_parent_that_is_a_file_becomes_a_directory() {
    let (report, tree) = extracted(
        &LayerBuilder::new()
            .file("a", "x")
            .file("a/b", "xy")
            .fifo("c")
            .dir("c/d", 0o700),
    );
    assert_eq!(tree.node("a/b").size, 2);
    assert_eq!(tree.node("c/d").mode, 0o700);
    assert_eq!(report.summary.count(Note::Duplicate), 2);
}

#[test]
fn a_directory_replaces_a_link_to_a_directory() {
    let (_, tree) = extracted(
        &LayerBuilder::new()
            .file("usr/lib/old", "x")
            .symlink("lib", "usr/lib")
            .dir("lib", 0o755)
            .file("lib/new", "x"),
    );
    assert_eq!(tree.node("lib").kind, NodeKind::Directory);
    assert!(tree.has("lib/new") && !tree.has("usr/lib/new") && tree.has("usr/lib/old"));
}

#[test]
fn a_replaced_tree_leaves_no_attributes_behind() {
    // The attributes of `a` and `a/b` wait for the end, when there is something else in their place.
    let (_, tree) = extracted(
        &LayerBuilder::new()
            .dir("a", 0o700)
            .dir("a/b", 0o711)
            .file("a", "x")
            .dir_with("a", 0o755, |entry| entry.mtime(3))
            .file_with("a/b", "x", |entry| entry.mode(0o640).mtime(4)),
    );
    assert_eq!((tree.node("a").mode, tree.node("a").mtime), (0o755, (3, 0)));
    assert_eq!((tree.node("a/b").mode, tree.node("a/b").mtime), (0o640, (4, 0)));
}

#[test]
fn the_parent_in_use_is_not_the_one_that_was_replaced() {
    let (_, tree) = extracted(
        &LayerBuilder::new()
            .dir("real", 0o755)
            .dir("a/b", 0o755)
            .file("a/b/1", "x")
            .file("a/b", "now a file")
            .file("a/b/2", "x")
            .symlink("a/b", "../real")
            .file("a/b/3", "x"),
    );
    assert!(tree.has("real/3"));
    assert_eq!(tree.node("a/b").kind, NodeKind::Symlink);
    assert_eq!(tree.paths().len(), 4, "{:?}", tree.paths());
}

#[test]
fn the_same_path_through_a_link_is_the_same_directory() {
    let (_, tree) = extracted(
        &LayerBuilder::new()
            .entry(&Entry::dir("usr/lib", 0o700))
            .symlink("lib", "usr/lib")
            .dir("lib/d", 0o700)
            .dir("usr/lib/d", 0o711),
    );
    assert_eq!(tree.node("usr/lib/d").mode, 0o711);
}
