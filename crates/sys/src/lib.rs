//! Directory-descriptor file operations, atomic publish, locks and sync for Linux.
//!
//! Everything that unlade asks of the kernel beyond plain reading and writing is here, behind functions whose errors
//! say what was tried and on which path, and what it asks of the processor:
//!
//! | module | what it owns |
//! |---|---|
//! | `dir` | [`Dir`]: operations below a directory descriptor that cannot leave it |
//! | `copy` | [`copy_data`]: the data of one file into another, shared where the filesystem can |
//! | `xattr` | extended attributes by descriptor |
//! | `atomic` | [`write_atomic`], [`rename_no_replace`], [`exchange`]: what becomes visible, becomes visible whole |
//! | `confine` | [`confine_thread`]: a second wall round a thread that works for strangers |
//! | `lock` | [`FileLock`]: advisory locks that die with their holder |
//! | `memory` | [`give_large_memory_back`]: what the allocator keeps |
//! | `mount` | [`mount_overlay`]: many directories shown as one |
//! | `namespace` | [`spawn_with_overlay`]: a command that alone sees such a mount |
//! | `order` | [`enter`]: the order in which kinds of locks are taken, checked in debug builds |
//! | `range` | [`RangeLock`]: shared locks on ranges of files whose format says what they mean |
//! | `remove` | [`remove_tree`]: deletes a tree, however deep and whatever its modes |
//! | `sha256` | [`sha256_of_two`]: two messages hashed at the same time |
//! | `umask` | [`clear_umask_of_thread`]: files that get the modes they are made with |
//! | `usage` | [`DiskUsage`]: the room that files take |
//! | `sync` | [`sync_filesystem`], [`sync_directory`], [`boot_id`]: what has reached the disk, and since when |
//! | `userns` | [`enter_user_namespace`]: files with real owners without root |
//! | `timings` | [`Timings`]: the time and processor time that stages take, and what they wait for |
//! | `host` | [`free_space`], [`is_root`], [`create_private_dir`] |
//!
//! **Invariant:** this is the only crate of the workspace that may hold `unsafe` code, and a module that does opts in
//! with a reason. Four do, `memory`, `namespace`, `sha256` and `userns`; `rustix` covers all else.
//!
//! **Invariant:** nothing here knows what an image, a layer or a blob is.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "unlade-sys needs Linux 5.6 or newer: openat2, renameat2 and flock as Linux has them have no equivalent elsewhere"
);

mod atomic;
mod confine;
mod copy;
mod dir;
mod error;
mod host;
mod lock;
mod memory;
mod mount;
mod namespace;
mod order;
mod range;
mod remove;
mod sha256;
mod sync;
mod timings;
mod umask;
mod usage;
mod userns;
mod xattr;

pub use atomic::{
    Durability, TEMPORARY_PREFIX, create_atomic_in, exchange, rename_no_replace, write_atomic, write_atomic_in,
};
pub use confine::{Unconfined, confine_thread};
pub use copy::{copy_data, next_data};
pub use dir::*;
pub use error::{Error, Result};
pub use host::{FreeSpace, create_dir, create_private_dir, free_space, is_network_filesystem, is_root};
pub use lock::{FileLock, lock_holder};
pub use memory::give_large_memory_back;
pub use mount::{Overlay, is_initial_user_namespace, mount_namespace, mount_overlay, unmount_at};
pub use namespace::spawn_with_overlay;
pub use order::{Entered, LockRank, enter};
pub use range::RangeLock;
pub use remove::{remove_tree, remove_tree_at};
pub use sha256::{CompressTwo, sha256_of_two};
pub use sync::{boot_id, sync_directory, sync_file, sync_filesystem};
pub use timings::{Part, PartTimes, Span, Stage, StageTimes, Timings, TimingsReport, Track, TrackTimes, Wait};
pub use umask::{clear_umask_of_thread, umask_of_thread};
pub use usage::DiskUsage;
pub use userns::{UserNamespaceError, enter_user_namespace};
pub use xattr::*;
