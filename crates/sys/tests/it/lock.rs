//! Locks: who excludes whom, and what happens when the file or the holder goes away.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use unlade_sys::{FileLock, lock_holder};

use crate::{directory_for_anyone, without_root};

#[test]
fn exclusive_excludes_everybody_in_the_same_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lock");
    let lock = FileLock::try_exclusive(&path).unwrap().unwrap();
    assert!(FileLock::try_exclusive(&path).unwrap().is_none());
    assert!(FileLock::try_shared(&path).unwrap().is_none());
    drop(lock);
    assert!(path.exists(), "releasing does not delete");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(FileLock::try_exclusive(&path).unwrap().is_some());
}

#[test]
fn shared_excludes_exclusive_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lock");
    let one = FileLock::shared(&path).unwrap();
    let two = FileLock::try_shared(&path).unwrap().unwrap();
    assert!(FileLock::try_exclusive(&path).unwrap().is_none());
    drop(one);
    assert!(FileLock::try_exclusive(&path).unwrap().is_none());
    drop(two);
    assert!(FileLock::try_exclusive(&path).unwrap().is_some());
}

#[test]
fn existing_does_not_create() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lock");
    assert!(FileLock::try_exclusive_existing(&path).unwrap_err().is_not_found());
    assert!(FileLock::try_shared_existing(&path).unwrap_err().is_not_found());
    assert!(!path.exists());
    // Directories can carry a lock as well.
    let lock = FileLock::try_exclusive_existing(directory.path()).unwrap().unwrap();
    assert!(FileLock::try_shared_existing(directory.path()).unwrap().is_none());
    drop(lock);
}

#[test]
fn an_open_file_can_be_locked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lock");
    let open = || {
        fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .unwrap()
    };
    let lock = FileLock::try_exclusive_file(open(), &path).unwrap().unwrap();
    assert!(FileLock::try_shared_file(open(), &path).unwrap().is_none());
    assert!(FileLock::try_exclusive(&path).unwrap().is_none());
    drop(lock);
    assert!(FileLock::try_shared_file(open(), &path).unwrap().is_some());
}

#[test]
fn a_link_is_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("link");
    std::os::unix::fs::symlink("target", &path).unwrap();
    assert!(FileLock::try_exclusive(&path).is_err());
    assert!(!directory.path().join("target").exists());
}

#[test]
fn shared_works_on_what_may_only_be_read() {
    let directory = directory_for_anyone();
    let path = directory.path().join("lock");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    let lock = without_root(|| FileLock::try_shared(&path)).unwrap().unwrap();
    assert!(FileLock::try_exclusive_existing(&path).unwrap().is_none());
    drop(lock);
}

/// Who takes the exclusive lock of a file means to write to it, and should hear early that this will not work.
#[test]
fn exclusive_needs_the_right_to_write() {
    let directory = directory_for_anyone();
    let path = directory.path().join("lock");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    let error = without_root(|| FileLock::try_exclusive(&path)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    assert!(
        without_root(|| FileLock::try_exclusive_existing(&path))
            .unwrap()
            .is_some()
    );
}

/// A waiter that gets the lock of a file that was deleted meanwhile must not believe that it holds the lock.
#[test]
fn the_lock_is_the_one_at_the_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lock");
    let first = FileLock::exclusive(&path).unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| FileLock::exclusive(&path).unwrap());
        wait_for_waiter(&path);
        fs::remove_file(&path).unwrap();
        drop(first);
        let second = waiter.join().unwrap();
        assert!(path.exists(), "the waiter has made a new file");
        assert!(FileLock::try_exclusive(&path).unwrap().is_none());
        drop(second);
    });
}

/// Every round deletes the file it has locked, and the counter shows that there is never more than one inside.
#[test]
fn deleting_holders_still_exclude_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lock");
    let inside = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let lock = FileLock::exclusive(&path).unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    std::thread::yield_now();
                    assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                    fs::remove_file(&path).unwrap();
                    drop(lock);
                }
            });
        }
    });
}

#[test]
fn a_killed_holder_holds_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lock");
    let mut holder = hold_in_child(&path);
    assert!(FileLock::try_exclusive(&path).unwrap().is_none());
    // `/proc/locks` may not tell, but if it does, it tells the truth.
    assert!(lock_holder(&path).is_none_or(|process| process == holder.id()));
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(FileLock::try_exclusive(&path).unwrap().is_some());
    assert_eq!(lock_holder(&path), None);
}

/// A child that is running when the lock is released has no part in it.
#[test]
fn children_do_not_inherit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lock");
    let lock = FileLock::exclusive(&path).unwrap();
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    drop(lock);
    let free = FileLock::try_exclusive(&path).unwrap().is_some();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(free);
}

const HOLD: &str = "UNLADE_TEST_HOLD_LOCK";

/// Runs this test binary with nothing but [`holder`], which locks `path`; returns when it has.
fn hold_in_child(path: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lock::holder", "--nocapture", "--ignored"])
        .env(HOLD, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    assert!(output.lines().any(|line| line.unwrap().contains("locked")));
    child
}

#[test]
#[ignore = "the other process of a_killed_holder_holds_nothing"]
#[expect(clippy::disallowed_methods, reason = "how the parent tells its child what to do")]
fn holder() {
    let Some(path) = std::env::var_os(HOLD) else { return };
    let lock = FileLock::exclusive(Path::new(&path)).unwrap();
    println!("locked");
    std::thread::sleep(Duration::from_mins(1));
    drop(lock);
}

/// Waits until a thread waits for the lock, as `/proc/locks` shows; for a moment if that does not tell.
fn wait_for_waiter(path: &Path) {
    use std::os::unix::fs::MetadataExt as _;
    let suffix = format!(":{} 0 EOF", fs::metadata(path).unwrap().ino());
    for _ in 0..50 {
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        if locks.lines().any(|line| line.contains("->") && line.ends_with(&suffix)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
