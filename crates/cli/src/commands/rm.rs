//! `unlade rm`: removes images, and what only they needed.

use std::io::{self, Write};

use serde::{Serialize, Serializer};
use unlade_images::Removal;

use crate::arguments;
use crate::error::Error;
use crate::quantity::bytes;
use crate::session::{Report, Session, json_path};

/// Runs the command. The first name that fails ends it; what was removed before is told all the same.
pub(crate) fn run(session: &Session, arguments: &arguments::Remove) -> Result<(), Error> {
    let references = arguments
        .names
        .iter()
        .map(|name| session.reference(name))
        .collect::<Result<Vec<_>, _>>()?;
    let store = session.store()?;
    Session::enter_user_namespace(&store)?;
    let mut removed = Removed(Vec::new());
    let mut failure = Ok(());
    for reference in &references {
        match store.remove(reference, arguments.platform.as_ref()) {
            Ok(removal) => removed.0.push(removal),
            Err(error) => {
                failure = Err(error.into());
                break;
            }
        }
    }
    if !removed.0.is_empty() {
        session.print(&removed)?;
    }
    failure
}

#[derive(Serialize)]
#[serde(transparent)]
struct Removed(#[serde(serialize_with = "objects")] Vec<Removal>);

fn objects<S: Serializer>(removals: &[Removal], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(removals.iter().map(|removal| {
        let name = |(reference, platform): &(unlade_reference::Reference, unlade_oci::Platform)| {
            serde_json::json!({"reference": reference.to_string(), "platform": platform.to_string()})
        };
        serde_json::json!({
            "images": removal.names.iter().map(name).collect::<Vec<_>>(),
            "artifacts": removal.artifacts.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "blobs": removal.blobs.iter().map(|(digest, _)| digest).collect::<Vec<_>>(),
            "blob_bytes": blob_bytes(removal),
            "bytes": removal.bytes,
            "directories": removal.directories.iter().map(|path| json_path(path)).collect::<Vec<_>>(),
        })
    }))
}

fn blob_bytes(removal: &Removal) -> u64 {
    removal.blobs.iter().map(|(_, size)| size).sum()
}

impl Report for Removed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        for removal in &self.0 {
            for (reference, platform) in &removal.names {
                writeln!(out, "removed {reference} for {platform}")?;
            }
            for reference in &removal.artifacts {
                writeln!(out, "removed {reference}")?;
            }
        }
        writeln!(
            out,
            "freed {}: {} blobs, {} layer directories",
            bytes(self.0.iter().map(|removal| removal.bytes).sum()),
            self.0.iter().map(|removal| removal.blobs.len()).sum::<usize>(),
            self.0.iter().map(|removal| removal.directories.len()).sum::<usize>()
        )
    }
}
