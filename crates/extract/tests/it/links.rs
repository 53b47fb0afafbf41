//! Symbolic and hard links, and parents that are links.

use unlade_extract::Note;
use unlade_test_support::{Entry, LayerBuilder, NodeKind};

use crate::sandbox::extracted;

#[test]
fn targets_of_symbolic_links_are_kept_byte_for_byte() {
    for target in ["/absolute", "../../../out", "a//b/./c/", "new\nline", "."] {
        let (_, tree) = extracted(&LayerBuilder::new().symlink("link", target));
        assert_eq!(tree.node("link").link_target.as_deref(), Some(target.as_bytes()));
    }
    let (_, tree) = extracted(&LayerBuilder::new().symlink("link", b"\xff\xfe"));
    assert_eq!(tree.node("link").link_target.as_deref(), Some(&b"\xff\xfe"[..]));
}

#[test]
fn hard_links_share_the_inode_and_its_attributes() {
    let (_, tree) = extracted(
        &LayerBuilder::new()
            .file_with("a", "content", |entry| entry.mode(0o600).mtime(100))
            .entry(&Entry::hardlink("b", "./a").mode(0o777).mtime(7))
            .hardlink("dir/c", "/b"),
    );
    for path in ["b", "dir/c"] {
        assert_eq!(tree.node(path).same_inode_as.as_deref(), Some(&b"a"[..]));
    }
    assert_eq!((tree.node("a").mode, tree.node("a").mtime), (0o600, (100, 0)));
}

#[test]
fn a_hard_link_to_a_symbolic_link_links_the_link() {
    let (_, tree) = extracted(&LayerBuilder::new().file("f", "x").symlink("a", "f").hardlink("b", "a"));
    assert_eq!(tree.node("b").kind, NodeKind::Symlink);
    assert_eq!(tree.node("b").same_inode_as.as_deref(), Some(&b"a"[..]));
}

#[test]
fn a_hard_links_target_is_found_through_links_in_its_parent() {
    let (_, tree) = extracted(
        &LayerBuilder::new()
            .file("usr/lib/x", "x")
            .symlink("lib", "usr/lib")
            .hardlink("y", "lib/x"),
    );
    assert!(tree.node("y").same_inode_as.is_some() || tree.node("usr/lib/x").same_inode_as.is_some());
}

#[test]
fn a_hard_link_keeps_the_content_when_its_target_is_replaced() {
    let (_, tree) = extracted(
        &LayerBuilder::new()
            .file("a", "old")
            .hardlink("b", "a")
            .file("a", "newer"),
    );
    assert_eq!((tree.node("a").size, tree.node("b").size), (5, 3));
}

#[test]
fn a_hard_link_to_itself_changes_nothing() {
    let (report, tree) = extracted(&LayerBuilder::new().file("a", "x").hardlink("a", "./a"));
    assert_eq!(tree.node("a").size, 1);
    assert_eq!(report.summary.count(Note::Duplicate), 1);
}

#[test]
fn a_hard_link_into_a_lower_layer_is_recorded_and_makes_nothing() {
    let (report, tree) = extracted(&LayerBuilder::new().hardlink("a/b", "lower/file"));
    assert_eq!(tree.paths(), Vec::<String>::new());
    assert_eq!(report.summary.lower_hard_links.len(), 1);
    assert_eq!(report.summary.lower_hard_links[0].path.to_string(), "a/b");
    assert_eq!(report.summary.lower_hard_links[0].target.to_string(), "lower/file");
    assert!(report.summary.depends_on_lower());
}

#[test]
fn a_parent_that_is_a_link_is_followed_inside() {
    let (report, tree) = extracted(
        &LayerBuilder::new()
            .dir("usr/lib", 0o755)
            .symlink("lib", "usr/lib")
            .dir("lib/d", 0o750)
            .file("lib/d/f", "x"),
    );
    assert_eq!(tree.node("lib").kind, NodeKind::Symlink);
    assert_eq!(tree.node("usr/lib/d").mode, 0o750);
    assert_eq!(tree.node("usr/lib/d/f").size, 1);
    let implied: Vec<_> = report.summary.implied_parents.iter().map(ToString::to_string).collect();
    assert_eq!(implied, ["usr"]);
}

#[test]
fn a_dangling_link_as_a_parent_gets_its_target() {
    let (report, tree) = extracted(&LayerBuilder::new().symlink("lib", "/usr/lib").file("lib/x", "x"));
    assert_eq!(tree.node("usr/lib/x").size, 1);
    let implied: Vec<_> = report.summary.implied_parents.iter().map(ToString::to_string).collect();
    assert_eq!(implied, ["usr", "usr/lib"]);
}

#[test]
fn forty_links_are_followed() {
    let mut layer = LayerBuilder::new().dir("end", 0o755).symlink("l0", "end");
    for number in 1..40 {
        layer = layer.symlink(format!("l{number}"), format!("l{}", number - 1));
    }
    let (_, tree) = extracted(&layer.file("l39/file", "x"));
    assert_eq!(tree.node("end/file").size, 1);
}

#[test]
fn what_a_link_below_may_allow_is_not_refused_yet() {
    // With `d` a link to elsewhere, `d/f` would not be below what the hard link replaces.
    let layer = LayerBuilder::new().file("d/f", "x").hardlink("d", "d/f");
    let (report, tree) = extracted(&layer);
    assert_eq!(tree.paths(), ["d", "d/f"]);
    let undecided: Vec<_> = report.summary.undecided.iter().map(ToString::to_string).collect();
    assert_eq!(undecided, ["d"]);
    assert_eq!(report.summary.count(Note::DecidedByLower), 1);
}
