//! A database at rest: reading the file alone, while nobody can change it.
//!
//! A first connection to a database with a write-ahead log makes an index of the log, in a file of shared memory, under half a
//! dozen locks: some fifty system calls, whatever is read then. Where the log is empty none of it is needed. The file alone is
//! the database, and two shared locks keep it as it is ([the format](https://www.sqlite.org/walformat.html), 2.3):
//!
//! - byte 123 of the index is what a reader of the file alone holds. Who moves the log into the file needs it alone;
//! - bytes 1073741826 and the 509 after them of the file are what every reader holds. Who closes the last connection, or changes
//!   the kind of the journal, needs them alone.
//!
//! Others may write to the log meanwhile. They are not seen, as if they had come later.
//!
//! # Other connections of this process
//! SQLite's locks are this process's, and closing a descriptor of a file ends all of them on it. So the file is not read like
//! this while this process has the database open, and when it is opened meanwhile, the descriptors stay open.

use std::ops::Range;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use unlade_sys::RangeLock;

use crate::connection::log_length;

/// The lock of readers of the file alone, in the index of the log (`WAL_READ_LOCK(0)`).
const READ_LOCK: Range<u32> = 123..124;
/// The lock of readers, in the file.
const SHARED_LOCK: Range<u32> = 0x4000_0002..0x4000_0200;

static PROCESS: Mutex<Process> = Mutex::new(Process { open: 0, busy: 0 });
static NOT_BUSY: Condvar = Condvar::new();

/// What this process has open, whatever databases they are.
struct Process {
    /// Databases that are open with SQLite's locks.
    open: usize,
    /// Threads that open or close files which are read without them.
    busy: usize,
}

fn process() -> MutexGuard<'static, Process> {
    PROCESS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A database that is open with SQLite's locks, until this is dropped.
#[derive(Debug)]
pub(crate) struct Opened(());

impl Opened {
    pub(crate) fn new() -> Self {
        let mut process = process();
        process.open += 1;
        while process.busy > 0 {
            process = NOT_BUSY.wait(process).unwrap_or_else(PoisonError::into_inner);
        }
        Self(())
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        process().open -= 1;
    }
}

/// While it lives no database is opened with SQLite's locks.
#[derive(Debug)]
pub(crate) struct Busy(());

impl Busy {
    /// Begins; `None` if there is a database that is open with them.
    pub(crate) fn begin() -> Option<Self> {
        let mut process = process();
        if process.open > 0 {
            return None;
        }
        process.busy += 1;
        Some(Self(()))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        process().busy -= 1;
        NOT_BUSY.notify_all();
    }
}

/// The two locks.
#[derive(Debug)]
pub(crate) struct Rest {
    locks: [RangeLock; 2],
}

impl Rest {
    /// Takes the locks, if the database at `path` has a log that is empty and nobody is moving one into the file.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let mut index = path.as_os_str().to_owned();
        index.push("-shm");
        let locks = [
            RangeLock::try_shared(Path::new(&index), &READ_LOCK).ok()??,
            RangeLock::try_shared(path, &SHARED_LOCK).ok()??,
        ];
        // Only now: whatever was in the log is in the file, and stays alone there.
        (log_length(path) == Some(0)).then_some(Self { locks })
    }

    /// Gives the locks back, and keeps the descriptors open.
    pub(crate) fn leak(self) {
        self.locks.into_iter().for_each(RangeLock::leak);
    }
}
