//! `unlade images`: what is in the store.

use std::io::{self, Write};
use std::time::SystemTime;

use serde::{Serialize, Serializer};
use unlade_images::{Artifact, ImageSummary};
use unlade_oci::Digest;
use unlade_reference::Reference;

use crate::error::Error;
use crate::quantity::{ago, bytes, rfc3339};
use crate::session::{Report, Session};
use crate::table;

/// Digits of a digest in the table.
const SHORT: usize = 12;

/// Runs the command.
pub(crate) fn run(session: &Session) -> Result<(), Error> {
    let store = session.store()?;
    session.print(&Listing {
        images: store.images()?,
        artifacts: store.artifacts()?,
        now: SystemTime::now(),
    })?;
    Session::settle(&store, &[]);
    Ok(())
}

struct Listing {
    images: Vec<ImageSummary>,
    artifacts: Vec<Artifact>,
    now: SystemTime,
}

impl Serialize for Listing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let images = self.images.iter().map(Object::of);
        serializer.collect_seq(images.chain(self.artifacts.iter().map(Object::of_artifact)))
    }
}

#[derive(Serialize)]
struct Object<'a> {
    reference: String,
    repository: String,
    tag: Option<&'a str>,
    /// What the name stands for: the index, or the manifest where there is none.
    digest: &'a Digest,
    index: Option<&'a Digest>,
    manifest: &'a Digest,
    config: &'a Digest,
    /// None of an artifact.
    platform: Option<String>,
    requested_platform: Option<String>,
    /// None of an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'a str>,
    created: Option<&'a str>,
    pulled_at: Option<String>,
    last_used_at: Option<String>,
    layers: u64,
    compressed_size: u64,
    size: u64,
}

impl<'a> Object<'a> {
    fn of(image: &'a ImageSummary) -> Self {
        Self {
            reference: image.reference.to_string(),
            repository: image.reference.repository().to_string(),
            tag: image.reference.tag().map(unlade_reference::Tag::as_str),
            digest: digest(image),
            index: image.index.as_ref(),
            manifest: &image.manifest,
            config: &image.config,
            platform: Some(image.actual_platform.to_string()),
            requested_platform: Some(image.platform.to_string()),
            artifact_type: None,
            created: image.created.as_deref(),
            pulled_at: rfc3339(image.pulled_at),
            last_used_at: rfc3339(image.last_used_at),
            layers: image.layers,
            compressed_size: image.compressed_size,
            size: image.raw_size,
        }
    }

    fn of_artifact(artifact: &'a Artifact) -> Self {
        Self {
            reference: artifact.reference.to_string(),
            repository: artifact.reference.repository().to_string(),
            tag: artifact.reference.tag().map(unlade_reference::Tag::as_str),
            digest: &artifact.manifest,
            index: None,
            manifest: &artifact.manifest,
            config: &artifact.config.digest,
            platform: None,
            requested_platform: None,
            artifact_type: Some(&artifact.artifact_type),
            created: None,
            pulled_at: rfc3339(artifact.pulled_at),
            last_used_at: None,
            layers: artifact.blobs.len() as u64,
            compressed_size: artifact.size(),
            size: artifact.size(),
        }
    }
}

fn digest(image: &ImageSummary) -> &Digest {
    image.index.as_ref().unwrap_or(&image.manifest)
}

impl Report for Listing {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let row = |reference: &Reference, digest: &Digest, platform: String, size: u64, layers: u64, pulled_at| {
            let hex = digest.hex();
            [
                reference.repository().to_string(),
                reference.tag().map_or_else(|| "-".to_owned(), ToString::to_string),
                hex.get(..SHORT).unwrap_or(hex).to_owned(),
                platform,
                bytes(size),
                layers.to_string(),
                ago(pulled_at, self.now),
            ]
        };
        let images = self.images.iter().map(|image| {
            let platform = image.actual_platform.to_string();
            row(
                &image.reference,
                digest(image),
                platform,
                image.raw_size,
                image.layers,
                image.pulled_at,
            )
        });
        let artifacts = self.artifacts.iter().map(|artifact| {
            let (digest, layers) = (&artifact.manifest, artifact.blobs.len() as u64);
            let platform = "artifact".to_owned();
            row(
                &artifact.reference,
                digest,
                platform,
                artifact.size(),
                layers,
                artifact.pulled_at,
            )
        });
        table::write(
            out,
            ["REPOSITORY", "TAG", "DIGEST", "PLATFORM", "SIZE", "LAYERS", "PULLED"],
            images.chain(artifacts),
        )
    }
}
