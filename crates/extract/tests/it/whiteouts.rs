//! Whiteouts and opaque directories, in the form of overlayfs and as plain files.

use unlade_extract::Note;
use unlade_test_support::{LayerBuilder, NodeKind};

use crate::sandbox::{Sandbox, extracted};

#[test]
fn a_whiteout_is_a_device() {
    let (_, tree) = extracted(&LayerBuilder::new().dir("a", 0o755).whiteout("a/b").whiteout("c"));
    assert!(tree.is_whiteout("a/b") && tree.is_whiteout("c"));
    assert_eq!(tree.paths(), ["a", "a/b", "c"]);
}

#[test]
fn a_whiteout_spares_what_the_same_layer_brings() {
    for before in [true, false] {
        let layer = LayerBuilder::new().dir("d", 0o755);
        let layer = if before {
            layer
                .whiteout("d/f")
                .file("d/f", "x")
                .whiteout("d/l")
                .symlink("d/l", "f")
        } else {
            layer
                .file("d/f", "x")
                .whiteout("d/f")
                .symlink("d/l", "f")
                .whiteout("d/l")
        };
        let (report, tree) = extracted(&layer);
        assert_eq!(tree.node("d/f").kind, NodeKind::File);
        assert_eq!(tree.node("d/l").kind, NodeKind::Symlink);
        assert!(!tree.is_opaque("d"));
        assert_eq!(report.summary.count(Note::WhiteoutWithoutEffect), 2);
    }
}

#[test]
fn a_directory_removed_and_made_again_is_opaque() {
    for before in [true, false] {
        let layer = LayerBuilder::new();
        let layer = if before {
            layer.whiteout("d").dir("d", 0o755).file("d/f", "x")
        } else {
            layer.dir("d", 0o755).file("d/f", "x").whiteout("d")
        };
        let (_, tree) = extracted(&layer);
        assert!(tree.is_opaque("d") && tree.has("d/f"));
    }
    let (_, tree) = extracted(&LayerBuilder::new().whiteout("implied").file("implied/f", "x"));
    assert!(tree.is_opaque("implied"));
}

#[test]
fn an_opaque_marker_counts_wherever_it_stands() {
    for (first, last) in [(true, false), (false, true)] {
        let mut layer = LayerBuilder::new();
        if first {
            layer = layer.opaque("d");
        }
        layer = layer.dir("d", 0o755).file("d/f", "x");
        if last {
            layer = layer.opaque("d");
        }
        let (_, tree) = extracted(&layer);
        assert!(tree.is_opaque("d"));
        assert_eq!(tree.paths(), ["d", "d/f"]);
    }
    let (_, tree) = extracted(&LayerBuilder::new().file("f", "x").opaque(""));
    assert!(tree.is_opaque("."));
}

#[test]
fn an_opaque_directory_has_no_ghosts() {
    let (_, tree) = extracted(
        &LayerBuilder::new()
            .opaque("d")
            .dir("d/e", 0o755)
            .whiteout("d/ghost")
            .whiteout("d/e/ghost")
            .whiteout("r")
            .dir("r", 0o755)
            .whiteout("r/ghost")
            .opaque("d/e/not-there"),
    );
    assert_eq!(tree.paths(), ["d", "d/e", "r"]);
    assert!(tree.is_opaque("d") && tree.is_opaque("r") && !tree.is_opaque("d/e"));
}

#[test]
fn a_marker_for_a_directory_that_is_not_there_makes_it() {
    let (report, tree) = extracted(&LayerBuilder::new().opaque("a/b").whiteout("a/b/ghost").whiteout("a/c"));
    assert_eq!(tree.paths(), ["a", "a/b", "a/c"]);
    assert!(tree.is_opaque("a/b") && tree.is_whiteout("a/c"));
    let implied: Vec<_> = report.summary.implied_parents.iter().map(ToString::to_string).collect();
    assert_eq!(implied, ["a", "a/b"]);
}

#[test]
fn whiteouts_below_whiteouts_are_hidden_already() {
    let (_, tree) = extracted(&LayerBuilder::new().whiteout("d/bar").whiteout("d").opaque("d/e"));
    assert_eq!(tree.paths(), ["d"]);
    assert!(tree.is_whiteout("d"));
}

#[test]
fn a_whiteout_below_a_file_of_the_same_layer_spares_the_file() {
    let (_, tree) = extracted(&LayerBuilder::new().file("a", "x").whiteout("a/b").opaque("a"));
    assert_eq!(tree.paths(), ["a"]);
    assert_eq!(tree.node("a").kind, NodeKind::File);
}

#[test]
fn a_whiteout_through_a_link_of_the_layer() {
    let layer = LayerBuilder::new()
        .dir("usr/lib", 0o755)
        .symlink("lib", "usr/lib")
        .file("usr/lib/new", "x");
    let (_, tree) = extracted(&layer.whiteout("lib/old").whiteout("lib/new"));
    assert!(tree.is_whiteout("usr/lib/old"));
    assert_eq!(tree.node("usr/lib/new").kind, NodeKind::File);
}

#[test]
fn the_parent_of_a_whiteout_keeps_its_time() {
    let (_, tree) = extracted(
        &LayerBuilder::new()
            .dir_with("d", 0o555, |entry| entry.mtime(77))
            .whiteout("d/f"),
    );
    assert_eq!((tree.node("d").mtime, tree.node("d").mode), ((77, 0), 0o555));
}

#[test]
fn names_of_aufs_are_ignored_and_counted() {
    let layer = LayerBuilder::new()
        .file(".wh..wh.aufs", "")
        .dir(".wh..wh.plnk", 0o700)
        .file(".wh..wh.plnk/1.2", "x");
    let (report, tree) = extracted(&layer.file("d/.wh..wh.orph", ""));
    assert_eq!(tree.paths(), Vec::<String>::new());
    assert_eq!(report.summary.count(Note::AufsIgnored), 4);
}

#[test]
fn as_plain_files() {
    let sandbox = Sandbox::new();
    let layer = LayerBuilder::new()
        .dir("d", 0o755)
        .whiteout("d/f")
        .opaque("d")
        .opaque("")
        .whiteout("g")
        .file("g", "x");
    sandbox.extract_oci(&layer).unwrap();
    let tree = sandbox.tree();
    assert_eq!(
        tree.paths(),
        [".wh..wh..opq", ".wh.g", "d", "d/.wh..wh..opq", "d/.wh.f", "g"]
    );
    assert_eq!(tree.node("d/.wh.f").kind, NodeKind::File);
    assert!(!tree.is_opaque("d"));
    for name in [".wh.", ".wh..", "a/.wh..."] {
        assert!(
            sandbox.extract_oci(&LayerBuilder::new().file(name, "")).is_err(),
            "{name}"
        );
    }
}
