//! Pulls by a user without rights: everything that can be done is done, and what cannot be is recorded and counted.

use std::collections::BTreeMap;

use unlade_test_support::{Node, NodeKind, TreeSnapshot, fixtures};
use unlade_tests::{Home, NOBODY, Pulled};

use crate::support::serve;

/// Where the owner, the mode and the device are that a user cannot give to a file.
const OVERRIDE_STAT: &[u8] = b"user.containers.override_stat";

/// Fails the test unless a user's layer directories are those of root but for what takes root's rights.
///
/// Paths, types, modes, times, content, links and whiteouts are the same. Owners are recorded, devices and FIFOs are files that
/// say so, opaque directories have the user's attribute, and what else takes rights is left out.
pub(crate) fn assert_as_root_but_for_rights(as_user: &Pulled, as_root: &Pulled) {
    assert_eq!(as_user.directories.len(), as_root.directories.len());
    for (user, root) in as_user.directories.iter().zip(&as_root.directories) {
        let (user, root) = (TreeSnapshot::of(user), TreeSnapshot::of(root));
        for (path, node) in user.iter() {
            assert_eq!((node.uid, node.gid), (NOBODY, NOBODY), "{}", path.escape_ascii());
            let meant = root
                .get(path)
                .unwrap_or_else(|| panic!("only the user has {}", path.escape_ascii()));
            assert_recorded(path, node, meant);
        }
        let expected = root.map(|_, node| {
            (node.uid, node.gid) = (NOBODY, NOBODY);
            if (is_device(node) || node.kind == NodeKind::Fifo) && !is_whiteout(node) {
                (node.kind, node.device) = (NodeKind::File, None);
                node.content = Some(unlade_oci::Digest::sha256(""));
            }
            if node.xattrs.remove(b"trusted.overlay.opaque".as_slice()).is_some() {
                node.xattrs.insert(b"user.overlay.opaque".to_vec(), b"y".to_vec());
            }
            node.xattrs.remove(b"security.capability".as_slice());
        });
        // A whiteout has no time that would mean anything.
        let without_whiteout_times = |tree: TreeSnapshot| {
            tree.map(|_, node| {
                if is_whiteout(node) {
                    node.mtime = (0, 0);
                }
            })
        };
        let user = without_whiteout_times(user.without_xattrs("user.containers."));
        user.assert_same(&without_whiteout_times(expected));
    }
}

/// Checks the record of what a file was meant to be, where the kernel lets one be kept.
fn assert_recorded(path: &[u8], node: &Node, meant: &Node) {
    let recorded = node
        .xattrs
        .get(OVERRIDE_STAT)
        .map(|value| value.escape_ascii().to_string());
    let device = match (meant.kind, meant.device) {
        (NodeKind::CharDevice, Some((major, minor))) => format!(":char-{major}-{minor}"),
        (NodeKind::BlockDevice, Some((major, minor))) => format!(":block-{major}-{minor}"),
        (NodeKind::Fifo, _) => ":pipe".to_owned(),
        _ => String::new(),
    };
    let expected = match node.kind {
        NodeKind::File | NodeKind::Directory => Some(format!("{}:{}:{:04o}{device}", meant.uid, meant.gid, meant.mode)),
        _ => None,
    };
    // A directory that no entry declares has nothing that it was meant to be.
    if node.kind == NodeKind::Directory && recorded.is_none() {
        return;
    }
    assert_eq!(recorded, expected, "{}", path.escape_ascii());
}

fn is_device(node: &Node) -> bool {
    matches!(node.kind, NodeKind::CharDevice | NodeKind::BlockDevice)
}

fn is_whiteout(node: &Node) -> bool {
    node.kind == NodeKind::CharDevice && node.device == Some((0, 0))
}

/// Adds up, over all layers, how often something was done other than the layer says.
fn notes(home: &Home, reference: &str) -> BTreeMap<String, u64> {
    let inspected = home.unlade(["inspect", reference]).run().success().json();
    let layers = inspected[0]["Unlade"]["Layers"]
        .as_array()
        .expect("a list of layers")
        .clone();
    let mut notes = BTreeMap::new();
    for layer in layers {
        let counts = layer["Summary"]["notes"]
            .as_object()
            .expect("a summary with notes")
            .clone();
        for (note, count) in counts {
            *notes.entry(note).or_default() += count["count"].as_u64().expect("a count");
        }
    }
    notes
}

#[test]
fn privileged_every_entry_type_is_for_ordinary_users_too() {
    let (_registry, reference) = serve(&fixtures::all_entry_types());
    let (root, user) = (Home::new(), Home::of_nobody());
    let as_root = root.pull(&reference);
    let as_user = user.pull(&reference);
    assert_as_root_but_for_rights(&as_user, &as_root);

    let layers: Vec<_> = as_root.directories.iter().map(TreeSnapshot::of).collect();
    let count = |wanted: &dyn Fn(&Node) -> bool| {
        let nodes = layers.iter().flat_map(|layer| layer.iter().map(|(_, node)| node));
        nodes.filter(|node| wanted(node)).count() as u64
    };
    let notes = notes(&user, &reference);
    assert_eq!(
        notes["device-as-file"],
        count(&|node| is_device(node) && !is_whiteout(node)),
        "{notes:?}"
    );
    assert_eq!(
        notes["fifo-as-file"],
        count(&|node| node.kind == NodeKind::Fifo),
        "{notes:?}"
    );
    assert!(notes["owner-recorded"] > 0, "{notes:?}");
    let cannot_be_set =
        |node: &Node| node.xattrs.contains_key(b"security.capability".as_slice()) && node.same_inode_as.is_none();
    assert_eq!(notes["xattr-refused"], count(&cannot_be_set), "{notes:?}");

    let removed = user.unlade(["rm", &reference]).run().success();
    assert!(removed.stderr.is_empty(), "{removed}");
    user.leftovers().assert_nothing();
    assert!(user.images().is_empty());
}

#[test]
fn unprivileged_every_entry_type_is_pulled_and_removed() {
    let (_registry, reference) = serve(&fixtures::all_entry_types());
    let home = Home::new();
    let pulled = home.pull(&reference);
    let merged = pulled.merged();
    let closed = merged.get("dir/closed").expect("a directory that may not be written");
    assert_eq!(closed.mode, 0o555);
    assert!(merged.get("dir/closed/inside").is_some());
    assert!(closed.xattrs[OVERRIDE_STAT].ends_with(b":0555"), "{closed:?}");
    let notes = notes(&home, &reference);
    assert!(notes["device-as-file"] > 0 && notes["owner-recorded"] > 0, "{notes:?}");
    home.unlade(["rm", &reference]).run().success();
    home.leftovers().assert_nothing();
}

#[test]
fn privileged_every_layer_has_a_record_of_its_extraction() {
    let image = fixtures::all_entry_types();
    let (_registry, reference) = serve(&image);
    assert_eq!(
        assert_records_are_shown(&Home::new(), &reference),
        0,
        "root can do all of it"
    );
    assert!(assert_records_are_shown(&Home::of_nobody(), &reference) > 3);
}

#[test]
fn unprivileged_every_layer_has_a_record_of_its_extraction() {
    let (_registry, reference) = serve(&fixtures::all_entry_types());
    assert!(assert_records_are_shown(&Home::new(), &reference) > 3);
}

/// Checks that the first pull, a later one from the store, and an inspection in both forms show the same records. Returns how
/// many kinds of things they have.
fn assert_records_are_shown(home: &Home, reference: &str) -> usize {
    let json = |arguments: &[&str]| home.unlade(arguments.iter().copied()).run().success().json();
    let pulled = || json(&["--format", "json", "pull", reference])[0]["layers"].clone();
    let cold = pulled();
    assert_eq!(pulled(), cold, "a layer that was there already");
    let inspected = &json(&["inspect", reference])[0]["Unlade"]["Layers"];
    let shown = home.unlade(["--format", "text", "inspect", reference]).run().success();
    let layers = cold.as_array().expect("a list of layers");
    assert_eq!(layers.len(), 2);
    for (at, layer) in layers.iter().enumerate() {
        let summary = &layer["summary"];
        assert_eq!(&inspected[at]["Summary"], summary);
        let line = format!("    {} entr", summary["entries"]);
        assert!(shown.stdout.contains(&line), "{line:?} in {shown}");
    }
    assert_eq!(layers[0]["summary"]["bytes"].as_u64(), Some(bytes_of(home, reference)));
    // One line for each kind, and none for what did not happen.
    let kinds: usize = layers
        .iter()
        .map(|layer| layer["summary"]["notes"].as_object().expect("notes").len())
        .sum();
    let lines = shown.stdout.lines().filter(|line| line.contains(", first ")).count();
    assert_eq!(lines, kinds, "{shown}");
    kinds
}

/// Adds up the lengths of the files of the lowest layer, each inode once.
fn bytes_of(home: &Home, reference: &str) -> u64 {
    let pulled = home.pull(reference);
    let tree = TreeSnapshot::of(&pulled.directories[0]);
    let files = tree
        .iter()
        .filter(|(_, node)| node.kind == NodeKind::File && node.same_inode_as.is_none());
    files.map(|(_, node)| node.size).sum()
}
