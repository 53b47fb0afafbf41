//! `unlade unpack`: an image's root filesystem as a directory.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde::Serialize;
use unlade_extract::{Count, Note, Progress, RawPath};
use unlade_images::{Image, Process, Store, UnpackOptions, UnpackSource, Unpacked};
use unlade_pull::find_local;
use unlade_reference::Reference;

use super::pull;
use crate::arguments;
use crate::error::Error;
use crate::interrupt;
use crate::session::{Report, Session, json_path};

/// Runs the command.
///
/// An image that is extracted in the store is copied from there. Otherwise its blobs are enough, and those that are missing
/// are fetched.
pub(crate) fn run(session: &Session, arguments: &arguments::Unpack) -> Result<(), Error> {
    let reference = session.reference(&arguments.name)?;
    unlade_images::check_unpack_target(&arguments.directory, arguments.replace)?;
    let store = session.store()?;
    Session::enter_user_namespace(&store)?;
    let image = find(session, arguments, &store, &reference)?;
    let options = UnpackOptions {
        replace: arguments.replace,
        keep_directory_links: arguments.keep_dirlinks,
        link_files: arguments.hardlink,
        limits: session.settings.limits.clone(),
    };
    let progress = Progress::new();
    let unpacked = interrupt::run_blocking(&progress, || {
        Ok(store.unpack(&image, &arguments.directory, &options, &progress)?)
    })?;
    if let Some(path) = &arguments.image_config {
        write_config(&store, &image, &unpacked, path)?;
    }
    session.print(&UnpackedImage::new(&image, &unpacked))?;
    Session::settle(&store, &[image]);
    Ok(())
}

/// Finds the image, or pulls what is missing of it.
fn find(
    session: &Session,
    arguments: &arguments::Unpack,
    store: &Store,
    reference: &Reference,
) -> Result<Image, Error> {
    let references = std::slice::from_ref(reference);
    let mut options = pull::options(session, arguments.obtain.policy);
    // With links kept, layers are applied from their blobs, whatever else is there.
    if !arguments.keep_dirlinks
        && let Some(found) = find_local(store, references, &options)?
    {
        return pull::only(found, reference);
    }
    // A hard link needs a file to link to.
    options.extract = arguments.hardlink;
    let pulled = pull::find_or_fetch(session, arguments.obtain.progress, store, references, &options)?;
    pull::only(pulled, reference)
}

/// What whoever starts a program in the tree needs to know.
#[derive(Serialize)]
struct Start<'a> {
    reference: String,
    digest: &'a unlade_oci::Digest,
    platform: String,
    rootfs: RawPath,
    command: &'a [String],
    environment: &'a [String],
    user: Option<&'a str>,
    working_directory: Option<&'a str>,
    /// The image's configuration as it was received.
    config: Box<serde_json::value::RawValue>,
}

fn write_config(store: &Store, image: &Image, unpacked: &Unpacked, path: &Path) -> Result<(), Error> {
    let inspection = store.inspect(&image.reference, Some(&image.platform))?;
    let process = Process::of(&inspection.config);
    let text = String::from_utf8_lossy(&inspection.config.raw).into_owned();
    let failed = |source: io::Error| Error::File {
        path: path.to_owned(),
        source,
    };
    let start = Start {
        reference: image.reference.to_string(),
        digest: image.digest(),
        platform: inspection.actual_platform.to_string(),
        rootfs: json_path(&unpacked.path),
        command: &process.command,
        environment: &process.environment,
        user: process.user.as_deref(),
        working_directory: process.working_directory.as_deref(),
        config: serde_json::value::RawValue::from_string(text).map_err(|error| failed(error.into()))?,
    };
    let mut bytes = serde_json::to_vec_pretty(&start).map_err(|error| failed(error.into()))?;
    bytes.push(b'\n');
    std::fs::write(path, &bytes).map_err(failed)
}

/// What was made.
#[derive(Serialize)]
struct UnpackedImage<'a> {
    reference: String,
    digest: String,
    platform: String,
    path: RawPath,
    source: &'static str,
    entries: u64,
    /// What was done other than the layers say.
    notes: &'a BTreeMap<Note, Count>,
    #[serde(skip)]
    shown: &'a Path,
}

impl<'a> UnpackedImage<'a> {
    fn new(image: &Image, unpacked: &'a Unpacked) -> Self {
        Self {
            reference: image.reference.to_string(),
            digest: image.digest().to_string(),
            platform: image.platform.to_string(),
            path: json_path(&unpacked.path),
            source: match unpacked.source {
                UnpackSource::Directories => "directories",
                UnpackSource::Blobs => "blobs",
            },
            entries: unpacked.entries,
            notes: &unpacked.summary.notes,
            shown: &unpacked.path,
        }
    }
}

impl Report for UnpackedImage<'_> {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(self.shown.as_os_str().as_bytes())?;
        writeln!(out)?;
        for (note, count) in self.notes {
            if let Some(text) = told(*note) {
                writeln!(out, "  {text}: {}", count.count)?;
            }
        }
        Ok(())
    }
}

/// Returns what a person may want to know of what was done other than the layers say.
fn told(note: Note) -> Option<&'static str> {
    Some(match note {
        Note::OwnerRecorded => "owners recorded, not set",
        Note::OwnerLost => "owners that could be neither set nor recorded",
        Note::DeviceAsFile => "devices made as empty files",
        Note::XattrUnsupported | Note::XattrRefused | Note::XattrTooLarge => "extended attributes left out",
        Note::TimeClamped => "times clamped",
        _ => return None,
    })
}
