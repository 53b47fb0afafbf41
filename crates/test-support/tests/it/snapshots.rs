//! Snapshots: what they see, how they differ, how layers merge.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};
use unlade_test_support::{NodeKind, TreeSnapshot};

fn write(dir: &Path, path: &str, content: &str) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn a_snapshot_sees_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a/file", "content");
    fs::set_permissions(dir.path().join("a/file"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::hard_link(dir.path().join("a/file"), dir.path().join("a-link")).unwrap();
    symlink("a/file", dir.path().join("soft")).unwrap();
    setxattr(dir.path().join("a/file"), "user.note", b"x\0", XattrFlags::empty()).unwrap();
    mknodat(CWD, dir.path().join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();

    let seen = TreeSnapshot::of(dir.path());
    let file = seen.get("a/file").unwrap();
    assert_eq!((file.kind, file.mode, file.size), (NodeKind::File, 0o4711, 7));
    assert_eq!(file.xattrs[b"user.note".as_slice()], b"x\0");
    assert_eq!(file.same_inode_as.as_deref(), Some(b"a-link".as_slice()));
    assert_eq!(seen.get("a-link").unwrap().same_inode_as, None);
    assert_eq!(
        seen.get("soft").unwrap().link_target.as_deref(),
        Some(b"a/file".as_slice())
    );
    assert_eq!(seen.get("pipe").unwrap().kind, NodeKind::Fifo);
    assert_eq!(seen.len(), 6);
}

#[test]
fn differences_are_readable() {
    let (left, right) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(left.path(), "same", "s");
    write(right.path(), "same", "s");
    write(left.path(), "gone", "");
    write(right.path(), "changed", "two");
    write(left.path(), "changed", "one");
    fs::set_permissions(left.path().join("changed"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(right.path().join("changed"), fs::Permissions::from_mode(0o644)).unwrap();
    let [left, right] = [left, right].map(|dir| TreeSnapshot::of(dir.path()).without_mtimes().without_owners());
    let lines = left.diff(&right);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(
        lines[0],
        "~ changed: mode 0600 ≠ 0644; content 3 bytes 7692c3ad3540 ≠ 3 bytes 3fc4ccfe7458"
    );
    assert!(lines[1].starts_with("- gone: file, "), "{lines:?}");
    left.assert_same(&left.clone());
}

#[test]
fn opaque_directories_hide_what_is_below() {
    let (low, high) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(low.path(), "opaque/hidden", "");
    write(low.path(), "plain/kept", "");
    write(low.path(), "was-dir/inside", "");
    write(high.path(), "opaque/new", "");
    write(high.path(), "plain/added", "");
    write(high.path(), "was-dir", "now a file");
    setxattr(
        high.path().join("opaque"),
        "user.overlay.opaque",
        b"y",
        XattrFlags::empty(),
    )
    .unwrap();
    let merged = TreeSnapshot::merged(&[low.path(), high.path()]);
    let paths: Vec<_> = merged
        .iter()
        .map(|(path, _)| String::from_utf8(path.to_vec()).unwrap())
        .collect();
    assert_eq!(
        paths,
        [
            ".",
            "opaque",
            "opaque/new",
            "plain",
            "plain/added",
            "plain/kept",
            "was-dir"
        ]
    );
    assert!(merged.get("opaque").unwrap().xattrs.is_empty());
}

#[test]
fn privileged_the_kernel_merges_the_same() {
    let layers: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let [low, middle, high] = [&layers[0], &layers[1], &layers[2]].map(tempfile::TempDir::path);
    write(low, "opaque/hidden", "");
    write(low, "removed/with/all", "");
    write(low, "kept", "k");
    fs::hard_link(low.join("kept"), low.join("kept-too")).unwrap();
    write(low, "replaced", "old");
    write(middle, "opaque/new", "");
    write(middle, "replaced", "new");
    write(high, "top", "");
    let whiteout = mknodat(CWD, middle.join("removed"), FileType::CharacterDevice, Mode::empty(), 0);
    let opaque = setxattr(
        middle.join("opaque"),
        "trusted.overlay.opaque",
        b"y",
        XattrFlags::empty(),
    );
    if let Err(error) = whiteout.and(opaque) {
        println!("left out: whiteouts and trusted attributes take root ({error})");
        return;
    }
    let dirs = [low, middle, high];
    match TreeSnapshot::overlay_merged(&dirs) {
        Ok(mounted) => {
            mounted.assert_same(&TreeSnapshot::merged(&dirs));
            assert_eq!(mounted.len(), 7, "{mounted:?}");
            TreeSnapshot::overlay_merged(&[high])
                .unwrap()
                .assert_same(&TreeSnapshot::of(high));
        }
        Err(error) => {
            assert!(
                matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported),
                "{error}"
            );
            println!("left out: {error}");
        }
    }
}
