//! Owners, modes, times, extended attributes, devices: as root they are set, without root they are recorded.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use unlade_extract::{Error, Note, Options, Progress, Removals, TreeWriter, extract_layer};
use unlade_oci::{Algorithm, ErrorClass};
use unlade_sys::Dir;
use unlade_test_support::{Compression, Entry, LayerBuilder, Node, NodeKind};

use crate::sandbox::{Sandbox, Tree, extracted, is_root};

const OVERRIDE_STAT: &[u8] = b"user.containers.override_stat";

/// Checks the owner, as set or as recorded.
#[track_caller]
fn assert_owner(node: &Node, uid: u32, gid: u32) {
    if is_root() {
        assert_eq!((node.uid, node.gid), (uid, gid));
        assert!(!node.xattrs.contains_key(OVERRIDE_STAT));
    } else if let NodeKind::File | NodeKind::Directory = node.kind {
        let value = String::from_utf8(node.xattrs[OVERRIDE_STAT].clone()).unwrap();
        // What stands for a FIFO says so.
        let value = value.strip_suffix(":pipe").unwrap_or(&value);
        assert_eq!(value, format!("{uid}:{gid}:{:04o}", node.mode));
    }
}

#[test]
fn modes_are_exact_whatever_the_umask() {
    let modes = [
        0o000, 0o111, 0o400, 0o444, 0o555, 0o644, 0o666, 0o777, 0o1777, 0o2775, 0o4755, 0o6777, 0o7777,
    ];
    let mut layer = LayerBuilder::new();
    for mode in modes {
        layer = layer
            .dir(format!("d{mode:o}"), mode)
            .file_with(format!("d{mode:o}/f{mode:o}"), "x", |entry| entry.mode(mode))
            .entry(&Entry::fifo(format!("p{mode:o}")).mode(mode));
    }
    let sandbox = Sandbox::new();
    sandbox.extract(&layer).unwrap();
    let target = sandbox.target();
    for mode in modes {
        for name in [format!("d{mode:o}"), format!("p{mode:o}")] {
            let found = std::fs::symlink_metadata(target.join(&name)).unwrap().mode() & 0o7777;
            assert_eq!(found, mode, "{name}");
        }
        // Some of the directories must be opened before anybody can look into them.
        let dir = target.join(format!("d{mode:o}"));
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)).unwrap();
        let found = std::fs::metadata(dir.join(format!("f{mode:o}"))).unwrap().mode() & 0o7777;
        assert_eq!(found, mode, "f{mode:o}");
    }
}

#[test]
fn owners() {
    let (report, tree) = extracted(
        &LayerBuilder::new()
            .dir_with("d", 0o755, |entry| entry.owner(1000, 1001))
            .file_with("d/f", "x", |entry| {
                entry.owner(1_516_583_083, 4_294_967_294).mode(0o4755)
            })
            .entry(&Entry::symlink("l", "f").owner(5, 6))
            .entry(&Entry::fifo("p").owner(7, 8))
            .file("root", "x"),
    );
    assert_owner(tree.node("d"), 1000, 1001);
    assert_owner(tree.node("d/f"), 1_516_583_083, 4_294_967_294);
    assert_owner(tree.node("l"), 5, 6);
    assert_owner(tree.node("p"), 7, 8);
    assert_owner(tree.node("root"), 0, 0);
    assert_owner(tree.node("."), 0, 0);
    assert_eq!(tree.node("d/f").mode, 0o4755);
    if is_root() {
        assert!(report.summary.notes.is_empty(), "{:?}", report.summary);
    } else {
        // The directory, two files, the root, the file in place of a FIFO; a link cannot have such an attribute.
        assert_eq!(report.summary.count(Note::OwnerRecorded), 5);
        assert_eq!(report.summary.count(Note::OwnerLost), 1);
    }
}

#[test]
fn the_root_gets_its_own_entry() {
    let (report, tree) = extracted(
        &LayerBuilder::new()
            .file("f", "x")
            .dir_with("./", 0o711, |entry| entry.owner(3, 4).mtime_nanos(55, 66)),
    );
    let root = tree.node(".");
    assert_eq!((root.mode, root.mtime), (0o711, (55, 66)));
    assert_owner(root, 3, 4);
    assert!(report.summary.root_declared);
}

#[test]
fn what_no_entry_describes_gets_the_time_of_the_first() {
    let (report, tree) = extracted(
        &LayerBuilder::new()
            .file_with("a/b/f", "x", |entry| entry.mtime_nanos(1234, 5678))
            .file_with("a/c/f", "x", |entry| entry.mtime(9))
            .dir_with("a/c", 0o700, |entry| entry.mtime(10)),
    );
    for path in [".", "a", "a/b"] {
        assert_eq!(
            (tree.node(path).mode, tree.node(path).mtime),
            (0o755, (1234, 5678)),
            "{path}"
        );
        assert_owner(tree.node(path), 0, 0);
    }
    assert_eq!(tree.node("a/c").mtime, (10, 0));
    let implied: Vec<_> = report.summary.implied_parents.iter().map(ToString::to_string).collect();
    assert_eq!(implied, ["a", "a/b"]);
    assert!(!report.summary.root_declared);
}

#[test]
fn times_have_nanoseconds_and_may_be_negative() {
    let sandbox = Sandbox::new();
    let layer = LayerBuilder::new()
        .dir_with("d", 0o755, |entry| entry.mtime_nanos(1_700_000_000, 1))
        .file_with("d/f", "x", |entry| entry.mtime_nanos(-2, 500_000_000))
        .entry(&Entry::symlink("l", "f").mtime_nanos(1, 999_999_999))
        .entry(&Entry::fifo("p").mtime_nanos(4_000_000_000, 7));
    sandbox.extract(&layer).unwrap();
    let stat = std::fs::symlink_metadata(sandbox.target().join("p")).unwrap();
    let tree = sandbox.tree();
    assert_eq!(tree.node("d").mtime, (1_700_000_000, 1));
    assert_eq!(tree.node("d/f").mtime, (-2, 500_000_000));
    assert_eq!(tree.node("l").mtime, (1, 999_999_999));
    assert_eq!(tree.node("p").mtime, (4_000_000_000, 7));
    // The time of last access is the same; nobody had read the FIFO.
    assert_eq!((stat.atime(), stat.atime_nsec()), (4_000_000_000, 7));
}

#[test]
fn times_beyond_the_filesystem_are_clamped_and_counted() {
    for text in ["99999999999999", "-99999999999999", "999999999999999999999999"] {
        let (report, tree) = extracted(
            &LayerBuilder::new()
                .entry(&Entry::file("f", "x").pax("mtime", text))
                .entry(&Entry::symlink("l", "x").pax("mtime", text))
                .entry(&Entry::dir("d", 0o755).pax("mtime", text)),
        );
        let wanted: i128 = text.parse().unwrap();
        let kept = ["f", "l", "d", "."]
            .iter()
            .filter(|path| i128::from(tree.node(path).mtime.0) == wanted)
            .count() as u64;
        assert_eq!(report.summary.count(Note::TimeClamped), 4 - kept, "{text}");
        assert_eq!(tree.node("f").mtime.0 < 0, text.starts_with('-'));
    }
}

/// Only message queues can be made in that filesystem; with FAT it is the same, which not every kernel has.
#[test]
fn privileged_a_filesystem_without_links_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let run = |command: &str, arguments: &[&str]| {
        let status = std::process::Command::new(command)
            .args(arguments)
            .arg(place.path())
            .status();
        assert!(status.unwrap().success(), "{command} {arguments:?}");
    };
    run("mount", &["-t", "mqueue", "mqueue"]);
    let layer = LayerBuilder::new().file("f", "x").build(Compression::None);
    let outcome = Dir::open(place.path()).map(|target| {
        let (sha, options) = (Algorithm::Sha256, Options::default());
        extract_layer(&layer.bytes[..], &target, sha, sha, &options, &Progress::new())
    });
    run("umount", &[]);
    let error = outcome.unwrap().unwrap_err();
    assert!(matches!(error, Error::NoLinks { .. }), "{error:?}");
    assert_eq!(error.class(), ErrorClass::Storage);
    assert!(error.to_string().contains(place.path().to_str().unwrap()), "{error}");
}

#[test]
fn directories_may_forbid_what_is_in_them() {
    let (_, tree) = extracted(
        &LayerBuilder::new()
            .dir_with("r", 0o555, |entry| entry.mtime(1))
            .dir_with("r/s", 0o555, |entry| entry.mtime(2))
            .file("r/s/f", "x")
            .dir("r/s/t", 0o500)
            .file_with("r/s/t/g", "x", |entry| entry.mode(0o444)),
    );
    assert_eq!((tree.node("r").mode, tree.node("r").mtime), (0o555, (1, 0)));
    assert_eq!((tree.node("r/s").mode, tree.node("r/s").mtime), (0o555, (2, 0)));
    assert_eq!(tree.node("r/s/t/g").mode, 0o444);
}

#[test]
fn the_last_mode_of_a_directory_wins_however_deep_it_is() {
    let (_, tree) = extracted(
        &LayerBuilder::new()
            .dir_with("a/less", 0o777, |entry| entry.mtime(1))
            .dir_with("a/less", 0o711, |entry| entry.mtime(2))
            .dir("a/more", 0o700)
            .dir("a/more", 0o1777)
            .dir("a/set-id", 0o755)
            .dir("a/set-id", 0o2755)
            .dir("a/no-set-id", 0o2755)
            .dir("a/no-set-id", 0o755)
            .file("a/implied/f", "x")
            .dir("a/implied", 0o750)
            .dir("a/again", 0o755)
            .file("a/again", "x")
            .dir_with("a/again", 0o711, |entry| entry.mtime(3))
            .dir("a/back", 0o755)
            .dir("a/back", 0o700)
            .dir("a/back", 0o755)
            .dir("a/forbids", 0o555)
            .dir("a/forbids/e", 0o755)
            .file("a/forbids/e/f", "x"),
    );
    for (path, mode) in [
        ("a/less", 0o711),
        ("a/more", 0o1777),
        ("a/set-id", 0o2755),
        ("a/no-set-id", 0o755),
        ("a/implied", 0o750),
        ("a/again", 0o711),
        ("a/back", 0o755),
        ("a/forbids", 0o555),
        ("a/forbids/e", 0o755),
    ] {
        assert_eq!(tree.node(path).mode, mode, "{path}");
    }
    assert_eq!(tree.node("a/less").mtime, (2, 0));
    assert_eq!(tree.node("a/again").mtime, (3, 0));
}

#[test]
fn nobody_else_gets_to_what_is_made_before_the_end() {
    let sandbox = Sandbox::new();
    let layer = LayerBuilder::new()
        .dir("open", 0o777)
        .dir("open/below", 0o777)
        .file("open/below/set-id", "x")
        .file("implied/below/f", "x")
        .build(Compression::None);
    let (options, sha) = (Options::default(), Algorithm::Sha256);
    let target = Dir::open(&sandbox.target()).unwrap();
    let mut writer = TreeWriter::new(&target, &options).unwrap();
    let removals = Removals::default();
    writer
        .apply(&layer.bytes[..], &removals, sha, sha, &Progress::new())
        .unwrap();
    let before = sandbox.tree();
    for path in ["open", "implied"] {
        assert_eq!(before.node(path).mode, 0o700, "{path}");
    }
    writer.finish().unwrap();
    let after = sandbox.tree();
    for (path, mode) in [("open", 0o777), ("open/below", 0o777), ("implied/below", 0o755)] {
        assert_eq!(after.node(path).mode, mode, "{path}");
    }
}

#[test]
fn devices_and_fifos() {
    let (report, tree) = extracted(
        &LayerBuilder::new()
            .entry(&Entry::char_device("null", 1, 3).mode(0o666).owner(0, 5).mtime(42))
            .entry(&Entry::block_device("sda", 8, 0).mode(0o660))
            .entry(&Entry::char_device("big", 4095, 1_048_575))
            .entry(&Entry::fifo("p").mode(0o622).mtime(43)),
    );
    let fifo = tree.node("p");
    assert_eq!((fifo.mode, fifo.mtime), (0o622, (43, 0)));
    if is_root() {
        assert_eq!(fifo.kind, NodeKind::Fifo);
    } else {
        assert_eq!((fifo.kind, fifo.size), (NodeKind::File, 0));
        assert_eq!(fifo.xattrs[OVERRIDE_STAT], b"0:0:0622:pipe");
        assert_eq!(report.summary.count(Note::FifoAsFile), 1);
    }
    let null = tree.node("null");
    assert_eq!((null.mode, null.mtime), (0o666, (42, 0)));
    if tree.node("null").kind == NodeKind::CharDevice {
        assert_eq!(null.device, Some((1, 3)));
        assert_eq!(tree.node("big").device, Some((4095, 1_048_575)));
        assert_eq!(
            (tree.node("sda").kind, tree.node("sda").device),
            (NodeKind::BlockDevice, Some((8, 0)))
        );
        assert_eq!(report.summary.count(Note::DeviceAsFile), 0);
    } else {
        assert_eq!((null.kind, null.size), (NodeKind::File, 0));
        assert_eq!(null.xattrs[OVERRIDE_STAT], b"0:5:0666:char-1-3");
        assert_eq!(tree.node("sda").xattrs[OVERRIDE_STAT], b"0:0:0660:block-8-0");
        assert_eq!(report.summary.count(Note::DeviceAsFile), 3);
        assert_eq!(
            report.summary.notes[&Note::DeviceAsFile]
                .first
                .as_ref()
                .unwrap()
                .to_string(),
            "null"
        );
    }
}

/// `cap_net_raw=ep` as the kernel stores it.
const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

#[test]
fn extended_attributes() {
    let (report, tree) = extracted(
        &LayerBuilder::new()
            .file_with("f", "x", |entry| {
                entry
                    .mode(0o400)
                    .owner(1000, 1000)
                    .xattr("user.comment", "a\nb\0c")
                    .xattr("user.empty", "")
                    .xattr("security.capability", CAPABILITY)
                    .xattr("security.selinux", "system_u:object_r:bin_t:s0")
            })
            .dir_with("d", 0o555, |entry| {
                entry.xattr("user.dir", "d").xattr("system.nfs4_acl", "x")
            }),
    );
    let f = &tree.node("f").xattrs;
    assert_eq!(f[&b"user.comment"[..]], b"a\nb\0c");
    assert_eq!(f[&b"user.empty"[..]], b"");
    assert_eq!(tree.node("d").xattrs[&b"user.dir"[..]], b"d");
    assert_eq!(report.summary.count(Note::XattrDropped), 2);
    assert!(!f.contains_key(&b"security.selinux"[..]));
    // The capability survives the owner only if it is set after it.
    if is_root() {
        assert_eq!(f[&b"security.capability"[..]], CAPABILITY);
    } else {
        assert_eq!(report.summary.count(Note::XattrRefused), 1);
    }
}

#[test]
fn attributes_that_cannot_be_are_counted() {
    let (report, tree) = extracted(
        &LayerBuilder::new()
            .entry(&Entry::symlink("l", "x").xattr("user.on-a-link", "x"))
            .file_with("f", "x", |entry| {
                entry.xattr("nonsense", "x").xattr("user.large", vec![b'x'; 70_000])
            }),
    );
    assert_eq!(report.summary.count(Note::XattrRefused), 1);
    assert_eq!(report.summary.count(Note::XattrUnsupported), 1);
    assert_eq!(report.summary.count(Note::XattrTooLarge), 1);
    assert_eq!(tree.node("f").size, 1);
}

/// The attribute of an access-control list: version 2, then entries of tag, permissions and id.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

#[test]
fn a_default_access_control_list_is_not_inherited_by_what_the_layer_brings() {
    let none = u32::MAX;
    let default = acl(&[(1, 7, none), (2, 7, 12), (4, 5, none), (16, 7, none), (32, 0, none)]);
    let (report, tree) = extracted(
        &LayerBuilder::new()
            .dir_with("d", 0o755, |entry| entry.xattr("system.posix_acl_default", &default))
            .file_with("d/f", "x", |entry| entry.mode(0o644)),
    );
    if report.summary.count(Note::XattrUnsupported) == 0 {
        assert_eq!(tree.node("d").xattrs[&b"system.posix_acl_default"[..]], default);
    }
    assert_eq!(tree.node("d/f").mode, 0o644);
    assert!(
        !tree
            .node("d/f")
            .xattrs
            .keys()
            .any(|name| name.starts_with(b"system.posix_acl"))
    );
}

#[test]
fn a_set_gid_target_hands_nothing_down() {
    let sandbox = Sandbox::new();
    if is_root() {
        std::os::unix::fs::chown(sandbox.target(), Some(0), Some(1234)).unwrap();
    }
    std::fs::set_permissions(sandbox.target(), std::fs::Permissions::from_mode(0o2755)).unwrap();
    sandbox
        .extract(
            &LayerBuilder::new()
                .dir("d", 0o755)
                .file("d/f", "x")
                .file("g", "x")
                .fifo("d/p")
                .dir("d/e", 0o755)
                .dir("d/e/e", 0o700)
                .file("d/implied/e/f", "x"),
        )
        .unwrap();
    let tree: Tree = sandbox.tree();
    for path in tree.paths() {
        assert_owner(tree.node(&path), 0, 0);
        assert_eq!(tree.node(&path).mode & 0o2000, 0, "{path}");
    }
    assert_eq!(tree.node(".").mode & 0o2000, 0);
    for (path, mode) in [("d/e", 0o755), ("d/e/e", 0o700), ("d/implied/e", 0o755)] {
        assert_eq!(tree.node(path).mode, mode, "{path}");
    }
}
