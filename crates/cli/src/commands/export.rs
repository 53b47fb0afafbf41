//! `unlade export`: an image out of the store, as files that other tools read.

use std::io::{self, IsTerminal as _, Write};
use std::path::Path;

use serde::Serialize;
use unlade_extract::RawPath;
use unlade_images::{ArchiveForm, Exported, Selection, Store};

use crate::arguments::{self, ExportForm, Platforms};
use crate::error::Error;
use crate::session::{Report, Session, json_path};

/// Runs the command. To the standard output goes the archive and nothing else.
pub(crate) fn run(session: &Session, arguments: &arguments::Export, form: ExportForm) -> Result<(), Error> {
    let reference = session.reference(&arguments.name)?;
    let selection = match &arguments.platform {
        None => Selection::Last,
        Some(Platforms::One(platform)) => Selection::Platform(platform.clone()),
        Some(Platforms::All) => Selection::All,
    };
    let to_stdout = arguments.output == Path::new("-");
    let form = match form {
        ExportForm::OciLayout if to_stdout => {
            return Err(usage(
                "an OCI layout is a directory, it cannot go to the standard output",
                "oci-archive is one as a stream",
            ));
        }
        ExportForm::OciLayout => {
            let exported = session
                .store()?
                .export_layout(&reference, &selection, &arguments.output)?;
            return session.print(&Done::new(&exported, "oci-layout", &arguments.output));
        }
        ExportForm::OciArchive => ArchiveForm::Oci,
        ExportForm::DockerArchive => ArchiveForm::Docker,
        ExportForm::Tar => ArchiveForm::Rootfs,
    };
    if to_stdout {
        let stdout = io::stdout();
        if stdout.is_terminal() {
            return Err(usage(
                "an archive does not go to a terminal",
                "send it to a file or a pipe, or use -o FILE",
            ));
        }
        let store = store(session, form)?;
        let mut out = io::BufWriter::with_capacity(1 << 20, stdout.lock());
        store.export_archive(&reference, &selection, form, &mut out)?;
        return out.flush().map_err(|source| Error::Output { source });
    }
    let exported = store(session, form)?.export_file(&reference, &selection, form, &arguments.output)?;
    let name = match form {
        ArchiveForm::Oci => "oci-archive",
        ArchiveForm::Docker => "docker-archive",
        ArchiveForm::Rootfs => "tar",
    };
    session.print(&Done::new(&exported, name, &arguments.output))
}

/// Opens the store; layer directories may have to be read as their owner.
fn store(session: &Session, form: ArchiveForm) -> Result<Store, Error> {
    let store = session.store()?;
    if form == ArchiveForm::Rootfs {
        Session::enter_user_namespace(&store)?;
    }
    Ok(store)
}

fn usage(message: &str, hint: &str) -> Error {
    Error::Usage {
        message: message.to_owned(),
        hint: Some(hint.to_owned()),
    }
}

#[derive(Serialize)]
struct Done {
    reference: String,
    /// None for all platforms of an index.
    platform: Option<String>,
    manifest: String,
    config: Option<String>,
    form: &'static str,
    output: RawPath,
}

impl Done {
    fn new(exported: &Exported, form: &'static str, output: &Path) -> Self {
        Self {
            reference: exported.reference.to_string(),
            platform: exported.platform.as_ref().map(ToString::to_string),
            manifest: exported.manifest.to_string(),
            config: exported.config.as_ref().map(ToString::to_string),
            form,
            output: json_path(output),
        }
    }
}

impl Report for Done {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let platform = self.platform.as_deref().unwrap_or("all platforms");
        writeln!(out, "exported {} for {platform} to {}", self.reference, self.output)
    }
}
