//! A thread whose files get the very modes that they are made with.

use std::cell::Cell;
use std::fs::File;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{Mode, OFlags};

use crate::{Error, Result};

thread_local! {
    /// Whether this thread has cleared its umask.
    static IS_CLEAR: Cell<bool> = const { Cell::new(false) };
}

/// Gives the calling thread an umask of its own, which takes nothing away, for the rest of its life. Threads that it starts have
/// it too; those that are there keep theirs, since the umask of a process is shared by its threads until one asks for its own.
///
/// With it goes a working directory of its own, which is what it was.
///
/// # Errors
/// The kernel refuses it, as a sandbox may; nothing has changed then.
pub fn clear_umask_of_thread() -> Result<()> {
    unshare(CloneFlags::CLONE_FS)
        .map_err(|errno| Error::new("get an umask for a thread, at", ".", std::io::Error::from(errno)))?;
    rustix::process::umask(Mode::empty());
    IS_CLEAR.set(true);
    Ok(())
}

/// Returns the umask of the calling thread without changing it, which would change it for other threads. `None` if it cannot be
/// known.
pub fn umask_of_thread() -> Option<u32> {
    if IS_CLEAR.get() {
        return Some(0);
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let status = File::from(rustix::fs::open("/proc/thread-self/status", flags, Mode::empty()).ok()?);
    let status = std::io::read_to_string(status).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(value.trim(), 8).ok()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    use std::path::Path;
    use std::thread;

    use super::*;

    fn mode_of_new(path: &Path) -> u32 {
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o777)
            .open(path)
            .unwrap();
        file.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn only_the_thread_and_those_that_it_starts_have_it() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let before = mode_of_new(&at("before"));
        thread::scope(|scope| {
            scope.spawn(|| {
                clear_umask_of_thread().unwrap();
                assert_eq!(umask_of_thread(), Some(0));
                assert_eq!(mode_of_new(&at("thread")), 0o777);
                scope.spawn(|| {
                    assert_eq!(umask_of_thread(), Some(0));
                    assert_eq!(mode_of_new(&at("its thread")), 0o777);
                });
            });
        });
        assert_eq!(mode_of_new(&at("after")), before);
        assert_eq!(umask_of_thread(), Some(0o777 & !before));
    }
}
