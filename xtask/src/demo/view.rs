//! Layer directories as short texts: what is in one, and what a stack of them shows.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use unlade_test_support::{Node, NodeKind, TreeSnapshot};

/// The attributes that make a directory hide what lower layers have in it, as root and without.
const OPAQUE: [&[u8]; 2] = [b"trusted.overlay.opaque", b"user.overlay.opaque"];

/// What a path of a layer directory does to the layers below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// It is a file, a directory or a link, as it looks.
    Plain,
    /// It removes this path.
    Whiteout,
    /// It hides what lower layers have in this directory.
    Opaque,
}

fn role(node: &Node) -> Role {
    let is_set = |name: &&[u8]| node.xattrs.get(*name).is_some_and(|value| value == b"y");
    if node.kind == NodeKind::CharDevice && node.device == Some((0, 0)) {
        Role::Whiteout
    } else if node.kind == NodeKind::Directory && OPAQUE.iter().any(is_set) {
        Role::Opaque
    } else {
        Role::Plain
    }
}

/// Counts what is in a layer directory: `3 directories, 12 files, 1 whiteout`.
pub(super) fn counts(layer: &TreeSnapshot) -> String {
    let mut counts: BTreeMap<(u8, &str, &str), usize> = BTreeMap::new();
    for (_, node) in layer.iter().filter(|(path, _)| *path != b".") {
        let words = match (role(node), node.kind) {
            (Role::Whiteout, _) => (4, "whiteout", "whiteouts"),
            (Role::Opaque, _) => (5, "opaque directory", "opaque directories"),
            (Role::Plain, NodeKind::Directory) => (0, "directory", "directories"),
            (Role::Plain, NodeKind::File) => (1, "file", "files"),
            (Role::Plain, NodeKind::Symlink) => (2, "symbolic link", "symbolic links"),
            (Role::Plain, _) => (3, "special file", "special files"),
        };
        *counts.entry(words).or_default() += 1;
    }
    let texts = counts.into_iter().map(|((_, one, many), count)| match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {many}"),
    });
    texts.collect::<Vec<_>>().join(", ")
}

/// Lists what a layer directory removes, a line each, as `ls` shows it and what it means; directories first.
pub(super) fn removals(layer: &TreeSnapshot) -> Vec<String> {
    let paths = |wanted: Role| {
        layer
            .iter()
            .filter(move |(_, node)| role(node) == wanted)
            .map(|(path, _)| path)
    };
    let opaque = paths(Role::Opaque).map(|path| {
        format!(
            "dir    {}/    (opaque: hides what lower layers have in it)",
            path.escape_ascii()
        )
    });
    let whiteouts =
        paths(Role::Whiteout).map(|path| format!("c 0:0  {}    (whiteout: removes it)", path.escape_ascii()));
    opaque.chain(whiteouts).collect()
}

/// Lists one directory of the merged tree, with the numbers of the layers (from 1) that have each entry; what the
/// uppermost layers bring comes first.
pub(super) fn merged_directory(merged: &TreeSnapshot, layers: &[TreeSnapshot], directory: &str) -> Vec<String> {
    let prefix = format!("{directory}/");
    let mut entries: Vec<(Reverse<usize>, String)> = merged
        .iter()
        .filter_map(|(path, node)| Some((path, path.strip_prefix(prefix.as_bytes())?, node)))
        .filter(|(_, name, _)| !name.contains(&b'/'))
        .map(|(path, name, node)| {
            let mut from = (1..=layers.len())
                .rev()
                .filter(|number| layers[number - 1].get(path).is_some());
            let upper = from.next().unwrap_or(0);
            let over = from
                .next()
                .map(|lower| format!(", over layer {lower}"))
                .unwrap_or_default();
            let slash = if node.kind == NodeKind::Directory { "/" } else { "" };
            let name = format!("{}{slash}", name.escape_ascii());
            (Reverse(upper), format!("{name:<24} from layer {upper}{over}"))
        })
        .collect();
    entries.sort();
    entries.into_iter().map(|(_, line)| line).collect()
}

/// Shortens a list: what is over the limit is counted.
pub(super) fn shorten(mut lines: Vec<String>, limit: usize) -> Vec<String> {
    if lines.len() > limit {
        let more = lines.len() - (limit - 1);
        lines.truncate(limit - 1);
        lines.push(format!("… and {more} more"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};

    use super::*;

    /// A lower layer with two files, and an upper one that replaces one of them and adds a link.
    fn layers(directory: &Path) -> [PathBuf; 2] {
        let [lower, upper] = ["lower", "upper"].map(|name| directory.join(name));
        fs::create_dir_all(lower.join("etc/sub")).unwrap();
        fs::write(lower.join("etc/a"), "a").unwrap();
        fs::write(lower.join("etc/b"), "b").unwrap();
        fs::create_dir_all(upper.join("etc")).unwrap();
        fs::write(upper.join("etc/b"), "new").unwrap();
        symlink("b", upper.join("etc/c")).unwrap();
        [lower, upper]
    }

    #[test]
    fn layers_are_counted_and_merged() {
        let directory = tempfile::tempdir().unwrap();
        let paths = layers(directory.path());
        let snapshots = paths.clone().map(TreeSnapshot::of);
        assert_eq!(counts(&snapshots[0]), "2 directories, 2 files");
        assert_eq!(counts(&snapshots[1]), "1 directory, 1 file, 1 symbolic link");
        assert_eq!(removals(&snapshots[1]), Vec::<String>::new());
        let merged = TreeSnapshot::merged(&paths);
        let lines = merged_directory(&merged, &snapshots, "etc");
        let words: Vec<String> = lines
            .iter()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            words,
            [
                "b from layer 2, over layer 1",
                "c from layer 2",
                "a from layer 1",
                "sub/ from layer 1"
            ]
        );
    }

    #[test]
    fn long_lists_are_shortened() {
        let lines = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
        assert_eq!(shorten(lines(3), 3), ["0", "1", "2"]);
        assert_eq!(shorten(lines(5), 3), ["0", "1", "… and 3 more"]);
    }
}
