//! A command that sees a mount which nobody else sees.

#![expect(
    unsafe_code,
    reason = "a child enters its namespaces between fork and exec, where there is no safe interface"
)]

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command};

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::{Error, Overlay, Result, mount_overlay};

/// How far the child has come.
const ENTERED: u8 = 1;
const MOUNTED: u8 = 2;

/// Starts `command` in a mount namespace of its own, in which the overlay is mounted at `target`. The mount goes with the
/// last process there.
///
/// Root needs no more. Anybody else gets a user namespace, too, in which this user is root and other users are nobody.
///
/// # Errors
/// The kernel does not let this user have namespaces, or mount there; or the command cannot be run.
pub fn spawn_with_overlay(command: &mut Command, target: &Path, overlay: &Overlay) -> Result<Child> {
    let failed = |operation, path: &Path, source: io::Error| Error::new(operation, path, source);
    let (mut progress, writer) = io::pipe().map_err(|source| failed("make a pipe for", target, source))?;
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let (place, shown) = (target.to_owned(), overlay.clone());
    let enter = move || {
        let mut flags = UnshareFlags::NEWNS;
        if !user.is_root() {
            flags |= UnshareFlags::NEWUSER;
        }
        // SAFETY: the child has one thread, and the file descriptors stay shared with nobody but its parent's copies.
        unsafe { unshare_unsafe(flags) }?;
        if !user.is_root() {
            fs::write("/proc/self/setgroups", "deny")?;
            fs::write("/proc/self/uid_map", format!("0 {} 1", user.as_raw()))?;
            fs::write("/proc/self/gid_map", format!("0 {} 1", group.as_raw()))?;
        }
        // What is mounted here must not show elsewhere.
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        (&writer).write_all(&[ENTERED])?;
        mount_overlay(&place, &shown).map_err(|error| match error.raw_os_error() {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::ErrorKind::Other.into(),
        })?;
        (&writer).write_all(&[MOUNTED])
    };
    // SAFETY: between fork and exec the closure makes system calls, and allocates, which the C libraries that Rust supports
    // on Linux allow in the child of a process with threads. It takes no lock and touches nothing that the parent shares.
    let spawned = unsafe { command.pre_exec(enter) }.spawn();
    let program = command.get_program().to_owned();
    // The closure, and with it this process' end for writing, must go for the end of the pipe to be seen.
    *command = Command::new(&program);
    spawned.map_err(|source| {
        let mut reached = Vec::new();
        // What it could not tell it has not reached.
        let _read = progress.read_to_end(&mut reached);
        match reached.last() {
            Some(&MOUNTED) => failed("run", Path::new(&program), source),
            Some(_) => failed("mount an overlay at", target, source),
            None => failed("make namespaces for a mount at", target, source),
        }
    })
}
