//! What the operations do to a real filesystem, with and without the rights of root.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod atomic;
mod host;
mod lock;
mod remove;

/// Calls `f` without the rights of root: as the caller if it has none, else on a thread with the user and group 65534.
///
/// Credentials belong to threads, as far as the kernel is concerned, so the other tests keep theirs.
fn without_root<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    use rustix::process::{Gid, Uid};
    if !unlade_sys::is_root() {
        return f();
    }
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let (user, group) = (Uid::from_raw(UNPRIVILEGED), Gid::from_raw(UNPRIVILEGED));
            rustix::thread::set_thread_groups(&[]).unwrap();
            rustix::thread::set_thread_res_gid(group, group, group).unwrap();
            rustix::thread::set_thread_res_uid(user, user, user).unwrap();
            assert!(!unlade_sys::is_root());
            f()
        });
        thread.join().unwrap()
    })
}

const UNPRIVILEGED: u32 = 65534;

/// A directory in memory, if the system has one: making and removing large trees on a busy disk takes long.
fn fast_directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// A directory that the user of [`without_root`] owns.
fn directory_for_anyone() -> tempfile::TempDir {
    let directory = fast_directory();
    if unlade_sys::is_root() {
        std::os::unix::fs::chown(directory.path(), Some(UNPRIVILEGED), Some(UNPRIVILEGED)).unwrap();
    }
    directory
}

/// The names in a directory, sorted.
fn names(directory: &std::path::Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
