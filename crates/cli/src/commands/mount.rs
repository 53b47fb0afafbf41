//! `unlade mount` and `unlade umount`: an image's root filesystem as an overlay mount.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus};

use serde::Serialize;
use unlade_extract::RawPath;
use unlade_images::{Image, MountOptions, Store};

use super::pull;
use crate::arguments;
use crate::error::Error;
use crate::interrupt;
use crate::session::{Report, Session, json_path};

/// Runs `mount`. Layers that are missing are pulled. The exit code is that of the command which runs in the mount, if one
/// does.
pub(crate) fn run(session: &Session, arguments: &arguments::Mount) -> Result<ExitCode, Error> {
    let reference = session.reference(&arguments.name)?;
    let references = std::slice::from_ref(&reference);
    let options = pull::options(session, arguments.obtain.policy);
    let store = session.store()?;
    // What a user namespace has made can only be read in one like it, and the command is to see the same owners.
    Session::enter_user_namespace(&store)?;
    let pulled = pull::find_or_fetch(session, arguments.obtain.progress, &store, references, &options)?;
    let image = pull::only(pulled, &reference)?;
    let options = MountOptions {
        upper: arguments.rw.clone(),
    };
    if let Some((program, rest)) = arguments.command.split_first() {
        let mut command = Command::new(program);
        command.args(rest);
        return run_in(&store, &image, arguments, &options, &mut command);
    }
    let path = store.mount(&image, &arguments.directory, &options)?;
    session.print(&Mounted {
        reference: image.reference.to_string(),
        digest: image.digest().to_string(),
        platform: image.platform.to_string(),
        path: json_path(&path),
        read_only: arguments.rw.is_none(),
        shown: path,
    })?;
    Session::settle(&store, &[image]);
    Ok(ExitCode::SUCCESS)
}

fn run_in(
    store: &Store,
    image: &Image,
    arguments: &arguments::Mount,
    options: &MountOptions,
    command: &mut Command,
) -> Result<ExitCode, Error> {
    let mut mounted = store.mount_for(image, &arguments.directory, options, command)?;
    // The command gets the same signals from the terminal, and decides what they mean.
    interrupt::ignore()?;
    let status = mounted.child.wait().map_err(|source| Error::Runtime { source })?;
    drop(mounted);
    Session::settle(store, std::slice::from_ref(image));
    Ok(exit_code(status))
}

/// Returns a command's exit code, or 128 and the signal that ended it, as shells do.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}

/// Runs `umount`.
pub(crate) fn unmount(session: &Session, arguments: &arguments::Unmount) -> Result<(), Error> {
    Ok(session.store()?.unmount(&arguments.directory)?)
}

#[derive(Serialize)]
struct Mounted {
    reference: String,
    digest: String,
    platform: String,
    path: RawPath,
    read_only: bool,
    #[serde(skip)]
    shown: PathBuf,
}

impl Report for Mounted {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(self.shown.as_os_str().as_bytes())?;
        writeln!(out)
    }
}
