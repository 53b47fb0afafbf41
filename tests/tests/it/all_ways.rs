//! The same root filesystem in every way: from an overlay mount, from layer directories and from blobs, as root and as another
//! user, and in a model in memory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use unlade_test_support::{Image, NodeKind, TreeSnapshot, fixtures, write_layout};
use unlade_tests::{Home, NOBODY, python};

use crate::support::serve;

/// Compares all ways with the layers of a layout as Python reads them and a model applies them, for root and for another user,
/// who both have pulled the image. Returns root's tree.
pub(crate) fn assert_as_the_model(root: &Home, user: &Home, reference: &str, layout: &Path, tag: &str) -> TreeSnapshot {
    let model = python::model_of(layout, tag);
    let (expected, loose) = (model.tree(), model.loose());
    let tree = all_ways(root, reference, &loose);
    tree.assert_same(&expected);
    all_ways_as_nobody(user, reference, &loose).assert_same(&as_nobody(expected));
    tree
}

/// Makes an image into a tree in all ways, which must give the same, and returns it. A mount shows another time of `loose`
/// directories: that of the layer which needs them and does not declare them.
fn all_ways(pulled: &Home, reference: &str, loose: &BTreeSet<Vec<u8>>) -> TreeSnapshot {
    let kept = Home::new();
    let from_directories = TreeSnapshot::of(unpack(pulled, reference, "rootfs", "directories"));
    let from_blobs = TreeSnapshot::of(unpack(&kept, reference, "rootfs", "blobs"));
    from_directories.assert_same(&from_blobs);
    let mounted = Mounted::of(pulled, reference);
    let shown = without_times(TreeSnapshot::of(&mounted.target), loose);
    shown.assert_same(&without_times(from_directories.clone(), loose));
    drop(mounted);
    assert!(std::fs::read_dir(pulled.path("mounted")).unwrap().next().is_none());
    from_directories
}

/// The same as an ordinary user: unpacked in both ways, and mounted for a command in a namespace.
fn all_ways_as_nobody(pulled: &Home, reference: &str, loose: &BTreeSet<Vec<u8>>) -> TreeSnapshot {
    let kept = Home::of_nobody();
    let directory = unpack(pulled, reference, "rootfs", "directories");
    let from_directories = TreeSnapshot::of(&directory);
    let from_blobs = TreeSnapshot::of(unpack(&kept, reference, "rootfs", "blobs"));
    from_directories.assert_same(&from_blobs);

    let target = pulled.path("home/mounted");
    let refused = pulled.unlade(["mount", reference]).args([&target]).run();
    assert_eq!(refused.code(), Some(9), "{refused}");
    assert!(refused.stderr.contains("-- COMMAND"), "{refused}");
    // A command in a namespace of the same kind reads what was unpacked: owners, also those in ACLs, look the same to it.
    let seen = |directory: &Path| {
        let mount = pulled.unlade(["mount", reference]).args([&target]);
        let printer = python::tree_printer(directory);
        let printed = mount.args(["--"]).args(printer).run().success();
        without_times(python::printed_tree(&printed.stdout), loose)
    };
    seen(&target).assert_same(&seen(&directory));
    assert!(std::fs::read_dir(&target).unwrap().next().is_none());
    let failed = pulled
        .unlade(["mount", reference])
        .args([&target])
        .args(["--", "sh", "-c", "exit 42"])
        .run();
    assert_eq!(failed.code(), Some(42), "{failed}");
    from_directories
}

fn without_times(tree: TreeSnapshot, of: &BTreeSet<Vec<u8>>) -> TreeSnapshot {
    tree.map(|path, node| {
        if of.contains(path) {
            node.mtime = (0, 0);
        }
    })
}

/// Returns what an ordinary user gets of a tree: the owner of all, the meant owners and modes in an attribute, empty files for
/// devices and FIFOs, and no attribute that takes rights.
fn as_nobody(tree: TreeSnapshot) -> TreeSnapshot {
    tree.map(|_, node| {
        let special = match (node.kind, node.device.take()) {
            (NodeKind::CharDevice, Some((major, minor))) => Some(format!(":char-{major}-{minor}")),
            (NodeKind::BlockDevice, Some((major, minor))) => Some(format!(":block-{major}-{minor}")),
            (NodeKind::Fifo, _) => Some(":pipe".to_owned()),
            _ => None,
        };
        if special.is_some() {
            node.kind = NodeKind::File;
            node.content = Some(unlade_oci::Digest::sha256(""));
        }
        node.xattrs.retain(|name, _| !name.starts_with(b"security."));
        if node.kind != NodeKind::Symlink {
            let meant = (node.uid, node.gid, node.mode, special.unwrap_or_default());
            let record = format!("{}:{}:{:04o}{}", meant.0, meant.1, meant.2, meant.3);
            let name = b"user.containers.override_stat".to_vec();
            node.xattrs.insert(name, record.into_bytes());
        }
        (node.uid, node.gid) = (NOBODY, NOBODY);
    })
}

/// Unpacks an image below the home: from what is there if it was pulled, else from its blobs.
fn unpack(home: &Home, reference: &str, name: &str, source: &str) -> PathBuf {
    let target = home.path("home").join(name);
    let command = home.unlade(["--format", "json", "unpack", reference]).args([&target]);
    let result = command.run().success().json();
    assert_eq!(result["source"], source);
    target
}

/// A mount, until it is dropped.
struct Mounted<'a> {
    home: &'a Home,
    target: PathBuf,
}

impl<'a> Mounted<'a> {
    fn of(home: &'a Home, reference: &str) -> Self {
        let target = home.path("mounted");
        home.unlade(["mount", reference]).args([&target]).run().success();
        Self { home, target }
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ended = self.home.unlade(["umount"]).args([&self.target]).run();
    }
}

/// Compares an image that is made here.
fn made_is_as_the_model(image: &Image) -> TreeSnapshot {
    let (_registry, reference) = serve(image);
    let layout = tempfile::tempdir().unwrap();
    write_layout(layout.path(), &[("made", image)]).unwrap();
    let (root, user) = (Home::new(), Home::of_nobody());
    root.pull(&reference);
    user.pull(&reference);
    assert_as_the_model(&root, &user, &reference, layout.path(), "made")
}

#[test]
fn privileged_real_every_entry_type_is_the_same_in_all_ways_and_in_the_model() {
    let tree = made_is_as_the_model(&fixtures::all_entry_types());
    let has = |wanted: NodeKind| tree.iter().any(|(_, node)| node.kind == wanted);
    assert!(has(NodeKind::BlockDevice) && has(NodeKind::Fifo) && has(NodeKind::Symlink));
}

#[test]
fn privileged_real_sixty_layers_are_the_same_in_all_ways_and_in_the_model() {
    made_is_as_the_model(&fixtures::many());
}
