//! `unlade prune`: removes what nothing needs, and images by their age or by the room they take.

use std::io::{self, Write};

use serde::Serialize;
use unlade_extract::RawPath;
use unlade_images::{PruneOptions, Pruned};
use unlade_oci::Digest;

use crate::arguments;
use crate::error::Error;
use crate::quantity::bytes;
use crate::session::{Report, Session, json_path};

/// Runs the command.
pub(crate) fn run(session: &Session, arguments: &arguments::Prune) -> Result<(), Error> {
    let store = session.store()?;
    Session::enter_user_namespace(&store)?;
    let pruned = store.prune(&PruneOptions {
        all: arguments.all,
        max_age: arguments.max_age.map(|age| age.0),
        max_size: arguments.max_size.map(|size| size.0),
        blobs: arguments.blobs,
        dry_run: arguments.dry_run,
    })?;
    session.print(&Removed::new(&pruned, arguments.dry_run))?;
    if !arguments.dry_run {
        Session::settle(&store, &[]);
    }
    Ok(())
}

#[derive(Serialize)]
struct Removed {
    dry_run: bool,
    images: Vec<Name>,
    artifacts: Vec<String>,
    blobs: Vec<Digest>,
    directories: Vec<RawPath>,
    partial_downloads: Vec<Digest>,
    /// Bytes of disk.
    bytes: u64,
}

#[derive(Serialize)]
struct Name {
    reference: String,
    platform: String,
}

impl Removed {
    fn new(pruned: &Pruned, dry_run: bool) -> Self {
        Self {
            dry_run,
            images: pruned
                .names
                .iter()
                .map(|(reference, platform)| Name {
                    reference: reference.to_string(),
                    platform: platform.to_string(),
                })
                .collect(),
            artifacts: pruned.artifacts.iter().map(ToString::to_string).collect(),
            blobs: pruned.blobs.clone(),
            directories: pruned.directories.iter().map(|path| json_path(path)).collect(),
            partial_downloads: pruned.partial.clone(),
            bytes: pruned.bytes,
        }
    }
}

impl Report for Removed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let (removed, freed) = if self.dry_run {
            ("would remove", "would free")
        } else {
            ("removed", "freed")
        };
        for Name { reference, platform } in &self.images {
            writeln!(out, "{removed} {reference} for {platform}")?;
        }
        for artifact in &self.artifacts {
            writeln!(out, "{removed} {artifact}")?;
        }
        writeln!(
            out,
            "{freed} {}: {} blobs, {} layer directories, {} partial downloads",
            bytes(self.bytes),
            self.blobs.len(),
            self.directories.len(),
            self.partial_downloads.len()
        )
    }
}
