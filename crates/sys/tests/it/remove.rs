//! Removing trees: deep, wide, forbidden, and full of links. Each case runs with and without the rights of root.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use unlade_sys::{remove_tree, remove_tree_at};

use crate::{directory_for_anyone, fast_directory, names, without_root};

/// Makes a tree called `tree` in a directory, removes it, and checks that nothing is left; as root (if the tests run
/// as root) and as somebody else.
fn check(make: impl Fn(&Path) + Sync) {
    let run = |directory: &Path| {
        make(&directory.join("tree"));
        assert!(directory.join("tree").symlink_metadata().is_ok(), "nothing was made");
        remove_tree(&directory.join("tree")).unwrap();
        assert!(!names(directory).contains(&"tree".to_owned()));
    };
    let directory = fast_directory();
    run(directory.path());
    let directory = directory_for_anyone();
    without_root(|| run(directory.path()));
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn nothing_there() {
    let directory = fast_directory();
    remove_tree(&directory.path().join("missing")).unwrap();
    remove_tree(&directory.path().join("missing/below")).unwrap();
}

#[test]
fn files_and_links() {
    check(|path| fs::write(path, "x").unwrap());
    check(|path| symlink("/", path).unwrap());
    check(|path| {
        fs::write(path, "x").unwrap();
        set_mode(path, 0);
    });
}

#[test]
fn wide() {
    check(|path| {
        fs::create_dir(path).unwrap();
        for number in 0..2_000 {
            fs::write(path.join(format!("a file with a name of some length {number}")), "").unwrap();
            if number % 4 == 0 {
                fs::create_dir(path.join(format!("directory {number}"))).unwrap();
                fs::write(path.join(format!("directory {number}/file")), "").unwrap();
            }
        }
    });
}

#[test]
fn names_are_bytes() {
    use std::os::unix::ffi::OsStrExt as _;
    check(|path| {
        fs::create_dir(path).unwrap();
        for name in [&b"\xff\xfe"[..], b"new\nline", b"...", b" ", &[b'n'; 255]] {
            fs::create_dir(path.join(OsStr::from_bytes(name))).unwrap();
            fs::write(path.join(OsStr::from_bytes(name)).join("file"), "").unwrap();
        }
    });
}

#[test]
fn deep() {
    check(|path| {
        fs::create_dir(path).unwrap();
        let mut current: OwnedFd = openat(CWD, path, OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..5_000 {
            mkdirat(&current, "a directory below", Mode::RWXU).unwrap();
            current = openat(&current, "a directory below", OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
    });
}

#[test]
fn deep_with_few_descriptors_and_a_small_stack() {
    let directory = fast_directory();
    let tree = directory.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let mut current: OwnedFd = openat(CWD, &tree, OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..5_000 {
        mkdirat(&current, "d", Mode::RWXU).unwrap();
        current = openat(&current, "d", OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    drop(current);
    let before = open_descriptors();
    std::thread::scope(|scope| {
        let remover = std::thread::Builder::new().stack_size(64 * 1024);
        let remover = remover.spawn_scoped(scope, || remove_tree(&tree)).unwrap();
        let mut most = before;
        while !remover.is_finished() {
            most = most.max(open_descriptors());
        }
        remover.join().unwrap().unwrap();
        // Other tests may run in this process, and have their own.
        assert!(most < before + 500, "{most} descriptors were open, {before} before");
    });
    assert!(!tree.exists());
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn directories_without_rights() {
    for mode in [0o555, 0o500, 0o400, 0o300, 0o100, 0o600, 0o000] {
        check(|path| {
            fs::create_dir_all(path.join("dir/below/bottom")).unwrap();
            fs::write(path.join("dir/below/bottom/file"), "").unwrap();
            for name in ["dir/below/bottom", "dir/below", "dir", ""] {
                set_mode(&path.join(name), mode);
            }
        });
    }
}

#[test]
fn links_are_removed_and_not_followed() {
    let run = |directory: &Path| {
        let outside = directory.join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "kept").unwrap();
        set_mode(&outside, 0o500);
        let tree = directory.join("tree");
        fs::create_dir(&tree).unwrap();
        symlink(&outside, tree.join("absolute")).unwrap();
        symlink("../outside", tree.join("relative")).unwrap();
        symlink("..", tree.join("above")).unwrap();
        symlink("loop", tree.join("loop")).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert_eq!(fs::read(outside.join("kept")).unwrap(), b"kept");
        assert_eq!(fs::metadata(&outside).unwrap().permissions().mode() & 0o777, 0o500);

        symlink(&outside, &tree).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.is_symlink());
        assert!(outside.join("kept").exists());
        set_mode(&outside, 0o700);
    };
    run(fast_directory().path());
    let directory = directory_for_anyone();
    without_root(|| run(directory.path()));
}

#[test]
fn what_belongs_to_others_is_an_error_with_its_path() {
    if !unlade_sys::is_root() {
        return;
    }
    let directory = directory_for_anyone();
    let tree = directory.path().join("tree");
    fs::create_dir_all(tree.join("theirs/below")).unwrap();
    let error = without_root(|| remove_tree(&tree)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    assert!(error.path.starts_with(&tree), "{error}");
    assert!(tree.join("theirs/below").exists());
}

#[test]
fn two_at_once() {
    let directory = fast_directory();
    let tree = directory.path().join("tree");
    for number in 0..500 {
        fs::create_dir_all(tree.join(format!("{number}/a/b/c"))).unwrap();
        fs::write(tree.join(format!("{number}/a/file")), "").unwrap();
    }
    std::thread::scope(|scope| {
        let removers = [(); 3].map(|()| scope.spawn(|| remove_tree(&tree)));
        for remover in removers {
            remover.join().unwrap().unwrap();
        }
    });
    assert!(!tree.exists());
}

/// Files appear in the tree while it is removed: whatever the end, it is no panic, no hang, and nothing outside.
#[test]
fn a_tree_that_grows_meanwhile() {
    let directory = fast_directory();
    let tree = directory.path().join("tree");
    fs::create_dir_all(tree.join("a/b")).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..50 {
                // The directory may be gone; then there is nothing to add to.
                if fs::write(tree.join(format!("a/b/{number}")), "").is_err() {
                    break;
                }
            }
        });
        remove_tree(&tree).unwrap();
    });
    assert!(!tree.exists());
}

#[test]
fn by_descriptor() {
    let directory = fast_directory();
    fs::create_dir_all(directory.path().join("tree/below")).unwrap();
    let parent = fs::File::open(directory.path()).unwrap();
    let remove = |name: &str| remove_tree_at(parent.as_fd(), OsStr::new(name), Path::new("shown"));
    remove("tree").unwrap();
    assert!(names(directory.path()).is_empty());
    remove("tree").unwrap();
    for name in ["", ".", "..", "a/b"] {
        assert_eq!(
            remove(name).unwrap_err().kind(),
            std::io::ErrorKind::InvalidInput,
            "{name:?}"
        );
    }
}
