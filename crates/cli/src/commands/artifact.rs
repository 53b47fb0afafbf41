//! Artifacts, in the results of several commands.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use unlade_images::{Artifact, Store};
use unlade_oci::Descriptor;
use unlade_pull::PulledArtifact;

use crate::quantity::rfc3339;
use crate::session::{Report, json_path};

/// The annotation that names the file that a blob was made of (image-spec, `annotations.md`).
const TITLE: &str = "org.opencontainers.image.title";

/// Returns an artifact as a pull shows it.
fn object(store: &Store, artifact: &Artifact) -> Value {
    let blob = |blob: &Descriptor| {
        json!({
            "digest": blob.digest,
            "media_type": blob.media_type,
            "size": blob.size,
            "title": blob.annotations.get(TITLE),
            "annotations": blob.annotations,
            "path": json_path(&store.blob_path(&blob.digest)),
        })
    };
    json!({
        "reference": artifact.reference.to_string(),
        "digest": artifact.manifest,
        "manifest": artifact.manifest,
        "media_type": artifact.media_type,
        "artifact_type": artifact.artifact_type,
        "annotations": artifact.annotations,
        "config": blob(&artifact.config),
        "blobs": artifact.blobs.iter().map(blob).collect::<Vec<_>>(),
        "size": artifact.size(),
        "pulled_at": rfc3339(artifact.pulled_at),
    })
}

/// Returns an artifact as `inspect` shows it: docker's members as far as they mean something, and ours.
pub(super) fn inspected(store: &Store, artifact: &Artifact) -> Value {
    let reference = &artifact.reference;
    let tags: Vec<_> = reference
        .tag()
        .map(|tag| format!("{}:{tag}", reference.repository()))
        .into_iter()
        .collect();
    json!({
        "Id": artifact.manifest,
        "RepoTags": tags,
        "RepoDigests": [format!("{}@{}", reference.repository(), artifact.manifest)],
        "ArtifactType": artifact.artifact_type,
        "Size": artifact.size(),
        "Unlade": { "Artifact": object(store, artifact) },
    })
}

/// Writes a line for an artifact, and below it one for each blob's file, in the manifest's order.
pub(super) fn text(store: &Store, artifact: &Artifact, out: &mut dyn Write) -> io::Result<()> {
    let digested = artifact.reference.clone().with_digest(artifact.manifest.clone());
    writeln!(out, "{digested}")?;
    for blob in &artifact.blobs {
        out.write_all(b"  ")?;
        out.write_all(store.blob_path(&blob.digest).as_os_str().as_bytes())?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// What was pulled, or was there.
pub(super) struct PulledArtifacts {
    pub(super) store: Store,
    pub(super) pulled: Vec<PulledArtifact>,
}

impl Serialize for PulledArtifacts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.pulled.iter().map(|pulled| {
            let mut object = object(&self.store, &pulled.artifact);
            object["asked_registry"] = json!(pulled.asked_registry);
            object
        }))
    }
}

impl Report for PulledArtifacts {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        for PulledArtifact { artifact, .. } in &self.pulled {
            text(&self.store, artifact, out)?;
        }
        Ok(())
    }
}
