//! Atomic writes, renames and exchanges.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use unlade_sys::{Durability, FileLock, create_atomic_in, exchange, rename_no_replace, write_atomic, write_atomic_in};

use crate::{directory_for_anyone, names, without_root};

#[test]
fn writes_and_replaces_with_the_mode_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    write_atomic(&path, b"one", 0o666).unwrap();
    // No usual umask leaves the group and others the right to write.
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o666);
    write_atomic(&path, b"two", 0o400).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o400);
    assert_eq!(fs::read(&path).unwrap(), b"two");
    assert_eq!(names(directory.path()), ["file"]);
}

#[test]
fn a_failed_write_leaves_what_was_there_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("taken");
    fs::create_dir(&path).unwrap();
    let error = write_atomic(&path, b"x", 0o600).unwrap_err();
    assert_eq!(error.path, path);
    assert_eq!(error.kind(), std::io::ErrorKind::IsADirectory);
    assert_eq!(names(directory.path()), ["taken"]);

    let error = write_atomic(&directory.path().join("no/such/file"), b"x", 0o600).unwrap_err();
    assert!(error.is_not_found(), "{error:?}");
    assert_eq!(names(directory.path()), ["taken"]);

    assert_eq!(
        write_atomic(std::path::Path::new("/"), b"x", 0o600).unwrap_err().kind(),
        std::io::ErrorKind::InvalidInput
    );
}

#[test]
fn a_directory_without_the_right_to_write() {
    let directory = directory_for_anyone();
    let path = directory.path().join("file");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let error = without_root(|| write_atomic(&path, b"x", 0o600)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    assert!(names(directory.path()).is_empty());
}

#[test]
fn the_temporary_file_goes_where_it_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let (staging, target) = (directory.path().join("staging"), directory.path().join("target"));
    fs::create_dir(&staging).unwrap();
    fs::create_dir(&target).unwrap();
    for durability in [Durability::Lazy, Durability::Sync] {
        write_atomic_in(&staging, &target.join("file"), b"x", 0o644, durability).unwrap();
    }
    assert!(names(&staging).is_empty());
    assert_eq!(names(&target), ["file"]);

    // If it went anywhere else, this would work.
    fs::remove_dir(&staging).unwrap();
    assert!(
        write_atomic_in(&staging, &target.join("file"), b"x", 0o644, Durability::Lazy)
            .unwrap_err()
            .is_not_found()
    );
}

#[test]
fn creating_does_not_replace() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let create = |bytes| create_atomic_in(directory.path(), &path, bytes, 0o644, Durability::Sync).unwrap();
    assert!(create(b"first"));
    assert!(!create(b"second"));
    assert_eq!(fs::read(&path).unwrap(), b"first");
    assert_eq!(names(directory.path()), ["file"]);
}

/// A reader that looks all the time sees one of the two contents, whole.
#[test]
fn readers_never_see_a_part() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let contents = [vec![b'a'; 100_000], vec![b'b'; 50_000]];
    write_atomic(&path, &contents[0], 0o644).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..200 {
                write_atomic(&path, &contents[round % 2], 0o644).unwrap();
            }
        });
        while !writer.is_finished() {
            let seen = fs::read(&path).unwrap();
            assert!(contents.contains(&seen), "{} bytes", seen.len());
            std::thread::sleep(Duration::from_micros(50));
        }
    });
    assert_eq!(names(directory.path()), ["file"]);
}

#[test]
fn rename_keeps_what_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("a")).unwrap();
    fs::create_dir(at("empty")).unwrap();
    assert!(!rename_no_replace(&at("a"), &at("empty")).unwrap());
    assert_eq!(names(directory.path()), ["a", "empty"]);
    assert!(rename_no_replace(&at("a"), &at("b")).unwrap());
    assert_eq!(names(directory.path()), ["b", "empty"]);
    assert!(rename_no_replace(&at("a"), &at("c")).unwrap_err().is_not_found());
}

#[test]
fn exchange_swaps_files_and_directories() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("file"), "content").unwrap();
    fs::create_dir(at("dir")).unwrap();
    exchange(&at("file"), &at("dir")).unwrap();
    assert!(at("file").is_dir());
    assert_eq!(fs::read(at("dir")).unwrap(), b"content");
    assert!(exchange(&at("file"), &at("missing")).unwrap_err().is_not_found());
}

#[test]
fn whoever_removes_what_nobody_holds_does_not_disturb_writers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for entry in fs::read_dir(directory.path()).unwrap() {
                    let path = entry.unwrap().path();
                    if path != directory.path().join("file")
                        && let Ok(Some(_lock)) = FileLock::try_exclusive_existing(&path)
                    {
                        fs::remove_file(&path).unwrap();
                    }
                }
            }
        });
        for round in 0..2_000_u32 {
            write_atomic(&path, &round.to_le_bytes(), 0o644).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(fs::read(&path).unwrap(), 1_999_u32.to_le_bytes());
    assert_eq!(names(directory.path()), ["file"]);
}
